//! How a request ended: one value, which becomes the `Cache-Status` field, the counters and the log line.

use super::body::Body;
use super::plan::Detail;
use crate::semantics::Forward;
use crate::semantics::cache_status::{self, CacheStatus};
use crate::stats::{Ending, Stats};
use crate::store::Tier;
use http::{Response, StatusCode};
use std::time::Duration;

/// How a request ended.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    ending: Ending,
    forward: Option<Forward>,
    forward_status: Option<StatusCode>,
    ttl: Option<i64>,
    stored: bool,
    collapsed: bool,
    detail: Detail,
}

impl Outcome {
    /// Answered from a tier.
    pub(super) fn hit(tier: Tier, ttl: i64) -> Outcome {
        let ending = match tier {
            Tier::Memory => Ending::HitMemory,
            Tier::Redis => Ending::HitRedis,
        };
        Outcome { ending, ttl: Some(ttl), detail: tier.as_str(), ..Outcome::forwarded(Ending::Miss, Forward::UriMiss, "") }
            .without_forward()
    }

    /// Answered by the origin, or by ourselves in its stead.
    pub(super) fn forwarded(ending: Ending, why: Forward, detail: Detail) -> Outcome {
        Outcome { ending, forward: Some(why), forward_status: None, ttl: None, stored: false, collapsed: false, detail }
    }

    /// The origin's status, where that is not the response's.
    pub(super) fn with_forward_status(self, status: StatusCode) -> Outcome {
        Outcome { forward_status: Some(status), ..self }
    }

    /// The response was stored, and is fresh for so many seconds.
    pub(super) fn stored_for(self, ttl: i64) -> Outcome {
        Outcome { stored: true, ttl: Some(ttl), ..self }
    }

    /// The request followed another's fetch.
    pub(super) fn collapsed(self, ttl: i64) -> Outcome {
        Outcome { collapsed: true, ending: Ending::Collapsed, ttl: Some(ttl), ..self }
    }

    fn without_forward(self) -> Outcome {
        Outcome { forward: None, ..self }
    }

    /// Counts the outcome; `looked_up` says whether Redis was asked too, if the tiers were looked into at all.
    pub(super) fn count(&self, stats: &Stats, route: Option<usize>, looked_up: Option<bool>, after: Duration) {
        let counters = stats.route(route);
        counters.ended(self.ending, after);
        match (self.ending, looked_up) {
            (Ending::HitMemory, _) => counters.hits_memory.inc(),
            (Ending::HitRedis, _) => {
                counters.misses_memory.inc();
                counters.hits_redis.inc();
            }
            (_, Some(redis_was_asked)) => {
                counters.misses.inc();
                counters.misses_memory.inc();
                if redis_was_asked {
                    counters.misses_redis.inc();
                }
            }
            (_, None) => {}
        }
    }

    /// Says in the response what happened.
    pub(super) fn annotate(&self, response: &mut Response<Body>) {
        cache_status::append(response.headers_mut(), self.cache_status().render());
    }

    /// What happened, in words.
    pub(super) fn words(&self) -> String {
        self.cache_status().render().to_str().unwrap_or_default().to_owned()
    }

    pub(super) fn is_hit(&self) -> bool {
        self.forward.is_none()
    }

    pub(super) fn detail(&self) -> Detail {
        self.detail
    }

    fn cache_status(&self) -> CacheStatus<'_> {
        let mut status = match self.forward {
            None => CacheStatus::hit(self.ttl.unwrap_or_default()),
            Some(why) => CacheStatus::forwarded(why).stored(self.stored).collapsed(self.collapsed),
        };
        if let Some(origin) = self.forward_status {
            status = status.forward_status(origin);
        }
        if let Some(ttl) = self.ttl {
            status = status.ttl(ttl);
        }
        match self.detail {
            "" => status,
            detail => status.detail(detail),
        }
    }
}

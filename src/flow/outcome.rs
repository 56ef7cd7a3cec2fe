//! How a request ended: one value, which becomes the `Cache-Status` field, the counters and the log line.

use super::body::Body;
use super::plan::Detail;
use crate::semantics::Forward;
use crate::semantics::cache_status::{self, CacheStatus};
use crate::semantics::storage::NotStored;
use crate::stats::{Ending, RouteStats};
use crate::store::Tier;
use http::{HeaderValue, Response, StatusCode};
use std::time::Duration;
use tracing::debug;

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
    /// The key, where the operator wants it to be shown.
    key: Option<String>,
    /// Whether Redis was asked, where the tiers were looked into at all.
    looked_up: Option<bool>,
}

impl Outcome {
    /// Answered from a tier.
    pub(super) fn hit(tier: Tier, ttl: i64) -> Outcome {
        let ending = match tier {
            Tier::Memory => Ending::HitMemory,
            Tier::Redis => Ending::HitRedis,
        };
        Outcome { ttl: Some(ttl), ..Outcome::new(ending, None, tier.as_str()) }
    }

    /// Answered by the origin, or by ourselves in its stead.
    pub(super) fn forwarded(ending: Ending, why: Forward, detail: Detail) -> Outcome {
        Outcome::new(ending, Some(why), detail)
    }

    fn new(ending: Ending, forward: Option<Forward>, detail: Detail) -> Outcome {
        Outcome {
            ending,
            forward,
            forward_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            detail,
            key: None,
            looked_up: None,
        }
    }

    /// The request went past the cache, though its response may be stored.
    pub(super) fn past(self, detail: Detail) -> Outcome {
        let ending = if self.ending == Ending::Miss { Ending::Pass } else { self.ending };
        Outcome { ending, detail: if self.detail.is_empty() { detail } else { self.detail }, ..self }
    }

    /// The origin's status, where that is not the response's.
    pub(super) fn with_forward_status(self, status: StatusCode) -> Outcome {
        Outcome { forward_status: Some(status), ..self }
    }

    /// A stale response answered in the origin's stead; it is fresh for so many seconds, which is less than none.
    pub(super) fn stale(why: Forward, ttl: i64, detail: Detail) -> Outcome {
        Outcome { ttl: Some(ttl), ..Outcome::new(Ending::Stale, Some(why), detail) }
    }

    /// Whether we answered ourselves, because the origin did not.
    pub(super) fn is_error(&self) -> bool {
        self.ending == Ending::Error
    }

    /// Shows the key.
    pub(super) fn with_key(self, key: String) -> Outcome {
        Outcome { key: Some(key), ..self }
    }

    /// The response was stored, and is fresh for so many seconds.
    pub(super) fn stored_for(self, ttl: i64) -> Outcome {
        Outcome { stored: true, ttl: Some(ttl), ..self }
    }

    /// The request followed another's fetch.
    pub(super) fn collapsed(self, ttl: i64) -> Outcome {
        Outcome { collapsed: true, ending: Ending::Collapsed, ttl: Some(ttl), ..self }
    }

    /// The tiers were looked into; whether Redis was among them.
    pub(super) fn after_look_up(self, redis_was_asked: bool) -> Outcome {
        Outcome { looked_up: Some(redis_was_asked), ..self }
    }

    /// Counts the outcome.
    pub(super) fn count(&self, counters: &RouteStats, after: Duration) {
        counters.ended(self.ending, after);
        if [NotStored::Private, NotStored::SetCookie].iter().any(|why| why.as_str() == self.detail) {
            counters.personal.inc();
        }
        match (self.ending, self.looked_up) {
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

    /// Writes a line for who wants to see each hit and miss.
    pub(super) fn log(&self, route: &str) {
        match (self.forward, self.looked_up) {
            (None, _) => debug!(route, tier = self.detail, "cache_hit"),
            (Some(_), Some(_)) => debug!(route, cache_status = self.words(), "cache_miss"),
            (Some(_), None) => debug!(route, cache_status = self.words(), "cache_passed"),
        }
    }

    /// Says in the response what happened.
    pub(super) fn annotate(&self, response: &mut Response<Body>) {
        cache_status::append(response.headers_mut(), self.value());
    }

    /// What happened, as the value of `Cache-Status`.
    pub(super) fn value(&self) -> HeaderValue {
        self.cache_status().render()
    }

    /// What happened, in words.
    pub(super) fn words(&self) -> String {
        self.cache_status().render().to_str().unwrap_or_default().to_owned()
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
        if let Some(key) = &self.key {
            status = status.key(key);
        }
        match self.detail {
            "" => status,
            detail => status.detail(detail),
        }
    }
}

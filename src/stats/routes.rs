//! What is counted of the requests of each route.

use super::{counters, registered};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Registry};
use std::sync::Arc;
use std::time::Duration;

/// The counters of the routes of a configuration.
pub struct Counters {
    /// One a route, in the order of the routes; the last is for requests that no route matched.
    pub(super) routes: Vec<Arc<RouteStats>>,
}

/// What has a series for each route.
pub(super) struct ByRoute {
    hits: IntCounterVec,
    tier_misses: IntCounterVec,
    misses: IntCounterVec,
    personal: IntCounterVec,
    durations: HistogramVec,
}

/// The counters of a route.
pub struct RouteStats {
    /// The route's name.
    pub name: String,
    /// Requests answered from memory.
    pub hits_memory: IntCounter,
    /// Requests answered from Redis.
    pub hits_redis: IntCounter,
    /// Requests that memory had nothing fresh for.
    pub misses_memory: IntCounter,
    /// Requests that Redis had nothing fresh for.
    pub misses_redis: IntCounter,
    /// Requests that could use the cache and needed the origin.
    pub misses: IntCounter,
    /// Responses that said that they are for one person alone: `private`, or with `Set-Cookie`.
    pub personal: IntCounter,
    durations: Vec<Histogram>,
}

/// How a request ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Answered from memory.
    HitMemory,
    /// Answered from Redis.
    HitRedis,
    /// Answered with what another request had fetched.
    Collapsed,
    /// Answered by the origin, through the cache.
    Miss,
    /// Answered from a stored response that the origin confirmed.
    Validated,
    /// Answered from a stale stored response, because the origin did not answer, or with an error.
    Stale,
    /// Answered by the origin, past the cache.
    Pass,
    /// Answered by ourselves, because the origin could not be asked or did not answer.
    Error,
}

impl Ending {
    const ALL: [Ending; 8] = [
        Ending::HitMemory,
        Ending::HitRedis,
        Ending::Collapsed,
        Ending::Miss,
        Ending::Validated,
        Ending::Stale,
        Ending::Pass,
        Ending::Error,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::HitMemory => "hit-memory",
            Ending::HitRedis => "hit-redis",
            Ending::Collapsed => "collapsed",
            Ending::Miss => "miss",
            Ending::Validated => "validated",
            Ending::Stale => "stale",
            Ending::Pass => "pass",
            Ending::Error => "error",
        }
    }
}

impl RouteStats {
    /// Counts a request's end and how long its head took.
    pub fn ended(&self, ending: Ending, after: Duration) {
        self.durations[ending as usize].observe(after.as_secs_f64());
    }

    /// Requests that were answered from a tier.
    pub fn hits(&self) -> u64 {
        self.hits_memory.get() + self.hits_redis.get()
    }

    /// All requests, however they ended.
    pub fn requests(&self) -> u64 {
        self.durations.iter().map(Histogram::get_sample_count).sum()
    }

    /// Requests that ended so.
    pub fn ended_so(&self, ending: Ending) -> u64 {
        self.durations[ending as usize].get_sample_count()
    }
}

impl ByRoute {
    pub(super) fn new(registry: &Registry) -> ByRoute {
        let labels = &["cache_type", "route"];
        let options = HistogramOpts::new("sidecache_request_duration_seconds", "From a request's head to the response's head.");
        let durations = HistogramVec::new(options.buckets(BUCKETS.to_vec()), &["route", "outcome"]).expect("a valid name");
        ByRoute {
            hits: counters(registry, "cache_hits_total", "Requests answered from a tier.", labels),
            tier_misses: counters(registry, "cache_misses_total", "Look-ups for which a tier had nothing fresh.", labels),
            misses: counters(
                registry,
                "sidecache_misses_total",
                "Requests that could use the cache and needed the origin.",
                &["route"],
            ),
            personal: counters(
                registry,
                "sidecache_personal_responses_total",
                "Responses that were not stored because they are for one person: private, or with Set-Cookie.",
                &["route"],
            ),
            durations: registered(registry, durations),
        }
    }

    pub(super) fn of(&self, name: &str) -> RouteStats {
        RouteStats {
            name: name.to_owned(),
            hits_memory: self.hits.with_label_values(&["memory", name]),
            hits_redis: self.hits.with_label_values(&["redis", name]),
            misses_memory: self.tier_misses.with_label_values(&["memory", name]),
            misses_redis: self.tier_misses.with_label_values(&["redis", name]),
            misses: self.misses.with_label_values(&[name]),
            personal: self.personal.with_label_values(&[name]),
            durations: Ending::ALL.map(|ending| self.durations.with_label_values(&[name, ending.as_str()])).into(),
        }
    }
}

impl Counters {
    /// The counters of a route by its place, or of requests that no route matched.
    pub fn of(&self, index: Option<usize>) -> &RouteStats {
        let last = self.routes.len() - 1;
        &self.routes[index.map_or(last, |index| index.min(last))]
    }

    /// The counters of all routes, and last those of requests that no route matched.
    pub fn all(&self) -> &[Arc<RouteStats>] {
        &self.routes
    }
}

/// From a hit in memory to an origin's time-out, about two and a half times apart.
const BUCKETS: &[f64] =
    &[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

//! One `[[route]]` of the configuration, as values that cannot be wrong.

use super::pattern::Pattern;
use super::tags::TagTemplate;
use super::target::QueryRule;
use http::HeaderName;
use std::time::Duration;

/// A route: a path pattern and what the cache does with the requests that match it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The name in metrics, logs and statistics.
    pub name: String,
    /// Which paths it takes.
    pub pattern: Pattern,
    /// Whether `HEAD` requests are answered from stored responses too, not only `GET`.
    pub head: bool,
    /// How long responses stay fresh, and who says so.
    pub caching: Caching,
    /// The names under which its responses can be purged.
    pub tags: Vec<TagTemplate>,
    /// Who may be given a response that was fetched with credentials.
    pub share: Share,
    /// Which query parameters count.
    pub query: QueryRule,
    /// Request fields whose values are part of the key.
    pub key_headers: Vec<HeaderName>,
    /// How far one fetch answers the requests for the same.
    pub collapse: Collapse,
    /// What is done with request fields that are neither in the key nor well known.
    pub unkeyed: Unkeyed,
    /// Takes `Set-Cookie` off the responses, which could not be stored otherwise.
    pub strip_set_cookie: bool,
}

/// How a route caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Not at all: requests are passed.
    Off,
    /// As RFC 9111 says, without a TTL of the route.
    Standard,
    /// For the route's TTL, where the origin states no lifetime itself.
    Rule {
        /// The freshness lifetime.
        ttl: Duration,
        /// The TTL comes before what the origin states.
        overrides: bool,
    },
}

/// Who shares the responses to requests that carry credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// Nobody, unless the response itself allows it (RFC 9111 §3.5).
    ByResponse,
    /// Everybody: the operator says that credentials make no difference to the response.
    Everyone,
    /// Those with the same credentials: a keyed hash of these request fields is part of the key.
    PerCredential(Vec<HeaderName>),
}

/// What is done with request fields that are neither in the key nor well known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkeyed {
    /// The request goes past the cache.
    Pass,
    /// The origin is not shown them.
    Drop,
    /// The origin is shown them, and trusted to name them in `Vary`.
    Forward,
}

/// How far one fetch answers the requests for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collapse {
    /// Within this process.
    Process,
    /// Across all replicas that share a Redis.
    Replicas,
}

/// Two routes whose patterns match the same paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{second}` matches the same paths as `{first}`")]
pub struct RouteConflict {
    /// The index of the route that cannot be added.
    pub index: usize,
    /// Its pattern.
    pub second: String,
    /// The pattern that was there before.
    pub first: String,
}

impl Route {
    /// A route with the defaults: a TTL, and nothing special.
    pub fn new(name: &str, pattern: Pattern, ttl: Duration) -> Route {
        Route {
            name: name.to_owned(),
            pattern,
            head: true,
            caching: Caching::Rule { ttl, overrides: false },
            tags: Vec::new(),
            share: Share::ByResponse,
            query: QueryRule::default(),
            key_headers: Vec::new(),
            unkeyed: Unkeyed::Pass,
            collapse: Collapse::Process,
            strip_set_cookie: false,
        }
    }
}

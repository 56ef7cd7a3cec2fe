//! One `[[route]]` of the configuration, as values that cannot be wrong.

use super::pattern::Pattern;
use super::tags::{Source, TagTemplate};
use super::target::{self, QueryRule};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, COOKIE};
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

/// A route: a path pattern and what the cache does with the requests that match it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The name in metrics, logs and statistics.
    pub name: String,
    /// Which paths it takes.
    pub pattern: Pattern,
    /// The methods whose requests are answered from stored responses. For those that have content (`QUERY`, `POST`), that is part of
    /// the key.
    pub methods: Vec<Method>,
    /// How long responses stay fresh, and who says so.
    pub caching: Caching,
    /// The TTL is that of all routes that name none.
    pub ttl_is_default: bool,
    /// For how long statuses are fresh that the operator named; beside the TTL, which is for successes.
    pub ttl_by_status: Vec<(StatusCode, Duration)>,
    /// The largest part of a TTL that is taken away at random, in percent.
    pub ttl_jitter_percent: u8,
    /// For how long after its lifetime a response answers while a new one is fetched, if it says nothing of that itself.
    pub stale_while_revalidate: Duration,
    /// For how long after its lifetime a response answers in the stead of an error, if it says nothing of that itself.
    pub stale_if_error: Duration,
    /// Whether responses that are asked for often are fetched anew before their lifetime ends.
    pub early_refresh: bool,
    /// Clients cannot ask for other answers than the cache would give by itself (RFC 9111 §5.2.1).
    pub ignores_request_directives: bool,
    /// The names under which its responses can be purged.
    pub tags: Vec<TagTemplate>,
    /// The tags that a successful request which changes something invalidates, beside its own target.
    pub invalidates: Vec<TagTemplate>,
    /// Who may be given a response that was fetched with credentials.
    pub share: Share,
    /// Single cookies that identify, beside the fields of [`Share::PerCredential`]; the origin is shown no others then.
    pub identity_cookies: Vec<String>,
    /// The claims of a verified bearer token that identify; of one that does not hold, the whole.
    pub identity_claims: Vec<String>,
    /// Which query parameters count.
    pub query: QueryRule,
    /// Whether responses may say themselves which parameters make no difference (`No-Vary-Search`).
    pub heeds_no_vary_search: bool,
    /// Request fields whose values are part of the key.
    pub key_headers: Vec<HeaderName>,
    /// How far one fetch answers the requests for the same.
    pub collapse: Collapse,
    /// What is done with request fields that are neither in the key nor well known.
    pub unkeyed: Unkeyed,
    /// Takes `Set-Cookie` off the responses, which could not be stored otherwise.
    pub strip_set_cookie: bool,
    /// What connections may be asked to speak on, beside WebSocket: the protocols with their versions, as `Upgrade` names them.
    pub upgrade: Vec<String>,
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
            methods: vec![Method::GET, Method::HEAD],
            caching: Caching::Rule { ttl, overrides: false },
            ttl_is_default: false,
            ttl_by_status: Vec::new(),
            ttl_jitter_percent: 0,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            early_refresh: true,
            ignores_request_directives: false,
            tags: Vec::new(),
            invalidates: Vec::new(),
            share: Share::ByResponse,
            identity_cookies: Vec::new(),
            identity_claims: Vec::new(),
            query: QueryRule::default(),
            heeds_no_vary_search: false,
            key_headers: Vec::new(),
            unkeyed: Unkeyed::Pass,
            collapse: Collapse::Process,
            strip_set_cookie: false,
            upgrade: Vec::new(),
        }
    }

    /// Whether the key, or the operator's word, stands for this credential.
    pub(super) fn stands_for(&self, credential: &HeaderName) -> bool {
        match &self.share {
            Share::Everyone => true,
            _ if self.key_headers.contains(credential) => true,
            Share::PerCredential(_) if *credential == AUTHORIZATION && !self.identity_claims.is_empty() => true,
            Share::PerCredential(_) if *credential == COOKIE && !self.identity_cookies.is_empty() => true,
            Share::PerCredential(identity) => identity.contains(credential),
            Share::ByResponse => false,
        }
    }

    /// The tags that templates of the rule make of a request. One whose source is not there is left out.
    pub(super) fn fill(&self, templates: &[TagTemplate], request: &Parts) -> Vec<String> {
        if templates.is_empty() {
            return Vec::new();
        }
        let captures = self.captures(request.uri.path());
        let value = |source: &Source| match source {
            Source::Capture(name) => captures.get(name.as_str()).map(|value| Cow::Borrowed(*value)),
            Source::Field(name) => request.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes())),
            Source::Query(name) => target::parameter(request.uri.query().unwrap_or_default(), name).map(Cow::Borrowed),
        };
        templates.iter().filter_map(|tag| tag.fill(value)).collect()
    }

    /// What the pattern's captures stand for in a path that matches it.
    fn captures<'p>(&self, path: &'p str) -> HashMap<&str, &'p str> {
        let mut rest = path;
        let mut captures = HashMap::new();
        for segment in self.pattern.as_str().split('/').skip(1) {
            rest = rest.strip_prefix('/').unwrap_or(rest);
            let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) else {
                rest = rest.strip_prefix(segment).unwrap_or(rest);
                continue;
            };
            let value = match name.starts_with('*') {
                true => rest,
                false => rest.split('/').next().unwrap_or(rest),
            };
            captures.insert(name.trim_start_matches('*'), value);
            rest = &rest[value.len()..];
        }
        captures
    }

    /// Whether requests of a method carry content that says what is asked for.
    pub fn has_content(method: &Method) -> bool {
        !matches!(*method, Method::GET | Method::HEAD)
    }
}

/// Fields that say what a request's content is; they are part of the key together with it (RFC 10008 §2.7).
pub(super) const CONTENT_FIELDS: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

//! The head of a stored response, with what deciding about it needs (RFC 9111 §4.2).

use super::vary::Selection;
use super::{Lifetime, Source, age, conditional, directives, storage};
use http::{HeaderMap, StatusCode};
use std::time::{Duration, SystemTime};

/// When a response was fetched; both ends, since its age counts from the first (§4.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the request was sent to the origin.
    pub requested: SystemTime,
    /// When the response's head arrived.
    pub received: SystemTime,
}

/// All of a stored response but its body. What is decided at each hit is parsed already.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredHead {
    /// The status.
    pub status: StatusCode,
    /// The fields as stored, after [`storage::strip`].
    pub fields: HeaderMap,
    /// When it was fetched, or last validated.
    pub times: Times,
    /// How old it was when it was received (§4.2.3).
    pub initial_age: Duration,
    /// How long it is fresh (§4.2.1).
    pub lifetime: Lifetime,
    /// The request fields that select it (§4.1).
    pub selection: Selection,
    /// The response itself allows to answer requests with credentials (§3.5).
    pub shareable: bool,
    /// `no-cache`: never reused without validation (§5.2.2.4).
    pub must_validate: bool,
    /// Nothing forbids to reuse it when it is stale (§4.2.4): no `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache`.
    pub may_be_stale: bool,
    has_validator: bool,
}

impl StoredHead {
    /// Makes the head of a response that may be stored; `fields` decide the rest.
    pub fn new(status: StatusCode, fields: HeaderMap, times: Times, lifetime: Lifetime, selection: Selection) -> StoredHead {
        let directives = directives::response(&fields);
        StoredHead {
            status,
            times,
            initial_age: age::initial(&fields, &times),
            lifetime,
            selection,
            shareable: storage::is_shareable(&directives),
            // A rule that overrides the response's own freshness overrides this part of it, too.
            must_validate: directives.no_cache && lifetime.source != Source::Rule,
            may_be_stale: !(directives.must_revalidate
                || directives.proxy_revalidate
                || directives.s_maxage.is_some()
                || directives.no_cache),
            has_validator: conditional::has_validator(&fields),
            fields,
        }
    }

    /// Whether it may be reused as it is.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        !self.remaining(now).is_zero()
    }

    /// Calculates how long it will stay fresh; zero when it is stale.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        match self.must_validate {
            true => Duration::ZERO,
            false => self.lifetime.duration.saturating_sub(age::current(self, now)),
        }
    }

    /// Calculates the seconds that it stays fresh, rounded down, so negative when it is stale (RFC 9211 §2.4).
    pub fn ttl(&self, now: SystemTime) -> i64 {
        let age = age::current(self, now);
        let lifetime = if self.must_validate { Duration::ZERO } else { self.lifetime.duration };
        match lifetime.checked_sub(age) {
            Some(left) => seconds(left),
            None => -seconds((age - lifetime).saturating_add(ALMOST_A_SECOND)),
        }
    }

    /// Whether the origin can be asked if it still holds (§4.3.1).
    pub fn has_validator(&self) -> bool {
        self.has_validator
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Turns rounding down into rounding up.
const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use std::time::UNIX_EPOCH;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_000) + Duration::from_millis(millis)
    }

    fn head(lines: &[(&'static str, &str)], lifetime: u64, source: Source) -> StoredHead {
        let value = |value| HeaderValue::from_str(value).unwrap();
        let fields = lines.iter().map(|(name, line)| (HeaderName::from_static(name), value(line))).collect();
        let lifetime = Lifetime { duration: Duration::from_secs(lifetime), source };
        StoredHead::new(StatusCode::OK, fields, Times { requested: at(0), received: at(0) }, lifetime, Selection::empty())
    }

    #[test]
    fn a_response_is_fresh_while_its_age_is_less_than_its_lifetime() {
        // §4.2, RFC 9211 §2.4
        let head = head(&[("age", "10")], 60, Source::MaxAge);
        let check = |now: u64, is_fresh: bool, remaining: u64, ttl: i64| {
            assert_eq!(head.is_fresh(at(now)), is_fresh, "fresh at {now}");
            assert_eq!(head.remaining(at(now)), Duration::from_millis(remaining), "left at {now}");
            assert_eq!(head.ttl(at(now)), ttl, "ttl at {now}");
        };
        check(0, true, 50_000, 50);
        check(49_000, true, 1_000, 1);
        check(49_999, true, 1, 0);
        check(50_000, false, 0, 0);
        check(50_001, false, 0, -1);
        check(51_000, false, 0, -1);
        check(51_001, false, 0, -2);
        check(3_650_000, false, 0, -3600);
    }

    #[test]
    fn no_cache_is_never_fresh_unless_a_rule_overrides_it() {
        // §5.2.2.4
        let check = |line: &str, lifetime: u64, source: Source, is_fresh: bool, ttl: i64| {
            let head = head(&[("cache-control", line)], lifetime, source);
            assert_eq!((head.is_fresh(at(0)), head.ttl(at(0))), (is_fresh, ttl), "{line} {source:?}");
        };
        check("max-age=60", 60, Source::MaxAge, true, 60);
        check("no-cache", 0, Source::NoCache, false, 0);
        check("no-cache, max-age=60", 60, Source::MaxAge, false, 0);
        check("no-cache", 60, Source::Rule, true, 60);
        check("no-cache=\"a\", max-age=60", 60, Source::MaxAge, true, 60);
    }

    #[test]
    fn what_must_be_revalidated_is_never_served_stale() {
        // §4.2.4
        let check = |line: &str, expected: bool| {
            assert_eq!(head(&[("cache-control", line)], 60, Source::Rule).may_be_stale, expected, "{line}");
        };
        check("max-age=60", true);
        check("max-age=60, must-revalidate", false);
        check("max-age=60, proxy-revalidate", false);
        check("s-maxage=60", false);
        check("no-cache", false);
    }

    #[test]
    fn what_the_fields_say_is_decided_when_it_is_stored() {
        let check = |lines: &[(&'static str, &str)], shareable: bool, has_validator: bool| {
            let head = head(lines, 60, Source::Rule);
            assert_eq!((head.shareable, head.has_validator()), (shareable, has_validator), "{lines:?}");
        };
        check(&[], false, false);
        check(&[("cache-control", "max-age=60")], false, false);
        check(&[("cache-control", "public")], true, false); // §3.5
        check(&[("cache-control", "must-revalidate")], true, false);
        check(&[("cache-control", "s-maxage=60")], true, false);
        check(&[("cache-control", "proxy-revalidate")], false, false);
        check(&[("etag", "\"a\"")], false, true);
        check(&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], false, true);
    }
}

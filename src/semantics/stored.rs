//! The head of a stored response, with what deciding about it needs (RFC 9111 §4.2).

use super::range::{self, ContentRange};
use super::terms::Terms;
use super::vary::Selection;
use super::{age, conditional, early};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
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
    /// The fields as stored, after [`strip`](super::storage::strip).
    pub fields: HeaderMap,
    /// When it was fetched, or last validated.
    pub times: Times,
    /// How old it was when it was received (§4.2.3).
    pub initial_age: Duration,
    /// On which terms it is stored.
    pub terms: Terms,
    /// The request fields that select it (§4.1).
    pub selection: Selection,
    /// Which part of the representation it is, where it is not the whole (§3.3).
    pub part: Option<ContentRange>,
    has_validator: bool,
}

impl StoredHead {
    /// Makes the head of a response that may be stored; `fields` decide the rest.
    pub fn new(status: StatusCode, fields: HeaderMap, times: Times, terms: Terms, selection: Selection) -> StoredHead {
        StoredHead {
            status,
            times,
            initial_age: age::initial(&fields, &times),
            terms,
            selection,
            part: (status == StatusCode::PARTIAL_CONTENT).then(|| range::content_range(&fields)).flatten(),
            has_validator: conditional::has_validator(&fields),
            fields,
        }
    }

    /// The same, with the values of its fields in one buffer of their own. As they came they are parts of what was read from a
    /// connection, where the heads of many responses lie side by side, and each of them keeps all of it.
    pub fn compact(self) -> StoredHead {
        let octets: Vec<u8> = self.fields.values().flat_map(|value| value.as_bytes()).copied().collect();
        let mut rest = Bytes::from(octets.into_boxed_slice());
        let mut fields = HeaderMap::with_capacity(self.fields.keys_len());
        for (name, value) in &self.fields {
            let is_sensitive = value.is_sensitive();
            let mut value = HeaderValue::from_maybe_shared(rest.split_to(value.len())).expect("it is a field's value already");
            value.set_sensitive(is_sensitive);
            fields.append(name, value);
        }
        StoredHead { fields, ..self }
    }

    /// Whether it may be reused as it is.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        !self.remaining(now).is_zero()
    }

    /// Calculates how long it will stay fresh; zero when it is stale.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.lifetime().saturating_sub(age::current(self, now))
    }

    /// Calculates for how long it has been stale; zero when it is fresh.
    pub fn staleness(&self, now: SystemTime) -> Duration {
        age::current(self, now).saturating_sub(self.lifetime())
    }

    /// Whether a new one should be fetched, though it is fresh (see [`early`]). `chance` is a number from 0 up to 1.
    pub fn is_due_early(&self, now: SystemTime, chance: impl FnOnce() -> f64) -> bool {
        let fetch_time = self.times.received.duration_since(self.times.requested).unwrap_or_default();
        early::is_due(self.remaining(now), fetch_time, chance)
    }

    fn lifetime(&self) -> Duration {
        if self.terms.must_validate { Duration::ZERO } else { self.terms.lifetime.duration }
    }

    /// Calculates the seconds that it stays fresh, rounded down, so negative when it is stale (RFC 9211 §2.4).
    pub fn ttl(&self, now: SystemTime) -> i64 {
        let (age, lifetime) = (age::current(self, now), self.lifetime());
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
    use super::super::directives;
    use super::super::terms::Staleness;
    use super::super::{Lifetime, Source};
    use super::*;
    use http::HeaderName;
    use std::time::UNIX_EPOCH;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_000) + Duration::from_millis(millis)
    }

    fn head(lines: &[(&'static str, &str)], lifetime: u64, source: Source) -> StoredHead {
        let value = |value| HeaderValue::from_str(value).unwrap();
        let fields: HeaderMap = lines.iter().map(|(name, line)| (HeaderName::from_static(name), value(line))).collect();
        let lifetime = Lifetime { duration: Duration::from_secs(lifetime), source };
        let terms = Terms::new(lifetime, &directives::response(&fields), &Staleness::default());
        StoredHead::new(StatusCode::OK, fields, Times { requested: at(0), received: at(0) }, terms, Selection::empty())
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
    fn it_is_stale_for_as_long_as_its_age_is_over_its_lifetime() {
        let head = head(&[], 60, Source::MaxAge);
        let check = |now: u64, expected: u64| assert_eq!(head.staleness(at(now)), Duration::from_millis(expected), "{now}");
        check(0, 0);
        check(60_000, 0);
        check(60_001, 1);
        check(90_000, 30_000);
    }

    #[test]
    fn a_compact_head_has_the_same_fields_in_the_same_order() {
        let lines = [("vary", "accept"), ("etag", "\"a\""), ("vary", "accept-language"), ("x-empty", ""), ("vary", "origin")];
        let head = head(&lines, 60, Source::Rule);
        let compact = head.clone().compact();
        assert_eq!(compact, head);
        assert!(compact.fields.iter().eq(head.fields.iter()));
    }

    #[test]
    fn the_origin_can_be_asked_about_what_has_a_validator() {
        let check = |lines: &[(&'static str, &str)], expected: bool| {
            assert_eq!(head(lines, 60, Source::Rule).has_validator(), expected, "{lines:?}");
        };
        check(&[], false);
        check(&[("etag", "\"a\"")], true);
        check(&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], true);
    }
}

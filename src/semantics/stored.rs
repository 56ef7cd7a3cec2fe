//! The head of a stored response, with what deciding about it needs (RFC 9111 §4.2).

use super::range::{self, ContentRange};
use super::terms::Terms;
use super::vary::Selection;
use super::words::Fields;
use super::{age, conditional, early};
use http::{HeaderMap, StatusCode};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    requested: Nanos,
    received: Nanos,
    initial_age: Nanos,
    /// On which terms it is stored, which it shares with others.
    pub terms: Arc<Terms>,
    /// The request fields that select it (§4.1).
    pub selection: Selection,
    part: Option<Box<ContentRange>>,
    fields: Fields,
    has_validator: bool,
}

impl StoredHead {
    /// Makes the head of a response that may be stored; `fields` decide the rest.
    pub fn new(status: StatusCode, fields: HeaderMap, times: Times, terms: Terms, selection: Selection) -> StoredHead {
        StoredHead {
            status,
            requested: Nanos::since_1970(times.requested),
            received: Nanos::since_1970(times.received),
            initial_age: Nanos::of(age::initial(&fields, &times)),
            terms: Arc::new(terms),
            selection,
            part: (status == StatusCode::PARTIAL_CONTENT).then(|| range::content_range(&fields)).flatten().map(Box::new),
            has_validator: conditional::has_validator(&fields),
            fields: fields.into(),
        }
    }

    /// When it was fetched, or last validated.
    pub fn times(&self) -> Times {
        Times { requested: self.requested.time(), received: self.received.time() }
    }

    /// How old it was when it was received (§4.2.3).
    pub fn initial_age(&self) -> Duration {
        self.initial_age.duration()
    }

    /// Takes note that it was older by so much.
    pub fn add_age(&mut self, more: Duration) {
        self.initial_age = Nanos::of(self.initial_age().saturating_add(more));
    }

    /// The fields as stored, after [`strip`](super::storage::strip). Of what is kept they are made anew, with room for some more.
    pub fn fields(&self) -> Cow<'_, HeaderMap> {
        self.fields.map()
    }

    /// The fields, to be changed.
    pub fn fields_mut(&mut self) -> &mut HeaderMap {
        self.fields.map_mut()
    }

    /// Which part of the representation it is, where it is not the whole (§3.3).
    pub fn part(&self) -> Option<ContentRange> {
        self.part.as_deref().copied()
    }

    /// The same, as it is kept: in little memory, of which it has all for itself.
    pub fn compact(self) -> StoredHead {
        StoredHead { fields: self.fields.compact(), ..self }
    }

    /// About how many octets of memory it takes beside itself, and beside what many others have as well.
    pub fn weight(&self) -> usize {
        self.fields.weight() + if self.selection.is_common() { 0 } else { self.selection.weight() }
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
        let times = self.times();
        let fetch_time = times.received.duration_since(times.requested).unwrap_or_default();
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

/// A duration, or the time since 1970, in nanoseconds: half of what `Duration` or `SystemTime` take. Enough for five centuries.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Nanos(u64);

impl Nanos {
    fn of(duration: Duration) -> Nanos {
        Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    fn since_1970(time: SystemTime) -> Nanos {
        Nanos::of(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    fn time(self) -> SystemTime {
        UNIX_EPOCH + self.duration()
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
    use http::{HeaderName, HeaderValue};

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
    fn the_origin_can_be_asked_about_what_has_a_validator() {
        let check = |lines: &[(&'static str, &str)], expected: bool| {
            assert_eq!(head(lines, 60, Source::Rule).has_validator(), expected, "{lines:?}");
        };
        check(&[], false);
        check(&[("etag", "\"a\"")], true);
        check(&[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], true);
    }
}

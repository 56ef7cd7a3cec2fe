//! How long a response stays fresh (RFC 9111 §4.2.1, §4.2.2).

use super::date;
use super::directives::{DELTA_MAX, ResponseDirectives};
use http::header::{DATE, EXPIRES, HeaderMap, LAST_MODIFIED};
use http::{HeaderName, StatusCode};
use std::time::{Duration, SystemTime};

/// A freshness lifetime and what set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lifetime {
    /// How long, from when the origin made the response.
    pub duration: Duration,
    /// What says so.
    pub source: Source,
}

/// What set a freshness lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Cache-Control: s-maxage`.
    SMaxAge,
    /// `Cache-Control: max-age`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// `Last-Modified`, by §4.2.2.
    Heuristic,
    /// The route's rule.
    Rule,
    /// `Cache-Control: no-cache`: the lifetime is zero, each use is validated.
    NoCache,
}

impl Source {
    /// The number that stands for it in the stored format; these never change their meaning.
    pub fn code(self) -> u8 {
        match self {
            Source::SMaxAge => 1,
            Source::MaxAge => 2,
            Source::Expires => 3,
            Source::Heuristic => 4,
            Source::Rule => 5,
            Source::NoCache => 6,
        }
    }

    /// The source that a number of the stored format stands for.
    pub fn from_code(code: u8) -> Option<Source> {
        let all = [Source::SMaxAge, Source::MaxAge, Source::Expires, Source::Heuristic, Source::Rule, Source::NoCache];
        all.into_iter().find(|source| source.code() == code)
    }

    /// The source in the words of the field or rule, for logs and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::SMaxAge => "s-maxage",
            Source::MaxAge => "max-age",
            Source::Expires => "expires",
            Source::Heuristic => "heuristic",
            Source::Rule => "rule",
            Source::NoCache => "no-cache",
        }
    }
}

/// The lifetime that directives state, if they state one (§4.2.1); it goes before [`expires`].
pub fn stated(directives: &ResponseDirectives) -> Option<Lifetime> {
    let shared = directives.s_maxage.map(|duration| Lifetime { duration, source: Source::SMaxAge });
    shared.or(directives.max_age.map(|duration| Lifetime { duration, source: Source::MaxAge }))
}

/// Calculates the lifetime that `Expires` states, if it is there (§5.3).
pub fn expires(fields: &HeaderMap, received: SystemTime) -> Option<Lifetime> {
    let mut lines = fields.get_all(EXPIRES).iter();
    let first = lines.next()?;
    // An `Expires` that cannot be parsed means "already expired", never "no lifetime"; so do two of them.
    let expires = if lines.next().is_none() { date::parse(first) } else { None };
    let duration = expires.map_or(Duration::ZERO, |expires| since(generated(fields, received), expires));
    Some(Lifetime { duration: duration.min(DELTA_MAX), source: Source::Expires })
}

/// Takes a random part of a lifetime away, so that what was stored at one time does not end at one time: `spread` is the largest
/// part, `chance` a number from 0 to 1.
pub fn with_jitter(duration: Duration, spread: f64, chance: f64) -> Duration {
    duration.mul_f64(1.0 - spread * chance)
}

/// Calculates the lifetime of a response that states none, from the time since it last changed (§4.2.2).
pub fn heuristic(
    status: StatusCode,
    directives: &ResponseDirectives,
    fields: &HeaderMap,
    received: SystemTime,
) -> Option<Lifetime> {
    if !HEURISTIC_STATUSES.contains(&status.as_u16()) && !directives.public {
        return None;
    }
    let modified = single_date(fields, LAST_MODIFIED)?;
    let duration = since(modified, generated(fields, received)) / HEURISTIC_DIVISOR;
    Some(Lifetime { duration: duration.min(HEURISTIC_MAX), source: Source::Heuristic })
}

/// When the origin made the response: `Date`, or, where that is missing or no date, when it was received (RFC 9110 §6.6.1).
fn generated(fields: &HeaderMap, received: SystemTime) -> SystemTime {
    single_date(fields, DATE).unwrap_or(received)
}

fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// Parses a field that is a date, if it is there exactly once.
pub(super) fn single_date(fields: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut lines = fields.get_all(name).iter();
    let first = lines.next()?;
    if lines.next().is_none() { date::parse(first) } else { None }
}

/// A tenth of the time since `Last-Modified`, the fraction that §4.2.2 calls typical.
const HEURISTIC_DIVISOR: u32 = 10;

/// A guess shouldn't outlive the day in which someone can notice that it was wrong: §4.2.2 asks for caution after 24 hours.
const HEURISTIC_MAX: Duration = Duration::from_secs(24 * 3600);

/// Statuses defined as heuristically cacheable (RFC 9110 §15.1), without 206, which is not stored.
const HEURISTIC_STATUSES: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

#[cfg(test)]
mod tests {
    use super::super::directives;
    use super::*;
    use http::HeaderValue;
    use std::time::UNIX_EPOCH;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_000 + seconds)
    }

    /// A `Date`'s value, so many seconds after the tests' own epoch.
    fn date_at(seconds: u64) -> String {
        date::format(at(seconds)).to_str().unwrap().to_owned()
    }

    fn check(lines: &[(&'static str, &str)], expected: Option<(u64, Source)>) {
        let fields = fields(lines);
        let lifetime = stated(&directives::response(&fields)).or_else(|| expires(&fields, at(0)));
        let expected = expected.map(|(seconds, source)| Lifetime { duration: Duration::from_secs(seconds), source });
        assert_eq!(lifetime, expected, "{lines:?}");
    }

    #[test]
    fn s_maxage_goes_before_max_age_and_that_before_expires() {
        // §4.2.1
        let later = date_at(3600);
        check(&[], None);
        check(&[("cache-control", "public")], None);
        check(&[("cache-control", "max-age=60")], Some((60, Source::MaxAge)));
        check(&[("cache-control", "max-age=60, s-maxage=5")], Some((5, Source::SMaxAge)));
        check(&[("cache-control", "s-maxage=500"), ("cache-control", "max-age=60")], Some((500, Source::SMaxAge)));
        check(&[("cache-control", "s-maxage=0, max-age=60")], Some((0, Source::SMaxAge)));
        check(&[("cache-control", "s-maxage=x, max-age=60")], Some((0, Source::SMaxAge)));
        check(&[("cache-control", "max-age=60"), ("expires", "0")], Some((60, Source::MaxAge)));
        check(&[("cache-control", "max-age=0"), ("expires", &later)], Some((0, Source::MaxAge)));
        check(&[("cache-control", "foo"), ("expires", &later)], Some((3600, Source::Expires)));
    }

    #[test]
    fn expires_counts_from_the_date() {
        // §4.2.1, §5.3
        let [early, received, later] = [date_at(100), date_at(0), date_at(400)];
        check(&[("expires", &later), ("date", &received)], Some((400, Source::Expires)));
        check(&[("expires", &later), ("date", &early)], Some((300, Source::Expires)));
        check(&[("expires", &early), ("date", &later)], Some((0, Source::Expires)));
        check(&[("expires", &early), ("date", &early)], Some((0, Source::Expires)));
        check(&[("expires", &later)], Some((400, Source::Expires)));
        check(&[("expires", &later), ("date", "foo")], Some((400, Source::Expires)));
        check(&[("expires", "0")], Some((0, Source::Expires)));
        check(&[("expires", "")], Some((0, Source::Expires)));
        check(&[("expires", "Thu, 18 Aug 2050 02:01:18 UTC")], Some((0, Source::Expires)));
        check(&[("expires", &later), ("expires", &later)], Some((0, Source::Expires)));
        check(&[("expires", "Fri, 31 Dec 9999 23:59:59 GMT")], Some((1 << 31, Source::Expires)));
    }

    #[test]
    fn a_tenth_of_the_time_since_the_last_change_is_a_guess() {
        // §4.2.2
        let check = |status: u16, lines: &[(&'static str, &str)], expected: Option<u64>| {
            let fields = fields(lines);
            let lifetime = heuristic(status.try_into().unwrap(), &directives::response(&fields), &fields, at(1_000_000));
            let expected = expected.map(|seconds| Lifetime { duration: Duration::from_secs(seconds), source: Source::Heuristic });
            assert_eq!(lifetime, expected, "{status} {lines:?}");
        };
        let [changed, long_ago, received, later] = [date_at(999_000), date_at(0), date_at(1_000_000), date_at(1_000_500)];
        check(200, &[], None);
        check(200, &[("date", &received)], None);
        check(200, &[("last-modified", &changed)], Some(100));
        check(200, &[("last-modified", &changed), ("date", &later)], Some(150));
        check(200, &[("last-modified", &long_ago)], Some(24 * 3600));
        check(200, &[("last-modified", &later)], Some(0));
        check(200, &[("last-modified", "yesterday")], None);
        check(200, &[("last-modified", &changed), ("last-modified", &changed)], None);
        for status in [203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            check(status, &[("last-modified", &changed)], Some(100));
        }
        for status in [201, 202, 302, 303, 307, 400, 401, 403, 500, 502, 503, 504, 599] {
            check(status, &[("last-modified", &changed)], None);
            check(status, &[("last-modified", &changed), ("cache-control", "public")], Some(100));
        }
    }

    #[test]
    fn jitter_takes_a_part_away() {
        let check = |spread: f64, chance: f64, expected: u64| {
            assert_eq!(with_jitter(Duration::from_secs(100), spread, chance), Duration::from_secs(expected));
        };
        check(0.0, 0.9, 100);
        check(0.5, 0.0, 100);
        check(0.5, 1.0, 50);
        check(1.0, 0.75, 25);
    }

    #[test]
    fn a_source_survives_being_stored() {
        for code in 0..=u8::MAX {
            assert!(Source::from_code(code).is_none_or(|source| source.code() == code));
        }
        assert_eq!((0..=u8::MAX).filter_map(Source::from_code).count(), 6);
    }
}

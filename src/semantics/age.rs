//! How old a response is (RFC 9111 §4.2.3, §5.1).

use super::directives::delta_seconds;
use super::freshness::single_date;
use super::{StoredHead, Times};
use http::header::{AGE, DATE, HeaderMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Calculates the age at the time the response was received, `corrected_initial_age`.
pub fn initial(fields: &HeaderMap, times: &Times) -> Duration {
    let delay = times.received.duration_since(times.requested).unwrap_or_default();
    let corrected = stated(fields).unwrap_or_default() + delay;
    apparent(fields, times.received).max(corrected)
}

/// Calculates the age now: the initial age and the time since. A clock that went back makes nothing younger than it came.
pub fn current(head: &StoredHead, now: SystemTime) -> Duration {
    head.initial_age().saturating_add(now.duration_since(head.times().received).unwrap_or_default())
}

/// The time since the `Date`, in whole seconds: `Date` has no fractions, and counting ours would make each response older.
fn apparent(fields: &HeaderMap, received: SystemTime) -> Duration {
    let generated = single_date(fields, DATE).and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    let received = received.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    generated.map_or(Duration::ZERO, |generated| Duration::from_secs(received.saturating_sub(generated.as_secs())))
}

/// The `Age` field (§5.1): of several values the first, which the cache nearest to us wrote; ignored if it is no number.
fn stated(fields: &HeaderMap) -> Option<Duration> {
    let first = fields.get(AGE)?.as_bytes().split(|&octet| octet == b',').next()?;
    delta_seconds(first.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::terms::Terms;
    use super::super::vary::Selection;
    use super::super::{Lifetime, Source, date};
    use super::*;
    use http::{HeaderName, HeaderValue, StatusCode};

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(784_111_000) + Duration::from_millis(millis)
    }

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_first_age_is_read_if_it_is_a_number() {
        // §5.1
        let check = |lines: &[&str], expected: u64| {
            let lines: Vec<_> = lines.iter().map(|line| ("age", *line)).collect();
            let times = Times { requested: at(0), received: at(0) };
            assert_eq!(initial(&fields(&lines), &times), Duration::from_secs(expected), "{lines:?}");
        };
        check(&[], 0);
        check(&["0"], 0);
        check(&["7200"], 7200);
        check(&["007200"], 7200);
        check(&["7200, 0"], 7200);
        check(&["7200,0"], 7200);
        check(&["7200", "0"], 7200);
        check(&["0, 7200"], 0);
        check(&["0", "7200"], 0);
        check(&["abc"], 0);
        check(&["-7200"], 0);
        check(&["+7200"], 0);
        check(&["7200.0"], 0);
        check(&["\"7200\""], 0);
        check(&["", "7200"], 0);
        check(&["99999999999999999999"], 1 << 31); // §1.2.2
    }

    #[test]
    fn a_response_is_as_old_as_the_worse_of_its_date_and_its_age() {
        // §4.2.3
        let check = |date: Option<u64>, age: &str, delay: u64, expected: u64| {
            let date = date.map(|millis| date::format(at(millis)).to_str().unwrap().to_owned());
            let lines: Vec<_> = date.iter().map(|date| ("date", date.as_str())).chain([("age", age)]).collect();
            let times = Times { requested: at(100_500 - delay), received: at(100_500) };
            assert_eq!(initial(&fields(&lines), &times), Duration::from_millis(expected), "{lines:?} {delay}");
        };
        check(None, "", 0, 0);
        check(None, "", 300, 300);
        check(Some(100_000), "", 0, 0); // Made in this second, as far as `Date` can tell.
        check(Some(100_000), "", 300, 300);
        check(Some(90_000), "", 300, 10_000);
        check(Some(110_000), "", 300, 300); // The origin's clock is ahead.
        check(Some(90_000), "5", 300, 10_000);
        check(Some(90_000), "30", 300, 30_300);
        check(None, "30", 0, 30_000);
    }

    #[test]
    fn a_response_ages_with_the_clock_but_never_grows_younger() {
        // §4.2.3
        let times = Times { requested: at(9_000), received: at(10_000) };
        let lifetime = Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge };
        let fields = fields(&[("age", "5")]);
        let head = StoredHead::new(StatusCode::OK, fields, times, Terms::plain(lifetime), Selection::empty());
        let check = |now: u64, expected: u64| assert_eq!(current(&head, at(now)), Duration::from_millis(expected), "{now}");
        check(10_000, 6_000);
        check(15_250, 11_250);
        check(9_000, 6_000);
        check(0, 6_000);
    }
}

//! Refreshing a response that is asked for often before it is stale, so that nobody waits when its lifetime ends.
//!
//! The rule is that of Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention" (VLDB 2015): at
//! each use a response acts as if it were older by a random time, exponentially distributed around the time that it takes to
//! fetch it. The nearer its end, the likelier one of its uses finds it due; with few uses none does, and it is fetched when
//! somebody needs it. No use knows of another: one that finds it due begins the refresh, and as long as that is under way
//! nobody begins another.

use std::time::Duration;

/// Whether a response with this much of its lifetime left is due, if fetching it takes so long.
///
/// `chance` gives a number from 0 up to, but not including, 1. It is asked only where the outcome is open, so that nearly all
/// hits pay a comparison.
pub fn is_due(remaining: Duration, fetch_time: Duration, chance: impl FnOnce() -> f64) -> bool {
    if remaining >= fetch_time * LUCK_MAX {
        return false;
    }
    let luck = -(1.0 - chance()).ln();
    fetch_time.as_secs_f64() * luck > remaining.as_secs_f64()
}

/// The logarithm of the smallest number that is left of 1 is -36.7, so no luck is greater.
const LUCK_MAX: u32 = 37;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_the_likelier_due_the_nearer_its_end_is() {
        let check = |remaining: u64, fetch_time: u64, chance: f64, expected: bool| {
            let is_due = is_due(Duration::from_millis(remaining), Duration::from_millis(fetch_time), || chance);
            assert_eq!(is_due, expected, "{remaining} ms left, {fetch_time} ms to fetch, {chance}");
        };
        check(1_000, 200, 0.0, false);
        check(1_000, 200, 0.99, false); // Its logarithm is -4.6, and 1,000 are five times 200.
        check(1_000, 200, 0.994, true);
        check(200, 200, 0.63, false);
        check(200, 200, 0.64, true);
        check(1, 200, 0.01, true);
        check(0, 200, 0.0, false);
        check(10_000, 200, 1.0 - f64::EPSILON / 2.0, false);
        check(1, 0, 0.999, false); // What costs no time to fetch needs no head start.
    }

    #[test]
    fn where_nothing_is_open_no_chance_is_taken() {
        let never = || panic!("no chance is needed");
        assert!(!is_due(Duration::from_secs(60), Duration::from_millis(100), never));
    }

    #[test]
    fn among_many_uses_one_finds_it_due_about_a_fetch_before_the_end() {
        // A thousand uses a second, a tenth of a second to fetch: the first that finds it due does so a few fetches before the end.
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let chance = |seed: &mut u64| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            (*seed >> 11) as f64 / (1u64 << 53) as f64
        };
        let fetch_time = Duration::from_millis(100);
        let mut left = Vec::new();
        for _ in 0..500 {
            let due = (1..=4_000)
                .rev()
                .map(Duration::from_millis)
                .find(|remaining| is_due(*remaining, fetch_time, || chance(&mut seed)));
            left.push(due.expect("a popular response is refreshed early"));
        }
        left.sort();
        assert!((200..900).contains(&left[250].as_millis()), "{:?}", left[250]);
        assert!(left[5] >= fetch_time / 2, "{:?}", left[5]);
    }
}

//! When to stop asking Redis, as a function of what its commands came to and of time.
//!
//! The breaker opens after a few failures in a row, or when failures go on for longer than a moment with no success between
//! them. It never closes by itself: a probe in the background does that, so that no client's request is the experiment.

use std::time::{Duration, Instant};

/// Counts failures since the last success.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    in_a_row: u32,
    /// The first and the last failure of a trouble that goes on.
    trouble: Option<(Instant, Instant)>,
}

impl Breaker {
    /// Takes note of a command that succeeded.
    pub(super) fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    /// Takes note of a command that failed; `true` says that it is time to open.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.in_a_row += 1;
        let since = match self.trouble {
            // Two failures far from each other, with nothing asked between them, are no trouble that goes on.
            Some((since, last)) if now.duration_since(last) < TROUBLE_MAX => since,
            _ => now,
        };
        self.trouble = Some((since, now));
        self.in_a_row >= FAILURES_MAX || now.duration_since(since) >= TROUBLE_MAX
    }
}

/// So many failures in a row open the breaker.
const FAILURES_MAX: u32 = 5;

/// Failures and nothing else for so long open it, too.
const TROUBLE_MAX: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// A script of failures (at a millisecond) and successes; whether the last step says "open".
    fn opens(steps: &[Option<u64>]) -> bool {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let mut open = false;
        for step in steps {
            open = match step {
                Some(at) => breaker.failed(start + Duration::from_millis(*at)),
                None => {
                    breaker.succeeded();
                    false
                }
            };
        }
        open
    }

    #[test]
    fn it_opens_after_five_failures_or_half_a_second_of_them() {
        assert!(!opens(&[Some(0)]));
        assert!(!opens(&[Some(0), Some(1), Some(2), Some(3)]));
        assert!(opens(&[Some(0), Some(1), Some(2), Some(3), Some(4)]));
        assert!(opens(&[Some(0), Some(300), Some(500)]));
        assert!(!opens(&[Some(0), Some(300), Some(499)]));
        assert!(!opens(&[Some(0), Some(9_000)]));
        assert!(!opens(&[Some(0), Some(1), Some(2), Some(3), None, Some(600)]));
    }
}

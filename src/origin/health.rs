//! How well an address of the origin is, as a function of what requests to it came to and of time.
//!
//! An address that fails a few times in a row is left alone for a while. Then one request may go there as a trial: if it succeeds,
//! all is forgotten; if it fails, the next while is twice as long. Nobody asks in the background: without requests there is nothing
//! to be well for. What counts as a failure is for the caller to say; an answer is none, whatever its status.

use std::time::{Duration, Instant};

/// Counts failures since the last success.
#[derive(Debug, Default)]
pub(super) struct Health {
    in_a_row: u32,
    trouble: Option<Trouble>,
}

/// The state of an address that is unwell.
#[derive(Debug)]
struct Trouble {
    pause: Duration,
    until: Instant,
    is_being_tried: bool,
}

/// What may be sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// One request, as a trial.
    Due,
    /// Anything.
    Well,
    /// Nothing, if there is another address.
    Unwell,
}

impl Health {
    /// How the address stands.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match &self.trouble {
            None => Standing::Well,
            Some(trouble) if !trouble.is_being_tried && now >= trouble.until => Standing::Due,
            Some(_) => Standing::Unwell,
        }
    }

    /// Begins a trial, if one is due.
    pub(super) fn begin_trial(&mut self, now: Instant) -> bool {
        let is_due = self.standing(now) == Standing::Due;
        if let (true, Some(trouble)) = (is_due, &mut self.trouble) {
            trouble.is_being_tried = true;
        }
        is_due
    }

    /// Takes note of a trial that says nothing of the address: its client left, say. The next request is another one.
    pub(super) fn end_trial(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.is_being_tried = false;
        }
    }

    /// Takes note of an answer; `true` says that the address was unwell until now.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(self).trouble.is_some()
    }

    /// Takes note of a failure; `true` says that the address was well until now.
    pub(super) fn failed(&mut self, is_trial: bool, now: Instant) -> bool {
        match &mut self.trouble {
            Some(trouble) if is_trial => {
                trouble.pause = (trouble.pause * 2).min(PAUSE_MAX);
                trouble.until = now + trouble.pause;
                trouble.is_being_tried = false;
                false
            }
            // A request from before it was found unwell, or one that had nowhere else to go, tells nothing new.
            Some(_) => false,
            None => {
                self.in_a_row += 1;
                if self.in_a_row < FAILURES_MAX {
                    return false;
                }
                self.trouble = Some(Trouble { pause: PAUSE, until: now + PAUSE, is_being_tried: false });
                true
            }
        }
    }
}

/// One failure may be chance, and two a restart.
const FAILURES_MAX: u32 = 3;

/// For how long an address is left alone at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Due, Unwell, Well};
    use Step::{Answered, Failed, Left, Trial};

    #[derive(Clone, Copy)]
    enum Step {
        Answered,
        Failed,
        /// A trial begins.
        Trial,
        /// The trial's client has left.
        Left,
    }

    /// A script of steps, each at a millisecond; how the address stands afterwards, at another one.
    fn check(steps: &[(u64, Step)], at: u64, expected: Standing) {
        let start = Instant::now();
        let moment = |at: u64| start + Duration::from_millis(at);
        let (mut health, mut is_trial) = (Health::default(), false);
        for (at, step) in steps {
            match step {
                Answered => drop(health.succeeded()),
                Failed => drop(health.failed(std::mem::take(&mut is_trial), moment(*at))),
                Trial => is_trial = health.begin_trial(moment(*at)),
                Left => {
                    is_trial = false;
                    health.end_trial();
                }
            }
        }
        assert_eq!(health.standing(moment(at)), expected, "{health:?}");
    }

    /// It is found unwell at the millisecond 0.
    const FOUND: [(u64, Step); 3] = [(0, Failed), (0, Failed), (0, Failed)];

    fn check_found(then: &[(u64, Step)], at: u64, expected: Standing) {
        check(&[&FOUND, then].concat(), at, expected);
    }

    #[test]
    fn three_failures_in_a_row_are_needed() {
        check(&[], 0, Well);
        check(&[(0, Failed), (0, Failed)], 0, Well);
        check(&[(0, Failed), (0, Failed), (0, Answered), (0, Failed), (0, Failed)], 0, Well);
        check(&[(0, Failed), (60_000, Failed), (120_000, Failed)], 120_000, Unwell);
        check_found(&[], 0, Unwell);
    }

    #[test]
    fn after_a_second_one_trial_is_due() {
        check_found(&[], 999, Unwell);
        check_found(&[], 1000, Due);
        check_found(&[], 1_000_000, Due);
        check_found(&[(1000, Trial)], 1_000_000, Unwell);
        check_found(&[(1000, Trial), (1500, Answered)], 1500, Well);
        check_found(&[(1000, Trial), (1500, Left)], 1500, Due);
        // Too early to be one.
        check_found(&[(500, Trial)], 1000, Due);
    }

    #[test]
    fn each_trial_that_fails_doubles_the_pause_up_to_half_a_minute() {
        check_found(&[(1000, Trial), (1100, Failed)], 3099, Unwell);
        check_found(&[(1000, Trial), (1100, Failed)], 3100, Due);
        let mut steps = Vec::new();
        for (round, pause) in [2_000, 4_000, 8_000, 16_000, 30_000, 30_000].into_iter().enumerate() {
            let at = 100_000 * (round as u64 + 1);
            steps.extend([(at, Trial), (at, Failed)]);
            check_found(&steps, at + pause - 1, Unwell);
            check_found(&steps, at + pause, Due);
        }
        steps.extend([(900_000, Trial), (900_000, Answered)]);
        check_found(&steps, 900_000, Well);
        steps.extend([(900_000, Failed); 3]);
        check_found(&steps, 900_999, Unwell);
        check_found(&steps, 901_000, Due);
    }

    #[test]
    fn failures_beside_a_trial_change_nothing_and_an_answer_is_an_answer() {
        check_found(&[(500, Failed), (900, Failed)], 1000, Due);
        check_found(&[(500, Answered)], 500, Well);
    }

    #[test]
    fn a_change_is_told_once() {
        let now = Instant::now();
        let mut health = Health::default();
        assert_eq!([(); 5].map(|()| health.failed(false, now)), [false, false, true, false, false]);
        assert_eq!([(); 2].map(|()| health.succeeded()), [true, false]);
    }
}

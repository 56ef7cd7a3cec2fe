//! How many requests may be sent once more: a fifth of all that could be, and a burst.
//!
//! A request that may be sent once more sets a retry aside before it goes on a connection that was idle. If no retry is left, it
//! goes on a new connection, where it needs none: so an origin that closes connections as fast as it likes causes neither more
//! than that fifth of further load, nor an error.

use std::sync::atomic::{AtomicU64, Ordering};

/// The retries that are left.
pub(super) struct Retries {
    /// A [`Level`] in one word, so that its two numbers always fit.
    level: AtomicU64,
    fifths_max: u32,
}

/// A retry that is set aside for a request; given back when it is dropped.
pub(super) struct Retry<'a> {
    retries: &'a Retries,
    is_spent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    /// Fifths of a retry that were earned and not spent.
    fifths: u32,
    /// Whole retries of these that are set aside.
    set_aside: u32,
}

impl Level {
    fn set_aside(self) -> Option<Level> {
        let set_aside = self.set_aside + 1;
        (set_aside <= self.fifths / FIFTHS).then_some(Level { set_aside, ..self })
    }

    /// What is left after a request that had one set aside, or had not.
    fn ended(self, had_one: bool, is_spent: bool, fifths_max: u32) -> Level {
        let spent = if is_spent { FIFTHS } else { 0 };
        Level { fifths: (self.fifths - spent + 1).min(fifths_max), set_aside: self.set_aside - u32::from(had_one) }
    }

    fn packed(self) -> u64 {
        u64::from(self.fifths) << 32 | u64::from(self.set_aside)
    }

    fn unpacked(word: u64) -> Level {
        Level { fifths: (word >> 32) as u32, set_aside: word as u32 }
    }
}

impl Retries {
    /// So many may be spent at once.
    pub(super) fn new(burst: usize) -> Retries {
        let fifths_max = u32::try_from(burst).unwrap_or(u32::MAX).saturating_mul(FIFTHS);
        Retries { level: AtomicU64::new(Level { fifths: fifths_max, set_aside: 0 }.packed()), fifths_max }
    }

    /// Sets one aside for a request; `None` if none is left.
    pub(super) fn set_aside(&self) -> Option<Retry<'_>> {
        let set_aside = |word| Level::unpacked(word).set_aside().map(Level::packed);
        match self.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set_aside) {
            Ok(_) => Some(Retry { retries: self, is_spent: false }),
            Err(_) => {
                self.ended(false, false);
                None
            }
        }
    }

    fn ended(&self, had_one: bool, is_spent: bool) {
        let ended = |word| Some(Level::unpacked(word).ended(had_one, is_spent, self.fifths_max).packed());
        let _ = self.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, ended);
    }
}

impl Retry<'_> {
    /// Uses it up.
    pub(super) fn spend(mut self) {
        self.is_spent = true;
    }
}

impl Drop for Retry<'_> {
    fn drop(&mut self) {
        self.retries.ended(true, self.is_spent);
    }
}

/// A request earns one fifth of a retry.
const FIFTHS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so many requests one after the other, all of which want to be sent once more; how many were.
    fn sent_again(retries: &Retries, requests: usize) -> usize {
        (0..requests).filter(|_| retries.set_aside().map(Retry::spend).is_some()).count()
    }

    #[test]
    fn a_burst_is_sent_again_and_then_a_fifth() {
        let check = |burst: usize, requests: usize, expected: usize| {
            let again = sent_again(&Retries::new(burst), requests);
            assert_eq!(again, expected, "{requests} requests, {burst} at once");
        };
        check(64, 0, 0);
        check(64, 64, 64);
        check(0, 1000, 0);
        // Each of the first ones has earned a fifth as well.
        check(64, 80, 79);
        for (burst, requests) in [(1, 1000), (64, 1000), (256, 100_000)] {
            let again = sent_again(&Retries::new(burst), requests);
            assert!(again <= burst + requests / 5 && again + 1 >= requests / 5, "{again} of {requests}");
        }
    }

    #[test]
    fn what_is_set_aside_is_nobody_elses_and_comes_back() {
        let retries = Retries::new(2);
        let first = retries.set_aside().unwrap();
        let second = retries.set_aside().unwrap();
        assert!(retries.set_aside().is_none());
        drop(first);
        let third = retries.set_aside().unwrap();
        second.spend();
        third.spend();
        assert!(retries.set_aside().is_none());
    }

    #[test]
    fn five_requests_earn_one_and_the_burst_is_never_exceeded() {
        let retries = Retries::new(1);
        retries.set_aside().unwrap().spend();
        // That request has earned a fifth itself; these are the others.
        for _ in 0..4 {
            assert!(retries.set_aside().is_none());
        }
        for _ in 0..100 {
            drop(retries.set_aside().unwrap());
        }
        assert_eq!(sent_again(&retries, 5), 1);
    }
}

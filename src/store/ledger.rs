//! The octets of bodies that are held for clients beside what the memory tier holds.
//!
//! A body is taken in as fast as the origin sends it, and a client may take it as slowly as it likes. While it is being taken in, it is
//! in no tier yet; and when memory lets go of a response that somebody still reads, its octets stay. A few clients that read slowly
//! could have as many bodies held as they ask for. So all of these octets are counted. Memory keeps the less for them; and when there
//! are too many, no more bodies are taken in ahead of their readers.
//!
//! Small bodies are not counted: a client's connection takes them at once.

use ahash::RandomState;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The account of all octets that are held beside the memory tier.
pub struct Ledger {
    /// Below zero for a moment, while a body moves into memory.
    octets: AtomicI64,
    octets_max: AtomicI64,
    /// Where the bodies begin that are counted.
    counted: Mutex<HashSet<usize, RandomState>>,
}

/// Octets that are counted until this is dropped.
pub struct Holding {
    ledger: Arc<Ledger>,
    octets: i64,
}

impl Ledger {
    /// An account beside a memory tier of at most so many octets.
    pub(super) fn new(memory_bytes_max: u64) -> Arc<Ledger> {
        let octets_max = AtomicI64::new(octets_max(memory_bytes_max));
        Arc::new(Ledger { octets: AtomicI64::new(0), octets_max, counted: Mutex::default() })
    }

    /// Takes note that the memory tier is of another size now.
    pub(super) fn resize(&self, memory_bytes_max: u64) {
        self.octets_max.store(octets_max(memory_bytes_max), Ordering::Relaxed);
    }

    /// Whether so much is held that no more is to be taken in ahead of its readers.
    pub fn is_full(&self) -> bool {
        self.octets.load(Ordering::Relaxed) >= self.octets_max.load(Ordering::Relaxed)
    }

    /// How many octets are held.
    pub fn octets(&self) -> u64 {
        u64::try_from(self.octets.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Begins to count.
    pub fn hold(self: &Arc<Ledger>) -> Holding {
        Holding { ledger: self.clone(), octets: 0 }
    }

    /// The same body, counted while anybody has it.
    pub(super) fn counted(self: &Arc<Ledger>, body: Bytes) -> Bytes {
        if body.len() < COUNTED_BYTES_MIN || !self.lock().insert(body.as_ptr() as usize) {
            return body;
        }
        let mut holding = self.hold();
        holding.add(body.len());
        Bytes::from_owner(Counted { body, holding })
    }

    /// Takes the octets of a body off the account, while memory holds it.
    pub(super) fn shelved(self: &Arc<Ledger>, body: &Bytes) -> Option<Holding> {
        if body.len() < COUNTED_BYTES_MIN || !self.lock().contains(&(body.as_ptr() as usize)) {
            return None;
        }
        let mut holding = self.hold();
        holding.change(-(body.len() as i64));
        Some(holding)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<usize, RandomState>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holding {
    /// Counts more.
    pub fn add(&mut self, octets: usize) {
        self.change(octets as i64);
    }

    fn change(&mut self, by: i64) {
        self.octets += by;
        self.ledger.octets.fetch_add(by, Ordering::Relaxed);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.ledger.octets.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

fn octets_max(memory_bytes_max: u64) -> i64 {
    i64::try_from(memory_bytes_max / 2).unwrap_or(i64::MAX).max(OCTETS_MAX_MIN)
}

struct Counted {
    body: Bytes,
    holding: Holding,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.holding.ledger.lock().remove(&(self.body.as_ptr() as usize));
    }
}

/// A smaller body is in the buffers of its client's connection at once.
const COUNTED_BYTES_MIN: usize = 64 << 10;

/// So much may be held beside the smallest memory tier, and without any.
const OCTETS_MAX_MIN: i64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Bytes {
        vec![b'x'; COUNTED_BYTES_MIN].into()
    }

    #[test]
    fn a_body_counts_while_somebody_has_it_and_memory_does_not() {
        let ledger = Ledger::new(0);
        let stored = ledger.counted(body());
        assert_eq!(ledger.octets(), COUNTED_BYTES_MIN as u64);
        let shelved = ledger.shelved(&stored);
        assert_eq!(ledger.octets(), 0);
        let part_of_a_reader = stored.slice(10..20);
        drop(stored);
        drop(shelved);
        assert_eq!(ledger.octets(), COUNTED_BYTES_MIN as u64);
        drop(part_of_a_reader);
        assert_eq!(ledger.octets(), 0);
        assert!(ledger.lock().is_empty());
    }

    #[test]
    fn a_body_that_is_stored_again_counts_once() {
        let ledger = Ledger::new(0);
        let first = ledger.counted(body());
        let again = ledger.counted(first.clone());
        assert_eq!(ledger.octets(), COUNTED_BYTES_MIN as u64);
        drop(first);
        assert_eq!(ledger.octets(), COUNTED_BYTES_MIN as u64);
        drop(again);
        assert_eq!(ledger.octets(), 0);
    }

    #[test]
    fn it_is_full_when_half_of_what_memory_may_hold_is_held_beside_it() {
        let ledger = Ledger::new(256 << 20);
        let mut holding = ledger.hold();
        holding.add((128 << 20) - 1);
        assert!(!ledger.is_full());
        holding.add(1);
        assert!(ledger.is_full());
        drop(holding);
        assert!(!ledger.is_full());
    }

    #[test]
    fn small_bodies_are_not_counted() {
        let ledger = Ledger::new(0);
        let small = ledger.counted("small".into());
        assert!(ledger.shelved(&small).is_none());
        assert_eq!(ledger.octets(), 0);
    }
}

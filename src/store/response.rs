//! A stored response: what a tier holds.

use super::Store;
use super::held::Held;
use crate::clock::Clock;
use crate::rules::CacheKey;
use crate::semantics::StoredHead;
use bytes::Bytes;
use std::time::{Duration, SystemTime};

/// A stored response, whole.
#[derive(Debug, Clone)]
pub struct StoredResponse {
    /// The key it answers; compared when it is read.
    pub key: CacheKey,
    /// Status, fields, times, and what deciding about it needs.
    pub head: StoredHead,
    /// The body, complete.
    pub body: Bytes,
    /// The names under which it can be purged.
    pub tags: Box<[String]>,
    /// The generations on which it depends: those that held before its fetch began.
    pub held: Held,
}

/// Why a response that may be stored is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// There is no tier to keep it in at present.
    Nowhere,
    /// It is larger than what any tier takes.
    TooLarge,
    /// A purge has come since its fetch began.
    Purged,
    /// Redis could not say or take the generations on which it depends: a purge by another replica would not find it.
    NoGeneration,
}

impl NotKept {
    /// The reason in a word, the same in header and log.
    pub fn as_str(self) -> &'static str {
        match self {
            NotKept::Nowhere => "no-tier",
            NotKept::TooLarge => "too-large",
            NotKept::Purged => "purged",
            NotKept::NoGeneration => "no-generation",
        }
    }
}

impl Store {
    /// The same response with nothing in it that keeps other octets, its own counted, and what many have in common shared.
    pub(super) fn alone(&self, mut response: StoredResponse) -> StoredResponse {
        response.head = response.head.compact();
        if let Some(memory) = &self.memory {
            memory.share(&mut response.head);
        }
        response.body = self.ledger.counted(response.body);
        response
    }
}

impl StoredResponse {
    /// About how many octets of memory it takes.
    pub(super) fn weight(&self) -> u64 {
        let tags: usize = self.tags.iter().map(|tag| tag.len() + size_of::<String>()).sum();
        (self.body.len() + self.key.parts().len() + self.head.weight() + tags + self.held.weight() + ENTRY_OVERHEAD) as u64
    }

    /// How long ago it was asked for: the larger of what the time of day says, and of the time that has passed in this process since.
    pub(super) fn asked_ago(&self, clock: &Clock) -> Duration {
        let by_day = clock.now().duration_since(self.head.times().requested).unwrap_or_default();
        by_day.max(self.held.age(clock.passed()))
    }

    /// How long it is worth keeping: while it is fresh; after that, as long as it may answer all the same and, if the origin could
    /// confirm it, for `keep_stale`.
    pub(super) fn keep_for(&self, now: SystemTime, keep_stale: Duration) -> Duration {
        (self.head.remaining(now) + kept_when_stale(&self.head, keep_stale)).min(KEEP_MAX)
    }
}

/// How long a response is kept beyond its lifetime.
pub(super) fn kept_when_stale(head: &StoredHead, keep_stale: Duration) -> Duration {
    let confirmable = if head.has_validator() { keep_stale } else { Duration::ZERO };
    confirmable.max(head.terms.usable_when_stale())
}

/// The cost of an entry beside its fields and body: the cache's slot, two reference counts, the numbers of the head, and what an
/// allocator adds to the half dozen pieces that it consists of, holes between them included (`cargo bench --bench memory`).
const ENTRY_OVERHEAD: usize = 400;

/// Nothing is kept longer than a year (RFC 9111 §1.2.2 lets any larger number mean "long").
const KEEP_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

//! The tier in this process: bounded by octets, evicting by S3-FIFO-like rank (`quick_cache`), variants side by side.
//!
//! With each response it is kept when it was born, by the time that passes (see `clock`). If the time of day says at a look-up that it is
//! younger than that, somebody has put the time back since, and the response is forgotten: it would live for longer than it may.

use super::generations::DOUBTED;
use super::ledger::{Holding, Ledger};
use super::response::StoredResponse;
use super::variants::VARIANTS_MAX;
use crate::clock::{Clock, DIFFERENCE_MAX};
use crate::rules::CacheKey;
use crate::semantics::vary::Selection;
use crate::semantics::{StoredHead, Terms};
use ahash::RandomState;
use http::HeaderMap;
use prometheus::IntCounter;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
#[cfg(feature = "shuttle")]
use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64},
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "shuttle"))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64},
};
use std::time::{Duration, SystemTime};

/// The memory tier.
pub(super) struct Memory {
    /// By a half of the hash, which tells keys apart well enough, since their parts are compared.
    cache: Cache<u64, Arc<Variants>, ByOctets, RandomState, NameEvicted>,
    /// The terms on which the latest responses were stored, and what of content negotiation selects them: of many responses, few.
    terms: Cache<Terms, Arc<Terms>>,
    selections: Cache<Selection, Selection>,
    evictions: IntCounter,
    clock: Clock,
    bytes_max: AtomicU64,
    /// What the cache may hold at present.
    capacity: AtomicU64,
    /// Of what is held beside it, for which it makes room.
    ledger: Arc<Ledger>,
    /// Held while an entry is replaced by one with a variant more, which is a read and a write.
    inserting: Mutex<()>,
    /// Counts the replacements that were heard of; each key has one of these. Written with `inserting` locked.
    news: [AtomicU64; NEWS],
}

/// What memory has for a key.
pub(super) enum Found {
    /// The response that the request selects, and the epoch in which it was last known to be Redis' own, or `DOUBTED`.
    Response(Arc<StoredResponse>, u64),
    /// Responses to requests with other values in these fields.
    OtherVariant(Selection),
    /// Nothing.
    Nothing,
}

/// The stored responses of one key, the newest first; never none.
struct Variants {
    /// Apart from the others, since most keys have one response.
    newest: Kept,
    others: Option<Box<Others>>,
}

struct Others {
    kept: Box<[Kept]>,
    /// Counts the look-ups.
    turn: AtomicU32,
}

struct Kept {
    stored: Arc<StoredResponse>,
    /// When it was asked for, in microseconds of the time that passes; what was read from Redis may be older than this process.
    born: i64,
    /// The epoch in which nothing newer was in Redis, or `DOUBTED`. Written with `inserting` locked.
    checked: AtomicU64,
    /// The turn in which it was stored or found last.
    used: AtomicU32,
    /// How often it was found. Responses that follow one another under a key begin anew.
    found: AtomicU32,
    /// Keeps its body off the account of what is held beside memory.
    shelved: Option<Box<Holding>>,
}

impl Variants {
    fn is_of(&self, key: &CacheKey) -> bool {
        self.newest.stored.key.parts() == key.parts()
    }

    fn iter(&self) -> impl Iterator<Item = &Kept> {
        std::iter::once(&self.newest).chain(self.others.iter().flat_map(|others| &others.kept))
    }

    fn selected(&self, request: &HeaderMap) -> Option<&Kept> {
        self.iter().find(|kept| kept.stored.head.selection.matches(request))
    }

    fn new(newest: Kept, others: Vec<Kept>, turn: u32) -> Arc<Variants> {
        let others = (!others.is_empty()).then(|| Box::new(Others { kept: others.into(), turn: AtomicU32::new(turn) }));
        Arc::new(Variants { newest, others })
    }

    fn turn(&self) -> u32 {
        self.others.as_ref().map_or(0, |others| others.turn.load(Ordering::Relaxed))
    }

    /// Two look-ups at once may have the same turn, which the order of use can bear.
    fn next_turn(&self) -> u32 {
        let turn = self.turn().saturating_add(1);
        if let Some(others) = &self.others {
            others.turn.store(turn, Ordering::Relaxed);
        }
        turn
    }
}

impl Kept {
    fn new(stored: Arc<StoredResponse>, born: i64, checked: u64, used: u32) -> Kept {
        let (checked, used) = (AtomicU64::new(checked), AtomicU32::new(used));
        Kept { stored, born, checked, used, found: AtomicU32::new(0), shelved: None }
    }

    /// The same, in another set of variants.
    fn again(&self, ledger: &Arc<Ledger>) -> Kept {
        let used = self.used.load(Ordering::Relaxed);
        let again = Kept::new(self.stored.clone(), self.born, self.checked.load(Ordering::Acquire), used);
        again.found.store(self.found.load(Ordering::Relaxed), Ordering::Relaxed);
        Kept { shelved: self.shelved.as_ref().and_then(|_| ledger.shelved(&self.stored.body)).map(Box::new), ..again }
    }
}

impl Memory {
    /// A tier of at most `bytes_max` octets.
    pub(super) fn new(bytes_max: u64, evictions: IntCounter, clock: Clock, ledger: Arc<Ledger>) -> Memory {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity((bytes_max / TYPICAL_WEIGHT).clamp(64, 4 << 20) as usize)
            .weight_capacity(bytes_max)
            .build()
            .expect("capacity and estimate are set");
        Memory {
            cache: Cache::with_options(options, ByOctets, RandomState::new(), NameEvicted),
            terms: Cache::new(COMMON_MAX),
            selections: Cache::new(COMMON_MAX),
            evictions,
            clock,
            bytes_max: AtomicU64::new(bytes_max),
            capacity: AtomicU64::new(bytes_max),
            ledger,
            inserting: Mutex::new(()),
            news: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Has parts of a head lie where those of other responses do that are the same.
    pub(super) fn share(&self, head: &mut StoredHead) {
        match self.terms.get(&*head.terms) {
            Some(common) => head.terms = common,
            None => self.terms.insert(*head.terms, head.terms.clone()),
        }
        // The others may be about somebody, and are gone when their responses are.
        if !head.selection.is_empty() && head.selection.is_common() {
            match self.selections.get(&head.selection) {
                Some(common) => head.selection = common,
                None => self.selections.insert(head.selection.clone(), head.selection.clone()),
            }
        }
    }

    /// Looks for the response that the request selects, at `now`.
    pub(super) fn lookup(&self, key: &CacheKey, request: &HeaderMap, now: SystemTime) -> Found {
        let Some(variants) = self.cache.get(&half(key.hash())).filter(|variants| variants.is_of(key)) else {
            return Found::Nothing;
        };
        match variants.selected(request) {
            Some(kept) if self.was_put_back(kept, now) => {
                self.forget(&kept.stored);
                Found::Nothing
            }
            Some(kept) => {
                // Not an addition of its own: when two meet, one of them is not counted, which popularity can bear and a hit gains from.
                kept.found.store(kept.found.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
                if variants.others.is_some() {
                    kept.used.store(variants.next_turn(), Ordering::Relaxed);
                }
                Found::Response(kept.stored.clone(), kept.checked.load(Ordering::Acquire))
            }
            None => Found::OtherVariant(variants.newest.stored.head.selection.clone()),
        }
    }

    /// The same, and leaves no trace: neither does it count as used, nor is anything forgotten.
    pub(super) fn peek(&self, key: &CacheKey, request: &HeaderMap, now: SystemTime) -> Found {
        let Some(variants) = self.cache.peek(&half(key.hash())).filter(|variants| variants.is_of(key)) else {
            return Found::Nothing;
        };
        match variants.selected(request) {
            Some(kept) if self.was_put_back(kept, now) => Found::Nothing,
            Some(kept) => Found::Response(kept.stored.clone(), kept.checked.load(Ordering::Acquire)),
            None => Found::OtherVariant(variants.newest.stored.head.selection.clone()),
        }
    }

    /// The responses of a key, the one stored last first.
    pub(super) fn variants(&self, key: &CacheKey) -> Vec<Arc<StoredResponse>> {
        let variants = self.cache.peek(&half(key.hash())).filter(|variants| variants.is_of(key));
        variants.iter().flat_map(|variants| variants.iter()).map(|kept| kept.stored.clone()).collect()
    }

    /// How often a replacement of this key, or of one that shares the counter, was heard of.
    pub(super) fn news(&self, hash: u128) -> u64 {
        self.news[hash as usize % NEWS].load(Ordering::Acquire)
    }

    /// Takes note that what lies under a key in Redis was replaced, or ended.
    pub(super) fn doubt(&self, hash: u128) {
        let _inserting = self.lock();
        self.news[hash as usize % NEWS].fetch_add(1, Ordering::AcqRel);
        if let Some(variants) = self.cache.peek(&half(hash)) {
            variants.iter().for_each(|kept| kept.checked.store(DOUBTED, Ordering::Release));
        }
    }

    /// Takes note that in `epoch` Redis had nothing newer, unless a replacement was heard of since there were so many `news`.
    pub(super) fn confirm(&self, stored: &Arc<StoredResponse>, news: u64, epoch: u64) {
        let hash = stored.key.hash();
        let _inserting = self.lock();
        if self.news(hash) == news
            && let Some(variants) = self.cache.peek(&half(hash))
            && let Some(kept) = variants.iter().find(|kept| Arc::ptr_eq(&kept.stored, stored))
        {
            kept.checked.store(epoch, Ordering::Release);
        }
    }

    /// Keeps a response that was read from Redis in `epoch`, when there had been so many `news`.
    pub(super) fn insert_read(&self, response: Arc<StoredResponse>, news: u64, epoch: u64) {
        let inserting = self.lock();
        let checked = if self.news(response.key.hash()) == news { epoch } else { DOUBTED };
        // What is in doubt gives way to what Redis has, whatever the clocks say.
        self.insert_locked(response, checked, |kept| kept.checked.load(Ordering::Acquire) == epoch, &inserting);
    }

    /// Keeps a response that was fetched, instead of the one that the same requests would have selected before, unless that one was
    /// asked for later. Says whether it did, or would have had there been room.
    pub(super) fn insert(&self, response: Arc<StoredResponse>, epoch: u64) -> bool {
        let inserting = self.lock();
        self.insert_locked(response, epoch, |_| true, &inserting)
    }

    fn insert_locked(
        &self,
        response: Arc<StoredResponse>,
        checked: u64,
        may_stay: impl Fn(&Kept) -> bool,
        _: &MutexGuard<'_, ()>,
    ) -> bool {
        let hash = half(response.key.hash());
        let age = micros(response.asked_ago(&self.clock));
        let born = micros(self.clock.passed()) - age;
        let earlier = self.cache.peek(&hash).filter(|earlier| earlier.is_of(&response.key));
        let turn = earlier.as_ref().map_or(0, |earlier| earlier.next_turn());
        let shelved = self.ledger.shelved(&response.body).map(Box::new);
        let newest = Kept { shelved, ..Kept::new(response, born, checked, turn) };
        let mut others = Vec::new();
        if let Some(earlier) = earlier {
            let new = &newest.stored.head.selection;
            let is_later = |kept: &Kept| kept.stored.head.selection == *new && kept.born > born;
            if earlier.iter().any(|kept| is_later(kept) && may_stay(kept)) {
                return false;
            }
            let beside = earlier.iter().filter(|kept| {
                // A response that stopped to vary replaces all that did, and the other way round.
                let selection = &kept.stored.head.selection;
                selection != new && selection.names().eq(new.names())
            });
            others = beside.map(|kept| kept.again(&self.ledger)).collect();
            if others.len() >= VARIANTS_MAX {
                // The one that was not used for longest.
                let oldest = others.iter().enumerate().min_by_key(|(_, kept)| kept.used.load(Ordering::Relaxed));
                others.remove(oldest.map_or(0, |(place, _)| place));
            }
        }
        let mut evicted = Vec::new();
        self.cache.insert_with_lifecycle(hash, Variants::new(newest, others, turn), &mut evicted);
        // What it replaced, or was refused for its weight, was not dropped for room.
        self.evictions.inc_by(evicted.iter().filter(|key| **key != hash).count() as u64);
        self.make_room();
        true
    }

    /// Takes as much less as is held beside it, down to half of its size; for what goes beyond that, see `ledger`.
    fn make_room(&self) {
        let bytes_max = self.bytes_max();
        let wanted = bytes_max.saturating_sub(self.ledger.octets()).max(bytes_max / 2);
        if self.capacity.load(Ordering::Relaxed).abs_diff(wanted) > bytes_max / ROOM_STEPS {
            self.take_up(wanted);
        }
    }

    fn take_up(&self, bytes: u64) {
        self.capacity.store(bytes, Ordering::Relaxed);
        let before = self.cache.len();
        self.cache.set_capacity(bytes);
        self.evictions.inc_by(before.saturating_sub(self.cache.len()) as u64);
    }

    /// Forgets a response, if it is still there.
    pub(super) fn forget(&self, stored: &Arc<StoredResponse>) {
        let hash = half(stored.key.hash());
        let _inserting = self.lock();
        let Some(variants) = self.cache.peek(&hash) else { return };
        let is_other = |kept: &&Kept| !Arc::ptr_eq(&kept.stored, stored);
        let mut others: Vec<Kept> = variants.iter().filter(is_other).map(|kept| kept.again(&self.ledger)).collect();
        if others.is_empty() {
            self.cache.remove(&hash);
        } else if others.len() < variants.iter().count() {
            let newest = others.remove(0);
            self.cache.insert_with_lifecycle(hash, Variants::new(newest, others, variants.turn()), &mut Vec::new());
        }
    }

    /// All responses, and how often each was found; for work in the background, since it looks at everything.
    pub(super) fn found(&self) -> Vec<(Arc<StoredResponse>, u64)> {
        let found = |kept: &Kept| (kept.stored.clone(), u64::from(kept.found.load(Ordering::Relaxed)));
        self.cache.iter().flat_map(|(_, variants)| variants.iter().map(found).collect::<Vec<_>>()).collect()
    }

    /// How many keys it holds.
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    /// How many octets it may hold.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Grows or shrinks; what has no room any more is dropped.
    pub(super) fn resize(&self, bytes_max: u64) {
        let _inserting = self.lock();
        if self.bytes_max.swap(bytes_max, Ordering::Relaxed) != bytes_max {
            self.ledger.resize(bytes_max);
            self.take_up(bytes_max);
            self.make_room();
        }
    }

    /// How many octets it holds, by its own accounting.
    pub(super) fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// The heaviest response that it takes.
    pub(super) fn response_bytes_max(&self) -> u64 {
        self.bytes_max() / SHARDS as u64
    }

    /// Whether the time of day was put back since a response was kept, so that it does not show its age.
    fn was_put_back(&self, kept: &Kept, now: SystemTime) -> bool {
        let by_day = now.duration_since(kept.stored.head.times().requested).unwrap_or_default();
        micros(self.clock.passed()) - kept.born > micros(by_day.saturating_add(DIFFERENCE_MAX))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.inserting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn half(hash: u128) -> u64 {
    (hash >> 64) as u64
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[derive(Clone)]
struct ByOctets;

impl Weighter<u64, Arc<Variants>> for ByOctets {
    fn weight(&self, _: &u64, variants: &Arc<Variants>) -> u64 {
        variants.iter().map(|kept| kept.stored.weight()).sum()
    }
}

/// Names the keys whose entries an insertion has put out.
#[derive(Clone)]
struct NameEvicted;

impl Lifecycle<u64, Arc<Variants>> for NameEvicted {
    type RequestState = Vec<u64>;

    fn on_evict(&self, evicted: &mut Vec<u64>, key: u64, _: Arc<Variants>) {
        evicted.push(key);
    }
}

/// Few, since a response heavier than a shard is refused: a quarter of the memory is the largest that is kept.
pub(super) const SHARDS: usize = 4;

/// Its size changes in steps, each of which looks at all shards.
const ROOM_STEPS: u64 = 32;

/// What the number of entries is guessed from, which sizes the memory of recently evicted keys.
const TYPICAL_WEIGHT: u64 = 3072;

/// So many terms, and so many selections, are shared among the responses that have them.
const COMMON_MAX: usize = 256;

/// Counters of replacements.
const NEWS: usize = 256;

#[cfg(all(test, feature = "shuttle"))]
mod interleavings {
    use super::super::tests::{explore, response};
    use super::*;
    use shuttle::thread;

    /// A value is read from Redis and put into memory while another replica replaces it: the old one is never taken for checked.
    #[test]
    fn a_value_read_before_its_replacement_and_put_in_after_it_does_not_survive() {
        let scenario = || {
            let memory = Arc::new(Memory::new(
                1 << 20,
                IntCounter::new("evictions", "for tests").unwrap(),
                Clock::movable(),
                Ledger::new(0),
            ));
            let redis = Arc::new(Mutex::new("old"));
            let hash = CacheKey::from_parts(b"k").hash();
            let reading = {
                let (memory, redis) = (memory.clone(), redis.clone());
                thread::spawn(move || {
                    let news = memory.news(hash);
                    let read = *redis.lock().unwrap();
                    let stored = Arc::new(response("k", read, &[], &HeaderMap::new()));
                    memory.insert_read(stored.clone(), news, 1);
                    memory.confirm(&stored, news, 1);
                })
            };
            let replacing = {
                let (memory, redis) = (memory.clone(), redis.clone());
                thread::spawn(move || {
                    *redis.lock().unwrap() = "new";
                    memory.doubt(hash);
                })
            };
            reading.join().unwrap();
            replacing.join().unwrap();
            if let Found::Response(stored, checked) =
                memory.lookup(&CacheKey::from_parts(b"k"), &HeaderMap::new(), memory.clock.now())
            {
                assert!(checked == DOUBTED || stored.body == "new");
            }
        };
        explore(scenario, 20_000);
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::super::tests::response;
    use super::*;
    use bytes::Bytes;
    use http::HeaderName;

    fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn evictions() -> IntCounter {
        IntCounter::new("evictions", "for tests").unwrap()
    }

    fn body(memory: &Memory, key: &str, request: &[(&'static str, &str)]) -> Option<Bytes> {
        match memory.lookup(&CacheKey::from_parts(key.as_bytes()), &fields(request), memory.clock.now()) {
            Found::Response(stored, _) => Some(stored.body.clone()),
            Found::OtherVariant(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn variants_lie_side_by_side_and_the_newest_of_each_counts() {
        let memory = Memory::new(1 << 20, evictions(), Clock::movable(), Ledger::new(0));
        let insert = |language: &str, text: &str| {
            let request = fields(&[("accept-language", language)]);
            memory.insert(Arc::new(response("k", text, &["accept-language"], &request)), 1);
        };
        insert("de", "hallo");
        insert("en", "hello");
        insert("en", "hello again");
        assert_eq!(body(&memory, "k", &[("accept-language", "de")]).as_deref(), Some(&b"hallo"[..]));
        assert_eq!(body(&memory, "k", &[("accept-language", "en")]).as_deref(), Some(&b"hello again"[..]));
        assert_eq!(body(&memory, "k", &[("accept-language", "fr")]), None);
        assert_eq!(body(&memory, "other", &[("accept-language", "en")]), None);
        let found = memory.lookup(&CacheKey::from_parts(b"k"), &fields(&[]), memory.clock.now());
        assert!(matches!(found, Found::OtherVariant(selection) if selection.names().eq([&http::header::ACCEPT_LANGUAGE])));

        memory.insert(Arc::new(response("k", "plain", &[], &fields(&[]))), 1);
        assert_eq!(body(&memory, "k", &[("accept-language", "de")]).as_deref(), Some(&b"plain"[..]));
    }

    #[test]
    fn it_grows_and_shrinks_and_what_is_held_beside_it_counts_all_the_same() {
        let (evicted, ledger) = (evictions(), Ledger::new(1 << 20));
        let memory = Memory::new(1 << 20, evicted.clone(), Clock::movable(), ledger.clone());
        let fill = || {
            for i in 0..2_000 {
                let stored = response(&format!("key {i}"), &"x".repeat(2048), &[], &fields(&[]));
                memory.insert(Arc::new(stored), 1);
            }
            memory.weight()
        };
        let small = fill();
        memory.resize(4 << 20);
        assert_eq!((memory.bytes_max(), memory.response_bytes_max()), (4 << 20, 1 << 20));
        assert!(fill() > 2 * small, "{}", memory.weight());
        memory.resize(1 << 20);
        assert!(memory.weight() <= 1 << 20, "{}", memory.weight());
        let mut holding = ledger.hold();
        holding.add(1 << 20);
        assert!(fill() <= 1 << 19, "{}", memory.weight());
        // A reload that leaves the size alone leaves that as it is.
        memory.resize(1 << 20);
        assert!(fill() <= 1 << 19, "{}", memory.weight());
    }

    #[test]
    fn the_number_of_variants_has_a_bound() {
        let memory = Memory::new(16 << 20, evictions(), Clock::movable(), Ledger::new(0));
        let insert = |number: usize| {
            let request = fields(&[("accept", &number.to_string())]);
            memory.insert(Arc::new(response("k", &number.to_string(), &["accept"], &request)), 1);
        };
        let is_there = |number: usize| body(&memory, "k", &[("accept", &number.to_string())]).is_some();
        (0..VARIANTS_MAX).for_each(insert);
        assert!(is_there(0) && is_there(3));
        (VARIANTS_MAX..VARIANTS_MAX + 10).for_each(insert);
        let gone: Vec<usize> = (0..VARIANTS_MAX + 10).filter(|number| !is_there(*number)).collect();
        assert_eq!(gone, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11], "those that were not used for longest");
    }

    #[test]
    fn memory_stays_within_its_bound_and_counts_what_it_evicts() {
        let evicted = evictions();
        let memory = Memory::new(1 << 20, evicted.clone(), Clock::movable(), Ledger::new(0));
        for i in 0..4_000 {
            memory.insert(Arc::new(response(&format!("key {i}"), &"x".repeat(2048), &[], &fields(&[]))), 1);
        }
        assert!(memory.weight() <= 1 << 20, "{}", memory.weight());
        assert!(memory.len() > 250, "{}", memory.len());
        assert_eq!(evicted.get() as usize + memory.len(), 4_000);
    }

    #[test]
    fn a_response_heavier_than_the_tier_takes_is_not_kept_and_evicts_nothing() {
        let memory = Memory::new(1 << 20, evictions(), Clock::movable(), Ledger::new(0));
        memory.insert(Arc::new(response("small", "x", &[], &fields(&[]))), 1);
        memory.insert(Arc::new(response("large", &"x".repeat(1 << 19), &[], &fields(&[]))), 1);
        assert_eq!(body(&memory, "large", &[]), None);
        assert!(body(&memory, "small", &[]).is_some());
        assert_eq!(memory.response_bytes_max(), 1 << 18);
    }
}

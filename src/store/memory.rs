//! The tier in this process: bounded by octets, evicting by S3-FIFO-like rank (`quick_cache`), variants side by side.

use super::response::StoredResponse;
use crate::rules::CacheKey;
use crate::semantics::vary::Selection;
use ahash::RandomState;
use bytes::Bytes;
use http::HeaderMap;
use prometheus::IntCounter;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use std::sync::{Arc, Mutex, PoisonError};

/// The memory tier.
pub(super) struct Memory {
    cache: Cache<u128, Arc<Variants>, ByOctets, RandomState, NameEvicted>,
    evictions: IntCounter,
    /// Held while an entry is replaced by one with a variant more, which is a read and a write.
    inserting: Mutex<()>,
}

/// What memory has for a key.
pub(super) enum Found {
    /// The response that the request selects.
    Response(Arc<StoredResponse>),
    /// Responses to requests with other values in these fields.
    OtherVariant(Selection),
    /// Nothing.
    Nothing,
}

/// The stored responses of one key, the newest first; never none.
struct Variants {
    parts: Bytes,
    responses: Vec<Arc<StoredResponse>>,
}

impl Memory {
    /// A tier of at most `bytes_max` octets.
    pub(super) fn new(bytes_max: u64, evictions: IntCounter) -> Memory {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity((bytes_max / TYPICAL_WEIGHT).clamp(64, 4 << 20) as usize)
            .weight_capacity(bytes_max)
            .build()
            .expect("capacity and estimate are set");
        Memory {
            cache: Cache::with_options(options, ByOctets, RandomState::new(), NameEvicted),
            evictions,
            inserting: Mutex::new(()),
        }
    }

    /// Looks for the response that the request selects.
    pub(super) fn lookup(&self, key: &CacheKey, request: &HeaderMap) -> Found {
        let Some(variants) = self.cache.get(&key.hash()).filter(|variants| variants.parts == key.parts()) else {
            return Found::Nothing;
        };
        match variants.responses.iter().find(|stored| stored.head.selection.matches(request)) {
            Some(stored) => Found::Response(stored.clone()),
            None => Found::OtherVariant(variants.responses[0].head.selection.clone()),
        }
    }

    /// Keeps a response, instead of the one that the same requests would have selected before, unless that one was asked for later.
    /// Says whether it did, or would have had there been room.
    pub(super) fn insert(&self, response: Arc<StoredResponse>) -> bool {
        let hash = response.key.hash();
        let parts = response.key.parts().clone();
        let _inserting = self.inserting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut responses = vec![response];
        if let Some(earlier) = self.cache.peek(&hash).filter(|earlier| earlier.parts == parts) {
            let new = &responses[0].head.selection;
            let requested = responses[0].head.times.requested;
            if earlier.responses.iter().any(|stored| stored.head.selection == *new && stored.head.times.requested > requested) {
                return false;
            }
            let others = earlier.responses.iter().filter(|stored| {
                // A response that stopped to vary replaces all that did, and the other way round.
                stored.head.selection != *new && stored.head.selection.names().eq(new.names())
            });
            let others: Vec<_> = others.take(VARIANTS_MAX - 1).cloned().collect();
            responses.extend(others);
        }
        let mut evicted = Vec::new();
        self.cache.insert_with_lifecycle(hash, Arc::new(Variants { parts, responses }), &mut evicted);
        // What it replaced, or was refused for its weight, was not dropped for room.
        self.evictions.inc_by(evicted.iter().filter(|key| **key != hash).count() as u64);
        true
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let _inserting = self.inserting.lock().unwrap_or_else(PoisonError::into_inner);
        self.cache.clear();
    }

    /// How many keys it holds.
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    /// How many octets it holds, by its own accounting.
    pub(super) fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// The heaviest response that it takes.
    pub(super) fn response_bytes_max(&self) -> u64 {
        self.cache.shard_capacity()
    }
}

#[derive(Clone)]
struct ByOctets;

impl Weighter<u128, Arc<Variants>> for ByOctets {
    fn weight(&self, _: &u128, variants: &Arc<Variants>) -> u64 {
        variants.responses.iter().map(|stored| stored.weight()).sum()
    }
}

/// Names the keys whose entries an insertion has put out.
#[derive(Clone)]
struct NameEvicted;

impl Lifecycle<u128, Arc<Variants>> for NameEvicted {
    type RequestState = Vec<u128>;

    fn on_evict(&self, evicted: &mut Vec<u128>, key: u128, _: Arc<Variants>) {
        evicted.push(key);
    }
}

/// Few, since a response heavier than a shard is refused: a quarter of the memory is the largest that is kept.
const SHARDS: usize = 4;

/// What the number of entries is guessed from, which sizes the memory of recently evicted keys.
const TYPICAL_WEIGHT: u64 = 3072;

/// How many variants of one key are kept; the ones not stored for longest go first.
const VARIANTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::tests::response;
    use super::*;
    use http::HeaderName;

    fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn evictions() -> IntCounter {
        IntCounter::new("evictions", "for tests").unwrap()
    }

    fn body(memory: &Memory, key: &str, request: &[(&'static str, &str)]) -> Option<Bytes> {
        match memory.lookup(&CacheKey::from_parts(key.to_owned().into()), &fields(request)) {
            Found::Response(stored) => Some(stored.body.clone()),
            Found::OtherVariant(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn variants_lie_side_by_side_and_the_newest_of_each_counts() {
        let memory = Memory::new(1 << 20, evictions());
        let insert = |language: &str, text: &str| {
            let request = fields(&[("accept-language", language)]);
            memory.insert(Arc::new(response("k", text, &["accept-language"], &request)));
        };
        insert("de", "hallo");
        insert("en", "hello");
        insert("en", "hello again");
        assert_eq!(body(&memory, "k", &[("accept-language", "de")]).as_deref(), Some(&b"hallo"[..]));
        assert_eq!(body(&memory, "k", &[("accept-language", "en")]).as_deref(), Some(&b"hello again"[..]));
        assert_eq!(body(&memory, "k", &[("accept-language", "fr")]), None);
        assert_eq!(body(&memory, "other", &[("accept-language", "en")]), None);
        let found = memory.lookup(&CacheKey::from_parts("k".into()), &fields(&[]));
        assert!(matches!(found, Found::OtherVariant(selection) if selection.names().eq([&http::header::ACCEPT_LANGUAGE])));

        memory.insert(Arc::new(response("k", "plain", &[], &fields(&[]))));
        assert_eq!(body(&memory, "k", &[("accept-language", "de")]).as_deref(), Some(&b"plain"[..]));
    }

    #[test]
    fn the_number_of_variants_has_a_bound() {
        let memory = Memory::new(16 << 20, evictions());
        for i in 0..VARIANTS_MAX + 10 {
            let request = fields(&[("accept", &i.to_string())]);
            memory.insert(Arc::new(response("k", &i.to_string(), &["accept"], &request)));
        }
        assert_eq!(body(&memory, "k", &[("accept", "9")]), None);
        assert!(body(&memory, "k", &[("accept", "10")]).is_some());
        assert!(body(&memory, "k", &[("accept", &(VARIANTS_MAX + 9).to_string())]).is_some());
    }

    #[test]
    fn memory_stays_within_its_bound_and_counts_what_it_evicts() {
        let evicted = evictions();
        let memory = Memory::new(1 << 20, evicted.clone());
        for i in 0..4_000 {
            memory.insert(Arc::new(response(&format!("key {i}"), &"x".repeat(2048), &[], &fields(&[]))));
        }
        assert!(memory.weight() <= 1 << 20, "{}", memory.weight());
        assert!(memory.len() > 250, "{}", memory.len());
        assert_eq!(evicted.get() as usize + memory.len(), 4_000);
    }

    #[test]
    fn a_response_heavier_than_the_tier_takes_is_not_kept_and_evicts_nothing() {
        let memory = Memory::new(1 << 20, evictions());
        memory.insert(Arc::new(response("small", "x", &[], &fields(&[]))));
        memory.insert(Arc::new(response("large", &"x".repeat(1 << 19), &[], &fields(&[]))));
        assert_eq!(body(&memory, "large", &[]), None);
        assert!(body(&memory, "small", &[]).is_some());
        assert_eq!(memory.response_bytes_max(), 1 << 18);
    }
}

//! What responses have told about their keys, so that the next request for one looks in the right place: by which fields they vary, and
//! which queries of a path are alike.

use super::Store;
use crate::rules::{CacheKey, Told, Unnamed};
use crate::semantics::no_vary_search::NoVarySearch;
use crate::semantics::vary::Selection;
use http::HeaderName;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

impl Store {
    /// The fields by which the responses of a key are known to vary.
    pub fn varies(&self, key: &CacheKey) -> Option<Arc<[HeaderName]>> {
        self.varies.get(&key.hash())
    }

    /// Notes by which fields the responses of a key vary.
    pub fn note_varies(&self, key: &CacheKey, selection: &Selection) {
        if !selection.is_empty() && !self.varies(key).is_some_and(|known| known.iter().eq(selection.names())) {
            self.varies.insert(key.hash(), selection.names().cloned().collect());
        }
    }

    /// What earlier responses of a key have told of the fields that matter to them.
    pub fn told(&self, key: &CacheKey) -> Told {
        Told { varies: self.varies(key), unnamed: self.unnamed.get(&key.hash()).unwrap_or_default() }
    }

    /// Notes which fields of content negotiation a response does not name, whose request had some of them.
    pub fn note_unnamed(&self, key: &CacheKey, unnamed: Unnamed) {
        match unnamed.is_empty() {
            true => drop(self.unnamed.remove(&key.hash())),
            false => self.unnamed.insert(key.hash(), unnamed),
        }
    }

    /// What the responses of a path are known to say, as far as can be told from a hash of it, about the parts of its queries that make no difference.
    pub fn query_rule(&self, path: &str) -> Option<Arc<NoVarySearch>> {
        self.query_rules.get(&xxh3_128(path.as_bytes()))
    }

    /// Notes what a response of a path says about its queries.
    pub fn note_query_rule(&self, path: &str, said: Option<NoVarySearch>) {
        match said {
            Some(said) => self.query_rules.insert(xxh3_128(path.as_bytes()), Arc::new(said)),
            None => drop(self.query_rules.remove(&xxh3_128(path.as_bytes()))),
        }
    }
}

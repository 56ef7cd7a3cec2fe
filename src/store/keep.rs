//! Keeping a response: in memory at once, and in Redis; by whoever fetched it, or set it.

use super::memory::SHARDS;
use super::redis::Redis;
use super::shared::Written;
use super::{Held, NotKept, ReplicaLease, Standing, Store, StoredResponse};
use std::sync::Arc;

/// What became of a response that somebody set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Every tier that can be used has it.
    Stored,
    /// The memory of this process has it; for Redis it is too large.
    HereAlone,
    /// Redis did not say that it has all of it.
    Unconfirmed,
    /// No tier has it.
    NotStored(NotKept),
}

impl Store {
    /// Whether a response that depends on these generations, and has a body of so many octets or more, would be kept, or why not.
    pub fn would_keep(&self, held: &Held, body_bytes: u64) -> Result<(), NotKept> {
        let (memory, redis) = (self.memory(), self.redis.as_ref().filter(|redis| redis.is_up()));
        let has_place = memory.is_some() || redis.is_some();
        let has_room = memory.is_some_and(|memory| body_bytes <= memory.bytes_max() / SHARDS as u64)
            || redis.is_some_and(|redis| body_bytes <= redis.options().value_bytes_max as u64);
        match (&self.redis, self.generations.standing(held, self.generations.epoch())) {
            (_, Standing::Broken) => Err(NotKept::Purged),
            (Some(redis), _) if redis.is_up() && held.values().is_none() => Err(NotKept::NoGeneration),
            // What is kept while Redis is away is read against it when it is back.
            _ if has_room => Ok(()),
            _ if has_place => Err(NotKept::TooLarge),
            _ => Err(NotKept::Nowhere),
        }
    }

    /// Keeps a response: in memory at once, in Redis in the background. What a purge has come for meanwhile is not kept.
    ///
    /// A lease is given back when Redis has the response, or when it is known that it won't.
    pub fn insert(self: &Arc<Store>, response: StoredResponse, lease: Option<ReplicaLease>) -> Arc<StoredResponse> {
        let kept = self.would_keep(&response.held, response.body.len() as u64);
        let held = response.held.clone().stored();
        let response = Arc::new(self.alone(StoredResponse { held, ..response }));
        self.note_varies(&response.key, &response.head.selection);
        // What is too large for memory takes the place of what was there before all the same.
        if kept.is_err_and(|why| why != NotKept::TooLarge) {
            return response;
        }
        // A slow body may end after a later fetch of the same was stored; the later one stays.
        let epoch = self.generations.epoch();
        let is_newest = self.memory().is_none_or(|memory| memory.insert(response.clone(), epoch));
        if is_newest && self.redis.as_ref().is_some_and(Redis::is_up) {
            let (store, response) = (self.clone(), response.clone());
            self.tasks.spawn(async move {
                store.write_redis(&response).await;
                drop(lease);
            });
        }
        response
    }

    /// Keeps a response that somebody sets, and waits until Redis has it.
    pub async fn put(&self, response: StoredResponse) -> Put {
        if let Err(why) = self.would_keep(&response.held, response.body.len() as u64) {
            return Put::NotStored(why);
        }
        let response = Arc::new(self.alone(response));
        self.note_varies(&response.key, &response.head.selection);
        let memory = self.memory();
        if let Some(memory) = memory {
            memory.insert(response.clone(), self.generations.epoch());
        }
        match &self.redis {
            Some(redis) if redis.is_up() => match (self.write_redis(&response).await, memory) {
                (Written::Taken, _) => Put::Stored,
                (Written::TooLarge, Some(_)) => Put::HereAlone,
                (Written::TooLarge, None) => Put::NotStored(NotKept::TooLarge),
                (Written::Not, _) => Put::Unconfirmed,
            },
            _ => Put::Stored,
        }
    }
}

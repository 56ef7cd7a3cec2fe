//! Looking at what there is for a request, for those who ask why it is answered as it is. It leaves no trace: nothing is counted as used,
//! taken into memory, forgotten, or made in Redis. What is read of generations is known from then on, as after any reading.

use super::held::Standing;
use super::memory::Found;
use super::reading::{Read, Reading};
use super::record::Record;
use super::redis::Unavailable;
use super::{Budget, Lookup, Remembered, Store, StoredResponse};
use crate::rules::{CacheKey, Scopes};
use http::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What there is for a request.
#[derive(Debug, Clone)]
pub struct Look {
    /// What the request would find.
    pub lookup: Lookup,
    /// What memory holds of it, whether or not it may be used.
    pub memory: Option<Stands>,
    /// What Redis holds of it, whether or not it may be used.
    pub redis: Option<Stands>,
    /// Redis is there, and gave no answer in time.
    pub redis_is_silent: bool,
    /// How many variants of the key are in memory.
    pub variants_in_memory: usize,
    /// The fields by which the responses of the key are known to vary.
    pub varies: Option<Arc<[HeaderName]>>,
}

/// A stored response, and how it stands by its generations.
#[derive(Debug, Clone)]
pub struct Stands {
    /// The response.
    pub stored: Arc<StoredResponse>,
    /// How it stands.
    pub standing: Standing,
}

impl Store {
    /// Looks at what there is for a request. `scopes` are those that it tells.
    pub async fn look(&self, key: &CacheKey, request: &HeaderMap, scopes: &Scopes, now: SystemTime) -> Look {
        let peeked = self.memory.as_ref().map_or(Found::Nothing, |memory| memory.peek(key, request, now));
        let (in_memory, remembered) = match peeked {
            Found::Response(stored, checked) => {
                let standing = self.standing_here(&stored, checked);
                (Some(stored.clone()), Remembered::Stored(stored, standing))
            }
            Found::OtherVariant(_) => (None, Remembered::OtherVariant),
            Found::Nothing => (None, Remembered::Nothing),
        };
        let remembered = match remembered {
            Remembered::Stored(_, Standing::Broken) => Remembered::Nothing,
            _ if self.memory().is_none() => Remembered::Nothing,
            remembered => remembered,
        };
        let is_to_be_asked = self.redis_to_ask(&remembered, now).is_some();
        let redis = self.redis.as_ref().filter(|redis| redis.is_up());
        let reading = redis.map(|redis| Reading { is_look: true, ..Reading::new(redis, self.trusted_since(redis)) });
        let lookup = match &reading {
            Some(reading) if is_to_be_asked => {
                self.consult(reading, key, request, scopes, remembered, &mut self.budget()).await.0
            }
            _ => self.without_redis(key, remembered),
        };
        let redis = match &reading {
            Some(reading) => self.look_in_redis(reading, key, request, scopes, &mut self.budget()).await,
            None => Ok(None),
        };
        // By now its generations are known, if Redis could be asked.
        let since = reading.map_or(self.generations.epoch(), |reading| reading.since);
        let memory = in_memory.map(|stored| {
            let standing = self.generations.standing(&stored.held, since);
            Stands { stored, standing }
        });
        let (redis, redis_is_silent) = redis.map_or((None, true), |redis| (redis, false));
        let variants_in_memory = self.memory.as_ref().map_or(0, |memory| memory.variants(key).len());
        Look { lookup, memory, redis, redis_is_silent, variants_in_memory, varies: self.varies(key) }
    }

    async fn look_in_redis(
        &self,
        reading: &Reading<'_>,
        key: &CacheKey,
        request: &HeaderMap,
        scopes: &Scopes,
        budget: &mut Budget,
    ) -> Result<Option<Stands>, Unavailable> {
        let look = async |deadline| match self.read(reading, key, request, scopes, None, deadline).await {
            Ok(Read::Response(stored, standing)) => Ok(Some(Stands { stored, standing })),
            Ok(Read::OtherVariant(..) | Read::Nothing(_)) => self.remains(reading, key, request, scopes, deadline).await,
            Err(why) => Err(why),
        };
        budget.spend(look).await
    }

    /// What lies in Redis and is no answer any more.
    async fn remains(
        &self,
        reading: &Reading<'_>,
        key: &CacheKey,
        request: &HeaderMap,
        scopes: &Scopes,
        deadline: Instant,
    ) -> Result<Option<Stands>, Unavailable> {
        let names = self.names(reading.redis, key, self.varies(key).as_deref(), request);
        let values = self.ask(reading, &names, Vec::new(), deadline).await?;
        for (name, value) in names.iter().zip(values) {
            if let Some(Record::Response(recorded)) = value.and_then(|value| self.decode(reading.redis, key, name, value))
                && recorded.head.selection.matches(request)
                && let Some((stored, standing)) = self.stand(reading, *recorded, scopes, deadline).await?
            {
                return Ok(Some(Stands { stored, standing }));
            }
        }
        Ok(None)
    }
}

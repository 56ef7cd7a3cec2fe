//! Where stored responses live: in this process (`memory`), and in a Redis that all replicas share (`redis`).
//!
//! | file | what |
//! |---|---|
//! | `response` | a stored response |
//! | `memory` | the tier in this process |
//! | `redis` | the shared tier: its connection, breaker and supervisor |
//! | `record` | the value of a key in Redis |
//! | `options` | how the tiers are set up |
//!
//! Redis down, slow or lying is an answer ([`Lookup::Unavailable`]), never an error.

mod memory;
mod options;
mod record;
mod redis;
mod response;

pub use self::redis::State as RedisState;
pub use options::{MemoryOptions, Options, RedisOptions, WhenDown};
pub use response::StoredResponse;

use self::redis::{Redis, Unavailable};
use crate::clock::Clock;
use crate::rules::CacheKey;
use crate::semantics::vary::Selection;
use crate::stats::Stats;
use crate::tasks::Tasks;
use http::{HeaderMap, HeaderName};
use memory::{Found, Memory};
use quick_cache::sync::Cache;
use record::Record;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The owner of all stored responses.
pub struct Store {
    options: Options,
    memory: Option<Memory>,
    redis: Option<Redis>,
    /// By which fields the responses of a key in Redis vary, so that one round trip finds the right one.
    varies: Cache<u128, Arc<[HeaderName]>>,
    /// Counts up when memory is emptied: what was read before must not be put in after.
    epoch: AtomicU64,
    stats: Arc<Stats>,
    tasks: Tasks,
    clock: Clock,
}

/// Where a stored response was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
}

/// What the tiers have for a request.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// A stored response, fresh or stale.
    Found(Tier, Arc<StoredResponse>),
    /// Nothing under this key.
    Nothing,
    /// Responses to requests with other values in the selecting fields (RFC 9111 §4.1).
    OtherVariant,
    /// Memory has nothing, and Redis could not be asked.
    Unavailable,
}

/// The state of the tiers, for those who operate them.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Keys in memory.
    pub memory_keys: usize,
    /// Octets in memory, by its own accounting.
    pub memory_bytes: u64,
    /// Octets that memory may take.
    pub memory_bytes_max: u64,
    /// The largest response that memory takes.
    pub memory_response_bytes_max: u64,
    /// The state of Redis, if there is to be one.
    pub redis: Option<RedisState>,
}

impl Tier {
    /// The tier's name in header, metrics and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Memory => "memory",
            Tier::Redis => "redis",
        }
    }
}

impl Store {
    /// Opens the tiers, and begins to connect to Redis in the background.
    pub fn open(options: Options, stats: Arc<Stats>, tasks: Tasks, clock: Clock) -> Arc<Store> {
        let bytes_max = options.memory.bytes_max;
        let memory = (bytes_max > 0).then(|| Memory::new(bytes_max, stats.memory_evictions.clone()));
        let redis = options.redis.clone().map(|redis| Redis::new(redis, stats.clone(), clock.clone()));
        let varies = Cache::new(VARIES_MAX);
        let store = Arc::new(Store { memory, redis, varies, epoch: AtomicU64::new(0), options, stats, tasks, clock });
        if let Some(redis) = store.redis.clone() {
            let on_loss = {
                let store = Arc::downgrade(&store);
                move || {
                    if let Some(store) = store.upgrade() {
                        store.redis_was_lost();
                    }
                }
            };
            store.tasks.spawn_until_stop(redis::supervise(redis, on_loss));
        }
        store
    }

    /// Looks for the response that a request selects: in memory, then in Redis.
    pub async fn lookup(&self, key: &CacheKey, request: &HeaderMap, now: SystemTime) -> Lookup {
        let in_memory = self.lookup_memory(key, request, now);
        match (&self.redis, in_memory) {
            // A stale response in memory may be fresh in Redis, if another replica fetched it again meanwhile.
            (Some(redis), Lookup::Found(tier, stored)) if !stored.head.is_fresh(now) => {
                match self.lookup_redis(redis, key, request).await {
                    Lookup::Found(tier, newer) if newer.head.times.received > stored.head.times.received => {
                        Lookup::Found(tier, newer)
                    }
                    _ => Lookup::Found(tier, stored),
                }
            }
            (Some(redis), Lookup::Nothing | Lookup::OtherVariant) => self.lookup_redis(redis, key, request).await,
            (_, in_memory) => in_memory,
        }
    }

    /// Looks in memory alone, at once.
    pub fn lookup_memory(&self, key: &CacheKey, request: &HeaderMap, now: SystemTime) -> Lookup {
        let Some(memory) = self.memory(now) else {
            return Lookup::Nothing;
        };
        match memory.lookup(key, request) {
            Found::Response(stored) => Lookup::Found(Tier::Memory, stored),
            Found::OtherVariant(selection) => {
                self.note_varies(key, &selection);
                Lookup::OtherVariant
            }
            Found::Nothing => Lookup::Nothing,
        }
    }

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

    /// Whether there is Redis beside memory.
    pub fn has_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Whether a response would be kept anywhere.
    pub fn takes_responses(&self, now: SystemTime) -> bool {
        self.memory(now).is_some() || self.redis.as_ref().is_some_and(Redis::is_up)
    }

    /// Keeps a response: in memory at once, in Redis in the background.
    pub fn insert(self: &Arc<Store>, response: StoredResponse) -> Arc<StoredResponse> {
        let now = self.clock.now();
        let response = Arc::new(response);
        self.note_varies(&response.key, &response.head.selection);
        // A slow body may end after a later fetch of the same was stored; the later one stays.
        let is_newest = self.memory(now).is_none_or(|memory| memory.insert(response.clone()));
        if is_newest && self.redis.as_ref().is_some_and(Redis::is_up) {
            let (store, response) = (self.clone(), response.clone());
            self.tasks.spawn(async move { store.write_redis(&response, now).await });
        }
        response
    }

    /// The state of the tiers.
    pub fn snapshot(&self) -> Snapshot {
        let memory = self.memory.as_ref();
        Snapshot {
            memory_keys: memory.map_or(0, Memory::len),
            memory_bytes: memory.map_or(0, Memory::weight),
            memory_bytes_max: self.options.memory.bytes_max,
            memory_response_bytes_max: memory.map_or(0, Memory::response_bytes_max),
            redis: self.redis.as_ref().map(Redis::state),
        }
    }

    /// Memory, where it may be used: while Redis is lost it may miss what other replicas do, which `when_down` decides about.
    fn memory(&self, now: SystemTime) -> Option<&Memory> {
        self.memory.as_ref().filter(|_| self.redis.as_ref().is_none_or(|redis| redis.lets_memory_serve(now)))
    }

    async fn lookup_redis(&self, redis: &Redis, key: &CacheKey, request: &HeaderMap) -> Lookup {
        let epoch = self.epoch.load(Ordering::Acquire);
        // All Redis work of a request draws on one budget, also when a second round trip is needed.
        let deadline = Instant::now() + redis.options().budget;
        match self.read_redis(redis, key, request, deadline).await {
            Err(_) => Lookup::Unavailable,
            Ok(Read::Nothing) => Lookup::Nothing,
            Ok(Read::OtherVariant) => Lookup::OtherVariant,
            Ok(Read::Response(stored)) => {
                let stored = Arc::new(*stored);
                if self.epoch.load(Ordering::Acquire) == epoch
                    && let Some(memory) = self.memory(self.clock.now())
                {
                    memory.insert(stored.clone());
                }
                Lookup::Found(Tier::Redis, stored)
            }
        }
    }

    async fn read_redis(
        &self,
        redis: &Redis,
        key: &CacheKey,
        request: &HeaderMap,
        deadline: Instant,
    ) -> Result<Read, Unavailable> {
        let known = self.varies(key);
        let mut names = vec![self.redis_name(redis, key, None)];
        if let Some(known) = &known {
            names.push(self.redis_name(redis, key, Some(&Selection::of(known, request))));
        }
        let mut values = redis.read(&names, deadline).await?.into_iter();
        let first = values.next().flatten().and_then(|value| self.decode(key, value));
        let varies = match first {
            None => return Ok(Read::Nothing),
            Some(Record::Response(stored)) => {
                return Ok(match stored.head.selection.is_empty() {
                    true => Read::Response(stored),
                    // A variant lies under a name of its own; one under the key's own name was put there by somebody else.
                    false => Read::Nothing,
                });
            }
            Some(Record::Varies { names, .. }) => names,
        };
        let second = match known.is_some_and(|known| *known == *varies) {
            true => values.next().flatten(),
            false => {
                self.varies.insert(key.hash(), varies.clone().into());
                let name = self.redis_name(redis, key, Some(&Selection::of(&varies, request)));
                redis.read(&[name], deadline).await?.pop().flatten()
            }
        };
        Ok(match second.and_then(|value| self.decode(key, value)) {
            Some(Record::Response(stored)) if stored.head.selection.matches(request) => Read::Response(stored),
            _ => Read::OtherVariant,
        })
    }

    /// Decodes a value, if it is ours, whole, and of this very key.
    fn decode(&self, key: &CacheKey, value: bytes::Bytes) -> Option<Record> {
        let record = record::decode(value);
        let is_of_key = |record: &Record| match record {
            Record::Response(stored) => stored.key == *key,
            Record::Varies { key: theirs, .. } => theirs == key,
        };
        match record {
            Ok(record) if is_of_key(&record) => Some(record),
            refused => {
                self.stats.redis.errors_value.inc();
                let error = refused.err().map_or("the value is of another key".to_owned(), |error| error.to_string());
                tracing::debug!(%key, error, "redis_value_refused");
                None
            }
        }
    }

    async fn write_redis(&self, response: &StoredResponse, now: SystemTime) {
        let Some(redis) = &self.redis else { return };
        let keep = response.keep_for(now, self.options.keep_stale);
        if keep.is_zero() {
            return;
        }
        let value = record::encode(response);
        if value.len() > redis.options().value_bytes_max {
            return;
        }
        let selection = &response.head.selection;
        let own = self.redis_name(redis, &response.key, None);
        let mut values = Vec::with_capacity(2);
        if selection.is_empty() {
            values.push((own, value, keep));
        } else {
            let names: Vec<HeaderName> = selection.names().cloned().collect();
            let varies = record::encode_varies(&response.key, &names);
            values.push((own, varies, keep.max(VARIES_KEPT_MIN)));
            values.push((self.redis_name(redis, &response.key, Some(selection)), value, keep));
        }
        redis.write(values).await;
    }

    /// The name of a key in Redis. The braces keep a key and its variants on one node of a cluster.
    fn redis_name(&self, redis: &Redis, key: &CacheKey, selection: Option<&Selection>) -> String {
        let prefix = &redis.options().prefix;
        match selection {
            None => format!("{prefix}:{SCHEMA}:{{{key}}}"),
            Some(selection) => format!("{prefix}:{SCHEMA}:{{{key}}}:{:032x}", key.variant(selection)),
        }
    }

    /// While Redis was away, other replicas may have replaced what memory holds; so memory begins anew.
    fn redis_was_lost(&self) {
        let must_forget = self.redis.as_ref().is_some_and(|redis| redis.options().when_down == WhenDown::PassThrough);
        if let Some(memory) = self.memory.as_ref().filter(|_| must_forget) {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            memory.clear();
        }
    }
}

/// What Redis has for a request.
enum Read {
    Response(Box<StoredResponse>),
    OtherVariant,
    Nothing,
}

/// Checks a Redis URL without connecting, in words for the person who wrote it.
pub fn check_redis_url(url: &str) -> Result<(), String> {
    redis::check_url(url)
}

/// Where a Redis URL points to, without user and password.
pub fn display_redis_url(url: &str) -> String {
    redis::display_url(url)
}

/// The version of the names and values in Redis.
const SCHEMA: u32 = 1;

/// For so many keys it is remembered by which fields they vary.
const VARIES_MAX: usize = 16_384;

/// The list of names must not go before the variants that it leads to.
const VARIES_KEPT_MIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::semantics::freshness::{Lifetime, Source};
    use crate::semantics::{StoredHead, Times};
    use http::StatusCode;

    /// A stored response of 60 seconds, to a request with these fields, of which `vary` selected it.
    pub(crate) fn response(key: &str, body: &str, vary: &[&'static str], request: &HeaderMap) -> StoredResponse {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let names: Vec<HeaderName> = vary.iter().map(|name| HeaderName::from_static(name)).collect();
        let head = StoredHead::new(
            StatusCode::OK,
            [(http::header::ETAG, "\"v1\"".parse().unwrap())].into_iter().collect(),
            Times { requested: received, received },
            Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge },
            Selection::of(&names, request),
        );
        StoredResponse { key: CacheKey::from_parts(key.to_owned().into()), head, body: body.to_owned().into(), tags: Vec::new() }
    }
}

//! Where stored responses live: in this process (`memory`), and in a Redis that all replicas share (`redis`).
//!
//! | file | what |
//! |---|---|
//! | `response` | a stored response |
//! | `keep` | keeping one, in both tiers |
//! | `generations` | what makes purges exact |
//! | `held` | the generations that a stored response depends on |
//! | `holding` | what a fetch holds on to before it begins |
//! | `memory` | the tier in this process |
//! | `look` | looking at what there is for a request, without a trace |
//! | `ledger` | the octets that are held for clients beside it |
//! | `shared` | the tier that all replicas share: what lies in Redis, and how it is read and written |
//! | `reading` | what Redis has for a request, and whether it may be used |
//! | `again` | a response that Redis had for a request, read again |
//! | `redis` | the connection to Redis, its breaker and supervisor, and what is heard over it |
//! | `record` | the value of a key in Redis |
//! | `purge` | purging, and hearing of purges |
//! | `journal` | the latest purges |
//! | `sweep` | looking at everything, to erase |
//! | `jobs` | purges by patterns that no scope has |
//! | `replicas` | what replicas ask one another |
//! | `learned` | what responses have told about their keys |
//! | `variants` | which variants of a key there are beside the one that a request selects, and how many may be in Redis |
//! | `lease` | one fetch for all replicas |
//! | `options`, `container` | how the tiers are set up, and what of that can change; how much memory the container may use |
//!
//! Redis down, slow or lying is an answer ([`Lookup::Unavailable`]), never an error.

mod again;
mod container;
mod generations;
mod held;
mod holding;
mod jobs;
mod journal;
mod keep;
mod learned;
mod lease;
mod ledger;
mod look;
mod memory;
mod options;
mod purge;
mod reading;
mod record;
mod redis;
mod replicas;
mod response;
mod seal;
mod shared;
mod sweep;
mod variants;

pub use self::redis::{Hearing, State as RedisState};
pub use again::{TRAIL_BYTES, Trail};
pub use held::{Held, Standing};
pub use holding::{Watch, WatchMark, watches_of};
pub use jobs::Job;
pub use keep::Put;
pub use lease::{Competed, ReplicaLease, Waited};
pub use ledger::{Holding, Ledger};
pub use look::{Look, Stands};
pub use options::{EncryptionKey, MemoryOptions, Options, RedisOptions, WhenDown};
pub use purge::Reach;
#[doc(hidden)]
pub use record::reencode;
pub use replicas::{Answers, Question};
pub use response::{NotKept, StoredResponse};
#[doc(hidden)]
pub use seal::Trial;
pub use shared::Budget;
pub use sweep::{Erased, Swept};

use self::redis::{Listener, Redis};
use crate::clock::Clock;
use crate::rules::{CacheKey, ScopeName, Scopes, Unnamed, watch};
use crate::semantics::candidates::Candidate;
use crate::semantics::no_vary_search::NoVarySearch;
use crate::stats::Stats;
use crate::tasks::Tasks;
use generations::{Cell, Generations};
use http::{HeaderMap, HeaderName};
use jobs::Jobs;
use journal::Journal;
use lease::Waiting;
use memory::{Found, Memory};
use quick_cache::sync::Cache;
use reading::Finds;
use replicas::Asked;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// The owner of all stored responses.
pub struct Store {
    /// How long a stale response that has a validator is kept, in milliseconds.
    keep_stale_ms: AtomicU64,
    memory: Option<Memory>,
    ledger: Arc<Ledger>,
    redis: Option<Redis>,
    generations: Generations,
    /// The epoch in which Redis began to be used last.
    connected_in: AtomicU64,
    /// How often something was found there lately.
    finds: Finds,
    /// By which fields the responses of a key in Redis vary, so that one round trip finds the right one.
    varies: Cache<u128, Arc<[HeaderName]>>,
    /// Which fields of content negotiation the responses of a key leave out of `Vary`.
    unnamed: Cache<u128, Unnamed>,
    /// Which scopes a response in Redis lies in beside those that the request tells, so that one round trip reads all generations.
    tagged: Cache<u128, Arc<[ScopeName]>>,
    /// What the latest response of a path said about the parts of its queries that make no difference.
    query_rules: Cache<u128, Arc<NoVarySearch>>,
    /// What fetches watch.
    watched: [Arc<Cell>; watch::COUNT],
    /// Keys that another replica fetches.
    waiting: Waiting,
    /// Questions of other replicas.
    asked: Asked,
    journal: Arc<Journal>,
    jobs: Jobs,
    /// When the responses in Redis were counted last, and how many there were.
    counted: Mutex<Option<(Instant, u64)>>,
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
    /// A stored response that is stale because of a soft purge, whatever its age.
    Softened(Tier, Arc<StoredResponse>),
    /// Nothing under this key.
    Nothing,
    /// Responses to requests with other values in the selecting fields (RFC 9111 §4.1), and those of them that the origin can be asked
    /// about.
    OtherVariant(Vec<Candidate>),
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
    /// Octets of bodies that are held for clients beside it.
    pub beside_bytes: u64,
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
        let ledger = Ledger::new(bytes_max);
        let evictions = stats.memory_evictions.clone();
        let memory = (bytes_max > 0).then(|| Memory::new(bytes_max, evictions, clock.clone(), ledger.clone()));
        let redis = options.redis.clone().map(|redis| Redis::new(redis, stats.clone(), clock.clone()));
        let generations = Generations::new(redis.is_some(), clock.clone());
        let store = Arc::new(Store {
            memory,
            ledger,
            watched: watch::NAMES.map(|name| generations.cell(name)),
            generations,
            connected_in: AtomicU64::new(0),
            finds: Finds::default(),
            redis,
            varies: Cache::new(VARIES_MAX),
            unnamed: Cache::new(VARIES_MAX),
            tagged: Cache::new(VARIES_MAX),
            query_rules: Cache::new(VARIES_MAX),
            waiting: Waiting::default(),
            asked: Asked::new(options.redis.as_ref().map_or(Duration::ZERO, |redis| redis.heartbeat)),
            journal: Arc::default(),
            jobs: Jobs::default(),
            counted: Mutex::default(),
            keep_stale_ms: AtomicU64::new(options.keep_stale.as_millis() as u64),
            stats,
            tasks,
            clock,
        });
        if let Some(redis) = store.redis.clone() {
            let weak = Arc::downgrade(&store);
            let listener: Listener = Arc::new(move |news| {
                if let Some(store) = weak.upgrade() {
                    store.hear(news);
                }
            });
            store.tasks.spawn_until_stop(Store::watch_others(Arc::downgrade(&store)));
            store.tasks.spawn_until_stop(redis::supervise(redis, listener));
        }
        store
    }

    /// The account of what is held for clients beside the memory tier.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// What one request may spend on Redis.
    pub fn budget(&self) -> Budget {
        Budget(self.redis.as_ref().map_or(Duration::ZERO, |redis| redis.options().budget))
    }

    /// Looks for the response that a request selects: in memory, then in Redis. `scopes` are those that the request tells.
    pub async fn lookup<'a>(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        scopes: impl FnOnce() -> &'a Scopes,
        budget: &mut Budget,
        now: SystemTime,
    ) -> Lookup {
        let remembered = self.remembered(key, request, now);
        match self.redis_to_ask(&remembered, now) {
            Some(redis) => Box::pin(self.lookup_redis(redis, key, request, scopes(), remembered, budget)).await,
            None => self.without_redis(key, remembered),
        }
    }

    /// Redis, if it is to be asked beside what memory has: not where that is fresh and holds, and not while Redis is away.
    fn redis_to_ask(&self, remembered: &Remembered, now: SystemTime) -> Option<&Redis> {
        let redis = self.redis.as_ref()?;
        let is_enough = match remembered {
            Remembered::Stored(stored, Standing::Holds | Standing::Softened) => stored.head.is_fresh(now),
            _ => false,
        };
        (!is_enough && redis.is_up()).then_some(redis)
    }

    /// What a request finds that does not ask Redis.
    fn without_redis(&self, key: &CacheKey, remembered: Remembered) -> Lookup {
        match remembered {
            Remembered::OtherVariant if self.redis.is_none() => Lookup::OtherVariant(self.candidates_in_memory(key)),
            remembered if self.redis.is_none() => remembered.lookup(),
            // While Redis is away, memory goes on with what it had, if it may; but not with what was heard to have changed.
            Remembered::Stored(stored, Standing::Unverified) => match self.generations.is_softened(&stored.held) {
                true => Lookup::Softened(Tier::Memory, stored),
                false => Lookup::Found(Tier::Memory, stored),
            },
            Remembered::Stored(_, Standing::Holds | Standing::Softened) => remembered.lookup(),
            _ => Lookup::Unavailable,
        }
    }

    /// Looks in memory alone, at once.
    pub fn lookup_memory(&self, key: &CacheKey, request: &HeaderMap, now: SystemTime) -> Lookup {
        self.remembered(key, request, now).lookup()
    }

    /// Whether there is Redis beside memory.
    pub fn has_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// The state of the tiers.
    pub fn snapshot(&self) -> Snapshot {
        let memory = self.memory.as_ref();
        Snapshot {
            memory_keys: memory.map_or(0, Memory::len),
            memory_bytes: memory.map_or(0, Memory::weight),
            memory_bytes_max: memory.map_or(0, Memory::bytes_max),
            beside_bytes: self.ledger.octets(),
            memory_response_bytes_max: memory.map_or(0, Memory::response_bytes_max),
            redis: self.redis.as_ref().map(Redis::state),
        }
    }

    /// Memory, where it may be used: while Redis is lost it may miss what other replicas do, which `when_down` decides about.
    fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref().filter(|_| self.redis.as_ref().is_none_or(|redis| redis.lets_memory_serve()))
    }

    /// What memory has, and how it stands.
    fn remembered(&self, key: &CacheKey, request: &HeaderMap, now: SystemTime) -> Remembered {
        let Some(memory) = self.memory() else {
            return Remembered::Nothing;
        };
        match memory.lookup(key, request, now) {
            Found::Response(stored, checked) => {
                let standing = self.standing_here(&stored, checked);
                if standing == Standing::Broken {
                    memory.forget(&stored);
                    return Remembered::Nothing;
                }
                Remembered::Stored(stored, standing)
            }
            Found::OtherVariant(selection) => {
                self.note_varies(key, &selection);
                Remembered::OtherVariant
            }
            Found::Nothing => Remembered::Nothing,
        }
    }

    /// How a response in memory stands that was known to be Redis' own in the epoch `checked`.
    fn standing_here(&self, stored: &StoredResponse, checked: u64) -> Standing {
        let mut standing = self.generations.standing(&stored.held, self.generations.epoch());
        if let Some(redis) = &self.redis
            && (checked != self.generations.epoch() || !redis.is_heard())
        {
            // Nothing is known of a purge, but there may be a newer response, or news that did not reach us.
            standing = standing.max(Standing::Unverified);
        }
        if checked < self.connected_in.load(Ordering::Acquire) {
            // It is from before an outage, and was not read against Redis since that; in the next one it is of no use.
            standing = standing.max(Standing::Doubted);
        }
        standing
    }
}

/// What memory has for a request.
enum Remembered {
    Stored(Arc<StoredResponse>, Standing),
    OtherVariant,
    Nothing,
}

impl Remembered {
    /// What can be said without asking Redis.
    fn lookup(self) -> Lookup {
        match self {
            Remembered::Stored(stored, Standing::Holds) => Lookup::Found(Tier::Memory, stored),
            Remembered::Stored(stored, Standing::Softened) => Lookup::Softened(Tier::Memory, stored),
            Remembered::OtherVariant => Lookup::OtherVariant(Vec::new()),
            Remembered::Stored(..) | Remembered::Nothing => Lookup::Nothing,
        }
    }
}

/// Checks a Redis URL without connecting, in words for the person who wrote it.
pub fn check_redis_url(url: &str) -> Result<(), String> {
    redis::check_url(url)
}

/// Where a Redis URL points to, without user and password.
pub fn display_redis_url(url: &str) -> String {
    redis::display_url(url)
}

/// For so many keys it is remembered by which fields they vary, and which tags their responses brought; and for so many paths, which
/// queries are alike.
const VARIES_MAX: usize = 16_384;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rules::Scope;
    use crate::semantics::freshness::{Lifetime, Source};
    use crate::semantics::vary::Selection;
    use crate::semantics::{StoredHead, Terms, Times};
    use http::StatusCode;

    /// A stored response of 60 seconds, to a request with these fields, of which `vary` selected it.
    pub(crate) fn response(key: &str, body: &str, vary: &[&'static str], request: &HeaderMap) -> StoredResponse {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let names: Vec<HeaderName> = vary.iter().map(|name| HeaderName::from_static(name)).collect();
        let head = StoredHead::new(
            StatusCode::OK,
            [(http::header::ETAG, "\"v1\"".parse().unwrap())].into_iter().collect(),
            Times { requested: received, received },
            Terms::plain(Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge }),
            Selection::of(&names, request),
        );
        let generations = Generations::new(false, Clock::movable());
        let held = generations.hold([generations.cell(Scope::All.name())]);
        let key = CacheKey::from_parts(key.as_bytes());
        StoredResponse { key, head, body: body.to_owned().into(), tags: Box::default(), held }
    }

    /// Runs a scenario in so many random orders, with stacks that are large enough for what is made on them.
    #[cfg(feature = "shuttle")]
    pub(crate) fn explore(scenario: impl Fn() + Send + Sync + 'static, orders: usize) {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 20;
        shuttle::Runner::new(shuttle::scheduler::RandomScheduler::new(orders), config).run(scenario);
    }
}

//! How the tiers are set up.

use super::container::container_memory;
use super::redis::certificates;
use super::{Store, display_redis_url};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is stored, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long a stale response that has a validator is kept, so that the origin can confirm it.
    pub keep_stale: Duration,
    /// The memory tier.
    pub memory: MemoryOptions,
    /// The Redis tier, if there is one.
    pub redis: Option<RedisOptions>,
}

/// The tier in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Octets for all stored responses, their overhead included; zero for no memory tier.
    pub bytes_max: u64,
}

/// The tier that all replicas share.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// Where Redis is: `redis:`, `rediss:`, `unix:` or `redis+unix:`, with user, password and database number as Redis' own tools take them;
    /// or, with `+sentinel` behind the scheme, who knows where it is, and under which name; or, with `+cluster`, some nodes of a cluster.
    pub url: String,
    /// The authorities that are trusted over TLS, instead of those of the system: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// What is shown to a Redis that asks for a certificate, and its key: PEM files.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// What every key begins with.
    pub prefix: String,
    /// What replicas share that nobody else knows: with it, names in Redis cannot be guessed, nor values forged.
    pub secret: Option<String>,
    /// The keys that values are sealed with. The first one seals, all of them open.
    pub encryption: Vec<EncryptionKey>,
    /// All the time that one request may spend on Redis.
    pub budget: Duration,
    /// What happens while Redis cannot be used.
    pub when_down: WhenDown,
    /// How long memory goes on by itself while Redis is down.
    pub memory_ttl_when_down: Duration,
    /// How long connecting may take, in the background.
    pub connect_timeout: Duration,
    /// How long a write may take, in the background, and a purge.
    pub write_timeout: Duration,
    /// How often a sign of life is exchanged. What memory holds is relied on for three of them without one.
    pub heartbeat: Duration,
    /// How long a replica waits for what another one fetches, on routes that collapse across replicas.
    pub lease: Duration,
    /// Commands under way at once; more go without Redis.
    pub commands_max: usize,
    /// The largest value that is written or read.
    pub value_bytes_max: usize,
}

/// A key that values in Redis are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    /// What it is known by. It stands in each value that it has sealed.
    pub name: String,
    /// The key itself: random octets.
    pub octets: [u8; 32],
}

/// What happens while Redis cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenDown {
    /// Every request is forwarded.
    PassThrough,
    /// Memory goes on serving and storing, for a while.
    Memory,
}

impl Default for Options {
    fn default() -> Options {
        Options { keep_stale: Duration::from_secs(3600), memory: MemoryOptions::share(DEFAULT_SHARE), redis: None }
    }
}

impl MemoryOptions {
    /// So many percent of the memory that the container may use; where nobody limits that, a size that most machines have.
    pub fn share(percent: u8) -> MemoryOptions {
        let bytes_max = container_memory().map_or(UNLIMITED_SIZE, |limit| limit / 100 * u64::from(percent));
        MemoryOptions { bytes_max }
    }
}

impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password, so only where it points to is shown.
        let mut shown = f.debug_struct("RedisOptions");
        shown.field("url", &display_redis_url(&self.url)).field("prefix", &self.prefix).field("budget", &self.budget);
        shown.field("ca_file", &self.ca_file).field("client_certificate", &self.client_certificate);
        let encryption: Vec<&str> = self.encryption.iter().map(|key| key.name.as_str()).collect();
        shown.field("has_secret", &self.secret.is_some()).field("encryption", &encryption);
        shown.field("when_down", &self.when_down).field("memory_ttl_when_down", &self.memory_ttl_when_down);
        shown.field("connect_timeout", &self.connect_timeout).field("write_timeout", &self.write_timeout);
        shown.field("heartbeat", &self.heartbeat).field("lease", &self.lease);
        shown.field("commands_max", &self.commands_max).field("value_bytes_max", &self.value_bytes_max).finish()
    }
}

impl RedisOptions {
    /// The defaults, for a Redis at `url`.
    pub fn new(url: &str) -> RedisOptions {
        RedisOptions {
            url: url.to_owned(),
            ca_file: None,
            client_certificate: None,
            prefix: "sidecache".to_owned(),
            secret: None,
            encryption: Vec::new(),
            budget: Duration::from_millis(20),
            when_down: WhenDown::PassThrough,
            memory_ttl_when_down: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(1),
            write_timeout: Duration::from_millis(250),
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(5),
            commands_max: 1024,
            value_bytes_max: 1 << 20,
        }
    }

    /// Whether Redis is reached over TLS.
    pub fn is_over_tls(&self) -> bool {
        ["rediss", "valkeys"].iter().any(|scheme| self.url.starts_with(scheme))
    }

    /// Whether connections depend on what is in files, which may change under their names.
    pub fn reads_files(&self) -> bool {
        self.ca_file.is_some() || self.client_certificate.is_some()
    }
}

impl Options {
    /// Whether the files can be used that connections to Redis depend on; or which of them cannot, and why.
    pub fn check_files(&self) -> Result<(), String> {
        self.redis.as_ref().map_or(Ok(()), certificates::check)
    }
}

impl Store {
    /// How long a stale response is kept that has a validator.
    pub(super) fn keep_stale(&self) -> Duration {
        Duration::from_millis(self.keep_stale_ms.load(Ordering::Relaxed))
    }

    /// Takes over what can change while it is open: how much memory there is, and how long stale responses are kept.
    pub fn adopt(&self, options: &Options) {
        self.keep_stale_ms.store(options.keep_stale.as_millis() as u64, Ordering::Relaxed);
        if let Some(memory) = &self.memory {
            memory.resize(options.memory.bytes_max);
        }
    }
}

/// The process itself and what is in flight need some as well, and the allocator half as much again as it was asked for when sizes change.
const DEFAULT_SHARE: u8 = 30;

/// For who has no limit.
const UNLIMITED_SIZE: u64 = 256 << 20;

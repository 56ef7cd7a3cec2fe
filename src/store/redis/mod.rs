//! The tier that all replicas share, and what keeps its troubles from becoming the requests'.
//!
//! Commands go through one multiplexed connection. While there is none (the breaker is open), a command is refused at once and
//! costs nothing. One task, `supervise`, is the only place that connects, probes and reports changes of state.

mod breaker;
mod supervise;

pub(super) use supervise::supervise;

use super::{RedisOptions, WhenDown};
use crate::stats::Stats;
use arc_swap::ArcSwapOption;
use breaker::Breaker;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, Semaphore};

/// A handle to Redis; clones share everything.
#[derive(Clone)]
pub(super) struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    options: RedisOptions,
    stats: Arc<Stats>,
    /// `None` is the open breaker.
    link: ArcSwapOption<MultiplexedConnection>,
    places: Semaphore,
    reads: Mutex<Breaker>,
    writes: Mutex<Writing>,
    broken: Notify,
    state: Mutex<State>,
    /// Keys in Redis' database, as counted last.
    keys: AtomicU64,
}

/// Whether writing makes sense: a Redis that is full or read-only still answers reads.
#[derive(Default)]
struct Writing {
    breaker: Breaker,
    paused_until: Option<Instant>,
}

/// What is known about Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Whether it is being asked.
    pub is_up: bool,
    /// Since when that is so.
    pub since: SystemTime,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Keys in its database, as counted last.
    pub keys: u64,
    /// Whether writes are paused, since Redis refused several in a row.
    pub writes_paused: bool,
}

/// Why Redis had no part in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// The breaker is open.
    Down,
    /// Too many commands are under way.
    Busy,
    /// It did not answer within the budget.
    TimedOut,
    /// It answered with an error, or the connection broke.
    Failed,
}

impl Redis {
    pub(super) fn new(options: RedisOptions, stats: Arc<Stats>, now: SystemTime) -> Redis {
        stats.redis.breaker_open.set(1);
        let shared = Shared {
            link: ArcSwapOption::empty(),
            places: Semaphore::new(options.commands_max),
            reads: Mutex::default(),
            writes: Mutex::default(),
            broken: Notify::new(),
            state: Mutex::new(State { is_up: false, since: now, last_error: None, keys: 0, writes_paused: false }),
            keys: AtomicU64::new(0),
            options,
            stats,
        };
        Redis { shared: Arc::new(shared) }
    }

    pub(super) fn options(&self) -> &RedisOptions {
        &self.shared.options
    }

    /// Whether it is being asked.
    pub(super) fn is_up(&self) -> bool {
        self.shared.link.load().is_some()
    }

    /// Whether memory may be used without it, at `now`.
    pub(super) fn lets_memory_serve(&self, now: SystemTime) -> bool {
        if self.is_up() {
            return true;
        }
        let options = self.options();
        options.when_down == WhenDown::Memory && {
            let down_for = now.duration_since(lock(&self.shared.state).since).unwrap_or_default();
            down_for <= options.memory_ttl_when_down
        }
    }

    pub(super) fn state(&self) -> State {
        State {
            keys: self.shared.keys.load(Ordering::Relaxed),
            writes_paused: lock(&self.shared.writes).paused_until.is_some_and(|until| Instant::now() < until),
            ..lock(&self.shared.state).clone()
        }
    }

    /// Reads values, all in one round trip. A value over the limit counts as absent: of it, only the limit is transferred.
    pub(super) async fn read(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Unavailable> {
        let limit = self.options().value_bytes_max;
        let mut pipeline = Pipeline::with_capacity(names.len());
        for name in names {
            // GETRANGE with an end, so that whoever planted a huge value does not fill this process' memory.
            pipeline.cmd("GETRANGE").arg(name).arg(0).arg(limit);
        }
        self.shared.stats.redis.reads.inc();
        let values: Vec<Vec<u8>> = self.ask(self.options().budget, async |link| pipeline.query_async(link).await).await?;
        lock(&self.shared.reads).succeeded();
        Ok(values.into_iter().map(|value| (1..=limit).contains(&value.len()).then(|| value.into())).collect())
    }

    /// Writes values, each with its time to live. Says whether Redis took them.
    pub(super) async fn write(&self, values: Vec<(String, Vec<u8>, Duration)>) -> bool {
        if lock(&self.shared.writes).paused_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let mut pipeline = Pipeline::with_capacity(values.len());
        for (name, value, ttl) in values {
            let ttl_ms = (ttl.as_millis() as u64).max(1);
            pipeline.cmd("SET").arg(name).arg(value).arg("PX").arg(ttl_ms).ignore();
        }
        self.shared.stats.redis.writes.inc();
        let written = self.ask(self.options().write_timeout, async |link| pipeline.query_async::<()>(link).await).await;
        let mut writing = lock(&self.shared.writes);
        match written {
            Ok(()) => *writing = Writing::default(),
            Err(_) => {
                if writing.breaker.failed(Instant::now()) {
                    writing.paused_until = Some(Instant::now() + WRITE_PAUSE);
                }
            }
        }
        written.is_ok()
    }

    /// Sends one command outside of any request; `None` is no answer within the budget.
    async fn probe<T: FromRedisValue>(&self, link: &MultiplexedConnection, command: &Cmd) -> Option<RedisResult<T>> {
        let mut link = link.clone();
        tokio::time::timeout(self.options().budget, command.query_async(&mut link)).await.ok()
    }

    /// Lets `command` use the connection, if there is one and a place on it, for at most `limit`.
    async fn ask<T, F>(&self, limit: Duration, command: F) -> Result<T, Unavailable>
    where
        F: AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    {
        let shared = &self.shared;
        let Some(link) = shared.link.load_full() else {
            return Err(Unavailable::Down);
        };
        let Ok(_place) = shared.places.try_acquire() else {
            shared.stats.redis.errors_busy.inc();
            return Err(Unavailable::Busy);
        };
        let mut connection = MultiplexedConnection::clone(&link);
        match tokio::time::timeout(limit, command(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                shared.stats.redis.errors_connection.inc();
                self.open(&link, &error.to_string());
                Err(Unavailable::Failed)
            }
            Ok(Err(error)) => {
                // Redis lives and says no (NOPERM, LOADING, OOM, WRONGTYPE): a write may be refused where reads are answered,
                // so the callers decide what that means.
                shared.stats.redis.errors_refused.inc();
                lock(&shared.state).last_error = Some(describe(&error));
                self.note_refusal(&link, &error);
                Err(Unavailable::Failed)
            }
            Err(_) => {
                shared.stats.redis.errors_timeout.inc();
                if lock(&shared.reads).failed(Instant::now()) {
                    self.open(&link, "no answer within the budget, several times in a row");
                }
                Err(Unavailable::TimedOut)
            }
        }
    }

    /// Opens the breaker for refusals that concern the connection as a whole and not one key or kind of command.
    fn note_refusal(&self, link: &Arc<MultiplexedConnection>, error: &RedisError) {
        let concerns_all =
            matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "NOPERM"));
        if concerns_all && lock(&self.shared.reads).failed(Instant::now()) {
            self.open(link, &describe(error));
        }
    }

    /// Opens the breaker: nobody asks Redis from here on, until the supervisor found it well.
    fn open(&self, link: &Arc<MultiplexedConnection>, why: &str) {
        // A late failure of an earlier connection says nothing about the present one.
        let present = self.shared.link.load_full();
        if present.is_some_and(|present| Arc::ptr_eq(&present, link)) {
            lock(&self.shared.state).last_error = Some(why.to_owned());
            self.shared.link.store(None);
            self.shared.broken.notify_one();
        }
    }
}

/// An error as it is logged: without the server's address, which may hold credentials.
fn describe(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long writes are left alone after Redis refused several in a row.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// Checks a URL without connecting.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    let is_tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
    if is_tls && !cfg!(feature = "tls") {
        return Err("this build has no TLS (the feature `tls` is off)".to_owned());
    }
    redis::Client::open(url).map(|_| ()).map_err(|error| describe(&error))
}

/// Where Redis is, without user and password.
pub(super) fn display_url(url: &str) -> String {
    match redis::Client::open(url) {
        Ok(client) => client.get_connection_info().addr().to_string(),
        Err(_) => "an unreadable URL".to_owned(),
    }
}

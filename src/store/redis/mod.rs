//! The tier that all replicas share, and what keeps its troubles from becoming the requests'.
//!
//! Commands go through one multiplexed connection. While there is none (the breaker is open), a command is refused at once and
//! costs nothing. One task, `supervise`, is the only place that connects, probes and reports changes of state.

mod breaker;
mod supervise;

pub(super) use supervise::supervise;

use super::{RedisOptions, WhenDown};
use crate::clock::Clock;
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
    clock: Clock,
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

/// A command that came to nothing.
struct Refused {
    /// The connection that it was sent on; `None` if it was not sent, or if that connection is given up already.
    link: Option<Arc<MultiplexedConnection>>,
    why: Unavailable,
    /// The code of the error that Redis answered with, if it answered.
    refusal: Option<String>,
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
    pub(super) fn new(options: RedisOptions, stats: Arc<Stats>, clock: Clock) -> Redis {
        stats.redis.breaker_open.set(1);
        let shared = Shared {
            link: ArcSwapOption::empty(),
            places: Semaphore::new(options.commands_max),
            reads: Mutex::default(),
            writes: Mutex::default(),
            broken: Notify::new(),
            state: Mutex::new(State { is_up: false, since: clock.now(), last_error: None, keys: 0, writes_paused: false }),
            keys: AtomicU64::new(0),
            options,
            stats,
            clock,
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

    /// Reads values, all in one round trip and before `deadline`. A value over the limit counts as absent: of it, only the limit
    /// is transferred.
    pub(super) async fn read(&self, names: &[String], deadline: Instant) -> Result<Vec<Option<Bytes>>, Unavailable> {
        let limit = self.options().value_bytes_max;
        let mut pipeline = Pipeline::with_capacity(names.len());
        for name in names {
            // GETRANGE with an end, so that whoever planted a huge value does not fill this process' memory.
            pipeline.cmd("GETRANGE").arg(name).arg(0).arg(limit);
        }
        self.shared.stats.redis.reads.inc();
        let budget = deadline.saturating_duration_since(Instant::now());
        let answered = self.ask(budget, async |link| pipeline.query_async::<Vec<Vec<u8>>>(link).await).await;
        match answered {
            Ok(values) => {
                lock(&self.shared.reads).succeeded();
                Ok(values.into_iter().map(|value| (1..=limit).contains(&value.len()).then(|| value.into())).collect())
            }
            Err(Refused { link, why, refusal }) => {
                // Redis may live and say no for one key alone (WRONGTYPE); what concerns all keys counts like silence.
                let concerns_all = refusal.as_ref().is_none_or(|code| CONCERNS_ALL.contains(&code.as_str()));
                if let Some(link) = link.filter(|link| concerns_all && self.is_present(link))
                    && lock(&self.shared.reads).failed(Instant::now())
                {
                    let refused = lock(&self.shared.state).last_error.clone().filter(|_| refusal.is_some());
                    self.open(&link, refused.as_deref().unwrap_or(TOO_SLOW));
                }
                Err(why)
            }
        }
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
        match &written {
            Ok(()) => *writing = Writing::default(),
            // Only what Redis itself did counts: it was asked, and refused or said nothing.
            Err(Refused { link: Some(link), .. }) if self.is_present(link) => {
                if writing.breaker.failed(Instant::now()) {
                    writing.paused_until = Some(Instant::now() + WRITE_PAUSE);
                }
            }
            Err(_) => {}
        }
        written.is_ok()
    }

    /// Sends one command outside of any request; `None` is no answer within the budget.
    async fn probe<T: FromRedisValue>(&self, link: &MultiplexedConnection, command: &Cmd) -> Option<RedisResult<T>> {
        let mut link = link.clone();
        tokio::time::timeout(self.options().budget, command.query_async(&mut link)).await.ok()
    }

    /// Lets `command` use the connection, if there is one and a place on it, for at most `limit`.
    async fn ask<T, F>(&self, limit: Duration, command: F) -> Result<T, Refused>
    where
        F: AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    {
        let shared = &self.shared;
        let unasked = |why| Refused { link: None, why, refusal: None };
        let Some(link) = shared.link.load_full() else {
            return Err(unasked(Unavailable::Down));
        };
        let Ok(_place) = shared.places.try_acquire() else {
            shared.stats.redis.errors_busy.inc();
            return Err(unasked(Unavailable::Busy));
        };
        let mut connection = MultiplexedConnection::clone(&link);
        match tokio::time::timeout(limit, command(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                shared.stats.redis.errors_connection.inc();
                self.open(&link, &error.to_string());
                Err(unasked(Unavailable::Failed))
            }
            Ok(Err(error)) => {
                shared.stats.redis.errors_refused.inc();
                lock(&shared.state).last_error = Some(describe(&error));
                let refusal = error.code().map(str::to_owned);
                Err(Refused { link: Some(link), why: Unavailable::Failed, refusal: refusal.or(Some(String::new())) })
            }
            Err(_) => {
                shared.stats.redis.errors_timeout.inc();
                Err(Refused { link: Some(link), why: Unavailable::TimedOut, refusal: None })
            }
        }
    }

    /// Whether this is the connection that is used now; a late failure of an earlier one says nothing about it.
    fn is_present(&self, link: &Arc<MultiplexedConnection>) -> bool {
        self.shared.link.load().as_ref().is_some_and(|present| Arc::ptr_eq(present, link))
    }

    /// Opens the breaker: nobody asks Redis from here on, until the supervisor found it well.
    fn open(&self, link: &Arc<MultiplexedConnection>, why: &str) {
        let before = self.shared.link.compare_and_swap(link, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, link)) {
            self.note(false, Some(why));
            self.shared.broken.notify_one();
        }
    }

    /// Writes down a state, and since when it holds.
    fn note(&self, is_up: bool, error: Option<&str>) {
        self.shared.stats.redis.breaker_open.set(i64::from(!is_up));
        let mut state = lock(&self.shared.state);
        let since = if state.is_up == is_up { state.since } else { self.shared.clock.now() };
        let last_error = error.map(str::to_owned).or_else(|| state.last_error.take());
        *state = State { is_up, since, last_error, keys: 0, writes_paused: false };
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

/// Refusals that concern the connection or the server as a whole.
const CONCERNS_ALL: &[&str] = &["NOAUTH", "WRONGPASS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOPERM"];

/// The error of a Redis that lives and is no help.
const TOO_SLOW: &str = "no answer within the budget";

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

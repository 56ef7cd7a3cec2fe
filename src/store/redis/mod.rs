//! The tier that all replicas share, and what keeps its troubles from becoming the requests'.
//!
//! Commands go through one multiplexed connection, on which Redis also tells of changes. While there is none (the breaker is
//! open), a command is refused at once and costs nothing. One task, `supervise`, is the only place that connects, probes and
//! reports changes of state.

mod breaker;
pub(super) mod certificates;
mod commands;
mod handshake;
mod link;
mod names;
mod news;
mod place;
mod purges;
mod reads;
mod search;
mod supervise;

pub(super) use names::{Named, Names};
pub use news::Hearing;
pub(super) use news::{Listener, News};
pub(super) use purges::{Carried, Order};
pub(super) use reads::{Making, Present, Rereading};
pub(super) use supervise::supervise;

use super::seal::{Mask, Seal};
use super::{RedisOptions, WhenDown};
use crate::clock::Clock;
use crate::rules::Scope;
use crate::stats::Stats;
use arc_swap::ArcSwapOption;
use breaker::Breaker;
use link::Link;
use place::Place;
use purges::{Backlog, Recent};
use redis::{RedisError, RedisResult};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    names: Names,
    seal: Seal,
    texts: Seal,
    mask: Mask,
    /// What this process is to other replicas on the channel.
    id: String,
    presence: Mutex<Presence>,
    stats: Arc<Stats>,
    clock: Clock,
    /// `None` is the open breaker.
    link: ArcSwapOption<Link>,
    places: Semaphore,
    reads: Mutex<Breaker>,
    writes: Mutex<Writing>,
    broken: Notify,
    state: Mutex<State>,
    /// Purges that Redis has not heard of. While there are any, there is no link.
    backlog: Mutex<Backlog>,
    /// Generations that have changed lately, in case that Redis forgets it.
    recent: Mutex<Recent>,
    /// Which server and which of its lives it was that was connected to last, as far as it tells.
    server: Mutex<Option<String>>,
    /// Asks for a sign of life at once.
    beat: Notify,
    /// Until when nothing can have been missed, in milliseconds since `started`.
    hears_until: AtomicU64,
    started: Instant,
    /// Changes are announced on the channel, since Redis doesn't do it.
    must_tell: AtomicBool,
    /// Redis knows `PEXPIRE … GT`.
    knows_gt: AtomicBool,
}

/// What this process is to other replicas as one that is present.
#[derive(Default)]
struct Presence {
    /// Another name for each connection, since who was away has missed questions.
    name: String,
    /// It may be on the list.
    is_signed: bool,
    /// Names of earlier connections that have not been taken off the list.
    departed: Vec<String>,
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
    /// The same by the time that passes, which nobody sets.
    passed: Duration,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Whether writes are paused, since Redis refused several in a row.
    pub writes_paused: bool,
    /// How this process hears of changes, while it is connected.
    pub hearing: Option<Hearing>,
    /// Generations whose purge Redis has not heard of yet.
    pub purges_pending: usize,
}

/// A command that came to nothing.
struct Refused {
    /// The connection that it was sent on; `None` if it was not sent, or if that connection is given up already.
    link: Option<Arc<Link>>,
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
            state: Mutex::new(State {
                is_up: false,
                since: clock.now(),
                passed: clock.passed(),
                last_error: None,
                writes_paused: false,
                hearing: None,
                purges_pending: 0,
            }),
            backlog: Mutex::default(),
            hears_until: AtomicU64::new(0),
            started: Instant::now(),
            must_tell: AtomicBool::new(false),
            knows_gt: AtomicBool::new(false),
            names: Names::new(&options.prefix, options.secret.as_deref()),
            seal: Seal::of(&options),
            texts: Seal::of_texts(&options),
            mask: Mask::of(options.secret.as_deref()),
            id: random_id(),
            presence: Mutex::default(),
            recent: Mutex::default(),
            server: Mutex::default(),
            beat: Notify::new(),
            options,
            stats,
            clock,
        };
        Redis { shared: Arc::new(shared) }
    }

    pub(super) fn options(&self) -> &RedisOptions {
        &self.shared.options
    }

    pub(super) fn names(&self) -> &Names {
        &self.shared.names
    }

    /// What protects the values.
    pub(super) fn seal(&self) -> &Seal {
        &self.shared.seal
    }

    /// What hides hashes within values.
    pub(super) fn mask(&self) -> &Mask {
        &self.shared.mask
    }

    /// What protects lines of text.
    pub(super) fn texts(&self) -> &Seal {
        &self.shared.texts
    }

    /// What this process is to other replicas, as one that is present.
    pub(super) fn presence(&self) -> String {
        lock(&self.shared.presence).name.clone()
    }

    /// Asks for a sign of life at once: others may have lost the last one.
    pub(super) fn beat_now(&self) {
        self.shared.beat.notify_one();
    }

    /// Whether it is being asked.
    pub(super) fn is_up(&self) -> bool {
        self.shared.link.load().is_some()
    }

    /// Whether memory may be used without it.
    pub(super) fn lets_memory_serve(&self) -> bool {
        if self.is_up() {
            return true;
        }
        let options = self.options();
        options.when_down == WhenDown::Memory && {
            let down_for = self.shared.clock.passed().saturating_sub(lock(&self.shared.state).passed);
            down_for <= options.memory_ttl_when_down
        }
    }

    /// Whether this process hears of changes as they happen, so that what it has verified counts.
    pub(super) fn is_heard(&self) -> bool {
        self.is_up() && self.millis(Instant::now()) < self.shared.hears_until.load(Ordering::Acquire)
    }

    /// Remembers that a generation has changed, in case that the server forgets it.
    pub(super) fn note_changed(&self, name: &str) {
        lock(&self.shared.recent).add(name, Instant::now());
    }

    /// Carries out purges now, or keeps them until Redis is there, and before anything else is asked of it.
    pub(super) async fn purge(&self, orders: &[Order], question: Option<(&str, &str)>) -> Carried {
        let everything = self.names().generation(Scope::All.name());
        loop {
            let link = self.shared.link.load_full();
            if link.is_some() {
                let carried = self.carry_out(orders, question).await;
                if carried != Carried::Not {
                    orders.iter().for_each(|order| self.note_changed(order.name()));
                    return carried;
                }
            }
            // With the backlog locked, a connection that is made meanwhile is not used before it was looked at.
            let mut backlog = lock(&self.shared.backlog);
            let present = self.shared.link.load_full();
            let is_same = |link: &Arc<Link>| present.as_ref().is_some_and(|present| Arc::ptr_eq(present, link));
            if let Some(link) = link.filter(is_same) {
                // Whether it was done is not known. What Redis has is not to be trusted until it was.
                self.open(&link, "a purge was not confirmed");
            } else if present.is_some() {
                continue;
            }
            backlog.add(orders, &everything);
            return Carried::Not;
        }
    }

    pub(super) fn state(&self) -> State {
        State {
            writes_paused: lock(&self.shared.writes).paused_until.is_some_and(|until| Instant::now() < until),
            purges_pending: lock(&self.shared.backlog).len(),
            ..lock(&self.shared.state).clone()
        }
    }

    /// Lets `command` use the connection, if there is one and a place on it, for at most `limit`.
    async fn ask<T, F>(&self, limit: Duration, command: F) -> Result<T, Refused>
    where
        F: AsyncFnOnce(&mut Link) -> RedisResult<T>,
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
        self.ask_over(link, limit, command).await
    }

    /// Lets `command` use a connection for at most `limit`, whatever else is under way.
    async fn ask_over<T, F>(&self, link: Arc<Link>, limit: Duration, command: F) -> Result<T, Refused>
    where
        F: AsyncFnOnce(&mut Link) -> RedisResult<T>,
    {
        let shared = &self.shared;
        let unasked = |why| Refused { link: None, why, refusal: None };
        let mut connection = Link::clone(&link);
        match tokio::time::timeout(limit, command(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                shared.stats.redis.errors_connection.inc();
                self.open(&link, &describe(&error));
                Err(unasked(Unavailable::Failed))
            }
            Ok(Err(error)) => {
                shared.stats.redis.errors_refused.inc();
                lock(&shared.state).last_error = Some(describe(&error));
                let refusal = code(&error).unwrap_or_default();
                if has_moved(&error) {
                    self.open(&link, "keys of the cluster have moved");
                }
                Err(Refused { link: Some(link), why: Unavailable::Failed, refusal: Some(refusal) })
            }
            Err(_) => {
                shared.stats.redis.errors_timeout.inc();
                Err(Refused { link: Some(link), why: Unavailable::TimedOut, refusal: None })
            }
        }
    }

    /// Whether this is the connection that is used now; a late failure of an earlier one says nothing about it.
    fn is_present(&self, link: &Arc<Link>) -> bool {
        self.shared.link.load().as_ref().is_some_and(|present| Arc::ptr_eq(present, link))
    }

    /// Opens the breaker: nobody asks Redis from here on, until the supervisor found it well.
    fn open(&self, link: &Arc<Link>, why: &str) {
        let before = self.shared.link.compare_and_swap(link, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, link)) {
            self.shared.hears_until.store(0, Ordering::Release);
            self.note(false, Some(why));
            self.shared.broken.notify_one();
        }
    }

    /// Writes down a state, and since when it holds.
    fn note(&self, is_up: bool, error: Option<&str>) {
        self.shared.stats.redis.breaker_open.set(i64::from(!is_up));
        let mut state = lock(&self.shared.state);
        let clock = &self.shared.clock;
        let (since, passed) = if state.is_up == is_up { (state.since, state.passed) } else { (clock.now(), clock.passed()) };
        let last_error = error.map(str::to_owned).or_else(|| state.last_error.take());
        let hearing = state.hearing.filter(|_| is_up);
        *state = State { is_up, since, passed, last_error, hearing, ..state.clone() };
    }

    /// A moment, as `hears_until` counts.
    fn millis(&self, moment: Instant) -> u64 {
        moment.duration_since(self.shared.started).as_millis() as u64
    }
}

/// What Redis itself answered, if it answered: its code. Of several commands, the first that was refused counts.
fn code(error: &RedisError) -> Option<String> {
    let refused = error.clone().into_server_errors();
    let refused = refused.as_ref().and_then(|refused| refused.first()).map(|(_, error)| error.code().to_owned());
    refused.or_else(|| error.code().map(str::to_owned))
}

/// Whether a node has said that it does not have a key any more.
fn has_moved(error: &RedisError) -> bool {
    let all = error.clone().into_server_errors();
    error.code() == Some(MOVED) || all.is_some_and(|all| all.iter().any(|(_, error)| error.code() == MOVED))
}

/// An error as it is logged: without the server's address, which may hold credentials.
fn describe(error: &RedisError) -> String {
    let refused = error.clone().into_server_errors();
    if let Some((_, error)) = refused.as_ref().and_then(|refused| refused.first()) {
        return format!("{} {}", error.code(), error.details().unwrap_or_default()).trim_end().to_owned();
    }
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        // The parser's errors are several lines.
        _ => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// Octets that no other process has.
pub(super) fn random_id() -> String {
    let mut octets = [0; 8];
    getrandom::fill(&mut octets).expect("the system has a source of random octets");
    format!("{:016x}", u64::from_be_bytes(octets))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refusals that concern the connection or the server as a whole.
const CONCERNS_ALL: &[&str] = &["NOAUTH", "WRONGPASS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOPERM", MOVED];

/// The refusal of a node that does not have the key any more.
const MOVED: &str = "MOVED";

/// The error of a Redis that lives and is no help.
const TOO_SLOW: &str = "no answer within the budget";

/// How long writes are left alone after Redis refused several in a row.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// Checks a URL without connecting.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    Place::read(url).map(|_| ())
}

/// Where Redis is, without user and password.
pub(super) fn display_url(url: &str) -> String {
    Place::read(url).map_or_else(|_| "an unreadable URL".to_owned(), |place| place.to_string())
}

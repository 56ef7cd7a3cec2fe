//! The one place that connects to Redis, finds out whether it is well, and says so once a change.

use super::handshake::{DEMOTED, Heard, Ready, call_roll, connect, end_former_presence, replay};
use super::link::Link;
use super::news::{self, Hearing, Listener, News};
use super::place::Place;
use super::search::{Found, Search};
use super::{Redis, TOO_SLOW, Writing, code, describe, lock, random_id};
use crate::store::WhenDown;
use futures_util::StreamExt;
use redis::aio::PubSub;
use redis::{Pipeline, RedisResult};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};
use tokio::task::AbortHandle;
use tracing::{info, warn};

/// Connects, and connects again, for as long as the process lives.
///
/// `listener` hears of all that changes in Redis, and that anything may have changed whenever the connection is lost.
pub(in crate::store) async fn supervise(redis: Redis, listener: Listener) {
    let mut pause = PAUSE_MIN;
    let mut said = Said::Nothing;
    let search = match Place::read(&redis.options().url) {
        Ok(place) => Arc::new(Mutex::new(Search::new(place, redis.options().connect_timeout))),
        Err(why) => {
            warn!(error = why, "redis_not_used");
            return redis.note(false, Some(&why));
        }
    };
    loop {
        let mut waited_since = Instant::now();
        let connected = connect(&redis, &mut *search.lock().await, &listener).await;
        let ended = match connected {
            Ok(ready) => {
                let connected = Instant::now();
                if said != Said::Connected {
                    info!(address = %ready.found, hearing = ready.heard.hearing.as_str(), "redis_connected");
                    said = Said::Connected;
                }
                let ended = serve(&redis, ready, &search, &listener).await;
                listener(News::Anything);
                // A connection that breaks again and again is given longer and longer pauses, like one that can't be made.
                if connected.elapsed() >= STEADY_AFTER {
                    pause = PAUSE_MIN;
                }
                waited_since = Instant::now();
                ended
            }
            Err(error) => {
                redis.shared.stats.redis.errors_connection.inc();
                describe(&error)
            }
        };
        redis.note(false, Some(&ended));
        said.lost(ended, redis.options().when_down);
        // An attempt that took its time was a pause itself.
        tokio::time::sleep(pause.saturating_sub(waited_since.elapsed()).max(PAUSE_MIN)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What the log was told last, so that it is told of changes alone.
#[derive(PartialEq)]
enum Said {
    Nothing,
    Connected,
    /// For reasons that it was told of; and the latest one.
    Lost(Vec<String>, String),
}

impl Said {
    /// Tells that there is no connection any more, or that there is none yet for another reason.
    fn lost(&mut self, why: String, when_down: WhenDown) {
        let Said::Lost(told, latest) = self else {
            let fallback = match when_down {
                WhenDown::PassThrough => "pass-through",
                WhenDown::Memory => "memory",
            };
            warn!(error = why, fallback, "redis_connection_failed");
            *self = Said::Lost(vec![why.clone()], why);
            return;
        };
        // What comes to light now, and stays, may be what is to be mended.
        if *latest == why && !told.contains(&why) && told.len() < REASONS_MAX {
            warn!(error = why, "redis_still_unreachable");
            told.push(why.clone());
        }
        *latest = why;
    }
}

/// The connection that is used.
struct Used {
    link: Arc<Link>,
    hearing: Hearing,
    /// It leads to where others say that the master is.
    is_elected: bool,
}

/// Lets requests use the connection until it breaks or answers too slowly; says what happened.
async fn serve(redis: &Redis, ready: Ready, search: &Arc<Mutex<Search>>, listener: &Listener) -> String {
    let shared = &redis.shared;
    let Ready { link, heard: Heard { closed, hearing, channel }, found, is_elected } = ready;
    let used = Used { link: Arc::new(link), hearing, is_elected };
    let link = &used.link;
    lock(&shared.reads).succeeded();
    *lock(&shared.writes) = Writing::default();
    // From here on all that changes is heard; what was known before counts no longer.
    listener(News::Anything);
    let listening = channel.map(|channel| tokio::spawn(listen(redis.clone(), link.clone(), channel, listener.clone())));
    let _listening = listening.map(|listening| AbortOnDrop(listening.abort_handle()));
    let watching = is_elected.then(|| tokio::spawn(watch_election(redis.clone(), link.clone(), found, search.clone())));
    let _watching = watching.map(|watching| AbortOnDrop(watching.abort_handle()));
    // Others must know of this replica before it relies on what it hears.
    sign_of_life(redis, &used, 0).await;
    while !redis.publish(link) {
        if let Err(error) = replay(redis, &mut Link::clone(link)).await {
            return describe(&error);
        }
    }
    listener(News::Connected);
    shared.stats.redis.connects.inc();
    lock(&shared.state).hearing = Some(hearing);
    if redis.is_present(link) {
        redis.note(true, None);
    }
    let mut connection = Link::clone(link);
    let _ = tokio::time::timeout(redis.options().budget, end_former_presence(redis, &mut connection)).await;
    beat(redis, &used, &closed, listener).await
}

/// Ends a task with the value that has its handle.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Gives signs of life, and watches for those of Redis, until the connection is given up.
async fn beat(redis: &Redis, used: &Used, closed: &Notify, listener: &Listener) -> String {
    let shared = &redis.shared;
    let (mut beats, mut read_anew, mut is_well, mut was_well) = (0u64, Instant::now(), true, Instant::now());
    loop {
        if used.hearing == Hearing::Channel && read_anew.elapsed() >= CHANNEL_TRUSTED {
            listener(News::Anything);
            read_anew = Instant::now();
        }
        let pause = if is_well { redis.options().heartbeat } else { BEAT_AGAIN };
        tokio::select! {
            () = shared.broken.notified() => {}
            () = closed.notified() => redis.open(&used.link, "the connection was closed"),
            () = shared.beat.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        if shared.link.load().is_none() {
            return lock(&shared.state).last_error.clone().unwrap_or_default();
        }
        beats += 1;
        is_well = sign_of_life(redis, used, beats).await;
        if is_well {
            was_well = Instant::now();
        } else if used.link.is_divided() && was_well.elapsed() >= redis.options().heartbeat + SILENT_MAX {
            // One of several nodes says nothing, and the others answer requests.
            redis.open(&used.link, TOO_SLOW);
        }
    }
}

/// One sign of life: it keeps this replica among those whose answers others wait for, and shows that Redis answers. What this
/// process has heard counts only as long as others know of it.
async fn sign_of_life(redis: &Redis, used: &Used, beats: u64) -> bool {
    let (Used { link, hearing, is_elected }, sent) = (used, Instant::now());
    let mut connection = Link::clone(link);
    let signed = async {
        // What the other nodes of a cluster have to tell comes before their answers, too.
        call_roll(redis, &mut connection).await?;
        sign(redis, &mut connection, beats).await?;
        if *hearing == Hearing::Channel {
            // It is heard again over the channel, after all that was said there before.
            let beat = format!("{} {BEAT}{}", redis.shared.id, redis.millis(sent));
            redis::cmd("PUBLISH").arg(redis.names().channel()).arg(beat).query_async::<()>(&mut connection).await?;
        }
        RedisResult::Ok(())
    };
    match tokio::time::timeout(redis.options().budget, signed).await {
        Ok(Ok(())) if *hearing == Hearing::Tracking => redis.heard(sent),
        // The channel says when it was heard, and the deaf hear nothing.
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            // A Redis that is full, or forbids a part of it, answers all the same; it only is not relied on without asking.
            let is_given_up =
                |code: &str| code != "NOPERM" && super::CONCERNS_ALL.contains(&code) || *is_elected && DEMOTED.contains(&code);
            if code(&error).as_deref().is_none_or(is_given_up) {
                redis.open(link, &describe(&error));
                return false;
            }
        }
        Err(_) => {
            if lock(&redis.shared.reads).failed(Instant::now()) {
                redis.open(link, TOO_SLOW);
            }
            return false;
        }
    }
    lock(&redis.shared.reads).succeeded();
    true
}

/// Renews this replica's place among those that are present, or takes one.
async fn sign(redis: &Redis, link: &mut Link, beats: u64) -> RedisResult<()> {
    let (names, id) = (redis.names(), redis.presence());
    lock(&redis.shared.presence).is_signed = true;
    let kept_ms = redis.present_for().as_millis() as u64;
    let mut pipeline = Pipeline::new();
    // These two are permitted also when Redis is full.
    pipeline.cmd("PEXPIRE").arg(names.replica(&id)).arg(kept_ms).cmd("SISMEMBER").arg(names.replicas()).arg(&id);
    if beats.is_multiple_of(RENEW_EVERY) {
        pipeline.cmd("PEXPIRE").arg(names.replicas()).arg(REPLICAS_KEPT.as_millis() as u64);
    }
    let answers: Vec<RedisResult<u64>> = pipeline.ignore_errors().query_async(link).await?;
    if answers.iter().take(2).all(|answer| matches!(answer, Ok(1))) {
        return Ok(());
    }
    let mut pipeline = Pipeline::new();
    pipeline.cmd("SET").arg(names.replica(&id)).arg(kept_ms).arg("PX").arg(kept_ms).ignore();
    pipeline.cmd("SADD").arg(names.replicas()).arg(&id).ignore();
    pipeline.cmd("PEXPIRE").arg(names.replicas()).arg(REPLICAS_KEPT.as_millis() as u64).ignore();
    pipeline.query_async::<()>(link).await?;
    // The others look at once, so that they know of this one also when Redis has forgotten it.
    let mut pipeline = Pipeline::new();
    let coming = names.coming(&random_id());
    pipeline.cmd("SET").arg(&coming).arg("").arg("PX").arg(COMING_KEPT.as_millis() as u64).ignore();
    redis.tell(&mut pipeline, &[coming]);
    pipeline.query_async(link).await
}

/// Asks who is elected, in the rhythm of the signs of life, and gives the connection up when it is somebody else. That nobody answers changes
/// nothing.
async fn watch_election(redis: Redis, link: Arc<Link>, before: Found, search: Arc<Mutex<Search>>) {
    loop {
        tokio::time::sleep(redis.options().heartbeat).await;
        let found = search.lock().await.found().await;
        if let Ok(found) = found
            && found != before
        {
            redis.open(&link, &format!("Redis is at {found} now"));
        }
    }
}

/// Listens to the channel until its connection ends, which is then the end of the other one too.
async fn listen(redis: Redis, link: Arc<Link>, mut channel: PubSub, listener: Listener) {
    let mut messages = channel.on_message();
    let own = format!("{} {BEAT}", redis.shared.id);
    while let Some(message) = messages.next().await {
        let octets = message.get_payload_bytes();
        // What was sent before its own sign of life was heard before it.
        if let Some(sent) = octets.strip_prefix(own.as_bytes()) {
            let sent = std::str::from_utf8(sent).ok().and_then(|sent| sent.parse().ok());
            redis.heard(redis.shared.started + Duration::from_millis(sent.unwrap_or_default()));
        } else {
            news::told(octets, &redis.shared.id, &listener);
        }
    }
    redis.open(&link, "the channel was closed");
}

impl Redis {
    /// Lets requests use a connection, unless a purge has come of which Redis was not told.
    fn publish(&self, link: &Arc<Link>) -> bool {
        let backlog = lock(&self.shared.backlog);
        if backlog.is_empty() {
            self.shared.link.store(Some(link.clone()));
        }
        backlog.is_empty()
    }

    /// For how long after its last sign of life this replica counts as present: longer than it relies on what it has heard, and where
    /// memory goes on without Redis, longer than that.
    pub(super) fn present_for(&self) -> Duration {
        let options = self.options();
        let alone = match options.when_down {
            WhenDown::Memory => options.memory_ttl_when_down + options.heartbeat * HEARD_BEATS,
            WhenDown::PassThrough => Duration::ZERO,
        };
        (options.heartbeat * PRESENT_BEATS).max(alone)
    }

    /// Takes its name off the list, since it relies on nothing any more.
    pub(in crate::store) async fn leave(&self) {
        let (names, id) = (self.names(), self.presence());
        let mut pipeline = Pipeline::new();
        let kept_ms = self.present_for().as_millis() as u64;
        pipeline.cmd("SET").arg(names.replica(&id)).arg(FAREWELL).arg("PX").arg(kept_ms).ignore();
        pipeline.cmd("SREM").arg(names.replicas()).arg(&id).ignore();
        self.run::<()>(pipeline).await;
    }

    /// Takes note that all was heard which happened before `moment`.
    fn heard(&self, moment: Instant) {
        let until = self.millis(moment + self.options().heartbeat * HEARD_BEATS);
        self.shared.hears_until.fetch_max(until, Ordering::AcqRel);
    }
}

/// So many reasons are told of until there is a connection again.
const REASONS_MAX: usize = 8;

/// The first pause after a failed attempt; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause, so that a Redis that is well again is used within two seconds.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// A connection that held for so long was a good one.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// The pause after a sign of life that was not answered: the breaker opens after half a second of that.
const BEAT_AGAIN: Duration = Duration::from_millis(100);

/// So long a node of a cluster may leave signs of life unanswered.
const SILENT_MAX: Duration = Duration::from_millis(500);

/// For so many heartbeats after the last that was answered, memory is relied on.
const HEARD_BEATS: u32 = 3;

/// For so many heartbeats a replica counts as present. More than the above: who is silent for so long relies on nothing any more.
const PRESENT_BEATS: u32 = 4;

/// The sign of a replica that is gone for good.
pub(super) const FAREWELL: &str = "farewell";

/// To say that one has come takes a key that ends soon.
const COMING_KEPT: Duration = Duration::from_secs(1);

/// The list of replicas is kept alive every so many heartbeats.
const RENEW_EVERY: u64 = 5;

/// The list of replicas ends when none of them gave a sign of life for so long.
const REPLICAS_KEPT: Duration = Duration::from_secs(3600);

/// A message on the channel that is a sign of life.
const BEAT: &str = "beat:";

/// Where replicas tell one another, what Redis does by itself is not told, and a message can be lost: so everything is read anew
/// that often.
const CHANNEL_TRUSTED: Duration = Duration::from_secs(10);

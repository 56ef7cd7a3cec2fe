//! One fetch for all replicas: who has the lease of a key fetches, the others wait for what it stores.
//!
//! A lease is a key in Redis with a short life. Who finds it taken waits to hear that the response was stored, or that the lease
//! ended; then it looks once more. Nobody waits longer for an owner than its lease lives, also if it dies. Without Redis there are no
//! leases, and no waiting.

use super::Store;
use super::redis::{Redis, random_id};
use crate::rules::CacheKey;
use redis::{Pipeline, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The keys that somebody here waits for.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<u128, watch::Sender<Heard>>>);

/// What was heard of a key since somebody began to wait for it.
#[derive(Clone, Copy, Default)]
struct Heard {
    /// A response was stored.
    changes: u64,
    /// A lease ended.
    endings: u64,
}

/// The right to fetch for all replicas. Dropping it lets the others go on.
pub struct ReplicaLease {
    redis: Redis,
    name: String,
    token: String,
    taken: Instant,
    lives: Duration,
}

/// What became of the wish to fetch for all replicas.
pub enum Competed {
    /// This replica fetches. If another has done so just before, it is in Redis.
    Won(ReplicaLease),
    /// Another one does.
    Lost(WaitingFor),
    /// There is no Redis to ask: everybody fetches.
    Alone,
}

/// A wait for what another replica fetches.
pub struct WaitingFor {
    store: Arc<Store>,
    /// The lease, in Redis.
    name: String,
    hash: u128,
    heard: watch::Receiver<Heard>,
    /// What of that was answered already.
    seen: Heard,
    deadline: Instant,
}

/// Why a wait went on or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Something was stored under the key; it may be what is waited for.
    Stored,
    /// The lease was given back; what is not there now will not come.
    GivenBack,
    /// The lease lived to its end, or nothing is heard of it any more: its owner may be dead.
    Expired,
}

impl Store {
    /// Competes for the lease of a key; `variant` tells fetches of one key apart.
    pub async fn compete(self: &Arc<Store>, key: &CacheKey, variant: u128) -> Competed {
        let Some(redis) = self.redis.clone().filter(Redis::is_up) else { return Competed::Alone };
        let lives = redis.options().lease;
        // Before the lease is asked for: nothing that is heard afterwards is missed.
        let (name, token) = (redis.names().lease(key.hash(), variant), random_id());
        let waiting = self.wait_for(key.hash(), name.clone(), lives);
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(&name).arg(&token).arg("NX").arg("PX").arg(lives.as_millis() as u64);
        let taken = Instant::now();
        let asked = tokio::time::timeout(redis.options().budget, redis.run::<(Value,)>(pipeline)).await;
        match asked {
            Ok(Some((Value::Okay,))) => Competed::Won(ReplicaLease { redis, name, token, taken, lives }),
            Ok(Some(_)) => Competed::Lost(waiting),
            _ => Competed::Alone,
        }
    }

    /// Wakes who waits for a key: something was stored under it, or its lease ended.
    pub(super) fn wake(&self, hash: u128, what: Waited) {
        if let Some(waiting) = self.waiting.lock().get(&hash) {
            waiting.send_modify(|heard| match what {
                Waited::Stored => heard.changes += 1,
                Waited::GivenBack | Waited::Expired => heard.endings += 1,
            });
        }
    }

    /// Wakes all who wait: what they wait for may have come or ended unheard.
    pub(super) fn wake_all(&self) {
        self.waiting.lock().values().for_each(|waiting| waiting.send_modify(|heard| heard.endings += 1));
    }

    fn wait_for(self: &Arc<Store>, hash: u128, name: String, limit: Duration) -> WaitingFor {
        let mut waiting = self.waiting.lock();
        let heard = waiting.entry(hash).or_insert_with(|| watch::Sender::new(Heard::default())).subscribe();
        drop(waiting);
        let seen = *heard.borrow();
        WaitingFor { store: self.clone(), name, hash, heard, seen, deadline: Instant::now() + limit }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, watch::Sender<Heard>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitingFor {
    /// Waits until there is a reason to look once more.
    pub async fn next(&mut self) -> Waited {
        loop {
            match tokio::time::timeout_at(self.deadline.into(), self.heard.changed()).await {
                Ok(Ok(())) => {}
                _ => return Waited::Expired,
            }
            let heard = *self.heard.borrow_and_update();
            // What came while this was looking elsewhere counts as well.
            if std::mem::replace(&mut self.seen, heard).endings == heard.endings {
                return Waited::Stored;
            }
            // That it was taken is told like its end.
            match self.is_taken().await {
                Some(true) => {}
                Some(false) if Instant::now() + MARGIN < self.deadline => return Waited::GivenBack,
                Some(false) | None => return Waited::Expired,
            }
        }
    }

    /// Whether the lease is somebody's; `None` if Redis cannot say.
    async fn is_taken(&self) -> Option<bool> {
        let redis = self.store.redis.as_ref().filter(|redis| redis.is_up())?;
        let mut pipeline = Pipeline::new();
        pipeline.cmd("GET").arg(&self.name);
        redis.run::<(Option<String>,)>(pipeline).await.map(|(owner,)| owner.is_some())
    }
}

impl Drop for WaitingFor {
    fn drop(&mut self) {
        let mut waiting = self.store.waiting.lock();
        // This receiver is one of them still.
        if waiting.get(&self.hash).is_some_and(|waiting| waiting.receiver_count() <= 1) {
            waiting.remove(&self.hash);
        }
    }
}

impl Drop for ReplicaLease {
    fn drop(&mut self) {
        // After its end it may be another's; it is not touched then, nor when it could become so before the command is there.
        if self.taken.elapsed() + MARGIN >= self.lives {
            return;
        }
        let (redis, name, token) = (self.redis.clone(), std::mem::take(&mut self.name), std::mem::take(&mut self.token));
        tokio::spawn(async move {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("GET").arg(&name);
            let owner = redis.run::<(Option<String>,)>(pipeline).await;
            if owner.is_some_and(|(owner,)| owner.as_deref() == Some(&token)) {
                redis.delete(&name).await;
            }
        });
    }
}

/// How long before its end a lease is left to itself.
const MARGIN: Duration = Duration::from_millis(300);

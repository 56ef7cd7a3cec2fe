//! Purges, now and then, and from when on each of them is binding for which sidecar.
//!
//! What is asserted is what the README says, and no more:
//! - After any answer, 200 or 202, the sidecar that was asked answers with nothing older.
//! - After a 200 to a purge that was to `wait`, no sidecar does: all have confirmed that they heard of it. What the same sidecar was
//!   told before was carried out before that, so it is binding for all then as well; but with `when_down = "memory"`, one that is just
//!   coming back may not have compared yet what it has.
//! - After a 200 to one that was not to wait, the others follow: within a moment where they hear of changes, and where they were cut off
//!   without noticing, when three heartbeats were not answered; but with `when_down = "memory"` they may go on with what they have.
//! - After a 202 the others follow when the sidecar that was asked has Redis back, so nothing is demanded of them until one of the above
//!   says so.

use super::SIDECARS;
use super::faults::Fault;
use super::ground::Ground;
use super::truth::Target;
use crate::world::{millis, secs};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Which sidecars are asked to purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Asked {
    Nobody,
    First,
    InTurn,
}

/// Purges, and keeps account of them.
pub struct Purger {
    ground: Arc<Ground>,
    has_redis: bool,
    /// When a sidecar that heard nothing follows all the same.
    followed_after: Option<Duration>,
    turn: u64,
    /// For each sidecar, what it was told and is not known to have told all others.
    told: [Vec<(usize, u64)>; SIDECARS],
    /// What all sidecars follow at a moment, whatever they hear.
    followed: Vec<(Instant, usize, u64)>,
    /// Purges that were asked for, and those that all sidecars had confirmed.
    pub purges: u64,
    pub confirmed: u64,
}

/// What is asked of a purger from outside.
#[derive(Default)]
pub struct Orders(AtomicU8);

impl Orders {
    pub fn ask(&self, whom: Asked) {
        self.0.store(whom as u8, Ordering::Relaxed);
    }

    fn asked(&self) -> Asked {
        match self.0.load(Ordering::Relaxed) {
            0 => Asked::Nobody,
            1 => Asked::First,
            _ => Asked::InTurn,
        }
    }
}

impl Purger {
    pub fn new(ground: Arc<Ground>, fault: &Fault) -> Purger {
        let (has_redis, followed_after) = (fault.has_redis(), fault.relies_for().map(|relies_for| relies_for + secs(1)));
        Purger {
            ground,
            has_redis,
            followed_after,
            turn: 0,
            told: Default::default(),
            followed: Vec::new(),
            purges: 0,
            confirmed: 0,
        }
    }

    /// Purges at each interval, for ever.
    pub async fn run(&mut self, orders: &Orders, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            self.follow();
            self.turn += 1;
            let sidecar = match orders.asked() {
                Asked::Nobody => continue,
                Asked::First => 0,
                Asked::InTurn => self.turn as usize % SIDECARS,
            };
            self.purge(sidecar).await;
        }
    }

    /// Renews something, purges it, and asks for it before and after.
    async fn purge(&mut self, sidecar: usize) {
        let hot = fastrand::usize(..self.ground.truth.hot());
        let target = Target::Hot(hot);
        let before = self.ask_all(target);
        let purging = async {
            let version = self.ground.truth.renew(hot);
            // Without Redis, each is told by itself.
            let whom = if self.has_redis { sidecar..sidecar + 1 } else { 0..SIDECARS };
            for sidecar in whom {
                self.order(sidecar, hot, version).await;
            }
        };
        tokio::join!(before, purging);
        self.ask_all(target).await;
    }

    async fn order(&mut self, sidecar: usize, hot: usize, version: u64) {
        let waits = (self.turn / 2).is_multiple_of(2);
        let what = match self.turn / 4 % 2 {
            0 => json!({ "tags": [Target::Hot(hot).tag()] }),
            _ => json!({ "url": Target::Hot(hot).path() }),
        };
        self.purges += 1;
        match self.answer(sidecar, what, waits).await {
            Err(what) => self.ground.wrong(format!("sidecar {sidecar}, a purge: {what}")),
            Ok((status, reach)) => {
                self.ground.truth.purged(sidecar, hot, version);
                self.told[sidecar].push((hot, version));
                match (status, reach.as_str()) {
                    (200, "everywhere") if waits => {
                        self.confirmed += 1;
                        match self.followed_after {
                            Some(_) => self.confirm(sidecar),
                            None => (0..SIDECARS).for_each(|all| self.ground.truth.purged(all, hot, version)),
                        }
                    }
                    (200, "everywhere") => {
                        self.followed.extend(self.followed_after.map(|after| (Instant::now() + after, hot, version)));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Purges something that nobody asks for, and waits until all have heard of it, and with it of all that came before.
    pub async fn settle(&mut self, sidecar: usize) -> bool {
        let settled =
            matches!(self.answer(sidecar, json!({ "tags": ["settled"] }), true).await, Ok((200, reach)) if reach == "everywhere");
        if settled {
            self.confirm(sidecar);
        }
        settled
    }

    async fn answer(&self, sidecar: usize, mut order: Value, waits: bool) -> Result<(u16, String), String> {
        if waits {
            order["wait_ms"] = json!(WAITS.as_millis() as u64);
        }
        let answer = self.ground.http.purge(self.ground.addresses[sidecar].1, &order).await?;
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match (answer.status.as_u16(), told["reach"].as_str()) {
            (status @ (200 | 202), Some(reach)) => Ok((status, reach.to_owned())),
            (status, _) => Err(format!("status {status}: {told}")),
        }
    }

    /// All that a sidecar was told is binding for all.
    fn confirm(&mut self, sidecar: usize) {
        for (hot, version) in self.told[sidecar].drain(..) {
            (0..SIDECARS).for_each(|all| self.ground.truth.purged(all, hot, version));
        }
    }

    fn follow(&mut self) {
        let now = Instant::now();
        self.followed.retain(|(due, hot, version)| {
            if *due <= now {
                (0..SIDECARS).for_each(|all| self.ground.truth.purged(all, *hot, *version));
            }
            *due > now
        });
    }

    fn ask_all(&self, target: Target) -> impl Future<Output = ()> + use<> {
        let ground = self.ground.clone();
        async move {
            tokio::join!(ground.ask(0, target), ground.ask(1, target));
        }
    }
}

/// How long a purge waits for the other sidecar.
const WAITS: Duration = millis(1000);

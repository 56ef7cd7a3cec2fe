//! One run: everything is started, something happens to Redis, and is over; and what was seen is put together.

use super::faults::{Breaker, Fault};
use super::fleet::{RedisSettings, Sidecar};
use super::ground::Ground;
use super::load::{FILLS_THE_POOL, Load};
use super::origin::Origin;
use super::purger::{Asked, Orders, Purger};
use super::report::{Account, Observed};
use super::scene::Scene;
use super::truth::{Target, Truth};
use super::watch::{Seen, Watch};
use super::{Plan, SIDECARS};
use crate::world::{millis, secs};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// Runs one fault.
pub async fn run(fault: &'static Fault, plan: &Plan) -> Observed {
    let mut scene = Scene::set(fault).await;
    let truth = Arc::new(Truth::new(plan.hot));
    let origin = Origin::start(truth.clone()).await;
    let mut sidecars = Vec::new();
    for sidecar in 0..SIDECARS {
        let redis = RedisSettings {
            url: scene.url(sidecar),
            budget: plan.budget,
            heartbeat: fault.heartbeat,
            when_down: fault.when_down,
        };
        sidecars.push(Sidecar::start(origin.address, &redis).await);
    }
    let ground = Arc::new(Ground::new(truth, &sidecars, plan.pool));
    let (watch, orders) = (Watch::default(), Orders::default());
    let mut purger = Purger::new(ground.clone(), fault);
    let looking = async { tokio::join!(watch.look(&ground, 0, plan.look_every), watch.look(&ground, 1, plan.look_every)) };
    let acting = async {
        if fault.begins_well() {
            until(CONNECTED_WITHIN, async || watch.seen().iter().all(Seen::is_closed)).await;
        }
        fill(&ground, plan).await;
        scene.prepare(fault, plan.hot + plan.pool as usize, plan.huge_bytes).await;
        let peaks: Vec<u64> = sidecars.iter().map(Sidecar::memory_peak).collect();
        let load = Load::begin(ground.clone(), plan.rate, plan.rate / 10);
        let mut course = Course { fault, plan, ground: &ground, watch: &watch, orders: &orders, load: &load, scene: &mut scene };
        let times = tokio::select! {
            times = course.take() => times,
            () = purger.run(&orders, plan.purge_every) => unreachable!("it purges for ever"),
        };
        let samples = load.end().await;
        let grown = sidecars.iter().zip(peaks).map(|(sidecar, before)| sidecar.memory_peak().saturating_sub(before)).max();
        (times, samples, grown.unwrap_or(0))
    };
    let (times, samples, memory_grown) = tokio::select! {
        _ = looking => unreachable!("it looks for ever"),
        acted = acting => acted,
    };
    settle(fault, &ground, &mut purger).await;
    let account = Account {
        times,
        samples,
        seen: watch.seen(),
        wrongs: ground.wrongs(),
        asked: ground.asked(),
        purges: (purger.confirmed, purger.purges),
        memory_grown,
        lives: sidecars.iter_mut().map(Sidecar::lives).collect(),
        logs: sidecars.iter().map(Sidecar::log).collect(),
    };
    Observed::of(fault, plan, account)
}

/// What happens in a run, and to whom.
struct Course<'a> {
    fault: &'static Fault,
    plan: &'a Plan,
    ground: &'a Arc<Ground>,
    watch: &'a Watch,
    orders: &'a Orders,
    load: &'a Load,
    scene: &'a mut Scene,
}

/// When it happened, and what was to be seen then.
pub struct Times {
    pub begun: Instant,
    pub broken: Instant,
    pub mended: Instant,
    /// When the time of the fault was over, which one that is over at once outlasts.
    pub over: Instant,
    pub ended: Instant,
    /// What was seen just before the fault, and when its time was over.
    pub before: [Seen; SIDECARS],
    pub at_the_end: [Seen; SIDECARS],
    /// What the statistics said of Redis then, and the seconds since 1970 between which they may say that it began.
    pub told: Vec<Value>,
    pub since: (u64, u64),
}

impl Course<'_> {
    /// Takes its course: before the fault, during it, and after.
    async fn take(&mut self) -> Times {
        let fault = self.fault;
        self.orders.ask(Asked::InTurn);
        if fault.begins_well() || !fault.has_redis() {
            tokio::time::sleep(self.plan.before).await;
        }
        self.orders.ask(fault.purges);
        self.load.be_quiet(fault.is_quiet);
        let before = self.watch.seen();
        let (since, broken) = (seconds(), Instant::now());
        self.scene.begin(fault).await;
        let mended_itself = fault.is_momentary().then(Instant::now);
        self.hold(&before).await;
        let mut told = Vec::new();
        for (_, admin) in &self.ground.addresses {
            told.push(self.ground.http.stats(*admin).await["redis"].clone());
        }
        let (over, at_the_end, since) = (Instant::now(), self.watch.seen(), (since, seconds()));

        self.scene.heal(fault).await;
        let mended = mended_itself.unwrap_or_else(Instant::now);
        self.load.be_quiet(false);
        self.orders.ask(Asked::InTurn);
        let (least, most) = self.plan.after;
        tokio::time::sleep(least).await;
        if fault.has_redis() {
            until(most - least, async || self.watch.seen().iter().all(Seen::is_closed)).await;
        }
        Times { begun: self.load.begun(), broken, mended, over, ended: Instant::now(), before, at_the_end, told, since }
    }

    /// Lets the fault go on for its time, and until what is expected of the breakers has come.
    async fn hold(&mut self, before: &[Seen; SIDECARS]) {
        let breakers = self.fault.breakers(self.plan.budget);
        let ((least, most), watch) = (self.plan.during, self.watch);
        let expected = async || {
            watch.seen().iter().zip(before).zip(breakers).all(|((seen, before), breaker)| match breaker {
                Breaker::Opens => seen.is_open(),
                Breaker::Reconnects => seen.connects > before.connects,
                Breaker::Stays | Breaker::May => true,
            })
        };
        let holding = async {
            tokio::time::sleep(least).await;
            until(most - least, expected).await;
        };
        tokio::select! {
            () = holding => {}
            () = self.scene.go_on(self.fault, self.ground, self.plan.flap) => unreachable!("it goes on for ever"),
        }
    }
}

/// Seconds since 1970, as the statistics count.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits until it holds, but no longer than that; whether it ever did is judged later.
pub(super) async fn until(limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < limit && !holds().await {
        tokio::time::sleep(millis(5)).await;
    }
}

/// Asks for everything that is hot on all sidecars, and for the pool on one.
async fn fill(ground: &Arc<Ground>, plan: &Plan) {
    let hot = (0..plan.hot).flat_map(|number| (0..SIDECARS).map(move |sidecar| (sidecar, Target::Hot(number))));
    ask_all(ground, hot).await;
    ask_all(ground, (0..plan.pool).map(|number| (FILLS_THE_POOL, Target::Pool(number)))).await;
}

/// Asks for all of these, some at once.
async fn ask_all(ground: &Arc<Ground>, asked: impl Iterator<Item = (usize, Target)>) {
    let mut asking = JoinSet::new();
    for (sidecar, target) in asked {
        let ground = ground.clone();
        asking.spawn(async move { ground.ask(sidecar, target).await });
        if asking.len() >= AT_ONCE {
            asking.join_next().await;
        }
    }
    asking.join_all().await;
}

/// When all is well again, all purges are binding for all, and everything that is answered is the latest.
async fn settle(fault: &Fault, ground: &Arc<Ground>, purger: &mut Purger) {
    if fault.has_redis() {
        for sidecar in 0..SIDECARS {
            let begun = Instant::now();
            while !purger.settle(sidecar).await {
                if begun.elapsed() > SETTLED_MAX {
                    let mut told = Vec::new();
                    for (_, admin) in &ground.addresses {
                        told.push(ground.http.stats(*admin).await["redis"].to_string());
                    }
                    let what = format!("after the fault, no purge was confirmed by all in {SETTLED_MAX:?}: {}", told.join(", "));
                    ground.wrong(format!("sidecar {sidecar}: {what}"));
                    break;
                }
                tokio::time::sleep(millis(100)).await;
            }
        }
    }
    let hot = (0..ground.truth.hot()).flat_map(|number| (0..SIDECARS).map(move |sidecar| (sidecar, Target::Hot(number))));
    ask_all(ground, hot).await;
}

/// So many requests at once, where it does not matter when they are sent.
const AT_ONCE: usize = 16;

/// How long it may take until a purge reaches all again: for ten heartbeats, a replica that was lost may count as present.
const SETTLED_MAX: Duration = secs(25);

/// How long it may take until both sidecars use Redis, where it is there from the beginning.
const CONNECTED_WITHIN: Duration = secs(15);

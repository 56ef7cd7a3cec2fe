//! Redis and the network before it, and how they are broken and mended.

use super::SIDECARS;
use super::faults::{Fault, Kind};
use super::ground::Ground;
use super::load::vanish;
use super::planted::{self, Plant};
use super::run::until;
use crate::world::{Phase, RedisServer, Relay, eventually, millis, secs};
use ::redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::time::Duration;

/// What a fault breaks.
pub struct Scene {
    redis: Option<RedisServer>,
    /// A connection from before the fault, for when no new one is to be had.
    held: Option<MultiplexedConnection>,
    /// The sidecars use an account of their own.
    has_account: bool,
    relays: Vec<Relay>,
    planted: Vec<String>,
}

impl Scene {
    /// Starts what the fault needs.
    pub async fn set(fault: &Fault) -> Scene {
        let redis = match fault.kind {
            Kind::Baseline => None,
            _ => Some(RedisServer::start().await),
        };
        let mut scene = Scene { redis, held: None, has_account: false, relays: Vec::new(), planted: Vec::new() };
        match fault.kind {
            Kind::Commands { breaks, .. } => {
                scene.redis().run::<()>("ACL SETUSER app on >right ~* &* +@all").await;
                scene.has_account = breaks.iter().any(|command| command.contains(" app"));
                scene.held = Some(scene.redis().connect().await.expect("Redis is there"));
            }
            // That nobody listens where Redis is to be found is made by a relay, too: it keeps the port from others.
            Kind::Network(_) | Kind::NetworkOfOne(_) | Kind::Flapping | Kind::DeadAtStart => {
                for _ in 0..SIDECARS {
                    scene.relays.push(Relay::to(scene.redis().address()).await);
                }
            }
            _ => {}
        }
        if !fault.begins_well() {
            for relay in &scene.relays {
                relay.leave().await;
            }
        }
        scene
    }

    /// Where a sidecar finds Redis, if it is to find any.
    pub fn url(&self, sidecar: usize) -> Option<String> {
        let redis = self.redis.as_ref()?;
        Some(match (self.relays.get(sidecar), self.has_account) {
            (Some(relay), _) => relay.url(),
            (None, true) => format!("redis://app:right@{}/0", redis.address()),
            (None, false) => redis.url(),
        })
    }

    /// Does what is to be done when the sidecars have stored something.
    pub async fn prepare(&self, fault: &Fault, stored: usize, huge_bytes: u64) {
        if fault.begins_well() {
            // On a machine that has other things to do, some of it is not taken within the budget.
            until(STORED_WITHIN, async || self.redis().keys().await.len() >= stored).await;
        }
        match fault.kind {
            Kind::Restored => self.redis().run("SAVE").await,
            Kind::Planted(Plant::Huge) => planted::prepare(self.redis(), huge_bytes).await,
            _ => {}
        }
    }

    /// Breaks it.
    pub async fn begin(&mut self, fault: &Fault) {
        match fault.kind {
            Kind::Baseline | Kind::DeadAtStart | Kind::Flapping | Kind::Kicked | Kind::Planted(_) => {}
            Kind::Killed => self.redis().kill(),
            Kind::Restarted | Kind::Restored => self.redis().restart().await,
            Kind::Loading => {
                self.redis().run::<()>("SAVE").await;
                self.redis().restart_with(LOADS_SLOWLY).await;
            }
            Kind::Frozen => self.redis().freeze(),
            Kind::Network(phase) => self.relays.iter().for_each(|relay| relay.enter(phase)),
            Kind::NetworkOfOne(phase) => self.relays[1].enter(phase),
            Kind::Commands { breaks, .. } => self.run(breaks).await,
        }
    }

    /// What goes on while it is broken, for ever.
    pub async fn go_on(&mut self, fault: &Fault, ground: &Arc<Ground>, flap: Duration) {
        match fault.kind {
            Kind::Flapping => loop {
                for phase in [Phase::Reset, Phase::Relay] {
                    self.relays.iter().for_each(|relay| relay.enter(phase));
                    tokio::time::sleep(flap).await;
                }
            },
            Kind::Kicked => loop {
                self.redis().run::<u64>("CLIENT KILL TYPE normal").await;
                tokio::time::sleep(KICKED_EVERY).await;
            },
            Kind::Planted(plant) => {
                for round in 0.. {
                    let redis = self.redis.as_ref().expect("there is a Redis");
                    planted::plant(redis, plant, round, &mut self.planted).await;
                    tokio::time::sleep(PLANTED_EVERY).await;
                }
            }
            Kind::Frozen => {
                // Their commands are on the way to Redis already, and are answered when nobody waits any more.
                for number in 0..VANISHING {
                    let address = ground.addresses[number % SIDECARS].0;
                    tokio::spawn(vanish(address, ground.fresh(), millis(number as u64 % 8)));
                    tokio::time::sleep(millis(1)).await;
                }
                std::future::pending().await
            }
            _ => std::future::pending().await,
        }
    }

    /// Mends it.
    pub async fn heal(&mut self, fault: &Fault) {
        match fault.kind {
            Kind::Baseline | Kind::Restarted | Kind::Restored | Kind::Kicked => {}
            Kind::Killed => self.redis().restart().await,
            Kind::Loading => {
                self.redis().run::<()>("CONFIG SET key-load-delay 0").await;
                eventually("Redis has loaded all", async || {
                    self.redis().run::<String>("INFO persistence").await.contains("\nloading:0")
                })
                .await;
            }
            Kind::Frozen => self.redis().thaw(),
            Kind::Network(_) | Kind::NetworkOfOne(_) | Kind::Flapping | Kind::DeadAtStart => {
                self.relays.iter().for_each(|relay| relay.enter(Phase::Relay));
            }
            Kind::Commands { mends, .. } => self.run(mends).await,
            Kind::Planted(_) => planted::clear(self.redis(), &self.planted).await,
        }
    }

    fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("there is a Redis")
    }

    async fn run(&mut self, commands: &[&str]) {
        let held = self.held.as_mut().expect("there is a connection from before");
        for command in commands {
            let mut cmd = ::redis::Cmd::new();
            for word in command.split(' ') {
                cmd.arg(word);
            }
            if let Err(error) = cmd.query_async::<::redis::Value>(held).await {
                // Redis has closed it as well; but then it takes others.
                assert!(error.is_io_error(), "{command}: {error}");
                *held = self.redis.as_ref().expect("there is a Redis").connect().await.expect("Redis takes connections");
                cmd.query_async::<::redis::Value>(held).await.expect("Redis obeys");
            }
        }
    }
}

/// How long it is waited until all that was asked for at first is stored.
const STORED_WITHIN: Duration = secs(3);

/// So much time for each key, and an answer to those who ask meanwhile.
const LOADS_SLOWLY: &[&str] = &["--key-load-delay", "8000", "--loading-process-events-interval-bytes", "1024"];

const KICKED_EVERY: Duration = millis(300);

const PLANTED_EVERY: Duration = millis(150);

/// So many clients leave in the first moments of a Redis that stands still.
const VANISHING: usize = 200;

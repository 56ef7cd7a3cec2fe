//! A small world for scenarios: an origin that follows a script, the sidecar before it, and a client, all on real sockets.
//!
//! | file | what |
//! |---|---|
//! | `origin` | an origin that answers as the test says, when the test says |
//! | `raw` | an origin and a client of octets, for what no library would send |
//! | `client` | requests, and what is to be seen in their responses |
//! | `issuer` | tokens, and the keys that they are verified with |
//! | `redis` | a `redis-server` of the test's own, which it can stop, kill and start again |
//! | `cluster` | several of them that have the keys between them |
//! | `sentinel` | who says which Redis is the master |
//! | `relay` | a network before Redis or the origin that can be broken |
//! | `tls` | certificates, and clients that speak TLS |
//!
//! Whatever is started ends with the value that started it.

#![allow(dead_code, unused_imports, reason = "each program of tests uses a part of it")]
#![allow(unreachable_pub, reason = "this is what the tests reach, within their program")]

mod client;
mod cluster;
mod issuer;
mod origin;
mod raw;
mod redis;
mod relay;
mod sentinel;
mod tls;

pub use client::{Ask, Client, Got, Streaming};
pub use cluster::RedisCluster;
pub use issuer::Issuer;
pub use origin::{Gate, Origin, Reply, Seen, Sending};
pub use raw::{ASKS_FOR_WEBSOCKET, OPENS_WEBSOCKET, RawClient, RawConnection, RawOrigin, content_length};
pub use redis::RedisServer;
pub use relay::{Phase, Relay};
pub use sentinel::{Oracle, Sentinel};
pub use tls::{Certified, Secure, SecureClient};

use serde_json::Value;
use sidecache::Sidecar;
use sidecache::clock::Clock;
use sidecache::config::Config;
use sidecache::origin::Address;
use sidecache::rules::{Pattern, Route};
use sidecache::store::RedisOptions;
use std::net::{SocketAddr, TcpListener};
use std::panic::Location;
use std::time::{Duration, Instant};

/// An origin, and the sidecar before it.
///
/// Paths of one segment are cached for a minute, by the route `r`; longer ones match no route.
pub struct World {
    pub origin: Origin,
    pub clock: Clock,
    pub sidecar: Sidecar,
    client: Client,
}

impl World {
    /// A world of defaults, without Redis.
    pub async fn start() -> World {
        World::with(|_| {}).await
    }

    /// A world without Redis, in which the configuration is as the test says.
    pub async fn with(adjust: impl FnOnce(&mut Config)) -> World {
        World::before(Origin::start().await, adjust).await
    }

    /// A world with another origin.
    pub async fn before(origin: Origin, adjust: impl FnOnce(&mut Config)) -> World {
        let clock = Clock::movable();
        let sidecar = sidecar(origin.address.clone(), &clock, adjust).await;
        World { client: Client::of(sidecar.address), origin, clock, sidecar }
    }

    /// A world whose origin is elsewhere: one of octets, say, or none at all.
    pub async fn at(address: &Address, adjust: impl FnOnce(&mut Config)) -> World {
        World::before(Origin::elsewhere(address), adjust).await
    }

    /// A world in which the one route is as the test says.
    pub async fn with_route(adjust: impl FnOnce(&mut Route)) -> World {
        World::with(|config| adjust(&mut config.routes[0])).await
    }

    /// A world whose sidecar uses this Redis, and has connected to it.
    pub async fn with_redis(redis: &RedisServer, adjust: impl FnOnce(&mut Config)) -> World {
        World::with_redis_at(&redis.url(), adjust).await.connected().await
    }

    /// A world whose sidecar is to use a Redis that may not be there.
    pub async fn with_redis_at(url: &str, adjust: impl FnOnce(&mut Config)) -> World {
        World::with(|config| {
            config.store.redis = Some(redis_options(url));
            adjust(config);
        })
        .await
    }

    /// Another sidecar before the same origin, with a clock of its own and the same Redis.
    pub async fn neighbour(&self, redis: &RedisServer) -> World {
        self.neighbour_with(|config| config.store.redis = Some(redis_options(&redis.url()))).await.connected().await
    }

    /// Another sidecar before the same origin.
    pub async fn neighbour_with(&self, adjust: impl FnOnce(&mut Config)) -> World {
        World::before(self.origin.clone(), adjust).await
    }

    /// Waits until the sidecar uses Redis.
    pub async fn connected(self) -> World {
        self.redis_is("connected").await;
        self
    }

    /// Waits until the sidecar says this of Redis.
    pub async fn redis_is(&self, status: &str) {
        eventually(&format!("Redis is {status}"), async || self.stats().await["redis"]["status"] == status).await;
    }

    /// Asks for one new key after the other, each of which is looked for in Redis, until the sidecar has noticed that it is gone.
    pub async fn notices_that_redis_is_gone(&self) {
        let mut asked = 0;
        eventually("the loss of Redis is noticed", async || {
            asked += 1;
            self.get(&format!("/unknown-{asked}")).await;
            self.stats().await["redis"]["status"] == "degraded"
        })
        .await;
    }

    /// Asks for a target.
    pub fn get(&self, target: &str) -> Ask {
        self.client.ask("GET", target)
    }

    /// Sends a request of any method.
    pub fn ask(&self, method: &str, target: &str) -> Ask {
        self.client.ask(method, target)
    }

    /// A client that sends octets as they are.
    pub async fn raw(&self) -> RawClient {
        RawClient::connect(self.sidecar.address).await
    }

    /// What operators get from a path of the admin listener.
    pub async fn admin(&self, path: &str) -> Got {
        Client::of(self.sidecar.admin_address.expect("the world has an admin listener")).ask("GET", path).await
    }

    /// Any request to the admin listener.
    pub fn ask_admin(&self, method: &str, path: &str) -> Ask {
        Client::of(self.sidecar.admin_address.expect("the world has an admin listener")).ask(method, path)
    }

    /// Purges, and gives what the answer says.
    #[track_caller]
    pub fn purge(&self, order: Value) -> impl Future<Output = Value> + use<> {
        let asked = self.ask_admin("POST", "/admin/cache/purge").body(order.to_string());
        async move {
            let got = asked.await;
            assert!(got.status.is_success(), "{got:?}");
            serde_json::from_slice(&got.body()).expect("the answer is JSON")
        }
    }

    pub async fn stats(&self) -> Value {
        serde_json::from_slice(&self.admin("/admin/cache/stats").await.body()).expect("statistics are JSON")
    }

    /// The value of a series such as `cache_hits_total{cache_type="memory",route="r"}`.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
    }
}

/// Starts a sidecar as the tests want it, before an origin.
pub async fn sidecar(origin: Address, clock: &Clock, adjust: impl FnOnce(&mut Config)) -> Sidecar {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::default();
    config.server.listen = any_port;
    config.admin.listen = Some(any_port);
    config.origin.addresses = origin.into();
    config.routes = vec![Route::new("r", Pattern::parse("/{id}").unwrap(), Duration::from_secs(60))];
    adjust(&mut config);
    Sidecar::start(config, clock.clone()).await.expect("the sidecar starts")
}

/// Redis with a budget that a loaded machine keeps; where time matters, the test says so.
pub fn redis_options(url: &str) -> RedisOptions {
    RedisOptions { budget: Duration::from_secs(2), write_timeout: Duration::from_secs(2), ..RedisOptions::new(url) }
}

/// A port on which nothing listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Waits until `holds`, for what happens in the background.
#[track_caller]
pub fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) -> impl Future<Output = ()> + use<F> {
    let (caller, what) = (Location::caller(), what.to_owned());
    async move {
        let begun = Instant::now();
        while !holds().await {
            assert!(begun.elapsed() < PATIENCE, "{caller}: it never came true that {what}");
            tokio::time::sleep(millis(5)).await;
        }
    }
}

/// Waits for what must come soon, so that a test that hangs says where.
#[track_caller]
pub fn soon<F: Future>(what: &str, coming: F) -> impl Future<Output = F::Output> + use<F> {
    let (caller, what) = (Location::caller(), what.to_owned());
    async move {
        let came = tokio::time::timeout(PATIENCE, coming).await;
        came.unwrap_or_else(|_| panic!("{caller}: {what} did not come within {PATIENCE:?}"))
    }
}

/// Far longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

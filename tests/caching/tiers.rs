//! The same scenario in both tiers: once with memory alone, once with Redis alone.

use crate::world::{Ask, Origin, RedisServer, Relay, World, eventually, redis_options};
use sidecache::config::Config;
use sidecache::rules::Route;
use std::ops::Deref;

/// A world that keeps responses in one tier.
pub(crate) struct Tier {
    /// What `Cache-Status` calls it.
    pub(crate) name: &'static str,
    pub(crate) world: World,
    /// What is between the sidecar and its origin.
    pub(crate) network: Relay,
    redis: Option<RedisServer>,
}

/// A world for each tier.
pub(crate) async fn both(adjust: impl Fn(&mut Config)) -> [Tier; 2] {
    let redis = RedisServer::start().await;
    let memory = Tier::start("memory", None, &adjust).await;
    [memory, Tier::start("redis", Some(redis), &adjust).await]
}

/// A world for each tier, with defaults.
pub(crate) async fn both_tiers() -> [Tier; 2] {
    both(|_| {}).await
}

/// A world for each tier, in which the one route is as the test says.
pub(crate) async fn both_with_route(adjust: impl Fn(&mut Route)) -> [Tier; 2] {
    both(|config| adjust(&mut config.routes[0])).await
}

/// Two replicas with both tiers each, and the Redis that they share.
pub(crate) async fn replicas(adjust: impl Fn(&mut Config)) -> ([World; 2], RedisServer) {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, &adjust).await;
    let second = first.neighbour_with(|config| {
        config.store.redis = Some(redis_options(&redis.url()));
        adjust(config);
    });
    let second = second.await.connected().await;
    ([first, second], redis)
}

/// Waits until what a request selects is stored and fresh, for which Redis takes a moment; the origin is not asked.
pub(crate) async fn is_kept(ask: impl Fn() -> Ask, body: &str) {
    eventually(&format!("{body} is stored"), async || {
        let got = ask().with("cache-control", "only-if-cached, min-fresh=1").await;
        got.status.is_success() && got.text() == body
    })
    .await;
}

/// Waits until all is written, also what nobody has to wait for: in Redis, the list of variants comes after the variant.
pub(crate) async fn all_is_written(world: &World) {
    eventually("all is written", async || {
        let open = world.sidecar.stats().client_connections.get() as usize;
        world.sidecar.work_under_way() <= open
    })
    .await;
}

impl Tier {
    async fn start(name: &'static str, redis: Option<RedisServer>, adjust: impl Fn(&mut Config)) -> Tier {
        let (origin, network) = Origin::start().await.through_relay().await;
        let world = World::before(origin, |config| {
            adjust(config);
            if let Some(redis) = &redis {
                config.store.memory.bytes_max = 0;
                config.store.redis = Some(redis_options(&redis.url()));
            }
        })
        .await;
        let world = if redis.is_some() { world.connected().await } else { world };
        Tier { name, world, network, redis }
    }

    /// The Redis that it keeps them in.
    pub(crate) fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("it is the tier of Redis")
    }

    /// Waits until this is stored for a target, and fresh; the origin is not asked.
    pub(crate) async fn keeps(&self, target: &str, body: &str) {
        is_kept(|| self.get(target), body).await;
    }

    /// Waits until so many responses are stored, fresh or stale.
    pub(crate) async fn keeps_number(&self, number: usize) {
        match &self.redis {
            Some(redis) => drop(redis.keys_become(number).await),
            None => eventually("they are stored", async || self.stats().await["total_keys"] == number).await,
        }
    }

    /// Waits until so many requests follow fetches that are under way.
    pub(crate) async fn followed_by(&self, number: usize) {
        eventually("they follow", async || self.sidecar.proxy().followers() == number).await;
    }

    /// Waits until no fetch is under way.
    pub(crate) async fn has_fetched(&self) {
        eventually("the fetches have ended", async || self.sidecar.proxy().fetches_under_way() == 0).await;
    }
}

impl Deref for Tier {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

//! Several replicas with one Redis.

use super::customers;
use crate::world::{Gate, RedisServer, Reply, World, eventually, redis_options, secs};
use serde_json::json;
use sidecache::rules::{ScopeName, watch};

/// So many replicas of one backend.
pub(crate) async fn replicas(redis: &RedisServer, number: usize) -> Vec<World> {
    let mut worlds = vec![World::with_redis(redis, customers).await];
    while worlds.len() < number {
        worlds.push(neighbour(&worlds[0], redis).await);
    }
    worlds
}

async fn neighbour(world: &World, redis: &RedisServer) -> World {
    let url = redis.url();
    let adjust = |config: &mut sidecache::config::Config| {
        customers(config);
        config.store.redis = Some(redis_options(&url));
    };
    world.neighbour_with(adjust).await.connected().await
}

/// Asks as all replicas are asked: under one name.
pub(crate) fn ask(world: &World, target: &str) -> crate::world::Ask {
    world.get(target).with("host", "h")
}

/// All replicas have this in memory.
pub(crate) async fn all_have(worlds: &[World], target: &str, body: &str) {
    worlds[0].origin.has(target, body.to_owned());
    ask(&worlds[0], target).await.is(body).says("stored");
    for world in worlds {
        eventually("it is in memory", async || {
            let got = ask(world, target).await;
            got.is(body);
            got.field("cache-status").contains("detail=memory")
        })
        .await;
    }
}

#[tokio::test]
async fn a_purge_on_one_replica_is_one_on_all() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 3).await;
    assert_eq!(worlds[0].stats().await["redis"]["hears_by"], "tracking");
    for order in [
        json!({ "tags": ["customer:1"], "wait": true }),
        json!({ "pattern": "customer:*", "wait": true }),
        json!({ "url": "/customer/1", "wait": true }),
        json!({ "route": "customer--id", "wait": true }),
        json!({ "all": true, "wait": true }),
    ] {
        all_have(&worlds, "/customer/1", "old").await;
        all_have(&worlds, "/eu/de/customer/1", "stays").await;
        let answer = worlds[1].purge(order.clone()).await;
        assert_eq!(answer["reach"], "everywhere");
        assert_eq!((&answer["replicas"]["present"], &answer["replicas"]["answered"]), (&json!(3), &json!(3)), "{answer}");
        worlds[0].origin.has("/customer/1", "new");
        for world in &worlds {
            ask(world, "/customer/1").await.is("new");
            if order["all"] != true {
                ask(world, "/eu/de/customer/1").await.is("stays").hit("memory");
            }
        }
        worlds[0].purge(json!({ "all": true, "wait": true })).await;
    }
}

#[tokio::test]
async fn after_a_purge_of_everything_redis_has_room_again_and_keeps_what_is_new() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    for customer in 0..20 {
        worlds[0].origin.has(&format!("/customer/{customer}"), "old");
        ask(&worlds[0], &format!("/customer/{customer}")).await.says("stored");
    }
    redis.keys_become(20).await;
    eventually("they are counted", async || worlds[1].stats().await["total_keys"] == 20).await;
    worlds[1].purge(json!({ "all": true, "wait": true })).await;
    redis.keys_become(0).await;
    ask(&worlds[0], "/customer/1").await.says("stored");
    redis.keys_become(1).await;
    ask(&worlds[1], "/customer/1").await.is("old").says("hit");
    // Who looks for what was purged finds nothing more to delete.
    let erased = worlds[1].ask_admin("POST", "/admin/cache/erase").body(r#"{"tags": ["customer:2"]}"#).await;
    assert!(erased.text().contains("\"redis\":{\"responses\":0,"), "{erased:?}");
    redis.keys_become(1).await;
    eventually("they are counted", async || worlds[1].stats().await["total_keys"] == 1).await;
}

#[tokio::test]
async fn a_soft_purge_on_one_replica_is_one_on_all() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, "/customer/1", "old").await;
    let gate = Gate::closed();
    worlds[0].origin.reply("/customer/1", Reply::new("new").behind(&gate));
    worlds[0].purge(json!({ "tags": ["customer:1"], "soft": true, "wait": true })).await;
    for world in &worlds {
        ask(world, "/customer/1").await.is("old").says("hit").says("ttl=0");
    }
    gate.open();
    for world in &worlds {
        eventually("the new one is there", async || ask(world, "/customer/1").await.text() == "new").await;
    }
}

#[tokio::test]
async fn a_soft_purge_that_waits_for_nobody_is_done_too() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, "/customer/1", "old").await;
    let answer = worlds[0].purge(json!({ "tags": ["customer:1"], "soft": true })).await;
    assert_eq!(answer["reach"], "everywhere");
    assert_eq!(worlds[0].stats().await["redis"]["status"], "connected");
    worlds[0].origin.has("/customer/1", "new");
    for world in &worlds {
        eventually("the new one is there", async || ask(world, "/customer/1").await.text() == "new").await;
    }
}

#[tokio::test]
async fn what_one_replica_replaces_the_others_do_not_keep() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, "/customer/1", "old").await;
    worlds[0].origin.has("/customer/1", "new");
    ask(&worlds[0], "/customer/1").with("cache-control", "no-cache").await.is("new").says("stored");
    eventually("the other one has it too", async || ask(&worlds[1], "/customer/1").await.text() == "new").await;
    ask(&worlds[1], "/customer/1").await.is("new").hit("memory");
    ask(&worlds[0], "/customer/1").await.is("new").hit("memory");
    assert_eq!(worlds[0].origin.count("/customer/1"), 2);
}

#[tokio::test]
async fn what_one_replica_was_fetching_when_another_purged_is_not_stored() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    let gate = Gate::closed();
    worlds[0].origin.reply("/customer/1", Reply::new("old").behind(&gate));
    let asked_before = ask(&worlds[0], "/customer/1").spawn();
    worlds[0].origin.arrived("/customer/1", 1).await;
    worlds[1].purge(json!({ "tags": ["customer:1"], "wait": true })).await;
    worlds[0].origin.has("/customer/1", "new");
    // Not even while it is under way.
    ask(&worlds[0], "/customer/1").await.is("new").says("stored");
    gate.open();
    asked_before.await.unwrap().is("old").does_not_say("stored");
    for world in &worlds {
        ask(world, "/customer/1").await.is("new");
    }
    assert_eq!(worlds[0].origin.count("/customer/1"), 2);
}

#[tokio::test]
async fn memory_keeps_what_redis_lets_go_of() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 1).await;
    all_have(&worlds, "/customer/1", "old").await;
    let key = redis.keys_become(1).await.remove(0);
    redis.run::<()>(&format!("DEL {key}")).await;
    // The first asks Redis, which has nothing newer and knows of no purge.
    for _ in 0..2 {
        ask(&worlds[0], "/customer/1").await.is("old").hit("memory");
    }
    assert_eq!(worlds[0].origin.count("/customer/1"), 1);
}

#[tokio::test]
async fn without_its_generations_nothing_is_used() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds[..1], "/customer/1", "old").await;
    for generation in redis.generations().await.into_iter().filter(|name| !is_watch(name)) {
        eventually("it is used", async || ask(&worlds[0], "/customer/1").await.field("cache-status").contains("hit")).await;
        redis.run::<()>(&format!("DEL {generation}")).await;
        eventually("it is not used any more", async || {
            !ask(&worlds[0], "/customer/1").await.field("cache-status").contains("hit")
        })
        .await;
    }
    redis.run::<()>("FLUSHALL").await;
    eventually("it is not used any more", async || !ask(&worlds[0], "/customer/1").await.field("cache-status").contains("hit"))
        .await;
    eventually("it is stored again", async || ask(&worlds[1], "/customer/1").await.field("cache-status").contains("hit")).await;
}

#[tokio::test]
async fn all_that_purging_leaves_in_redis_has_an_expiry() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, "/customer/1", "old").await;
    for soft in [true, false] {
        worlds[0].purge(json!({ "tags": ["customer:1", "never:there"], "soft": soft, "wait": true })).await;
        worlds[1].purge(json!({ "pattern": "never:*", "soft": soft, "wait": true })).await;
    }
    all_have(&worlds, "/customer/1", "old").await;
    eventually("the purges are noted", async || redis.run::<usize>("LLEN sidecache:2.purges").await == 4).await;
    for key in redis.all_keys().await {
        let ttl_ms: i64 = redis.run(&format!("PTTL {key}")).await;
        // -2 is that it has ended since it was listed; -1, that it never would.
        assert!(ttl_ms > 0 || ttl_ms == -2, "{key} lives for {ttl_ms} ms");
    }
}

#[tokio::test]
async fn what_ends_leaves_nothing_behind() {
    let redis = RedisServer::start().await;
    let brief = |config: &mut sidecache::config::Config| {
        customers(config);
        for route in &mut config.routes {
            route.caching = sidecache::rules::Caching::Rule { ttl: secs(1), overrides: false };
        }
    };
    let world = World::with_redis(&redis, brief).await;
    for customer in 0..20 {
        let target = format!("/customer/{customer}");
        world.origin.reply(&target, "one");
        ask(&world, &target).await.says("stored");
    }
    eventually("the responses have ended", async || redis.keys().await.is_empty()).await;
    for generation in redis.generations().await.into_iter().filter(|name| !is_watch(name)) {
        let ttl_ms: i64 = redis.run(&format!("PTTL {generation}")).await;
        assert_ne!(ttl_ms, -1, "{generation} never ends");
        assert!(ttl_ms <= 7_000 || is_shared(&generation), "{generation} outlives its responses by {ttl_ms} ms");
    }
}

#[tokio::test]
async fn a_purge_is_a_handful_of_commands_and_never_a_scan() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    for customer in 0..50 {
        all_have(&worlds[..1], &format!("/customer/{customer}"), "one").await;
    }
    redis.run::<()>("CONFIG RESETSTAT").await;
    worlds[0].purge(json!({ "pattern": "customer:*" })).await;
    ask(&worlds[0], "/customer/1").await.forwarded("uri-miss");
    let stats: String = redis.run("INFO commandstats").await;
    for command in ["scan", "keys", "eval", "unlink"] {
        assert!(!stats.contains(&format!("cmdstat_{command}:")), "{stats}");
    }
    // The generation of the tags, and the watch that goes with it.
    assert!(!stats.contains("cmdstat_del:"), "{stats}");
    let sets = stats.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls=")?.split(',').next()?.parse().ok());
    assert!(sets.is_some_and(|sets: usize| sets <= 8), "{stats}");
}

/// The generations of everything, of routes and of beginnings of tags are there for all.
fn is_shared(name: &str) -> bool {
    let name = name.rsplit(':').next().unwrap();
    ScopeName(u128::from_str_radix(name, 16).unwrap()).is_shared()
}

/// What every fetch watches is always there.
pub(crate) fn is_watch(name: &str) -> bool {
    watch::NAMES.iter().any(|watch| name.ends_with(&watch.to_string()))
}

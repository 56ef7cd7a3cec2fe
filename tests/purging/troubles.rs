//! Purges, and a Redis that is cut off, dead, empty, or does not permit everything.

use super::customers;
use super::replicas::{all_have, ask, replicas};
use crate::world::{Phase, RedisServer, Relay, World, eventually, free_port, millis, redis_options, secs};
use serde_json::json;
use sidecache::config::Config;
use sidecache::store::{RedisOptions, WhenDown};

/// A replica that reaches Redis through a relay.
pub(crate) async fn behind(relay: &Relay, world: &World, when_down: WhenDown) -> World {
    let url = relay.url();
    let adjust = |config: &mut Config| {
        customers(config);
        let mut options = redis_options(&url);
        // Short, so that silence is noticed while the test waits.
        options.budget = millis(200);
        options.write_timeout = millis(200);
        options.heartbeat = millis(200);
        options.when_down = when_down;
        config.store.redis = Some(options);
    };
    world.neighbour_with(adjust).await.connected().await
}

#[tokio::test]
async fn a_replica_that_was_cut_off_does_not_use_what_was_purged_meanwhile() {
    for when_down in [WhenDown::PassThrough, WhenDown::Memory] {
        for phase in [Phase::Refuse, Phase::BlackHole] {
            let redis = RedisServer::start().await;
            let relay = Relay::to(redis.address()).await;
            let first = replicas(&redis, 1).await.remove(0);
            let cut_off = behind(&relay, &first, when_down).await;
            let worlds = [first, cut_off];
            all_have(&worlds, "/customer/1", "old").await;
            all_have(&worlds, "/customer/2", "stays").await;
            relay.enter(phase);
            // Without a request: it notices by itself that nothing is heard.
            worlds[1].redis_is("degraded").await;
            worlds[0].purge(json!({ "tags": ["customer:1"] })).await;
            worlds[0].origin.has("/customer/1", "new");
            relay.enter(Phase::Relay);
            worlds[1].redis_is("connected").await;
            ask(&worlds[1], "/customer/1").await.is("new");
            // What was not purged is as good as before, once its generations were read.
            ask(&worlds[1], "/customer/2").await.is("stays").says("hit");
            assert_eq!(worlds[0].origin.count("/customer/2"), 1);
        }
    }
}

#[tokio::test]
async fn a_purge_is_not_done_before_the_silence_of_a_replica_counts() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let silent = behind(&relay, &first, WhenDown::PassThrough).await;
    let worlds = [first, silent];
    all_have(&worlds, "/customer/1", "old").await;
    relay.enter(Phase::BlackHole);
    worlds[0].origin.has("/customer/1", "new");
    // It waits until the other one relies on nothing any more, and says so.
    let answer = worlds[0].purge(json!({ "tags": ["customer:1"], "wait": true })).await;
    ask(&worlds[1], "/customer/1").await.is("new");
    assert_eq!(answer["replicas"]["answered"], answer["replicas"]["present"], "{answer}");
}

#[tokio::test]
async fn a_purge_that_cannot_wait_long_enough_says_so() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let _silent = behind(&relay, &first, WhenDown::PassThrough).await;
    relay.enter(Phase::BlackHole);
    let order = json!({ "all": true, "wait_ms": 50 });
    let got = first.ask_admin("POST", "/admin/cache/purge").body(order.to_string()).await;
    got.status(202);
    let answer: serde_json::Value = serde_json::from_slice(&got.body()).unwrap();
    assert_eq!((&answer["replicas"]["present"], &answer["replicas"]["answered"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn a_purge_without_redis_is_done_here_and_told_to_redis_before_it_is_used_again() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let cut_off = behind(&relay, &first, WhenDown::Memory).await;
    let worlds = [first, cut_off];
    all_have(&worlds, "/customer/1", "old").await;
    relay.enter(Phase::Refuse);
    worlds[1].redis_is("degraded").await;
    ask(&worlds[1], "/customer/1").await.is("old").hit("memory");
    let order = json!({ "tags": ["customer:1"], "wait": true });
    let got = worlds[1].ask_admin("POST", "/admin/cache/purge").body(order.to_string()).await;
    got.status(202);
    assert!(got.text().contains("here-first"), "{got:?}");
    assert_ne!(worlds[1].stats().await["redis"]["purges_pending"], 0);
    assert!(worlds[1].metric("sidecache_redis_purges_pending").await > 0.0);
    worlds[0].origin.has("/customer/1", "new");
    ask(&worlds[1], "/customer/1").await.is("new").says("stored");
    ask(&worlds[1], "/customer/1").await.is("new").hit("memory");
    ask(&worlds[0], "/customer/1").await.is("old").hit("memory");
    relay.enter(Phase::Relay);
    worlds[1].redis_is("connected").await;
    assert_eq!(worlds[1].stats().await["redis"]["purges_pending"], 0);
    ask(&worlds[1], "/customer/1").await.is("new");
    eventually("the other replica has heard of it", async || ask(&worlds[0], "/customer/1").await.text() == "new").await;
}

#[tokio::test]
async fn a_purge_that_redis_does_not_confirm_is_kept() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let cut_off = behind(&relay, &first, WhenDown::PassThrough).await;
    let worlds = [first, cut_off];
    all_have(&worlds, "/customer/1", "old").await;
    relay.enter(Phase::BlackHole);
    let got = worlds[1].ask_admin("POST", "/admin/cache/purge").body(r#"{"tags": ["customer:1"]}"#).await;
    got.status(202);
    worlds[0].origin.has("/customer/1", "new");
    ask(&worlds[1], "/customer/1").await.is("new");
    relay.enter(Phase::Relay);
    worlds[1].redis_is("connected").await;
    ask(&worlds[1], "/customer/1").await.is("new");
    eventually("the other replica has heard of it", async || ask(&worlds[0], "/customer/1").await.text() == "new").await;
}

#[tokio::test]
async fn after_a_restart_of_redis_nothing_old_is_used() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, "/customer/1", "old").await;
    redis.restart().await;
    worlds[0].origin.has("/customer/1", "new");
    for world in &worlds {
        eventually("the restart is noticed", async || ask(world, "/customer/1").await.text() == "new").await;
        world.redis_is("connected").await;
    }
    // All generations are gone, so what memory had is not used; and it goes on from there.
    for world in &worlds {
        eventually("it is cached again", async || {
            let got = ask(world, "/customer/1").await;
            got.is("new");
            got.field("cache-status").contains("hit")
        })
        .await;
    }
}

/// Two replicas with an account of which something was taken.
async fn without(redis: &RedisServer, permissions: &str) -> [World; 2] {
    redis.run::<()>(&format!("ACL SETUSER default {permissions}")).await;
    let worlds = replicas(redis, 2).await;
    let [first, second] = worlds.try_into().map_err(|_| ()).expect("there are two");
    [first, second]
}

#[tokio::test]
async fn where_tracking_is_refused_replicas_tell_one_another() {
    let redis = RedisServer::start().await;
    let worlds = without(&redis, "-client|tracking").await;
    assert_eq!(worlds[0].stats().await["redis"]["hears_by"], "channel");
    for round in 0..3 {
        all_have(&worlds, "/customer/1", "old").await;
        let answer = worlds[round % 2].purge(json!({ "tags": ["customer:1"], "wait": true })).await;
        assert_eq!((&answer["replicas"]["present"], &answer["replicas"]["answered"]), (&json!(2), &json!(2)), "{answer}");
        worlds[0].origin.has("/customer/1", "new");
        for world in &worlds {
            ask(world, "/customer/1").await.is("new");
        }
        worlds[0].purge(json!({ "all": true, "wait": true })).await;
    }
    // Replacements are told, too.
    all_have(&worlds, "/customer/2", "old").await;
    worlds[0].origin.has("/customer/2", "new");
    ask(&worlds[0], "/customer/2").with("cache-control", "no-cache").await.is("new").says("stored");
    eventually("the other one has it too", async || ask(&worlds[1], "/customer/2").await.text() == "new").await;
}

#[tokio::test]
async fn where_nothing_can_be_heard_memory_is_not_used_without_asking() {
    let redis = RedisServer::start().await;
    let worlds = without(&redis, "-client|tracking -subscribe").await;
    assert_eq!(worlds[0].stats().await["redis"]["hears_by"], "none");
    worlds[0].origin.has("/customer/1", "old");
    ask(&worlds[0], "/customer/1").await.says("stored");
    eventually("it is in Redis", async || ask(&worlds[1], "/customer/1").await.field("cache-status").contains("hit")).await;
    worlds[0].purge(json!({ "tags": ["customer:1"] })).await;
    worlds[0].origin.has("/customer/1", "new");
    for world in &worlds {
        ask(world, "/customer/1").await.is("new");
    }
}

#[tokio::test]
async fn a_full_redis_still_purges() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, "/customer/1", "old").await;
    redis.run::<()>("CONFIG SET maxmemory-policy noeviction").await;
    redis.run::<()>("CONFIG SET maxmemory 1").await;
    let answer = worlds[0].purge(json!({ "tags": ["customer:1"] })).await;
    assert_eq!(answer["reach"], "everywhere");
    worlds[0].origin.has("/customer/1", "new");
    ask(&worlds[0], "/customer/1").await.is("new");
    eventually("the other one has heard of it", async || ask(&worlds[1], "/customer/1").await.text() == "new").await;
    assert_eq!(worlds[0].stats().await["redis"]["purges_pending"], 0);
}

#[tokio::test]
async fn a_replica_that_redis_did_not_let_say_farewell_is_not_waited_for_afterwards() {
    let redis = RedisServer::start().await;
    let with_long_beats = |config: &mut Config| {
        customers(config);
        config.store.redis = Some(RedisOptions { heartbeat: secs(60), ..redis_options(&redis.url()) });
    };
    let first = World::with(with_long_beats).await.connected().await;
    let second = first.neighbour_with(with_long_beats).await.connected().await;
    let connects = first.metric("sidecache_redis_connects_total").await;
    redis.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", free_port())).await;
    first.ask_admin("POST", "/admin/cache/purge").body(r#"{"tags": ["customer:1"]}"#).await.status(202);
    let errors = first.metric("sidecache_redis_errors_total{kind=\"connection\"}").await;
    eventually("it has tried to connect several times", async || {
        first.metric("sidecache_redis_errors_total{kind=\"connection\"}").await >= errors + 3.0
    })
    .await;
    redis.run::<()>("REPLICAOF NO ONE").await;
    eventually("it is connected", async || first.metric("sidecache_redis_connects_total").await > connects).await;
    let answer = first.purge(json!({ "tags": ["customer:1"], "wait": true })).await;
    assert_eq!((&answer["replicas"]["present"], &answer["replicas"]["answered"]), (&json!(2), &json!(2)), "{answer}");
    drop(second);
}

#[tokio::test]
async fn a_replica_that_goes_on_with_memory_counts_until_it_has_redis_back() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let world = World::with_redis(&redis, customers).await;
    let url = relay.url();
    let other = world
        .neighbour_with(|config| {
            customers(config);
            config.store.redis = Some(RedisOptions { when_down: WhenDown::Memory, ..redis_options(&url) });
            config.store.redis.as_mut().unwrap().connect_timeout = millis(8000);
        })
        .await
        .connected()
        .await;
    world.origin.has("/customer/1", "old".to_owned());
    ask(&world, "/customer/1").await.is("old").says("stored");
    eventually("it is in memory", async || ask(&other, "/customer/1").await.field("cache-status").contains("detail=memory"))
        .await;
    relay.enter(Phase::Refuse);
    other.redis_is("degraded").await;
    ask(&other, "/customer/1").await.is("old").hit("memory");
    world.origin.has("/customer/1", "new".to_owned());
    // It comes back slowly, takes its old name off the list, and is cut off again before it is ready.
    relay.enter(Phase::Slow { there: millis(150), back: millis(150) });
    eventually("it has said farewell, or has Redis back", async || {
        world.stats().await["redis"]["replicas"] == 1 || other.stats().await["redis"]["status"] == "connected"
    })
    .await;
    relay.enter(Phase::BlackHole);
    let got =
        world.ask_admin("POST", "/admin/cache/purge").body(json!({ "tags": ["customer:1"], "wait_ms": 200 }).to_string()).await;
    // 202 says that not all have confirmed; but what is confirmed holds.
    if got.status == 200 {
        ask(&other, "/customer/1").await.is("new");
    }
}

/// A replica that is cut off without noticing, and one that was not, when Redis forgets who there is.
async fn forgotten_and_purged(met: impl AsyncFnOnce(&RedisServer, &[World])) {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    // Nothing happens here because a heartbeat came or did not come.
    let slow = |url: &str| {
        let url = url.to_owned();
        move |config: &mut Config| {
            customers(config);
            config.store.redis = Some(RedisOptions { heartbeat: secs(60), ..redis_options(&url) });
        }
    };
    let first = World::with_redis_at(&redis.url(), slow(&redis.url())).await;
    // It has looked who is there when it came, and found nobody; asked for statistics, it would look again.
    eventually("it has looked", async || latest_commands(&redis).await == ["hgetall"]).await;
    let other = first.neighbour_with(slow(&relay.url())).await.connected().await;
    let worlds = [first, other];
    met(&redis, &worlds).await;
    all_have(&worlds, "/customer/1", "old").await;
    relay.enter(Phase::HalfOpen);
    ask(&worlds[1], "/customer/1").await.is("old").hit("memory");
    redis.run::<()>("FLUSHALL").await;
    worlds[0].origin.has("/customer/1", "new");
    let order = json!({ "tags": ["customer:1"], "wait_ms": 300 });
    let got = worlds[0].ask_admin("POST", "/admin/cache/purge").body(order.to_string()).await;
    got.status(202);
    let answer: serde_json::Value = serde_json::from_slice(&got.body()).unwrap();
    assert_eq!((&answer["replicas"]["present"], &answer["replicas"]["answered"]), (&json!(2), &json!(1)), "{answer}");
}

/// What each of the sidecars has asked of Redis last.
async fn latest_commands(redis: &RedisServer) -> Vec<String> {
    let clients: String = redis.run("CLIENT LIST").await;
    let sidecars = clients.lines().filter(|client| client.contains(" flags=tB "));
    sidecars.filter_map(|sidecar| Some(sidecar.split_once(" cmd=")?.1.split(' ').next()?.to_owned())).collect()
}

#[tokio::test]
async fn who_has_answered_counts_also_when_redis_has_forgotten_it() {
    forgotten_and_purged(async |_, worlds| {
        let answer = worlds[0].purge(json!({ "all": true, "wait": true })).await;
        assert_eq!(answer["replicas"]["answered"], 2, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn who_has_come_counts_also_when_redis_has_forgotten_it() {
    forgotten_and_purged(async |redis, _| {
        // The signs of others are the last that each of them reads, once it has met one.
        eventually("they have looked who is there", async || latest_commands(redis).await == ["mget", "mget"]).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_not_read_since_an_outage_is_not_used_in_the_next_one() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let cut_off = behind(&relay, &first, WhenDown::Memory).await;
    let worlds = [first, cut_off];
    for target in ["/customer/1", "/customer/2", "/customer/3"] {
        all_have(&worlds, target, "old").await;
    }
    relay.enter(Phase::Refuse);
    worlds[1].redis_is("degraded").await;
    worlds[0].purge(json!({ "tags": ["customer:1"] })).await;
    worlds[0].origin.has("/customer/1", "new");
    relay.enter(Phase::Relay);
    worlds[1].redis_is("connected").await;
    ask(&worlds[1], "/customer/2").await.is("old").says("hit");
    relay.enter(Phase::Refuse);
    worlds[1].redis_is("degraded").await;
    ask(&worlds[1], "/customer/1").await.is("new").forwarded("uri-miss");
    ask(&worlds[1], "/customer/2").await.is("old").hit("memory");
    ask(&worlds[1], "/customer/3").await.is("old").forwarded("uri-miss").says("stored");
    ask(&worlds[1], "/customer/3").await.is("old").hit("memory");
}

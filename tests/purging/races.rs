//! Purges at bad moments: what was once wrong, or easily could be.

use super::customers;
use super::replicas::{all_have, ask, is_watch, replicas};
use super::troubles::behind;
use crate::world::{Gate, Phase, RedisServer, Relay, Reply, World, eventually, redis_options, secs};
use serde_json::{Value, json};
use sidecache::config::Config;
use sidecache::store::WhenDown;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

const TARGET: &str = "/customer/1";

const READS: &str = "sidecache_redis_commands_total{kind=\"read\"}";
const WRITES: &str = "sidecache_redis_commands_total{kind=\"write\"}";

fn order(soft: bool) -> Value {
    json!({ "tags": ["customer:1"], "soft": soft, "wait": true })
}

/// Purges, and gives the status with the answer.
async fn ordered(world: &World, order: Value) -> (u16, Value) {
    let got = world.ask_admin("POST", "/admin/cache/purge").body(order.to_string()).await;
    (got.status.as_u16(), serde_json::from_slice(&got.body()).unwrap())
}

#[tokio::test]
async fn a_purge_whose_client_goes_away_is_done_to_its_end() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, TARGET, "old").await;
    redis.freeze();
    let connections = async || worlds[0].metric("sidecache_client_connections").await;
    let others = connections().await;
    let mut client = TcpStream::connect(worlds[0].sidecar.admin_address.unwrap()).await.unwrap();
    let body = r#"{"tags":["customer:1"]}"#;
    let request = format!("POST /admin/cache/purge HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let before = worlds[0].metric(WRITES).await;
    client.write_all(request.as_bytes()).await.unwrap();
    eventually("Redis was told, and is silent", async || worlds[0].metric(WRITES).await > before).await;
    eventually("it is connected", async || connections().await > others).await;
    drop(client);
    eventually("it is gone", async || connections().await <= others).await;
    redis.thaw();
    worlds[0].origin.has(TARGET, "new");
    eventually("it is done", async || ask(&worlds[0], TARGET).await.text() == "new").await;
    worlds[1].purge(order(false)).await;
    for world in &worlds {
        ask(world, TARGET).await.is("new");
    }
}

#[tokio::test]
async fn one_s_own_write_does_not_hide_a_purge_by_another() {
    for soft in [true, false] {
        let redis = RedisServer::start().await;
        let worlds = replicas(&redis, 2).await;
        all_have(&worlds, TARGET, "old").await;
        // Redis gets both in one turn: the purge by the second, and then what the first writes about the same generation.
        let gate = Gate::closed();
        worlds[0].origin.has("/customer/1/risk", Reply::new("risk").cache("max-age=1000000").behind(&gate));
        let asked = ask(&worlds[0], "/customer/1/risk").spawn();
        worlds[0].origin.arrived("/customer/1/risk", 1).await;
        worlds[0].origin.has(TARGET, "new");
        redis.freeze();
        let before = [worlds[0].metric(WRITES).await, worlds[1].metric(WRITES).await];
        let purging = worlds[1].ask_admin("POST", "/admin/cache/purge").body(order(soft).to_string()).spawn();
        eventually("the purge was sent", async || worlds[1].metric(WRITES).await > before[1]).await;
        gate.open();
        asked.await.unwrap();
        eventually("the response was sent", async || worlds[0].metric(WRITES).await > before[0]).await;
        redis.thaw();
        purging.await.unwrap().status(200);
        eventually("the first has heard of it", async || ask(&worlds[0], TARGET).await.text() == "new").await;
    }
}

#[tokio::test]
async fn a_server_that_comes_back_from_an_older_state_brings_nothing_back() {
    let redis = RedisServer::start().await;
    let mut worlds = replicas(&redis, 3).await;
    all_have(&worlds, TARGET, "old").await;
    redis.keys_become(1).await;
    redis.run::<()>("SAVE").await;
    // Who purges is not there any more when it matters; the others have heard of it.
    let purger = worlds.remove(0);
    purger.purge(order(false)).await;
    purger.origin.has(TARGET, "new");
    purger.sidecar.drain().await;
    redis.restart().await;
    assert_eq!(redis.keys().await.len(), 1, "what was purged is there again");
    for world in &worlds {
        eventually("it is used", async || {
            let got = ask(world, TARGET).await;
            world.stats().await["redis"]["status"] == "connected" && got.field("cache-status").contains("hit")
        })
        .await;
        ask(world, TARGET).await.is("new");
    }
}

#[tokio::test]
async fn a_304_does_not_bring_back_what_was_purged() {
    let world = World::with(customers).await;
    // A date has one second, so the origin does not see that it has changed.
    let since = "Mon, 01 Jan 2024 00:00:00 GMT";
    world.origin.has(TARGET, Reply::new("old").cache("max-age=10").with("last-modified", since));
    ask(&world, TARGET).await.is("old");
    world.clock.advance(secs(20));
    let gate = Gate::closed();
    let unchanged = Reply::new("").status(304).cache("max-age=10").with("last-modified", since).behind(&gate);
    world.origin.has(TARGET, unchanged);
    let first = ask(&world, TARGET).spawn();
    world.origin.arrived(TARGET, 2).await;
    let second = ask(&world, TARGET).spawn();
    eventually("the second follows", async || world.stats().await["followers"] == 1).await;
    world.purge(order(false)).await;
    world.origin.has(TARGET, Reply::new("new").cache("max-age=10").with("last-modified", since));
    gate.open();
    first.await.unwrap().is("old").does_not_say("stored");
    second.await.unwrap().is("new");
    assert_eq!(world.origin.last(TARGET).field("if-modified-since"), None);
    ask(&world, TARGET).await.is("new").hit("memory");
}

#[tokio::test]
async fn a_soft_purge_counts_also_where_memory_goes_on_without_redis() {
    let must_revalidate =
        |body: &'static str, etag: &str| Reply::new(body).cache("max-age=60, must-revalidate").with("etag", etag);
    for is_before in [true, false] {
        let redis = RedisServer::start().await;
        let relay = Relay::to(redis.address()).await;
        let first = replicas(&redis, 1).await.remove(0);
        let cut_off = behind(&relay, &first, WhenDown::Memory).await;
        cut_off.origin.has(TARGET, must_revalidate("old", "\"1\""));
        ask(&cut_off, TARGET).await.is("old");
        if is_before {
            cut_off.purge(order(true)).await;
        }
        relay.enter(Phase::Refuse);
        cut_off.redis_is("degraded").await;
        if !is_before {
            assert_eq!(ordered(&cut_off, order(true)).await.0, 202);
        }
        cut_off.origin.has(TARGET, must_revalidate("new", "\"2\""));
        ask(&cut_off, TARGET).await.is("new");
    }
}

#[tokio::test]
async fn a_soft_purge_of_a_tag_that_is_not_known_yet_counts_also_without_redis() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let cut_off = behind(&relay, &first, WhenDown::Memory).await;
    relay.enter(Phase::Refuse);
    cut_off.redis_is("degraded").await;
    let gate = Gate::closed();
    let tagged = |body: &'static str| Reply::new(body).with("surrogate-key", "sale");
    cut_off.origin.has(TARGET, tagged("old").behind(&gate));
    let asked_before = ask(&cut_off, TARGET).spawn();
    cut_off.origin.arrived(TARGET, 1).await;
    assert_eq!(ordered(&cut_off, json!({ "tags": ["sale"], "soft": true })).await.0, 202);
    cut_off.origin.has(TARGET, tagged("new"));
    gate.open();
    asked_before.await.unwrap().is("old").does_not_say("stored");
    ask(&cut_off, TARGET).await.is("new");
}

#[tokio::test]
async fn a_replica_that_goes_on_by_itself_is_not_taken_for_gone() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let worlds = [behind(&relay, &first, WhenDown::Memory).await, first];
    all_have(&worlds, TARGET, "old").await;
    relay.enter(Phase::BlackHole);
    worlds[0].redis_is("degraded").await;
    // Longer than four heartbeats; but it may go on for minutes.
    sleep(secs(1)).await;
    for has_forgotten in [false, true] {
        let (status, answer) = ordered(&worlds[1], json!({ "tags": ["customer:1"], "wait_ms": 100 })).await;
        assert_eq!((status, &answer["replicas"]["present"]), (202, &json!(2)), "{has_forgotten} {answer}");
        // Redis forgets who is present; those who have seen it do not.
        redis.run::<()>("FLUSHALL").await;
    }
}

#[tokio::test]
async fn a_replica_that_reconnects_while_others_wait_for_it_is_not_waited_for() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let worlds = [behind(&relay, &first, WhenDown::PassThrough).await, first];
    relay.enter(Phase::BlackHole);
    let begun = std::time::Instant::now();
    let before = worlds[1].metric(WRITES).await;
    let waiting = worlds[1].ask_admin("POST", "/admin/cache/purge").body(order(false).to_string()).spawn();
    eventually("it waits for answers", async || worlds[1].metric(WRITES).await > before + 1.0).await;
    relay.enter(Phase::Refuse);
    relay.enter(Phase::Relay);
    waiting.await.unwrap().status(200);
    assert!(begun.elapsed() < secs(8), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_replica_whose_signs_of_life_are_refused_relies_on_nothing() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let second = behind(&relay, &first, WhenDown::PassThrough).await;
    let worlds = [first, second];
    all_have(&worlds, TARGET, "old").await;
    redis.run::<()>("ACL SETUSER default -pexpire -set").await;
    // Since others take it for gone, it reads from Redis what it has in memory.
    eventually("each hit asks Redis", async || {
        let before = worlds[1].metric(READS).await;
        ask(&worlds[1], TARGET).await.is("old").says("hit");
        worlds[1].metric(READS).await > before
    })
    .await;
}

#[tokio::test]
async fn a_purge_that_was_kept_is_told_where_replicas_tell_one_another() {
    let redis = RedisServer::start().await;
    redis.run::<()>("ACL SETUSER default -client|tracking").await;
    let relay = Relay::to(redis.address()).await;
    let first = replicas(&redis, 1).await.remove(0);
    let worlds = [behind(&relay, &first, WhenDown::PassThrough).await, first];
    all_have(&worlds, TARGET, "old").await;
    relay.enter(Phase::Refuse);
    worlds[0].redis_is("degraded").await;
    worlds[1].origin.has(TARGET, "new");
    assert_eq!(ordered(&worlds[0], order(false)).await.0, 202);
    relay.enter(Phase::Relay);
    worlds[0].redis_is("connected").await;
    let begun = std::time::Instant::now();
    eventually("the other has heard of it", async || ask(&worlds[1], TARGET).await.text() == "new").await;
    assert!(begun.elapsed() < secs(5), "only by reading everything anew: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_full_redis_purges_softly_too_and_goes_on_to_be_used() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds, TARGET, "old").await;
    all_have(&worlds, "/customer/2", "stays").await;
    redis.run::<()>("CONFIG SET maxmemory-policy noeviction").await;
    redis.run::<()>("CONFIG SET maxmemory 1").await;
    // There is no room for the question, so nobody knows whether the others have heard.
    let (status, answer) = ordered(&worlds[0], order(true)).await;
    assert_eq!((status, &answer["reach"]), (202, &json!("everywhere")), "{answer}");
    worlds[0].origin.has(TARGET, "new");
    for world in &worlds {
        eventually("it is purged", async || ask(world, TARGET).await.text() == "new").await;
        ask(world, "/customer/2").await.is("stays").says("hit");
        let redis = &world.stats().await["redis"];
        assert_ne!(redis["status"], "degraded", "{redis}");
        assert_eq!(redis["purges_pending"], 0, "{redis}");
    }
}

#[tokio::test]
async fn a_purge_finds_room_where_readers_have_taken_it_all() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let world = World::with(|config: &mut Config| {
        customers(config);
        config.store.redis = Some(sidecache::store::RedisOptions { commands_max: 1, ..redis_options(&url) });
    })
    .await
    .connected()
    .await;
    world.origin.has(TARGET, "old");
    ask(&world, TARGET).await.says("stored");
    redis.freeze();
    let before = [world.metric(READS).await, world.metric(WRITES).await];
    let reading = ask(&world, "/customer/3").spawn();
    eventually("the place is taken", async || world.metric(READS).await > before[0]).await;
    let purging = world.ask_admin("POST", "/admin/cache/purge").body(r#"{"tags": ["customer:1"]}"#).spawn();
    eventually("the purge was sent", async || world.metric(WRITES).await > before[1]).await;
    redis.thaw();
    purging.await.unwrap().status(200);
    reading.await.unwrap();
    assert_eq!(world.stats().await["redis"]["status"], "connected");
}

#[tokio::test]
async fn who_asks_for_what_does_not_exist_leaves_little_behind() {
    let redis = RedisServer::start().await;
    let world = replicas(&redis, 1).await.remove(0);
    world.origin.has("/customer/x", Reply::new("no").status(404).cache("no-store"));
    for number in 0..20 {
        ask(&world, &format!("/customer/x?{number}")).await.does_not_say("stored");
    }
    let generations: Vec<String> = redis.generations().await.into_iter().filter(|name| !is_watch(name)).collect();
    assert!(generations.len() >= 20, "each URL has one: {generations:?}");
    for generation in generations {
        let ttl_ms: i64 = redis.run(&format!("PTTL {generation}")).await;
        assert!((0..=120_000).contains(&ttl_ms), "{generation} stays for {ttl_ms} ms");
    }
}

#[tokio::test]
async fn what_was_heard_before_counts_no_longer_where_nothing_is_heard() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    redis.run::<()>("ACL SETUSER default -client|tracking -subscribe").await;
    redis.run::<i64>("CLIENT KILL TYPE normal SKIPME yes").await;
    for world in &worlds {
        eventually("it is deaf", async || world.stats().await["redis"]["hears_by"] == "none").await;
    }
    worlds[0].origin.has(TARGET, "old");
    ask(&worlds[0], TARGET).await.says("stored");
    for world in &worlds {
        eventually("it is stored", async || ask(world, TARGET).await.field("cache-status").contains("hit")).await;
    }
    worlds[0].purge(json!({ "tags": ["customer:1"] })).await;
    worlds[0].origin.has(TARGET, "new");
    for world in &worlds {
        ask(world, TARGET).await.is("new");
    }
}

#[tokio::test]
async fn after_a_flush_the_replicas_know_of_one_another_again_and_for_no_longer_than_they_live() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    for _ in 0..3 {
        redis.run::<()>("FLUSHALL").await;
        eventually("both are there", async || redis.run::<i64>("SCARD sidecache:2.replicas").await == 2).await;
        let ttl_ms: i64 = redis.run("PTTL sidecache:2.replicas").await;
        assert!(ttl_ms > 0);
    }
    let ended = worlds.into_iter().next().unwrap();
    ended.sidecar.drain().await;
    eventually("it has left", async || redis.run::<i64>("SCARD sidecache:2.replicas").await == 1).await;
}

//! A Redis whose master is found by asking sentinels, and may be another one a moment later.

use crate::world::{Oracle, RedisServer, Sentinel, World, eventually, free_port, secs};
use serde_json::json;
use std::time::Instant;

/// A URL of sentinels on these ports.
fn url(ports: &[u16]) -> String {
    let each: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("redis+sentinel://{}/mymaster/0", each.join(","))
}

/// A Redis that follows another one, and has heard of all that is in it.
async fn follower(master: &RedisServer) -> RedisServer {
    let arguments = ["--replicaof", "127.0.0.1", &master.port.to_string(), "--repl-diskless-sync-delay", "0"];
    let follower = RedisServer::start_with(arguments.map(str::to_owned)).await;
    eventually("it follows", async || follower.run::<String>("INFO replication").await.contains("master_link_status:up")).await;
    follower
}

/// Why Redis is not used.
async fn error(world: &World) -> String {
    world.stats().await["redis"]["last_error"].as_str().unwrap_or_default().to_owned()
}

/// Asks until a response comes from Redis, as it does from one that is used.
async fn is_in(redis: &RedisServer, world: &World, path: &str) {
    eventually("it is stored in Redis", async || {
        world.get(path).with("host", "h").await.status(200);
        !redis.keys().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn when_another_master_is_elected_it_is_used_and_what_was_purged_stays_purged() {
    let first = RedisServer::start().await;
    let second = follower(&first).await;
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        sentinels.push(Sentinel::start(&first, 2, "").await);
    }
    for sentinel in &sentinels {
        eventually("they know one another, and who follows", async || {
            let agree = sentinel.ask::<String>("SENTINEL CKQUORUM mymaster").await;
            let info = sentinel.ask::<String>("INFO sentinel").await.unwrap_or_default();
            agree.is_ok_and(|agree| agree.contains("3 usable")) && info.contains("slaves=1,sentinels=3")
        })
        .await;
    }
    let ports: Vec<u16> = sentinels.iter().map(|sentinel| sentinel.port).collect();
    let world = World::with_redis_at(&url(&ports), |config| config.store.memory.bytes_max = 0).await.connected().await;
    for path in ["/a", "/b"] {
        world.origin.reply(path, "one");
        world.get(path).with("host", "h").await.is("one").says("stored");
    }
    eventually("the other one has heard of both", async || second.keys().await == first.keys_become(2).await).await;
    world.get("/a").with("host", "h").await.hit("redis");

    // What is purged now the other one does not hear of: it brings it back when it takes over.
    first.shake_off(&second).await;
    world.origin.reply("/a", "two");
    world.purge(json!({"url": "/a"})).await;
    first.kill();
    eventually("the other one takes over", async || {
        world.get("/a").with("host", "h").await.status(200).is("two");
        second.is_master().await
    })
    .await;
    let begun = Instant::now();
    world.redis_is("connected").await;
    assert!(begun.elapsed() < secs(3), "it took {:?}", begun.elapsed());
    world.get("/b").with("host", "h").await.is("one").hit("redis");
    eventually("the new one is stored", async || {
        world.get("/a").with("host", "h").await.is("two").field("cache-status").contains("; hit")
    })
    .await;
}

#[tokio::test]
async fn a_master_that_goes_on_after_another_one_was_elected_is_left() {
    let (first, second) = (RedisServer::start().await, RedisServer::start().await);
    let (one, other, late) = (Oracle::saying(1, &first).await, Oracle::saying(1, &first).await, Oracle::saying(1, &first).await);
    let world = World::with_redis_at(&url(&[late.port, one.port, other.port]), |_| {}).await.connected().await;
    world.origin.reply("/a", "one");
    is_in(&first, &world, "/a").await;
    // One of them has not heard of it.
    one.says(2, &second);
    other.says(2, &second);
    is_in(&second, &world, "/a").await;
    world.redis_is("connected").await;
    // A single one that knows better is enough, and the others may be gone.
    drop((late, other));
    one.says(3, &first);
    first.run::<()>("FLUSHALL").await;
    world.purge(json!({"all": true})).await;
    is_in(&first, &world, "/a").await;
    assert_eq!(error(&world).await, format!("Redis is at 127.0.0.1:{} now", first.port));
}

#[tokio::test]
async fn sentinels_that_are_gone_change_nothing_until_a_master_is_looked_for() {
    let redis = RedisServer::start().await;
    let oracle = Oracle::saying(1, &redis).await;
    let (nobody, deaf) = (free_port(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let ports = [nobody, deaf.local_addr().unwrap().port(), oracle.port];
    let world = World::with_redis_at(&url(&ports), |config| config.store.redis.as_mut().unwrap().heartbeat = secs(1) / 10).await;
    world.redis_is("connected").await;
    drop(oracle);
    world.origin.reply("/a", "one");
    is_in(&redis, &world, "/a").await;
    let connects = world.metric("sidecache_redis_connects_total").await;
    tokio::time::sleep(secs(1)).await;
    world.get("/a").with("host", "h").await.is("one").hit("memory");
    assert_eq!(world.metric("sidecache_redis_connects_total").await, connects);
    redis.kill();
    world.notices_that_redis_is_gone().await;
    redis.restart().await;
    eventually("it says why", async || error(&world).await.starts_with("no sentinel names a master: ")).await;
    world.get("/a").with("host", "h").await.status(200).is("one");
}

#[tokio::test]
async fn who_is_elected_must_be_a_master_and_in_touch_with_those_who_follow() {
    let master = RedisServer::start().await;
    let follower = follower(&master).await;
    let oracle = Oracle::saying(1, &follower).await;
    let world = World::with_redis_at(&url(&[oracle.port]), |_| {}).await;
    eventually("it says why", async || error(&world).await == "the master takes no writes").await;
    world.origin.reply("/a", "one");
    world.get("/a").with("host", "h").await.is("one").forwarded("uri-miss");
    oracle.says(2, &master);
    world.redis_is("connected").await;
    is_in(&master, &world, "/a").await;
    // Whoever cuts it off from those who follow may have another one elected.
    master.run::<()>("CONFIG SET min-replicas-to-write 2").await;
    eventually("it is left", async || world.stats().await["redis"]["status"] == "degraded").await;
    world.get("/a").with("host", "h").await.is("one").forwarded("uri-miss");
    eventually("it says why", async || error(&world).await == "the master takes no writes").await;
    master.run::<()>("CONFIG SET min-replicas-to-write 0").await;
    world.redis_is("connected").await;
}

#[tokio::test]
async fn sentinels_and_the_master_may_each_ask_for_a_password_of_their_own() {
    let redis = RedisServer::start().await;
    let sentinel = Sentinel::start(&redis, 1, "two").await;
    redis.run::<()>("CONFIG SET requirepass one").await;
    let place = format!("127.0.0.1:{}/mymaster", sentinel.port);
    for (url, why) in [
        (format!("redis+sentinel://:one@{place}"), "no sentinel names a master: NOAUTH"),
        (format!("redis+sentinel://:one@{place}?sentinel_pass=one"), "no sentinel names a master: "),
        (format!("redis+sentinel://:two@{place}?sentinel_pass=two"), "WRONGPASS"),
        (
            format!("redis+sentinel://:one@{place}s?sentinel_pass=two"),
            "no sentinel names a master: ERR No such master with that name",
        ),
    ] {
        let world = World::with_redis_at(&url, |_| {}).await;
        eventually(&format!("{url}: it says {why}"), async || error(&world).await.contains(why)).await;
        world.get("/a").await.status(404);
    }
    // As the README has it.
    sentinel.ask::<()>("ACL SETUSER sidecache on >three -@all +sentinel|master").await.unwrap();
    for login in ["sentinel_pass=two", "sentinel_user=sidecache&sentinel_pass=three"] {
        let url = format!("redis+sentinel://:one@{place}?{login}");
        World::with_redis_at(&url, |_| {}).await.connected().await;
    }
}

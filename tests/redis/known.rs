//! Requests that are known by their octets, where Redis alone keeps what answers them.

use crate::world::{Phase, RawClient, RedisServer, Relay, Reply, World, eventually, millis, secs, soon};
use sidecache::config::Config;
use std::sync::Arc;
use std::time::{Duration, Instant};

const A: &str = "GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n";

fn forgetful(config: &mut Config) {
    config.store.memory.bytes_max = 0;
}

/// A sidecar that keeps nothing in memory, and a response in Redis.
async fn world_of(redis: &RedisServer, reply: impl Into<Reply>) -> World {
    let world = World::with_redis(redis, forgetful).await;
    world.origin.reply("/a", reply);
    world.get("/a").with("host", "h").await.says("stored");
    redis.keys_become(1).await;
    world
}

/// How many requests were known, and how many were hits in Redis.
fn counted(world: &World) -> (u64, u64) {
    let hits = world.sidecar.proxy().counters().of(Some(0)).hits_redis.get();
    (world.sidecar.stats().hits_known.get(), hits)
}

async fn pipelines(world: &World) -> f64 {
    world.metric("sidecache_redis_commands_total{kind=\"read\"}").await
}

/// Asks until the request is known and was read along its trail.
async fn known(client: &mut RawClient, world: &World) {
    let before = counted(world).0;
    eventually("it is known", async || {
        client.exchange(A).await;
        counted(world).0 > before
    })
    .await;
}

#[tokio::test]
async fn what_is_known_is_answered_from_redis_as_it_was_before() {
    let redis = RedisServer::start().await;
    let world = world_of(&redis, Reply::new("one").cache("max-age=60").with("etag", "\"1\"").with("x-b", "c")).await;
    let mut client = world.raw().await;
    let read = [client.exchange(A).await, client.exchange(A).await];
    assert_eq!(counted(&world), (0, 2));
    let before = pipelines(&world).await;
    for _ in 0..100 {
        assert_eq!(client.exchange(A).await, read[0]);
    }
    assert_eq!((&read[0], counted(&world)), (&read[1], (100, 102)));
    assert_eq!(pipelines(&world).await - before, 100.0, "each is read anew");
    assert!(read[0].0.contains("cache-status: sidecache; hit; ttl=60; detail=redis\r\n"), "{}", read[0].0);
    world.clock.advance(secs(4));
    let (head, _) = client.exchange(A).await;
    assert!(head.contains("age: 4\r\n") && head.contains("ttl=56;"), "{head}");
    assert_eq!((counted(&world).0, world.origin.count("/a")), (101, 1));
}

#[tokio::test]
async fn what_redis_has_decides() {
    let redis = RedisServer::start().await;
    let world = world_of(&redis, Reply::new("one").cache("max-age=10")).await;
    let neighbour = world.neighbour(&redis).await;
    let mut client = world.raw().await;
    known(&mut client, &world).await;
    // Another replica purges it, and fetches it anew.
    for (number, body) in ["two", "three", "four"].into_iter().enumerate() {
        world.origin.reply("/a", Reply::new(body).cache("max-age=10"));
        match number {
            0 => neighbour.purge(serde_json::json!({"url": "/a"})).await,
            1 => neighbour.purge(serde_json::json!({"all": true})).await,
            _ => neighbour.purge(serde_json::json!({"url": "/a", "wait": true})).await,
        };
        eventually("the purge is heard of", async || client.exchange(A).await.1 == body).await;
        known(&mut client, &world).await;
        assert_eq!(client.exchange(A).await.1, body);
    }
    // Its time is over, and it is replaced.
    world.origin.reply("/a", Reply::new("five").cache("max-age=10"));
    world.clock.advance(secs(10));
    let (head, body) = client.exchange(A).await;
    assert!(body == "five" && head.contains("; fwd=stale"), "{head}{body}");
    let fetched = world.origin.count("/a");
    eventually("it is stored", async || client.exchange(A).await.0.contains("; hit;")).await;
    assert_eq!(world.origin.count("/a"), fetched);
    known(&mut client, &world).await;
    // What is left of it after a soft purge is not served as if nothing had been.
    world.purge(serde_json::json!({"url": "/a", "soft": true})).await;
    let (head, _) = client.exchange(A).await;
    assert!(!head.contains("; hit; ttl=10"), "{head}");
}

#[tokio::test]
async fn a_value_that_was_changed_is_none() {
    let redis = RedisServer::start().await;
    let world = world_of(&redis, Reply::new("one").cache("max-age=60")).await;
    let mut client = world.raw().await;
    known(&mut client, &world).await;
    let key = redis.keys().await.remove(0);
    let value = redis.value(&key).await;
    for at in (0..value.len()).step_by(7).chain([value.len() - 1, value.len() - 9]) {
        let mut changed = value.clone();
        changed[at] ^= 1;
        redis.plant(&key, &changed).await;
        let (head, body) = client.exchange(A).await;
        assert!(body == "one" && head.contains("fwd="), "{at}: {head}");
        // It was stored anew.
        eventually("it is in Redis again", async || client.exchange(A).await.0.contains("; hit;")).await;
    }
}

#[tokio::test]
async fn a_value_is_as_old_as_the_time_that_passes_says() {
    let redis = RedisServer::start().await;
    let world = world_of(&redis, Reply::new("one").cache("max-age=60")).await;
    let mut client = world.raw().await;
    known(&mut client, &world).await;
    let mut is_known = async || {
        let before = counted(&world).0;
        let (head, _) = client.exchange(A).await;
        assert!(head.contains("; hit;"), "{head}");
        counted(&world).0 > before
    };
    // The time of day says that none has passed. Redis does not, when it is asked again.
    world.clock.advance(millis(900));
    world.clock.put_back(millis(900));
    assert!(is_known().await);
    world.clock.advance(millis(99));
    world.clock.put_back(secs(4));
    assert!(!is_known().await);
    world.clock.put_forward(secs(4));
    eventually("it is known again", &mut is_known).await;
    let key = redis.keys().await.remove(0);
    let left: i64 = redis.run(&format!("PTTL {key}")).await;
    let _: () = redis.run(&format!("PEXPIRE {key} {}", left - 10_000)).await;
    assert!(is_known().await, "nobody has asked");
    world.clock.advance(secs(1));
    assert!(!is_known().await, "it is older than it was");
}

#[tokio::test]
async fn each_gets_the_variant_that_its_fields_select() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, forgetful).await;
    let neighbour = world.neighbour(&redis).await;
    world.origin.reply("/a", Reply::reflecting().with("vary", "accept"));
    let mut client = world.raw().await;
    let variants = ["*/*", "text/plain"].map(|accept| (A.replace("*/*", accept), format!("accept: {accept}\n")));
    for (octets, _) in &variants {
        eventually("it is in Redis", async || client.exchange(octets).await.0.contains("; hit;")).await;
    }
    for _ in 0..5 {
        for (octets, accept) in &variants {
            let (_, body) = client.exchange(octets).await;
            assert!(body.contains(accept.as_str()), "{body}");
        }
    }
    assert!(counted(&world).0 >= 8, "{:?}", counted(&world));
    // Another replica hears that they vary by something else as well, and which one is newer.
    world.origin.reply("/a", Reply::reflecting().with("vary", "accept, x-b").with("x-new", "1"));
    neighbour.purge(serde_json::json!({"url": "/a"})).await;
    for (octets, _) in &variants {
        let octets = octets.replace("Connection", "X-B: b\r\nConnection");
        neighbour.raw().await.exchange(&octets).await;
    }
    for _ in 0..5 {
        for (octets, accept) in &variants {
            let (head, body) = client.exchange(octets).await;
            assert!(body.contains(accept.as_str()) && !body.contains("x-b:") && head.contains("x-new: 1"), "{head}{body}");
        }
    }
}

/// A Redis that takes longer, and what it holds up: nothing but its own request, and for no longer than that may take.
async fn slowly(redis: &RedisServer, budget: Duration) -> (World, Relay) {
    let relay = Relay::to(redis.address()).await;
    let world = World::with_redis_at(&relay.url(), |config| {
        forgetful(config);
        config.server.drain_wait = secs(60);
        config.store.redis.as_mut().unwrap().budget = budget;
    })
    .await
    .connected()
    .await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=60"));
    world.origin.reply("/past/b", "two");
    world.get("/a").with("host", "h").await.says("stored");
    redis.keys_become(1).await;
    (world, relay)
}

#[tokio::test]
async fn while_redis_takes_its_time_the_connection_waits() {
    let redis = RedisServer::start().await;
    let (world, relay) = slowly(&redis, secs(5)).await;
    let mut client = world.raw().await;
    known(&mut client, &world).await;
    // Longer than a connection is idle before it is taken back from hyper.
    relay.enter(Phase::Slow { there: millis(300), back: millis(300) });
    let before = counted(&world).0;
    client.send(A).await;
    client.send(A.replace("/a", "/past/b")).await;
    client.send(A).await;
    let bodies = [client.response().await.1, client.response().await.1, client.response().await.1];
    assert_eq!((bodies, counted(&world).0), (["one", "two", "one"].map(str::to_owned), before + 1));
    // A client that leaves meanwhile.
    client.send(A).await;
    drop(client);
    let mut other = world.raw().await;
    assert_eq!(other.exchange(A).await.1, "one");
}

#[tokio::test]
async fn a_redis_that_says_nothing_costs_the_budget_and_no_answer() {
    let redis = RedisServer::start().await;
    let (world, relay) = slowly(&redis, secs(1)).await;
    let mut client = world.raw().await;
    known(&mut client, &world).await;
    relay.enter(Phase::BlackHole);
    let begun = Instant::now();
    let (head, body) = client.exchange(A).await;
    assert!(body == "one" && head.contains("fwd="), "{head}");
    // That it is tried in two ways does not make it wait twice.
    assert!(begun.elapsed() < millis(1900), "it took {:?}", begun.elapsed());
    world.redis_is("degraded").await;
    assert_eq!(client.exchange(A).await.1, "one");
    relay.enter(Phase::Relay);
    world.redis_is("connected").await;
    // The test's clock stood still, which Redis takes for one that was put back.
    world.purge(serde_json::json!({"all": true})).await;
    assert!(client.exchange(A).await.0.contains("; stored"));
    known(&mut client, &world).await;
}

#[tokio::test]
async fn what_is_being_answered_when_the_process_leaves_is_answered() {
    let redis = RedisServer::start().await;
    let (world, relay) = slowly(&redis, secs(5)).await;
    let mut client = world.raw().await;
    known(&mut client, &world).await;
    relay.enter(Phase::Slow { there: millis(900), back: millis(300) });
    client.send(A).await;
    let sidecar = Arc::new(world.sidecar);
    let leaving = tokio::spawn({
        let sidecar = sidecar.clone();
        async move { sidecar.drain().await }
    });
    let (head, body) = client.response().await;
    assert!(body == "one" && head.contains("; hit;") && head.contains("connection: close\r\n"), "{head}");
    assert_eq!(client.rest().await, "");
    assert!(soon("the end", leaving).await.unwrap());
}

#[tokio::test]
async fn who_is_told_that_this_is_the_last_answer_is_told_no_lie() {
    let redis = RedisServer::start().await;
    let (world, relay) = slowly(&redis, secs(5)).await;
    let mut client = world.raw().await;
    known(&mut client, &world).await;
    relay.enter(Phase::Slow { there: millis(500), back: millis(300) });
    client.send(A).await;
    let sidecar = Arc::new(world.sidecar);
    let leaving = tokio::spawn({
        let sidecar = sidecar.clone();
        async move { sidecar.leave().await }
    });
    let (head, body) = client.response().await;
    assert!(body == "one" && head.contains("connection: close\r\n"), "{head}");
    client.send(A).await;
    assert_eq!(client.rest().await, "");
    leaving.abort();
}

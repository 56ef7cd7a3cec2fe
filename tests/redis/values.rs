//! Values that are not ours, damaged, or too large: misses, never errors.

use crate::world::{RedisServer, Reply, World, eventually};

/// A world that has stored a response, its neighbour that has not seen it yet, and the key in Redis.
async fn stored(redis: &RedisServer) -> (World, World, String) {
    let first = World::with_redis(redis, |_| {}).await;
    let second = first.neighbour(redis).await;
    first.origin.reply("/a", "one");
    first.get("/a").with("host", "h").await.says("stored");
    let key = redis.keys_become(1).await.remove(0);
    (first, second, key)
}

#[tokio::test]
async fn a_value_that_is_not_ours_or_damaged_is_a_miss_and_counted() {
    let redis = RedisServer::start().await;
    let (_first, second, key) = stored(&redis).await;
    let value = redis.value(&key).await;
    let changed = |at: usize| {
        let mut changed = value.clone();
        changed[at] ^= 1;
        changed
    };
    let truncated = value[..value.len() - 1].to_vec();
    let longer = [&value[..], b"x"].concat();
    let damaged = [
        b"hello".to_vec(),
        vec![0],
        b"SC".to_vec(),
        truncated,
        longer,
        changed(0),
        changed(2),
        changed(3),
        changed(20),
        changed(value.len() - 1),
    ];
    for (number, planted) in damaged.into_iter().enumerate() {
        redis.plant(&key, &planted).await;
        // A neighbour of its own, which has nothing in memory.
        let third = second.neighbour(&redis).await;
        third.get("/a").with("host", "h").await.status(200).is("one").forwarded("uri-miss");
        assert_eq!(third.metric("sidecache_redis_errors_total{kind=\"value\"}").await, 1.0, "value {number}");
        assert_eq!(third.stats().await["redis"]["status"], "connected");
        // It was replaced by what is right.
        eventually("the value is right again", async || redis.value(&key).await != planted).await;
    }
    second.get("/a").with("host", "h").await.is("one").hit("redis");
}

#[tokio::test]
async fn a_value_of_another_key_is_a_miss() {
    let redis = RedisServer::start().await;
    let (first, second, key_of_a) = stored(&redis).await;
    first.origin.reply("/b", "two");
    first.get("/b").with("host", "h").await.says("stored");
    let keys = redis.keys_become(2).await;
    let key_of_b = keys.into_iter().find(|key| *key != key_of_a).unwrap();
    redis.plant(&key_of_a, &redis.value(&key_of_b).await).await;
    second.get("/a").with("host", "h").await.is("one").forwarded("uri-miss");
    assert_eq!(second.metric("sidecache_redis_errors_total{kind=\"value\"}").await, 1.0);
}

#[tokio::test]
async fn a_variant_under_the_key_itself_is_a_miss() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    first.origin.reply("/a", Reply::new("hallo").with("vary", "accept-language"));
    let ask = |world: &World, language: &str| world.get("/a").with("host", "h").with("accept-language", language);
    ask(&first, "de").await.says("stored");
    let keys = redis.keys_become(2).await;
    let (own, variant) = if keys[0].len() < keys[1].len() { (&keys[0], &keys[1]) } else { (&keys[1], &keys[0]) };
    redis.plant(own, &redis.value(variant).await).await;
    first.origin.reply("/a", Reply::new("hello").with("vary", "accept-language"));
    ask(&second, "en").await.is("hello").forwarded("uri-miss");
}

#[tokio::test]
async fn a_key_of_the_wrong_type_is_a_miss() {
    let redis = RedisServer::start().await;
    let (_first, second, key) = stored(&redis).await;
    redis.run::<()>(&format!("DEL {key}")).await;
    redis.run::<()>(&format!("RPUSH {key} one two")).await;
    second.get("/a").with("host", "h").await.status(200).is("one").forwarded("uri-miss");
    assert_eq!(second.stats().await["redis"]["status"], "connected");
    // Redis is used on, and the key is ours again.
    eventually("the value is right again", async || redis.run::<String>(&format!("TYPE {key}")).await == "string").await;
    let third = second.neighbour(&redis).await;
    third.get("/a").with("host", "h").await.is("one").hit("redis");
}

#[tokio::test]
async fn wrong_types_under_many_keys_do_not_end_the_use_of_redis() {
    let redis = RedisServer::start().await;
    let (first, second, _) = stored(&redis).await;
    for i in 0..10 {
        first.origin.reply(&format!("/{i}"), "one");
        first.get(&format!("/{i}")).with("host", "h").await.says("stored");
    }
    for key in redis.keys_become(11).await {
        redis.run::<()>(&format!("DEL {key}")).await;
        redis.run::<()>(&format!("RPUSH {key} one")).await;
    }
    for i in 0..10 {
        second.get(&format!("/{i}")).with("host", "h").await.is("one").forwarded("uri-miss");
    }
    assert_eq!(second.stats().await["redis"]["status"], "connected");
}

#[tokio::test]
async fn a_value_over_the_limit_is_not_read() {
    let redis = RedisServer::start().await;
    let (first, _, key) = stored(&redis).await;
    let mut value = redis.value(&key).await;
    value.resize(5 << 20, b'x');
    redis.plant(&key, &value).await;
    let second = first.neighbour(&redis).await;
    second.get("/a").with("host", "h").await.is("one").forwarded("uri-miss");
}

#[tokio::test]
async fn a_response_over_the_limit_is_kept_in_memory_alone() {
    let redis = RedisServer::start().await;
    let limit = |config: &mut sidecache::config::Config| config.store.redis.as_mut().unwrap().value_bytes_max = 64 << 10;
    let world = World::with_redis(&redis, limit).await;
    let large = "x".repeat(100 << 10);
    world.origin.reply("/large", Reply::new(large.clone()));
    world.origin.reply("/small", "one");
    world.get("/large").await.is(&large).says("stored");
    world.get("/small").await.is("one").says("stored");
    redis.keys_become(1).await;
    world.get("/large").await.is(&large).hit("memory");
    let neighbour = world.neighbour(&redis).await;
    let host = world.sidecar.address.to_string();
    neighbour.get("/small").with("host", &host).await.hit("redis");
    neighbour.get("/large").with("host", &host).await.is(&large).forwarded("uri-miss");
}

#[tokio::test]
async fn a_redis_that_is_full_goes_on_to_be_read() {
    let redis = RedisServer::start().await;
    let (first, second, _) = stored(&redis).await;
    redis.run::<()>("CONFIG SET maxmemory-policy noeviction").await;
    redis.run::<()>("CONFIG SET maxmemory 1").await;
    writes_fail_and_reads_go_on(&first, &second).await;
}

#[tokio::test]
async fn an_account_that_may_not_write_goes_on_to_read() {
    let redis = RedisServer::start().await;
    let (first, second, _) = stored(&redis).await;
    redis.run::<()>("ACL SETUSER default -set").await;
    writes_fail_and_reads_go_on(&first, &second).await;
}

async fn writes_fail_and_reads_go_on(first: &World, second: &World) {
    for i in 0..10 {
        first.origin.reply(&format!("/{i}"), "one");
        // Memory could keep it; but the generations cannot be made by which another replica would purge it.
        first.get(&format!("/{i}")).await.status(200).is("one").forwarded("uri-miss").says("detail=no-generation");
    }
    eventually("writes are refused", async || first.metric("sidecache_redis_errors_total{kind=\"refused\"}").await >= 1.0).await;
    eventually("writes are paused", async || first.stats().await["redis"]["status"] == "read-only").await;
    // What Redis has goes on to be read, and to fill memory.
    first.get("/a").with("host", "h").await.is("one").hit("memory");
    second.get("/a").with("host", "h").await.is("one").hit("redis");
    second.get("/a").with("host", "h").await.is("one").hit("memory");
}

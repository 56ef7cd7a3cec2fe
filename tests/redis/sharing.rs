//! What one replica fetched, the others find.

use crate::world::{Gate, RedisServer, Reply, World, eventually, redis_options, secs};
use http::header::AUTHORIZATION;
use sidecache::rules::Share;

#[tokio::test]
async fn the_second_replica_serves_what_the_first_has_fetched() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    first.origin.reply("/a", Reply::new("one").status(203).with("x-a", "1").with("x-b", "2").with("x-a", "3"));
    let fetched = first.get("/a").with("host", "h").await;
    fetched.is("one").forwarded("uri-miss").says("stored");
    redis.keys_become(1).await;
    second.clock.advance(secs(5));
    let shared = second.get("/a").with("host", "h").await;
    shared.status(203).is("one").hit("redis").has("x-a", "1 | 3").has("x-b", "2").has("date", &fetched.field("date"));
    assert!(shared.field("age").parse::<u64>().unwrap() >= 5, "{shared:?}");
    second.get("/a").with("host", "h").await.is("one").hit("memory");
    assert_eq!(first.origin.count("/a"), 1);
}

#[tokio::test]
async fn what_a_replica_has_that_another_replaced_is_no_answer_though_the_new_one_is_none_either() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    let ask = |world: &World, path: &str, language: &str| world.get(path).with("host", "h").with("accept-language", language);
    // One that varies in the place of one that did not; and one that is purged by a tag that only it had.
    for (path, new) in [
        ("/a", Reply::new("fr").with("vary", "accept-language").cache("max-age=60")),
        ("/b", Reply::new("fr").with("cache-tag", "t").cache("max-age=60")),
    ] {
        first.origin.has(path, Reply::new("old").cache("max-age=60"));
        ask(&first, path, "fr").await.is("old").says("stored");
        eventually("it is shared", async || ask(&second, path, "fr").await.text() == "old").await;
        ask(&first, path, "fr").await.hit("memory");
        first.origin.has(path, new);
        ask(&second, path, "fr").with("cache-control", "no-cache").await.is("fr").says("stored");
        eventually("it is replaced", async || ask(&first, path, "fr").await.text() == "fr").await;
    }
    first.origin.has("/a", Reply::new("de").with("vary", "accept-language").cache("max-age=60"));
    ask(&first, "/a", "de").await.is("de").forwarded("vary-miss");
    first.origin.has("/b", Reply::new("newer").cache("max-age=60"));
    second.purge(serde_json::json!({ "tags": ["t"], "wait": true })).await;
    // Without `Vary`, a response is for the language that the origin was shown.
    ask(&first, "/b", "fr").await.is("newer").forwarded("vary-miss");
}

#[tokio::test]
async fn a_memory_that_did_not_look_meanwhile_does_not_go_back_to_what_was_replaced() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    let ask = |world: &World, language: &str| world.get("/a").with("host", "h").with("accept-language", language);
    first.origin.has("/a", Reply::new("old").cache("max-age=60"));
    ask(&first, "fr").await.is("old").says("stored");
    eventually("it is shared", async || ask(&second, "fr").await.text() == "old").await;
    first.origin.has("/a", Reply::new("fr").with("vary", "accept-language").cache("max-age=60"));
    ask(&second, "fr").with("cache-control", "no-cache").await.is("fr").says("stored");
    // The list of variants and the one that there is. The first one has heard that its own was replaced, and finds out by what with a
    // request that selects nothing.
    redis.keys_become(2).await;
    first.origin.has("/a", Reply::new("de").with("vary", "accept-language").cache("max-age=60"));
    eventually("the old one is none for others", async || ask(&first, "de").await.text() == "de").await;
}

#[tokio::test]
async fn a_response_that_is_fresh_for_longer_than_it_is_kept_is_as_old_as_it_is() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |config| config.store.keep_stale = secs(3600)).await;
    // A replica with another idea of how long is kept what is stale.
    let second = first
        .neighbour_with(|config| {
            config.store.redis = Some(redis_options(&redis.url()));
            config.store.keep_stale = secs(86_400);
        })
        .await
        .connected()
        .await;
    for (path, lifetime) in [("/a", "max-age=31536000"), ("/b", "max-age=2147483648"), ("/c", "max-age=600")] {
        first.origin.reply(path, Reply::new("one").with("etag", "\"1\"").cache(lifetime));
        first.get(path).with("host", "h").await.says("stored");
        eventually("it is shared", async || {
            let got = second.get(path).with("host", "h").with("cache-control", "only-if-cached").await;
            got.status == 200 && got.field("age").parse::<u64>().unwrap() <= 1
        })
        .await;
    }
}

#[tokio::test]
async fn everything_in_redis_has_an_expiry() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| config.store.keep_stale = secs(600)).await;
    world.origin.reply("/a", "one");
    world.origin.reply("/b", Reply::new("one").with("vary", "accept").cache("max-age=5"));
    world.origin.reply("/c", Reply::new("one").with("etag", "\"1\"").cache("max-age=5"));
    for path in ["/a", "/b", "/c"] {
        world.get(path).await.says("stored");
    }
    redis.keys_become(4).await;
    for key in redis.all_keys().await {
        assert!(key.starts_with("sidecache:"), "{key}");
        let ttl_ms: i64 = redis.run(&format!("PTTL {key}")).await;
        assert!((1..=24 * 3_600_000).contains(&ttl_ms), "{key} lives for {ttl_ms} ms");
    }
}

#[tokio::test]
async fn variants_lie_side_by_side_in_redis() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let (second, third) = (first.neighbour(&redis).await, first.neighbour(&redis).await);
    let ask = |world: &World, language: &str| world.get("/a").with("host", "h").with("accept-language", language);
    for (language, body) in [("de", "hallo"), ("en", "hello")] {
        first.origin.reply("/a", Reply::new(body).with("vary", "accept-language"));
        ask(&first, language).await.is(body).says("stored");
    }
    redis.keys_become(3).await;
    for world in [&second, &third] {
        for (language, body) in [("de", "hallo"), ("en", "hello")] {
            ask(world, language).await.is(body).hit("redis");
            ask(world, language).await.is(body).hit("memory");
        }
    }
    ask(&second, "fr").await.forwarded("vary-miss");
    assert_eq!(first.origin.count("/a"), 3);
}

#[tokio::test]
async fn a_response_in_a_language_is_found_by_replicas_that_know_nothing_of_it() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    let ask = |world: &World, list: &str| world.get("/a").with("host", "h").with("accept-language", list);
    first.origin.has("/a", Reply::new("hallo").with("vary", "accept-language").with("content-language", "de"));
    ask(&first, "de").await.is("hallo").says("stored");
    redis.keys_become(2).await;
    ask(&second, "fr;q=0.5, de").await.is("hallo").hit("redis");
    ask(&second, "de, it").await.is("hallo").hit("memory");
    ask(&second, "en, de;q=0.9").await.forwarded("vary-miss");
}

#[tokio::test]
async fn of_the_variants_that_a_request_selects_the_most_recent_is_used() {
    // RFC 9111 §4.1
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| {
        config.store.memory.bytes_max = 0;
        config.store.keep_stale = secs(600);
    })
    .await;
    let ask = |list: &str| world.get("/a").with("host", "h").with("accept-language", list);
    let reply =
        |body: &'static str, etag: &str| Reply::new(body).with("vary", "accept-language").with("etag", etag).cache("max-age=5");
    // One by its list, then one for the language that it wants most: both lie in Redis.
    world.origin.reply("/a", reply("old", "\"1\""));
    ask("de, en").await.is("old").says("stored");
    redis.keys_become(2).await;
    world.clock.advance(secs(10));
    world.origin.reply("/a", reply("hallo", "\"2\"").with("content-language", "de"));
    ask("de").await.is("hallo").forwarded("vary-miss").says("stored");
    redis.keys_become(3).await;
    ask("de, en").await.is("hallo").hit("redis");
    world.clock.advance(secs(10));
    world.origin.reply("/a", reply("hallo again", "\"3\"").with("content-language", "de"));
    ask("de, en").await.is("hallo again").forwarded("stale").says("stored");
    eventually("that one is used", async || ask("de, en").await.field("cache-status").contains("; hit")).await;
    ask("de, en").await.is("hallo again").hit("redis");
    // The other one is as old as it was.
    ask("de").await.forwarded("stale");
}

#[tokio::test]
async fn what_another_replica_has_fetched_anew_is_found_when_memory_is_stale() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    let ask = |world: &World| world.get("/a").with("host", "h");
    first.origin.reply("/a", "one");
    ask(&first).await.is("one");
    redis.keys_become(1).await;
    ask(&second).await.is("one").hit("redis");
    first.clock.advance(secs(70));
    second.clock.advance(secs(70));
    let key = redis.keys().await.remove(0);
    let before = redis.value(&key).await;
    first.origin.reply("/a", "two");
    ask(&first).await.is("two").forwarded("stale");
    crate::world::eventually("the new response is in Redis", async || redis.value(&key).await != before).await;
    ask(&second).await.is("two").hit("redis");
    ask(&second).await.is("two").hit("memory");
}

#[tokio::test]
async fn a_response_that_was_validated_is_shared_as_fresh() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    let ask = |world: &World| world.get("/a").with("host", "h");
    first.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    first.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\""));
    ask(&first).await.is("one");
    let key = redis.keys_become(1).await.remove(0);
    first.clock.advance(secs(70));
    second.clock.advance(secs(70));
    let before = redis.value(&key).await;
    // What the first replica stored, the second validates.
    ask(&second).await.is("one").forwarded("stale").says("fwd-status=304");
    crate::world::eventually("the confirmed response is in Redis", async || redis.value(&key).await != before).await;
    ask(&first).await.is("one").hit("redis");
}

#[tokio::test]
async fn a_replica_whose_clock_is_behind_is_not_confused() {
    let redis = RedisServer::start().await;
    let ahead = World::with_redis(&redis, |_| {}).await;
    let behind = ahead.neighbour(&redis).await;
    ahead.clock.advance(secs(1000));
    ahead.origin.reply("/a", "one");
    ahead.get("/a").with("host", "h").await.says("stored");
    redis.keys_become(1).await;
    behind.get("/a").with("host", "h").await.is("one").hit("redis").has("age", "0").says("ttl=60");
    behind.get("/a").with("host", "h").await.is("one").hit("memory").has("age", "0");
}

#[tokio::test]
async fn credentials_are_told_apart_across_replicas_with_the_same_secret_alone() {
    let redis = RedisServer::start().await;
    let with_secret = |secret: &'static str| {
        let url = redis.url();
        move |config: &mut sidecache::config::Config| {
            config.store.redis = Some(redis_options(&url));
            config.cache.secret = Some(secret.to_owned());
            config.routes[0].share = Share::PerCredential(vec![AUTHORIZATION]);
        }
    };
    let first = World::with(with_secret("one")).await.connected().await;
    let second = first.neighbour_with(with_secret("one")).await.connected().await;
    let stranger = first.neighbour_with(with_secret("two")).await.connected().await;
    let ask = |world: &World, who: &str| world.get("/a").with("host", "h").with("authorization", who);
    first.origin.reply("/a", "alice");
    ask(&first, "Bearer alice").await.is("alice").says("stored");
    let key = redis.keys_become(1).await.remove(0);
    let value = redis.value(&key).await;
    assert!(!value.windows(5).any(|five| five == b"Beare"), "the credential is in Redis");
    ask(&second, "Bearer alice").await.is("alice").hit("redis");
    first.origin.reply("/a", "bob");
    ask(&second, "Bearer bob").await.is("bob").forwarded("uri-miss");
    ask(&stranger, "Bearer alice").await.forwarded("uri-miss");
}

#[tokio::test]
async fn a_redis_with_a_password_is_used_with_it() {
    let redis = RedisServer::start().await;
    redis.run::<()>("CONFIG SET requirepass secret").await;
    let url = format!("redis://:secret@{}/0", redis.address());
    let world = World::with_redis_at(&url, |_| {}).await.connected().await;
    world.origin.reply("/a", "one");
    world.get("/a").await.says("stored");

    let url = format!("redis://:wrong@{}/0", redis.address());
    let world = World::with_redis_at(&url, |_| {}).await;
    crate::world::eventually("the refusal is told", async || {
        world.stats().await["redis"]["last_error"].as_str().is_some_and(|error| !error.is_empty() && !error.contains("wrong@"))
    })
    .await;
    world.origin.reply("/a", "one");
    world.get("/a").await.status(200).is("one");
    assert_eq!(world.stats().await["redis"]["status"], "degraded");
}

#[tokio::test]
async fn prefixes_keep_services_apart() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |config| config.store.redis.as_mut().unwrap().prefix = "one".to_owned()).await;
    let second = first.neighbour(&redis).await;
    first.origin.reply("/a", "one");
    first.get("/a").with("host", "h").await.says("stored");
    assert!(redis.keys_become(1).await[0].starts_with("one:"));
    second.get("/a").with("host", "h").await.forwarded("uri-miss");
}

#[tokio::test]
async fn redis_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis.sock").display().to_string();
    let redis = RedisServer::start_with(["--unixsocket".to_owned(), socket.clone()]).await;
    for scheme in ["unix", "redis+unix"] {
        let world = World::with_redis_at(&format!("{scheme}://{socket}"), |_| {}).await.connected().await;
        world.origin.reply("/a", "one");
        world.get("/a").await.says("stored");
        redis.keys_become(1).await;
        redis.run::<()>("FLUSHALL").await;
    }
}

#[tokio::test]
async fn a_miss_has_waited_for_redis_once_when_the_origin_is_asked() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |_| {}).await;
    let commands = async |kind: &str| world.metric(&format!("sidecache_redis_commands_total{{kind=\"{kind}\"}}")).await;
    world.origin.reply("/a", "one");
    // What all requests have in common is known from here on.
    world.get("/a").await.says("stored");
    redis.keys_become(1).await;
    let (reads, writes) = (commands("read").await, commands("write").await);
    let gate = Gate::closed();
    world.origin.reply("/b", Reply::new("two").behind(&gate));
    let asked = world.get("/b").spawn();
    world.origin.arrived("/b", 1).await;
    assert_eq!((commands("read").await - reads, commands("write").await - writes), (1.0, 0.0));
    // And a purge finds it: the generation was there before the fetch.
    gate.open();
    asked.await.unwrap().is("two").says("stored");
    redis.keys_become(2).await;
    world.purge(serde_json::json!({ "url": "/b" })).await;
    world.get("/b").await.is("two").forwarded("uri-miss");
}

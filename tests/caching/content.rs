//! Requests whose content says what is asked for: QUERY (RFC 10008), and POST where the route says that it only asks.

use crate::world::{RedisServer, Reply, World, eventually, secs};
use http::Method;
use sidecache::rules::Route;

fn asks_with_content(route: &mut Route) {
    route.methods = vec![Method::GET, Method::HEAD, Method::POST, "QUERY".parse().unwrap()];
}

/// The same with memory alone, and with Redis alone.
async fn worlds(redis: &RedisServer) -> [(World, &'static str); 2] {
    let memory = World::with_route(asks_with_content).await;
    let shared = World::with_redis(redis, |config| {
        asks_with_content(&mut config.routes[0]);
        config.store.memory.bytes_max = 0;
    });
    [(memory, "memory"), (shared.await, "redis")]
}

#[tokio::test]
async fn the_content_of_a_request_is_part_of_the_key() {
    let redis = RedisServer::start().await;
    for (world, tier) in worlds(&redis).await {
        world.origin.has("/a", Reply::echo());
        for (number, method) in ["QUERY", "POST"].into_iter().enumerate() {
            let ask =
                |content: &'static str, kind: &'static str| world.ask(method, "/a").with("content-type", kind).body(content);
            ask("one", "text/plain").await.is("one").forwarded("uri-miss").says("stored");
            if tier == "redis" {
                eventually("it lies in Redis", async || redis.keys().await.len() == 3 * number + 1).await;
            }
            ask("one", "text/plain").await.is("one").hit(tier);
            ask("two", "text/plain").await.is("two").forwarded("uri-miss");
            ask("one", "text/html").await.is("one").forwarded("uri-miss");
            if tier == "redis" {
                eventually("they lie in Redis", async || redis.keys().await.len() == 3 * number + 3).await;
            }
        }
        world.get("/a").await.is("").forwarded("uri-miss");
        assert_eq!(world.origin.count("/a"), 7);
        assert_eq!(world.origin.seen("/a")[0].field("content-length").as_deref(), Some("3"));
        assert_eq!(world.origin.seen("/a")[0].field("content-type").as_deref(), Some("text/plain"));
    }
}

#[tokio::test]
async fn a_stale_answer_to_content_is_validated_with_the_content() {
    let world = World::with_route(asks_with_content).await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"2\""));
    world.origin.reply("/a", Reply::echo());
    let ask = || world.ask("QUERY", "/a").body("what");
    ask().await.is("one");
    world.clock.advance(secs(61));
    // It confirms something else, so it is asked for the whole: by the same method, with the same content.
    ask().await.is("what").forwarded("stale");
    let seen = world.origin.seen("/a");
    assert!(seen.iter().all(|seen| seen.method == "QUERY" && seen.field("content-length").as_deref() == Some("4")));
    assert_eq!(seen[1].field("if-none-match").as_deref(), Some("\"1\""));
    ask().await.is("what").hit("memory");
}

#[tokio::test]
async fn content_that_is_too_much_goes_past_the_cache_whole() {
    let world = World::with(|config| {
        asks_with_content(&mut config.routes[0]);
        config.cache.key_body_bytes_max = 10_000;
    })
    .await;
    world.origin.has("/a", Reply::echo());
    let exactly = "x".repeat(10_000);
    world.ask("QUERY", "/a").body(exactly.clone()).await.is(&exactly).says("stored");
    let more = "x".repeat(300_000);
    for _ in 0..2 {
        world.ask("QUERY", "/a").body(more.clone()).await.is(&more).forwarded("bypass").says("detail=request-body");
    }
    let (ask, sending) = world.ask("QUERY", "/a").sending();
    let asked = ask.spawn();
    for _ in 0..30 {
        sending.send(exactly.clone());
    }
    drop(sending);
    asked.await.unwrap().is(&more).says("detail=request-body");
}

#[tokio::test]
async fn many_who_ask_with_the_same_content_cause_one_request() {
    let world = World::with_route(asks_with_content).await;
    world.origin.has("/a", Reply::echo());
    let asked: Vec<_> = (0..20).map(|_| world.ask("QUERY", "/a").body("what").spawn()).collect();
    for asked in asked {
        asked.await.unwrap().is("what");
    }
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn a_client_that_leaves_with_its_content_half_sent_costs_nothing() {
    let world = World::with_route(asks_with_content).await;
    world.origin.has("/a", Reply::echo());
    let mut client = world.raw().await;
    client.send("QUERY /a HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nhalf").await;
    drop(client);
    world.ask("QUERY", "/a").body("whole").await.is("whole");
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn a_post_that_the_route_calls_a_question_invalidates_nothing() {
    let world = World::with_route(asks_with_content).await;
    world.origin.has("/a", Reply::echo());
    world.get("/a").await.forwarded("uri-miss");
    world.ask("POST", "/a").body("what").await.is("what").forwarded("uri-miss");
    // Even one that goes past the cache only asks.
    world.ask("POST", "/a").with("x-unknown", "1").body("what").await.says("detail=unkeyed-field");
    world.get("/a").await.hit("memory");
}

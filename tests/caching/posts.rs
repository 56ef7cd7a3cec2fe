//! A POST whose response is what a later GET would get (RFC 9110 §9.3.3), on a route that follows the RFC.

use crate::world::{Gate, RedisServer, Reply, World, eventually};
use sidecache::config::Config;
use sidecache::rules::{Caching, Unkeyed};

fn standard(config: &mut Config) {
    config.routes[0].caching = Caching::Standard;
    config.routes[0].unkeyed = Unkeyed::Forward;
}

fn located(body: &'static str) -> Reply {
    Reply::new(body).cache("max-age=60").with("content-location", "/a")
}

/// The same with memory alone, and with Redis alone.
async fn worlds(redis: &RedisServer) -> [(World, &'static str); 2] {
    let shared = World::with_redis(redis, |config| {
        standard(config);
        config.store.memory.bytes_max = 0;
    });
    [(World::with(standard).await, "memory"), (shared.await, "redis")]
}

#[tokio::test]
async fn a_response_that_is_located_at_its_own_target_answers_later_gets() {
    let redis = RedisServer::start().await;
    for (world, tier) in worlds(&redis).await {
        world.origin.reply("/a", Reply::new("old").cache("max-age=60"));
        world.origin.reply("/a", located("new"));
        world.get("/a").await.is("old");
        if tier == "redis" {
            eventually("it lies in Redis", async || !redis.keys().await.is_empty()).await;
        }
        world.get("/a").await.is("old").hit(tier);
        let posted = world.ask("POST", "/a").with("content-type", "text/plain").body("change").await;
        posted.is("new").forwarded("method").says("stored").says("ttl=60");
        if tier == "redis" {
            eventually("the new one lies in Redis", async || {
                world.get("/a").await.fields["cache-status"].to_str().unwrap().contains("hit")
            })
            .await;
        }
        world.get("/a").await.is("new").hit(tier);
        assert_eq!(world.origin.last("/a").method, "POST");
    }
}

#[tokio::test]
async fn what_does_not_say_so_is_not_stored_and_invalidates_all_the_same() {
    for (reply, detail) in [
        (Reply::new("posted").cache("max-age=60"), "detail=method"),
        (located("posted").with("content-location", "/b"), "detail=method"),
        (Reply::new("posted").with("content-location", "/a"), "detail=no-lifetime"),
        (located("posted").cache("no-store"), "detail=no-store"),
    ] {
        let world = World::with(standard).await;
        world.origin.reply("/a", Reply::new("old").cache("max-age=60"));
        world.origin.reply("/a", reply);
        world.origin.reply("/a", "after");
        world.get("/a").await.is("old");
        world.ask("POST", "/a").body("change").await.is("posted").says(detail).does_not_say("stored");
        world.get("/a").await.is("after");
    }
}

#[tokio::test]
async fn a_post_that_fails_leaves_what_is_stored() {
    let world = World::with(standard).await;
    world.origin.reply("/a", Reply::new("old").cache("max-age=60"));
    world.origin.reply("/a", located("failed").status(500));
    world.get("/a").await.is("old");
    world.ask("POST", "/a").body("change").await.status(500).is("failed");
    world.get("/a").await.is("old").hit("memory");
}

#[tokio::test]
async fn a_purge_while_the_post_is_under_way_keeps_its_response_from_being_stored() {
    let redis = RedisServer::start().await;
    for (world, tier) in worlds(&redis).await {
        let gate = Gate::closed();
        world.origin.reply("/a", located("posted").behind(&gate));
        world.origin.reply("/a", "after");
        let posted = world.ask("POST", "/a").body("change").spawn();
        world.origin.arrived("/a", 1).await;
        match tier {
            // By another process that shares the Redis.
            "redis" => {
                let other = world.neighbour(&redis).await;
                other.purge(serde_json::json!({ "url": "/a" })).await;
            }
            _ => drop(world.purge(serde_json::json!({ "url": "/a" })).await),
        }
        gate.open();
        posted.await.unwrap().is("posted").does_not_say("stored");
        world.get("/a").await.is("after");
    }
}

#[tokio::test]
async fn where_the_route_hides_fields_from_the_origin_a_post_is_not_stored() {
    let world = World::with(|config| {
        standard(config);
        config.routes[0].unkeyed = Unkeyed::Drop;
    })
    .await;
    world.origin.has("/a", located("posted"));
    world.ask("POST", "/a").with("x-tenant", "one").body("change").await.is("posted").does_not_say("stored");
    assert_eq!(world.origin.last("/a").field("x-tenant").as_deref(), Some("one"));
}

#[tokio::test]
async fn credentials_and_conditions_keep_a_post_away_from_what_is_stored() {
    let world = World::with(standard).await;
    world.origin.has("/a", located("posted").with("etag", "\"1\""));
    world.ask("POST", "/a").with("authorization", "secret").body("change").await.is("posted").says("detail=method");
    world.ask("POST", "/a").with("cookie", "a=b").body("change").await.is("posted").says("detail=method");
    // The condition is about what the request does, so it is the origin's alone.
    world.ask("POST", "/a").with("if-none-match", "\"1\"").body("change").await.status(200).is("posted");
    assert_eq!(world.origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
}

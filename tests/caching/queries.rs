//! `No-Vary-Search`: responses that say which parts of a query make no difference, on a route that heeds them.

use crate::world::{RedisServer, Reply, World, eventually};
use serde_json::json;
use sidecache::config::Config;

fn heeding(config: &mut Config) {
    config.routes[0].heeds_no_vary_search = true;
}

fn saying(body: &'static str) -> Reply {
    Reply::new(body).with("no-vary-search", r#"key-order, params=("utm" "session")"#)
}

/// The same with memory alone, and with Redis alone.
async fn worlds(redis: &RedisServer) -> [(World, &'static str); 2] {
    let shared = World::with_redis(redis, |config| {
        heeding(config);
        config.store.memory.bytes_max = 0;
    });
    [(World::with(heeding).await, "memory"), (shared.await, "redis")]
}

#[tokio::test]
async fn queries_that_are_alike_have_one_response() {
    let redis = RedisServer::start().await;
    for (world, tier) in worlds(&redis).await {
        world.origin.has("/a", saying("one"));
        world.get("/a?b=1&c=2&utm=x").await.is("one").forwarded("uri-miss").says("stored");
        // Only now it is known which queries are alike.
        world.get("/a?c=2&b=1&utm=y").await.is("one").forwarded("uri-miss").says("stored");
        if tier == "redis" {
            eventually("both lie in Redis", async || redis.keys().await.len() == 2).await;
        }
        for alike in ["/a?b=1&c=2", "/a?c=2&b=1&session=z", "/a?utm=1&b=%31&c=2"] {
            world.get(alike).await.is("one").hit(tier);
        }
        for other in ["/a?b=1&c=3", "/a?b=1", "/a"] {
            world.get(other).await.is("one").forwarded("uri-miss");
        }
        assert_eq!(world.origin.count("/a"), 5);
        // The origin is asked as the client asks.
        assert_eq!(world.origin.seen("/a")[1].target, "/a?c=2&b=1&utm=y");
    }
}

#[tokio::test]
async fn what_says_something_else_is_not_given_to_those_who_are_no_longer_alike() {
    let world = World::with(heeding).await;
    world.origin.reply("/a", saying("one"));
    world.origin.reply("/a", saying("two"));
    world.origin.has("/b", "plain");
    world.get("/a?id=1&utm=x").await.is("one");
    world.get("/a?id=1&utm=y").await.is("two").says("stored");
    world.get("/a?id=1&utm=z").await.is("two").hit("memory");
    // From now on the parameter counts.
    world.purge(json!({ "all": true })).await;
    world.origin.has("/a", "by utm");
    world.get("/a?id=1&utm=x").await.is("by utm").says("detail=query-rule-changed").does_not_say("stored");
    world.get("/a?id=1&utm=x").await.is("by utm").says("stored");
    world.get("/a?id=1&utm=y").await.is("by utm").forwarded("uri-miss");
    world.get("/a?id=1&utm=x").await.hit("memory");
}

#[tokio::test]
async fn a_purge_or_a_change_of_one_query_is_one_of_all_that_may_be_alike() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, heeding).await;
    // It has heard nothing of the path.
    let other = world.neighbour_with(|config| {
        heeding(config);
        config.store.redis = Some(crate::world::redis_options(&redis.url()));
    });
    let other = other.await.connected().await;
    world.origin.has("/a", saying("one"));
    let fill = async || {
        for target in ["/a?id=1&utm=x", "/a?id=1&utm=y"] {
            world.get(target).await.is("one");
        }
        eventually("it is there", async || world.get("/a?id=1").await.fields["cache-status"].to_str().unwrap().contains("hit"))
            .await;
    };
    let is_gone = async || {
        eventually("it is gone", async || {
            world.get("/a?id=1").await.fields["cache-status"].to_str().unwrap().contains("uri-miss")
        })
        .await;
    };
    fill().await;
    other.purge(json!({ "url": "/a?id=1&utm=unknown", "wait": true })).await;
    is_gone().await;
    fill().await;
    world.ask("DELETE", "/a?id=1&utm=other").await.status(200);
    world.get("/a?id=1").await.forwarded("uri-miss");
}

#[tokio::test]
async fn without_the_routes_word_every_query_is_its_own() {
    let world = World::start().await;
    world.origin.has("/a", saying("one"));
    for target in ["/a?b=1&utm=x", "/a?b=1&utm=y", "/a?b=1&utm=z"] {
        world.get(target).await.forwarded("uri-miss");
    }
}

#[tokio::test]
async fn what_is_stored_under_such_a_rule_is_found_by_operators_too() {
    let world = World::with(heeding).await;
    world.origin.has("/a", saying("one"));
    for utm in ["x", "y"] {
        world.get(&format!("/a?b=1&utm={utm}")).with("host", "h").await.is("one").says("stored");
    }
    world.get("/a?b=1&utm=z").with("host", "h").await.hit("memory");
    for utm in ["y", "z"] {
        let entry = format!("/admin/cache/entries?url=http%3A%2F%2Fh%2Fa%3Fb%3D1%26utm%3D{utm}");
        world.ask_admin("GET", &entry).await.status(200);
    }
}

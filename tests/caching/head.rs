//! HEAD, and what its responses say about what is stored for GET (RFC 9111 §4.3.5).

use super::tiers::both_tiers;
use crate::world::{RedisServer, Reply, World, eventually, secs};

#[tokio::test]
async fn a_head_that_describes_what_is_stored_makes_it_fresh_again() {
    let redis = RedisServer::start().await;
    for tier in ["memory", "redis"] {
        let world = match tier {
            "memory" => World::start().await,
            _ => World::with_redis(&redis, |config| config.store.memory.bytes_max = 0).await,
        };
        world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").with("x-a", "old").with("x-b", "kept"));
        world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").with("x-a", "new"));
        world.get("/a").await.is("one");
        if tier == "redis" {
            eventually("it lies in Redis", async || !redis.keys().await.is_empty()).await;
        }
        world.clock.advance(secs(61));
        world.ask("HEAD", "/a").await.status(200).is("").forwarded("stale").says("detail=head").has("x-a", "new");
        eventually("it is fresh again", async || world.get("/a").await.fields.get("x-a").is_some_and(|value| value == "new"))
            .await;
        world.get("/a").await.is("one").hit(tier).has("x-b", "kept");
        assert_eq!(world.origin.count("/a"), 2, "{tier}");
    }
}

#[tokio::test]
async fn a_head_that_contradicts_what_is_stored_ends_it() {
    for other in [Reply::new("one").with("etag", "\"2\""), Reply::new("longer").with("etag", "\"1\"")] {
        let world = World::start().await;
        world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
        world.origin.reply("/a", other);
        world.origin.reply("/a", "two");
        world.get("/a").await.is("one");
        world.clock.advance(secs(61));
        world.ask("HEAD", "/a").await.status(200).forwarded("stale");
        // What is gone cannot be validated.
        world.get("/a").await.is("two").forwarded("uri-miss");
        assert_eq!(world.origin.last("/a").field("if-none-match"), None);
    }
}

#[tokio::test]
async fn a_head_that_fails_says_nothing_about_what_is_stored() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("").status(503));
    world.origin.reply("/a", Reply::new("").status(304));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    world.ask("HEAD", "/a").await.status(503);
    world.get("/a").await.is("one").forwarded("stale").says("fwd-status=304");
}

#[tokio::test]
async fn a_head_after_which_what_is_stored_would_be_of_no_use_leaves_it_as_it_is() {
    // Older than it is fresh, and without a validator to ask by: nothing that a `GET` would have been stored with.
    for spent in ["s-maxage=15", "s-maxage=0"] {
        for tier in both_tiers().await {
            tier.origin.reply("/a", "one");
            tier.origin.reply("/a", Reply::new("one").with("age", "30").cache(spent));
            tier.get("/a").await.is("one");
            tier.keeps("/a", "one").await;
            tier.clock.advance(secs(61));
            tier.ask("HEAD", "/a").await.status(200).forwarded("stale").says("detail=head");
            tier.network.leave().await;
            // Nobody forbade it to stand in, as `s-maxage` would have.
            tier.get("/a").await.status(200).is("one").says("detail=stale-origin-unreachable");
        }
    }
}

#[tokio::test]
async fn a_head_that_shows_the_origin_more_than_a_get_would_changes_nothing() {
    for name in ["if-none-match", "if-modified-since", "if-range", "range"] {
        let world = World::start().await;
        world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").with("x-a", "for all"));
        world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").with("x-a", "of one client"));
        world.get("/a").await.is("one");
        let head = world.ask("HEAD", "/a").with(name, "\"of one client\"").with("cache-control", "no-cache");
        head.await.has("x-a", "of one client");
        world.get("/a").await.is("one").hit("memory").has("x-a", "for all");
    }
}

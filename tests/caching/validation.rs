//! Stale responses that the origin is asked about.

use crate::world::{Reply, World, secs};

#[tokio::test]
async fn a_stale_response_is_validated_with_its_etag() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").with("x-a", "old").with("x-b", "kept"));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\"").with("x-a", "new"));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    let got = world.get("/a").await;
    got.status(200).is("one").forwarded("stale").says("fwd-status=304").says("stored").says("ttl=60");
    got.has("x-a", "new").has("x-b", "kept").has("content-length", "3");
    assert_eq!(world.origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
    world.get("/a").await.is("one").hit("memory").has("x-a", "new").has("age", "0");
    assert_eq!(world.origin.count("/a"), 2);
    assert_eq!(world.stats().await["routes"][0]["validated"], 1);
}

#[tokio::test]
async fn a_stale_response_is_validated_with_its_last_modification() {
    let world = World::start().await;
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    world.origin.reply("/a", Reply::new("one").with("last-modified", modified));
    world.origin.reply("/a", Reply::new("").status(304));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    world.get("/a").await.is("one").forwarded("stale").says("fwd-status=304");
    assert_eq!(world.origin.last("/a").field("if-modified-since").as_deref(), Some(modified));
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn a_response_that_has_changed_replaces_the_stale_one() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("two").with("etag", "\"2\""));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    world.get("/a").await.is("two").forwarded("stale").says("stored").does_not_say("fwd-status=304");
    world.get("/a").await.is("two").hit("memory").has("etag", "\"2\"");
}

#[tokio::test]
async fn an_origin_that_confirms_something_else_is_asked_for_the_whole() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"2\""));
    world.origin.reply("/a", Reply::new("two").with("etag", "\"2\""));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    world.get("/a").await.status(200).is("two").has("etag", "\"2\"");
    assert_eq!(world.origin.last("/a").field("if-none-match"), None);
    world.get("/a").await.is("two").hit("memory");
}

#[tokio::test]
async fn a_client_that_has_the_response_is_told_so_after_the_origin_was_asked() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\""));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    world.get("/a").with("if-none-match", "\"1\"").await.status(304).is("").forwarded("stale").says("fwd-status=304");
    world.clock.advance(secs(61));
    // It has an older one: the origin is asked about what is stored here, not about that.
    world.get("/a").with("if-none-match", "\"0\"").await.status(200).is("one");
    assert_eq!(world.origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
}

#[tokio::test]
async fn no_cache_of_a_client_has_a_fresh_response_validated() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\""));
    world.get("/a").await.is("one");
    world.get("/a").with("cache-control", "no-cache").await.is("one").forwarded("request").says("fwd-status=304");
}

#[tokio::test]
async fn no_cache_of_the_origin_has_every_use_validated() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").cache("no-cache"));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\"").cache("no-cache"));
    world.get("/a").await.is("one").forwarded("uri-miss");
    for _ in 0..2 {
        world.get("/a").await.is("one").forwarded("stale").says("fwd-status=304");
    }
    assert_eq!(world.origin.count("/a"), 3);
}

#[tokio::test]
async fn an_error_of_the_origin_is_relayed_and_does_not_replace_what_is_stored() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("broken").status(500));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\""));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    world.get("/a").await.status(500).is("broken").forwarded("stale").does_not_say("stored");
    world.get("/a").await.status(200).is("one").says("fwd-status=304");
}

#[tokio::test]
async fn a_confirmation_may_forbid_to_store_further() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\"").cache("no-store"));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    world.get("/a").await.is("one").says("fwd-status=304").does_not_say("stored");
    world.get("/a").await.forwarded("stale");
}

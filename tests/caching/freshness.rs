//! How long a stored response answers.

use crate::world::{Reply, World, secs};
use sidecache::config::{self, Sources};
use sidecache::rules::Caching;

#[tokio::test]
async fn the_two_shipped_routes_are_cached_for_their_time() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml");
    let shipped = config::load(&Sources::new().file(file)).expect("the shipped file is right");
    let world = World::with(|config| config.routes = shipped.routes).await;
    for (path, ttl) in [("/api/mcp/customer/42", 3600), ("/api/mcp/customer/42/churn-risk", 1800)] {
        world.origin.reply(path, Reply::new("one").with("content-type", "application/json"));
        world.origin.reply(path, "two");
        world.get(path).await.is("one").forwarded("uri-miss").says("stored").says(&format!("ttl={ttl}"));
        world.get(path).await.is("one").hit("memory").has("content-type", "application/json");
        world.clock.advance(secs(ttl - 10));
        world.get(path).await.is("one").hit("memory");
        world.clock.advance(secs(10));
        world.get(path).await.is("two").forwarded("stale").says("stored");
        world.get(path).await.is("two").hit("memory");
    }
}

#[tokio::test]
async fn a_hit_tells_its_age_and_when_it_was_made() {
    let world = World::start().await;
    world.clock.advance(secs(1000));
    let date = httpdate::fmt_http_date(world.clock.now());
    world.origin.reply("/a", Reply::new("one").with("x-a", "1"));
    world.get("/a").await.has("age", "").has("date", &date).forwarded("uri-miss");
    world.clock.advance(secs(10));
    world.get("/a").await.hit("memory").has("age", "10").has("date", &date).has("content-length", "3").says("ttl=50");
}

#[tokio::test]
async fn what_the_origin_says_of_freshness_beats_the_ttl() {
    let world = World::start().await;
    let at = |seconds: u64| httpdate::fmt_http_date(world.clock.now() + secs(seconds));
    let fields = [
        ("/expires", vec![("date", at(0)), ("expires", at(9))], 9),
        ("/max-age", vec![("cache-control", "max-age=5".to_owned()), ("expires", at(100))], 5),
        ("/s-maxage", vec![("cache-control", "max-age=5, s-maxage=300".to_owned())], 300),
        ("/age", vec![("cache-control", "max-age=60".to_owned()), ("age", "50".to_owned())], 10),
    ];
    for (path, fields, ttl) in fields {
        let reply = fields.iter().fold(Reply::new("one"), |reply, (name, value)| reply.with(name, value));
        world.origin.reply(path, reply);
        world.get(path).await.says("stored");
        world.clock.advance(secs(ttl - 2));
        world.get(path).await.hit("memory");
        world.clock.advance(secs(2));
        world.get(path).await.forwarded("stale");
    }
}

#[tokio::test]
async fn a_route_that_overrides_beats_what_the_origin_says() {
    let world = World::with_route(|route| route.caching = Caching::Rule { ttl: secs(60), overrides: true }).await;
    for (path, directives) in [("/a", "max-age=5"), ("/b", "no-cache"), ("/c", "max-age=0")] {
        world.origin.reply(path, Reply::new("one").cache(directives));
        world.get(path).await.says("stored").says("ttl=60");
        world.clock.advance(secs(50));
        world.get(path).await.hit("memory");
    }
    for (path, directives) in [("/d", "no-store"), ("/e", "private, max-age=5")] {
        world.origin.reply(path, Reply::new("one").cache(directives));
        world.get(path).await.does_not_say("stored");
    }
}

#[tokio::test]
async fn a_standard_route_stores_only_what_says_how_long_it_is_fresh() {
    let world = World::with_route(|route| route.caching = Caching::Standard).await;
    world.origin.reply("/a", "one");
    world.get("/a").await.forwarded("uri-miss").says("detail=no-lifetime");
    world.get("/a").await.forwarded("uri-miss");
    world.origin.reply("/b", Reply::new("one").cache("max-age=5"));
    world.get("/b").await.says("stored").says("ttl=5");
    world.get("/b").await.hit("memory");
    // RFC 9111 §4.2.2: a tenth of the time since it was modified.
    let modified = httpdate::fmt_http_date(world.clock.now() - secs(1000));
    world.origin.reply("/c", Reply::new("one").with("last-modified", &modified));
    world.get("/c").await.says("stored");
    world.clock.advance(secs(90));
    world.get("/c").await.hit("memory");
}

#[tokio::test]
async fn a_route_can_be_switched_off() {
    let world = World::with_route(|route| route.caching = Caching::Off).await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=60"));
    for _ in 0..2 {
        world.get("/a").await.is("one").forwarded("bypass").says("detail=cache-off");
    }
    assert_eq!(world.origin.count("/a"), 2);
}

#[tokio::test]
async fn the_whole_cache_can_be_switched_off() {
    let world = World::with(|config| config.cache.enabled = false).await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=60"));
    for _ in 0..2 {
        world.get("/a").await.is("one").forwarded("bypass").says("detail=cache-disabled");
    }
    assert_eq!(world.origin.count("/a"), 2);
    assert_eq!(world.stats().await["enabled"], false);
}

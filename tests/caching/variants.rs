//! `Vary`: several responses under one key.

use super::tiers::is_kept;
use crate::world::{Ask, RedisServer, Reply, World};

fn in_language(world: &World, language: &str) -> Ask {
    world.get("/a").with("accept-language", language)
}

#[tokio::test]
async fn variants_lie_side_by_side() {
    let world = World::start().await;
    for (language, body) in [("de", "hallo"), ("en", "hello"), ("fr", "salut")] {
        world.origin.reply("/a", Reply::new(body).with("vary", "accept-language"));
        let why = if language == "de" { "uri-miss" } else { "vary-miss" };
        in_language(&world, language).await.is(body).forwarded(why).says("stored");
    }
    for (language, body) in [("de", "hallo"), ("en", "hello"), ("fr", "salut")] {
        in_language(&world, language).await.is(body).hit("memory").has("vary", "accept-language");
    }
    world.get("/a").await.forwarded("vary-miss");
    assert_eq!(world.origin.count("/a"), 4);
}

#[tokio::test]
async fn a_response_in_a_language_answers_whoever_wants_that_one_most() {
    let redis = RedisServer::start().await;
    let on_redis_alone = World::with_redis(&redis, |config| config.store.memory.bytes_max = 0).await;
    for (world, tier) in [(World::start().await, "memory"), (on_redis_alone, "redis")] {
        let in_language = |list: &str| in_language(&world, list).with("host", "h");
        world.origin.has("/a", Reply::new("hallo").with("vary", "accept-language").with("content-language", "de"));
        in_language("en, de").await.is("hallo").forwarded("uri-miss").says("stored");
        if tier == "redis" {
            redis.keys_become(2).await;
        }
        for list in ["en, de", "fr;q=0.5, de;q=1.0", "de", "DE, *", "de;q=0.1"] {
            in_language(list).await.is("hallo").hit(tier).has("content-language", "de");
        }
        assert_eq!(world.origin.count("/a"), 1);
        world.get("/a").with("host", "h").await.forwarded("vary-miss");
        for list in ["en, de;q=0.9", "de-DE, de;q=0.9", "*", "fr, de;q=0"] {
            in_language(list).await.forwarded("vary-miss");
        }
    }
}

#[tokio::test]
async fn fields_that_are_not_named_make_no_difference() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("vary", "accept-language").with("vary", "accept"));
    let request = || in_language(&world, "de").with("accept", "text/html");
    request().with("user-agent", "one").await.forwarded("uri-miss");
    request().with("user-agent", "two").await.hit("memory");
    in_language(&world, "de").with("accept", "text/plain").await.forwarded("vary-miss");
}

#[tokio::test]
async fn a_response_that_stops_to_vary_answers_all() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("hallo").with("vary", "accept-language"));
    in_language(&world, "de").await.is("hallo");
    world.origin.reply("/a", "one");
    in_language(&world, "en").await.is("one").forwarded("vary-miss");
    in_language(&world, "fr").await.is("one").hit("memory");
    in_language(&world, "de").await.is("one").hit("memory");
}

#[tokio::test]
async fn in_redis_too_the_number_of_variants_has_a_bound() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| config.store.memory.bytes_max = 0).await;
    let numbered = |number: usize| world.get("/a").with("accept-language", &format!("x-{number}"));
    for number in 0..80 {
        world.origin.has("/a", Reply::new(number.to_string()).with("vary", "accept-language"));
        numbered(number).await.is(&number.to_string()).says("stored");
        // They are written in the background, and of two at once one may be missed.
        is_kept(|| numbered(number), &number.to_string()).await;
    }
    redis.keys_become(65).await;
    for number in 16..80 {
        numbered(number).await.is(&number.to_string()).hit("redis");
    }
    numbered(15).await.forwarded("vary-miss");
    for key in redis.keys().await {
        assert!(redis.run::<i64>(&format!("PTTL {key}")).await > 0, "{key}");
    }
}

#[tokio::test]
async fn variants_that_nobody_would_find_any_more_are_deleted_from_redis() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| config.store.memory.bytes_max = 0).await;
    let asked = |language: &str| in_language(&world, language).with("accept", "text/html");
    for language in ["de", "en", "fr"] {
        world.origin.has("/a", Reply::new(language.to_owned()).with("vary", "accept-language"));
        asked(language).await.is(language);
        is_kept(|| asked(language), language).await;
    }
    redis.keys_become(4).await;
    world.origin.has("/a", Reply::new("html").with("vary", "accept-language, accept"));
    asked("es").await.is("html").forwarded("vary-miss");
    redis.keys_become(2).await;
    asked("es").await.is("html").hit("redis");
    world.origin.has("/a", "one");
    asked("de").await.is("one").forwarded("vary-miss");
    redis.keys_become(1).await;
    asked("fr").await.is("one").hit("redis");
}

#[tokio::test]
async fn what_varies_on_the_clients_address_is_not_stored() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("for 127.0.0.1").with("vary", "X-Forwarded-For"));
    world.get("/a").await.says("detail=vary-any").does_not_say("stored");
}

//! `Vary`: several responses under one key.

use super::tiers::{Tier, all_is_written, both_tiers, both_with_route, is_kept};
use crate::world::{Ask, Gate, RedisServer, Reply, World, eventually, secs};
use serde_json::json;

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
        in_language("de").await.is("hallo").forwarded("uri-miss").says("stored");
        if tier == "redis" {
            redis.keys_become(2).await;
        }
        for list in ["de, en", "fr;q=0.5, de;q=1.0", "de", "DE, *", "de;q=0.1"] {
            in_language(list).await.is("hallo").hit(tier).has("content-language", "de");
        }
        assert_eq!(world.origin.count("/a"), 1);
        world.get("/a").with("host", "h").await.forwarded("vary-miss");
        for list in ["en, de", "en, de;q=0.9", "de-DE, de;q=0.9", "*", "fr, de;q=0"] {
            in_language(list).await.forwarded("vary-miss");
        }
    }
}

#[tokio::test]
async fn what_a_request_says_beside_the_language_that_it_wants_most_is_shown_to_nobody_else() {
    let redis = RedisServer::start().await;
    let on_redis_alone = World::with_redis(&redis, |config| config.store.memory.bytes_max = 0).await;
    for world in [World::start().await, on_redis_alone] {
        for (path, vary) in [("/a", ""), ("/b", "accept-language"), ("/c", "accept")] {
            world.origin.has(path, Reply::reflecting().with("vary", vary).with("content-language", "en"));
            let ask = |list: &str| world.get(path).with("host", "h").with("accept-language", list);
            let hidden = "en, <script>;q=0.1";
            assert!(ask(hidden).await.says("stored").text().contains("<script>"));
            eventually("it is stored", async || ask(hidden).await.field("cache-status").contains("; hit")).await;
            for list in ["en", "en, de;q=0.5", "en, <other>;q=0.1", "EN"] {
                assert!(!ask(list).await.text().contains("<script>"), "{path} {list}");
            }
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
    // The origin was shown the language, and does not say that it made no difference; now it is not shown it.
    in_language(&world, "fr").await.is("one").forwarded("vary-miss");
    assert_eq!(world.origin.last("/a").field("accept-language"), None);
    in_language(&world, "de").await.is("one").hit("memory");
    in_language(&world, "en").await.is("one").hit("memory");
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
        all_is_written(&world).await;
    }
    redis.keys_become(65).await;
    for number in 16..80 {
        numbered(number).await.is(&number.to_string()).hit("redis");
    }
    for key in redis.keys().await {
        assert!(redis.run::<i64>(&format!("PTTL {key}")).await > 0, "{key}");
    }
    numbered(15).await.forwarded("vary-miss");
}

#[tokio::test]
async fn variants_that_nobody_would_find_any_more_are_deleted_from_redis() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| config.store.memory.bytes_max = 0).await;
    let asked = |language: &str| in_language(&world, language).with("accept", "text/html");
    // Of the first one it is not known that `Accept` made no difference to it; those after it take its place.
    for language in ["it", "de", "en", "fr"] {
        world.origin.has("/a", Reply::new(language.to_owned()).with("vary", "accept-language"));
        asked(language).await.is(language);
        is_kept(|| asked(language), language).await;
        all_is_written(&world).await;
    }
    redis.keys_become(4).await;
    world.origin.has("/a", Reply::new("html").with("vary", "accept-language, accept"));
    asked("es").await.is("html").forwarded("vary-miss");
    redis.keys_become(2).await;
    asked("es").await.is("html").hit("redis");
    world.origin.has("/a", "one");
    asked("de").await.is("one").forwarded("vary-miss");
    redis.keys_become(3).await;
    asked("fr").await.is("one").forwarded("vary-miss");
    redis.keys_become(1).await;
    asked("de").await.is("one").hit("redis");
}

#[tokio::test]
async fn what_varies_on_the_clients_address_is_not_stored() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("for 127.0.0.1").with("vary", "X-Forwarded-For"));
    world.get("/a").await.says("detail=vary-any").does_not_say("stored");
}

fn varying(body: &'static str, tag: &str) -> Reply {
    Reply::new(body).with("vary", "accept-language").with("etag", tag).cache("max-age=60")
}

fn confirming(tag: &str) -> Reply {
    Reply::new("").status(304).with("etag", tag)
}

/// Has `hallo` stored for `de`, with the tag `"1"`, and `hello` for `en`, with `"2"`.
async fn german_and_english(tier: &Tier) {
    for (language, body, tag) in [("de", "hallo", "\"1\""), ("en", "hello", "\"2\"")] {
        tier.origin.has("/a", varying(body, tag));
        in_language(tier, language).await.is(body);
        is_kept(|| in_language(tier, language), body).await;
        all_is_written(tier).await;
    }
}

/// With which entity-tags the origin was asked last.
fn asked_about(world: &World) -> Option<String> {
    world.origin.last("/a").field("if-none-match")
}

#[tokio::test]
async fn a_request_that_no_variant_fits_is_answered_with_the_one_that_the_origin_confirms() {
    for tier in both_tiers().await {
        german_and_english(&tier).await;
        tier.origin.has("/a", confirming("\"1\"").with("x-a", "new"));
        let got = in_language(&tier, "fr").await;
        got.status(200).is("hallo").forwarded("vary-miss").says("fwd-status=304").says("stored").has("x-a", "new");
        assert_eq!(asked_about(&tier).as_deref(), Some("\"2\", \"1\""), "{}", tier.name);
        is_kept(|| in_language(&tier, "fr"), "hallo").await;
        in_language(&tier, "fr").await.is("hallo").hit(tier.name).has("x-a", "new");
        for (language, body) in [("de", "hallo"), ("en", "hello")] {
            in_language(&tier, language).await.is(body).hit(tier.name).has("x-a", "");
        }
        assert_eq!(tier.origin.count("/a"), 3);
    }
}

#[tokio::test]
async fn an_origin_that_has_another_response_for_it_sends_that() {
    for tier in both_tiers().await {
        german_and_english(&tier).await;
        tier.origin.has("/a", varying("salut", "\"3\""));
        in_language(&tier, "fr").await.is("salut").forwarded("vary-miss").does_not_say("fwd-status=304").says("stored");
        assert_eq!(tier.origin.count("/a"), 3);
    }
}

#[tokio::test]
async fn a_304_that_names_no_known_variant_has_the_whole_fetched() {
    for tier in both_tiers().await {
        german_and_english(&tier).await;
        for unknown in [confirming("\"3\""), Reply::new("").status(304)] {
            tier.origin.has("/a", unknown);
            tier.origin.reply("/a", varying("salut", "\"3\"").cache("no-store"));
            in_language(&tier, "fr").await.status(200).is("salut").does_not_say("fwd-status=304");
            assert_eq!(asked_about(&tier), None);
        }
        assert_eq!(tier.origin.count("/a"), 6);
    }
}

#[tokio::test]
async fn a_304_that_names_another_variant_than_the_one_asked_about_selects_that() {
    for tier in both_tiers().await {
        german_and_english(&tier).await;
        tier.clock.advance(secs(61));
        tier.origin.has("/a", confirming("\"2\""));
        in_language(&tier, "de").await.is("hello").forwarded("stale").says("fwd-status=304").says("stored");
        assert_eq!(asked_about(&tier).as_deref(), Some("\"1\""));
        is_kept(|| in_language(&tier, "de"), "hello").await;
        assert_eq!(tier.origin.count("/a"), 3);
    }
}

#[tokio::test]
async fn a_purged_variant_is_not_offered() {
    for tier in both_tiers().await {
        german_and_english(&tier).await;
        tier.purge(json!({ "url": "/a", "wait": true })).await;
        // In Redis, the list of tags outlives the purge; what it leads to does not.
        let asked = match tier.name {
            "redis" => {
                tier.origin.has("/a", confirming("\"1\""));
                tier.origin.reply("/a", varying("hallo again", "\"1\""));
                2
            }
            _ => {
                tier.origin.has("/a", varying("hallo again", "\"1\""));
                1
            }
        };
        in_language(&tier, "fr").await.is("hallo again").does_not_say("fwd-status=304").says("stored");
        assert_eq!(asked_about(&tier), None, "{}", tier.name);
        assert_eq!(tier.origin.count("/a"), 2 + asked);
        is_kept(|| in_language(&tier, "fr"), "hallo again").await;
        all_is_written(&tier).await;
        // From then on, what was stored since stands for the tag.
        tier.origin.has("/a", confirming("\"1\""));
        in_language(&tier, "es").await.is("hallo again").says("fwd-status=304");
    }
}

#[tokio::test]
async fn what_has_gone_from_redis_is_fetched() {
    let [_, tier] = both_tiers().await;
    german_and_english(&tier).await;
    for key in tier.redis().keys().await.iter().filter(|key| key.contains("}:")) {
        tier.redis().run::<()>(&format!("DEL {key}")).await;
    }
    tier.origin.has("/a", confirming("\"1\""));
    tier.origin.reply("/a", varying("salut", "\"3\""));
    in_language(&tier, "fr").await.is("salut").says("stored");
    is_kept(|| in_language(&tier, "fr"), "salut").await;
    all_is_written(&tier).await;
    // Nor is it asked whether the one still holds that the request itself selects, and that is not there.
    tier.origin.has("/a", varying("hallo", "\"1\""));
    in_language(&tier, "de").await.is("hallo").forwarded("vary-miss");
    assert_eq!(asked_about(&tier).as_deref(), Some("\"3\", \"2\""));
}

#[tokio::test]
async fn other_variants_are_not_for_requests_with_credentials_or_of_others_with_them() {
    for tier in both_with_route(|route| route.caching = sidecache::rules::Caching::Standard).await {
        german_and_english(&tier).await;
        tier.origin.has("/a", varying("salut", "\"3\"").cache("no-store"));
        for credential in ["cookie", "authorization"] {
            in_language(&tier, "fr").with(credential, "Basic secret").await.is("salut").forwarded("vary-miss");
            assert_eq!(asked_about(&tier), None, "{credential}");
        }
        let with_cookie = |cookie: &str| tier.get("/a").with("cookie", cookie);
        let of_user = |body| Reply::new(body).with("vary", "cookie").with("etag", "\"1\"").cache("max-age=60");
        tier.origin.has("/a", of_user("of a"));
        with_cookie("a").await.is("of a").says("stored");
        is_kept(|| with_cookie("a"), "of a").await;
        tier.origin.has("/a", of_user("of b"));
        with_cookie("b").await.is("of b");
        assert_eq!(asked_about(&tier), None);
    }
}

#[tokio::test]
async fn an_origin_with_one_tag_for_all_codings_gets_nobody_what_he_cannot_read() {
    for tier in both_tiers().await {
        let coded = |body, tag| Reply::new(body).with("vary", "accept-encoding").with("etag", tag);
        let accepting = |codings: &str| tier.get("/a").with("accept-encoding", codings);
        tier.origin.has("/a", coded("packed", "\"1\"").with("content-encoding", "gzip"));
        accepting("gzip").await.is("packed");
        is_kept(|| accepting("gzip"), "packed").await;
        all_is_written(&tier).await;
        tier.origin.has("/a", coded("plain", "\"1\""));
        accepting("identity").await.is("plain").says("stored");
        assert_eq!(asked_about(&tier), None, "{}", tier.name);
        is_kept(|| accepting("identity"), "plain").await;
        all_is_written(&tier).await;
        tier.origin.has("/a", confirming("\"1\""));
        accepting("gzip, br").await.is("packed").says("fwd-status=304").has("content-encoding", "gzip");
        tier.get("/a").await.is("plain").says("fwd-status=304").has("content-encoding", "");
    }
}

#[tokio::test]
async fn many_requests_that_no_variant_fits_have_the_origin_asked_once() {
    for tier in both_tiers().await {
        german_and_english(&tier).await;
        let gate = Gate::closed();
        tier.origin.has("/a", confirming("\"1\"").behind(&gate));
        let first = in_language(&tier, "fr").spawn();
        tier.origin.arrived("/a", 3).await;
        let others: Vec<_> = (0..3).map(|_| in_language(&tier, "fr").spawn()).collect();
        tier.followed_by(3).await;
        gate.open();
        first.await.unwrap().is("hallo").forwarded("vary-miss").says("fwd-status=304");
        for other in others {
            other.await.unwrap().is("hallo").says("collapsed");
        }
        assert_eq!(tier.origin.count("/a"), 3);
    }
}

/// So that who reads a list otherwise than by its grammar reads nothing that one client alone has written.
#[tokio::test]
async fn the_origin_is_shown_what_selects_a_variant_as_it_selects() {
    for (name, written, shown) in [
        ("accept-language", &["de;q = 1"][..], "de"),
        ("accept-language", &[",de"], "de"),
        ("accept-language", &["en;q=0.8,de;q=0.9,de-DE"], "de-de, de;q=0.9, en;q=0.8"),
        ("accept-language", &["en;q=0.8", "de-DE,de;q=0.9"], "de-de, de;q=0.9, en;q=0.8"),
        ("accept-encoding", &["zstd", "GZIP, deflate, br"], "gzip, deflate, br, zstd"),
        ("accept", &["text/html", "application/json"], "text/html, application/json"),
        ("accept", &["text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"], "text/html, application/xhtml+xml;q=0.9, */*;q=0.8"),
    ] {
        let world = World::start().await;
        world.origin.reply("/a", Reply::new("one").cache("max-age=60").with("vary", name));
        let mut ask = world.get("/a");
        for line in written {
            ask = ask.with(name, line);
        }
        ask.await.is("one").says("stored");
        assert_eq!(world.origin.last("/a").field(name).as_deref(), Some(shown), "{written:?}");
        world.get("/a").with(name, shown).await.is("one").hit("memory");
    }
}

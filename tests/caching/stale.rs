//! Stale responses that answer all the same: while a new one is fetched (RFC 5861 §3), and where the client wants them
//! (RFC 9111 §5.2.1.2).

use super::tiers::{both_tiers, both_with_route};
use crate::world::{Gate, Reply, secs};

/// What forbids every use of a stale response (RFC 9111 §4.2.4).
pub(crate) const FORBIDDING: [&str; 4] = ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"];

const WHILE_REVALIDATING: &str = "max-age=10, stale-while-revalidate=60";

#[tokio::test]
async fn a_stale_response_is_served_at_once_while_one_fetch_for_all_gets_the_new_one() {
    for tier in both_tiers().await {
        let gate = Gate::closed();
        tier.origin.reply("/a", Reply::new("one").cache(WHILE_REVALIDATING));
        tier.origin.reply("/a", Reply::new("two").cache(WHILE_REVALIDATING).behind(&gate));
        tier.get("/a").await.is("one").says("ttl=10");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(15));
        for _ in 0..5 {
            tier.get("/a").await.is("one").hit(tier.name).says("ttl=-5").has("age", "15");
            tier.ask("HEAD", "/a").await.status(200).is("").has("content-length", "3").hit(tier.name).says("ttl=-5");
        }
        tier.origin.arrived("/a", 2).await;
        assert_eq!(tier.origin.last("/a").method, "GET");
        gate.open();
        tier.keeps("/a", "two").await;
        tier.get("/a").await.is("two").hit(tier.name).says("ttl=10");
        assert_eq!(tier.origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_head_alone_has_a_stale_response_fetched_anew_too() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").cache(WHILE_REVALIDATING));
        tier.origin.reply("/a", Reply::new("two!").cache(WHILE_REVALIDATING));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(15));
        tier.ask("HEAD", "/a").await.status(200).has("content-length", "3").hit(tier.name);
        tier.keeps("/a", "two!").await;
        tier.ask("HEAD", "/a").await.status(200).has("content-length", "4").hit(tier.name);
        assert_eq!(tier.origin.last("/a").method, "GET");
    }
}

#[tokio::test]
async fn the_refresh_validates_what_can_be_validated() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").cache(WHILE_REVALIDATING).with("etag", "\"1\""));
        tier.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\""));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(15));
        tier.get("/a").await.is("one").hit(tier.name).says("ttl=-5");
        tier.keeps("/a", "one").await;
        assert_eq!(tier.origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
        tier.get("/a").await.is("one").hit(tier.name).says("ttl=10").has("age", "0");
        assert_eq!(tier.origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_stale_response_and_is_tried_again() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").cache(WHILE_REVALIDATING));
        tier.origin.reply("/a", Reply::new("broken").status(500));
        tier.origin.reply("/a", Reply::new("two").cache(WHILE_REVALIDATING));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(15));
        tier.get("/a").await.is("one").hit(tier.name);
        tier.origin.arrived("/a", 2).await;
        tier.has_fetched().await;
        // It is left alone for a moment.
        tier.get("/a").await.is("one").hit(tier.name);
        assert_eq!(tier.origin.count("/a"), 2);
        tier.clock.advance(secs(1));
        tier.get("/a").await.is("one").hit(tier.name);
        tier.keeps("/a", "two").await;
        assert_eq!(tier.origin.count("/a"), 3);
    }
}

#[tokio::test]
async fn outside_its_window_a_stale_response_is_not_served() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").cache(WHILE_REVALIDATING));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(10 + 60));
        tier.origin.reply("/a", Reply::new("two").cache(WHILE_REVALIDATING));
        tier.get("/a").await.is("two").forwarded("stale").says("stored");
        tier.keeps("/a", "two").await;
        tier.clock.advance(secs(10 + 59));
        tier.get("/a").await.is("two").hit(tier.name).says("ttl=-59");
    }
}

#[tokio::test]
async fn what_must_be_revalidated_is_not_served_stale() {
    for tier in both_with_route(|route| route.stale_while_revalidate = secs(60)).await {
        for (number, forbidding) in FORBIDDING.into_iter().enumerate() {
            let path = &format!("/{number}");
            let reply = |body, tag| Reply::new(body).with("etag", tag).cache(WHILE_REVALIDATING).cache(forbidding);
            tier.origin.reply(path, reply("one", "\"1\""));
            tier.origin.reply(path, reply("two", "\"2\""));
            tier.get(path).await.is("one").says("stored");
            tier.keeps_number(number + 1).await;
            tier.clock.advance(secs(11));
            tier.get(path).await.is("two").forwarded("stale");
            assert_eq!(tier.origin.last(path).field("if-none-match").as_deref(), Some("\"1\""), "{forbidding}");
        }
    }
}

#[tokio::test]
async fn the_routes_own_window_counts_where_the_response_says_nothing() {
    for tier in both_with_route(|route| route.stale_while_revalidate = secs(30)).await {
        for (path, directives, window) in [("/a", "max-age=10", 30), ("/b", "max-age=10, stale-while-revalidate=5", 5)] {
            tier.origin.reply(path, Reply::new("one").cache(directives).with("etag", "\"1\""));
            tier.origin.reply(path, Reply::new("two").cache(directives).with("etag", "\"2\""));
            tier.get(path).await.is("one");
            tier.keeps(path, "one").await;
            tier.clock.advance(secs(10 + window - 1));
            tier.get(path).await.is("one").hit(tier.name);
            tier.keeps(path, "two").await;
            tier.clock.advance(secs(10 + window));
            tier.origin.reply(path, Reply::new("three").cache(directives));
            tier.get(path).await.is("three").forwarded("stale");
        }
        let never = "max-age=10, stale-while-revalidate=0";
        tier.origin.reply("/c", Reply::new("one").cache(never).with("etag", "\"1\""));
        tier.origin.reply("/c", Reply::new("two").cache(never));
        tier.get("/c").await.is("one");
        tier.keeps("/c", "one").await;
        tier.clock.advance(secs(11));
        tier.get("/c").await.is("two").forwarded("stale");
    }
}

#[tokio::test]
async fn what_a_rule_gives_its_lifetime_is_served_stale_too() {
    for tier in both_with_route(|route| route.stale_while_revalidate = secs(30)).await {
        tier.origin.reply("/a", "one");
        tier.origin.reply("/a", "two");
        tier.get("/a").await.is("one").says("ttl=60");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(61));
        tier.get("/a").await.is("one").hit(tier.name).says("ttl=-1");
        tier.keeps("/a", "two").await;
    }
}

#[tokio::test]
async fn a_client_that_wants_a_newer_response_is_not_given_a_stale_one() {
    for tier in both_tiers().await {
        let reply = |body: &str| Reply::new(body.to_owned()).cache(WHILE_REVALIDATING);
        tier.origin.reply("/a", reply("zero"));
        tier.get("/a").await.is("zero");
        tier.keeps("/a", "zero").await;
        for (field, value, why) in [
            ("cache-control", "max-age=0", "stale"),
            ("cache-control", "max-age=30", "stale"),
            ("cache-control", "min-fresh=1", "stale"),
            ("cache-control", "no-cache", "request"),
            ("pragma", "no-cache", "request"),
        ] {
            tier.clock.advance(secs(15));
            tier.origin.reply("/a", reply(value));
            tier.get("/a").with(field, value).await.is(value).forwarded(why).says("stored");
            tier.keeps("/a", value).await;
        }
    }
}

#[tokio::test]
async fn a_client_may_accept_a_stale_response() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").cache("max-age=10").with("etag", "\"1\""));
        tier.origin.reply("/a", Reply::new("two").cache("max-age=10").with("etag", "\"2\""));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(10 + 20));
        for accepting in ["max-stale", "max-stale=20", "max-stale=100, max-age=100", "max-stale, only-if-cached"] {
            let with = |method| tier.ask(method, "/a").with("cache-control", accepting);
            with("GET").await.is("one").hit(tier.name).says("ttl=-20").has("age", "30");
            with("HEAD").await.status(200).is("").hit(tier.name).says("ttl=-20");
        }
        // Who accepts it does not have it fetched anew either.
        assert_eq!(tier.origin.count("/a"), 1);
        tier.get("/a").with("cache-control", "max-stale=19").await.is("two").forwarded("stale");
    }
}

#[tokio::test]
async fn a_limit_of_staleness_that_cannot_be_read_accepts_nothing() {
    for tier in both_tiers().await {
        for (path, directive) in [("/a", "max-stale=x"), ("/b", "max-stale, max-age=5")] {
            tier.origin.reply(path, Reply::new("one").cache("max-age=10").with("etag", "\"1\""));
            tier.origin.reply(path, Reply::new("two").cache("max-age=10").with("etag", "\"2\""));
            tier.get(path).await.is("one");
            tier.keeps(path, "one").await;
            tier.clock.advance(secs(11));
            tier.get(path).with("cache-control", directive).await.is("two").forwarded("stale");
        }
    }
}

#[tokio::test]
async fn a_client_cannot_accept_what_must_be_revalidated() {
    for tier in both_tiers().await {
        for (number, forbidding) in FORBIDDING.into_iter().enumerate() {
            let path = &format!("/{number}");
            let reply = |body, tag| Reply::new(body).with("etag", tag).cache("max-age=10").cache(forbidding);
            tier.origin.reply(path, reply("one", "\"1\""));
            tier.origin.reply(path, reply("two", "\"2\""));
            tier.get(path).await.is("one").says("stored");
            tier.keeps_number(number + 1).await;
            tier.clock.advance(secs(11));
            tier.get(path).with("cache-control", "max-stale").await.is("two").forwarded("stale");
        }
    }
}

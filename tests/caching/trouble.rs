//! Stale responses in the stead of an origin that fails (RFC 5861 §4), or does not answer at all (RFC 9111 §4.2.4).

use super::stale::FORBIDDING;
use super::tiers::{Tier, both, both_tiers, both_with_route};
use crate::world::{Gate, Phase, Reply, secs};
use serde_json::json;

const FAILURES: [u16; 4] = [500, 502, 503, 504];

const IF_ERROR: &str = "max-age=10, stale-if-error=60";

/// A response is stored, and has been stale for a second.
async fn stale(tier: &Tier, path: &str, reply: Reply) {
    tier.origin.reply(path, reply);
    tier.get(path).await.is("one").says("stored");
    tier.keeps(path, "one").await;
    tier.clock.advance(secs(11));
}

#[tokio::test]
async fn a_stale_response_answers_in_the_stead_of_an_error() {
    for tier in both_tiers().await {
        for status in FAILURES {
            let path = &format!("/{status}");
            stale(&tier, path, Reply::new("one").cache(IF_ERROR)).await;
            tier.origin.reply(path, Reply::new("broken").status(status));
            let got = tier.get(path).await;
            got.status(200).is("one").forwarded("stale").says(&format!("fwd-status={status}"));
            got.says("detail=stale-if-error").says("ttl=-1").has("age", "11").does_not_say("stored");
        }
    }
}

#[tokio::test]
async fn even_an_error_that_may_be_stored_does_not_replace_what_stands_in_for_it() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR)).await;
        tier.origin.reply("/a", Reply::new("broken").status(503).cache("max-age=60"));
        tier.get("/a").await.status(200).is("one").says("detail=stale-if-error");
        tier.has_fetched().await;
        tier.get("/a").await.status(200).is("one").hit(tier.name);
    }
}

#[tokio::test]
async fn an_error_in_the_stead_of_a_confirmation_is_answered_with_what_is_stale() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR).with("etag", "\"1\"")).await;
        tier.origin.reply("/a", Reply::new("broken").status(503));
        let got = tier.get("/a").with("if-none-match", "\"1\"").await;
        got.status(304).is("").forwarded("stale").says("fwd-status=503").says("detail=stale-if-error");
        assert_eq!(tier.origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
    }
}

#[tokio::test]
async fn who_follows_a_fetch_that_fails_gets_what_is_stale_too() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR)).await;
        let gate = Gate::closed();
        tier.origin.reply("/a", Reply::new("broken").status(500).behind(&gate));
        let leader = tier.get("/a").spawn();
        tier.origin.arrived("/a", 2).await;
        let followers: Vec<_> = (0..3).map(|_| tier.get("/a").spawn()).collect();
        tier.followed_by(3).await;
        gate.open();
        for got in followers.into_iter().chain([leader]) {
            got.await.unwrap().status(200).is("one").forwarded("stale").says("detail=stale-if-error").says("ttl=-1");
        }
        assert_eq!(tier.origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn outside_its_window_an_error_is_relayed() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR).with("etag", "\"1\"")).await;
        tier.origin.reply("/a", Reply::new("broken").status(500));
        tier.clock.advance(secs(59));
        let got = tier.get("/a").await;
        got.status(500).is("broken").forwarded("stale").does_not_say("detail=stale-if-error").does_not_say("stored");
    }
}

#[tokio::test]
async fn what_must_be_revalidated_does_not_stand_in_for_an_error() {
    for tier in both_with_route(|route| route.stale_if_error = secs(60)).await {
        for (number, forbidding) in FORBIDDING.into_iter().enumerate() {
            let path = &format!("/{number}");
            tier.origin.reply(path, Reply::new("one").with("etag", "\"1\"").cache(IF_ERROR).cache(forbidding));
            tier.origin.reply(path, Reply::new("broken").status(500));
            tier.get(path).await.is("one").says("stored");
            tier.keeps_number(number + 1).await;
            tier.clock.advance(secs(11));
            tier.get(path).await.status(500).is("broken").forwarded("stale");
        }
    }
}

#[tokio::test]
async fn what_is_no_failure_of_the_origin_is_relayed() {
    for tier in both_tiers().await {
        for status in [404, 410, 403, 429, 501, 505] {
            let path = &format!("/{status}");
            stale(&tier, path, Reply::new("one").cache(IF_ERROR)).await;
            tier.origin.reply(path, Reply::new("other").status(status));
            tier.get(path).await.status(status).is("other").forwarded("stale").does_not_say("detail=stale-if-error");
        }
    }
}

#[tokio::test]
async fn the_routes_own_window_for_errors_counts_where_the_response_says_nothing() {
    for tier in both_with_route(|route| route.stale_if_error = secs(30)).await {
        for (path, directives, stands_in) in [
            ("/a", "max-age=10", true),
            ("/b", "max-age=10, stale-if-error=0", false),
            ("/c", "max-age=10, stale-if-error=1", false),
        ] {
            stale(&tier, path, Reply::new("one").cache(directives).with("etag", "\"1\"")).await;
            tier.origin.reply(path, Reply::new("broken").status(500));
            let got = tier.get(path).await;
            if stands_in {
                got.is("one").says("detail=stale-if-error");
            } else {
                got.status(500).is("broken");
            }
        }
    }
}

#[tokio::test]
async fn after_a_failure_nobody_waits_and_the_origin_is_asked_in_the_background_until_it_has_recovered() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR)).await;
        tier.origin.reply("/a", Reply::new("broken").status(500));
        tier.get("/a").await.is("one").says("detail=stale-if-error");
        let gate = Gate::closed();
        tier.origin.reply("/a", Reply::new("broken").status(500).behind(&gate));
        for ttl in ["ttl=-1", "ttl=-2"] {
            for _ in 0..5 {
                tier.get("/a").await.is("one").hit(tier.name).says(ttl);
                tier.ask("HEAD", "/a").await.status(200).is("").has("content-length", "3").hit(tier.name).says(ttl);
            }
            // An origin that has just failed is left alone for a second.
            if ttl == "ttl=-1" {
                assert_eq!(tier.origin.count("/a"), 2);
                tier.clock.advance(secs(1));
            }
        }
        tier.origin.arrived("/a", 3).await;
        gate.open();
        tier.has_fetched().await;
        assert_eq!(tier.origin.count("/a"), 3);
        tier.origin.reply("/a", Reply::new("two").cache(IF_ERROR));
        tier.clock.advance(secs(1));
        tier.get("/a").await.is("one").hit(tier.name);
        tier.origin.arrived("/a", 4).await;
        tier.keeps("/a", "two").await;
        tier.get("/a").await.is("two").hit(tier.name).says("ttl=10");
        // It is not remembered any more: the next one that is stale waits for the origin.
        tier.clock.advance(secs(11));
        tier.origin.reply("/a", Reply::new("three").cache(IF_ERROR));
        tier.get("/a").await.is("three").forwarded("stale");
    }
}

#[tokio::test]
async fn a_client_that_wants_to_be_sure_gets_the_error() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR)).await;
        tier.origin.reply("/a", Reply::new("broken").status(500));
        for _ in 0..2 {
            tier.get("/a").with("cache-control", "no-cache").await.status(500).is("broken").forwarded("request");
        }
        tier.get("/a").await.status(200).is("one");
    }
}

#[tokio::test]
async fn a_stale_response_answers_a_head_in_the_stead_of_a_failing_origin() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR)).await;
        tier.origin.reply("/a", Reply::new("").status(500));
        let got = tier.ask("HEAD", "/a").await;
        got.status(200).is("").has("content-length", "3").forwarded("stale").says("fwd-status=500").says("detail=stale-if-error");
        tier.network.leave().await;
        tier.ask("HEAD", "/a").await.status(200).is("").has("content-length", "3");
    }
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10")).await;
        tier.network.leave().await;
        let got = tier.ask("HEAD", "/a").await;
        got.status(200).is("").has("content-length", "3").forwarded("stale").says("detail=stale-origin-unreachable");
    }
}

#[tokio::test]
async fn a_stale_response_answers_in_the_stead_of_an_origin_that_is_gone_for_as_long_as_it_was_fresh() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10")).await;
        tier.network.leave().await;
        let got = tier.get("/a").await;
        got.status(200).is("one").forwarded("stale").says("detail=stale-origin-unreachable").says("ttl=-1").has("age", "11");
        // Nobody waits for it a second time.
        tier.clock.advance(secs(8));
        tier.get("/a").await.status(200).is("one").hit(tier.name).says("ttl=-9");
        tier.has_fetched().await;
        tier.clock.advance(secs(1));
        tier.get("/a").await.status(502).forwarded("stale").says("detail=origin-unreachable");
    }
}

#[tokio::test]
async fn it_answers_no_longer_than_the_operator_says() {
    for tier in both(|config| config.cache.stale_if_unreachable = secs(20)).await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10")).await;
        stale(&tier, "/b", Reply::new("one").cache("max-age=100")).await;
        tier.clock.advance(secs(89 + 19));
        tier.network.leave().await;
        tier.get("/b").await.status(200).is("one").says("detail=stale-origin-unreachable").says("ttl=-19");
        tier.has_fetched().await;
        tier.clock.advance(secs(1));
        tier.get("/b").await.status(502);
    }
    for tier in both(|config| config.cache.stale_if_unreachable = secs(0)).await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10").with("etag", "\"1\"")).await;
        tier.network.leave().await;
        tier.get("/a").await.status(502);
    }
}

#[tokio::test]
async fn what_may_stand_in_for_an_error_may_do_so_for_an_origin_that_is_gone() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache(IF_ERROR)).await;
        tier.network.leave().await;
        tier.clock.advance(secs(58));
        tier.get("/a").await.status(200).is("one").says("detail=stale-origin-unreachable").says("ttl=-59");
        tier.has_fetched().await;
        tier.clock.advance(secs(1));
        tier.get("/a").await.status(502);
    }
}

#[tokio::test]
async fn an_origin_that_closes_before_it_answers_is_stood_in_for_and_its_return_is_noticed() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10")).await;
        tier.network.enter(Phase::Refuse);
        tier.get("/a").await.status(200).is("one").forwarded("stale").says("detail=stale-origin-unreachable");
        tier.get("/b").await.status(502).forwarded("uri-miss").says("detail=origin-closed");
        tier.has_fetched().await;
        tier.network.enter(Phase::Relay);
        tier.origin.reply("/a", Reply::new("two").cache("max-age=10"));
        tier.clock.advance(secs(1));
        tier.get("/a").await.is("one").hit(tier.name).says("ttl=-2");
        tier.keeps("/a", "two").await;
    }
}

#[tokio::test]
async fn who_follows_a_fetch_that_gets_no_answer_gets_what_is_stale_too() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10")).await;
        let gate = Gate::closed();
        tier.origin.reply("/a", Reply::new("two").behind(&gate));
        let leader = tier.get("/a").spawn();
        tier.origin.arrived("/a", 2).await;
        let followers: Vec<_> = (0..3).map(|_| tier.get("/a").spawn()).collect();
        tier.followed_by(3).await;
        tier.network.leave().await;
        for got in followers.into_iter().chain([leader]) {
            got.await.unwrap().status(200).is("one").forwarded("stale").says("detail=stale-origin-unreachable");
        }
    }
}

#[tokio::test]
async fn what_must_be_revalidated_does_not_stand_in_for_an_origin_that_is_gone() {
    for tier in both_tiers().await {
        for (number, forbidding) in FORBIDDING.into_iter().enumerate() {
            let path = &format!("/{number}");
            tier.origin.reply(path, Reply::new("one").with("etag", "\"1\"").cache(IF_ERROR).cache(forbidding));
            tier.get(path).await.is("one").says("stored");
        }
        tier.keeps_number(FORBIDDING.len()).await;
        tier.clock.advance(secs(11));
        tier.network.leave().await;
        for number in 0..FORBIDDING.len() {
            tier.get(&format!("/{number}")).await.status(502).forwarded("stale").says("detail=origin-unreachable");
        }
        tier.get("/unknown").await.status(502).forwarded("uri-miss").says("detail=origin-unreachable");
    }
}

#[tokio::test]
async fn a_client_that_wants_to_be_sure_hears_that_the_origin_is_gone() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10")).await;
        tier.network.leave().await;
        tier.get("/a").with("cache-control", "no-cache").await.status(502).forwarded("request");
        tier.get("/a").await.status(200).is("one");
    }
}

#[tokio::test]
async fn a_purge_ends_the_stale_answer_too() {
    for tier in both_tiers().await {
        stale(&tier, "/a", Reply::new("one").cache("max-age=10")).await;
        tier.network.leave().await;
        tier.get("/a").await.status(200).is("one");
        tier.has_fetched().await;
        tier.purge(json!({ "url": "/a" })).await;
        tier.get("/a").await.status(502).forwarded("uri-miss");
    }
}

#[tokio::test]
async fn a_purge_while_the_origin_is_asked_ends_the_stale_answer_too() {
    for tier in both_tiers().await {
        for status in [500, 503] {
            let path = &format!("/{status}");
            stale(&tier, path, Reply::new("one").cache(IF_ERROR)).await;
            let gate = Gate::closed();
            tier.origin.reply(path, Reply::new("broken").status(status).behind(&gate));
            let asked = tier.get(path).spawn();
            tier.origin.arrived(path, 2).await;
            tier.purge(json!({ "url": path })).await;
            gate.open();
            asked.await.unwrap().status(status).is("broken");
        }
    }
}

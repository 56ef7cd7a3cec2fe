//! What requests, routes and single fields of a response ask for beside freshness.

use super::stale::FORBIDDING;
use super::tiers::{Tier, both, both_tiers, both_with_route};
use crate::world::{Gate, Reply, secs};
use http::StatusCode;
use std::collections::BTreeSet;

#[tokio::test]
async fn a_client_may_ask_for_what_is_stored_and_nothing_else() {
    for tier in both_tiers().await {
        let only = |method, path: &str| tier.ask(method, path).with("cache-control", "only-if-cached");
        for method in ["GET", "HEAD"] {
            only(method, "/a").await.status(504).says("detail=only-if-cached");
        }
        let reply = |body| Reply::new(body).cache("max-age=10").with("etag", "\"1\"").with("vary", "accept-language");
        tier.origin.reply("/a", reply("one"));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        only("GET", "/a").await.status(200).is("one").hit(tier.name);
        only("HEAD", "/a").await.status(200).is("").has("content-length", "3").hit(tier.name);
        only("GET", "/a").with("range", "bytes=1-").await.status(206).is("ne").hit(tier.name);
        only("GET", "/a").with("accept-language", "de").await.status(504);
        tier.get("/a").with("cache-control", "only-if-cached, no-cache").await.status(504);
        tier.get("/a").with("cache-control", "only-if-cached, min-fresh=11").await.status(504);
        tier.clock.advance(secs(11));
        for method in ["GET", "HEAD"] {
            only(method, "/a").await.status(504).says("detail=only-if-cached");
        }
        assert_eq!(tier.origin.count("/a"), 1);
    }
}

#[tokio::test]
async fn a_client_that_wants_what_is_stored_alone_may_get_it_stale_while_it_is_fetched_anew() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").cache("max-age=10, stale-while-revalidate=60"));
        tier.origin.reply("/a", Reply::new("two").cache("max-age=10"));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(11));
        tier.get("/a").with("cache-control", "only-if-cached").await.is("one").hit(tier.name).says("ttl=-1");
        tier.keeps("/a", "two").await;
    }
}

#[tokio::test]
async fn a_client_may_ask_for_what_will_stay_fresh() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", "one");
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(20));
        for method in ["GET", "HEAD"] {
            tier.ask(method, "/a").with("cache-control", "min-fresh=40").await.status(200).hit(tier.name).says("ttl=40");
        }
        tier.origin.reply("/a", "two");
        tier.ask("GET", "/a").with("cache-control", "min-fresh=41").await.is("two").forwarded("request").says("stored");
    }
}

#[tokio::test]
async fn a_head_that_wants_a_newer_response_is_relayed() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(20));
        for (number, directive) in ["no-cache", "max-age=19", "min-fresh=41"].into_iter().enumerate() {
            tier.ask("HEAD", "/a").with("cache-control", directive).await.status(200).forwarded("request").says("detail=head");
            assert_eq!(tier.origin.count("/a"), 2 + number);
            // It says of what is stored that it is still so, so that it is fresh once more.
            tier.get("/a").await.is("one").hit(tier.name);
            tier.clock.advance(secs(20));
        }
    }
}

#[tokio::test]
async fn a_route_may_leave_no_say_to_clients() {
    for tier in both_with_route(|route| route.ignores_request_directives = true).await {
        // It is stored, and was not refused though it was not there.
        tier.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
        tier.get("/a").with("cache-control", "only-if-cached, no-store").await.is("one").says("stored");
        tier.keeps_number(1).await;
        tier.clock.advance(secs(20));
        for (field, value) in [
            ("cache-control", "no-cache"),
            ("cache-control", "no-store"),
            ("cache-control", "max-age=0"),
            ("cache-control", "min-fresh=1000"),
            ("pragma", "no-cache"),
        ] {
            tier.get("/a").with(field, value).await.is("one").hit(tier.name).says("ttl=40");
            tier.ask("HEAD", "/a").with(field, value).await.status(200).hit(tier.name).says("ttl=40");
        }
        assert_eq!(tier.origin.count("/a"), 1);
        tier.clock.advance(secs(41));
        tier.origin.reply("/a", Reply::new("two").with("etag", "\"2\""));
        tier.get("/a").with("cache-control", "max-stale, only-if-cached").await.is("two").forwarded("stale");
    }
}

#[tokio::test]
async fn a_route_that_leaves_no_say_to_clients_still_obeys_the_origin() {
    for tier in both_with_route(|route| {
        route.ignores_request_directives = true;
        route.stale_while_revalidate = secs(60);
    })
    .await
    {
        for (number, forbidding) in FORBIDDING.into_iter().enumerate() {
            let path = &format!("/{number}");
            tier.origin.reply(path, Reply::new("one").with("etag", "\"1\"").cache("max-age=10").cache(forbidding));
            tier.origin.reply(path, Reply::new("two").with("etag", "\"2\"").cache("max-age=10"));
            tier.get(path).await.is("one").says("stored");
            tier.keeps_number(number + 1).await;
            tier.clock.advance(secs(11));
            tier.get(path).with("cache-control", "max-stale").await.is("two").forwarded("stale");
        }
    }
}

#[tokio::test]
async fn statuses_may_have_lifetimes_of_their_own() {
    for tier in both_with_route(|route| {
        route.ttl_by_status = vec![
            (StatusCode::NOT_FOUND, secs(5)),
            (StatusCode::OK, secs(40)),
            (StatusCode::MOVED_PERMANENTLY, secs(7)),
            (StatusCode::SERVICE_UNAVAILABLE, secs(3)),
        ];
    })
    .await
    {
        for (status, ttl) in [(404, Some(5)), (200, Some(40)), (301, Some(7)), (503, Some(3)), (203, Some(60)), (410, None)] {
            let path = &format!("/{status}");
            tier.origin.reply(path, Reply::new("one").status(status));
            tier.origin.reply(path, Reply::new("two").status(status));
            let got = tier.get(path).await;
            got.status(status).is("one");
            let Some(ttl) = ttl else {
                got.does_not_say("stored");
                continue;
            };
            got.says("stored").says(&format!("ttl={ttl}"));
            tier.keeps_number(1).await;
            tier.clock.advance(secs(ttl - 1));
            tier.get(path).await.status(status).is("one").hit(tier.name);
            tier.ask("HEAD", path).await.status(status).is("").hit(tier.name);
            tier.clock.advance(secs(1));
            tier.get(path).await.status(status).is("two").does_not_say("hit");
            tier.purge(serde_json::json!({ "all": true })).await;
            tier.keeps_number(0).await;
        }
        for (path, reply, ttl) in [
            ("/stated", Reply::new("one").status(404).cache("max-age=9"), "ttl=9"),
            ("/expires", Reply::new("one").status(404).with("expires", "0"), "detail=no-lifetime"),
            ("/never", Reply::new("one").status(404).cache("no-store"), "detail=no-store"),
        ] {
            tier.origin.reply(path, reply);
            tier.get(path).await.status(404).says(ttl);
        }
    }
}

#[tokio::test]
async fn a_part_of_a_rules_lifetime_is_left_to_chance_so_that_not_all_ends_at_once() {
    for tier in both_with_route(|route| {
        route.caching = sidecache::rules::Caching::Rule { ttl: secs(1000), overrides: false };
        route.ttl_jitter_percent = 50;
    })
    .await
    {
        let mut seen = BTreeSet::new();
        for number in 0..30 {
            let path = &format!("/{number}");
            tier.origin.reply(path, "one");
            let got = tier.get(path).await;
            let ttl = got.field("cache-status").split("ttl=").nth(1).unwrap().split(';').next().unwrap().parse::<u64>().unwrap();
            assert!((500..=1000).contains(&ttl), "{ttl}");
            seen.insert(ttl);
            // What is told is what is kept.
            tier.keeps(path, "one").await;
            tier.get(path).await.hit(tier.name).says(&format!("ttl={ttl}"));
        }
        assert!(seen.len() > 10, "{seen:?}");
        // What the origin states is not the rule's to change.
        tier.origin.reply("/stated", Reply::new("one").cache("max-age=1000"));
        tier.get("/stated").await.says("ttl=1000");
    }
}

#[tokio::test]
async fn fields_that_are_for_one_client_are_given_to_who_caused_the_fetch_alone() {
    for tier in both_tiers().await {
        for (path, directives) in
            [("/a", "max-age=60, private=\"x-own, set-cookie\""), ("/b", "max-age=60, no-cache=\"x-own, set-cookie\"")]
        {
            let gate = Gate::closed();
            let reply = Reply::new("one").cache(directives).with("x-own", "1").with("set-cookie", "a=b").with("x-all", "2");
            tier.origin.reply(path, reply.behind(&gate));
            let leader = tier.get(path).spawn();
            tier.origin.arrived(path, 1).await;
            let follower = tier.get(path).spawn();
            tier.followed_by(1).await;
            gate.open();
            let got = leader.await.unwrap();
            got.is("one")
                .says("stored")
                .has("x-own", "1")
                .has("set-cookie", "a=b")
                .has("x-all", "2")
                .has("cache-control", directives);
            let got = follower.await.unwrap();
            got.is("one")
                .says("collapsed")
                .has("x-own", "")
                .has("set-cookie", "")
                .has("x-all", "2")
                .has("cache-control", directives);
            tier.keeps(path, "one").await;
            for method in ["GET", "HEAD"] {
                let got = tier.ask(method, path).await;
                got.hit(tier.name).has("x-own", "").has("set-cookie", "").has("x-all", "2").has("cache-control", directives);
            }
            assert_eq!(tier.origin.count(path), 1);
        }
    }
}

#[tokio::test]
async fn fields_that_a_targeted_field_names_are_for_one_client_too() {
    for tier in both_tiers().await {
        let reply = Reply::new("one").with("cdn-cache-control", "max-age=60, private=\"x-own\"").with("x-own", "1");
        tier.origin.reply("/a", reply.cache("no-store"));
        tier.get("/a").await.is("one").says("stored").has("x-own", "1");
        tier.keeps("/a", "one").await;
        tier.get("/a").await.is("one").hit(tier.name).has("x-own", "");
    }
}

#[tokio::test]
async fn the_key_is_shown_to_who_wants_to_see_it() {
    let key = |got: &crate::world::Got| {
        let said = got.field("cache-status");
        said.split("; ").find_map(|said| said.strip_prefix("key=").map(str::to_owned))
    };
    for tier in both(|config| config.cache.shows_key = true).await {
        for path in ["/a", "/b"] {
            tier.origin.reply(path, "one");
        }
        let first = key(&tier.get("/a").await).expect("the key is shown");
        assert!(first.starts_with('"') && first.ends_with('"') && first.len() > 2, "{first}");
        tier.keeps("/a", "one").await;
        for method in ["GET", "HEAD"] {
            let got = tier.ask(method, "/a").await;
            got.hit(tier.name);
            assert_eq!(key(&got).as_ref(), Some(&first));
        }
        assert_ne!(key(&tier.get("/b").await), Some(first));
        assert_eq!(key(&tier.get("/past/a").await), None);
    }
    for tier in both_tiers().await {
        shows_no_key(&tier, key).await;
    }
}

async fn shows_no_key(tier: &Tier, key: impl Fn(&crate::world::Got) -> Option<String>) {
    tier.origin.reply("/a", "one");
    assert_eq!(key(&tier.get("/a").await), None);
    tier.keeps("/a", "one").await;
    assert_eq!(key(&tier.get("/a").await), None);
}

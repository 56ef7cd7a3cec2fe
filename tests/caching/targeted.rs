//! Fields that speak to caches like this one before `Cache-Control` does (RFC 9213).

use super::tiers::{both, both_tiers, both_with_route};
use crate::world::{Reply, secs};
use http::HeaderName;
use sidecache::rules::Caching;

const OURS: &str = "sidecache-cache-control";
const CDN: &str = "cdn-cache-control";
const ALL: &str = "cache-control";

/// For so many seconds a response with these fields is fresh; zero if it is not stored.
async fn check(fields: &[(&str, &str)], expected: u64) {
    for tier in both_with_route(|route| route.caching = Caching::Standard).await {
        let reply = fields.iter().fold(Reply::new("one"), |reply, (name, value)| reply.with(name, value));
        tier.origin.reply("/a", reply);
        tier.origin.reply("/a", "two");
        let got = tier.get("/a").await;
        if expected == 0 {
            got.is("one").does_not_say("stored");
            tier.get("/a").await.is("two");
            continue;
        }
        got.is("one").says("stored").says(&format!("ttl={expected}"));
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(expected - 1));
        tier.get("/a").await.is("one").hit(tier.name);
        tier.clock.advance(secs(1));
        tier.get("/a").await.is("two");
    }
}

#[tokio::test]
async fn what_is_said_to_caches_of_this_kind_goes_before_what_is_said_to_all() {
    check(&[(CDN, "max-age=5"), (ALL, "max-age=60")], 5).await;
    check(&[(ALL, "max-age=60"), (CDN, "max-age=5")], 5).await;
    check(&[(CDN, "max-age=60"), (ALL, "no-store")], 60).await;
    check(&[(CDN, "max-age=60"), (ALL, "private, max-age=1")], 60).await;
    check(&[(CDN, "max-age=60"), (ALL, "s-maxage=1")], 60).await;
    check(&[(CDN, "no-store"), (ALL, "max-age=60")], 0).await;
    check(&[(CDN, "private"), (ALL, "max-age=60")], 0).await;
    check(&[(CDN, "max-age=60"), ("expires", "0")], 60).await;
}

#[tokio::test]
async fn what_is_said_to_this_very_cache_goes_before_all() {
    check(&[(OURS, "max-age=7"), (CDN, "max-age=5"), (ALL, "max-age=60")], 7).await;
    check(&[(CDN, "no-store"), (OURS, "max-age=7")], 7).await;
    check(&[(OURS, "no-store"), (CDN, "max-age=5"), (ALL, "max-age=60")], 0).await;
}

#[tokio::test]
async fn a_field_that_is_empty_or_malformed_says_nothing() {
    for malformed in ["", "max-age=", "max-age=5,", "MAX-AGE=5", "max-age=5, \"x\"", "max-age 5", ", max-age=5"] {
        check(&[(CDN, malformed), (ALL, "max-age=60")], 60).await;
        check(&[(OURS, malformed), (CDN, "max-age=5"), (ALL, "max-age=60")], 5).await;
    }
}

#[tokio::test]
async fn a_lifetime_that_is_no_number_is_none() {
    for unreadable in ["max-age=\"5\"", "max-age=5.5", "max-age=soon", "max-age", "max-age=-5"] {
        check(&[(CDN, unreadable), (ALL, "max-age=60")], 0).await;
    }
}

#[tokio::test]
async fn the_lines_of_a_field_are_one() {
    check(&[(CDN, "max-age=5"), (CDN, "must-revalidate"), (ALL, "max-age=60")], 5).await;
    check(&[(CDN, "max-age=60"), (CDN, "no-store")], 0).await;
    // The last one of a name counts (RFC 9651 §3.2).
    check(&[(CDN, "max-age=60, max-age=5")], 5).await;
}

#[tokio::test]
async fn a_field_says_nothing_of_freshness_where_it_says_something_else() {
    // RFC 9213 §2.2: the others are ignored, and not only for what this one says.
    check(&[(CDN, "must-revalidate"), (ALL, "max-age=60"), ("expires", "Sun, 06 Nov 2094 08:49:37 GMT")], 0).await;
}

#[tokio::test]
async fn it_says_what_a_stale_response_is_good_for() {
    for tier in both_tiers().await {
        for (path, targeted, all, is_served) in [
            ("/a", "max-age=10, stale-while-revalidate=60", "must-revalidate", true),
            ("/b", "max-age=10, must-revalidate", "stale-while-revalidate=60", false),
            ("/c", "max-age=10", "stale-while-revalidate=60", false),
        ] {
            let reply = |body, tag| Reply::new(body).with(CDN, targeted).cache(all).with("etag", tag);
            tier.origin.reply(path, reply("one", "\"1\""));
            tier.origin.reply(path, reply("two", "\"2\""));
            tier.get(path).await.is("one").says("ttl=10");
            tier.keeps(path, "one").await;
            tier.clock.advance(secs(11));
            let got = tier.get(path).await;
            match is_served {
                true => got.is("one").hit(tier.name),
                false => got.is("two").forwarded("stale"),
            };
        }
    }
}

#[tokio::test]
async fn what_surrogates_may_not_store_is_not_stored_whatever_else_is_said() {
    for forbidding in ["no-store", "no-store-remote", "max-age=60, no-store;edge", "private"] {
        check(&[("surrogate-control", forbidding), (ALL, "public, max-age=60")], 0).await;
        check(&[(CDN, "max-age=60"), ("surrogate-control", forbidding)], 0).await;
        check(&[(OURS, "max-age=60"), ("surrogate-control", forbidding)], 0).await;
    }
    check(&[("surrogate-control", "content=\"ESI/1.0\", max-age=5"), (ALL, "max-age=60")], 60).await;
}

/// A confirmation may withdraw the permission that the response had.
#[tokio::test]
async fn what_surrogates_may_no_longer_store_is_not_kept_when_it_is_confirmed() {
    for tier in both_tiers().await {
        let tagged = |reply: Reply| reply.with("etag", "\"1\"").cache("max-age=10");
        tier.origin.reply("/a", tagged(Reply::new("one")));
        tier.get("/a").await.is("one").says("stored");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(11));
        tier.origin.reply("/a", tagged(Reply::new("").status(304)).with("surrogate-control", "no-store"));
        tier.get("/a").await.is("one").does_not_say("stored");
        tier.origin.reply("/a", "two");
        tier.get("/a").await.is("two");
    }
}

#[tokio::test]
async fn which_fields_count_and_in_which_order_is_for_the_operator_to_say() {
    let named = HeaderName::from_static("example-cache-control");
    for tier in both(|config| config.cache.cache_control_fields = vec![named.clone()]).await {
        tier.origin.reply("/a", Reply::new("one").with("example-cache-control", "max-age=7").with(CDN, "max-age=5"));
        tier.get("/a").await.says("ttl=7");
        tier.origin.reply("/b", Reply::new("one").with(CDN, "max-age=5").with(OURS, "max-age=6"));
        tier.get("/b").await.says("ttl=60");
    }
    for tier in both(|config| config.cache.cache_control_fields.clear()).await {
        tier.origin.reply("/a", Reply::new("one").with(CDN, "max-age=5").with(OURS, "max-age=6"));
        tier.get("/a").await.says("ttl=60");
    }
}

#[tokio::test]
async fn clients_are_shown_the_fields_as_they_came() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").with(CDN, "max-age=50").cache("max-age=5"));
        tier.get("/a").await.is("one").has(CDN, "max-age=50").has(ALL, "max-age=5");
        tier.keeps("/a", "one").await;
        tier.get("/a").await.is("one").hit(tier.name).has(CDN, "max-age=50").has(ALL, "max-age=5");
    }
}

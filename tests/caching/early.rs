//! What is asked for often is fetched anew before its lifetime ends, so that nobody waits when it does.

use super::tiers::{Tier, both_tiers, both_with_route};
use crate::world::{Gate, Reply, millis, secs};

/// A response of a minute is stored that took a second to fetch, and will be fresh for a tenth of a second more.
async fn nearly_stale(tier: &Tier, reply: Reply) {
    let gate = Gate::closed();
    tier.origin.reply("/a", reply.cache("max-age=60").behind(&gate));
    let asked = tier.get("/a").spawn();
    tier.origin.arrived("/a", 1).await;
    tier.clock.advance(secs(1));
    gate.open();
    asked.await.unwrap().is("one").says("stored").says("ttl=59");
    // So far from its end it is never due, however often it is asked for.
    tier.keeps("/a", "one").await;
    tier.clock.advance(millis(58_900));
}

#[tokio::test]
async fn a_popular_response_is_refreshed_before_its_end_and_nobody_waits() {
    for tier in both_tiers().await {
        nearly_stale(&tier, Reply::new("one")).await;
        let gate = Gate::closed();
        tier.origin.reply("/a", Reply::new("two").cache("max-age=60").behind(&gate));
        let mut asked = 0;
        while tier.sidecar.proxy().fetches_under_way() == 0 {
            tier.get("/a").await.is("one").hit(tier.name).says("ttl=0").has("age", "59");
            asked += 1;
            // One of them is due with nine chances of ten.
            assert!(asked < 100, "no use was due");
        }
        tier.origin.arrived("/a", 2).await;
        // As long as it is under way, nobody begins another, and nobody waits.
        for _ in 0..20 {
            tier.get("/a").await.is("one").hit(tier.name);
        }
        assert_eq!(tier.origin.count("/a"), 2);
        gate.open();
        tier.keeps("/a", "two").await;
        tier.clock.advance(secs(1));
        tier.get("/a").await.is("two").hit(tier.name);
    }
}

#[tokio::test]
async fn an_early_refresh_validates_what_can_be_validated() {
    for tier in both_tiers().await {
        nearly_stale(&tier, Reply::new("one").with("etag", "\"1\"")).await;
        tier.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\"").with("x-a", "new"));
        let mut asked = 0;
        while tier.get("/a").await.is("one").hit(tier.name).field("x-a") != "new" {
            asked += 1;
            assert!(asked < 10_000, "it is never fresh again");
        }
        assert_eq!(tier.origin.last("/a").field("if-none-match").as_deref(), Some("\"1\""));
        tier.get("/a").await.hit(tier.name).says("ttl=60");
    }
}

#[tokio::test]
async fn a_route_may_leave_responses_to_their_end() {
    for tier in both_with_route(|route| route.early_refresh = false).await {
        nearly_stale(&tier, Reply::new("one")).await;
        for _ in 0..50 {
            tier.get("/a").await.is("one").hit(tier.name).says("ttl=0");
        }
        tier.has_fetched().await;
        assert_eq!(tier.origin.count("/a"), 1);
        tier.clock.advance(secs(1));
        tier.origin.reply("/a", "two");
        tier.get("/a").await.is("two").forwarded("stale");
    }
}

#[tokio::test]
async fn what_took_no_time_to_fetch_needs_no_head_start() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("one").cache("max-age=60"));
        tier.get("/a").await.is("one");
        tier.keeps("/a", "one").await;
        tier.clock.advance(secs(59));
        for _ in 0..50 {
            tier.get("/a").await.is("one").hit(tier.name).says("ttl=1");
        }
        assert_eq!(tier.origin.count("/a"), 1);
    }
}

//! What the origin takes back: it answers everybody otherwise now, and that is not stored (RFC 9111 §4.3.3).

use super::tiers::both_tiers;
use crate::world::{Reply, eventually, secs};
use serde_json::json;

const WHILE_REVALIDATING: &str = "max-age=10, stale-while-revalidate=60";

/// Answers that are not stored, and say that what is stored is no more.
fn answers() -> Vec<Reply> {
    let plain = || Reply::new("gone");
    let statuses = [301, 401, 403, 404, 410].map(|status| plain().status(status));
    let forbidden = ["private", "no-store"].map(|directive| plain().cache(directive));
    statuses.into_iter().chain(forbidden).chain([plain().with("set-cookie", "a=b"), plain().with("vary", "*")]).collect()
}

#[tokio::test]
async fn what_is_taken_back_in_the_background_is_served_no_more() {
    for answer in answers() {
        for has_validator in [true, false] {
            for tier in both_tiers().await {
                let one = Reply::new("one").cache(WHILE_REVALIDATING);
                tier.origin.reply("/a", if has_validator { one.with("etag", "\"1\"") } else { one });
                tier.origin.reply("/a", answer.clone());
                tier.get("/a").await.is("one");
                tier.keeps("/a", "one").await;
                tier.clock.advance(secs(15));
                tier.get("/a").await.is("one").hit(tier.name);
                eventually("it is gone", async || tier.get("/a").await.text() == "gone").await;
                tier.network.leave().await;
                tier.get("/a").await.status(502);
            }
        }
    }
}

#[tokio::test]
async fn so_is_what_was_purged_softly() {
    for answer in answers() {
        for tier in both_tiers().await {
            tier.origin.reply("/a", "one");
            tier.origin.reply("/a", answer.clone());
            tier.get("/a").await.is("one");
            tier.keeps("/a", "one").await;
            tier.purge(json!({ "url": "/a", "soft": true })).await;
            eventually("it is gone", async || tier.get("/a").await.text() == "gone").await;
            tier.get("/a").await.is("gone").does_not_say("hit");
        }
    }
}

#[tokio::test]
async fn so_is_what_a_client_has_asked_for_anew() {
    for answer in answers() {
        for tier in both_tiers().await {
            tier.origin.reply("/a", "one");
            tier.origin.reply("/a", answer.clone());
            tier.get("/a").await.is("one");
            tier.keeps("/a", "one").await;
            tier.get("/a").with("cache-control", "no-cache").await.is("gone");
            tier.get("/a").await.is("gone").does_not_say("hit");
        }
    }
}

#[tokio::test]
async fn an_error_and_what_one_client_is_told_take_nothing_back() {
    let told = |status| Reply::new("told").status(status);
    let to_one = ["no-cache, no-store"].map(|directives| (told(404), directives));
    for (answer, directives) in [400, 429, 500, 503].map(|status| (told(status), "no-cache")).into_iter().chain(to_one) {
        for tier in both_tiers().await {
            tier.origin.reply("/a", "one");
            tier.origin.reply("/a", answer.clone());
            tier.get("/a").await.is("one");
            tier.keeps("/a", "one").await;
            tier.get("/a").with("cache-control", directives).await;
            tier.get("/a").await.is("one").hit(tier.name);
        }
    }
}

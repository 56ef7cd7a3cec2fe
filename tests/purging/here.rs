//! In one process, without Redis.

use super::customers;
use crate::world::{Gate, Reply, World, eventually, secs};
use serde_json::{Value, json};

/// A world that has stored one response under each of these.
async fn stored(targets: &[&str]) -> World {
    let world = World::with(customers).await;
    for target in targets {
        world.origin.reply(target.split('?').next().unwrap(), "old");
        world.get(target).await.says("stored");
        world.get(target).await.hit("memory");
    }
    world
}

const TARGETS: [&str; 6] =
    ["/customer/1", "/customer/1?page=2", "/customer/1/risk", "/customer/2", "/eu/de/customer/1", "/eu/fr/customer/1"];

#[tokio::test]
async fn a_purge_concerns_what_it_names_and_nothing_else() {
    let check = async |order: Value, purged: &[&str]| {
        let world = stored(&TARGETS).await;
        let answer = world.purge(order.clone()).await;
        assert_eq!(answer["reach"], "here", "{order}");
        for target in TARGETS {
            let got = world.get(target).await;
            match purged.contains(&target) {
                true => drop(got.forwarded("uri-miss")),
                false => drop(got.hit("memory")),
            }
        }
    };
    check(json!({ "tags": ["customer:1"] }), &TARGETS[..3]).await;
    check(json!({ "tags": ["customer:1", "customer:2"] }), &TARGETS[..4]).await;
    check(json!({ "tags": ["customer:3"] }), &[]).await;
    check(json!({ "pattern": "customer:*" }), &TARGETS[..4]).await;
    check(json!({ "pattern": "customer:2" }), &TARGETS[3..4]).await;
    check(json!({ "pattern": "eu:*" }), &TARGETS[4..]).await;
    check(json!({ "pattern": "eu:fr:*" }), &TARGETS[5..]).await;
    check(json!({ "url": "/customer/1" }), &TARGETS[..1]).await;
    check(json!({ "url": "/customer/1?page=2" }), &TARGETS[1..2]).await;
    check(json!({ "url": "http://elsewhere/customer/1?page=3", "every_query": true }), &TARGETS[..2]).await;
    check(json!({ "route": "customer--id" }), &["/customer/1", "/customer/1?page=2", "/customer/2"]).await;
    check(json!({ "route": "customer--id--risk", "tags": ["eu:de:1"] }), &["/customer/1/risk", "/eu/de/customer/1"]).await;
    check(json!({ "all": true }), &TARGETS).await;
}

#[tokio::test]
async fn all_variants_under_every_host_are_purged_with_their_url() {
    let world = World::with(customers).await;
    world.origin.reply("/customer/1", Reply::new("old").with("vary", "accept-language"));
    let ask = |host: &str, language: &str| world.get("/customer/1").with("host", host).with("accept-language", language);
    for (host, language) in [("a", "de"), ("a", "en"), ("b", "de")] {
        ask(host, language).await.says("stored");
        ask(host, language).await.hit("memory");
    }
    world.purge(json!({ "url": "/customer/1" })).await;
    for (host, language) in [("a", "de"), ("a", "en"), ("b", "de")] {
        ask(host, language).await.does_not_say("hit");
    }
}

#[tokio::test]
async fn after_a_purge_of_everything_memory_is_empty() {
    let world = stored(&TARGETS).await;
    assert_eq!(world.stats().await["total_keys"], 6);
    world.purge(json!({ "all": true })).await;
    eventually("memory is empty", async || {
        let stats = world.stats().await;
        (&stats["total_keys"], &stats["memory_used_mb"]) == (&json!(0), &json!(0.0))
    })
    .await;
}

#[tokio::test]
async fn what_was_being_fetched_when_the_purge_came_is_not_stored() {
    let world = World::with(customers).await;
    let gate = Gate::closed();
    world.origin.reply("/customer/1", Reply::new("old").behind(&gate));
    let asked_before = world.get("/customer/1").spawn();
    world.origin.arrived("/customer/1", 1).await;
    world.purge(json!({ "tags": ["customer:1"] })).await;
    gate.open();
    // Who asked before the purge is given what there was, and told that it is not kept.
    asked_before.await.unwrap().is("old").forwarded("uri-miss").says("detail=purged").does_not_say("stored");
    world.origin.reply("/customer/1", "new");
    world.get("/customer/1").await.is("new").forwarded("uri-miss").says("stored");
    world.get("/customer/1").await.is("new").hit("memory");
}

#[tokio::test]
async fn a_body_that_was_still_coming_in_when_the_purge_came_is_not_stored() {
    let world = World::with(customers).await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/customer/1", reply);
    sending.send("ol");
    let mut streaming = world.get("/customer/1").streaming().await;
    assert_eq!(streaming.next().await, "ol");
    world.purge(json!({ "tags": ["customer:1"] })).await;
    sending.send("d");
    drop(sending);
    streaming.whole().await.is("d");
    world.origin.reply("/customer/1", "new");
    world.get("/customer/1").await.is("new").forwarded("uri-miss");
}

#[tokio::test]
async fn a_request_that_comes_after_the_purge_does_not_follow_a_fetch_from_before_it() {
    let world = World::with(customers).await;
    let (before, after) = (Gate::closed(), Gate::closed());
    world.origin.reply("/customer/1", Reply::new("old").behind(&before));
    let asked_before = world.get("/customer/1").spawn();
    world.origin.arrived("/customer/1", 1).await;
    world.purge(json!({ "tags": ["customer:1"] })).await;
    world.origin.reply("/customer/1", Reply::new("new").behind(&after));
    let asked_after = [world.get("/customer/1").spawn(), world.get("/customer/1").spawn()];
    world.origin.arrived("/customer/1", 2).await;
    // The later fetch ends first; the earlier one must not take its place.
    after.open();
    for asked in asked_after {
        asked.await.unwrap().is("new");
    }
    before.open();
    asked_before.await.unwrap().is("old");
    world.get("/customer/1").await.is("new").hit("memory");
    assert_eq!(world.origin.count("/customer/1"), 2);
}

#[tokio::test]
async fn a_request_that_comes_after_a_soft_purge_does_not_follow_a_fetch_from_before_it() {
    let world = World::with(customers).await;
    let (reply, sending) = Reply::sending();
    // It may not be used when it is stale, which the purge has made it.
    world.origin.reply("/customer/1", reply.cache("max-age=60, must-revalidate"));
    sending.send("old");
    let mut asked_before = world.get("/customer/1").streaming().await;
    assert_eq!(asked_before.next().await, "old");
    world.purge(json!({ "tags": ["customer:1"], "soft": true })).await;
    world.origin.reply("/customer/1", "new");
    world.get("/customer/1").await.is("new").forwarded("uri-miss");
    drop(sending);
    asked_before.whole().await.is("");
    world.get("/customer/1").await.is("new");
}

#[tokio::test]
async fn after_a_soft_purge_the_old_response_is_used_while_a_new_one_is_fetched() {
    let world = stored(&["/customer/1", "/customer/2"]).await;
    let gate = Gate::closed();
    world.origin.reply("/customer/1", Reply::new("new").behind(&gate));
    world.purge(json!({ "tags": ["customer:1"], "soft": true })).await;
    for _ in 0..3 {
        world.get("/customer/1").await.is("old").hit("memory").says("ttl=0");
    }
    world.get("/customer/2").await.is("old").hit("memory").does_not_say("ttl=0");
    gate.open();
    eventually("the new one is there", async || world.get("/customer/1").await.text() == "new").await;
    world.get("/customer/1").await.is("new").hit("memory").does_not_say("ttl=0");
    assert_eq!(world.origin.count("/customer/1"), 2, "one fetch for all that were answered meanwhile");
}

#[tokio::test]
async fn a_hard_purge_after_a_soft_one_is_hard() {
    let world = stored(&["/customer/1"]).await;
    world.purge(json!({ "tags": ["customer:1"], "soft": true })).await;
    world.purge(json!({ "route": "customer--id" })).await;
    world.origin.reply("/customer/1", "new");
    world.get("/customer/1").await.is("new").forwarded("uri-miss");
}

#[tokio::test]
async fn a_response_that_must_be_revalidated_is_not_used_after_a_soft_purge() {
    let world = World::with(customers).await;
    world.origin.reply("/customer/1", Reply::new("old").cache("max-age=60, must-revalidate").with("etag", "\"1\""));
    world.get("/customer/1").await.says("stored");
    world.purge(json!({ "pattern": "customer:*", "soft": true })).await;
    world.origin.reply("/customer/1", Reply::new("").status(304).with("etag", "\"1\""));
    world.get("/customer/1").await.is("old").forwarded("stale").says("fwd-status=304");
    world.get("/customer/1").await.is("old").hit("memory");
}

#[tokio::test]
async fn a_response_that_is_confirmed_after_a_purge_depends_on_what_holds_then() {
    let world = World::with(customers).await;
    let gate = Gate::closed();
    world.origin.reply("/customer/1", Reply::new("old").with("etag", "\"1\""));
    world.get("/customer/1").await.says("stored");
    world.clock.advance(secs(61));
    world.origin.reply("/customer/1", Reply::new("").status(304).with("etag", "\"1\"").behind(&gate));
    let validating = world.get("/customer/1").spawn();
    world.origin.arrived("/customer/1", 2).await;
    // The origin may have looked at its data before this, and answers after it.
    world.purge(json!({ "tags": ["customer:1"] })).await;
    gate.open();
    validating.await.unwrap().is("old").says("fwd-status=304").does_not_say("stored");
    world.origin.reply("/customer/1", "new");
    world.get("/customer/1").await.is("new");
}

#[tokio::test]
async fn what_was_popular_is_fetched_again_after_a_purge_that_asks_for_it() {
    let world = World::with(|config| {
        customers(config);
        config.routes[0].key_headers = vec!["x-tenant".parse().unwrap()];
    })
    .await;
    let ask = |target: &str, language: &str| {
        world.get(target).with("host", "h").with("x-tenant", "t").with("accept-language", language)
    };
    for target in ["/customer/1", "/customer/2", "/customer/3"] {
        world.origin.has(target, Reply::new("old").with("vary", "accept-language").with("content-language", "de"));
    }
    // The first was asked for again, in one of its variants; the second only once; the third is not concerned.
    for (target, language) in
        [("/customer/1", "de"), ("/customer/1", "en"), ("/customer/1", "de"), ("/customer/2", "de"), ("/customer/3", "de")]
    {
        ask(target, language).await.is("old");
    }
    ask("/customer/3", "de").await.hit("memory");
    for target in ["/customer/1", "/customer/2", "/customer/3"] {
        world.origin.has(target, Reply::new("new").with("vary", "accept-language").with("content-language", "de"));
    }
    let answer = world.purge(json!({ "tags": ["customer:1", "customer:2"], "refresh": true })).await;
    assert_eq!(answer["refreshing"], 1, "{answer}");
    world.origin.arrived("/customer/1", 3).await;
    eventually("it is there again", async || {
        ask("/customer/1", "de").with("cache-control", "only-if-cached").await.status.is_success()
    })
    .await;
    ask("/customer/1", "de").await.is("new").hit("memory");
    let seen = world.origin.last("/customer/1");
    assert_eq!(["host", "x-tenant", "accept-language"].map(|name| seen.field(name).unwrap()), ["h", "t", "de"]);
    assert_eq!((world.origin.count("/customer/1"), world.origin.count("/customer/2")), (3, 1));
    ask("/customer/3", "de").await.is("old").hit("memory");
}

//! Tags that the origin names in its response, so that nobody knows them before it comes.

use super::customers;
use super::replicas::{ask, replicas};
use crate::world::{Gate, RedisServer, Reply, World, secs};
use serde_json::json;

fn tagged(body: &'static str) -> Reply {
    Reply::new(body).with("surrogate-key", "product:7 sale").with("cache-tag", "front").with("cache-groups", "\"group one\"")
}

const TARGET: &str = "/customer/1";

/// Orders that concern a tagged response.
fn orders() -> Vec<serde_json::Value> {
    let mut orders: Vec<_> =
        ["product:7", "sale", "front", "group one", "customer:1"].map(|tag| json!({ "tags": [tag], "wait": true })).into();
    orders.push(json!({ "pattern": "product:*", "wait": true }));
    orders
}

#[tokio::test]
async fn a_response_is_purged_by_the_tags_that_it_names_itself() {
    let redis = RedisServer::start().await;
    let here = vec![World::with(customers).await];
    for worlds in [here, replicas(&redis, 2).await] {
        for order in orders() {
            worlds[0].origin.has(TARGET, tagged("old"));
            worlds[0].origin.has("/customer/2", "other");
            all_asked(&worlds, "old").await;
            worlds[worlds.len() - 1].purge(json!({ "tags": ["product:8", "product"], "wait": true })).await;
            all_asked(&worlds, "old").await;
            worlds[worlds.len() - 1].purge(order.clone()).await;
            worlds[0].origin.has(TARGET, tagged("new"));
            for world in &worlds {
                ask(world, TARGET).await.is("new");
            }
            worlds[0].purge(json!({ "tags": ["customer:1"], "wait": true })).await;
        }
    }
}

/// All have it, in memory or from Redis.
async fn all_asked(worlds: &[World], body: &str) {
    for world in worlds {
        ask(world, TARGET).await.is(body);
        ask(world, TARGET).await.is(body).says("hit");
    }
}

#[tokio::test]
async fn what_was_being_fetched_when_a_tag_of_its_response_was_purged_is_not_stored() {
    let redis = RedisServer::start().await;
    let here = vec![World::with(customers).await];
    for worlds in [here, replicas(&redis, 2).await] {
        for order in orders() {
            let gate = Gate::closed();
            let count = worlds[0].origin.count(TARGET);
            worlds[0].origin.has(TARGET, tagged("old").behind(&gate));
            let asked_before = ask(&worlds[0], TARGET).spawn();
            worlds[0].origin.arrived(TARGET, count + 1).await;
            worlds[worlds.len() - 1].purge(order.clone()).await;
            // Who comes now cannot know yet that the purge concerns what is being fetched.
            let later = Gate::closed();
            worlds[0].origin.has(TARGET, tagged("new").behind(&later));
            let asked_after = [ask(&worlds[0], TARGET).spawn(), ask(&worlds[0], TARGET).spawn()];
            gate.open();
            asked_before.await.unwrap().is("old").does_not_say("stored");
            later.open();
            for asked in asked_after {
                asked.await.unwrap().is("new");
            }
            ask(&worlds[0], TARGET).await.is("new").says("hit");
            worlds[0].purge(json!({ "tags": ["customer:1"], "wait": true })).await;
        }
    }
}

#[tokio::test]
async fn the_purge_of_another_tag_leaves_a_fetch_alone() {
    let world = World::with(customers).await;
    let gate = Gate::closed();
    world.origin.reply(TARGET, tagged("one").behind(&gate));
    let asked = ask(&world, TARGET).spawn();
    world.origin.arrived(TARGET, 1).await;
    world.purge(json!({ "url": "/customer/2", "route": "customer--id--risk" })).await;
    gate.open();
    asked.await.unwrap().is("one").says("stored");
}

#[tokio::test]
async fn tags_are_shown_to_clients_unless_they_are_to_be_stripped() {
    let world = World::with(|config| {
        customers(config);
        config.cache.strip_tag_fields = true;
    })
    .await;
    world.origin.reply(TARGET, tagged("one"));
    for _ in 0..2 {
        ask(&world, TARGET).await.is("one").has("surrogate-key", "").has("cache-tag", "").has("cache-groups", "");
    }
    world.purge(json!({ "tags": ["sale"] })).await;
    ask(&world, TARGET).await.forwarded("uri-miss");
    // Past the cache, too.
    for asked in [world.ask("POST", TARGET), world.get(TARGET).with("x-unknown", "1")] {
        asked.await.is("one").has("surrogate-key", "").has("cache-tag", "").has("cache-groups", "");
    }

    let world = World::with(customers).await;
    world.origin.reply(TARGET, tagged("one"));
    for _ in 0..2 {
        ask(&world, TARGET).await.has("surrogate-key", "product:7 sale");
    }
}

#[tokio::test]
async fn a_response_with_more_tags_than_are_kept_is_not_stored() {
    let world = World::with(customers).await;
    let tags: Vec<String> = (0..129).map(|number| format!("tag{number}")).collect();
    world.origin.reply(TARGET, Reply::new("one").with("cache-tag", &tags.join(",")));
    ask(&world, TARGET).await.is("one").says("detail=too-many-tags").does_not_say("stored");
}

#[tokio::test]
async fn a_304_that_names_no_tags_leaves_the_response_those_that_it_had() {
    let redis = RedisServer::start().await;
    let here = vec![World::with(customers).await];
    for worlds in [here, replicas(&redis, 2).await] {
        for order in orders() {
            worlds[0].origin.has(TARGET, tagged("old").with("etag", "\"1\""));
            worlds[0].origin.has("/customer/2", "other");
            all_asked(&worlds, "old").await;
            worlds.iter().for_each(|world| world.clock.advance(secs(61)));
            worlds[0].origin.has(TARGET, Reply::new("").status(304).with("etag", "\"1\""));
            ask(&worlds[0], TARGET).await.is("old").says("fwd-status=304");
            worlds[worlds.len() - 1].purge(order.clone()).await;
            worlds[0].origin.has(TARGET, tagged("new"));
            for world in &worlds {
                ask(world, TARGET).await.is("new");
            }
            worlds[0].purge(json!({ "tags": ["customer:1"], "wait": true })).await;
        }
    }
}

#[tokio::test]
async fn a_response_to_head_that_names_another_tag_makes_nothing_fresh_that_cannot_be_purged_by_it() {
    let world = World::with(customers).await;
    world.origin.reply(TARGET, Reply::new("old").cache("max-age=60"));
    ask(&world, TARGET).await.says("stored");
    world.clock.advance(secs(61));
    world.origin.reply(TARGET, tagged("old").cache("max-age=60"));
    ask(&world, TARGET).await.is("old").forwarded("stale").says("stored");
    world.clock.advance(secs(61));
    let head = || world.ask("HEAD", TARGET).with("host", "h");
    world.origin.reply(TARGET, Reply::new("").with("surrogate-key", "sale").cache("max-age=60").with("content-length", "3"));
    head().await.status(200).forwarded("stale");
    ask(&world, TARGET).await.is("old").hit("memory");
    world.clock.advance(secs(61));
    world.origin.reply(TARGET, Reply::new("").with("surrogate-key", "winter").cache("max-age=60").with("content-length", "3"));
    head().await.status(200).forwarded("stale");
    world.origin.reply(TARGET, "new");
    ask(&world, TARGET).await.is("new").forwarded("stale");
}

//! One stored response: looked at, tested for, set and deleted from outside.

use super::customers;
use super::replicas::{all_have, ask, replicas};
use crate::world::{Ask, Gate, RedisServer, Reply, World, eventually};
use serde_json::{Value, json};
use sidecache::admin::Token;

fn entry(world: &World, method: &str, further: &str) -> Ask {
    world.ask_admin(method, &format!("/admin/cache/entries?url=http%3A%2F%2Fh%2Fcustomer%2F1{further}"))
}

async fn looked_at(world: &World) -> Value {
    serde_json::from_slice(&entry(world, "GET", "").await.body()).unwrap()
}

#[tokio::test]
async fn what_is_stored_can_be_looked_at() {
    let world = World::with(customers).await;
    entry(&world, "HEAD", "").await.status(404);
    assert_eq!(looked_at(&world).await["stored"], false);
    world.origin.reply("/customer/1", Reply::new("one").with("content-type", "text/plain").with("vary", "accept"));
    ask(&world, "/customer/1").with("accept", "text/plain").await.says("stored");
    entry(&world, "HEAD", "").await.status(404);
    let seen: Value = serde_json::from_slice(&entry(&world, "GET", "&header=Accept:%20text/plain").await.body()).unwrap();
    for (key, value) in [
        ("stored", json!(true)),
        ("tier", json!("memory")),
        ("route", json!("customer--id")),
        ("is_fresh", json!(true)),
        ("ttl", json!(60)),
        ("lifetime", json!({ "seconds": 60, "source": "rule" })),
        ("tags", json!(["customer:1"])),
        ("varies_on", json!([["accept", "text/plain"]])),
        ("status", json!(200)),
        ("body_bytes", json!(3)),
    ] {
        assert_eq!(seen[key], value, "{key} in {seen}");
    }
    assert!(seen["fields"].as_array().unwrap().contains(&json!(["content-type", "text/plain"])), "{seen}");
    let body = entry(&world, "GET", "&header=Accept:%20text/plain&body=true").await;
    body.status(200).is("one").has("content-type", "text/plain");
    // Looking is no request: nobody asked the origin for it, and nothing was counted.
    assert_eq!((world.origin.count("/customer/1"), &world.stats().await["hits"]), (1, &json!(0)));
}

#[tokio::test]
async fn what_is_set_is_served_on_all_replicas_and_purged_like_all_else() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    worlds[0].origin.has("/customer/1", "from the origin");
    for world in &worlds {
        ask(world, "/customer/1").await.is("from the origin");
    }
    let set = entry(&worlds[0], "PUT", "&ttl=1h&tag=vip").with("content-type", "application/json").body("{\"set\":1}").await;
    set.status(200);
    let answer: Value = serde_json::from_slice(&set.body()).unwrap();
    assert_eq!((&answer["ttl"], &answer["tags"]), (&json!(3600), &json!(["customer:1", "vip"])));
    ask(&worlds[0], "/customer/1").await.is("{\"set\":1}").hit("memory").has("content-type", "application/json").says("ttl=3600");
    eventually("the other has it too", async || ask(&worlds[1], "/customer/1").await.text() == "{\"set\":1}").await;
    ask(&worlds[1], "/customer/1").await.hit("memory");
    worlds[1].purge(json!({ "tags": ["vip"], "wait": true })).await;
    for world in &worlds {
        ask(world, "/customer/1").await.is("from the origin");
    }
}

#[tokio::test]
async fn what_is_too_large_for_redis_is_set_here_and_told_so() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    worlds[0].origin.has("/customer/1", "from the origin");
    let large = "x".repeat(2 << 20);
    let set = entry(&worlds[0], "PUT", "").body(large.clone()).await;
    set.status(202);
    let answer: Value = serde_json::from_slice(&set.body()).unwrap();
    assert_eq!(answer["stored"], true, "{answer}");
    assert!(answer["why"].as_str().unwrap().contains("redis.value_max"), "{answer}");
    ask(&worlds[0], "/customer/1").await.is(&large).hit("memory");
    ask(&worlds[1], "/customer/1").await.is("from the origin").forwarded("uri-miss");
}

#[tokio::test]
async fn what_redis_does_not_confirm_is_not_called_stored() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 1).await;
    all_have(&worlds, "/customer/1", "old").await;
    // The generations are there; but Redis does not let them be kept for as long as the response.
    redis.run::<()>("ACL SETUSER default -pexpire").await;
    let set = entry(&worlds[0], "PUT", "&ttl=7d").body("new").await;
    set.status(503);
    let answer: Value = serde_json::from_slice(&set.body()).unwrap();
    assert_eq!(
        (&answer["stored"], &answer["why"]),
        (&json!(false), &json!("Redis has not confirmed it; set it again")),
        "{answer}"
    );
}

#[tokio::test]
async fn what_was_being_fetched_does_not_take_the_place_of_what_is_set() {
    let world = World::with(customers).await;
    let gate = Gate::closed();
    world.origin.reply("/customer/1", Reply::new("old").behind(&gate));
    let asked_before = ask(&world, "/customer/1").spawn();
    world.origin.arrived("/customer/1", 1).await;
    entry(&world, "PUT", "").body("set").await.status(200);
    gate.open();
    asked_before.await.unwrap().is("old").does_not_say("stored");
    ask(&world, "/customer/1").await.is("set").hit("memory").says("ttl=60");
}

#[tokio::test]
async fn what_is_deleted_is_gone_on_all_replicas() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    worlds[0].origin.has("/customer/1", "one");
    for world in &worlds {
        ask(world, "/customer/1").await.is("one");
        eventually("it is there", async || looked_at(world).await["stored"] == true).await;
    }
    entry(&worlds[0], "DELETE", "").await.status(200);
    for world in &worlds {
        eventually("it is gone", async || looked_at(world).await["stored"] == false).await;
        entry(world, "HEAD", "").await.status(404);
    }
}

#[tokio::test]
async fn who_shows_no_token_sees_nothing_of_what_is_stored() {
    let world = World::with(|config| {
        customers(config);
        config.admin.tokens = vec![Token::admin("t0ken")];
    })
    .await;
    let with_token = |ask: Ask| ask.with("authorization", "Bearer t0ken");
    entry(&world, "PUT", "").body("set").await.status(401);
    entry(&world, "DELETE", "").await.status(401);
    with_token(entry(&world, "PUT", "")).body("set").await.status(200);
    for (method, further) in [("HEAD", ""), ("GET", ""), ("GET", "&body=true")] {
        entry(&world, method, further).await.status(401);
    }
    with_token(entry(&world, "HEAD", "")).await.status(200);
    with_token(entry(&world, "GET", "&body=true")).await.is("set");
}

#[tokio::test]
async fn a_request_that_goes_past_the_cache_has_no_entry() {
    let world = World::with(customers).await;
    let asked = |url: &str| world.ask_admin("PUT", &format!("/admin/cache/entries?url={url}")).body("x");
    for (url, part) in [
        ("http://h/nowhere", "no-route"),
        ("http://h/customer/..", "path-not-normal"),
        ("/customer/1", "the host is a part of the key"),
        ("http://h/customer/1&header=X-Own:%201", "unkeyed-field"),
    ] {
        let got = asked(url).await;
        got.status(400);
        assert!(got.text().contains(part), "{url}: {got:?}");
    }
}

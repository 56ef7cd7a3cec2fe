//! Who may purge, how, and what is told about it.

use super::customers;
use crate::world::{World, eventually};
use serde_json::{Value, json};
use sidecache::admin::Token;

async fn stored(token: Option<&'static str>) -> World {
    let world = World::with(|config| {
        customers(config);
        config.admin.tokens.extend(token.map(Token::admin));
        // For the method on the proxy's port; what is without it is tested below.
        config.admin.purge_without_token = true;
    })
    .await;
    world.origin.reply("/customer/1", "old");
    world.get("/customer/1").await.says("stored");
    world
}

#[tokio::test]
async fn the_method_purge_purges_its_own_target() {
    let world = stored(None).await;
    world.ask("PURGE", "/customer/2").await.status(200);
    world.get("/customer/1").await.hit("memory");
    world.ask("PURGE", "/customer/1").await.status(200);
    world.get("/customer/1").await.forwarded("uri-miss");
    world.ask("PURGE", "/customer/../1").await.status(400);
    assert_eq!(world.origin.count("/customer/1"), 2, "the origin is not asked to purge");
}

#[tokio::test]
async fn without_a_token_only_this_machine_may_purge_and_only_directly() {
    let world = stored(None).await;
    let ask = || world.ask("PURGE", "/customer/1");
    ask().with("x-forwarded-for", "10.0.0.1").await.status(403);
    ask().with("via", "1.1 proxy").await.status(403);
    ask().with("origin", "http://evil.example").await.status(403);
    world.get("/customer/1").await.hit("memory");
}

#[tokio::test]
async fn the_method_purge_needs_a_token_unless_the_configuration_says_otherwise() {
    let world = World::with(customers).await;
    world.origin.reply("/customer/1", "old");
    world.get("/customer/1").await.says("stored");
    let got = world.ask("PURGE", "/customer/1").await;
    got.status(403);
    assert!(got.text().contains("purge_without_token"), "{got:?}");
    world.get("/customer/1").await.hit("memory");
    assert_eq!(world.origin.count("/customer/1"), 1);
    world.purge(json!({ "url": "/customer/1" })).await;
    world.get("/customer/1").await.forwarded("uri-miss");
}

#[tokio::test]
async fn an_order_of_another_type_is_refused_as_a_form_would_be() {
    let world = stored(None).await;
    let ask = |media_type: &str| {
        world.ask_admin("POST", "/admin/cache/purge").with("content-type", media_type).body(r#"{"all": true}"#)
    };
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp"]
    {
        ask(media_type).await.status(415);
    }
    world.get("/customer/1").await.hit("memory");
    ask("application/json; charset=utf-8").await.status(200);
    world.get("/customer/1").await.forwarded("uri-miss");
}

#[tokio::test]
async fn with_a_token_it_must_be_shown() {
    let world = stored(Some("t0ken")).await;
    let all = || world.ask_admin("POST", "/admin/cache/purge").body(r#"{"all": true}"#);
    all().await.status(401).has("www-authenticate", "Bearer");
    all().with("authorization", "Bearer wrong").await.status(401);
    world.ask("PURGE", "/customer/1").await.status(401);
    world.get("/customer/1").await.hit("memory");
    world.ask("PURGE", "/customer/1").with("authorization", "Bearer t0ken").await.status(200);
    world.get("/customer/1").await.forwarded("uri-miss");
    all().with("authorization", "Bearer t0ken").await.status(200);
    world.get("/customer/1").await.forwarded("uri-miss");
}

#[tokio::test]
async fn what_cannot_be_done_is_told() {
    let world = stored(None).await;
    let ask = |body: &str| world.ask_admin("POST", "/admin/cache/purge").body(body.to_owned());
    for (body, part) in [
        ("", "not a purge in JSON"),
        ("{}", "nothing to purge"),
        (r#"{"route": "nope"}"#, "there are: customer--id"),
        (r#"{"all": true, "sofd": true}"#, "unknown field"),
    ] {
        let got = ask(body).await;
        got.status(400);
        let answer: Value = serde_json::from_slice(&got.body()).unwrap();
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
    }
    ask(&" ".repeat(70 << 10)).await.status(400);
    world.ask_admin("GET", "/admin/cache/purge").await.status(405).has("allow", "POST");
    world.get("/customer/1").await.hit("memory");
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let world = stored(None).await;
    let answer = world.purge(json!({ "pattern": "customer:*", "dry_run": true })).await;
    assert_eq!((&answer["dry_run"], &answer["in_memory"]["responses"]), (&json!(true), &json!(1)));
    let answer = world.purge(json!({ "tags": ["customer:2"], "dry_run": true })).await;
    assert_eq!(answer["in_memory"], json!({ "responses": 0, "bytes": 0 }));
    world.get("/customer/1").await.hit("memory");
}

#[tokio::test]
async fn the_latest_purges_are_remembered() {
    let world = stored(None).await;
    world.purge(json!({ "tags": ["customer:1"] })).await;
    world.purge(json!({ "all": true, "soft": true })).await;
    assert_eq!(world.metric("sidecache_purges_total{reach=\"here\"}").await, 2.0);
    let purges = async |query: &str| -> Value {
        serde_json::from_slice(&world.admin(&format!("/admin/cache/purges{query}")).await.body()).unwrap()
    };
    eventually("both are there", async || purges("").await["purges"].as_array().unwrap().len() == 2).await;
    let latest = &purges("?n=1").await["purges"];
    assert_eq!(latest.as_array().unwrap().len(), 1);
    assert_eq!((&latest[0]["scopes"], &latest[0]["soft"]), (&json!(["everything"]), &json!(true)));
    assert_eq!((&latest[0]["by"], &latest[0]["from"]), (&json!("loopback"), &json!("127.0.0.1")));
    assert!(latest[0]["at"].as_u64().unwrap() > 1_700_000_000);
}

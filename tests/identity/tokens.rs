//! Claims of tokens that tell callers apart: only of tokens that hold.

use crate::world::{Issuer, World, secs};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use sidecache::rules::Share;
use std::time::UNIX_EPOCH;

async fn world(jwks: Option<&str>) -> (World, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let world = World::with(|config| {
        config.routes[0].share = Share::PerCredential(Vec::new());
        config.routes[0].identity_claims = vec!["sub".to_owned(), "tenant".to_owned()];
        config.identity.audience = Some("us".to_owned());
        if let Some(jwks) = jwks {
            std::fs::write(&file, jwks).unwrap();
            config.identity.jwks_file = Some(file);
        }
    })
    .await;
    (world, directory)
}

fn now(world: &World) -> u64 {
    world.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(world: &World, sub: &str, lifetime: u64, number: u64) -> Value {
    json!({ "sub": sub, "tenant": 7, "aud": "us", "exp": now(world) + lifetime, "jti": number })
}

#[tokio::test]
async fn all_tokens_with_the_same_claims_share() {
    let issuer = Issuer::new("k");
    let (world, _directory) = world(Some(&issuer.jwks())).await;
    for (sub, body) in [("alice", "for alice"), ("bob", "for bob")] {
        world.origin.reply("/a", body);
        world.get("/a").with("authorization", &issuer.token(&claims(&world, sub, 60, 1))).await.is(body).says("stored");
    }
    world.get("/a").with("authorization", &issuer.token(&claims(&world, "alice", 60, 2))).await.is("for alice").hit("memory");
    world.get("/a").with("authorization", &issuer.token(&claims(&world, "bob", 90, 3))).await.is("for bob").hit("memory");
    let mut other = claims(&world, "alice", 60, 4);
    other["tenant"] = json!(8);
    world.get("/a").with("authorization", &issuer.token(&other)).await.forwarded("uri-miss");
    // A cookie is a credential that nothing in the key stands for.
    let got = world.get("/a").with("authorization", &issuer.token(&claims(&world, "alice", 60, 5))).with("cookie", "c=d").await;
    got.forwarded("request").does_not_say("stored");
}

#[tokio::test]
async fn of_a_token_that_does_not_hold_nothing_is_believed() {
    let (issuer, forger) = (Issuer::new("k"), Issuer::new("k"));
    let (world, _directory) = world(Some(&issuer.jwks())).await;
    world.origin.reply("/a", "for alice");
    let alice = claims(&world, "alice", 60, 1);
    world.get("/a").with("authorization", &issuer.token(&alice)).await.says("stored");
    let without = |name: &str, value: Value| {
        let mut claims = claims(&world, "alice", 60, 1);
        claims[name] = value;
        issuer.token(&claims)
    };
    let symmetric = |algorithm| {
        let header = Header { kid: Some("k".to_owned()), ..Header::new(algorithm) };
        format!("Bearer {}", encode(&header, &alice, &EncodingKey::from_secret(issuer.jwks().as_bytes())).unwrap())
    };
    let (head, rest) = issuer.token(&alice).split_once('.').map(|(head, rest)| (head.to_owned(), rest.to_owned())).unwrap();
    let payload = rest.split_once('.').unwrap().0.to_owned();
    let wrong = [
        forger.token(&alice),
        Issuer { kid: "other", ..forger }.token(&alice),
        without("aud", json!("others")),
        without("nbf", json!(now(&world) + 30)),
        without("exp", json!("never")),
        without("sub", Value::Null),
        symmetric(Algorithm::HS256),
        // `alg` is `none`.
        format!("Bearer eyJhbGciOiJub25lIn0.{payload}."),
        format!("{head}.{payload}."),
    ];
    world.origin.reply("/a", "for nobody");
    for token in wrong {
        world.get("/a").with("authorization", &token).await.is("for nobody").forwarded("uri-miss");
        // It stands for itself.
        world.get("/a").with("authorization", &token).await.is("for nobody").hit("memory");
    }
    world.get("/a").with("authorization", &issuer.token(&claims(&world, "alice", 60, 2))).await.is("for alice").hit("memory");
}

#[tokio::test]
async fn without_keys_each_token_stands_for_itself() {
    let issuer = Issuer::new("k");
    let (world, _directory) = world(None).await;
    world.origin.reply("/a", "one");
    let tokens = [1, 2].map(|number| issuer.token(&claims(&world, "alice", 60, number)));
    for token in &tokens {
        world.get("/a").with("authorization", token).await.forwarded("uri-miss").says("stored");
    }
    world.get("/a").with("authorization", &tokens[0]).await.hit("memory");
}

#[tokio::test]
async fn what_was_fetched_with_a_token_is_of_no_use_past_its_end() {
    let issuer = Issuer::new("k");
    let (world, _directory) = world(Some(&issuer.jwks())).await;
    let [short, long] = [(10, 1), (50, 2)].map(|(lifetime, number)| issuer.token(&claims(&world, "alice", lifetime, number)));
    world.origin.reply("/a", "one");
    world.get("/a").with("authorization", &short).await.says("stored").says("ttl=10");
    world.clock.advance(secs(9));
    world.get("/a").with("authorization", &long).await.is("one").hit("memory");
    world.clock.advance(secs(2));
    world.origin.reply("/a", "two");
    world.get("/a").with("authorization", &short).await.is("two").says("detail=token-ended");
    world.origin.reply("/a", "three");
    world.get("/a").with("authorization", &long).await.is("three").says("stored");
    world.get("/a").with("authorization", &short).await.forwarded("bypass");
}

//! What a gateway says of who has logged in with it identifies like a credential.

use crate::world::{Reply, World};
use http::HeaderName;
use sidecache::config::Config;
use sidecache::rules::{Caching, Share, Unkeyed};

const ASSERTED: [&str; 20] = [
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-remote-user",
    "remote-user",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-access-token",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-data",
    "cf-access-jwt-assertion",
    "x-goog-iap-jwt-assertion",
    "x-authentik-username",
    "x-consumer-id",
    "client-cert",
    "ssl-client-verify",
    "x-amzn-mtls-clientcert-subject",
    "x-forwarded-client-cert",
];

/// The client is a proxy that is trusted.
fn trusting(config: &mut Config) {
    config.cache.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

#[tokio::test]
async fn what_was_made_for_one_is_given_to_nobody_else_and_what_is_for_all_not_to_one() {
    for unkeyed in [Unkeyed::Pass, Unkeyed::Drop, Unkeyed::Forward] {
        for caching in [Caching::Standard, Caching::Rule { ttl: crate::world::secs(60), overrides: true }] {
            let world = World::with(|config| {
                trusting(config);
                (config.routes[0].unkeyed, config.routes[0].caching) = (unkeyed, caching);
            })
            .await;
            for (number, name) in ASSERTED.into_iter().enumerate() {
                let path = format!("/{number}");
                for body in ["for alice", "for all", "for bob", "for alice again"] {
                    world.origin.reply(&path, Reply::new(body).cache("public, max-age=60"));
                }
                let got = world.get(&path).with(name, "alice").await;
                got.is("for alice").says("detail=unkeyed-field").does_not_say("stored");
                assert_eq!(world.origin.last(&path).field(name).as_deref(), Some("alice"), "{name}");
                world.get(&path).await.is("for all").says("stored");
                world.get(&path).with(name, "bob").await.is("for bob").does_not_say("stored");
                world.get(&path).await.is("for all").hit("memory");
                world.get(&path).with(name, "alice").with("cookie", "a=b").await.is("for alice again");
            }
        }
    }
}

#[tokio::test]
async fn where_it_identifies_each_has_an_answer_of_his_own() {
    for name in ASSERTED {
        let identity = vec![HeaderName::from_static(name)];
        // Where the operator names it, it counts whoever says it.
        let world = World::with_route(|route| route.share = Share::PerCredential(identity)).await;
        for user in ["alice", "bob"] {
            world.origin.reply("/a", format!("for {user}"));
            world.get("/a").with(name, user).await.is(&format!("for {user}")).says("stored");
            assert_eq!(world.origin.last("/a").field(name).as_deref(), Some(user), "{name}");
        }
        for user in ["alice", "bob"] {
            world.get("/a").with(name, user).await.is(&format!("for {user}")).hit("memory");
        }
        world.origin.reply("/a", "for nobody");
        world.get("/a").await.is("for nobody");
        // Another one beside it is not in the key.
        let other = ASSERTED.into_iter().rev().find(|other| *other != name && !other.starts_with("x-forwarded-")).unwrap();
        world.origin.reply("/a", "for alice as admin");
        let got = world.get("/a").with(name, "alice").with(other, "admin").await;
        got.is("for alice as admin").says("detail=unkeyed-field");
        world.get("/a").with(name, "alice").await.is("for alice").hit("memory");
    }
}

#[tokio::test]
async fn where_the_route_says_that_it_makes_no_difference_all_share() {
    for name in ASSERTED {
        let world = World::with(|config| {
            trusting(config);
            config.routes[0].share = Share::Everyone;
        })
        .await;
        world.origin.reply("/a", "for all");
        world.get("/a").with(name, "alice").await.is("for all").says("stored");
        world.get("/a").with(name, "bob").await.is("for all").hit("memory");
        world.get("/a").await.is("for all").hit("memory");
    }
}

#[tokio::test]
async fn nobody_says_for_a_proxy_who_asks_and_no_underscore_makes_another_of_it() {
    let world = World::start().await;
    for (number, name) in ASSERTED.into_iter().enumerate() {
        for (written, path) in [(name.to_owned(), "a"), (name.replace('-', "_"), "b")] {
            if written == name && !name.starts_with("x-forwarded-") {
                continue;
            }
            for path in [format!("/{number}{path}"), format!("/past/{number}{path}")] {
                world.origin.reply(&path, "for all");
                world.get(&path).with(&written, "admin").await.is("for all");
                let seen = world.origin.last(&path);
                assert_eq!((seen.field(name), seen.field(&written)), (None, None), "{written}");
            }
        }
    }
}

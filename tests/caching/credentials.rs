//! Identity fails closed: who is given what was fetched for whom.

use crate::world::{Ask, Reply, World};
use http::header::{AUTHORIZATION, COOKIE};
use sidecache::rules::{Caching, Share};

const CREDENTIALS: [(&str, [&str; 2]); 3] = [
    ("authorization", ["Bearer alice", "Bearer bob"]),
    ("cookie", ["user=alice", "user=bob"]),
    ("proxy-authorization", ["Basic YQ==", "Basic Yg=="]),
];

#[tokio::test]
async fn what_was_fetched_with_credentials_is_given_to_nobody_else() {
    for (field, [alice, bob]) in CREDENTIALS {
        let world = World::start().await;
        for body in ["for alice", "for bob", "for all"] {
            world.origin.reply("/a", body);
        }
        world.get("/a").with(field, alice).await.is("for alice").says("detail=credentials").does_not_say("stored");
        world.get("/a").with(field, bob).await.is("for bob").says("detail=credentials").does_not_say("stored");
        world.get("/a").await.is("for all").says("stored");
        assert_eq!(world.origin.seen("/a")[0].field(field).as_deref(), Some(alice));
    }
}

#[tokio::test]
async fn what_is_stored_for_all_is_not_given_to_who_shows_credentials() {
    for (field, [alice, _]) in CREDENTIALS {
        let world = World::start().await;
        world.origin.reply("/a", "for all");
        world.origin.reply("/a", "for alice");
        world.get("/a").await.is("for all").says("stored");
        world.get("/a").with(field, alice).await.is("for alice").forwarded("request").does_not_say("stored");
        world.get("/a").await.is("for all").hit("memory");
    }
}

#[tokio::test]
async fn a_response_may_say_that_it_is_for_all() {
    for directives in ["public", "s-maxage=60", "must-revalidate, max-age=60"] {
        for (field, [alice, bob]) in CREDENTIALS {
            let world = World::start().await;
            world.origin.reply("/a", Reply::new("for all").cache(directives));
            world.get("/a").with(field, alice).await.is("for all").says("stored");
            world.get("/a").with(field, bob).await.is("for all").hit("memory");
            world.get("/a").await.is("for all").hit("memory");
        }
    }
}

#[tokio::test]
async fn a_route_may_say_that_credentials_make_no_difference() {
    let world = World::with_route(|route| route.share = Share::Everyone).await;
    world.origin.reply("/a", "for all");
    world.get("/a").with("authorization", "Bearer alice").await.says("stored");
    world.get("/a").with("authorization", "Bearer bob").with("cookie", "c=d").await.is("for all").hit("memory");
    world.get("/a").await.is("for all").hit("memory");
}

#[tokio::test]
async fn a_route_may_keep_a_response_for_each_credential() {
    let world = World::with_route(|route| route.share = Share::PerCredential(vec![AUTHORIZATION, COOKIE])).await;
    let requests: [fn(&World) -> Ask; 5] = [
        |world| world.get("/a"),
        |world| world.get("/a").with("authorization", "Bearer alice"),
        |world| world.get("/a").with("authorization", "Bearer bob"),
        |world| world.get("/a").with("cookie", "Bearer bob"),
        |world| world.get("/a").with("authorization", "Bearer alice").with("cookie", "a=b"),
    ];
    let bodies = ["all", "alice", "bob", "cookie", "both"];
    for (request, body) in requests.into_iter().zip(bodies) {
        world.origin.reply("/a", body);
        request(&world).await.is(body).forwarded("uri-miss").says("stored");
    }
    for (request, body) in requests.into_iter().zip(bodies) {
        request(&world).await.is(body).hit("memory");
    }
    // A credential that the route does not name stays one that nothing stands for.
    world.get("/a").with("proxy-authorization", "Basic YQ==").await.forwarded("request").does_not_say("stored");
}

#[tokio::test]
async fn a_route_with_one_identity_field_fails_closed_for_the_others() {
    let world = World::with_route(|route| route.share = Share::PerCredential(vec![AUTHORIZATION])).await;
    world.origin.reply("/a", "alice");
    world.get("/a").with("authorization", "Bearer alice").await.says("stored");
    world.origin.reply("/a", "alice with a cookie");
    let got = world.get("/a").with("authorization", "Bearer alice").with("cookie", "a=b").await;
    got.is("alice with a cookie").forwarded("request").does_not_say("stored");
}

#[tokio::test]
async fn a_standard_route_keeps_the_rfc_to_the_letter() {
    let world = World::with_route(|route| route.caching = Caching::Standard).await;
    let reply = |body: &'static str| Reply::new(body).cache("max-age=60");
    world.origin.reply("/a", reply("one"));
    world.get("/a").with("authorization", "Bearer alice").await.says("detail=credentials");
    world.origin.reply("/b", reply("one").with("vary", "cookie"));
    world.get("/b").with("cookie", "user=alice").await.says("stored");
    world.get("/b").with("cookie", "user=alice").await.hit("memory");
    world.get("/b").with("cookie", "user=bob").await.forwarded("vary-miss");
    world.origin.reply("/c", reply("one"));
    world.get("/c").with("cookie", "user=alice").await.says("detail=credentials");
}

//! Who shares what: parts of fields that identify, and what never reaches another.

use crate::world::{Gate, Reply, World, secs};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use sidecache::rules::{Route, Share};
use std::time::UNIX_EPOCH;

fn by_session(route: &mut Route) {
    route.share = Share::PerCredential(Vec::new());
    route.identity_cookies = vec!["session".to_owned()];
}

#[tokio::test]
async fn one_cookie_can_tell_callers_apart() {
    let world = World::with_route(by_session).await;
    for (session, body) in [("a", "alice"), ("b", "bob")] {
        world.origin.reply("/a", body);
        let cookies = format!("theme=dark; session={session}; _ga=1");
        world.get("/a").with("cookie", &cookies).await.is(body).says("stored");
        // Another cookie could have changed the response for all of this session.
        assert_eq!(world.origin.last("/a").field("cookie"), Some(format!("session={session}")));
    }
    world.get("/a").with("cookie", "session=a; theme=light").await.is("alice").hit("memory");
    world.get("/a").with("cookie", "session=b").await.is("bob").hit("memory");
    // The name is exact, and who has no session is nobody of these.
    for other in ["Session=a", "xsession=a", "session=a2", "theme=\"session=a\""] {
        world.origin.has("/a", "somebody else");
        world.get("/a").with("cookie", other).await.is("somebody else");
    }
}

#[tokio::test]
async fn a_cookie_that_is_there_twice_says_not_who_asks() {
    let world = World::with_route(by_session).await;
    world.origin.reply("/a", "alice");
    world.get("/a").with("cookie", "session=a").await.says("stored");
    for _ in 0..2 {
        let got = world.get("/a").with("cookie", "session=a; session=b").await;
        got.forwarded("bypass").says("detail=ambiguous-identity");
    }
}

#[tokio::test]
async fn a_credential_that_does_not_identify_keeps_a_request_to_itself() {
    let world = World::with_route(by_session).await;
    world.origin.reply("/a", "alice");
    world.get("/a").with("cookie", "session=a").await.says("stored");
    world.origin.reply("/a", "alice by token");
    let got = world.get("/a").with("cookie", "session=a").with("authorization", "Bearer t").await;
    got.is("alice by token").does_not_say("stored");
    world.get("/a").with("cookie", "session=a").await.is("alice").hit("memory");
}

#[tokio::test]
async fn nothing_is_served_for_a_token_past_its_end() {
    let world = World::with_route(|route| route.share = Share::PerCredential(vec![AUTHORIZATION])).await;
    let now = world.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{}}}", now + 10)));
    world.origin.reply("/a", "alice");
    world.get("/a").with("authorization", &token).await.says("stored");
    world.clock.advance(secs(8));
    world.get("/a").with("authorization", &token).await.hit("memory");
    world.clock.advance(secs(3));
    world.origin.reply("/a", Reply::new("who are you?").status(401));
    world.get("/a").with("authorization", &token).await.is("who are you?").says("detail=token-ended");
}

#[tokio::test]
async fn who_waits_for_a_fetch_is_not_given_an_answer_that_may_not_be_stored() {
    // CVE-2016-10003: Squid gave the private answer that one client had caused to all who waited for it.
    for (name, value) in [("cache-control", "private"), ("cache-control", "no-store"), ("set-cookie", "session=a"), ("vary", "*")]
    {
        let (world, gate) = (World::start().await, Gate::closed());
        world.origin.reply("/a", Reply::new("for the first").with(name, value).behind(&gate));
        let first = world.get("/a").spawn();
        world.origin.arrived("/a", 1).await;
        for number in 0..8 {
            world.origin.reply("/a", Reply::new(format!("for another {number}")).with(name, value));
        }
        let others: Vec<_> = (0..8).map(|_| world.get("/a").spawn()).collect();
        crate::world::eventually("the others wait", async || world.stats().await["followers"] == 8).await;
        gate.open();
        first.await.unwrap().is("for the first");
        let mut bodies = std::collections::HashSet::new();
        for other in others {
            let got = other.await.unwrap();
            assert!(got.text().starts_with("for another "), "{got:?}");
            assert!(bodies.insert(got.text()), "{got:?}");
        }
    }
}

#[tokio::test]
async fn what_differs_in_its_credentials_is_never_fetched_together() {
    let (world, gate) = (World::with_route(by_session).await, Gate::closed());
    for body in ["one", "two"] {
        world.origin.reply("/a", Reply::new(body).behind(&gate));
    }
    let one = world.get("/a").with("cookie", "session=a").spawn();
    world.origin.arrived("/a", 1).await;
    let two = world.get("/a").with("cookie", "session=b").spawn();
    world.origin.arrived("/a", 2).await;
    gate.open();
    one.await.unwrap().is("one");
    two.await.unwrap().is("two");
}

#[tokio::test]
async fn redirects_and_errors_have_no_lifetime_by_a_rule() {
    let world = World::start().await;
    for status in [301, 302, 303, 307, 308, 400, 401, 403, 404, 410, 429, 500, 502, 503, 504] {
        let path = format!("/{status}");
        world.origin.reply(&path, Reply::new("first").status(status).with("location", "/elsewhere"));
        world.origin.reply(&path, Reply::new("second").status(status).with("location", "/elsewhere"));
        world.get(&path).await.is("first").status(status).does_not_say("stored");
        world.get(&path).await.is("second").status(status);
        let path = format!("/fresh-{status}");
        world.origin.reply(&path, Reply::new("first").status(status).cache("max-age=60"));
        let answer = world.get(&path).await;
        // What the form of one request may have caused is for nobody else, however long it says that it is fresh (RFC 6585 for 429).
        match matches!(status, 400 | 429) {
            true => drop(answer.does_not_say("stored")),
            false => {
                answer.says("stored");
                world.get(&path).await.is("first").status(status).hit("memory");
            }
        }
    }
}

#[tokio::test]
async fn conditions_and_ranges_of_a_client_do_not_fill_the_cache() {
    let world = World::start().await;
    let conditions = [("range", "bytes=0-0"), ("if-none-match", "\"a\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")];
    for (number, (name, value)) in conditions.into_iter().enumerate() {
        let path = format!("/{number}");
        world.origin.reply(&path, Reply::new("whole").with("etag", "\"b\""));
        world.get(&path).with(name, value).with("if-range", "\"a\"").await.says("stored");
        let seen = world.origin.last(&path);
        assert_eq!((seen.field(name), seen.field("if-range")), (None, None));
        world.get(&path).await.is("whole").status(200).hit("memory");
    }
    for status in [206, 304, 412, 416] {
        let path = format!("/{status}");
        let reply = |body: &'static str| Reply::new(body).status(status).cache("max-age=60").with("content-range", "bytes 0-0/9");
        world.origin.reply(&path, reply(""));
        world.get(&path).await.does_not_say("stored");
        world.origin.reply(&path, "whole");
        world.get(&path).await.is("whole").status(200);
    }
}

#[tokio::test]
async fn a_client_that_varies_what_it_asks_for_does_not_take_all_the_room() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("x".repeat(1000)).with("vary", "accept-language"));
    for number in 0..300 {
        world.get("/a").with("accept-language", &format!("x-{number}")).await.says("stored");
    }
    let mut hits = 0;
    for number in (0..300).rev() {
        let got = world.get("/a").with("accept-language", &format!("x-{number}")).with("cache-control", "only-if-cached").await;
        hits += usize::from(got.status == 200);
    }
    assert_eq!(hits, 64);
}

//! Which responses are stored, and what of them.

use crate::world::{Gate, RawOrigin, Reply, World, secs};
use http::StatusCode;
use sidecache::rules::Caching;

/// The response is given twice, each time by the origin, and the header says why.
async fn is_not_stored(world: &World, path: &str, reply: Reply, why: &str) {
    world.origin.reply(path, reply);
    for _ in 0..2 {
        world.get(path).await.is("one").forwarded("uri-miss").does_not_say("stored").says(&format!("detail={why}"));
    }
    assert_eq!(world.origin.count(path), 2, "{path}");
}

#[tokio::test]
async fn what_forbids_it_is_not_stored() {
    for caching in [Caching::Rule { ttl: secs(60), overrides: false }, Caching::Standard] {
        let world = World::with_route(|route| route.caching = caching).await;
        let one = || Reply::new("one");
        is_not_stored(&world, "/a", one().cache("no-store"), "no-store").await;
        is_not_stored(&world, "/b", one().cache("max-age=60, private"), "private").await;
        is_not_stored(&world, "/c", one().cache("max-age=60").with("set-cookie", "a=b"), "set-cookie").await;
        is_not_stored(&world, "/d", one().cache("max-age=60").with("vary", "*"), "vary-any").await;
        is_not_stored(&world, "/e", one().cache("max-age=0"), "no-lifetime").await;
    }
}

#[tokio::test]
async fn errors_and_redirects_are_not_stored_unless_they_say_for_how_long() {
    let world = World::start().await;
    for status in [201, 301, 302, 307, 308, 401, 403, 404, 500, 503] {
        let reply = || Reply::new("one").status(status).with("location", "/b");
        is_not_stored(&world, &format!("/{status}"), reply(), "no-lifetime").await;
        let explicit = format!("/explicit-{status}");
        world.origin.reply(&explicit, reply().cache("max-age=5"));
        world.get(&explicit).await.status(status).says("stored");
        world.get(&explicit).await.status(status).is("one").has("location", "/b").hit("memory");
    }
}

#[tokio::test]
async fn what_the_form_of_one_request_has_caused_is_not_stored_for_others() {
    let world = World::start().await;
    for status in [400, 406, 413, 414, 417, 429, 431] {
        is_not_stored(&world, &format!("/{status}"), Reply::new("one").status(status).cache("max-age=60"), "status").await;
    }
    let world = World::with_route(|route| route.ttl_by_status = vec![(StatusCode::BAD_REQUEST, secs(60))]).await;
    world.origin.reply("/a", Reply::new("one").status(400));
    world.get("/a").await.status(400).says("stored");
    world.get("/a").await.status(400).hit("memory");
}

#[tokio::test]
async fn a_part_is_not_stored() {
    let world = World::start().await;
    let part = Reply::new("one").status(206).with("content-range", "bytes 0-2/9").cache("max-age=60");
    is_not_stored(&world, "/a", part, "partial").await;
}

#[tokio::test]
async fn set_cookie_can_be_stripped() {
    let world = World::with_route(|route| route.strip_set_cookie = true).await;
    world.origin.reply("/a", Reply::new("one").with("set-cookie", "a=b").with("set-cookie", "c=d"));
    world.get("/a").await.is("one").has("set-cookie", "").says("stored");
    world.get("/a").await.is("one").has("set-cookie", "").hit("memory");
}

#[tokio::test]
async fn a_hit_has_all_fields_of_the_response_and_none_of_its_connection() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always(
        "HTTP/1.1 203 Fine\r\nConnection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nLink: <a>\r\nX-B: 2\r\nLink: <b>\r\n\
         Content-Type: text/plain\r\nContent-Encoding: x-own\r\nServer: own/1\r\nX-Empty:\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
    );
    for _ in 0..2 {
        let got = world.get("/a").await;
        got.status(203).is("one").has("link", "<a> | <b>").has("x-b", "2").has("server", "own/1");
        got.has("content-type", "text/plain").has("content-encoding", "x-own").has("via", "1.1 sidecache");
        assert!(got.fields.contains_key("x-empty"));
        for name in ["connection", "x-private", "keep-alive"] {
            got.has(name, "");
        }
    }
    world.get("/a").await.hit("memory").has("content-length", "3").has("transfer-encoding", "");
}

#[tokio::test]
async fn cache_status_of_caches_nearer_to_the_origin_comes_first() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("cache-status", "inner; hit"));
    let got = world.get("/a").await;
    got.has("cache-status", "inner; hit | sidecache; fwd=uri-miss; ttl=60; stored");
    let got = world.get("/a").await;
    got.has("cache-status", "inner; hit | sidecache; hit; ttl=60; detail=memory");
}

#[tokio::test]
async fn a_response_without_content_is_stored() {
    let world = World::start().await;
    for (path, status) in [("/none", 204), ("/empty", 200)] {
        world.origin.reply(path, Reply::new("").status(status).with("x-a", "1"));
        world.get(path).await.status(status).is("").says("stored");
        let got = world.get(path).await;
        got.status(status).is("").has("x-a", "1").hit("memory");
        got.has("content-length", if status == 204 { "" } else { "0" });
    }
}

#[tokio::test]
async fn head_is_answered_from_what_get_has_stored() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    // What HEAD gets has no body that could be stored.
    world
        .ask("HEAD", "/a")
        .await
        .is("")
        .has("content-length", "3")
        .forwarded("uri-miss")
        .says("detail=head")
        .does_not_say("stored");
    assert_eq!(world.origin.last("/a").method, "HEAD");
    world.get("/a").await.is("one").forwarded("uri-miss");
    world.ask("HEAD", "/a").await.is("").has("content-length", "3").has("etag", "\"1\"").hit("memory");
    assert_eq!(world.origin.count("/a"), 2);
}

#[tokio::test]
async fn a_route_may_leave_head_to_the_origin() {
    let world = World::with_route(|route| route.methods = vec![http::Method::GET]).await;
    world.origin.reply("/a", "one");
    world.get("/a").await.says("stored");
    world.ask("HEAD", "/a").await.forwarded("method");
    assert_eq!(world.origin.count("/a"), 2);
}

#[tokio::test]
async fn an_answer_to_an_earlier_request_does_not_replace_that_to_a_later_one() {
    let world = World::start().await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("old").behind(&gate));
    let slow = world.get("/a").with("cache-control", "no-cache").spawn();
    world.origin.arrived("/a", 1).await;
    world.clock.advance(secs(1));
    world.origin.reply("/a", "new");
    world.get("/a").with("cache-control", "no-cache").await.is("new").says("stored");
    gate.open();
    slow.await.unwrap().is("old");
    world.get("/a").await.is("new").hit("memory");
}

#[tokio::test]
async fn a_content_type_without_content_makes_no_difference() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").with("content-type", "application/json").await.is("one").says("stored");
    world.get("/a").await.is("one").hit("memory");
    assert_eq!(world.origin.last("/a").field("content-type"), None);
}

#[tokio::test]
async fn what_was_meant_to_keep_a_response_to_itself_does_so_however_it_is_spelt() {
    let world = World::start().await;
    for (number, said) in ["no-store;", "private;", "no-store: x", "\"private\"", "max-age=60, NO-STORE;"].into_iter().enumerate()
    {
        let path = format!("/{number}");
        world.origin.reply(&path, Reply::new("one").cache(said));
        world.get(&path).await.is("one").does_not_say("stored");
    }
}

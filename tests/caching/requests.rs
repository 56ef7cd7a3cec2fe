//! What a request's own directives, conditions and ranges come to.

use crate::world::{Reply, World, secs};

#[tokio::test]
async fn a_client_may_ask_for_what_is_stored_alone() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    let got = world.get("/a").with("cache-control", "only-if-cached").await;
    got.status(504).is("sidecache: Gateway Timeout (only-if-cached)\n").says("detail=only-if-cached");
    assert_eq!(world.origin.count("/a"), 0);
    world.get("/a").await;
    world.get("/a").with("cache-control", "only-if-cached").await.status(200).is("one").hit("memory");
}

#[tokio::test]
async fn a_client_may_ask_for_a_newer_response_than_is_stored() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").await;
    world.clock.advance(secs(20));
    world.get("/a").with("cache-control", "max-age=20").await.hit("memory");
    world.get("/a").with("cache-control", "min-fresh=40").await.hit("memory");
    for (directive, body) in [("max-age=10", "two"), ("min-fresh=61", "three"), ("no-cache", "four")] {
        world.origin.reply("/a", body);
        world.get("/a").with("cache-control", directive).await.is(body).forwarded("request").says("stored");
        world.get("/a").await.is(body).hit("memory");
        world.clock.advance(secs(20));
    }
}

#[tokio::test]
async fn a_client_may_ask_that_nothing_be_stored() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").with("cache-control", "no-store").await.is("one").says("detail=request-no-store").does_not_say("stored");
    world.get("/a").await.is("one").forwarded("uri-miss");
}

#[tokio::test]
async fn conditions_and_ranges_of_the_client_do_not_shape_what_is_stored() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").with("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"));
    let conditions = [("if-none-match", "\"0\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT"), ("range", "bytes=1-")];
    let request = conditions.iter().fold(world.get("/a"), |request, (name, value)| request.with(name, value));
    // What it asks for is cut out of what is fetched.
    request.with("if-range", "\"1\"").await.status(206).is("ne").has("content-range", "bytes 1-2/3").says("stored");
    let seen = world.origin.last("/a");
    for name in ["if-none-match", "if-modified-since", "range", "if-range"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn a_client_that_has_the_response_is_told_so() {
    let world = World::start().await;
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").with("last-modified", modified).with("x-a", "1"));
    // Whether it was stored already or is being fetched makes no difference.
    for age in ["", "0", "0"] {
        let got = world.get("/a").with("if-none-match", "\"0\", W/\"1\"").await;
        got.status(304).is("").has("etag", "\"1\"").has("age", age);
    }
    let check = async |name: &str, value: &str, status: u16| {
        let got = world.get("/a").with(name, value).await;
        got.status(status).is(if status == 304 { "" } else { "one" }).hit("memory");
    };
    check("if-none-match", "\"1\"", 304).await;
    check("if-none-match", "*", 304).await;
    check("if-none-match", "\"2\"", 200).await;
    check("if-modified-since", modified, 304).await;
    check("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT", 200).await;
    check("if-modified-since", "yesterday", 200).await;
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn preconditions_that_only_the_origin_can_judge_are_left_to_it() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").await.says("stored");
    world.origin.reply("/a", Reply::new("no").status(412));
    world.get("/a").with("if-match", "\"0\"").await.status(412).forwarded("bypass").says("detail=precondition");
    assert_eq!(world.origin.last("/a").field("if-match").as_deref(), Some("\"0\""));
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn the_body_of_a_get_counts_for_nothing_where_responses_are_stored() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").body("question").with("content-type", "text/plain").await.is("one").says("stored");
    let seen = world.origin.last("/a");
    assert_eq!((seen.field("content-length"), seen.field("content-type"), seen.field("transfer-encoding")), (None, None, None));
    world.get("/a").body("other").await.is("one").hit("memory");
    world.origin.reply("/past/a", Reply::echo());
    world.get("/past/a").body("question").await.is("question").forwarded("bypass").says("detail=no-route");
    let (asked, sending) = world.get("/past/a").with("transfer-encoding", "chunked").sending();
    sending.send("question");
    drop(sending);
    asked.await.is("question");
}

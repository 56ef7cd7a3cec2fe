//! An origin that is not there, does not answer, or answers nonsense.

use crate::world::{Gate, RawOrigin, Reply, World, free_port, millis, secs};
use std::time::Instant;

const ONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";

#[tokio::test]
async fn when_nothing_listens_the_answer_is_502() {
    let address = format!("http://127.0.0.1:{}", free_port()).parse().unwrap();
    let world = World::at(&address, |_| {}).await;
    for (path, why) in [("/past/a", "bypass"), ("/a", "uri-miss")] {
        let got = world.get(path).await;
        got.status(502).is("sidecache: Bad Gateway (origin-unreachable)\n").forwarded(why).says("detail=origin-unreachable");
        got.has("cache-control", "no-store").has("content-type", "text/plain; charset=utf-8").does_not_say("stored");
    }
    assert_eq!(world.metric("sidecache_origin_requests_total{result=\"failed\"}").await, 2.0);

    // At once, that is: the quickest of some, on a machine that does other things as well.
    let mut quickest = secs(60);
    for _ in 0..20 {
        let begun = Instant::now();
        world.get("/past/a").await.status(502);
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < millis(50), "{quickest:?}");
}

#[tokio::test]
async fn when_no_head_comes_in_time_the_answer_is_504() {
    let world = World::with(|config| config.origin.first_byte_timeout = millis(100)).await;
    for path in ["/past/a", "/a"] {
        world.origin.reply(path, Reply::new("late").behind(&Gate::closed()));
        let got = world.get(path).await;
        got.status(504).is("sidecache: Gateway Timeout (origin-first-byte-timeout)\n").says("detail=origin-first-byte-timeout");
    }
}

#[tokio::test]
async fn the_time_to_the_first_octet_does_not_limit_the_body() {
    let world = World::with(|config| config.origin.first_byte_timeout = millis(100)).await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/past/a", reply);
    let mut got = world.get("/past/a").streaming().await;
    // Three pieces, each later than the head was allowed to be.
    for piece in ["one", "two", "three"] {
        tokio::time::sleep(millis(120)).await;
        sending.send(piece);
        assert_eq!(got.next().await, piece);
    }
    drop(sending);
    got.whole().await.is("");
}

#[tokio::test]
async fn a_request_whose_pooled_connection_turns_out_dead_is_sent_once_more() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for (round, path) in ["/past/a", "/a"].into_iter().enumerate() {
        let asked = world.get("/past/first").spawn();
        let mut pooled = origin.accept().await;
        pooled.head().await;
        pooled.send(ONE).await;
        asked.await.unwrap().is("one");

        let asked = world.get(path).spawn();
        assert!(pooled.head().await.starts_with(&format!("GET {path} ")));
        drop(pooled);
        let mut fresh = origin.accept().await;
        assert!(fresh.head().await.starts_with(&format!("GET {path} ")));
        fresh.send(ONE.replace("200 OK\r\n", "200 OK\r\nConnection: close\r\n")).await;
        asked.await.unwrap().status(200).is("one");
        assert_eq!(world.metric("sidecache_origin_requests_total{result=\"retried\"}").await, round as f64 + 1.0);
    }
}

#[tokio::test]
async fn a_request_is_not_sent_a_third_time() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let asked = world.get("/past/first").spawn();
    let mut pooled = origin.accept().await;
    pooled.head().await;
    pooled.send(ONE).await;
    asked.await.unwrap();

    let asked = world.get("/past/a").spawn();
    pooled.head().await;
    drop(pooled);
    let mut second = origin.accept().await;
    second.head().await;
    drop(second);
    asked.await.unwrap().status(502).says("detail=origin-closed");
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for body in ["", "body"] {
        let asked = world.ask("POST", "/past/first").body(body).spawn();
        let mut pooled = origin.accept().await;
        pooled.head().await;
        pooled.octets(body.len()).await;
        pooled.send(ONE).await;
        asked.await.unwrap().is("one");

        let asked = world.ask("POST", "/past/a").body(body).spawn();
        assert!(pooled.head().await.starts_with("POST "));
        drop(pooled);
        asked.await.unwrap().status(502).says("detail=origin-closed");
    }
    assert_eq!(world.metric("sidecache_origin_requests_total{result=\"retried\"}").await, 0.0);
}

#[tokio::test]
async fn a_post_is_not_given_a_connection_that_was_idle_for_long() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut connections = Vec::new();
    for _ in 0..2 {
        let asked = world.ask("POST", "/past/a").body("body").spawn();
        let mut connection = origin.accept().await;
        connection.head().await;
        connection.octets(4).await;
        connection.send(ONE).await;
        asked.await.unwrap().is("one");
        // What the origin would see is that time passes.
        tokio::time::sleep(millis(1100)).await;
        connections.push(connection);
    }
}

#[tokio::test]
async fn a_new_connection_that_closes_without_an_answer_is_no_reason_to_try_again() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let asked = world.get("/a").spawn();
    let mut connection = origin.accept().await;
    connection.head().await;
    drop(connection);
    asked.await.unwrap().status(502).says("detail=origin-closed");
}

#[tokio::test]
async fn an_answer_before_the_upload_has_ended_reaches_the_client() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send("POST /past/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nbeginning").await;
    let mut connection = origin.accept().await;
    connection.head().await;
    connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(client.octets(2).await, "no");
}

#[tokio::test]
async fn an_upload_that_breaks_off_does_not_reach_the_origin_as_if_it_were_whole() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for framing in ["Content-Length: 100\r\n\r\nbeginning", "Transfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n"] {
        let mut client = world.raw().await;
        client.send(format!("POST /past/a HTTP/1.1\r\nHost: h\r\n{framing}")).await;
        let mut connection = origin.accept().await;
        connection.head().await;
        client.reset();
        let came = connection.rest().await;
        assert!(came.contains("beginning") && !came.ends_with("0\r\n\r\n"), "{came:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_only_it_was_waiting_for() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send("GET /past/a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut connection = origin.accept().await;
    connection.head().await;
    client.reset();
    assert_eq!(connection.rest().await, "");
}

/// Who ends his side of a connection is taken for one who has left: until something is written to him the two look alike, and the origin
/// would go on working for everybody who does not wait. So it is in nginx; HAProxy goes on.
#[tokio::test]
async fn a_client_that_ends_its_side_has_left() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send("GET /past/a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut behind = origin.accept().await;
    behind.head().await;
    client.finish().await;
    assert_eq!(behind.rest().await, "", "nobody waits for it any more");
    assert_eq!(client.rest().await, "");
}

//! What the origin says before its response: 103 (Early Hints) and its like.

use crate::world::{ASKS_FOR_WEBSOCKET, Client, OPENS_WEBSOCKET, RawOrigin, World, eventually, secs};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>; rel=preload\r\n\r\n";
const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\
                      via: 1.1 sidecache\r\n\r\n";
const PROCESSING: &str = "HTTP/1.1 102 Processing\r\nX-Done: 1\r\n\r\n";
const PROCESSED: &str = "HTTP/1.1 102 Processing\r\nx-done: 1\r\nvia: 1.1 sidecache\r\n\r\n";
const ONE: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\none";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

async fn before_octets() -> (RawOrigin, World) {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    (origin, world)
}

#[tokio::test]
async fn an_early_hint_reaches_the_client_while_the_response_is_still_to_come() {
    let (origin, world) = before_octets().await;
    for path in ["/past/a", "/a"] {
        let mut client = world.raw().await;
        client.send(get(path)).await;
        let mut behind = origin.accept().await;
        behind.head().await;
        behind.send(HINTS).await;
        assert_eq!(client.head().await, HINTED);
        behind.send(ONE.replace("200 OK", "200 OK\r\nConnection: close")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("link"), "{head}");
        assert_eq!(client.octets(3).await, "one");
    }
}

#[tokio::test]
async fn a_hit_has_nothing_of_what_came_before_the_response() {
    let (origin, world) = before_octets().await;
    let mut client = world.raw().await;
    client.send(get("/a")).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    behind.send(format!("{HINTS}{ONE}")).await;
    assert_eq!(client.head().await, HINTED);
    client.head().await;
    assert_eq!(client.octets(3).await, "one");
    let head = client.ask(get("/a")).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("; hit"), "{head}");
    assert!(!head.contains("link") && !head.contains("x-done"), "{head}");
    assert_eq!(client.octets(3).await, "one");
}

#[tokio::test]
async fn several_come_in_their_order_and_those_that_are_unknown_too() {
    let (origin, world) = before_octets().await;
    let mut client = world.raw().await;
    client.send(get("/a")).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    behind
        .send(format!("{PROCESSING}{HINTS}HTTP/1.1 199 Something\r\nContent-Length: 7\r\nX-A: 1\r\n\r\n{PROCESSING}{ONE}"))
        .await;
    for expected in [PROCESSED, HINTED, "HTTP/1.1 199 \r\nx-a: 1\r\nvia: 1.1 sidecache\r\n\r\n", PROCESSED] {
        assert_eq!(client.head().await, expected);
    }
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.octets(3).await, "one");
}

#[tokio::test]
async fn a_100_continue_of_the_origin_is_not_passed_on() {
    let (origin, world) = before_octets().await;
    origin.always("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
    let head = world.raw().await.ask(get("/past/a")).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
}

#[tokio::test]
async fn clients_of_http_1_0_and_of_http_2_get_the_response_alone() {
    let (origin, world) = before_octets().await;
    origin.always("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
    for path in ["/past/a", "/a"] {
        let mut client = world.raw().await;
        let head = client.ask(format!("GET {path} HTTP/1.0\r\nHost: h\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("link"), "{head}");
        assert_eq!(client.rest().await, "one");
    }
    for path in ["/past/b", "/b"] {
        Client::http2(world.sidecar.address).get(path).await.status(200).is("one").has("link", "");
    }
}

#[tokio::test]
async fn they_are_for_the_one_who_leads_a_fetch_and_not_for_those_who_follow() {
    let (origin, world) = before_octets().await;
    let (mut leader, mut follower) = (world.raw().await, world.raw().await);
    leader.send(get("/a")).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    follower.send(get("/a")).await;
    eventually("the second follows", async || world.stats().await["followers"] == 1).await;
    behind.send(HINTS).await;
    assert_eq!(leader.head().await, HINTED);
    behind.send(ONE).await;
    for client in [&mut leader, &mut follower] {
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.octets(3).await, "one");
    }
}

#[tokio::test]
async fn one_that_is_too_large_is_dropped_and_the_response_arrives() {
    let (origin, world) = before_octets().await;
    let mut client = world.raw().await;
    client.send(get("/a")).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    behind.send(format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n{PROCESSING}{ONE}", "a".repeat(20 << 10))).await;
    assert_eq!(client.head().await, PROCESSED);
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.octets(3).await, "one");
}

#[tokio::test]
async fn pipelined_requests_hear_each_of_their_own_in_order() {
    let (origin, world) = before_octets().await;
    let mut client = world.raw().await;
    client.send(get("/past/a") + &get("/b") + &get("/past/c")).await;
    for path in ["/past/a", "/b", "/past/c"] {
        let mut behind = origin.accept().await;
        assert!(behind.head().await.starts_with(&format!("GET {path} ")));
        let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <{path}>\r\n\r\n");
        let response = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nX-Path: {path}\r\nContent-Length: 3\r\n\r\none");
        behind.send(hint + &response).await;
    }
    for path in ["/past/a", "/b", "/past/c"] {
        assert_eq!(client.head().await, format!("HTTP/1.1 103 Early Hints\r\nlink: <{path}>\r\nvia: 1.1 sidecache\r\n\r\n"));
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(&format!("x-path: {path}\r\n")), "{head}");
        assert_eq!(client.octets(3).await, "one");
    }
}

#[tokio::test]
async fn an_origin_that_dies_after_a_hint_is_502() {
    let (origin, world) = before_octets().await;
    for path in ["/past/a", "/a"] {
        let mut client = world.raw().await;
        client.send(get(path)).await;
        let mut behind = origin.accept().await;
        behind.head().await;
        behind.send(HINTS).await;
        assert_eq!(client.head().await, HINTED);
        drop(behind);
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 502 ") && head.contains("detail=origin-closed"), "{head}");
    }
}

#[tokio::test]
async fn a_request_that_is_sent_once_more_is_heard_of_as_well() {
    let (origin, world) = before_octets().await;
    for path in ["/past/a", "/a"] {
        let mut client = world.raw().await;
        client.send(get("/past/first")).await;
        let mut pooled = origin.accept().await;
        pooled.head().await;
        pooled.send(ONE).await;
        client.head().await;
        client.octets(3).await;

        client.send(get(path)).await;
        pooled.head().await;
        drop(pooled);
        let mut fresh = origin.accept().await;
        fresh.head().await;
        fresh.send(HINTS).await;
        assert_eq!(client.head().await, HINTED);
        fresh.send(ONE.replace("200 OK", "200 OK\r\nConnection: close")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.octets(3).await, "one");
    }
}

#[tokio::test]
async fn a_validation_and_what_is_asked_after_a_wrong_answer_to_it_are_heard_of_as_well() {
    let (origin, world) = before_octets().await;
    let mut client = world.raw().await;
    for answers in [
        &["HTTP/1.1 200 OK\r\nCache-Control: max-age=1\r\nETag: \"a\"\r\nConnection: close\r\nContent-Length: 3\r\n\r\none"][..],
        &["HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\nConnection: close\r\n\r\n", ONE],
    ] {
        client.send(get("/a")).await;
        for answer in answers {
            let mut behind = origin.accept().await;
            behind.head().await;
            behind.send(HINTS).await;
            assert_eq!(client.head().await, HINTED);
            behind.send(answer).await;
        }
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(client.octets(3).await, "one");
        world.clock.advance(secs(2));
    }
}

#[tokio::test]
async fn a_client_that_waits_to_send_its_body_hears_both_of_the_sidecar_and_of_the_origin() {
    let (origin, world) = before_octets().await;
    let mut client = world.raw().await;
    client.send("POST /past/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let mut behind = origin.accept().await;
    behind.head().await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    behind.send(HINTS).await;
    assert_eq!(client.head().await, HINTED);
    client.send("body").await;
    assert_eq!(behind.octets(4).await, "body");
    behind.send(ONE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.octets(3).await, "one");
}

#[tokio::test]
async fn a_websocket_may_have_a_hint_before_it_and_nothing_in_it() {
    let (origin, world) = before_octets().await;
    let mut client = world.raw().await;
    client.send(format!("GET /chat HTTP/1.1\r\nHost: h\r\n{ASKS_FOR_WEBSOCKET}\r\n\r\n")).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    behind.send(HINTS).await;
    assert_eq!(client.head().await, HINTED);
    behind.send(OPENS_WEBSOCKET).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    behind.send(HINTS).await;
    assert_eq!(client.octets(HINTS.len()).await, HINTS);
    client.send("one").await;
    assert_eq!(behind.octets(3).await, "one");
}

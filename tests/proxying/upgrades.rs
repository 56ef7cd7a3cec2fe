//! Connections that stop to speak HTTP.

use crate::world::{OPENS_WEBSOCKET, RawClient, RawConnection, RawOrigin, World};
use sidecache::rules::{Pattern, Route};
use std::time::Duration;

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[tokio::test]
async fn a_websocket_is_bridged_both_ways() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send(WEBSOCKET).await;
    let mut behind = origin.accept().await;
    let asked = behind.head().await.to_lowercase();
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: dghlihnhbxbszsbub25jzq=="] {
        assert!(asked.contains(&format!("\r\n{line}\r\n")), "{line} is not in {asked}");
    }
    // What follows the head at once belongs to the new protocol already.
    behind.send(format!("{OPENS_WEBSOCKET}hello")).await;
    let answered = client.head().await.to_lowercase();
    assert!(answered.starts_with("http/1.1 101 "), "{answered}");
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="] {
        assert!(answered.contains(&format!("\r\n{line}\r\n")), "{line} is not in {answered}");
    }
    assert_eq!(client.octets(5).await, "hello");
    for (message, reply) in [("one", "uno"), ("two", "due")] {
        client.send(message).await;
        assert_eq!(behind.octets(3).await, message);
        behind.send(reply).await;
        assert_eq!(client.octets(3).await, reply);
    }
    client.finish().await;
    assert_eq!(behind.rest().await, "");
    behind.send("bye").await;
    drop(behind);
    assert_eq!(client.rest().await, "bye");
}

#[tokio::test]
async fn an_origin_may_decline_a_websocket() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno");
    let mut client = world.raw().await;
    let head = client.ask(WEBSOCKET).await;
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    assert_eq!(client.octets(2).await, "no");
}

#[tokio::test]
async fn a_request_for_another_protocol_is_answered_in_http() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send("GET /past/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n").await;
    let mut behind = origin.accept().await;
    let asked = behind.head().await.to_lowercase();
    assert!(!asked.contains("upgrade"), "{asked}");
    behind.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(client.octets(3).await, "one");
}

#[tokio::test]
async fn an_origin_that_switches_unasked_is_not_followed() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always(OPENS_WEBSOCKET);
    for path in ["/past/a", "/a"] {
        world.get(path).await.status(502);
    }
}

/// A world in which `/exec/…` may become two other protocols, and what the origin is asked when a client sends these octets.
async fn asked(octets: &str) -> (World, RawClient, RawConnection, String) {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |config| {
        let pattern = Pattern::parse("/exec/{id}").unwrap();
        config.routes.push(Route {
            upgrade: vec!["tcp".to_owned(), "example/2".to_owned()],
            ..Route::new("exec", pattern, Duration::from_secs(60))
        });
    })
    .await;
    let mut client = world.raw().await;
    client.send(octets).await;
    let mut behind = origin.accept().await;
    let head = behind.head().await;
    (world, client, behind, head)
}

fn asks(request: &str, protocols: &str) -> String {
    format!("{request} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: {protocols}\r\n\r\n")
}

#[tokio::test]
async fn a_route_may_allow_other_protocols() {
    let with_length = asks("POST /exec/1", "tcp").replace("Host", "Content-Length: 0\r\nHost");
    for (octets, expected, answered, agreed) in [
        (asks("GET /exec/1", "tcp"), "tcp", "tcp", "tcp"),
        (with_length, "tcp", "TCP", "TCP"),
        (asks("GET /exec/1", "other, TCP, Example/2, example/3"), "TCP, Example/2", "example/2", "example/2"),
        (asks("GET /exec/1?a=b", "example/2\r\nUpgrade: tcp"), "example/2, tcp", "tcp, example/2", "tcp, example/2"),
    ] {
        let (world, mut client, mut behind, head) = asked(&octets).await;
        let upgrade = |head: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let named = lines.filter(|(name, _)| name.eq_ignore_ascii_case("upgrade")).map(|(_, value)| value.to_owned());
            named.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(upgrade(&head), expected, "{head}");
        assert!(head.to_lowercase().contains("\r\nconnection: upgrade\r\n"), "{head}");
        behind.send(format!("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: {answered}\r\n\r\nfirst")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(upgrade(&head), agreed, "{head}");
        assert!(head.to_lowercase().contains("detail=upgrade"), "{head}");
        assert_eq!(client.octets(5).await, "first");
        client.send("GET / HTTP/1.1\n\n").await;
        assert_eq!(behind.octets(16).await, "GET / HTTP/1.1\n\n");
        client.finish().await;
        assert_eq!(behind.rest().await, "");
        behind.send("bye").await;
        drop(behind);
        assert_eq!(client.rest().await, "bye");
        drop(world);
    }
}

#[tokio::test]
async fn what_no_route_allows_is_answered_in_http() {
    let with_body = asks("POST /exec/1", "tcp").replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi");
    for octets in [
        asks("GET /other/1", "tcp"),
        asks("GET /exec/1/2", "tcp"),
        asks("GET /exec/1", "tcp/1, example, example/3, h2c"),
        // These may be other paths to those behind.
        asks("GET /exec//1", "tcp"),
        asks("GET /exec/..", "tcp"),
        asks("GET /exec/a%2fb", "tcp"),
        asks("GET /exec/1", "tcp").replace("HTTP/1.1", "HTTP/1.0"),
        asks("GET /exec/1", "tcp").replace("Connection: Upgrade\r\n", ""),
        with_body,
    ] {
        let (_world, mut client, mut behind, head) = asked(&octets).await;
        assert!(!head.to_lowercase().contains("upgrade"), "{octets:?} became {head:?}");
        behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let head = client.head().await;
        assert!(head.split(' ').nth(1) == Some("200"), "{octets:?} was answered {head:?}");
    }
}

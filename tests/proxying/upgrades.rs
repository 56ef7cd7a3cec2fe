//! Connections that stop to speak HTTP.

use crate::world::{OPENS_WEBSOCKET, RawOrigin, World};

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

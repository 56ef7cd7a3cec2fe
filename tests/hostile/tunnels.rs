//! Connections that are to stop to speak HTTP: nothing is tunnelled that might be a request, and nothing read twice.

use crate::Stage;
use crate::world::{ASKS_FOR_WEBSOCKET, OPENS_WEBSOCKET, RawClient, RawConnection, RawOrigin, World};

const WEBSOCKET: &str = "GET /past/chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const SMUGGLED: &str = "GET /past/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A world, a client that has sent these octets, and the connection on which the origin has their first head.
async fn asked(octets: &str) -> (World, RawOrigin, RawClient, RawConnection) {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send(octets).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    (world, origin, client, behind)
}

#[tokio::test]
async fn what_is_sent_early_goes_nowhere_before_the_origin_has_switched() {
    let (_world, _origin, mut client, mut behind) = asked(&format!("{WEBSOCKET}{SMUGGLED}")).await;
    assert_eq!(behind.unread(), "");
    behind.send(OPENS_WEBSOCKET).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    // It was asked for as another protocol, and is that: once, and to nobody else.
    assert_eq!(behind.octets(SMUGGLED.len()).await, SMUGGLED);
    behind.send("pong").await;
    assert_eq!(client.octets(4).await, "pong");
    client.finish().await;
    assert_eq!(behind.rest().await, "");
}

#[tokio::test]
async fn what_is_sent_early_is_no_request_where_the_origin_does_not_switch() {
    for status in ["200 OK", "400 Bad Request", "403 Forbidden", "426 Upgrade Required", "500 No"] {
        let (world, origin, mut client, mut behind) = asked(&format!("{WEBSOCKET}{SMUGGLED}{SMUGGLED}")).await;
        assert_eq!(behind.unread(), "");
        behind.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno")).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.ends_with("no"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        // The next one at the origin is of somebody else.
        let asked = world.get("/past/other").spawn();
        let head = behind_or_new(&mut behind, &origin).await;
        assert!(head.starts_with("GET /past/other "), "{head}");
        drop(asked);
    }
}

/// The next head, on the connection that there was or on a new one.
async fn behind_or_new(behind: &mut RawConnection, origin: &RawOrigin) -> String {
    tokio::select! {
        Some(head) = behind.try_head() => head,
        mut new = origin.accept() => new.head().await,
    }
}

#[tokio::test]
async fn a_connection_goes_on_as_http_and_is_read_as_strictly_after_an_upgrade_that_was_declined() {
    for bad in [
        "POST /past/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /past/b HTTP/1.1\nHost: h\n\n",
    ] {
        let (_world, _origin, mut client, mut behind) = asked(WEBSOCKET).await;
        behind.send(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        client.octets(2).await;
        client.send("GET /past/a HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(behind.head().await.starts_with("GET /past/a "));
        behind.send(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        client.octets(2).await;
        client.send(format!("{bad}{SMUGGLED}")).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(behind.unread(), "");
    }
}

#[tokio::test]
async fn an_upgrade_before_or_behind_other_requests_switches_nothing_off() {
    let stage = Stage::set().await;
    let plain = "GET /past/a HTTP/1.1\r\nHost: h\r\n\r\n";
    let bad = "POST /past/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (octets, statuses) in [
        (format!("{plain}{WEBSOCKET}"), vec!["200", "200"]),
        (format!("{plain}{WEBSOCKET}{bad}{SMUGGLED}"), vec!["200", "200"]),
        (format!("{WEBSOCKET}{WEBSOCKET}{SMUGGLED}"), vec!["200"]),
        (format!("{plain}{plain}{WEBSOCKET}{plain}"), vec!["200", "200", "200"]),
    ] {
        let mut client = stage.world.raw().await;
        client.send(&octets).await;
        client.finish().await;
        let answer = client.rest().await;
        let heard: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(heard, statuses[..heard.len()], "{octets:?} was answered {answer:?}");
        assert!(stage.origin.requests().iter().all(|request| request.target() != "/past/smuggled"));
    }
}

#[tokio::test]
async fn only_a_get_without_a_body_becomes_a_websocket() {
    let fields = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13";
    for request in [
        format!("POST /past/a HTTP/1.1\r\n{fields}\r\nContent-Length: 0\r\n\r\n"),
        format!("POST /past/a HTTP/1.1\r\n{fields}\r\nContent-Length: 3\r\n\r\none"),
        format!("GET /past/a HTTP/1.1\r\n{fields}\r\nContent-Length: 3\r\n\r\none"),
        format!("GET /past/a HTTP/1.1\r\n{fields}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n"),
        format!("GET /past/a HTTP/1.0\r\n{fields}\r\n\r\n"),
        "GET /past/a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "GET /past/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n".to_owned(),
        "GET /past/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"
            .to_owned(),
        "GET /past/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n".to_owned(),
        "GET /past/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n".to_owned(),
    ] {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        let mut client = world.raw().await;
        client.send(&request).await;
        let mut behind = origin.accept().await;
        let head = behind.head().await.to_lowercase();
        assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{request:?} became {head:?}");
        // The origin switches all the same.
        behind.send(format!("{OPENS_WEBSOCKET}{OK}")).await;
        let answer = client.head().await;
        assert!(answer.split(' ').nth(1) == Some("502"), "{request:?} was answered {answer:?}");
    }
}

#[tokio::test]
async fn an_origin_that_switches_to_something_else_is_not_followed() {
    let accepted = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket";
    for fields in [
        &format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{accepted}"),
        &format!("Connection: Upgrade\r\nUpgrade: foo\r\n{accepted}"),
        &format!("Connection: Upgrade\r\n{accepted}"),
        "X-A: 1",
        // Who has not read the key may not have read that the connection is to become another.
        websocket,
        &format!("{websocket}\r\nSec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ=="),
        &format!("{websocket}\r\nSec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO="),
        &format!("{websocket}\r\nSec-WebSocket-Accept:"),
        &format!("{websocket}\r\n{accepted}\r\n{accepted}"),
    ] {
        is_not_followed(asked(WEBSOCKET).await, fields).await;
    }
}

/// The origin answers what was asked with a 101 that has these fields, and nobody hears anything further of it.
async fn is_not_followed((_world, _origin, mut client, mut behind): (World, RawOrigin, RawClient, RawConnection), fields: &str) {
    behind.send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\nsecret")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{fields:?}: {head}");
    client.send(SMUGGLED).await;
    assert_eq!(behind.rest().await, "", "{fields:?}");
}

#[tokio::test]
async fn a_websocket_that_is_asked_for_without_what_opens_one_is_refused() {
    let stage = Stage::set().await;
    for (from, to) in [
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key:"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: c2hvcnQ="),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version"),
        ("\r\nSec-WebSocket-Version: 13", ""),
        ("Version: 13", "Version: thirteen"),
        ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 8"),
    ] {
        let fields = ASKS_FOR_WEBSOCKET.replace(from, to);
        for path in ["/past/a", "/a"] {
            stage.refuses(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{SMUGGLED}")).await;
        }
    }
    // Which versions there are is the origin's to say.
    let head = stage.world.raw().await.ask(WEBSOCKET.replace("Version: 13", "Version: 25")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

/// A world whose only cached route may become another protocol.
async fn asked_for_tcp(more: &str) -> (World, RawOrigin, RawClient, RawConnection) {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |config| config.routes[0].upgrade = vec!["tcp".to_owned()]).await;
    let mut client = world.raw().await;
    client.send(format!("GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n{more}")).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    (world, origin, client, behind)
}

#[tokio::test]
async fn an_origin_that_switches_to_what_was_not_asked_for_is_not_followed() {
    for fields in ["X-A: 1", "Upgrade:", "Upgrade: other", "Upgrade: tcp, other", "Upgrade: websocket", "Upgrade: tcp/2"] {
        is_not_followed(asked_for_tcp("").await, &format!("Connection: Upgrade\r\n{fields}")).await;
    }
}

#[tokio::test]
async fn what_is_sent_behind_a_request_for_an_allowed_protocol_waits_for_the_origin() {
    let (_world, _origin, mut client, mut behind) = asked_for_tcp(SMUGGLED).await;
    assert_eq!(behind.unread(), "");
    behind.send("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(behind.octets(SMUGGLED.len()).await, SMUGGLED);
    // Where it declines, nobody reads it, as the one or as the other; and the answer to such a request is not stored.
    let (world, origin, mut client, mut behind) = asked_for_tcp(SMUGGLED).await;
    behind.send(OK).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("detail=upgrade"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(behind.unread(), "");
    let other = world.get("/a").spawn();
    let head = behind_or_new(&mut behind, &origin).await;
    assert!(head.starts_with("GET /a ") && !head.to_lowercase().contains("upgrade"), "{head}");
    drop(other);
}

//! Heads of responses that are no heads, that are too large, or that can be read in two ways.

use crate::world::{RawOrigin, World};

/// Sends these octets for a response, and keeps the connection open: nothing of them reaches a client or the cache, and nothing
/// else is asked for on that connection.
async fn is_refused(method: &str, octets: &[u8]) {
    let said = String::from_utf8_lossy(&octets[..octets.len().min(100)]).into_owned();
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for path in ["/a", "/past/a"] {
        let asked = world.ask(method, path).spawn();
        let mut dubious = origin.accept().await;
        dubious.head().await;
        dubious.send(octets).await;
        let got = asked.await.unwrap();
        assert_eq!(got.status, 502, "{said:?} to {method} {path}: {got:?}");
        got.says("detail=origin-invalid-response").does_not_say("stored").has("cache-control", "no-store");

        let asked = world.ask(method, path).spawn();
        let mut fresh = origin.accept().await;
        fresh.head().await;
        fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n").await;
        asked.await.unwrap().status(200).is("").does_not_say("hit");
        assert_eq!(dubious.unread(), "", "{said:?}");
    }
    assert_eq!(world.stats().await["total_keys"], 0, "{said:?}");
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    for octets in [
        &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
        b"<html>hello</html>",
        b"hello\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
        b"\xff\xfe\xfd",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        is_refused("GET", octets).await;
    }
}

#[tokio::test]
async fn a_field_that_is_none_is_refused() {
    for line in [
        &b"X-A"[..],
        b"X-A 1",
        b"X A: 1",
        b"X-A : 1",
        b"X-A\t: 1",
        b": 1",
        b" X-A: 1",
        b"X-B: 1\r\n folded",
        b"X-B: 1\r\n\tfolded",
        b"X-A: a\0b",
        b"X\0A: 1",
        b"X-A: a\rb",
        b"X-A: a\rX-B: b",
        b"X-A: a\x01b",
        b"X-A: a\x7fb",
        b"X(A): 1",
    ] {
        is_refused("GET", &[b"HTTP/1.1 200 OK\r\n", line, b"\r\nContent-Length: 3\r\n\r\none"].concat()).await;
    }
    is_refused("GET", b"HTTP/1.1 200 O\0K\r\nContent-Length: 3\r\n\r\none").await;
    is_refused("GET", b"HTTP/1.1 200 O\rK\r\nContent-Length: 3\r\n\r\none").await;
}

#[tokio::test]
async fn a_length_that_is_none_or_several_is_refused() {
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 2",
        "Content-Length: 3,",
        "Content-Length:",
        "Content-Length: -3",
        "Content-Length: +3",
        "Content-Length: 3.0",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
    ] {
        for (method, status) in [("GET", "200 OK"), ("HEAD", "200 OK"), ("GET", "204 No Content")] {
            is_refused(method, format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n").as_bytes()).await;
        }
    }
}

#[tokio::test]
async fn a_length_beside_a_coding_is_refused() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Transfer-Encoding: identity\r\nContent-Length: 3",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: x\r\nTransfer-Encoding: chunked",
    ] {
        for body in ["", "3\r\none\r\n0\r\n\r\n", "one"] {
            is_refused("GET", format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}").as_bytes()).await;
        }
        is_refused("HEAD", format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes()).await;
    }
    is_refused("GET", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_coding_that_is_not_chunked_is_refused() {
    for value in ["identity", "gzip", "gzip, chunked", "chunked, chunked", "xchunked", "chunked;q=1", "\"chunked\"", ""] {
        for body in ["3\r\none\r\n0\r\n\r\n", "one"] {
            is_refused("GET", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n{body}").as_bytes()).await;
        }
    }
    let two = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x-own\r\n\r\n3\r\none\r\n0\r\n\r\n";
    is_refused("GET", two.as_bytes()).await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    is_refused("GET", format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: 1\r\n".repeat(5_000)).as_bytes()).await;
    is_refused("GET", format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: 1\r\n".repeat(201)).as_bytes()).await;
    is_refused("GET", format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(1 << 20)).as_bytes()).await;
    // It is not waited for whether there is an end.
    is_refused("GET", format!("HTTP/1.1 200 OK\r\nX-A: {}", "a".repeat(1 << 20)).as_bytes()).await;
    is_refused("GET", format!("HTTP/1.1 200 {}", "a".repeat(1 << 20)).as_bytes()).await;
}

#[tokio::test]
async fn a_head_that_breaks_off_is_no_answer() {
    for octets in
        ["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "HTTP/1.1 2", "HT", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
    {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        for path in ["/a", "/past/a"] {
            let asked = world.get(path).spawn();
            let mut connection = origin.accept().await;
            connection.head().await;
            connection.send(octets).await;
            drop(connection);
            asked.await.unwrap().status(502).does_not_say("stored");
        }
        assert_eq!(world.stats().await["total_keys"], 0, "{octets:?}");
    }
}

#[tokio::test]
async fn what_follows_a_response_without_a_body_is_nobodys() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for (method, response) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        let asked = world.ask(method, "/past/a").with("if-none-match", "\"1\"").spawn();
        let mut lavish = origin.accept().await;
        lavish.head().await;
        lavish.send(format!("{response}{forged}")).await;
        assert!(asked.await.unwrap().status.as_u16() < 400);

        let asked = world.get("/past/a").spawn();
        let mut fresh = origin.accept().await;
        fresh.head().await;
        fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh").await;
        asked.await.unwrap().is("fresh");
    }
}

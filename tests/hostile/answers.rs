//! What an origin answers that has lost its place, or is made to: it reaches nobody whom it is not for, and is not stored.

use crate::world::{RawOrigin, World, eventually};

/// What the origin says before a request is what nobody has asked for.
#[tokio::test]
async fn a_response_that_comes_before_its_request_is_nobodys() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for path in ["/past/a", "/a"] {
        let asked = world.get(path).with("cache-control", "no-cache").spawn();
        let mut first = origin.accept().await;
        first.head().await;
        first.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await;
        asked.await.unwrap().is("one");
        // The connection is idle now, and there is a second response on it.
        first.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await;
        assert_eq!(first.rest().await, "", "it is closed");
        let asked = world.get(path).with("cache-control", "no-cache").spawn();
        let mut second = origin.accept().await;
        second.head().await;
        second.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo").await;
        asked.await.unwrap().is("two");
        drop(second);
    }
}

#[tokio::test]
async fn what_is_left_over_after_a_response_is_nobodys() {
    for (first, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", "one"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none\r\n", "one"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nonetwo", "one"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
            "3\r\none\r\n0\r\n\r\n",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", ""),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nforged", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nforged", ""),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nforged\r\n0\r\n\r\n", ""),
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", ""),
    ] {
        for path in ["/past/a", "/a"] {
            let origin = RawOrigin::start().await;
            let world = World::at(&origin.address, |_| {}).await;
            let mut client = world.raw().await;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"1\"\r\n\r\n")).await;
            let mut lavish = origin.accept().await;
            lavish.head().await;
            lavish.send(first).await;
            client.head().await;
            assert_eq!(client.octets(body.len()).await, body, "{first:?}");
            client.send("GET /past/b HTTP/1.1\r\nHost: h\r\n\r\n").await;
            let mut fresh = origin.accept().await;
            assert!(fresh.head().await.starts_with("GET /past/b "), "{first:?}");
            fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh").await;
            assert!(client.head().await.starts_with("HTTP/1.1 200 "), "{first:?}");
            assert_eq!(client.octets(5).await, "fresh", "{first:?}");
            assert_eq!(client.unread(), "", "{first:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_whose_request_is_not_at_its_end_is_not_used_again() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send("POST /past/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nbegun").await;
    let mut early = origin.accept().await;
    early.head().await;
    early.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(client.octets(5).await, "early");
    let asked = world.get("/past/b").spawn();
    let mut fresh = origin.accept().await;
    assert!(fresh.head().await.starts_with("GET /past/b "));
    fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh").await;
    asked.await.unwrap().is("fresh");
    drop(client);
    // All that came there is of the one request.
    let sent = early.rest().await;
    assert!("begun".starts_with(&sent), "{sent:?}");
}

#[tokio::test]
async fn a_client_that_leaves_before_its_body_ends_leaves_no_connection_behind() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for framing in ["Content-Length: 100\r\n\r\nbegun", "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"] {
        let mut client = world.raw().await;
        client.send(format!("POST /past/a HTTP/1.1\r\nHost: h\r\n{framing}")).await;
        let mut behind = origin.accept().await;
        behind.head().await;
        drop(client);
        let sent = behind.rest().await;
        assert!(!sent.contains("0\r\n\r\n"), "{sent:?}");
    }
}

#[tokio::test]
async fn a_flood_of_interim_responses_is_no_answer_and_takes_no_room() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for interim in
        ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
    {
        for path in ["/past/a", "/a"] {
            let asked = world.get(path).spawn();
            let mut behind = origin.accept().await;
            behind.head().await;
            let flood = interim.repeat(1000);
            let mut flooded = 0;
            eventually("the flood is given up", async || {
                behind.send(&flood).await;
                flooded += 1;
                asked.is_finished()
            })
            .await;
            asked.await.unwrap().status(502).says("detail=origin-invalid-response").does_not_say("stored");
            assert_eq!(behind.rest().await, "", "no further request comes over this connection");
        }
    }
    assert_eq!(world.stats().await["total_keys"], 0);
}

#[tokio::test]
async fn a_body_that_is_too_short_is_not_stored_and_seen_to_be_short() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\none",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\noneXX0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n-1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0x0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\nfffffffffffffffff\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\n\r\none\r\n0\r\n\r\n",
    ] {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        origin.always(response);
        for path in ["/a", "/past/a", "/a", "/past/a"] {
            let mut client = world.raw().await;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
            let answer = client.rest().await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
            let is_short = if head.contains("content-length: 9") { body.len() < 9 } else { !body.ends_with("0\r\n\r\n") };
            assert!(is_short && !answer.contains("hit"), "{response:?} became {answer:?}");
        }
        assert_eq!(world.stats().await["total_keys"], 0, "{response:?}");
    }
}

#[tokio::test]
async fn a_length_that_is_said_twice_is_said_once() {
    for fields in ["Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3, 3", "Content-Length: 03"] {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        origin.always(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\none").leak());
        for path in ["/past/a", "/a", "/a"] {
            world.get(path).await.is("one").has("content-length", "3");
        }
    }
}

#[tokio::test]
async fn a_field_that_somebody_has_written_into_another_is_no_field() {
    for injected in [
        "X-A: a\nSet-Cookie: evil=1",
        "X-A: a\nCache-Control: max-age=9999",
        "X-A: a\n\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "X-A: a\rSet-Cookie: evil=1",
        "X-A: a\0b",
    ] {
        for first in ["", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"] {
            let origin = RawOrigin::start().await;
            let world = World::at(&origin.address, |_| {}).await;
            origin.always(format!("{first}HTTP/1.1 200 OK\r\n{injected}\r\nContent-Length: 3\r\n\r\none").leak());
            for path in ["/a", "/past/a", "/a"] {
                let got = world.get(path).await;
                got.status(502).has("set-cookie", "").says("detail=origin-invalid-response").does_not_say("stored");
            }
        }
    }
    // An origin that ends all of its lines so has written them itself.
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always("HTTP/1.1 200 OK\nContent-Length: 3\n\none");
    world.get("/a").await.is("one").says("stored");
}

#[tokio::test]
async fn a_response_of_http_0_9_is_none() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always("<html>forged</html>\r\n\r\n");
    for path in ["/a", "/past/a"] {
        world.get(path).await.status(502).does_not_say("stored");
    }
}

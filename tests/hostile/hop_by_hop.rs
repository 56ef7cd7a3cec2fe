//! What is of one connection, and what a client says is.

use crate::Stage;
use crate::world::{RawOrigin, World};

#[tokio::test]
async fn connection_cannot_name_what_is_not_of_the_connection() {
    let stage = Stage::with(|config| config.routes[0].key_headers = vec!["x-tenant".parse().unwrap()]).await;
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Cache-Control",
        "Pragma",
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Content-Type",
        "Content-Encoding",
        "User-Agent",
        "Origin",
        "Referer",
        "Range",
        "If-None-Match",
        "If-Match",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "Cache-Status",
        "Age",
        "Vary",
        "Set-Cookie",
        "Max-Forwards",
        "Expect",
        "X-Request-Id",
        "Traceparent",
        "X-Tenant",
        "x_forwarded_for",
    ] {
        for line in [
            format!("Connection: {name}"),
            format!("Connection: keep-alive, {}", name.to_uppercase()),
            format!("Connection: close\r\nConnection: {}", name.to_lowercase()),
            format!("Connection: ,\t{name} ,"),
            format!("Connection: \"x, {name}"),
        ] {
            stage.refuses(format!("GET /a HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n")).await;
            stage.refuses(format!("GET /past/a HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n")).await;
        }
    }
}

#[tokio::test]
async fn connection_takes_away_what_nobody_else_knows() {
    let stage = Stage::set().await;
    let fields = "Connection: close, X-Own, X-Other, TE, Keep-Alive\r\nX-Own: evil\r\nx-other: evil\r\nX-Third: 3";
    let answer = stage.answer(format!("GET /past/a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = stage.origin.last();
    assert!(!seen.head.contains("evil") && seen.field("x-third") == Some("3"), "{seen:?}");
}

#[tokio::test]
async fn the_origin_cannot_take_away_what_its_responses_are_stored_by() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always(
        "HTTP/1.1 200 OK\r\nConnection: close, Cache-Control, Set-Cookie, Vary, Content-Encoding, Surrogate-Key, ETag, Age\r\n\
         Cache-Control: private\r\nSet-Cookie: a=b\r\nVary: Accept-Language\r\nContent-Encoding: x\r\nSurrogate-Key: k\r\n\
         ETag: \"1\"\r\nContent-Length: 3\r\n\r\none",
    );
    for path in ["/a", "/past/a"] {
        for _ in 0..2 {
            let got = world.get(path).await;
            got.is("one").has("cache-control", "private").has("set-cookie", "a=b").has("vary", "Accept-Language");
            got.has("content-encoding", "x").has("surrogate-key", "k").has("etag", "\"1\"").does_not_say("stored");
        }
    }
}

#[tokio::test]
async fn an_expectation_ends_here() {
    let stage = Stage::set().await;
    for expectation in
        ["200-ok", "100-continue, x", "100-continue,", "", "100 continue", "100-continue=1", "x\r\nExpect: 100-continue"]
    {
        for path in ["/a", "/past/a"] {
            let body = "Content-Length: 3\r\nConnection: close\r\n\r\none";
            let answer = stage.answer(format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: {expectation}\r\n{body}")).await;
            assert!(answer.starts_with("HTTP/1.1 417 "), "{expectation:?} was answered {answer:?}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{expectation:?} was answered {answer:?}");
        }
    }
    assert!(stage.origin.requests().is_empty());
    for expectation in ["100-continue", "100-Continue"] {
        let body = "Content-Length: 3\r\nConnection: close\r\n\r\none";
        let answer = stage.answer(format!("POST /past/a HTTP/1.1\r\nHost: h\r\nExpect: {expectation}\r\n{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), "{answer}");
        assert_eq!(stage.origin.last().field("expect"), None);
        assert_eq!(stage.origin.last().body.as_deref(), Some("one"));
    }
}

#[tokio::test]
async fn what_is_expected_before_a_body_that_nobody_wants_leaves_nothing_behind() {
    let stage = Stage::set().await;
    stage.goes_on(&mut stage.world.raw().await, "/a").await;
    let smuggled = "GET /past/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for path in ["/a", "/new"] {
        let mut client = stage.world.raw().await;
        let fields = format!("Expect: 100-continue\r\nContent-Length: {}", smuggled.len());
        let head = client.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        client.send(smuggled).await;
        let rest = client.rest().await;
        assert!(!rest.contains("HTTP/1.1"), "{rest}");
    }
    assert!(stage.origin.requests().iter().all(|request| request.target() != "/past/smuggled"));
}

#[tokio::test]
async fn options_go_as_far_as_the_client_says() {
    let stage = Stage::set().await;
    for (hops, expected) in
        [("5", Some("4")), ("1", Some("0")), ("x", None), ("-1", None), ("99999999999", None), ("1\r\nMax-Forwards: 2", None)]
    {
        stage.answer(format!("OPTIONS /past/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nMax-Forwards: {hops}\r\n\r\n")).await;
        assert_eq!(stage.origin.last().field("max-forwards"), expected, "{hops}");
    }
    let before = stage.origin.requests().len();
    for target in ["/past/a", "/a", "*"] {
        let answer =
            stage.answer(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nMax-Forwards: 0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.to_lowercase().contains("\r\nallow: "), "{answer}");
    }
    assert_eq!(stage.origin.requests().len(), before);
}

//! Fields that would have the origin, or another client, believe what is not so.

use crate::Stage;
use crate::world::{Client, RawOrigin, World};
use http::header::AUTHORIZATION;
use sidecache::rules::Share;

/// Asks with these field lines, past the cache and on a path that is cached, and gives what the origin saw.
async fn seen_with(stage: &Stage, fields: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for path in ["/past/a", "/a"] {
        let answer = stage.answer(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{fields:?} was answered {answer:?}");
        seen.extend(stage.origin.requests().last().map(|request| request.head.to_lowercase()));
    }
    seen
}

#[tokio::test]
async fn what_looks_like_another_field_to_some_does_not_reach_the_origin() {
    let stage = Stage::set().await;
    for name in [
        "content_length",
        "Content_Length",
        "transfer_encoding",
        "Transfer_Encoding",
        "transfer-encoding_",
        "x_forwarded_for",
        "X-Forwarded_For",
        "x_forwarded_host",
        "x_real_ip",
        "authorization_",
        "proxy_authorization",
        "set_cookie",
        "content_type",
        "content_encoding",
        "accept_encoding",
        "accept_language",
        "user_agent",
        "cache_control",
        "if_none_match",
        "x_http_method_override",
        "x_original_url",
        "keep_alive",
        "max_forwards",
        "http2_settings",
    ] {
        let value = "evil-value";
        for head in seen_with(&stage, &format!("{name}: {value}")).await {
            let is_known = !name.ends_with('_');
            assert!(!is_known || !head.contains(value), "{name} reached the origin: {head}");
        }
    }
}

#[tokio::test]
async fn what_would_steer_the_origin_does_not_reach_it() {
    let stage = Stage::set().await;
    for name in [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Override-URL",
        "X-Original-Host",
        "X-Host",
        "X-HTTP-Host-Override",
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Forwarded-Scheme",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-Forwarded-For",
        "X-Forwarded-By",
        "X-Forwarded-Ssl",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded",
        "Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "X-Client-IP",
        "Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Cluster-Client-IP",
        "X-Originating-IP",
        "X-Remote-IP",
        "X-Remote-Addr",
        "Front-End-Https",
        "X-Url-Scheme",
        "X-Scheme",
        "X-Script-Name",
        "X-HTTP-Method",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-Middleware-Subrequest",
        "X-Accel-Mapping",
        "Proxy",
        "HTTP2-Settings",
        "Proxy-Connection",
        "Keep-Alive",
        "Upgrade",
        "TE",
    ] {
        let value = "evil.example";
        for head in seen_with(&stage, &format!("{name}: {value}")).await {
            assert!(!head.contains(value), "{name} reached the origin: {head}");
        }
    }
}

#[tokio::test]
async fn what_would_steer_the_origin_is_in_no_answer_that_others_get() {
    let stage = Stage::set().await;
    for name in ["X-Forwarded-Host", "X-Forwarded-Scheme", "X-Original-URL", "X-HTTP-Method-Override", "X_Forwarded_Host"] {
        let path = format!("/{}", name.to_lowercase());
        let poisoned = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{name}: evil\r\n\r\n");
        let first = stage.answer(&poisoned).await;
        let second = stage.answer(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        for answer in [first, second] {
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&path), "{name}: {answer}");
        }
        assert!(stage.origin.requests().iter().all(|request| !request.head.contains("evil")));
    }
}

#[tokio::test]
async fn trailers_that_frame_or_steer_or_identify_do_not_reach_the_origin() {
    let stage = Stage::set().await;
    let forbidden = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: evil\r\nCookie: evil\r\n\
                     Cache-Control: evil\r\nContent-Type: evil\r\nX-Forwarded-For: evil\r\nX_Forwarded_For: evil\r\n\
                     X-HTTP-Method-Override: evil\r\nIf-Match: evil\r\nTrailer: evil\r\nConnection: evil\r\nExpect: evil\r\n";
    let names = forbidden.lines().filter_map(|line| line.split(':').next()).collect::<Vec<_>>().join(", ");
    for announced in ["X-Sum".to_owned(), format!("X-Sum, {names}")] {
        let head = format!(
            "POST /past/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: {announced}\r\nConnection: close"
        );
        let answer = stage.answer(format!("{head}\r\n\r\n3\r\none\r\n0\r\nX-Sum: 1\r\n{forbidden}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(stage.origin.last().body.as_deref(), Some("3\r\none\r\n0\r\nx-sum: 1\r\n\r\n"), "{announced}");
    }
}

#[tokio::test]
async fn trailers_that_control_do_not_reach_the_client() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum, Set-Cookie, Cache-Control, Cookie, Location, Content-Encoding, Age, X-Forwarded-For, Cache-Status, Vary\r\n\r\n\
         3\r\none\r\n0\r\nX-Sum: 1\r\nSet-Cookie: evil\r\nCache-Control: evil\r\nCookie: evil\r\nLocation: evil\r\n\
         Content-Encoding: evil\r\nAge: evil\r\nX-Forwarded-For: evil\r\nCache-Status: evil\r\nVary: evil\r\n\r\n",
    );
    for path in ["/past/a", "/a"] {
        let mut client = world.raw().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n")).await;
        let answer = client.rest().await;
        assert!(answer.ends_with("0\r\nx-sum: 1\r\n\r\n"), "{path}: {answer}");
        assert!(!answer.contains("evil"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn an_error_that_one_client_has_caused_is_nobody_elses() {
    let stage = Stage::set().await;
    for (number, fields) in [
        format!("X-A: {}", "a".repeat(100_000)),
        "X-A: 1\r\n".repeat(150) + "X-B: 2",
        "X-A: a\x07b".to_owned(),
        "X-A: a\0b".to_owned(),
        "Expect: 200-ok".to_owned(),
        "Range: bytes=cow".to_owned(),
        "Transfer-Encoding: x".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        stage.answer(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n\r\n")).await;
        let after = stage.answer(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        assert!(after.starts_with("HTTP/1.1 200 ") && after.ends_with(&path), "{path}: {after}");
    }
}

/// RFC 9110 §11.6.2: one field, with one set of credentials. Of two, an origin may believe the one that the key was not made from.
#[tokio::test]
async fn two_that_say_who_asks_are_refused() {
    let stage = Stage::with(|config| config.routes[0].share = Share::PerCredential(vec![AUTHORIZATION])).await;
    for path in ["/past/a", "/a"] {
        for fields in [
            "Authorization: Bearer a\r\nAuthorization: Bearer b",
            "Authorization: Bearer a\r\nauthorization: Bearer a",
            "Authorization:\r\nX-A: 1\r\nAuthorization: Basic YTpi",
        ] {
            stage.refuses(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).await;
        }
        let got =
            Client::http2(stage.world.sidecar.address).get(path).with("authorization", "a").with("authorization", "b").await;
        got.status(400);
    }
    assert!(stage.origin.requests().is_empty(), "{:?}", stage.origin.requests());
    let one = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer a\r\nX-A: 1\r\nX-A: 1\r\n\r\n";
    assert!(stage.answer(one).await.starts_with("HTTP/1.1 200 "));
}

//! For whom a request is: one host, or none. Where it goes is the configuration's word alone.

use crate::Stage;

#[tokio::test]
async fn a_host_is_named_once_and_plainly() {
    let stage = Stage::set().await;
    for fields in [
        "X-A: 1",
        "Host:",
        "Host: ",
        "Host: h\r\nHost: h",
        "Host: h\r\nHost: i",
        "Host: h\r\nhost: h",
        "Host: h\r\nX-A: 1\r\nHOST: i",
        "Host : h",
        "Host\t: h",
        " Host: h",
        "Host: h i",
        "Host: h\ti",
        "Host: h, i",
        "Host: h,i",
        "Host: u@h",
        "Host: u:p@h",
        "Host: @h",
        "Host: h@",
        "Host: h/",
        "Host: h/a",
        "Host: /",
        "Host: http://h",
        "Host: //h",
        "Host: \\h",
        "Host: h?a",
        "Host: h#a",
        "Host: h:x",
        "Host: h:",
        "Host: :80",
        "Host: h:80:80",
        "Host: h:80:i",
        "Host: h:-80",
        "Host: h:+80",
        "Host: h:80 80",
        "Host: h:65536",
        "Host: h:99999999999999999999",
        "Host: [::1",
        "Host: ::1",
        "Host: ::1]",
        "Host: [::1]]",
        "Host: [h]",
        "Host: [::1]h",
        "Host: [::1]:x",
        "Host: \"h\"",
        "Host: 'h'",
        "Host: <h>",
        "Host: {h}",
        "Host: h|i",
        "Host: h;i",
        "Host: h%0d%0aX-A:1",
        "Host: h%00",
        "Host: h\u{fc}",
        "Host: h\0",
        "Host: h\x01",
        "Host: h\x0b",
        "Host: h\x7f",
        "Host: h\r\n i",
        "Host: \x0ch",
    ] {
        for path in ["/a", "/past/a"] {
            stage.refuses(format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        }
    }
    stage.refuses("GET /a HTTP/1.0\r\nHost: h, i\r\n\r\n").await;
    stage.refuses("GET /a HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n").await;
}

#[tokio::test]
async fn a_target_that_names_another_host_is_refused() {
    let stage = Stage::set().await;
    for (target, host) in [
        ("http://i/a", "h"),
        ("http://H/a", "h"),
        ("http://h:80/a", "h"),
        ("http://h/a", "h:80"),
        ("http://h./a", "h"),
        ("http://h:81/a", "h:80"),
        ("http://u@h/a", "h"),
        ("http://u:p@h/a", "h"),
        ("http://h@i/a", "i"),
        ("http://h,i/a", "h,i"),
        ("http:///a", "h"),
        ("http:/a", "h"),
        ("http:a", "h"),
        ("//h/a", "i"),
        ("ftp://h/a", "h"),
        ("file:///a", "h"),
        ("javascript://h/a", "h"),
        ("gopher://h:70/a", "h:70"),
        ("http://h:x/a", "h"),
        ("http://[::1/a", "h"),
        ("http://h\\a", "h"),
    ] {
        if target.starts_with("//") {
            // A path of which the first segment is empty: it stays one, and is not cached.
            let answer = stage.answer(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.contains("detail=") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(stage.origin.requests().iter().all(|request| request.field("host") == Some(host)));
            continue;
        }
        stage.refuses(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        stage.refuses(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n")).await;
    }
    stage.refuses("GET http://h/a HTTP/1.1\r\n\r\n\r\nHost: h\r\n\r\n").await;
}

#[tokio::test]
async fn a_target_in_absolute_form_goes_to_the_configured_origin_in_origin_form() {
    let stage = Stage::set().await;
    for (target, expected) in [("http://h/past/a", "/past/a"), ("http://h", "/"), ("http://h?a", "/?a"), ("HTTP://h/a?b", "/a?b")]
    {
        let mut client = stage.world.raw().await;
        let head = client.ask(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
        let seen = stage.origin.last();
        assert_eq!((seen.target(), seen.field("host")), (expected, Some("h")));
    }
    // Nothing is resolved, and nothing connected to.
    let elsewhere = stage.world.sidecar.admin_address.unwrap();
    let target = format!("http://{elsewhere}/admin/cache/stats");
    let answer = stage.answer(format!("GET {target} HTTP/1.1\r\nHost: {elsewhere}\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.ends_with("/admin/cache/stats"), "{answer}");
}

/// RFC 9110 §7.4: what is said of `https` is for who came over TLS. Unrefused it would be answered from what is stored of `http`.
#[tokio::test]
async fn a_target_of_https_is_refused_where_nothing_has_secured_the_way() {
    let stage = Stage::set().await;
    for target in ["https://h/a", "HTTPS://h/a", "https://h", "https://h/past/a"] {
        let answer = stage.answer(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{target}: {answer}");
        // It is for those to say who come from a proxy that is trusted.
        let fields = "Host: h\r\nX-Forwarded-Proto: https";
        let answer = stage.answer(format!("GET {target} HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{target}: {answer}");
    }
    assert!(stage.origin.requests().is_empty(), "{:?}", stage.origin.requests());
    let trusting = Stage::with(|config| config.cache.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let request = "GET https://h/past/a HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n";
    let answer = trusting.answer(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(trusting.origin.last().field("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn methods_that_reach_through_are_not_allowed_and_others_stay_distinct() {
    let stage = Stage::set().await;
    for request in [
        "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\nGET /past/smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\nContent-Length: 0\r\n\r\n",
        "TRACE /a HTTP/1.1\r\nHost: h\r\nCookie: secret\r\n\r\n",
        "TRACE /past/a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
    ] {
        let answer = stage.answer(request).await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && !answer.contains("secret"), "{request:?} was answered {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{request:?} was answered {answer:?}");
    }
    assert!(stage.origin.requests().is_empty(), "{:?}", stage.origin.requests());
    stage.goes_on(&mut stage.world.raw().await, "/a").await;
    for method in ["get", "Get", "head", "trace", "connect", "FOO", "PURGE-ALL", "DEBUG", "TRACK"] {
        let answer = stage.answer(format!("{method} /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.contains("fwd=method") && !answer.contains("stored"), "{method}: {answer:?}");
        assert!(stage.origin.last().head.starts_with(&format!("{method} /a ")), "{method}: {:?}", stage.origin.last());
    }
}

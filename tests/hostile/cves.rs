//! Attacks that have a number, each against what it was found in, and what comes of it here.

use crate::Stage;
use crate::world::{ASKS_FOR_WEBSOCKET, RawOrigin, World};

const SMUGGLED: &str = "GET /past/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// A `POST` past the cache, with what is smuggled behind it.
fn post(fields: &str, body: &str) -> String {
    format!("POST /past/a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}{SMUGGLED}")
}

/// Nothing is smuggled: the chunked body breaks off before its end.
async fn breaks_off(body: &str) {
    let stage = Stage::set().await;
    let answer = stage.answer(post("Transfer-Encoding: chunked", body)).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1 ").count() == 1, "{body:?} was answered {answer:?}");
    assert!(stage.origin.requests().iter().all(|request| request.body.is_none()), "{:?}", stage.origin.requests());
}

/// Pingora: a hit left the request's body unread, and read it as the next request.
#[tokio::test]
async fn cve_2025_4366_the_body_of_a_request_that_is_a_hit() {
    let stage = Stage::set().await;
    stage.goes_on(&mut stage.world.raw().await, "/a").await;
    for framing in [
        format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
    ] {
        // At once, and in a second piece.
        let (head, body) = framing.split_at(framing.find("\r\n\r\n").unwrap() + 4);
        for is_late in [false, true] {
            let mut client = stage.world.raw().await;
            client.send(format!("GET /a HTTP/1.1\r\nHost: h\r\n{head}")).await;
            if is_late {
                client.send(&body[..1]).await;
                tokio::task::yield_now().await;
            }
            client.send(&body[usize::from(is_late)..]).await;
            let answered = client.head().await;
            assert!(answered.contains("sidecache; hit"), "{answered}");
            assert_eq!(client.octets(2).await, "/a");
            client.finish().await;
            assert_eq!(client.rest().await, "");
        }
    }
    assert_eq!(stage.origin.requests().len(), 1, "{:?}", stage.origin.requests());
}

/// Pingora: octets behind a request with `Upgrade` were tunnelled before the origin had agreed.
#[tokio::test]
async fn cve_2026_2833_an_upgrade_that_the_origin_has_not_agreed_to() {
    for upgrade in ["websocket", "foo", "h2c"] {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        let mut client = world.raw().await;
        let fields = ASKS_FOR_WEBSOCKET.replace("websocket", upgrade) + "\r\nContent-Length: 0";
        client.send(format!("GET /past/a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\nGET /admin HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let mut behind = origin.accept().await;
        behind.head().await;
        assert_eq!(behind.unread(), "", "{upgrade}");
        behind.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "), "{upgrade}");
        client.octets(2).await;
        assert_eq!(behind.unread(), "", "{upgrade}");
    }
}

/// Pingora: codings in a list or in several lines, and codings in HTTP/1.0, were not understood, and the length left out.
#[tokio::test]
async fn cve_2026_2835_codings_that_are_a_list_or_of_http_1_0() {
    let stage = Stage::set().await;
    for fields in ["Transfer-Encoding: identity, chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"] {
        stage.refuses(post(&format!("{fields}\r\nContent-Length: 5"), "0\r\n\r\n")).await;
        stage.refuses(post(fields, "0\r\n\r\n")).await;
    }
    for fields in ["Transfer-Encoding: chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked"] {
        let head = format!("GET /past/a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n{fields}");
        stage.refuses(format!("{head}\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
    }
    // A request has no body that the end of the connection would end.
    let answer = stage.answer(format!("POST /past/a HTTP/1.0\r\nHost: h\r\n\r\n{SMUGGLED}")).await;
    assert!(answer.starts_with("HTTP/1.0 200 ") && !answer.contains("smuggled"), "{answer}");
    assert_eq!(stage.origin.last().body.as_deref(), Some(""));
}

/// Pingora: the default key had the path alone, so that one host's response answered another's request.
#[tokio::test]
async fn cve_2026_2836_the_host_in_the_key() {
    let stage = Stage::set().await;
    for host in ["evil.example", "h", "h:80", "H"] {
        let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        for expected in ["fwd=uri-miss", "sidecache; hit"] {
            let answer = stage.answer(&request).await;
            assert!(answer.contains(expected), "{host}: {answer}");
        }
        assert_eq!(stage.origin.last().field("host"), Some(host));
    }
}

/// HAProxy: a coding with an octet before it that is no whitespace was passed on beside a length.
#[tokio::test]
async fn cve_2019_18277_a_coding_behind_a_vertical_tab() {
    let stage = Stage::set().await;
    for coding in ["\x0bchunked", "\x0cchunked", "chunked\x0b", "\u{a0}chunked"] {
        for fields in [format!("Content-Length: 5\r\nTransfer-Encoding: {coding}"), format!("Transfer-Encoding: {coding}")] {
            stage.refuses(post(&fields, "0\r\n\r\n")).await;
        }
    }
}

/// HAProxy: a name of 270 octets overflowed into that of a length.
#[tokio::test]
async fn cve_2021_40346_a_name_that_only_begins_like_a_length() {
    let stage = Stage::set().await;
    let name = format!("Content-Length0{}", "a".repeat(255));
    let fields = format!("{name}: \r\nContent-Length: {}\r\nConnection: close", SMUGGLED.len());
    let answer = stage.answer(post(&fields, "")).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(stage.origin.requests().len(), 1);
    assert_eq!(stage.origin.last().body.as_deref(), Some(SMUGGLED));
}

/// HAProxy: an empty name ended the list of fields, so that those behind it framed the message and were not passed on.
#[tokio::test]
async fn cve_2023_25725_an_empty_name() {
    let stage = Stage::set().await;
    for fields in [": a\r\nContent-Length: 5", "X-A: 1\r\n: \r\nTransfer-Encoding: chunked", " : a", "\t: a"] {
        stage.refuses(post(fields, "0\r\n\r\n")).await;
    }
}

/// HAProxy: an empty length counted as none, and was passed on.
#[tokio::test]
async fn cve_2023_40225_an_empty_length() {
    let stage = Stage::set().await;
    for fields in ["Content-Length:", "Content-Length: \r\nContent-Length: 5", "Content-Length: 5\r\nContent-Length:"] {
        stage.refuses(post(fields, "01234")).await;
    }
}

/// Apache httpd: what a target's encoding stood for was written into the request to the origin.
#[tokio::test]
async fn cve_2023_25690_the_end_of_a_line_in_a_target() {
    let stage = Stage::set().await;
    let split = "%20HTTP/1.1%0d%0aHost:%20h%0d%0a%0d%0aGET%20/past/smuggled";
    for path in ["/", "/past/"] {
        let answer = stage.answer(format!("GET {path}{split} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        assert!(!answer.contains("stored"), "{answer}");
        // It is octets of one target, as they came.
        assert!(stage.origin.requests().iter().all(|request| request.target().ends_with(split)));
    }
    stage.refuses("GET /a\r\nX-A: HTTP/1.1\r\nHost: h\r\n\r\n").await;
}

/// Apache httpd (mod_proxy_uwsgi): octets in the origin's fields split its response in two.
#[tokio::test]
async fn cve_2023_27522_octets_in_the_origins_fields() {
    for line in ["X-A: a\rX-B: b", "X-A: a\0b", "X-A: a\r\n\tb", "X-A: a\r\r\n"] {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        origin.always(format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 3\r\n\r\none").leak());
        for path in ["/a", "/past/a"] {
            world.get(path).await.status(502).does_not_say("stored");
        }
    }
}

/// Apache httpd: the connection stayed open after an error in the request's body, so that the rest of it was the next request.
#[tokio::test]
async fn cve_2022_22720_the_rest_of_a_body_after_an_error() {
    let stage = Stage::set().await;
    for request in [
        format!("TRACE /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n{SMUGGLED}"),
        format!("POST a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n{SMUGGLED}"),
        format!("POST /a HTTP/1.1\r\nHost: h\r\nExpect: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{SMUGGLED}"),
        format!("POST /a HTTP/1.1\r\nHost: h, i\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{SMUGGLED}"),
        format!("GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{SMUGGLED}"),
    ] {
        let answer = stage.answer(&request).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{request:?} was answered {answer:?}");
    }
    assert!(stage.origin.requests().iter().all(|request| request.target() == "/a"), "{:?}", stage.origin.requests());
}

/// Apache httpd (mod_proxy_ajp): a coding that is not understood was left to the origin to read.
#[tokio::test]
async fn cve_2022_26377_a_coding_that_is_not_understood() {
    let stage = Stage::set().await;
    for coding in ["chunked, chunked", "chunked, x", "x, chunked", "x", "gzip"] {
        stage.refuses(post(&format!("Transfer-Encoding: {coding}"), "0\r\n\r\n")).await;
    }
}

/// Apache httpd: what `Connection` named was not sent to the origin, also where the proxy itself had said it.
#[tokio::test]
async fn cve_2022_31813_what_the_proxy_says_of_the_client() {
    let stage = Stage::set().await;
    for name in ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Proto"] {
        stage.refuses(format!("GET /past/a HTTP/1.1\r\nHost: h\r\nConnection: close, {name}\r\n\r\n")).await;
    }
}

/// Apache httpd: a man in the middle had a session begin with a request of his, by an upgrade to TLS.
#[tokio::test]
async fn cve_2025_49812_an_upgrade_to_tls() {
    let stage = Stage::set().await;
    let fields = "Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1";
    let mut client = stage.world.raw().await;
    let head = client.ask(format!("OPTIONS * HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.to_lowercase().contains("upgrade"), "{head}");
    assert_eq!(stage.origin.last().field("upgrade"), None);
}

/// OpenResty: a subrequest was sent with a framing of which only one reader knew.
#[tokio::test]
async fn cve_2020_11724_both_framings_in_a_get() {
    let stage = Stage::set().await;
    for path in ["/a", "/past/a"] {
        let fields = "Content-Length: 5\r\nTransfer-Encoding: chunked";
        stage.refuses(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
    }
}

/// Kestrel: a bare LF in a chunk's extension was a part of it to one reader, and the end of its line to the other.
#[tokio::test]
async fn cve_2025_55315_a_bare_lf_in_a_chunk_extension() {
    for body in ["3;\none\r\n0\r\n\r\n", "3;a\nxx\r\n0\r\n\r\n", "3;a=\"\n\"\r\none\r\n0\r\n\r\n", "3;a\rb\r\none\r\n0\r\n\r\n"] {
        breaks_off(body).await;
    }
}

/// Go: a bare LF ended a chunk's line.
#[tokio::test]
async fn cve_2025_22871_a_bare_lf_behind_a_chunk_size() {
    for body in ["3\none\r\n0\r\n\r\n", "3\r\none\r\n0\n\r\n", "3\r\none\r\n0\r\n\n"] {
        breaks_off(body).await;
    }
}

/// h11: any two octets ended a chunk's data.
#[tokio::test]
async fn cve_2025_43859_other_octets_behind_a_chunk() {
    for body in ["3\r\noneXX0\r\n\r\n", "3\r\none\r\r0\r\n\r\n", "3\r\none\n\n0\r\n\r\n"] {
        breaks_off(body).await;
    }
}

/// Jetty: a chunk's size overflowed into a small one.
#[tokio::test]
async fn cve_2017_7657_a_chunk_size_that_overflows() {
    for body in
        ["100000003\r\none\r\n0\r\n\r\n", "10000000000000003\r\none\r\n0\r\n\r\n", "ffffffffffffffff3\r\none\r\n0\r\n\r\n"]
    {
        let stage = Stage::set().await;
        let mut client = stage.world.raw().await;
        client.send(post("Transfer-Encoding: chunked", body)).await;
        client.finish().await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{body:?} was answered {answer:?}");
        assert!(stage.origin.requests().iter().all(|request| request.body.is_none()), "{:?}", stage.origin.requests());
    }
}

/// Jetty, Tomcat, Netty: of several lengths, or of a length and a coding, one counted.
#[tokio::test]
async fn cve_2017_7658_cve_2013_4286_cve_2019_20445_lengths_and_codings() {
    let stage = Stage::set().await;
    for fields in [
        "Content-Length: 5\r\nContent-Length: 45",
        "Content-Length: 5, 45",
        "Content-Length: 45\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 45",
    ] {
        stage.refuses(post(fields, "0\r\n\r\n")).await;
    }
}

/// Netty: whitespace before a colon, and a line without one, were overlooked.
#[tokio::test]
async fn cve_2019_16869_cve_2019_20444_names_that_are_none() {
    let stage = Stage::set().await;
    for fields in ["Transfer-Encoding : chunked", "Content-Length : 5", "Content-Length\t: 5", "Content-Length 5", "X-A"] {
        stage.refuses(post(fields, "0\r\n\r\n")).await;
    }
}

/// llhttp (Node.js): a bare CR ended a line, and a line that goes on hid a coding.
#[tokio::test]
async fn cve_2023_30589_cve_2022_32215_lines_that_end_otherwise() {
    let stage = Stage::set().await;
    for fields in ["X-A: \rContent-Length: 5", "Transfer-Encoding: chunked\r\n , identity", "X-A: a\rTransfer-Encoding: chunked"]
    {
        stage.refuses(post(fields, "0\r\n\r\n")).await;
    }
}

/// Waitress: octets that Python takes for whitespace, and numbers with a sign or an underscore.
#[tokio::test]
async fn cve_2022_24761_numbers_that_python_takes_for_one() {
    let stage = Stage::set().await;
    for length in ["+5", "-5", "1_0", "0x5", "\u{0665}"] {
        stage.refuses(post(&format!("Content-Length: {length}"), "01234")).await;
    }
    for body in ["+3\r\none\r\n0\r\n\r\n", "0x3\r\none\r\n0\r\n\r\n", "0_3\r\none\r\n0\r\n\r\n"] {
        breaks_off(body).await;
    }
}

/// CGI and its descendants: `Proxy` became `HTTP_PROXY`.
#[tokio::test]
async fn cve_2016_5385_a_proxy_for_the_origin() {
    let stage = Stage::set().await;
    for path in ["/a", "/past/a"] {
        stage.answer(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nProxy: http://evil.example\r\n\r\n")).await;
        assert_eq!(stage.origin.last().field("proxy"), None);
    }
}

/// Symfony, Next.js: a field of the request was another path, or a way around what guards it.
#[tokio::test]
async fn cve_2018_14773_cve_2025_29927_fields_that_replace_the_path() {
    let stage = Stage::set().await;
    for name in ["X-Original-URL", "X-Rewrite-URL", "X-Middleware-Subrequest"] {
        for path in ["/a", "/past/a"] {
            stage.answer(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{name}: /admin\r\n\r\n")).await;
            assert_eq!(stage.origin.last().field(name), None);
        }
    }
}

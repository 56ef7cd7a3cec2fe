//! Where a request ends: there is one reading of it, or there is no request.

use crate::Stage;

/// A `POST` with these field lines and this body, past the cache and on a path that is cached.
fn post(fields: &str, body: &str) -> [String; 2] {
    ["/past/a", "/a"].map(|path| format!("POST {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}"))
}

const SMUGGLED: &str = "GET /past/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_coding_is_chunked_or_refused() {
    let stage = Stage::set().await;
    for value in [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "identity",
        "identity, chunked",
        "xchunked",
        "chunkedx",
        "\x0bchunked",
        "\x0cchunked",
        "chunked\x0b",
        "\"chunked\"",
        "'chunked'",
        "chunked;q=1",
        "chunked;",
        "chunked\0",
        "chun ked",
        "\u{212a}chunked",
        "cow",
        "",
        " ",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: chunked",
        "chunked\r\nConnection: close\r\nTransfer-encoding: x",
    ] {
        for request in post(&format!("Transfer-Encoding: {value}"), "0\r\n\r\n") {
            stage.refuses(request + SMUGGLED).await;
        }
    }
    stage.refuses("POST /past/a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    stage.refuses("GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn one_chunked_is_taken_however_it_is_written() {
    let stage = Stage::set().await;
    for line in ["Transfer-Encoding: chunked", "TRANSFER-ENCODING:CHUNKED", "transfer-encoding: \t Chunked \t"] {
        let mut client = stage.world.raw().await;
        client.send(format!("POST /past/a HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n3\r\none\r\n0\r\n\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        client.octets(7).await;
        assert_eq!(stage.origin.last().body.as_deref(), Some("3\r\none\r\n0\r\n\r\n"));
        stage.goes_on(&mut client, "/past/b").await;
    }
}

#[tokio::test]
async fn a_length_beside_a_coding_is_refused() {
    let stage = Stage::set().await;
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked\r\nX-A: 1\r\nContent-Length: 48",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
        "content-length:5\r\ntransfer-encoding:chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: x",
        "Transfer-Encoding: chunked\r\nContent-Length:",
    ] {
        for request in post(fields, "0\r\n\r\n") {
            stage.refuses(request + SMUGGLED).await;
        }
    }
    stage
        .refuses(format!(
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
        ))
        .await;
}

#[tokio::test]
async fn a_length_is_one_number_or_refused() {
    let stage = Stage::set().await;
    for value in [
        "+5",
        "-1",
        "-0",
        "5,5",
        "5, 5",
        "5,",
        ",5",
        "0x5",
        "5h",
        "5 5",
        "5;",
        "5.0",
        "5e0",
        "1_0",
        "\"5\"",
        "",
        " ",
        "\x0b5",
        "5\x0c",
        "\u{0665}",
        "05",
        "00",
        "000000000000000000005",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999999999999999",
        "5\r\nContent-Length: 5",
        "5\r\nContent-Length: 6",
        "5\r\nX-A: 1\r\ncontent-length: 0",
        "\r\nContent-Length: 5",
    ] {
        for request in post(&format!("Content-Length: {value}"), "01234") {
            stage.refuses(request + SMUGGLED).await;
        }
    }
}

#[tokio::test]
async fn lines_end_in_crlf_or_are_refused() {
    let stage = Stage::set().await;
    for octets in [
        "GET /a HTTP/1.1\nHost: h\n\n",
        "GET /a HTTP/1.1\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\n\n",
        "GET /a HTTP/1.1\r\nHost: h\nX-A: 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX-A: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX-A: 1\n\nGET /past/smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        "\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\rHost: h\r\r",
        "GET /a HTTP/1.1\r\nHost: h\r\nX-A: a\rb\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX-A: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX-A: a\r\r\n\r\n",
        "GET /a HTTP/1.1\r\r\nHost: h\r\n\r\n",
        "GET /a\r HTTP/1.1\r\nHost: h\r\n\r\n",
        "\rGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX-A: a\r\n\rX-B: b\r\n\r\n",
    ] {
        stage.refuses(octets).await;
    }
}

#[tokio::test]
async fn a_line_that_goes_on_is_refused() {
    let stage = Stage::set().await;
    for fields in [
        " X-A: 1\r\nHost: h",
        "\tX-A: 1\r\nHost: h",
        " Host: h",
        "Host: h\r\n X-A: 1",
        "Host: h\r\nX-A: 1\r\n 2",
        "Host: h\r\nX-A: 1\r\n\t2",
        "Host: h\r\nX-A: 1\r\n ",
        "Host: h\r\nTransfer-Encoding:\r\n chunked",
        "Host: h\r\nTransfer-Encoding: chunked\r\n , identity",
        "Host: h\r\nContent-Length: 1\r\n 0",
    ] {
        stage.refuses(format!("POST /past/a HTTP/1.1\r\n{fields}\r\n\r\n")).await;
    }
}

#[tokio::test]
async fn a_name_or_value_with_other_octets_is_refused() {
    let stage = Stage::set().await;
    for line in [
        ": 1",
        "X-A",
        "X A: 1",
        "X-A : 1",
        "X-A\t: 1",
        "X(A): 1",
        "X\0A: 1",
        "X\u{fc}: 1",
        "\"X\": 1",
        "X@A: 1",
        "X{A}: 1",
        "=X: 1",
    ] {
        stage.refuses(format!("GET /a HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n")).await;
    }
    for name in ["Content-Length", "Transfer-Encoding", "Host"] {
        for between in [" :", "\t:", "\x0b:", "\0:"] {
            stage.refuses(format!("POST /past/a HTTP/1.1\r\nHost: h\r\n{name}{between} 5\r\n\r\n01234")).await;
        }
    }
    for octet in (0..=0x1f).chain([0x7f]).filter(|octet| !matches!(octet, b'\t')) {
        stage.refuses([b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: a", &[octet][..], b"b\r\n\r\n"].concat()).await;
    }
}

#[tokio::test]
async fn a_request_line_has_three_words() {
    let stage = Stage::set().await;
    for line in [
        "GET /a",
        "GET /a ",
        "GET /a HTTP/0.9",
        "GET /a HTTP/1.2",
        "GET /a HTTP/1.",
        "GET /a HTTP/1",
        "GET /a HTTP/2.0",
        "GET /a HTTP/2",
        "GET /a HTTP/3.0",
        "GET /a HTTP/11.1",
        "GET /a HTTP/1.10",
        "GET /a HTTP/01.1",
        "GET /a http/1.1",
        "GET /a HTTPS/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a HTTP/1.1x",
        "GET /a HTTP/1.1 HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /a  HTTP/1.1",
        " GET /a HTTP/1.1",
        "\tGET /a HTTP/1.1",
        "GET\t/a HTTP/1.1",
        "GET /a\tHTTP/1.1",
        "GET\x0b/a HTTP/1.1",
        "GET /a\x0cHTTP/1.1",
        "GET /a",
        "GET",
        "/a HTTP/1.1",
        "G\0T /a HTTP/1.1",
        "G(T /a HTTP/1.1",
        "GET: /a HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET h:80 HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET http://h/a#b HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        stage.refuses(format!("{line}\r\nHost: h\r\n\r\n")).await;
    }
    for octet in (0..=0x20).chain([0x7f]) {
        stage.refuses([b"GET /a", &[octet][..], b"b HTTP/1.1\r\nHost: h\r\n\r\n"].concat()).await;
        stage.refuses([b"GET /past/a?", &[octet][..], b"b HTTP/1.1\r\nHost: h\r\n\r\n"].concat()).await;
    }
}

#[tokio::test]
async fn one_blank_line_may_come_before_a_request() {
    let stage = Stage::set().await;
    let mut client = stage.world.raw().await;
    client.send("\r\n").await;
    stage.goes_on(&mut client, "/past/a").await;
    client.send("\r\n").await;
    stage.goes_on(&mut client, "/past/a").await;
    stage.refuses("\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    stage.refuses("\r\n GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut client = stage.world.raw().await;
    stage.goes_on(&mut client, "/past/a").await;
    client.send("\rGET /past/a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 400 "));
}

/// A chunked body that is none: the request may have reached the origin by then, but it never ends there, and what follows is nothing.
async fn breaks_off(stage: &Stage, body: impl AsRef<[u8]>) {
    let body = body.as_ref();
    let said = String::from_utf8_lossy(body).into_owned();
    for path in ["/past/a", "/a"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        let answer = stage.answer([head.as_bytes(), body, SMUGGLED.as_bytes()].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{said:?} to {path} was answered {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{said:?} to {path} was answered {answer:?}");
        for request in stage.origin.requests() {
            assert!(request.target() != "/past/smuggled" && request.body.is_none(), "{said:?} became {request:?}");
        }
    }
}

#[tokio::test]
async fn a_chunk_that_can_be_read_in_two_ways_never_reaches_the_origin_whole() {
    let stage = Stage::set().await;
    for body in [
        // The size.
        "0x3\r\none\r\n0\r\n\r\n",
        "+3\r\none\r\n0\r\n\r\n",
        "-3\r\none\r\n0\r\n\r\n",
        " 3\r\none\r\n0\r\n\r\n",
        "3 \r\none\r\n0\r\n\r\n",
        "3\t\r\none\r\n0\r\n\r\n",
        "3 ;a\r\none\r\n0\r\n\r\n",
        "0_3\r\none\r\n0\r\n\r\n",
        "3_\r\none\r\n0\r\n\r\n",
        "3,\r\none\r\n0\r\n\r\n",
        "3.0\r\none\r\n0\r\n\r\n",
        "\"3\"\r\none\r\n0\r\n\r\n",
        "3h\r\none\r\n0\r\n\r\n",
        "3\0\r\none\r\n0\r\n\r\n",
        "3\x0b\r\none\r\n0\r\n\r\n",
        "\r\none\r\n0\r\n\r\n",
        ";a\r\none\r\n0\r\n\r\n",
        "00000000000000003\r\none\r\n0\r\n\r\n",
        "10000000000000003\r\none\r\n0\r\n\r\n",
        "ffffffffffffffff\r\none\r\n0\r\n\r\n",
        "fffffffffffffffff\r\none\r\n0\r\n\r\n",
        "\u{0663}\r\none\r\n0\r\n\r\n",
        // The end of its line.
        "3\none\r\n0\r\n\r\n",
        "3\rone\r\n0\r\n\r\n",
        "3\r\rone\r\n0\r\n\r\n",
        "3\r \none\r\n0\r\n\r\n",
        "3\n\none\r\n0\r\n\r\n",
        // Extensions.
        "3;a\none\r\n0\r\n\r\n",
        "3;\none\r\n0\r\n\r\n",
        "3;a\rone\r\n0\r\n\r\n",
        "3;a\rb\r\none\r\n0\r\n\r\n",
        "3;a=\"b\n\"\r\none\r\n0\r\n\r\n",
        "3;a=\"b\r\n\"\r\none\r\n0\r\n\r\n",
        "3;a\0\r\none\r\n0\r\n\r\n",
        "3;\x7f\r\none\r\n0\r\n\r\n",
        // What follows the data.
        "3\r\none0\r\n\r\n",
        "3\r\none\n0\r\n\r\n",
        "3\r\none\r0\r\n\r\n",
        "3\r\noneXX0\r\n\r\n",
        "3\r\none\n\r0\r\n\r\n",
        "3\r\none\r\n\r\n0\r\n\r\n",
        "2\r\none\r\n0\r\n\r\n",
        "5\r\none\r\n0\r\n\r\n",
        // The last one.
        "3\r\none\r\n0\n\r\n",
        "3\r\none\r\n0\r\n\n",
        "3\r\none\r\n0\r\n\rX",
        "3\r\none\r\n0\r\nX-A: 1\n\r\n",
        "3\r\none\r\n0\r\nX-A: a\n\n",
        "3\r\none\r\n0\r\nX-A: a\rb\r\n\r\n",
        "3\r\none\r\n0\r\nX-A: a\0b\r\n\r\n",
        "3\r\none\r\n0\r\nX-A : a\r\n\r\n",
        "3\r\none\r\n0\r\n X-A: a\r\n\r\n",
        "3\r\none\r\n0\r\nX-A: a\r\n b\r\n\r\n",
        "3\r\none\r\n0\r\n: a\r\n\r\n",
        "3\r\none\r\n0\r\nX-A\r\n\r\n",
    ] {
        breaks_off(&stage, body).await;
    }
}

#[tokio::test]
async fn chunks_that_are_plain_reach_the_origin_without_their_extensions() {
    let stage = Stage::set().await;
    for body in [
        "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
        "03;a\r\none\r\n3;a=b;c=\"d e\"\r\ntwo\r\n000\r\n\r\n",
        "6;\u{fc}\r\nonetwo\r\n0;a\r\n\r\n",
        "6\r\nonetwo\r\n0\r\nX-A: 1\r\n\r\n",
    ] {
        let mut client = stage.world.raw().await;
        let head = "POST /past/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "), "{body:?}");
        client.octets(7).await;
        let seen = stage.origin.last().body.expect("the body came to its end");
        let data: String = seen.split("\r\n").filter(|line| line.len() == 3 || line.len() == 6).collect();
        assert_eq!((data.as_str(), seen.contains(';')), ("onetwo", false), "{body:?} became {seen:?}");
        stage.goes_on(&mut client, "/past/b").await;
    }
}

#[tokio::test]
async fn a_body_that_ends_before_its_end_is_no_request_to_the_origin() {
    let stage = Stage::set().await;
    for (field, body) in [
        ("Content-Length: 5", "012"),
        ("Content-Length: 5", ""),
        ("Transfer-Encoding: chunked", ""),
        ("Transfer-Encoding: chunked", "3"),
        ("Transfer-Encoding: chunked", "3\r\non"),
        ("Transfer-Encoding: chunked", "3\r\none\r\n"),
        ("Transfer-Encoding: chunked", "3\r\none\r\n0\r\n"),
        ("Transfer-Encoding: chunked", "3\r\none\r\n0\r\nX-A: 1\r\n"),
    ] {
        for request in post(field, body) {
            let mut client = stage.world.raw().await;
            client.send(&request).await;
            client.finish().await;
            let answer = client.rest().await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{request:?} was answered {answer:?}");
        }
    }
    assert!(stage.origin.requests().iter().all(|request| request.body.is_none()), "{:?}", stage.origin.requests());
    stage.goes_on(&mut stage.world.raw().await, "/past/b").await;
}

#[tokio::test]
async fn what_comes_before_a_request_that_is_refused_is_answered() {
    let stage = Stage::set().await;
    let good = "GET /past/a HTTP/1.1\r\nHost: h\r\n\r\nPOST /past/b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none";
    let bad = "POST /past/c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = stage.answer(format!("{good}{bad}{SMUGGLED}")).await;
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answer}");
    let targets: Vec<_> = stage.origin.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/past/a", "/past/b"]);
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_never_read_as_a_request() {
    let stage = Stage::set().await;
    stage.goes_on(&mut stage.world.raw().await, "/a").await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for path in ["/a", "/past/a", "/new"] {
            for request in [
                format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
                format!(
                    "{method} {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
                    SMUGGLED.len()
                ),
            ] {
                let before = stage.origin.requests().len();
                let mut client = stage.world.raw().await;
                client.send(format!("{request}GET /past/next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
                let answer = client.rest().await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{request:?} was answered {answer:?}");
                for seen in &stage.origin.requests()[before..] {
                    assert_ne!(seen.target(), "/past/smuggled", "{request:?}");
                    let is_forwarded = seen.body.as_ref().is_some_and(|body| !body.is_empty());
                    let may_be_forwarded = method != "GET" && method != "HEAD" || path == "/past/a";
                    assert!(may_be_forwarded || !is_forwarded || seen.target() != path, "{request:?} was forwarded as {seen:?}");
                }
                assert!(!answer.contains("/past/smuggled"), "{request:?} was answered {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_nobody_looks_at_has_a_right_end_all_the_same() {
    let stage = Stage::set().await;
    for body in [
        "0;a\nb\r\n\r\n",
        "1\nx\n0\n\n",
        "0x0\r\n\r\n",
        "+0\r\n\r\n",
        "-1\r\n\r\n",
        "10000000000000000\r\n\r\n",
        "1\r\nxy0\r\n\r\n",
    ] {
        for method in ["GET", "HEAD"] {
            stage.refuses(format!("{method} /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        }
    }
    // Nor is a hit an answer to it.
    stage.goes_on(&mut stage.world.raw().await, "/a").await;
    stage.refuses("GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy0\r\n\r\n").await;
}

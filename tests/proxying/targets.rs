//! Request targets and hosts: one reading, or none.

use crate::world::World;

#[tokio::test]
async fn a_target_in_absolute_form_reaches_the_origin_in_origin_form() {
    let world = World::start().await;
    world.origin.reply("/past/a", "one");
    let mut client = world.raw().await;
    let head = client.ask("GET http://h/past/a?b HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let seen = world.origin.last("/past/a");
    assert_eq!((seen.target.as_str(), seen.field("host").as_deref()), ("/past/a?b", Some("h")));
}

#[tokio::test]
async fn options_of_the_server_itself_are_asked_for_with_an_asterisk() {
    let world = World::start().await;
    world.origin.reply("*", "one");
    let head = world.raw().await.ask("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(world.origin.last("*").method, "OPTIONS");
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    let check = async |request: &str, status: &str| {
        let mut client = world.raw().await;
        let head = client.ask(format!("{request}\r\n\r\n")).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?} got {head}");
    };
    check("GET /a HTTP/1.1", "400").await;
    check("GET /a HTTP/1.1\r\nHost: h\r\nHost: h", "400").await;
    check("GET /a HTTP/1.1\r\nHost: h\r\nHost: i", "400").await;
    check("GET /a HTTP/1.1\r\nHost: h, i", "400").await;
    check("GET /a HTTP/1.1\r\nHost: u@h", "400").await;
    check("GET http://i/a HTTP/1.1\r\nHost: h", "400").await;
    check("GET a HTTP/1.1\r\nHost: h", "400").await;
    check("GET /a HTTP/1.1\r\nHost: h\r\n folded: x", "400").await;
    check("GET /a HTTP/1.1\r\nHost: h\r\nX-A : x", "400").await;
    check("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2", "400").await;
    check("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: +1", "400").await;
    check("CONNECT h:80 HTTP/1.1\r\nHost: h:80", "405").await;
    check("TRACE /a HTTP/1.1\r\nHost: h", "405").await;
    assert_eq!(world.origin.count("/a"), 0);
}

#[tokio::test]
async fn a_request_with_a_length_and_a_coding_never_becomes_two() {
    let world = World::start().await;
    world.origin.reply("/past/a", "one");
    world.origin.reply("/past/smuggled", "two");
    let smuggled = "GET /past/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut client = world.raw().await;
    let fields = format!("Content-Length: {}\r\nTransfer-Encoding: chunked", smuggled.len() + 5);
    client.send(format!("POST /past/a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n0\r\n\r\n{smuggled}")).await;
    client.finish().await;
    client.rest().await;
    // RFC 9112 §6.1: the coding counts, and what the origin is sent has one framing.
    for seen in world.origin.seen("/past/a") {
        assert!(seen.field("content-length").is_none() || seen.field("transfer-encoding").is_none(), "{seen:?}");
    }
}

#[tokio::test]
async fn http_1_0_clients_need_no_host() {
    let world = World::start().await;
    world.origin.reply("/past/a", "one");
    let mut client = world.raw().await;
    let head = client.ask("GET /past/a HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
    assert_eq!(client.rest().await, "one");
    let seen = world.origin.last("/past/a");
    assert_eq!(seen.field("host"), Some(world.origin.address.authority().to_string()));
}

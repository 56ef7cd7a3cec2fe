//! Connections on which nothing is asked for a while, which are put aside, and go on as if nothing had been.
//!
//! What these tests are about is silence, so they are silent for as long as it takes.

use super::world::{RawClient, Reply, World, millis, secs};
use std::time::Instant;

const REQUEST: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

/// Longer than it takes until a connection counts as idle.
async fn silence() {
    tokio::time::sleep(millis(500)).await;
}

async fn world() -> World {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.origin.reply("/past/b", Reply::echo());
    world
}

async fn is_answered(client: &mut RawClient, octets: &str, body: &str) {
    let head = client.ask(octets).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("connection: close"), "{head}");
    assert_eq!(client.octets(body.len()).await, body);
}

#[tokio::test]
async fn a_connection_goes_on_after_each_silence() {
    let world = world().await;
    let mut client = world.raw().await;
    for _ in 0..3 {
        is_answered(&mut client, REQUEST, "one").await;
        is_answered(&mut client, REQUEST, "one").await;
        silence().await;
    }
    is_answered(&mut client, REQUEST, "one").await;
}

#[tokio::test]
async fn what_was_sent_of_a_request_before_a_silence_is_a_part_of_it() {
    let world = world().await;
    let cut = |request: &str, at: usize| (request[..at].to_owned(), request[at..].to_owned());
    // Within the line, after it, within a field, before the last octets.
    let mut clients = Vec::new();
    for at in [1, 9, "GET /a HTTP/1.1\r\n".len(), 20, REQUEST.len() - 3, REQUEST.len() - 1] {
        let (begun, rest) = cut(REQUEST, at);
        let mut client = world.raw().await;
        is_answered(&mut client, &format!("{REQUEST}{begun}"), "one").await;
        clients.push((client, rest));
    }
    silence().await;
    for (client, rest) in &mut clients {
        is_answered(client, rest, "one").await;
        is_answered(client, REQUEST, "one").await;
    }
}

#[tokio::test]
async fn blank_lines_and_bodies_are_what_they_were() {
    let world = world().await;
    let post = |body: &str| format!("POST /past/b HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut after_blank = world.raw().await;
    is_answered(&mut after_blank, &format!("{REQUEST}\r\n"), "one").await;
    let mut after_half_a_blank_line = world.raw().await;
    is_answered(&mut after_half_a_blank_line, &format!("{REQUEST}\r"), "one").await;
    let mut after_bodies = Vec::new();
    for body in ["plain", "ends blank\r\n\r\n", "\r\n\r\n"] {
        let mut client = world.raw().await;
        is_answered(&mut client, &post(body), body).await;
        after_bodies.push(client);
    }
    silence().await;
    is_answered(&mut after_blank, REQUEST, "one").await;
    is_answered(&mut after_half_a_blank_line, &format!("\n{REQUEST}"), "one").await;
    for client in &mut after_bodies {
        is_answered(client, &post("again"), "again").await;
    }
    // A body that is not there yet belongs to its request, however long it takes.
    let mut slow = world.raw().await;
    slow.send("POST /past/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n").await;
    silence().await;
    is_answered(&mut slow, "later", "later").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_its_time_all_the_same() {
    let world = World::with(|config| config.server.keep_alive_timeout = millis(1600)).await;
    world.origin.reply("/a", "one");
    let mut client = world.raw().await;
    is_answered(&mut client, REQUEST, "one").await;
    let begun = Instant::now();
    assert_eq!(client.rest().await, "");
    let lived = begun.elapsed();
    assert!(lived >= millis(1500) && lived < secs(5), "it lived for {lived:?}");
}

#[tokio::test]
async fn a_head_has_its_time_also_after_a_silence() {
    let world = World::with(|config| config.server.header_read_timeout = millis(300)).await;
    world.origin.reply("/a", "one");
    let mut client = world.raw().await;
    is_answered(&mut client, REQUEST, "one").await;
    silence().await;
    let begun = Instant::now();
    client.send("GET /a HT").await;
    client.rest().await;
    assert!(begun.elapsed() < secs(5), "it took {:?}", begun.elapsed());
}

//! What was begun and does not go on: by a client that sends no more, or takes no more.

use super::frames::{
    ACK, CONTINUATION, DATA, END_STREAM, ENHANCE_YOUR_CALM, Framed, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    SETTINGS_TIMEOUT, WINDOW_UPDATE, frame, get, post, request, settings,
};
use super::program::Program;
use super::world::{Origin, Reply, World, eventually, millis, secs};
use std::time::Instant;

/// The setting that is the window of each stream, at its start (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;

async fn hasty() -> World {
    let world = World::with(|config| {
        config.server.header_read_timeout = millis(400);
        config.server.body_idle_timeout = millis(400);
    })
    .await;
    world.origin.reply("/a", "one");
    world
}

#[tokio::test]
async fn a_preface_that_does_not_end_ends_its_connection() {
    let world = hasty().await;
    for beginning in [&PREFACE[..3], &PREFACE[..23]] {
        let mut client = Framed::silent(world.sidecar.address).await;
        client.send(beginning).await;
        client.end().await;
    }
}

#[tokio::test]
async fn settings_that_are_not_acknowledged_end_the_connection() {
    let world = hasty().await;
    for beginning in
        [PREFACE.to_vec(), [PREFACE.to_vec(), settings(&[])].concat(), [PREFACE.to_vec(), settings(&[]), get(1, "/a")].concat()]
    {
        let mut client = Framed::silent(world.sidecar.address).await;
        client.send(&beginning).await;
        assert_eq!(client.end().await, Some(SETTINGS_TIMEOUT));
    }
}

/// Whoever acknowledges at once, in its own time, and whoever sends octet by octet, finds the same server.
#[tokio::test]
async fn frames_may_come_in_any_pieces() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    let octets = [PREFACE.to_vec(), settings(&[]), frame(SETTINGS, ACK, 0, b""), get(1, "/a"), get(3, "/a")].concat();
    for size in [1, 2, 3, 5, 8, 9, 10, 17, 33, 1000] {
        let mut client = Framed::silent(world.sidecar.address).await;
        for piece in octets.chunks(size) {
            client.send(piece).await;
            // The sidecar may find it by itself, or with what follows: either is as good.
            tokio::task::yield_now().await;
        }
        let (mut first, mut second) = (false, false);
        while !(first && second) {
            let frame = client.until("a body", |frame| frame.ends_stream()).await.expect("the connection goes on");
            assert_eq!(frame.payload, b"one");
            (first, second) = (first || frame.stream == 1, second || frame.stream == 3);
        }
        // A second acknowledgement is one of nothing.
        client.send(frame(SETTINGS, ACK, 0, b"")).await;
        assert_eq!(client.end().await, Some(1));
    }
}

/// Until the client acknowledges them, h2 does not hold to its own settings; ours hold at once.
#[tokio::test]
async fn limits_hold_for_a_client_that_has_not_acknowledged_them() {
    let world = World::with(|config| config.server.header_bytes_max = 16 << 10).await;
    world.origin.reply("/a", "one");
    let mut client = Framed::silent(world.sidecar.address).await;
    let large: Vec<u8> = (0..5).flat_map(|_| super::frames::field("x-a", &"a".repeat(3000))).collect();
    let head = frame(HEADERS, END_STREAM, 1, &[request("GET", "/a"), large.clone()].concat());
    let rest = frame(CONTINUATION, 4, 1, &large);
    client.send([PREFACE.to_vec(), settings(&[]), head, rest].concat()).await;
    let answer = client.until("the answer", |frame| frame.kind == HEADERS).await.unwrap();
    assert!(answer.status().is_none_or(|status| status != 200) && answer.ends_stream(), "{answer:?}");
    assert_eq!(world.origin.count("/a"), 0);
}

#[tokio::test]
async fn a_head_that_does_not_end_ends_its_connection() {
    let world = hasty().await;
    let whole = frame(HEADERS, END_STREAM | 4, 1, &request("GET", "/a"));
    let beginnings = [
        frame(HEADERS, END_STREAM, 1, &request("GET", "/a")),
        [frame(HEADERS, END_STREAM, 1, &request("GET", "/a")), frame(CONTINUATION, 0, 1, b"")].concat(),
        whole[..4].to_vec(),
        whole[..20].to_vec(),
    ];
    for beginning in beginnings {
        let mut client = Framed::connect(world.sidecar.address).await;
        let begun = Instant::now();
        client.send(&beginning).await;
        assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM), "{beginning:?}");
        assert!(begun.elapsed() >= millis(300), "{beginning:?}");
    }
}

/// A drop now and then does not make a head live longer.
#[tokio::test]
async fn a_head_that_comes_in_drops_ends_its_connection() {
    let world = hasty().await;
    let mut client = Framed::connect(world.sidecar.address).await;
    let whole = frame(HEADERS, END_STREAM | 4, 1, &request("GET", "/a"));
    let mut drops = whole.iter();
    eventually("it ends", async || {
        let Some(drop) = drops.next() else { panic!("the head was taken whole") };
        let taken = client.send([*drop]).await;
        tokio::time::sleep(millis(50)).await;
        !taken
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stands_still_ends_its_stream_alone() {
    let world = hasty().await;
    world.origin.reply("/past/a", Reply::echo());
    let half = frame(DATA, 0, 1, &[b'x'; 100]);
    for body in [vec![], half.clone(), half[..50].to_vec()] {
        let mut client = Framed::connect(world.sidecar.address).await;
        client.send([post(1, "/past/a", &[("content-length", "200")]), body.clone()].concat()).await;
        let ends = |frame: &super::frames::Frame| frame.stream == 1 && (frame.ends_stream() || frame.kind == RST_STREAM);
        client.until("the end of the stream", ends).await.expect("the connection goes on");
        if body.len() != 50 {
            client.send(get(3, "/a")).await;
            client
                .until("another answer", |frame| frame.stream == 3 && frame.ends_stream())
                .await
                .expect("the connection goes on");
        }
    }
    eventually("no place is held", async || world.metric("sidecache_origin_requests_in_flight").await == 0.0).await;
}

/// Windows of nothing, of one octet, and a connection whose octets nobody reads: streams end, and give back what they held.
#[tokio::test]
async fn streams_that_nobody_reads_end() {
    let world = World::with(|config| config.server.body_idle_timeout = millis(500)).await;
    world.origin.reply("/a", Reply::new(vec![b'x'; 1 << 20]));
    world.origin.reply("/past/a", Reply::new(vec![b'x'; 1 << 20]));
    world.get("/a").await;
    for (path, window) in [("/a", 0), ("/a", 1), ("/past/a", 0), ("/past/a", 1), ("/past/a", 1000)] {
        let mut client = Framed::with_settings(world.sidecar.address, &[(INITIAL_WINDOW_SIZE, window)]).await;
        client.send(get(1, path)).await;
        let reset = client.until("the end of the stream", |frame| frame.kind == RST_STREAM).await;
        assert!(reset.is_some_and(|frame| frame.stream == 1), "{path} {window}");
    }
    eventually("no place is held", async || world.metric("sidecache_origin_requests_in_flight").await == 0.0).await;
}

/// What h2 has to the last octet nobody else can end, but with the connection, once it is idle.
#[tokio::test]
async fn a_connection_of_which_nobody_reads_the_rest_ends() {
    let world = World::with(|config| {
        config.server.body_idle_timeout = millis(300);
        config.server.keep_alive_timeout = millis(300);
    })
    .await;
    world.origin.reply("/a", "one");
    let mut client = Framed::with_settings(world.sidecar.address, &[(INITIAL_WINDOW_SIZE, 1)]).await;
    client.send(get(1, "/a")).await;
    let first = client.until("the first octet", |frame| frame.kind == DATA).await.unwrap();
    assert_eq!(first.payload, b"o");
    // It answers pings, as an honest client does that has forgotten a stream.
    while let Some(frame) = super::world::soon("the next frame", client.next()).await {
        if frame.kind == PING && frame.flags & ACK == 0 {
            client.send(super::frames::frame(PING, ACK, 0, &frame.payload)).await;
        }
    }
}

/// Windows that are open as wide as they go, and a connection of which nobody reads an octet (CVE-2019-9517).
#[tokio::test]
async fn a_connection_of_which_nobody_reads_anything_ends() {
    let world = World::with(|config| config.server.body_idle_timeout = millis(500)).await;
    world.origin.reply("/a", Reply::new(vec![b'x'; 4 << 20]));
    world.origin.reply("/past/a", Reply::new(vec![b'x'; 4 << 20]));
    world.get("/a").await;
    let mut client = Framed::with_settings(world.sidecar.address, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]).await;
    let wide = super::frames::number(WINDOW_UPDATE, 0, 0x7fff_0000);
    let requests = (0..20).flat_map(|i| get(2 * i + 1, if i % 2 == 0 { "/a" } else { "/past/a" })).collect();
    client.send([wide, requests].concat()).await;
    eventually("they are under way", async || world.metric("sidecache_origin_requests_in_flight").await > 0.0).await;
    eventually("no place is held", async || world.metric("sidecache_origin_requests_in_flight").await == 0.0).await;
    // What was on its way already, and no more.
    let mut octets = 0;
    while let Some(frame) = super::world::soon("the next frame", client.next()).await {
        octets += frame.payload.len();
    }
    assert!(octets < 20 * (4 << 20), "{octets}");
}

/// A hundred streams of large bodies that nobody takes: from memory, past the cache, and each to be stored (CVE-2019-9517).
#[tokio::test]
async fn windows_that_stay_closed_cost_little_memory() {
    let origin = Origin::start().await;
    let large = bytes::Bytes::from(vec![b'x'; 8 << 20]);
    let of_its_own: Vec<String> = (0..100).map(|number| format!("/miss-{number}")).collect();
    for path in ["/hit", "/past/a"].into_iter().chain(of_its_own.iter().map(String::as_str)) {
        origin.reply(path, Reply::new(large.clone()));
    }
    // There is room for all of them, if they were taken in.
    let program = Program::start(&origin.address, "[server]\nbody_idle_timeout = \"2s\"\n[memory]\nmax_size = \"2GiB\"").await;
    super::world::Client::of(program.address).get("/hit").await;
    let paths = |path: &str| vec![path.to_owned(); 100];
    for (what, paths) in [("hits", paths("/hit")), ("past the cache", paths("/past/a")), ("misses", of_its_own)] {
        let before = program.resident();
        let mut client = Framed::with_settings(program.address, &[(INITIAL_WINDOW_SIZE, 1)]).await;
        let requests: Vec<u8> = paths.iter().zip(0..).flat_map(|(path, i)| get(2 * i + 1, path)).collect();
        client.send(requests).await;
        let (mut most, mut ended) = (before, 0);
        let begun = Instant::now();
        while ended < 100 {
            assert!(begun.elapsed() < secs(30), "{what}: {ended} streams have ended");
            match tokio::time::timeout(millis(100), client.next()).await {
                Ok(frame) => ended += usize::from(frame.expect("the connection goes on").kind == RST_STREAM),
                Err(_) => most = most.max(program.resident()),
            }
        }
        let grown = most.saturating_sub(before);
        println!("{what}: +{} KiB, {:.1?}", grown >> 10, begun.elapsed());
        assert!(grown < 32 << 20, "{what} took {} KiB", grown >> 10);
    }
}

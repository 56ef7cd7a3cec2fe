//! Requests that are known by their octets: they are answered as all others are, from where all others are answered.

use super::world::{RawClient, Reply, World, content_length, millis, secs};
use sidecache::config::Config;
use sidecache::rules::Share;
use std::time::Instant;

const A: &str = "GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n";

/// How many requests were known, and how many were hits at all.
fn counted(world: &World) -> (u64, u64) {
    let hits = world.sidecar.proxy().counters().of(Some(0)).hits_memory.get();
    (world.sidecar.stats().hits_known.get(), hits)
}

/// Asks until the request is known.
async fn known(client: &mut RawClient, octets: &str) {
    for _ in 0..3 {
        client.exchange(octets).await;
    }
}

#[tokio::test]
async fn what_is_known_is_answered_as_it_was_before() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=60").with("etag", "\"1\"").with("x-b", "c"));
    let mut client = world.raw().await;
    client.exchange(A).await;
    let read = [client.exchange(A).await, client.exchange(A).await];
    assert_eq!(counted(&world), (0, 2));
    for _ in 0..1000 {
        let known = client.exchange(A).await;
        assert_eq!(known, read[0]);
    }
    assert_eq!((&read[0], counted(&world)), (&read[1], (1000, 1002)));
    assert!(read[0].0.contains("cache-status: sidecache; hit; ttl=60; detail=memory\r\n"), "{}", read[0].0);

    // Another connection, another spelling, and other fields that make no difference, each of which is to be known by itself.
    let mut other = world.raw().await;
    assert_eq!(other.exchange(A).await, read[0]);
    assert_eq!(counted(&world), (1001, 1003));
    for octets in [A.replace("Host", "host"), A.replace("test", "tesT"), A.replace("Accept", "X-Request-Id: b\r\nAccept")] {
        assert_eq!(other.exchange(&octets).await, read[0]);
    }
    assert_eq!((counted(&world), world.origin.count("/a")), ((1001, 1006), 1));
}

#[tokio::test]
async fn what_memory_has_decides() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=10"));
    let mut client = world.raw().await;
    known(&mut client, A).await;
    world.clock.advance(secs(4));
    let (head, _) = client.exchange(A).await;
    assert!(head.contains("age: 4\r\n") && head.contains("ttl=6;"), "{head}");
    assert_eq!(counted(&world).0, 1);
    // Its time is over.
    world.origin.reply("/a", Reply::new("two").cache("max-age=10"));
    world.clock.advance(secs(6));
    assert_eq!(client.exchange(A).await.1, "two");
    assert_eq!(client.exchange(A).await.1, "two");
    assert_eq!(counted(&world).0, 2);
    // It is purged.
    for order in [serde_json::json!({"url": "/a"}), serde_json::json!({"all": true})] {
        world.purge(order).await;
        let (head, _) = client.exchange(A).await;
        assert!(head.contains("; fwd=uri-miss"), "{head}");
        client.exchange(A).await;
    }
    assert_eq!((counted(&world).0, world.origin.count("/a")), (4, 4));
    // A purge that leaves it for emergencies.
    world.purge(serde_json::json!({"url": "/a", "soft": true})).await;
    let (head, _) = client.exchange(A).await;
    assert!(!head.contains("; hit; ttl=10"), "{head}");
}

#[tokio::test]
async fn each_gets_the_variant_that_its_fields_select() {
    let world = World::start().await;
    world.origin.reply("/a", "for all");
    let mut client = world.raw().await;
    let in_language = |language: &str| A.replace("Accept: */*", &format!("Accept-Language: {language}"));
    let (english, german) = (in_language("en"), in_language("de"));
    for octets in [&english, &german, &english, &german, &english, &german, &english, &german] {
        assert_eq!(client.exchange(octets).await.1, "for all");
    }
    assert_eq!(counted(&world), (2, 6));
    world.purge(serde_json::json!({"all": true})).await;
    world.origin.reply("/a", Reply::reflecting().with("vary", "accept-language"));
    for round in 0..3 {
        for (octets, language) in [(&english, "en"), (&german, "de")] {
            let (_, body) = client.exchange(octets).await;
            assert!(body.contains(&format!("accept-language: {language}")), "{round}: {body}");
        }
    }
    // Once the origin was shown too little, as its `Vary` told.
    assert_eq!((counted(&world).0, world.origin.count("/a")), (6, 5));
}

#[tokio::test]
async fn what_may_not_be_known_is_read_each_time() {
    let world = World::with_route(|route| route.share = Share::Everyone).await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=60").with("etag", "\"1\""));
    world.origin.reply("/past/a", "past");
    let mut client = world.raw().await;
    for field in [
        "Authorization: Bearer x",
        "If-None-Match: \"2\"",
        "Cache-Control: max-age=50",
        "Range: bytes=0-",
        "TE: trailers",
        "Max-Forwards: 3",
        "Connection: keep-alive, te",
    ] {
        for _ in 0..5 {
            client.exchange(A.replace("Accept: */*", field)).await;
        }
    }
    for octets in [A.replace("GET", "HEAD"), A.replace("HTTP/1.1", "HTTP/1.0")] {
        for _ in 0..5 {
            client.ask(&octets).await;
            if octets.starts_with("GET") {
                client.octets(3).await;
            }
        }
    }
    for _ in 0..5 {
        client.exchange(A.replace("/a", "/past/a")).await;
        client.exchange(A.replace("/a", "http://h/a")).await;
    }
    assert_eq!(counted(&world).0, 0);
    let tenant = http::HeaderName::from_static("x-tenant");
    let by_tenant = World::with_route(|route| route.share = Share::PerCredential(vec![tenant])).await;
    by_tenant.origin.reply("/a", "one");
    known(&mut by_tenant.raw().await, &A.replace("Accept: */*", "X-Tenant: a")).await;
    known(&mut by_tenant.raw().await, &A.replace("Accept: */*", "X-Tenant: a")).await;
    assert_eq!(counted(&by_tenant), (0, 5));
    let (head, _) = client.exchange(A.replace("keep-alive", "close")).await;
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn only_what_begins_a_request_is_looked_at() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.origin.reply("/b", "two");
    world.origin.reply("/past/b", Reply::echo());
    let mut client = world.raw().await;
    known(&mut client, A).await;

    // In pieces.
    for middle in [1, 20, A.len() - 1] {
        client.send(&A[..middle]).await;
        world.get("/b").await;
        assert_eq!(client.exchange(&A[middle..]).await.1, "one");
    }
    // The content of another request.
    for framing in
        [format!("Content-Length: {}\r\n\r\n", A.len()), format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", A.len())]
    {
        client.send(format!("POST /past/b HTTP/1.1\r\nHost: h\r\n{framing}")).await;
        world.get("/b").await;
        let before = counted(&world).0;
        client.send(A).await;
        if framing.starts_with('T') {
            client.send("\r\n0\r\n\r\n").await;
        }
        let head = client.head().await;
        assert!(head.contains("fwd=bypass"), "{head}");
        let body = match head.contains("content-length") {
            true => client.octets(content_length(&head)).await,
            false => client.octets(A.len() + 4 + 7).await,
        };
        assert!(body.contains(A), "{body}");
        assert_eq!(counted(&world).0, before);
    }
    // Several at once, and a part of the next.
    client.send(format!("{A}{A}{}{}", A.replace("/a", "/b"), &A[..30])).await;
    assert_eq!([client.response().await.1, client.response().await.1, client.response().await.1], ["one", "one", "two"]);
    assert_eq!(client.exchange(&A[30..]).await.1, "one");
    // What looks like a request goes on with the value of a field: as a whole that is none.
    client.send(format!("{A}GET /b HTTP/1.1\r\nHost: h\r\nX-A: ")).await;
    assert_eq!(client.response().await.1, "one");
    let head = client.ask(A).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert!(!client.rest().await.contains("HTTP/1.1"));
}

#[tokio::test]
async fn answers_keep_the_order_of_requests() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    let gate = super::world::Gate::closed();
    world.origin.reply("/past/slow", Reply::new("slow").behind(&gate));
    let mut client = world.raw().await;
    known(&mut client, A).await;
    client.send(A.replace("/a", "/past/slow")).await;
    world.origin.arrived("/past/slow", 1).await;
    client.send(A).await;
    world.get("/a").await.is("one");
    gate.open();
    assert_eq!([client.response().await.1, client.response().await.1], ["slow", "one"]);
    assert_eq!(client.exchange(A).await.1, "one");
}

#[tokio::test]
async fn who_reads_slowly_gets_all_of_it_and_then_the_next() {
    let world = World::with(|config| {
        config.cache.body_bytes_max = 64 << 20;
        config.server.keep_alive_timeout = millis(300);
    })
    .await;
    let long = "long ".repeat(4 << 20);
    world.origin.reply("/a", long.clone());
    world.origin.reply("/b", "two");
    let mut client = world.raw().await;
    known(&mut client, A).await;
    let before = counted(&world).0;
    // Nothing of it is read until all are asked for, of which one is not known.
    client.send(A).await;
    super::world::eventually("it is known", async || counted(&world).0 == before + 1).await;
    client.send(A.replace("/a", "/b")).await;
    client.send(A).await;
    // A silence in which nobody waits for the client's next request.
    tokio::time::sleep(millis(900)).await;
    for expected in [&long, "two", &long] {
        let (_, body) = client.response().await;
        assert!(body == expected, "{} octets", body.len());
    }
}

#[tokio::test]
async fn heads_and_idle_connections_have_their_time_as_before() {
    let world = World::with(|config: &mut Config| {
        (config.server.header_read_timeout, config.server.keep_alive_timeout) = (millis(400), millis(1600));
    })
    .await;
    world.origin.reply("/a", "one");
    let mut client = world.raw().await;
    known(&mut client, A).await;
    let begun = Instant::now();
    while begun.elapsed() < millis(2000) {
        assert_eq!(client.exchange(A).await.1, "one");
        tokio::time::sleep(millis(20)).await;
    }
    let (known_before, _) = counted(&world);
    assert!(known_before > 10, "{known_before}");
    // A head that does not end has its time from its first octet.
    let mut dawdling = world.raw().await;
    known(&mut dawdling, A).await;
    dawdling.exchange(A).await;
    let begun = Instant::now();
    dawdling.send(&A[..30]).await;
    dawdling.rest().await;
    assert!(begun.elapsed() < millis(1500), "a head took {:?}", begun.elapsed());
    // Who is silent has the time of the silent.
    client.exchange(A).await;
    let begun = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(begun.elapsed() > millis(1400) && begun.elapsed() < secs(10), "it lived for {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_farewell_is_heard_of() {
    let world = World::with(|config| config.server.drain_wait = secs(60)).await;
    world.origin.reply("/a", "one");
    let mut client = world.raw().await;
    known(&mut client, A).await;
    client.exchange(A).await;
    assert_eq!(counted(&world).0, 1);
    let sidecar = std::sync::Arc::new(world.sidecar);
    let leaving = tokio::spawn({
        let sidecar = sidecar.clone();
        async move { sidecar.leave().await }
    });
    super::world::eventually("it is said", async || {
        let mut client = RawClient::connect(sidecar.address).await;
        client.exchange(A).await.0.contains("connection: close\r\n")
    })
    .await;
    let (head, _) = client.exchange(A).await;
    assert!(head.contains("connection: close\r\n"), "{head}");
    leaving.abort();
}

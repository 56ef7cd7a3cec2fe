//! Everything has a bound, and whoever exceeds it is told.

mod world;

use std::time::Instant;
use tokio::task::JoinSet;
use world::{Client, Gate, Reply, World, eventually, millis, secs, soon};

#[tokio::test]
async fn a_head_with_too_many_fields_is_refused() {
    let world = World::with(|config| config.server.header_fields_max = 20).await;
    world.origin.reply("/a", "one");
    let ask = async |fields: usize| {
        let fields = "X-A: 1\r\n".repeat(fields);
        world.raw().await.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).await
    };
    assert!(ask(15).await.starts_with("HTTP/1.1 200 "));
    assert!(ask(30).await.starts_with("HTTP/1.1 431 "));
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let world = World::with(|config| config.server.header_bytes_max = 16 << 10).await;
    world.origin.reply("/a", "one");
    let ask = async |octets: usize| {
        world.raw().await.ask(format!("GET /a HTTP/1.1\r\nHost: h\r\nX-A: {}\r\n\r\n", "a".repeat(octets))).await
    };
    assert!(ask(15 << 10).await.starts_with("HTTP/1.1 200 "));
    assert!(ask(20 << 10).await.starts_with("HTTP/1.1 431 "));
    assert!(ask(200 << 10).await.starts_with("HTTP/1.1 431 "));
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn heads_over_http_2_have_the_same_limits() {
    let world = World::with(|config| {
        config.server.header_fields_max = 20;
        config.server.header_bytes_max = 16 << 10;
    })
    .await;
    world.origin.reply("/a", "one");
    let ask = || Client::http2(world.sidecar.address).get("/a");
    ask().await.status(200);
    ask().with("accept", &"a".repeat(20 << 10)).await.status(431);
    (0..30).fold(ask(), |request, _| request.with("accept", "1")).await.status(431);
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn a_head_that_dawdles_ends_its_connection_while_an_idle_one_lives_longer() {
    let world = World::with(|config| {
        config.server.header_read_timeout = millis(300);
        config.server.keep_alive_timeout = secs(20);
    })
    .await;
    world.origin.reply("/a", "one");
    let begun = Instant::now();
    let mut idle = world.raw().await;
    idle.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    idle.octets(3).await;

    for beginning in ["", "GET", "GET /a HTTP/1.1\r\nHost: h\r\n"] {
        let mut slow = world.raw().await;
        slow.send(beginning).await;
        let came = slow.rest().await;
        assert!(came.is_empty() || came.starts_with("HTTP/1.1 408 "), "{came}");
    }
    // The second head of a connection has as much time as the first.
    let mut second = world.raw().await;
    second.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    second.octets(3).await;
    second.send("GET /a HTTP/1.1\r\n").await;
    let came = second.rest().await;
    assert!(came.is_empty() || came.starts_with("HTTP/1.1 408 "), "{came}");

    assert!(begun.elapsed() > millis(1000));
    let head = idle.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_head_that_comes_in_drops_does_not_live_for_ever() {
    let world = World::with(|config| config.server.header_read_timeout = millis(300)).await;
    let mut slow = world.raw().await;
    slow.send("GET /a HTTP/1.1\r\nHost: h\r\n").await;
    let dripping = async {
        // Ends when the connection does: nobody answers an endless head.
        for _ in 0..200 {
            slow.send("X-A: 1\r\n").await;
            if tokio::time::timeout(millis(50), slow.try_head()).await.is_ok() {
                return;
            }
        }
        panic!("the head went on for ten seconds");
    };
    dripping.await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let world = World::with(|config| config.server.keep_alive_timeout = millis(200)).await;
    world.origin.reply("/a", "one");
    let mut idle = world.raw().await;
    idle.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(idle.rest().await, "one");
}

#[tokio::test]
async fn requests_beyond_the_places_and_the_queue_are_told_to_come_back() {
    let world = World::with(|config| {
        config.origin.requests_max = 1;
        config.origin.queue_max = 1;
    })
    .await;
    let gate = Gate::closed();
    world.origin.reply("/past/a", Reply::new("one").behind(&gate));
    let first = world.get("/past/a").spawn();
    world.origin.arrived("/past/a", 1).await;
    let queued = [world.get("/past/a").spawn(), world.get("/past/a").spawn()];
    // One of the two waits in the queue; there is no place for the other.
    world::eventually("one is refused", async || {
        world.metric("sidecache_origin_requests_total{result=\"refused\"}").await == 1.0
    })
    .await;
    assert_eq!(world.metric("sidecache_origin_requests_in_flight").await, 1.0);
    gate.open();
    first.await.unwrap().is("one");
    let mut statuses = Vec::new();
    for got in queued {
        let got = got.await.unwrap();
        if got.status == 503 {
            got.has("retry-after", "1").says("detail=origin-busy").is("sidecache: Service Unavailable (origin-busy)\n");
        }
        statuses.push(got.status.as_u16());
    }
    statuses.sort();
    assert_eq!(statuses, [200, 503]);
}

#[tokio::test]
async fn a_request_that_queues_too_long_is_told_to_come_back() {
    let world = World::with(|config| {
        config.origin.requests_max = 1;
        config.origin.queue_timeout = millis(100);
    })
    .await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/past/a", reply);
    // A place is taken until the body has ended.
    let mut first = world.get("/past/a").streaming().await;
    world.get("/past/b").await.status(503).has("retry-after", "1").says("detail=origin-busy");
    world.get("/b").await.status(503).has("retry-after", "1").says("detail=origin-busy");
    sending.send("one");
    assert_eq!(first.next().await, "one");
    drop(sending);
    first.whole().await.is("");
    world.origin.reply("/past/b", "two");
    world.get("/past/b").await.is("two");
}

#[tokio::test]
async fn clients_that_send_slowly_leave_places_for_those_who_send_nothing() {
    let world = World::with(|config| {
        config.origin.requests_max = 4;
        config.origin.queue_timeout = millis(100);
    })
    .await;
    let (mut slow, gate) = (JoinSet::new(), Gate::closed());
    for number in 0..8 {
        world.origin.reply(&format!("/past/{number}"), Reply::new("late").behind(&gate));
        let mut client = world.raw().await;
        client.send(format!("POST /past/{number} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\na")).await;
        slow.spawn(async move { (client.head().await, client) });
    }
    // Three have a place, whichever they are; the others are told to come back.
    let mut answered = Vec::new();
    while answered.len() < 5 {
        let (head, client) = soon("one more is refused", slow.join_next()).await.unwrap().unwrap();
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        answered.push(client);
    }
    for path in ["/past/b", "/b"] {
        world.origin.reply(path, "two");
        world.get(path).await.is("two");
    }
}

#[tokio::test]
async fn hits_need_no_place() {
    let world = World::with(|config| {
        config.origin.requests_max = 1;
        config.origin.queue_max = 0;
    })
    .await;
    world.origin.reply("/a", "one");
    world.get("/a").await.is("one");
    world.origin.reply("/past/a", Reply::new("late").behind(&Gate::closed()));
    let waiting = world.get("/past/a").spawn();
    world.origin.arrived("/past/a", 1).await;
    world.get("/a").await.is("one").hit("memory");
    waiting.abort();
}

#[tokio::test]
async fn a_body_of_the_origin_that_stands_still_is_given_up() {
    let world = World::with(|config| config.origin.body_idle_timeout = millis(200)).await;
    for path in ["/past/a", "/a"] {
        let (reply, sending) = Reply::sending();
        world.origin.reply(path, reply);
        sending.send("one");
        world.get(path).await.is_broken();
        sending.unwanted().await;
        world.origin.reply(path, "whole");
        world.get(path).await.is("whole");
    }
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let world = World::with(|config| config.server.body_idle_timeout = millis(200)).await;
    world.origin.reply("/past/echo", Reply::echo().behind(&Gate::closed()));
    let mut slow = world.raw().await;
    let head = slow.ask("POST /past/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nbeginning").await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(head.contains("detail=request-body-incomplete"), "{head}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let world = World::with(|config| config.server.body_idle_timeout = millis(300)).await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/past/a", reply);
    // More than the buffers on the way hold.
    for _ in 0..600 {
        sending.send(vec![b'x'; 64 << 10]);
    }
    let mut client = world.raw().await;
    client.send("GET /past/a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    sending.unwanted().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let world = World::with(|config| config.server.connections_max = 2).await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("one").behind(&gate));
    let request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut served = [world.raw().await, world.raw().await];
    for client in &mut served {
        client.send(request).await;
    }
    eventually("both are served", async || world.sidecar.proxy().followers() == 1).await;
    let mut third = world.raw().await;
    third.send(request).await;
    assert!(tokio::time::timeout(millis(100), third.try_head()).await.is_err(), "the third was served beside two others");
    gate.open();
    let head = soon("the answer to the third", third.head()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // One of the others was told that it is its last.
    let heads = [served[0].head().await, served[1].head().await];
    assert!(heads.iter().any(|head| head.contains("connection: close")), "{heads:?}");
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_one_that_waits() {
    let world = World::with(|config| config.server.connections_max = 2).await;
    world.origin.reply("/a", "one");
    let request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut idle = [world.raw().await, world.raw().await];
    for client in &mut idle {
        client.ask(request).await;
    }
    for _ in 0..3 {
        let head = soon("the answer to a third", world.raw().await.ask(request)).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    // The one that was idle for longest had to go.
    idle[0].octets("one".len()).await;
    assert_eq!(idle[0].rest().await, "");
}

#[tokio::test]
async fn memory_keeps_to_its_size() {
    let world = World::with(|config| config.store.memory.bytes_max = 1 << 20).await;
    for i in 0..200 {
        let path = format!("/{i}");
        world.origin.reply(&path, Reply::new("x".repeat(20 << 10)));
        world.get(&path).await.says("stored");
    }
    let memory = world.stats().await["tiers"]["memory"].clone();
    assert!(memory["used_mb"].as_f64().unwrap() <= 1.0, "{memory}");
    assert!(memory["keys"].as_u64().unwrap() >= 20, "{memory}");
    assert_eq!(memory["keys"].as_u64().unwrap() + memory["evictions"].as_u64().unwrap(), 200, "{memory}");
}

#[tokio::test]
async fn an_http_2_client_that_closes_its_window_does_not_hold_a_place_at_the_origin() {
    let world = World::with(|config| {
        config.server.body_idle_timeout = secs(1);
        config.origin.requests_max = 1;
    })
    .await;
    world.origin.reply("/large", Reply::new(vec![b'x'; 4 << 20]));
    world.origin.reply("/small", "one");

    let tcp = tokio::net::TcpStream::connect(world.sidecar.address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake::<_, http_body_util::Empty<bytes::Bytes>>(hyper_util::rt::TokioIo::new(tcp));
    let (mut stalled, connection) = builder.await.unwrap();
    tokio::spawn(connection);
    // Past the cache, which would take the body in and give the place back.
    let request = http::Request::get(format!("http://{}/large", world.sidecar.address)).header("x-unknown", "1");
    let response = stalled.send_request(request.body(http_body_util::Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);

    assert_eq!(world.metric("sidecache_origin_requests_in_flight").await, 1.0);
    eventually("the place is given back", async || world.metric("sidecache_origin_requests_in_flight").await == 0.0).await;
    world.get("/small").await.is("one");
    drop(response);
}

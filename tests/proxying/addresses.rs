//! An origin with several addresses.

use crate::world::{ASKS_FOR_WEBSOCKET, Gate, OPENS_WEBSOCKET, Origin, RawOrigin, Reply, World, eventually, free_port, millis};
use sidecache::config::Config;
use sidecache::origin::{Address, Addresses};
use tokio::net::{TcpSocket, TcpStream};

const ONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\none";

/// A world whose origin has these addresses.
async fn world_at(addresses: Vec<Address>, adjust: impl FnOnce(&mut Config)) -> World {
    let first = addresses[0].clone();
    let several = |config: &mut Config| {
        config.origin.addresses = Addresses::new(addresses).unwrap();
        adjust(config);
    };
    World::at(&first, several).await
}

/// An address at which nothing listens.
fn dead() -> Address {
    format!("http://127.0.0.1:{}", free_port()).parse().unwrap()
}

/// Two origins, which have the same.
async fn two(path: &str, reply: &'static str) -> [Origin; 2] {
    let both = [Origin::start().await, Origin::start().await];
    for origin in &both {
        origin.reply(path, reply);
    }
    both
}

async fn rerouted(world: &World) -> f64 {
    world.metric("sidecache_origin_requests_total{result=\"rerouted\"}").await
}

/// What the statistics say of each address, and that the metric says the same.
async fn standings(world: &World) -> Vec<String> {
    let stats = world.stats().await;
    let mut standings = Vec::new();
    for one in stats["origin"].as_array().unwrap() {
        let (address, status) = (one["address"].as_str().unwrap(), one["status"].as_str().unwrap());
        let gauge = world.metric(&format!("sidecache_origin_up{{address=\"{address}\"}}")).await;
        assert_eq!(gauge == 1.0, status == "well", "{address}");
        standings.push(status.to_owned());
    }
    standings
}

#[tokio::test]
async fn addresses_that_are_as_busy_take_turns() {
    let origins = two("/past/a", "one").await;
    let world = world_at(origins.iter().map(|origin| origin.address.clone()).collect(), |_| {}).await;
    for _ in 0..20 {
        world.get("/past/a").await.is("one");
    }
    assert_eq!(origins.map(|origin| origin.count("/past/a")), [10, 10]);
    assert_eq!(standings(&world).await, ["well", "well"]);
}

#[tokio::test]
async fn the_address_with_the_fewest_requests_under_way_is_asked() {
    let origins = two("/past/a", "one").await;
    let gate = Gate::closed();
    origins[0].reply("/past/slow", Reply::new("slow").behind(&gate));
    let world = world_at(origins.iter().map(|origin| origin.address.clone()).collect(), |_| {}).await;
    let slow = world.get("/past/slow").spawn();
    origins[0].arrived("/past/slow", 1).await;
    for _ in 0..10 {
        world.get("/past/a").await.is("one");
    }
    assert_eq!(origins.each_ref().map(|origin| origin.count("/past/a")), [0, 10]);
    gate.open();
    slow.await.unwrap().is("slow");
    // It counts until its body has ended, and then no more.
    for _ in 0..10 {
        world.get("/past/a").await.is("one");
    }
    assert_eq!(origins.map(|origin| origin.count("/past/a")), [5, 15]);
}

#[tokio::test]
async fn a_request_that_finds_no_connection_goes_to_another_address_whatever_its_method() {
    let origin = Origin::start().await;
    origin.reply("/past/echo", Reply::echo());
    let world = world_at(vec![dead(), origin.address.clone()], |_| {}).await;
    world.get("/past/echo").await.status(200).is("");
    world.ask("POST", "/past/echo").body("body").await.status(200).is("body");
    let (asked, sending) = world.ask("POST", "/past/echo").sending();
    let asked = asked.spawn();
    sending.send("in ");
    origin.arrived("/past/echo", 3).await;
    sending.send("pieces");
    drop(sending);
    asked.await.unwrap().status(200).is("in pieces");
    assert_eq!(rerouted(&world).await, 3.0);
    assert_eq!(origin.count("/past/echo"), 3);

    // After three failures in a row nobody tries it any more.
    assert_eq!(standings(&world).await, ["unwell", "well"]);
    for _ in 0..5 {
        world.get("/past/echo").await.status(200);
    }
    assert_eq!(rerouted(&world).await, 3.0);
}

#[tokio::test]
async fn an_address_that_swallows_packets_is_waited_for_no_longer_than_connecting_may_take() {
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    // Nobody takes these connections, and when its queue is full, the kernel takes no more.
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(millis(200), TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
    }
    let origin = Origin::start().await;
    origin.reply("/past/a", "one");
    let addresses = vec![format!("http://{address}").parse().unwrap(), origin.address.clone()];
    let world = world_at(addresses, |config| config.origin.connect_timeout = millis(300)).await;
    for _ in 0..3 {
        world.get("/past/a").await.is("one");
    }
    assert_eq!(rerouted(&world).await, 3.0);
    assert_eq!(standings(&world).await, ["unwell", "well"]);
}

#[tokio::test]
async fn there_is_at_most_one_other_attempt() {
    let origin = Origin::start().await;
    origin.reply("/past/a", "one");
    let world = world_at(vec![dead(), dead(), origin.address.clone()], |_| {}).await;
    world.get("/past/a").await.status(502).says("detail=origin-unreachable");
    assert_eq!(rerouted(&world).await, 1.0);
}

#[tokio::test]
async fn an_address_that_recovers_is_found_by_a_request_that_tries_it() {
    let port = free_port();
    let origin = Origin::start().await;
    origin.reply("/past/a", "one");
    let world = world_at(vec![format!("http://127.0.0.1:{port}").parse().unwrap(), origin.address.clone()], |_| {}).await;
    for _ in 0..3 {
        world.get("/past/a").await.is("one");
    }
    assert_eq!(standings(&world).await, ["unwell", "well"]);
    RawOrigin::on(port).await.always(ONE);
    eventually("it is well again", async || {
        world.get("/past/a").await.is("one");
        standings(&world).await == ["well", "well"]
    })
    .await;
    let before = origin.count("/past/a");
    for _ in 0..10 {
        world.get("/past/a").await.is("one");
    }
    assert_eq!(origin.count("/past/a"), before + 5);
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_left_alone() {
    let (hung, origin) = (Origin::start().await, Origin::start().await);
    hung.reply("/past/a", Reply::new("late").behind(&Gate::closed()));
    origin.reply("/past/a", "one");
    let addresses = vec![hung.address.clone(), origin.address.clone()];
    let world = world_at(addresses, |config| config.origin.first_byte_timeout = millis(100)).await;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(world.get("/past/a").await.status.as_u16());
    }
    // They take turns until three in a row have failed.
    assert_eq!(statuses, [504, 200, 504, 200, 504, 200, 200, 200, 200, 200]);
    assert_eq!(standings(&world).await, ["unwell", "well"]);
}

#[tokio::test]
async fn an_error_of_the_service_is_none_of_the_address() {
    let origins = two("/past/a", "one").await;
    origins[0].has("/past/a", Reply::new("broken").status(503));
    let world = world_at(origins.iter().map(|origin| origin.address.clone()).collect(), |_| {}).await;
    let mut broken = 0;
    for _ in 0..20 {
        broken += usize::from(world.get("/past/a").await.status == 503);
    }
    assert_eq!(broken, 10);
    // Nor is it a reason to ask again.
    assert_eq!(origins.each_ref().map(|origin| origin.count("/past/a")), [10, 10]);
    assert_eq!(standings(&world).await, ["well", "well"]);
}

#[tokio::test]
async fn where_all_are_unwell_all_are_used() {
    let port = free_port();
    let world = world_at(vec![dead(), format!("http://127.0.0.1:{port}").parse().unwrap()], |_| {}).await;
    for _ in 0..3 {
        world.get("/past/a").await.status(502);
    }
    assert_eq!(standings(&world).await, ["unwell", "unwell"]);
    RawOrigin::on(port).await.always(ONE);
    // Nobody waits for the pause to be over.
    world.get("/past/a").await.is("one");
    assert_eq!(standings(&world).await, ["unwell", "well"]);
}

#[tokio::test]
async fn the_only_address_is_always_used_and_what_is_said_of_it_is_true() {
    let port = free_port();
    let world = World::at(&format!("http://127.0.0.1:{port}").parse().unwrap(), |_| {}).await;
    for _ in 0..3 {
        assert_eq!(standings(&world).await, ["well"]);
        world.get("/past/a").await.status(502);
    }
    assert_eq!(standings(&world).await, ["unwell"]);
    RawOrigin::on(port).await.always(ONE);
    world.get("/past/a").await.is("one");
    assert_eq!(standings(&world).await, ["well"]);
}

#[tokio::test]
async fn a_request_on_a_dead_connection_is_sent_once_more_to_another_address() {
    let first = RawOrigin::start().await;
    let second = RawOrigin::start().await;
    let world = world_at(vec![first.address.clone(), second.address.clone()], |_| {}).await;
    let mut pooled = Vec::new();
    for origin in [&first, &second] {
        let asked = world.get("/past/first").spawn();
        let mut connection = origin.accept().await;
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await;
        asked.await.unwrap().is("one");
        pooled.push(connection);
    }
    let asked = world.get("/past/a").spawn();
    let mut dying = pooled.remove(0);
    dying.head().await;
    drop(dying);
    let mut fresh = second.accept().await;
    fresh.head().await;
    fresh.send(ONE).await;
    asked.await.unwrap().is("one");
    assert_eq!(world.metric("sidecache_origin_requests_total{result=\"retried\"}").await, 1.0);
}

#[tokio::test]
async fn a_response_streams_over_the_connection_of_a_second_attempt_over_each_version_of_http() {
    for http2 in [false, true] {
        let origin = if http2 { Origin::http2().await } else { Origin::start().await };
        let (reply, sending) = Reply::sending();
        origin.reply("/past/a", reply);
        let addresses = vec![dead(), origin.address.clone()];
        let world = world_at(addresses, |config| config.origin.http2 = http2).await;
        let mut got = world.get("/past/a").streaming().await;
        for piece in ["one", "two"] {
            sending.send(piece);
            assert_eq!(got.next().await, piece);
        }
        sending.send("three");
        drop(sending);
        got.whole().await.is("three");
        assert_eq!(rerouted(&world).await, 1.0);
    }
}

#[tokio::test]
async fn a_websocket_goes_to_another_address_too() {
    let origin = RawOrigin::start().await;
    let world = world_at(vec![dead(), origin.address.clone()], |_| {}).await;
    let mut client = world.raw().await;
    client.send(format!("GET /chat HTTP/1.1\r\nHost: h\r\n{ASKS_FOR_WEBSOCKET}\r\n\r\n")).await;
    let mut behind = origin.accept().await;
    behind.head().await;
    behind.send(OPENS_WEBSOCKET).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    client.send("one").await;
    assert_eq!(behind.octets(3).await, "one");
    behind.send("two").await;
    assert_eq!(client.octets(3).await, "two");
}

//! Connections to the origin: which are used again, and which are not kept.

use crate::world::{RawConnection, RawOrigin, World, eventually, millis, soon};
use sidecache::origin::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\nok";

/// Has so many requests wait for the origin at once, and answers them.
async fn asked_at_once(world: &World, origin: &RawOrigin, number: usize) -> Vec<RawConnection> {
    let asked: Vec<_> = (0..number).map(|_| world.get("/past/a").spawn()).collect();
    let mut connections = Vec::new();
    for _ in 0..number {
        let mut connection = origin.accept().await;
        connection.head().await;
        connections.push(connection);
    }
    for connection in &mut connections {
        connection.send(OK).await;
    }
    for got in asked {
        got.await.unwrap().is("ok");
    }
    connections
}

#[tokio::test]
async fn who_asks_next_is_given_the_connection_that_was_used_last() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut connections = asked_at_once(&world, &origin, 3).await;
    for _ in 0..3 {
        let asked = world.get("/past/a").spawn();
        let last = connections.last_mut().unwrap();
        last.head().await;
        last.send(OK).await;
        asked.await.unwrap().is("ok");
    }
    // Those before it wait for more to do.
    let asked = [world.get("/past/a").spawn(), world.get("/past/a").spawn(), world.get("/past/a").spawn()];
    for connection in &mut connections {
        connection.head().await;
        connection.send(OK).await;
    }
    for got in asked {
        got.await.unwrap().is("ok");
    }
}

#[tokio::test]
async fn what_the_origin_closes_is_let_go_although_nobody_asks() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    for mut connection in asked_at_once(&world, &origin, 3).await {
        connection.finish().await;
        assert_eq!(connection.rest().await, "");
    }
    asked_at_once(&world, &origin, 1).await;
}

#[tokio::test]
async fn no_more_are_kept_than_may_be_and_for_no_longer() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |config| {
        (config.origin.idle_connections_max, config.origin.idle_timeout) = (2, millis(1500));
    })
    .await;
    let mut kept = Vec::new();
    let connections = asked_at_once(&world, &origin, 5).await;
    for mut connection in connections {
        match tokio::time::timeout(millis(100), connection.rest()).await {
            Ok(rest) => assert_eq!(rest, ""),
            Err(_) => kept.push(connection),
        }
    }
    assert_eq!(kept.len(), 2);
    for mut connection in kept {
        assert_eq!(connection.rest().await, "");
    }
}

/// The origin has answered, and reads on; nobody else waits for that.
#[tokio::test]
async fn an_upload_is_sent_to_its_end_behind_a_response_that_came_early() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let mut client = world.raw().await;
    client.send("POST /past/a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\none").await;
    let mut connection = origin.accept().await;
    connection.head().await;
    assert_eq!(connection.octets(3).await, "one");
    connection.send(OK).await;
    let (head, body) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 200") && body == "ok", "{head}{body}");
    eventually("it is counted", async || world.metric("sidecache_origin_requests_in_flight").await == 0.0).await;
    client.send("two-two").await;
    assert_eq!(soon("the rest", connection.octets(7)).await, "two-two");
}

/// A client that reads nothing before it has sent all, and an origin that answers at once, and at length.
#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_the_response() {
    const LENGTH: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::Http(listener.local_addr().unwrap().to_string().parse().unwrap());
    let world = World::at(&address, |_| {}).await;
    let mut client = TcpStream::connect(world.sidecar.address).await.unwrap();
    let answering = tokio::spawn(async move {
        let (mut reader, mut writer) = listener.accept().await.unwrap().0.into_split();
        let mut octets = vec![0; 64 << 10];
        let read = reader.read(&mut octets).await.unwrap();
        let head = octets.windows(4).position(|four| four == b"\r\n\r\n").expect("the head comes as one");
        let mut came = read - head - 4;
        let response = [format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes(), &vec![b'r'; LENGTH]].concat();
        let writing = tokio::spawn(async move { writer.write_all(&response).await.map(|()| writer) });
        while came < LENGTH {
            let read = reader.read(&mut octets).await.unwrap();
            assert_ne!(read, 0, "the upload ends after {came} octets");
            came += read;
        }
        writing.await.unwrap().unwrap()
    });
    let head = format!("POST /past/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {LENGTH}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    soon("all of the upload", client.write_all(&vec![b'u'; LENGTH])).await.unwrap();
    let mut response = Vec::new();
    soon("all of the response", client.read_to_end(&mut response)).await.unwrap();
    assert!(response.ends_with(&vec![b'r'; LENGTH]), "{} octets", response.len());
    soon("the origin", answering).await.unwrap();
}

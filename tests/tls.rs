//! TLS between clients and the listeners.

mod world;

use sidecache::clock::Clock;
use sidecache::config::Config;
use sidecache::server::TlsFiles;
use sidecache::{Sidecar, StartError};
use std::path::Path;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls;
use world::{
    ASKS_FOR_WEBSOCKET, Certified, Gate, OPENS_WEBSOCKET, RawClient, RawOrigin, Reply, Secure, World, eventually, millis, secs,
    soon,
};

/// A certificate for `localhost`, in a directory of its own.
fn certified() -> (TempDir, Certified) {
    let directory = tempfile::tempdir().unwrap();
    let certified = Certified::new("localhost", directory.path());
    (directory, certified)
}

/// A world whose listener for requests speaks TLS.
async fn secure(certified: &Certified, adjust: impl FnOnce(&mut Config)) -> World {
    World::with(|config| {
        config.server.tls = Some(certified.files());
        adjust(config);
    })
    .await
}

#[tokio::test]
async fn a_request_over_tls_is_answered_and_the_origin_told_of_it() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |_| {}).await;
    world.origin.reply("/a", "one");
    for version in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let version: &'static [_] = Box::leak(Box::new(version));
        let mut client = certified.client().version(version).connect(world.sidecar.address).await.unwrap();
        assert!(matches!(client, Secure::Http1(_)));
        client.get("/a").await.unwrap().status(200).is("one");
        client.get("/a").await.unwrap().is("one").hit("memory");
    }
    let absolute = "GET https://localhost/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let head = certified.client().raw(world.sidecar.address).await.ask(absolute).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("; hit;"), "{head}");
    let seen = world.origin.last("/a");
    assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    // The scheme is a part of the key.
    let looked_at = |scheme: &str| world.ask_admin("GET", &format!("/admin/cache/entries?url={scheme}%3A%2F%2Flocalhost%2Fa"));
    looked_at("https").await.status(200);
    looked_at("http").await.status(404);
}

#[tokio::test]
async fn http2_is_agreed_on_and_not_guessed() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |_| {}).await;
    world.origin.reply("/a", "one");
    let mut client = certified.client().offering(&["h2", "http/1.1"]).connect(world.sidecar.address).await.unwrap();
    assert!(matches!(client, Secure::Http2(_)));
    client.get("/a").await.unwrap().is("one").forwarded("uri-miss");
    client.get("/a").await.unwrap().is("one").hit("memory");
    assert_eq!(world.origin.last("/a").field("x-forwarded-proto").as_deref(), Some("https"));
    // Over HTTP/1.1 it is the same response.
    certified.client().get(world.sidecar.address, "/a").await.unwrap().hit("memory");
    // Nothing agreed on is HTTP/1.1.
    let mut client = certified.client().offering(&[]).raw(world.sidecar.address).await;
    assert!(client.ask("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    let mut client = certified.client().offering(&[]).raw(world.sidecar.address).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    let mut client = certified.client().offering(&["h2"]).raw(world.sidecar.address).await;
    client.send("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn bodies_of_any_size_go_both_ways() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |_| {}).await;
    world.origin.reply("/past/echo", Reply::echo());
    world.origin.reply("/big", "y".repeat(3 << 20));
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let mut client = certified.client().offering(protocols).connect(world.sidecar.address).await.unwrap();
        let body = "x".repeat(1 << 20);
        client.ask("POST", "/past/echo", body.clone()).await.unwrap().is(&body);
        for _ in 0..2 {
            client.get("/big").await.unwrap().is(&"y".repeat(3 << 20));
        }
    }
}

#[tokio::test]
async fn who_trusts_another_authority_does_not_speak_with_it() {
    let (_directory, own) = certified();
    let (_elsewhere, other) = certified();
    let world = secure(&own, |_| {}).await;
    assert!(other.client().get(world.sidecar.address, "/a").await.is_err());
    eventually("it is counted", async || world.metric("sidecache_tls_failed_total").await == 1.0).await;
    assert_eq!(world.origin.count("/a"), 0);
}

#[tokio::test]
async fn where_clients_must_show_a_certificate_no_other_is_heard() {
    let (_directory, own) = certified();
    let (_clients, client) = certified();
    let (_strangers, stranger) = certified();
    let world = secure(&own, |config| {
        let files = config.server.tls.as_mut().unwrap();
        files.client_ca = Some(client.authority.clone());
    })
    .await;
    world.origin.reply("/a", "one");
    for version in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let version: &'static [_] = Box::leak(Box::new(version));
        let trusting = own.client().version(version);
        let address = world.sidecar.address;
        trusting.clone().showing(&client).get(address, "/a").await.unwrap().status(200).is("one");
        assert!(trusting.get(address, "/a").await.is_err(), "without a certificate");
        assert!(trusting.clone().showing(&stranger).get(address, "/a").await.is_err(), "of another authority");
    }
    eventually("it is counted", async || world.metric("sidecache_tls_failed_total").await == 4.0).await;
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn plain_text_is_not_answered_on_a_tls_port() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |_| {}).await;
    world.origin.reply("/a", "one");
    for octets in ["GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(world.sidecar.address).await.unwrap();
        stream.write_all(octets.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut answer)).await;
        // At most an alert (RFC 8446 §6), seven octets in a record of type 21.
        assert!(answer.is_empty() || (answer.len() == 7 && answer[0] == 21), "{answer:?}");
    }
    assert_eq!(world.origin.count("/a"), 0);
    certified.client().get(world.sidecar.address, "/a").await.unwrap().is("one");
}

#[tokio::test]
async fn a_handshake_that_stalls_has_an_end() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |config| config.server.header_read_timeout = millis(200)).await;
    for octets in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(world.sidecar.address).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    // So does who has shaken hands and says nothing.
    let mut silent = certified.client().raw(world.sidecar.address).await;
    assert_eq!(silent.rest().await, "");
}

#[tokio::test]
async fn handshakes_that_stall_count_as_connections_and_make_room_for_others() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |config| {
        config.server.connections_max = 2;
        config.server.header_read_timeout = secs(60);
    })
    .await;
    world.origin.reply("/a", "one");
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(TcpStream::connect(world.sidecar.address).await.unwrap());
    }
    certified.client().get(world.sidecar.address, "/a").await.unwrap().is("one");
}

#[tokio::test]
async fn a_connection_that_was_idle_is_used_again() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |_| {}).await;
    world.origin.reply("/a", "one");
    let mut client = certified.client().raw(world.sidecar.address).await;
    for _ in 0..3 {
        let head = client.ask("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(client.octets(3).await, "one");
        // Longer than it takes until it counts as idle, and is taken back from hyper.
        tokio::time::sleep(millis(400)).await;
    }
    // A head in pieces, the first of which is shorter than what is read ahead.
    client.send("GET ").await;
    tokio::time::sleep(millis(400)).await;
    assert!(client.ask("/a HTTP/1.1\r\nHost: localhost\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    drop(client);
    eventually("it is closed", async || world.metric("sidecache_client_connections").await == 1.0).await;
}

#[tokio::test]
async fn an_idle_connection_has_an_end_that_is_said() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |config| config.server.keep_alive_timeout = millis(600)).await;
    world.origin.reply("/a", "one");
    let mut stream = certified.client().stream(world.sidecar.address).await.unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    soon("the end", stream.read_to_end(&mut answer))
        .await
        .expect("TLS is closed as it has to be, so that nothing seems to be cut off");
    assert!(answer.ends_with(b"one"));
}

#[tokio::test]
async fn who_takes_nothing_is_let_go() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |config| config.server.body_idle_timeout = millis(300)).await;
    world.origin.reply("/past/big", "y".repeat(32 << 20));
    let mut stream = certified.client().stream(world.sidecar.address).await.unwrap();
    stream.write_all(b"GET /past/big HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    world.origin.arrived("/past/big", 1).await;
    // That of whoever asks for the metrics is one.
    eventually("it is closed", async || world.metric("sidecache_client_connections").await == 1.0).await;
    drop(stream);
}

#[tokio::test]
async fn a_websocket_is_bridged_over_tls() {
    let (_directory, certified) = certified();
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |config| config.server.tls = Some(certified.files())).await;
    let mut client = certified.client().raw(world.sidecar.address).await;
    client.send(format!("GET /chat HTTP/1.1\r\nHost: h\r\n{ASKS_FOR_WEBSOCKET}\r\n\r\n")).await;
    let mut behind = origin.accept().await;
    assert!(behind.head().await.to_lowercase().contains("\r\nx-forwarded-proto: https\r\n"));
    behind.send(format!("{OPENS_WEBSOCKET}hello")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.octets(5).await, "hello");
    for (message, reply) in [("one", "uno"), ("two", "due")] {
        client.send(message).await;
        assert_eq!(behind.octets(3).await, message);
        behind.send(reply).await;
        assert_eq!(client.octets(3).await, reply);
    }
    client.finish().await;
    assert_eq!(behind.rest().await, "");
}

#[tokio::test]
async fn what_is_under_way_over_tls_ends_before_the_sidecar_does() {
    let (_directory, certified) = certified();
    let world = secure(&certified, |_| {}).await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("late").behind(&gate));
    let mut asking = Vec::new();
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let mut client = certified.client().offering(protocols).connect(world.sidecar.address).await.unwrap();
        asking.push(tokio::spawn(async move { client.get("/a").await }));
    }
    world.origin.arrived("/a", 1).await;
    eventually("both wait", async || world.stats().await["followers"] == 1).await;
    let (all_ended, ()) = tokio::join!(world.sidecar.drain(), async { gate.open() });
    assert!(all_ended);
    for asked in asking {
        asked.await.unwrap().unwrap().status(200).is("late");
    }
}

#[tokio::test]
async fn the_admin_listener_has_a_certificate_of_its_own() {
    let (_directory, own) = certified();
    let (_clients, client) = certified();
    let world = World::with(|config| {
        config.admin_tls = Some(TlsFiles { client_ca: Some(client.authority.clone()), ..own.files() });
    })
    .await;
    world.origin.reply("/a", "one");
    world.get("/a").await.is("one");
    let address = world.sidecar.admin_address.unwrap();
    let mut operator = own.client().showing(&client).connect(address).await.unwrap();
    operator.get("/healthz").await.unwrap().is("ok\n");
    operator.ask("POST", "/admin/cache/purge", r#"{"all": true}"#).await.unwrap().status(200);
    world.get("/a").await.forwarded("uri-miss");
    assert!(own.client().get(address, "/healthz").await.is_err());
    let mut plain = RawClient::connect(address).await;
    plain.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(plain.try_head().await.is_none());
}

#[tokio::test]
async fn files_that_are_of_no_use_are_told_by_key_and_name() {
    let (directory, own) = certified();
    let (_elsewhere, other) = certified();
    let junk = directory.path().join("junk.pem");
    std::fs::write(&junk, "no certificate\n").unwrap();
    let nothing = directory.path().join("nothing.pem");
    let check = async |files: TlsFiles, key: &str, file: &Path, why: &str| {
        for is_admin in [false, true] {
            let mut config = Config::default();
            config.server.listen = "127.0.0.1:0".parse().unwrap();
            config.admin.listen = Some(config.server.listen);
            let section = match is_admin {
                true => {
                    config.admin_tls = Some(files.clone());
                    "[admin.tls]"
                }
                false => {
                    config.server.tls = Some(files.clone());
                    "[server.tls]"
                }
            };
            let Err(error @ StartError::Tls { .. }) = Sidecar::start(config, Clock::system()).await else {
                panic!("it has started")
            };
            let said = error.to_string();
            assert!(said.starts_with(&format!("{section} {key} {}: ", file.display())) && said.contains(why), "{said}");
        }
    };
    let files = || own.files();
    check(TlsFiles { certificate: nothing.clone(), ..files() }, "certificate_file", &nothing, "No such file").await;
    check(TlsFiles { certificate: junk.clone(), ..files() }, "certificate_file", &junk, "no certificate in it").await;
    check(TlsFiles { key: nothing.clone(), ..files() }, "key_file", &nothing, "No such file").await;
    check(TlsFiles { key: junk.clone(), ..files() }, "key_file", &junk, "no items found").await;
    check(TlsFiles { key: other.key.clone(), ..files() }, "key_file", &other.key, "keys may not be consistent").await;
    check(TlsFiles { client_ca: Some(junk.clone()), ..files() }, "client_ca_file", &junk, "no certificate in it").await;
}

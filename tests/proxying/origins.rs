//! The ways to reach an origin.

use crate::world::{Certified, Client, Origin, RawOrigin, Reply, World};
use sidecache::origin::ClientCertificate;

/// Asks for what goes past the cache, and through it.
async fn all_is_well(world: &World) {
    world.origin.reply("/past/echo", Reply::echo());
    world.ask("POST", "/past/echo").body("body").await.status(200).is("body");
    world.origin.reply("/a", Reply::new("one").with("x-b", "1").with("x-b", "2"));
    world.get("/a").await.is("one").forwarded("uri-miss").has("x-b", "1 | 2");
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn the_origin_may_speak_http_2() {
    let world = World::before(Origin::http2().await, |config| config.origin.http2 = true).await;
    all_is_well(&world).await;
    let seen = world.origin.last("/a");
    assert_eq!(seen.version, http::Version::HTTP_2);
}

#[tokio::test]
async fn trailers_that_nobody_announced_go_from_http_2_to_http_2() {
    let world = World::before(Origin::http2().await, |config| config.origin.http2 = true).await;
    for path in ["/past/sum", "/sum"] {
        let (reply, sending) = Reply::sending();
        world.origin.reply(path, reply);
        sending.send("body");
        sending.trailers("x-sum", "42");
        let got = Client::http2(world.sidecar.address).get(path).with("te", "trailers").await;
        assert_eq!(got.is("body").trailers.as_ref().expect("there are trailers")["x-sum"], "42", "{path}");
        assert_eq!(world.origin.last(path).field("te").as_deref(), Some("trailers"));
    }
}

#[tokio::test]
async fn a_body_that_http_2_resets_is_broken_and_not_stored() {
    let world = World::before(Origin::http2().await, |config| config.origin.http2 = true).await;
    for path in ["/past/a", "/a"] {
        let (reply, sending) = Reply::sending();
        world.origin.reply(path, reply);
        let mut got = world.get(path).streaming().await;
        sending.send("one");
        assert_eq!(got.next().await, "one");
        sending.cut();
        got.whole().await.is_broken();
        world.origin.reply(path, "whole");
        world.get(path).await.is("whole").does_not_say("hit");
    }
}

#[tokio::test]
async fn the_origin_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::before(Origin::unix(&directory.path().join("origin")), |_| {}).await;
    all_is_well(&world).await;
    assert_eq!(world.origin.last("/a").field("host"), Some(world.sidecar.address.to_string()));
}

#[tokio::test]
async fn the_origin_may_speak_tls_with_a_certificate_that_the_configuration_trusts() {
    let directory = tempfile::tempdir().unwrap();
    let certified = Certified::new("localhost", directory.path());
    let origin = Origin::tls(certified.acceptor()).await;
    let world = World::before(origin, |config| config.origin.ca_file = Some(certified.authority)).await;
    all_is_well(&world).await;
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_or_of_another_name_is_refused() {
    for (name, is_trusted) in [("localhost", false), ("other.example", true)] {
        let directory = tempfile::tempdir().unwrap();
        let certified = Certified::new(name, directory.path());
        let origin = Origin::tls(certified.acceptor()).await;
        let authority = is_trusted.then_some(certified.authority);
        let world = World::before(origin, |config| config.origin.ca_file = authority).await;
        world.get("/a").await.status(502).says("detail=origin-unreachable");
    }
}

#[tokio::test]
async fn an_origin_that_asks_for_a_certificate_is_shown_that_of_the_configuration() {
    let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [own, shown, stranger] = directories.each_ref().map(|directory| Certified::new("localhost", directory.path()));
    let world = async |certificate: Option<ClientCertificate>| {
        let origin = Origin::tls(own.demanding(&shown.authority)).await;
        World::before(origin, |config| {
            config.origin.ca_file = Some(own.authority.clone());
            config.origin.client_certificate = certificate;
        })
        .await
    };
    all_is_well(&world(Some(shown.shown())).await).await;
    for certificate in [None, Some(stranger.shown())] {
        let world = world(certificate).await;
        world.get("/a").await.status(502);
        assert_eq!(world.origin.count("/a"), 0);
    }
}

#[tokio::test]
async fn an_http_1_0_origin_is_understood() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\none");
    world.get("/past/a").await.is("one").has("via", "1.0 sidecache");
    world.get("/a").await.is("one").says("stored");
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn a_body_that_only_the_end_of_the_connection_delimits_is_relayed_and_not_stored() {
    for head in ["HTTP/1.0 200 OK", "HTTP/1.1 200 OK"] {
        let origin = RawOrigin::start().await;
        let world = World::at(&origin.address, |_| {}).await;
        origin.always(format!("{head}\r\n\r\none").leak());
        for _ in 0..2 {
            world.get("/a").await.is("one").forwarded("uri-miss").says("detail=length-unknown");
        }
    }
}

#[tokio::test]
async fn interim_responses_do_not_confuse() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin
        .always("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
    world.get("/a").await.status(200).is("one");
}

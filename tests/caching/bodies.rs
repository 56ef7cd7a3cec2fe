//! Bodies that are too large, or cut short.

use crate::world::{RawOrigin, Reply, World};

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_streamed_and_not_stored() {
    let world = World::with(|config| config.cache.body_bytes_max = 1 << 20).await;
    let body = "x".repeat((1 << 20) + 1);
    world.origin.reply("/a", Reply::new(body.clone()));
    for _ in 0..2 {
        let got = world.get("/a").await;
        got.forwarded("uri-miss").says("detail=too-large").does_not_say("stored");
        assert!(got.text() == body);
    }
    assert_eq!(world.stats().await["total_keys"], 0);
}

#[tokio::test]
async fn the_largest_body_that_is_stored_is_stored() {
    let world = World::with(|config| config.cache.body_bytes_max = 1 << 20).await;
    let body = "x".repeat(1 << 20);
    world.origin.reply("/a", Reply::new(body.clone()));
    world.get("/a").await.says("stored");
    let got = world.get("/a").await;
    got.hit("memory");
    assert!(got.text() == body);
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_streamed_to_its_end_and_not_stored() {
    let world = World::with(|config| config.cache.body_bytes_max = 1 << 20).await;
    let body = "0123456789abcdef".repeat(1 << 16) + "and much more than is stored";
    for _ in 0..2 {
        let (reply, sending) = Reply::sending();
        world.origin.reply("/a", reply);
        body.as_bytes().chunks(10_000).for_each(|chunk| sending.send(chunk.to_vec()));
        drop(sending);
        let got = world.get("/a").await;
        got.forwarded("uri-miss");
        assert!(got.text() == body);
    }
    assert_eq!(world.stats().await["total_keys"], 0);
}

#[tokio::test]
async fn a_body_without_a_length_is_stored_with_one() {
    let world = World::start().await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply);
    sending.send("one ");
    sending.send("two");
    drop(sending);
    world.get("/a").await.is("one two").has("transfer-encoding", "chunked");
    world.get("/a").await.is("one two").hit("memory").has("content-length", "7").has("transfer-encoding", "");
}

#[tokio::test]
async fn a_body_that_was_cut_short_is_never_stored_and_the_client_can_tell() {
    let cut = [
        ("Content-Length: 10\r\n\r\none", false),
        ("Content-Length: 10\r\n\r\none", true),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n5\r\ntw", false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\nxyz\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\none!!", false),
    ];
    for path in ["/a", "/past/a"] {
        for (octets, by_reset) in cut {
            let origin = RawOrigin::start().await;
            let world = World::at(&origin.address, |_| {}).await;
            let asked = world.get(path).streaming();
            let answering = async {
                let mut connection = origin.accept().await;
                connection.head().await;
                connection.send(format!("HTTP/1.1 200 OK\r\n{octets}")).await;
                connection
            };
            let (mut got, connection) = tokio::join!(asked, answering);
            assert_eq!(got.next().await, "one");
            if by_reset {
                connection.reset()
            } else {
                drop(connection)
            }
            got.whole().await.is_broken();

            let asked = world.get(path).spawn();
            let mut connection = origin.accept().await;
            connection.head().await;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole").await;
            let got = asked.await.unwrap();
            got.is("whole").forwarded(if path == "/a" { "uri-miss" } else { "bypass" });
        }
    }
}

#[tokio::test]
async fn a_body_that_goes_on_past_its_length_is_cut_there_and_its_connection_is_not_used_again() {
    for path in ["/a", "/past/a"] {
        for surplus in ["TWO", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"] {
            let origin = RawOrigin::start().await;
            let world = World::at(&origin.address, |_| {}).await;
            let asked = world.get(path).spawn();
            let mut lavish = origin.accept().await;
            lavish.head().await;
            lavish.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"1\"\r\n\r\none{surplus}")).await;
            asked.await.unwrap().status(200).is("one").has("content-length", "3");
            if path == "/a" {
                world.get(path).await.is("one").hit("memory");
            }
            let asked = world.get("/b").spawn();
            let mut fresh = origin.accept().await;
            fresh.head().await;
            fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh").await;
            asked.await.unwrap().is("fresh");
        }
    }
}

#[tokio::test]
async fn a_cut_body_does_not_replace_what_was_stored() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").await.is("one");
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply);
    let asked = world.get("/a").with("cache-control", "no-cache").spawn();
    sending.send("two");
    world.origin.arrived("/a", 2).await;
    sending.cut();
    asked.await.unwrap().is_broken();
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn a_response_that_memory_has_no_room_for_does_not_leave_an_older_one_behind() {
    let world = World::with(|config| config.store.memory.bytes_max = 1 << 20).await;
    let large = "x".repeat(300 << 10);
    world.origin.reply("/a", "one");
    world.origin.reply("/a", Reply::new(large.clone()));
    world.get("/a").await.is("one");
    world.get("/a").with("cache-control", "no-cache").await.is(&large);
    world.get("/a").await.is(&large).forwarded("uri-miss");
}

//! One fetch for many: who waits for whom, and who doesn't.

#[path = "../world/mod.rs"]
mod world;

use tokio::task::JoinHandle;
use world::{Client, Gate, Got, RawOrigin, Reply, World, eventually, secs};

/// Sends requests at once, each on a connection of its own, and waits until the sidecar has them all.
async fn ask_together(world: &World, number: usize, path: &str) -> Vec<JoinHandle<Got>> {
    let before = world.metric("sidecache_client_connections").await as usize;
    let asked = (0..number).map(|_| Client::of(world.sidecar.address).get(path).spawn()).collect();
    eventually("all have connected", async || world.metric("sidecache_client_connections").await as usize >= before + number)
        .await;
    asked
}

#[tokio::test]
async fn a_thousand_requests_for_a_cold_key_are_one_request_to_the_origin_and_stream_along() {
    let world = World::start().await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply);
    sending.send("one ");
    // Over HTTP/2, so that the test needs no thousand descriptors.
    let clients: Vec<Client> = (0..5).map(|_| Client::http2(world.sidecar.address)).collect();
    let asked: Vec<_> = (0..1000).map(|i| tokio::spawn(clients[i % 5].get("/a").streaming())).collect();
    let mut following = Vec::new();
    for streaming in asked {
        let mut streaming = streaming.await.unwrap();
        assert_eq!(streaming.next().await, "one ");
        following.push(streaming);
    }
    assert_eq!(world.stats().await["fetches_under_way"], 1);
    sending.send("two");
    drop(sending);
    for streaming in following {
        streaming.whole().await.status(200).is("two");
    }
    assert_eq!(world.origin.count("/a"), 1);
    assert_eq!(world.stats().await["routes"][0]["collapsed"], 999);
    world.get("/a").await.is("one two").hit("memory");
    eventually("the fetch has ended", async || world.stats().await["fetches_under_way"] == 0).await;
}

#[tokio::test]
async fn followers_say_that_they_followed() {
    let world = World::start().await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("one").behind(&gate));
    let leader = world.get("/a").spawn();
    world.origin.arrived("/a", 1).await;
    let followers = ask_together(&world, 3, "/a").await;
    gate.open();
    leader.await.unwrap().is("one").forwarded("uri-miss").says("stored").does_not_say("collapsed");
    for follower in followers {
        follower.await.unwrap().is("one").forwarded("uri-miss").says("collapsed").has("age", "0");
    }
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn a_leader_that_leaves_before_the_response_cuts_nobody() {
    let world = World::start().await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("one").behind(&gate));
    let mut leader = world.raw().await;
    leader.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    world.origin.arrived("/a", 1).await;
    leader.reset();
    let ask = || world.get("/a").with("host", "h").spawn();
    let followers = [ask(), ask(), ask()];
    gate.open();
    for follower in followers {
        follower.await.unwrap().is("one");
    }
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn a_leader_that_leaves_within_the_body_cuts_nobody() {
    let world = World::start().await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply);
    let mut leader = world.raw().await;
    leader.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    sending.send("one ");
    let mut follower = world.get("/a").with("host", "h").streaming().await;
    assert_eq!(follower.next().await, "one ");
    leader.reset();
    sending.send("two");
    assert_eq!(follower.next().await, "two");
    drop(sending);
    follower.whole().await.is("");
    world.get("/a").with("host", "h").await.is("one two").hit("memory");
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_all_have_left() {
    let world = World::start().await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply);
    let mut leader = world.raw().await;
    leader.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    sending.send("one");
    leader.reset();
    drop(sending);
    eventually("the response is stored", async || world.stats().await["total_keys"] == 1).await;
    world.get("/a").with("host", "h").await.is("one").hit("memory");
}

#[tokio::test]
async fn a_response_that_cannot_be_stored_releases_all_at_once() {
    let world = World::start().await;
    let gate = Gate::closed();
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply.cache("private").behind(&gate));
    world.origin.reply("/a", Reply::new("mine").cache("private"));
    let leader = tokio::spawn(world.get("/a").streaming());
    world.origin.arrived("/a", 1).await;
    let followers = ask_together(&world, 5, "/a").await;
    assert_eq!(world.origin.count("/a"), 1);
    gate.open();
    // The leader's body is still coming; nobody waits for it.
    for follower in followers {
        follower.await.unwrap().is("mine").does_not_say("collapsed");
    }
    assert_eq!(world.origin.count("/a"), 6);
    sending.send("the leader's");
    drop(sending);
    leader.await.unwrap().whole().await.is("the leader's");
}

#[tokio::test]
async fn a_key_whose_response_could_not_be_stored_is_remembered_for_a_while() {
    let world = World::with(|config| config.cache.remember_unstorable = secs(10)).await;
    world.origin.reply("/a", Reply::new("one").cache("no-store"));
    world.get("/a").await.is("one");
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("two").cache("no-store").behind(&gate));
    let asked = ask_together(&world, 3, "/a").await;
    // All three reach the origin though none of them is answered.
    world.origin.arrived("/a", 4).await;
    gate.open();
    for got in asked {
        got.await.unwrap().is("two");
    }

    world.clock.advance(secs(11));
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("three").behind(&gate));
    let asked = ask_together(&world, 3, "/a").await;
    gate.open();
    for got in asked {
        got.await.unwrap().is("three");
    }
    assert_eq!(world.origin.count("/a"), 5);
}

#[tokio::test]
async fn an_origin_that_fails_fails_all_who_wait_together() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    let asked = ask_together(&world, 5, "/a").await;
    let mut connection = origin.accept().await;
    connection.head().await;
    drop(connection);
    for got in asked {
        got.await.unwrap().status(502).says("detail=origin-closed");
    }
    assert_eq!(world.metric("sidecache_origin_requests_total{result=\"failed\"}").await, 1.0);
}

#[tokio::test]
async fn a_body_that_breaks_breaks_for_all_who_follow() {
    let world = World::start().await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply);
    sending.send("one");
    let mut following = [world.get("/a").streaming().await, world.get("/a").streaming().await];
    for streaming in &mut following {
        assert_eq!(streaming.next().await, "one");
    }
    sending.cut();
    for streaming in following {
        streaming.whole().await.is_broken();
    }
    world.origin.reply("/a", "whole");
    world.get("/a").await.is("whole").forwarded("uri-miss");
}

#[tokio::test]
async fn requests_that_select_different_variants_do_not_share_an_answer() {
    let world = World::start().await;
    let gate = Gate::closed();
    let reply = |body: &'static str| Reply::new(body).with("vary", "accept-language").cache("max-age=60");
    world.origin.reply("/a", reply("hallo").behind(&gate));
    world.origin.reply("/a", reply("hello"));
    let german = world.get("/a").with("accept-language", "de").spawn();
    world.origin.arrived("/a", 1).await;
    let english = world.get("/a").with("accept-language", "en").spawn();
    gate.open();
    german.await.unwrap().is("hallo");
    english.await.unwrap().is("hello").does_not_say("collapsed");

    // Once it is known what they vary on, they do not wait for each other either.
    let gate = Gate::closed();
    world.origin.reply("/a", reply("salut").behind(&gate));
    let french = world.get("/a").with("accept-language", "fr").spawn();
    world.origin.arrived("/a", 3).await;
    world.origin.reply("/a", reply("ciao").behind(&gate));
    let italian = world.get("/a").with("accept-language", "it").spawn();
    world.origin.arrived("/a", 4).await;
    gate.open();
    french.await.unwrap().is("salut");
    italian.await.unwrap().is("ciao");
}

#[tokio::test]
async fn requests_with_credentials_follow_nobody() {
    for field in ["authorization", "cookie"] {
        let world = World::start().await;
        let gate = Gate::closed();
        for body in ["one", "two", "three"] {
            world.origin.reply("/a", Reply::new(body).behind(&gate));
        }
        let anonymous = world.get("/a").spawn();
        world.origin.arrived("/a", 1).await;
        let alice = world.get("/a").with(field, "alice").spawn();
        world.origin.arrived("/a", 2).await;
        let also_alice = world.get("/a").with(field, "alice").spawn();
        world.origin.arrived("/a", 3).await;
        gate.open();
        for (got, body) in [(anonymous, "one"), (alice, "two"), (also_alice, "three")] {
            got.await.unwrap().is(body).does_not_say("collapsed");
        }
    }
}

#[tokio::test]
async fn more_than_may_follow_fetch_for_themselves() {
    let world = World::with(|config| config.cache.followers_max = 2).await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("one").behind(&gate));
    let leader = world.get("/a").spawn();
    world.origin.arrived("/a", 1).await;
    let asked = ask_together(&world, 5, "/a").await;
    // The leader, and three of the five.
    world.origin.arrived("/a", 4).await;
    gate.open();
    leader.await.unwrap().is("one");
    for got in asked {
        got.await.unwrap().is("one");
    }
    assert_eq!(world.origin.count("/a"), 4);
}

#[tokio::test]
async fn many_who_find_a_response_stale_are_one_validation() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.get("/a").await.is("one");
    world.clock.advance(secs(61));
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\"").behind(&gate));
    let asked = ask_together(&world, 5, "/a").await;
    gate.open();
    for got in asked {
        got.await.unwrap().status(200).is("one");
    }
    assert_eq!(world.origin.count("/a"), 2);
}

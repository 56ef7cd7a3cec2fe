//! A panic costs the request in which it happens, and nothing else.
//!
//! The sidecar has no switch that makes it panic. But it logs what it does, and who takes in its log runs within it: here, somebody
//! who panics over certain lines.

use super::world::{Client, Gate, Reply, World, eventually};
use std::fmt::Debug;
use std::sync::Once;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// A world in which the route `r` has this name.
async fn world(route: &str) -> World {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Touchy).expect("no test takes in the log but these"));
    World::with(|config| config.routes[0].name = route.to_owned()).await
}

#[tokio::test]
async fn a_panic_while_answering_costs_one_request_of_a_connection() {
    let world = world(OVER_HITS).await;
    world.origin.reply("/a", "one");
    world.origin.reply("/past/b", "two");
    world.get("/a").await.is("one");
    let mut raw = world.raw().await;
    let host = world.sidecar.address;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for _ in 0..3 {
        assert!(raw.ask(ask("/a")).await.starts_with("HTTP/1.1 500 "));
        assert_eq!(raw.octets(INTERNAL.len()).await, INTERNAL);
        assert!(raw.ask(ask("/past/b")).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(raw.octets(3).await, "two");
    }
    drop(raw);
    is_idle(&world).await;
}

#[tokio::test]
async fn a_panic_while_answering_leaves_the_other_streams_of_a_connection() {
    let world = world(OVER_HITS).await;
    let gate = Gate::closed();
    world.origin.reply("/a", "one");
    world.origin.reply("/past/b", Reply::new("two").behind(&gate));
    let client = Client::http2(world.sidecar.address);
    client.get("/a").await.is("one");
    let waiting = client.get("/past/b").spawn();
    world.origin.arrived("/past/b", 1).await;
    for _ in 0..3 {
        client.get("/a").await.status(500);
    }
    gate.open();
    waiting.await.unwrap().is("two");
    assert_eq!(world.metric("sidecache_client_connections").await, 2.0);
    drop(client);
    is_idle(&world).await;
}

#[tokio::test]
async fn those_who_follow_a_fetch_that_panics_are_released_and_answered() {
    let world = world(OVER_UNSTORABLE).await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("one").cache("no-store").behind(&gate));
    world.origin.reply("/a", "two");
    let leader = world.get("/a").spawn();
    world.origin.arrived("/a", 1).await;
    let followers: Vec<_> = (0..5).map(|_| world.get("/a").spawn()).collect();
    eventually("all follow", async || world.sidecar.proxy().followers() == 5).await;
    gate.open();
    leader.await.unwrap().status(500).says("detail=internal");
    for follower in followers {
        follower.await.unwrap().status(200).is("two");
    }
    assert_eq!(world.origin.count("/a"), 2);
    world.get("/a").await.is("two").hit("memory");
    is_idle(&world).await;
}

/// Nothing is left: no fetch, and no work but the connections of clients.
async fn is_idle(world: &World) {
    let proxy = world.sidecar.proxy();
    eventually("nothing is under way", async || {
        let open = proxy.stats().client_connections.get() as usize;
        proxy.fetches_under_way() == 0 && proxy.followers() == 0 && world.sidecar.work_under_way() <= open
    })
    .await;
    assert_eq!(world.metric("sidecache_origin_requests_in_flight").await, 0.0);
}

/// Panics over a line of the log.
struct Touchy;

/// The routes over whose lines: when a hit is answered, in the request's own task; when a response turns out not to be storable, in
/// the task of its fetch.
const OVER_HITS: &str = "touchy about hits";
const OVER_UNSTORABLE: &str = "touchy about fetches";

const INTERNAL: &str = "sidecache: Internal Server Error (internal)\n";

#[derive(Default)]
struct Line {
    message: String,
    route: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "route" {
            self.route = value.to_owned();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

impl Subscriber for Touchy {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sidecache")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        match (line.message.as_str(), line.route.as_str()) {
            ("cache_hit", OVER_HITS) | ("cache_not_stored", OVER_UNSTORABLE) => panic!("a test wants it"),
            _ => {}
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

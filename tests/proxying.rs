//! That a backend's owner would not notice the proxy: requests and responses come through as they were sent.

mod world;

use world::{Client, Gate, Origin, Reply, World};

#[tokio::test]
async fn a_request_without_a_route_is_forwarded_and_its_response_relayed() {
    let world = World::start().await;
    world.origin.reply("/past/a", Reply::new("one").status(201).with("x-a", "1"));
    let got = world.get("/past/a?b=c&&d").await;
    got.status(201).is("one").has("x-a", "1").forwarded("bypass").says("detail=no-route");
    assert_eq!(world.origin.last("/past/a").target, "/past/a?b=c&&d");
}

//! The key: nothing that could change a shared answer is shown to the origin without being in it.

use crate::world::{RawClient, Reply, World};
use sidecache::rules::{Pattern, QueryRule, Unkeyed};

#[tokio::test]
async fn a_field_that_nobody_knows_takes_a_request_past_the_cache() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").await.says("stored");
    for _ in 0..2 {
        world.get("/a").with("x-tenant", "t").await.is("one").forwarded("bypass").says("detail=unkeyed-field");
    }
    assert_eq!(world.origin.last("/a").field("x-tenant").as_deref(), Some("t"));
    assert_eq!(world.origin.count("/a"), 3);
}

#[tokio::test]
async fn fields_that_every_client_sends_do_not() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").await.says("stored");
    let usual = [
        ("user-agent", "curl/8"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-request-id", "7"),
        ("sec-fetch-mode", "cors"),
        ("referer", "http://h/"),
    ];
    usual.iter().fold(world.get("/a"), |request, (name, value)| request.with(name, value)).await.hit("memory");
}

#[tokio::test]
async fn a_route_may_hide_fields_that_nobody_knows_from_the_origin() {
    let world = World::with_route(|route| route.unkeyed = Unkeyed::Drop).await;
    world.origin.reply("/a", "one");
    world.get("/a").with("x-tenant", "t").await.is("one").forwarded("uri-miss").says("stored");
    assert_eq!(world.origin.last("/a").field("x-tenant"), None);
    world.get("/a").with("x-tenant", "u").await.hit("memory");
}

#[tokio::test]
async fn a_route_may_show_them_and_trust_vary() {
    let world = World::with_route(|route| route.unkeyed = Unkeyed::Forward).await;
    world.origin.reply("/a", Reply::new("one").with("vary", "x-tenant"));
    world.get("/a").with("x-tenant", "t").await.says("stored");
    assert_eq!(world.origin.last("/a").field("x-tenant").as_deref(), Some("t"));
    world.get("/a").with("x-tenant", "t").await.hit("memory");
    world.get("/a").with("x-tenant", "u").await.forwarded("vary-miss");
}

#[tokio::test]
async fn a_route_may_take_fields_into_the_key() {
    let world = World::with_route(|route| route.key_headers = vec!["x-tenant".parse().unwrap()]).await;
    for (tenant, body) in [("t", "one"), ("u", "two")] {
        world.origin.reply("/a", body);
        world.get("/a").with("x-tenant", tenant).await.is(body).forwarded("uri-miss").says("stored");
    }
    world.get("/a").with("x-tenant", "t").await.is("one").hit("memory");
    world.get("/a").with("x-tenant", "u").await.is("two").hit("memory");
    world.get("/a").await.forwarded("uri-miss");
    // Twice is not once, and other fields are still unknown.
    world.get("/a").with("x-tenant", "t").with("x-tenant", "u").await.forwarded("uri-miss");
    world.get("/a").with("x-other", "t").await.forwarded("bypass");
}

#[tokio::test]
async fn what_would_steer_the_origin_is_hidden_from_it() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    let steering = ["x-http-method-override", "x-original-url", "x-real-ip", "x-forwarded-user", "x_forwarded_for", "x-host"];
    let request = steering.iter().fold(world.get("/a"), |request, name| request.with(name, "evil"));
    request.await.is("one").says("stored");
    for name in steering {
        assert_eq!(world.origin.last("/a").field(name), None, "{name}");
    }
}

#[tokio::test]
async fn hosts_do_not_share() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    world.get("/a").with("host", "a.example").await.says("stored");
    world.get("/a").with("host", "b.example").await.forwarded("uri-miss");
    world.get("/a").with("host", "a.example").await.hit("memory");
}

#[tokio::test]
async fn every_query_is_a_key_of_its_own_as_it_is_written() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    for target in ["/a", "/a?", "/a?b=1", "/a?b=1&c=2", "/a?c=2&b=1", "/a?b=%31"] {
        world.get(target).await.forwarded("uri-miss");
        assert_eq!(world.origin.last("/a").target, target);
        world.get(target).await.hit("memory");
    }
}

#[tokio::test]
async fn parameters_that_are_not_in_the_key_are_not_shown_to_the_origin() {
    let query = QueryRule { allow: Some(vec!["q".into(), "f_*".into()]), deny: Vec::new(), sort: true };
    let world = World::with_route(|route| route.query = query).await;
    world.origin.reply("/a", "one");
    world.get("/a?q=1&utm_source=x&f_b=2&f_a=3").await.forwarded("uri-miss");
    assert_eq!(world.origin.last("/a").target, "/a?f_a=3&f_b=2&q=1");
    world.get("/a?f_b=2&q=1&f_a=3&utm_source=y").await.hit("memory");
    world.get("/a?q=2").await.forwarded("uri-miss");
    world.get("/a?utm_source=x").await.forwarded("uri-miss");
    assert_eq!(world.origin.last("/a").target, "/a");
    world.get("/a").await.hit("memory");
}

#[tokio::test]
async fn single_parameters_can_be_left_out() {
    let query = QueryRule { allow: None, deny: vec!["utm_*".into()], sort: false };
    let world = World::with_route(|route| route.query = query).await;
    world.origin.reply("/a", "one");
    world.get("/a?b=1&utm_source=x").await.forwarded("uri-miss");
    assert_eq!(world.origin.last("/a").target, "/a?b=1");
    world.get("/a?%75tm_source=y&b=1").await.hit("memory");
    // Past the cache the origin is shown all that the client sent.
    world.ask("POST", "/a?b=1&utm_source=x").await;
    assert_eq!(world.origin.last("/a").target, "/a?b=1&utm_source=x");
}

#[tokio::test]
async fn a_path_that_could_be_read_in_two_ways_is_passed_on_octet_for_octet() {
    let world = World::with_route(|route| route.pattern = Pattern::parse("/{*rest}").unwrap()).await;
    let targets = [
        "/a/../b",
        "/a/./b",
        "/a//b",
        "//a",
        "/a/..",
        "/a;b",
        "/a%2Fb",
        "/a%2fb",
        "/%61",
        "/a%2e",
        "/a%5Cb",
        "/a\\b",
        "/a%00",
        "/a%20",
        "/caf%c3%a9",
        "/a%252F",
        "/a%",
        "/a%3Fb",
    ];
    for target in targets {
        world.origin.reply(target, "one");
        for _ in 0..2 {
            let mut client: RawClient = world.raw().await;
            let head = client.ask(format!("GET {target}?c=%2e HTTP/1.1\r\nHost: h\r\n\r\n")).await;
            let refused = head.starts_with("HTTP/1.1 400 ");
            assert!(refused || head.contains("fwd=bypass; detail=path-not-normal\r\n"), "{target} got {head}");
            assert!(refused || world.origin.last(target).target == format!("{target}?c=%2e"), "{target}");
        }
    }
}

#[tokio::test]
async fn a_field_of_the_key_cannot_be_taken_away_or_given_twice() {
    let world = World::with_route(|route| route.key_headers = vec!["x-tenant".parse().unwrap()]).await;
    world.origin.reply("/a", "nobody's");
    world.get("/a").with("x-tenant", "victim").with("connection", "x-tenant").await.status(400);
    // Some origins take the one for the other.
    world.get("/a").with("x_tenant", "victim").await.is("nobody's").says("stored");
    assert_eq!(world.origin.last("/a").field("x_tenant"), None);
    world.origin.reply("/a", "the victim's");
    world.get("/a").with("x-tenant", "victim").await.is("the victim's").forwarded("uri-miss");
    world.get("/a").await.is("nobody's").hit("memory");
}

//! Methods, bodies and trailers.

use crate::world::{Client, Reply, World};

#[tokio::test]
async fn a_request_without_a_route_is_forwarded_and_its_response_relayed() {
    let world = World::start().await;
    world.origin.reply("/past/a", Reply::new("one").status(201).with("x-a", "1"));
    let got = world.get("/past/a?b=c&&d").await;
    got.status(201).is("one").has("x-a", "1").has("content-length", "3").forwarded("bypass").says("detail=no-route");
    assert_eq!(world.origin.last("/past/a").target, "/past/a?b=c&&d");
}

#[tokio::test]
async fn ten_megabytes_come_through_both_ways_unchanged() {
    let world = World::start().await;
    let octets: Vec<u8> = (0..10_000_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    world.origin.reply("/past/echo", Reply::echo());
    let got = world.ask("POST", "/past/echo").body(octets.clone()).await;
    got.status(200);
    assert!(got.body() == octets);
}

#[tokio::test]
async fn chunks_arrive_as_they_are_sent_past_the_cache_and_through_it() {
    let world = World::start().await;
    for path in ["/past/events", "/events"] {
        let (reply, sending) = Reply::sending();
        world.origin.reply(path, reply.with("content-type", "text/event-stream"));
        let mut got = world.get(path).streaming().await;
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            sending.send(event);
            assert_eq!(got.next().await, event);
        }
        drop(sending);
        got.whole().await.is("").has("content-type", "text/event-stream");
    }
}

#[tokio::test]
async fn an_upload_arrives_as_it_is_sent() {
    let world = World::start().await;
    world.origin.reply("/past/echo", Reply::echo());
    let (request, sending) = world.ask("POST", "/past/echo").sending();
    sending.send("one");
    let mut got = request.streaming().await;
    assert_eq!(got.next().await, "one");
    sending.send("two");
    assert_eq!(got.next().await, "two");
    drop(sending);
    got.whole().await.is("");
}

#[tokio::test]
async fn trailers_reach_a_client_that_takes_them() {
    let world = World::start().await;
    for path in ["/past/sum", "/sum"] {
        for takes_them in [true, false] {
            let (reply, sending) = Reply::sending();
            world.origin.reply(path, reply.with("trailer", "x-sum").cache("no-store"));
            sending.send("body");
            sending.trailers("x-sum", "42");
            let request = world.get(path);
            let got = if takes_them { request.with("te", "trailers") } else { request }.await;
            got.is("body").has("trailer", "x-sum");
            let sum = got.trailers.as_ref().map(|trailers| trailers["x-sum"].to_str().unwrap());
            assert_eq!(sum, takes_them.then_some("42"), "{path}");
            // What the origin is told of its own connection is said to be of that (RFC 9110 §10.1.4).
            let seen = world.origin.last(path);
            assert_eq!(seen.field("connection"), seen.field("te").map(|_| "te".to_owned()), "{path}");
            assert_eq!(seen.field("te").is_some(), takes_them || path == "/sum", "{path}");
        }
    }
}

#[tokio::test]
async fn trailers_reach_a_client_of_a_response_that_is_stored() {
    let world = World::start().await;
    let (reply, sending) = Reply::sending();
    world.origin.reply("/sum", reply.with("trailer", "x-sum"));
    sending.send("body");
    sending.trailers("x-sum", "42");
    let got = world.get("/sum").with("te", "trailers").await;
    assert_eq!(got.is("body").says("stored").trailers.as_ref().unwrap()["x-sum"], "42");
    world.get("/sum").with("te", "trailers").await.is("body").hit("memory");
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_origin() {
    let world = World::start().await;
    world.origin.reply("/past/echo", Reply::echo().with("trailer", "x-sum"));
    let (request, sending) = world.ask("POST", "/past/echo").with("trailer", "x-sum").with("te", "trailers").sending();
    sending.send("body");
    sending.trailers("x-sum", "42");
    let got = request.await;
    assert_eq!(got.is("body").trailers.as_ref().expect("the trailers were echoed")["x-sum"], "42");
}

#[tokio::test]
async fn every_method_is_forwarded_as_it_is() {
    let world = World::start().await;
    world.origin.reply("/past/echo", Reply::echo());
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND", "x-own"] {
        world.ask(method, "/past/echo").body("body").await.status(200).is("body");
        assert_eq!(world.origin.last("/past/echo").method, method);
    }
}

#[tokio::test]
async fn unsafe_methods_on_a_cached_path_are_forwarded_with_their_reason() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::echo());
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        world.ask(method, "/a").body("body").await.is("body").forwarded("method");
    }
    assert_eq!(world.origin.count("/a"), 4);
}

#[tokio::test]
async fn head_gets_the_fields_and_no_body() {
    let world = World::start().await;
    world.origin.reply("/past/a", Reply::new("body").with("etag", "\"1\""));
    let got = world.ask("HEAD", "/past/a").await;
    got.status(200).is("").has("content-length", "4").has("etag", "\"1\"");
    assert_eq!(world.origin.last("/past/a").method, "HEAD");
}

#[tokio::test]
async fn responses_that_have_no_body_get_none() {
    let world = World::start().await;
    for (path, status) in [("/past/none", 204), ("/none", 204), ("/past/same", 304)] {
        world.origin.reply(path, Reply::new("").status(status).with("etag", "\"1\""));
        world.get(path).await.status(status).is("").has("etag", "\"1\"").has("transfer-encoding", "").has("content-length", "");
    }
}

#[tokio::test]
async fn the_statuses_and_bodies_of_errors_are_relayed() {
    let world = World::start().await;
    for status in [400, 401, 404, 418, 429, 500, 502, 503, 599] {
        for path in [format!("/past/{status}"), format!("/{status}")] {
            world.origin.reply(&path, Reply::new("why").status(status).with("retry-after", "7"));
            world.get(&path).await.status(status).is("why").has("retry-after", "7");
        }
    }
}

#[tokio::test]
async fn clients_may_speak_http_2() {
    let world = World::start().await;
    let client = Client::http2(world.sidecar.address);
    world.origin.reply("/past/echo", Reply::echo());
    client.ask("POST", "/past/echo").body("body").await.is("body");
    world.origin.reply("/a", "one");
    client.get("/a").await.is("one").forwarded("uri-miss").says("stored");
    client.get("/a").await.is("one").hit("memory");
    let seen = world.origin.last("/a");
    assert_eq!(seen.field("host"), Some(world.sidecar.address.to_string()));
    assert_eq!(seen.field("via").as_deref(), Some("2.0 sidecache"));
    // Whoever asks for the same host over HTTP/1.1 is given the same response.
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn a_client_that_expects_to_be_told_to_continue_is_told() {
    let world = World::start().await;
    world.origin.reply("/past/echo", Reply::echo());
    let mut client = world.raw().await;
    let interim = client
        .ask("POST /past/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    let head = client.ask("body").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(client.rest().await.contains("body"));
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_their_order() {
    let world = World::start().await;
    for (path, body) in [("/a", "one"), ("/past/b", "two"), ("/c", "six")] {
        world.origin.reply(path, body);
    }
    let mut client = world.raw().await;
    let requests = ["/a", "/past/b", "/a", "/c"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    client.send(requests.concat()).await;
    for body in ["one", "two", "one", "six"] {
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(client.octets(3).await, body);
    }
}

#[tokio::test]
async fn cookies_that_http_2_has_taken_apart_are_put_together() {
    let world = World::start().await;
    let client = Client::http2(world.sidecar.address);
    for path in ["/past/a", "/a"] {
        world.origin.reply(path, "one");
        client.get(path).with("cookie", "a=1").with("cookie", "b=2").await.is("one");
        // RFC 9113 §8.2.3.
        assert_eq!(world.origin.last(path).field("cookie").as_deref(), Some("a=1; b=2"));
    }
}

#[tokio::test]
async fn http_1_0_clients_are_sent_no_chunks() {
    let world = World::start().await;
    for path in ["/past/a", "/a"] {
        let (reply, sending) = Reply::sending();
        world.origin.reply(path, reply);
        sending.send("one ");
        sending.send("two");
        drop(sending);
        let mut client = world.raw().await;
        let head = client.ask(format!("GET {path} HTTP/1.0\r\nHost: h\r\n\r\n")).await;
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        assert_eq!(client.rest().await, "one two");
    }
}

#[tokio::test]
async fn ranges_reach_the_origin_where_nothing_is_cached() {
    let world = World::start().await;
    world.origin.reply("/past/a", Reply::new("ne").status(206).with("content-range", "bytes 1-2/3"));
    world.get("/past/a").with("range", "bytes=1-2").await.status(206).is("ne").has("content-range", "bytes 1-2/3");
    assert_eq!(world.origin.last("/past/a").field("range").as_deref(), Some("bytes=1-2"));
}

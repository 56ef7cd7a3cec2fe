//! Header fields: what is kept, what is the connection's own, and what the sidecar says.

use crate::world::{RawOrigin, Reply, World};

#[tokio::test]
async fn repeated_fields_and_their_order_are_kept() {
    let world = World::start().await;
    let reply = Reply::new("one").with("set-cookie", "a=1").with("x-b", "2").with("set-cookie", "c=3").with("x-b", "1");
    world.origin.reply("/past/a", reply);
    let got = world.get("/past/a").with("x-a", "2").with("x-c", "").with("x-a", "1").with("x-a", "2").await;
    got.has("set-cookie", "a=1 | c=3").has("x-b", "2 | 1");
    let seen = world.origin.last("/past/a");
    assert_eq!((seen.field("x-a").as_deref(), seen.field("x-c").as_deref()), (Some("2 | 1 | 2"), Some("")));
}

#[tokio::test]
async fn octets_beyond_ascii_are_kept_in_values() {
    let world = World::start().await;
    world.origin.reply("/past/a", Reply::new("one").with("x-b", "é"));
    world.get("/past/a").with("x-a", "ü").await.has("x-b", "é");
    assert_eq!(world.origin.last("/past/a").field("x-a").as_deref(), Some("ü"));
}

#[tokio::test]
async fn fields_of_one_connection_do_not_reach_the_next() {
    let world = World::start().await;
    world.origin.reply("/past/a", "one");
    let fields = "Connection: keep-alive, X-Private, TE\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
                  TE: gzip\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nX-Public: 1";
    let head = world.raw().await.ask(format!("GET /past/a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let seen = world.origin.last("/past/a");
    for name in ["x-private", "keep-alive", "proxy-connection", "te", "http2-settings", "connection", "upgrade"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.field("x-public").as_deref(), Some("1"));
}

#[tokio::test]
async fn fields_of_the_origins_connection_do_not_reach_the_client() {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |_| {}).await;
    origin.always(
        "HTTP/1.1 200 OK\r\nConnection: X-Private, close\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: close\r\nUpgrade: h2c\r\nX-Public: 1\r\nContent-Length: 3\r\n\r\none",
    );
    for path in ["/past/a", "/a"] {
        let got = world.get(path).await;
        got.is("one").has("x-public", "1");
        for name in ["x-private", "keep-alive", "proxy-connection", "connection", "upgrade"] {
            got.has(name, "");
        }
    }
}

#[tokio::test]
async fn a_client_cannot_nominate_away_what_others_rely_on() {
    let world = World::start().await;
    world.origin.reply("/past/a", "one");
    for name in ["X-Forwarded-For", "Authorization", "Host", "Cache-Control"] {
        let request = format!("GET /past/a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, {name}\r\n\r\n");
        let head = world.raw().await.ask(request).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{name}: {head}");
    }
    assert_eq!(world.origin.count("/past/a"), 0);
}

/// What a client says of itself that it is not to decide.
const SPOOFED: [(&str, &str); 8] = [
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-host", "evil"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-prefix", "/evil"),
    ("forwarded", "for=6.6.6.6;host=evil"),
    ("x-original-url", "/evil"),
    ("x-rewrite-url", "/evil"),
];

#[tokio::test]
async fn who_asks_is_said_by_the_sidecar_and_not_by_the_client() {
    let world = World::start().await;
    // What fills the cache is for all, so what this client says came before it is left out there.
    for (path, ways) in [("/past/a", "1.1 before | 1.1 sidecache"), ("/a", "1.1 sidecache")] {
        world.origin.reply(path, "one");
        let request = SPOOFED.into_iter().fold(world.get(path), |request, (name, value)| request.with(name, value));
        request.with("via", "1.1 before").await.is("one").has("via", "1.1 sidecache");
        let seen = world.origin.last(path);
        let own_host = world.sidecar.address.to_string();
        let expected = [Some("127.0.0.1"), Some(own_host.as_str()), Some("http"), None, None, None, None, None];
        for ((name, _), value) in SPOOFED.into_iter().zip(expected) {
            assert_eq!(seen.field(name).as_deref(), value, "{name} for {path}");
        }
        assert_eq!(seen.field("via").as_deref(), Some(ways));
        assert_eq!(seen.field("host"), Some(own_host));
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let world = World::with(|config| config.cache.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    // For which client the cache is filled makes no difference.
    for (path, clients) in [("/past/a", "1.2.3.4, 5.6.7.8, 127.0.0.1"), ("/a", "127.0.0.1")] {
        world.origin.reply(path, "one");
        let request = world.get(path).with("x-forwarded-for", "1.2.3.4").with("x-forwarded-for", "5.6.7.8");
        request.with("x-forwarded-host", "shop.example").with("x-forwarded-proto", "https").await.is("one");
        let seen = world.origin.last(path);
        assert_eq!(seen.field("x-forwarded-for").as_deref(), Some(clients));
        assert_eq!(seen.field("x-forwarded-host").as_deref(), Some("shop.example"));
        assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("https"));
    }
    // What the origin is told makes a difference to what it may answer, so it is in the key.
    world.get("/a").with("x-forwarded-host", "shop.example").with("x-forwarded-proto", "https").await.hit("memory");
    world.get("/a").with("x-forwarded-host", "other.example").with("x-forwarded-proto", "https").await.forwarded("uri-miss");
    world.get("/a").await.forwarded("uri-miss");
}

//! What operators see.

mod world;

use serde_json::Value;
use sidecache::admin::{Role, Token};
use sidecache::config::Config;
use std::collections::BTreeSet;
use world::{RawClient, RedisServer, Reply, World, eventually, millis, secs, soon};

/// A miss, three hits, a validation, one request past the cache on the route and one without a route.
async fn script(world: &World) {
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\""));
    world.get("/a").await.forwarded("uri-miss");
    for _ in 0..3 {
        world.get("/a").await.hit("memory");
    }
    world.clock.advance(secs(61));
    world.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\""));
    world.get("/a").await.forwarded("stale");
    world.ask("POST", "/a").await.forwarded("method");
    world.get("/past/a").await.forwarded("bypass");
}

#[tokio::test]
async fn the_statistics_have_the_keys_that_dashboards_read() {
    let redis = RedisServer::start().await;
    for world in [World::start().await, World::with_redis(&redis, |_| {}).await] {
        let stats = world.stats().await;
        let keys: BTreeSet<&str> = stats.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = ["enabled", "total_keys", "hits", "misses", "hit_rate", "memory_used_mb"];
        let below = ["tiers", "routes", "origin", "redis", "fetches_under_way", "followers"];
        assert_eq!(keys, expected.into_iter().chain(below).collect());
        assert_eq!(stats["enabled"], true);
        for number in &expected[1..] {
            assert!(stats[number].is_number(), "{number}");
        }
    }
}

#[tokio::test]
async fn the_statistics_add_up() {
    let world = World::start().await;
    script(&world).await;
    let stats = world.stats().await;
    let numbers = ["total_keys", "hits", "misses", "hit_rate"].map(|name| stats[name].as_f64().unwrap());
    assert_eq!(numbers, [1.0, 3.0, 2.0, 60.0]);
    assert_eq!(stats["redis"], Value::Null);
    assert_eq!(stats["tiers"]["redis"], Value::Null);
    let memory = &stats["tiers"]["memory"];
    let numbers = ["keys", "hits", "misses", "hit_rate", "evictions"].map(|name| memory[name].as_f64().unwrap());
    assert_eq!(numbers, [1.0, 3.0, 2.0, 60.0, 0.0]);
    let routes = stats["routes"].as_array().unwrap();
    assert_eq!(routes.iter().map(|route| route["name"].as_str().unwrap()).collect::<Vec<_>>(), ["r", "none"]);
    let of = |route: &Value| {
        ["requests", "hits", "misses", "hits_memory", "hits_redis", "collapsed", "validated", "stale", "passed", "errors"]
            .map(|name| route[name].as_u64().unwrap())
    };
    assert_eq!(of(&routes[0]), [6, 3, 2, 3, 0, 0, 1, 0, 1, 0]);
    assert_eq!(of(&routes[1]), [1, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
}

#[tokio::test]
async fn hits_from_redis_are_counted_as_such() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, |_| {}).await;
    let second = first.neighbour(&redis).await;
    first.origin.reply("/a", "one");
    first.get("/a").with("host", "h").await.forwarded("uri-miss");
    redis.keys_become(1).await;
    second.get("/a").with("host", "h").await.hit("redis");
    second.get("/a").with("host", "h").await.hit("memory");
    let stats = second.stats().await;
    assert_eq!([&stats["hits"], &stats["misses"]].map(|number| number.as_u64().unwrap()), [2, 0]);
    for (tier, hits, misses) in [("memory", 1, 1), ("redis", 1, 0)] {
        let tier = &stats["tiers"][tier];
        assert_eq!([&tier["hits"], &tier["misses"]].map(|number| number.as_u64().unwrap()), [hits, misses], "{tier}");
    }
    assert_eq!(stats["redis"]["status"], "connected");
    assert_eq!(second.metric("cache_hits_total{cache_type=\"redis\",route=\"r\"}").await, 1.0);
    assert_eq!(second.metric("cache_misses_total{cache_type=\"memory\",route=\"r\"}").await, 1.0);
    assert_eq!(second.metric("cache_hit_rate{cache_type=\"redis\",route=\"r\"}").await, 100.0);
}

#[tokio::test]
async fn the_metrics_say_the_same() {
    let world = World::start().await;
    script(&world).await;
    let got = world.admin("/metrics").await;
    got.status(200).has("content-type", "text/plain; version=0.0.4; charset=utf-8");
    for (series, value) in [
        ("cache_hits_total{cache_type=\"memory\",route=\"r\"}", 3.0),
        ("cache_misses_total{cache_type=\"memory\",route=\"r\"}", 2.0),
        ("cache_hits_total{cache_type=\"redis\",route=\"r\"}", 0.0),
        ("cache_misses_total{cache_type=\"redis\",route=\"r\"}", 0.0),
        ("cache_hit_rate{cache_type=\"memory\",route=\"r\"}", 60.0),
        ("sidecache_misses_total{route=\"r\"}", 2.0),
        ("sidecache_request_duration_seconds_count{outcome=\"hit-memory\",route=\"r\"}", 3.0),
        ("sidecache_request_duration_seconds_count{outcome=\"miss\",route=\"r\"}", 1.0),
        ("sidecache_request_duration_seconds_count{outcome=\"validated\",route=\"r\"}", 1.0),
        ("sidecache_request_duration_seconds_count{outcome=\"pass\",route=\"r\"}", 1.0),
        ("sidecache_request_duration_seconds_count{outcome=\"pass\",route=\"none\"}", 1.0),
        ("sidecache_origin_requests_total{result=\"answered\"}", 4.0),
        ("sidecache_origin_requests_total{result=\"failed\"}", 0.0),
        ("sidecache_origin_requests_in_flight", 0.0),
        ("sidecache_redis_commands_total{kind=\"read\"}", 0.0),
        ("sidecache_redis_errors_total{kind=\"timeout\"}", 0.0),
        ("sidecache_redis_breaker_open", 0.0),
        ("sidecache_memory_keys", 1.0),
        ("sidecache_memory_bytes{kind=\"max\"}", f64::from(256 << 20)),
        ("sidecache_memory_evictions_total", 0.0),
        ("sidecache_bad_requests_total", 0.0),
    ] {
        assert_eq!(world.metric(series).await, value, "{series}");
    }
    assert!(world.metric("sidecache_memory_bytes{kind=\"used\"}").await > 0.0);
}

#[tokio::test]
async fn every_metric_is_in_the_readme() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let text = World::start().await.admin("/metrics").await.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() > 10, "{names:?}");
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !readme.contains(&format!("`{name}`")) && !readme.contains(&format!("`{name}{{")))
        .collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

#[tokio::test]
async fn what_the_sidecar_refuses_is_counted() {
    let world = World::start().await;
    let two = "Host: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    let both = "Host: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("Host: h\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    for (number, rest) in ["\r\n", two, both, "Host: h\n\n", &long].into_iter().enumerate() {
        let head = world.raw().await.ask(format!("GET /a HTTP/1.1\r\n{rest}")).await;
        assert!(head.starts_with("HTTP/1.1 4"), "{head}");
        let counted = async || world.metric("sidecache_bad_requests_total").await == (number + 1) as f64;
        eventually("it is counted, once", counted).await;
    }
}

#[tokio::test]
async fn health_and_readiness_are_told() {
    let redis = RedisServer::absent();
    for world in [World::start().await, World::with_redis_at(&redis.url(), |_| {}).await] {
        world.admin("/healthz").await.status(200).is("ok\n").has("cache-control", "no-store");
        world.admin("/readyz").await.status(200).is("ready\n");
        world.admin("/other").await.status(404);
    }
}

#[tokio::test]
async fn a_sidecar_that_drains_is_alive_and_not_ready_and_still_answers() {
    let world = World::with(|config| config.server.drain_wait = secs(60)).await;
    world.origin.reply("/a", "one");
    let looking = async {
        world::eventually("it is unready", async || world.admin("/readyz").await.status == 503).await;
        world.admin("/readyz").await.is("draining\n");
        world.admin("/healthz").await.status(200);
        world.get("/a").await.status(200).is("one");
    };
    tokio::select! {
        () = world.sidecar.leave() => panic!("it waits for a minute"),
        () = looking => {}
    }
}

#[tokio::test]
async fn the_endpoints_are_read_only() {
    let world = World::start().await;
    let admin = world::Client::of(world.sidecar.admin_address.unwrap());
    for path in ["/admin/cache/stats", "/metrics", "/healthz", "/readyz"] {
        admin.ask("POST", path).await.status(405).has("allow", "GET, HEAD");
        admin.ask("HEAD", path).await.status(200).is("");
    }
}

fn on_proxy_port(config: &mut Config) {
    config.admin.on_proxy_port = true;
    config.admin.tokens = vec![Token::admin("secret")];
}

#[tokio::test]
async fn on_the_proxys_port_the_token_is_needed_except_for_health() {
    let world = World::with(on_proxy_port).await;
    world.origin.reply("/metrics", "the origin's own");
    for path in ["/healthz", "/readyz"] {
        world.get(path).await.status(200);
    }
    for path in ["/admin/cache/stats", "/metrics"] {
        world.get(path).await.status(401).has("www-authenticate", "Bearer");
        world.get(path).with("authorization", "Bearer wrong").await.status(401);
        world.get(path).with("authorization", "Bearer secret").await.status(200);
    }
    assert_eq!(world.origin.count("/metrics"), 0);
}

#[tokio::test]
async fn on_the_proxys_port_no_other_spelling_reaches_anything() {
    let world = World::with(on_proxy_port).await;
    for path in [
        "/admin/../admin/cache/stats",
        "//admin/cache/stats",
        "/ADMIN/cache/stats",
        "/%61dmin/cache/stats",
        "/admin/cache/nothing",
        "/./metrics",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n\r\n");
        let answer = world.raw().await.ask(head).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert_eq!(world.origin.count(path), 0, "{path}");
    }
    let absolute = "GET http://h/admin/cache/stats HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(world.raw().await.ask(absolute).await.starts_with("HTTP/1.1 401 "));
    world.origin.reply("/admin/login", "the origin's own");
    world.get("/admin/login").await.is("the origin's own");
}

#[tokio::test]
async fn a_name_that_nobody_has_allowed_is_refused_on_the_admin_listener() {
    let world = World::with(|config| config.admin.hosts = vec!["sidecache.internal".to_owned()]).await;
    let ask = |path: &str, host: &str| world.ask_admin("GET", path).with("host", host);
    for path in ["/admin/cache/stats", "/metrics", "/admin/cache/purges", "/other"] {
        let got = ask(path, "evil.example:9090").await;
        got.status(421);
        assert!(got.text().contains("[admin] hosts"), "{got:?}");
    }
    world.ask_admin("POST", "/admin/cache/purge").with("host", "evil.example").body(r#"{"all": true}"#).await.status(421);
    for host in ["127.0.0.1", "10.1.2.3:9090", "[::1]:9090", "localhost:1", "Sidecache.Internal:9090"] {
        ask("/metrics", host).await.status(200);
    }
    for path in ["/healthz", "/readyz"] {
        ask(path, "whatever.example").await.status(200);
    }
}

#[tokio::test]
async fn web_pages_may_not_even_read() {
    let world = World::with(|config| {
        on_proxy_port(config);
        config.admin.origins = vec!["https://ops.example".to_owned()];
    })
    .await;
    let shown = |ask: world::Ask| ask.with("authorization", "Bearer secret");
    for ask in [|world: &World| world.ask_admin("GET", "/admin/cache/stats"), |world: &World| world.get("/admin/cache/stats")] {
        for (name, value) in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            shown(ask(&world)).with(name, value).await.status(403);
        }
        let got = shown(ask(&world)).with("origin", "https://ops.example").with("sec-fetch-site", "cross-site").await;
        got.status(200).has("access-control-allow-origin", "https://ops.example").has("vary", "origin");
        shown(ask(&world)).with("sec-fetch-site", "none").await.status(200);
        let foreign = shown(ask(&world)).with("origin", "http://evil.example").await;
        assert!(foreign.status(403).field("access-control-allow-origin").is_empty(), "{foreign:?}");
        let unknown = ask(&world).with("origin", "https://ops.example").with("authorization", "Bearer wrong").await;
        unknown.has("access-control-allow-origin", "https://ops.example");
    }
    for ask in [World::ask_admin, World::ask] {
        let preflight = |origin: &str| {
            let ask = ask(&world, "OPTIONS", "/admin/cache/purge").with("origin", origin);
            ask.with("access-control-request-method", "POST").with("access-control-request-headers", "authorization")
        };
        let got = preflight("https://ops.example").await;
        got.status(204).has("access-control-allow-origin", "https://ops.example").has("access-control-allow-methods", "POST");
        got.has("access-control-allow-headers", "authorization, content-type");
        preflight("http://evil.example").await.status(403);
        let no_preflight = ask(&world, "OPTIONS", "/admin/cache/purge").with("origin", "https://ops.example").await;
        assert!([401, 405].contains(&no_preflight.status.as_u16()), "{no_preflight:?}");
        let two = ask(&world, "POST", "/admin/cache/purge").body(r#"{"all": true}"#);
        two.with("authorization", "Bearer secret").with("authorization", "Bearer wrong").await.status(401);
    }
    shown(world.ask("PURGE", "/a")).with("origin", "http://evil.example").await.status(403);
    let healthy = world.ask_admin("GET", "/healthz").with("origin", "http://evil.example").await;
    assert!(healthy.status(200).field("access-control-allow-origin").is_empty(), "{healthy:?}");
}

#[tokio::test]
async fn each_role_may_do_what_it_is_for() {
    let token = |name: &str, role| Token { name: name.to_owned(), role, ..Token::admin(format!("secret-of-{name}")) };
    let world = World::with(|config| {
        config.admin.tokens = vec![token("looks", Role::Read), token("deploys", Role::Purge), token("sets", Role::All)];
        config.admin.on_proxy_port = true;
    })
    .await;
    let entry = "/admin/cache/entries?url=http%3A%2F%2Fh%2Fa";
    let (all, none) = ("{\"all\": true}", "");
    // Who shows no token, and who may read, purge, do all.
    for (method, path, body, expected) in [
        ("GET", "/healthz", none, [200, 200, 200, 200]),
        ("GET", "/metrics", none, [200, 200, 200, 200]),
        ("GET", "/admin/cache/stats", none, [200, 200, 200, 200]),
        ("GET", "/admin/cache/purges", none, [401, 200, 200, 200]),
        ("GET", "/admin/cache/jobs", none, [401, 200, 200, 200]),
        ("GET", "/admin/cache/explain?url=http://h/a", none, [401, 200, 200, 200]),
        ("PUT", entry, "body", [401, 403, 403, 200]),
        ("GET", entry, none, [401, 200, 200, 200]),
        ("HEAD", entry, none, [401, 200, 200, 200]),
        ("DELETE", entry, none, [401, 403, 200, 200]),
        ("POST", "/admin/cache/purge", all, [401, 403, 200, 200]),
        ("POST", "/admin/cache/erase", all, [401, 403, 200, 200]),
    ] {
        for (name, expected) in ["nobody", "looks", "deploys", "sets"].into_iter().zip(expected) {
            let shown = format!("Bearer secret-of-{name}");
            let on_admin_listener = world.ask_admin(method, path).with("authorization", &shown).body(body).await;
            assert_eq!(on_admin_listener.status, expected, "{method} {path} by {name}: {on_admin_listener:?}");
            // Setting anew has something there for the next one to look at.
            let expected = if (path, name) == ("/healthz", "nobody") || name != "nobody" { expected } else { 401 };
            let on_proxy_port = world.ask(method, path).with("authorization", &shown).body(body).await;
            assert_eq!(on_proxy_port.status, expected, "{method} {path} by {name} on the proxy's port: {on_proxy_port:?}");
            if method == "DELETE" {
                world.ask_admin("PUT", entry).with("authorization", "Bearer secret-of-sets").body("body").await.status(200);
            }
        }
    }
    world.ask("PURGE", "/a").with("authorization", "Bearer secret-of-looks").await.status(403);
    world.ask("PURGE", "/a").with("authorization", "Bearer secret-of-deploys").await.status(200);
    let refused = world.ask_admin("PUT", entry).with("authorization", "Bearer secret-of-deploys").await;
    assert!(refused.text().contains("the token \"deploys\" has the role \"purge\"; this needs the role \"all\""), "{refused:?}");
    assert!(world.metric("sidecache_admin_refused_total").await > 10.0);
}

#[tokio::test]
async fn elsewhere_these_paths_are_the_origins() {
    let world = World::start().await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        world.origin.reply(path, "the origin's own");
        world.get(path).await.is("the origin's own");
    }
}

#[tokio::test]
async fn without_an_admin_listener_there_is_none() {
    let world = World::with(|config| config.admin.listen = None).await;
    assert_eq!(world.sidecar.admin_address, None);
    world.origin.reply("/a", "one");
    world.get("/a").await.is("one").forwarded("uri-miss");
}

/// What operators send is read in a time of its own, however it comes.
#[tokio::test]
async fn a_body_that_comes_in_drops_is_cut_off() {
    let world = World::with(|config| config.server.body_idle_timeout = millis(600)).await;
    let purge = "POST /admin/cache/purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let entry = "PUT /admin/cache/entries?url=http%3A%2F%2Fh%2Fa HTTP/1.1\r\nHost: localhost";
    for head in [purge, entry] {
        for framing in ["Content-Length: 5000", "Transfer-Encoding: chunked"] {
            let mut client = RawClient::connect(world.sidecar.admin_address.unwrap()).await;
            client.send(format!("{head}\r\n{framing}\r\n\r\n")).await;
            let drop = if framing.starts_with("C") { " " } else { "1\r\n \r\n" };
            let answered = async {
                loop {
                    tokio::select! {
                        answer = client.try_head() => break answer,
                        () = tokio::time::sleep(millis(20)) => client.send(drop).await,
                    }
                }
            };
            let head = soon("an answer", answered).await.expect("it is answered");
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
            assert!(client.rest().await.contains("the body did not come"), "and nothing more is read");
        }
    }
    assert_eq!(world.stats().await["total_keys"], 0);
}

//! Why a request is answered as it is: what operators are told, without anything being done for it.

mod world;

use http::HeaderName;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use sidecache::admin::Token;
use sidecache::config::Config;
use sidecache::rules::{Caching, Pattern, Route, Share, TagTemplate, Unkeyed};
use world::{Gate, Got, RedisServer, Reply, World, eventually, secs};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Explains a request to the sidecar's own address.
async fn explain(world: &World, method: &str, target: &str, fields: Fields<'_>) -> Value {
    let got = world.admin(&question(world, method, target, fields)).await;
    serde_json::from_slice(&got.status(200).body()).expect("the answer is JSON")
}

fn question(world: &World, method: &str, target: &str, fields: Fields<'_>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("url", &format!("http://{}{target}", world.sidecar.address)).append_pair("method", method);
    query.extend_pairs(fields.iter().map(|(name, value)| ("header", format!("{name}: {value}"))));
    format!("/admin/cache/explain?{}", query.finish())
}

/// Explains a request, sees to it that this has changed nothing, and sends the request: it must come to what was said.
async fn comes_true(world: &World, line: &str, fields: Fields<'_>, verdict: &str) -> (Value, Got) {
    let (method, target) = line.split_once(' ').unwrap();
    let before = counted(world).await;
    let said = explain(world, method, target, fields).await;
    assert_eq!(said["verdict"], verdict, "{line} {fields:?}: {said:#}");
    assert_eq!(explain(world, method, target, fields).await, said, "asked again");
    assert_eq!(counted(world).await, before, "{line} {fields:?}");
    let asked = fields.iter().fold(world.ask(method, target), |asked, (name, value)| asked.with(name, value));
    let got = asked.await;
    let promised = said["cache_status"].as_str().unwrap_or_else(|| panic!("{said:#}"));
    for parameter in promised.split("; ").skip(1) {
        got.says(parameter);
    }
    (said, got)
}

/// All that is counted of requests and of what is stored.
async fn counted(world: &World) -> (Vec<String>, Vec<String>) {
    // What is told to Redis, and who is connected, is not about requests.
    let others = ["sidecache_redis_commands_total", "sidecache_client_connections"];
    let metrics = world.admin("/metrics").await.text();
    let lines = metrics.lines().filter(|line| !others.iter().any(|other| line.contains(other))).map(str::to_owned).collect();
    let stats = world.stats().await;
    (lines, ["routes", "tiers", "origin", "fetches_under_way"].map(|key| stats[key].to_string()).into())
}

fn route(name: &str, adjust: impl FnOnce(&mut Route)) -> Route {
    let pattern = Pattern::parse(&format!("/{name}/{{id}}")).unwrap();
    let mut route = Route::new(name, pattern, secs(60));
    route.tags = vec![TagTemplate::parse(&format!("{name}:{{id}}"), route.pattern.captures()).unwrap()];
    adjust(&mut route);
    route
}

/// A route of each kind, beside the one that every world has.
fn of_all_kinds(config: &mut Config) {
    config.routes.extend([
        route("plain", |_| {}),
        route("off", |route| route.caching = Caching::Off),
        route("own", |route| route.share = Share::PerCredential(vec![AUTHORIZATION])),
        route("tenant", |route| route.key_headers = vec![HeaderName::from_static("x-tenant")]),
        route("drop", |route| route.unkeyed = Unkeyed::Drop),
        route("standard", |route| (route.caching, route.unkeyed) = (Caching::Standard, Unkeyed::Forward)),
    ]);
}

const SECRET: &str = "s3cr3t-of-mine";

#[tokio::test]
async fn what_is_said_of_a_request_is_what_it_comes_to() {
    let world = World::with(of_all_kinds).await;
    let bearer = &format!("Bearer {SECRET}");
    for path in ["/plain/1", "/plain/vary", "/own/1", "/tenant/1", "/drop/1", "/standard/1", "/off/1", "/no/route/here"] {
        world.origin.has(path, Reply::new("0123456789").with("etag", "\"1\""));
    }
    world.origin.has("/plain/vary", Reply::new("english").with("vary", "accept-language"));
    world.origin.has("/standard/1", Reply::new("0123456789").cache("max-age=60, stale-while-revalidate=60"));

    // Miss, hit, and what is made of what is there.
    comes_true(&world, "GET /plain/1", &[("cache-control", "only-if-cached")], "only-if-cached").await;
    comes_true(&world, "HEAD /plain/1", &[], "past").await.1.says("detail=head");
    comes_true(&world, "GET /plain/1", &[], "fetch").await;
    comes_true(&world, "GET /plain/1", &[], "hit").await;
    comes_true(&world, "HEAD /plain/1", &[], "hit").await;
    comes_true(&world, "GET /plain/1", &[("range", "bytes=2-3")], "hit").await.1.status(206).is("23");
    comes_true(&world, "GET /plain/1", &[("if-none-match", "\"1\"")], "hit").await.1.status(304);
    comes_true(&world, "GET /plain/1", &[("cache-control", "no-cache")], "validate").await;
    comes_true(&world, "GET /plain/2", &[("range", "bytes=2-3")], "fetch").await;

    // Credentials.
    comes_true(&world, "GET /plain/1", &[("authorization", bearer)], "fetch").await.1.forwarded("request");
    comes_true(&world, "GET /plain/3", &[("cookie", "a=b"), ("range", "bytes=2-3")], "past").await.1.says("detail=not-storable");
    comes_true(&world, "GET /own/1", &[("authorization", bearer)], "fetch").await;
    comes_true(&world, "GET /own/1", &[("authorization", bearer)], "hit").await;
    comes_true(&world, "GET /own/1", &[("authorization", "Bearer another")], "fetch").await;

    // Past the cache.
    comes_true(&world, "GET /no/route/here", &[], "past").await.1.says("detail=no-route");
    comes_true(&world, "GET /off/1", &[], "past").await.1.says("detail=cache-off");
    comes_true(&world, "DELETE /off/1", &[], "past").await;
    comes_true(&world, "POST /plain/9", &[], "past").await.1.says("fwd=method").says("detail=method");
    comes_true(&world, "POST /standard/9", &[], "past").await.1.says("fwd=method");
    comes_true(&world, "GET /plain/..", &[], "past").await.1.says("detail=path-not-normal");
    comes_true(&world, "GET /plain/1", &[("if-match", "\"1\"")], "past").await.1.says("detail=precondition");
    let (said, _) = comes_true(&world, "GET /plain/1", &[("x-one", "1"), ("accept", "a"), ("x-two", "2")], "past").await;
    assert_eq!(said["bypass"], json!({ "reason": "unkeyed-field", "fields": ["x-one", "x-two"] }));

    // Fields that matter, and fields that do not.
    comes_true(&world, "GET /tenant/1", &[("x-tenant", "a")], "fetch").await;
    comes_true(&world, "GET /tenant/1", &[("x-tenant", "a")], "hit").await;
    comes_true(&world, "GET /tenant/1", &[("x-tenant", "b")], "fetch").await;
    comes_true(&world, "GET /drop/1", &[("x-one", "1")], "fetch").await;
    comes_true(&world, "GET /drop/1", &[("x-one", "2")], "hit").await;
    comes_true(&world, "GET /plain/vary", &[("accept-language", "en")], "fetch").await;
    comes_true(&world, "GET /plain/vary", &[("accept-language", "en")], "hit").await;
    comes_true(&world, "GET /plain/vary", &[("accept-language", "fr")], "fetch").await.1.forwarded("vary-miss");

    // Purged, softly and not.
    world.purge(json!({ "tags": ["plain:1"], "soft": true })).await;
    comes_true(&world, "GET /plain/1", &[], "stale-and-refresh").await.1.says("ttl=0");
    eventually("it is fetched anew", async || explain(&world, "GET", "/plain/1", &[]).await["verdict"] == "hit").await;
    world.purge(json!({ "tags": ["plain:1"] })).await;
    let (said, _) = comes_true(&world, "GET /plain/1", &[], "fetch").await;
    assert_eq!(said["stored"]["memory"]["standing"], "purged");
    assert!(said["why"].as_str().unwrap().contains("purged"), "{said:#}");

    // Stale.
    comes_true(&world, "GET /standard/1", &[], "fetch").await;
    world.clock.advance(secs(61));
    comes_true(&world, "GET /plain/1", &[], "validate").await.1.forwarded("stale");
    comes_true(&world, "GET /standard/1", &[("cache-control", "max-stale=60")], "stale").await;
    comes_true(&world, "GET /standard/1", &[], "stale-and-refresh").await;
}

#[tokio::test]
async fn where_the_cache_is_off_everything_goes_past_it() {
    let world = World::with(|config| config.cache.enabled = false).await;
    world.origin.has("/a", "one");
    comes_true(&world, "GET /a", &[], "past").await.1.says("detail=cache-disabled");
}

#[tokio::test]
async fn an_explanation_names_rule_key_tags_lifetime_and_what_is_stored() {
    let world = World::with(of_all_kinds).await;
    let fields: Fields<'_> =
        &[("x-tenant", "acme"), ("accept", "text/plain"), ("user-agent", "me"), ("x-forwarded-for", "10.0.0.1")];
    world.origin.has("/tenant/1", Reply::new("one").with("vary", "accept").with("etag", "\"1\""));
    let (before, got) = comes_true(&world, "GET /tenant/1?b=c", fields, "fetch").await;
    got.says("stored");
    for (key, value) in [
        ("route", json!({ "name": "tenant", "match": "/tenant/{id}", "methods": ["GET", "HEAD"], "cache": "on" })),
        ("uses_cache", json!(true)),
        ("bypass", Value::Null),
        ("lifetime", json!({ "seconds": 60, "source": "rule", "override": false, "by_status": {} })),
        ("tags", json!(["tenant:1"])),
        ("stored", json!({ "memory": null, "redis": null })),
    ] {
        assert_eq!(before[key], value, "{key} of {before:#}");
    }
    assert_eq!(
        before["fields"],
        json!({ "in_key": ["x-tenant", "host"], "withheld": ["user-agent"], "passed": ["accept"], "replaced": ["x-forwarded-for"] })
    );
    let key = &before["key"];
    let address = world.sidecar.address.to_string();
    for (part, value) in [
        ("method", json!("GET")),
        ("scheme", json!("http")),
        ("host", json!(address)),
        ("target", json!("/tenant/1?b=c")),
        ("fields", json!([["x-tenant", "acme"]])),
        ("identity", Value::Null),
    ] {
        assert_eq!(key[part], value, "{part} of {key:#}");
    }
    let entry = form_urlencoded::byte_serialize(format!("http://{address}/tenant/1?b=c").as_bytes()).collect::<String>();
    let entry = world.admin(&format!("/admin/cache/entries?url={entry}&header=x-tenant:acme&header=accept:text/plain")).await;
    assert_eq!(serde_json::from_slice::<Value>(&entry.body()).unwrap()["key"], key["hash"]);

    world.clock.advance(secs(10));
    let after = explain(&world, "GET", "/tenant/1?b=c", fields).await;
    let memory = &after["stored"]["memory"];
    for (part, value) in [
        ("standing", json!("holds")),
        ("is_fresh", json!(true)),
        ("age", json!(10)),
        ("ttl", json!(50)),
        ("lifetime", json!({ "seconds": 60, "source": "rule" })),
        ("has_validator", json!(true)),
        ("status", json!(200)),
        ("body_bytes", json!(3)),
        ("tags", json!(["tenant:1"])),
        ("varies_on", json!([["accept", "text/plain"]])),
    ] {
        assert_eq!(memory[part], value, "{part} of {memory:#}");
    }
    assert_eq!(after["known"]["varies_on"], json!(["accept"]));
    assert_eq!(after["known"]["variants_in_memory"], 1);
    assert_eq!(after["why"], "Memory has a response for it, fresh for 50 s more.");
}

#[tokio::test]
async fn what_is_remembered_of_earlier_fetches_is_told() {
    let world = World::start().await;
    world.origin.has("/a", Reply::new("one").cache("no-store"));
    world.get("/a").await.does_not_say("stored");
    let said = comes_true(&world, "GET /a", &[], "fetch").await.0;
    assert_eq!(said["known"]["not_storable"], true);
    world.origin.has("/b", Reply::new("broken").status(503));
    world.get("/b").await.status(503);
    assert_eq!(explain(&world, "GET", "/b", &[]).await["known"]["origin_trouble"], "error");
}

#[tokio::test]
async fn a_fetch_under_way_is_told_and_not_joined() {
    let world = World::start().await;
    let gate = Gate::closed();
    world.origin.reply("/a", Reply::new("one").behind(&gate));
    let first = world.get("/a").spawn();
    world.origin.arrived("/a", 1).await;
    let said = explain(&world, "GET", "/a", &[]).await;
    assert_eq!(
        (&said["verdict"], &said["fetch_under_way"]),
        (&json!("follow"), &json!({ "followers": 0, "is_outdated": false }))
    );
    assert_eq!(explain(&world, "GET", "/a", &[("cache-control", "no-cache")]).await["verdict"], "fetch");
    world.purge(json!({ "all": true })).await;
    let said = explain(&world, "GET", "/a", &[]).await;
    assert_eq!((&said["verdict"], &said["fetch_under_way"]["is_outdated"]), (&json!("fetch"), &json!(true)));
    assert_eq!(world.stats().await["followers"], 0);
    gate.open();
    first.await.unwrap().is("one");
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn what_redis_has_is_looked_at_and_left_there() {
    let redis = RedisServer::start().await;
    let first = World::with_redis(&redis, of_all_kinds).await;
    let second = first
        .neighbour_with(|config| {
            config.store.redis = Some(world::redis_options(&redis.url()));
            of_all_kinds(config);
        })
        .await
        .connected()
        .await;
    first.origin.has("/plain/1", Reply::new("one").with("etag", "\"1\""));
    first.get("/plain/1").with("host", "h").await.says("stored");
    redis.keys_become(1).await;
    let (keys, host) = (redis.all_keys().await, [("host", "h")]);
    let said = comes_true(&second, "GET /plain/1", &host, "hit").await.0;
    assert_eq!((&said["stored"]["memory"], &said["stored"]["redis"]["standing"]), (&Value::Null, &json!("holds")), "{said:#}");
    // The other clock may have begun a second later.
    let is_from_redis = said["cache_status"].as_str().unwrap().ends_with("; detail=redis");
    assert!(said["redis"] == "connected" && is_from_redis, "{said:#}");
    let said = comes_true(&second, "GET /plain/1", &host, "hit").await.0;
    let standings = ["memory", "redis"].map(|tier| said["stored"][tier]["standing"].clone());
    assert_eq!(standings, ["holds", "holds"].map(Value::from), "{said:#}");
    assert_eq!(redis.all_keys().await.len(), keys.len(), "nothing is made in Redis");

    explain(&second, "GET", "/plain/unknown", &host).await;
    assert_eq!(redis.all_keys().await.len(), keys.len(), "not for what is not there either");
    second.purge(json!({ "tags": ["plain:1"], "wait": true })).await;
    for world in [&first, &second] {
        let said = explain(world, "GET", "/plain/1", &host).await;
        let standings = ["memory", "redis"].map(|tier| said["stored"][tier]["standing"].clone());
        assert_eq!((&said["verdict"], standings), (&json!("fetch"), ["purged", "purged"].map(Value::from)), "{said:#}");
    }
    redis.kill();
    first.notices_that_redis_is_gone().await;
    let said = explain(&first, "GET", "/plain/1", &host).await;
    assert_eq!((&said["verdict"], &said["redis"]), (&json!("fetch"), &json!("degraded")));
    assert!(said["why"].as_str().unwrap().contains("Redis cannot be asked"), "{said:#}");
}

#[tokio::test]
async fn no_credential_is_ever_shown() {
    let world = World::with(|config| {
        of_all_kinds(config);
        let by_key = |route: &mut Route| {
            route.key_headers = vec![AUTHORIZATION, HeaderName::from_static("x-api-key")];
            route.tags = vec![TagTemplate::parse("key:{header.x-api-key}", &[]).unwrap()];
        };
        let by_cookie = |route: &mut Route| {
            route.share = Share::PerCredential(Vec::new());
            route.identity_cookies = vec!["session".to_owned()];
        };
        config.routes.extend([route("keyed", by_key), route("session", by_cookie)]);
    })
    .await;
    let (bearer, cookie) = (format!("Bearer {SECRET}"), format!("session={SECRET}; other={SECRET}"));
    let fields: Fields<'_> = &[("authorization", &bearer), ("cookie", &cookie), ("proxy-authorization", &bearer)];
    let with_key: Fields<'_> = &[("authorization", &bearer), ("x-api-key", SECRET)];
    for path in ["/plain/1", "/own/1", "/keyed/1", "/session/1", "/standard/1", "/off/1", "/no/route/here"] {
        world.origin.has(path, Reply::new("one").with("vary", "authorization, cookie").cache("public, max-age=60"));
        for fields in [fields, with_key] {
            for _ in 0..2 {
                let said = explain(&world, "GET", path, fields).await.to_string();
                assert!(!said.contains(SECRET), "{path}: {said}");
                fields.iter().fold(world.get(path), |asked, (name, value)| asked.with(name, value)).await;
            }
        }
    }
    let said = explain(&world, "GET", "/keyed/1", with_key).await;
    assert_eq!(said["verdict"], "hit");
    assert_eq!(said["tags"], json!(["key:{header.x-api-key}"]));
    assert_eq!(said["stored"]["memory"]["tags"], json!(["key:{header.x-api-key}"]));
    assert_eq!(said["key"]["fields"], json!([["authorization", "present"], ["x-api-key", "present"]]));
    assert_eq!(explain(&world, "GET", "/own/1", fields).await["key"]["identity"], "present");
    for query in [
        "url=http://h/&header=authorization+s3cr3t-of-mine",
        "url=http://user:s3cr3t-of-mine@h/",
        "url=user:s3cr3t-of-mine@h",
        "url=http://user:s3cr3t-of-mine/x@h/",
    ] {
        let got = world.admin(&format!("/admin/cache/explain?{query}")).await;
        assert!(!got.status(400).text().contains(SECRET), "{got:?}");
    }
}

#[tokio::test]
async fn a_request_that_would_be_refused_is_told_so() {
    let world = World::start().await;
    for (method, fields, status) in [
        ("TRACE", &[][..], "405"),
        ("GET", &[("authorization", "a"), ("authorization", "b")], "400"),
        ("GET", &[("host", "a"), ("host", "b")], "400"),
        ("GET", &[("expect", "wonders")], "417"),
    ] {
        let said = explain(&world, method, "/a", fields).await;
        assert_eq!((&said["verdict"], &said["uses_cache"]), (&json!("refused"), &json!(false)), "{said:#}");
        assert!(said["why"].as_str().unwrap().contains(status), "{said:#}");
    }
}

#[tokio::test]
async fn it_is_asked_as_the_other_endpoints_are() {
    let world = World::with(|config| config.admin.tokens = vec![Token::admin("t0ken")]).await;
    let path = "/admin/cache/explain?url=http://h/a";
    world.ask_admin("GET", path).await.status(401);
    let asked = |method, path: &str| world.ask_admin(method, path).with("authorization", "Bearer t0ken");
    asked("GET", path).await.status(200).has("cache-control", "no-store").has("content-type", "application/json");
    asked("POST", path).await.status(405).has("allow", "GET, HEAD");
    for (query, part) in [("", "name the URL"), ("?url=/a", "the host is a part of the key"), ("?url=http://h/&ttl=1", "ttl")] {
        let got = asked("GET", &format!("/admin/cache/explain{query}")).await;
        assert!(got.status(400).text().contains(part), "{got:?}");
    }
}

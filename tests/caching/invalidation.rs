//! Requests that change something end what is stored for what they change (RFC 9111 §4.4, RFC 9875 §3).

use super::tiers::{Tier, both, both_tiers, is_kept, replicas};
use crate::world::{Ask, Gate, Reply, World, eventually, millis, secs};
use sidecache::config::Config;
use sidecache::rules::{Caching, Pattern, Route, TagTemplate, Unkeyed};
use std::time::{Duration, Instant};

/// Methods that may change something; of the last nobody knows.
const UNSAFE: [&str; 5] = ["POST", "PUT", "DELETE", "PATCH", "FROB"];

/// A response is stored.
async fn stored(tier: &Tier, path: &str, body: &'static str) {
    tier.origin.has(path, body);
    tier.get(path).await.is(body).says("stored");
    tier.keeps(path, body).await;
}

/// Sends a request that changes something, to which the origin says this. Afterwards it has another response for that path.
async fn change(tier: &Tier, method: &str, path: &str, said: Reply) {
    tier.origin.has(path, said);
    tier.ask(method, path).body("change").await;
    tier.origin.has(path, "new");
}

/// As all replicas are asked: under one name.
fn ask(world: &World, method: &str) -> Ask {
    world.ask(method, "/a").with("host", "h")
}

#[tokio::test]
async fn a_successful_change_invalidates_its_target() {
    for tier in both_tiers().await {
        for method in UNSAFE {
            for status in [200, 201, 204, 303] {
                let path = &format!("/{method}-{status}");
                stored(&tier, path, "old").await;
                change(&tier, method, path, Reply::new("").status(status)).await;
                tier.get(path).await.is("new").forwarded("uri-miss").says("stored");
            }
        }
    }
}

#[tokio::test]
async fn a_change_that_failed_invalidates_nothing() {
    for tier in both_tiers().await {
        for method in UNSAFE {
            for status in [400, 404, 409, 412, 500, 503] {
                let path = &format!("/{method}-{status}");
                stored(&tier, path, "old").await;
                change(&tier, method, path, Reply::new("").status(status).with("location", path)).await;
                tier.get(path).await.is("old").hit(tier.name);
            }
        }
        stored(&tier, "/a", "old").await;
        tier.network.leave().await;
        tier.ask("PUT", "/a").body("change").await.status(502);
        tier.get("/a").await.is("old").hit(tier.name);
    }
}

#[tokio::test]
async fn what_changes_nothing_invalidates_nothing() {
    for tier in both_tiers().await {
        for method in ["HEAD", "OPTIONS", "PROPFIND", "QUERY", "REPORT", "SEARCH"] {
            let path = &format!("/{method}");
            stored(&tier, path, "old").await;
            change(&tier, method, path, Reply::new("")).await;
            tier.get(path).await.is("old").hit(tier.name);
        }
        // Not even a GET that goes past the cache.
        stored(&tier, "/a", "old").await;
        change(&tier, "GET", "/a", Reply::new("")).await;
        tier.get("/a").await.is("old").hit(tier.name);
    }
}

#[tokio::test]
async fn all_variants_of_a_target_are_invalid() {
    for tier in both_tiers().await {
        let ask = |language: &str| tier.get("/a").with("accept-language", language);
        for (language, body) in [("de", "hallo"), ("en", "hello")] {
            tier.origin.has("/a", Reply::new(body).with("vary", "accept-language"));
            ask(language).await.is(body).says("stored");
            is_kept(|| ask(language), body).await;
        }
        change(&tier, "PUT", "/a", Reply::new("")).await;
        for language in ["de", "en"] {
            tier.origin.has("/a", Reply::new("new").with("vary", "accept-language"));
            ask(language).await.is("new");
        }
    }
}

#[tokio::test]
async fn a_target_with_another_query_is_another_target() {
    for tier in both_tiers().await {
        tier.origin.has("/a", "old");
        for target in ["/a", "/a?b=1", "/a?b=2"] {
            tier.get(target).await.is("old").says("stored");
            tier.keeps(target, "old").await;
        }
        tier.ask("PUT", "/a?b=1").body("change").await.status(200);
        tier.origin.has("/a", "new");
        tier.get("/a?b=1").await.is("new");
        tier.get("/a?b=2").await.is("old").hit(tier.name);
        tier.get("/a").await.is("old").hit(tier.name);
    }
}

#[tokio::test]
async fn what_the_response_names_on_the_same_host_is_invalid_too() {
    for tier in both_tiers().await {
        let host = tier.sidecar.address.to_string();
        stored(&tier, "/other", "old").await;
        for (number, field) in ["location", "content-location"].into_iter().enumerate() {
            for (form, reference) in ["/{b}", "{b}", "./x/../{b}", "http://{host}/{b}", "//{host}/{b}", "HTTP://{host}/{b}#part"]
                .into_iter()
                .enumerate()
            {
                let named = format!("b-{number}-{form}");
                stored(&tier, &format!("/{named}"), "old").await;
                let reference = reference.replace("{b}", &named).replace("{host}", &host);
                change(&tier, "POST", "/a", Reply::new("").status(201).with(field, &reference)).await;
                tier.origin.has(&format!("/{named}"), "new");
                tier.get(&format!("/{named}")).await.is("new");
                tier.get("/other").await.is("old").hit(tier.name);
            }
        }
    }
}

#[tokio::test]
async fn what_the_response_names_on_another_host_stays() {
    for tier in both_tiers().await {
        stored(&tier, "/b", "old").await;
        for field in ["location", "content-location"] {
            for reference in ["http://other.example/b", "//other.example/b", "http://127.0.0.1:1/b", "mailto:b", "http://[/b"] {
                change(&tier, "POST", "/a", Reply::new("").status(201).with(field, reference)).await;
                tier.get("/b").await.is("old").hit(tier.name);
            }
        }
    }
}

fn customers(config: &mut Config) {
    let route = |name: &str, pattern: &str| Route::new(name, Pattern::parse(pattern).unwrap(), secs(60));
    let tags = |route: &Route, tags: &[&str]| {
        tags.iter().map(|tag| TagTemplate::parse(tag, route.pattern.captures()).unwrap()).collect::<Vec<_>>()
    };
    let (mut one, mut risk, mut order) =
        (route("customer", "/customer/{id}"), route("risk", "/customer/{id}/risk"), route("order", "/customer/{id}/order"));
    one.tags = tags(&one, &["customer:{id}"]);
    risk.tags = tags(&risk, &["customer:{id}"]);
    order.caching = Caching::Off;
    order.invalidates = tags(&order, &["customer:{id}"]);
    config.routes = vec![one, risk, order, route("r", "/{id}")];
}

#[tokio::test]
async fn a_route_may_name_what_its_changes_invalidate() {
    for tier in both(customers).await {
        let paths = ["/customer/1", "/customer/1/risk", "/customer/2"];
        for path in paths {
            stored(&tier, path, "old").await;
        }
        change(&tier, "POST", "/customer/1/order", Reply::new("").status(500)).await;
        change(&tier, "GET", "/customer/1/order", Reply::new("")).await;
        for path in paths {
            tier.get(path).await.is("old").hit(tier.name);
            tier.origin.has(path, "new");
        }
        change(&tier, "POST", "/customer/1/order", Reply::new("").status(201)).await;
        tier.get("/customer/1").await.is("new");
        tier.get("/customer/1/risk").await.is("new");
        tier.get("/customer/2").await.is("old").hit(tier.name);
    }
}

#[tokio::test]
async fn groups_that_the_response_names_are_invalid() {
    for tier in both_tiers().await {
        for (path, groups) in [("/a", "\"x\", \"y\""), ("/b", "\"y\""), ("/c", "\"z\"")] {
            tier.origin.has(path, Reply::new("old").with("cache-groups", groups));
            tier.get(path).await.is("old").says("stored");
            tier.keeps(path, "old").await;
            tier.origin.has(path, "new");
        }
        let names_x = |status| Reply::new("").status(status).with("cache-group-invalidation", "\"x\", \"unknown\"");
        change(&tier, "POST", "/d", names_x(400)).await;
        change(&tier, "GET", "/e", names_x(200)).await;
        tier.get("/a").await.is("old").hit(tier.name);
        change(&tier, "POST", "/d", names_x(200)).await;
        tier.get("/a").await.is("new");
        tier.get("/b").await.is("old").hit(tier.name);
        tier.get("/c").await.is("old").hit(tier.name);
    }
}

#[tokio::test]
async fn who_has_heard_of_a_change_never_gets_what_was_fetched_before_it() {
    for tier in both_tiers().await {
        let gate = Gate::closed();
        tier.origin.has("/a", Reply::new("old").behind(&gate));
        let asked_before = tier.get("/a").spawn();
        tier.origin.arrived("/a", 1).await;
        tier.origin.has("/a", "changed");
        tier.ask("PUT", "/a").body("change").await.is("changed");
        tier.origin.has("/a", "new");
        // Not even while the old one is under way.
        tier.get("/a").await.is("new").says("stored");
        gate.open();
        asked_before.await.unwrap().is("old").does_not_say("stored");
        tier.keeps("/a", "new").await;
        tier.get("/a").await.is("new").hit(tier.name);
    }
}

#[tokio::test]
async fn a_change_while_what_is_stale_is_validated_or_refreshed_ends_it() {
    for tier in both_tiers().await {
        for (path, directives) in [("/a", "max-age=10"), ("/b", "max-age=10, stale-while-revalidate=60")] {
            tier.origin.has(path, Reply::new("old").with("etag", "\"1\"").cache(directives));
            tier.get(path).await.is("old");
            tier.keeps(path, "old").await;
            tier.clock.advance(secs(11));
            let gate = Gate::closed();
            tier.origin.has(path, Reply::new("").status(304).with("etag", "\"1\"").behind(&gate));
            let asked_before = tier.get(path).spawn();
            tier.origin.arrived(path, 2).await;
            tier.origin.has(path, "changed");
            tier.ask("PUT", path).body("change").await.is("changed");
            tier.origin.has(path, "new");
            gate.open();
            asked_before.await.unwrap().is("old");
            tier.has_fetched().await;
            tier.get(path).await.is("new").forwarded("uri-miss");
        }
    }
}

#[tokio::test]
async fn a_change_through_one_replica_is_seen_by_the_other() {
    let (worlds, _redis) = replicas(|_| {}).await;
    for method in UNSAFE {
        let path = &format!("/{method}");
        let get = |world: &World| world.get(path).with("host", "h");
        worlds[0].origin.has(path, "old");
        get(&worlds[0]).await.is("old").says("stored");
        for world in &worlds {
            is_kept(|| get(world), "old").await;
        }
        let has_in_memory = async || get(&worlds[1]).await.field("cache-status").contains("detail=memory");
        eventually("the other one has it in memory", has_in_memory).await;
        worlds[0].ask(method, path).with("host", "h").body("change").await.status(200);
        worlds[0].origin.has(path, "new");
        get(&worlds[0]).await.is("new");
        eventually("the other one has heard of it", async || get(&worlds[1]).await.text() == "new").await;
    }
}

#[tokio::test]
async fn a_change_through_one_replica_keeps_the_other_from_storing_what_it_is_fetching() {
    let (worlds, _redis) = replicas(|_| {}).await;
    let gate = Gate::closed();
    worlds[0].origin.has("/a", Reply::new("old").behind(&gate));
    let asked_before = ask(&worlds[1], "GET").spawn();
    worlds[0].origin.arrived("/a", 1).await;
    worlds[0].origin.has("/a", "changed");
    ask(&worlds[0], "PUT").body("change").await.is("changed");
    worlds[0].origin.has("/a", "new");
    ask(&worlds[0], "GET").await.is("new").says("stored");
    eventually("the other one has heard of it", async || {
        let got = tokio::time::timeout(millis(200), ask(&worlds[1], "GET").into_future()).await;
        got.is_ok_and(|got| got.text() == "new")
    })
    .await;
    gate.open();
    asked_before.await.unwrap().is("old").does_not_say("stored");
    for world in &worlds {
        ask(world, "GET").await.is("new").says("hit");
    }
}

#[tokio::test]
async fn a_redis_that_stands_still_delays_a_change_by_the_budget_at_most_and_brings_nothing_old_back() {
    let budget = millis(300);
    let (worlds, redis) =
        replicas(|config| config.store.redis.as_mut().into_iter().for_each(|redis| redis.budget = budget)).await;
    worlds[0].origin.has("/a", "old");
    ask(&worlds[0], "GET").await.is("old");
    is_kept(|| ask(&worlds[0], "GET"), "old").await;
    redis.freeze();
    let begun = Instant::now();
    ask(&worlds[0], "PUT").body("change").await.status(200);
    assert!(begun.elapsed() < budget + SLACK, "it took {:?}", begun.elapsed());
    worlds[0].origin.has("/a", "new");
    for _ in 0..3 {
        ask(&worlds[0], "GET").await.is("new");
    }
    redis.thaw();
    for world in &worlds {
        world.redis_is("connected").await;
    }
    ask(&worlds[0], "GET").await.is("new");
    eventually("the other one has heard of it", async || ask(&worlds[1], "GET").await.text() == "new").await;
}

#[tokio::test]
async fn a_post_on_a_route_that_follows_the_rfc_invalidates_as_any_other() {
    let standard = |config: &mut Config| {
        config.routes[0].caching = Caching::Standard;
        config.routes[0].unkeyed = Unkeyed::Forward;
    };
    for tier in both(standard).await {
        tier.origin.has("/a", Reply::new("old").cache("max-age=60"));
        tier.get("/a").await.is("old");
        tier.keeps("/a", "old").await;
        change(&tier, "POST", "/a", Reply::new("posted").cache("max-age=60")).await;
        tier.get("/a").await.is("new");
    }
}

/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(1);

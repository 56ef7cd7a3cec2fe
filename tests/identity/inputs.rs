//! No request field that one client sends can change what another one is given: it is in the key, or the origin is not shown it, or
//! its request goes past the cache.
//!
//! The origin is the worst that there is: it writes all fields that it gets into its page, and says nothing of that.

use crate::world::{Ask, Got, RawClient, Reply, World};
use sidecache::rules::{Caching, Pattern, Unkeyed};

/// Request fields that are registered, and many that are in use; without those that frame a message or name its target.
const NAMES: &str = include_str!("field_names.txt");

const EVIL: &str = "evil-9d1c";

fn names() -> Vec<&'static str> {
    NAMES.lines().collect()
}

/// A world whose origin reflects everything.
async fn reflecting(unkeyed: Unkeyed) -> World {
    let world = World::with_route(|route| route.unkeyed = unkeyed).await;
    names().iter().enumerate().for_each(|(number, _)| world.origin.reply(&format!("/{number}"), Reply::reflecting()));
    world
}

/// What a clean request gets after one that has this field, and after that one once more.
async fn after(world: &World, path: &str, name: &str, usual: fn(Ask) -> Ask) -> [Got; 2] {
    usual(world.get(path)).with(name, EVIL).await;
    let first = usual(world.get(path)).await;
    usual(world.get(path)).with(name, EVIL).await;
    [first, usual(world.get(path)).await]
}

fn bare(ask: Ask) -> Ask {
    ask
}

fn as_a_browser(ask: Ask) -> Ask {
    let fields = [
        ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
        ("accept-language", "de-DE,de;q=0.9"),
        ("accept-encoding", "gzip, br, zstd"),
        ("user-agent", "Mozilla/5.0"),
        ("referer", "https://example.com/"),
        ("sec-fetch-mode", "navigate"),
    ];
    fields.iter().fold(ask, |ask, (name, value)| ask.with(name, value))
}

/// Tries all names, and says which of them have poisoned.
async fn poisoning(unkeyed: Unkeyed, usual: fn(Ask) -> Ask, written: fn(&str) -> String) -> Vec<String> {
    let world = reflecting(unkeyed).await;
    let mut poisoning = Vec::new();
    for (number, name) in names().into_iter().enumerate() {
        let name = written(name);
        let got = after(&world, &format!("/{number}"), &name, usual).await;
        if got.iter().any(|got| got.text().contains(EVIL)) {
            poisoning.push(name);
        }
    }
    poisoning
}

#[tokio::test]
async fn no_field_poisons_a_default_route() {
    assert!(names().len() >= 1_000, "{}", names().len());
    assert_eq!(poisoning(Unkeyed::Pass, bare, str::to_owned).await, [""; 0]);
}

#[tokio::test]
async fn no_field_poisons_what_browsers_ask_for() {
    assert_eq!(poisoning(Unkeyed::Pass, as_a_browser, str::to_owned).await, [""; 0]);
}

#[tokio::test]
async fn no_field_poisons_a_route_that_drops_what_nobody_knows() {
    assert_eq!(poisoning(Unkeyed::Drop, bare, str::to_owned).await, [""; 0]);
}

#[tokio::test]
async fn no_field_poisons_when_it_is_written_with_underscores() {
    assert_eq!(poisoning(Unkeyed::Pass, bare, |name| name.replace('-', "_")).await, [""; 0]);
    assert_eq!(poisoning(Unkeyed::Drop, bare, |name| name.replace('-', "_")).await, [""; 0]);
}

#[tokio::test]
async fn the_case_of_a_name_makes_no_difference() {
    let world = reflecting(Unkeyed::Pass).await;
    let mut client: RawClient = world.raw().await;
    let swapped = |name: &str| -> String {
        let case = |(at, sign): (usize, char)| if at % 2 == 0 { sign.to_ascii_lowercase() } else { sign.to_ascii_uppercase() };
        name.chars().enumerate().map(case).collect()
    };
    for (number, name) in names().into_iter().enumerate().step_by(7) {
        if ["Expect", "Upgrade", "TE"].contains(&name) {
            continue;
        }
        client.ask(format!("HEAD /{number} HTTP/1.1\r\nHost: h\r\n{}: {EVIL}\r\n\r\n", swapped(name))).await;
        let got = world.get(&format!("/{number}")).await;
        assert!(!got.text().contains(EVIL), "{name}");
    }
}

#[tokio::test]
async fn names_that_nobody_has_thought_of_do_not_poison_either() {
    let world = World::start().await;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for number in 0..300 {
        let mut letters = String::new();
        for _ in 0..(3 + number % 20) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            letters.push(char::from(b"abcdefghijklmnopqrstuvwxyz-_0123456789"[(seed >> 33) as usize % 38]));
        }
        let path = format!("/{number}");
        world.origin.reply(&path, Reply::reflecting());
        for got in after(&world, &path, &format!("z{letters}"), bare).await {
            assert!(!got.text().contains(EVIL), "{letters}");
        }
    }
}

#[tokio::test]
async fn where_the_origins_vary_is_trusted_what_it_names_does_not_poison() {
    for caching in [Caching::Standard, Caching::Rule { ttl: crate::world::secs(60), overrides: false }] {
        let world = World::with_route(|route| {
            route.unkeyed = Unkeyed::Forward;
            route.caching = caching;
        })
        .await;
        for (number, name) in names().into_iter().enumerate().step_by(3) {
            let path = format!("/{number}");
            world.origin.reply(&path, Reply::reflecting().with("vary", name).cache("max-age=60"));
            for got in after(&world, &path, name, bare).await {
                assert!(!got.text().contains(EVIL), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_head_does_not_put_into_what_is_stored_what_its_client_alone_said() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").with("etag", "\"1\"").cache("max-age=10"));
    world.get("/a").await.is("one").says("stored");
    world.clock.advance(crate::world::secs(11));
    world.origin.has("/a", Reply::new("one").with("etag", "\"1\"").with("x-agent", EVIL).cache("max-age=1000"));
    world.ask("HEAD", "/a").with("user-agent", EVIL).await;
    world.origin.has("/a", Reply::new("two").cache("max-age=1000"));
    world.get("/a").await.is("two").has("x-agent", "");
}

#[tokio::test]
async fn a_second_client_like_the_first_has_a_hit_and_so_has_any_third() {
    let world = World::start().await;
    world.origin.reply("/a", "one");
    as_a_browser(world.get("/a")).await.forwarded("uri-miss").says("stored");
    as_a_browser(world.get("/a")).await.hit("memory");
    // What the origin was shown may have made a difference; so it is not shown it again.
    world.get("/a").with("accept", "*/*").with("user-agent", "curl/8").await.forwarded("vary-miss").says("stored");
    assert_eq!(world.origin.last("/a").field("accept"), None);
    for accept in ["*/*", "text/html", "application/json"] {
        world.get("/a").with("accept", accept).await.hit("memory");
    }
    as_a_browser(world.get("/a")).await.hit("memory");
    world.get("/a").await.hit("memory");
}

#[tokio::test]
async fn what_the_origin_says_that_it_varies_on_it_is_shown_after_all() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("for all").with("vary", "user-agent"));
    world.origin.reply("/a", Reply::new("for phones").with("vary", "user-agent"));
    world.origin.reply("/a", Reply::new("for desktops").with("vary", "user-agent"));
    world.get("/a").with("user-agent", "phone").await.is("for phones").says("stored");
    assert_eq!(world.origin.last("/a").field("user-agent").as_deref(), Some("phone"));
    world.get("/a").with("user-agent", "phone").await.hit("memory");
    // Known by now, so nothing is asked twice.
    world.get("/a").with("user-agent", "desktop").await.is("for desktops").forwarded("vary-miss");
    assert_eq!(world.origin.count("/a"), 3);
}

#[tokio::test]
async fn the_origin_of_the_page_that_asks_is_a_part_of_the_key() {
    let world = World::with_route(|route| route.pattern = Pattern::parse("/{id}").unwrap()).await;
    for (origin, body) in [("https://one.example", "one"), ("https://two.example", "two")] {
        world.origin.has("/a", Reply::new(body).with("access-control-allow-origin", origin));
        world.get("/a").with("origin", origin).await.is(body).forwarded("uri-miss").says("stored");
    }
    let got = world.get("/a").with("origin", "https://one.example").await;
    got.is("one").hit("memory").has("access-control-allow-origin", "https://one.example");
    world.get("/a").await.is("two").forwarded("uri-miss");
}

//! A Redis that somebody else reads and writes as well: what is changed, moved, put back or made up is a miss, and counted.

use crate::world::{RedisServer, Reply, World, eventually, redis_options, secs};
use sidecache::config::Config;
use sidecache::rules::{Scope, Unkeyed};
use sidecache::store::EncryptionKey;

/// Each way in which values can be protected: with a secret or without, and sealed with keys, the first of which seals.
const WAYS: [(&str, Option<&str>, &[u8]); 3] = [("checksum", None, &[]), ("code", Some("s"), &[]), ("sealed", Some("s"), &[1])];

/// A configuration without memory, so that each request shows what Redis comes to.
fn protected(redis: &RedisServer, secret: Option<&str>, keys: &[u8]) -> impl FnOnce(&mut Config) + use<> {
    let mut options = redis_options(&redis.url());
    options.secret = secret.map(str::to_owned);
    options.encryption = keys.iter().map(|key| EncryptionKey { name: format!("k{key}"), octets: [*key; 32] }).collect();
    move |config| {
        config.store.redis = Some(options);
        config.store.memory.bytes_max = 0;
        // Responses are taken at their word about what they vary on, so that one that says nothing is one value.
        config.routes[0].unkeyed = Unkeyed::Forward;
    }
}

async fn world(redis: &RedisServer, secret: Option<&str>, keys: &[u8]) -> World {
    World::with(protected(redis, secret, keys)).await.connected().await
}

/// Fetches and stores, until Redis has it.
async fn store(world: &World, path: &str, reply: Reply) {
    world.origin.reply(path, reply);
    world.get(path).with("accept", "a").await.says("stored");
    eventually("Redis has it", async || is_there(world, path).await).await;
}

/// Whether Redis has an answer that is used. What is not there is not fetched, and so nothing is written.
async fn is_there(world: &World, path: &str) -> bool {
    world.get(path).with("accept", "a").with("cache-control", "only-if-cached").await.status == 200
}

/// Puts a value in the place of another, and leaves how long it is kept: a shorter time would make a response older.
async fn put(redis: &RedisServer, name: &str, value: &[u8]) {
    redis.command::<()>(redis::cmd("SET").arg(name).arg(value).arg("KEEPTTL")).await;
}

/// How many values were refused, whatever the reason.
async fn rejected(world: &World) -> f64 {
    let text = world.admin("/metrics").await.text();
    let counts = text.lines().filter(|line| line.starts_with("sidecache_redis_values_rejected_total{"));
    let counts: Vec<f64> = counts.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    // All of them are there from the beginning, and no other comes.
    assert_eq!(counts.len(), 9, "{text}");
    counts.iter().sum()
}

#[tokio::test]
async fn a_turned_bit_anywhere_in_4_kb_is_a_miss_and_counted() {
    for (way, secret, keys) in WAYS {
        let redis = RedisServer::start().await;
        let world = world(&redis, secret, keys).await;
        store(&world, "/a", Reply::new("b".repeat(3700))).await;
        let name = redis.keys_become(1).await.remove(0);
        let whole = redis.value(&name).await;
        assert!(whole.len() >= 4000, "{}", whole.len());
        let before = rejected(&world).await;
        // All that stands before the pieces, and some of the rest; the unit tests turn every one.
        let places: Vec<usize> = (0..120).chain((120..whole.len()).step_by(61)).chain([whole.len() - 1]).collect();
        for at in &places {
            let mut turned = whole.clone();
            turned[*at] ^= 1 << (at % 8);
            put(&redis, &name, &turned).await;
            assert!(!is_there(&world, "/a").await, "{way}: octet {at}");
        }
        for wrong in [&whole[..whole.len() - 1], &whole[1..], &[&whole[..], b"x"].concat(), &whole[..200]] {
            put(&redis, &name, wrong).await;
            assert!(!is_there(&world, "/a").await, "{way}: {} octets", wrong.len());
        }
        let expected = places.len() as f64 + 4.0;
        assert_eq!(rejected(&world).await - before, expected, "{way}");
        put(&redis, &name, &whole).await;
        assert!(is_there(&world, "/a").await, "{way}");
    }
}

#[tokio::test]
async fn no_value_is_one_under_another_name() {
    for (way, secret, keys) in WAYS {
        let redis = RedisServer::start().await;
        let world = world(&redis, secret, keys).await;
        for path in ["/a", "/b"] {
            store(&world, path, Reply::new(path)).await;
        }
        // A list of variants, and two of them.
        store(&world, "/c", Reply::new("a").with("vary", "accept")).await;
        world.origin.reply("/c", Reply::new("b").with("vary", "accept"));
        world.get("/c").with("accept", "b").await.says("stored");
        let names = redis.keys_become(5).await;
        eventually("the list has both", async || redis.value(&names_of_list(&names)).await.len() > 120).await;
        let mut values = Vec::new();
        for name in &names {
            values.push(redis.value(name).await);
        }
        for (name, own) in names.iter().zip(&values) {
            for moved in values.iter().filter(|moved| *moved != own) {
                put(&redis, name, moved).await;
                let before = rejected(&world).await;
                let answers = [
                    world.get("/a").with("cache-control", "only-if-cached").await,
                    world.get("/b").with("cache-control", "only-if-cached").await,
                    world.get("/c").with("accept", "a").with("cache-control", "only-if-cached").await,
                    world.get("/c").with("accept", "b").with("cache-control", "only-if-cached").await,
                ];
                for (got, body) in answers.iter().zip(["/a", "/b", "a", "b"]) {
                    assert!(got.status == 504 || got.text() == body, "{way}: {got:?}");
                }
                assert!(answers.iter().any(|got| got.status == 504), "{way}: {name}");
                assert!(rejected(&world).await > before, "{way}: {name}");
            }
            put(&redis, name, own).await;
        }
    }
}

/// The shortest of those names that others begin with.
fn names_of_list(names: &[String]) -> String {
    let is_begun_with = |name: &&String| names.iter().any(|other| other != *name && other.starts_with(*name));
    names.iter().find(is_begun_with).expect("one has variants").clone()
}

#[tokio::test]
async fn what_has_ended_is_a_miss_however_long_redis_keeps_it() {
    for (way, secret, keys) in WAYS {
        let redis = RedisServer::start().await;
        let world = world(&redis, secret, keys).await;
        store(&world, "/a", Reply::new("one").cache("max-age=60")).await;
        let name = redis.keys_become(1).await.remove(0);
        let whole = redis.value(&name).await;
        world.clock.advance(secs(30));
        redis.command::<()>(redis::cmd("SET").arg(&name).arg(&whole).arg("PX").arg(86_400_000)).await;
        assert!(is_there(&world, "/a").await, "{way}");
        world.clock.advance(secs(600));
        assert!(!is_there(&world, "/a").await, "{way}");
        assert_eq!(world.metric("sidecache_redis_values_rejected_total{reason=\"ended\"}").await, 1.0, "{way}");
    }
}

#[tokio::test]
async fn what_was_protected_otherwise_is_a_miss_and_says_why() {
    let redis = RedisServer::start().await;
    let plain = world(&redis, Some("s"), &[]).await;
    store(&plain, "/a", Reply::new("one")).await;
    let host = plain.sidecar.address.to_string();
    let ask = async |world: &World| {
        world.get("/a").with("host", &host).with("accept", "a").with("cache-control", "only-if-cached").await.status
    };
    let sealed = plain.neighbour_with(protected(&redis, Some("s"), &[1])).await.connected().await;
    assert_eq!(ask(&sealed).await, 504);
    assert_eq!(sealed.metric("sidecache_redis_values_rejected_total{reason=\"protection\"}").await, 1.0);
    // Who has another secret does not even see it.
    let other = plain.neighbour_with(protected(&redis, Some("t"), &[])).await.connected().await;
    assert_eq!(ask(&other).await, 504);
    assert_eq!(rejected(&other).await, 0.0);
    // Its value under the name that the first one gives it.
    let name = redis.keys_become(1).await.remove(0);
    other.origin.reply("/a", "planted");
    other.get("/a").with("host", &host).with("accept", "a").await.says("stored");
    let names = redis.keys_become(2).await;
    let planted = redis.value(names.iter().find(|other| **other != name).unwrap()).await;
    put(&redis, &name, &planted).await;
    assert_eq!(ask(&plain).await, 504);
    assert_eq!(plain.metric("sidecache_redis_values_rejected_total{reason=\"forged\"}").await, 1.0);
}

#[tokio::test]
async fn who_hashes_guesses_finds_nobody_where_there_is_a_secret() {
    let tagged = |mut reply: Reply| {
        reply = reply.with("cache-tag", "customer:4711").with("vary", "accept");
        reply.cache("max-age=60")
    };
    for (way, secret, keys) in WAYS {
        let redis = RedisServer::start().await;
        let world = world(&redis, secret, keys).await;
        store(&world, "/4711", tagged(Reply::new("one"))).await;
        let scopes = [Scope::Tag("customer:4711".into()), Scope::TagsUnder("customer:".into()), Scope::Target("/4711".into())];
        let names = redis.all_keys().await;
        for scope in scopes {
            let guessed = scope.name().to_string();
            assert_eq!(names.iter().any(|name| name.contains(&guessed)), secret.is_none(), "{way}: {scope}");
        }
        assert!(!names.iter().any(|name| name.contains("4711") || name.contains("customer")), "{way}: {names:?}");
        // The hash under which memory knows it, which logs and `explain` may show.
        let explained = world.admin("/admin/cache/explain?url=http://h/4711").await.text();
        let known = names.iter().filter_map(|name| name.split(['{', '}']).nth(1)).any(|hash| explained.contains(hash));
        assert!(!known || secret.is_none(), "{way}: {explained}");
        // It is purged all the same.
        world.purge(serde_json::json!({ "tags": ["customer:4711"], "wait": true })).await;
        assert!(!is_there(&world, "/4711").await, "{way}");
    }
}

#[tokio::test]
async fn keys_are_exchanged_while_replicas_with_the_old_and_the_new_one_run() {
    let redis = RedisServer::start().await;
    let old = world(&redis, Some("s"), &[1]).await;
    let host = old.sidecar.address.to_string();
    store(&old, "/a", Reply::new("one")).await;
    let with = async |keys: &[u8]| old.neighbour_with(protected(&redis, Some("s"), keys)).await.connected().await;
    let (ready, exchanged, new) = (with(&[1, 2]).await, with(&[2, 1]).await, with(&[2]).await);
    let ask = |world: &World, path: &str| world.get(path).with("host", &host).with("accept", "a");
    for world in [&ready, &exchanged] {
        ask(world, "/a").await.is("one").hit("redis");
    }
    exchanged.origin.reply("/b", "two");
    ask(&exchanged, "/b").await.is("two").says("stored");
    redis.keys_become(2).await;
    for world in [&ready, &new] {
        ask(world, "/b").await.is("two").hit("redis");
    }
    ask(&new, "/a").with("cache-control", "only-if-cached").await.status(504);
    assert_eq!(new.metric("sidecache_redis_values_rejected_total{reason=\"key\"}").await, 1.0);
    // Whatever their keys, a purge reaches all of them.
    old.purge(serde_json::json!({ "all": true, "wait": true })).await;
    for world in [&ready, &exchanged, &new] {
        ask(world, "/b").with("cache-control", "only-if-cached").await.status(504);
    }
}

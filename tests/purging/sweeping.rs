//! What looks at everything: erasing, and patterns that are no beginning of tags.

use super::customers;
use super::replicas::{all_have, ask, replicas};
use crate::world::{Gate, RedisServer, Reply, World, eventually, secs};
use serde_json::{Value, json};

async fn erase(world: &World, order: Value) -> (u16, Value) {
    let got = world.ask_admin("POST", "/admin/cache/erase").body(order.to_string()).await;
    (got.status.as_u16(), serde_json::from_slice(&got.body()).unwrap())
}

async fn jobs(world: &World) -> Value {
    serde_json::from_slice::<Value>(&world.admin("/admin/cache/jobs").await.body()).unwrap()["jobs"].clone()
}

/// Purges by a pattern and waits for the end.
async fn purged_by(world: &World, pattern: &str) -> Value {
    let answer = world.purge(json!({ "pattern": pattern })).await;
    eventually("the job is over", async || jobs(world).await[0]["status"] != "running").await;
    let job = jobs(world).await[0].clone();
    assert_eq!((&job["id"], &job["status"]), (&answer["job"], &json!("done")), "{job}");
    job
}

#[tokio::test]
async fn what_is_erased_is_gone_from_memory_and_redis_on_all_replicas() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 3).await;
    for target in ["/customer/1", "/customer/1/risk", "/customer/2"] {
        all_have(&worlds, target, "personal data").await;
    }
    redis.keys_become(3).await;
    let (status, record) = erase(&worlds[1], json!({ "tags": ["customer:1"] })).await;
    assert_eq!((status, &record["complete"], &record["erased"]), (200, &json!(true), &json!(["tag customer:1"])), "{record}");
    assert_eq!((&record["memory"]["responses"], &record["redis"]["responses"]), (&json!(2), &json!(2)), "{record}");
    assert_eq!(record["replicas"]["responses"], 4, "{record}");
    assert_eq!(redis.keys().await.len(), 1);
    for world in &worlds {
        assert_eq!(world.stats().await["tiers"]["memory"]["keys"], 1);
        ask(world, "/customer/2").await.hit("memory");
    }
    // The record is kept.
    eventually("it is noted", async || worlds[0].admin("/admin/cache/purges").await.text().contains("\"erased\"")).await;
    let (status, _) = erase(&worlds[1], json!({ "pattern": "*:1" })).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn of_everything_that_is_erased_it_is_told_how_much_it_was() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    for target in ["/customer/1", "/customer/2", "/customer/3"] {
        all_have(&worlds, target, "personal data").await;
    }
    redis.keys_become(3).await;
    let (status, record) = erase(&worlds[1], json!({ "all": true })).await;
    assert_eq!((status, &record["complete"]), (200, &json!(true)), "{record}");
    assert_eq!((&record["memory"]["responses"], &record["redis"]["responses"]), (&json!(3), &json!(3)), "{record}");
    assert_eq!(record["replicas"]["responses"], 3, "{record}");
    assert_eq!(redis.keys().await.len(), 0);
}

#[tokio::test]
async fn what_is_erased_leaves_no_list_of_variants_behind() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    for target in ["/customer/1", "/customer/2"] {
        worlds[0].origin.has(target, Reply::new("personal data").with("vary", "accept"));
        for accept in ["a", "b"] {
            ask(&worlds[0], target).with("accept", accept).await.says("stored");
        }
    }
    redis.keys_become(6).await;
    let (_, record) = erase(&worlds[1], json!({ "tags": ["customer:1"] })).await;
    assert_eq!((&record["complete"], &record["redis"]["responses"]), (&json!(true), &json!(2)), "{record}");
    assert_eq!(redis.keys().await.len(), 3);
    let octets = String::from_utf8_lossy(&redis.everything().await).into_owned();
    assert!(octets.contains("/customer/2") && !octets.contains("/customer/1"), "it names what was erased");
    ask(&worlds[1], "/customer/2").with("accept", "b").await.says("hit");
}

#[tokio::test]
async fn without_redis_what_is_erased_is_gone_from_memory() {
    let world = World::with(customers).await;
    for target in ["/customer/1", "/customer/2"] {
        world.origin.reply(target, Reply::new("personal data").with("vary", "accept"));
        for accept in ["a", "b"] {
            ask(&world, target).with("accept", accept).await.says("stored");
        }
    }
    let (status, record) = erase(&world, json!({ "tags": ["customer:1"] })).await;
    assert_eq!((status, &record["memory"]["responses"], &record["redis"]), (200, &json!(2), &Value::Null), "{record}");
    assert_eq!(world.stats().await["total_keys"], 1);
}

#[tokio::test]
async fn what_is_erased_while_redis_is_away_is_not_complete() {
    let redis = RedisServer::start().await;
    let world = replicas(&redis, 1).await.remove(0);
    all_have(std::slice::from_ref(&world), "/customer/1", "personal data").await;
    redis.kill();
    world.redis_is("degraded").await;
    let (status, record) = erase(&world, json!({ "tags": ["customer:1"] })).await;
    assert_eq!((status, &record["complete"], &record["reach"]), (202, &json!(false), &json!("here-first")), "{record}");
    assert!(record["why"].as_str().unwrap().contains("Redis cannot be asked"), "{record}");
    // The list has it while Redis is away, and when it is back, though the list that Redis had is gone.
    let is_listed = async || world.admin("/admin/cache/purges").await.text().matches("\"erased\"").count() == 1;
    assert!(is_listed().await);
    redis.restart().await;
    world.redis_is("connected").await;
    eventually("Redis has it too", async || {
        !redis.everything().await.is_empty() && redis.run::<Vec<String>>("KEYS *purges*").await.len() == 1
    })
    .await;
    assert!(is_listed().await);
}

#[tokio::test]
async fn any_pattern_purges_the_tags_that_it_matches() {
    let redis = RedisServer::start().await;
    let here = vec![World::with(customers).await];
    for worlds in [here, replicas(&redis, 2).await] {
        for (pattern, purged) in [
            ("customer:4*", &["/customer/4", "/customer/42"][..]),
            ("*:2", &["/eu/de/customer/2"]),
            ("eu:*:42", &["/eu/fr/customer/42"]),
            ("nothing*here", &[]),
            ("*", &["/customer/4", "/customer/42", "/customer/5", "/eu/de/customer/2", "/eu/fr/customer/42"]),
        ] {
            let all = ["/customer/4", "/customer/42", "/customer/5", "/eu/de/customer/2", "/eu/fr/customer/42"];
            for target in all {
                worlds[0].origin.has(target, "old");
                for world in &worlds {
                    eventually("it is there", async || ask(world, target).await.field("cache-status").contains("hit")).await;
                }
            }
            let job = purged_by(&worlds[0], pattern).await;
            assert!(job["looked_at"].as_u64().unwrap() >= 5, "{job}");
            for world in &worlds {
                for target in all {
                    let is_purged = purged.contains(&target);
                    eventually("it is known", async || {
                        ask(world, target).with("cache-control", "only-if-cached").await.status.is_success() != is_purged
                    })
                    .await;
                }
            }
        }
    }
}

#[tokio::test]
async fn so_many_patterns_are_looked_for_at_once_and_no_more() {
    let redis = RedisServer::start().await;
    let patient = |config: &mut sidecache::config::Config| {
        customers(config);
        config.store.redis.as_mut().unwrap().write_timeout = secs(3);
    };
    let world = World::with_redis(&redis, patient).await;
    let begin = || world.ask_admin("POST", "/admin/cache/purge").body(r#"{"pattern": "*:risk"}"#);
    redis.freeze();
    for _ in 0..8 {
        begin().await.status(202);
    }
    begin().await.status(429);
    redis.thaw();
    eventually("one is over", async || begin().await.status == 202).await;
}

#[tokio::test]
async fn what_only_another_replica_has_in_memory_is_found_by_a_pattern() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2).await;
    all_have(&worlds[1..], "/customer/42", "old").await;
    for key in redis.keys_become(1).await {
        redis.run::<()>(&format!("DEL {key}")).await;
    }
    ask(&worlds[1], "/customer/42").await.hit("memory");
    purged_by(&worlds[0], "*:4*").await;
    worlds[0].origin.has("/customer/42", "new");
    ask(&worlds[1], "/customer/42").await.is("new");
}

#[tokio::test]
async fn what_was_being_fetched_when_a_pattern_was_purged_is_not_stored() {
    let redis = RedisServer::start().await;
    let here = vec![World::with(customers).await];
    for worlds in [here, replicas(&redis, 2).await] {
        let gate = Gate::closed();
        worlds[0].origin.has("/customer/42", Reply::new("old").behind(&gate));
        let asked = ask(&worlds[0], "/customer/42").spawn();
        worlds[0].origin.arrived("/customer/42", 1).await;
        purged_by(worlds.last().unwrap(), "*:42").await;
        gate.open();
        asked.await.unwrap().is("old").does_not_say("stored");
        worlds[0].origin.has("/customer/42", "new");
        ask(&worlds[0], "/customer/42").await.is("new").says("stored");
        ask(&worlds[0], "/customer/42").await.is("new").hit("memory");
    }
}

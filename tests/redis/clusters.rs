//! A Redis that is a cluster: its masters have the keys between them, and one of them may fall.

use crate::world::{Gate, Phase, RedisCluster, Relay, Reply, World, eventually, millis, redis_options, secs};
use serde_json::json;
use sidecache::rules::Scope;
use sidecache::store::RedisOptions;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A sidecar that uses the cluster.
async fn world_of(cluster: &RedisCluster) -> World {
    World::with_redis_at(&cluster.url(), |_| {}).await.connected().await
}

/// Another one before the same origin.
async fn neighbour_of(world: &World, cluster: &RedisCluster) -> World {
    let url = cluster.url();
    world.neighbour_with(|config| config.store.redis = Some(redis_options(&url))).await.connected().await
}

fn path(number: usize) -> String {
    format!("/{number}")
}

/// Has so many responses stored that each node has some.
async fn fill(world: &World, cluster: &RedisCluster, number: usize) {
    for number in 0..number {
        world.origin.reply(&path(number), Reply::new("one").cache("max-age=60").with("cache-tag", &format!("n:{number}, all")));
        world.get(&path(number)).with("host", "h").await.is("one").says("stored");
    }
    eventually("all are in Redis", async || cluster.keys().await.0.len() == number).await;
}

#[tokio::test]
async fn a_cluster_is_one_redis() {
    let cluster = RedisCluster::start(3).await;
    let world = world_of(&cluster).await;
    let neighbour = neighbour_of(&world, &cluster).await;
    fill(&world, &cluster, 20).await;
    assert_eq!(cluster.keys().await.1, 3);
    assert_eq!(world.stats().await["redis"]["hears_by"], "tracking");
    assert_eq!(world.stats().await["redis"]["replicas"], 2);
    assert_eq!(world.stats().await["total_keys"], 20);
    for number in 0..20 {
        neighbour.get(&path(number)).with("host", "h").await.is("one").hit("redis");
        neighbour.get(&path(number)).with("host", "h").await.is("one").hit("memory");
    }
    // Variants lie where their list lies.
    world.origin.reply("/v", Reply::reflecting().with("vary", "accept"));
    for accept in ["a/a", "b/b"] {
        world.get("/v").with("host", "h").with("accept", accept).await.says("stored");
        eventually("the variant is in Redis", async || {
            let got = neighbour.get("/v").with("host", "h").with("accept", accept).await;
            got.field("cache-status").contains("; hit") && got.text().contains(accept)
        })
        .await;
    }
    let orders = [json!({"tags": ["n:3"]}), json!({"pattern": "n:*"}), json!({"url": "http://h/5"}), json!({"all": true})];
    for (order, gone) in orders.into_iter().zip([3, 4, 5, 6]) {
        neighbour.get(&path(gone)).with("host", "h").await.is("one").says("hit");
        world.origin.reply(&path(gone), "two");
        let purged = world.purge(merged(order, json!({"wait": true}))).await;
        let replicas = &purged["replicas"];
        assert_eq!((&replicas["present"], &replicas["answered"]), (&json!(2), &json!(2)), "{purged}");
        assert_eq!(purged["reach"], "everywhere");
        neighbour.get(&path(gone)).with("host", "h").await.is("two").forwarded("uri-miss");
        world.purge(json!({"all": true})).await;
        world.ask_admin("POST", "/admin/cache/erase").body(r#"{"all": true}"#).await.status(200);
        fill(&world, &cluster, 20).await;
    }
    // What looks at everything looks at each node.
    world.origin.reply(&path(7), "two");
    world.purge(json!({"pattern": "*:7"})).await;
    eventually("what matches is purged", async || neighbour.get(&path(7)).with("host", "h").await.text() == "two").await;
    neighbour.get(&path(8)).with("host", "h").await.is("one").hit("redis");
    let erased = world.ask_admin("POST", "/admin/cache/erase").body(r#"{"all": true}"#).await;
    erased.status(200);
    assert_eq!(cluster.keys().await.0.len(), 0, "{erased:?}");
}

fn merged(mut one: serde_json::Value, other: serde_json::Value) -> serde_json::Value {
    one.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    one
}

#[tokio::test]
async fn what_is_purged_with_wait_is_gone_everywhere_though_the_news_come_from_several_nodes() {
    let cluster = RedisCluster::start(3).await;
    // Who purges is late in telling some nodes, and who is told is late in hearing of them.
    let (mut telling, mut told) = (Vec::new(), Vec::new());
    for (node, late) in cluster.nodes.iter().zip([30, 0, 10].map(millis)) {
        telling.push(Relay::to(node.address()).await);
        telling.last().unwrap().enter(Phase::Slow { there: late, back: Duration::ZERO });
        told.push(Relay::to(node.address()).await);
        told.last().unwrap().enter(Phase::Slow { there: Duration::ZERO, back: late });
    }
    let (telling, serving) = cluster.behind(&telling).await;
    let (told, serving_too) = cluster.behind(&told).await;
    let options = |url: &str| Some(RedisOptions { budget: secs(1), ..redis_options(url) });
    let world = World::with(|config| config.store.redis = options(&telling)).await.connected().await;
    let neighbour = world.neighbour_with(|config| config.store.redis = options(&told)).await.connected().await;
    for turn in 0..40 {
        let path = path(turn % 7);
        // What one has, the other has in memory.
        let old = format!("{turn}, before");
        world.origin.reply(&path, Reply::new(old.clone()).cache("max-age=60"));
        world.purge(json!({"url": format!("http://h{path}")})).await;
        eventually("it is in memory", async || {
            let got = neighbour.get(&path).with("host", "h").await;
            got.text() == old && got.field("cache-status").contains("detail=memory")
        })
        .await;
        let new = format!("{turn}, after");
        world.origin.reply(&path, Reply::new(new.clone()).cache("max-age=60"));
        let purged = world.purge(json!({"url": format!("http://h{path}"), "wait": true})).await;
        assert_eq!(purged["replicas"]["answered"], 2, "{purged}");
        neighbour.get(&path).with("host", "h").await.is(&new);
    }
    serving.abort();
    serving_too.abort();
}

#[tokio::test]
async fn when_a_replica_takes_over_it_is_used_and_what_was_purged_stays_purged() {
    let mut cluster = RedisCluster::start(3).await;
    cluster.add_replica(0).await;
    let world = World::with_redis_at(&cluster.url(), |config| config.store.memory.bytes_max = 0).await.connected().await;
    fill(&world, &cluster, 20).await;
    let (first, replica) = (&cluster.nodes[0], &cluster.nodes[3]);
    let here = first.keys().await.len();
    eventually("the replica has heard of all", async || replica.keys().await.len() == here).await;
    first.shake_off(replica).await;
    for number in 0..20 {
        world.origin.reply(&path(number), "two");
    }
    // The generations of some of these tags lie on the node that falls.
    world.purge(json!({"tags": (0..20).map(|number| format!("n:{number}")).collect::<Vec<_>>()})).await;
    first.kill();
    eventually("the replica takes over", async || {
        for number in 0..20 {
            world.get(&path(number)).with("host", "h").await.status(200).is("two");
        }
        replica.is_master().await && replica.run::<String>("CLUSTER INFO").await.contains("cluster_state:ok")
    })
    .await;
    let begun = Instant::now();
    world.redis_is("connected").await;
    assert!(begun.elapsed() < secs(4), "it took {:?}", begun.elapsed());
    for number in 0..20 {
        eventually("it is stored and found", async || {
            world.get(&path(number)).with("host", "h").await.is("two").field("cache-status").contains("; hit")
        })
        .await;
    }
}

#[tokio::test]
async fn slots_that_move_are_followed() {
    let cluster = RedisCluster::start(3).await;
    let world = world_of(&cluster).await;
    fill(&world, &cluster, 20).await;
    cluster.move_slots().await;
    for number in 0..20 {
        eventually("it is stored and found", async || {
            world.get(&path(number)).with("host", "h").await.is("one").field("cache-status").contains("; hit")
        })
        .await;
    }
    eventually("all are in Redis", async || cluster.keys().await.0.len() == 20).await;
    assert_eq!(cluster.nodes[0].keys().await.len(), 0);
    world.redis_is("connected").await;
}

#[tokio::test]
async fn keys_of_slots_that_are_being_moved_are_found_on_either_node() {
    let cluster = RedisCluster::start(3).await;
    let world = world_of(&cluster).await;
    let neighbour = neighbour_of(&world, &cluster).await;
    fill(&world, &cluster, 20).await;
    cluster.begin_to_move_slots().await;
    for turn in ["two", "three"] {
        for number in 0..20 {
            neighbour.get(&path(number)).with("host", "h").await.says("hit");
            world.origin.reply(&path(number), Reply::new(turn).cache("max-age=60").with("cache-tag", &format!("n:{number}")));
        }
        let tags: Vec<String> = (0..20).map(|number| format!("n:{number}")).collect();
        let purged = world.purge(json!({"tags": tags, "wait": true})).await;
        assert_eq!((&purged["reach"], &purged["replicas"]["answered"]), (&json!("everywhere"), &json!(2)), "{purged}");
        for number in 0..20 {
            world.get(&path(number)).with("host", "h").await.is(turn).says("stored");
            eventually("the neighbour finds it", async || {
                neighbour.get(&path(number)).with("host", "h").await.is(turn).field("cache-status").contains("; hit")
            })
            .await;
        }
    }
    for world in [&world, &neighbour] {
        assert_eq!(world.metric("sidecache_redis_connects_total").await, 1.0, "{:?}", world.stats().await["redis"]);
    }
}

#[tokio::test]
async fn a_master_that_is_one_no_longer_is_left_though_nobody_asks_it() {
    let mut cluster = RedisCluster::start(3).await;
    cluster.add_replica(0).await;
    let world = world_of(&cluster).await;
    fill(&world, &cluster, 5).await;
    let connects = async || world.metric("sidecache_redis_connects_total").await;
    let before = connects().await;
    let (first, replica) = (&cluster.nodes[0], &cluster.nodes[3]);
    replica.run::<()>("CLUSTER FAILOVER").await;
    eventually("it is a replica", async || !first.is_master().await).await;
    let begun = Instant::now();
    eventually("it is left", async || connects().await > before).await;
    assert!(begun.elapsed() < secs(5), "it took {:?}", begun.elapsed());
    world.redis_is("connected").await;
}

#[tokio::test]
async fn what_is_fetched_while_its_tags_are_purged_is_not_kept_though_one_node_is_late() {
    let cluster = RedisCluster::start(3).await;
    let mut relays = Vec::new();
    for (node, late) in cluster.nodes.iter().zip([400, 0, 0].map(millis)) {
        relays.push(Relay::to(node.address()).await);
        relays.last().unwrap().enter(Phase::Slow { there: late, back: Duration::ZERO });
    }
    let (url, serving) = cluster.behind(&relays).await;
    let world = world_of(&cluster).await;
    let options = RedisOptions { budget: secs(2), write_timeout: secs(5), connect_timeout: secs(20), ..redis_options(&url) };
    let purger = world.neighbour_with(|config| config.store.redis = Some(options)).await.connected().await;
    // The watches of these tags, and the tags, lie on all nodes.
    let gate = Gate::closed();
    let mut asking = Vec::new();
    for number in 0..20 {
        let old = Reply::new("old").cache("max-age=60").with("cache-tag", &format!("n:{number}"));
        world.origin.reply(&path(number), old.behind(&gate));
        asking.push(world.get(&path(number)).with("host", "h").spawn());
    }
    for number in 0..20 {
        world.origin.arrived(&path(number), 1).await;
        world.origin.reply(&path(number), Reply::new("new").cache("max-age=60"));
    }
    let tags: Vec<String> = (0..20).map(|number| format!("n:{number}")).collect();
    let (purging, ()) = tokio::join!(purger.purge(json!({"tags": tags, "wait": true})), async {
        // Some nodes have heard of it, and one has not.
        tokio::time::sleep(millis(200)).await;
        gate.open();
        for asking in asking {
            asking.await.unwrap().is("old");
        }
    });
    assert_eq!(purging["reach"], "everywhere", "{purging}");
    for number in 0..20 {
        world.get(&path(number)).with("host", "h").await.is("new");
    }
    serving.abort();
}

#[tokio::test]
async fn a_node_that_says_nothing_is_noticed_and_costs_no_request_more_than_the_budget() {
    let cluster = RedisCluster::start(3).await;
    let world = World::with_redis_at(&cluster.url(), |config| {
        config.store.memory.bytes_max = 0;
        let redis = config.store.redis.as_mut().unwrap();
        (redis.heartbeat, redis.budget) = (millis(200), millis(50));
    })
    .await;
    world.redis_is("connected").await;
    fill(&world, &cluster, 20).await;
    cluster.nodes[2].freeze();
    let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
    let ask = async |number: usize| {
        // What lies on the other nodes is asked for all the time.
        while !is_over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            world.get(&path(number)).with("host", "h").await.status(200).is("one");
            assert!(asked.elapsed() < secs(1), "{:?}", asked.elapsed());
        }
    };
    let noticed = async {
        eventually("it is noticed", async || world.stats().await["redis"]["status"] == "degraded").await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(noticed, futures_util::future::join_all((0..20).map(ask)));
    assert!(begun.elapsed() < secs(5), "it took {:?}", begun.elapsed());
    cluster.nodes[2].thaw();
    world.redis_is("connected").await;
}

#[tokio::test]
async fn a_node_that_says_nothing_is_noticed_though_all_that_is_asked_for_lies_on_others() {
    let cluster = RedisCluster::start(3).await;
    let mut relays = Vec::new();
    for node in &cluster.nodes {
        relays.push(Relay::to(node.address()).await);
    }
    let (url, serving) = cluster.behind(&relays).await;
    let world = World::with_redis_at(&url, |config| {
        config.store.memory.bytes_max = 0;
        let redis = config.store.redis.as_mut().unwrap();
        (redis.heartbeat, redis.budget) = (millis(200), millis(50));
    })
    .await
    .connected()
    .await;
    let lies_on = async |ending: String| {
        for (index, node) in cluster.nodes.iter().enumerate() {
            if node.all_keys().await.iter().any(|key| key.ends_with(&ending)) {
                return index;
            }
        }
        panic!("no key ends with {ending}");
    };
    let generation_of = async |scope: Scope| lies_on(format!(":g:{}", scope.name())).await;
    let mut nodes_of = Vec::new();
    for number in 0..20 {
        let before = cluster.keys().await.0;
        world.origin.reply(&path(number), Reply::new("one").cache("max-age=60"));
        world.get(&path(number)).with("host", "h").await.says("stored");
        eventually("it is in Redis", async || cluster.keys().await.0.len() == number + 1).await;
        let key = cluster.keys().await.0.difference(&before).next().unwrap().clone();
        nodes_of.push([lies_on(key).await, generation_of(Scope::Target(path(number))).await]);
    }
    let shared = [generation_of(Scope::All).await, generation_of(Scope::Route("r".to_owned())).await];
    let silent = (0..3).find(|node| !shared.contains(node)).unwrap();
    let elsewhere: Vec<usize> = (0..20).filter(|number| !nodes_of[*number].contains(&silent)).collect();
    assert!(elsewhere.len() > 2, "{nodes_of:?} {silent}");
    // The others are in touch with it, so that the cluster goes on.
    relays[silent].enter(Phase::BlackHole);
    let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
    let ask = async |number: &usize| {
        let mut hits = 0;
        while !is_over.load(Ordering::Relaxed) {
            let got = world.get(&path(*number)).with("host", "h").await;
            hits += usize::from(got.status(200).is("one").field("cache-status").contains("detail=redis"));
        }
        hits
    };
    let noticed = async {
        eventually("it is noticed", async || world.stats().await["redis"]["status"] == "degraded").await;
        is_over.store(true, Ordering::Relaxed);
    };
    let ((), hits) = tokio::join!(noticed, futures_util::future::join_all(elsewhere.iter().map(ask)));
    assert!(begun.elapsed() < secs(5), "it took {:?}", begun.elapsed());
    assert!(hits.iter().all(|hits| *hits > 0), "until then, the others answer: {hits:?}");
    relays[silent].enter(Phase::Relay);
    world.redis_is("connected").await;
    serving.abort();
}

//! The account of the README: what it may do is what is needed, all of it and nothing else.

use super::customers;
use super::replicas::ask;
use crate::world::{RedisCluster, RedisServer, Reply, World, eventually, millis, redis_options};
use futures_util::StreamExt;
use serde_json::json;
use sidecache::config::Config;
use sidecache::rules::Collapse;
use sidecache::store::RedisOptions;
use std::collections::{BTreeSet, HashMap};

/// The line of the README that makes the account, with a password.
fn line() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("ACL SETUSER sidecache ")).expect("the README has the account");
    line.replace("PASSWORD", "secret")
}

/// What it needs besides where Redis is a cluster.
fn for_clusters() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let words =
        readme.split('`').find(|words| words.starts_with("+cluster|slots ")).expect("the README has what is needed besides");
    words.to_owned()
}

/// The commands that it may use.
fn permitted() -> BTreeSet<String> {
    line().split(' ').filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect()
}

/// A sidecar with an account, and a database of its own choice.
fn with_account(redis: &RedisServer, user: &str, database: usize) -> impl Fn(&mut Config) + use<> {
    let url = format!("redis://{user}:secret@{}/{database}", redis.address());
    move |config| {
        customers(config);
        config.routes[1].collapse = Collapse::Replicas;
        // Erasing waits for so long, until what was about to be written is there.
        config.store.redis = Some(RedisOptions { write_timeout: millis(200), ..redis_options(&url) });
    }
}

/// Which commands were called since the statistics were reset.
async fn called(redis: &RedisServer) -> BTreeSet<String> {
    let stats: String = redis.run("INFO commandstats").await;
    let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// The commands that were refused to an account.
async fn refused(redis: &RedisServer, user: &str) -> BTreeSet<String> {
    let entries: Vec<HashMap<String, redis::Value>> = redis.run("ACL LOG 1000").await;
    let text = |entry: &HashMap<String, redis::Value>, key: &str| match &entry[key] {
        redis::Value::BulkString(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("{key} is {other:?}"),
    };
    entries.iter().filter(|entry| text(entry, "username") == user).map(|entry| text(entry, "object")).collect()
}

/// Everything that uses Redis in a way of its own, whatever comes of it.
async fn use_all(world: &World) {
    for target in ["/customer/1", "/customer/2", "/customer/1/risk", "/customer/1"] {
        ask(world, target).await;
    }
    ask(world, "/customer/3").with("accept", "a").await;
    let orders = [
        ("purge", json!({ "tags": ["customer:1"], "soft": true, "wait_ms": 200 })),
        ("purge", json!({ "pattern": "*:2", "wait_ms": 200 })),
        ("erase", json!({ "tags": ["customer:1"], "wait_ms": 200 })),
    ];
    for (endpoint, order) in orders {
        ask(world, "/customer/1").await;
        world.ask_admin("POST", &format!("/admin/cache/{endpoint}")).body(order.to_string()).await;
    }
    world.admin("/admin/cache/purges").await;
    world.stats().await;
}

fn answers(world: &World) {
    for target in ["/customer/1", "/customer/2", "/customer/1/risk"] {
        world.origin.has(target, "one");
    }
    world.origin.has("/customer/3", Reply::new("one").with("vary", "accept"));
}

#[tokio::test]
async fn the_account_of_the_readme_may_do_all_that_is_needed_and_nothing_else() {
    let redis = RedisServer::start().await;
    redis.run::<()>(&line()).await;
    redis.run::<()>("CONFIG RESETSTAT").await;
    let by_tracking = World::with(with_account(&redis, "sidecache", 1)).await.connected().await;
    let other = by_tracking.neighbour_with(with_account(&redis, "sidecache", 1)).await.connected().await;
    assert_eq!(by_tracking.stats().await["redis"]["hears_by"], "tracking");
    answers(&by_tracking);
    ask(&by_tracking, "/customer/1").await.is("one").says("stored");
    eventually("it is shared", async || ask(&other, "/customer/1").with("cache-control", "only-if-cached").await.status == 200)
        .await;
    for soft in [true, false] {
        let answer = other.purge(json!({ "tags": ["customer:1"], "soft": soft, "wait": true })).await;
        assert_eq!((&answer["replicas"]["present"], &answer["replicas"]["answered"]), (&json!(2), &json!(2)), "{answer}");
    }
    by_tracking.origin.has("/customer/1", "two");
    ask(&by_tracking, "/customer/1").await.is("two");
    let mut erased = false;
    eventually("what is erased is found in Redis", async || {
        use_all(&by_tracking).await;
        erased |= called(&redis).await.contains("strlen");
        erased
    })
    .await;
    eventually("the purges are noted", async || other.admin("/admin/cache/purges").await.text().contains("took_ms")).await;
    assert_eq!(refused(&redis, "sidecache").await, BTreeSet::new());

    // Where tracking is not permitted, as the README has it. That is refused once a connection, and nothing else.
    redis.run::<()>("ACL SETUSER sidecache -client|tracking").await;
    let by_channel = by_tracking.neighbour_with(with_account(&redis, "sidecache", 1)).await.connected().await;
    assert_eq!(by_channel.stats().await["redis"]["hears_by"], "channel");
    use_all(&by_channel).await;
    let answer = by_channel.purge(json!({ "tags": ["customer:1"], "wait": true })).await;
    assert_eq!(answer["reach"], "everywhere", "{answer}");
    assert!(by_channel.sidecar.drain().await && other.sidecar.drain().await);
    assert_eq!(refused(&redis, "sidecache").await, BTreeSet::from(["client|tracking".to_owned()]));

    let unused: Vec<String> = permitted().difference(&called(&redis).await).cloned().collect();
    assert!(unused.is_empty(), "the account need not be permitted {unused:?}");
}

#[tokio::test]
async fn without_any_one_of_its_commands_something_is_refused() {
    let redis = RedisServer::start_with(["--databases".to_owned(), "64".to_owned()]).await;
    // HELLO makes the connection an account's, so Redis asks nobody's permission for it; others that speak its language may.
    let commands = permitted().into_iter().filter(|command| command != "hello");
    let trials = commands.enumerate().map(|(number, command)| {
        let redis = &redis;
        async move {
            let user = format!("without-{number}");
            redis.run::<()>(&line().replace("SETUSER sidecache ", &format!("SETUSER {user} "))).await;
            redis.run::<()>(&format!("ACL SETUSER {user} -{command}")).await;
            if ["publish", "subscribe"].contains(&command.as_str()) {
                redis.run::<()>(&format!("ACL SETUSER {user} -client|tracking")).await;
            }
            let world = World::with(with_account(redis, &user, number)).await;
            answers(&world);
            eventually(&format!("{command} is refused"), async || {
                use_all(&world).await;
                if command == "srem" {
                    world.sidecar.drain().await;
                }
                refused(redis, &user).await.contains(&command)
            })
            .await;
        }
    });
    // Some at a time: each has a sidecar of its own.
    let mut trials = futures_util::stream::iter(trials).buffer_unordered(8);
    while trials.next().await.is_some() {}
}

#[tokio::test]
async fn on_all_nodes_of_a_cluster_the_account_needs_what_the_readme_has_besides() {
    let cluster = RedisCluster::start(3).await;
    for node in &cluster.nodes {
        node.run::<()>(&line()).await;
        node.run::<()>(&format!("ACL SETUSER sidecache {}", for_clusters())).await;
    }
    let url = cluster.url().replace("//", "//sidecache:secret@");
    let adjust = |config: &mut Config| {
        with_account(&cluster.nodes[0], "sidecache", 0)(config);
        config.store.redis.as_mut().unwrap().url = url.clone();
    };
    let world = World::with(adjust).await.connected().await;
    assert_eq!(world.stats().await["redis"]["hears_by"], "tracking");
    answers(&world);
    use_all(&world).await;
    for node in &cluster.nodes {
        assert_eq!(refused(node, "sidecache").await, BTreeSet::new());
        // Whoever may not follow what changes asks each time.
        node.run::<()>("ACL SETUSER sidecache -client|tracking").await;
    }
    let deaf = World::with(adjust).await.connected().await;
    assert_eq!(deaf.stats().await["redis"]["hears_by"], "none");
    answers(&deaf);
    ask(&deaf, "/customer/1").await.says("stored");
    eventually("it is asked for", async || ask(&deaf, "/customer/1").await.field("cache-status").contains("; hit")).await;
}

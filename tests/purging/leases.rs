//! One fetch for all replicas, on routes that say so.

use super::customers;
use super::replicas::ask;
use crate::world::{Gate, Got, RedisServer, Reply, World, eventually, millis, redis_options, secs, soon};
use sidecache::config::Config;
use sidecache::rules::Collapse;
use std::time::{Duration, Instant};

async fn replicas(redis: &RedisServer, number: usize, lease: Duration) -> Vec<World> {
    let url = redis.url();
    let adjust = |config: &mut Config| {
        customers(config);
        config.routes.iter_mut().for_each(|route| route.collapse = Collapse::Replicas);
        let mut options = redis_options(&url);
        options.lease = lease;
        config.store.redis = Some(options);
    };
    let mut worlds = vec![World::with(adjust).await.connected().await];
    while worlds.len() < number {
        worlds.push(worlds[0].neighbour_with(adjust).await.connected().await);
    }
    worlds
}

/// A request on a replica that has asked for the lease, and found it taken.
async fn waiting(world: &World) -> tokio::task::JoinHandle<Got> {
    let writes = "sidecache_redis_commands_total{kind=\"write\"}";
    let before = world.metric(writes).await;
    let asked = ask(world, "/customer/1").spawn();
    eventually("it has asked for the lease", async || world.metric(writes).await > before).await;
    asked
}

#[tokio::test]
async fn many_requests_on_all_replicas_are_one_fetch() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 3, secs(10)).await;
    let gate = Gate::closed();
    worlds[0].origin.reply("/customer/1", Reply::new("one").behind(&gate));
    let asked: Vec<_> = (0..300).map(|number| ask(&worlds[number % 3], "/customer/1").spawn()).collect();
    worlds[0].origin.arrived("/customer/1", 1).await;
    gate.open();
    for asked in asked {
        asked.await.unwrap().is("one");
    }
    assert_eq!(worlds[0].origin.count("/customer/1"), 1);
    eventually("the lease was given back", async || !redis.all_keys().await.iter().any(|key| key.contains(":l:"))).await;
}

#[tokio::test]
async fn what_cannot_be_stored_keeps_nobody_waiting() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2, secs(10)).await;
    let gate = Gate::closed();
    worlds[0].origin.reply("/customer/1", Reply::new("mine").cache("no-store").behind(&gate));
    let first = ask(&worlds[0], "/customer/1").spawn();
    worlds[0].origin.arrived("/customer/1", 1).await;
    let second = waiting(&worlds[1]).await;
    worlds[0].origin.has("/customer/1", Reply::new("yours").cache("no-store"));
    gate.open();
    first.await.unwrap().is("mine");
    soon("the answer", second).await.unwrap().is("yours");
    assert_eq!(worlds[0].origin.count("/customer/1"), 2);
}

#[tokio::test]
async fn nobody_waits_longer_than_a_lease_for_one_whose_owner_does_not_come_back() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2, millis(700)).await;
    let gate = Gate::closed();
    worlds[0].origin.reply("/customer/1", Reply::new("late").behind(&gate));
    let first = ask(&worlds[0], "/customer/1").spawn();
    worlds[0].origin.arrived("/customer/1", 1).await;
    worlds[0].origin.has("/customer/1", "one");
    let begun = Instant::now();
    ask(&worlds[1], "/customer/1").await.is("one");
    assert!(begun.elapsed() < secs(2), "it took {:?}", begun.elapsed());
    gate.open();
    first.await.unwrap().is("late");
    assert_eq!(worlds[0].origin.count("/customer/1"), 2);
}

#[tokio::test]
async fn when_redis_goes_away_nobody_waits_any_more() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2, secs(12)).await;
    let gate = Gate::closed();
    worlds[0].origin.reply("/customer/1", Reply::new("late").behind(&gate));
    let first = ask(&worlds[0], "/customer/1").spawn();
    worlds[0].origin.arrived("/customer/1", 1).await;
    worlds[0].origin.has("/customer/1", "one");
    let second = waiting(&worlds[1]).await;
    let begun = Instant::now();
    redis.kill();
    second.await.unwrap().is("one");
    assert!(begun.elapsed() < secs(5), "it took {:?}", begun.elapsed());
    gate.open();
    first.await.unwrap().is("late");
}

#[tokio::test]
async fn when_the_owner_of_a_lease_dies_one_other_takes_its_place() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 3, millis(700)).await;
    let (never, second) = (Gate::closed(), Gate::closed());
    worlds[0].origin.reply("/customer/1", Reply::new("never").behind(&never));
    worlds[0].origin.reply("/customer/1", Reply::new("one").behind(&second));
    let _first = ask(&worlds[0], "/customer/1").spawn();
    worlds[0].origin.arrived("/customer/1", 1).await;
    let waiting: Vec<_> = (0..40).map(|number| ask(&worlds[1 + number % 2], "/customer/1").spawn()).collect();
    worlds[0].origin.arrived("/customer/1", 2).await;
    second.open();
    for asked in waiting {
        asked.await.unwrap().is("one");
    }
    assert_eq!(worlds[0].origin.count("/customer/1"), 2);
}

#[tokio::test]
async fn without_redis_there_is_no_waiting() {
    let redis = RedisServer::start().await;
    let worlds = replicas(&redis, 2, secs(10)).await;
    redis.kill();
    worlds[0].origin.reply("/customer/1", "one");
    let begun = Instant::now();
    for world in &worlds {
        world.redis_is("degraded").await;
        ask(world, "/customer/1").await.is("one");
    }
    assert!(begun.elapsed() < secs(5), "it took {:?}", begun.elapsed());
}

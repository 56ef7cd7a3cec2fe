//! Clocks that jump, by an hour and by a day, either way: nothing is used for more than a second longer than its lifetime.

use super::world::{Got, RedisServer, Reply, World, eventually, secs};
use fastrand::Rng;
use sidecache::store::WhenDown;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_response_in_memory_lives_no_longer_when_the_clock_is_put_back() {
    for by in [HOUR, DAY] {
        let world = World::start().await;
        world.origin.reply("/a", "one");
        world.origin.reply("/a", "two");
        world.get("/a").await.is("one");
        world.clock.advance(secs(59));
        world.clock.put_back(by);
        world.clock.advance(secs(2));
        // And it is stored for a minute, as always.
        world.get("/a").await.is("two").forwarded("uri-miss").says("stored");
        world.clock.advance(secs(59));
        world.get("/a").await.is("two").hit("memory").has("age", "59");
        world.clock.advance(secs(1));
        world.get("/a").await.forwarded("stale");
    }
}

#[tokio::test]
async fn a_response_in_memory_ends_early_when_the_clock_is_put_forward_and_late_by_no_means() {
    for by in [HOUR, DAY] {
        let world = World::start().await;
        world.origin.reply("/a", "one");
        world.origin.reply("/a", "two");
        world.origin.reply("/a", "three");
        world.get("/a").await.is("one");
        world.clock.put_forward(by);
        world.get("/a").await.is("two").forwarded("stale");
        // What was fetched while it was wrong seems to be of a time to come.
        world.clock.put_back(by);
        world.get("/a").await.is("two").hit("memory").has("age", "0");
        world.clock.advance(secs(2));
        world.get("/a").await.is("three").forwarded("uri-miss");
    }
}

#[tokio::test]
async fn whatever_the_clock_is_set_to_nothing_outlives_its_lifetime() {
    for seed in 0..8 {
        let (world, mut random) = (World::start().await, Rng::with_seed(seed));
        for step in 0..150 {
            let by = if random.bool() { HOUR } else { DAY };
            match random.u8(0..8) {
                0 => world.clock.put_back(by),
                1 => world.clock.put_forward(by),
                _ => world.clock.advance(Duration::from_millis(random.u64(0..20_000))),
            }
            let passed = world.clock.passed();
            world.origin.has("/a", passed.as_millis().to_string());
            let got = world.get("/a").await;
            let fetched = Duration::from_millis(got.status(200).text().parse().unwrap());
            assert!(passed - fetched <= secs(61), "seed {seed}, step {step}: {got:#?}");
            assert!(passed == fetched || age(&got) < 60, "seed {seed}, step {step}: {got:#?}");
        }
    }
}

#[tokio::test]
async fn a_response_in_redis_lives_no_longer_for_a_replica_whose_clock_is_behind() {
    for behind in [HOUR, DAY] {
        let redis = RedisServer::start().await;
        let world = World::with_redis(&redis, |_| {}).await;
        // It is kept for an hour beyond its lifetime, to be confirmed.
        world.origin.reply("/a", Reply::new("one").cache("max-age=2").with("etag", "\"1\""));
        let begun = Instant::now();
        world.get("/a").await.is("one");
        redis.keys_become(1).await;
        let other = world.neighbour(&redis).await;
        other.clock.put_back(behind);
        // Redis has a clock that runs, so from here on this one does as well.
        let (started, mut passed) = (Instant::now(), Duration::ZERO);
        eventually("it has ended", async || {
            other.clock.advance(started.elapsed() - passed);
            passed = started.elapsed();
            let got = other.get("/a").with("host", &world.sidecar.address.to_string()).await;
            let is_hit = got.field("cache-status").contains("; hit");
            assert!(!is_hit || age(&got) < 2, "{got:#?}");
            !is_hit
        })
        .await;
        assert!(begun.elapsed() < secs(5), "it lived for {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_response_in_redis_is_not_taken_for_younger_than_it_is_after_the_clock_was_put_back() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| config.store.memory.bytes_max = 0).await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=2").with("etag", "\"1\""));
    world.origin.reply("/a", Reply::new("two").cache("max-age=60"));
    world.get("/a").await.is("one");
    redis.keys_become(1).await;
    world.clock.put_back(DAY);
    let (begun, mut passed) = (Instant::now(), Duration::ZERO);
    eventually("it has ended", async || {
        // As much time passes here as for Redis.
        let further = begun.elapsed() - passed;
        world.clock.advance(further);
        passed += further;
        world.get("/a").await.text() == "two"
    })
    .await;
    assert!(begun.elapsed() < secs(5), "it lived for {:?}", begun.elapsed());
    // What is fetched from now on is stored as ever.
    eventually("the second is in Redis", async || world.get("/a").await.field("cache-status").contains("; hit")).await;
    world.get("/a").await.is("two").hit("redis");
}

#[tokio::test]
async fn memory_goes_on_without_redis_for_no_longer_when_the_clock_is_put_back() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| {
        let redis = config.store.redis.as_mut().unwrap();
        (redis.when_down, redis.memory_ttl_when_down) = (WhenDown::Memory, secs(60));
    })
    .await;
    world.origin.reply("/a", Reply::new("one").cache("max-age=3600"));
    redis.kill();
    world.notices_that_redis_is_gone().await;
    world.clock.put_back(DAY);
    world.get("/a").await.is("one");
    world.clock.advance(secs(59));
    world.get("/a").await.is("one").hit("memory");
    world.clock.advance(secs(2));
    world.get("/a").await.is("one").does_not_say("hit");
}

#[tokio::test]
async fn that_a_key_could_not_be_stored_is_not_believed_for_longer_when_the_clock_is_put_back() {
    let world = World::start().await;
    world.origin.reply("/a", Reply::new("one").cache("no-store"));
    world.get("/a").await.is("one");
    world.clock.put_back(DAY);
    world.clock.advance(secs(11));
    let (reply, sending) = Reply::sending();
    world.origin.reply("/a", reply);
    sending.send("two");
    let mut leader = world.get("/a").streaming().await;
    assert_eq!(leader.next().await, "two");
    let follower = world.get("/a").streaming().await;
    follower.says("collapsed");
    drop(sending);
    follower.whole().await.is("two");
    assert_eq!(world.origin.count("/a"), 2);
}

/// The age that a response tells; 0 if it tells none.
#[track_caller]
fn age(got: &Got) -> u64 {
    match got.field("age").as_str() {
        "" => 0,
        age => age.parse().expect("an age is a number, and not negative"),
    }
}

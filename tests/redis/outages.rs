//! Redis that is not there, dies, hangs or talks nonsense: no request fails, and none waits longer than the budget.

use crate::world::{Phase, RedisServer, Relay, World, eventually, millis, secs};
use sidecache::config::Config;
use sidecache::store::WhenDown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

fn on_memory(config: &mut Config) {
    config.store.redis.as_mut().unwrap().when_down = WhenDown::Memory;
}

#[tokio::test]
async fn a_redis_that_appears_later_is_used() {
    let redis = RedisServer::absent();
    let world = World::with_redis_at(&redis.url(), |_| {}).await;
    world.origin.reply("/a", "one");
    world.redis_is("degraded").await;
    for _ in 0..3 {
        world.get("/a").await.status(200).is("one").forwarded("uri-miss");
    }
    redis.restart().await;
    world.redis_is("connected").await;
    world.get("/a").await.is("one").says("stored");
    redis.keys_become(1).await;
    world.get("/a").await.is("one").hit("memory");
}

#[tokio::test]
async fn a_redis_that_is_killed_fails_no_request_and_is_used_again() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |_| {}).await;
    let neighbour = world.neighbour(&redis).await;
    world.origin.reply("/a", "one");
    world.get("/a").await.says("stored");
    redis.kill();
    for i in 0..20 {
        let path = format!("/{i}");
        world.origin.reply(&path, "one");
        world.get(&path).await.status(200).is("one");
        world.get("/a").await.status(200).is("one");
    }
    world.redis_is("degraded").await;
    assert_eq!(world.metric("sidecache_redis_breaker_open").await, 1.0);
    // Other replicas may change what memory holds without its hearing of it, so it is not used.
    for _ in 0..2 {
        world.get("/a").await.is("one").forwarded("uri-miss");
    }

    neighbour.notices_that_redis_is_gone().await;
    redis.restart().await;
    let begun = Instant::now();
    world.redis_is("connected").await;
    neighbour.redis_is("connected").await;
    assert!(begun.elapsed() < secs(5), "it took {:?} to find Redis well", begun.elapsed());
    world.get("/a").with("host", "h").await.says("stored");
    redis.keys_become(1).await;
    neighbour.get("/a").with("host", "h").await.is("one").hit("redis");
    assert_eq!(world.metric("sidecache_redis_breaker_open").await, 0.0);
}

/// Redis dies and comes back, stands still and goes on; each is noticed.
async fn dies_and_stands_still(redis: &RedisServer, world: &World) {
    redis.kill();
    world.redis_is("degraded").await;
    redis.restart().await;
    world.redis_is("connected").await;
    redis.freeze();
    world.redis_is("degraded").await;
    redis.thaw();
    world.redis_is("connected").await;
}

#[tokio::test]
async fn a_loss_is_noticed_also_when_nobody_asks() {
    let redis = RedisServer::start().await;
    let quick = |config: &mut Config| {
        let options = config.store.redis.as_mut().unwrap();
        (options.budget, options.heartbeat) = (millis(100), millis(100));
    };
    let world = World::with_redis(&redis, quick).await;
    dies_and_stands_still(&redis, &world).await;
}

#[tokio::test]
async fn an_account_that_may_not_read_is_no_help_and_is_not_tried_by_requests() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |_| {}).await;
    redis.run::<()>("ACL SETUSER default -getrange").await;
    world.notices_that_redis_is_gone().await;
    let connects = world.metric("sidecache_redis_connects_total").await;
    eventually("the refusal is told", async || {
        world.stats().await["redis"]["last_error"].as_str().is_some_and(|error| error.starts_with("NOPERM"))
    })
    .await;
    for i in 0..10 {
        world.get(&format!("/still-unknown-{i}")).await.forwarded("uri-miss");
    }
    assert_eq!(world.metric("sidecache_redis_connects_total").await, connects);
    redis.run::<()>("ACL SETUSER default +getrange").await;
    world.redis_is("connected").await;
}

#[tokio::test]
async fn memory_may_go_on_without_redis_for_a_while() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, on_memory).await;
    world.origin.reply("/a", "one");
    world.origin.reply("/b", "two");
    world.get("/a").await.says("stored");
    redis.kill();
    world.notices_that_redis_is_gone().await;
    world.get("/a").await.is("one").hit("memory");
    world.get("/b").await.is("two").forwarded("uri-miss").says("stored");
    world.get("/b").await.is("two").hit("memory");
    // Longer than the five minutes that it may go on by itself.
    world.clock.advance(secs(301));
    for path in ["/a", "/b"] {
        for _ in 0..2 {
            world.get(path).await.forwarded("uri-miss");
        }
    }
    redis.restart().await;
    world.redis_is("connected").await;
    world.get("/a").await.says("stored");
    world.get("/a").await.hit("memory");
}

#[tokio::test]
async fn requests_collapse_also_without_redis() {
    let redis = RedisServer::absent();
    let world = World::with_redis_at(&redis.url(), |_| {}).await;
    world.redis_is("degraded").await;
    let (reply, sending) = crate::world::Reply::sending();
    world.origin.reply("/a", reply);
    sending.send("one");
    let mut following = Vec::new();
    for _ in 0..10 {
        let mut streaming = world.get("/a").streaming().await;
        assert_eq!(streaming.next().await, "one");
        following.push(streaming);
    }
    drop(sending);
    for streaming in following {
        streaming.whole().await.is("");
    }
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn no_request_fails_whatever_happens_to_redis() {
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| config.store.redis.as_mut().unwrap().budget = millis(100)).await;
    for i in 0..50 {
        world.origin.reply(&format!("/{i}"), format!("body {i}"));
    }
    let is_over = AtomicBool::new(false);
    let asking = async {
        let clients = (0..10_usize).map(async |client| {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                let i = (asked * 7 + client * 5) % 50;
                let got = world.get(&format!("/{i}")).await;
                got.status(200).is(&format!("body {i}"));
                asked += 1;
            }
            asked
        });
        let mut asked = 0;
        let mut clients = clients.map(Box::pin).collect::<Vec<_>>();
        std::future::poll_fn(|cx| {
            clients.retain_mut(|client| match client.as_mut().poll(cx) {
                Poll::Ready(number) => {
                    asked += number;
                    false
                }
                Poll::Pending => true,
            });
            if clients.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        asked
    };
    let troubles = async {
        dies_and_stands_still(&redis, &world).await;
        redis.run::<()>("FLUSHALL").await;
        // Nothing is fresh any more, so that Redis is read and written again.
        world.clock.advance(secs(61));
        eventually("Redis is used again", async || !redis.keys().await.is_empty()).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (asked, ()) = tokio::join!(asking, troubles);
    assert!(asked > 100, "{asked}");
}

/// Asks for many keys, one after the other; says how long the slowest took, and all together.
async fn ask_for_many(world: &World, round: &str) -> (Duration, Duration) {
    let (mut slowest, all) = (Duration::ZERO, Instant::now());
    for i in 0..20 {
        let path = format!("/{round}-{i}");
        world.origin.reply(&path, "one");
        let begun = Instant::now();
        world.get(&path).await.status(200).is("one");
        slowest = slowest.max(begun.elapsed());
    }
    (slowest, all.elapsed())
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_request_the_budget_at_most_and_soon_nothing() {
    let redis = RedisServer::start().await;
    let budget = millis(200);
    let world = World::with_redis(&redis, |config| config.store.redis.as_mut().unwrap().budget = budget).await;
    redis.freeze();
    let (slowest, _) = ask_for_many(&world, "frozen").await;
    assert!(slowest < budget * 2 + SLACK, "a request took {slowest:?}");
    world.redis_is("degraded").await;
    let (_, all) = ask_for_many(&world, "open").await;
    assert!(all < budget * 10, "20 requests took {all:?} while the breaker was open");

    redis.thaw();
    world.redis_is("connected").await;
    world.get("/open-1").await.says("stored");
    eventually("Redis is written to", async || !redis.keys().await.is_empty()).await;
}

#[tokio::test]
async fn a_network_that_swallows_everything_costs_the_budget_at_most() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let budget = millis(200);
    let adjust = |config: &mut Config| config.store.redis.as_mut().unwrap().budget = budget;
    let world = World::with_redis_at(&relay.url(), adjust).await.connected().await;
    relay.enter(Phase::BlackHole);
    let (slowest, _) = ask_for_many(&world, "swallowed").await;
    assert!(slowest < budget * 2 + SLACK, "a request took {slowest:?}");
    world.redis_is("degraded").await;
    relay.enter(Phase::Relay);
    world.redis_is("connected").await;
}

#[tokio::test]
async fn a_network_that_cuts_or_talks_nonsense_fails_no_request() {
    let redis = RedisServer::start().await;
    let relay = Relay::to(redis.address()).await;
    let world = World::with_redis_at(&relay.url(), |_| {}).await.connected().await;
    for phase in [Phase::Refuse, Phase::Garbage] {
        relay.enter(phase);
        ask_for_many(&world, &format!("{phase:?}")).await;
        world.redis_is("degraded").await;
        ask_for_many(&world, &format!("{phase:?}-later")).await;
        relay.enter(Phase::Refuse);
        relay.enter(Phase::Relay);
        world.redis_is("connected").await;
    }
}

#[tokio::test]
async fn something_else_on_the_port_of_redis_fails_no_request() {
    let redis = RedisServer::absent();
    let relay = Relay::to(redis.address()).await;
    for phase in [Phase::Garbage, Phase::BlackHole] {
        relay.enter(phase);
        let world = World::with_redis_at(&relay.url(), |_| {}).await;
        ask_for_many(&world, &format!("{phase:?}")).await;
        world.redis_is("degraded").await;
    }
}

/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(1);

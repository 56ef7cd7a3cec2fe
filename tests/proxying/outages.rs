//! An origin that is gone for a while, or hangs, while many ask.

use crate::world::{Client, Gate, Origin, Phase, Reply, World, eventually, millis, soon};
use std::time::Instant;

#[tokio::test]
async fn a_hundred_who_wait_for_an_answer_that_does_not_come_are_released_together() {
    let limit = millis(1000);
    let world = World::with(|config| config.origin.first_byte_timeout = limit).await;
    world.origin.reply("/a", Reply::new("late").behind(&Gate::closed()));
    let begun = Instant::now();
    let client = Client::http2(world.sidecar.address);
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let asked = client.get("/a");
            tokio::spawn(async move {
                asked.await.status(504).says("detail=origin-first-byte-timeout");
                Instant::now()
            })
        })
        .collect();
    eventually("all but one follow", async || world.stats().await["followers"] == 99).await;
    let mut answered = Vec::new();
    for asked in asked {
        answered.push(soon("an answer", asked).await.unwrap());
    }
    let (first, last) = (answered.iter().min().unwrap(), answered.iter().max().unwrap());
    assert!(*first - begun >= limit);
    assert!(*last - *first < limit / 2, "{:?} between the first and the last", *last - *first);
    assert_eq!(world.origin.count("/a"), 1);
}

#[tokio::test]
async fn an_origin_that_comes_back_is_asked_once_for_what_many_want() {
    let (origin, relay) = Origin::start().await.through_relay().await;
    let world = World::before(origin, |_| {}).await;
    let client = Client::http2(world.sidecar.address);
    let paths: Vec<String> = (0..10).map(|key| format!("/{key}")).collect();
    let ask_all = || -> Vec<_> { (0..200).map(|number| client.get(&paths[number % 10]).spawn()).collect() };

    relay.enter(Phase::Refuse);
    for got in ask_all() {
        got.await.unwrap().status(502);
    }
    let gate = Gate::closed();
    for path in &paths {
        world.origin.reply(path, Reply::new("one").behind(&gate));
    }
    relay.enter(Phase::Relay);
    let asked = ask_all();
    for path in &paths {
        world.origin.arrived(path, 1).await;
    }
    eventually("all others follow", async || world.stats().await["followers"] == 190).await;
    assert_eq!(world.metric("sidecache_origin_requests_in_flight").await, 10.0);
    gate.open();
    for got in asked {
        got.await.unwrap().is("one");
    }
    assert_eq!(paths.iter().map(|path| world.origin.count(path)).sum::<usize>(), 10);
}

#[tokio::test]
async fn a_burst_of_errors_is_not_stored_and_what_is_stale_answers_in_its_stead() {
    let world = World::start().await;
    let stale = "max-age=10, stale-if-error=60";
    world.origin.reply("/stale", Reply::new("one").cache(stale));
    world.get("/stale").await.is("one").says("stored");
    world.clock.advance(crate::world::secs(11));
    for path in ["/stale", "/none"] {
        world.origin.has(path, Reply::new("broken").status(503));
    }
    let client = Client::http2(world.sidecar.address);
    let asked: Vec<_> = (0..100).map(|number| client.get(["/stale", "/none"][number % 2]).spawn()).collect();
    for (number, got) in asked.into_iter().enumerate() {
        let got = got.await.unwrap();
        match number % 2 {
            0 => got.status(200).is("one"),
            _ => got.status(503).is("broken").does_not_say("stored"),
        };
    }
    world.origin.has("/none", "two");
    world.get("/none").await.is("two").does_not_say("hit");
}

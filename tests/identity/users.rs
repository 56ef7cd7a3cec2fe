//! Many users at once, who leave when they like, while Redis stalls: everybody gets what is his, or everybody's.
//!
//! The origin writes all fields of a request into its response, so a body tells for whom it was made. In the suite it is a short run;
//! `SIDECACHE_USERS_REQUESTS=1000000 cargo nextest run --test identity -E 'test(users)'` is the long one.

use crate::world::{RedisServer, Reply, World, secs};
use http::header::AUTHORIZATION;
use sidecache::rules::{Pattern, Route, Share};
use sidecache::store::WhenDown;
use std::time::Duration;

const USERS: u64 = 8;
const URLS: u64 = 12;
const AT_ONCE: usize = 32;
const KINDS: [&str; 4] = ["anonymous", "private", "token", "session"];

/// What came of some requests.
#[derive(Debug, Default)]
struct Tally {
    whole: usize,
    left: usize,
    hits: usize,
    wrong: Vec<String>,
}

fn configure(config: &mut sidecache::config::Config) {
    let route = |kind: &str| Route::new(kind, Pattern::parse(&format!("/{kind}/{{id}}")).unwrap(), secs(60));
    config.routes = KINDS.iter().map(|kind| route(kind)).collect();
    config.routes[2].share = Share::PerCredential(vec![AUTHORIZATION]);
    config.routes[3].share = Share::PerCredential(Vec::new());
    config.routes[3].identity_cookies = vec!["session".to_owned()];
    config.cache.secret = Some("the same for all replicas".to_owned());
    config.store.memory.bytes_max = 1 << 20;
}

/// One client, who asks so often.
async fn client(world: std::sync::Arc<World>, number: usize, seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tally = Tally::default();
    for _ in 0..number {
        let (kind, user, url) = (random.usize(..KINDS.len()), random.u64(..USERS), random.u64(..URLS));
        let ask = world.get(&format!("/{}/{url}", KINDS[kind]));
        let (ask, owner) = match KINDS[kind] {
            "anonymous" => (ask.with("user-agent", &format!("owner-{user}-agent")), None),
            "session" => (ask.with("cookie", &format!("other={}; session=owner-{user}-", random.u64(..))), Some(user)),
            _ => (ask.with("authorization", &format!("Bearer owner-{user}-")), Some(user)),
        };
        let asked = ask.spawn();
        if random.u8(..8) == 0 {
            // Some leave at once, some half-way.
            tokio::time::sleep(Duration::from_micros(random.u64(..2_000))).await;
            asked.abort();
        }
        let Ok(got) = asked.await else {
            tally.left += 1;
            continue;
        };
        let text = got.text();
        let owners: Vec<&str> = text.split("owner-").skip(1).filter_map(|rest| rest.split('-').next()).collect();
        let is_right = match owner {
            Some(user) => !owners.is_empty() && owners.iter().all(|owner| *owner == user.to_string()),
            None => owners.is_empty(),
        };
        if got.status == 200 && !is_right {
            tally.wrong.push(format!("{} for {owner:?}: {text}", KINDS[kind]));
        }
        tally.whole += 1;
        tally.hits += usize::from(got.field("cache-status").contains("; hit"));
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_users_at_once_each_get_what_is_theirs() {
    let requests = std::env::var("SIDECACHE_USERS_REQUESTS").ok().and_then(|number| number.parse().ok()).unwrap_or(6_000);
    let redis = RedisServer::start().await;
    let world = World::with_redis(&redis, |config| {
        let redis = config.store.redis.as_mut().expect("the world has a Redis");
        (redis.budget, redis.when_down) = (Duration::from_millis(20), WhenDown::Memory);
        configure(config);
    })
    .await;
    for path in KINDS.iter().flat_map(|kind| (0..URLS).map(move |url| format!("/{kind}/{url}"))) {
        world.origin.reply(&path, Reply::reflecting());
    }
    let world = std::sync::Arc::new(world);
    let clients: Vec<_> = (0..AT_ONCE).map(|seed| tokio::spawn(client(world.clone(), requests / AT_ONCE, seed as u64))).collect();
    // As long as they ask, Redis stalls from time to time, and what is stored becomes stale.
    while !clients.iter().all(|client| client.is_finished()) {
        redis.freeze();
        tokio::time::sleep(Duration::from_millis(60)).await;
        redis.thaw();
        tokio::time::sleep(Duration::from_millis(140)).await;
        world.clock.advance(secs(20));
    }
    let mut all = Tally::default();
    for client in clients {
        let tally = client.await.unwrap();
        all.whole += tally.whole;
        all.left += tally.left;
        all.hits += tally.hits;
        all.wrong.extend(tally.wrong);
    }
    println!("{} whole, {} left, {} hits, {} wrong", all.whole, all.left, all.hits, all.wrong.len());
    assert_eq!(all.wrong, [""; 0]);
    assert!(all.hits > all.whole / 10 && all.left > 0, "{} hits of {}, {} left", all.hits, all.whole, all.left);
}

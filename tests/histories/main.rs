//! The whole proxy against a small reference: random histories of requests, purges, time, an origin's whims and the troubles of Redis, on
//! real sockets. Each answer that a client gets is judged by the origin's own records, the routes and the purges that were answered.
//!
//! | file | what it holds |
//! |---|---|
//! | `script` | what happens in a history, as values |
//! | `generator` | random histories, and how they shrink |
//! | `origin`, `client` | both ends, of few parts; the origin keeps records |
//! | `stage` | the sidecars, their Redis, and the ways to it |
//! | `play` | a history, step by step |
//! | `reference` | what a client may be given |
//!
//! `PROPTEST_CASES` says how many histories each test plays. A history that fails is printed with its seed, and `HISTORY=seed` before
//! the command has it played alone, by the test that it is of.

#[path = "../world/mod.rs"]
mod world;

mod client;
mod generator;
mod origin;
mod play;
mod reference;
mod script;
mod stage;

use generator::Histories;
use play::Tally;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestError, TestRunner};
use script::{History, Kind};
use sidecache::rules::Collapse;
use sidecache::store::WhenDown;
use stage::{Setting, Stage};
use std::cell::RefCell;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use world::{RedisCluster, RedisServer};

/// Plays histories one after the other.
struct Player {
    setting: Setting,
    redis: Option<Arc<RedisServer>>,
    cluster: Option<RedisCluster>,
    stage: Option<(Runtime, Stage)>,
    played: u64,
    has_failed: bool,
    tally: Tally,
}

impl Player {
    fn new(setting: Setting) -> Player {
        let is_one = setting.has_redis && !setting.is_cluster;
        let redis = is_one.then(|| Arc::new(runtime(1).block_on(RedisServer::start())));
        let cluster = setting.is_cluster.then(|| runtime(1).block_on(RedisCluster::start(3)));
        Player { setting, redis, cluster, stage: None, played: 0, has_failed: false, tally: Tally::default() }
    }

    fn play(&mut self, history: &History) -> Result<(), String> {
        // What depends on who is faster need not fail each time that a smaller history is tried.
        let times = if self.has_failed { 3 } else { 1 };
        for _ in 0..times {
            let ended = self.play_once(history);
            if ended.is_err() {
                self.has_failed = true;
                return ended;
            }
        }
        Ok(())
    }

    fn play_once(&mut self, history: &History) -> Result<(), String> {
        self.played += 1;
        let (runtime, stage) = self.stage.take().unwrap_or_else(|| {
            let runtime = runtime(self.setting.threads);
            let stage = runtime.block_on(Stage::start(self.setting, self.redis.clone(), self.cluster.as_ref()));
            (runtime, stage)
        });
        let ended = runtime.block_on(play::play(&stage, history, self.played, &mut self.tally));
        // After troubles Redis is connected to after ever longer pauses, but for the first time.
        if ended.is_ok() && !self.setting.has_faults {
            self.stage = Some((runtime, stage));
        }
        ended
    }

    /// After many histories, everything has happened.
    fn is_about_something(&self) {
        let (Setting { has_redis, has_memory, .. }, tally) = (self.setting, &self.tally);
        println!("{} histories: {tally:?}", self.played);
        if self.played >= 50 {
            let happened = [tally.collapsed, tally.confirmed, tally.stale];
            assert!(happened.iter().all(|times| *times > 0), "{tally:?}");
            assert_eq!((tally.of_memory > 0, tally.of_redis > 0, tally.purges_heard > 0), (has_memory, has_redis, has_redis));
        }
    }
}

fn runtime(threads: usize) -> Runtime {
    match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    }
    .worker_threads(threads)
    .enable_all()
    .build()
    .unwrap()
}

/// Plays so many histories on a setting, shared among so many threads, and reports the smallest that shows something wrong.
fn check(name: &'static str, setting: Setting, cases: u32, threads: u32) {
    if let Some(seed) = std::env::var("HISTORY").ok().and_then(|seed| seed.parse().ok()) {
        let played = Player::new(setting).play_once(&generator::history(&setting, seed));
        return played.unwrap_or_else(|told| panic!("{told}"));
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    let config = Config {
        cases: cases.div_ceil(threads),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(name))),
        max_shrink_iters: 3_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let run = || {
        let player = RefCell::new(Player::new(setting));
        let ended = TestRunner::new(config.clone())
            .run(&Histories(setting), |history| player.borrow_mut().play(&history).map_err(TestCaseError::fail));
        match ended {
            Err(TestError::Fail(told, _)) => panic!("{told}"),
            Err(TestError::Abort(why)) => panic!("{why}"),
            Ok(()) => player.borrow().is_about_something(),
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(run))));
}

/// Two replicas with both tiers, and a Redis without troubles.
const PLAIN: Setting = Setting {
    kinds: &Kind::ALL,
    has_redis: true,
    is_cluster: false,
    has_memory: true,
    collapse: Collapse::Process,
    when_down: WhenDown::PassThrough,
    has_faults: false,
    threads: 1,
};

#[test]
fn memory_alone() {
    let setting = Setting { has_redis: false, ..PLAIN };
    check("proptest-regressions/histories/memory_alone.txt", setting, 300, 1);
}

#[test]
fn two_replicas() {
    check("proptest-regressions/histories/two_replicas.txt", PLAIN, 300, 1);
}

#[test]
fn two_replicas_on_two_threads() {
    let setting = Setting { threads: 2, ..PLAIN };
    check("proptest-regressions/histories/two_threads.txt", setting, 200, 1);
}

#[test]
fn two_replicas_and_what_is_for_whom() {
    let setting = Setting { kinds: &[Kind::ByResponse, Kind::PerCredential, Kind::Standard], ..PLAIN };
    check("proptest-regressions/histories/for_whom.txt", setting, 300, 1);
}

#[test]
fn two_replicas_without_memory() {
    let setting = Setting { has_memory: false, ..PLAIN };
    check("proptest-regressions/histories/without_memory.txt", setting, 250, 1);
}

#[test]
fn two_replicas_with_one_fetch_for_both() {
    let setting = Setting { collapse: Collapse::Replicas, ..PLAIN };
    check("proptest-regressions/histories/one_fetch.txt", setting, 250, 1);
}

#[test]
fn two_replicas_with_a_cluster() {
    let setting = Setting { is_cluster: true, ..PLAIN };
    check("proptest-regressions/histories/cluster.txt", setting, 200, 1);
}

#[test]
fn two_replicas_without_memory_with_a_cluster() {
    let setting = Setting { is_cluster: true, has_memory: false, collapse: Collapse::Replicas, ..PLAIN };
    check("proptest-regressions/histories/cluster_without_memory.txt", setting, 120, 1);
}

#[test]
fn a_redis_with_troubles_without_which_requests_pass_through() {
    let setting = Setting { has_faults: true, ..PLAIN };
    check("proptest-regressions/histories/pass_through.txt", setting, 200, 4);
}

#[test]
fn a_redis_with_troubles_without_which_memory_goes_on() {
    let setting = Setting { has_faults: true, when_down: WhenDown::Memory, ..PLAIN };
    check("proptest-regressions/histories/memory_goes_on.txt", setting, 200, 4);
}

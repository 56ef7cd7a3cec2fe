//! No answer is wrong, late or missing, whatever happens to Redis: the short form, one test a fault.
//!
//! `cargo bench --bench faults` is the long one, which also measures; docs/faults.md says more.

mod harness;

#[path = "../world/mod.rs"]
mod world;

use harness::{BASELINE, FAULTS, Fault, HEAD, Plan, run};
use world::secs;

/// Runs a fault for a few seconds, and wants nothing of it to be noticed.
async fn hides(name: &str) {
    check(Fault::named(name).expect("there is such a fault")).await;
}

async fn check(fault: &'static Fault) {
    // Everything in a run has its own limit; all of them together come to more than anybody wants to wait.
    let ran = tokio::time::timeout(secs(60), run(fault, &Plan::short())).await;
    let observed = ran.unwrap_or_else(|_| panic!("{}: the run does not end", fault.name));
    println!("{HEAD}\n{}", observed.row());
    let complaints = observed.complaints();
    assert!(complaints.is_empty(), "{}: {}", fault.name, complaints.join("\n"));
}

/// A test for each fault, and the list of them.
macro_rules! hides {
    ($($test:ident: $name:literal,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            hides($name).await;
        })*

        const TESTED: &[&str] = &[$($name),*];
    };
}

hides! {
    a_redis_that_is_not_there_at_the_start: "dead-at-start",
    a_redis_that_is_killed: "killed",
    a_redis_that_is_restarted: "restarted",
    a_redis_that_comes_back_from_a_snapshot: "restored",
    a_redis_that_is_loading: "loading",
    a_redis_that_stands_still_while_clients_leave: "frozen",
    a_redis_that_is_slower_by_20_ms: "slow-20ms",
    a_redis_that_is_slower_by_100_ms: "slow-100ms",
    a_redis_that_is_slower_by_a_second: "slow-1s",
    replies_that_drip: "drip",
    a_network_that_comes_and_goes: "flapping",
    connections_that_are_reset: "reset",
    connections_that_are_refused: "refused",
    a_network_that_delivers_nothing: "black-hole",
    connections_that_are_dead_without_notice: "half-open",
    a_sidecar_that_is_cut_off: "one-cut-off",
    replies_that_end_in_the_middle: "cut-replies",
    a_server_that_is_no_redis: "not-redis",
    a_redis_that_is_full: "full",
    a_redis_that_is_read_only: "read-only",
    a_replica_without_its_master: "master-down",
    a_redis_that_wants_a_password: "no-auth",
    a_password_that_was_changed: "wrong-password",
    an_account_that_may_not_read: "no-permission",
    an_account_that_may_do_nothing: "no-permission-at-all",
    a_redis_that_takes_no_more_clients: "out-of-connections",
    a_redis_that_closes_what_is_idle: "idle-timer",
    a_redis_that_closes_all_connections: "kicked",
    lists_in_the_place_of_values: "wrong-type",
    values_that_are_damaged: "corrupt",
    values_from_the_future: "future-version",
    values_of_somebody_else: "foreign",
    a_huge_value: "huge-value",
    a_redis_that_is_killed_while_memory_goes_on: "killed-memory",
    a_redis_that_stands_still_while_memory_goes_on: "frozen-memory",
    a_sidecar_that_is_cut_off_and_goes_on: "one-cut-off-memory",
}

/// The harness finds nothing wrong where nothing goes wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_load_without_redis() {
    check(&BASELINE).await;
}

#[test]
fn every_fault_is_tested() {
    let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    assert_eq!(names, TESTED);
}

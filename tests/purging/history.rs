//! A history of writers, purges and readers: after the answer to a purge nobody is given what was there before it.

use super::replicas::{ask, replicas};
use crate::world::{RedisServer, World};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Each writer changes the value of its own key at the origin and purges it, then notes that it has done so. Each reader notes what
/// was done before it asks; a body from before that is a violation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_to_a_purge_that_waits_no_replica_gives_the_old_value() {
    const WRITERS: usize = 4;
    const PURGES: u64 = 60;
    let redis = RedisServer::start().await;
    let worlds: Arc<Vec<World>> = Arc::new(replicas(&redis, 3).await);
    let done: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let is_over = Arc::new(AtomicBool::new(false));
    let path = |writer: usize| format!("/customer/{writer}");
    for writer in 0..WRITERS {
        worlds[0].origin.has(&path(writer), "0");
    }

    let readers: Vec<_> = (0..worlds.len() * 3)
        .map(|reader| {
            let (worlds, done, is_over) = (worlds.clone(), done.clone(), is_over.clone());
            tokio::spawn(async move {
                let mut hits = 0;
                for turn in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let writer = (turn + reader) % WRITERS;
                    let known = done[writer].load(Ordering::SeqCst);
                    let got = ask(&worlds[reader % 3], &path(writer)).await;
                    let given: u64 = got.text().parse().unwrap();
                    assert!(
                        given >= known,
                        "replica {} gave {given} after the purge of {known} was answered: {got:?}",
                        reader % 3
                    );
                    hits += usize::from(got.field("cache-status").contains("hit"));
                }
                hits
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (worlds, done) = (worlds.clone(), done.clone());
            tokio::spawn(async move {
                for value in 1..=PURGES {
                    worlds[0].origin.has(&path(writer), value.to_string());
                    let order = json!({ "tags": [format!("customer:{writer}")], "wait": true });
                    let answer = worlds[(writer + value as usize) % 3].purge(order).await;
                    assert_eq!(answer["replicas"]["answered"], 3, "{answer}");
                    done[writer].store(value, Ordering::SeqCst);
                    if value % 4 == 0 {
                        // So that there is something in the caches to be wrong.
                        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("the writer has no complaint");
    }
    is_over.store(true, Ordering::SeqCst);
    for (number, reader) in readers.into_iter().enumerate() {
        let hits = reader.await.expect("the reader has no complaint");
        assert!(hits > 0, "a cache that never answers is easily right: reader {number}");
    }
}

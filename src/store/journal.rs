//! The latest purges: who did what, when, and how it ended. In Redis for all replicas, and here until they are there.

use super::Store;
use super::redis::Redis;
use redis::Pipeline;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The latest purges by this process, the newest first.
#[derive(Default)]
pub(super) struct Journal {
    records: Mutex<VecDeque<Record>>,
    /// Held while records are written to Redis, so that none is written twice.
    writing: tokio::sync::Mutex<()>,
}

struct Record {
    text: String,
    is_in_redis: bool,
}

impl Store {
    /// Notes a purge: one line of JSON.
    pub fn note_purge(&self, record: String) {
        let mut here = self.journal.lock();
        here.push_front(Record { text: record, is_in_redis: false });
        here.truncate(RECORDS_MAX);
        drop(here);
        self.share_purges();
    }

    /// Writes what Redis has not heard of yet.
    pub(super) fn share_purges(&self) {
        if let Some(redis) = self.redis.clone() {
            let journal = self.journal.clone();
            self.tasks.spawn(async move { journal.share(&redis).await });
        }
    }

    /// The latest purges, the newest first: by all replicas where Redis can say, else by this one.
    pub async fn purges(&self, number: usize) -> Vec<String> {
        let number = number.clamp(1, RECORDS_MAX);
        let in_redis = match &self.redis {
            Some(redis) => read(redis, number).await,
            None => None,
        };
        let here = self.journal.lock();
        match in_redis {
            // Those that it has not taken are the latest.
            Some(records) => unshared(&here).chain(records).take(number).collect(),
            None => here.iter().take(number).map(|record| record.text.clone()).collect(),
        }
    }
}

impl Journal {
    async fn share(&self, redis: &Redis) {
        let _writing = self.writing.lock().await;
        let records: Vec<String> = unshared(&self.lock()).collect();
        if records.is_empty() {
            return;
        }
        let (name, mut pipeline) = (redis.names().purges(), Pipeline::new());
        let sealed: Vec<Vec<u8>> = records.iter().rev().map(|record| redis.texts().close_text(&name, record)).collect();
        pipeline.cmd("LPUSH").arg(&name).arg(sealed).ignore();
        pipeline.cmd("LTRIM").arg(&name).arg(0).arg(RECORDS_MAX - 1).ignore();
        pipeline.cmd("PEXPIRE").arg(&name).arg(RECORDS_KEPT.as_millis() as u64).ignore();
        if redis.run::<()>(pipeline).await.is_some() {
            self.lock().iter_mut().filter(|record| records.contains(&record.text)).for_each(|record| record.is_in_redis = true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unshared(records: &VecDeque<Record>) -> impl Iterator<Item = String> {
    records.iter().filter(|record| !record.is_in_redis).map(|record| record.text.clone())
}

async fn read(redis: &Redis, number: usize) -> Option<Vec<String>> {
    let (name, mut pipeline) = (redis.names().purges(), Pipeline::new());
    pipeline.cmd("LRANGE").arg(&name).arg(0).arg(number - 1);
    let (records,) = redis.run::<(Vec<Vec<u8>>,)>(pipeline).await?;
    // What somebody else has put on the list is no record.
    Some(records.into_iter().filter_map(|record| redis.texts().open_text(&name, record)).collect())
}

/// So many purges are remembered.
const RECORDS_MAX: usize = 1000;

/// After so long without a purge, nobody asks for them any more.
const RECORDS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

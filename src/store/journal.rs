//! The latest purges: who did what, when, and how it ended. In Redis for all replicas, and here until they are there.

use super::Store;
use super::redis::Redis;
use redis::Pipeline;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The latest purges by this process, the newest first.
#[derive(Default)]
pub(super) struct Journal {
    records: Mutex<VecDeque<Record>>,
    /// Held by the one task that writes records to Redis.
    writing: tokio::sync::Mutex<()>,
}

struct Record {
    text: String,
    /// It was sent to Redis, which may have it.
    was_sent: bool,
    is_in_redis: bool,
}

impl Store {
    /// Notes a purge: one line of JSON, with the second in which it was done as `at`.
    pub fn note_purge(&self, record: String) {
        let mut here = self.journal.lock();
        here.push_front(Record { text: record, was_sent: false, is_in_redis: false });
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
        // What Redis takes after that is seen twice, and what it took before is seen there.
        let (all, mut records) = {
            let here = self.journal.lock();
            let text = |record: &Record| record.text.clone();
            let missing: Vec<String> = here.iter().filter(|record| !record.is_in_redis).map(text).collect();
            (here.iter().map(text).collect::<Vec<String>>(), missing)
        };
        let in_redis = match &self.redis {
            Some(redis) => read(redis).await,
            None => None,
        };
        match in_redis {
            Some(in_redis) => records.extend(in_redis),
            None => records = all,
        }
        let mut known = HashSet::new();
        records.retain(|record| known.insert(record.clone()));
        // A replica that was cut off for long comes late with what it did.
        records.sort_by_cached_key(|record| Reverse(moment(record)));
        records.truncate(number.clamp(1, RECORDS_MAX));
        records
    }
}

impl Journal {
    /// Writes what Redis has not, one task at a time: it goes on until there is nothing left, or Redis takes no more.
    async fn share(&self, redis: &Redis) {
        while let Ok(writing) = self.writing.try_lock() {
            let is_taken = self.write(redis).await;
            drop(writing);
            if !is_taken || self.lock().iter().all(|record| record.is_in_redis) {
                return;
            }
        }
    }

    async fn write(&self, redis: &Redis) -> bool {
        if self.lock().iter().any(|record| record.was_sent && !record.is_in_redis) {
            let Some(there) = read(redis).await else { return false };
            self.lock().iter_mut().filter(|record| there.contains(&record.text)).for_each(|record| record.is_in_redis = true);
        }
        let records: Vec<String> = {
            let mut here = self.lock();
            let missing = here.iter_mut().filter(|record| !record.is_in_redis);
            let sent = missing.map(|record| {
                record.was_sent = true;
                record.text.clone()
            });
            sent.collect()
        };
        if records.is_empty() {
            return true;
        }
        let (name, mut pipeline) = (redis.names().purges(), Pipeline::new());
        let sealed: Vec<Vec<u8>> = records.iter().rev().map(|record| redis.texts().close_text(&name, record)).collect();
        pipeline.cmd("LPUSH").arg(&name).arg(sealed).ignore();
        pipeline.cmd("LTRIM").arg(&name).arg(0).arg(RECORDS_MAX - 1).ignore();
        pipeline.cmd("PEXPIRE").arg(&name).arg(RECORDS_KEPT.as_millis() as u64).ignore();
        let is_taken = redis.run::<()>(pipeline).await.is_some();
        if is_taken {
            self.lock().iter_mut().filter(|record| records.contains(&record.text)).for_each(|record| record.is_in_redis = true);
        }
        is_taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a purge was done, in seconds since 1970.
fn moment(record: &str) -> u64 {
    serde_json::from_str::<Value>(record).ok().and_then(|record| record["at"].as_u64()).unwrap_or_default()
}

async fn read(redis: &Redis) -> Option<Vec<String>> {
    let (name, mut pipeline) = (redis.names().purges(), Pipeline::new());
    pipeline.cmd("LRANGE").arg(&name).arg(0).arg(RECORDS_MAX - 1);
    let (records,) = redis.run::<(Vec<Vec<u8>>,)>(pipeline).await?;
    // What somebody else has put on the list is no record.
    Some(records.into_iter().filter_map(|record| redis.texts().open_text(&name, record)).collect())
}

/// So many purges are remembered.
const RECORDS_MAX: usize = 1000;

/// After so long without a purge, nobody asks for them any more.
const RECORDS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

//! The latest purges: who did what, when, and how it ended. In Redis for all replicas, and here for when there is none.

use super::Store;
use redis::Pipeline;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The latest purges by this process, the newest first.
#[derive(Default)]
pub(super) struct Journal(Mutex<VecDeque<String>>);

impl Store {
    /// Notes a purge: one line of JSON.
    pub fn note_purge(&self, record: String) {
        let mut here = self.journal.0.lock().unwrap_or_else(PoisonError::into_inner);
        here.push_front(record.clone());
        here.truncate(RECORDS_MAX);
        drop(here);
        if let Some(redis) = self.redis.clone() {
            self.tasks.spawn(async move {
                let name = redis.names().purges();
                let record = redis.texts().close_text(&name, &record);
                let mut pipeline = Pipeline::new();
                pipeline.cmd("LPUSH").arg(&name).arg(record).ignore();
                pipeline.cmd("LTRIM").arg(&name).arg(0).arg(RECORDS_MAX - 1).ignore();
                pipeline.cmd("PEXPIRE").arg(&name).arg(RECORDS_KEPT.as_millis() as u64).ignore();
                redis.run::<()>(pipeline).await;
            });
        }
    }

    /// The latest purges, the newest first: by all replicas where Redis can say, else by this one.
    pub async fn purges(&self, number: usize) -> Vec<String> {
        let number = number.clamp(1, RECORDS_MAX);
        if let Some(redis) = &self.redis {
            let (name, mut pipeline) = (redis.names().purges(), Pipeline::new());
            pipeline.cmd("LRANGE").arg(&name).arg(0).arg(number - 1);
            if let Some((records,)) = redis.run::<(Vec<Vec<u8>>,)>(pipeline).await {
                // What somebody else has put on the list is no record.
                return records.into_iter().filter_map(|record| redis.texts().open_text(&name, record)).collect();
            }
        }
        let here = self.journal.0.lock().unwrap_or_else(PoisonError::into_inner);
        here.iter().take(number).cloned().collect()
    }
}

/// So many purges are remembered.
const RECORDS_MAX: usize = 1000;

/// After so long without a purge, nobody asks for them any more.
const RECORDS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

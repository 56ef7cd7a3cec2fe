//! Looking at everything, in the background, to delete what was purged octet by octet.
//!
//! A purge makes unreachable; what it purged stays in memory and Redis until something takes its place or its time is over. Where
//! it has to be gone (erasing a person's data), everything is looked at once, and what lies in the scopes is deleted. Nothing of it
//! is on the path of a request.

use super::generations::Generation;
use super::held::Standing;
use super::memory::Memory;
use super::purge::Reach;
use super::record::{self, Belonging, RecordError};
use super::redis::Redis;
use super::replicas::{Answers, Question};
use super::{Store, StoredResponse};
use crate::rules::{Scope, ScopeName};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was found and deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Stored responses.
    pub responses: u64,
    /// Their octets.
    pub bytes: u64,
}

/// What came of erasing.
#[derive(Debug, Clone)]
pub struct Erased {
    /// How far the purge came that went before.
    pub reach: Reach,
    /// Deleted from the memory of this process.
    pub memory: Swept,
    /// Deleted from Redis; `None` if it could not be looked through to the end.
    pub redis: Option<Swept>,
    /// The other replicas, each of which has swept its memory when it answers; their numbers are in `found`.
    pub answers: Option<Answers>,
}

impl Store {
    /// Purges scopes and deletes what lies in them: from memory, from Redis, and from the memory of all replicas, whose answers are
    /// waited for, for at most `limit`. Must not be given up half-way.
    pub async fn erase(self: &Arc<Store>, scopes: &[Scope], limit: Duration) -> Erased {
        let question = self.redis.as_ref().map(|_| Question::sweep());
        let reach = self.make_unusable(scopes, false, question.as_ref()).await;
        let memory = self.sweep_memory().await;
        let names: Vec<ScopeName> = scopes.iter().map(Scope::name).collect();
        let (redis, answers) = match (&self.redis, &question, reach) {
            (Some(redis), Some(question), Reach::Everywhere) => {
                let answers = self.answers(question, limit).await;
                // What was about to be written when the purge came is there now.
                tokio::time::sleep(redis.options().write_timeout).await;
                (delete_from_redis(redis, &names).await, Some(answers))
            }
            (Some(redis), _, Reach::EverywhereUnasked) => (delete_from_redis(redis, &names).await, None),
            (Some(_), ..) => (None, None),
            (None, ..) => (Some(Swept::default()), None),
        };
        Erased { reach, memory, redis, answers }
    }

    /// Deletes from memory what no request can be given any more.
    pub(super) async fn sweep_memory(self: &Arc<Store>) -> Swept {
        let Some(memory) = &self.memory else { return Swept::default() };
        let mut swept = Swept::default();
        for (number, (stored, _)) in self.in_memory().await.into_iter().enumerate() {
            if number % STEP == 0 {
                // Requests go first.
                tokio::task::yield_now().await;
            }
            let mut standing = self.generations.standing(&stored.held, self.generations.epoch());
            if let (Standing::Doubted, Some(redis)) = (standing, &self.redis) {
                standing = self.verify(redis, &stored.held, &mut self.budget()).await;
            }
            if standing == Standing::Broken {
                memory.forget(&stored);
                swept = swept.and(Swept { responses: 1, bytes: stored.weight() });
            }
        }
        swept
    }

    /// All that memory holds, and how often each was found; collected where no request waits for it.
    pub(super) async fn in_memory(self: &Arc<Store>) -> Vec<(Arc<StoredResponse>, u64)> {
        let store = self.clone();
        let collected = tokio::task::spawn_blocking(move || store.memory.as_ref().map_or_else(Vec::new, Memory::found));
        collected.await.unwrap_or_default()
    }
}

impl Swept {
    fn and(self, other: Swept) -> Swept {
        Swept { responses: self.responses + other.responses, bytes: self.bytes + other.bytes }
    }
}

/// Deletes from Redis what lies in one of the scopes, and depends on another generation of it than the present one. What is stored
/// under the same name just between the look and the deletion goes too; it costs one fetch more.
pub(super) async fn delete_from_redis(redis: &Redis, scopes: &[ScopeName]) -> Option<Swept> {
    let (mut cursor, mut swept) = (0, Swept::default());
    let names: Vec<String> = scopes.iter().map(|scope| redis.names().generation(*scope)).collect();
    loop {
        let (next, found) = look_into(redis, cursor).await?;
        let deadline = Instant::now() + redis.options().write_timeout;
        let present = redis.read(&[], &names, deadline).await.ok()?.generations;
        let is_purged = |(scope, generation): &(ScopeName, Generation)| {
            let at = scopes.iter().position(|purged| purged == scope);
            at.is_some_and(|at| present[at].is_none_or(|present| present.hard != generation.hard))
        };
        let purged = found.into_iter().filter(|(_, found)| found.generations.iter().any(is_purged));
        let mut names: Vec<String> = purged.map(|(name, _)| name).collect();
        if !names.is_empty() {
            let responses = names.len() as u64;
            // A list names the URL, and what tells its variants apart. One that is not purged is found again when it has been fetched anew.
            let lists: HashSet<String> = names.iter().filter_map(|name| redis.names().list_of(name)).collect();
            names.extend(lists);
            let bytes = redis.delete_all(&names).await?;
            swept = swept.and(Swept { responses, bytes });
        }
        if next == 0 {
            return Some(swept);
        }
        cursor = next;
        tokio::time::sleep(STEP_PAUSE).await;
    }
}

/// Looks at some of the responses in Redis, and says where to go on; 0 is the end. Each that is there all the time is found.
pub(super) async fn look_into(redis: &Redis, cursor: u64) -> Option<(u64, Vec<(String, Belonging)>)> {
    let (next, names) = redis.scan(cursor).await?;
    let heads = redis.heads(&names, HEAD_BYTES).await?;
    let mut found = Vec::with_capacity(names.len());
    for (name, head) in names.into_iter().zip(heads) {
        match belonging(redis, &name, head) {
            Ok(Some(belonging)) => found.push((name, belonging)),
            // It begins with more than usual: a long URL, many tags.
            Err(RecordError::Malformed) => {
                let whole = redis.heads(std::slice::from_ref(&name), redis.options().value_bytes_max).await?.pop()?;
                if let Ok(Some(belonging)) = belonging(redis, &name, whole) {
                    found.push((name, belonging));
                }
            }
            // A list of fields, or none of ours.
            Ok(None) | Err(_) => {}
        }
    }
    Some((next, found))
}

fn belonging(redis: &Redis, name: &str, beginning: Vec<u8>) -> Result<Option<Belonging>, RecordError> {
    record::belonging(redis.seal().open_head(name, beginning)?)
}

/// So many octets of a value say, mostly, what it belongs to.
const HEAD_BYTES: usize = 4096;

/// So many responses in memory are looked at in one step.
const STEP: usize = 256;

/// Between two steps of a walk, requests go first.
pub(super) const STEP_PAUSE: Duration = Duration::from_millis(1);

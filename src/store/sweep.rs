//! Looking at everything, in the background: to delete what was purged, octet by octet, and to purge by patterns that no scope has.
//!
//! A purge makes unreachable; what it purged stays in memory and Redis until something takes its place or its time is over. Where
//! it has to be gone (erasing a person's data), everything is looked at once, and what lies in the scopes is deleted. The same walk
//! finds the tags that a pattern such as `customer:4*` matches. Nothing of it is on the path of a request.

use super::generations::Generation;
use super::held::Standing;
use super::memory::Memory;
use super::purge::Reach;
use super::record;
use super::redis::{Redis, random_id};
use super::replicas::{Answers, Question};
use super::{Store, StoredResponse};
use crate::rules::{Scope, ScopeName};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

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

/// A purge by a pattern, under way or over.
#[derive(Debug)]
pub struct Job {
    /// What it is known by.
    pub id: String,
    /// The pattern.
    pub pattern: String,
    /// When it began.
    pub began: SystemTime,
    progress: Mutex<Progress>,
}

/// How far a job has come.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Stored responses that were looked at, here and in Redis.
    pub looked_at: u64,
    /// Tags that match, and were purged.
    pub tags: u64,
    /// It is over.
    pub is_over: bool,
    /// Why it could not be done as a whole; it is to be asked for again then.
    pub error: Option<String>,
}

/// The latest jobs, and when the responses in Redis were counted last.
#[derive(Default)]
pub(super) struct Jobs {
    latest: Mutex<VecDeque<Arc<Job>>>,
    counted: Mutex<Option<(Instant, u64)>>,
}

impl Job {
    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Purges scopes and deletes what lies in them: from memory, from Redis, and from the memory of all replicas, whose answers are
    /// waited for, for at most `limit`. Must not be given up half-way.
    pub async fn erase(self: &Arc<Store>, scopes: &[Scope], limit: Duration) -> Erased {
        let question = self.redis.as_ref().map(|_| Question::sweep());
        let reach = self.purge(scopes, false, question.as_ref()).await;
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

    /// About how many responses lie in Redis, as counted lately; `None` if it cannot say.
    pub async fn responses_in_redis(&self) -> Option<u64> {
        let redis = self.redis.as_ref().filter(|redis| redis.is_up())?;
        let counted = *self.jobs.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, number)) = counted.filter(|(at, _)| at.elapsed() < COUNTED_FOR) {
            return Some(number);
        }
        let number = redis.count_responses().await?;
        *self.jobs.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), number));
        Some(number)
    }

    /// Begins to purge what carries a tag that matches a pattern, in which `*` stands for anything.
    pub fn purge_by_pattern(self: &Arc<Store>, pattern: &str) -> Arc<Job> {
        let job =
            Arc::new(Job { id: random_id(), pattern: pattern.to_owned(), began: self.clock.now(), progress: Mutex::default() });
        let mut jobs = self.jobs.latest.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push_front(job.clone());
        jobs.truncate(JOBS_MAX);
        drop(jobs);
        let (store, running) = (self.clone(), job.clone());
        self.tasks.spawn(async move {
            let ended = store.run(&running).await;
            let mut progress = running.lock();
            (progress.is_over, progress.error) = (true, ended.err());
        });
        job
    }

    /// The latest jobs, the newest first.
    pub fn jobs(&self) -> Vec<Arc<Job>> {
        self.jobs.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    async fn run(self: &Arc<Store>, job: &Job) -> Result<(), String> {
        // What is being fetched now carries tags that nobody can find yet; so it is not stored.
        let question = self.redis.as_ref().map(|_| Question::match_tags(&job.pattern));
        let reach = self.purge(&[Scope::Fetches], false, question.as_ref()).await;
        job.lock().tags += self.purge_tags_in_memory(&job.pattern).await;
        job.lock().looked_at += self.memory.as_ref().map_or(0, |memory| memory.len() as u64);
        let Some(redis) = &self.redis else { return Ok(()) };
        let (Some(question), Reach::Everywhere) = (question, reach) else {
            return Err("Redis could not be told; only the memory of this process was looked through".to_owned());
        };
        let answers = self.answers(&question, ANSWERS_WAITED).await;
        tokio::time::sleep(redis.options().write_timeout).await;
        let mut cursor = 0;
        loop {
            let (next, found) = look_into(redis, cursor).await.ok_or("Redis stopped answering; purge again")?;
            let tags = found.iter().flat_map(|(_, found)| &found.tags).filter(|tag| matches(&job.pattern, tag));
            let tags: BTreeSet<&String> = tags.collect();
            job.lock().looked_at += found.len() as u64;
            if !tags.is_empty() {
                let scopes: Vec<Scope> = tags.iter().map(|tag| Scope::Tag((*tag).clone())).collect();
                if self.purge(&scopes, false, None).await == Reach::HereFirst {
                    return Err("Redis stopped answering; purge again".to_owned());
                }
                job.lock().tags += scopes.len() as u64;
            }
            if next == 0 {
                break;
            }
            cursor = next;
            tokio::time::sleep(STEP_PAUSE).await;
        }
        match answers.answered == answers.replicas {
            true => Ok(()),
            false => Err(format!("{} of {} replicas did not answer", answers.replicas - answers.answered, answers.replicas)),
        }
    }

    /// Purges the tags of what memory holds that match a pattern, and says how many.
    pub(super) async fn purge_tags_in_memory(self: &Arc<Store>, pattern: &str) -> u64 {
        let responses: Vec<_> = self.in_memory().await.into_iter().map(|(stored, _)| stored).collect();
        let tags: BTreeSet<&String> =
            responses.iter().flat_map(|stored| &stored.tags).filter(|tag| matches(pattern, tag)).collect();
        let scopes: Vec<Scope> = tags.into_iter().map(|tag| Scope::Tag(tag.clone())).collect();
        for some in scopes.chunks(TAGS_AT_ONCE) {
            self.purge(some, false, None).await;
        }
        scopes.len() as u64
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

/// Deletes from Redis what lies in one of the scopes, and depends on another generation of it than the present one.
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
        let names: Vec<String> = purged.map(|(name, _)| name).collect();
        if !names.is_empty() {
            let bytes = redis.delete_all(&names).await?;
            swept = swept.and(Swept { responses: names.len() as u64, bytes });
        }
        if next == 0 {
            return Some(swept);
        }
        cursor = next;
        tokio::time::sleep(STEP_PAUSE).await;
    }
}

/// Looks at some of the responses in Redis, and says where to go on; 0 is the end. Each that is there all the time is found.
async fn look_into(redis: &Redis, cursor: u64) -> Option<(u64, Vec<(String, record::Belonging)>)> {
    let (next, names) = redis.scan(cursor).await?;
    let heads = redis.heads(&names, HEAD_BYTES).await?;
    let mut found = Vec::with_capacity(names.len());
    for (name, head) in names.into_iter().zip(heads) {
        match record::belonging(head) {
            Ok(Some(belonging)) => found.push((name, belonging)),
            // A list of fields, or none of ours.
            Ok(None) => {}
            // It begins with more than usual: a long URL, many tags.
            Err(_) => {
                let whole = redis.heads(std::slice::from_ref(&name), redis.options().value_bytes_max).await?.pop()?;
                if let Ok(Some(belonging)) = record::belonging(whole) {
                    found.push((name, belonging));
                }
            }
        }
    }
    Some((next, found))
}

/// Whether a tag matches a pattern in which `*` stands for anything, also for nothing.
fn matches(pattern: &str, tag: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = tag.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// So many octets of a value say, mostly, what it belongs to.
const HEAD_BYTES: usize = 4096;

/// So many responses in memory are looked at in one step.
const STEP: usize = 256;

/// Between two steps of a walk, requests go first.
const STEP_PAUSE: Duration = Duration::from_millis(1);

/// So many tags are purged in one command.
const TAGS_AT_ONCE: usize = 256;

/// Whoever looks at the statistics often does not have Redis count each time.
const COUNTED_FOR: Duration = Duration::from_secs(2);

/// So many jobs are remembered.
const JOBS_MAX: usize = 100;

/// How long a job waits for the other replicas.
const ANSWERS_WAITED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let check = |pattern: &str, tag: &str, expected: bool| assert_eq!(matches(pattern, tag), expected, "{pattern} {tag}");
        check("customer:4*", "customer:42", true);
        check("customer:4*", "customer:4", true);
        check("customer:4*", "customer:52", false);
        check("*:risk", "customer:42:risk", true);
        check("*:risk", "customer:42:risks", false);
        check("a*c*e", "abcde", true);
        check("a*c*e", "ace", true);
        check("a*c*e", "aec", false);
        check("a*a", "a", false);
        check("*", "", true);
        check("abc", "abc", true);
        check("abc", "abcd", false);
        check("*b*", "abc", true);
    }
}

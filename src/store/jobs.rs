//! Purges by patterns that no scope has, such as `customer:4*`: jobs that look for the tags that match, in memory and in Redis, on all
//! replicas, and purge these.

use super::Store;
use super::purge::Reach;
use super::redis::random_id;
use super::replicas::Question;
use super::sweep::{STEP_PAUSE, look_into};
use crate::rules::Scope;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

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

/// The latest jobs.
#[derive(Default)]
pub(super) struct Jobs(Mutex<VecDeque<Arc<Job>>>);

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
    /// Begins to purge what carries a tag that matches a pattern, in which `*` stands for anything; `None` if so many such purges are
    /// under way that this one has to wait.
    pub fn purge_by_pattern(self: &Arc<Store>, pattern: &str) -> Option<Arc<Job>> {
        let mut jobs = self.jobs.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.iter().filter(|job| !job.lock().is_over).count() >= RUNNING_MAX {
            return None;
        }
        let job =
            Arc::new(Job { id: random_id(), pattern: pattern.to_owned(), began: self.clock.now(), progress: Mutex::default() });
        jobs.push_front(job.clone());
        jobs.truncate(JOBS_MAX);
        drop(jobs);
        let (store, running) = (self.clone(), job.clone());
        self.tasks.spawn(async move {
            let error = store.search(&running).await.err();
            let mut progress = running.lock();
            let (Job { id, pattern, .. }, Progress { looked_at, tags, .. }) = (&*running, &*progress);
            match &error {
                None => info!(pattern, job = id, looked_at, tags, "purge_ended"),
                Some(error) => warn!(pattern, job = id, looked_at, tags, error, "purge_failed"),
            }
            (progress.is_over, progress.error) = (true, error);
        });
        Some(job)
    }

    /// The latest jobs, the newest first.
    pub fn jobs(&self) -> Vec<Arc<Job>> {
        self.jobs.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    async fn search(self: &Arc<Store>, job: &Job) -> Result<(), String> {
        // What is being fetched now carries tags that nobody can find yet; so it is not stored.
        let question = self.redis.as_ref().map(|_| Question::match_tags(&job.pattern));
        let reach = self.purge(&[Scope::Fetches], false, question.as_ref()).await;
        job.lock().tags += self.purge_tags_in_memory(&job.pattern).await;
        job.lock().looked_at += self.memory.as_ref().map_or(0, |memory| memory.len() as u64);
        let Some(redis) = &self.redis else { return Ok(()) };
        let (Some(question), Reach::Everywhere) = (question, reach) else {
            return Err(match reach {
                Reach::EverywhereUnasked => "Redis is full, so the other replicas could not be asked; purge again".to_owned(),
                _ => "Redis could not be told; only the memory of this process was looked through; purge again".to_owned(),
            });
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

/// So many tags are purged in one command.
const TAGS_AT_ONCE: usize = 256;

/// So many jobs are under way at once: each looks at everything.
const RUNNING_MAX: usize = 8;

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

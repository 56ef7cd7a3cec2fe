//! What replicas ask one another: have you heard of all that came before?
//!
//! A question is a key that all replicas follow. News come in the order in which things happened, so who hears of the
//! question has heard of what was done before it, and adds itself to the set of answers. Who has to answer is told by the signs
//! of life: a replica that gives none for longer than their time relies on nothing that it has not read from Redis since.

use super::Store;
use super::redis::{Redis, random_id};
use ::redis::Pipeline;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What is remembered of the others.
pub(super) struct Asked {
    /// The questions that were heard last, so that the end of a question's key is not taken for a question.
    heard: Mutex<(HashSet<String>, VecDeque<String>)>,
    /// Until when replicas that gave a sign of life count as present, whatever becomes of it.
    seen: Mutex<HashMap<String, Instant>>,
    /// Since when replicas on the list have given no sign of life.
    gone: Mutex<HashMap<String, Instant>>,
    /// Rings when it is worth a look who is there.
    has_come: Arc<Notify>,
    /// How often it is looked who is there, and whether they are too many for that.
    looks_every: Duration,
    are_many: AtomicBool,
}

/// A question to all replicas.
#[derive(Debug, Clone)]
pub struct Question {
    id: String,
    /// What is to be done before it is answered.
    task: String,
}

/// How a question to all replicas ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// How many replicas there are, this one included.
    pub replicas: usize,
    /// How many have answered, this one included.
    pub answered: usize,
    /// What the others have found, all together, where they were asked to look for something.
    pub found: u64,
    /// How long that took.
    pub after: Duration,
}

impl Question {
    /// Have you heard of all that came before?
    pub fn heard() -> Question {
        Question { id: format!("{PLAIN}{}", random_id()), task: HEARD.to_owned() }
    }

    /// Delete from your memory what no request can be given any more.
    pub(super) fn sweep() -> Question {
        Question { id: random_id(), task: SWEEP.to_owned() }
    }

    /// Purge the tags of what you have in memory that match a pattern.
    pub(super) fn match_tags(pattern: &str) -> Question {
        Question { id: random_id(), task: format!("{MATCH}{pattern}") }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn task(&self) -> &str {
        &self.task
    }
}

impl Asked {
    /// Nothing yet. Who gives signs of life in this rhythm is looked for in twice that.
    pub(super) fn new(heartbeat: Duration) -> Asked {
        Asked {
            heard: Mutex::default(),
            seen: Mutex::default(),
            gone: Mutex::default(),
            has_come: Arc::default(),
            looks_every: heartbeat * LOOK_BEATS,
            are_many: AtomicBool::new(false),
        }
    }

    /// Asks for a look at who is there.
    pub(super) fn look_now(&self) {
        self.has_come.notify_one();
    }

    /// Takes note of a replica that has come: of the end of its key, too, it is told.
    pub(super) fn note_coming(&self, id: &str) {
        if self.note(id) {
            self.look_now();
        }
    }

    /// How long it is at most until the next look: so many would cost Redis more than they are worth.
    fn looks_in(&self) -> Duration {
        if self.are_many.load(Ordering::Relaxed) { self.looks_every * MANY_BEATS } else { self.looks_every }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds those who count as present to `present`, and gives those who are gone.
    fn sort_out(
        &self,
        signs: impl Iterator<Item = (String, Option<String>)>,
        present: &mut HashSet<String>,
        now: Instant,
    ) -> HashSet<String> {
        let (mut seen, mut gone) = (self.seen(), HashSet::new());
        for (id, sign) in signs {
            match sign.map(|sign| sign.parse().map(Duration::from_millis)) {
                // It says for how long it counts after its last sign, which may come just before the next look, and Redis forget it.
                Some(Ok(counts)) => {
                    seen.insert(id.clone(), now + counts + self.looks_in());
                    present.insert(id);
                }
                None if seen.get(&id).is_some_and(|until| now < *until) => drop(present.insert(id)),
                Some(Err(_)) | None => {
                    seen.remove(&id);
                    gone.insert(id);
                }
            }
        }
        gone
    }

    /// Takes note of a question, and says whether it is new.
    pub(super) fn note(&self, id: &str) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, in_order) = &mut *heard;
        if !known.insert(id.to_owned()) {
            return false;
        }
        in_order.push_back(id.to_owned());
        if let Some(oldest) = in_order.pop_front_if(|_| known.len() > ASKED_MAX) {
            known.remove(&oldest);
        }
        true
    }
}

impl Store {
    /// Waits until all replicas that are present have answered a question, for at most `limit`.
    pub async fn answers(&self, question: &Question, limit: Duration) -> Answers {
        let begun = Instant::now();
        let mut answers = Answers { replicas: 1, answered: 1, found: 0, after: Duration::ZERO };
        let Some(redis) = &self.redis else { return answers };
        let mut pause = PAUSE_MIN;
        // Who comes later relies on nothing from before, and who goes relies on nothing any more.
        let mut concerned: Option<HashSet<String>> = None;
        loop {
            if let Some((present, answered)) = self.present(redis, &question.id).await {
                let concerned = concerned.get_or_insert_with(|| present.clone());
                concerned.retain(|id| present.contains(id));
                answers.replicas = concerned.len().max(1);
                answers.answered = concerned.iter().filter(|id| answered.contains_key(*id)).count().max(1);
                answers.found = answered.values().sum();
                if answers.answered == answers.replicas {
                    break;
                }
            }
            if begun.elapsed() + pause >= limit {
                // Nobody knows how many there are, or one of them does not answer.
                answers.replicas = answers.replicas.max(answers.answered + 1);
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Answers { after: begun.elapsed(), ..answers }
    }

    /// How many replicas are present, this one included; `None` if Redis cannot say.
    pub async fn replicas(&self) -> Option<usize> {
        let (present, _) = self.present(self.redis.as_ref()?, "none").await?;
        Some(present.len().max(1))
    }

    /// Answers a question of another replica, after having done what it asks for.
    pub(super) fn answer(self: &Arc<Store>, question: String) {
        let Some(redis) = self.redis.clone().filter(|_| self.asked.note(&question)) else { return };
        let store = self.clone();
        self.tasks.spawn(async move {
            if redis.hear_all().await.is_none() {
                return;
            }
            let task = match question.starts_with(PLAIN) {
                true => Some(HEARD.to_owned()),
                false => {
                    let (name, mut asked) = (redis.names().question(&question), Pipeline::new());
                    asked.cmd("GET").arg(&name);
                    let task = redis.run::<(Option<Vec<u8>>,)>(asked).await.and_then(|(task,)| task);
                    task.and_then(|task| redis.texts().open_text(&name, task))
                }
            };
            let found = match task.as_deref() {
                Some(HEARD) => 0,
                Some(SWEEP) => store.sweep_memory().await.responses,
                Some(task) => match task.strip_prefix(MATCH) {
                    Some(pattern) => store.purge_tags_in_memory(pattern).await,
                    // A later version asks for something that this one cannot do, so it does not answer.
                    None => return,
                },
                None => return,
            };
            let answers = redis.names().answers(&question);
            let mut pipeline = Pipeline::new();
            pipeline.cmd("HSET").arg(&answers).arg(redis.presence()).arg(found).ignore();
            pipeline.cmd("PEXPIRE").arg(&answers).arg(ANSWERS_KEPT.as_millis() as u64).ignore();
            let one_by_one = pipeline.clone();
            if redis.run::<()>(pipeline.atomic().clone()).await.is_none() {
                // Where a slot is being moved to another node, there are no transactions.
                redis.run::<()>(one_by_one).await;
            }
        });
    }

    /// Who is present, and who has answered; this replica is always among both.
    ///
    /// Present is who gives signs of life. Who was seen lately and gives none counts as present for as long as it may rely on what it
    /// has heard, whatever Redis has forgotten of it; unless it has said farewell.
    async fn present(&self, redis: &Redis, question: &str) -> Option<(HashSet<String>, HashMap<String, u64>)> {
        let (names, own) = (redis.names(), redis.presence());
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SMEMBERS").arg(names.replicas());
        pipeline.cmd("HGETALL").arg(names.answers(question));
        let (mut known, mut answered): (HashSet<String>, HashMap<String, u64>) = redis.run(pipeline).await?;
        answered.insert(own.clone(), 0);
        known.extend(self.asked.seen().keys().cloned());
        let mut present: HashSet<String> = answered.keys().cloned().collect();
        // Also those who have answered: Redis may have forgotten them when the next question is asked.
        known.extend(answered.keys().cloned());
        known.remove(&own);
        // Before they are looked for: for how long each of them counts depends on when the next look is.
        self.asked.are_many.store(known.len() >= WATCHED_MAX, Ordering::Relaxed);
        if !known.is_empty() {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("MGET").arg(known.iter().map(|id| names.replica(id)).collect::<Vec<_>>());
            let (signs,): (Vec<Option<String>>,) = redis.run(pipeline).await?;
            let gone = self.asked.sort_out(known.into_iter().zip(signs), &mut present, Instant::now());
            self.strike(redis, gone).await;
        }
        Some((present, answered))
    }

    /// Strikes those off the list that have been gone for long: one that comes back just now must not be struck after it has come.
    async fn strike(&self, redis: &Redis, gone: HashSet<String>) {
        let now = Instant::now();
        let long_gone: Vec<String> = {
            let mut since = self.asked.gone.lock().unwrap_or_else(PoisonError::into_inner);
            since.retain(|id, _| gone.contains(id));
            gone.into_iter().filter(|id| now.duration_since(*since.entry(id.clone()).or_insert(now)) > GONE_FOR).collect()
        };
        if !long_gone.is_empty() {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("SREM").arg(redis.names().replicas()).arg(long_gone).ignore();
            redis.run::<()>(pipeline).await;
        }
    }

    /// Looks from time to time who is present, and when somebody comes, so that it is known also after Redis has forgotten it.
    pub(super) async fn watch_others(store: Weak<Store>) {
        let Some(has_come) = store.upgrade().map(|store| store.asked.has_come.clone()) else { return };
        let mut pause = Duration::ZERO;
        loop {
            let _ = tokio::time::timeout(pause, has_come.notified()).await;
            let Some(store) = store.upgrade() else { return };
            store.replicas().await;
            pause = store.asked.looks_in();
            drop(store);
            // When Redis comes back, all say so, one after the other.
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Takes this replica off the list of those that are present, when it ends.
    pub async fn leave(&self) {
        if let Some(redis) = &self.redis {
            redis.leave().await;
        }
    }
}

/// The identifiers of questions that need not be read begin so.
const PLAIN: char = 'h';

/// What questions ask for.
const HEARD: &str = "heard";
const SWEEP: &str = "sweep";
const MATCH: &str = "match ";

/// So many questions are remembered.
const ASKED_MAX: usize = 16_384;

/// The pauses between looks at the answers.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);

/// It is looked who is there every so many heartbeats, so much more seldom where more than that many replicas watch one another, and never
/// twice within the pause.
const LOOK_BEATS: u32 = 2;
const MANY_BEATS: u32 = 10;
const WATCHED_MAX: usize = 200;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Who was gone for so long is struck off the list.
const GONE_FOR: Duration = Duration::from_secs(60);

/// How long answers lie in Redis.
const ANSWERS_KEPT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_seen_counts_until_nobody_could_rely_on_anything_any_more() {
        let (asked, now) = (Asked::new(Duration::from_secs(2)), Instant::now());
        let present = |sign: Option<&str>, after: u64| {
            let mut present = HashSet::new();
            let signs = std::iter::once(("other".to_owned(), sign.map(str::to_owned)));
            let gone = asked.sort_out(signs, &mut present, now + Duration::from_secs(after));
            assert_eq!(present.len() + gone.len(), 1);
            !present.is_empty()
        };
        assert!(!present(None, 0), "it was never seen");
        assert!(present(Some("8000"), 0));
        // Its last sign may come at four seconds, just before the next look; and for eight seconds more it counts.
        assert!(present(None, 11));
        assert!(!present(None, 12));
        assert!(!present(None, 11), "what is over is over");
        assert!(present(Some("8000"), 20));
        assert!(!present(Some("farewell"), 21), "it relies on nothing any more");
        asked.are_many.store(true, Ordering::Relaxed);
        assert!(present(Some("8000"), 30));
        assert!(present(None, 77));
        assert!(!present(None, 78));
    }
}

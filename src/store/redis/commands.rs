//! What is asked of Redis: each of these is one round trip, but for purges, which are up to three where Redis is full.

use super::handshake::call_roll;
use super::link::Link;
use super::names::Named;
use super::purges::{Carried, Order};
use super::{Present, Redis, Refused, Unavailable, WRITE_PAUSE, Writing, code, lock};
use crate::rules::watch;
use crate::store::generations::{Generation, Keeping};
use redis::{Pipeline, RedisResult, Value};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl Redis {
    /// Makes generations where there are none, to be kept for so long, and says which there are now.
    pub(in crate::store) async fn create_generations(
        &self,
        names: &[String],
        kept_for: Duration,
        deadline: Instant,
    ) -> Result<Vec<(Option<Generation>, bool)>, Unavailable> {
        let mut pipeline = Pipeline::with_capacity(2 * names.len());
        let proposed: Vec<Generation> = names.iter().map(|_| Generation::new()).collect();
        for (name, proposed) in names.iter().zip(&proposed) {
            pipeline.cmd("SET").arg(name).arg(&proposed.to_octets()[..]).arg("NX").arg("PX").arg(millis(kept_for)).ignore();
            pipeline.cmd("GET").arg(name);
        }
        if self.writes_are_paused() {
            return Err(Unavailable::Failed);
        }
        self.shared.stats.redis.writes.inc();
        let budget = deadline.saturating_duration_since(Instant::now());
        let answered = self.ask(budget, async |link| pipeline.query_async::<Vec<Value>>(link).await).await;
        self.note_written(answered.as_ref().map(|_| ()));
        let answers = answered.map_err(|refused| refused.why)?;
        let made = answers.iter().zip(proposed).map(|(answer, proposed)| {
            let generation = generation(answer);
            (generation, generation == Some(proposed))
        });
        Ok(made.collect())
    }

    /// Reads a value that is about to be replaced, and for how long it would be kept yet; a value over the limit counts as absent.
    pub(in crate::store) async fn present(&self, name: &str) -> Option<(Option<Present>, Duration)> {
        if self.writes_are_paused() {
            return None;
        }
        let limit = self.options().value_bytes_max;
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("GETRANGE").arg(name).arg(0).arg(limit);
        pipeline.cmd("PTTL").arg(name);
        // Under the name may lie what is no string.
        let answers: Vec<RedisResult<Value>> = self.run(pipeline.ignore_errors().clone()).await?;
        let mut answers = answers.into_iter();
        let octets = match answers.next() {
            Some(Ok(Value::BulkString(octets))) if (1..=limit).contains(&octets.len()) => Some(octets),
            _ => None,
        };
        let left = match answers.next() {
            Some(Ok(Value::Int(left))) => u64::try_from(left).ok().map(Duration::from_millis),
            _ => None,
        };
        Some((octets.map(|octets| Present { octets, left }), left.unwrap_or_default()))
    }

    /// Writes a variant and, where the key has no list of variants yet, a first one; each with its time to live. Sees to it that generations
    /// are kept for so long. Says whether the list is the first one, and which generations there are then, if Redis took it all.
    pub(in crate::store) async fn place(
        &self,
        variant: (&str, &[u8], Duration),
        list: (&str, &[u8], Duration),
        keep: &[(String, Keeping)],
        kept_for: Duration,
    ) -> Option<(bool, Vec<Option<Generation>>)> {
        if self.writes_are_paused() {
            return None;
        }
        let mut pipeline = Pipeline::with_capacity(2 * keep.len() + 3);
        self.keep(&mut pipeline, keep, kept_for);
        pipeline.cmd("SET").arg(variant.0).arg(variant.1).arg("PX").arg(millis(variant.2)).ignore();
        pipeline.cmd("SET").arg(list.0).arg(list.1).arg("NX").arg("PX").arg(millis(list.2));
        self.tell(&mut pipeline, &[variant.0.to_owned(), list.0.to_owned()]);
        self.shared.stats.redis.writes.inc();
        let written = self.ask(self.options().write_timeout, async |link| pipeline.query_async::<Vec<Value>>(link).await).await;
        self.note_written(written.as_ref().map(|_| ()));
        let mut answers = written.ok()?;
        let is_first = answers.pop()? == Value::Okay;
        Some((is_first, answers.iter().map(generation).collect()))
    }

    /// Writes values, each with its time to live, deletes others, and sees to it that generations are kept for so long. Says which
    /// generations there are then, if Redis took it all.
    pub(in crate::store) async fn write(
        &self,
        values: Vec<(String, Vec<u8>, Duration)>,
        gone: &[String],
        keep: &[(String, Keeping)],
        kept_for: Duration,
    ) -> Option<Vec<Option<Generation>>> {
        if self.writes_are_paused() {
            return None;
        }
        let mut pipeline = Pipeline::with_capacity(values.len() + 2 * keep.len() + 2);
        let names: Vec<String> = values.iter().map(|(name, ..)| name.clone()).collect();
        self.keep(&mut pipeline, keep, kept_for);
        for (name, value, ttl) in values {
            pipeline.cmd("SET").arg(name).arg(value).arg("PX").arg(millis(ttl)).ignore();
        }
        if !gone.is_empty() {
            pipeline.cmd("DEL").arg(gone).ignore();
        }
        self.tell(&mut pipeline, &names);
        self.shared.stats.redis.writes.inc();
        let written = self.ask(self.options().write_timeout, async |link| pipeline.query_async::<Vec<Value>>(link).await).await;
        self.note_written(written.as_ref().map(|_| ()));
        written.ok().map(|answers| answers.iter().map(generation).collect())
    }

    /// Sees to it that generations are kept for so long, and asks which ones these are: before what depends on them is written, so that none
    /// of them ends between the two.
    fn keep(&self, pipeline: &mut Pipeline, keep: &[(String, Keeping)], kept_for: Duration) {
        let knows_gt = self.shared.knows_gt.load(Ordering::Relaxed);
        for (name, keeping) in keep {
            match (knows_gt, keeping) {
                (true, Keeping::Lengthen) => pipeline.cmd("PEXPIRE").arg(name).arg(millis(kept_for)).arg("GT").ignore(),
                (true, Keeping::Shorten) => pipeline.cmd("PEXPIRE").arg(name).arg(millis(kept_for)).arg("LT").ignore(),
                // An older Redis would take any time for what others keep for longer.
                (false, Keeping::Lengthen) => pipeline.cmd("PEXPIRE").arg(name).arg(millis(kept_for.max(KEPT_BLINDLY))).ignore(),
                (_, Keeping::Right | Keeping::Shorten) => &mut *pipeline,
            };
            // Redis tells nobody of his own changes (NOLOOP), and a change by another just before this one then counts as one's own.
            pipeline.cmd("GET").arg(name);
        }
    }

    /// Whether Redis has refused so many writes that they are left alone for a moment.
    pub(super) fn writes_are_paused(&self) -> bool {
        lock(&self.shared.writes).paused_until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes note of how a write ended.
    fn note_written(&self, written: Result<(), &Refused>) {
        match written {
            Ok(()) => self.note_write(false),
            // Only what Redis itself did counts: it was asked, and refused or said nothing.
            Err(Refused { link: Some(link), .. }) if self.is_present(link) => self.note_write(true),
            Err(_) => {}
        }
    }

    /// Takes note of whether Redis has refused a write.
    pub(super) fn note_write(&self, is_refused: bool) {
        let mut writing = lock(&self.shared.writes);
        if !is_refused {
            *writing = Writing::default();
        } else if writing.breaker.failed(Instant::now()) {
            writing.paused_until = Some(Instant::now() + WRITE_PAUSE);
        }
    }

    /// Carries out purges, and asks all replicas whether they have heard of it, where there is a question.
    pub(in crate::store) async fn carry_out(&self, orders: &[Order], question: Option<(&str, &str)>) -> Carried {
        let Some(link) = self.shared.link.load_full() else { return Carried::Not };
        self.shared.stats.redis.writes.inc();
        // A purge needs no free place: it waits for nobody's reading.
        let limit = self.options().write_timeout;
        match self.ask_over(link, limit, async |link| self.order(link, orders, question).await).await {
            Ok(true) => Carried::Out,
            Ok(false) => Carried::OutUnasked,
            Err(_) => Carried::Not,
        }
    }

    /// Carries out purges over a connection, and says whether the question was asked, where there is one.
    ///
    /// The watches first: who sees that a tag was purged must see that of its watch. And whoever hears of the question must have been able to
    /// hear of all that comes before.
    pub(super) async fn order(&self, link: &mut Link, orders: &[Order], question: Option<(&str, &str)>) -> RedisResult<bool> {
        let watches: Vec<String> = watch::NAMES.iter().map(|name| self.names().generation(*name)).collect();
        let is_watch = |order: &&Order| watches.iter().any(|watch| watch == order.name());
        let (first, then): (Vec<&Order>, Vec<&Order>) = orders.iter().partition(is_watch);
        if !link.is_divided() {
            return self.order_at_once(link, &[first, then].concat(), question).await;
        }
        self.order_at_once(link, &first, None).await?;
        self.order_at_once(link, &then, None).await?;
        self.order_at_once(link, &[], question).await
    }

    async fn order_at_once(&self, link: &mut Link, orders: &[&Order], question: Option<(&str, &str)>) -> RedisResult<bool> {
        let (soft, mut replaced): (Vec<&Order>, Vec<&Order>) = orders.iter().partition(|order| order.is_soft());
        if !soft.is_empty() {
            match softening(&soft).query_async::<()>(link).await {
                Ok(()) => {}
                // Redis is full, say. What cannot be made stale is purged.
                Err(error) if code(&error).is_some() => replaced.extend(soft),
                Err(error) => return Err(error),
            }
        }
        let mut pipeline = Pipeline::with_capacity(replaced.len() + 2);
        for order in &replaced {
            let new = Generation::new().to_octets();
            pipeline.cmd("SET").arg(order.name()).arg(&new[..]).arg("PX").arg(millis(REPLACED_KEPT));
        }
        let mut names: Vec<String> = orders.iter().map(|order| order.name().to_owned()).collect();
        if let Some((id, task)) = question {
            let name = self.names().question(id);
            // It may name tags.
            let task = self.texts().close_text(&name, task);
            pipeline.cmd("SET").arg(&name).arg(task).arg("PX").arg(millis(QUESTION_KEPT));
            names.push(name);
        }
        self.tell(&mut pipeline, &names);
        if pipeline.is_empty() {
            // After a soft purge, there may be nothing more to say; and a pipeline without a command is an error.
            return Ok(true);
        }
        let answers: Vec<RedisResult<Value>> = pipeline.ignore_errors().query_async(link).await?;
        let is_refused = |answer: &RedisResult<Value>| answer.is_err();
        let refused: Vec<&str> =
            replaced.iter().zip(&answers).filter(|(_, answer)| is_refused(answer)).map(|(order, _)| order.name()).collect();
        if refused.is_empty() {
            return Ok(!answers.iter().any(is_refused));
        }
        // A Redis that is full lets go all the same; and a missing generation is as good as a replaced one. The question came too early.
        let mut pipeline = Pipeline::new();
        pipeline.cmd("DEL").arg(refused).ignore();
        self.tell(&mut pipeline, &names);
        pipeline.query_async::<()>(link).await.map(|()| question.is_none())
    }

    /// Replaces a generation, and says by which and which there was before; `None` if it is not certain that it was replaced.
    pub(in crate::store) async fn exchange(&self, name: &str) -> Option<(Option<Generation>, Generation)> {
        let new = Generation::new();
        let mut pipeline = Pipeline::with_capacity(3);
        // As one: nobody else's replacement comes between the two.
        pipeline.atomic().cmd("GET").arg(name);
        pipeline.cmd("SET").arg(name).arg(&new.to_octets()[..]).arg("PX").arg(millis(REPLACED_KEPT)).ignore();
        self.tell(&mut pipeline, &[name.to_owned()]);
        self.shared.stats.redis.writes.inc();
        let limit = self.options().write_timeout;
        let answered = self.ask(limit, async |link| pipeline.query_async::<Vec<Value>>(link).await).await;
        Some((generation(answered.ok()?.first()?), new))
    }

    /// Deletes one key, and tells of it where nobody else does.
    pub(in crate::store) async fn delete(&self, name: &str) {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("DEL").arg(name).ignore();
        self.tell(&mut pipeline, &[name.to_owned()]);
        self.run::<()>(pipeline).await;
    }

    /// About how many responses there are. All keys are counted, and of some of them how many are responses; where there are no more keys
    /// than that, the number is exact.
    pub(in crate::store) async fn count_responses(&self) -> Option<u64> {
        self.shared.stats.redis.writes.inc();
        let counting = async |link: &mut Link| {
            let mut number: u64 = 0;
            for mut server in link.connections() {
                let mut pipeline = Pipeline::new();
                pipeline.cmd("DBSIZE").cmd("SCAN").arg(0).arg("COUNT").arg(SAMPLE_COUNT);
                let (all, (_, sample)): (u64, (u64, Vec<String>)) = pipeline.query_async(&mut server).await?;
                let is_response = |name: &&String| matches!(self.names().read(name.as_bytes()), Some(Named::Response(_)));
                let (looked_at, responses) = (sample.len() as u64, sample.iter().filter(is_response).count() as u64);
                if looked_at > 0 {
                    number = number.saturating_add(all.max(looked_at).saturating_mul(responses).div_ceil(looked_at));
                }
            }
            RedisResult::Ok(number)
        };
        self.ask(self.options().write_timeout, counting).await.ok()
    }

    /// Names some of the responses that there are, and where to go on; 0 is the end. For work in the background.
    pub(in crate::store) async fn scan(&self, cursor: u64) -> Option<(u64, Vec<String>)> {
        let mut pipeline = Pipeline::new();
        let pattern = self.names().responses_pattern();
        pipeline.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
        self.run::<((u64, Vec<String>),)>(pipeline).await.map(|(found,)| found)
    }

    /// Reads how values begin.
    pub(in crate::store) async fn heads(&self, names: &[String], bytes: usize) -> Option<Vec<Vec<u8>>> {
        if names.is_empty() {
            return Some(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(names.len());
        for name in names {
            pipeline.cmd("GETRANGE").arg(name).arg(0).arg(bytes - 1);
        }
        let heads: Vec<RedisResult<Vec<u8>>> = self.run(pipeline.ignore_errors().clone()).await?;
        Some(heads.into_iter().map(|head| head.unwrap_or_default()).collect())
    }

    /// Deletes keys, and says how many octets lay under them.
    pub(in crate::store) async fn delete_all(&self, names: &[String]) -> Option<u64> {
        let mut pipeline = Pipeline::with_capacity(names.len() + 2);
        for name in names {
            pipeline.cmd("STRLEN").arg(name);
        }
        pipeline.cmd("DEL").arg(names).ignore();
        self.tell(&mut pipeline, names);
        self.run::<Vec<u64>>(pipeline).await.map(|octets| octets.into_iter().fold(0, u64::saturating_add))
    }

    /// Runs commands outside of any request's budget, such as those of the replicas among one another.
    pub(in crate::store) async fn run<T: redis::FromRedisValue>(&self, pipeline: Pipeline) -> Option<T> {
        self.shared.stats.redis.writes.inc();
        self.ask(self.options().write_timeout, async |link| pipeline.query_async::<T>(link).await).await.ok()
    }

    /// Waits until all is heard that happened before. What one server tells comes in order; what several tell does not.
    pub(in crate::store) async fn hear_all(&self) -> Option<()> {
        if !self.shared.link.load_full()?.is_divided() {
            return Some(());
        }
        self.ask(self.options().write_timeout, async |link| call_roll(self, link).await).await.ok()
    }

    /// Where replicas cannot follow what happens, they are told.
    pub(super) fn tell(&self, pipeline: &mut Pipeline, names: &[String]) {
        if self.shared.must_tell.load(Ordering::Relaxed) && !names.is_empty() {
            let message = std::iter::once(self.shared.id.as_str()).chain(names.iter().map(String::as_str));
            let message = message.collect::<Vec<_>>().join(" ");
            pipeline.cmd("PUBLISH").arg(self.names().channel()).arg(message).ignore();
        }
    }
}

/// The commands that replace the soft halves of generations.
fn softening(orders: &[&Order]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(2 * orders.len());
    for order in orders {
        let new = Generation::new().to_octets();
        // Where there is none, nothing is usable that depends on it; but SETRANGE would make a value without an expiry.
        pipeline.cmd("SET").arg(order.name()).arg(&new[..]).arg("NX").arg("PX").arg(millis(REPLACED_KEPT)).ignore();
        pipeline.cmd("SETRANGE").arg(order.name()).arg(16).arg(&new[16..]).ignore();
    }
    pipeline.atomic();
    pipeline
}

pub(super) fn generation(value: &Value) -> Option<Generation> {
    match value {
        Value::BulkString(octets) => Generation::from_octets(octets),
        _ => None,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    (duration.as_millis() as u64).max(1)
}

/// How long generations are kept where it cannot be said that no shorter time is meant.
const KEPT_BLINDLY: Duration = Duration::from_secs(24 * 3600);

/// Of so many keys it is looked at how many are responses.
const SAMPLE_COUNT: usize = 1000;

/// About so many keys are looked at in one step.
const SCAN_COUNT: usize = 500;

/// How long a question is there; who has not heard of it by then is not asked any more.
const QUESTION_KEPT: Duration = Duration::from_secs(10);

/// A generation that a purge has made ends soon, unless something is stored that depends on it.
const REPLACED_KEPT: Duration = Duration::from_secs(120);

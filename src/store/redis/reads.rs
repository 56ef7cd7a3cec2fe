//! What a request reads in Redis, in one round trip; how that went feeds the breaker.

use super::commands::{generation, millis};
use super::link::Link;
use super::{CONCERNS_ALL, Redis, Refused, TOO_SLOW, Unavailable, describe, lock};
use crate::store::generations::Generation;
use redis::{Pipeline, RedisResult, Value};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What one reading brings.
pub(in crate::store) struct Answer {
    /// The values, in the order of their names.
    pub(in crate::store) values: Vec<Option<Present>>,
    /// The generations, in the order of their names.
    pub(in crate::store) generations: Vec<Option<Generation>>,
    /// Which of them were made now.
    pub(in crate::store) are_new: Vec<bool>,
}

/// Some of the generations that are read are made where there are none: so many, the first ones, to be kept for so long.
#[derive(Clone, Copy)]
pub(in crate::store) struct Making {
    pub(in crate::store) first: usize,
    pub(in crate::store) kept_for: Duration,
}

/// A reading that is done again and again, put together once.
pub(in crate::store) struct Rereading {
    pipeline: Pipeline,
    /// It brings at most so many octets of each value, and one more where there are more.
    limit: usize,
}

/// A value that is there.
pub(in crate::store) struct Present {
    pub(in crate::store) octets: Vec<u8>,
    /// For how long it is kept yet; `None` if it is for ever, which is not how we keep anything.
    pub(in crate::store) left: Option<Duration>,
}

impl Redis {
    /// Reads values and generations, all in one round trip and before `deadline`. A value over the limit counts as absent: of it,
    /// only the limit is transferred.
    pub(in crate::store) async fn read(
        &self,
        values: &[String],
        generations: &[String],
        deadline: Instant,
    ) -> Result<Answer, Unavailable> {
        self.read_with(values, generations, None, deadline).await
    }

    /// The same, and makes generations that are missing. A Redis that takes no writes is read all the same.
    pub(in crate::store) async fn read_and_make(
        &self,
        values: &[String],
        generations: &[String],
        making: Making,
        deadline: Instant,
    ) -> Result<Answer, Unavailable> {
        let making = (making.first > 0 && !self.writes_are_paused()).then_some(making);
        self.read_with(values, generations, making, deadline).await
    }

    /// What it takes to read values again and again, without asking for how long they are kept yet.
    pub(in crate::store) fn rereading(&self, values: &[String]) -> Rereading {
        let (limit, mut pipeline) = (self.options().value_bytes_max, Pipeline::with_capacity(values.len()));
        for name in values {
            pipeline.cmd("GETRANGE").arg(name).arg(0).arg(limit);
        }
        Rereading { pipeline, limit }
    }

    /// Reads them: those that are there, within the limit, in the order of their names.
    pub(in crate::store) async fn read_again(
        &self,
        rereading: &Rereading,
        deadline: Instant,
    ) -> Result<Vec<Option<Vec<u8>>>, Unavailable> {
        self.shared.stats.redis.reads.inc();
        let answers = self.asked(&rereading.pipeline, 0..0, deadline).await?;
        Ok(answers.into_iter().map(|value| within(value, rereading.limit)).collect())
    }

    async fn read_with(
        &self,
        values: &[String],
        generations: &[String],
        making: Option<Making>,
        deadline: Instant,
    ) -> Result<Answer, Unavailable> {
        let limit = self.options().value_bytes_max;
        let mut pipeline = Pipeline::with_capacity(2 * values.len() + 1 + making.map_or(0, |making| making.first));
        for name in values {
            // GETRANGE with an end, so that whoever planted a huge value does not fill this process' memory.
            pipeline.cmd("GETRANGE").arg(name).arg(0).arg(limit);
            pipeline.cmd("PTTL").arg(name);
        }
        let reading = pipeline.len();
        let mut proposed = Vec::new();
        if let Some(making) = making {
            for name in &generations[..making.first] {
                let new = Generation::new();
                proposed.push(new);
                pipeline.cmd("SET").arg(name).arg(&new.to_octets()[..]).arg("NX").arg("PX").arg(millis(making.kept_for));
            }
        }
        if !generations.is_empty() {
            pipeline.cmd("MGET").arg(generations);
        }
        if !proposed.is_empty() {
            pipeline.ignore_errors();
        }
        self.shared.stats.redis.reads.inc();
        let mut answers = self.asked(&pipeline, reading..reading + proposed.len(), deadline).await?.into_iter();
        let values = values.iter().map(|_| {
            let (value, left) = (answers.next(), answers.next());
            let left = match left {
                Some(Value::Int(left)) => u64::try_from(left).ok().map(Duration::from_millis),
                _ => None,
            };
            within(value?, limit).map(|octets| Present { octets, left })
        });
        let values = values.collect();
        let generations: Vec<Option<Generation>> = match answers.nth(proposed.len()) {
            Some(Value::Array(octets)) => octets.iter().map(generation).collect(),
            _ => Vec::new(),
        };
        let is_new = |(index, there): (usize, &Option<Generation>)| there.is_some() && proposed.get(index) == there.as_ref();
        let are_new = generations.iter().enumerate().map(is_new).collect();
        Ok(Answer { values, generations, are_new })
    }

    /// Sends commands of a request, and feeds the breaker. Some of them are writes, which may be refused where the pipeline ignores errors.
    async fn asked(&self, pipeline: &Pipeline, writes: Range<usize>, deadline: Instant) -> Result<Vec<Value>, Unavailable> {
        let budget = deadline.saturating_duration_since(Instant::now());
        let mut refused = None;
        let asking = async |link: &mut Link| {
            if writes.is_empty() {
                return pipeline.query_async::<Vec<Value>>(link).await;
            }
            let answers: Vec<RedisResult<Value>> = pipeline.query_async(link).await?;
            refused = answers[writes.clone()].iter().find_map(|answer| answer.as_ref().err().map(describe));
            let answers = answers.into_iter().enumerate();
            answers.map(|(index, answer)| if writes.contains(&index) { Ok(Value::Nil) } else { answer }).collect()
        };
        match self.ask(budget, asking).await {
            Ok(answers) => {
                lock(&self.shared.reads).succeeded();
                if !writes.is_empty() {
                    self.note_write(refused.is_some());
                }
                if refused.is_some() {
                    self.shared.stats.redis.errors_refused.inc();
                    lock(&self.shared.state).last_error = refused;
                }
                Ok(answers)
            }
            Err(Refused { link, why, refusal }) => {
                match (link.filter(|link| self.is_present(link)), refusal) {
                    // It did not answer in time.
                    (Some(link), None) if lock(&self.shared.reads).failed(Instant::now()) => self.open(&link, TOO_SLOW),
                    // Redis may live and say no for one key alone (WRONGTYPE). What concerns all keys need not be said twice.
                    (Some(link), Some(code)) if CONCERNS_ALL.contains(&code.as_str()) => {
                        let refused = lock(&self.shared.state).last_error.clone();
                        self.open(&link, refused.as_deref().unwrap_or(&code));
                    }
                    _ => {}
                }
                Err(why)
            }
        }
    }
}

/// A value that is there, and not over the limit.
fn within(value: Value, limit: usize) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(octets) if (1..=limit).contains(&octets.len()) => Some(octets),
        _ => None,
    }
}

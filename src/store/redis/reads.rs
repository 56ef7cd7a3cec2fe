//! What a request reads in Redis, in one round trip; how that went feeds the breaker.

use super::commands::generation;
use super::{CONCERNS_ALL, Redis, Refused, TOO_SLOW, Unavailable, lock};
use crate::store::generations::Generation;
use redis::{Pipeline, Value};
use std::time::{Duration, Instant};

/// What one reading brings.
pub(in crate::store) struct Answer {
    /// The values, in the order of their names.
    pub(in crate::store) values: Vec<Option<Present>>,
    /// The generations, in the order of their names.
    pub(in crate::store) generations: Vec<Option<Generation>>,
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
        self.read_with(values, |_| true, generations, deadline).await
    }

    /// Reads values, and for how long one of them is kept yet; of the others that is not asked.
    pub(in crate::store) async fn read_values(
        &self,
        values: &[String],
        kept: usize,
        deadline: Instant,
    ) -> Result<Vec<Option<Present>>, Unavailable> {
        self.read_with(values, |index| index == kept, &[], deadline).await.map(|answer| answer.values)
    }

    async fn read_with(
        &self,
        values: &[String],
        asks_left: impl Fn(usize) -> bool,
        generations: &[String],
        deadline: Instant,
    ) -> Result<Answer, Unavailable> {
        let limit = self.options().value_bytes_max;
        let mut pipeline = Pipeline::with_capacity(2 * values.len() + 1);
        for (index, name) in values.iter().enumerate() {
            // GETRANGE with an end, so that whoever planted a huge value does not fill this process' memory.
            pipeline.cmd("GETRANGE").arg(name).arg(0).arg(limit);
            if asks_left(index) {
                pipeline.cmd("PTTL").arg(name);
            }
        }
        if !generations.is_empty() {
            pipeline.cmd("MGET").arg(generations);
        }
        self.shared.stats.redis.reads.inc();
        let mut answers = self.asked(pipeline, deadline).await?.into_iter();
        let values = (0..values.len()).map(|index| {
            let value = answers.next();
            let left = if asks_left(index) { answers.next() } else { None };
            let octets = match value {
                Some(Value::BulkString(octets)) if (1..=limit).contains(&octets.len()) => octets,
                _ => return None,
            };
            let left = match left {
                Some(Value::Int(left)) => u64::try_from(left).ok().map(Duration::from_millis),
                _ => None,
            };
            Some(Present { octets, left })
        });
        let values = values.collect();
        let generations = match answers.next() {
            Some(Value::Array(octets)) => octets.iter().map(generation).collect(),
            _ => Vec::new(),
        };
        Ok(Answer { values, generations })
    }

    /// Sends commands of a request, and feeds the breaker.
    async fn asked(&self, pipeline: Pipeline, deadline: Instant) -> Result<Vec<Value>, Unavailable> {
        let budget = deadline.saturating_duration_since(Instant::now());
        match self.ask(budget, async |link| pipeline.query_async::<Vec<Value>>(link).await).await {
            Ok(answers) => {
                lock(&self.shared.reads).succeeded();
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

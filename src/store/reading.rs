//! What Redis has for a request: read, decoded, and judged by its generations.
//!
//! Whoever reads a response compares its age with what Redis says: a value is kept for as long as its response is fresh, and for as
//! long as it may be of use when it is stale. If it is not kept for that long any more, its response is older than the time of day
//! says: that was put back since, or was never that of the replica that stored it.

use super::generations::{Cell, Noted};
use super::held::{Held, Standing};
use super::record::{self, Record, RecordError, Recorded};
use super::redis::{Making, Present, Redis, Unavailable};
use super::shared::GENERATION_KEPT_MIN;
use super::{Store, StoredResponse};
use crate::clock::DIFFERENCE_MAX;
use crate::rules::{CacheKey, Scopes};
use crate::semantics::StoredHead;
use crate::semantics::candidates::Candidate;
use crate::semantics::vary::Selection;
use http::{HeaderMap, HeaderName};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Where is read, and since when what was read of generations counts.
pub(super) struct Reading<'a> {
    pub(super) redis: &'a Redis,
    pub(super) since: u64,
    /// Somebody only looks: nothing is made, and nothing noted of the key.
    pub(super) is_look: bool,
}

impl<'a> Reading<'a> {
    /// Reading for a request.
    pub(super) fn new(redis: &'a Redis, since: u64) -> Reading<'a> {
        Reading { redis, since, is_look: false }
    }
}

/// How often Redis had something for a request lately: the latest requests count most.
#[derive(Default)]
pub(super) struct Finds(AtomicU32);

/// What Redis has for a request.
pub(super) enum Read {
    Response(Arc<StoredResponse>, Standing),
    OtherVariant(Vec<Candidate>, Ours),
    Nothing(Ours),
}

/// How what memory has stands by what is in Redis instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ours {
    /// Redis has let go of it.
    AsBefore,
    /// There is a newer one, which a purge has come for, or responses that vary by other fields: it was replaced.
    Replaced,
}

impl Finds {
    /// Two at once may count as one, which an estimate can bear.
    fn note(&self, found: bool) {
        let before = self.0.load(Ordering::Relaxed);
        let after = if found { before + (ALWAYS - before) / LATEST } else { before - before / LATEST };
        self.0.store(after, Ordering::Relaxed);
    }

    /// Something is found less often than not.
    fn are_rare(&self) -> bool {
        self.0.load(Ordering::Relaxed) < ALWAYS / 2
    }
}

impl Store {
    /// Reads what Redis has for a request, beside what is `remembered` here.
    pub(super) async fn read(
        &self,
        reading: &Reading<'_>,
        key: &CacheKey,
        request: &HeaderMap,
        scopes: &Scopes,
        remembered: Option<&StoredResponse>,
        deadline: Instant,
    ) -> Result<Read, Unavailable> {
        let redis = reading.redis;
        let known = self.varies(key);
        let names = self.names(redis, key, known.as_deref(), request);
        let tagged = self.tagged.get(&key.hash());
        let further = tagged.iter().flat_map(|tagged| tagged.iter());
        let mut cells: Vec<Arc<Cell>> = further.map(|name| self.generations.cell(*name)).collect();
        for cell in remembered.iter().flat_map(|stored| stored.held.cells()) {
            if !cells.iter().any(|known| Arc::ptr_eq(known, &cell)) {
                cells.push(cell);
            }
        }
        // Where there is no response, one will be fetched, and that needs the generations of its scopes: made here, they cost that fetch no
        // round trip of its own, and where there is a response, a command more.
        let own = self.generations.cells(&scopes.names);
        cells.retain(|cell| !own.iter().any(|own| Arc::ptr_eq(own, cell)));
        let mut unknown = self.generations.to_read(own, reading.since);
        let made = if self.finds.are_rare() && !reading.is_look { unknown.len() } else { 0 };
        unknown.extend(self.generations.to_read(cells, reading.since));
        let mut values = names.iter().zip(self.ask_and_make(reading, &names, unknown, made, deadline).await?);
        let is_replaced_by =
            |recorded: &Recorded| remembered.is_some_and(|ours| ours.head.times().received < recorded.head.times().received);
        let first = values.next().and_then(|(name, value)| self.decode(redis, key, name, value?));
        if !reading.is_look {
            self.finds.note(first.is_some());
        }
        let (varies, listed) = match first {
            None => return Ok(Read::Nothing(Ours::AsBefore)),
            // A variant lies under a name of its own; one under the key's own name was put there by somebody else.
            Some(Record::Response(recorded)) if !recorded.head.selection.is_empty() => {
                return Ok(Read::Nothing(Ours::AsBefore));
            }
            Some(Record::Response(recorded)) => {
                let ours = if is_replaced_by(&recorded) { Ours::Replaced } else { Ours::AsBefore };
                return Ok(match self.judge(reading, *recorded, scopes, deadline).await? {
                    Some((stored, standing)) => Read::Response(stored, standing),
                    None => Read::Nothing(ours),
                });
            }
            Some(Record::Varies { names, variants, .. }) => (names, variants),
        };
        let (mut asked, mut values): (Vec<String>, Vec<_>) = values.map(|(name, value)| (name.clone(), value)).unzip();
        if known.is_none_or(|known| *known != *varies) {
            if !reading.is_look {
                self.varies.insert(key.hash(), varies.clone().into());
            }
            asked = self.names(redis, key, Some(&varies), request).split_off(1);
            values = self.ask(reading, &asked, Vec::new(), deadline).await?;
        }
        let present = asked.iter().zip(values).filter_map(|(name, value)| Some((name, value?)));
        let matching = present.filter_map(|(name, value)| match self.decode(redis, key, name, value) {
            Some(Record::Response(recorded)) if recorded.head.selection.matches(request) => Some(*recorded),
            _ => None,
        });
        let mut matching: Vec<Recorded> = matching.collect();
        // §4.1: the most recent of them. One that ended long ago, and is kept to be validated, must not stand before it.
        matching.sort_by_key(|recorded| Reverse(recorded.head.times().received));
        let varies_otherwise = remembered.is_some_and(|ours| !ours.head.selection.names().eq(varies.iter()));
        let is_replaced = varies_otherwise || matching.iter().any(is_replaced_by);
        for recorded in matching {
            if let Some((stored, standing)) = self.judge(reading, recorded, scopes, deadline).await? {
                return Ok(Read::Response(stored, standing));
            }
        }
        // What the request selects itself was read, and is gone or does not hold.
        let own: Vec<u128> = Selection::candidates(&varies, request).iter().map(|own| key.variant(own)).collect();
        let others = listed.into_iter().filter(|listed| !own.contains(&listed.variant));
        let ours = if is_replaced { Ours::Replaced } else { Ours::AsBefore };
        Ok(Read::OtherVariant(others.filter_map(|listed| listed.candidate).collect(), ours))
    }

    /// The names under which a request's response may lie: that of its key, and those of the variants that it may select.
    pub(super) fn names(&self, redis: &Redis, key: &CacheKey, varies: Option<&[HeaderName]>, request: &HeaderMap) -> Vec<String> {
        let candidates = varies.map_or(Vec::new(), |varies| Selection::candidates(varies, request));
        let variants = candidates.iter().map(|selection| redis.names().response(key, Some(selection)));
        std::iter::once(redis.names().response(key, None)).chain(variants).collect()
    }

    /// Judges by its generations whether a response that was read may be used; `None` if not.
    pub(super) async fn judge(
        &self,
        reading: &Reading<'_>,
        recorded: Recorded,
        scopes: &Scopes,
        deadline: Instant,
    ) -> Result<Option<(Arc<StoredResponse>, Standing)>, Unavailable> {
        let judged = self.stand(reading, recorded, scopes, deadline).await?;
        Ok(judged.filter(|(_, standing)| matches!(standing, Standing::Holds | Standing::Softened)))
    }

    /// Says how a response that was read stands by its generations; `None` if it was stored by other rules.
    pub(super) async fn stand(
        &self,
        reading: &Reading<'_>,
        recorded: Recorded,
        scopes: &Scopes,
        deadline: Instant,
    ) -> Result<Option<(Arc<StoredResponse>, Standing)>, Unavailable> {
        let Recorded { key, head, body, tags, generations, .. } = recorded;
        // It was stored under other rules, or by somebody who does not know them: a purge might not find it.
        if !scopes.names.iter().all(|name| generations.iter().any(|(named, _)| named == name)) {
            return Ok(None);
        }
        if generations.len() > scopes.names.len() && !reading.is_look {
            let own = generations.iter().map(|(name, _)| *name).filter(|name| !scopes.names.contains(name));
            self.tagged.insert(key.hash(), own.collect());
        }
        let mut held = Held::of_record(&self.generations, &generations);
        // Those that only the response names, and those of which there was news meanwhile.
        for _ in 0..ROUNDS_MAX {
            let unknown = self.generations.to_read(held.cells(), reading.since);
            // Another request may have read them meanwhile.
            held = Held::of_record(&self.generations, &generations);
            if unknown.is_empty() {
                break;
            }
            self.ask(reading, &[], unknown, deadline).await?;
            held = Held::of_record(&self.generations, &generations);
        }
        let standing = self.generations.standing(&held, reading.since);
        let stored = StoredResponse { key, head, body, tags: tags.into(), held };
        Ok(Some((Arc::new(self.alone(stored)), standing)))
    }

    /// Reads values, and takes in generations by the way.
    pub(super) async fn ask(
        &self,
        reading: &Reading<'_>,
        names: &[String],
        unknown: Vec<Noted>,
        deadline: Instant,
    ) -> Result<Vec<Option<Present>>, Unavailable> {
        self.ask_and_make(reading, names, unknown, 0, deadline).await
    }

    /// The same, and makes the first so many of the generations where they are missing.
    async fn ask_and_make(
        &self,
        reading: &Reading<'_>,
        names: &[String],
        unknown: Vec<Noted>,
        first: usize,
        deadline: Instant,
    ) -> Result<Vec<Option<Present>>, Unavailable> {
        let redis = reading.redis;
        let generations: Vec<String> = unknown.iter().map(|noted| redis.names().generation(noted.cell.name())).collect();
        let (making, kept_until) = (Making { first, kept_for: GENERATION_KEPT_MIN }, Instant::now() + GENERATION_KEPT_MIN);
        let answer = redis.read_and_make(names, &generations, making, deadline).await?;
        for ((noted, generation), is_new) in unknown.iter().zip(answer.generations).zip(answer.are_new) {
            self.generations.learn(noted, generation);
            if is_new {
                noted.cell.note_made(kept_until);
            }
        }
        Ok(answer.values)
    }

    /// Opens and decodes a value, if it is ours, whole, and of this very key.
    pub(super) fn decode(&self, redis: &Redis, key: &CacheKey, name: &str, value: Present) -> Option<Record> {
        let now = self.clock.now();
        let opened = redis.seal().open(name, value.octets);
        let record =
            opened.and_then(|opened| record::decode(opened, now.checked_sub(DIFFERENCE_MAX).unwrap_or(now), redis.mask()));
        let is_of_key = |record: &Record| match record {
            Record::Response(recorded) => recorded.key == *key,
            Record::Varies { key: theirs, .. } => theirs == key,
        };
        match record {
            Ok(record) if is_of_key(&record) => Some(self.aged(record, value.left)),
            refused => {
                let error = refused.err().unwrap_or(RecordError::OtherKey);
                self.stats.redis.errors_value.inc();
                self.stats.redis.values_rejected.with_label_values(&[error.reason()]).inc();
                tracing::debug!(%key, %error, "redis_value_refused");
                None
            }
        }
    }

    /// Makes a response that was read as old as it is by Redis' own clock, if that is older.
    fn aged(&self, mut record: Record, left: Option<Duration>) -> Record {
        if let Record::Response(recorded) = &mut record {
            let hidden = hidden_age(&recorded.head, recorded.fresh_beyond_ms, left, self.clock.now());
            if hidden > DIFFERENCE_MAX {
                recorded.head.add_age(hidden);
            }
        }
        record
    }
}

/// By how much a response is older than the time of day says, where Redis keeps it for no longer than what is `left`.
pub(super) fn hidden_age(head: &StoredHead, fresh_beyond_ms: i64, left: Option<Duration>, now: SystemTime) -> Duration {
    let Some(left) = left else { return Duration::ZERO };
    let further = Duration::from_millis(fresh_beyond_ms.unsigned_abs());
    let fresh = if fresh_beyond_ms < 0 { left.saturating_sub(further) } else { left.saturating_add(further) };
    head.remaining(now).saturating_sub(fresh)
}

/// What [`Finds`] counts in, and how many of the latest requests it is about.
const ALWAYS: u32 = 1 << 16;
const LATEST: u32 = 32;

/// News that come while generations are read have them read again, so often at most.
pub(super) const ROUNDS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_lately_tells_whether_finds_are_rare() {
        let finds = Finds::default();
        assert!(finds.are_rare(), "nothing was found yet");
        let after = |found: bool, times: usize| {
            (0..times).for_each(|_| finds.note(found));
            finds.are_rare()
        };
        assert!(after(true, 10));
        assert!(!after(true, 30));
        // One in four, then three in four.
        assert!((0..100).any(|_| after(false, 3) & after(true, 1)));
        assert!((0..100).any(|_| !after(true, 3) & !after(false, 1)));
        assert!(!after(true, 10_000));
        assert!(after(false, 100));
    }
}

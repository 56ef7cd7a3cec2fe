//! A response that Redis had for a request, read again.
//!
//! What is asked for again and again, and lies in Redis alone, is as a rule the same value each time. What its first piece says was read from
//! it then: so it is compared with that one, and not decoded anew. For how long Redis keeps it is asked once a second. Whether the value is
//! whole, and whether a purge has come for it, is found out each time, as ever.

use super::held::Standing;
use super::reading::{Reading, hidden_age};
use super::record::{self, Record};
use super::redis::{Redis, Rereading};
use super::seal::Opened;
use super::shared::Budget;
use super::{Store, StoredResponse};
use crate::clock::DIFFERENCE_MAX;
use crate::rules::{CacheKey, Scopes};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Where a request's response was found in Redis, and what it was.
pub struct Trail {
    key: CacheKey,
    scopes: Scopes,
    latest: ArcSwapOption<Latest>,
}

/// What was read last, and what came of it.
struct Latest {
    /// By which fields the responses of the key vary, so that they were looked for under these names.
    varies: Option<Arc<[HeaderName]>>,
    names: Vec<String>,
    rereading: Rereading,
    /// The first pieces of their values.
    pieces: Vec<Option<Bytes>>,
    /// Which of them it was, without its body.
    chosen: usize,
    stored: Arc<StoredResponse>,
    body_bytes: usize,
    fresh_beyond_ms: i64,
    kept: Kept,
}

/// For how long Redis keeps a value, as it was told last; in milliseconds of the time that passes.
struct Kept {
    asked: AtomicU64,
    until: AtomicU64,
}

impl Kept {
    /// It was `left` when somebody asked, who `asked` then.
    fn new(left: Option<Duration>, asked: Duration) -> Kept {
        let until = left.map_or(FOR_EVER, |left| asked.saturating_add(left).as_millis() as u64);
        Kept { asked: AtomicU64::new(asked.as_millis() as u64), until: AtomicU64::new(until) }
    }

    /// Takes over what was said later.
    fn take(&self, later: &Kept) {
        self.until.store(later.until.load(Ordering::Relaxed), Ordering::Relaxed);
        self.asked.store(later.asked.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Whether that was just now.
    fn is_known(&self, passed: Duration) -> bool {
        (passed.as_millis() as u64).saturating_sub(self.asked.load(Ordering::Acquire)) < ASKED_EVERY.as_millis() as u64
    }

    fn left(&self, passed: Duration) -> Option<Duration> {
        let until = Some(self.until.load(Ordering::Relaxed)).filter(|until| *until != FOR_EVER)?;
        Some(Duration::from_millis(until).saturating_sub(passed))
    }
}

impl Store {
    /// Whether nothing is kept in memory.
    pub fn is_in_redis_alone(&self) -> bool {
        self.redis.is_some() && self.memory.is_none()
    }

    /// What it takes to read again what a request has found in Redis; `None` where memory keeps it.
    pub fn trail(&self, key: &CacheKey, scopes: &Scopes) -> Option<Trail> {
        self.is_in_redis_alone().then(|| Trail { key: key.clone(), scopes: scopes.clone(), latest: ArcSwapOption::empty() })
    }

    /// Whether it is worth while to read again: not while Redis is away, or nothing is heard of changes in it.
    pub fn may_read_again(&self) -> bool {
        self.heard_of().is_some()
    }

    /// Reads the response again, if that is one round trip, and gives it without its body, and its body. `None` says that it has to be looked
    /// for, by who can say what there is instead.
    pub async fn read_again(
        &self,
        trail: &Trail,
        request: &HeaderMap,
        budget: &mut Budget,
    ) -> Option<(Arc<StoredResponse>, Bytes)> {
        let redis = self.heard_of()?;
        let reading = Reading::new(redis, self.trusted_since(redis));
        budget.spend(async |deadline| self.read_on_trail(&reading, trail, request, deadline).await).await
    }

    async fn read_on_trail(
        &self,
        reading: &Reading<'_>,
        trail: &Trail,
        request: &HeaderMap,
        deadline: Instant,
    ) -> Option<(Arc<StoredResponse>, Bytes)> {
        let (redis, now, varies) = (reading.redis, self.clock.now(), self.varies(&trail.key));
        let latest = trail.latest.load_full().filter(|latest| latest.varies == varies);
        if let Some(latest) = latest {
            let (values, kept) = self.values_of(redis, &latest, deadline).await?;
            let body = self.still(reading, &latest, values, kept, now);
            if body.is_none() {
                // Only another reading can tell what there is now, and whether its generations hold.
                trail.latest.store(None);
            }
            return body.map(|body| (latest.stored.clone(), self.ledger.counted(body)));
        }
        let names = self.names(redis, &trail.key, varies.as_deref(), request);
        let passed = self.clock.passed();
        let values = redis.read(&names, &[], deadline).await.ok()?.values;
        let left: Vec<_> = values.iter().map(|value| value.as_ref().and_then(|value| value.left)).collect();
        let values = values.into_iter().map(|value| value.map(|value| value.octets));
        let opened = opened(redis, &names, values)?;
        let pieces: Vec<Option<Bytes>> = opened.iter().map(|opened| opened.as_ref().map(|(piece, _)| piece.clone())).collect();
        let ended = now.checked_sub(DIFFERENCE_MAX).unwrap_or(now);
        let mut records = opened.into_iter().map(|opened| record::decode(opened?, ended, redis.mask()).ok());
        let (chosen, recorded) = match records.next()?? {
            Record::Response(recorded) if recorded.head.selection.is_empty() => (0, *recorded),
            Record::Varies { key, names, .. } if key == trail.key && varies.as_deref() == Some(&names[..]) => {
                let matching = records.enumerate().filter_map(|(index, record)| match record? {
                    Record::Response(recorded) if recorded.head.selection.matches(request) => Some((index + 1, *recorded)),
                    _ => None,
                });
                // The first of those that are the most recent.
                matching.min_by_key(|(_, recorded)| Reverse(recorded.head.times().received))?
            }
            _ => return None,
        };
        if recorded.key != trail.key {
            return None;
        }
        let fresh_beyond_ms = recorded.fresh_beyond_ms;
        let (stored, Standing::Holds) = self.judge(reading, recorded, &trail.scopes, deadline).await.ok()?? else { return None };
        if hidden_age(&stored.head, fresh_beyond_ms, left[chosen], now) > DIFFERENCE_MAX {
            return None;
        }
        let (mut stored, body) = (StoredResponse::clone(&stored), stored.body.clone());
        stored.body = Bytes::new();
        let (stored, body_bytes) = (Arc::new(stored), body.len());
        if pieces.iter().flatten().map(Bytes::len).sum::<usize>() <= PIECES_BYTES_MAX {
            let (rereading, kept) = (redis.rereading(&names), Kept::new(left[chosen], passed));
            // By themselves, so that they do not keep the bodies.
            let pieces = pieces.iter().map(|piece| piece.as_deref().map(Bytes::copy_from_slice)).collect();
            let stored = stored.clone();
            let latest = Latest { varies, names, rereading, pieces, chosen, stored, body_bytes, fresh_beyond_ms, kept };
            trail.latest.store(Some(Arc::new(latest)));
        }
        Some((stored, body))
    }

    /// Reads the values that were read last once more, and says for how long Redis keeps that of the response if it was asked now.
    async fn values_of(&self, redis: &Redis, latest: &Latest, deadline: Instant) -> Option<(Vec<Option<Vec<u8>>>, Option<Kept>)> {
        let passed = self.clock.passed();
        if latest.kept.is_known(passed) {
            return Some((redis.read_again(&latest.rereading, deadline).await.ok()?, None));
        }
        let values = redis.read(&latest.names, &[], deadline).await.ok()?.values;
        let kept = Kept::new(values[latest.chosen].as_ref().and_then(|value| value.left), passed);
        Some((values.into_iter().map(|value| value.map(|value| value.octets)).collect(), Some(kept)))
    }

    /// The body of what was read last, if these values are the same, and it may still be used.
    fn still(
        &self,
        reading: &Reading<'_>,
        latest: &Latest,
        values: Vec<Option<Vec<u8>>>,
        kept: Option<Kept>,
        now: SystemTime,
    ) -> Option<Bytes> {
        let mut opened = opened(reading.redis, &latest.names, values.into_iter())?;
        let pieces = opened.iter().map(|opened| opened.as_ref().map(|(piece, _)| piece));
        if !latest.pieces.iter().map(Option::as_ref).eq(pieces) {
            return None;
        }
        kept.iter().for_each(|kept| latest.kept.take(kept));
        let holds = self.generations.standing(&latest.stored.held, reading.since) == Standing::Holds;
        let left = latest.kept.left(self.clock.passed());
        let is_as_old = hidden_age(&latest.stored.head, latest.fresh_beyond_ms, left, now) <= DIFFERENCE_MAX;
        let (_, body) = opened[latest.chosen].take()?;
        (holds && is_as_old && body.len() == latest.body_bytes).then_some(body)
    }

    /// Redis, if it can be asked and what changes there is heard of.
    fn heard_of(&self) -> Option<&Redis> {
        self.redis.as_ref().filter(|redis| redis.is_up() && redis.is_heard())
    }
}

/// Opens values. If one is refused, nothing: that is counted by who looks for it.
fn opened(redis: &Redis, names: &[String], values: impl Iterator<Item = Option<Vec<u8>>>) -> Option<Vec<Option<Opened>>> {
    let opened = names.iter().zip(values).map(|(name, value)| value.map(|value| redis.seal().open(name, value)).transpose());
    opened.collect::<Result<_, _>>().ok()
}

/// How often it is asked for how long Redis keeps a value: so long at most somebody's changing that goes unnoticed.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// What has no end ends then.
const FOR_EVER: u64 = u64::MAX;

/// First pieces that are longer, taken together, are decoded each time.
const PIECES_BYTES_MAX: usize = 2 << 10;

/// About how many octets a trail takes at most.
pub const TRAIL_BYTES: usize = 2 * PIECES_BYTES_MAX;

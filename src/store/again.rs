//! A response that Redis had for a request, read again.
//!
//! What is asked for again and again, and lies in Redis alone, is as a rule the same value each time. What its first piece says was read from
//! it then: so it is compared with that one, and not decoded anew. Whether the value is whole, how long Redis keeps it yet, and whether a purge
//! has come for it is found out each time, as ever.

use super::held::Standing;
use super::reading::{Reading, hidden_age};
use super::record::{self, Record};
use super::redis::Redis;
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
use std::time::Instant;

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
    /// The first pieces of their values.
    pieces: Vec<Option<Bytes>>,
    /// Which of them it was, without its body.
    chosen: usize,
    stored: Arc<StoredResponse>,
    body_bytes: usize,
    fresh_beyond_ms: i64,
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
        let reading = Reading { redis, since: self.trusted_since(redis) };
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
        let found;
        let names = match &latest {
            Some(latest) => &latest.names,
            None => {
                found = self.names(redis, &trail.key, varies.as_deref(), request);
                &found
            }
        };
        let values = match &latest {
            Some(latest) => redis.read_values(names, latest.chosen, deadline).await.ok()?,
            None => redis.read(names, &[], deadline).await.ok()?.values,
        };
        let left: Vec<_> = values.iter().map(|value| value.as_ref().and_then(|value| value.left)).collect();
        let opened = names.iter().zip(values).map(|(name, value)| {
            // What is refused is counted by who looks for it.
            value.map(|value| redis.seal().open(name, value.octets)).transpose()
        });
        let mut opened: Vec<Option<Opened>> = opened.collect::<Result<_, _>>().ok()?;
        if let Some(latest) = latest {
            let are_same =
                latest.pieces.iter().map(Option::as_ref).eq(opened.iter().map(|opened| opened.as_ref().map(|(piece, _)| piece)));
            let body = opened[latest.chosen].take().map(|(_, body)| body).filter(|body| body.len() == latest.body_bytes);
            // If they are not, only another reading can tell whether this one's generations hold.
            let holds = self.generations.standing(&latest.stored.held, reading.since) == Standing::Holds;
            let is_as_old = hidden_age(&latest.stored.head, latest.fresh_beyond_ms, left[latest.chosen], now) <= DIFFERENCE_MAX;
            let Some(body) = body.filter(|_| are_same && holds && is_as_old) else {
                trail.latest.store(None);
                return None;
            };
            return Some((latest.stored.clone(), self.ledger.counted(body)));
        }
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
            let names = self.names(redis, &trail.key, varies.as_deref(), request);
            // By themselves, so that they do not keep the bodies.
            let pieces = pieces.iter().map(|piece| piece.as_deref().map(Bytes::copy_from_slice)).collect();
            let latest = Latest { varies, names, pieces, chosen, stored: stored.clone(), body_bytes, fresh_beyond_ms };
            trail.latest.store(Some(Arc::new(latest)));
        }
        Some((stored, body))
    }

    /// Redis, if it can be asked and what changes there is heard of.
    fn heard_of(&self) -> Option<&Redis> {
        self.redis.as_ref().filter(|redis| redis.is_up() && redis.is_heard())
    }
}

/// First pieces that are longer, taken together, are decoded each time.
const PIECES_BYTES_MAX: usize = 2 << 10;

/// About how many octets a trail takes at most.
pub const TRAIL_BYTES: usize = 2 * PIECES_BYTES_MAX;

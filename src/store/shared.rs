//! The tier that all replicas share: what lies in Redis, and how it is read and written.
//!
//! A hit is one round trip: the value, and those of its generations that this process does not know currently.

use super::generations::{Cell, Generation, Keeping, Noted};
use super::held::{Held, Standing};
use super::reading::{Ours, ROUNDS_MAX, Read, Reading};
use super::record::{self, Listed};
use super::redis::{Redis, Unavailable};
use super::{Lookup, Remembered, Store, StoredResponse, Tier};
use crate::rules::{CacheKey, Scopes};
use http::{HeaderMap, HeaderName};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// What is left of the time that one request may spend on Redis, whatever it does there.
#[derive(Debug, Clone, Copy)]
pub struct Budget(pub(super) Duration);

/// What came of writing a response.
pub(super) enum Written {
    Taken,
    /// It is over the limit for values.
    TooLarge,
    /// It has ended, a purge has come for it, or Redis refused it or said nothing.
    Not,
}

/// What memory does after Redis was asked.
pub(super) enum Then {
    /// It keeps what Redis has.
    Take(Arc<StoredResponse>),
    /// What it has is as good as before.
    Confirm(Arc<StoredResponse>),
    /// What it has was replaced.
    Forget(Arc<StoredResponse>),
    Leave,
}

/// Generations that Redis is to keep, and for how long.
struct ToBeKept {
    names: Vec<(String, Keeping)>,
    changed: Vec<Noted>,
    kept_for: Duration,
    kept_until: Instant,
}

impl Budget {
    /// The same where so much of it was spent already.
    pub fn after(self, spent: Duration) -> Budget {
        Budget(self.0.saturating_sub(spent))
    }

    /// Spends time on Redis, until a deadline at most.
    pub(super) async fn spend<T>(&mut self, work: impl AsyncFnOnce(Instant) -> T) -> T {
        let begun = Instant::now();
        let done = work(begun + self.0).await;
        self.0 = self.0.saturating_sub(begun.elapsed());
        done
    }
}

impl Store {
    /// Looks for the response that a request selects in Redis, where memory has nothing that can be used as it is.
    pub(super) async fn lookup_redis(
        &self,
        redis: &Redis,
        key: &CacheKey,
        request: &HeaderMap,
        scopes: &Scopes,
        remembered: Remembered,
        budget: &mut Budget,
    ) -> Lookup {
        let reading = Reading::new(redis, self.trusted_since(redis));
        let news = self.memory.as_ref().map_or(0, |memory| memory.news(key.hash()));
        let (found, then) = self.consult(&reading, key, request, scopes, remembered, budget).await;
        match (self.memory(), then) {
            (Some(memory), Then::Take(stored)) => memory.insert_read(stored, news, reading.since),
            (Some(memory), Then::Confirm(ours)) => memory.confirm(&ours, news, reading.since),
            (Some(memory), Then::Forget(ours)) => memory.forget(&ours),
            (None, _) | (_, Then::Leave) => {}
        }
        found
    }

    /// Says what a request finds that asks Redis, beside what is `remembered` here, and what that means for memory.
    pub(super) async fn consult(
        &self,
        reading: &Reading<'_>,
        key: &CacheKey,
        request: &HeaderMap,
        scopes: &Scopes,
        remembered: Remembered,
        budget: &mut Budget,
    ) -> (Lookup, Then) {
        let (remembered, was_sure) = match remembered {
            Remembered::Stored(stored, standing) => (Some(stored), standing <= Standing::Softened),
            _ => (None, false),
        };
        let read =
            budget.spend(async |deadline| self.read(reading, key, request, scopes, remembered.as_deref(), deadline).await).await;
        // What memory has, if its generations hold: all of them were read along.
        let remembered = remembered.and_then(|stored| match self.generations.standing(&stored.held, reading.since) {
            standing @ (Standing::Holds | Standing::Softened) => Some((stored, standing)),
            _ => None,
        });
        match (read, remembered) {
            (Ok(Read::Response(stored, standing)), remembered) => {
                // What another replica has fetched meanwhile goes before what memory has, and so does what it was replaced with.
                let is_older = |ours: &StoredResponse| ours.head.times().received >= stored.head.times().received;
                if let Some((ours, standing)) = remembered.filter(|(ours, _)| was_sure && is_older(ours)) {
                    return (found(Tier::Memory, ours, standing), Then::Leave);
                }
                (found(Tier::Redis, stored.clone(), standing), Then::Take(stored))
            }
            (Ok(Read::OtherVariant(_, Ours::AsBefore) | Read::Nothing(Ours::AsBefore)), Some((ours, standing))) => {
                // Redis has let go of it, and no purge has come: it is as good as before.
                (found(Tier::Memory, ours.clone(), standing), Then::Confirm(ours))
            }
            (Err(_), Some((ours, standing))) if was_sure => (found(Tier::Memory, ours, standing), Then::Leave),
            (Err(_), _) => (Lookup::Unavailable, Then::Leave),
            (Ok(read), replaced) => {
                let then = replaced.map_or(Then::Leave, |(ours, _)| Then::Forget(ours));
                match read {
                    Read::OtherVariant(candidates, _) => (Lookup::OtherVariant(candidates), then),
                    _ => (Lookup::Nothing, then),
                }
            }
        }
    }

    /// Sees to it that these generations are known, and makes those that are missing.
    pub(super) async fn prepare(&self, redis: &Redis, cells: &[Arc<Cell>], budget: &mut Budget) {
        let reading = Reading::new(redis, self.trusted_since(redis));
        for _ in 0..ROUNDS_MAX {
            let unknown = self.generations.to_read(cells.iter().cloned(), reading.since);
            if self.read_generations(&reading, unknown, budget).await.is_err() {
                return;
            }
            let missing = self.generations.missing(cells.iter().cloned(), reading.since);
            if missing.is_empty() {
                return;
            }
            let names: Vec<String> = missing.iter().map(|noted| redis.names().generation(noted.cell.name())).collect();
            let kept_until = Instant::now() + GENERATION_KEPT_MIN;
            let made = budget.spend(async |deadline| redis.create_generations(&names, GENERATION_KEPT_MIN, deadline).await).await;
            let Ok(made) = made else { return };
            for (noted, (generation, is_ours)) in missing.iter().zip(made) {
                self.generations.learn(noted, generation);
                if is_ours {
                    noted.cell.note_made(kept_until);
                }
            }
        }
    }

    /// Reads those of the generations that are not known currently, and says how they stand then.
    pub(super) async fn verify(&self, redis: &Redis, held: &Held, budget: &mut Budget) -> Standing {
        let reading = Reading::new(redis, self.trusted_since(redis));
        for _ in 0..ROUNDS_MAX {
            let unknown = self.generations.to_read(held.cells(), reading.since);
            if unknown.is_empty() || self.read_generations(&reading, unknown, budget).await.is_err() {
                break;
            }
        }
        self.generations.standing(held, reading.since)
    }

    /// Reads all of the generations, whatever is known of them, and says how they stand then.
    pub(super) async fn verify_again(&self, redis: &Redis, held: &Held, budget: &mut Budget) -> Standing {
        let reading = Reading::new(redis, self.trusted_since(redis));
        let all = self.generations.to_read_again(held.cells(), reading.since);
        match self.read_generations(&reading, all, budget).await {
            Ok(()) => self.generations.standing(held, reading.since),
            Err(_) => Standing::Unverified,
        }
    }

    /// Since when what was read of generations can be relied on: where nothing is heard of changes, only from now on.
    pub(super) fn trusted_since(&self, redis: &Redis) -> u64 {
        match redis.is_heard() {
            true => self.generations.epoch(),
            false => self.generations.begin_epoch(),
        }
    }

    /// Writes a response to Redis, unless a purge has come for it. Of one that is too large, the generations are kept all the same, since
    /// memory has it.
    pub(super) async fn write_redis(&self, response: &StoredResponse) -> Written {
        let Some(redis) = &self.redis else { return Written::Not };
        let now = response.head.times().requested + response.asked_ago(&self.clock);
        let keep = response.keep_for(now, self.keep_stale());
        let Some(generations) = response.held.values().filter(|_| !keep.is_zero()) else { return Written::Not };
        let head =
            record::encode(response, &generations, fresh_beyond(response.head.remaining(now), keep), now + keep, redis.mask());
        let selection = &response.head.selection;
        let own = redis.names().response(&response.key, None);
        let listed = (!selection.is_empty()).then(|| Listed::of(response));
        let variant = listed.as_ref().map(|listed| redis.names().variant(&response.key, listed.variant));
        let value = redis.seal().close(variant.as_ref().unwrap_or(&own), &head, &response.body);
        let is_small = value.len() <= redis.options().value_bytes_max;
        let mut kept = self.to_be_kept(redis, &response.held, keep);
        let (mut values, mut gone) = (Vec::with_capacity(2), Vec::new());
        // Under a key that never varied, there is no list.
        if is_small && listed.is_none() && self.varies(&response.key).is_none() {
            values.push((own, value, keep));
        } else if is_small {
            let names: Vec<HeaderName> = selection.names().cloned().collect();
            let list_of = |variants: &[Listed], kept_for: Duration| {
                redis.seal().close(
                    &own,
                    &record::encode_varies(&response.key, &names, variants, now + kept_for, redis.mask()),
                    b"",
                )
            };
            if let (Some(variant), Some(listed)) = (&variant, &listed) {
                // It is found from here on; that the list is read before it is written anew makes nobody wait.
                let kept_for = keep.max(VARIES_KEPT_MIN);
                let list = list_of(std::slice::from_ref(listed), kept_for);
                let placed = redis.place((variant, &value, keep), (&own, &list, kept_for), &kept.names, kept.kept_for).await;
                let Some((is_only_one, there)) = placed else { return Written::Not };
                self.note_kept(&mut kept, there);
                if is_only_one {
                    return Written::Taken;
                }
            }
            let Some(list) = self.listed_anew(redis, &own, response, listed).await else { return Written::Not };
            gone = list.gone.iter().map(|variant| redis.names().variant(&response.key, *variant)).collect();
            if selection.is_empty() {
                values.push((own, value, keep));
            } else {
                let kept_for = keep.max(list.kept_for).max(VARIES_KEPT_MIN);
                let varies = list_of(&list.variants, kept_for);
                values.push((own, varies, kept_for));
            }
        }
        if values.is_empty() && kept.names.is_empty() {
            return Written::TooLarge;
        }
        let Some(there) = redis.write(values, &gone, &kept.names, kept.kept_for).await else { return Written::Not };
        self.note_kept(&mut kept, there);
        if is_small { Written::Taken } else { Written::TooLarge }
    }

    /// The generations that have to be kept for longer, or for less long, where what depends on them is kept for so long.
    fn to_be_kept(&self, redis: &Redis, held: &Held, keep: Duration) -> ToBeKept {
        // They outlive what depends on them, here and in Redis.
        let (now, kept_for) = (Instant::now(), outliving(keep));
        let cells = held.cells().map(|cell| {
            let keeping = cell.keeping(now + keep, now + kept_for);
            (cell, keeping)
        });
        let (cells, keeping): (Vec<_>, Vec<_>) = cells.filter(|(_, keeping)| *keeping != Keeping::Right).unzip();
        let changed = self.generations.to_read_again(cells, self.generations.epoch());
        let name = |noted: &Noted| redis.names().generation(noted.cell.name());
        ToBeKept { names: changed.iter().map(name).zip(keeping).collect(), changed, kept_for, kept_until: now + kept_for }
    }

    /// Takes note that Redis keeps them, and of which there are.
    fn note_kept(&self, kept: &mut ToBeKept, there: Vec<Option<Generation>>) {
        kept.names.clear();
        for (noted, generation) in kept.changed.drain(..).zip(there) {
            noted.cell.note_kept_until(kept.kept_until);
            self.generations.learn(&noted, generation);
        }
    }

    /// About how many responses lie in Redis, as counted lately; `None` if it cannot say.
    pub async fn responses_in_redis(&self) -> Option<u64> {
        let redis = self.redis.as_ref().filter(|redis| redis.is_up())?;
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, number)) = counted.filter(|(at, _)| at.elapsed() < COUNTED_FOR) {
            return Some(number);
        }
        let number = redis.count_responses().await?;
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), number));
        Some(number)
    }

    async fn read_generations(&self, reading: &Reading<'_>, unknown: Vec<Noted>, budget: &mut Budget) -> Result<(), Unavailable> {
        match unknown.is_empty() {
            true => Ok(()),
            false => budget.spend(async |deadline| self.ask(reading, &[], unknown, deadline).await.map(|_| ())).await,
        }
    }
}

/// By how much a response is fresh for longer than it is kept, in milliseconds; mostly it is kept for longer.
fn fresh_beyond(fresh: Duration, kept: Duration) -> i64 {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    millis(fresh).saturating_sub(millis(kept))
}

fn found(tier: Tier, stored: Arc<StoredResponse>, standing: Standing) -> Lookup {
    match standing {
        Standing::Softened => Lookup::Softened(tier, stored),
        _ => Lookup::Found(tier, stored),
    }
}

/// How long a generation is kept for what is kept so long.
fn outliving(keep: Duration) -> Duration {
    keep + keep / 4 + GENERATION_MARGIN
}

/// A generation ends after the last that depends on it.
const GENERATION_MARGIN: Duration = Duration::from_secs(5);

/// It is made for so long: while its first response is fetched. When that is stored, it is kept for longer; but whoever asks for
/// what does not exist leaves it behind for no longer than this.
pub(super) const GENERATION_KEPT_MIN: Duration = Duration::from_secs(120);

/// Whoever looks at the statistics often does not have Redis count each time.
const COUNTED_FOR: Duration = Duration::from_secs(2);

/// The list of names must not go before the variants that it leads to.
const VARIES_KEPT_MIN: Duration = Duration::from_secs(3600);

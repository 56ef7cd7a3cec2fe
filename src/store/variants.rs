//! The variants of a key beside the one that a request selects: which there are, and how one is found by its entity-tag; and how many
//! may be in Redis.
//!
//! There, each lies under a name of its own. Under the key's own name lies a list of them, the one stored last first; with the variant that
//! is written, the list is written anew, and what no longer fits on it is deleted.
//!
//! Two replicas that write at once read the same list, and the one that writes last takes the other's variant off it again. That one
//! still answers whoever selects it, since its name is made of what selects it. But it does not count, nobody asks the origin about
//! it, and it goes when its time is over; or it is written again, and then it is on the list.

use super::held::Standing;
use super::reading::Reading;
use super::record::{Listed, Record};
use super::redis::Redis;
use super::response::StoredResponse;
use super::{Budget, Store};
use crate::rules::{CacheKey, Scopes};
use crate::semantics::candidates::Candidate;
use crate::semantics::vary::Selection;
use http::HeaderName;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The list of a key's variants, as it is to be written.
pub(super) struct NewList {
    pub(super) variants: Vec<Listed>,
    /// Those that are to be deleted.
    pub(super) gone: Vec<u128>,
    /// For how long the list would be kept yet that is there.
    pub(super) kept_for: Duration,
}

impl Store {
    /// The variants in memory that the origin can be asked about: no purge has come for them.
    pub(super) fn candidates_in_memory(&self, key: &CacheKey) -> Vec<Candidate> {
        let variants = self.memory().map_or_else(Vec::new, |memory| memory.variants(key));
        let unbroken = variants.iter().filter(|stored| self.is_unbroken(&stored.held));
        unbroken.filter_map(|stored| Candidate::of(&stored.head)).collect()
    }

    /// Finds the variant of a key, whatever selects it, that was stored last of those that are wanted. `scopes` are those that the
    /// request tells.
    ///
    /// Of one in Redis, it is known only now whether it is still there and holds. If not, no other one is read: the origin is asked for
    /// the whole, and what it sends is first on the list then.
    pub async fn variant(
        &self,
        key: &CacheKey,
        scopes: &Scopes,
        is_wanted: impl Fn(&Candidate) -> bool,
        budget: &mut Budget,
    ) -> Option<Arc<StoredResponse>> {
        let is_wanted = |candidate: Option<&Candidate>| candidate.is_some_and(&is_wanted);
        let mut in_memory = self.memory().map_or_else(Vec::new, |memory| memory.variants(key)).into_iter();
        if let Some(stored) = in_memory.find(|stored| is_wanted(Candidate::of(&stored.head).as_ref()))
            && self.standing_now(&stored.held, budget).await <= Standing::Softened
        {
            return Some(stored);
        }
        let redis = self.redis.as_ref().filter(|redis| redis.is_up())?;
        let reading = Reading::new(redis, self.trusted_since(redis));
        budget.spend(async |deadline| self.variant_in_redis(&reading, key, scopes, &is_wanted, deadline).await).await
    }

    async fn variant_in_redis(
        &self,
        reading: &Reading<'_>,
        key: &CacheKey,
        scopes: &Scopes,
        is_wanted: &impl Fn(Option<&Candidate>) -> bool,
        deadline: Instant,
    ) -> Option<Arc<StoredResponse>> {
        let names = reading.redis.names();
        let read = async |name: String| {
            let mut values = self.ask(reading, std::slice::from_ref(&name), Vec::new(), deadline).await.ok()?.into_iter();
            self.decode(reading.redis, key, &name, values.next()??)
        };
        let Some(Record::Varies { variants, .. }) = read(names.response(key, None)).await else { return None };
        let listed = variants.iter().find(|listed| is_wanted(listed.candidate.as_ref()))?;
        let Some(Record::Response(recorded)) = read(names.variant(key, listed.variant)).await else { return None };
        // Whoever writes to Redis may have put there something else than the list says.
        if !is_wanted(Candidate::of(&recorded.head).as_ref()) {
            return None;
        }
        match self.judge(reading, *recorded, scopes, deadline).await {
            Ok(Some((stored, _))) => Some(stored),
            _ => None,
        }
    }

    /// Puts a response, as it is listed if it varies, before the other variants that the list under its key's own name has; `None` if Redis
    /// does not say.
    pub(super) async fn listed_anew(
        &self,
        redis: &Redis,
        own: &str,
        response: &StoredResponse,
        listed: Option<Listed>,
    ) -> Option<NewList> {
        let (present, kept_for) = redis.present(own).await?;
        let (varied, present) = match present.and_then(|value| self.decode(redis, &response.key, own, value)) {
            Some(Record::Varies { names, variants, .. }) => (names, variants),
            Some(Record::Response(_)) | None => (Vec::new(), Vec::new()),
        };
        let (variants, gone) = list(&response.head.selection, listed, &varied, present);
        Some(NewList { variants, gone, kept_for })
    }
}

impl Listed {
    /// What is listed of a response that varies.
    pub(super) fn of(response: &StoredResponse) -> Listed {
        Listed { variant: response.key.variant(&response.head.selection), candidate: Candidate::of(&response.head) }
    }
}

/// Puts a response, as it is listed if it varies, before the other variants, and says which of these are to go: those that are too many, and
/// all that vary by other fields, which nobody would find any more.
fn list(selection: &Selection, listed: Option<Listed>, varied: &[HeaderName], present: Vec<Listed>) -> (Vec<Listed>, Vec<u128>) {
    let variant = listed.as_ref().map(|listed| listed.variant);
    let (mut variants, mut gone) = (Vec::from_iter(listed), Vec::new());
    for other in present.into_iter().filter(|other| Some(other.variant) != variant) {
        match selection.names().eq(varied) && variants.len() < VARIANTS_MAX {
            true => variants.push(other),
            false => gone.push(other.variant),
        }
    }
    (variants, gone)
}

/// How many variants of one key are kept, in memory and in Redis.
pub(super) const VARIANTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::tests::response;
    use super::*;
    use http::HeaderMap;
    use http::header::{ACCEPT, ORIGIN};

    /// The list after a response to a request with this `Accept` was put on one of so many others: its variants, and what is to go.
    fn listed(accept: &str, vary: &[&'static str], varied: &[HeaderName], others: &[u128]) -> (Vec<u128>, Vec<u128>) {
        let request: HeaderMap = [(ACCEPT, accept.parse().unwrap())].into_iter().collect();
        let response = response("k", "body", vary, &request);
        let present = others.iter().map(|variant| Listed { variant: *variant, candidate: None }).collect();
        let selection = &response.head.selection;
        let own = (!selection.is_empty()).then(|| Listed::of(&response));
        let (variants, gone) = list(selection, own, varied, present);
        (variants.iter().map(|listed| listed.variant).collect(), gone)
    }

    #[test]
    fn the_last_one_stored_comes_first_and_those_that_are_too_many_go() {
        let own = listed("a", &["accept"], &[ACCEPT], &[]).0[0];
        let full: Vec<u128> = (1..=64).collect();
        let first = |others: &[u128]| [&[own], others].concat();
        let check = |varied: &[HeaderName], others: &[u128], kept: &[u128], gone: &[u128]| {
            assert_eq!(listed("a", &["accept"], varied, others), (first(kept), gone.to_vec()), "{varied:?} {others:?}");
        };
        check(&[], &[], &[], &[]);
        check(&[ACCEPT], &[1, 2], &[1, 2], &[]);
        check(&[ACCEPT], &[1, own, 2], &[1, 2], &[]);
        check(&[ACCEPT], &full[..63], &full[..63], &[]);
        check(&[ACCEPT], &full, &full[..63], &[64]);
        check(&[ACCEPT], &[&full[..], &[65, 66]].concat(), &full[..63], &[64, 65, 66]);
        // It varies by other fields now.
        check(&[ORIGIN], &[1, own, 2], &[], &[1, 2]);
        // It does not vary any more.
        assert_eq!(listed("a", &[], &[ACCEPT], &[1, 2]), (vec![], vec![1, 2]));
    }
}

//! One fetch for all replicas, on routes that say so: who of them makes it, and what the others do meanwhile.

use super::Proxy;
use super::collapse::Lease;
use super::settle::Asked;
use crate::rules::{CacheKey, Scopes};
use crate::semantics::no_vary_search::NoVarySearch;
use crate::store::{Competed, Lookup, ReplicaLease, StoredResponse, Waited};
use std::sync::Arc;

/// Where a response comes from, among replicas.
pub(super) enum Among {
    /// This one fetches; with the lease, if there are leases.
    Here(Option<ReplicaLease>),
    /// Another one has fetched and stored it.
    Elsewhere(Arc<StoredResponse>),
}

impl Proxy {
    /// Competes with other replicas for the right to fetch, and waits for the one that has it.
    pub(super) async fn for_all_replicas(
        self: &Arc<Proxy>,
        key: &CacheKey,
        query_rule: Option<&NoVarySearch>,
        lease: &Lease,
        asked: &Asked,
        scopes: &Scopes,
    ) -> Among {
        let is_answer = |stored: &StoredResponse| {
            stored.head.part().is_none() && query_rule.is_none_or(|rule| rule.is_said_by(&stored.head.fields()))
        };
        let find = async || {
            let (now, mut budget) = (self.clock.now(), self.store.budget());
            match self.store.lookup(key, &asked.fields, || scopes, &mut budget, now).await {
                Lookup::Found(_, stored) if stored.head.is_fresh(now) && is_answer(&stored) => Some(stored),
                _ => None,
            }
        };
        for _ in 0..COMPETED_MAX {
            let mut waiting = match self.store.compete(key, lease.variant()).await {
                Competed::Alone => return Among::Here(None),
                // Who had the lease before may have stored something since we looked.
                Competed::Won(replica_lease) => {
                    return find().await.map_or(Among::Here(Some(replica_lease)), Among::Elsewhere);
                }
                Competed::Lost(waiting) => waiting,
            };
            loop {
                let waited = waiting.next().await;
                match (find().await, waited) {
                    (Some(stored), _) => return Among::Elsewhere(stored),
                    (None, Waited::Stored) => {}
                    // It cannot be stored, so there is nothing to wait for.
                    (None, Waited::GivenBack) => return Among::Here(None),
                    // The owner is dead or slow; another one takes its place.
                    (None, Waited::Expired) => break,
                }
            }
        }
        Among::Here(None)
    }
}

/// Who waited for an owner that died competes once more, and then fetches for itself.
const COMPETED_MAX: usize = 2;

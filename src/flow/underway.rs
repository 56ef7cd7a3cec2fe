//! A fetch under way, and how it ends for all who wait for it: the client that caused it hears by [`Answer`], the others by [`Landing`].

use super::Proxy;
use super::collapse::{Landing, Lease};
use super::fill::log_failure;
use super::settle::Asked;
use super::spool::Reader;
use crate::origin::{OriginError, ResponseBody};
use crate::rules::{CacheKey, Route, Scopes};
use crate::semantics::StoredHead;
use crate::semantics::no_vary_search::NoVarySearch;
use crate::semantics::storage::NotStored;
use crate::store::{Held, NotKept, ReplicaLease, StoredResponse};
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Response, StatusCode};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;
use tracing::debug;

/// A fetch under way.
pub(super) struct Underway {
    pub(super) key: CacheKey,
    pub(super) route: Arc<Route>,
    /// What the response lies in, as far as is known.
    pub(super) scopes: Scopes,
    /// The generations of that, from before the origin was asked.
    pub(super) held: Held,
    pub(super) asked: Asked,
    /// What is stored already.
    pub(super) stored: Option<Arc<StoredResponse>>,
    /// What the origin was asked for.
    pub(super) target: PathAndQuery,
    /// What was known of the queries of its path when the key was made.
    pub(super) query_rule: Option<Arc<NoVarySearch>>,
    /// The `POST` that may have changed something, if it is one.
    pub(super) posted: Option<Parts>,
    /// `None` for a fetch that nobody follows.
    pub(super) lease: Option<Lease>,
    pub(super) replica_lease: Option<ReplicaLease>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What becomes of a fetch, for the client that caused it.
pub(super) enum Answer {
    /// A response that is being stored, with its fields as they came; and why it is not kept, if that is known.
    Stored(Arc<StoredHead>, Reader, HeaderMap, Result<(), NotKept>),
    /// A stored response that the origin has confirmed or completed, with this status; and whether it goes on to be stored.
    Confirmed(Arc<StoredResponse>, StatusCode, bool),
    /// A response that another replica fetched and stored meanwhile.
    Elsewhere(Arc<StoredResponse>),
    /// A response that is not stored.
    Direct(Response<ResponseBody>, NotStored),
    /// A response that says that the origin has failed, where something stored may stand in for it.
    Erred(Response<ResponseBody>, NotStored),
    /// None.
    Failed(Arc<OriginError>),
}

impl Underway {
    /// There is no response.
    pub(super) fn fail(self, error: OriginError) {
        log_failure(&error, &self.route.name);
        let error = Arc::new(error);
        self.land(|| Landing::Failed(error.clone()));
        let _ = self.answer.send(Answer::Failed(error));
    }

    /// The origin has failed, and something stored may stand in for its response.
    pub(super) fn err(self, response: Response<ResponseBody>, why: NotStored) {
        self.land(|| Landing::Erred);
        let _ = self.answer.send(Answer::Erred(response, why));
    }

    /// Whether a response that is not stored takes back what is: the origin was asked for the same, for everybody.
    pub(super) fn is_withdrawn_by(&self, status: StatusCode, why: NotStored) -> bool {
        self.stored.is_some() && self.posted.is_none() && self.asked.is_told_for_all(status, why)
    }

    /// The response is not stored.
    pub(super) fn relay(self, proxy: &Proxy, response: Response<ResponseBody>, why: NotStored) {
        debug!(key = %self.key, route = self.route.name, reason = why.as_str(), "cache_not_stored");
        // An error is an exception: after it, requests go on to wait for each other, and spare an ailing origin.
        if self.lease.is_some() && !response.status().is_server_error() {
            proxy.collapser.note_unstorable(&self.key);
        }
        self.land(|| Landing::Unshared);
        let _ = self.answer.send(Answer::Direct(response, why));
    }

    /// What is stored was confirmed or completed, and goes on to be stored if that is allowed.
    pub(super) fn renew(
        self,
        proxy: &Arc<Proxy>,
        (head, kept): (StoredHead, Result<(), NotStored>),
        body: Bytes,
        status: StatusCode,
        received: SystemTime,
    ) {
        let Underway { key, scopes, held, query_rule, lease, replica_lease, answer, .. } = self;
        let is_kept = kept.is_ok() && proxy.store.would_keep(&held, 0).is_ok();
        let response = StoredResponse { key, head, body, tags: scopes.tags.into(), held };
        let response = if is_kept { proxy.store.insert(response, replica_lease) } else { Arc::new(response) };
        if let Some(lease) = lease {
            let is_alike = query_rule.is_none_or(|rule| rule.is_said_by(&response.head.fields()));
            let may_share = is_kept && is_alike && response.head.is_fresh(received);
            lease.land(if may_share { Landing::Stored(response.clone()) } else { Landing::Unshared });
        }
        let _ = answer.send(Answer::Confirmed(response, status, is_kept));
    }

    fn land(&self, landing: impl FnOnce() -> Landing) {
        if let Some(lease) = &self.lease {
            lease.land(landing());
        }
    }
}

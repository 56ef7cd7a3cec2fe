//! The fetch itself: a task of its own, so that a client that leaves does not end what others follow.
//!
//! It tells the client that caused it, over [`Answer`], and all others, over [`Landing`], what became of it.

use super::ask::{Said, To, join, without_conditions};
use super::collapse::{Landing, Lease};
use super::plan::Trouble;
use super::settle::{self, Asked, Got};
use super::spool::{Filling, Reader, Spool};
use super::{Proxy, outgoing, plan, respond};
use crate::origin::{OriginError, RequestBody, ResponseBody};
use crate::rules::{CacheKey, Collapse, Route, Scopes};
use crate::semantics::no_vary_search::NoVarySearch;
use crate::semantics::storage::NotStored;
use crate::semantics::{StoredHead, Times, tagging};
use crate::store::{Budget, Competed, Lookup, NotKept, ReplicaLease, StoredResponse, Waited};
use bytes::Bytes;
use http::header::{SET_COOKIE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::{debug, warn};

/// A fetch, before it begins.
pub(super) struct Fetch {
    pub(super) request: Request<RequestBody>,
    pub(super) key: CacheKey,
    pub(super) route: Arc<Route>,
    /// What it lies in, as far as the request tells.
    pub(super) scopes: Scopes,
    pub(super) asked: Asked,
    /// The stored response that the origin is asked to confirm or to complete.
    pub(super) stored: Option<Arc<StoredResponse>>,
    /// The path, and what was known of its queries when the key was made.
    pub(super) path: String,
    pub(super) query_rule: Option<Arc<NoVarySearch>>,
    /// The `POST` that may have changed something, if it is one.
    pub(super) posted: Option<Parts>,
    /// `None` for a fetch that nobody follows.
    pub(super) lease: Option<Lease>,
    /// What may be spent on Redis.
    pub(super) budget: Budget,
    /// A response that another replica has just fetched is as good.
    pub(super) may_wait: bool,
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

/// Where a response comes from, among replicas.
enum Among {
    /// This one fetches; with the lease, if there are leases.
    Here(Option<ReplicaLease>),
    /// Another one has fetched and stored it.
    Elsewhere(Arc<StoredResponse>),
}

impl Proxy {
    /// The fetch itself.
    pub(super) async fn run(self: Arc<Proxy>, fetch: Fetch) {
        let Fetch {
            request,
            key,
            route,
            mut scopes,
            asked,
            stored,
            path,
            query_rule,
            posted,
            lease,
            mut budget,
            may_wait,
            answer,
        } = fetch;
        let replica_lease = match &lease {
            Some(lease) if may_wait && route.collapse == Collapse::Replicas => {
                match self.for_all_replicas(&key, query_rule.as_deref(), lease, &asked, &scopes).await {
                    Among::Here(replica_lease) => replica_lease,
                    Among::Elsewhere(stored) => {
                        lease.land(Landing::Stored(stored.clone()));
                        let _ = answer.send(Answer::Elsewhere(stored));
                        return;
                    }
                }
            }
            _ => None,
        };
        // Before the origin is asked: what it answers is valid as long as no purge comes from here on.
        let (mut held, watch) = self.store.hold_and_watch(&scopes, &mut budget).await;
        if let Some(lease) = &lease {
            lease.begin(&held, watch.mark);
        }
        // A purge that came since it was looked up ends what was to be confirmed: the origin's word for it may be as old.
        let (stored, request) = match stored {
            Some(stored) if !self.store.is_unbroken(&stored.held) => (None, without_conditions(&request)),
            stored => (stored, request),
        };
        let Said { sent, requested, to } = self.ask(request, stored.as_ref()).await;
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                log_failure(&error, &route.name);
                if posted.is_none() {
                    self.collapser.note_failed(&key, Trouble::Unreachable);
                }
                let error = Arc::new(error);
                if let Some(lease) = &lease {
                    lease.land(Landing::Failed(error.clone()));
                }
                let _ = answer.send(Answer::Failed(error));
                return;
            }
        };
        let times = Times { requested, received: self.clock.now() };
        let (mut parts, body) = response.into_parts();
        let body_bytes = body.size_hint().exact();
        let is_http2 = parts.version == Version::HTTP_2;
        let has_certain_end = body_bytes.is_some() || is_http2 || is_chunked(&parts.headers);
        outgoing::to_client(&mut parts.headers, std::mem::replace(&mut parts.version, Version::HTTP_11));
        if route.strip_set_cookie {
            parts.headers.remove(SET_COOKIE);
        }
        let tags = tagging::tags(&parts.headers, &self.options.tag_fields);
        if self.options.strip_tag_fields {
            self.options.tag_fields.iter().for_each(|field| drop(parts.headers.remove(field.name())));
        }
        let has_too_many = tags.len() > TAGS_MAX;
        if !tags.is_empty() && !has_too_many {
            let further = scopes.add_tags(tags).to_vec();
            held = self.store.hold_tags(&held, &watch, &scopes.tags, &further, &mut budget).await;
            if let Some(lease) = &lease {
                lease.note_tags(&scopes.tags);
            }
        }
        let got = Got { status: parts.status, fields: &parts.headers, body_bytes, has_certain_end, times };
        match plan::is_failure(got.status) {
            _ if posted.is_some() => {}
            true => self.collapser.note_failed(&key, Trouble::Error),
            false => self.collapser.note_answered(&key),
        }

        // What is stored, and better now than before.
        let (bettered, body) = match (to, got.status, &stored) {
            (To::Confirm, StatusCode::NOT_MODIFIED, Some(stored)) => {
                let settled = settle::settle_confirmed(&asked, &route, &stored.head, &got, &self.options, fastrand::f64());
                (Some((settled, stored.body.clone())), None)
            }
            (To::Complete, StatusCode::PARTIAL_CONTENT, Some(stored)) => {
                let Some((part, joined)) = join(stored, &parts.headers, body, self.options.body_bytes_max).await else {
                    let error = Arc::new(OriginError::Incomplete);
                    log_failure(&error, &route.name);
                    lease.iter().for_each(|lease| lease.land(Landing::Failed(error.clone())));
                    let _ = answer.send(Answer::Failed(error));
                    return;
                };
                let settled = settle::settle_joined(&asked, &route, &stored.head, &got, &part, &self.options, fastrand::f64());
                (Some((settled, joined)), None)
            }
            _ => (None, Some(body)),
        };
        if let Some(((head, kept), body)) = bettered {
            let is_kept = kept.is_ok() && self.store.would_keep(&held, times.received).is_ok();
            let response = StoredResponse { key: key.clone(), head, body, tags: scopes.tags, held };
            let response = if is_kept { self.store.insert(response, replica_lease) } else { Arc::new(response) };
            if let Some(lease) = &lease {
                let is_alike = query_rule.as_ref().is_none_or(|rule| rule.is_said_by(&response.head.fields));
                let may_share = is_kept && is_alike && response.head.is_fresh(times.received);
                lease.land(if may_share { Landing::Stored(response.clone()) } else { Landing::Unshared });
            }
            let _ = answer.send(Answer::Confirmed(response, got.status, is_kept));
            return;
        }
        let Some(body) = body else { return };

        let mut settled = match has_too_many {
            true => Err(NotStored::TooManyTags),
            false => settle::settle(&asked, &route, &got, &self.options, fastrand::f64()),
        };
        if route.heeds_no_vary_search {
            let said = NoVarySearch::beyond_default(got.fields);
            if said.as_ref() != query_rule.as_deref() {
                // The key leaves out what was known to make no difference; what says something else does not lie under it.
                if query_rule.is_some() {
                    settled = settled.and(Err(NotStored::QueryRule));
                }
                if got.status.is_success() {
                    self.store.note_query_rule(&path, said);
                }
            }
        }
        // Before the client hears that something has changed.
        if let Some(posted) = &posted {
            match self.settle_posted(posted, &held, &got).await {
                Ok(superseding) => held = superseding,
                Err(why) => settled = Err(why),
            }
        }
        // Even an error that may be stored is worse than what it would replace, while that may stand in for it.
        if plan::is_failure(got.status) && stored.is_some_and(|stored| plan::could_stand_in(&stored.head, times.received)) {
            lease.iter().for_each(|lease| lease.land(Landing::Erred));
            let why = settled.err().unwrap_or(NotStored::Status);
            let _ = answer.send(Answer::Erred(Response::from_parts(parts, body), why));
            return;
        }
        let head = match settled {
            Ok(head) => Arc::new(head),
            Err(why) => {
                debug!(%key, route = route.name, reason = why.as_str(), "cache_not_stored");
                if let Some(lease) = &lease {
                    // An error is an exception: after it, requests go on to wait for each other, and spare an ailing origin.
                    if !got.status.is_server_error() {
                        self.collapser.note_unstorable(&key);
                    }
                    lease.land(Landing::Unshared);
                }
                let _ = answer.send(Answer::Direct(Response::from_parts(parts, body), why));
                return;
            }
        };
        self.collapser.note_storable(&key);
        let spool = Arc::new(Spool::default());
        let Some(reader) = spool.reader() else { return };
        let filling = Filling(spool.clone());
        if let Some(lease) = &lease {
            // What is stale from the start answers the one request that caused it; others have it validated.
            let is_fresh = head.is_fresh(times.received);
            // Known from here on, so that requests for another variant find one another.
            self.store.note_varies(&key, &head.selection);
            lease.land(if is_fresh { Landing::Streaming(head.clone(), spool.clone()) } else { Landing::Unshared });
        }
        let kept = self.store.would_keep(&held, self.clock.now());
        let _ = answer.send(Answer::Stored(head.clone(), reader, parts.headers, kept));
        self.fill(filling, body, body_bytes, (lease, replica_lease, key.clone()), |whole| {
            let mut head = StoredHead::clone(&head);
            settle::note_length(&mut head, whole.len());
            StoredResponse { key, head, body: whole, tags: scopes.tags, held }
        })
        .await;
    }

    /// Competes with other replicas for the right to fetch, and waits for the one that has it.
    async fn for_all_replicas(
        self: &Arc<Proxy>,
        key: &CacheKey,
        query_rule: Option<&NoVarySearch>,
        lease: &Lease,
        asked: &Asked,
        scopes: &Scopes,
    ) -> Among {
        let is_alike = |stored: &StoredResponse| query_rule.is_none_or(|rule| rule.is_said_by(&stored.head.fields));
        let find = async || {
            let (now, mut budget) = (self.clock.now(), self.store.budget());
            match self.store.lookup(key, &asked.fields, || scopes, &mut budget, now).await {
                Lookup::Found(_, stored) if stored.head.is_fresh(now) && is_alike(&stored) => Some(stored),
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

    /// Takes in a body for all who read it, and stores it if it turns out whole and not too large.
    async fn fill(
        self: &Arc<Proxy>,
        filling: Filling,
        mut body: ResponseBody,
        announced: Option<u64>,
        (lease, replica_lease, key): (Option<Lease>, Option<ReplicaLease>, CacheKey),
        stored: impl FnOnce(Bytes) -> StoredResponse,
    ) {
        let spool = &filling.0;
        let (mut lease, mut replica_lease) = (lease, replica_lease);
        // `None` once the body has outgrown what is stored.
        let mut storing = Some(stored);
        let (mut octets, mut pieces) = (0, 0);
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            let chunk = match frame.map(http_body::Frame::into_data) {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(frame)) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
                Err(error) => return debug!(%error, "origin_body_broken"),
            };
            octets += chunk.len();
            pieces += 1;
            let most = self.options.body_bytes_max;
            if (octets > most || pieces * PIECE_OVERHEAD > most.max(PIECE_OVERHEAD)) && storing.take().is_some() {
                (lease, replica_lease) = (None, None);
                self.collapser.note_unstorable(&key);
                spool.become_window();
            }
            if storing.is_none() && !spool.has_room(WINDOW_BYTES).await {
                return;
            }
            if body.is_end_stream()
                && announced.is_none_or(|announced| announced == octets as u64)
                && let Some(stored) = storing.take()
            {
                // Stored before its last octets are sent: a client that has them and asks again finds it.
                self.store.insert(stored(spool.collect(Some(&chunk))), replica_lease.take());
            }
            spool.push(chunk);
        }
        if announced.is_some_and(|announced| announced != octets as u64) {
            return debug!(announced, octets, "origin_body_short");
        }
        if let Some(stored) = storing {
            self.store.insert(stored(spool.collect(None)), replica_lease.take());
        }
        spool.finish(trailers);
        drop(lease);
    }
}

/// RFC 9112 §6.3: after any other coding, only the end of the connection ends the body.
fn is_chunked(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

/// Says in the log why the origin gave no response, with all causes.
pub(super) fn log_failure(error: &OriginError, route: &str) {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    warn!(route, %error, cause = causes.join(": "), reason = respond::reason_of(error), "origin_request_failed");
}

/// How far the slowest reader of a body that is not stored may be behind.
const WINDOW_BYTES: usize = 512 << 10;

/// Who waited for an owner that died competes once more, and then fetches for itself.
const COMPETED_MAX: usize = 2;

/// So many tags a response may name itself.
const TAGS_MAX: usize = 128;

/// What a piece of a body costs beside its octets, so that a body of single octets counts as what it takes.
const PIECE_OVERHEAD: usize = 64;

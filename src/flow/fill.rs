//! The fetch itself: a task of its own, so that a client that leaves does not end what others follow.
//!
//! How it ends for all who wait for it is in `underway`.

use super::ask::{Others, Said, To, join, without_conditions};
use super::collapse::{Landing, Lease};
use super::plan::Trouble;
use super::replicas::Among;
use super::settle::{self, Asked, Got};
use super::spool::{Filling, Spool};
use super::underway::{Answer, Underway};
use super::{Proxy, outgoing, plan, respond};
use crate::origin::{OriginError, RequestBody, ResponseBody};
use crate::rules::{CacheKey, Collapse, Route, Scopes, Unnamed};
use crate::semantics::no_vary_search::NoVarySearch;
use crate::semantics::storage::NotStored;
use crate::semantics::{StoredHead, Times, tagging};
use crate::store::{Budget, ReplicaLease, StoredResponse};
use bytes::Bytes;
use http::header::{SET_COOKIE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Version, response};
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
    /// What was known of the queries of its path when the key was made.
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

impl Proxy {
    /// The fetch itself.
    pub(super) async fn run(self: Arc<Proxy>, fetch: Fetch) {
        let Fetch { request, key, route, scopes, mut asked, stored, query_rule, posted, lease, mut budget, may_wait, answer } =
            fetch;
        let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
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
        let (held, watch) = self.store.hold_and_watch(&scopes, &mut budget).await;
        if let Some(lease) = &lease {
            lease.begin(&held, watch.mark);
        }
        // A purge that came since it was looked up ends what was to be confirmed: the origin's word for it may be as old.
        let (stored, request) = match stored {
            Some(stored) if !self.store.is_unbroken(&stored.held) => (None, without_conditions(&request)),
            stored => (stored, request),
        };
        let others = Others { key: &key, scopes: &scopes, asked: &asked, query_rule: query_rule.as_deref(), budget: &mut budget };
        let others = posted.is_none().then_some(others);
        let with_more = (!asked.shown.withheld.is_empty()).then(|| without_conditions(&request));
        let said = self.ask(request, stored, others).await;
        let Said { sent, requested, to, stored } = match with_more {
            Some(request) => self.ask_with_more(said, request, &mut asked).await,
            None => said,
        };
        let mut way =
            Underway { key, route, scopes, held, asked, stored, target, query_rule, posted, lease, replica_lease, answer };
        let (mut parts, body) = match sent {
            Ok(response) => response.into_parts(),
            Err(error) => {
                if way.posted.is_none() {
                    self.collapser.note_failed(&way.key, Trouble::Unreachable);
                }
                return way.fail(error);
            }
        };
        let times = Times { requested, received: self.clock.now() };
        let framing = Framing::of(&parts, &body);
        outgoing::to_client(&mut parts.headers, std::mem::replace(&mut parts.version, Version::HTTP_11));
        if way.route.strip_set_cookie {
            parts.headers.remove(SET_COOKIE);
        }
        let mut tags = tagging::tags(&parts.headers, &self.options.tag_fields);
        if self.options.strip_tag_fields {
            self.options.tag_fields.iter().for_each(|field| drop(parts.headers.remove(field.name())));
        }
        let has_too_many = tags.len() > TAGS_MAX;
        // §3.2: of what a confirmation or a further part does not say, what is stored stays as it was.
        if let ((To::Confirm, StatusCode::NOT_MODIFIED) | (To::Complete, StatusCode::PARTIAL_CONTENT), [], Some(stored)) =
            ((to, parts.status), &tags[..], &way.stored)
        {
            tags = stored.tags.to_vec();
        }
        if !tags.is_empty() && !has_too_many {
            let further = way.scopes.add_tags(tags).to_vec();
            way.held = self.store.hold_tags(&way.held, &watch, &way.scopes.tags, &further, &mut budget).await;
            if let Some(lease) = &way.lease {
                lease.note_tags(&way.scopes.tags);
            }
        }
        match plan::is_failure(parts.status) {
            _ if way.posted.is_some() => {}
            true => self.collapser.note_failed(&way.key, Trouble::Error),
            false => self.collapser.note_answered(&way.key),
        }
        let got = framing.got(&parts, times);
        match (to, got.status, &way.stored) {
            (To::Confirm, StatusCode::NOT_MODIFIED, Some(stored)) => {
                let settled =
                    settle::settle_confirmed(&way.asked, &way.route, &stored.head, &got, &self.options, fastrand::f64());
                let body = stored.body.clone();
                way.renew(&self, settled, body, got.status, times.received);
            }
            (To::Complete, StatusCode::PARTIAL_CONTENT, Some(stored)) => {
                let Some((part, joined)) = join(stored, &parts.headers, body, self.options.body_bytes_max).await else {
                    return way.fail(OriginError::Incomplete);
                };
                let (options, chance) = (&self.options, fastrand::f64());
                let settled = settle::settle_joined(&way.asked, &way.route, &stored.head, &got, &part, options, chance);
                way.renew(&self, settled, joined, got.status, times.received);
            }
            _ => {
                let settled = match has_too_many {
                    true => Err(NotStored::TooManyTags),
                    false => settle::settle(&way.asked, &way.route, &got, &self.options, fastrand::f64()),
                };
                self.take(way, settled, parts, body, (framing, times)).await;
            }
        }
    }

    /// Takes a response that was settled about: stores it, or relays it.
    async fn take(
        self: &Arc<Proxy>,
        mut way: Underway,
        mut settled: Result<StoredHead, NotStored>,
        parts: response::Parts,
        body: ResponseBody,
        (framing, times): (Framing, Times),
    ) {
        if way.route.heeds_no_vary_search {
            let said = NoVarySearch::beyond_default(&parts.headers);
            if said.as_ref() != way.query_rule.as_deref() {
                // The key leaves out what was known to make no difference; what says something else does not lie under it.
                if way.query_rule.is_some() {
                    settled = settled.and(Err(NotStored::QueryRule));
                }
                if parts.status.is_success() {
                    self.store.note_query_rule(way.target.path(), said);
                }
            }
        }
        // Before the client hears that something has changed.
        if let Some(posted) = &way.posted {
            match self.settle_posted(posted, &way.held, &framing.got(&parts, times)).await {
                Ok(superseding) => way.held = superseding,
                Err(why) => settled = Err(why),
            }
        }
        // Even an error that may be stored is worse than what it would replace, while that may stand in for it.
        let stands_in = |stored: &Arc<StoredResponse>| plan::could_stand_in(&stored.head, times.received);
        if plan::is_failure(parts.status) && way.stored.as_ref().is_some_and(stands_in) {
            let why = settled.err().unwrap_or(NotStored::Status);
            return way.err(Response::from_parts(parts, body), why);
        }
        let head = match settled {
            Ok(head) => Arc::new(head),
            Err(why) => {
                if way.is_withdrawn_by(parts.status, why) {
                    self.store.invalidate(self.rules.scopes_of_url(&way.target, false).unwrap_or_default()).await;
                }
                return way.relay(self, Response::from_parts(parts, body), why);
            }
        };
        if way.asked.told_of_negotiation(&way.route) {
            self.store.note_unnamed(&way.key, Unnamed::by(&head.fields()));
        }
        let Underway { key, scopes, held, lease, replica_lease, answer, .. } = way;
        self.collapser.note_storable(&key);
        let spool = Arc::new(Spool::counted(self.store.ledger().hold()));
        let Some(reader) = spool.reader() else { return };
        let filling = Filling(spool.clone());
        if let Some(lease) = &lease {
            // What is stale from the start answers the one request that caused it; others have it validated. So does a part, for which
            // nobody else asked.
            let may_share = head.is_fresh(times.received) && head.part().is_none();
            // Known from here on, so that requests for another variant find one another.
            self.store.note_varies(&key, &head.selection);
            lease.land(if may_share {
                Landing::Streaming(head.clone(), spool.clone(), self.clock.passed())
            } else {
                Landing::Unshared
            });
        }
        let kept = self.store.would_keep(&held, framing.body_bytes.unwrap_or_default());
        let _ = answer.send(Answer::Stored(head.clone(), reader, parts.headers, kept));
        self.fill(filling, body, framing.body_bytes, (lease, replica_lease, key.clone()), |whole| {
            let mut head = StoredHead::clone(&head);
            settle::note_length(&mut head, whole.len());
            StoredResponse { key, head, body: whole, tags: scopes.tags.into(), held }
        })
        .await;
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
            let is_too_large = octets > most || pieces * PIECE_OVERHEAD > most.max(PIECE_OVERHEAD);
            if (is_too_large || octets > WINDOW_BYTES && self.store.ledger().is_full()) && storing.take().is_some() {
                (lease, replica_lease) = (None, None);
                if is_too_large {
                    self.collapser.note_too_large(&key);
                }
                spool.become_window();
            }
            let goes_on = match storing.is_some() {
                true => spool.is_read_on().await,
                false => spool.has_room(WINDOW_BYTES).await,
            };
            if !goes_on {
                return;
            }
            if body.is_end_stream()
                && announced.is_none_or(|announced| announced == octets as u64)
                && let Some(stored) = storing.take()
            {
                // Stored before its last octets are sent: a client that has them and asks again finds it.
                self.collapser.note_stored(&key);
                let stored = self.store.insert(stored(spool.collect(Some(&chunk))), replica_lease.take());
                spool.replace(stored.body.clone());
                continue;
            }
            spool.push(chunk);
        }
        if announced.is_some_and(|announced| announced != octets as u64) {
            return debug!(announced, octets, "origin_body_short");
        }
        if let Some(stored) = storing {
            self.collapser.note_stored(&key);
            let stored = self.store.insert(stored(spool.collect(None)), replica_lease.take());
            spool.replace(stored.body.clone());
        }
        spool.finish(trailers);
        drop(lease);
    }
}

/// What is known of a body before it comes.
#[derive(Clone, Copy)]
struct Framing {
    body_bytes: Option<u64>,
    has_certain_end: bool,
}

impl Framing {
    fn of(parts: &response::Parts, body: &ResponseBody) -> Framing {
        let body_bytes = body.size_hint().exact();
        // RFC 9112 §6.3: without a length, and without the one coding that there is, the end of the connection ends the body.
        let has_certain_end =
            body_bytes.is_some() || parts.version == Version::HTTP_2 || parts.headers.contains_key(TRANSFER_ENCODING);
        Framing { body_bytes, has_certain_end }
    }

    fn got<'a>(&self, parts: &'a response::Parts, times: Times) -> Got<'a> {
        let Framing { body_bytes, has_certain_end } = *self;
        Got { status: parts.status, fields: &parts.headers, body_bytes, has_certain_end, times }
    }
}

/// Says in the log why the origin gave no response, with all causes.
pub(super) fn log_failure(error: &OriginError, route: &str) {
    warn!(route, %error, cause = error.causes(), reason = respond::reason_of(error), "origin_request_failed");
}

/// How far the slowest reader of a body that is not stored may be behind.
const WINDOW_BYTES: usize = 512 << 10;

/// So many tags a response may name itself.
const TAGS_MAX: usize = 128;

/// What a piece of a body costs beside its octets, so that a body of single octets counts as what it takes.
const PIECE_OVERHEAD: usize = 64;

//! Asking the origin for something that may be stored: one fetch for all who want the same.
//!
//! The fetch runs as a task of its own, so that a client that leaves does not end what others follow. It tells the client
//! that caused it, over `Answer`, and all others, over `Landing`, what became of it.

use super::arrival::Arrival;
use super::body::Body;
use super::collapse::{FlightKey, Joined, Landing, Lease};
use super::outcome::Outcome;
use super::plan::{self, Plan};
use super::settle::{self, Asked, Got};
use super::spool::{Filling, Reader, Spool};
use super::{Proxy, outgoing, respond};
use crate::origin::{OriginError, RequestBody, ResponseBody};
use crate::rules::{Admitted, CacheKey, Route};
use crate::semantics::directives::RequestDirectives;
use crate::semantics::storage::NotStored;
use crate::semantics::vary::Selection;
use crate::semantics::{Forward, StoredHead, Times, conditional};
use crate::stats::Ending;
use crate::store::{Lookup, StoredResponse};
use bytes::Bytes;
use http::header::{SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;
use tracing::{debug, warn};

/// A fetch, before it begins.
struct Fetch {
    request: Request<RequestBody>,
    key: CacheKey,
    route: Arc<Route>,
    tags: Vec<String>,
    asked: Asked,
    /// The stored response that the origin is asked to confirm.
    validating: Option<Arc<StoredResponse>>,
    /// `None` for a fetch that nobody follows.
    lease: Option<Lease>,
    answer: oneshot::Sender<Answer>,
}

/// What becomes of a fetch, for the client that caused it.
enum Answer {
    /// A response that is being stored.
    Stored(Arc<StoredHead>, Reader),
    /// A stored response that the origin has confirmed.
    Confirmed(Arc<StoredResponse>),
    /// A response that is not stored.
    Direct(Response<ResponseBody>, NotStored),
    /// None.
    Failed(Arc<OriginError>),
}

impl Proxy {
    /// Fetches a response that may be stored, or follows somebody who does.
    pub(super) async fn fetch(
        self: &Arc<Proxy>,
        arrival: &Arrival,
        admitted: Admitted<'_>,
        asked: &RequestDirectives,
        why: Forward,
        validating: Option<Arc<StoredResponse>>,
        now: SystemTime,
    ) -> (Response<Body>, Outcome) {
        // Requests that may see different things never follow one another, and neither do those that want a fresh answer.
        let goes_alone = admitted.has_open_credentials() || asked.no_cache || asked.no_store;
        let mut attempts = if goes_alone || self.collapser.is_unstorable(&admitted.key, now) { 0 } else { JOINS_MAX };
        while attempts > 0 {
            attempts -= 1;
            match self.collapser.join(self.flight_key(&admitted.key, &arrival.parts.headers), &admitted.key) {
                Joined::Alone => break,
                Joined::Leader(lease) => {
                    // Between our look-up and this moment another fetch may have come to its end.
                    if let Some(hit) = self.hit_after_all(arrival, &admitted, asked) {
                        return hit;
                    }
                    return self.lead(arrival, admitted, asked, why, validating, Some(lease)).await;
                }
                Joined::Follower(following) => match following.landed().await {
                    Some(landing) => match self.follow(arrival, landing, why) {
                        Followed::Answered(response, outcome) => return (*response, outcome),
                        Followed::OtherVariant => {}
                        Followed::Unshared => break,
                    },
                    None => {
                        if let Some(hit) = self.hit_after_all(arrival, &admitted, asked) {
                            return hit;
                        }
                    }
                },
            }
        }
        self.lead(arrival, admitted, asked, why, validating, None).await
    }

    /// What a fetch is known by: the key, and the request's values of the fields that its responses are known to vary on.
    fn flight_key(&self, key: &CacheKey, request: &HeaderMap) -> FlightKey {
        let variant = self.store.varies(key).map_or(0, |names| key.variant(&Selection::of(&names, request)));
        (key.hash(), variant)
    }

    /// Looks into memory once more.
    fn hit_after_all(
        &self,
        arrival: &Arrival,
        admitted: &Admitted<'_>,
        asked: &RequestDirectives,
    ) -> Option<(Response<Body>, Outcome)> {
        let now = self.clock.now();
        let fields = &arrival.parts.headers;
        let found = self.store.lookup_memory(&admitted.key, fields, now);
        if !matches!(found, Lookup::Found(..)) {
            return None;
        }
        match plan::plan(&arrival.parts.method, asked, admitted, found, now) {
            Plan::Serve(tier, stored) => {
                let response = respond::from_store(&arrival.parts.method, fields, &stored, now);
                Some((response, Outcome::hit(tier, stored.head.ttl(now))))
            }
            _ => None,
        }
    }

    /// Answers with what another request's fetch came to, if that may answer this one.
    fn follow(&self, arrival: &Arrival, landing: Landing, why: Forward) -> Followed {
        let now = self.clock.now();
        let fields = &arrival.parts.headers;
        let outcome = Outcome::forwarded(Ending::Collapsed, why, "");
        let (response, outcome) = match landing {
            Landing::Unshared => return Followed::Unshared,
            Landing::Failed(error) => {
                let failed = Outcome::forwarded(Ending::Error, why, respond::reason_of(&error));
                (respond::origin_failed(&error), failed)
            }
            Landing::Confirmed(stored) if stored.head.selection.matches(fields) => {
                let response = respond::from_store(&arrival.parts.method, fields, &stored, now);
                (response, outcome.collapsed(stored.head.ttl(now)))
            }
            Landing::Streaming(head, spool) if head.selection.matches(fields) => match spool.reader() {
                None => return Followed::Unshared,
                Some(reader) => {
                    let body = Body::shared(reader, content_length(&head));
                    (respond::from_fetch(fields, &head, Some(now), body), outcome.collapsed(head.ttl(now)))
                }
            },
            Landing::Confirmed(_) | Landing::Streaming(..) => return Followed::OtherVariant,
        };
        Followed::Answered(Box::new(response), outcome)
    }

    /// Begins a fetch and answers with what it comes to.
    async fn lead(
        self: &Arc<Proxy>,
        arrival: &Arrival,
        admitted: Admitted<'_>,
        asked: &RequestDirectives,
        why: Forward,
        validating: Option<Arc<StoredResponse>>,
        lease: Option<Lease>,
    ) -> (Response<Body>, Outcome) {
        let (answer, answered) = oneshot::channel();
        let fetch = Fetch {
            request: request_to_fill(arrival, &admitted, validating.as_deref()),
            tags: admitted.tags(arrival.parts.uri.path()),
            route: admitted.route.clone(),
            asked: Asked {
                fields: arrival.parts.headers.clone(),
                no_store: asked.no_store,
                authorization: admitted.authorization,
                cookie: admitted.cookie,
            },
            key: admitted.key,
            validating,
            lease,
            answer,
        };
        let proxy = self.clone();
        self.tasks.spawn(async move { proxy.run(fetch).await });

        let answered = answered.await;
        let now = self.clock.now();
        let (method, fields) = (&arrival.parts.method, &arrival.parts.headers);
        match answered {
            Ok(Answer::Stored(head, reader)) => {
                let body = Body::shared(reader, content_length(&head));
                // It comes straight from the origin; what it says of its age is the origin's word.
                let response = respond::from_fetch(fields, &head, None, body);
                (response, Outcome::forwarded(Ending::Miss, why, "").stored_for(head.ttl(now)))
            }
            Ok(Answer::Confirmed(stored)) => {
                let response = respond::from_store(method, fields, &stored, now);
                let outcome = Outcome::forwarded(Ending::Validated, why, "").with_forward_status(StatusCode::NOT_MODIFIED);
                (response, outcome.stored_for(stored.head.ttl(now)))
            }
            Ok(Answer::Direct(response, not_stored)) => {
                let mut response = response.map(Body::relay);
                if conditional::is_not_modified(fields, response.status(), response.headers()) {
                    let fields = conditional::not_modified_fields(response.headers());
                    response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::NOT_MODIFIED;
                    *response.headers_mut() = fields;
                }
                (response, Outcome::forwarded(Ending::Miss, why, not_stored.as_str()))
            }
            Ok(Answer::Failed(error)) => {
                let reason = respond::reason_of(&error);
                (respond::origin_failed(&error), Outcome::forwarded(Ending::Error, why, reason))
            }
            Err(_) => {
                // The task panicked; its own line in the log says why.
                (respond::internal(), Outcome::forwarded(Ending::Error, why, "internal"))
            }
        }
    }

    /// The fetch itself.
    async fn run(self: Arc<Proxy>, fetch: Fetch) {
        let Fetch { request, key, route, tags, asked, validating, lease, answer } = fetch;
        let mut requested = self.clock.now();
        // For the case that the origin confirms something else than what was asked about.
        let unconditional = validating.is_some().then(|| without_conditions(&request));
        let mut sent = self.origin.send(request).await;
        if let (Ok(response), Some(stored), Some(unconditional)) = (&sent, &validating, unconditional)
            && response.status() == StatusCode::NOT_MODIFIED
            && !conditional::selects(response.headers(), &stored.head.fields)
        {
            requested = self.clock.now();
            sent = self.origin.send(unconditional).await;
        }
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                log_failure(&error, &route.name);
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
        // Whether the body's end is certain is seen from the framing, which does not go further.
        let framing = parts.headers.get(TRANSFER_ENCODING).cloned();
        outgoing::to_client(&mut parts.headers, parts.version);
        if route.strip_set_cookie {
            parts.headers.remove(SET_COOKIE);
        }
        let mut fields = parts.headers.clone();
        framing.into_iter().for_each(|framing| {
            fields.insert(TRANSFER_ENCODING, framing);
        });
        let got = Got { status: parts.status, version: parts.version, fields: &fields, body_bytes, times };

        if let (StatusCode::NOT_MODIFIED, Some(stored)) = (got.status, &validating) {
            let confirmed = settle::settle_confirmed(&asked, &route, &stored.head, &got);
            let is_kept = confirmed.is_ok();
            let head = confirmed.unwrap_or_else(|_| stored.head.clone());
            let response = StoredResponse { key: key.clone(), head, body: stored.body.clone(), tags };
            let response = if is_kept { self.store.insert(response) } else { Arc::new(response) };
            if let Some(lease) = &lease {
                let may_share = is_kept && response.head.is_fresh(times.received);
                lease.land(if may_share { Landing::Confirmed(response.clone()) } else { Landing::Unshared });
            }
            let _ = answer.send(Answer::Confirmed(response));
            return;
        }

        let head = match settle::settle(&asked, &route, &got, self.options.body_bytes_max) {
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
                parts.version = http::Version::HTTP_11;
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
            lease.land(if is_fresh { Landing::Streaming(head.clone(), spool.clone()) } else { Landing::Unshared });
        }
        let _ = answer.send(Answer::Stored(head.clone(), reader));
        self.fill(filling, body, lease, |whole| {
            let mut head = StoredHead::clone(&head);
            settle::note_length(&mut head, whole.len());
            StoredResponse { key, head, body: whole, tags }
        })
        .await;
    }

    /// Takes in a body for all who read it, and stores it if it turns out whole and not too large.
    async fn fill(
        self: &Arc<Proxy>,
        filling: Filling,
        mut body: ResponseBody,
        lease: Option<Lease>,
        stored: impl FnOnce(Bytes) -> StoredResponse,
    ) {
        let spool = &filling.0;
        let mut lease = lease;
        // `None` once the body has outgrown what is stored.
        let mut storing = Some(stored);
        let mut octets = 0;
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
            octets += chunk.len() + CHUNK_OVERHEAD;
            if octets > self.options.body_bytes_max.saturating_add(CHUNK_OVERHEAD) && storing.take().is_some() {
                lease = None;
                spool.become_window();
            }
            if storing.is_none() && !spool.has_room(WINDOW_BYTES).await {
                return;
            }
            if body.is_end_stream()
                && let Some(stored) = storing.take()
            {
                // Stored before its last octets are sent: a client that has them and asks again finds it.
                self.store.insert(stored(spool.collect(Some(&chunk))));
            }
            spool.push(chunk);
        }
        if let Some(stored) = storing {
            self.store.insert(stored(spool.collect(None)));
        }
        spool.finish(trailers);
        drop(lease);
    }
}

/// What came of following.
enum Followed {
    Answered(Box<Response<Body>>, Outcome),
    OtherVariant,
    Unshared,
}

/// The request that fills the cache: shows the origin nothing that could change the response and is not in the key.
fn request_to_fill(arrival: &Arrival, admitted: &Admitted<'_>, validating: Option<&StoredResponse>) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = match &admitted.target {
        Some(target) => target.parse::<Uri>().unwrap_or_else(|_| arrival.parts.uri.clone()),
        None => arrival.parts.uri.clone(),
    };
    let mut fields = arrival.parts.headers.clone();
    admitted.route.hide_unkeyed(&mut fields);
    match validating {
        Some(stored) => conditional::add_validators(&mut fields, &stored.head.fields),
        None => conditional::remove(&mut fields),
    }
    outgoing::to_origin(&mut fields, arrival);
    *request.headers_mut() = fields;
    request
}

/// The same request, for the whole response.
fn without_conditions(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut again = Request::new(RequestBody::empty());
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    conditional::remove(again.headers_mut());
    again
}

fn content_length(head: &StoredHead) -> Option<u64> {
    head.fields.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
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

/// A follower whose variant was another tries again, now that the selecting fields are known; this often at most.
const JOINS_MAX: usize = 3;

/// How far the slowest reader of a body that is not stored may be behind.
const WINDOW_BYTES: usize = 512 << 10;

/// What a piece of a body costs beside its octets, so that a body of single octets counts as what it takes.
const CHUNK_OVERHEAD: usize = 64;

//! Asking the origin for something that may be stored: one fetch for all who want the same.
//!
//! Here is who fetches and who follows, and what each of them is answered; `fill` is the fetch itself.

use super::arrival::{Arrival, ArrivedBody};
use super::body::Body;
use super::collapse::{FlightKey, Following, Joined, Landed, Landing, Lease};
use super::fill::Fetch;
use super::interim::Interim;
use super::outcome::Outcome;
use super::plan::{self, Plan, Trouble};
use super::settle::{Asked, Shown};
use super::underway::Answer;
use super::{Proxy, outgoing, respond};
use crate::origin::{OriginError, RequestBody};
use crate::rules::{Admission, Admitted, CacheKey, Route, Told};
use crate::semantics::directives::RequestDirectives;
use crate::semantics::vary::Selection;
use crate::semantics::{Forward, StoredHead, candidates, conditional, range};
use crate::stats::Ending;
use crate::store::{Budget, Lookup, StoredResponse};
use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

/// What a fetch is for.
pub(super) struct Errand<'a> {
    pub(super) admitted: Admitted<'a>,
    pub(super) asked: &'a RequestDirectives,
    /// What is stored already: the origin is asked to confirm or to complete it, if it can be; and where it gives no answer, this may
    /// be one.
    pub(super) stored: Option<Arc<StoredResponse>>,
    /// The entity-tags of other variants, one of which the origin may name instead of sending it.
    pub(super) others: Vec<HeaderValue>,
    /// The client's range is what the origin is asked for.
    pub(super) wants_part: bool,
    /// What is left of the time for Redis.
    pub(super) budget: Budget,
}

impl Proxy {
    /// Fetches a response that may be stored, or follows somebody who does.
    pub(super) async fn fetch(
        self: &Arc<Proxy>,
        arrival: &Arrival,
        mut errand: Errand<'_>,
        why: Forward,
    ) -> (Response<Body>, Outcome) {
        let (key, asked) = (errand.admitted.key.clone(), errand.asked);
        let mut attempts = if self.goes_alone(&errand.admitted, asked, errand.wants_part) { 0 } else { JOINS_MAX };
        let (mark, mut outdated) = (self.store.mark(), None);
        while attempts > 0 {
            attempts -= 1;
            let flight_key = self.flight_key(&key, &arrival.parts.headers);
            match self.collapser.join(flight_key, &key, outdated.as_ref()) {
                Joined::Alone => break,
                Joined::Leader(lease) => {
                    // Between our look-up and this moment another fetch may have come to its end.
                    if let Some(hit) = self.hit_after_all(arrival, &errand.admitted, asked) {
                        return hit;
                    }
                    return self.lead(arrival, errand, why, Some(lease)).await;
                }
                // A fetch that began before a purge is none for a request that came after it.
                Joined::Follower(following) if !self.began_late_enough(&following, &mut errand.budget).await => {
                    outdated = Some(following)
                }
                Joined::Follower(mut following) => match following.landed(&mark, |held| self.store.is_unbroken(held)).await {
                    Landed::BeforePurge => outdated = Some(following),
                    Landed::With(landing) => match self.follow(arrival, &errand, landing, why) {
                        Followed::Answered(response, outcome) => return (*response, outcome),
                        Followed::OtherVariant => {}
                        Followed::Unshared => break,
                    },
                    Landed::Never => {
                        if let Some(hit) = self.hit_after_all(arrival, &errand.admitted, asked) {
                            return hit;
                        }
                    }
                },
            }
        }
        self.lead(arrival, errand, why, None).await
    }

    /// Whether a request neither follows another's fetch nor is followed: those that may see different things never follow one another, and
    /// neither do those that want a fresh answer, or one that is not storable.
    pub(super) fn goes_alone(&self, admitted: &Admitted<'_>, asked: &RequestDirectives, wants_part: bool) -> bool {
        let wants_its_own = admitted.has_open_credentials() || asked.no_cache || asked.no_store || wants_part;
        wants_its_own || self.collapser.is_unstorable(&admitted.key)
    }

    /// Fetches anew in the background, unless somebody does so already.
    pub(super) fn refresh(self: &Arc<Proxy>, arrival: &Arrival, errand: Errand<'_>) {
        // What is fetched for this one is not for all.
        if errand.admitted.has_open_credentials() || errand.asked.no_store {
            return;
        }
        let key = &errand.admitted.key;
        if let Joined::Leader(lease) = self.collapser.join(self.flight_key(key, &arrival.parts.headers), key, None) {
            // Nobody waits for the answer.
            let (answer, _) = oneshot::channel();
            self.begin(arrival, &errand, None, Some(lease), answer);
        }
    }

    /// Fetches stored responses anew in the background, a few at a time, until all are there or the process drains. What credentials
    /// selected is left out. Says how many it will be.
    pub fn fetch_again(self: &Arc<Proxy>, stored: Vec<Arc<StoredResponse>>) -> usize {
        let arrivals: Vec<Arrival> = stored.iter().filter_map(|stored| Arrival::again(stored)).collect();
        let (number, proxy) = (arrivals.len(), self.clone());
        self.tasks.spawn(async move { proxy.fetch_all(&arrivals).await });
        number
    }

    async fn fetch_all(self: &Arc<Proxy>, arrivals: &[Arrival]) {
        let places = Arc::new(Semaphore::new(AGAIN_AT_ONCE));
        for arrival in arrivals {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            if !self.tasks.is_ready() {
                return;
            }
            let Admission::Keyed(admitted) = self.admit(arrival, self.clock.now()) else { continue };
            let flight_key = self.flight_key(&admitted.key, &arrival.parts.headers);
            let Joined::Leader(lease) = self.collapser.join(flight_key, &admitted.key, None) else { continue };
            let asked = RequestDirectives::default();
            let errand = Errand {
                admitted,
                asked: &asked,
                stored: None,
                others: Vec::new(),
                wants_part: false,
                budget: self.store.budget(),
            };
            let (answer, answered) = oneshot::channel();
            self.begin(arrival, &errand, None, Some(lease), answer);
            self.tasks.spawn(async move {
                let _ = answered.await;
                drop(place);
            });
        }
    }

    /// Whether a fetch began after all purges that are known now.
    async fn began_late_enough(&self, following: &Following, budget: &mut Budget) -> bool {
        match following.held() {
            Some(held) => self.store.still_hold(held, budget).await,
            None => true,
        }
    }

    /// What a fetch is known by: the key, and the request's values of the fields that its responses are known to vary on.
    pub(super) fn flight_key(&self, key: &CacheKey, request: &HeaderMap) -> FlightKey {
        let names = self.store.told(key).selecting();
        let variant = if names.is_empty() { 0 } else { key.variant(&Selection::of(&names, request)) };
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
        match self.plan(arrival, asked, admitted, found, now) {
            Plan::Serve(tier, stored) => Some(respond::hit(arrival, tier, &stored, stored.head.ttl(now), now)),
            _ => None,
        }
    }

    /// Answers with what another request's fetch came to, if that may answer this one.
    fn follow(&self, arrival: &Arrival, errand: &Errand<'_>, landing: Landing, why: Forward) -> Followed {
        let mut now = self.clock.now();
        if let Landing::Streaming(head, _, landed) = &landing {
            // The larger of its two ages counts.
            now = now.max(head.times().received + self.clock.passed().saturating_sub(*landed));
        }
        let (method, fields) = (&arrival.parts.method, &arrival.parts.headers);
        let outcome = Outcome::forwarded(Ending::Collapsed, why, "");
        let may_reuse = |head: &StoredHead| plan::reuse(head, errand.asked, now).is_ok();
        let (response, outcome) = match landing {
            Landing::Unshared => return Followed::Unshared,
            // The fetch may have landed long ago, and its body be under way still.
            Landing::Stored(stored) if !may_reuse(&stored.head) => return Followed::Unshared,
            Landing::Streaming(head, ..) if !may_reuse(&head) => return Followed::Unshared,
            Landing::Failed(error) => match self.stand_in(method, fields, errand, Trouble::Unreachable, why) {
                Some(answered) => answered,
                None => failed(&error, why),
            },
            Landing::Erred => match self.stand_in(method, fields, errand, Trouble::Error, why) {
                Some(answered) => answered,
                None => return Followed::Unshared,
            },
            Landing::Stored(stored) if stored.head.selection.matches(fields) => {
                let response = respond::from_store(method, fields, &stored, now);
                (response, outcome.collapsed(stored.head.ttl(now)))
            }
            Landing::Streaming(head, spool, _) if head.selection.matches(fields) => match spool.reader() {
                None => return Followed::Unshared,
                Some(reader) => {
                    let reader = reader.beside(arrival.client.beside.clone());
                    (respond::from_fetch(method, fields, &head, None, Some(now), reader), outcome.collapsed(head.ttl(now)))
                }
            },
            Landing::Stored(_) | Landing::Streaming(..) => return Followed::OtherVariant,
        };
        Followed::Answered(Box::new(response), outcome)
    }

    /// Answers with what is stored, because the origin gives no answer that is any use; `None` if that may not be.
    pub(super) fn stand_in(
        &self,
        method: &Method,
        fields: &HeaderMap,
        errand: &Errand<'_>,
        trouble: Trouble,
        why: Forward,
    ) -> Option<(Response<Body>, Outcome)> {
        let now = self.clock.now();
        let usable = |stored: &&Arc<StoredResponse>| {
            plan::may_stand_in(&stored.head, errand.asked, trouble, now) && self.store.is_unbroken(&stored.held)
        };
        let stored = errand.stored.as_ref().filter(usable)?;
        let response = respond::from_store(method, fields, stored, now);
        let detail = match trouble {
            Trouble::Unreachable => "stale-origin-unreachable",
            Trouble::Error => "stale-if-error",
        };
        Some((response, Outcome::stale(why, stored.head.ttl(now), detail)))
    }

    /// Begins a fetch and answers with what it comes to.
    async fn lead(
        self: &Arc<Proxy>,
        arrival: &Arrival,
        errand: Errand<'_>,
        why: Forward,
        lease: Option<Lease>,
    ) -> (Response<Body>, Outcome) {
        let (answer, answered) = oneshot::channel();
        self.begin(arrival, &errand, arrival.client.interim.as_ref(), lease, answer);
        self.answer(arrival, &errand, why, answered).await
    }

    /// Answers with what a fetch comes to.
    pub(super) async fn answer(
        &self,
        arrival: &Arrival,
        errand: &Errand<'_>,
        why: Forward,
        answered: oneshot::Receiver<Answer>,
    ) -> (Response<Body>, Outcome) {
        let answered = answered.await;
        let now = self.clock.now();
        let (method, fields) = (&arrival.parts.method, &arrival.parts.headers);
        match answered {
            Ok(Answer::Stored(head, reader, as_they_came, kept)) => {
                // It comes straight from the origin; what it says of its age is the origin's word.
                let reader = reader.beside(arrival.client.beside.clone());
                let response = respond::from_fetch(method, fields, &head, Some(as_they_came), None, reader);
                let outcome = match kept {
                    Ok(()) => Outcome::forwarded(Ending::Miss, why, "").stored_for(head.ttl(now)),
                    Err(not_kept) => Outcome::forwarded(Ending::Miss, why, not_kept.as_str()),
                };
                (response, outcome)
            }
            Ok(Answer::Confirmed(stored, status, is_kept)) => {
                let response = respond::from_store(method, fields, &stored, now);
                let outcome = Outcome::forwarded(Ending::Validated, why, "").with_forward_status(status);
                (response, if is_kept { outcome.stored_for(stored.head.ttl(now)) } else { outcome })
            }
            Ok(Answer::Elsewhere(stored)) => {
                let response = respond::from_store(method, fields, &stored, now);
                (response, Outcome::forwarded(Ending::Collapsed, why, "").collapsed(stored.head.ttl(now)))
            }
            Ok(Answer::Direct(response, _)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                respond::unasked_switch(why, &errand.admitted.route.name)
            }
            Ok(Answer::Direct(response, not_stored)) => {
                let response = response.map(Body::relay);
                (response, Outcome::forwarded(Ending::Miss, why, not_stored.as_str()))
            }
            Ok(Answer::Failed(error)) => {
                self.stand_in(method, fields, errand, Trouble::Unreachable, why).unwrap_or_else(|| failed(&error, why))
            }
            Ok(Answer::Erred(response, not_stored)) => match self.stand_in(method, fields, errand, Trouble::Error, why) {
                Some((stale, outcome)) => (stale, outcome.with_forward_status(response.status())),
                None => (response.map(Body::relay), Outcome::forwarded(Ending::Miss, why, not_stored.as_str())),
            },
            Err(_) => {
                // The task panicked; its own line in the log says why.
                (respond::internal(), Outcome::forwarded(Ending::Error, why, "internal"))
            }
        }
    }

    /// Spawns the fetch. What the origin says before its response is for the client that waits for it, if one does.
    fn begin(
        self: &Arc<Proxy>,
        arrival: &Arrival,
        errand: &Errand<'_>,
        interim: Option<&Interim>,
        lease: Option<Lease>,
        answer: oneshot::Sender<Answer>,
    ) {
        let Errand { admitted, asked, stored, others, wants_part, budget } = errand;
        let told = self.store.told(&admitted.key);
        let (mut request, withheld) = request_to_fill(arrival, admitted, &told, stored.as_deref(), others, *wants_part);
        if let Some(interim) = interim {
            interim.relay(&mut request);
        }
        let fetch = Fetch {
            request,
            scopes: admitted.scopes(&arrival.parts).clone(),
            route: admitted.route.clone(),
            asked: Asked::of(arrival, errand, Shown { told, withheld }),
            key: admitted.key.clone(),
            stored: stored.clone(),
            query_rule: admitted.query_rule.clone(),
            posted: None,
            lease,
            budget: *budget,
            may_wait: asked.max_age.is_none() && asked.min_fresh.is_none(),
            answer,
        };
        // In a place of its own: the runtime would move it about, and it is large.
        self.tasks.spawn(Box::pin(self.clone().run(fetch)));
    }
}

/// The sidecar's own answer to who waited for an origin that gave none.
fn failed(error: &OriginError, why: Forward) -> (Response<Body>, Outcome) {
    (respond::origin_failed(error), Outcome::forwarded(Ending::Error, why, respond::reason_of(error)))
}

/// What came of following.
enum Followed {
    Answered(Box<Response<Body>>, Outcome),
    OtherVariant,
    Unshared,
}

/// The request that fills the cache: shows the origin nothing that could change the response and is not in the key. With it, the names
/// of the fields that are withheld.
pub(super) fn request_to_fill(
    arrival: &Arrival,
    admitted: &Admitted<'_>,
    told: &Told,
    stored: Option<&StoredResponse>,
    others: &[HeaderValue],
    wants_part: bool,
) -> (Request<RequestBody>, Vec<HeaderName>) {
    // Where content is part of the key, it was read.
    let (method, body) = match &arrival.body {
        ArrivedBody::Read(content) => (arrival.parts.method.clone(), RequestBody::whole(content.clone())),
        _ if Route::has_content(&arrival.parts.method) => (arrival.parts.method.clone(), RequestBody::empty()),
        _ => (Method::GET, RequestBody::empty()),
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = match &admitted.target {
        Some(target) => Uri::from(target.clone()),
        None => arrival.parts.uri.clone(),
    };
    let mut fields = arrival.parts.headers.clone();
    let withheld = admitted.route.hide(&arrival.parts.method, &mut fields, told);
    let client_range = [RANGE, IF_RANGE].map(|name| fields.get(&name).cloned().filter(|_| wants_part));
    let missing = stored.and_then(|stored| {
        let part = stored.head.part().filter(|_| !wants_part)?;
        Some([range::missing(&part), range::if_range_value(&stored.head.fields())])
    });
    match stored {
        Some(stored) if stored.head.part().is_none() => conditional::add_validators(&mut fields, &stored.head.fields()),
        _ => {
            conditional::remove(&mut fields);
            candidates::add_tags(&mut fields, others);
        }
    }
    for (name, value) in [RANGE, IF_RANGE].into_iter().zip(missing.unwrap_or(client_range)) {
        if let Some(value) = value {
            fields.insert(name, value);
        }
    }
    outgoing::to_origin(&mut fields, arrival);
    if !admitted.route.trusts_vary() {
        outgoing::hide_client(&mut fields, arrival);
    }
    *request.headers_mut() = fields;
    (request, withheld)
}

/// So many responses are fetched anew at once, so that the origin has room for requests.
const AGAIN_AT_ONCE: usize = 8;

/// A follower whose variant was another tries again, now that the selecting fields are known; this often at most.
const JOINS_MAX: usize = 3;

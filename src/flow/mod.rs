//! One request, from arrival to response.
//!
//! [`Proxy::serve`] is the whole story; the files are its steps.
//!
//! | file | step |
//! |---|---|
//! | `arrival` | read the request, or refuse it |
//! | `known` | or know it by its octets, and answer from memory |
//! | `plan` | what may we do with what we have? |
//! | `fetch` | ask the origin for something that may be stored, once for all who want it |
//! | `fill` | the fetch itself, a task of its own |
//! | `ask` | what the origin is asked about what is stored |
//! | `underway` | a fetch under way, and how it ends for all who wait |
//! | `replicas` | one fetch for all replicas |
//! | `collapse`, `spool` | who leads and who follows; the body that they share |
//! | `settle` | what may we keep of what we got? |
//! | `head` | what a response to HEAD says about what is stored |
//! | `invalidate` | what a request that changes something makes invalid |
//! | `post` | a POST whose response is what a later GET would get |
//! | `pass` | relay a request and its response past the cache |
//! | `interim` | what the origin says before its response, to the client that caused it |
//! | `outgoing` | the fields that a proxy changes |
//! | `respond`, `body`, `stall` | the response to the client, who may stall |
//! | `options` | what one request may do |
//! | `outcome`, `access` | how it ended: header, counters, log |
//! | `explain` | what a request would come to, for those who ask why |
//! | `tunnel` | WebSockets, and other protocols that are spoken instead of HTTP |

mod access;
mod arrival;
mod ask;
mod body;
mod collapse;
mod explain;
mod fetch;
mod fill;
mod head;
mod interim;
mod invalidate;
mod known;
#[cfg(test)]
mod model;
mod options;
mod outcome;
mod outgoing;
mod pass;
mod plan;
mod post;
mod replicas;
mod respond;
mod settle;
mod spool;
mod stall;
mod tunnel;
mod underway;

pub use arrival::Client;
pub use body::{Body, ClientBodyError};
pub use explain::{Explained, FetchUnderWay, Fields, Keyed, Verdict};
pub use interim::{Interim, Outbox, Turn};
pub use options::Options;
pub use respond::internal;

use crate::clock::Clock;
use crate::origin::{Origin, OriginError};
use crate::rules::{Admission, Admitted, Bypass, CacheKey, RuleSet};
use crate::semantics::Forward;
use crate::semantics::directives::{self, RequestDirectives};
use crate::semantics::fields::Kind;
use crate::stats::{Counters, RouteStats, Stats};
use crate::store::{Lookup, Store};
use crate::tasks::Tasks;
use access::AccessRecord;
use arc_swap::ArcSwap;
use arrival::{Arrival, ArrivedBody};
use bytes::Bytes;
use collapse::Collapser;
use fetch::Errand;
use http::header::{CONTENT_TYPE, EXPECT};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use known::Known;
use outcome::Outcome;
use plan::{Plan, Trouble, Wanted};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// All that a request needs; shared by all requests.
pub struct Proxy {
    rules: RuleSet,
    store: Arc<Store>,
    origin: Arc<Origin>,
    collapser: Arc<Collapser>,
    stats: Arc<Stats>,
    counters: Counters,
    known: Known,
    tasks: Tasks,
    clock: Clock,
    options: Options,
}

/// What answers the requests of a listener.
pub trait Answer: Send + Sync + 'static {
    /// Answers a request.
    fn answer(self: Arc<Self>, request: Request<Incoming>, client: Client) -> impl Future<Output = Response<Body>> + Send;

    /// Answers a request of HTTP/1.1 of which these are all octets, if that can be done without reading it: at once, in which case the
    /// response's head is written behind `head`, as it goes over the wire; or in a moment.
    fn answer_known(self: &Arc<Self>, octets: &[u8], address: IpAddr, is_secure: bool, head: &mut Vec<u8>) -> AnswerKnown {
        let _ = (octets, address, is_secure, head);
        AnswerKnown::Unknown
    }
}

/// What becomes of a request that may be known.
pub enum AnswerKnown {
    /// It is not, or cannot be answered without being read.
    Unknown,
    /// It is answered: this is the body.
    Now(Bytes),
    /// It may be: by a head, as it goes over the wire, and a body.
    InAMoment(Pin<Box<dyn Future<Output = Option<Written>> + Send>>),
}

/// A response as it goes over the wire: its head, and its body.
pub type Written = (Vec<u8>, Bytes);

impl Answer for Proxy {
    async fn answer(self: Arc<Proxy>, request: Request<Incoming>, client: Client) -> Response<Body> {
        self.serve(request, client).await
    }

    fn answer_known(self: &Arc<Proxy>, octets: &[u8], address: IpAddr, is_secure: bool, head: &mut Vec<u8>) -> AnswerKnown {
        self.serve_known(octets, address, is_secure, head)
    }
}

/// What can be exchanged while connections are open: each request is answered by what is there when it comes, to its end.
impl<A: Answer> Answer for ArcSwap<A> {
    async fn answer(self: Arc<ArcSwap<A>>, request: Request<Incoming>, client: Client) -> Response<Body> {
        self.load_full().answer(request, client).await
    }

    fn answer_known(self: &Arc<Self>, octets: &[u8], address: IpAddr, is_secure: bool, head: &mut Vec<u8>) -> AnswerKnown {
        self.load().answer_known(octets, address, is_secure, head)
    }
}

impl Proxy {
    /// Puts the parts together.
    pub fn new(
        rules: RuleSet,
        store: Arc<Store>,
        origin: Arc<Origin>,
        stats: Arc<Stats>,
        tasks: Tasks,
        clock: Clock,
        options: Options,
    ) -> Arc<Proxy> {
        let collapser = Collapser::new(options.followers_max, options.remember_unstorable, clock.clone());
        let counters = stats.counters(rules.routes().iter().map(|route| route.name.as_str()));
        let known = Known::new(store.is_in_redis_alone());
        Arc::new(Proxy { rules, store, origin, collapser, stats, counters, known, tasks, clock, options })
    }

    /// Drops content that has no meaning (RFC 9110 §9.3.1), as that of a `GET`: what is not in the key the origin is not shown. It is read
    /// first, since what has no right end is no request; but who asks before sending it is answered without.
    async fn drop_content(&self, arrival: &mut Arrival) -> Result<(), OriginError> {
        if !self.has_void_content(arrival) {
            return Ok(());
        }
        let has_body = !matches!(arrival.body, ArrivedBody::None);
        if has_body && !arrival.parts.headers.contains_key(EXPECT) {
            Box::pin(arrival.read_body(DRAINED_BYTES_MAX, self.options.client_idle_timeout)).await?;
        }
        arrival.forget_content();
        Ok(())
    }

    fn has_void_content(&self, arrival: &Arrival) -> bool {
        let has_body = !matches!(arrival.body, ArrivedBody::None);
        let names_content = || arrival.kinds.has(Kind::Unkeyed) && arrival.parts.headers.contains_key(CONTENT_TYPE);
        (has_body || names_content()) && self.options.enabled && self.rules.ignores_content(&arrival.parts)
    }

    /// Answers a request.
    pub async fn serve(self: &Arc<Proxy>, request: Request<Incoming>, client: Client) -> Response<Body> {
        let (now, started) = (self.clock.now(), Instant::now() - client.waited);
        let mut arrival = match Arrival::read(request, client, &self.options, &self.rules) {
            Ok(arrival) => arrival,
            Err(why) => {
                self.stats.bad_requests.inc();
                return respond::refused(why);
            }
        };
        if !outgoing::spend_hop(&mut arrival.parts) {
            return respond::last_hop();
        }
        if let Err(error) = self.drop_content(&mut arrival).await {
            return respond::origin_failed(&error);
        }
        let is_http2 = arrival.parts.version == Version::HTTP_2;
        let record = self.options.access_log.then(|| AccessRecord::of(&arrival, started));
        let mut admission = self.admit(&arrival, now);
        // What is no hit has its memory when it comes: a connection keeps what its largest request took, also while it is idle.
        if matches!(admission, Admission::WantsContent { .. }) {
            let reading = arrival.read_body(self.options.key_body_bytes_max, self.options.client_idle_timeout);
            if let Err(error) = Box::pin(reading).await {
                return respond::origin_failed(&error);
            }
            admission = self.admit(&arrival, now);
        }
        let counters = self.counters.of(admission.route());

        let shown_key = match &admission {
            Admission::Keyed(admitted) if self.options.shows_key => Some(admitted.key.to_string()),
            _ => None,
        };
        let (mut response, mut outcome) = match admission {
            Admission::Past { why, .. } => match self.twin_of_post(&arrival) {
                Some(twin) => Box::pin(self.post(arrival, twin)).await,
                None => Box::pin(self.pass(arrival, &counters.name, forward_of(&why), why.as_str())).await,
            },
            // It is too much to read before it is sent on.
            Admission::WantsContent { .. } => {
                Box::pin(self.pass(arrival, &counters.name, Forward::Bypass, Bypass::RequestBody.as_str())).await
            }
            Admission::Keyed(admitted) => self.look_up(arrival, admitted, now).await,
        };
        if let Some(key) = shown_key {
            outcome = outcome.with_key(key);
        }
        self.strip_tags(&mut response);
        outcome.annotate(&mut response);
        self.note(&outcome, counters, started);
        if is_http2 {
            response = response.map(|body| body.watched(self.options.client_idle_timeout));
        }
        if let Some(record) = record {
            let record = record.answered(&counters.name, response.status(), outcome.words());
            response = response.map(|body| body.recorded(record));
        }
        response
    }

    /// Takes the fields that name tags off a response, where nobody is to see them: also one that was not stored, or not taken from what is.
    fn strip_tags(&self, response: &mut Response<Body>) {
        if self.options.strip_tag_fields {
            self.options.tag_fields.iter().for_each(|field| drop(response.headers_mut().remove(field.name())));
        }
    }

    /// Counts and logs what happened.
    fn note(&self, outcome: &Outcome, counters: &RouteStats, started: Instant) {
        outcome.count(counters, started.elapsed());
        outcome.log(&counters.name);
    }

    /// Answers a request that may use the cache.
    async fn look_up(self: &Arc<Proxy>, arrival: Arrival, admitted: Admitted<'_>, now: SystemTime) -> (Response<Body>, Outcome) {
        let fields = &arrival.parts.headers;
        let asked = asked_by(&arrival, &admitted);
        let mut budget = self.store.budget().after(arrival.client.waited);
        let found = self.store.lookup(&admitted.key, fields, || admitted.scopes(&arrival.parts), &mut budget, now).await;
        let redis_was_asked = self.store.has_redis() && !matches!(found, Lookup::Unavailable);
        let plan = self.plan(&arrival, &asked, &admitted, found, now);
        if let Plan::Serve(_, stored) = &plan {
            self.get_to_know(&arrival, &admitted, stored);
        }
        let route = &admitted.route.name;
        let errand = |stored| Errand { admitted, asked: &asked, stored, others: Vec::new(), wants_part: false, budget };
        let (response, outcome) = match plan {
            Plan::Serve(tier, stored) => respond::hit(&arrival, tier, &stored, stored.head.ttl(now), now),
            Plan::ServeAndRefresh(tier, stored, ttl) => {
                self.refresh(&arrival, errand(Some(stored.clone())));
                respond::hit(&arrival, tier, &stored, ttl, now)
            }
            Plan::Validate(stored, why) | Plan::Replace(stored, why) => {
                Box::pin(self.fetch(&arrival, errand(Some(stored)), why)).await
            }
            Plan::Complete(stored) => Box::pin(self.fetch(&arrival, errand(Some(stored)), Forward::Partial)).await,
            Plan::Fetch(why) => Box::pin(self.fetch(&arrival, errand(None), why)).await,
            Plan::Select(others) => Box::pin(self.fetch(&arrival, Errand { others, ..errand(None) }, Forward::VaryMiss)).await,
            Plan::FetchPart(why) => Box::pin(self.fetch(&arrival, Errand { wants_part: true, ..errand(None) }, why)).await,
            Plan::Head(stored, why) => Box::pin(self.ask_head(arrival, errand(Some(stored.clone())), &stored, why)).await,
            Plan::Pass(why, detail) => Box::pin(self.pass(arrival, route, why, detail)).await,
            Plan::Refuse => respond::only_if_cached(),
        };
        (response, outcome.after_look_up(redis_was_asked))
    }

    /// The state of the tiers and the counters, for those who operate them.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The service behind us.
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// The routes.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The time of day, as requests see it.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The counters of the routes.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Fetches under way that others may follow.
    pub fn fetches_under_way(&self) -> usize {
        self.collapser.under_way()
    }

    /// Requests that wait for these.
    pub fn followers(&self) -> usize {
        self.collapser.followers()
    }

    fn plan(
        &self,
        arrival: &Arrival,
        asked: &RequestDirectives,
        admitted: &Admitted<'_>,
        found: Lookup,
        now: SystemTime,
    ) -> Plan {
        plan::plan(&self.wanted(arrival, asked, admitted), found, &Remembered { proxy: self, key: &admitted.key }, now)
    }

    fn wanted<'a>(&self, arrival: &'a Arrival, asked: &'a RequestDirectives, admitted: &'a Admitted<'a>) -> Wanted<'a> {
        Wanted {
            method: &arrival.parts.method,
            fields: &arrival.parts.headers,
            asked,
            admitted,
            body_bytes_max: self.options.body_bytes_max,
        }
    }

    fn admit(&self, arrival: &Arrival, now: SystemTime) -> Admission<'_> {
        match (self.options.enabled, &arrival.upgrade) {
            (true, None) => {
                let query_rule = |path: &str| self.store.query_rule(path);
                self.rules.admit(&arrival.parts, &arrival.forwarding(), arrival.body.content(), now, query_rule)
            }
            (true, Some(_)) => Admission::Past { route: self.rules.index_of(arrival.parts.uri.path()), why: Bypass::Upgrade },
            (false, _) => Admission::Past { route: self.rules.index_of(arrival.parts.uri.path()), why: Bypass::Disabled },
        }
    }
}

/// What a request asks of caches, where its route lets it.
fn asked_by(arrival: &Arrival, admitted: &Admitted<'_>) -> RequestDirectives {
    match arrival.kinds.has(Kind::Asking) && !admitted.route.ignores_request_directives {
        true => directives::request(&arrival.parts.headers),
        false => RequestDirectives::default(),
    }
}

/// What is remembered of a key's latest fetches.
struct Remembered<'a> {
    proxy: &'a Proxy,
    key: &'a CacheKey,
}

impl plan::Memory for Remembered<'_> {
    fn is_unstorable(&self) -> bool {
        self.proxy.collapser.is_unstorable(self.key)
    }

    fn trouble(&self) -> Option<(Trouble, bool)> {
        self.proxy.collapser.trouble(self.key)
    }

    fn chance(&self) -> f64 {
        fastrand::f64()
    }
}

/// Of a body that nobody looks at, so much is read; with more, the connection is closed.
const DRAINED_BYTES_MAX: usize = 64 << 10;

/// RFC 9211 §2.2 has words for two kinds of going past the cache.
fn forward_of(why: &Bypass) -> Forward {
    match why {
        Bypass::Method => Forward::Method,
        _ => Forward::Bypass,
    }
}

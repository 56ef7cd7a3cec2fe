//! What a request would come to, and why: for those who ask, without asking the origin, and without a trace.
//!
//! The steps are those of `Proxy::serve`, up to the plan, with the same functions. What is only looked at there is looked at here
//! ([`Store::look`](crate::store::Store::look)); what is left to chance does not happen.

use super::arrival::{Arrival, Client};
use super::fetch::request_to_fill;
use super::outcome::Outcome;
use super::plan::{self, HEAD, Memory, Plan, Trouble};
use super::{Proxy, Remembered, asked_by, forward_of, outgoing, respond};
use crate::rules::{Admission, Admitted, Bypass, Filled, KeyParts, Route};
use crate::semantics::Forward;
use crate::stats::Ending;
use crate::store::{Look, StoredResponse, Tier};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body_util::Empty;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How a request would be treated.
pub struct Explained<'a> {
    /// What would happen.
    pub verdict: Verdict,
    /// How `Cache-Status` would begin, where there would be one.
    pub cache_status: Option<String>,
    /// The route that matches.
    pub route: Option<&'a Arc<Route>>,
    /// Why it goes past the cache, and the fields that are the reason.
    pub past: Option<(Bypass, Vec<String>)>,
    /// What becomes of its fields.
    pub fields: Fields,
    /// The tags of the route's templates.
    pub tags: Vec<Filled>,
    /// What is known of its key, if it may use the cache.
    pub keyed: Option<Keyed>,
    /// The moment that all this is about.
    pub now: SystemTime,
}

/// What would happen to a request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is refused, with this status, for this reason.
    Refused(StatusCode, &'static str),
    /// It is answered with a stored response, which is fresh.
    Hit(Tier, Arc<StoredResponse>),
    /// It is answered with a stored response that is stale.
    Stale(Tier, Arc<StoredResponse>),
    /// The same, and a new one is fetched in the background.
    StaleAndRefresh(Tier, Arc<StoredResponse>),
    /// The origin is asked whether a stored response still holds, or for what is missing of it.
    Validate(Arc<StoredResponse>, Forward),
    /// The origin is asked for a response that may be stored.
    Fetch(Forward),
    /// It is answered with what another request is fetching.
    Follow(Forward),
    /// It is relayed, although it may use the cache: for this reason, and in this word.
    Relay(Forward, &'static str),
    /// It goes past the cache.
    Past,
    /// It wants a stored response or none, and there is none.
    OnlyIfCached,
}

/// What becomes of a request's fields, each in one of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// They are in the key, or what tells callers apart in them is.
    pub in_key: Vec<HeaderName>,
    /// The origin is not shown them: they could steer it, or change what others share, or the cache answers them itself.
    pub withheld: Vec<HeaderName>,
    /// The origin is shown them.
    pub passed: Vec<HeaderName>,
    /// What stands in them is the sidecar's own, or they are of the connection alone.
    pub replaced: Vec<HeaderName>,
}

/// What is known of a key.
pub struct Keyed {
    /// Its hash, as `Cache-Status` shows it.
    pub hash: String,
    /// Its parts, as far as anybody may see them.
    pub parts: Option<KeyParts>,
    /// The credentials of the request that nothing in the key stands for.
    pub open_credentials: Vec<&'static str>,
    /// What the tiers have.
    pub look: Look,
    /// The key's last response could not be stored.
    pub is_unstorable: bool,
    /// What trouble there was with the origin when it was asked for this key last.
    pub trouble: Option<&'static str>,
    /// The fetch for the same that is under way.
    pub fetch: Option<FetchUnderWay>,
    /// Whatever is fetched for the request is not stored, since it says so.
    pub asks_not_to_store: bool,
}

/// A fetch under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchUnderWay {
    /// So many requests wait for it.
    pub followers: usize,
    /// A purge has come since it began, so the request would not follow it.
    pub is_outdated: bool,
}

impl Verdict {
    /// What would happen, in a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Refused(..) => "refused",
            Verdict::Hit(..) => "hit",
            Verdict::Stale(..) => "stale",
            Verdict::StaleAndRefresh(..) => "stale-and-refresh",
            Verdict::Validate(..) => "validate",
            Verdict::Fetch(_) => "fetch",
            Verdict::Follow(_) => "follow",
            Verdict::Relay(..) | Verdict::Past => "past",
            Verdict::OnlyIfCached => "only-if-cached",
        }
    }
}

impl Proxy {
    /// Explains how a request would be treated by the rules that are in force. `is_secure` says that it comes over TLS. What a proxy would
    /// say of its client counts as if one said it that is trusted, where any is.
    pub async fn explain(&self, request: Request<Empty<Bytes>>, is_secure: bool) -> Explained<'_> {
        let now = self.now();
        let given = request.headers().clone();
        let proxy = self.options.trusted_proxies.first();
        let client = Client {
            address: proxy.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |proxy| proxy.addr()),
            is_secure,
            interim: None,
            octets: None,
            waited: Duration::ZERO,
            beside: None,
        };
        let nothing = Explained {
            verdict: Verdict::Past,
            cache_status: None,
            route: None,
            past: None,
            fields: Fields::default(),
            tags: Vec::new(),
            keyed: None,
            now,
        };
        let mut arrival = match Arrival::imagined(request, client, &self.options, &self.rules) {
            Ok(arrival) => arrival,
            Err(why) => return Explained { verdict: Verdict::Refused(why.status(), why.as_str()), ..nothing },
        };
        if !outgoing::spend_hop(&mut arrival.parts) {
            let verdict = Verdict::Refused(StatusCode::OK, "Max-Forwards lets it go no further");
            return Explained { verdict, ..nothing };
        }
        if self.has_void_content(&arrival) {
            arrival.forget_content();
        }
        let admission = self.admit(&arrival, now);
        let route = admission.route().map(|index| &self.rules.routes()[index]);
        let tags = route.map_or_else(Vec::new, |route| route.filled(&arrival.parts));
        let admitted = match admission {
            Admission::Keyed(admitted) => admitted,
            Admission::Past { why, .. } => return self.explain_past(arrival, &given, why, Explained { route, tags, ..nothing }),
            // Nobody asks about content.
            Admission::WantsContent { .. } => {
                return self.explain_past(arrival, &given, Bypass::RequestBody, Explained { route, tags, ..nothing });
            }
        };
        let (verdict, keyed) = self.explain_keyed(&arrival, &admitted, now).await;
        let cache_status = match &verdict {
            Verdict::Hit(tier, stored) | Verdict::Stale(tier, stored) => Some(Outcome::hit(*tier, stored.head.ttl(now))),
            // What a soft purge has made stale was fresh until then, whatever it says itself.
            Verdict::StaleAndRefresh(tier, stored) => Some(Outcome::hit(*tier, stored.head.ttl(now).min(0))),
            Verdict::Validate(_, why) | Verdict::Fetch(why) | Verdict::Follow(why) => {
                Some(Outcome::forwarded(Ending::Miss, *why, ""))
            }
            Verdict::Relay(why, detail) => Some(Outcome::forwarded(Ending::Pass, *why, detail)),
            Verdict::OnlyIfCached => Some(respond::only_if_cached().1),
            Verdict::Past | Verdict::Refused(..) => None,
        };
        let told = self.store.told(&admitted.key);
        let (filling, _) = request_to_fill(&arrival, &admitted, &told, None, &[], false);
        let is_in_key = |name: &HeaderName| admitted.route.has_in_key(name, &arrival.parts.method);
        let fields = Fields::of(&given, filling.headers(), &arrival.parts.headers, is_in_key);
        let cache_status = cache_status.map(|outcome| outcome.words());
        Explained { verdict, cache_status, route, past: None, fields, tags, keyed: Some(keyed), now }
    }

    fn explain_past<'a>(&self, mut arrival: Arrival, given: &HeaderMap, why: Bypass, nothing: Explained<'a>) -> Explained<'a> {
        // What becomes of the response to one that may be what a `GET` would get, only that tells.
        let detail = if self.twin_of_post(&arrival).is_some() { "" } else { why.as_str() };
        let cache_status = Some(Outcome::forwarded(Ending::Pass, forward_of(&why), detail).words());
        let causes = nothing.route.map_or_else(Vec::new, |route| why.causes(route, &arrival.parts));
        let relayed = self.request_past(&mut arrival);
        let fields = Fields::of(given, relayed.headers(), &arrival.parts.headers, |_| false);
        Explained { cache_status, past: Some((why, causes)), fields, ..nothing }
    }

    async fn explain_keyed(&self, arrival: &Arrival, admitted: &Admitted<'_>, now: SystemTime) -> (Verdict, Keyed) {
        let (asked, request) = (asked_by(arrival, admitted), &arrival.parts.headers);
        let look = self.store.look(&admitted.key, request, admitted.scopes(&arrival.parts), now).await;
        let remembered = Remembered { proxy: self, key: &admitted.key };
        let wanted = self.wanted(arrival, &asked, admitted);
        let plan = plan::plan(&wanted, look.lookup.clone(), &Luckless(&remembered), now);
        let flight = self.collapser.look(self.flight_key(&admitted.key, request), &admitted.key);
        let fetch = flight.map(|(began, followers)| FetchUnderWay {
            followers,
            is_outdated: began.is_some_and(|held| !self.store.is_unbroken(&held)),
        });
        let is_full = |fetch: FetchUnderWay| fetch.followers >= self.options.followers_max;
        let follows = |wants_part| {
            let can_follow = fetch.is_some_and(|fetch| !fetch.is_outdated && !is_full(fetch));
            can_follow && !self.goes_alone(admitted, &asked, wants_part)
        };
        let verdict = match plan {
            Plan::Serve(tier, stored) if stored.head.is_fresh(now) => Verdict::Hit(tier, stored),
            Plan::Serve(tier, stored) => Verdict::Stale(tier, stored),
            Plan::ServeAndRefresh(tier, stored, _) => Verdict::StaleAndRefresh(tier, stored),
            Plan::Validate(_, why) | Plan::Replace(_, why) | Plan::Fetch(why) if follows(false) => Verdict::Follow(why),
            Plan::Complete(_) if follows(false) => Verdict::Follow(Forward::Partial),
            Plan::Select(_) if follows(false) => Verdict::Follow(Forward::VaryMiss),
            Plan::Validate(stored, why) => Verdict::Validate(stored, why),
            Plan::Complete(stored) => Verdict::Validate(stored, Forward::Partial),
            Plan::Replace(_, why) | Plan::Fetch(why) | Plan::FetchPart(why) => Verdict::Fetch(why),
            Plan::Select(_) => Verdict::Fetch(Forward::VaryMiss),
            Plan::Head(_, why) => Verdict::Relay(why, HEAD),
            Plan::Pass(why, detail) => Verdict::Relay(why, detail),
            Plan::Refuse => Verdict::OnlyIfCached,
        };
        let open = [("authorization", admitted.authorization), ("cookie", admitted.cookie)];
        let keyed = Keyed {
            hash: admitted.key.to_string(),
            parts: admitted.key.readable(),
            open_credentials: open.into_iter().filter(|(_, is_open)| *is_open).map(|(name, _)| name).collect(),
            look,
            is_unstorable: remembered.is_unstorable(),
            trouble: remembered.trouble().map(|(trouble, _)| match trouble {
                Trouble::Unreachable => "unreachable",
                Trouble::Error => "error",
            }),
            fetch,
            asks_not_to_store: asked.no_store,
        };
        (verdict, keyed)
    }
}

/// What is remembered, where chance has nothing begun.
struct Luckless<'a>(&'a Remembered<'a>);

impl Memory for Luckless<'_> {
    fn is_unstorable(&self) -> bool {
        self.0.is_unstorable()
    }

    fn trouble(&self) -> Option<(Trouble, bool)> {
        self.0.trouble()
    }

    fn chance(&self) -> f64 {
        0.0
    }
}

impl Fields {
    /// Tells what becomes of the fields of a request that was given, from those that the origin would be sent, and from those that the
    /// request had when it was decided about.
    fn of(given: &HeaderMap, sent: &HeaderMap, arrived: &HeaderMap, is_in_key: impl Fn(&HeaderName) -> bool) -> Fields {
        let mut fields = Fields::default();
        for name in given.keys() {
            let is_sent = given.get_all(name).iter().eq(sent.get_all(name));
            let list = match () {
                () if arrived.contains_key(name) && is_in_key(name) => &mut fields.in_key,
                () if is_sent => &mut fields.passed,
                () if arrived.contains_key(name) && !sent.contains_key(name) => &mut fields.withheld,
                () => &mut fields.replaced,
            };
            list.push(name.clone());
        }
        fields
    }
}

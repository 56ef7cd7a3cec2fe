//! The code under test as one cache: the pure functions of `flow`, `rules` and `semantics`, put together as `Proxy` does it, with a
//! `Vec` for a store and neither sockets nor tasks.

use super::super::arrival::Arrival;
use super::super::ask::{To, is_about};
use super::super::plan::{self, Memory, Plan, Trouble, Wanted};
use super::super::settle::{self, Asked, Got, Shown};
use super::super::spool::Spool;
use super::super::{Options, fetch, head, respond};
use super::history::{Framing, Request, Response, START_MS, World};
use super::messages::{client_got, from_header_map, header_map, to_origin};
use super::routes::{ROUTES, RouteSpec};
use crate::rules::{Admission, Admitted, Caching, Content, Pattern, Route, RuleSet, Share, Told, Unkeyed};
use crate::semantics::directives::{self, RequestDirectives};
use crate::semantics::{StoredHead, Times, conditional, invalidation, range};
use crate::store::{Held, Lookup, StoredResponse, Tier};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The cache: what is stored, the newest first, and what is remembered of failures, by target.
pub(super) struct Driver<'a> {
    rules: &'a RuleSet,
    options: &'a Options,
    held: Held,
    stored: Vec<(String, Arc<StoredResponse>)>,
    remembered: Vec<(String, Remembered)>,
}

/// What is remembered of a key's latest fetches, as `Collapser` does it.
#[derive(Clone, Default)]
struct Remembered {
    unstorable_until: Option<SystemTime>,
    failed: Option<(Trouble, SystemTime)>,
}

struct RememberedAt(Remembered, SystemTime);

impl Memory for RememberedAt {
    fn is_unstorable(&self) -> bool {
        self.0.unstorable_until.is_some_and(|until| self.1 < until)
    }

    fn trouble(&self) -> Option<(Trouble, bool)> {
        let (trouble, at) = self.0.failed?;
        let since = self.1.duration_since(at).unwrap_or_default();
        (since < Duration::from_secs(60)).then_some((trouble, since < Duration::from_secs(1)))
    }

    fn chance(&self) -> f64 {
        0.0
    }
}

/// A fetch, as in `Errand` and `Fetch`.
struct Errand<'a> {
    admitted: &'a Admitted<'a>,
    asked: &'a RequestDirectives,
    stored: Option<Arc<StoredResponse>>,
    wants_part: bool,
    has_lease: bool,
}

/// The rules of all routes, each for the targets below its number.
pub(super) fn rules() -> RuleSet {
    let route = |(number, spec): (usize, &RouteSpec)| {
        let seconds = Duration::from_secs;
        let pattern = Pattern::parse(&format!("/{number}/{{*rest}}")).unwrap();
        Route {
            caching: match spec.ttl {
                None => Caching::Standard,
                Some(ttl) => Caching::Rule { ttl: seconds(ttl), overrides: spec.overrides },
            },
            ttl_by_status: spec
                .ttl_by_status
                .iter()
                .map(|(status, ttl)| (StatusCode::from_u16(*status).unwrap(), seconds(*ttl)))
                .collect(),
            stale_while_revalidate: seconds(spec.stale_while_revalidate),
            stale_if_error: seconds(spec.stale_if_error),
            early_refresh: false,
            ignores_request_directives: spec.ignores_request_directives,
            share: if spec.is_for_everyone { Share::Everyone } else { Share::ByResponse },
            unkeyed: Unkeyed::Forward,
            strip_set_cookie: spec.strips_set_cookie,
            ..Route::new("route", pattern, Duration::from_secs(60))
        }
    };
    RuleSet::new(ROUTES.iter().enumerate().map(route).collect()).unwrap()
}

impl<'a> Driver<'a> {
    pub(super) fn new(rules: &'a RuleSet, options: &'a Options, held: Held) -> Driver<'a> {
        Driver { rules, options, held, stored: Vec::new(), remembered: Vec::new() }
    }

    /// `Proxy::serve` and `Proxy::look_up`.
    pub(super) fn answer(&mut self, request: &Request, world: &mut World<'_>) -> Response {
        let arrival = arrival(request);
        let rules = self.rules;
        let Admission::Keyed(admitted) =
            rules.admit(&arrival.parts, &arrival.forwarding(), Content::None, at(world.now_ms), |_| None)
        else {
            return self.pass(request, &arrival, world);
        };
        let (method, fields, now) = (&arrival.parts.method, &arrival.parts.headers, at(world.now_ms));
        let asked = match admitted.route.ignores_request_directives {
            true => RequestDirectives::default(),
            false => directives::request(fields),
        };
        let body_bytes_max = self.options.body_bytes_max;
        let wanted = Wanted { method, fields, asked: &asked, admitted: &admitted, body_bytes_max };
        let memory = RememberedAt(self.remembered(&request.target).clone(), now);
        let plan = plan::plan(&wanted, self.lookup(&request.target, fields), &memory, now);

        let goes_alone = admitted.has_open_credentials() || asked.no_cache || asked.no_store || memory.is_unstorable();
        let errand = |stored, wants_part| Errand {
            admitted: &admitted,
            asked: &asked,
            stored,
            wants_part,
            has_lease: !goes_alone && !wants_part,
        };
        match plan {
            Plan::Serve(tier, stored) => client_got(respond::hit(&arrival, tier, &stored, stored.head.ttl(now), now).0),
            Plan::ServeAndRefresh(tier, stored, ttl) => {
                let response = client_got(respond::hit(&arrival, tier, &stored, ttl, now).0);
                if !admitted.has_open_credentials() && !asked.no_store {
                    self.fetch(&arrival, &Errand { has_lease: true, ..errand(Some(stored), false) }, world);
                }
                response
            }
            Plan::Validate(stored, _) | Plan::Replace(stored, _) | Plan::Complete(stored) => {
                self.fetch(&arrival, &errand(Some(stored), false), world)
            }
            Plan::Fetch(_) | Plan::Select(_) => self.fetch(&arrival, &errand(None, false), world),
            Plan::FetchPart(_) => self.fetch(&arrival, &errand(None, true), world),
            Plan::Head(stored, _) => self.head(request, &arrival, &errand(Some(stored), false), world),
            Plan::Pass(..) => self.pass(request, &arrival, world),
            Plan::Refuse => client_got(respond::only_if_cached().0),
        }
    }

    /// `Proxy::pass` and `Proxy::invalidate`.
    fn pass(&mut self, request: &Request, arrival: &Arrival, world: &mut World<'_>) -> Response {
        let Some(response) = world.send(request.clone()) else { return Response::own(502, Vec::new()) };
        let status = StatusCode::from_u16(response.status).unwrap();
        if !invalidation::is_safe(&arrival.parts.method) && invalidation::invalidates(status) {
            let own = arrival.parts.uri.path_and_query().unwrap();
            let named = invalidation::named_targets(b"h", own, &header_map(&response.fields));
            let scopes = self.rules.invalidated_by(&arrival.parts, &named);
            let is_changed = |target: &String| {
                let of_url = self.rules.scopes_of_url(&target.parse().unwrap(), false).unwrap();
                of_url.iter().any(|scope| scopes.contains(scope))
            };
            self.stored.retain(|(target, _)| !is_changed(target));
        }
        response
    }

    /// `Proxy::ask_head`.
    fn head(&mut self, request: &Request, arrival: &Arrival, errand: &Errand<'_>, world: &mut World<'_>) -> Response {
        let (requested, target) = (world.now_ms, request.target.as_str());
        let stored = errand.stored.clone().expect("a HEAD is about something stored");
        let sent = world.send(request.clone());
        let (now, times) = (at(world.now_ms), Times { requested: at(requested), received: at(world.now_ms) });
        let status = sent.as_ref().map(|response| StatusCode::from_u16(response.status).unwrap());
        let trouble = match status {
            None => Some(Trouble::Unreachable),
            Some(status) => plan::is_failure(status).then_some(Trouble::Error),
        };
        self.remembered(target).failed = trouble.map(|trouble| (trouble, now));
        if trouble.is_some_and(|trouble| plan::may_stand_in(&stored.head, errand.asked, trouble, now)) {
            return client_got(respond::from_store(&arrival.parts.method, &arrival.parts.headers, &stored, now));
        }
        let Some(response) = sent else { return Response::own(502, Vec::new()) };
        if status == Some(StatusCode::OK) && stored.head.status == StatusCode::OK {
            let parts = header_map(&response.fields);
            match conditional::describes(&parts, &stored.head.fields(), stored.body.len()) {
                false => self.stored.retain(|(known, _)| known != target),
                true if head::is_shown_more(arrival, errand.admitted.route, &Told::default()) => {}
                true => {
                    let got = Got { status: StatusCode::OK, fields: &parts, body_bytes: None, has_certain_end: true, times };
                    let (asked, route) = (asked_of(arrival, errand), errand.admitted.route);
                    let (head, kept) = settle::settle_confirmed(&asked, route, &stored.head, &got, self.options, 0.0);
                    if kept.is_ok() {
                        self.insert(target, self.response(errand.admitted, head, stored.body.clone()));
                    }
                }
            }
        }
        response
    }

    /// `Proxy::lead` and what it begins, `Proxy::run`.
    fn fetch(&mut self, arrival: &Arrival, errand: &Errand<'_>, world: &mut World<'_>) -> Response {
        let Errand { admitted, stored, wants_part, has_lease, .. } = errand;
        let (method, fields) = (&arrival.parts.method, &arrival.parts.headers);
        let (route, target) = (admitted.route, arrival.parts.uri.path());
        let (request, _) = fetch::request_to_fill(arrival, admitted, &Told::default(), stored.as_deref(), &[], *wants_part);
        let mut to = To::for_stored(stored.as_deref());
        let mut requested = world.now_ms;
        let mut sent = world.send(to_origin(target, request.headers()));
        if let (Some(response), Some(stored)) = (&sent, stored)
            && to != To::Fetch
            && !is_about(StatusCode::from_u16(response.status).unwrap(), &header_map(&response.fields), to, Some(stored))
        {
            requested = world.now_ms;
            let mut unconditional = request.headers().clone();
            conditional::remove(&mut unconditional);
            sent = world.send(to_origin(target, &unconditional));
            to = To::Fetch;
        }
        let (now, times) = (at(world.now_ms), Times { requested: at(requested), received: at(world.now_ms) });
        let stand_in = |trouble| {
            let stored = stored.as_ref().filter(|stored| plan::may_stand_in(&stored.head, errand.asked, trouble, now))?;
            Some(client_got(respond::from_store(method, fields, stored, now)))
        };
        let Some(response) = sent else {
            self.remembered(target).failed = Some((Trouble::Unreachable, now));
            return stand_in(Trouble::Unreachable).unwrap_or_else(|| Response::own(502, Vec::new()));
        };
        let mut parts = header_map(&response.fields);
        if route.strip_set_cookie {
            parts.remove("set-cookie");
        }
        let got = Got {
            status: StatusCode::from_u16(response.status).unwrap(),
            fields: &parts,
            body_bytes: (response.framing == Framing::Length).then_some(response.body.len() as u64),
            has_certain_end: response.framing != Framing::Close,
            times,
        };
        let is_failure = plan::is_failure(got.status);
        self.remembered(target).failed = is_failure.then_some((Trouble::Error, now));
        let asked = asked_of(arrival, errand);

        let bettered = match (to, got.status, stored) {
            (To::Confirm, StatusCode::NOT_MODIFIED, Some(stored)) => {
                let settled = settle::settle_confirmed(&asked, route, &stored.head, &got, self.options, 0.0);
                Some((settled, stored.body.clone()))
            }
            (To::Complete, StatusCode::PARTIAL_CONTENT, Some(stored)) => {
                let old = stored.head.part().expect("it is a part");
                let new = (range::content_range(&parts).expect("it is about that part"), Bytes::from(response.body.clone()));
                match range::combine((old, stored.body.clone()), new) {
                    None => return Response::own(502, Vec::new()),
                    Some((part, body)) => {
                        let settled = settle::settle_joined(&asked, route, &stored.head, &got, &part, self.options, 0.0);
                        Some((settled, body))
                    }
                }
            }
            _ => None,
        };
        if let Some(((head, kept), body)) = bettered {
            let better = self.response(admitted, head, body);
            if kept.is_ok() {
                self.insert(target, better.clone());
            }
            return client_got(respond::from_store(method, fields, &better, now));
        }

        let settled = settle::settle(&asked, route, &got, self.options, 0.0);
        let fields_that_came = from_header_map(&parts);
        let as_it_came = || Response { fields: fields_that_came.clone(), ..response.clone() };
        if is_failure && stored.as_ref().is_some_and(|stored| plan::could_stand_in(&stored.head, times.received)) {
            return stand_in(Trouble::Error).unwrap_or_else(as_it_came);
        }
        match settled {
            Err(why) => {
                if stored.is_some() && asked.is_told_for_all(got.status, why) {
                    self.stored.retain(|(known, _)| known != target);
                }
                if *has_lease && !got.status.is_server_error() {
                    self.remembered(target).unstorable_until = Some(now + self.options.remember_unstorable);
                }
                as_it_came()
            }
            Ok(head) => {
                self.remembered(target).unstorable_until = None;
                let body = Bytes::from(response.body.clone());
                let spool = Arc::new(Spool::default());
                let reader = spool.reader().expect("nothing was let go of yet");
                spool.push(body.clone());
                spool.finish(None);
                let answer = client_got(respond::from_fetch(method, fields, &head, Some(parts.clone()), None, reader));
                let mut head = head;
                settle::note_length(&mut head, body.len());
                let stored = self.response(admitted, head, body);
                self.insert(target, stored);
                answer
            }
        }
    }

    fn response(&self, admitted: &Admitted<'_>, head: StoredHead, body: Bytes) -> Arc<StoredResponse> {
        Arc::new(StoredResponse { key: admitted.key.clone(), head, body, tags: Box::default(), held: self.held.clone() })
    }

    /// As `Memory::lookup` does it.
    fn lookup(&self, target: &str, request: &HeaderMap) -> Lookup {
        let mut variants = self.stored.iter().filter(|(known, _)| known == target).map(|(_, stored)| stored).peekable();
        let has_any = variants.peek().is_some();
        match variants.find(|stored| stored.head.selection.matches(request)) {
            Some(stored) => Lookup::Found(Tier::Memory, stored.clone()),
            // The model's origin is not asked about other variants.
            None if has_any => Lookup::OtherVariant(Vec::new()),
            None => Lookup::Nothing,
        }
    }

    /// As `Memory::insert` does it.
    fn insert(&mut self, target: &str, response: Arc<StoredResponse>) {
        let new = &response.head.selection;
        self.stored.retain(|(known, stored)| {
            let old = &stored.head.selection;
            known != target || (old != new && old.names().eq(new.names()))
        });
        self.stored.insert(0, (target.to_owned(), response));
    }

    fn remembered(&mut self, target: &str) -> &mut Remembered {
        let place = self.remembered.iter().position(|(known, _)| known == target).unwrap_or_else(|| {
            self.remembered.push((target.to_owned(), Remembered::default()));
            self.remembered.len() - 1
        });
        &mut self.remembered[place].1
    }
}

/// `Asked::of`.
fn asked_of(arrival: &Arrival, errand: &Errand<'_>) -> Asked {
    Asked {
        fields: arrival.parts.headers.clone(),
        method: arrival.parts.method.clone(),
        no_store: errand.asked.no_store,
        authorization: errand.admitted.authorization,
        cookie: errand.admitted.cookie,
        shown: Shown::default(),
        ends: None,
    }
}

fn at(ms: u64) -> SystemTime {
    debug_assert!(ms >= START_MS);
    UNIX_EPOCH + Duration::from_millis(ms)
}

fn arrival(request: &Request) -> Arrival {
    let builder = http::Request::builder().method(request.method).uri(&request.target).header("host", "h");
    let (mut parts, ()) = builder.body(()).unwrap().into_parts();
    parts.headers.extend(header_map(&request.fields));
    Arrival::of_ours(parts, "http", None)
}

//! The model: a cache as RFC 9111 describes it, slow and plain.

use super::history::{Framing, Request, Response, World, part};
use super::rfc::{self, Asked, Stored, Trouble, Use};
use super::routes::RouteSpec;
use super::text::{Fields, Form, date, first, has, without, written};
use super::validation;

/// A cache for one route: what it has stored, the newest first, and what it remembers of failures.
pub(super) struct Naive {
    route: RouteSpec,
    stored: Vec<Stored>,
    /// For each target, what trouble there was, and until when that counts.
    failed: Vec<(String, Trouble, u64)>,
    /// Targets whose last response could not be stored, and until when that counts.
    unstorable: Vec<(String, u64)>,
}

/// What the origin is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Whole,
    Confirm,
    Complete,
}

impl Naive {
    pub(super) fn new(route: RouteSpec) -> Naive {
        Naive { route, stored: Vec::new(), failed: Vec::new(), unstorable: Vec::new() }
    }

    /// §4: answers a request from what is stored, or with what the origin says.
    pub(super) fn answer(&mut self, request: &Request, world: &mut World<'_>) -> Response {
        let now = world.now_ms;
        let fields = &request.fields;
        // §2: `GET` is stored, and `HEAD` is answered from that.
        if !matches!(request.method, "GET" | "HEAD") {
            return self.past(request, world);
        }
        // Choice: the operator can have a route ignore §5.2.1.
        let asked = if self.route.ignores_request_directives { Asked::default() } else { rfc::asked(fields) };
        let selected = self.select(request).filter(|stored| self.may_be_given(stored, fields));
        let is_forbidden = self.select(request).is_some() && selected.is_none();

        if let Some(stored) = &selected {
            let is_part = stored.status == 206;
            let how = rfc::usable(stored, &asked, &self.route, now);
            // §3.3: a part answers only requests for what is in it. Choice: and only while it is fresh.
            let is_enough =
                !is_part || (how == Use::Fresh && request.method == "GET" && validation::answers_range(fields, &stored.fields));
            // Choice (§4.2.4): for a minute after a failure, what may stand in does so at once, and the origin is asked meanwhile; but not
            // again within a second.
            let is_fresh = rfc::is_fresh(stored, &self.route, now);
            let stands_in = how == Use::No
                && !is_fresh
                && self
                    .trouble(&request.target, now)
                    .is_some_and(|(trouble, _)| rfc::may_stand_in(stored, &asked, trouble, &self.route, now));
            let is_left_alone = self.trouble(&request.target, now).is_some_and(|(_, is_recent)| is_recent);
            if is_enough && (how != Use::No || stands_in) {
                let answer = reused(request, stored, now);
                let in_background = (how == Use::WhileRevalidating || stands_in) && !is_left_alone;
                if in_background && !self.has_open_credentials(fields) && !asked.no_store {
                    self.ask(request, &asked, Some(stored.clone()), false, true, world);
                }
                return answer;
            }
        }
        // §5.2.1.7.
        if asked.only_if_cached {
            return Response::own(504, Vec::new());
        }
        if request.method == "HEAD" {
            return match selected.filter(|stored| stored.status != 206) {
                Some(stored) => self.ask_head(request, &asked, &stored, world),
                None => self.past(request, world),
            };
        }
        let leads = !self.has_open_credentials(fields) && !asked.no_cache && !asked.no_store && !self.is_unstorable(request, now);
        match selected {
            Some(part) if part.status == 206 && validation::missing(&part.fields).is_some() => {
                self.ask(request, &asked, Some(part), false, leads, world)
            }
            Some(stored) if stored.status != 206 => self.ask(request, &asked, Some(stored), false, leads, world),
            of_no_use => {
                // Choice: on a standard route a part is asked for as a part (§3.3); a rule wants the whole.
                let asks_for_part = has(fields, "range");
                let is_of_no_use = of_no_use.is_some();
                let may_be_part = self.route.ttl.is_none() && !is_forbidden;
                // Choice: a condition or a range is the origin's to answer where the response is not going to be stored.
                let wants_less = CONDITIONS.iter().any(|name| has(fields, name));
                let is_hopeless = wants_less && (self.has_open_credentials(fields) || self.is_unstorable(request, now));
                if is_hopeless && !(is_of_no_use && asks_for_part) {
                    return self.past(request, world);
                }
                let wants_part = asks_for_part && may_be_part;
                self.ask(request, &asked, None, wants_part, leads && !wants_part, world)
            }
        }
    }

    /// Forwards a request as it is (§4), and invalidates what it has changed (§4.4).
    fn past(&mut self, request: &Request, world: &mut World<'_>) -> Response {
        let Some(response) = world.send(request.clone()) else { return Response::own(502, Vec::new()) };
        let changed = validation::changed(request.method, &request.target, &response.fields, response.status);
        self.stored.retain(|stored| !changed.contains(&stored.target));
        response
    }

    /// §4.1: of those that the request selects, the newest.
    fn select(&self, request: &Request) -> Option<Stored> {
        let is_selected = |stored: &&Stored| {
            stored.target == request.target && rfc::selecting(&stored.fields, &request.fields) == stored.selecting
        };
        self.stored.iter().find(is_selected).cloned()
    }

    /// §3.5, for requests. Choice for `Cookie`: as when it is stored.
    fn may_be_given(&self, stored: &Stored, request: &Fields) -> bool {
        if self.route.is_for_everyone {
            return true;
        }
        let shares = rfc::is_shareable(&stored.fields);
        let is_kept_apart = stored.selecting.iter().any(|(name, _)| name == "cookie");
        let cookie_is_right = if self.route.ttl.is_some() { shares } else { is_kept_apart };
        (!has(request, "authorization") || shares) && (!has(request, "cookie") || cookie_is_right)
    }

    fn has_open_credentials(&self, request: &Fields) -> bool {
        !self.route.is_for_everyone && (has(request, "authorization") || has(request, "cookie"))
    }

    /// What trouble there was last, and whether that is less than a second ago.
    fn trouble(&self, target: &str, now: u64) -> Option<(Trouble, bool)> {
        let failed = self.failed.iter().rev().find(|(failed, ..)| failed == target);
        failed.filter(|(_, _, until)| now < *until).map(|(_, trouble, until)| (*trouble, now + 59_000 < *until))
    }

    /// §4.3.5: a 200 to a `HEAD` freshens what is stored for `GET`, or makes it invalid.
    fn ask_head(&mut self, request: &Request, asked: &Asked, stored: &Stored, world: &mut World<'_>) -> Response {
        let (target, requested_ms) = (&request.target, world.now_ms);
        let response = world.send(request.clone());
        let received_ms = world.now_ms;
        let trouble = match &response {
            None => Some(Trouble::Unreachable),
            Some(response) => rfc::is_error(response.status).then_some(Trouble::Error),
        };
        self.failed.retain(|(failed, ..)| failed != target);
        if let Some(trouble) = trouble {
            self.failed.push((target.clone(), trouble, received_ms + 60_000));
            if rfc::may_stand_in(stored, asked, trouble, &self.route, received_ms) {
                return reused(request, stored, received_ms);
            }
        }
        let Some(response) = response else { return Response::own(502, Vec::new()) };
        if response.status == 200 && stored.status == 200 {
            if !validation::is_about(&response.fields, &stored.fields) {
                self.stored.retain(|known| known.target != *target);
            } else if rfc::shown(&without(&request.fields, &CONDITIONS)) == request.fields {
                // Choice: only what the origin would have been shown for everybody.
                let stripped: &[&str] = if self.route.strips_set_cookie { &["set-cookie"] } else { &[] };
                let fields = validation::updated(&stored.fields, &without(&response.fields, stripped));
                let whole = self.dated(Stored { requested_ms, received_ms, fields, ..stored.clone() }, request);
                if !asked.no_store && rfc::may_store(&request.fields, &whole, &self.route) {
                    self.keep(left(&whole));
                }
            }
        }
        response
    }

    fn is_unstorable(&self, request: &Request, now: u64) -> bool {
        self.unstorable.iter().any(|(target, until)| *target == request.target && now < *until)
    }

    /// §4.3: asks the origin, about what is stored if it can be asked about.
    fn ask(
        &mut self,
        request: &Request,
        asked: &Asked,
        stored: Option<Stored>,
        wants_part: bool,
        leads: bool,
        world: &mut World<'_>,
    ) -> Response {
        let target = &request.target;
        // §4.3.1: the conditions are our own, not the client's.
        let whole = Request { method: "GET", fields: rfc::shown(&without(&request.fields, &CONDITIONS)), ..request.clone() };
        let mut sent = whole.clone();
        let mut purpose = Purpose::Whole;
        match &stored {
            Some(part) if part.status == 206 => {
                purpose = Purpose::Complete;
                let validator = validation::strong_validator(&part.fields).expect("a stored part has one");
                sent.fields.push(("range", validation::missing(&part.fields).expect("something is missing")));
                sent.fields.push(("if-range", validator.to_owned()));
            }
            Some(stored) if validation::has_validator(&stored.fields) => {
                purpose = Purpose::Confirm;
                sent.fields.extend(validation::conditions(&stored.fields));
            }
            _ if wants_part => {
                sent.fields.extend(request.fields.iter().filter(|(name, _)| matches!(*name, "range" | "if-range")).cloned())
            }
            _ => {}
        }
        let mut requested_ms = world.now_ms;
        let mut response = world.send(sent);
        if let (Some(said), Some(about)) = (&response, stored.as_ref().filter(|_| purpose != Purpose::Whole)) {
            let is_answer = match (said.status, purpose) {
                (304, Purpose::Confirm) => validation::is_about(&said.fields, &about.fields),
                (206, Purpose::Complete) => validation::completes(&said.fields, &about.fields),
                (304 | 206 | 416, _) => false,
                _ => true,
            };
            if !is_answer {
                // §4.3.4, §3.4: it cannot be used, so the whole is asked for.
                purpose = Purpose::Whole;
                requested_ms = world.now_ms;
                response = world.send(whole);
            }
        }
        let received_ms = world.now_ms;
        let stand_in = |trouble| {
            let stored = stored.as_ref().filter(|stored| rfc::may_stand_in(stored, asked, trouble, &self.route, received_ms))?;
            Some(reused(request, stored, received_ms))
        };
        let Some(mut response) = response else {
            let answer = stand_in(Trouble::Unreachable).unwrap_or_else(|| Response::own(502, Vec::new()));
            self.failed.push((target.clone(), Trouble::Unreachable, received_ms + 60_000));
            return answer;
        };
        if self.route.strips_set_cookie {
            response.fields = without(&response.fields, &["set-cookie"]);
        }

        // §4.3.3, §4.3.4: a 304 confirms; §3.4: more of a part.
        if let (304 | 206, Some(old)) = (response.status, stored.as_ref().filter(|_| purpose != Purpose::Whole)) {
            let mut new = Stored { requested_ms, received_ms, ..old.clone() };
            new.fields = validation::updated(&old.fields, &response.fields);
            if purpose == Purpose::Complete {
                new.fields = without(&new.fields, &["content-range"]);
                new.status = 200;
                new.body = joined(old, &response);
            }
            self.failed.retain(|(failed, ..)| failed != target);
            let whole = self.dated(new, request);
            // §5.2.1.5: no part of the response to a request that says `no-store`.
            let is_kept = !asked.no_store && rfc::may_store(&request.fields, &whole, &self.route);
            let answer = if is_kept { reused(request, &left(&whole), received_ms) } else { reused(request, &whole, received_ms) };
            if is_kept {
                self.keep(left(&whole));
            }
            return answer;
        }

        // RFC 5861 §4, §4.3.3. Choice: an error is not stored in the place of what may stand in for it.
        if rfc::is_error(response.status) {
            self.failed.push((target.clone(), Trouble::Error, received_ms + 60_000));
            let nobody = Asked::default();
            let could = |stored: &Stored| rfc::may_stand_in(stored, &nobody, Trouble::Error, &self.route, received_ms);
            if stored.as_ref().is_some_and(could) {
                let is_wanted =
                    stored.as_ref().filter(|stored| rfc::may_stand_in(stored, asked, Trouble::Error, &self.route, received_ms));
                return is_wanted.map_or(response, |stored| reused(request, stored, received_ms));
            }
        } else {
            self.failed.retain(|(failed, ..)| failed != target);
        }

        let new = Stored {
            target: target.clone(),
            status: response.status,
            fields: response.fields.clone(),
            is_dated: false,
            body: response.body.clone(),
            requested_ms,
            received_ms,
            selecting: Vec::new(),
        };
        let new = self.dated(new, request);
        // §3.3, RFC 9112 §8: a body that only the connection ends may be cut. Choice: it is not stored; nor is a part whose length is
        // not told, since that has to be as the part says.
        let is_whole = match response.framing {
            Framing::Length => new.status != 206 || content_fits(&new),
            Framing::Chunks => new.status != 206,
            Framing::Close => false,
        };
        if asked.no_store || !is_whole || !rfc::may_store(&request.fields, &new, &self.route) {
            if leads && response.status < 500 {
                self.unstorable.retain(|(known, _)| known != target);
                self.unstorable.push((target.clone(), received_ms + 10_000));
            }
            // Choice, from §4.3.3: what the origin answers now, to everybody, takes back what it has answered before.
            let is_for_all = !self.has_open_credentials(&request.fields) && !asked.no_store;
            let is_answer = matches!(response.status, 200..=205 | 207..=303 | 305..=399 | 401 | 402 | 403 | 404 | 410 | 451);
            if stored.is_some() && is_for_all && is_answer {
                self.stored.retain(|known| known.target != *target);
            }
            return response;
        }
        self.unstorable.retain(|(known, _)| known != target);
        let kept = left(&new);
        self.keep(kept.clone());
        fetched(request, &kept, &response)
    }

    /// RFC 9110 §6.6.1: a response without a `Date` gets that of its receipt; §4.1: and the fields that select it.
    fn dated(&self, mut new: Stored, request: &Request) -> Stored {
        new.is_dated = first(&new.fields, "date").and_then(date).is_some();
        if !has(&new.fields, "date") {
            new.fields.push(("date", written(new.received_ms / 1000, Form::Fixdate)));
        }
        new.selecting = rfc::selecting(&new.fields, &request.fields);
        new
    }

    /// Keeps a response. Choice: it takes the place of the one that the same requests select, and of all whose `Vary` is another.
    fn keep(&mut self, new: Stored) {
        let names = |stored: &Stored| stored.selecting.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let stays = |old: &Stored| old.target != new.target || (old.selecting != new.selecting && names(old) == names(&new));
        self.stored.retain(stays);
        self.stored.insert(0, new);
    }
}

/// §3.1, §5.2.2.4, §5.2.2.7: without the fields that are not stored.
fn left(whole: &Stored) -> Stored {
    let out = rfc::left_out(&whole.fields);
    let names: Vec<&str> = out.iter().map(String::as_str).collect();
    Stored { fields: without(&whole.fields, &names), ..whole.clone() }
}

/// §3.4: the newer octets count.
fn joined(old: &Stored, new: &Response) -> String {
    let (Some(old_part), Some(new_part)) = (validation::content_range(&old.fields), validation::content_range(&new.fields))
    else {
        unreachable!("both are parts")
    };
    let octet = |at: usize| match at.checked_sub(new_part.0).and_then(|at| new.body.as_bytes().get(at)) {
        Some(octet) => *octet,
        None => old.body.as_bytes()[at - old_part.0],
    };
    (0..old_part.1.max(new_part.1)).map(|at| char::from(octet(at))).collect()
}

/// Whether a part has as many octets as it says.
fn content_fits(part: &Stored) -> bool {
    validation::content_range(&part.fields).is_some_and(|(first, end, _)| end - first == part.body.len())
}

/// §4, §5.1: a stored response as an answer, with its age.
fn reused(request: &Request, stored: &Stored, now: u64) -> Response {
    let age = ("age", (rfc::age_ms(stored, now) / 1000).to_string());
    let with_age = |fields: Fields| -> Fields { without(&fields, &["age"]).into_iter().chain([age.clone()]).collect() };
    let fields = &stored.fields;
    let response = |status, fields, body: &str| Response { status, fields, body: body.to_owned(), framing: Framing::Length };
    // §4.3.2.
    if validation::is_not_modified(&request.fields, stored.status, fields) {
        return response(304, with_age(validation::not_modified_fields(fields)), "");
    }
    // RFC 9110 §14.2: of a GET, if without it the response would be a 200; §13.2.2: and if `If-Range` holds.
    let range = first(&request.fields, "range").filter(|_| request.method == "GET" && matches!(stored.status, 200 | 206));
    let offset =
        validation::content_range(fields).map_or((0, stored.body.len()), |(first, _, complete)| (first, complete.unwrap_or(0)));
    let asked = range.filter(|_| validation::if_range_holds(&request.fields, fields)).and_then(|range| part(range, offset.1));
    match asked {
        Some((start, end)) if start == end => Response::own(416, vec![("content-range", format!("bytes */{}", offset.1)), age]),
        Some((start, end)) => {
            let mut fields = with_age(without(fields, &["content-range"]));
            fields.push(("content-range", format!("bytes {start}-{}/{}", end - 1, offset.1)));
            response(206, fields, &stored.body[start - offset.0..end - offset.0])
        }
        None => response(stored.status, with_age(fields.clone()), if request.method == "HEAD" { "" } else { &stored.body }),
    }
}

/// What has just been fetched, for the one who caused it: with all the fields that came, and the age that the origin says; and with the
/// `Date` that it is stored with, if it came with none (RFC 9110 §6.6.1).
fn fetched(request: &Request, stored: &Stored, came: &Response) -> Response {
    // A part came because it was asked for. Choice: until a body has come whose length was not told, its parts are not known
    // (RFC 9110 §14.2 lets `Range` be ignored).
    let ignores_range = stored.status == 206 || came.framing == Framing::Chunks;
    let ignored: &[&str] = if ignores_range { &["range"] } else { &[] };
    let request = Request { fields: without(&request.fields, ignored), ..request.clone() };
    let mut response = reused(&request, stored, stored.received_ms);
    match response.status {
        304 if stored.status != 304 => response.fields = without(&response.fields, &["age"]),
        416 => {}
        status => {
            let is_cut = status == 206 && !ignores_range;
            let added = |name: &str| match name {
                "content-range" => is_cut,
                name => name == "date" && !has(&came.fields, "date"),
            };
            let added: Fields = response.fields.iter().filter(|(name, _)| added(name)).cloned().collect();
            response.fields = came.fields.iter().cloned().chain(added).collect();
        }
    }
    response
}

const CONDITIONS: [&str; 4] = ["if-none-match", "if-modified-since", "range", "if-range"];

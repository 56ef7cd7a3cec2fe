//! What may we keep of what we got? The second of the two questions; pure.

use super::Options;
use super::arrival::Arrival;
use super::fetch::Errand;
use crate::rules::{Caching, Route, Share, Told};
use crate::semantics::fields::{self, Kind};
use crate::semantics::range::ContentRange;
use crate::semantics::storage::{self, NotStored, Policy, Sharing};
use crate::semantics::vary::{Selection, Vary};
use crate::semantics::{Lifetime, Source, Staleness, StoredHead, Terms, Times, conditional, date, freshness};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::time::{Duration, SystemTime};

/// What is known about the request whose response is to be settled.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The client's fields, from which `Vary` selects.
    pub(super) fields: HeaderMap,
    pub(super) method: Method,
    /// `Cache-Control: no-store` in the request (§5.2.1.5).
    pub(super) no_store: bool,
    /// Credentials that nothing in the key stands for.
    pub(super) authorization: bool,
    pub(super) cookie: bool,
    pub(super) shown: Shown,
    /// When the token ends that the key stands for; the response is of no use to anybody afterwards.
    pub(super) ends: Option<SystemTime>,
}

/// What the origin was shown of the client's fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// By what was known when the request to it was made.
    pub(super) told: Told,
    /// Those that it was not shown, although they could matter to it.
    pub(super) withheld: Vec<HeaderName>,
}

impl Asked {
    /// What is to be known of a request that was admitted.
    pub(super) fn of(arrival: &Arrival, errand: &Errand<'_>, shown: Shown) -> Asked {
        Asked {
            fields: arrival.parts.headers.clone(),
            method: arrival.parts.method.clone(),
            no_store: errand.asked.no_store,
            authorization: errand.admitted.authorization,
            cookie: errand.admitted.cookie,
            shown,
            ends: errand.admitted.ends,
        }
    }

    /// Lets a response that was fetched with a token be of use no longer than that.
    fn end_with_token(&self, terms: &mut Terms, times: &Times) {
        let Some(left) = self.ends.map(|ends| ends.duration_since(times.received).unwrap_or_default()) else { return };
        terms.lifetime.duration = terms.lifetime.duration.min(left);
        terms.may_be_stale = false;
        (terms.while_revalidating, terms.if_error, terms.if_unreachable) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    }

    /// Whether a response that is not stored, for this reason, is what the origin answers everybody now.
    pub(super) fn is_told_for_all(&self, status: StatusCode, why: NotStored) -> bool {
        let is_of_client = self.no_store || self.authorization || self.cookie;
        !is_of_client && why != NotStored::QueryRule && storage::withdraws(status)
    }

    /// Whether what the response names in `Vary` tells something of the fields of content negotiation.
    pub(super) fn told_of_negotiation(&self, route: &Route) -> bool {
        let is_shown = |name: &HeaderName| fields::kind(name) == Kind::Negotiating && !self.shown.withheld.contains(name);
        !route.trusts_vary() && (!self.shown.told.unnamed.is_empty() || self.fields.keys().any(is_shown))
    }

    /// Adds to a request the fields that were withheld from it, and that its response says it varies on. Says whether there were any.
    pub(super) fn show_also(&mut self, response: &HeaderMap, request: &mut HeaderMap) -> bool {
        let Vary::Fields(named) = Vary::of(response) else { return false };
        let (wanted, withheld): (Vec<_>, Vec<_>) = self.shown.withheld.drain(..).partition(|name| named.contains(name));
        self.shown.withheld = withheld;
        for name in &wanted {
            request.remove(name);
            for value in self.fields.get_all(name) {
                request.append(name.clone(), value.clone());
            }
        }
        !wanted.is_empty()
    }
}

/// A response's head, and what is known of its body before it comes.
pub(super) struct Got<'a> {
    pub(super) status: StatusCode,
    pub(super) fields: &'a HeaderMap,
    pub(super) body_bytes: Option<u64>,
    /// The body's framing says where it ends.
    pub(super) has_certain_end: bool,
    pub(super) times: Times,
}

/// Settles whether a response may be stored, and as what. `chance` is a number from 0 to 1, for what is left to it.
pub(super) fn settle(
    asked: &Asked,
    route: &Route,
    got: &Got<'_>,
    options: &Options,
    chance: f64,
) -> Result<StoredHead, NotStored> {
    if asked.no_store {
        return Err(NotStored::RequestNoStore);
    }
    let policy = policy(asked, route, options, chance);
    let mut terms = storage::decide(got.status, got.fields, got.times.received, &policy)?;
    asked.end_with_token(&mut terms, &got.times);
    // RFC 9110 §9.3.3: of a `POST`, only what says so itself is fresh, where no rule does.
    if terms.lifetime.source == Source::Heuristic && asked.method == Method::POST {
        return Err(NotStored::NoLifetime);
    }
    if terms.lifetime.source == Source::Rule && is_event_stream(got.fields) {
        return Err(NotStored::EventStream);
    }
    if got.body_bytes.is_some_and(|bytes| bytes > options.body_bytes_max as u64) {
        return Err(NotStored::TooLarge);
    }
    // A body that only the connection's end delimits looks whole also when the origin died half-way (RFC 9112 §8).
    if !got.has_certain_end {
        return Err(NotStored::LengthUnknown);
    }
    let selection = selection(asked, route, got.fields)?;
    let head = StoredHead::new(got.status, stored_fields(got, &policy), got.times, terms, selection);
    // What a part says of itself must be what comes; if its length isn't known yet, that can't be told.
    if let Some(part) = head.part()
        && got.body_bytes != Some(part.part().end - part.first)
    {
        return Err(NotStored::Partial);
    }
    match is_of_use(&head, got.times.received) {
        true => Ok(head),
        false => Err(NotStored::NoLifetime),
    }
}

/// Whether a response that may be stored is worth it: it may be stale on arrival, by its `Age`.
fn is_of_use(head: &StoredHead, received: SystemTime) -> bool {
    head.is_fresh(received) || head.has_validator() || !head.terms.while_revalidating.is_zero()
}

/// Settles what a stored response is after the origin has confirmed it (§4.3.4), and whether it may be stored on.
pub(super) fn settle_confirmed(
    asked: &Asked,
    route: &Route,
    stored: &StoredHead,
    confirmation: &Got<'_>,
    options: &Options,
    chance: f64,
) -> (StoredHead, Result<(), NotStored>) {
    let fields = conditional::freshen(&stored.fields(), &detached(confirmation.fields));
    settle_again(asked, route, stored.status, fields, confirmation.times, &policy(asked, route, options, chance))
}

/// Settles what becomes of a stored part that the origin has sent the rest of (§3.4), and whether it may be stored on.
pub(super) fn settle_joined(
    asked: &Asked,
    route: &Route,
    stored: &StoredHead,
    more: &Got<'_>,
    joined: &ContentRange,
    options: &Options,
    chance: f64,
) -> (StoredHead, Result<(), NotStored>) {
    let mut fields = conditional::freshen(&stored.fields(), &detached(more.fields));
    let octets = joined.part().end - joined.first;
    fields.remove(CONTENT_RANGE);
    fields.insert(CONTENT_LENGTH, HeaderValue::from(octets));
    settle_again(asked, route, StatusCode::OK, fields, more.times, &policy(asked, route, options, chance))
}

fn settle_again(
    asked: &Asked,
    route: &Route,
    status: StatusCode,
    mut fields: HeaderMap,
    times: Times,
    policy: &Policy<'_>,
) -> (StoredHead, Result<(), NotStored>) {
    // §5.2.1.5: of the answer to such a request nothing is stored, so what is stored stays as it is.
    let settled = match asked.no_store {
        true => Err(NotStored::RequestNoStore),
        false => storage::decide(status, &fields, times.received, policy),
    };
    let settled = settled.and_then(|mut terms| {
        asked.end_with_token(&mut terms, &times);
        Ok((terms, selection(asked, route, &fields)?))
    });
    // Written down after deciding, as in `settle`: a date has no fractions, and what was decided counts from the very moment.
    if !fields.contains_key(DATE) {
        fields.insert(DATE, date::format(times.received));
    }
    match settled {
        Ok((terms, selection)) => {
            storage::strip(&mut fields, policy.targets);
            let head = StoredHead::new(status, fields, times, terms, selection);
            let kept = is_of_use(&head, times.received).then_some(()).ok_or(NotStored::NoLifetime);
            (head, kept)
        }
        Err(why) => {
            // For the one client whose request was validated; it gets what the origin says now.
            let spent = Terms::plain(Lifetime { duration: Duration::ZERO, source: Source::NoCache });
            (StoredHead::new(status, fields, times, spent, Selection::empty()), Err(why))
        }
    }
}

/// The request fields that select the response, with the values that they had, or with the language that was chosen.
fn selection(asked: &Asked, route: &Route, fields: &HeaderMap) -> Result<Selection, NotStored> {
    let names = match Vary::of(fields) {
        // Of these the origin saw our own values, not the client's, so the client's can't select.
        Vary::Fields(names) if names.iter().any(|name| *name == VIA || *name == "x-forwarded-for") => {
            return Err(NotStored::VaryAny);
        }
        // Nor can those that it did not see at all.
        Vary::Fields(names) if names.iter().any(|name| asked.shown.withheld.contains(name)) => return Err(NotStored::VaryAny),
        Vary::Fields(names) => names,
        Vary::None | Vary::Any => Vec::new(),
    };
    let selection = Selection::of_exchange(&route.selecting(names, &asked.fields, &asked.shown.told), &asked.fields, fields);
    let tells_users_apart = selection.names().any(|name| *name == COOKIE);
    match route.caching == Caching::Standard && asked.cookie && !tells_users_apart {
        true => Err(NotStored::Credentials),
        false => Ok(selection),
    }
}

fn policy<'a>(asked: &Asked, route: &'a Route, options: &'a Options, chance: f64) -> Policy<'a> {
    let spread = f64::from(route.ttl_jitter_percent) / 100.0;
    let (rule_ttl, overrides) = match route.caching {
        Caching::Rule { ttl, overrides } => (Some(freshness::with_jitter(ttl, spread, chance)), overrides),
        Caching::Standard | Caching::Off => (None, false),
    };
    let shared = match (&route.share, asked.authorization, asked.cookie) {
        (_, false, false) => match route.share {
            Share::ByResponse => Sharing::NoCredentials,
            Share::Everyone | Share::PerCredential(_) => Sharing::Allowed,
        },
        // RFC 9111 says nothing about `Cookie`; a standard route looks at `Vary` for that, once the selection is known.
        (_, false, true) if route.caching == Caching::Standard => Sharing::NoCredentials,
        _ => Sharing::OnlyIfResponseAllows,
    };
    Policy {
        rule_ttl,
        ttl_by_status: &route.ttl_by_status,
        overrides,
        staleness: Staleness {
            while_revalidating: route.stale_while_revalidate,
            if_error: route.stale_if_error,
            if_unreachable: options.stale_if_unreachable,
        },
        strip_set_cookie: route.strip_set_cookie,
        shared,
        takes_parts: route.caching == Caching::Standard,
        targets: &options.cache_control_fields,
    }
}

/// Copies fields out of the buffer that they were read into. A value is a slice of it; kept for an hour, it would keep all of the buffer.
pub(super) fn detached(fields: &HeaderMap) -> HeaderMap {
    let mut all = HeaderMap::with_capacity(fields.len() + 2);
    for (name, value) in fields {
        let mut copy = HeaderValue::from_bytes(value.as_bytes()).expect("the octets of a value make a value");
        copy.set_sensitive(value.is_sensitive());
        all.append(name.clone(), copy);
    }
    all
}

/// The fields that are stored: no hop-by-hop ones, and always a `Date` and, where the length is known, a `Content-Length`.
fn stored_fields(got: &Got<'_>, policy: &Policy<'_>) -> HeaderMap {
    let mut fields = detached(got.fields);
    storage::strip(&mut fields, policy.targets);
    if !fields.contains_key(DATE) {
        fields.insert(DATE, date::format(got.times.received));
    }
    match got.body_bytes {
        Some(bytes) if allows_content_length(got.status) => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        _ => {
            fields.remove(CONTENT_LENGTH);
        }
    }
    fields
}

/// Whether the body goes on for as long as somebody listens. A rule's TTL was not meant for it; an origin's own word would be.
fn is_event_stream(fields: &HeaderMap) -> bool {
    let content_type = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["text/event-stream", "multipart/x-mixed-replace"].iter().any(|endless| essence.eq_ignore_ascii_case(endless))
}

/// Writes down the length of a body that came without one.
pub(super) fn note_length(head: &mut StoredHead, bytes: usize) {
    if allows_content_length(head.status) {
        head.fields_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
}

/// RFC 9110 §8.6: a 204 has no body and no length.
pub(super) fn allows_content_length(status: StatusCode) -> bool {
    status != StatusCode::NO_CONTENT && !status.is_informational()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Pattern;
    use http::HeaderName;
    use std::time::SystemTime;

    fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn asked() -> Asked {
        let shown = Shown::default();
        Asked {
            fields: HeaderMap::new(),
            method: Method::GET,
            no_store: false,
            authorization: false,
            cookie: false,
            shown,
            ends: None,
        }
    }

    fn route() -> Route {
        Route::new("r", Pattern::parse("/{*rest}").unwrap(), Duration::from_secs(3600))
    }

    fn settled(
        asked: &Asked,
        route: &Route,
        list: &[(&'static str, &str)],
        body_bytes: Option<u64>,
    ) -> Result<u64, &'static str> {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let times = Times { requested: received, received };
        let fields = fields(list);
        let has_certain_end = body_bytes.is_some();
        let got = Got { status: StatusCode::OK, fields: &fields, body_bytes, has_certain_end, times };
        let options = Options { body_bytes_max: 1000, ..Options::default() };
        settle(asked, route, &got, &options, 0.0).map(|head| head.terms.lifetime.duration.as_secs()).map_err(NotStored::as_str)
    }

    #[test]
    fn a_response_is_stored_with_its_own_lifetime_or_else_the_rules() {
        let check = |list: &[(&'static str, &str)], expected: Result<u64, &'static str>| {
            assert_eq!(settled(&asked(), &route(), list, Some(1)), expected, "{list:?}");
        };
        check(&[], Ok(3600));
        check(&[("cache-control", "max-age=5")], Ok(5));
        check(&[("cache-control", "no-store")], Err("no-store"));
        check(&[("cache-control", "private, max-age=5")], Err("private"));
        check(&[("set-cookie", "a=b")], Err("set-cookie"));
        check(&[("vary", "*")], Err("vary-any"));
        check(&[("cache-control", "max-age=5"), ("age", "6")], Err("no-lifetime"));
        check(&[("cache-control", "max-age=5"), ("age", "6"), ("etag", "\"1\"")], Ok(5));
        check(&[("vary", "accept, x-forwarded-for")], Err("vary-any"));
        check(&[("content-type", "text/event-stream; charset=utf-8")], Err("event-stream"));
        check(&[("content-type", "text/event-stream"), ("cache-control", "max-age=5")], Ok(5));
    }

    #[test]
    fn what_is_stored_does_not_hold_on_to_the_buffer_that_it_was_read_into() {
        let list = fields(&[("etag", "\"1\""), ("cache-control", "max-age=60")]);
        let copies = detached(&list);
        assert_eq!(copies, list);
        assert!(list.iter().zip(&copies).all(|((_, one), (_, other))| one.as_bytes().as_ptr() != other.as_bytes().as_ptr()));
    }

    #[test]
    fn what_was_asked_with_credentials_is_stored_only_if_the_response_or_the_route_allows() {
        let with = |authorization, cookie| Asked { authorization, cookie, ..asked() };
        let public: &[_] = &[("cache-control", "public")];
        assert_eq!(settled(&with(true, false), &route(), &[], Some(1)), Err("credentials"));
        assert_eq!(settled(&with(false, true), &route(), &[], Some(1)), Err("credentials"));
        assert_eq!(settled(&with(true, false), &route(), public, Some(1)), Ok(3600));
        let standard = Route { caching: Caching::Standard, ..route() };
        let fresh: &[_] = &[("cache-control", "max-age=5")];
        let varies: &[_] = &[("cache-control", "max-age=5"), ("vary", "cookie")];
        assert_eq!(settled(&with(false, true), &standard, fresh, Some(1)), Err("credentials"));
        assert_eq!(settled(&with(false, true), &standard, varies, Some(1)), Ok(5));
        assert_eq!(settled(&with(true, true), &standard, varies, Some(1)), Err("credentials"));
    }

    #[test]
    fn a_body_that_is_too_large_or_has_no_certain_end_is_not_stored() {
        assert_eq!(settled(&asked(), &route(), &[], Some(1001)), Err("too-large"));
        assert_eq!(settled(&asked(), &route(), &[], None), Err("length-unknown"));
        let no_store = Asked { no_store: true, ..asked() };
        assert_eq!(settled(&no_store, &route(), &[], Some(1)), Err("request-no-store"));
    }

    #[test]
    fn a_confirmation_makes_a_stored_response_fresh_again() {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let old = fields(&[("etag", "\"1\""), ("age", "50"), ("cache-control", "max-age=60"), ("x-old", "1")]);
        let times = Times { requested: received, received };
        let lifetime = Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge };
        let stored = StoredHead::new(StatusCode::OK, old, times, Terms::plain(lifetime), Selection::empty());
        let later = received + Duration::from_secs(100);
        let news = fields(&[("cache-control", "max-age=7"), ("etag", "\"1\"")]);
        let times = Times { requested: later, received: later };
        let got = Got { status: StatusCode::NOT_MODIFIED, fields: &news, body_bytes: Some(0), has_certain_end: true, times };
        let (head, kept) = settle_confirmed(&asked(), &route(), &stored, &got, &Options::default(), 0.0);
        assert_eq!(kept, Ok(()));
        assert!(head.is_fresh(later));
        assert_eq!((head.ttl(later), &head.fields()["x-old"]), (7, &HeaderValue::from_static("1")));
    }

    #[test]
    fn the_confirmation_that_a_request_with_no_store_got_is_not_stored() {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let times = Times { requested: received, received };
        let lifetime = Lifetime { duration: Duration::from_secs(60), source: Source::MaxAge };
        let old = fields(&[("etag", "\"1\""), ("cache-control", "max-age=60")]);
        let stored = StoredHead::new(StatusCode::OK, old, times, Terms::plain(lifetime), Selection::empty());
        let news = fields(&[("cache-control", "max-age=7"), ("etag", "\"1\"")]);
        let got = Got { status: StatusCode::NOT_MODIFIED, fields: &news, body_bytes: Some(0), has_certain_end: true, times };
        let no_store = Asked { no_store: true, ..asked() };
        let (head, kept) = settle_confirmed(&no_store, &route(), &stored, &got, &Options::default(), 0.0);
        assert_eq!(kept, Err(NotStored::RequestNoStore));
        assert_eq!(head.fields()["cache-control"], "max-age=7");
    }
}

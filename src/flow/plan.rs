//! What may we do with what we have? The first of the two questions; pure.

use crate::rules::{Admitted, Caching};
use crate::semantics::directives::RequestDirectives;
use crate::semantics::range::{self, Requested};
use crate::semantics::{Forward, StoredHead, age, candidates, conditional};
use crate::store::{Lookup, StoredResponse, Tier};
use http::header::{COOKIE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

/// What is done with a request.
#[derive(Debug)]
pub(super) enum Plan {
    /// Answer with the stored response (§4).
    Serve(Tier, Arc<StoredResponse>),
    /// Answer with a stored response that is stale, or soon will be, and ask the origin for a new one in the background. It is
    /// fresh for so many seconds.
    ServeAndRefresh(Tier, Arc<StoredResponse>, i64),
    /// Ask the origin whether the stored response still holds (§4.3).
    Validate(Arc<StoredResponse>, Forward),
    /// Ask the origin for a response in the place of one that it cannot be asked about.
    Replace(Arc<StoredResponse>, Forward),
    /// Ask the origin for what is missing of a stored part (§3.4).
    Complete(Arc<StoredResponse>),
    /// Ask the origin for a response that may be stored.
    Fetch(Forward),
    /// The same, unless it would answer with the other variant that has one of these entity-tags (§4.3.1).
    Select(Vec<HeaderValue>),
    /// Ask the origin for the part that the client asks for; it may be stored as such (§3.3).
    FetchPart(Forward),
    /// Relay a `HEAD`, and let its response freshen or end the stored one (§4.3.5).
    Head(Arc<StoredResponse>, Forward),
    /// Relay the request and its response, and store nothing.
    Pass(Forward, Detail),
    /// Say that nothing is stored, as the client asked to be told (§5.2.1.7).
    Refuse,
}

/// Why, in a word that header, log and metrics share; empty where the reason of [`Forward`] says it all.
pub(super) type Detail = &'static str;

/// The detail of a `HEAD` that is relayed.
pub(super) const HEAD: Detail = "head";

/// What is known about a request that may use the cache.
pub(super) struct Wanted<'a> {
    pub(super) method: &'a Method,
    pub(super) fields: &'a HeaderMap,
    pub(super) asked: &'a RequestDirectives,
    pub(super) admitted: &'a Admitted<'a>,
    /// The largest body that is stored.
    pub(super) body_bytes_max: usize,
}

/// What the plan asks only where it matters.
pub(super) trait Memory {
    /// Whether the key's last response could not be stored.
    fn is_unstorable(&self) -> bool;
    /// What trouble there was with the origin when it was asked for this key last, and whether that was just now.
    fn trouble(&self) -> Option<(Trouble, bool)>;
    /// A number from 0 up to 1, for what is left to chance.
    fn chance(&self) -> f64;
}

/// How a stored response may be used without asking the origin first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is fresh.
    Fresh,
    /// It is stale, and the client wants it all the same (§5.2.1.2).
    StaleAsAsked,
    /// It is stale, and may be used while a new one is fetched (RFC 5861 §3).
    StaleWhileRevalidating,
}

/// Plans for a request that may use the cache.
pub(super) fn plan(wanted: &Wanted<'_>, found: Lookup, memory: &impl Memory, now: SystemTime) -> Plan {
    let Wanted { method, fields, asked, admitted, .. } = *wanted;
    let others = match &found {
        Lookup::OtherVariant(others) if may_select(wanted) => candidates::tags(others, fields),
        _ => Vec::new(),
    };
    let plan = match found {
        Lookup::Nothing | Lookup::Unavailable => Plan::Fetch(Forward::UriMiss),
        Lookup::OtherVariant(_) => Plan::Fetch(Forward::VaryMiss),
        // It lies under a key that leaves out what another response said to make no difference.
        Lookup::Found(_, stored) | Lookup::Softened(_, stored)
            if admitted.query_rule.as_ref().is_some_and(|rule| !rule.is_said_by(&stored.head.fields())) =>
        {
            Plan::Fetch(Forward::UriMiss)
        }
        Lookup::Found(_, stored) | Lookup::Softened(_, stored) if !may_be_given(&stored.head, admitted) => {
            Plan::Fetch(Forward::Request)
        }
        Lookup::Found(tier, stored) if stored.head.part().is_some() => with_part(wanted, tier, stored, now),
        Lookup::Softened(_, stored) if stored.head.part().is_some() => Plan::Fetch(Forward::Stale),
        Lookup::Softened(tier, stored) => match reuse(&stored.head, asked, now) {
            Ok(_) if stored.head.terms.may_be_stale => Plan::ServeAndRefresh(tier, stored, NO_LONGER_FRESH),
            _ => ask_about(stored, Forward::Stale),
        },
        Lookup::Found(tier, stored) => match reuse(&stored.head, asked, now) {
            Ok(Use::Fresh) if admitted.route.early_refresh && stored.head.is_due_early(now, || memory.chance()) => {
                refreshing(tier, stored, now)
            }
            Ok(Use::Fresh | Use::StaleAsAsked) => Plan::Serve(tier, stored),
            Ok(Use::StaleWhileRevalidating) if memory.trouble().is_some_and(|(_, is_recent)| is_recent) => {
                Plan::Serve(tier, stored)
            }
            Ok(Use::StaleWhileRevalidating) => refreshing(tier, stored, now),
            // Nobody waits for an origin that fails, if there is an answer all the same; whether it is back is found out in the
            // background, from time to time.
            Err(Forward::Stale) => match memory.trouble() {
                Some((trouble, is_recent)) if may_stand_in(&stored.head, asked, trouble, now) => match is_recent {
                    true => Plan::Serve(tier, stored),
                    false => refreshing(tier, stored, now),
                },
                _ => ask_about(stored, Forward::Stale),
            },
            Err(why) => ask_about(stored, why),
        },
    };
    match plan {
        Plan::Serve(..) | Plan::ServeAndRefresh(..) => plan,
        _ if asked.only_if_cached => Plan::Refuse,
        // A response to HEAD has no body to store, and none that others could follow.
        Plan::Validate(stored, why) | Plan::Replace(stored, why) if *method == Method::HEAD => Plan::Head(stored, why),
        Plan::Fetch(why) | Plan::FetchPart(why) if *method == Method::HEAD => Plan::Pass(why, HEAD),
        Plan::Complete(_) if *method == Method::HEAD => Plan::Pass(Forward::Partial, HEAD),
        // What fills the cache is asked for whole; where nothing will be stored, the client had better get what it asked for.
        Plan::Fetch(why) if asks_for_less(fields) && (admitted.has_open_credentials() || memory.is_unstorable()) => {
            Plan::Pass(why, "not-storable")
        }
        // To the letter of the RFC, a part is asked for as a part. Rules are about whole responses.
        Plan::Fetch(why @ (Forward::UriMiss | Forward::VaryMiss))
            if admitted.route.caching == Caching::Standard && fields.contains_key(RANGE) =>
        {
            Plan::FetchPart(why)
        }
        Plan::Fetch(Forward::VaryMiss) if !others.is_empty() => Plan::Select(others),
        plan => plan,
    }
}

/// Whether a request may be answered with what was stored for another one that differs in the selecting fields, if the origin says so.
fn may_select(wanted: &Wanted<'_>) -> bool {
    let asks_for_whole = !wanted.fields.contains_key(RANGE) && !wanted.asked.no_cache && !wanted.asked.no_store;
    // RFC 9110 §13.1.2: only to `GET` and `HEAD`, a condition that fails is answered 304.
    *wanted.method == Method::GET && asks_for_whole && !wanted.admitted.has_open_credentials()
}

/// What to do with a stored part: answer a request for a range that is in it, or get the rest.
fn with_part(wanted: &Wanted<'_>, tier: Tier, stored: Arc<StoredResponse>, now: SystemTime) -> Plan {
    let Some(part) = stored.head.part() else { return Plan::Fetch(Forward::UriMiss) };
    let fields = wanted.fields;
    let is_in_part = part.complete.is_some_and(|complete| match range::requested(fields, complete) {
        Requested::Parts(asked) => {
            let is_inside = |range: &Range<u64>| range.start >= part.first && range.end <= part.part().end;
            asked.len() == 1 && asked.iter().all(is_inside) && range::if_range_holds(fields, &stored.head.fields())
        }
        Requested::Whole | Requested::Unsatisfiable => false,
    });
    // What would be too large to be stored as a whole is not brought together.
    let fits = part.complete.is_none_or(|complete| complete <= wanted.body_bytes_max as u64);
    match reuse(&stored.head, wanted.asked, now) {
        Ok(Use::Fresh) if *wanted.method == Method::GET && is_in_part => Plan::Serve(tier, stored),
        _ if range::missing(&part).is_some() && fits => Plan::Complete(stored),
        _ if fields.contains_key(RANGE) => Plan::FetchPart(Forward::Partial),
        _ => Plan::Fetch(Forward::Partial),
    }
}

fn refreshing(tier: Tier, stored: Arc<StoredResponse>, now: SystemTime) -> Plan {
    let ttl = stored.head.ttl(now);
    Plan::ServeAndRefresh(tier, stored, ttl)
}

fn ask_about(stored: Arc<StoredResponse>, why: Forward) -> Plan {
    match stored.head.has_validator() {
        true => Plan::Validate(stored, why),
        false => Plan::Replace(stored, why),
    }
}

/// Whether the request is content with a part of the response, or with word that it has not changed.
fn asks_for_less(fields: &HeaderMap) -> bool {
    fields.contains_key(RANGE) || conditional::is_conditional(fields)
}

/// Whether a stored response may be given to a request, as far as credentials are concerned.
pub(super) fn may_be_given(head: &StoredHead, admitted: &Admitted<'_>) -> bool {
    let varies_on_cookie = head.selection.names().any(|name| *name == COOKIE);
    match admitted.route.caching {
        // To the letter (§3.5), and for `Cookie`, of which RFC 9111 says nothing, only where the origin tells users apart.
        Caching::Standard => (!admitted.authorization || head.terms.shareable) && (!admitted.cookie || varies_on_cookie),
        _ => !admitted.has_open_credentials() || head.terms.shareable,
    }
}

/// How a stored response may be used without asking the origin (§4.2, §5.2.1), or why not.
pub(super) fn reuse(head: &StoredHead, asked: &RequestDirectives, now: SystemTime) -> Result<Use, Forward> {
    if asked.no_cache {
        return Err(Forward::Request);
    }
    let is_fresh = head.is_fresh(now);
    let is_too_old = asked.max_age.is_some_and(|limit| age::current(head, now) > limit);
    let is_too_brief = asked.min_fresh.is_some_and(|wanted| head.remaining(now) < wanted);
    if is_too_old || is_too_brief {
        return Err(if is_fresh { Forward::Request } else { Forward::Stale });
    }
    if is_fresh {
        return Ok(Use::Fresh);
    }
    let staleness = head.staleness(now);
    match asked.max_stale {
        Some(limit) if head.terms.may_be_stale && limit.is_none_or(|limit| staleness <= limit) => Ok(Use::StaleAsAsked),
        // §5.2.1.2: who says how stale a response may be wants none that is staler.
        Some(_) => Err(Forward::Stale),
        // §5.2.1.1: who limits the age, and says nothing of stale ones, wants none.
        None if asked.max_age.is_some() => Err(Forward::Stale),
        _ if staleness < head.terms.while_revalidating => Ok(Use::StaleWhileRevalidating),
        _ => Err(Forward::Stale),
    }
}

/// Whether an answer says that the origin has failed (RFC 5861 §4).
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Why the origin gave no answer that is any use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It could not be reached, or did not answer.
    Unreachable,
    /// It answered that it has failed.
    Error,
}

/// Whether a stored response may answer in the stead of the origin's (§4.2.4, RFC 5861 §4).
pub(super) fn may_stand_in(head: &StoredHead, asked: &RequestDirectives, trouble: Trouble, now: SystemTime) -> bool {
    let limit = match trouble {
        Trouble::Unreachable => head.terms.if_unreachable,
        Trouble::Error => head.terms.if_error,
    };
    // A client that wants to be sure does not want a guess (§5.2.1.4).
    head.terms.may_be_stale && head.part().is_none() && !asked.no_cache && head.staleness(now) < limit
}

/// Whether a stored response may answer somebody in the stead of an error.
pub(super) fn could_stand_in(head: &StoredHead, now: SystemTime) -> bool {
    may_stand_in(head, &RequestDirectives::default(), Trouble::Error, now)
}

/// The seconds that a response stays fresh which a soft purge has made stale: until the purge, whenever that was, it was.
const NO_LONGER_FRESH: i64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Admission, Content, Forwarding, Pattern, Route, RuleSet};
    use crate::semantics::candidates::Candidate;
    use crate::semantics::{Staleness, Terms, directives};
    use crate::store::tests::response;
    use http::{HeaderName, Request};
    use std::time::Duration;

    struct Remembering {
        is_unstorable: bool,
        trouble: Option<(Trouble, bool)>,
    }

    impl Memory for Remembering {
        fn is_unstorable(&self) -> bool {
            self.is_unstorable
        }

        fn trouble(&self) -> Option<(Trouble, bool)> {
            self.trouble
        }

        fn chance(&self) -> f64 {
            0.0
        }
    }

    /// What is planned for a request with these fields, when a response of 60 s with an ETag was stored so long ago.
    fn planned(caching: Caching, fields: &[(&'static str, &str)], stored: Option<(u64, &'static str)>) -> String {
        planned_for(caching, fields, stored, false)
    }

    fn planned_for(
        caching: Caching,
        fields: &[(&'static str, &str)],
        stored: Option<(u64, &'static str)>,
        unstorable: bool,
    ) -> String {
        planned_when(Lookup::Found, caching, fields, stored, unstorable)
    }

    fn planned_when(
        standing: fn(Tier, Arc<StoredResponse>) -> Lookup,
        caching: Caching,
        fields: &[(&'static str, &str)],
        stored: Option<(u64, &'static str)>,
        unstorable: bool,
    ) -> String {
        planned_with(&Remembering { is_unstorable: unstorable, trouble: None }, standing, caching, fields, stored)
    }

    fn planned_after(
        trouble: Option<(Trouble, bool)>,
        caching: Caching,
        fields: &[(&'static str, &str)],
        stored: (u64, &'static str),
    ) -> String {
        planned_with(&Remembering { is_unstorable: false, trouble }, Lookup::Found, caching, fields, Some(stored))
    }

    fn planned_with(
        memory: &Remembering,
        standing: fn(Tier, Arc<StoredResponse>) -> Lookup,
        caching: Caching,
        fields: &[(&'static str, &str)],
        stored: Option<(u64, &'static str)>,
    ) -> String {
        let route = Route { caching, ..Route::new("r", Pattern::parse("/{*rest}").unwrap(), Duration::from_secs(60)) };
        let rules = RuleSet::new(vec![route]).unwrap();
        let mut request = Request::builder().uri("/a").header("host", "h");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let Admission::Keyed(admitted) =
            rules.admit(&parts, &Forwarding { scheme: "http", host: None }, Content::None, SystemTime::UNIX_EPOCH, |_| None)
        else {
            panic!("the request uses the cache");
        };
        let (found, now) = match stored {
            None => (Lookup::Nothing, SystemTime::UNIX_EPOCH),
            Some((seconds_ago, cache_control)) => {
                let mut stored = response("k", "body", &[], &HeaderMap::new());
                let now = stored.head.times().received + Duration::from_secs(seconds_ago);
                let said = [(HeaderName::from_static("cache-control"), cache_control.parse().unwrap())].into_iter().collect();
                let staleness = Staleness { if_unreachable: Duration::from_secs(10), ..Staleness::default() };
                stored.head.terms = Terms::new(stored.head.terms.lifetime, &directives::response(&said), &staleness).into();
                (standing(Tier::Memory, Arc::new(stored)), now)
            }
        };
        let wanted = Wanted {
            method: &Method::GET,
            fields: &parts.headers,
            asked: &directives::request(&parts.headers),
            admitted: &admitted,
            body_bytes_max: 1000,
        };
        match plan(&wanted, found, memory, now) {
            Plan::Serve(tier, _) => format!("serve {}", tier.as_str()),
            Plan::ServeAndRefresh(tier, _, ttl) => format!("serve {} and refresh {ttl}", tier.as_str()),
            Plan::Validate(_, why) => format!("validate {}", why.as_str()),
            Plan::Replace(_, why) => format!("replace {}", why.as_str()),
            Plan::Head(_, why) => format!("head {}", why.as_str()),
            Plan::Complete(_) => "complete".to_owned(),
            Plan::Fetch(why) => format!("fetch {}", why.as_str()),
            Plan::Select(tags) => format!("select {tags:?}"),
            Plan::FetchPart(why) => format!("fetch part {}", why.as_str()),
            Plan::Pass(why, detail) => format!("pass {} {detail}", why.as_str()),
            Plan::Refuse => "refuse".to_owned(),
        }
    }

    #[test]
    fn a_stored_response_is_used_while_it_is_fresh_and_the_request_allows_it() {
        let rule = Caching::Rule { ttl: Duration::from_secs(60), overrides: false };
        let check = |fields: &[(&'static str, &str)], stored: Option<(u64, &'static str)>, expected: &str| {
            assert_eq!(planned(rule, fields, stored), expected, "{fields:?} {stored:?}");
        };
        check(&[], None, "fetch uri-miss");
        check(&[], Some((59, "max-age=60")), "serve memory");
        check(&[], Some((60, "max-age=60")), "validate stale");
        check(&[("cache-control", "no-cache")], Some((0, "")), "validate request");
        check(&[("pragma", "no-cache")], Some((0, "")), "validate request");
        check(&[("cache-control", "max-age=9")], Some((10, "")), "validate request");
        check(&[("cache-control", "max-age=10")], Some((10, "")), "serve memory");
        check(&[("cache-control", "min-fresh=51")], Some((10, "")), "validate request");
        check(&[("cache-control", "only-if-cached")], None, "refuse");
        check(&[("cache-control", "only-if-cached")], Some((10, "")), "serve memory");
        check(&[("cache-control", "only-if-cached")], Some((60, "")), "refuse");
    }

    #[test]
    fn what_is_stale_answers_in_the_stead_of_an_origin_that_fails() {
        let rule = Caching::Rule { ttl: Duration::from_secs(60), overrides: false };
        let check = |stored: (u64, &'static str), trouble: Option<(Trouble, bool)>, expected: &str| {
            let planned = planned_after(trouble, rule, &[], stored);
            assert_eq!(planned, expected, "{stored:?} {trouble:?}");
        };
        let [just_now, before] = [true, false].map(|is_recent| Some((Trouble::Unreachable, is_recent)));
        check((65, "max-age=60"), None, "validate stale");
        check((65, "max-age=60"), just_now, "serve memory");
        check((65, "max-age=60"), before, "serve memory and refresh -5");
        check((70, "max-age=60"), just_now, "validate stale");
        check((65, "max-age=60, must-revalidate"), just_now, "validate stale");
        check((65, "max-age=60"), Some((Trouble::Error, true)), "validate stale");
        check((65, "max-age=60, stale-if-error=9"), Some((Trouble::Error, true)), "serve memory");
        check((65, "max-age=60, stale-while-revalidate=9"), None, "serve memory and refresh -5");
        check((65, "max-age=60, stale-while-revalidate=9"), just_now, "serve memory");
        check((65, "max-age=60, stale-while-revalidate=9"), before, "serve memory and refresh -5");
    }

    #[test]
    fn a_client_that_says_how_stale_a_response_may_be_gets_none_that_is_staler() {
        let check = |asked: &str, stored: (u64, &'static str), expected: &str| {
            assert_eq!(planned(Caching::Standard, &[("cache-control", asked)], Some(stored)), expected, "{asked} {stored:?}");
        };
        check("max-stale=10", (70, "stale-while-revalidate=60"), "serve memory");
        check("max-stale=10", (71, "stale-while-revalidate=60"), "validate stale");
        check("max-stale", (71, "stale-while-revalidate=60"), "serve memory");
        check("max-age=90, max-stale=10", (71, "stale-while-revalidate=60"), "validate stale");
    }

    #[test]
    fn after_a_soft_purge_the_old_response_is_used_once_more_unless_that_is_forbidden() {
        let rule = Caching::Rule { ttl: Duration::from_secs(60), overrides: false };
        let check = |fields: &[(&'static str, &str)], stored: (u64, &'static str), expected: &str| {
            let planned = planned_when(Lookup::Softened, rule, fields, Some(stored), false);
            assert_eq!(planned, expected, "{fields:?} {stored:?}");
        };
        check(&[], (10, "max-age=60"), "serve memory and refresh 0");
        check(&[], (60, "max-age=60"), "validate stale");
        check(&[], (10, "max-age=60, must-revalidate"), "validate stale");
        check(&[("cache-control", "no-cache")], (10, "max-age=60"), "validate stale");
        check(&[("authorization", "secret")], (10, "max-age=60"), "fetch request");
        check(&[("cache-control", "only-if-cached")], (10, "max-age=60"), "serve memory and refresh 0");
    }

    #[test]
    fn a_request_with_credentials_gets_what_the_response_allows_others_to_have() {
        let rule = Caching::Rule { ttl: Duration::from_secs(60), overrides: false };
        let check = |caching, field: &'static str, cache_control: &'static str, expected: &str| {
            assert_eq!(planned(caching, &[(field, "secret")], Some((1, cache_control))), expected, "{field} {cache_control}");
        };
        check(rule, "authorization", "max-age=60", "fetch request");
        check(rule, "authorization", "public", "serve memory");
        check(rule, "authorization", "s-maxage=60", "serve memory");
        check(rule, "cookie", "max-age=60", "fetch request");
        check(rule, "cookie", "public", "serve memory");
        check(Caching::Standard, "authorization", "max-age=60", "fetch request");
        check(Caching::Standard, "authorization", "must-revalidate", "serve memory");
        check(Caching::Standard, "cookie", "public", "fetch request");
    }

    #[test]
    fn the_origin_is_asked_about_other_variants_for_who_wants_a_whole_response_and_has_no_credentials() {
        let rule = Caching::Rule { ttl: Duration::from_secs(60), overrides: false };
        let other = |_, stored: Arc<StoredResponse>| Lookup::OtherVariant(Candidate::of(&stored.head).into_iter().collect());
        let check = |caching, field: (&'static str, &str), expected: &str| {
            let planned = planned_when(other, caching, &[field], Some((1, "public")), false);
            assert_eq!(planned, expected, "{field:?}");
        };
        check(rule, ("accept", "a"), "select [\"\\\"v1\\\"\"]");
        check(rule, ("if-none-match", "\"a\""), "select [\"\\\"v1\\\"\"]");
        check(rule, ("range", "bytes=0-1"), "fetch vary-miss");
        check(Caching::Standard, ("range", "bytes=0-1"), "fetch part vary-miss");
        check(rule, ("cache-control", "no-cache"), "fetch vary-miss");
        check(rule, ("cache-control", "no-store"), "fetch vary-miss");
        check(rule, ("cache-control", "only-if-cached"), "refuse");
        check(rule, ("cookie", "id=1"), "fetch vary-miss");
        check(rule, ("authorization", "secret"), "fetch vary-miss");
    }

    #[test]
    fn a_part_or_a_condition_is_passed_on_only_where_nothing_would_be_stored() {
        let rule = Caching::Rule { ttl: Duration::from_secs(60), overrides: false };
        for field in ["range", "if-none-match"] {
            assert_eq!(planned_for(rule, &[(field, "x")], None, false), "fetch uri-miss");
            assert_eq!(planned_for(rule, &[(field, "x")], None, true), "pass uri-miss not-storable");
        }
        assert_eq!(planned_for(rule, &[], None, true), "fetch uri-miss");
        // What is asked with credentials is mostly not stored, and nobody remembers for others that it was not.
        assert_eq!(planned(rule, &[("range", "x"), ("cookie", "c")], None), "pass uri-miss not-storable");
    }
}

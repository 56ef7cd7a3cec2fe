//! What may we do with what we have? The first of the two questions; pure.

use crate::rules::{Admitted, Caching};
use crate::semantics::directives::RequestDirectives;
use crate::semantics::{Forward, StoredHead, age, conditional};
use crate::store::{Lookup, StoredResponse, Tier};
use http::header::{COOKIE, RANGE};
use http::{HeaderMap, Method};
use std::sync::Arc;
use std::time::SystemTime;

/// What is done with a request.
#[derive(Debug)]
pub(super) enum Plan {
    /// Answer with the stored response (§4).
    Serve(Tier, Arc<StoredResponse>),
    /// Answer with a stored response that a soft purge made stale, and ask the origin for a new one in the background.
    ServeAndRefresh(Tier, Arc<StoredResponse>),
    /// Ask the origin whether the stored response still holds (§4.3).
    Validate(Arc<StoredResponse>, Forward),
    /// Ask the origin for a response that may be stored.
    Fetch(Forward),
    /// Relay the request and its response, and store nothing.
    Pass(Forward, Detail),
    /// Say that nothing is stored, as the client asked to be told (§5.2.1.7).
    Refuse,
}

/// Why, in a word that header, log and metrics share; empty where the reason of [`Forward`] says it all.
pub(super) type Detail = &'static str;

/// What is known about a request that may use the cache.
pub(super) struct Wanted<'a> {
    pub(super) method: &'a Method,
    pub(super) fields: &'a HeaderMap,
    pub(super) asked: &'a RequestDirectives,
    pub(super) admitted: &'a Admitted<'a>,
}

/// Plans for a request that may use the cache. `is_unstorable` tells whether the key's last response could not be stored.
pub(super) fn plan(wanted: &Wanted<'_>, found: Lookup, is_unstorable: impl FnOnce() -> bool, now: SystemTime) -> Plan {
    let Wanted { method, fields, asked, admitted } = *wanted;
    let plan = match found {
        Lookup::Nothing => Plan::Fetch(Forward::UriMiss),
        Lookup::OtherVariant => Plan::Fetch(Forward::VaryMiss),
        Lookup::Unavailable => Plan::Fetch(Forward::UriMiss),
        Lookup::Found(_, stored) | Lookup::Softened(_, stored) if !may_be_given(&stored.head, admitted) => {
            Plan::Fetch(Forward::Request)
        }
        Lookup::Softened(tier, stored) => match reuse(&stored.head, asked, now) {
            Ok(()) if stored.head.may_be_stale => Plan::ServeAndRefresh(tier, stored),
            _ if stored.head.has_validator() => Plan::Validate(stored, Forward::Stale),
            _ => Plan::Fetch(Forward::Stale),
        },
        Lookup::Found(tier, stored) => match reuse(&stored.head, asked, now) {
            Ok(()) => Plan::Serve(tier, stored),
            Err(why) if stored.head.has_validator() => Plan::Validate(stored, why),
            Err(why) => Plan::Fetch(why),
        },
    };
    match plan {
        Plan::Serve(..) | Plan::ServeAndRefresh(..) => plan,
        _ if asked.only_if_cached => Plan::Refuse,
        // A response to HEAD has no body to store, and none that others could follow (§4.3.5 is another matter).
        Plan::Fetch(why) | Plan::Validate(_, why) if *method == Method::HEAD => Plan::Pass(why, "head"),
        // What fills the cache is asked for whole; where nothing will be stored, the client had better get what it asked for.
        Plan::Fetch(why) if asks_for_less(fields) && (admitted.has_open_credentials() || is_unstorable()) => {
            Plan::Pass(why, "not-storable")
        }
        plan => plan,
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
        Caching::Standard => (!admitted.authorization || head.shareable) && (!admitted.cookie || varies_on_cookie),
        _ => !admitted.has_open_credentials() || head.shareable,
    }
}

/// Whether a stored response may be used without asking the origin (§4.2, §5.2.1), or why not.
pub(super) fn reuse(head: &StoredHead, asked: &RequestDirectives, now: SystemTime) -> Result<(), Forward> {
    if asked.no_cache {
        return Err(Forward::Request);
    }
    if !head.is_fresh(now) {
        return Err(Forward::Stale);
    }
    let is_too_old = asked.max_age.is_some_and(|limit| age::current(head, now) > limit);
    let is_too_brief = asked.min_fresh.is_some_and(|wanted| head.remaining(now) < wanted);
    match is_too_old || is_too_brief {
        true => Err(Forward::Request),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Admission, Forwarding, Pattern, Route, RuleSet};
    use crate::semantics::directives;
    use crate::store::tests::response;
    use http::{HeaderName, Request};
    use std::time::Duration;

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
        let route = Route { caching, ..Route::new("r", Pattern::parse("/{*rest}").unwrap(), Duration::from_secs(60)) };
        let rules = RuleSet::new(vec![route]).unwrap();
        let mut request = Request::builder().uri("/a").header("host", "h");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let Admission::Keyed(admitted) = rules.admit(&parts, &Forwarding { scheme: "http", host: None }, false) else {
            panic!("the request uses the cache");
        };
        let (found, now) = match stored {
            None => (Lookup::Nothing, SystemTime::UNIX_EPOCH),
            Some((seconds_ago, cache_control)) => {
                let mut stored = response("k", "body", &[], &HeaderMap::new());
                let now = stored.head.times.received + Duration::from_secs(seconds_ago);
                stored.head.fields.insert(HeaderName::from_static("cache-control"), cache_control.parse().unwrap());
                let head = stored.head;
                stored.head = StoredHead::new(head.status, head.fields, head.times, head.lifetime, head.selection);
                (standing(Tier::Memory, Arc::new(stored)), now)
            }
        };
        let wanted = Wanted {
            method: &Method::GET,
            fields: &parts.headers,
            asked: &directives::request(&parts.headers),
            admitted: &admitted,
        };
        match plan(&wanted, found, || unstorable, now) {
            Plan::Serve(tier, _) => format!("serve {}", tier.as_str()),
            Plan::ServeAndRefresh(tier, _) => format!("serve {} and refresh", tier.as_str()),
            Plan::Validate(_, why) => format!("validate {}", why.as_str()),
            Plan::Fetch(why) => format!("fetch {}", why.as_str()),
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
    fn after_a_soft_purge_the_old_response_is_used_once_more_unless_that_is_forbidden() {
        let rule = Caching::Rule { ttl: Duration::from_secs(60), overrides: false };
        let check = |fields: &[(&'static str, &str)], stored: (u64, &'static str), expected: &str| {
            let planned = planned_when(Lookup::Softened, rule, fields, Some(stored), false);
            assert_eq!(planned, expected, "{fields:?} {stored:?}");
        };
        check(&[], (10, "max-age=60"), "serve memory and refresh");
        check(&[], (60, "max-age=60"), "validate stale");
        check(&[], (10, "max-age=60, must-revalidate"), "validate stale");
        check(&[("cache-control", "no-cache")], (10, "max-age=60"), "validate stale");
        check(&[("authorization", "secret")], (10, "max-age=60"), "fetch request");
        check(&[("cache-control", "only-if-cached")], (10, "max-age=60"), "serve memory and refresh");
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

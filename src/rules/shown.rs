//! What a request that fills the cache shows the origin: nothing that could change a shared answer without being in its key.
//!
//! Whoever comes first would otherwise decide what everybody after him is given: an origin that writes a request's `User-Agent` or
//! `Referer` into its page, or answers in the language of `Accept-Language`, and forgets to say so in `Vary`, is enough. So, where the
//! operator does not say that its `Vary` can be relied on:
//!
//! - Fields that clients and intermediaries send by themselves are withheld. A response that names one in `Vary` all the same is asked
//!   for once more, with it.
//! - Those of content negotiation are shown until a response has come that does not name them; that one answers requests with the same
//!   values alone. From then on they are withheld like the others, and the response to that is for everybody.
//! - `Origin`, on which the answers of origins depend that are asked from other sites' pages, is a part of the key where it is there.

use super::identity;
use super::route::{CONTENT_FIELDS, Route, Share, Unkeyed};
use crate::semantics::directives;
use crate::semantics::fields::{self, Kind};
use crate::semantics::vary::{self, Vary};
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, HOST, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::sync::Arc;
use std::time::Duration;

/// What earlier responses of a key have told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The fields by which they vary.
    pub varies: Option<Arc<[HeaderName]>>,
    /// The fields of content negotiation that they do not name in `Vary`.
    pub unnamed: Unnamed,
}

/// Some of the fields of content negotiation, one a bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unnamed(u8);

impl Unnamed {
    /// Those that a response does not name in `Vary`. What it says that it was made for counts as named.
    pub fn by(response: &HeaderMap) -> Unnamed {
        let Vary::Fields(named) = with_default(Vary::of(response)) else { return Unnamed::default() };
        let is_made_for = |name: &HeaderName| match *name {
            ACCEPT_ENCODING => response.contains_key(CONTENT_ENCODING),
            ACCEPT_LANGUAGE => response.contains_key(CONTENT_LANGUAGE),
            _ => false,
        };
        let is_unnamed = |name: &HeaderName| !named.contains(name) && !is_made_for(name);
        Unnamed(NEGOTIATING.iter().enumerate().map(|(bit, name)| u8::from(is_unnamed(name)) << bit).sum())
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a field is among them.
    pub fn has(self, name: &HeaderName) -> bool {
        NEGOTIATING.iter().position(|one| one == name).is_some_and(|bit| self.0 & 1 << bit != 0)
    }
}

impl Told {
    /// The fields whose values keep two fetches of the same key apart.
    pub fn selecting(&self) -> Vec<HeaderName> {
        self.varies.iter().flat_map(|names| names.iter()).filter(|name| !self.unnamed.has(name)).cloned().collect()
    }
}

impl Route {
    /// Whether a response depends on no other fields than it names in `Vary`.
    pub fn trusts_vary(&self) -> bool {
        self.unkeyed == Unkeyed::Forward
    }

    /// Takes from a request that may fill the cache what could change the response and is not in the key. Names the fields that the
    /// origin can be shown after all if it says that its response varies on them.
    pub fn hide(&self, method: &Method, request: &mut HeaderMap, told: &Told) -> Vec<HeaderName> {
        let is_keyed = |name| Route::has_content(method) && CONTENT_FIELDS.contains(name);
        let hidden: Vec<HeaderName> = request.keys().filter(|name| !self.shows(name) && !is_keyed(name)).cloned().collect();
        for name in hidden {
            request.remove(name);
        }
        if !self.identity_cookies.is_empty() {
            identity::keep_cookies(request, &self.identity_cookies);
        }
        vary::write_as_selecting(&NEGOTIATING, request);
        if self.trusts_vary() {
            return Vec::new();
        }
        let asked = directives::request(request);
        let withheld: Vec<HeaderName> = request.keys().filter(|name| self.withholds(name, told)).cloned().collect();
        for name in &withheld {
            request.remove(name);
        }
        // RFC 9111 §5.2: caches behind us hear that the client wants the origin's own answer. What else it says there is between us.
        if asked.no_cache {
            request.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        } else if asked.max_age == Some(Duration::ZERO) {
            request.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=0"));
        }
        withheld
    }

    /// The fields that select a response: those that it names, and those of content negotiation that it does not name, if the request
    /// showed the origin one of them.
    pub fn selecting(&self, mut named: Vec<HeaderName>, request: &HeaderMap, told: &Told) -> Vec<HeaderName> {
        let is_open = |name: &HeaderName| !named.contains(name) && !told.unnamed.has(name) && !self.keys(name);
        let open: Vec<HeaderName> = NEGOTIATING.into_iter().filter(is_open).collect();
        if !self.trusts_vary() && open.iter().any(|name| request.contains_key(name)) {
            named.extend(open);
            named.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        }
        named
    }

    /// Whether the key has this field.
    pub(super) fn keys(&self, name: &HeaderName) -> bool {
        let identifies = matches!(&self.share, Share::PerCredential(identity) if identity.contains(name));
        identifies || self.key_headers.contains(name)
    }

    /// Whether `Origin` is a part of the key of requests that have it.
    pub(super) fn keys_origin(&self) -> bool {
        !self.trusts_vary() && !self.keys(&ORIGIN)
    }

    fn shows(&self, name: &HeaderName) -> bool {
        self.keys(name)
            || match fields::kind(name) {
                Kind::Unkeyed => self.unkeyed != Unkeyed::Drop,
                Kind::Steering => false,
                _ => true,
            }
    }

    fn withholds(&self, name: &HeaderName, told: &Told) -> bool {
        let is_named = || told.varies.as_ref().is_some_and(|names| names.contains(name));
        match fields::kind(name) {
            _ if *name == HOST || *name == ORIGIN || self.keys(name) => false,
            Kind::Known | Kind::Asking => !is_named(),
            Kind::Negotiating => told.unnamed.has(name),
            _ => false,
        }
    }
}

/// A response that names no field names none of these either.
fn with_default(vary: Vary) -> Vary {
    match vary {
        Vary::None => Vary::Fields(Vec::new()),
        vary => vary,
    }
}

/// The fields of content negotiation (RFC 9110 §12.5).
const NEGOTIATING: [HeaderName; 4] = [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE];

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    fn route(unkeyed: Unkeyed) -> Route {
        Route { unkeyed, ..Route::new("r", Pattern::parse("/{id}").unwrap(), Duration::from_secs(60)) }
    }

    fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    const USUAL: [(&str, &str); 9] = [
        ("host", "h"),
        ("x-tenant", "t"),
        ("x-original-url", "/admin"),
        ("accept", "a"),
        ("accept-language", "de"),
        ("user-agent", "u"),
        ("origin", "http://o"),
        ("traceparent", "00"),
        ("cookie", "c=d"),
    ];

    fn shown(route: &Route, told: &Told) -> String {
        let mut fields = fields(&USUAL);
        route.hide(&Method::GET, &mut fields, told);
        let mut names: Vec<&str> = fields.keys().map(|name| name.as_str()).collect();
        names.sort();
        names.join(" ")
    }

    #[test]
    fn the_origin_is_shown_what_is_in_the_key_or_will_select_the_response() {
        let nothing = Told::default();
        assert_eq!(shown(&route(Unkeyed::Pass), &nothing), "accept accept-language cookie host origin x-tenant");
        assert_eq!(shown(&route(Unkeyed::Drop), &nothing), "accept accept-language cookie host origin");
        let all = "accept accept-language cookie host origin traceparent user-agent x-tenant";
        assert_eq!(shown(&route(Unkeyed::Forward), &nothing), all);
        let keyed = Route { key_headers: vec!["user-agent".parse().unwrap()], ..route(Unkeyed::Drop) };
        assert_eq!(shown(&keyed, &nothing), "accept accept-language cookie host origin user-agent");
    }

    #[test]
    fn what_earlier_responses_have_told_decides_what_is_withheld() {
        let told = |vary: &[(&'static str, &str)]| Told { unnamed: Unnamed::by(&fields(vary)), ..Told::default() };
        let route = route(Unkeyed::Drop);
        assert_eq!(shown(&route, &told(&[])), "cookie host origin");
        assert_eq!(shown(&route, &told(&[("vary", "Accept-Language")])), "accept-language cookie host origin");
        assert_eq!(shown(&route, &told(&[("content-language", "de")])), "accept-language cookie host origin");
        assert_eq!(shown(&route, &told(&[("vary", "*")])), "accept accept-language cookie host origin");
        let varies = Told { varies: Some([HeaderName::from_static("user-agent")].into()), ..Told::default() };
        assert_eq!(shown(&route, &varies), "accept accept-language cookie host origin user-agent");
    }

    #[test]
    fn of_what_a_client_says_to_caches_they_hear_that_it_wants_a_new_response() {
        let said = |list: &[(&'static str, &str)]| {
            let mut fields = fields(list);
            route(Unkeyed::Pass).hide(&Method::GET, &mut fields, &Told::default());
            assert!(!fields.contains_key("pragma"));
            fields.get(CACHE_CONTROL).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(said(&[("cache-control", "no-cache, evil")]).as_deref(), Some("no-cache"));
        assert_eq!(said(&[("pragma", "no-cache")]).as_deref(), Some("no-cache"));
        assert_eq!(said(&[("cache-control", "max-age=0")]).as_deref(), Some("max-age=0"));
        assert_eq!(said(&[("cache-control", "max-age=7, evil")]), None);
    }

    #[test]
    fn what_was_shown_and_is_not_named_selects_all_the_same() {
        let selecting = |route: &Route, named: &[&'static str], request: &[(&'static str, &str)], told: &Told| {
            let named = named.iter().map(|name| HeaderName::from_static(name)).collect();
            route.selecting(named, &fields(request), told).iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
        };
        let (pass, nothing) = (route(Unkeyed::Pass), Told::default());
        let german: &[_] = &[("accept-language", "de")];
        let all = "accept accept-charset accept-encoding accept-language";
        assert_eq!(selecting(&pass, &[], &[], &nothing), "");
        assert_eq!(selecting(&pass, &[], &[("user-agent", "u")], &nothing), "");
        assert_eq!(selecting(&pass, &[], german, &nothing), all);
        assert_eq!(selecting(&pass, &["accept-language"], german, &nothing), "accept-language");
        assert_eq!(selecting(&pass, &["cookie"], german, &nothing), format!("{all} cookie"));
        assert_eq!(selecting(&pass, &[], german, &Told { unnamed: Unnamed::by(&HeaderMap::new()), ..nothing.clone() }), "");
        assert_eq!(selecting(&route(Unkeyed::Forward), &[], german, &nothing), "");
    }
}

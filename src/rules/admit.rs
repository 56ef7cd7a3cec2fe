//! Whether a request may use the cache at all, and under which key.

use super::identity;
use super::key::{CacheKey, Location, RuleMark, Secret, rule_mark};
use super::route::{CONTENT_FIELDS, Caching, Route, RouteConflict, Share, Unkeyed};
use super::scope::{Scope, Scopes};
use super::target;
use super::token::Verifier;
use crate::semantics::fields::{self, Kind};
use crate::semantics::no_vary_search::NoVarySearch;
use crate::semantics::tagging::TagField;
use http::header::{AUTHORIZATION, COOKIE, HOST, IF_MATCH, IF_UNMODIFIED_SINCE, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// All routes of a configuration. Immutable; a reload makes a new one.
pub struct RuleSet {
    routes: Vec<Arc<Route>>,
    /// One a route.
    marks: Vec<RuleMark>,
    router: matchit::Router<usize>,
    secret: Secret,
    verifier: Option<Arc<Verifier>>,
}

/// The answer to: may the cache be used for this request?
pub enum Admission<'a> {
    /// It may, under this key.
    Keyed(Admitted<'a>),
    /// It may, and its content is part of the key: it is to be read, and asked for again.
    WantsContent {
        /// The route's place among the routes.
        index: usize,
    },
    /// It goes past the cache.
    Past {
        /// The route that matched, if one did.
        route: Option<usize>,
        /// Why.
        why: Bypass,
    },
}

impl Admission<'_> {
    /// The route that matched, if one did.
    pub fn route(&self) -> Option<usize> {
        match self {
            Admission::Keyed(admitted) => Some(admitted.index),
            Admission::WantsContent { index } => Some(*index),
            Admission::Past { route, .. } => *route,
        }
    }
}

/// A request that may use the cache.
pub struct Admitted<'a> {
    /// The route's place among the routes.
    pub index: usize,
    /// The route.
    pub route: &'a Arc<Route>,
    /// The key.
    pub key: CacheKey,
    /// The target that the origin is sent, where the route's query rule made it another than the client's.
    pub target: Option<PathAndQuery>,
    /// `Authorization` is there, and nothing in the key or the route stands for it.
    pub authorization: bool,
    /// `Cookie` is there, and nothing in the key or the route stands for it.
    pub cookie: bool,
    /// When the token ends that is in the key.
    pub ends: Option<SystemTime>,
    /// What is known of the parts of its query that make no difference, if the key is made without them.
    pub query_rule: Option<Arc<NoVarySearch>>,
    /// Calculated when they are needed, which on a hit in memory they are not.
    scopes: OnceLock<Scopes>,
}

/// Why a request goes past the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bypass {
    /// The cache is switched off.
    Disabled,
    /// No route matches.
    NoRoute,
    /// The route says `cache = "off"`.
    CacheOff,
    /// The method is none that the route answers from stored responses.
    Method,
    /// The path is not in normal form, so others may read it differently.
    Path(&'static str),
    /// The connection is to speak another protocol.
    Upgrade,
    /// A body, which the key does not have.
    RequestBody,
    /// A precondition that only the origin can judge (RFC 9111 §4.3.2).
    Precondition,
    /// A field that could change the response and is not in the key.
    UnkeyedField(HeaderName),
    /// A cookie that identifies is there twice, so it is not said who asks.
    AmbiguousIdentity,
    /// The token that identifies has ended.
    TokenEnded,
}

/// What is known of a request's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// There is none.
    None,
    /// It was not read.
    Unread,
    /// All of it.
    Read(&'a [u8]),
}

/// What the connection and trusted proxies say about the request.
#[derive(Debug, Clone, Copy)]
pub struct Forwarding<'a> {
    /// `http` or `https`, as the origin is told in `X-Forwarded-Proto`.
    pub scheme: &'a str,
    /// What the origin is told in `X-Forwarded-Host`, where that is not `Host`.
    pub host: Option<&'a [u8]>,
}

impl Bypass {
    /// The reason in a few letters, for the header, the log and the metrics alike.
    pub fn as_str(&self) -> &'static str {
        match self {
            Bypass::Disabled => "cache-disabled",
            Bypass::NoRoute => "no-route",
            Bypass::CacheOff => "cache-off",
            Bypass::Method => "method",
            Bypass::Path(_) => "path-not-normal",
            Bypass::Upgrade => "upgrade",
            Bypass::RequestBody => "request-body",
            Bypass::Precondition => "precondition",
            Bypass::UnkeyedField(_) => "unkeyed-field",
            Bypass::AmbiguousIdentity => "ambiguous-identity",
            Bypass::TokenEnded => "token-ended",
        }
    }
}

impl Admitted<'_> {
    /// Takes from a request's fields those that say what its content is.
    pub fn forget_content(fields: &mut HeaderMap) {
        for name in CONTENT_FIELDS {
            fields.remove(name);
        }
    }

    /// Whether the request carries credentials that nothing in the key stands for.
    pub fn has_open_credentials(&self) -> bool {
        self.authorization || self.cookie
    }

    /// The scopes that what is stored for this request lies in, as far as the request tells; `request` is the one that was admitted.
    pub fn scopes(&self, request: &Parts) -> &Scopes {
        self.scopes.get_or_init(|| {
            let written = request.uri.path_and_query();
            let target = match self.route.heeds_no_vary_search {
                // Which queries have the same response is not known to all who may purge one.
                true => request.uri.path(),
                false => self.target.as_ref().or(written).map_or("/", PathAndQuery::as_str),
            };
            Scopes::new(&self.route.name, target, self.route.fill(&self.route.tags, request))
        })
    }
}

impl RuleSet {
    /// Compiles the routes, or names all that match the same paths as an earlier one.
    pub fn new(routes: Vec<Route>) -> Result<RuleSet, Vec<RouteConflict>> {
        let mut router = matchit::Router::new();
        let mut conflicts = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            if let Err(error) = router.insert(route.pattern.as_str(), index) {
                let first = match error {
                    matchit::InsertError::Conflict { with } => with,
                    other => other.to_string(),
                };
                conflicts.push(RouteConflict { index, second: route.pattern.to_string(), first });
            }
        }
        match conflicts.is_empty() {
            true => {
                let marks = routes.iter().map(|route| rule_mark(route, &TagField::ALL)).collect();
                Ok(RuleSet {
                    routes: routes.into_iter().map(Arc::new).collect(),
                    marks,
                    router,
                    secret: Secret::random(),
                    verifier: None,
                })
            }
            false => Err(conflicts),
        }
    }

    /// Expects responses to name their tags in these fields.
    pub fn with_tag_fields(self, fields: &[TagField]) -> RuleSet {
        RuleSet { marks: self.routes.iter().map(|route| rule_mark(route, fields)).collect(), ..self }
    }

    /// Keys the hash of credentials with `secret` instead of a random one.
    pub fn with_secret(self, secret: Secret) -> RuleSet {
        RuleSet { secret, ..self }
    }

    /// Believes the tokens that this holds to be right.
    pub fn with_verifier(self, verifier: Option<Arc<Verifier>>) -> RuleSet {
        RuleSet { verifier, ..self }
    }

    /// The scopes that a purge of a URL concerns: its target, as the route's query rule leaves it, or its path with every query.
    /// `target` is path and query; the error says what keeps responses from being stored under it.
    pub fn scopes_of_url(&self, target: &PathAndQuery, every_query: bool) -> Result<Vec<Scope>, &'static str> {
        let path = target.path();
        target::check_path(path)?;
        let route = self.route_of(path);
        let kept = route.map_or(target.as_str().into(), |route| route.query.apply(path, target.query(), target.as_str()));
        Ok(match every_query || route.is_some_and(|route| route.heeds_no_vary_search) {
            true => vec![Scope::Target(path.to_owned()), Scope::Path(path.to_owned())],
            false => vec![Scope::Target(kept.into_owned())],
        })
    }

    /// The scopes that a request invalidates which may have changed something at its target (RFC 9111 §4.4), and at others that its
    /// response names: where nothing can be stored, there is none. The rule of its own target may name tags.
    pub fn invalidated_by(&self, request: &Parts, others: &[PathAndQuery]) -> Vec<Scope> {
        let own = request.uri.path_and_query().cloned();
        let mut scopes = Vec::new();
        for target in own.iter().chain(others) {
            let may_be_stored = self.route_of(target.path()).is_some_and(|route| route.caching != Caching::Off);
            if let (true, Ok(of_url)) = (may_be_stored, self.scopes_of_url(target, false)) {
                scopes.extend(of_url);
            }
        }
        if let Some(route) = self.route_of(request.uri.path()) {
            // The operator says that these requests only ask.
            if route.methods.contains(&request.method) {
                return Vec::new();
            }
            scopes.extend(route.fill(&route.invalidates, request).into_iter().map(Scope::Tag));
        }
        scopes
    }

    /// Whether a request has no content that anyone looks at: the method gives it no meaning, and it may be answered from what is stored.
    pub fn ignores_content(&self, request: &Parts) -> bool {
        let route = || self.route_of(request.uri.path());
        !Route::has_content(&request.method) && route().is_some_and(|route| route.caching != Caching::Off)
    }

    /// The protocols beside WebSocket that may be spoken instead of HTTP after a request for this path. Others may read one that is not in
    /// normal form as that of another route.
    pub fn upgrades(&self, path: &str) -> &[String] {
        let route = target::check_path(path).ok().and_then(|()| self.route_of(path));
        route.map_or(&[], |route| &route.upgrade)
    }

    /// Whether the key of some route has this field.
    pub fn key_has(&self, name: &HeaderName) -> bool {
        self.routes.iter().any(|route| route.keys(name))
    }

    /// The place among the routes of the one that a path matches.
    pub fn index_of(&self, path: &str) -> Option<usize> {
        self.router.at(path).ok().map(|found| *found.value)
    }

    fn route_of(&self, path: &str) -> Option<&Arc<Route>> {
        self.index_of(path).map(|index| &self.routes[index])
    }

    /// The routes, in the order of the file.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Decides whether a request may use the cache, and makes its key.
    ///
    /// `request` is as the origin will be sent it: its target in origin form, its `Host` in the fields.
    /// `now` tells whether a token has ended, and `query_rule` what is known of a path's queries, where the route heeds that.
    pub fn admit(
        &self,
        request: &Parts,
        forwarding: &Forwarding<'_>,
        content: Content<'_>,
        now: SystemTime,
        query_rule: impl FnOnce(&str) -> Option<Arc<NoVarySearch>>,
    ) -> Admission<'_> {
        let path = request.uri.path();
        let Ok(found) = self.router.at(path) else {
            return Admission::Past { route: None, why: Bypass::NoRoute };
        };
        let index = *found.value;
        let route = &self.routes[index];
        let past = |why| Admission::Past { route: Some(index), why };

        if route.caching == Caching::Off {
            return past(Bypass::CacheOff);
        }
        if !route.methods.contains(&request.method) {
            return past(Bypass::Method);
        }
        if let Err(why) = target::check_path(path) {
            return past(Bypass::Path(why));
        }
        let has_content = Route::has_content(&request.method);
        if !has_content && content != Content::None {
            return past(Bypass::RequestBody);
        }
        if route.identity_cookies.iter().any(|name| identity::cookies(&request.headers, name).nth(1).is_some()) {
            return past(Bypass::AmbiguousIdentity);
        }
        let (mut authorization, mut cookie) = (false, false);
        for name in request.headers.keys() {
            match route.weigh(name, &request.method) {
                Weight::Nothing => {}
                Weight::Authorization => authorization = true,
                Weight::Cookie => cookie = true,
                Weight::Past(why) => return past(why),
            }
        }

        let content = match content {
            _ if !has_content => None,
            Content::Unread => return Admission::WantsContent { index },
            Content::Read(content) => Some(content),
            Content::None => Some(&[][..]),
        };
        let written = request.uri.path_and_query().map_or("/", |p| p.as_str());
        let target = route.query.apply(path, request.uri.query(), written);
        let verifier = self.verifier.as_ref().filter(|_| !route.identity_claims.is_empty());
        let verified = verifier.and_then(|verifier| verifier.holding(&request.headers));
        let ends = match (&route.share, &verified) {
            (Share::PerCredential(_), Some(verified)) => verified.ends(),
            (Share::PerCredential(_), None) => identity::token_ends(&request.headers),
            _ => None,
        };
        // What is stored for a token is not served past its end. Whoever is given it showed the same token.
        if ends.is_some_and(|ends| ends <= now) {
            return past(Bypass::TokenEnded);
        }
        let claims = verified.and_then(|verified| verified.says(&route.identity_claims));
        let location = Location {
            claims: claims.as_deref(),
            rule: &self.marks[index],
            scheme: forwarding.scheme,
            forwarded_host: forwarding.host,
            host: request.headers.get(HOST).map_or(&[], |host| host.as_bytes()),
            target: &target,
            content: content.map(|content| (&request.method, content)),
        };
        let query_rule = if route.heeds_no_vary_search { query_rule(path) } else { None };
        let key = match &query_rule {
            Some(rule) => {
                let (path, query) = target.split_once('?').unwrap_or((&target, ""));
                let alike = format!("{path}?{}", rule.normalise(query));
                CacheKey::new(&Location { target: &alike, ..location }, route, &request.headers, &self.secret)
            }
            None => CacheKey::new(&location, route, &request.headers, &self.secret),
        };
        let target = match target == written {
            true => None,
            false => match PathAndQuery::try_from(target.as_ref()) {
                Ok(target) => Some(target),
                Err(_) => return past(Bypass::Path("a query that cannot be rewritten")),
            },
        };
        let scopes = OnceLock::new();
        Admission::Keyed(Admitted { index, route, key, target, authorization, cookie, ends, query_rule, scopes })
    }
}

/// What a field means for the admission of its request.
pub(super) enum Weight {
    Nothing,
    /// Credentials, and nothing in the key or the route stands for them.
    Authorization,
    Cookie,
    /// The request goes past the cache.
    Past(Bypass),
}

impl Route {
    /// Says what a field means. Inlined, since each hit pays for it, a field at a time.
    #[inline(always)]
    pub(super) fn weigh(&self, name: &HeaderName, method: &Method) -> Weight {
        match fields::kind(name) {
            Kind::Unkeyed if Route::has_content(method) && CONTENT_FIELDS.contains(name) => Weight::Nothing,
            Kind::Unkeyed if self.unkeyed == Unkeyed::Pass && !self.keys(name) => {
                Weight::Past(Bypass::UnkeyedField(name.clone()))
            }
            // A condition on what a `POST` does is the origin's to judge (RFC 9110 §13.2.2).
            Kind::Conditional if *method == Method::POST => Weight::Past(Bypass::Precondition),
            Kind::Conditional if *name == IF_MATCH || *name == IF_UNMODIFIED_SINCE => Weight::Past(Bypass::Precondition),
            Kind::Credential if !self.stands_for(name) => match *name {
                AUTHORIZATION | PROXY_AUTHORIZATION => Weight::Authorization,
                COOKIE => Weight::Cookie,
                // A gateway's word for who asks: what origins say of sharing, they say of the two above.
                _ => Weight::Past(Bypass::UnkeyedField(name.clone())),
            },
            _ => Weight::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pattern, QueryRule, Share, TagTemplate, Told};
    use super::*;
    use std::time::Duration;

    const FORWARDING: Forwarding<'_> = Forwarding { scheme: "http", host: None };

    fn route(pattern: &str) -> Route {
        let pattern = Pattern::parse(pattern).unwrap();
        let tags = match pattern.captures().is_empty() {
            true => Vec::new(),
            false => vec![TagTemplate::parse("customer:{id}", pattern.captures()).unwrap()],
        };
        Route { tags, ..Route::new("customer", pattern, Duration::from_secs(60)) }
    }

    fn request(line: &str, fields: &[(&'static str, &str)]) -> Parts {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = http::Request::builder().method(method).uri(target).header("host", "h");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn why(rules: &RuleSet, request: &Parts, content: Content<'_>) -> Option<Bypass> {
        match rules.admit(request, &FORWARDING, content, SystemTime::UNIX_EPOCH, |_| None) {
            Admission::Keyed(_) | Admission::WantsContent { .. } => None,
            Admission::Past { why, .. } => Some(why),
        }
    }

    #[test]
    fn a_request_goes_past_the_cache_with_its_reason() {
        let off = Route { caching: Caching::Off, ..route("/customer/health") };
        let rules = RuleSet::new(vec![route("/customer/{id}"), off]).unwrap();
        let check = |line: &str, fields: &[(&'static str, &str)], expected: Option<Bypass>| {
            assert_eq!(why(&rules, &request(line, fields), Content::None), expected, "{line} {fields:?}");
        };
        check("GET /customer/1", &[], None);
        check("HEAD /customer/1", &[], None);
        check("GET /customer/1", &[("accept", "a"), ("user-agent", "u"), ("if-none-match", "*")], None);
        check("POST /customer/1", &[], Some(Bypass::Method));
        check("get /customer/1", &[], Some(Bypass::Method));
        check("GET /other", &[], Some(Bypass::NoRoute));
        check("GET /customer/health", &[], Some(Bypass::CacheOff));
        check("GET /customer/%2e%2e", &[], Some(Bypass::Path("an encoded dot")));
        check("GET /customer/1", &[("x-tenant", "t")], Some(Bypass::UnkeyedField(HeaderName::from_static("x-tenant"))));
        check("GET /customer/1", &[("if-match", "*")], Some(Bypass::Precondition));
        assert_eq!(why(&rules, &request("GET /customer/1", &[]), Content::Unread), Some(Bypass::RequestBody));
    }

    #[test]
    fn credentials_are_open_until_the_key_or_the_operator_stands_for_them() {
        let open = |share: Share, key_headers: Vec<HeaderName>| {
            let rules = RuleSet::new(vec![Route { share, key_headers, ..route("/{id}") }]).unwrap();
            let request = request("GET /1", &[("authorization", "Bearer x"), ("cookie", "a=b")]);
            match rules.admit(&request, &FORWARDING, Content::None, SystemTime::UNIX_EPOCH, |_| None) {
                Admission::Keyed(admitted) => (admitted.authorization, admitted.cookie),
                _ => panic!("the request uses the cache"),
            }
        };
        assert_eq!(open(Share::ByResponse, vec![]), (true, true));
        assert_eq!(open(Share::ByResponse, vec![http::header::COOKIE]), (true, false));
        assert_eq!(open(Share::Everyone, vec![]), (false, false));
        assert_eq!(open(Share::PerCredential(vec![AUTHORIZATION]), vec![]), (false, true));
        assert_eq!(open(Share::PerCredential(vec![AUTHORIZATION, http::header::COOKIE]), vec![]), (false, false));
    }

    #[test]
    fn a_field_that_identifies_is_in_the_key_and_shown_to_the_origin() {
        let api_key = HeaderName::from_static("x-api-key");
        for unkeyed in [Unkeyed::Pass, Unkeyed::Drop] {
            let share = Share::PerCredential(vec![api_key.clone()]);
            let rules = RuleSet::new(vec![Route { share, unkeyed, ..route("/{id}") }]).unwrap();
            let mut request = request("GET /1", &[("x-api-key", "k")]);
            assert_eq!(why(&rules, &request, Content::None), None);
            rules.routes()[0].hide(&Method::GET, &mut request.headers, &Told::default());
            assert!(request.headers.contains_key(&api_key));
        }
    }

    #[test]
    fn the_origin_is_shown_the_target_that_is_in_the_key() {
        let query = QueryRule { deny: vec!["utm_*".into()], ..QueryRule::default() };
        let rules = RuleSet::new(vec![Route { query, ..route("/{id}") }]).unwrap();
        let target =
            |line: &str| match rules.admit(&request(line, &[]), &FORWARDING, Content::None, SystemTime::UNIX_EPOCH, |_| None) {
                Admission::Keyed(admitted) => admitted.target,
                _ => panic!("the request uses the cache"),
            };
        assert_eq!(target("GET /1?a=1"), None);
        assert_eq!(target("GET /1?a=1&utm_source=x").unwrap(), "/1?a=1");
        assert_eq!(target("GET /1?utm_source=x").unwrap(), "/1");
    }

    #[test]
    fn tags_are_filled_from_the_path() {
        let rules = RuleSet::new(vec![route("/customer/{id}/{*rest}"), route("/customer/{id}")]).unwrap();
        let tags = |path: &str| match rules.admit(
            &request(&format!("GET {path}"), &[]),
            &FORWARDING,
            Content::None,
            SystemTime::UNIX_EPOCH,
            |_| None,
        ) {
            Admission::Keyed(admitted) => admitted.scopes(&request(&format!("GET {path}"), &[])).tags.clone(),
            _ => panic!("the request uses the cache"),
        };
        assert_eq!(tags("/customer/42"), ["customer:42"]);
        assert_eq!(tags("/customer/42/a/b"), ["customer:42"]);
        assert_eq!(tags("/customer/a%3Ab"), ["customer:a:b"]);
    }

    #[test]
    fn the_scopes_of_a_url_are_those_of_what_is_stored_for_it() {
        let query = QueryRule { deny: vec!["utm_*".into()], ..QueryRule::default() };
        let rules = RuleSet::new(vec![Route { query, ..route("/c/{id}") }]).unwrap();
        let lies_in = |stored: &str, purged: &str, every_query: bool| {
            let request = request(&format!("GET {stored}"), &[]);
            let Admission::Keyed(admitted) = rules.admit(&request, &FORWARDING, Content::None, SystemTime::UNIX_EPOCH, |_| None)
            else {
                panic!("it is admitted")
            };
            let scopes = rules.scopes_of_url(&PathAndQuery::try_from(purged).unwrap(), every_query).unwrap();
            scopes.iter().any(|scope| admitted.scopes(&request).names.contains(&scope.name()))
        };
        assert!(lies_in("/c/1", "/c/1", false));
        assert!(lies_in("/c/1?utm_source=x", "/c/1", false));
        assert!(lies_in("/c/1", "/c/1?utm_source=x", false));
        assert!(!lies_in("/c/1?a=1", "/c/1", false));
        assert!(lies_in("/c/1?a=1", "/c/1?utm_source=x&a=1", false));
        assert!(lies_in("/c/1", "/c/1", true));
        assert!(lies_in("/c/1?a=1", "/c/1?b=2", true));
        assert!(!lies_in("/c/2", "/c/1", true));
        assert!(rules.scopes_of_url(&PathAndQuery::from_static("/c/../1"), false).is_err());
    }

    #[test]
    fn patterns_that_match_the_same_paths_are_conflicts() {
        let conflicts = RuleSet::new(vec![route("/a/{id}"), route("/a/<id>"), route("/b")]).err().unwrap();
        assert_eq!(conflicts, [RouteConflict { index: 1, second: "/a/{id}".into(), first: "/a/{id}".into() }]);
    }

    #[test]
    fn the_most_specific_route_wins_wherever_it_stands() {
        let rules = RuleSet::new(vec![route("/c/{id}/{*rest}"), route("/c/{id}"), route("/c/me")]).unwrap();
        let index =
            |line: &str| match rules.admit(&request(line, &[]), &FORWARDING, Content::None, SystemTime::UNIX_EPOCH, |_| None) {
                Admission::Keyed(admitted) => admitted.index,
                _ => panic!("the request uses the cache"),
            };
        assert_eq!([index("GET /c/me"), index("GET /c/42"), index("GET /c/42/x")], [2, 1, 0]);
    }

    #[test]
    fn where_the_route_asks_for_it_content_is_part_of_the_key() {
        let query: Method = "QUERY".parse().unwrap();
        let rules = RuleSet::new(vec![Route { methods: vec![Method::GET, query, Method::POST], ..route("/{id}") }]).unwrap();
        let key = |line: &str, fields: &[(&'static str, &str)], content: Content<'_>| match rules.admit(
            &request(line, fields),
            &FORWARDING,
            content,
            SystemTime::UNIX_EPOCH,
            |_| None,
        ) {
            Admission::Keyed(admitted) => Ok(admitted.key.hash()),
            Admission::WantsContent { .. } => Err("wants content"),
            Admission::Past { why, .. } => Err(why.as_str()),
        };
        let json = ("content-type", "application/json");
        assert_eq!(key("QUERY /1", &[json], Content::Unread), Err("wants content"));
        assert_eq!(key("PUT /1", &[json], Content::Unread), Err("method"));
        assert_eq!(key("GET /1", &[], Content::Unread), Err("request-body"));
        assert_eq!(key("GET /1", &[json], Content::None), Err("unkeyed-field"));
        assert_eq!(key("POST /1", &[("if-none-match", "*")], Content::Unread), Err("precondition"));
        assert_eq!(key("QUERY /1", &[("x-any", "1")], Content::Unread), Err("unkeyed-field"));
        let same = key("QUERY /1", &[json], Content::Read(b"a"));
        assert!(same.is_ok());
        assert_eq!(key("QUERY /1", &[json], Content::Read(b"a")), same);
        for other in [
            key("QUERY /1", &[json], Content::Read(b"b")),
            key("QUERY /2", &[json], Content::Read(b"a")),
            key("POST /1", &[json], Content::Read(b"a")),
            key("QUERY /1", &[("content-type", "text/plain")], Content::Read(b"a")),
            key("QUERY /1", &[json, ("content-encoding", "gzip")], Content::Read(b"a")),
            key("QUERY /1", &[], Content::Read(b"a")),
            key("QUERY /1", &[json], Content::None),
            key("GET /1", &[], Content::None),
        ] {
            assert!(other.is_ok() && other != same);
        }
    }
}

//! `[[route]]`: which paths are cached, for how long, and who shares them.

use super::place::Place;
use super::raw::{Kind, Table, Value};
use super::reader::{Name, Parsed, Section};
use super::values::{boolean, distinct, field_name, list, one_of, quote, string};
use super::{Config, lifetimes};
use crate::rules::{Caching, Collapse, Pattern, QueryRule, Route, RuleSet, Share, TagSource, TagTemplate, Unkeyed};
use crate::semantics::fields;
use http::{HeaderName, Method};
use std::collections::HashMap;
use std::time::Duration;

/// A route, and where the parts stand that may contradict other routes and sections.
struct Written {
    index: usize,
    name: Option<(String, Place)>,
    /// The name is the pattern, since no other was written.
    is_derived: bool,
    per_credential: Option<Place>,
    /// The route itself and the place of its pattern, if the pattern is right.
    route: Option<(Route, Place)>,
}

/// What the routes need of `[cache]`.
#[derive(Default)]
pub(super) struct ForRoutes {
    /// The TTL of a route that names none.
    pub(super) ttl: Duration,
    /// A secret was written, be it right or wrong.
    pub(super) has_secret: bool,
}

/// Reads all routes.
pub(super) fn read(root: &mut Section<'_>, cache: &ForRoutes, config: &mut Config) {
    let mut written = Vec::new();
    for (index, table) in tables(root).into_iter().enumerate() {
        root.of_table(Name::Route(index, None), table, |section| {
            written.push(read_route(section, index, cache.ttl));
        });
    }
    conflicts(root, &written, config.store.redis.is_some() && !cache.has_secret);
    config.routes = written.into_iter().filter_map(|written| Some(written.route?.0)).collect();
}

fn tables(root: &mut Section<'_>) -> Vec<Table> {
    let Some(written) = root.take_raw("route") else {
        return Vec::new();
    };
    let place = written.place.clone();
    let (is_list, items) = match written.kind {
        Kind::Array(items) => (true, items),
        _ => (false, vec![written]),
    };
    let mut tables = Vec::new();
    for item in items {
        match item.kind {
            Kind::Table(table) => tables.push(table),
            _ => root.problem(&item.place, "route", format!("is {}; a route begins with [[route]]", item.describe())),
        }
    }
    // Its table is read nevertheless: what it holds may be wrong too.
    if !is_list && !tables.is_empty() {
        root.problem(&place, "route", "a route begins with two brackets: [[route]]");
    }
    tables
}

fn read_route(section: &mut Section<'_>, index: usize, default_ttl: Duration) -> Written {
    let name = section.take_with_place("name", route_name);
    section.rename(Name::Route(index, name.as_ref().map(|(name, _)| name.clone())));
    let match_place = section.place_of("match");
    let pattern =
        section.take_with_place("match", |value| Pattern::parse(&string(value)?).map_err(|error| value.fault(error.to_string())));
    let shown = name.as_ref().map(|(name, _)| name.clone());
    let shown = shown.or_else(|| pattern.as_ref().map(|(pattern, _)| pattern.to_string()));
    section.rename(Name::Route(index, shown.clone()));
    if match_place.is_none() {
        let place = section.place().clone();
        section.absence(&place, "match", "is missing; write the paths it takes, such as match = \"/api/customer/{id}\"");
    }

    let methods = section.take_with_place("methods", methods);
    let key_body = section.take_with_place("key_body", boolean);
    let posts = methods.as_ref().filter(|(methods, _)| methods.contains(&Method::POST));
    match (&posts, &key_body) {
        (Some((_, place)), None | Some((false, _))) => {
            let message = "has \"POST\"; write key_body = true, which says that these requests change nothing and that their body says what is asked for";
            section.problem(place, "methods", message);
        }
        (None, Some((true, place))) => {
            section.problem(place, "key_body", "has a meaning only together with \"POST\" in `methods`")
        }
        _ => {}
    }
    let lifetimes = lifetimes::read(section, default_ttl);
    let early_refresh = section.take("early_refresh", boolean);
    let ignores_request_directives = section.take("ignore_request_directives", boolean);
    let captures = pattern.as_ref().map(|(pattern, _)| pattern.captures().to_vec());
    let tags = section.take_with_place("tags", list(|value| tag(value, captures.as_deref())));
    let invalidates = section.take_with_place("invalidates", list(|value| tag(value, captures.as_deref())));
    let (share, identity, share_place) = read_share(section);
    let mut query = QueryRule::default();
    section.within("query", Name::Query(index, shown), |section| {
        section.read("allow", &mut query.allow, |value| list(string)(value).map(Some));
        section.read("deny", &mut query.deny, list(string));
        section.read("sort", &mut query.sort, boolean);
    });
    let heeds_no_vary_search = section.take("no_vary_search", boolean);
    let key_headers = section.take("key_headers", distinct(key_field));
    let default_unkeyed = if lifetimes.caching == Caching::Standard { Unkeyed::Forward } else { Unkeyed::Pass };
    let unkeyed = section.take("unkeyed_headers", one_of(UNKEYED));
    let collapse = section.take("collapse", one_of(COLLAPSE));
    let strip_set_cookie = section.take("strip_set_cookie", boolean);
    let upgrade = section.take("upgrade", list(protocol));

    if let Some((tags, place)) = &tags {
        let key_headers = key_headers.as_deref().unwrap_or_default();
        for why in tags.iter().flat_map(|tag| not_in_key(tag, key_headers, &share, &query)) {
            section.problem(place, "tags", why);
        }
    }

    if let Some((invalidates, place)) = &invalidates {
        for why in invalidates.iter().flat_map(TagTemplate::sources).filter_map(shows_credential) {
            section.problem(place, "invalidates", why);
        }
    }

    let per_credential = share_place.filter(|_| matches!(share, Share::PerCredential(_)));
    let is_derived = name.is_none();
    let name = name.or_else(|| pattern.as_ref().map(|(pattern, place)| (pattern.to_string(), place.clone())));
    let (Some((pattern, place)), Some((route_name, _))) = (pattern, &name) else {
        return Written { index, name, is_derived, per_credential, route: None };
    };
    let mut route = Route::new(route_name, pattern, default_ttl);
    route.methods = methods.map_or(route.methods, |(methods, _)| methods);
    route.caching = lifetimes.caching;
    route.ttl_is_default = lifetimes.ttl_is_default;
    route.tags = tags.map(|(tags, _)| tags).unwrap_or_default();
    route.invalidates = invalidates.map(|(invalidates, _)| invalidates).unwrap_or_default();
    route.ttl_by_status = lifetimes.ttl_by_status;
    route.ttl_jitter_percent = lifetimes.ttl_jitter_percent;
    route.stale_while_revalidate = lifetimes.stale_while_revalidate;
    route.stale_if_error = lifetimes.stale_if_error;
    route.early_refresh = early_refresh.unwrap_or(true);
    route.ignores_request_directives = ignores_request_directives.unwrap_or_default();
    route.share = share;
    route.identity_cookies = identity.cookies;
    route.identity_claims = identity.claims;
    route.query = query;
    route.heeds_no_vary_search = heeds_no_vary_search.unwrap_or_default();
    route.key_headers = key_headers.unwrap_or_default();
    route.unkeyed = unkeyed.unwrap_or(default_unkeyed);
    route.collapse = collapse.unwrap_or(Collapse::Process);
    route.strip_set_cookie = strip_set_cookie.unwrap_or_default();
    route.upgrade = upgrade.unwrap_or_default();
    Written { index, name, is_derived, per_credential, route: Some((route, place)) }
}

fn read_share(section: &mut Section<'_>) -> (Share, Identity, Option<Place>) {
    let identity = section.take_with_place("identity", identity);
    let share = section.take_with_place("share", one_of(SHARES));
    let place = share.as_ref().map(|(_, place)| place.clone());
    let share = match share.map(|(share, _)| share) {
        Some(ShareName::PerCredential) => {
            let identity = match identity {
                Some((none, place)) if none.fields.is_empty() && none.cookies.is_empty() && none.claims.is_empty() => {
                    section.problem(&place, "identity", "is empty, so nobody would be told apart; name a request field");
                    none
                }
                Some((identity, _)) => identity,
                None => Identity { fields: vec![http::header::AUTHORIZATION, http::header::COOKIE], ..Identity::default() },
            };
            return (Share::PerCredential(identity.fields.clone()), identity, place);
        }
        Some(ShareName::Everyone) => Share::Everyone,
        Some(ShareName::ByResponse) | None => Share::ByResponse,
    };
    if let Some((_, place)) = identity {
        section.problem(&place, "identity", "has a meaning only together with share = \"per-credential\"");
    }
    (share, Identity::default(), place)
}

/// Notes what is wrong between routes, and between them and other sections.
fn conflicts(root: &mut Section<'_>, written: &[Written], secret_is_missing: bool) {
    let full_name = |one: &Written| Name::Route(one.index, one.name.as_ref().map(|(name, _)| name.clone()));
    let mut names: HashMap<&str, &Written> = HashMap::new();
    for one in written {
        if let Some((name, place)) = &one.name {
            let first = *names.entry(name).or_insert(one);
            // Two equal patterns are reported as such, below.
            if first.index != one.index && !(first.is_derived && one.is_derived) {
                let first = first.index;
                let message = format!("route[{first}] has this name too; statistics and purges tell routes apart by it");
                root.problem_of(&full_name(one), place, "name", message);
            }
        }
        if let (Some(place), true) = (&one.per_credential, secret_is_missing) {
            let message = "\"per-credential\" with Redis needs [cache] secret or CACHE_SECRET, the same on all replicas, \
                           since the key holds a hash of the credentials";
            root.absence_of(&full_name(one), place, "share", message);
        }
    }
    let right = || written.iter().filter_map(|one| Some((one, one.route.as_ref()?)));
    let routes = right().map(|(_, (route, _))| route.clone()).collect();
    for conflict in RuleSet::new(routes).err().unwrap_or_default() {
        if let Some((one, (_, place))) = right().nth(conflict.index) {
            root.problem_of(&full_name(one), place, "match", format!("{conflict}; only one of them could be chosen"));
        }
    }
}

fn route_name(value: &Value) -> Parsed<String> {
    let name = string(value)?;
    let is_allowed = |sign: char| sign.is_ascii_graphic() && !matches!(sign, '"' | '\\' | ',' | '*');
    match name.len() <= NAME_MAX && name.chars().all(is_allowed) {
        true if name == NO_ROUTE => {
            Err(value.fault(format!("{NO_ROUTE:?} is what requests are counted under that no route matches")))
        }
        true => Ok(name),
        false => Err(value.fault(format!(
            "{} cannot be a name: visible ASCII without quotes, commas, backslashes and `*`, {NAME_MAX} signs at most",
            quote(&name)
        ))),
    }
}

/// Reads the methods whose responses are stored.
fn methods(value: &Value) -> Parsed<Vec<Method>> {
    let methods: Vec<Method> =
        list(|value| match value.as_str() {
            Some(name @ ("GET" | "HEAD" | "QUERY" | "POST")) => Ok(name.parse().expect("these are methods")),
            Some(name) => Err(value
                .fault(format!("responses to {} are not stored; \"GET\", \"HEAD\", \"QUERY\" and \"POST\" are", quote(name)))),
            None => Err(value.not("the name of a method in quotes")),
        })(value)?;
    match methods.iter().any(|method| *method != Method::HEAD) {
        true => Ok(methods),
        false => Err(value.fault("names no method whose responses could be stored; write [\"GET\", \"HEAD\"]")),
    }
}

fn tag(value: &Value, captures: Option<&[String]>) -> Parsed<TagTemplate> {
    let written = string(value)?;
    // Without a pattern it is not known which captures there are; any that is named will do.
    let named = || written.split('{').skip(1).filter_map(|rest| rest.split('}').next()).map(str::to_owned).collect();
    let captures = captures.map_or_else(named, <[String]>::to_vec);
    TagTemplate::parse(&written, &captures).map_err(|error| value.fault(error.to_string()))
}

/// What a tag takes from the request that is not in the key: a stored response would carry the tag of whoever came first.
fn not_in_key(tag: &TagTemplate, key_headers: &[HeaderName], share: &Share, query: &QueryRule) -> Vec<String> {
    let identifies = |name: &HeaderName| matches!(share, Share::PerCredential(identity) if identity.contains(name));
    let is_left_out = |source: &TagSource| match source {
        TagSource::Field(name) if !key_headers.contains(name) && !identifies(name) => {
            Some(format!("`{{header.{name}}}` is not in the key; name the field in `key_headers`"))
        }
        TagSource::Query(name) if !query.counts(name) => {
            Some(format!("`{{query.{name}}}` is left out of the key by the route's `query`"))
        }
        _ => None,
    };
    tag.sources().filter_map(|source| shows_credential(source).or_else(|| is_left_out(source))).collect()
}

/// Says so if a tag takes a credential from the request: logs and the list of purges show tags.
fn shows_credential(source: &TagSource) -> Option<String> {
    match source {
        TagSource::Field(name) if fields::kind(name) == fields::Kind::Credential => {
            Some(format!("`{{header.{name}}}`: a credential would stand in the tag for all to read"))
        }
        _ => None,
    }
}

/// A request field on which a response can depend.
fn field(value: &Value) -> Parsed<HeaderName> {
    let name = field_name(value)?;
    match fields::kind(&name) {
        fields::Kind::HopByHop => {
            Err(value.fault(format!("`{name}` is between two neighbours and never reaches the origin (RFC 9110 §7.6.1)")))
        }
        fields::Kind::Conditional => Err(value.fault(format!("`{name}` is answered by the cache itself"))),
        _ => Ok(name),
    }
}

/// A protocol that a connection may change to, with its version if it has one (RFC 9110 §7.8).
fn protocol(value: &Value) -> Parsed<String> {
    let written = string(value)?;
    let (name, version) = written.split_once('/').map_or((&*written, None), |(name, version)| (name, Some(version)));
    // Both are tokens, as the names of fields are.
    let is_token = |part: &str| HeaderName::from_bytes(part.as_bytes()).is_ok();
    if !is_token(name) || !version.is_none_or(is_token) {
        return Err(value.fault(format!("{} is not a protocol, such as \"tcp\" or \"example/2\"", quote(&written))));
    }
    match name.to_ascii_lowercase().as_str() {
        "websocket" => Err(value.fault("WebSocket is bridged on every route, and need not be named")),
        "http" | "h2" | "h2c" | "h3" | "tls" => Err(value.fault(format!(
            "{} would carry requests past the sidecar, which could be neither checked nor answered here; no route allows it",
            quote(&written)
        ))),
        _ => Ok(written),
    }
}

/// What tells callers apart: request fields; single cookies, as `cookie:session`; claims of a token, as `jwt:sub`.
#[derive(Default)]
struct Identity {
    fields: Vec<HeaderName>,
    cookies: Vec<String>,
    claims: Vec<String>,
}

fn identity(value: &Value) -> Parsed<Identity> {
    let mut identity = Identity::default();
    let written = list(|value| Ok((string(value)?, value.clone())))(value)?;
    for (index, (one, item)) in written.iter().enumerate() {
        if written[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(one)) {
            return Err(value.fault(format!("`{one}` stands twice")));
        }
        match one.split_once(':') {
            // RFC 6265 §4.1.1: the name of a cookie is a token, as that of a field is; but its case counts.
            Some(("cookie", name)) if HeaderName::from_bytes(name.as_bytes()).is_ok() => identity.cookies.push(name.to_owned()),
            Some(("cookie", name)) => return Err(item.fault(format!("{} is not the name of a cookie", quote(name)))),
            Some(("jwt", claim)) if !claim.is_empty() => identity.claims.push(claim.to_owned()),
            _ => identity.fields.push(field(item)?),
        }
    }
    let has_whole = |name| identity.fields.contains(&name);
    let is_doubled = !identity.cookies.is_empty() && has_whole(http::header::COOKIE)
        || !identity.claims.is_empty() && has_whole(http::header::AUTHORIZATION);
    match is_doubled {
        true => Err(value.fault("has a field as a whole and a part of it; leave out either")),
        false => Ok(identity),
    }
}

/// The same for the key, which is written to Redis as it is; `identity` goes into it as a keyed hash.
fn key_field(value: &Value) -> Parsed<HeaderName> {
    let name = field(value)?;
    match fields::kind(&name) {
        fields::Kind::Credential => {
            let message = format!("`{name}` would stand in the key for all to read; write share = \"per-credential\"");
            Err(value.fault(message))
        }
        _ => Ok(name),
    }
}

#[derive(Clone, Copy)]
enum ShareName {
    ByResponse,
    Everyone,
    PerCredential,
}

const SHARES: &[(&str, ShareName)] =
    &[("by-response", ShareName::ByResponse), ("everyone", ShareName::Everyone), ("per-credential", ShareName::PerCredential)];
const COLLAPSE: &[(&str, Collapse)] = &[("process", Collapse::Process), ("replicas", Collapse::Replicas)];
const UNKEYED: &[(&str, Unkeyed)] = &[("pass", Unkeyed::Pass), ("drop", Unkeyed::Drop), ("forward", Unkeyed::Forward)];

/// It is a label of metrics.
const NAME_MAX: usize = 100;

/// What statistics and the log call requests that no route matches.
const NO_ROUTE: &str = "none";

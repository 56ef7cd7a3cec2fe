//! What may be stored (RFC 9111 §3).

use super::directives::{self, ResponseDirectives};
use super::terms::{Staleness, Terms};
use super::vary::Vary;
use super::{Lifetime, Source, conditional, fields, freshness, range};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TRAILER};
use std::time::{Duration, SystemTime};

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// The status is not final, or means something only to the request that it answers.
    Status,
    /// `no-store` in the response (§5.2.2.5).
    NoStore,
    /// `private` (§5.2.2.7).
    Private,
    /// `Set-Cookie`: it is meant for one client.
    SetCookie,
    /// The request carried credentials, and neither response nor route allows to share the answer (§3.5).
    Credentials,
    /// `Vary: *`: no other request selects it (§4.1).
    VaryAny,
    /// It says nothing of its freshness, or is stale at once and can't be validated.
    NoLifetime,
    /// A part of a representation (206).
    Partial,
    /// `no-store` in the request (§5.2.1.5).
    RequestNoStore,
    /// The body is larger than what is kept.
    TooLarge,
    /// The body's length was not announced, and something needs to know it.
    LengthUnknown,
    /// The response names more tags than are kept.
    TooManyTags,
    /// It answers a `POST`, and does not say that it is what its target would answer, or something else has changed that since.
    Posted,
    /// It says something else of which queries are alike than was known when its key was made.
    QueryRule,
    /// The body is a stream of events, which has no end to wait for and belongs to one client.
    EventStream,
}

impl NotStored {
    /// All reasons, for those who make a counter of each.
    pub const ALL: [NotStored; 15] = [
        NotStored::Posted,
        NotStored::QueryRule,
        NotStored::Status,
        NotStored::NoStore,
        NotStored::Private,
        NotStored::SetCookie,
        NotStored::Credentials,
        NotStored::VaryAny,
        NotStored::NoLifetime,
        NotStored::Partial,
        NotStored::RequestNoStore,
        NotStored::TooLarge,
        NotStored::LengthUnknown,
        NotStored::EventStream,
        NotStored::TooManyTags,
    ];

    /// The reason in a word, the same in header, metric and log.
    pub fn as_str(self) -> &'static str {
        match self {
            NotStored::Status => "status",
            NotStored::NoStore => "no-store",
            NotStored::Private => "private",
            NotStored::SetCookie => "set-cookie",
            NotStored::Credentials => "credentials",
            NotStored::VaryAny => "vary-any",
            NotStored::NoLifetime => "no-lifetime",
            NotStored::Partial => "partial",
            NotStored::RequestNoStore => "request-no-store",
            NotStored::TooLarge => "too-large",
            NotStored::LengthUnknown => "length-unknown",
            NotStored::EventStream => "event-stream",
            NotStored::Posted => "method",
            NotStored::QueryRule => "query-rule-changed",
            NotStored::TooManyTags => "too-many-tags",
        }
    }
}

/// What the route and the request add to the response's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy<'a> {
    /// The route's own TTL; `None` on a route that follows RFC 9111 alone.
    pub rule_ttl: Option<Duration>,
    /// The route's TTLs of statuses that the operator named.
    pub ttl_by_status: &'a [(StatusCode, Duration)],
    /// The route's TTL goes before what the response says.
    pub overrides: bool,
    /// What the route says about stale responses.
    pub staleness: Staleness,
    /// `Set-Cookie` is left out of what is stored, and doesn't forbid it.
    pub strip_set_cookie: bool,
    /// Whether the response may answer other clients' requests.
    pub shared: Sharing,
    /// A part of a representation is stored too, if it can be completed (§3.3).
    pub takes_parts: bool,
    /// Fields that go before `Cache-Control` and `Expires`, in this order (RFC 9213 §2.2).
    pub targets: &'a [HeaderName],
}

/// Whether a response may answer the requests of others than the client it was made for (§3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The route says so, or the key tells the clients apart.
    Allowed,
    /// The request carried no credentials.
    NoCredentials,
    /// The request carried credentials, and the route doesn't say that its responses are shared.
    OnlyIfResponseAllows,
}

/// Decides whether a response may be stored, and on which terms.
pub fn decide(status: StatusCode, fields: &HeaderMap, received: SystemTime, policy: &Policy<'_>) -> Result<Terms, NotStored> {
    let targeted = directives::targeted(fields, policy.targets);
    let is_targeted = targeted.is_some();
    let directives = targeted.unwrap_or_else(|| directives::response(fields));
    if status == StatusCode::PARTIAL_CONTENT && !(policy.takes_parts && range::can_be_completed(fields)) {
        return Err(NotStored::Partial);
    }
    if status.is_informational() || NEVER_STORED.contains(&status.as_u16()) {
        return Err(NotStored::Status);
    }
    let is_named = policy.ttl_by_status.iter().any(|(named, _)| *named == status);
    if CLIENTS_FAULT.contains(&status.as_u16()) && !is_named {
        return Err(NotStored::Status);
    }
    if directives.must_understand && !UNDERSTOOD.contains(&status.as_u16()) {
        return Err(NotStored::Status);
    }
    // §5.2.2.3: who understands the status ignores the `no-store` that is there for those who don't know `must-understand`.
    // Where a rule sets TTLs, operators were promised that `no-store` holds always.
    let is_for_others = directives.must_understand && policy.rule_ttl.is_none();
    // What is said to surrogates alone adds to what is said to all, whichever field that is in.
    let to_surrogates = directives::surrogate(fields);
    if directives.no_store && !is_for_others || to_surrogates.no_store {
        return Err(NotStored::NoStore);
    }
    if directives.private || to_surrogates.private {
        return Err(NotStored::Private);
    }
    let is_left_out = |name| directives.no_cache_fields.contains(name) || directives.private_fields.contains(name);
    if fields.contains_key(SET_COOKIE) && !policy.strip_set_cookie && !is_left_out(&SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    // RFC 6265 §9.4: obsolete, and sent by somebody nevertheless.
    if fields.contains_key("set-cookie2") {
        return Err(NotStored::SetCookie);
    }
    if Vary::of(fields) == Vary::Any {
        return Err(NotStored::VaryAny);
    }
    let expires = if is_targeted { None } else { freshness::expires(fields, received) };
    let lifetime = lifetime(status, &directives, expires, fields, received, policy).ok_or(NotStored::NoLifetime)?;
    let terms = Terms::new(lifetime, &directives, &policy.staleness);
    if policy.shared == Sharing::OnlyIfResponseAllows && !terms.shareable {
        return Err(NotStored::Credentials);
    }
    // What is stale from the start is of use only if the origin can be asked about it, or if it may be served all the same.
    if lifetime.duration.is_zero() && terms.while_revalidating.is_zero() && !conditional::has_validator(fields) {
        return Err(NotStored::NoLifetime);
    }
    Ok(terms)
}

/// Whether a response of this status is ever stored as what it is, rather than as a part of another.
pub fn can_be_stored(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::PARTIAL_CONTENT && !NEVER_STORED.contains(&status.as_u16())
}

/// Takes from a response's fields those that are not stored (§3.1).
///
/// `Set-Cookie` is among them: [`decide`] refuses the response unless the route strips it. So are the fields that `no-cache`
/// names: what isn't there can't be reused without validation (§5.2.2.4); and those that `private` names (§5.2.2.7).
pub fn strip(fields: &mut HeaderMap, targets: &[HeaderName]) {
    // Read before anything is removed: it has to be what was decided by.
    let said = directives::targeted(fields, targets).unwrap_or_else(|| directives::response(fields));
    fields::remove_hop_by_hop(fields);
    for name in NOT_STORED_FIELDS {
        fields.remove(name);
    }
    for name in said.no_cache_fields.into_iter().chain(said.private_fields) {
        fields.remove(name);
    }
}

fn lifetime(
    status: StatusCode,
    directives: &ResponseDirectives,
    expires: Option<Lifetime>,
    fields: &HeaderMap,
    received: SystemTime,
    policy: &Policy<'_>,
) -> Option<Lifetime> {
    // An error or a redirect is not what the operator had in mind when writing a TTL: these only with explicit freshness, or
    // with a TTL of their own.
    let named = policy.ttl_by_status.iter().find(|(named, _)| *named == status).map(|(_, ttl)| *ttl);
    let by_rule = named.or(policy.rule_ttl.filter(|_| RULE_STATUSES.contains(&status.as_u16())));
    let by_rule = by_rule.map(|duration| Lifetime { duration, source: Source::Rule });
    if policy.overrides && by_rule.is_some() {
        return by_rule;
    }
    if directives.no_cache {
        return Some(Lifetime { duration: Duration::ZERO, source: Source::NoCache });
    }
    freshness::stated(directives).or(expires).or_else(|| match policy.rule_ttl {
        Some(_) => by_rule,
        None => freshness::heuristic(status, directives, fields, received),
    })
}

/// Statuses that only the request they answer can make sense of: they say how its own conditions or ranges came out, or that its
/// sender asks too often, too much, or without having logged in to the network (RFC 6585 §3 to §6: MUST NOT be stored).
const NEVER_STORED: [u16; 7] = [304, 412, 416, 428, 429, 431, 511];

/// Statuses of a request that the origin did not like the form of: whoever asks for the same in another form is answered otherwise,
/// and one client could have all others be told what is its own fault alone. Stored where the operator names them.
const CLIENTS_FAULT: [u16; 9] = [400, 406, 411, 413, 414, 415, 417, 421, 426];

/// Whether a response that is not stored, to a request for what is, takes that back: it is what the origin answers now (§4.3.3), and
/// neither an error nor about the request alone.
pub fn withdraws(status: StatusCode) -> bool {
    match status.as_u16() {
        206 | 304 => false,
        200..=399 | 401 | 402 | 403 | 404 | 410 | 451 => true,
        _ => false,
    }
}

/// Statuses that a rule's TTL is for.
const RULE_STATUSES: [u16; 3] = [200, 203, 204];

/// Final statuses whose meaning for caches is known here (RFC 9110 §15, RFC 6585, 7725), for `must-understand`.
const UNDERSTOOD: [u16; 50] = [
    200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410,
    411, 413, 414, 415, 417, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 506, 507, 508, 511,
];

/// Fields beside the hop-by-hop ones that are not stored: cookies; what §3.1 says of the proxy's own; and the announcement
/// of trailers, which are not stored either.
const NOT_STORED_FIELDS: [HeaderName; 5] =
    [SET_COOKIE, PROXY_AUTHENTICATE, PROXY_AUTHENTICATION_INFO, PROXY_AUTHORIZATION, TRAILER];

const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::UNIX_EPOCH;

    const STANDARD: Policy<'_> = Policy {
        rule_ttl: None,
        ttl_by_status: &[],
        overrides: false,
        staleness: Staleness { while_revalidating: Duration::ZERO, if_error: Duration::ZERO, if_unreachable: Duration::ZERO },
        strip_set_cookie: false,
        shared: Sharing::NoCredentials,
        takes_parts: false,
        targets: &[],
    };
    const RULE: Policy<'_> = Policy { rule_ttl: Some(Duration::from_secs(300)), ..STANDARD };
    const OVERRIDE: Policy<'_> = Policy { overrides: true, ..RULE };

    fn fields(lines: &[&str]) -> HeaderMap {
        let field = |line: &&str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(field).collect()
    }

    fn check(policy: &Policy<'_>, status: u16, lines: &[&str], expected: Result<(u64, Source), NotStored>) {
        let received = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let decided = decide(status.try_into().unwrap(), &fields(lines), received, policy).map(|terms| terms.lifetime);
        let expected = expected.map(|(seconds, source)| Lifetime { duration: Duration::from_secs(seconds), source });
        assert_eq!(decided, expected, "{status} {lines:?} {policy:?}");
    }

    #[test]
    fn no_store_and_private_hold_always() {
        // §5.2.2.5, §5.2.2.7
        for policy in [&STANDARD, &RULE, &OVERRIDE] {
            check(policy, 200, &["cache-control: no-store"], Err(NotStored::NoStore));
            check(policy, 200, &["cache-control: max-age=60, NO-STORE"], Err(NotStored::NoStore));
            check(policy, 200, &["cache-control: private, max-age=60"], Err(NotStored::Private));
            check(policy, 200, &["cache-control: private=\"content-type\", s-maxage=300"], Err(NotStored::Private));
        }
        check(&STANDARD, 200, &["cache-control: private=\"x\", s-maxage=60"], Ok((60, Source::SMaxAge)));
    }

    #[test]
    fn must_understand_lets_no_store_be_ignored_where_the_rfc_alone_rules() {
        // §5.2.2.3
        check(&STANDARD, 200, &["cache-control: must-understand, no-store, max-age=60"], Ok((60, Source::MaxAge)));
        check(&STANDARD, 599, &["cache-control: must-understand, no-store, max-age=60"], Err(NotStored::Status));
        check(&STANDARD, 599, &["cache-control: must-understand, max-age=60"], Err(NotStored::Status));
        check(&STANDARD, 200, &["cache-control: must-understand, no-store, private, max-age=60"], Err(NotStored::Private));
        // Where parts are stored, they are understood.
        let part = ["cache-control: must-understand, max-age=60", "etag: \"1\"", "content-range: bytes 0-1/9"];
        check(&Policy { takes_parts: true, ..STANDARD }, 206, &part, Ok((60, Source::MaxAge)));
        check(&RULE, 200, &["cache-control: must-understand, no-store, max-age=60"], Err(NotStored::NoStore));
        check(&RULE, 599, &["cache-control: must-understand, max-age=60"], Err(NotStored::Status));
    }

    #[test]
    fn any_final_status_with_explicit_freshness_may_be_stored() {
        // §3
        for policy in [&STANDARD, &RULE] {
            for status in [200, 203, 204, 299, 301, 302, 403, 404, 410, 500, 503, 599] {
                check(policy, status, &["cache-control: max-age=60"], Ok((60, Source::MaxAge)));
            }
        }
        for policy in [&STANDARD, &RULE, &OVERRIDE] {
            for status in [100, 101, 103, 304, 412, 416, 400, 406, 413, 414, 428, 429, 431, 511] {
                check(policy, status, &["cache-control: max-age=60"], Err(NotStored::Status));
            }
            check(policy, 206, &["cache-control: max-age=60"], Err(NotStored::Partial));
        }
    }

    #[test]
    fn a_rule_gives_a_lifetime_to_a_success_that_states_none() {
        for status in [200, 203, 204] {
            check(&RULE, status, &[], Ok((300, Source::Rule)));
            check(&RULE, status, &["cache-control: max-age=60"], Ok((60, Source::MaxAge)));
            check(&RULE, status, &["expires: 0"], Err(NotStored::NoLifetime));
            check(&OVERRIDE, status, &["cache-control: max-age=60"], Ok((300, Source::Rule)));
            check(&OVERRIDE, status, &["cache-control: no-cache"], Ok((300, Source::Rule)));
            check(&OVERRIDE, status, &["expires: 0"], Ok((300, Source::Rule)));
        }
        for status in [201, 301, 302, 404, 500, 503] {
            check(&RULE, status, &[], Err(NotStored::NoLifetime));
            check(&RULE, status, &["last-modified: Sat, 05 Nov 1994 08:49:37 GMT"], Err(NotStored::NoLifetime));
            check(&OVERRIDE, status, &[], Err(NotStored::NoLifetime));
            check(&OVERRIDE, status, &["cache-control: max-age=60"], Ok((60, Source::MaxAge)));
        }
        // A guess is not needed where a rule says it.
        check(&RULE, 200, &["last-modified: Sat, 05 Nov 1994 08:49:37 GMT"], Ok((300, Source::Rule)));
    }

    #[test]
    fn a_rule_can_give_a_lifetime_to_any_final_status() {
        let ttl_by_status = [(StatusCode::NOT_FOUND, Duration::from_secs(30)), (StatusCode::OK, Duration::from_secs(40))];
        let rule = Policy { ttl_by_status: &ttl_by_status, ..RULE };
        check(&rule, 404, &[], Ok((30, Source::Rule)));
        check(&rule, 200, &[], Ok((40, Source::Rule)));
        check(&rule, 203, &[], Ok((300, Source::Rule)));
        check(&rule, 410, &[], Err(NotStored::NoLifetime));
        check(&rule, 404, &["cache-control: max-age=5"], Ok((5, Source::MaxAge)));
        check(&Policy { overrides: true, ..rule }, 404, &["cache-control: max-age=5"], Ok((30, Source::Rule)));
        check(&rule, 404, &["cache-control: no-store"], Err(NotStored::NoStore));
    }

    #[test]
    fn a_targeted_field_goes_before_cache_control_and_expires() {
        // RFC 9213 §2.2
        let targets = [HeaderName::from_static("cdn-cache-control")];
        let check = |lines: &[&str], expected| check(&Policy { targets: &targets, ..STANDARD }, 200, lines, expected);
        check(&["cdn-cache-control: max-age=5", "cache-control: max-age=60"], Ok((5, Source::MaxAge)));
        check(&["cdn-cache-control: max-age=5", "cache-control: no-store"], Ok((5, Source::MaxAge)));
        check(&["cdn-cache-control: no-store", "cache-control: max-age=60"], Err(NotStored::NoStore));
        check(&["cdn-cache-control: max-age=5", "expires: 0"], Ok((5, Source::MaxAge)));
        check(&["cdn-cache-control: foo", "expires: Sun, 06 Nov 1994 09:49:37 GMT"], Err(NotStored::NoLifetime));
        check(&["cdn-cache-control: max-age=", "cache-control: max-age=60"], Ok((60, Source::MaxAge)));
        check(&["other-cache-control: max-age=5", "cache-control: max-age=60"], Ok((60, Source::MaxAge)));
    }

    #[test]
    fn what_is_forbidden_to_surrogates_is_forbidden_to_us() {
        let targets = [HeaderName::from_static("cdn-cache-control")];
        let no_store = [
            "no-store",
            "No-Store",
            "no-store-remote",
            "max-age=60, no-store",
            "no-store;edge",
            "max-age=3600+600;edge, no-store ; other",
            "content=\"ESI/1.0\", no-store",
            "\"no-store\"",
        ];
        let permitting = [
            "cache-control: public, max-age=60",
            "cdn-cache-control: max-age=60",
            "cache-control: must-understand, no-store, max-age=60",
        ];
        for policy in [&STANDARD, &RULE, &OVERRIDE] {
            for permitting in permitting {
                let policy = &Policy { targets: &targets, ..*policy };
                for forbidding in no_store {
                    check(policy, 200, &[permitting, &format!("surrogate-control: {forbidding}")], Err(NotStored::NoStore));
                }
            }
            for forbidding in ["private", "private;edge"] {
                check(
                    policy,
                    200,
                    &["cache-control: max-age=300", &format!("surrogate-control: {forbidding}")],
                    Err(NotStored::Private),
                );
            }
        }
        for other in ["", "max-age=5", "xno-store", "no-store-remotely", "content=\"ESI/1.0\"", "x=\"no-store\""] {
            check(
                &STANDARD,
                200,
                &["cache-control: max-age=60", &format!("surrogate-control: {other}")],
                Ok((60, Source::MaxAge)),
            );
        }
    }

    #[test]
    fn what_is_stale_at_once_is_stored_if_it_may_be_served_all_the_same() {
        check(&STANDARD, 200, &["cache-control: max-age=0, stale-while-revalidate=60"], Ok((0, Source::MaxAge)));
        check(&STANDARD, 200, &["cache-control: s-maxage=0, stale-while-revalidate=60"], Err(NotStored::NoLifetime));
    }

    #[test]
    fn a_part_is_stored_where_it_can_be_completed() {
        // §3.3
        let takes_parts = Policy { takes_parts: true, ..STANDARD };
        let part = ["cache-control: max-age=60", "content-range: bytes 0-4/10", "etag: \"a\""];
        check(&takes_parts, 206, &part, Ok((60, Source::MaxAge)));
        check(&takes_parts, 206, &part[..2], Err(NotStored::Partial));
        check(&takes_parts, 206, &[part[0], part[2]], Err(NotStored::Partial));
        check(&STANDARD, 206, &part, Err(NotStored::Partial));
    }

    #[test]
    fn without_a_rule_a_lifetime_is_stated_or_guessed() {
        // §4.2.2
        check(&STANDARD, 200, &[], Err(NotStored::NoLifetime));
        check(&STANDARD, 200, &["etag: \"a\""], Err(NotStored::NoLifetime));
        check(&STANDARD, 200, &["last-modified: Sun, 06 Nov 1994 08:32:57 GMT"], Ok((100, Source::Heuristic)));
        check(&STANDARD, 503, &["last-modified: Sun, 06 Nov 1994 08:32:57 GMT"], Err(NotStored::NoLifetime));
    }

    #[test]
    fn what_is_stale_at_once_is_stored_only_if_it_can_be_validated() {
        // §3, §4.3
        for policy in [&STANDARD, &RULE] {
            check(policy, 200, &["cache-control: max-age=0"], Err(NotStored::NoLifetime));
            check(policy, 200, &["cache-control: max-age=0", "etag: \"a\""], Ok((0, Source::MaxAge)));
            check(policy, 200, &["cache-control: max-age=0", "etag: a"], Err(NotStored::NoLifetime));
            check(policy, 200, &["expires: 0", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT"], Ok((0, Source::Expires)));
            check(policy, 200, &["cache-control: no-cache"], Err(NotStored::NoLifetime));
            check(policy, 200, &["cache-control: no-cache, max-age=60"], Err(NotStored::NoLifetime));
            check(policy, 200, &["cache-control: no-cache, max-age=60", "etag: \"a\""], Ok((0, Source::NoCache)));
            check(policy, 200, &["cache-control: no-cache=\"x\", max-age=60"], Ok((60, Source::MaxAge)));
        }
    }

    #[test]
    fn set_cookie_and_vary_any_forbid_storing() {
        for policy in [&STANDARD, &RULE, &OVERRIDE] {
            let stripping = &Policy { strip_set_cookie: true, ..*policy };
            check(policy, 200, &["cache-control: max-age=300", "set-cookie: a=b"], Err(NotStored::SetCookie));
            check(policy, 200, &["cache-control: max-age=300", "set-cookie2: a=b"], Err(NotStored::SetCookie));
            check(policy, 200, &["cache-control: s-maxage=300, no-cache=other", "set-cookie: a=b"], Err(NotStored::SetCookie));
            let set_cookie = "set-cookie: a=b";
            assert!(decide(StatusCode::OK, &fields(&["cache-control: max-age=300", set_cookie]), UNIX_EPOCH, stripping).is_ok());
            // §5.2.2.4, §5.2.2.7: the response itself says that the rest is for all.
            for named in
                ["cache-control: s-maxage=300, no-cache=set-cookie", "cache-control: s-maxage=300, private=\"set-cookie\""]
            {
                assert!(decide(StatusCode::OK, &fields(&[named, set_cookie]), UNIX_EPOCH, policy).is_ok());
            }
            check(policy, 200, &["cache-control: max-age=300", "vary: accept, *"], Err(NotStored::VaryAny)); // §4.1
            check(policy, 200, &["cache-control: max-age=300", "vary: accept", "vary: *"], Err(NotStored::VaryAny));
        }
    }

    #[test]
    fn an_answer_to_credentials_is_shared_only_if_response_or_route_allow_it() {
        // §3.5
        for policy in [&STANDARD, &RULE, &OVERRIDE] {
            let closed = &Policy { shared: Sharing::OnlyIfResponseAllows, ..*policy };
            let open = &Policy { shared: Sharing::Allowed, ..*policy };
            check(closed, 200, &["cache-control: max-age=300"], Err(NotStored::Credentials));
            check(closed, 200, &["cache-control: max-age=300, proxy-revalidate"], Err(NotStored::Credentials));
            for allowing in ["public, max-age=300", "must-revalidate, max-age=300", "s-maxage=300"] {
                assert!(decide(StatusCode::OK, &fields(&[&format!("cache-control: {allowing}")]), UNIX_EPOCH, closed).is_ok());
            }
            assert!(decide(StatusCode::OK, &fields(&["cache-control: max-age=300"]), UNIX_EPOCH, open).is_ok());
        }
        check(&Policy { shared: Sharing::OnlyIfResponseAllows, ..RULE }, 200, &[], Err(NotStored::Credentials));
    }

    #[test]
    fn fields_of_one_connection_or_client_are_not_stored() {
        // §3.1, §5.2.2.4
        let check = |lines: &[&str], expected: &[&str]| {
            let mut fields = fields(lines);
            strip(&mut fields, &[HeaderName::from_static("cdn-cache-control")]);
            let left: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            assert_eq!(left, expected, "{lines:?}");
        };
        check(&["a: 1", "a: 2", "etag: \"a\""], &["a: 1", "a: 2", "etag: \"a\""]);
        check(&["connection: a, close", "a: 1", "b: 2", "keep-alive: timeout=5", "transfer-encoding: chunked"], &["b: 2"]);
        check(&["connection: cache-control", "cache-control: max-age=60"], &["cache-control: max-age=60"]);
        check(&["set-cookie: a", "set-cookie: b", "trailer: x", "b: 2"], &["b: 2"]);
        check(&["proxy-authenticate: a", "proxy-authentication-info: b", "proxy-authorization: c", "b: 2"], &["b: 2"]);
        check(&["cache-control: no-cache=\"a, c\"", "a: 1", "b: 2"], &["cache-control: no-cache=\"a, c\"", "b: 2"]);
        check(&["cache-control: private=\"a\"", "a: 1", "b: 2"], &["cache-control: private=\"a\"", "b: 2"]);
        check(&["cdn-cache-control: private=\"a\"", "a: 1", "b: 2"], &["cdn-cache-control: private=\"a\"", "b: 2"]);
        check(&["connection: cdn-cache-control", "cdn-cache-control: private=a", "a: 1"], &["cdn-cache-control: private=a"]);
        check(
            &["cache-control: no-cache=\"content-type\"", "content-type: x"],
            &["cache-control: no-cache=\"content-type\"", "content-type: x"],
        );
    }

    #[test]
    fn every_reason_is_a_word_of_its_own() {
        let words: std::collections::HashSet<_> = NotStored::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), NotStored::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-')));
    }
}

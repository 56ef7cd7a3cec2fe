//! Hop-by-hop fields, and what kind of field each request field is to a cache (RFC 9110 §7.6).

use super::list;
use http::header::{CONNECTION, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};

/// What a request field may mean for a response that others share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Many clients or the network send it by themselves, and few origins look at it.
    Known,
    /// It asks something of whoever is on the way, a cache among them.
    Asking,
    /// It says which representation the client would like best (RFC 9110 §12.5).
    Negotiating,
    /// It says who asks.
    Credential,
    /// It makes frameworks believe in another client, host, path or method than the request has.
    Steering,
    /// It is about this connection only.
    HopByHop,
    /// A precondition or a range; the cache answers or removes it.
    Conditional,
    /// Anything else: it may change the response, and nothing in the key stands for it.
    Unkeyed,
}

/// Which kinds of fields a request has: seen once, so that nobody looks for what is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// Looks at all fields.
    pub fn of(fields: &HeaderMap) -> Kinds {
        Kinds(fields.keys().fold(0, |kinds, name| kinds | 1 << kind(name) as u8))
    }

    /// Whether there is one of this kind.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether there is one of these kinds.
    pub fn has_any(self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.has(*kind))
    }
}

/// Removes the fields that are about one connection only (RFC 9110 §7.6.1).
///
/// Known end-to-end fields stay even if `Connection` nominates them: a client could otherwise take from a request what an
/// intermediary in front of us added (who asks, for which host), or a broken origin its own `Cache-Control`.
pub fn remove_hop_by_hop(fields: &mut HeaderMap) {
    if fields.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = nominated(fields).filter(|name| !is_end_to_end(name)).collect();
        for name in nominated {
            fields.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
}

/// The fields that `Connection` names.
pub fn nominated(fields: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let options = fields.get_all(CONNECTION).iter().flat_map(|line| list::members(line.as_bytes()));
    options.filter_map(|option| HeaderName::from_bytes(option).ok())
}

/// Whether a field is meant for every recipient, so that nobody can nominate it to be of the connection.
pub fn is_end_to_end(name: &HeaderName) -> bool {
    !matches!(kind(name), Kind::HopByHop | Kind::Unkeyed) || is_listed(name.as_str())
}

/// Whether a field is the word of a proxy for who asks, like `X-Forwarded-For` for where from: nobody else's counts.
pub fn is_forwarded_identity(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-forwarded-") && kind(name) == Kind::Credential
}

/// The name that CGI and its descendants take a name with underscores for: to them, `Content_Length` is `Content-Length`.
pub fn twin(name: &HeaderName) -> Option<HeaderName> {
    // Most names are too short for a search that is made for long ones.
    name.as_str().as_bytes().contains(&b'_').then_some(())?;
    name.as_str().replace('_', "-").parse().ok()
}

/// Whether a field is taken for a known one by those who know no underscores.
pub fn is_twin(name: &HeaderName) -> bool {
    twin(name).is_some_and(|dashed| known(dashed.as_str().as_bytes()).is_some() || is_listed(dashed.as_str()))
}

/// Whether a field may come behind the content, when all that is decided by fields has been decided (RFC 9110 §6.5.1).
pub fn may_be_trailer(name: &HeaderName) -> bool {
    // RFC 9530 §2: a digest is what trailers are for. So is a measurement.
    let is_meant_for_it = || matches!(name.as_str(), "content-digest" | "server-timing" | "etag");
    kind(name) == Kind::Unkeyed && !is_listed(name.as_str()) && *name != TRAILER || is_meant_for_it()
}

/// Tells the kind of a request field.
pub fn kind(name: &HeaderName) -> Kind {
    match known(name.as_str().as_bytes()) {
        Some(kind) => kind,
        None if is_twin(name) => Kind::Steering,
        None => Kind::Unkeyed,
    }
}

fn known(name: &[u8]) -> Option<Kind> {
    let mut slot = hash(name);
    while let Some((known, kind)) = SLOTS[slot] {
        if known.as_bytes() == name {
            return Some(kind);
        }
        slot = (slot + 1) % SLOTS.len();
    }
    let (_, kind) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix.as_bytes()))?;
    // With an underscore behind it, it is a twin of one that is known.
    (!name.contains(&b'_')).then_some(*kind)
}

fn is_listed(name: &str) -> bool {
    END_TO_END.contains(&name) || END_TO_END_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Fields that are hop-by-hop without being nominated. `Trailer` and `Proxy-Authorization` were among them before RFC 9110;
/// it lets intermediaries forward both.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that are meant for every recipient, beside the known ones of requests.
const END_TO_END: [&str; 37] = [
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "authentication-info",
    "cache-groups",
    "cache-status",
    "cache-tag",
    "cdn-cache-control",
    "clear-site-data",
    "cookie2",
    "etag",
    "expires",
    "last-modified",
    "link",
    "location",
    "no-vary-search",
    "permissions-policy",
    "proxy-authenticate",
    "proxy-authentication-info",
    "referrer-policy",
    "refresh",
    "retry-after",
    "server",
    "server-timing",
    "set-cookie",
    "set-cookie2",
    "sidecache-cache-control",
    "strict-transport-security",
    "surrogate-control",
    "surrogate-key",
    "vary",
    "warning",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
    "x-robots-tag",
];

/// The beginnings of the names of others.
const END_TO_END_PREFIXES: [&str; 3] = ["content-", "access-control-", "cross-origin-"];

/// The request fields that are known by name.
const NAMES: [(Kind, &[&str]); 7] = [
    (Kind::Asking, &["cache-control", "pragma", "expect", "max-forwards"]),
    (Kind::Negotiating, &["accept", "accept-charset", "accept-encoding", "accept-language"]),
    (
        Kind::Known,
        &[
            // What clients send.
            "host",
            "user-agent",
            "referer",
            "origin",
            "from",
            "dnt",
            "sec-gpc",
            "sec-purpose",
            "save-data",
            "priority",
            "upgrade-insecure-requests",
            "content-length",
            "date",
            "alt-used",
            // What intermediaries add. Those of an address, scheme or host are below, as steering.
            "via",
            "cdn-loop",
            "x-request-start",
            "x-queue-start",
            // Which request this is.
            "x-request-id",
            "x-correlation-id",
            "request-id",
            "correlation-id",
            "x-trace-id",
            "x-amz-cf-id",
            "x-azure-ref",
            "cf-ray",
            "fly-request-id",
            "x-railway-request-id",
            "x-railway-edge",
            "x-vercel-id",
            "x-varnish",
            "fastly-ff",
            "akamai-origin-hop",
            "x-akamai-request-id",
            "x-azure-fdid",
            "x-azure-requestchain",
            "x-appgw-trace-id",
            "x-kong-request-id",
            "rndr-id",
            "x-client-trace-id",
            // The trace that it belongs to.
            "traceparent",
            "tracestate",
            "baggage",
            "b3",
            "uber-trace-id",
            "x-cloud-trace-context",
            "x-amzn-trace-id",
            "sentry-trace",
            "elastic-apm-traceparent",
            "x-ot-span-context",
            "grpc-trace-bin",
            "newrelic",
        ],
    ),
    (
        Kind::Credential,
        &[
            "authorization",
            "cookie",
            "proxy-authorization",
            // What a gateway says of who has logged in with it, so that the origin need not ask.
            "remote-user",
            "remote-name",
            "remote-email",
            "remote-groups",
            "x-remote-user",
            "x-remote-group",
            "x-webauth-user",
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-groups",
            "x-forwarded-preferred-username",
            "x-forwarded-access-token",
            "cf-access-jwt-assertion",
            "cf-access-authenticated-user-email",
            "x-goog-iap-jwt-assertion",
            "x-goog-authenticated-user-email",
            "x-goog-authenticated-user-id",
            "x-anonymous-consumer",
            // What one says of the certificate that a client has shown to it (RFC 9440).
            "client-cert",
            "client-cert-chain",
            "x-client-cert",
            "x-arr-clientcert",
            "x-forwarded-client-cert",
            "x-forwarded-tls-client-cert",
            "x-forwarded-tls-client-cert-info",
            "l5d-client-id",
        ],
    ),
    (
        Kind::Steering,
        &[
            // Another client.
            "forwarded",
            "x-forwarded",
            "forwarded-for",
            "x-real-ip",
            "x-client-ip",
            "client-ip",
            "x-cluster-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-pseudo-ipv4",
            "fastly-client-ip",
            "fly-client-ip",
            "x-originating-ip",
            "x-remote-ip",
            "x-remote-addr",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-appengine-user-ip",
            "x-proxyuser-ip",
            // Another scheme, host or port.
            "cf-visitor",
            "cloudfront-forwarded-proto",
            "front-end-https",
            "x-scheme",
            "x-url-scheme",
            "x-arr-ssl",
            "x-host",
            "x-http-host",
            "x-http-host-override",
            "x-real-host",
            "proxy-host",
            "x-forwarder-for",
            "x-proxy-host",
            "x-backend-host",
            // Another path.
            "x-rewrite-url",
            "x-override-url",
            "x-proxy-url",
            "x-http-destinationurl",
            "x-http-path-override",
            "x-script-name",
            "x-matched-path",
            "x-now-route-matches",
            "x-invoke-path",
            "x-invoke-query",
            "x-invoke-status",
            "x-invoke-output",
            "x-middleware-subrequest",
            // Another method.
            "x-http-method",
            "x-http-method-override",
            "x-method",
            "x-method-override",
            // A proxy for what the origin asks others: CGI makes `HTTP_PROXY` of it.
            "proxy",
            // A file instead of the response.
            "x-sendfile-type",
            "x-accel-mapping",
        ],
    ),
    (Kind::HopByHop, &["connection", "keep-alive", "proxy-connection", "http2-settings", "te", "transfer-encoding", "upgrade"]),
    (Kind::Conditional, &["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"]),
];

/// The beginnings of names that are known only by these.
const PREFIXES: [(&str, Kind); 21] = [
    ("x-auth-request-", Kind::Credential),
    ("x-authenticated-", Kind::Credential),
    ("x-authentik-", Kind::Credential),
    ("x-consumer-", Kind::Credential),
    ("x-credential-", Kind::Credential),
    ("x-pomerium-", Kind::Credential),
    ("tailscale-user-", Kind::Credential),
    ("ssl-client-", Kind::Credential),
    ("x-ssl-client-", Kind::Credential),
    ("x-amzn-mtls-", Kind::Credential),
    ("x-amzn-oidc-", Kind::Credential),
    ("x-ms-client-principal", Kind::Credential),
    ("x-ms-token-", Kind::Credential),
    ("sec-fetch-", Kind::Known),
    ("sec-ch-", Kind::Known),
    ("x-b3-", Kind::Known),
    ("x-datadog-", Kind::Known),
    ("x-forwarded-", Kind::Steering),
    ("x-original-", Kind::Steering),
    ("x-envoy-", Kind::Steering),
    ("fly-forwarded-", Kind::Steering),
];

/// The names as a hash table, made by the compiler: this is asked for each field of each request.
static SLOTS: [Option<(&str, Kind)>; 512] = slots();

const fn slots() -> [Option<(&'static str, Kind)>; 512] {
    let mut slots = [None; 512];
    let mut group = 0;
    while group < NAMES.len() {
        let (kind, names) = NAMES[group];
        let mut index = 0;
        while index < names.len() {
            let mut slot = hash(names[index].as_bytes());
            while slots[slot].is_some() {
                slot = (slot + 1) % slots.len();
            }
            slots[slot] = Some((names[index], kind));
            index += 1;
        }
        group += 1;
    }
    slots
}

/// Looks at the length and three octets only. The factors were found by trying: with them, the known names hardly collide.
const fn hash(name: &[u8]) -> usize {
    let Some(last) = name.len().checked_sub(1) else { return 0 };
    let octets = [name[0] as usize, name[name.len() / 2] as usize, name[last] as usize];
    (name.len() * 21 + octets[0] * 7 + octets[1] * 79 + octets[2] * 36) % 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn fields_of_one_connection_are_removed() {
        // RFC 9110 §7.6.1
        let check = |lines: &[(&'static str, &str)], expected: &[&str]| {
            let value = |value| HeaderValue::from_str(value).unwrap();
            let mut fields: HeaderMap = lines.iter().map(|(name, line)| (HeaderName::from_static(name), value(line))).collect();
            remove_hop_by_hop(&mut fields);
            let mut left: Vec<&str> = fields.keys().map(|name| name.as_str()).collect();
            left.sort();
            assert_eq!(left, expected, "{lines:?}");
        };
        check(&[("accept", "a"), ("x-any", "b")], &["accept", "x-any"]);
        for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "http2-settings"] {
            check(&[(name, "x"), ("a", "1")], &["a"]);
        }
        check(&[("connection", "a, b"), ("a", "1"), ("b", "2"), ("c", "3")], &["c"]);
        check(&[("connection", "A"), ("connection", ",close, b"), ("a", "1"), ("b", "2"), ("c", "3")], &["c"]);
        check(&[("connection", "a b, \"c\""), ("a", "1"), ("b", "2"), ("c", "3")], &["a", "b", "c"]);
        check(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "x")], &[]);
        check(&[("trailer", "x"), ("proxy-authorization", "y")], &["proxy-authorization", "trailer"]);
        check(&[("connection", "x-forwarded_for, trailer"), ("x-forwarded_for", "1"), ("trailer", "2")], &["x-forwarded_for"]);
        // Nobody can nominate what is meant for every recipient.
        for name in ["host", "content-length", "authorization", "cookie", "cache-control", "set-cookie", "vary", "via"] {
            check(&[("connection", name), (name, "x")], &[name]);
        }
        for name in ["x-forwarded-for", "x-forwarded-host", "forwarded", "content-type", "date", "etag", "age", "range"] {
            check(&[("connection", name), (name, "x")], &[name]);
        }
    }

    #[test]
    fn the_kinds_of_a_request_are_those_of_its_fields() {
        let all = [
            ("host", Kind::Known),
            ("pragma", Kind::Asking),
            ("accept", Kind::Negotiating),
            ("cookie", Kind::Credential),
            ("x_real_ip", Kind::Steering),
            ("te", Kind::HopByHop),
            ("range", Kind::Conditional),
            ("x_tenant", Kind::Unkeyed),
        ];
        let fields = |names: &[(&'static str, Kind)]| -> HeaderMap {
            names.iter().map(|(name, _)| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect()
        };
        assert_eq!(Kinds::of(&HeaderMap::new()), Kinds::default());
        for (at, (name, kind)) in all.iter().enumerate() {
            let (alone, others) = (Kinds::of(&fields(&all[at..=at])), Kinds::of(&fields(&[&all[..at], &all[at + 1..]].concat())));
            assert!(alone.has(*kind) && !others.has(*kind), "{name}");
            assert!(all.iter().filter(|(_, kind)| alone.has(*kind)).count() == 1, "{name}");
            assert!(alone.has_any(&[Kind::Known, Kind::Asking]) == matches!(kind, Kind::Known | Kind::Asking), "{name}");
        }
    }

    #[test]
    fn each_field_is_of_one_kind() {
        let check = |names: &str, expected: Kind| {
            for name in names.split(' ') {
                assert_eq!(kind(&name.parse().unwrap()), expected, "{name}");
            }
        };
        check("host user-agent", Kind::Known);
        check("cache-control pragma expect max-forwards", Kind::Asking);
        check("accept accept-encoding accept-language accept-charset Accept", Kind::Negotiating);
        check("referer origin from dnt sec-gpc save-data priority upgrade-insecure-requests via", Kind::Known);
        check("sec-fetch-mode sec-fetch-site sec-ch-ua sec-ch-ua-platform content-length date", Kind::Known);
        check("traceparent tracestate baggage b3 x-b3-traceid uber-trace-id x-cloud-trace-context", Kind::Known);
        check("x-amzn-trace-id sentry-trace x-request-id x-correlation-id request-id X-Request-ID", Kind::Known);
        check("authorization cookie proxy-authorization Authorization", Kind::Credential);
        check("x-forwarded-user x-forwarded-email x-forwarded-groups x-forwarded-access-token", Kind::Credential);
        check("x-forwarded-preferred-username x-remote-user remote-user x-amzn-oidc-data", Kind::Credential);
        check("x-auth-request-user x-auth-request-email x-amzn-oidc-identity cf-access-jwt-assertion", Kind::Credential);
        check(
            "x-authenticated-user x-authenticated-userid x-consumer-id x-consumer-custom-id x-credential-identifier",
            Kind::Credential,
        );
        check("x-authentik-username x-pomerium-jwt-assertion tailscale-user-login x-forwarded-client-cert", Kind::Credential);
        check("client-cert client-cert-chain ssl-client-verify x-ssl-client-cn x-amzn-mtls-clientcert-subject", Kind::Credential);
        check("x-varnish fastly-ff akamai-origin-hop x-azure-fdid x-kong-request-id", Kind::Known);
        check("x_forwarded_user remote_user x_auth_request_user x_amzn-oidc_data", Kind::Steering);
        check("forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-anything", Kind::Steering);
        check("x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip", Kind::Steering);
        check("x-original-url x-rewrite-url x-original-host x-host", Kind::Steering);
        check("x-http-method x-http-method-override x-method-override", Kind::Steering);
        check("x_forwarded_for x-forwarded_for x_original_url user_agent x_real_ip if_none_match sec_fetch_mode", Kind::Steering);
        check("x_forwarded_and_then_something_longer_than_any_known_name", Kind::Steering);
        check("sec-ch-ua_platform sec-fetch-mode_x x-b3-trace_id x-forwarded-for_x x-auth-request-user_x", Kind::Steering);
        check("connection keep-alive proxy-connection te transfer-encoding upgrade http2-settings", Kind::HopByHop);
        check("if-match if-none-match if-modified-since if-unmodified-since if-range range", Kind::Conditional);
        check("x-tenant content-type x-requested-with x-api-key a accept-datetime if-anything trailer x_tenant", Kind::Unkeyed);
        check(
            "a-name-that-is-longer-than-any-known-name-can-ever-be sec-fetch cf-ipcountry x_tenant_content_type",
            Kind::Unkeyed,
        );
        check("content_type content_length set_cookie transfer_encoding if_match x_http_method_override Proxy", Kind::Steering);
    }

    #[test]
    fn what_frames_steers_or_identifies_is_no_trailer() {
        // RFC 9110 §6.5.1
        let check = |names: &str, expected: bool| {
            for name in names.split(' ') {
                assert_eq!(may_be_trailer(&name.parse().unwrap()), expected, "{name}");
            }
        };
        check("x-sum grpc-status grpc-message content-digest repr-digest digest server-timing etag", true);
        check("content-length transfer-encoding te connection upgrade trailer host expect max-forwards", false);
        check("x-forwarded-user remote-user x-auth-request-user x-amzn-oidc-data", false);
        check("authorization proxy-authorization cookie set-cookie www-authenticate x-forwarded-for forwarded via", false);
        check("cache-control pragma age expires vary date location retry-after warning cache-status surrogate-key", false);
        check("content-type content-encoding content-range content-location range if-match if-none-match", false);
        check("content_length x_forwarded_for access-control-allow-origin x-http-method-override", false);
    }

    #[test]
    fn the_table_finds_each_of_its_names_once() {
        for (expected, names) in NAMES {
            for name in names {
                assert_eq!(kind(&HeaderName::from_static(name)), expected, "{name}");
                assert_eq!(SLOTS.iter().flatten().filter(|(known, _)| known == name).count(), 1, "{name}");
            }
        }
        assert!(HOP_BY_HOP.iter().all(|name| kind(name) == Kind::HopByHop));
    }
}

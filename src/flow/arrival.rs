//! A request as it arrived, read once: what is refused, what the connection adds, what the origin will see as its target.

use super::interim::Interim;
use super::tunnel::Upgrade;
use super::{Options, outgoing};
use crate::origin::{OriginError, RequestBody};
use crate::rules::{Admitted, Content, Forwarding, KeyedRequest, RuleSet, authority};
use crate::semantics::fields::{self, Kind, Kinds};
use crate::store::StoredResponse;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Who sent a request, as the listener knows it.
#[derive(Debug, Clone)]
pub struct Client {
    /// The peer's address.
    pub address: IpAddr,
    /// Its connection is within TLS.
    pub is_secure: bool,
    /// The way for interim responses, to a client that takes them.
    pub interim: Option<Interim>,
    /// The octets of the request's head, where nothing else came with them.
    pub octets: Option<Bytes>,
    /// For how long it was tried before to answer it without reading it.
    pub waited: Duration,
    /// How many requests its connection has under way, where they can be many.
    pub beside: Option<Arc<AtomicUsize>>,
}

/// A request that can be answered.
pub(super) struct Arrival {
    /// Its target in origin form, exactly one `Host` among its fields, and none of the fields that are of the connection.
    pub(super) parts: Parts,
    /// Which kinds of fields it came with.
    pub(super) kinds: Kinds,
    pub(super) body: ArrivedBody,
    /// The client said `TE: trailers`.
    pub(super) takes_trailers: bool,
    /// What it asks its connection to speak instead.
    pub(super) upgrade: Option<Upgrade>,
    pub(super) client: Client,
    /// The peer is a proxy whose word about the client counts.
    pub(super) is_trusted: bool,
    /// What the origin is told in `X-Forwarded-Proto`.
    pub(super) scheme: &'static str,
    /// What a trusted proxy says in `X-Forwarded-Host`, where that is not `Host`.
    pub(super) forwarded_host: Option<HeaderValue>,
    /// What a trusted proxy says in `X-Forwarded-For`.
    pub(super) forwarded_for: Option<HeaderValue>,
}

/// A request's body, as far as it was read.
pub(super) enum ArrivedBody {
    None,
    Unread(Incoming),
    /// All of it.
    Read(Bytes),
    /// More than is read before it is sent on: this, and what follows.
    Begun(Bytes, Incoming),
}

impl ArrivedBody {
    /// What the rules may know of it.
    pub(super) fn content(&self) -> Content<'_> {
        match self {
            ArrivedBody::None => Content::None,
            ArrivedBody::Unread(_) | ArrivedBody::Begun(..) => Content::Unread,
            ArrivedBody::Read(content) => Content::Read(content),
        }
    }

    /// The body of the request to the origin.
    pub(super) fn into_request(self, idle: Duration) -> RequestBody {
        match self {
            ArrivedBody::None => RequestBody::empty(),
            ArrivedBody::Unread(body) => RequestBody::new(body, idle),
            ArrivedBody::Read(content) => RequestBody::whole(content),
            ArrivedBody::Begun(first, rest) => RequestBody::resumed(first, rest, idle),
        }
    }
}

/// Why a request is refused before anything is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// HTTP/1.1 wants exactly one `Host` (RFC 9112 §3.2).
    Host,
    /// The target names another host than `Host` does; two readers would disagree on whom the request is for.
    Authority,
    /// The target is none that can be forwarded.
    Target,
    /// It is a target of `https`, and nothing has secured the way here (RFC 9110 §7.4).
    Misdirected,
    /// `Connection` names a field that is not of the connection, or that frames the request itself. To remove it, as the client says, would take away what somebody
    /// in front of us relies on; to keep it, as the origin might not; so there is no right reading.
    Nomination,
    /// It says twice who asks: whoever stands behind us may believe the other.
    Authorization,
    /// It asks for a WebSocket, without what opens one.
    Handshake,
    /// There is one expectation that a server may have met (RFC 9110 §10.1.1).
    Expectation,
    /// `CONNECT` would make us an open relay, `TRACE` would show what we add.
    Method,
}

impl Refused {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refused::Host
            | Refused::Authority
            | Refused::Target
            | Refused::Nomination
            | Refused::Authorization
            | Refused::Handshake => StatusCode::BAD_REQUEST,
            Refused::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Refused::Expectation => StatusCode::EXPECTATION_FAILED,
            Refused::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Refused::Host => "exactly one valid Host field is needed",
            Refused::Authority => "the target and the Host field name different hosts",
            Refused::Target => "the target cannot be forwarded",
            Refused::Misdirected => "the target is one of https, and the connection is not secure",
            Refused::Nomination => "Connection names a field that is not of the connection",
            Refused::Authorization => "at most one Authorization field is understood",
            Refused::Handshake => "a WebSocket is opened with one Sec-WebSocket-Key of 16 octets and one Sec-WebSocket-Version",
            Refused::Expectation => "the expectation is unknown",
            Refused::Method => "the method is not allowed",
        }
    }
}

impl Arrival {
    /// Reads a request.
    pub(super) fn read(
        request: Request<Incoming>,
        client: Client,
        options: &Options,
        rules: &RuleSet,
    ) -> Result<Arrival, Refused> {
        Arrival::read_with(request, client, options, rules, |body| match body.is_end_stream() {
            true => ArrivedBody::None,
            false => ArrivedBody::Unread(body),
        })
    }

    /// Reads a request that no connection brought, as if one had.
    pub(super) fn imagined(
        request: Request<Empty<Bytes>>,
        client: Client,
        options: &Options,
        rules: &RuleSet,
    ) -> Result<Arrival, Refused> {
        Arrival::read_with(request, client, options, rules, |_| ArrivedBody::None)
    }

    #[inline]
    fn read_with<B: http_body::Body>(
        mut request: Request<B>,
        client: Client,
        options: &Options,
        rules: &RuleSet,
        take: impl FnOnce(B) -> ArrivedBody,
    ) -> Result<Arrival, Refused> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Refused::Method);
        }
        let kinds = Kinds::of(request.headers());
        if kinds.has(Kind::Asking) && !expects_what_can_be_met(request.headers()) {
            return Err(Refused::Expectation);
        }
        let is_of_others = |name: HeaderName| fields::is_end_to_end(&name) || name == TRANSFER_ENCODING || rules.key_has(&name);
        let has_hop_by_hop = kinds.has(Kind::HopByHop);
        if has_hop_by_hop && fields::nominated(request.headers()).any(is_of_others) {
            return Err(Refused::Nomination);
        }
        // RFC 9110 §5.3: no list, so there is one of it.
        if has_several(request.headers(), &AUTHORIZATION) {
            return Err(Refused::Authorization);
        }
        // Not in HTTP/2, where every request has a scheme, and the TLS of many a proxy ends before us without a word of it.
        let is_for_https = request.version() <= Version::HTTP_11 && request.uri().scheme() == Some(&Scheme::HTTPS);
        let upgrade = if has_hop_by_hop { Upgrade::read(&mut request, rules)? } else { None };
        let (mut parts, body) = request.into_parts();
        settle_target(&mut parts)?;
        let takes_trailers = has_hop_by_hop && names_token(&parts.headers, TE, "trailers");
        // Before the key is made: a field that `Connection` nominates is not sent on, so it must not be in the key either.
        if has_hop_by_hop {
            outgoing::remove_hop_by_hop(&mut parts.headers);
        }
        let is_trusted = options.trusts(client.address);
        // What has an underscore in its name is of the first two kinds, and what only a proxy may say of who asks is of the third.
        if kinds.has_any(&[Kind::Steering, Kind::Unkeyed, Kind::Credential]) {
            outgoing::remove_spoofed(&mut parts.headers, rules, is_trusted);
        }
        // RFC 9113 §8.2.3: HTTP/2 may take `Cookie` apart; everybody else knows it as one field.
        if parts.version == Version::HTTP_2
            && kinds.has(Kind::Credential)
            && let Some(cookies) = joined(&parts.headers, COOKIE, b"; ")
        {
            parts.headers.insert(COOKIE, cookies);
        }

        let is_forwarded = is_trusted && kinds.has(Kind::Steering);
        let said = |name: HeaderName| if is_forwarded { parts.headers.get(name) } else { None };
        let scheme = match said(X_FORWARDED_PROTO) {
            Some(proto) if proto.as_bytes().eq_ignore_ascii_case(b"https") => "https",
            None if client.is_secure => "https",
            _ => "http",
        };
        if is_for_https && scheme != "https" && !is_trusted {
            return Err(Refused::Misdirected);
        }
        let forwarded_host = said(X_FORWARDED_HOST).filter(|host| parts.headers.get(HOST) != Some(host)).cloned();
        let forwarded_for = if is_forwarded { joined(&parts.headers, X_FORWARDED_FOR, b", ") } else { None };
        Ok(Arrival {
            parts,
            kinds,
            body: take(body),
            takes_trailers,
            upgrade,
            client,
            is_trusted,
            scheme,
            forwarded_host,
            forwarded_for,
        })
    }

    /// A request of our own: the one that a stored response was the answer to, as far as the key and the selecting fields tell.
    pub(super) fn again(stored: &StoredResponse) -> Option<Arrival> {
        let KeyedRequest { scheme, forwarded_host, fields: mut known, target } = stored.key.request()?;
        for (name, value) in stored.head.selection.fields() {
            match value {
                // Of a credential, a hash is all there is.
                Some(_) if fields::kind(name) == Kind::Credential => return None,
                Some(value) => drop(known.insert(name, HeaderValue::from_bytes(value).ok()?)),
                None => {}
            }
        }
        let (mut parts, ()) = Request::builder().uri(target).body(()).ok()?.into_parts();
        parts.headers = known;
        let scheme = if scheme == "https" { "https" } else { "http" };
        Some(Arrival::of_ours(parts, scheme, forwarded_host))
    }

    /// A request that no connection brought.
    pub(super) fn of_ours(parts: Parts, scheme: &'static str, forwarded_host: Option<HeaderValue>) -> Arrival {
        let client = Client {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            is_secure: false,
            interim: None,
            octets: None,
            waited: Duration::ZERO,
            beside: None,
        };
        Arrival {
            kinds: Kinds::of(&parts.headers),
            parts,
            body: ArrivedBody::None,
            takes_trailers: false,
            upgrade: None,
            client,
            is_trusted: false,
            scheme,
            forwarded_host,
            forwarded_for: None,
        }
    }

    /// Reads the body to its end, if that is not more than so many octets away; what was read is sent on in any case. Between two
    /// pieces of it the client may be silent for `idle`.
    pub(super) async fn read_body(&mut self, bytes_max: usize, idle: Duration) -> Result<(), OriginError> {
        let ArrivedBody::Unread(mut rest) = std::mem::replace(&mut self.body, ArrivedBody::None) else { return Ok(()) };
        let mut read = BytesMut::new();
        loop {
            let frame = match tokio::time::timeout(idle, rest.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) => return Err(OriginError::ClientBody { is_idle: false }),
                Err(_) => return Err(OriginError::ClientBody { is_idle: true }),
                Ok(None) => break,
            };
            read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if read.len() > bytes_max {
                self.body = ArrivedBody::Begun(read.freeze(), rest);
                return Ok(());
            }
        }
        self.body = ArrivedBody::Read(read.freeze());
        Ok(())
    }

    /// Takes from a request what content it has.
    pub(super) fn forget_content(&mut self) {
        self.body = ArrivedBody::None;
        self.parts.headers.remove(CONTENT_LENGTH);
        Admitted::forget_content(&mut self.parts.headers);
    }

    pub(super) fn forwarding(&self) -> Forwarding<'_> {
        Forwarding { scheme: self.scheme, host: self.forwarded_host.as_ref().map(HeaderValue::as_bytes) }
    }
}

/// Brings the target into origin form and its authority into `Host`, where RFC 9112 §3.2 has them.
fn settle_target(parts: &mut Parts) -> Result<(), Refused> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refused::Host);
    }
    if host.is_some_and(|host| !authority::is_plain(host.as_bytes())) {
        return Err(Refused::Host);
    }
    // RFC 9112 §3.2: also where the target names one. In HTTP/2 the target is where it is named (RFC 9113 §8.3.1).
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err(Refused::Host);
    }
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Refused::Target);
    }
    match (parts.uri.authority(), host) {
        // To the letter: whoever compares `H` with `h`, or `h:80` with `h`, may find that they differ.
        (Some(target), Some(host)) if target.as_str().as_bytes() != host.as_bytes() => return Err(Refused::Authority),
        (Some(target), None) => {
            if !authority::is_plain(target.as_str().as_bytes()) {
                return Err(Refused::Target);
            }
            let host = HeaderValue::from_str(target.as_str()).map_err(|_| Refused::Host)?;
            parts.headers.insert(HOST, host);
        }
        (None, None) if parts.version > Version::HTTP_11 => return Err(Refused::Host),
        _ => {}
    }
    if parts.uri.authority().is_some() {
        let target = parts.uri.path_and_query().cloned().filter(|target| target.as_str().starts_with('/'));
        let target = match (target, parts.uri.path_and_query()) {
            (Some(target), _) => target,
            (None, None) => PathAndQuery::from_static("/"),
            (None, Some(asterisk)) if asterisk.path() == "*" => PathAndQuery::from_static("*"),
            // A query without a path: written out, it has the slash that is missing.
            (None, Some(bare)) => PathAndQuery::try_from(bare.to_string()).map_err(|_| Refused::Target)?,
        };
        parts.uri = Uri::from(target);
    }
    let is_asterisk = parts.uri.path() == "*" && parts.method == Method::OPTIONS;
    match parts.uri.path().starts_with('/') || is_asterisk {
        true => Ok(()),
        false => Err(Refused::Target),
    }
}

/// Whether a request expects nothing, or what a server may meet (RFC 9110 §10.1.1).
fn expects_what_can_be_met(fields: &HeaderMap) -> bool {
    fields.get_all(EXPECT).iter().all(|expectation| expectation.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether a token is on the list that a field has.
pub(super) fn names_token(fields: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lists = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|member| member.trim().eq_ignore_ascii_case(token))
}

/// Whether a field that is no list is there more than once.
fn has_several(fields: &HeaderMap, name: &HeaderName) -> bool {
    // Most requests have no field twice, whichever.
    fields.len() > fields.keys_len() && fields.get_all(name).iter().nth(1).is_some()
}

/// All values of a field in one.
fn joined(fields: &HeaderMap, name: HeaderName, separator: &[u8]) -> Option<HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let first = values.next()?.clone();
    let Some(second) = values.next() else {
        return Some(first);
    };
    let mut all = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(separator);
        all.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&all).ok()
}

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(target: &str, hosts: &[&str], version: Version) -> Result<(String, String), Refused> {
        let mut request = Request::builder().uri(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        settle_target(&mut parts)?;
        let host = parts.headers.get(HOST).map_or("", |host| host.to_str().unwrap());
        Ok((parts.uri.to_string(), host.to_owned()))
    }

    #[test]
    fn the_target_gets_into_origin_form_and_its_host_into_the_field() {
        let check = |target: &str, hosts: &[&str], expected: Result<(&str, &str), Refused>| {
            let expected = expected.map(|(target, host)| (target.to_owned(), host.to_owned()));
            assert_eq!(settled(target, hosts, Version::HTTP_11), expected, "{target} {hosts:?}");
        };
        check("/a?b=c", &["h"], Ok(("/a?b=c", "h")));
        check("http://h/a?b", &["h"], Ok(("/a?b", "h")));
        check("http://h:81/a", &["h:81"], Ok(("/a", "h:81")));
        check("http://h", &["h"], Ok(("/", "h")));
        check("http://h?a=b", &["h"], Ok(("/?a=b", "h")));
        check("http://h/a", &["other"], Err(Refused::Authority));
        check("http://H/a", &["h"], Err(Refused::Authority));
        check("http://h:80/a", &["h"], Err(Refused::Authority));
        check("ftp://h/a", &["h"], Err(Refused::Target));
        check("http://h/a", &[], Err(Refused::Host));
        check("http://u@h/a", &["u@h"], Err(Refused::Host));
        check("/a", &[], Err(Refused::Host));
        check("/a", &["h", "h"], Err(Refused::Host));
        check("/a", &["h h"], Err(Refused::Host));
        check("/a", &["u@h"], Err(Refused::Host));
        check("/a", &["h/path"], Err(Refused::Host));
        check("/a", &[""], Err(Refused::Host));
        assert_eq!(settled("/a", &[], Version::HTTP_10), Ok(("/a".into(), String::new())));
        assert_eq!(settled("http://h:81/a", &[], Version::HTTP_2), Ok(("/a".into(), "h:81".into())));
        assert_eq!(settled("http://u@h/a", &[], Version::HTTP_2), Err(Refused::Target));
        assert_eq!(settled("/a", &[], Version::HTTP_2), Err(Refused::Host));
    }
}

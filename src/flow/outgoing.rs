//! What a proxy changes in the fields of a message (RFC 9110 §7.6), on its way to the origin and back.

use super::arrival::{Arrival, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::rules::RuleSet;
use crate::semantics::fields::{self, Kind};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// Makes a client's fields those of the request to the origin. Those of the client's connection are gone already.
pub(super) fn to_origin(fields: &mut HeaderMap, arrival: &Arrival) {
    if arrival.takes_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The sidecar answers `100-continue` itself, as soon as the origin takes the body.
    fields.remove(EXPECT);
    fields.append(VIA, via(arrival.parts.version));
    forwarded(fields, arrival);
    if let Some(upgrade) = &arrival.upgrade {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, upgrade.asked());
    }
}

/// Makes the origin's fields those of the response to the client.
pub(super) fn to_client(fields: &mut HeaderMap, version: Version) {
    remove_hop_by_hop(fields);
    fields.append(VIA, via(version));
}

/// Removes what would tell the origin who asks, and for what: a client's word for that is not passed on.
pub(super) fn remove_steering(fields: &mut HeaderMap) {
    let steering: Vec<HeaderName> = fields.keys().filter(|name| fields::kind(name) == Kind::Steering).cloned().collect();
    for name in steering {
        fields.remove(name);
    }
}

/// Removes the fields that some origins take for known ones, or for one of a key, whoever sent them; and what a proxy would say of who
/// asks, if none says it that is trusted. Where it is in a key, the operator believes whoever says it.
pub(super) fn remove_spoofed(fields: &mut HeaderMap, rules: &RuleSet, is_trusted: bool) {
    let is_twin = |name: &HeaderName| fields::is_twin(name) || fields::twin(name).is_some_and(|twin| rules.key_has(&twin));
    let is_spoofed =
        |name: &HeaderName| is_twin(name) || !is_trusted && fields::is_forwarded_identity(name) && !rules.key_has(name);
    let spoofed: Vec<HeaderName> = fields.keys().filter(|name| is_spoofed(name)).cloned().collect();
    for name in spoofed {
        fields.remove(name);
    }
}

/// Counts the way from one intermediary to the next, where the client wants to know one of them; `false` if we are that one
/// (RFC 9110 §7.6.2).
pub(super) fn spend_hop(request: &mut Parts) -> bool {
    if request.method != Method::OPTIONS {
        return true;
    }
    let mut values = request.headers.get_all(MAX_FORWARDS).iter();
    let hops = values.next().and_then(|hops| hops.to_str().ok()?.parse::<u32>().ok());
    match hops.filter(|_| values.next().is_none()) {
        Some(0) => return false,
        Some(hops) => drop(request.headers.insert(MAX_FORWARDS, HeaderValue::from(hops - 1))),
        None => drop(request.headers.remove(MAX_FORWARDS)),
    }
    true
}

/// Removes the fields of this one connection, and a length that a coding had made void.
pub(super) fn remove_hop_by_hop(fields: &mut HeaderMap) {
    // RFC 9112 §6.3: with both, the coding counts; a length that is passed on would frame the message anew.
    if fields.contains_key(TRANSFER_ENCODING) {
        fields.remove(CONTENT_LENGTH);
    }
    fields::remove_hop_by_hop(fields);
}

/// Says who asks, in the sidecar's own words: whatever a client wrote there would steer the origin.
fn forwarded(fields: &mut HeaderMap, arrival: &Arrival) {
    for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
        fields.remove(name);
    }
    let client = arrival.client.address.to_string();
    let for_value = match &arrival.forwarded_for {
        Some(earlier) => HeaderValue::from_bytes(&[earlier.as_bytes(), b", ", client.as_bytes()].concat()),
        None => HeaderValue::from_str(&client),
    };
    fields.insert(X_FORWARDED_FOR, for_value.expect("addresses and a field's value make a field's value"));
    fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(arrival.scheme));
    if let Some(host) = arrival.forwarded_host.as_ref().or_else(|| arrival.parts.headers.get(HOST)) {
        fields.insert(X_FORWARDED_HOST, host.clone());
    }
}

/// Makes what a request says of its client the same for all clients of one peer, since the response is for all: what others wrote into
/// a trusted proxy's `X-Forwarded-For` is left out, and trailers are taken whoever asks.
pub(super) fn hide_client(fields: &mut HeaderMap, arrival: &Arrival) {
    let client = HeaderValue::from_str(&arrival.client.address.to_string()).expect("an address makes a field's value");
    fields.insert(X_FORWARDED_FOR, client);
    fields.insert(TE, HeaderValue::from_static("trailers"));
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2.0 sidecache",
        Version::HTTP_10 => "1.0 sidecache",
        _ => "1.1 sidecache",
    })
}

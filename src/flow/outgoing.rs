//! What a proxy changes in the fields of a message (RFC 9110 §7.6), on its way to the origin and back.

use super::arrival::{Arrival, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::semantics::fields::{self, Kind};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// Makes a client's fields those of the request to the origin. Those of the client's connection are gone already.
pub(super) fn to_origin(fields: &mut HeaderMap, arrival: &Arrival) {
    if arrival.takes_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The sidecar answers `100-continue` itself, as soon as the origin takes the body.
    fields.remove(EXPECT);
    fields.append(VIA, via(arrival.parts.version));
    forwarded(fields, arrival);
    if arrival.upgrade.is_some() {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
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

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2.0 sidecache",
        Version::HTTP_10 => "1.0 sidecache",
        _ => "1.1 sidecache",
    })
}

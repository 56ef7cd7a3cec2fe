//! What one request may do.

use crate::semantics::tagging::TagField;
use http::HeaderName;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// What one request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `false` forwards everything and stores nothing.
    pub enabled: bool,
    /// The largest body that is stored.
    pub body_bytes_max: usize,
    /// The largest content of a request that becomes a part of the key.
    pub key_body_bytes_max: usize,
    /// Requests that may follow one fetch; more fetch for themselves.
    pub followers_max: usize,
    /// How long a key is remembered whose response could not be stored; its requests don't wait for each other meanwhile.
    pub remember_unstorable: Duration,
    /// How long a client may send nothing of a request's body, or take nothing of a response's.
    pub client_idle_timeout: Duration,
    /// Peers whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Keys the hash of credentials in cache keys. Replicas that share a Redis need the same one.
    pub secret: Option<String>,
    /// For how long after its lifetime a response answers in the stead of an origin that does not, if nothing forbids it.
    pub stale_if_unreachable: Duration,
    /// Response fields that go before `Cache-Control` and `Expires`, in this order (RFC 9213).
    pub cache_control_fields: Vec<HeaderName>,
    /// Shows the cache key in `Cache-Status` (RFC 9211 §2.7).
    pub shows_key: bool,
    /// The response fields that name tags.
    pub tag_fields: Vec<TagField>,
    /// Takes these fields off the responses.
    pub strip_tag_fields: bool,
    /// Writes a line to the log for each request.
    pub access_log: bool,
}

impl Options {
    /// Whether a peer's word about its client counts.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&peer))
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            enabled: true,
            body_bytes_max: 8 << 20,
            key_body_bytes_max: 64 << 10,
            followers_max: 10_000,
            remember_unstorable: Duration::from_secs(10),
            client_idle_timeout: Duration::from_secs(60),
            trusted_proxies: Vec::new(),
            secret: None,
            stale_if_unreachable: Duration::from_secs(60),
            cache_control_fields: vec![
                HeaderName::from_static("sidecache-cache-control"),
                HeaderName::from_static("cdn-cache-control"),
            ],
            shows_key: false,
            tag_fields: TagField::ALL.to_vec(),
            strip_tag_fields: false,
            access_log: false,
        }
    }
}

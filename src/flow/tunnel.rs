//! A bridged connection: after a 101, octets go both ways until one side ends or both are silent for too long.
//!
//! A 101 alone says little: who answers it to a request that it did not understand goes on to read requests, and those would be the
//! client's, past all that is looked at here. Only who has read the key of a WebSocket can answer what follows from it (RFC 6455 §1.3);
//! for other protocols, a route says that those behind it understand them.

use super::arrival::{Refused, names_token};
use crate::rules::RuleSet;
use crate::tasks::Tasks;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body::Body;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

/// What a client asks its connection to speak instead of HTTP.
pub(super) struct Upgrade {
    /// The way to the client's octets.
    client: OnUpgrade,
    asked: Asked,
}

enum Asked {
    /// A WebSocket, and what an origin says that has read the client's key.
    WebSocket { accept: String },
    /// Protocols that the route allows, in the client's order.
    Allowed(Vec<String>),
}

impl Upgrade {
    /// Reads what a request asks for. Of protocols that the route does not allow it is answered in HTTP, as RFC 9110 §7.8 lets a server
    /// do; and a WebSocket must be asked for as RFC 6455 §4.2.1 has it.
    pub(super) fn read<B: Body>(request: &mut Request<B>, rules: &RuleSet) -> Result<Option<Upgrade>, Refused> {
        let fields = request.headers();
        // With a body, what comes behind it could be of either protocol.
        let may_be_asked = request.version() == Version::HTTP_11 && request.body().is_end_stream();
        if !may_be_asked || !names_token(fields, CONNECTION, "upgrade") {
            return Ok(None);
        }
        let asked = match *request.method() == Method::GET && names_token(fields, UPGRADE, WEBSOCKET) {
            true => Asked::WebSocket { accept: accept_of(fields).ok_or(Refused::Handshake)? },
            false => {
                let allowed = rules.upgrades(request.uri().path());
                let is_allowed = |asked: &&str| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(asked));
                Asked::Allowed(protocols(fields).filter(is_allowed).map(str::to_owned).collect())
            }
        };
        match &asked {
            Asked::Allowed(none) if none.is_empty() => Ok(None),
            _ => Ok(Some(Upgrade { client: hyper::upgrade::on(request), asked })),
        }
    }

    /// What the origin is asked for.
    pub(super) fn asked(&self) -> HeaderValue {
        match &self.asked {
            Asked::WebSocket { .. } => HeaderValue::from_static(WEBSOCKET),
            Asked::Allowed(protocols) => listed(protocols),
        }
    }

    /// What both sides have agreed on, and the way to the client's octets; `None` if a 101 names what was not asked for, or, of a
    /// WebSocket, comes from somebody who has not read the key (§4.1).
    pub(super) fn agreed(self, response: &HeaderMap) -> Option<(HeaderValue, OnUpgrade)> {
        let named: Vec<&str> = protocols(response).collect();
        let is_agreed = match &self.asked {
            Asked::WebSocket { accept } => {
                let is_read = only(response, SEC_WEBSOCKET_ACCEPT) == Some(accept.as_bytes());
                is_read && names_token(response, UPGRADE, WEBSOCKET)
            }
            Asked::Allowed(asked) => {
                let was_asked_for = |named: &&str| asked.iter().any(|asked| asked.eq_ignore_ascii_case(named));
                !named.is_empty() && named.iter().all(was_asked_for)
            }
        };
        let agreed = if let Asked::WebSocket { .. } = self.asked { self.asked() } else { listed(&named) };
        is_agreed.then_some((agreed, self.client))
    }
}

/// The protocols that `Upgrade` names.
fn protocols(fields: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = fields.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty())
}

fn listed(protocols: &[impl AsRef<str>]) -> HeaderValue {
    let list = protocols.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
    HeaderValue::from_str(&list).expect("its parts are of such values")
}

/// What is answered to a request (§4.2.2). Which versions there are the origin knows.
fn accept_of(fields: &HeaderMap) -> Option<String> {
    let version = std::str::from_utf8(only(fields, SEC_WEBSOCKET_VERSION)?).ok()?;
    // Eight bits, and written without a sign or zeros before it.
    version.parse::<u8>().ok().filter(|number| number.to_string() == version)?;
    let key = only(fields, SEC_WEBSOCKET_KEY)?;
    STANDARD.decode(key).ok().filter(|nonce| nonce.len() == NONCE_BYTES)?;
    Some(STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPTING).finalize()))
}

/// The value of a field that is there once.
fn only(fields: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = fields.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    Some(value.as_bytes())
}

/// Bridges a client and the origin in the background, and gives back what is `held` for it at its end.
pub(super) fn bridge(tasks: &Tasks, client: OnUpgrade, origin: OnUpgrade, idle: Duration, held: impl Send + 'static) {
    tasks.spawn(async move {
        let _held = held;
        let (client, origin) = match tokio::try_join!(client, origin) {
            Ok(both) => both,
            Err(error) => return debug!(%error, "tunnel_not_opened"),
        };
        let moved = Arc::new(AtomicU64::new(0));
        let mut client = Counted { io: TokioIo::new(client), moved: moved.clone() };
        let mut origin = Counted { io: TokioIo::new(origin), moved: moved.clone() };
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut client, &mut origin) => debug!(?ended, "tunnel_closed"),
            () = silence(&moved, idle) => debug!(?idle, "tunnel_idle"),
        }
    });
}

/// Ends when nothing was read for `idle`.
async fn silence(moved: &AtomicU64, idle: Duration) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        tokio::time::sleep(idle).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// One end of a tunnel, which counts what is read from it.
struct Counted {
    io: TokioIo<Upgraded>,
    moved: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            self.moved.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Octets of a client's nonce (§4.1).
const NONCE_BYTES: usize = 16;

/// The protocol that is bridged on every route.
const WEBSOCKET: &str = "websocket";

/// What an origin puts behind the key (§1.3).
const ACCEPTING: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_answer() {
        let accept = |fields: &[(&'static str, &str)]| {
            let fields = fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            accept_of(&fields.collect())
        };
        let (key, version) = (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "13"));
        // The example of §1.3.
        assert_eq!(accept(&[key, version]).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let refused: [&[_]; 5] = [&[], &[key], &[version], &[key, key, version], &[key, version, version]];
        for fields in refused {
            assert_eq!(accept(fields), None, "{fields:?}");
        }
        for bad in [
            "",
            "a",
            "dGhlIHNhbXBsZSBub25jZQ",
            "SGVsbG8sIHdvcmxkIQ==",
            "dGhlIHNhbXBsZSBub25jZQ==, x",
            "dGhl IHNhbXBsZSBub25jZQ==",
        ] {
            assert_eq!(accept(&[("sec-websocket-key", bad), version]), None, "{bad}");
        }
        for bad in ["", "x", "+13", "013", "256", "13, 8"] {
            assert_eq!(accept(&[key, ("sec-websocket-version", bad)]), None, "{bad}");
        }
    }
}

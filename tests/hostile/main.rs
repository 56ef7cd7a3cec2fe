//! What an attacker sends on one connection: octets that can be read in two ways, and fields that are to reach what they must not.
//!
//! Each test speaks in octets, to a sidecar before an origin that records octets. What must never happen is that a request reaches
//! the origin that the client did not plainly make, that an answer reaches another request than its own, or that one is stored.

#[path = "../world/mod.rs"]
mod world;

mod answers;
mod cves;
mod fields;
mod framing;
mod hop_by_hop;
mod hosts;
mod recorder;
mod tunnels;

use recorder::Recorder;
use world::{RawClient, World};

/// A sidecar before an origin that records.
struct Stage {
    world: World,
    origin: Recorder,
}

impl Stage {
    async fn set() -> Stage {
        Stage::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut sidecache::config::Config)) -> Stage {
        let origin = Recorder::start().await;
        Stage { world: World::at(&origin.address, adjust).await, origin }
    }

    /// Sends octets on a connection of their own and reads all that is answered, until the sidecar closes it.
    async fn answer(&self, octets: impl AsRef<[u8]>) -> String {
        let mut client = self.world.raw().await;
        client.send(octets).await;
        client.rest().await
    }

    /// The octets are answered 400, the connection is closed, and nothing of them reaches the origin: in one piece, and octet by octet.
    async fn refuses(&self, octets: impl AsRef<[u8]>) {
        let octets = octets.as_ref();
        let said = String::from_utf8_lossy(octets).into_owned();
        let before = self.origin.requests().len();
        let whole = self.answer(octets).await;
        assert!(whole.starts_with("HTTP/1.1 400 ") || whole.starts_with("HTTP/1.0 400 "), "{said:?} was answered {whole:?}");
        assert_eq!(whole.matches("HTTP/1.").count(), 1, "{said:?} was answered {whole:?}");
        let mut client = self.world.raw().await;
        for octet in octets.chunks(1) {
            client.send(octet).await;
            tokio::task::yield_now().await;
        }
        let in_pieces = client.rest().await;
        let is_refused = in_pieces.starts_with("HTTP/1.1 400 ") || in_pieces.starts_with("HTTP/1.0 400 ");
        assert!(is_refused, "{said:?} in pieces was answered {in_pieces:?}");
        assert_eq!(self.origin.requests().len(), before, "{said:?} reached the origin: {:?}", self.origin.requests());
    }

    /// Answers that a well-formed request gets on this connection, which has to go on.
    async fn goes_on(&self, client: &mut RawClient, path: &str) {
        let head = client.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(client.octets(path.len()).await, path);
    }
}

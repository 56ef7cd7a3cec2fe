//! Interim responses of the origin (RFC 9110 §15.2), such as 103 (Early Hints), on their way to an HTTP/1.1 client.
//!
//! hyper, as a server, sends final responses alone. So what the origin says before its own is encoded here and put into the
//! [`Outbox`] of the client's connection, from where the listener writes it past hyper. It must never come into the middle
//! of another response, nor after the head of the final one. Three things together see to that:
//!
//! - Something is taken from the outbox only when hyper flushes the connection, which it does when its own buffer is empty.
//!   To do it before any write would be wrong: hyper may begin a request while the response before it is still in the buffer.
//! - [`Turn::answer`] gives an answer to hyper only after the outbox is empty and what was in it is written.
//! - Each interim response says whose turn it was meant for, and is dropped if that is over.
//!
//! Turns begin and end, and the outbox is emptied, in the one task of the connection. Only what is put in comes from others.

use super::outgoing;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, StatusCode, Version};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tracing::debug;

/// The interim responses that wait to be written to one HTTP/1.1 connection.
#[derive(Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    /// Something waits or is being written. Without it, as for nearly all requests, nobody takes the lock.
    has_any: AtomicBool,
    /// Counts each beginning and each end of a turn, so that no number stands for two of them.
    turn: AtomicU64,
    /// The connection's task.
    task: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    /// Each with the turn it is meant for.
    responses: VecDeque<(u64, Bytes)>,
    octets: usize,
}

/// The time from a request's arrival to its answer, in which the connection is open to interim responses to it.
pub struct Turn(Interim);

/// The way to the client of one request.
#[derive(Clone)]
pub struct Interim {
    outbox: Arc<Outbox>,
    turn: u64,
}

impl Outbox {
    /// Begins the turn of a request, when the one before it has been answered.
    pub fn begin(self: Arc<Outbox>) -> Turn {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
        Turn(Interim { outbox: self, turn })
    }

    /// Whether there is something to write, or to go on writing.
    pub fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    /// Takes what is to be written next. Asked for when the one before is written; `None` says that all is.
    pub fn take(&self) -> Option<Bytes> {
        let mut waiting = self.lock();
        while let Some((turn, response)) = waiting.responses.pop_front() {
            waiting.octets -= response.len();
            if turn == self.turn.load(Ordering::Relaxed) {
                return Some(response);
            }
        }
        self.has_any.store(false, Ordering::Release);
        self.task.wake();
        None
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The way to the client, for who answers the request.
    pub fn interim(&self) -> Interim {
        self.0.clone()
    }

    /// Waits for the answer to the request, and holds it back until all that came before it is written.
    pub async fn answer<F: Future>(self, mut answer: Pin<&mut F>) -> F::Output {
        let outbox = &self.0.outbox;
        let answered = poll_fn(|cx| {
            let polled = answer.as_mut().poll(cx);
            // The connection is flushed after this, and looks into the outbox then: nothing that came meanwhile is missed.
            if polled.is_pending() {
                outbox.task.register(cx.waker());
            }
            polled
        })
        .await;
        poll_fn(|cx| match outbox.has_any() {
            true => {
                outbox.task.register(cx.waker());
                Poll::Pending
            }
            false => Poll::Ready(()),
        })
        .await;
        answered
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.outbox.turn.fetch_add(1, Ordering::Relaxed);
    }
}

impl Interim {
    /// Has the client hear what the origin will say to a request before its final response.
    pub(super) fn relay<B>(&self, request: &mut Request<B>) {
        let interim = self.clone();
        hyper::ext::on_informational(request, move |response| {
            // The sidecar says `100 Continue` itself: `Expect` is of the client's connection.
            if response.status() != StatusCode::CONTINUE {
                interim.send(response.status(), response.headers().clone(), response.version());
            }
        });
    }

    /// Sends an interim response to the client; drops it when the request is answered already, or too much waits.
    pub fn send(&self, status: StatusCode, fields: HeaderMap, version: Version) {
        let response = encode(status, fields, version);
        let mut waiting = self.outbox.lock();
        let is_late = self.outbox.turn.load(Ordering::Relaxed) != self.turn;
        let has_room = waiting.responses.len() < WAITING_MAX && waiting.octets + response.len() <= WAITING_BYTES_MAX;
        if is_late || !has_room {
            return debug!(%status, is_late, octets = response.len(), "interim_response_dropped");
        }
        waiting.octets += response.len();
        waiting.responses.push_back((self.turn, response));
        self.outbox.has_any.store(true, Ordering::Release);
        drop(waiting);
        self.outbox.task.wake();
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interim").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// Encodes a head as RFC 9112 §4 has it.
fn encode(status: StatusCode, mut fields: HeaderMap, version: Version) -> Bytes {
    // RFC 9110 §8.6: it has no content, so it must not announce any.
    fields.remove(CONTENT_LENGTH);
    outgoing::to_client(&mut fields, version);
    let mut octets = head(status, &fields);
    octets.extend_from_slice(b"\r\n");
    Bytes::from(octets)
}

/// The lines of a head, without the empty one.
pub(super) fn head(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let mut octets = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes();
    for (name, value) in fields {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            octets.extend_from_slice(piece);
        }
    }
    octets
}

/// So many wait for a client that does not read. An origin sends one or two.
const WAITING_MAX: usize = 16;

/// So many octets wait for a client that does not read.
const WAITING_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn send(interim: &Interim, value: &str) {
        interim.send(StatusCode::EARLY_HINTS, fields(&[("link", value)]), Version::HTTP_11);
    }

    fn taken(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.take()).map(|octets| String::from_utf8(octets.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_head_is_encoded_without_what_frames_it_and_what_is_of_the_connection() {
        let check = |status: u16, lines: &[(&'static str, &str)], expected: &str| {
            let octets = encode(StatusCode::from_u16(status).unwrap(), fields(lines), Version::HTTP_11);
            assert_eq!(octets, expected.as_bytes(), "{status} {lines:?}");
        };
        let two = [("link", "</a>"), ("link", "</b>")];
        check(103, &two, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\nvia: 1.1 sidecache\r\n\r\n");
        check(102, &[("content-length", "1")], "HTTP/1.1 102 Processing\r\nvia: 1.1 sidecache\r\n\r\n");
        check(102, &[("transfer-encoding", "chunked")], "HTTP/1.1 102 Processing\r\nvia: 1.1 sidecache\r\n\r\n");
        check(102, &[("connection", "x-a"), ("x-a", "1")], "HTTP/1.1 102 Processing\r\nvia: 1.1 sidecache\r\n\r\n");
        check(199, &[], "HTTP/1.1 199 \r\nvia: 1.1 sidecache\r\n\r\n");
    }

    #[test]
    fn what_comes_after_the_answer_is_dropped() {
        let outbox = Arc::new(Outbox::default());
        let first = outbox.clone().begin();
        let late = first.interim();
        send(&late, "in-time");
        drop(first);
        send(&late, "late");
        let second = outbox.clone().begin();
        send(&late, "later");
        send(&second.interim(), "of-the-second");
        let taken = taken(&outbox);
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert!(taken[0].contains("of-the-second"), "{taken:?}");
        assert!(!outbox.has_any());
    }

    #[test]
    fn only_so_much_waits_and_there_is_room_again_when_it_is_written() {
        let outbox = Arc::new(Outbox::default());
        let turn = outbox.clone().begin();
        for _ in 0..WAITING_MAX + 1 {
            send(&turn.interim(), "small");
        }
        assert_eq!(taken(&outbox).len(), WAITING_MAX);
        let large = "x".repeat(WAITING_BYTES_MAX);
        send(&turn.interim(), &large);
        send(&turn.interim(), &large[..WAITING_BYTES_MAX / 2]);
        send(&turn.interim(), &large[..WAITING_BYTES_MAX / 2]);
        send(&turn.interim(), "small");
        let taken = taken(&outbox);
        assert_eq!(taken.len(), 2);
        assert!(taken[1].contains("small"));
    }
}

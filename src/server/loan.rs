//! A client's connection, lent to hyper and taken back while it is idle.
//!
//! hyper has buffers for as long as it has a connection, some 20 KiB of them, and ten thousand idle clients have ten thousand times
//! that. So a connection on which nothing was asked for a moment is taken back from it, and lent to it anew when the client sends
//! something.
//!
//! What hyper has read and not understood yet would be lost. Where what was read last ends in a blank line, as a request without a
//! body does, that is nothing but further blank lines, which mean nothing there (RFC 9112 §2.2): a head that has only begun does not
//! end in one. A connection on which something else was read last stays with hyper.

use super::stream::ClientStream;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// A connection that is lent; dropping it gives it back, if it was recalled, or else closes it.
pub(super) struct Lent {
    /// There until it is dropped.
    stream: Option<ClientStream>,
    /// What was read last.
    tail: [u8; BLANK_LINE.len()],
    loan: Arc<Loan>,
}

/// What is known of a connection by who has lent it.
#[derive(Default)]
pub(super) struct Loan {
    /// Rings when nothing was asked on it for a moment.
    pub(super) quiet: Notify,
    ends_blank: AtomicBool,
    /// The client does not take what is being written.
    is_stalled: AtomicBool,
    is_recalled: AtomicBool,
    /// The client has ended it, or it broke.
    is_over: AtomicBool,
    /// hyper waits for the head of a request.
    awaits_head: AtomicBool,
    /// Requests that were answered while it did, unknown to it.
    answered: AtomicU64,
    /// A request that it does not know of is being answered.
    is_answering: AtomicBool,
    given_back: Mutex<Option<ClientStream>>,
}

impl Loan {
    /// A connection that comes back however it ends.
    pub(super) fn to_be_given_back() -> Loan {
        Loan { is_recalled: AtomicBool::new(true), ..Loan::default() }
    }

    /// Whether the client has ended it, or it broke.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Says that the connection is to be given back instead of being closed; `false` if it has to stay.
    pub(super) fn recall(&self) -> bool {
        let is_idle = self.ends_blank.load(Ordering::Relaxed) && !self.is_stalled.load(Ordering::Relaxed) && !self.is_answering();
        self.is_recalled.store(is_idle, Ordering::Relaxed);
        is_idle
    }

    /// Takes that back.
    pub(super) fn extend(&self) {
        self.is_recalled.store(false, Ordering::Relaxed);
    }

    /// Takes note of whether hyper waits for the head of a request.
    pub(super) fn await_head(&self, awaits: bool) {
        self.awaits_head.store(awaits, Ordering::Relaxed);
    }

    /// Whether hyper waits for the head of a request, and has nothing to write.
    pub(super) fn is_free(&self) -> bool {
        self.awaits_head.load(Ordering::Relaxed) && !self.is_stalled.load(Ordering::Relaxed)
    }

    /// Takes note of a request that was answered while hyper waited: what it waits for is another one now.
    pub(super) fn renew(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many such requests there were.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Takes note of whether a request is being answered while hyper waits for one.
    pub(super) fn set_answering(&self, answers: bool) {
        self.is_answering.store(answers, Ordering::Relaxed);
    }

    /// Whether there is one.
    pub(super) fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// The connection, if it was given back.
    pub(super) fn given_back(&self) -> Option<ClientStream> {
        self.given_back.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Lent {
    pub(super) fn new(stream: ClientStream, loan: Arc<Loan>) -> Lent {
        Lent { stream: Some(stream), tail: [0; BLANK_LINE.len()], loan }
    }

    fn stream(&mut self) -> Pin<&mut ClientStream> {
        Pin::new(self.stream.as_mut().expect("it is there until it is dropped"))
    }

    /// Takes note of whether the client takes what is written.
    fn written(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.loan.is_stalled.store(polled.is_pending(), Ordering::Relaxed);
        if matches!(polled, Poll::Ready(Err(_))) {
            self.loan.is_over.store(true, Ordering::Relaxed);
        }
        polled
    }

    /// Takes note of the end of what was read.
    fn note(&mut self, read: &[u8]) {
        let new = read.len().min(self.tail.len());
        self.tail.rotate_left(new);
        let kept = self.tail.len() - new;
        self.tail[kept..].copy_from_slice(&read[read.len() - new..]);
        self.loan.ends_blank.store(self.tail == *BLANK_LINE, Ordering::Relaxed);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.loan.is_recalled.load(Ordering::Relaxed) {
            *self.loan.given_back.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, had_room) = (buffer.filled().len(), buffer.remaining() > 0);
        let polled = self.stream().poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.note(&buffer.filled()[before..]);
        } else if polled.is_ready() && had_room {
            self.loan.is_over.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Lent {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.stream().poll_write(cx, octets);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream().poll_write_vectored(cx, pieces);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It is asked for when all is written.
        let polled = self.stream().poll_flush(cx);
        self.loan.is_stalled.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper is done with it; the client is not.
        match self.loan.is_recalled.load(Ordering::Relaxed) {
            true => Poll::Ready(Ok(())),
            false => self.stream().poll_shutdown(cx),
        }
    }
}

/// The end of a head, and with it of a request without a body (RFC 9112 §2.1).
const BLANK_LINE: &[u8; 4] = b"\r\n\r\n";

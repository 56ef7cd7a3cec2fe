//! The short way of a hit: what is answered without hyper.
//!
//! Reading a request into fields, and writing a response from fields, is most of what a hit costs that is not the kernel's. Where the
//! octets of a head are known (`Answer::answer_known`), neither has to be done. So when hyper waits for a request, what comes is shown to
//! who may know it, and only what nobody knows is handed up.
//!
//! hyper does not notice, and need not: it waits for a head, has nothing in its buffers in either direction, and goes on waiting. That it is
//! so is not guessed:
//! - it waits for a head as long as it holds the timer for one ([`Loan::is_free`]), which it lets go of when it has a head;
//! - it has no octets of a request that is still to come, since all that it was handed were whole requests (`Framed::is_between_requests`);
//! - it has nothing left to write: it tries to write before it reads, and what the client does not take yet stalls the connection.

use super::framing::Framed;
use super::loan::{Lent, Loan};
use crate::flow::{Answer, AnswerKnown, Written};
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of HTTP/1.1 on which what is known is answered at once.
pub(super) struct Shortcut<A> {
    framed: Framed<Lent>,
    asked: Asked<A>,
    loan: Arc<Loan>,
    latest: Arc<Latest>,
    left: Left,
    pending: Option<Pending>,
    /// Octets that nobody knows, and that hyper has not been handed yet.
    unread: Bytes,
    /// The client was told that nothing more is answered.
    is_over: bool,
}

/// A request that may be answered in a moment. Until then nothing further is read.
struct Pending {
    octets: Bytes,
    begun: Instant,
    answer: Pin<Box<dyn Future<Output = Option<Written>> + Send>>,
}

/// Who is asked for answers, and for whom.
pub(super) struct Asked<A> {
    pub(super) answer: Arc<A>,
    pub(super) address: IpAddr,
    pub(super) is_secure: bool,
    /// The next response is the last, which it has to say.
    pub(super) is_last: Arc<AtomicBool>,
}

/// The octets that hyper was handed last, if they are the head of the request that it will answer next, and nothing else; and for how long it
/// was tried before to answer it without that.
#[derive(Default)]
pub(super) struct Latest(Mutex<(Option<Bytes>, Duration)>);

/// What is still to be written of an answer.
#[derive(Default)]
struct Left {
    head: Vec<u8>,
    written: usize,
    body: Bytes,
    is_unflushed: bool,
}

impl<A: Answer> Shortcut<A> {
    pub(super) fn new(framed: Framed<Lent>, asked: Asked<A>, loan: Arc<Loan>, latest: Arc<Latest>) -> Shortcut<A> {
        Shortcut { framed, asked, loan, latest, left: Left::default(), pending: None, unread: Bytes::new(), is_over: false }
    }

    /// Writes what is left.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Left { head, written, body, is_unflushed } = &mut self.left;
        while *written < head.len() || !body.is_empty() {
            let pieces = [IoSlice::new(&head[*written..]), IoSlice::new(body)];
            let taken = ready!(Pin::new(&mut self.framed).poll_write_vectored(cx, &pieces))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = taken.min(head.len() - *written);
            *written += of_head;
            body.advance(taken - of_head);
        }
        if *is_unflushed {
            ready!(Pin::new(&mut self.framed).poll_flush(cx))?;
            *is_unflushed = false;
            *body = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Answers the request that these octets are, now or in a moment, if that is possible without reading it; a panic is one request's, as
    /// ever.
    fn answer(&mut self, octets: &[u8]) -> bool {
        let Asked { answer, address, is_secure, .. } = &self.asked;
        let head = &mut self.left.head;
        head.clear();
        self.left.written = 0;
        match catch_unwind(AssertUnwindSafe(|| answer.answer_known(octets, *address, *is_secure, head))) {
            Ok(AnswerKnown::Now(body)) => {
                (self.left.body, self.left.is_unflushed) = (body, true);
                true
            }
            Ok(AnswerKnown::InAMoment(answer)) => {
                head.clear();
                let octets = Bytes::copy_from_slice(octets);
                self.pending = Some(Pending { octets, begun: Instant::now(), answer });
                self.loan.set_answering(true);
                true
            }
            Ok(AnswerKnown::Unknown) | Err(_) => {
                head.clear();
                false
            }
        }
    }

    /// Waits for the answer that was to come in a moment. If it does not, the request is to be read.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Pending { answer, .. }) = &mut self.pending else { return Poll::Ready(()) };
        let answered = match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
            Ok(polled) => ready!(polled),
            // It is not polled again, only dropped.
            Err(_) => None,
        };
        let Some(Pending { octets, begun, .. }) = self.pending.take() else { return Poll::Ready(()) };
        self.loan.set_answering(false);
        match answered {
            Some((mut head, body)) => {
                if self.asked.is_last.load(Ordering::Relaxed) {
                    head.truncate(head.len() - LINE_END.len());
                    head.extend_from_slice(b"connection: close\r\n\r\n");
                    self.is_over = true;
                }
                self.left = Left { head, written: 0, body, is_unflushed: true };
            }
            None => {
                self.unread = octets;
                self.latest.set(None, begun.elapsed());
            }
        }
        Poll::Ready(())
    }

    /// Hands on octets that nobody knows.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let whole = self.unread.len() <= buffer.remaining() && self.unread.ends_with(HEAD_END);
        self.latest.set_octets(whole.then(|| self.unread.clone()));
        let some = self.unread.split_to(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(&some);
    }
}

impl Latest {
    fn set(&self, octets: Option<Bytes>, waited: Duration) {
        *self.lock() = (octets, waited);
    }

    fn set_octets(&self, octets: Option<Bytes>) {
        self.lock().0 = octets;
    }

    /// The octets of a request that hyper has read this moment, and for how long it has waited.
    pub(super) fn take(&self) -> (Option<Bytes>, Duration) {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Bytes>, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How lines end, and heads (RFC 9112 §2.1).
const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

impl<A: Answer> AsyncRead for Shortcut<A> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        loop {
            if this.poll_pending(cx).is_pending() || this.poll_finish(cx)?.is_pending() {
                // For hyper that is silence, which it would end after a while. It is not, and has a time of its own.
                this.loan.renew();
                return Poll::Pending;
            }
            if !this.unread.is_empty() {
                this.hand_on(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.is_over {
                // hyper, which does not know what the client was told, ends an idle connection with this.
                return Poll::Ready(Ok(()));
            }
            let is_free = this.loan.is_free() && this.framed.is_between_requests();
            ready!(Pin::new(&mut this.framed).poll_read(cx, buffer))?;
            let came = &buffer.filled()[before..];
            if !is_free || !came.ends_with(HEAD_END) || !this.framed.is_between_requests() {
                this.latest.set_octets(None);
                return Poll::Ready(Ok(()));
            }
            if this.asked.is_last.load(Ordering::Relaxed) || !this.answer(came) {
                this.latest.set_octets(Some(Bytes::copy_from_slice(came)));
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(before);
            this.loan.renew();
        }
    }
}

impl<A: Answer> AsyncWrite for Shortcut<A> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_finish(cx))?;
        Pin::new(&mut self.framed).poll_write(cx, octets)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_finish(cx))?;
        Pin::new(&mut self.framed).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.framed.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_finish(cx))?;
        Pin::new(&mut self.framed).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_finish(cx))?;
        Pin::new(&mut self.framed).poll_shutdown(cx)
    }
}

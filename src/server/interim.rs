//! A connection on which interim responses are written between the responses that hyper writes.
//!
//! `flow::interim` says what keeps the two apart. This is the part that is done here: something new is taken from the
//! [`Outbox`] in a flush alone, which hyper asks for when all of its own octets are written; and what was begun is written
//! to its end before anything else.

use crate::flow::Outbox;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's connection, and what is written to it beside hyper.
pub(super) struct WithInterim<S> {
    stream: S,
    outbox: Arc<Outbox>,
    /// What is left of the interim response that is being written.
    begun: Bytes,
}

impl<S: AsyncWrite + Unpin> WithInterim<S> {
    pub(super) fn new(stream: S, outbox: Arc<Outbox>) -> WithInterim<S> {
        WithInterim { stream, outbox, begun: Bytes::new() }
    }

    /// Writes what was begun to its end.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.begun.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.begun))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WithInterim<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithInterim<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outbox.has_any() {
            ready!(self.poll_begun(cx))?;
            match self.outbox.take() {
                Some(response) => self.begun = response,
                None => break,
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Turn;
    use http::{HeaderMap, Request, Response, StatusCode, Version};
    use http_body_util::{BodyExt, Empty};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use std::pin::pin;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    /// A stream that takes so many octets, in pieces of three.
    struct Narrow {
        room: usize,
        written: String,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
            let number = octets.len().min(self.room).min(3);
            if number == 0 {
                return Poll::Pending;
            }
            self.room -= number;
            self.written.push_str(std::str::from_utf8(&octets[..number]).unwrap());
            Poll::Ready(Ok(number))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn narrow(room: usize) -> (WithInterim<Narrow>, Arc<Outbox>, Turn) {
        let outbox = Arc::new(Outbox::default());
        let stream = WithInterim::new(Narrow { room, written: String::new() }, outbox.clone());
        (stream, outbox.clone(), outbox.begin())
    }

    fn send(turn: &Turn, status: StatusCode) {
        turn.interim().send(status, HeaderMap::new(), Version::HTTP_11);
    }

    fn write_all(stream: &mut WithInterim<Narrow>, mut octets: &[u8], cx: &mut Context<'_>) {
        while !octets.is_empty() {
            let Poll::Ready(Ok(written)) = Pin::new(&mut *stream).poll_write(cx, octets) else { panic!("it takes no more") };
            octets = &octets[written..];
        }
    }

    const PROCESSING: &str = "HTTP/1.1 102 Processing\r\nvia: 1.1 sidecache\r\n\r\n";
    const EARLY_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nvia: 1.1 sidecache\r\n\r\n";

    #[tokio::test]
    async fn what_was_begun_is_written_to_its_end_before_anything_else() {
        for vectored in [false, true] {
            let (mut stream, outbox, turn) = narrow(10);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            send(&turn, StatusCode::PROCESSING);
            send(&turn, StatusCode::EARLY_HINTS);
            assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_pending());
            assert_eq!(stream.stream.written, PROCESSING[..10]);
            stream.stream.room = 5;
            let pieces = [io::IoSlice::new(b"octets of hyper")];
            let written = match vectored {
                true => Pin::new(&mut stream).poll_write_vectored(&mut cx, &pieces),
                false => Pin::new(&mut stream).poll_write(&mut cx, &pieces[0]),
            };
            assert!(written.is_pending());
            assert_eq!(stream.stream.written, PROCESSING[..15]);
            stream.stream.room = 1000;
            write_all(&mut stream, b"octets of hyper", &mut cx);
            assert_eq!(stream.stream.written, format!("{PROCESSING}octets of hyper"));
            assert!(outbox.has_any());
            assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
            assert_eq!(stream.stream.written, format!("{PROCESSING}octets of hyper{EARLY_HINTS}"));
            assert!(!outbox.has_any());
        }
    }

    #[tokio::test]
    async fn an_answer_is_held_back_until_what_came_before_it_is_written() {
        let (mut stream, _, turn) = narrow(10);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        send(&turn, StatusCode::EARLY_HINTS);
        let late = turn.interim();
        let mut answer = pin!(std::future::ready("answer"));
        let mut answered = pin!(turn.answer(answer.as_mut()));
        assert!(answered.as_mut().poll(&mut cx).is_pending());
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_pending());
        assert!(answered.as_mut().poll(&mut cx).is_pending());
        stream.stream.room = 1000;
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        assert_eq!(answered.as_mut().poll(&mut cx), Poll::Ready("answer"));
        late.send(StatusCode::PROCESSING, HeaderMap::new(), Version::HTTP_11);
        write_all(&mut stream, b"head", &mut cx);
        assert!(Pin::new(&mut stream).poll_flush(&mut cx).is_ready());
        assert_eq!(stream.stream.written, format!("{EARLY_HINTS}head"));
    }

    /// The hard case: hyper takes up a request whose body and answer are done, and then the next one, while octets of that
    /// answer wait in its own buffer for a client that does not read.
    #[tokio::test]
    async fn nothing_comes_before_the_response_to_an_earlier_request_is_written() {
        let (client, server) = tokio::io::duplex(64);
        let outbox = Arc::new(Outbox::default());
        let stream = WithInterim::new(server, outbox.clone());
        let (sent, has_sent) = oneshot::channel();
        let sent = Arc::new(Mutex::new(Some(sent)));
        let service = service_fn(move |request: Request<Incoming>| {
            let (outbox, sent) = (outbox.clone(), sent.clone());
            async move {
                let turn = outbox.begin();
                let mut response = Response::new(Empty::<Bytes>::new());
                match request.uri().path() {
                    // Longer than what the client takes; the body is read behind its back.
                    "/first" => {
                        tokio::spawn(request.into_body().collect());
                        response.headers_mut().insert("x-first", "1".repeat(2000).parse().unwrap());
                    }
                    _ => {
                        response.headers_mut().insert("x-second", "2".parse().unwrap());
                        send(&turn, StatusCode::EARLY_HINTS);
                        sent.lock().unwrap().take().unwrap().send(()).unwrap();
                    }
                }
                Ok::<_, Infallible>(turn.answer(pin!(async { response })).await)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        let (mut octets, mut requests) = tokio::io::split(client);
        requests.write_all(b"POST /first HTTP/1.1\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
        // The beginning of the answer, so that all of it is in hyper's buffer when the body ends.
        let mut heard = vec![0; 9];
        octets.read_exact(&mut heard).await.unwrap();
        requests.write_all(b"cdGET /second HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
        has_sent.await.unwrap();
        octets.read_to_end(&mut heard).await.unwrap();
        let heard = String::from_utf8(heard).unwrap();
        let heads: Vec<_> = heard.split_inclusive("\r\n\r\n").collect();
        assert_eq!(heads.len(), 3, "{heard}");
        assert!(heads[0].starts_with("HTTP/1.1 200 OK\r\n") && heads[0].contains("x-first"), "{heard}");
        assert_eq!(heads[1], EARLY_HINTS);
        assert!(heads[2].starts_with("HTTP/1.1 200 OK\r\n") && heads[2].contains("x-second"), "{heard}");
    }
}

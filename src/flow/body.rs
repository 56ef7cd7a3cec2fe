//! The body of a response to a client.

use super::access::AccessRecord;
use super::spool::{PIECE_BYTES_MAX, Piece, Reader};
use super::stall::Watched;
use crate::origin::{BodyError, ResponseBody};
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The body of a response to a client.
pub struct Body {
    source: Source,
    /// Written when the body ends or is dropped; `None` where nobody asked for an access log.
    record: Option<Box<AccessRecord>>,
}

enum Source {
    /// Nothing, or what is left of something that is whole.
    Whole(Option<Bytes>),
    /// The origin's own, as it comes.
    Relay(Box<ResponseBody>),
    /// Something that is whole, in pieces.
    Pieces(Bytes),
    /// Any of these, on its way to an HTTP/2 client.
    Watched(Watched<Box<Body>>),
    /// That of a fetch which several clients follow.
    Shared { reader: Reader, length: Option<u64> },
    /// A part of such a body: so many octets are left out, and then so many sent.
    Part { reader: Reader, skip: u64, left: u64 },
    /// It has broken, and that is still to be told.
    Broken(Option<ClientBodyError>),
}

/// Why a body ended before its end; the client's connection is then closed in a way that it can tell.
#[derive(Debug, thiserror::Error)]
pub enum ClientBodyError {
    /// The origin's body broke.
    #[error(transparent)]
    Origin(#[from] BodyError),
    /// The client took nothing of it for too long.
    #[error("the client stalled")]
    Stalled,
    /// The body of the fetch that was followed broke.
    #[error("the followed fetch ended early")]
    Cut,
}

impl Body {
    /// No body.
    pub fn empty() -> Body {
        Body::from_source(Source::Whole(None))
    }

    /// The origin's body, as it comes.
    pub(super) fn relay(body: ResponseBody) -> Body {
        Body::from_source(Source::Relay(Box::new(body)))
    }

    /// The body of a shared fetch, of this length where the origin told it.
    pub(super) fn shared(reader: Reader, length: Option<u64>) -> Body {
        Body::from_source(Source::Shared { reader, length })
    }

    /// A part of the body of a shared fetch, by the positions of its octets.
    pub(super) fn part(reader: Reader, part: &Range<u64>) -> Body {
        Body::from_source(Source::Part { reader, skip: part.start, left: part.end - part.start })
    }

    /// Lets go of what it holds when an HTTP/2 client takes nothing of it for `limit`.
    pub(super) fn watched(self, limit: Duration) -> Body {
        let source = match self.source {
            Source::Whole(Some(whole)) if whole.len() > PIECE_BYTES_MAX => Source::Pieces(whole),
            // The client's connection takes it at once, and then there is nothing left to let go.
            Source::Whole(_) => return self,
            source => source,
        };
        let body = Body { source, ..self };
        Body::from_source(Source::Watched(Watched::new(Box::new(body), limit)))
    }

    /// Writes `record` when the body has ended.
    pub(super) fn recorded(mut self, mut record: AccessRecord) -> Body {
        record.expects(http_body::Body::size_hint(&self).exact());
        self.record = Some(Box::new(record));
        self
    }

    fn from_source(source: Source) -> Body {
        Body { source, record: None }
    }
}

impl From<Bytes> for Body {
    fn from(whole: Bytes) -> Body {
        Body::from_source(Source::Whole(Some(whole).filter(|whole| !whole.is_empty())))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let this = &mut *self;
        let polled = match &mut this.source {
            Source::Broken(error) => Poll::Ready(error.take().map(Err)),
            Source::Whole(whole) => Poll::Ready(whole.take().map(|whole| Ok(Frame::data(whole)))),
            Source::Pieces(rest) if rest.is_empty() => Poll::Ready(None),
            Source::Pieces(rest) => {
                let piece = rest.split_to(rest.len().min(PIECE_BYTES_MAX));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Source::Relay(body) => Pin::new(body.as_mut()).poll_frame(cx).map_err(ClientBodyError::Origin),
            Source::Watched(body) => body.poll_frame(cx, || ClientBodyError::Stalled),
            Source::Shared { reader, .. } => reader.poll_next(cx).map(|piece| match piece {
                Piece::Data(chunk) => Some(Ok(Frame::data(chunk))),
                Piece::End(Some(trailers)) => {
                    this.source = Source::Whole(None);
                    Some(Ok(Frame::trailers(trailers)))
                }
                Piece::End(None) => None,
                Piece::Cut => Some(Err(ClientBodyError::Cut)),
            }),
            Source::Part { left: 0, .. } => Poll::Ready(None),
            Source::Part { reader, skip, left } => loop {
                match ready!(reader.poll_next(cx)) {
                    Piece::Data(mut chunk) => {
                        let skipped = chunk.len().min(usize::try_from(*skip).unwrap_or(usize::MAX));
                        *skip -= skipped as u64;
                        chunk.advance(skipped);
                        chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                        *left -= chunk.len() as u64;
                        if !chunk.is_empty() {
                            break Poll::Ready(Some(Ok(Frame::data(chunk))));
                        }
                    }
                    // The whole was shorter than announced.
                    Piece::End(_) | Piece::Cut => break Poll::Ready(Some(Err(ClientBodyError::Cut))),
                }
            },
        };
        // With the error, hyper closes the connection, and what it has of the response by then is lost: so it may write that before, as
        // the readers of a shared fetch let it, too.
        let polled = match polled {
            Poll::Ready(Some(Err(error))) if matches!(this.source, Source::Relay(_)) => {
                this.source = Source::Broken(Some(error));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            polled => polled,
        };
        if let Some(record) = &mut this.record {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => record.sent(frame.data_ref().map_or(0, Bytes::len)),
                Poll::Ready(Some(Err(error))) => record.failed(error),
                Poll::Ready(None) => record.whole(),
                Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(whole) => whole.is_none(),
            Source::Pieces(rest) => rest.is_empty(),
            Source::Relay(body) => body.is_end_stream(),
            Source::Watched(body) => body.is_end_stream(),
            Source::Shared { reader, .. } => reader.is_at_end(),
            Source::Part { left, .. } => *left == 0,
            Source::Broken(error) => error.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(whole) => SizeHint::with_exact(whole.as_ref().map_or(0, |whole| whole.len() as u64)),
            Source::Pieces(rest) => SizeHint::with_exact(rest.len() as u64),
            Source::Relay(body) => body.size_hint(),
            Source::Watched(body) => body.size_hint(),
            // Only asked before the first frame; afterwards it would have to shrink.
            Source::Shared { length, .. } => length.map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Part { left, .. } => SizeHint::with_exact(*left),
            Source::Broken(_) => SizeHint::default(),
        }
    }
}

//! A client's connection as it is on the wire: plain, or within TLS.
//!
//! Which of the two it is, is looked at once a read or write; nothing is allocated or called indirectly for it.

use super::tls::Acceptor;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

pub(super) enum Wire {
    Plain(TcpStream),
    /// Boxed, since the state of TLS is much larger than a socket.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Shakes hands, if there is TLS. There is no way back from there to plain text.
    pub(super) async fn open(tcp: TcpStream, acceptor: Option<Acceptor>) -> io::Result<Wire> {
        match acceptor {
            None => Ok(Wire::Plain(tcp)),
            #[cfg(feature = "tls")]
            // A connection keeps what its largest step took, also one that needs none of it.
            Some(acceptor) => Ok(Wire::Tls(Box::new(Box::pin(acceptor.accept(tcp)).await?))),
            #[cfg(not(feature = "tls"))]
            Some(Acceptor { never }) => match never {},
        }
    }

    /// The socket, if what comes over it is what was sent.
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Wire::Plain(tcp) => Some(tcp),
            #[cfg(feature = "tls")]
            Wire::Tls(_) => None,
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.plain().is_none()
    }

    /// Whether HTTP/2 was agreed on. In plain text nothing can be.
    #[cfg(feature = "tls")]
    pub(super) fn has_agreed_on_h2(&self) -> bool {
        match self {
            Wire::Plain(_) => false,
            Wire::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(super::tls::H2),
        }
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn has_agreed_on_h2(&self) -> bool {
        false
    }
}

/// Does the same with whichever it is.
macro_rules! with {
    ($wire:expr, $stream:ident => $what:expr) => {
        match $wire {
            Wire::Plain($stream) => $what,
            #[cfg(feature = "tls")]
            Wire::Tls($stream) => $what,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with!(&mut *self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        with!(&mut *self, stream => Pin::new(stream).poll_write(cx, octets))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with!(&mut *self, stream => Pin::new(stream).poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        with!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

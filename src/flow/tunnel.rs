//! A bridged connection: after a 101, octets go both ways until one side ends or both are silent for too long.

use crate::tasks::Tasks;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

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

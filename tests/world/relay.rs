//! A network between the sidecar and Redis, or between the sidecar and its origin, that can be broken.

use super::eventually;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A relay to an address; a change of its phase ends or freezes the connections that it has.
pub struct Relay {
    pub address: SocketAddr,
    phase: watch::Sender<Phase>,
    taken: Arc<AtomicUsize>,
    listening: AbortHandle,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They go through.
    Relay,
    /// They are closed at once.
    Refuse,
    /// They are taken, and nothing is heard of them any more.
    BlackHole,
    /// They are answered with what is no Redis.
    Garbage,
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let phase = watch::Sender::new(Phase::Relay);
        let phases = phase.clone();
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(through(stream, target, phases.subscribe()));
            }
        });
        Relay { address, phase, taken, listening: listening.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// How many connections were taken until now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Ends all connections, and has nobody listen any more: new ones are refused.
    pub async fn leave(&self) {
        self.enter(Phase::Refuse);
        self.listening.abort();
        eventually("connections are refused", async || TcpStream::connect(self.address).await.is_err()).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn through(mut client: TcpStream, target: SocketAddr, mut phase: watch::Receiver<Phase>) {
    let mut server = None;
    loop {
        let present = *phase.borrow_and_update();
        match present {
            Phase::Refuse => return,
            Phase::BlackHole => {}
            Phase::Garbage => {
                let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
            Phase::Relay if server.is_none() => match TcpStream::connect(target).await {
                Ok(connected) => server = Some(connected),
                Err(_) => return,
            },
            Phase::Relay => {}
        }
        tokio::select! {
            _ = copy(&mut client, server.as_mut()), if present == Phase::Relay => return,
            changed = phase.changed() => if changed.is_err() { return },
        }
    }
}

async fn copy(client: &mut TcpStream, server: Option<&mut TcpStream>) {
    if let Some(server) = server {
        let _ = copy_bidirectional(client, server).await;
    }
}

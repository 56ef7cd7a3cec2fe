//! Octets as the test writes them, for what no library would send.

use super::soon;
use sidecache::origin::Address;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The fields that ask for a WebSocket, and the head that opens it (RFC 6455 §1.3).
pub const ASKS_FOR_WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
pub const OPENS_WEBSOCKET: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                                   Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A client of octets.
pub struct RawClient(RawConnection);

/// An origin of octets: the test takes each of its connections in turn.
pub struct RawOrigin {
    pub address: Address,
    listener: TcpListener,
}

/// One connection, from either side.
pub struct RawConnection<S = TcpStream> {
    stream: S,
    /// What was read behind a head.
    ahead: Vec<u8>,
}

impl RawOrigin {
    pub async fn start() -> RawOrigin {
        RawOrigin::on(0).await
    }

    /// Listens on this port.
    pub async fn on(port: u16) -> RawOrigin {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = Address::Http(listener.local_addr().unwrap().to_string().parse().unwrap());
        RawOrigin { address, listener }
    }

    /// The next connection that the sidecar makes. It asks for something at once; who leaves without a word is somebody else's
    /// client, whose server had this port before.
    pub async fn accept(&self) -> RawConnection {
        soon("a connection of the sidecar", async {
            loop {
                let connection = self.accept_without_limit().await;
                if matches!(connection.stream.peek(&mut [0]).await, Ok(1)) {
                    return connection;
                }
            }
        })
        .await
    }

    /// The next connection, however long that takes.
    pub async fn accept_any(&self) -> RawConnection {
        self.accept_without_limit().await
    }

    /// Answers the first request of each connection with the same octets, and closes it.
    pub fn always(self, octets: &'static str) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                let mut connection = self.accept_without_limit().await;
                tokio::spawn(async move {
                    connection.head().await;
                    connection.send(octets).await;
                });
            }
        })
    }

    async fn accept_without_limit(&self) -> RawConnection {
        let (stream, _) = self.listener.accept().await.unwrap();
        RawConnection { stream, ahead: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawConnection<S> {
    pub fn of(stream: S) -> RawConnection<S> {
        RawConnection { stream, ahead: Vec::new() }
    }

    /// Sends one request and reads the head of its response.
    pub async fn ask(&mut self, octets: impl AsRef<[u8]>) -> String {
        self.send(octets).await;
        self.head().await
    }

    /// Sends one request and reads its response: the head, and so much of a body as that says.
    pub async fn exchange(&mut self, octets: impl AsRef<[u8]>) -> (String, String) {
        self.send(octets).await;
        self.response().await
    }

    /// Reads a response: the head, and so much of a body as that says.
    pub async fn response(&mut self) -> (String, String) {
        let head = self.head().await;
        let body = self.octets(content_length(&head)).await;
        (head, body)
    }

    /// Reads a head, as text in lines of `\r\n`, the empty one included.
    pub async fn head(&mut self) -> String {
        soon("a head", self.try_head()).await.expect("the connection goes on")
    }

    /// Reads a head, unless the connection ends before it.
    pub async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.ahead.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            let mut octets = [0; 4096];
            match self.stream.read(&mut octets).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.ahead.extend_from_slice(&octets[..read]),
            }
        }
    }

    /// Reads so many octets.
    pub async fn octets(&mut self, number: usize) -> String {
        soon(&format!("{number} octets"), async {
            while self.ahead.len() < number {
                let mut octets = [0; 4096];
                let read = self.stream.read(&mut octets).await.unwrap();
                assert_ne!(read, 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.ahead));
                self.ahead.extend_from_slice(&octets[..read]);
            }
        })
        .await;
        String::from_utf8(self.ahead.drain(..number).collect()).unwrap()
    }

    /// Reads so many octets, unless the connection ends before them.
    pub async fn try_octets(&mut self, number: usize) -> Option<String> {
        while self.ahead.len() < number {
            let mut octets = [0; 4096];
            match self.stream.read(&mut octets).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.ahead.extend_from_slice(&octets[..read]),
            }
        }
        Some(String::from_utf8_lossy(&self.ahead.drain(..number).collect::<Vec<_>>()).into_owned())
    }

    /// Reads all that comes until the other side closes.
    pub async fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.ahead);
        // A reset ends it as well.
        let _ = soon("the end of the connection", self.stream.read_to_end(&mut rest)).await;
        String::from_utf8(rest).unwrap()
    }

    pub async fn send(&mut self, octets: impl AsRef<[u8]>) {
        // The other side may have had enough.
        let _ = self.stream.write_all(octets.as_ref()).await;
    }

    /// Ends our direction alone.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}

impl RawConnection {
    /// What has come already and was not read.
    pub fn unread(&mut self) -> String {
        let mut octets = [0; 4096];
        while let Ok(read @ 1..) = self.stream.try_read(&mut octets) {
            self.ahead.extend_from_slice(&octets[..read]);
        }
        String::from_utf8(std::mem::take(&mut self.ahead)).unwrap()
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> RawClient {
        RawClient(RawConnection { stream: TcpStream::connect(address).await.unwrap(), ahead: Vec::new() })
    }
}

impl std::ops::Deref for RawClient {
    type Target = RawConnection;

    fn deref(&self) -> &RawConnection {
        &self.0
    }
}

impl std::ops::DerefMut for RawClient {
    fn deref_mut(&mut self) -> &mut RawConnection {
        &mut self.0
    }
}

impl RawClient {
    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.0.reset();
    }
}

/// The length that a head says its content has.
pub fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.unwrap_or_else(|| panic!("no length in {head}")).parse().unwrap()
}

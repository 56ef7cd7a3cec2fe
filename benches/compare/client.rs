//! A client that reads every octet, over one connection that it keeps.

use crate::Broken;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

/// A response that has come whole.
pub(crate) struct Answer<'a> {
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: &'a [u8],
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Client, Broken> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("{address} does not accept: {error}"))?;
        let _ = stream.set_nodelay(true);
        Ok(Client { stream, buffer: vec![0; 16 << 10], filled: 0 })
    }

    /// Asks, and waits until all of the answer is there; it must be a 200 that says its length.
    pub(crate) async fn get(&mut self, target: &str) -> Result<Answer<'_>, Broken> {
        let request = format!("GET {target} HTTP/1.1\r\n{FIELDS}\r\n");
        self.stream.write_all(request.as_bytes()).await.map_err(|error| format!("{target}: {error}"))?;
        self.filled = 0;
        let head_length = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break at + 4;
            }
            self.read(target).await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_length]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(format!("{target} is answered {head:?}"));
        }
        let length = field(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
        let end = head_length + length.ok_or_else(|| format!("{target} has no length: {head:?}"))?;
        while self.filled < end {
            self.read(target).await?;
        }
        if self.filled > end {
            return Err(format!("{target} is answered with more than it should be"));
        }
        Ok(Answer { head, body: &self.buffer[head_length..end] })
    }

    async fn read(&mut self, target: &str) -> Result<(), Broken> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..]).await {
            Ok(0) => Err(format!("{target}: the connection has ended")),
            Ok(read) => {
                self.filled += read;
                Ok(())
            }
            Err(error) => Err(format!("{target}: {error}")),
        }
    }
}

/// The value of a field in a head in lower case.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// As a usual library sends them; `requests.lua` has the same.
const FIELDS: &str =
    "Host: backend.example:8080\r\nUser-Agent: python-httpx/0.28.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n";

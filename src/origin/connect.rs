//! Connections to the origin: TCP, TLS, Unix sockets.

use super::{Address, Options};
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

/// Connects to the one address of the configuration, whatever a request's URI says.
#[derive(Clone)]
pub(super) struct Connector {
    target: Arc<Target>,
    limit: Duration,
}

struct Target {
    address: Address,
    #[cfg(feature = "tls")]
    tls: Option<tls::Client>,
}

/// A connection to the origin.
pub(super) struct OriginStream {
    io: Box<dyn Io>,
    uses: Uses,
    is_h2: bool,
}

/// How many responses came over a connection, so that a failure of its first request is told from one of a pooled one.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses(Arc<AtomicUsize>);

/// What a connection reads and writes with.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connector {
    pub(super) fn new(options: &Options) -> io::Result<Connector> {
        let target = Target {
            address: options.address.clone(),
            #[cfg(feature = "tls")]
            tls: match &options.address {
                Address::Https(authority) => Some(tls::Client::new(authority.host(), options)?),
                _ => None,
            },
        };
        Ok(Connector { target: Arc::new(target), limit: options.connect_timeout })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<OriginStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (target, limit) = (self.target.clone(), self.limit);
        Box::pin(async move {
            match tokio::time::timeout(limit, target.connect()).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            }
        })
    }
}

impl Target {
    async fn connect(&self) -> io::Result<OriginStream> {
        match &self.address {
            Address::Http(authority) => {
                let tcp = tcp(authority.host(), authority.port_u16().unwrap_or(80)).await?;
                Ok(OriginStream::new(tcp, false))
            }
            Address::Unix(path) => Ok(OriginStream::new(unix(path).await?, false)),
            #[cfg(feature = "tls")]
            Address::Https(authority) => {
                let tcp = tcp(authority.host(), authority.port_u16().unwrap_or(443)).await?;
                let client = self.tls.as_ref().expect("made together with the https address");
                let (stream, is_h2) = client.connect(tcp).await?;
                Ok(OriginStream::new(stream, is_h2))
            }
            #[cfg(not(feature = "tls"))]
            Address::Https(_) => Err(io::Error::other("this build has no TLS")),
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    // An authority writes an IPv6 address in brackets; the resolver does not.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// Whether connecting failed for want of time.
pub(super) fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether a response had come over the connection before.
pub(super) fn was_used(connected: &Connected) -> bool {
    let mut extras = http::Extensions::new();
    connected.get_extras(&mut extras);
    extras.get::<Uses>().is_some_and(|uses| uses.0.load(Ordering::Relaxed) > 0)
}

impl Uses {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl OriginStream {
    fn new(io: impl Io + 'static, is_h2: bool) -> OriginStream {
        OriginStream { io: Box::new(io), uses: Uses::default(), is_h2 }
    }
}

impl Connection for OriginStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.uses.clone());
        if self.is_h2 { connected.negotiated_h2() } else { connected }
    }
}

impl AsyncRead for OriginStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for OriginStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(feature = "tls")]
mod tls {
    //! TLS to the origin: the system's certificate authorities, and those of a file.

    use super::super::Options;
    use rustls::ClientConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls_platform_verifier::Verifier;
    use std::io;
    use std::sync::Arc;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    pub(super) struct Client {
        connector: TlsConnector,
        name: ServerName<'static>,
    }

    impl Client {
        pub(super) fn new(host: &str, options: &Options) -> io::Result<Client> {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let mut further = Vec::new();
            if let Some(file) = &options.ca_file {
                let in_file = |error: rustls::pki_types::pem::Error| io::Error::other(format!("{}: {error}", file.display()));
                for certificate in CertificateDer::pem_file_iter(file).map_err(in_file)? {
                    further.push(certificate.map_err(in_file)?);
                }
                if further.is_empty() {
                    return Err(io::Error::other(format!("{}: there is no certificate in it", file.display())));
                }
            }
            let provider = Arc::new(aws_lc_rs::default_provider());
            let verifier = Verifier::new_with_extra_roots(further, provider.clone()).map_err(io::Error::other)?;
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth();
            config.alpn_protocols = match options.http2 {
                true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                false => vec![b"http/1.1".to_vec()],
            };
            Ok(Client { connector: TlsConnector::from(Arc::new(config)), name })
        }

        pub(super) async fn connect(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, bool)> {
            let stream = self.connector.connect(self.name.clone(), tcp).await?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((stream, is_h2))
        }
    }
}

//! TLS towards clients: what a listener shows of itself, and what it asks of clients.
//!
//! Certificates and keys are read when the process starts and at each reload, all at once; connections that are open go on with what
//! they have begun with.

use std::io;
use std::path::{Path, PathBuf};

/// The files of a listener's TLS, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the listener, and those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of the first one.
    pub key: PathBuf,
    /// The authorities of which every client must show a certificate; without it, none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// A file that is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{key} {}: {source}", .file.display())]
pub struct TlsError {
    /// The key of the configuration that names it.
    pub key: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub source: io::Error,
}

impl TlsError {
    fn of<E: Into<Box<dyn std::error::Error + Send + Sync>>>(key: &'static str, file: &Path) -> impl Fn(E) -> TlsError {
        move |error| TlsError { key, file: file.to_owned(), source: io::Error::other(error) }
    }
}

/// What makes connections of TLS out of those of TCP.
#[derive(Clone)]
pub struct Acceptor {
    #[cfg(feature = "tls")]
    inner: tokio_rustls::TlsAcceptor,
    /// Where there is no TLS, there is none of these.
    #[cfg(not(feature = "tls"))]
    pub(super) never: std::convert::Infallible,
}

#[cfg(not(feature = "tls"))]
impl Acceptor {
    /// Says that there is none.
    pub fn load(files: &TlsFiles) -> Result<Acceptor, TlsError> {
        Err(TlsError::of("certificate_file", &files.certificate)("this build has no TLS"))
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use super::{Acceptor, TlsError, TlsFiles};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
    use rustls::{RootCertStore, ServerConfig};
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::net::TcpStream;
    use tokio_rustls::server::TlsStream;

    impl Acceptor {
        /// Reads the files.
        pub fn load(files: &TlsFiles) -> Result<Acceptor, TlsError> {
            let chain = certificates("certificate_file", &files.certificate)?;
            let key = PrivateKeyDer::from_pem_file(&files.key).map_err(TlsError::of("key_file", &files.key))?;
            let provider = Arc::new(aws_lc_rs::default_provider());
            // TLS 1.2 and 1.3: there is nothing older in this library.
            let builder = ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("the provider has the cipher suites of these versions");
            let builder = match &files.client_ca {
                None => builder.with_no_client_auth(),
                Some(file) => {
                    let mut roots = RootCertStore::empty();
                    for authority in certificates("client_ca_file", file)? {
                        roots.add(authority).map_err(TlsError::of("client_ca_file", file))?;
                    }
                    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                    builder.with_client_cert_verifier(verifier.map_err(TlsError::of("client_ca_file", file))?)
                }
            };
            let mut config = builder.with_single_cert(chain, key).map_err(TlsError::of("key_file", &files.key))?;
            config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
            if files.client_ca.is_some() {
                // A session that is taken up again would outlive the certificate that it began with.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            Ok(Acceptor { inner: Arc::new(config).into() })
        }

        /// Shakes hands.
        pub(in super::super) async fn accept(self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
            self.inner.accept(tcp).await
        }
    }

    fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read = CertificateDer::pem_file_iter(file).map_err(TlsError::of(key, file))?;
        let read: Vec<_> = read.collect::<Result<_, _>>().map_err(TlsError::of(key, file))?;
        match read.is_empty() {
            true => Err(TlsError::of(key, file)("there is no certificate in it")),
            false => Ok(read),
        }
    }

    /// The names of the protocols (RFC 7301 §6, RFC 9113 §3.2), the one that is liked better first.
    pub(in super::super) const H2: &[u8] = b"h2";
    const HTTP1: &[u8] = b"http/1.1";
}

#[cfg(feature = "tls")]
pub(super) use with_tls::H2;

//! Certificates, the authority that signs them, and clients that speak TLS.

use super::{Got, RawConnection, Streaming, soon};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sidecache::origin::ClientCertificate;
use sidecache::server::TlsFiles;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A certificate for a name, its key, and the certificate of the authority that signed it, all as files.
pub struct Certified {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

impl Certified {
    pub fn new(name: &str, directory: &Path) -> Certified {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // Who has the name of his issuer has signed his own certificate, to OpenSSL.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &authority).unwrap();
        let written = |file: &str, pem: String| {
            let path = directory.join(file);
            std::fs::write(&path, pem).unwrap();
            path
        };
        Certified {
            certificate: written("certificate.pem", certificate.pem()),
            key: written("key.pem", key.serialize_pem()),
            authority: written("authority.pem", authority.pem()),
        }
    }

    /// The files of a listener that shows it.
    pub fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.certificate.clone(), key: self.key.clone(), client_ca: None }
    }

    /// Takes the place of another one, each file at once, as who cares about readers does.
    pub fn replace(&self, other: &Certified) {
        for (new, old) in [(&self.certificate, &other.certificate), (&self.key, &other.key), (&self.authority, &other.authority)]
        {
            let beside = old.with_extension("new");
            std::fs::copy(new, &beside).unwrap();
            std::fs::rename(beside, old).unwrap();
        }
    }

    /// A client that trusts its authority, for the name `localhost`.
    pub fn client(&self) -> SecureClient {
        SecureClient { authorities: vec![self.authority.clone()], own: None, protocols: vec!["http/1.1"], versions: ALL_VERSIONS }
    }

    /// The same, as what is shown to an origin.
    pub fn shown(&self) -> ClientCertificate {
        ClientCertificate { certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// What makes a server of it that demands a certificate of an authority.
    pub fn demanding(&self, authority: &Path) -> TlsAcceptor {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&self.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&self.key).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// What makes a server of it.
    pub fn acceptor(&self) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(&self.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct SecureClient {
    authorities: Vec<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
    protocols: Vec<&'static str>,
    versions: &'static [&'static SupportedProtocolVersion],
}

/// A connection of such a client, on which it asks one thing after the other.
pub enum Secure {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl SecureClient {
    /// Shows this certificate.
    pub fn showing(self, own: &Certified) -> SecureClient {
        SecureClient { own: Some((own.certificate.clone(), own.key.clone())), ..self }
    }

    /// Trusts the authority of this one, too.
    pub fn trusting(mut self, other: &Certified) -> SecureClient {
        self.authorities.push(other.authority.clone());
        self
    }

    /// Offers these protocols.
    pub fn offering(self, protocols: &[&'static str]) -> SecureClient {
        SecureClient { protocols: protocols.to_vec(), ..self }
    }

    /// Speaks this version of TLS alone.
    pub fn version(self, version: &'static [&'static SupportedProtocolVersion]) -> SecureClient {
        SecureClient { versions: version, ..self }
    }

    /// Shakes hands.
    pub async fn stream(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        self.authorities.iter().for_each(|file| roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap());
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(self.versions).unwrap().with_root_certificates(roots);
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let tcp = TcpStream::connect(address).await?;
        soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
    }

    /// The same, for octets as the test writes them.
    pub async fn raw(&self, address: SocketAddr) -> RawConnection<TlsStream<TcpStream>> {
        RawConnection::of(self.stream(address).await.unwrap())
    }

    /// Connects, to speak the protocol that was agreed on.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<Secure> {
        let stream = self.stream(address).await?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        match is_h2 {
            true => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Ok(Secure::Http2(sender))
            }
            false => {
                let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Ok(Secure::Http1(sender))
            }
        }
    }

    /// Asks over a connection of its own; the error is that of a connection that came to nothing.
    pub async fn get(&self, address: SocketAddr, target: &str) -> Result<Got, String> {
        self.connect(address).await.map_err(|error| error.to_string())?.get(target).await
    }
}

impl Secure {
    pub async fn get(&mut self, target: &str) -> Result<Got, String> {
        self.ask("GET", target, "").await
    }

    pub async fn ask(&mut self, method: &str, target: &str, body: impl Into<Bytes>) -> Result<Got, String> {
        let request = Request::builder().method(method).header("host", "localhost");
        let body = Full::new(body.into());
        let response = match self {
            Secure::Http1(sender) => sender.send_request(request.uri(target).body(body).unwrap()).await,
            Secure::Http2(sender) => {
                let mut request = request.uri(format!("https://localhost{target}")).body(body).unwrap();
                request.headers_mut().remove("host");
                sender.send_request(request).await
            }
        };
        Ok(Streaming::of(response.map_err(|error| format!("{error:?}"))?).whole().await)
    }
}

static ALL_VERSIONS: &[&SupportedProtocolVersion] = tokio_rustls::rustls::ALL_VERSIONS;

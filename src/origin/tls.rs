//! TLS as the one who connects: whom to trust, and what to show.

use std::path::PathBuf;

/// The files of a certificate that is shown to whom we connect to, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of the first one.
    pub key: PathBuf,
}

#[cfg(feature = "tls")]
pub use with_tls::{pinning, trusting};

#[cfg(feature = "tls")]
pub(super) use with_tls::Client;

#[cfg(feature = "tls")]
mod with_tls {
    use super::super::Options;
    use super::ClientCertificate;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
    use rustls_platform_verifier::Verifier;
    use std::error::Error;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    /// TLS that trusts the authorities of the system and of a file, and shows a certificate, if there is one.
    pub fn trusting(ca_file: Option<&Path>, shown: Option<&ClientCertificate>) -> io::Result<ClientConfig> {
        let further = ca_file.map(certificates).transpose()?.unwrap_or_default();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(further, provider.clone()).map_err(io::Error::other)?;
        client(Arc::new(verifier), provider, shown)
    }

    /// TLS with the one who has the first certificate of a file, and its key, under whatever name.
    pub fn pinning(certificate: &Path, shown: Option<&ClientCertificate>) -> io::Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let expected = certificates(certificate)?.swap_remove(0);
        client(Arc::new(Pinned { expected, provider: provider.clone() }), provider, shown)
    }

    fn client(
        verifier: Arc<dyn ServerCertVerifier>,
        provider: Arc<CryptoProvider>,
        shown: Option<&ClientCertificate>,
    ) -> io::Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match shown {
            None => Ok(builder.with_no_client_auth()),
            Some(ClientCertificate { certificate, key }) => {
                let chain = certificates(certificate)?;
                let read = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, error))?;
                builder.with_client_auth_cert(chain, read).map_err(|error| of(key, error))
            }
        }
    }

    /// Trusts one certificate and no other. That whoever shows it has its key is checked as ever.
    #[derive(Debug)]
    struct Pinned {
        expected: CertificateDer<'static>,
        provider: Arc<CryptoProvider>,
    }

    impl ServerCertVerifier for Pinned {
        fn verify_server_cert(
            &self,
            shown: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            match *shown == self.expected {
                true => Ok(ServerCertVerified::assertion()),
                false => Err(rustls::Error::General("it shows another certificate than the configuration names".to_owned())),
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    }

    fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
        let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|error| of(file, error))?;
        if read.is_empty() { Err(of(file, "there is no certificate in it")) } else { Ok(read) }
    }

    fn of(file: &Path, error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
        io::Error::other(format!("{}: {}", file.display(), error.into()))
    }

    /// TLS to one host.
    pub(in super::super) struct Client {
        connector: TlsConnector,
        name: ServerName<'static>,
    }

    impl Client {
        pub(in super::super) fn new(host: &str, options: &Options) -> io::Result<Client> {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let mut config = trusting(options.ca_file.as_deref(), options.client_certificate.as_ref())?;
            config.alpn_protocols = match options.http2 {
                true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
                false => vec![b"http/1.1".to_vec()],
            };
            Ok(Client { connector: TlsConnector::from(Arc::new(config)), name })
        }

        pub(in super::super) async fn connect(&self, tcp: TcpStream) -> io::Result<(TlsStream<TcpStream>, bool)> {
            let stream = self.connector.connect(self.name.clone(), tcp).await?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((stream, is_h2))
        }
    }
}

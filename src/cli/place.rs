//! Where a running sidecache is asked, and the way to it: plain, or over TLS.
//!
//! Who asks where the configuration says is on the machine of the one that is asked, or in its container, and reaches it by an address
//! that no certificate names. So the certificate must be the very one that the configuration names, and its owner must have the key.
//! Whoever names a URL gets what a browser does: an authority must vouch for the name.

use crate::config::{self, Config, Sources};
use crate::origin::ClientCertificate;
use http::Uri;
use http::uri::Authority;
use std::cmp::Reverse;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Which sidecache is meant.
#[derive(clap::Args)]
pub(super) struct Where {
    /// The admin listener of the running sidecache: `http://host:port` or `https://host:port` [default: where the configuration says that it listens].
    #[arg(long, alias = "admin-url", value_name = "URL")]
    admin: Option<String>,

    #[command(flatten)]
    trust: Trust,
}

/// Whom to trust over TLS, and what to show.
#[derive(clap::Args, Default)]
pub(super) struct Trust {
    /// For an https URL: trust these authorities, beside those of the system; a PEM file.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Show this certificate to a listener that asks for one; a PEM file.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,

    /// Its private key; a PEM file.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

/// Where it is.
pub(super) struct Place {
    /// `host:port`.
    pub(super) authority: Authority,
    security: Option<Security>,
}

#[cfg(feature = "tls")]
type Security = tls::Security;

/// Where there is no TLS, there is none of these.
#[cfg(not(feature = "tls"))]
type Security = std::convert::Infallible;

/// A way there.
pub(super) trait Way: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Way for T {}

/// The configuration of whoever asks, which is that of the one that is asked where nobody says otherwise.
pub(super) fn configuration(sources: &Sources) -> Result<Config, String> {
    config::load(sources)
        .map_err(|problems| format!("the configuration has problems ({}); `sidecache check` shows them", problems.count()))
}

/// Of the tokens that the configuration has, the one that may do most; of several, that of `ADMIN_TOKEN` goes first.
pub(super) fn token(config: &Config) -> Option<String> {
    config.admin.tokens.iter().min_by_key(|token| Reverse(token.role)).map(|token| token.value.clone())
}

impl Where {
    /// The place that is meant.
    pub(super) fn find(&self, config: &Config) -> Result<Place, String> {
        match &self.admin {
            Some(url) => Ok(Place::of_url(url, &self.trust)?.0),
            None => Place::of(config, &self.trust, "--admin"),
        }
    }
}

impl Place {
    /// Where a URL points, and the path that it names.
    pub(super) fn of_url(url: &str, trust: &Trust) -> Result<(Place, String), String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        let security = |host: &str| trust.security(host).map(Some).map_err(|error| format!("{url}: {error}"));
        let (authority, port, security) = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => (authority, 80, None),
            (Some("https"), Some(authority)) => (authority, 443, security(authority.host())?),
            _ => return Err(format!("{url:?} is not of the form http://host:port or https://host:port")),
        };
        let authority = match authority.port() {
            Some(_) => authority.clone(),
            None => format!("{authority}:{port}").parse().expect("a host and a port are an authority"),
        };
        let path = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok((Place { authority, security }, path))
    }

    /// Where the configuration says that the admin endpoints are; `flag` names another place.
    pub(super) fn of(config: &Config, trust: &Trust, flag: &str) -> Result<Place, String> {
        let (address, files, section) = match (config.admin.listen, config.admin.on_proxy_port) {
            (Some(listen), _) => (listen, &config.admin_tls, "[admin.tls]"),
            (None, true) => (config.server.listen, &config.server.tls, "[server.tls]"),
            (None, false) => return Err(format!("[admin] listen is \"off\" and on_proxy_port is not set; say {flag}")),
        };
        let security = match files {
            None => None,
            Some(files) if files.client_ca.is_some() && trust.client_certificate.is_none() => {
                let missing = "asks for certificates of clients; say --client-certificate and --client-key";
                return Err(format!("{section} client_ca_file {missing}"));
            }
            Some(files) => Some(trust.security_of_own(files).map_err(|error| format!("{section} {error}"))?),
        };
        let authority = reachable(address).to_string().parse().expect("an address is an authority");
        Ok(Place { authority, security })
    }

    /// How it is shown to people.
    pub(super) fn url(&self) -> String {
        let scheme = if self.security.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// Goes there.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Way>> {
        let tcp = TcpStream::connect(self.authority.as_str()).await?;
        match &self.security {
            None => Ok(Box::new(tcp)),
            #[cfg(feature = "tls")]
            Some(security) => Ok(Box::new(security.connect(tcp).await?)),
            #[cfg(not(feature = "tls"))]
            Some(never) => match *never {},
        }
    }
}

/// An address that listens everywhere is asked over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

impl Trust {
    fn shown(&self) -> Option<ClientCertificate> {
        let (certificate, key) = self.client_certificate.clone().zip(self.client_key.clone())?;
        Some(ClientCertificate { certificate, key })
    }
}

#[cfg(not(feature = "tls"))]
impl Trust {
    fn security(&self, _: &str) -> Result<Security, String> {
        Err(format!("this build has no TLS{}", self.shown().map_or("", |_| ", and no use for certificates")))
    }

    fn security_of_own(&self, _: &crate::server::TlsFiles) -> Result<Security, String> {
        self.security("")
    }
}

#[cfg(feature = "tls")]
mod tls {
    use super::Trust;
    use crate::origin::tls::{pinning, trusting};
    use crate::server::TlsFiles;
    use rustls::ClientConfig;
    use rustls::pki_types::ServerName;
    use std::io;
    use std::sync::Arc;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    /// How TLS is spoken, with whom.
    pub(in super::super) struct Security {
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    }

    impl Security {
        pub(super) async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
            TlsConnector::from(self.config.clone()).connect(self.name.clone(), tcp).await
        }
    }

    impl Trust {
        /// With whoever can show that it is this host.
        pub(super) fn security(&self, host: &str) -> Result<Security, String> {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
            let config = trusting(self.ca_file.as_deref(), self.shown().as_ref()).map_err(|error| error.to_string())?;
            Ok(Security { config: Arc::new(config), name })
        }

        /// With the one that has this certificate, and its key.
        pub(super) fn security_of_own(&self, files: &TlsFiles) -> Result<Security, String> {
            let config = pinning(&files.certificate, self.shown().as_ref()).map_err(|error| error.to_string())?;
            // The certificate is known, so that the name says nothing.
            Ok(Security { config: Arc::new(config), name: ServerName::try_from("localhost").expect("a name of DNS") })
        }
    }
}

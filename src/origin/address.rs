//! Where the origin is: `http://host:port`, `https://host`, `unix:/path/to/socket`.

use http::Uri;
use http::uri::{Authority, Scheme};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The origin's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Plain HTTP over TCP.
    Http(Authority),
    /// HTTP over TLS.
    Https(Authority),
    /// Plain HTTP over a Unix socket.
    Unix(PathBuf),
}

/// The addresses at which the one service answers; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<Address>);

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no URL at all.
    #[error("`{0}` is not a URL; write `http://host:port`, `https://host` or `unix:/path/to/socket`")]
    NotAUrl(String),
    /// Another scheme.
    #[error("the scheme is `http`, `https` or `unix`, not `{0}`")]
    Scheme(String),
    /// A path, a query or user information, which a request to the origin would not carry.
    #[error("only scheme, host and port: requests keep their own path, so `{0}` has no place here")]
    Surplus(String),
    /// The build has no TLS.
    #[error("this build has no TLS (the feature `tls` is off)")]
    NoTls,
}

impl Address {
    /// What a request's `Host` is when the client sent none, and where HTTP/2 and TLS believe to be.
    pub fn authority(&self) -> Authority {
        match self {
            Address::Http(authority) | Address::Https(authority) => authority.clone(),
            Address::Unix(_) => Authority::from_static("localhost"),
        }
    }
}

impl Addresses {
    /// `None` if there is none.
    pub fn new(addresses: Vec<Address>) -> Option<Addresses> {
        (!addresses.is_empty()).then_some(Addresses(addresses))
    }

    /// Each of them, in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &Address> {
        self.0.iter()
    }
}

impl Default for Address {
    fn default() -> Address {
        Address::Http(Authority::from_static("127.0.0.1:8000"))
    }
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses::from(Address::default())
    }
}

impl From<Address> for Addresses {
    fn from(address: Address) -> Addresses {
        Addresses(vec![address])
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Http(authority) => write!(f, "http://{authority}"),
            Address::Https(authority) => write!(f, "https://{authority}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(written: &str) -> Result<Address, AddressError> {
        if let Some(path) = written.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Address::Unix(PathBuf::from(path))),
                false => Err(AddressError::NotAUrl(written.to_owned())),
            };
        }
        let not_a_url = || AddressError::NotAUrl(written.to_owned());
        let uri: Uri = written.parse().map_err(|_| not_a_url())?;
        let scheme = uri.scheme().ok_or_else(not_a_url)?.clone();
        let authority = uri.authority().ok_or_else(not_a_url)?.clone();
        if let Some(rest) = uri.path_and_query().map(|p| p.as_str()).filter(|p| !matches!(*p, "" | "/")) {
            return Err(AddressError::Surplus(rest.to_owned()));
        }
        if authority.as_str().contains('@') {
            return Err(AddressError::Surplus("user information".to_owned()));
        }
        match scheme {
            scheme if scheme == Scheme::HTTP => Ok(Address::Http(authority)),
            scheme if scheme == Scheme::HTTPS && !cfg!(feature = "tls") => Err(AddressError::NoTls),
            scheme if scheme == Scheme::HTTPS => Ok(Address::Https(authority)),
            other => Err(AddressError::Scheme(other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for written in ["http://127.0.0.1:8000", "http://backend", "https://api.example:8443", "unix:/run/app.sock"] {
            assert_eq!(written.parse::<Address>().unwrap().to_string(), written);
        }
        assert_eq!("http://backend/".parse::<Address>().unwrap().to_string(), "http://backend");
        assert_eq!("unix:///run/app.sock".parse::<Address>().unwrap().to_string(), "unix:/run/app.sock");
    }

    #[test]
    fn an_address_that_cannot_be_meant_is_an_error() {
        let check = |written: &str, expected: AddressError| assert_eq!(written.parse::<Address>(), Err(expected));
        check("backend", AddressError::NotAUrl("backend".into()));
        check("", AddressError::NotAUrl("".into()));
        check("unix:app.sock", AddressError::NotAUrl("unix:app.sock".into()));
        check("ftp://backend", AddressError::Scheme("ftp".into()));
        check("http://backend/v1", AddressError::Surplus("/v1".into()));
        check("http://u:p@backend", AddressError::Surplus("user information".into()));
    }
}

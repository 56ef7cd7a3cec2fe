//! Addresses: what to listen on, where the origin and Redis are, which peers are trusted.

use super::problem::redact_urls;
use super::raw::{Kind, Value};
use super::reader::Parsed;
use super::values::{list, quote};
use crate::origin::{Address, AddressError, Addresses};
use crate::store;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address to listen on: `127.0.0.1:8080`, `[::]:8080`; `:8080` and `8080` are all addresses of the machine.
pub(super) fn listen(value: &Value) -> Parsed<SocketAddr> {
    let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    match &value.kind {
        Kind::Integer(port) => u16::try_from(*port)
            .map(everywhere)
            .map_err(|_| value.fault(format!("{port} is not a port; ports go from 0 to 65535"))),
        Kind::Text(text) | Kind::String(text) => {
            let port = text.strip_prefix(':').unwrap_or(text);
            let is_port = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
            let read = if is_port { port.parse().ok().map(everywhere) } else { text.parse().ok() };
            read.ok_or_else(|| value.fault(format!("{} is not an address to listen on; write {LISTEN}", quote(text))))
        }
        _ => Err(value.not(&format!("an address in quotes: {LISTEN}"))),
    }
}

/// The same, or `"off"`.
pub(super) fn listen_or_off(value: &Value) -> Parsed<Option<SocketAddr>> {
    match value.as_str() {
        Some(OFF) => Ok(None),
        _ => listen(value).map(Some),
    }
}

/// Whether two listeners would be in each other's way.
pub(super) fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all == one || all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}

/// Whether an address of the origin is, as far as can be told, the one at which sidecache itself listens.
pub(super) fn leads_back(address: &Address, listen: SocketAddr) -> bool {
    let (authority, usual_port) = match address {
        Address::Http(authority) => (authority, 80),
        Address::Https(authority) => (authority, 443),
        Address::Unix(_) => return false,
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if host.eq_ignore_ascii_case("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => return false,
    };
    // Behind another address of a machine there may be another one.
    let is_here = ip.is_loopback() || ip.is_unspecified() || ip == listen.ip();
    is_here && meet(SocketAddr::new(ip, authority.port_u16().unwrap_or(usual_port)), listen)
}

/// Where the origin is: one address, or a list of them.
pub(super) fn origins(value: &Value) -> Parsed<Addresses> {
    let addresses = match &value.kind {
        Kind::Array(_) | Kind::Text(_) => list(origin)(value)?,
        _ => vec![origin(value)?],
    };
    if let Some((_, twice)) = addresses.iter().enumerate().find(|(index, address)| addresses[..*index].contains(address)) {
        return Err(value.fault(format!("`{twice}` stands twice")));
    }
    Addresses::new(addresses).ok_or_else(|| value.fault("names no address; requests would have nowhere to go"))
}

fn origin(value: &Value) -> Parsed<Address> {
    let Some(written) = value.as_str() else {
        return Err(value.not("a URL in quotes: \"http://host:port\", \"https://host\" or \"unix:/path/to/socket\""));
    };
    written.parse().map_err(|error: AddressError| value.fault(redact_urls(&error.to_string())))
}

/// Where Redis is; `"off"` is nowhere.
pub(super) fn redis_url(value: &Value) -> Parsed<Option<String>> {
    let Some(written) = value.as_str() else {
        return Err(value.not(&format!("a URL in quotes: {REDIS}")));
    };
    if written == OFF {
        return Ok(None);
    }
    match store::check_redis_url(written) {
        Ok(()) => Ok(Some(written.to_owned())),
        Err(error) => {
            // The client's errors end in the name of their kind, which says nothing to who wrote the URL.
            let why = error.split(" - ").next().unwrap_or(&error);
            Err(value.fault(format!("{} cannot be used: {why}; write {REDIS}, or \"off\"", quote(written))))
        }
    }
}

/// An address, or a network such as `10.0.0.0/8`.
pub(super) fn network(value: &Value) -> Parsed<IpNet> {
    let Some(written) = value.as_str() else {
        return Err(value.not(&format!("an address or a network in quotes: {NETWORKS}")));
    };
    let read = written.parse::<IpAddr>().map(IpNet::from).ok().or_else(|| written.parse().ok());
    read.ok_or_else(|| value.fault(format!("{} is neither an address nor a network, such as {NETWORKS}", quote(written))))
}

/// What is written for "none".
const OFF: &str = "off";

const LISTEN: &str = r#""0.0.0.0:8080", "[::]:8080" or ":8080""#;
const NETWORKS: &str = r#""10.0.0.7", "10.0.0.0/8", "fd00::/8""#;
const REDIS: &str = "\"redis://host:6379/0\", \"rediss://user:password@host:6379\" (TLS), \"unix:/path/to/socket\", \
    \"redis+sentinel://host,host/name/0\" or \"redis+cluster://host,host\"";

//! Where Redis is, as a URL says it: at an address, wherever sentinels say that the master is, or on the masters of a cluster.

use http::uri::Authority;
use redis::{Client, ConnectionAddr, ConnectionInfo, RedisError};
use std::fmt;

/// Where Redis is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// At an address.
    Fixed(ConnectionInfo),
    /// Wherever these say.
    Named(Sentinels),
    /// On a cluster to which these belong.
    Cluster(Vec<ConnectionInfo>),
}

/// Who knows where a master is.
#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    pub(super) each: Vec<ConnectionInfo>,
    /// What they call the master.
    pub(super) name: String,
    /// How to speak to the master, but for its address.
    pub(super) master: ConnectionInfo,
}

impl Place {
    /// Reads a URL; or says what is wrong with it, without its credentials.
    pub(super) fn read(url: &str) -> Result<Place, String> {
        let scheme = url.split("://").next().unwrap_or_default();
        let (plain, kind) = match scheme.split_once('+') {
            Some(("redis" | "valkey", kind @ ("sentinel" | "cluster"))) => ("redis", kind),
            Some(("rediss" | "valkeys", kind @ ("sentinel" | "cluster"))) => ("rediss", kind),
            _ => (scheme, ""),
        };
        if matches!(plain, "rediss" | "valkeys") && !cfg!(feature = "tls") {
            return Err("this build has no TLS (the feature `tls` is off)".to_owned());
        }
        let rest = url.get(scheme.len() + "://".len()..).unwrap_or_default();
        // The library takes it for a wish not to look at certificates.
        if url.contains('#') {
            return Err("behind a `#` nothing is read; of a password it is a part as `%23`".to_owned());
        }
        match kind {
            "sentinel" => Sentinels::read(plain, rest).map(Place::Named),
            "cluster" => nodes(plain, rest).map(Place::Cluster),
            _ => opened(url).map(Place::Fixed),
        }
    }
}

impl Place {
    /// All that says how somebody is spoken to.
    #[cfg(feature = "tls")]
    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut ConnectionInfo> {
        let (each, master) = match self {
            Place::Fixed(info) => (std::slice::from_mut(info), None),
            Place::Named(sentinels) => (sentinels.each.as_mut_slice(), Some(&mut sentinels.master)),
            Place::Cluster(nodes) => (nodes.as_mut_slice(), None),
        };
        each.iter_mut().chain(master)
    }
}

impl fmt::Display for Place {
    /// Shows where it is, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Fixed(info) => info.addr().fmt(f),
            Place::Named(Sentinels { each, name, .. }) => {
                write!(f, "{name}, which the sentinels at {} know", listed(each.iter().map(ConnectionInfo::addr)))
            }
            Place::Cluster(nodes) => write!(f, "the cluster of {}", listed(nodes.iter().map(ConnectionInfo::addr))),
        }
    }
}

impl Sentinels {
    /// Reads `user:password@host:port,host:port/name/database?sentinel_user=…&sentinel_pass=…`.
    fn read(scheme: &str, rest: &str) -> Result<Sentinels, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, hosts, path) = divided(rest)?;
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() || !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet)) {
            return Err("the name of the master does not stand behind the sentinels".to_owned());
        }
        let (mut user, mut password) = ("", "");
        for said in query.split('&').filter(|said| !said.is_empty()) {
            match said.split_once('=') {
                Some(("sentinel_user", said)) => user = said,
                Some(("sentinel_pass", said)) => password = said,
                _ => return Err("behind the `?` may stand `sentinel_user` and `sentinel_pass`".to_owned()),
            }
        }
        if password.is_empty() && !user.is_empty() {
            return Err("`sentinel_user` stands without `sentinel_pass`".to_owned());
        }
        let sentinel_login = if password.is_empty() { String::new() } else { format!("{user}:{password}@") };
        Ok(Sentinels {
            each: all(scheme, &sentinel_login, hosts, SENTINEL_PORT).ok_or("one of the sentinels is no host with a port")?,
            name: name.to_owned(),
            master: opened(&format!("{scheme}://{login}{MASTER}/{database}"))?,
        })
    }
}

/// `user:password@host,host/path`, divided at its signs.
fn divided(rest: &str) -> Result<(String, &str, &str), String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match authority.split_once('@') {
        // Whoever means it as a part of the password writes `%40`.
        Some((_, hosts)) if hosts.contains('@') => Err("user and password stand once, before the first host".to_owned()),
        Some((login, hosts)) => Ok((format!("{login}@"), hosts, path)),
        None => Ok((String::new(), authority, path)),
    }
}

/// The nodes of a cluster: `user:password@host:port,host:port`.
fn nodes(scheme: &str, rest: &str) -> Result<Vec<ConnectionInfo>, String> {
    let (login, hosts, path) = divided(rest)?;
    match path {
        "" | "0" => all(scheme, &login, hosts, NODE_PORT).ok_or_else(|| "one of the nodes is no host with a port".to_owned()),
        _ => Err("a cluster has no databases, so nothing stands behind the nodes".to_owned()),
    }
}

/// Several hosts, with commas between them. `None` if one of them is none.
fn all(scheme: &str, login: &str, hosts: &str, usual_port: u16) -> Option<Vec<ConnectionInfo>> {
    let each = hosts.split(',').map(|host| {
        let port = if host.parse::<Authority>().ok()?.port().is_none() { format!(":{usual_port}") } else { String::new() };
        opened(&format!("{scheme}://{login}{host}{port}")).ok()
    });
    each.collect()
}

/// Addresses, one after the other.
pub(super) fn listed<'a>(addresses: impl Iterator<Item = &'a ConnectionAddr>) -> String {
    addresses.map(ConnectionAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// What a URL of one server says.
pub(super) fn opened(url: &str) -> Result<ConnectionInfo, String> {
    let opened = Client::open(url).map_err(|error: RedisError| super::describe(&error))?;
    Ok(opened.get_connection_info().clone())
}

/// Where sentinels and nodes are, if nothing else is said.
const SENTINEL_PORT: u16 = 26379;
const NODE_PORT: u16 = 6379;

/// What stands for the master before it is known.
const MASTER: &str = "master";

#[cfg(test)]
mod tests {
    use super::super::search::at;
    use super::*;

    fn sentinels(url: &str) -> Sentinels {
        match Place::read(url) {
            Ok(Place::Named(sentinels)) => sentinels,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn a_url_of_sentinels_says_who_they_are_and_what_they_call_the_master() {
        let all = sentinels("redis+sentinel://u:p%40@one,two:5000,[::1]:26380/my-master/3?sentinel_user=s&sentinel_pass=q%2F");
        assert_eq!(all.name, "my-master");
        let addresses: Vec<String> = all.each.iter().map(|sentinel| sentinel.addr().to_string()).collect();
        assert_eq!(addresses, ["one:26379", "two:5000", "::1:26380"]);
        for sentinel in &all.each {
            let settings = sentinel.redis_settings();
            assert_eq!((settings.username(), settings.password(), settings.db()), (Some("s"), Some("q/"), 0));
        }
        assert_eq!(at(&all.master, "10.0.0.7".to_owned(), 6380), ConnectionAddr::Tcp("10.0.0.7".to_owned(), 6380));
        let settings = all.master.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("u"), Some("p@"), 3));
        let plain = sentinels("valkey+sentinel://s/m");
        assert_eq!(plain.each[0].redis_settings().password(), None);
        assert_eq!(plain.master.redis_settings().db(), 0);
        let shown = Place::Named(all).to_string();
        assert_eq!(shown, "my-master, which the sentinels at one:26379, two:5000, ::1:26380 know");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn with_tls_both_the_sentinels_and_the_master_are_asked_over_it() {
        let all = sentinels("rediss+sentinel://one/m");
        for address in [all.each[0].addr().clone(), at(&all.master, "10.0.0.7".to_owned(), 6380)] {
            assert!(matches!(address, ConnectionAddr::TcpTls { insecure: false, .. }), "{address}");
        }
    }

    #[test]
    fn a_url_of_a_cluster_names_some_of_its_nodes() {
        let Ok(Place::Cluster(nodes)) = Place::read("redis+cluster://u:p@one,two:7000/") else { panic!("it is one") };
        assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("p")));
        assert_eq!(Place::Cluster(nodes).to_string(), "the cluster of one:6379, two:7000");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_credentials() {
        for (url, why) in [
            ("redis+sentinel://u:secret@one", "the name of the master does not stand behind the sentinels"),
            ("redis+sentinel://u:secret@one/", "the name of the master does not stand behind the sentinels"),
            ("redis+sentinel://u:secret@one/a b", "the name of the master does not stand behind the sentinels"),
            ("redis+sentinel://u:secret@/m", "one of the sentinels is no host with a port"),
            ("redis+sentinel://u:secret@one,/m", "one of the sentinels is no host with a port"),
            ("redis+sentinel://u:secret@one:port/m", "one of the sentinels is no host with a port"),
            ("redis+sentinel://u:secret@one/m/first", "Invalid database number"),
            ("redis+sentinel://one/m?pass=secret", "behind the `?` may stand `sentinel_user` and `sentinel_pass`"),
            ("redis+sentinels://one/m", "URL"),
            ("redis+cluster://u:secret@one,:1", "one of the nodes is no host with a port"),
            ("redis+cluster://u:secret@one,u:secret@two", "user and password stand once, before the first host"),
            ("redis+sentinel://one/m?sentinel_user=secret", "`sentinel_user` stands without `sentinel_pass`"),
            ("redis+cluster://u:secret@one/1", "a cluster has no databases, so nothing stands behind the nodes"),
            ("redis://u:secret@one/#insecure", "behind a `#` nothing is read"),
            ("redis+cluster", "one of the nodes is no host with a port"),
            ("", "URL"),
        ] {
            let error = Place::read(url).map(|place| place.to_string()).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
    }
}

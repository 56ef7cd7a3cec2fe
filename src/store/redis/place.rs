//! Where Redis is: at an address, wherever sentinels say that the master is, or on the masters of a cluster.
//!
//! Sentinels are asked when a connection is made, and with each sign of life again: a master that was cut off from the others may go on
//! answering for long after they have made another one, and nobody who asks it would hear of what is purged there. What they say has a
//! number, the epoch of the configuration; the newest of their answers counts, since one of them may have been cut off as well. So it is with
//! the nodes of a cluster, which are asked who has which keys.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::uri::Authority;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue, Pipeline, RedisError, RedisResult, Value,
};
use std::collections::HashMap;
use std::time::Duration;
use std::{fmt, io};
use tokio::time::{Instant, timeout_at};

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

/// Where it was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    One(ConnectionAddr),
    /// The masters, in the order of their addresses, each with the first and last of its slots.
    Cluster(Masters),
}

/// Who knows where a master is.
#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    each: Vec<ConnectionInfo>,
    /// What they call the master.
    name: String,
    /// How to speak to the master, but for its address.
    master: ConnectionInfo,
}

/// Who finds out where it is, again and again.
pub(super) struct Search {
    place: Place,
    /// The connections to those who are asked.
    links: Vec<Option<MultiplexedConnection>>,
    /// For how long one of them is waited for.
    limit: Duration,
    /// What was found last.
    before: Option<Found>,
}

/// Masters, each with the first and last of its slots.
type Masters = Vec<(ConnectionAddr, Vec<(u16, u16)>)>;

/// What somebody says, and how much that counts.
type Said = RedisResult<(Rank, Found)>;

/// Whether who said it is in touch with the others, and the epoch of the configuration that he knows.
type Rank = (bool, u64);

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
        match kind {
            "sentinel" => Sentinels::read(plain, rest).map(Place::Named),
            "cluster" => nodes(plain, rest).map(Place::Cluster),
            _ => opened(url).map(Place::Fixed),
        }
    }

    /// Finds out where it is, and waits for each of those who know it for so long.
    pub(super) fn search(self, limit: Duration) -> Search {
        let asked = match &self {
            Place::Fixed(_) => 0,
            Place::Named(sentinels) => sentinels.each.len(),
            Place::Cluster(nodes) => nodes.len(),
        };
        Search { place: self, links: vec![None; asked], limit, before: None }
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

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::One(address) => address.fmt(f),
            Found::Cluster(masters) => f.write_str(&listed(masters.iter().map(|(address, _)| address))),
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

impl Search {
    /// Whether Redis may be somewhere else tomorrow.
    pub(super) fn goes_on(&self) -> bool {
        !matches!(self.place, Place::Fixed(_))
    }

    /// How to speak to a server that was found.
    pub(super) fn server(&self, address: ConnectionAddr) -> ConnectionInfo {
        match &self.place {
            Place::Fixed(info) => info.clone(),
            Place::Named(sentinels) => sentinels.master.clone().set_addr(address),
            Place::Cluster(nodes) => nodes[0].clone().set_addr(address),
        }
    }

    /// Finds it: as the newest answer says, of those that come in time.
    pub(super) async fn found(&mut self) -> RedisResult<Found> {
        let Search { place, links, limit, before } = self;
        let found = match place {
            Place::Fixed(info) => return Ok(Found::One(info.addr().clone())),
            Place::Named(Sentinels { each, name, master }) => {
                let asked = each.iter().zip(links).map(|(sentinel, link)| master_by(sentinel, link, name, master, *limit));
                newest(asked.collect(), *limit, before.as_ref()).await.map_err(|why| format!("no sentinel names a master: {why}"))
            }
            Place::Cluster(nodes) => {
                let asked = nodes.iter().zip(links).map(|(node, link)| masters_by(node, link, *limit));
                newest(asked.collect(), *limit, before.as_ref())
                    .await
                    .map_err(|why| format!("no node says who belongs to the cluster: {why}"))
            }
        };
        let found = found.map_err(io::Error::other)?;
        *before = Some(found.clone());
        Ok(found)
    }
}

/// The answer that counts most, of those that come in time; of several that count alike, what was found before. Or what went wrong last.
async fn newest(
    mut asked: FuturesUnordered<impl Future<Output = Said>>,
    limit: Duration,
    before: Option<&Found>,
) -> Result<Found, String> {
    let (number, mut deadline) = (asked.len(), Instant::now() + limit);
    let (mut answers, mut refused): (Vec<(Rank, Found)>, _) = (Vec::new(), None);
    while let Ok(Some(answer)) = timeout_at(deadline, asked.next()).await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => refused = Some(error),
        }
        // What is newer than all that more than half of them know is seldom, and seen the next time: nobody waits long for the others.
        if answers.len() > number / 2 {
            deadline = deadline.min(Instant::now() + FURTHER);
        }
    }
    let why = || refused.map_or_else(|| "none of them answers".to_owned(), |error| super::describe(&error));
    let most = answers.iter().map(|(rank, _)| *rank).max().ok_or_else(why)?;
    let mut alike = answers.into_iter().filter(|(rank, _)| *rank == most).map(|(_, found)| found);
    let first = alike.next().ok_or("there is none")?;
    Ok(match before {
        Some(before) if alike.any(|found| found == *before) => before.clone(),
        _ => first,
    })
}

/// Where a sentinel says that the master is.
async fn master_by(
    sentinel: &ConnectionInfo,
    link: &mut Option<MultiplexedConnection>,
    name: &str,
    master: &ConnectionInfo,
    limit: Duration,
) -> Said {
    let mut asked = Pipeline::with_capacity(1);
    asked.cmd("SENTINEL").arg("MASTER").arg(name);
    let (said,): (HashMap<String, String>,) = ask(sentinel, link, &asked, limit).await?;
    let number = |name: &str| said.get(name).and_then(|number| number.parse::<u64>().ok());
    let port = number("port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    match (said.get("ip").filter(|host| !host.is_empty()), port) {
        (Some(host), Some(port)) => {
            let epoch = number("config-epoch").unwrap_or_default();
            Ok(((true, epoch), Found::One(at(master, host.clone(), port))))
        }
        _ => Err(io::Error::other("a master without an address").into()),
    }
}

/// Who are the masters of a cluster, as a node says.
async fn masters_by(node: &ConnectionInfo, link: &mut Option<MultiplexedConnection>, limit: Duration) -> Said {
    let mut asked = Pipeline::with_capacity(2);
    asked.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let (info, ranges): (String, Vec<Vec<Value>>) = ask(node, link, &asked, limit).await?;
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let epoch = value("cluster_current_epoch:").and_then(|epoch| epoch.trim_end().parse().ok()).unwrap_or_default();
    let is_well = value("cluster_state:").is_some_and(|state| state.trim_end() == "ok");
    let (mut masters, mut slots) = (Masters::new(), 0);
    for (master, (first, last)) in ranges.iter().filter_map(|range| range_of(node, range)) {
        slots += usize::from(last.saturating_sub(first)) + 1;
        match masters.iter_mut().find(|(address, _)| *address == master) {
            Some((_, all)) => all.push((first, last)),
            None => masters.push((master, vec![(first, last)])),
        }
    }
    if slots != SLOTS || masters.len() > MASTERS_MAX {
        return Err(io::Error::other("the cluster has slots without a master").into());
    }
    masters.iter_mut().for_each(|(_, slots)| slots.sort_unstable());
    masters.sort_by_cached_key(|(address, _)| address.to_string());
    Ok(((is_well, epoch), Found::Cluster(masters)))
}

/// What a node says of a range of slots: who is the master there, and the first and the last of them.
fn range_of(node: &ConnectionInfo, range: &[Value]) -> Option<(ConnectionAddr, (u16, u16))> {
    let number = |value: &Value| u16::try_from(redis::from_redis_value_ref::<i64>(value).ok()?).ok();
    let [first, last, Value::Array(master), ..] = range else { return None };
    let [host, port, ..] = master.as_slice() else { return None };
    let host = redis::from_redis_value_ref::<Option<String>>(host).ok()?.filter(|host| !host.is_empty());
    // A node that does not know its own name means: where you have asked.
    let host = host.or_else(|| match node.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host.clone()),
        _ => None,
    });
    Some((at(node, host?, number(port)?), (number(first)?, number(last)?)))
}

/// Asks somebody, over the connection to him, or a new one.
async fn ask<T: FromRedisValue>(
    whom: &ConnectionInfo,
    link: &mut Option<MultiplexedConnection>,
    what: &Pipeline,
    limit: Duration,
) -> RedisResult<T> {
    let mut asking = match link.take() {
        Some(link) => link,
        None => {
            let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
            // As a rule an account need not be permitted to say the library's name.
            let settings = whom.redis_settings().clone().set_skip_set_lib_name();
            let client = Client::open(whom.clone().set_redis_settings(settings))?;
            client.get_multiplexed_async_connection_with_config(&config).await?
        }
    };
    let answer = what.query_async(&mut asking).await?;
    *link = Some(asking);
    Ok(answer)
}

/// The same server at another address.
fn at(info: &ConnectionInfo, host: String, port: u16) -> ConnectionAddr {
    match info.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls { host, port, insecure, tls_params },
        _ => ConnectionAddr::Tcp(host, port),
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
fn listed<'a>(addresses: impl Iterator<Item = &'a ConnectionAddr>) -> String {
    addresses.map(ConnectionAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// What a URL of one server says.
fn opened(url: &str) -> Result<ConnectionInfo, String> {
    let opened = Client::open(url).map_err(|error: RedisError| super::describe(&error))?;
    Ok(opened.get_connection_info().clone())
}

/// Where sentinels and nodes are, if nothing else is said.
const SENTINEL_PORT: u16 = 26379;
const NODE_PORT: u16 = 6379;

/// So many slots a cluster has, and so many masters at most.
const SLOTS: usize = 16_384;
const MASTERS_MAX: usize = 1000;

/// What stands for the master before it is known.
const MASTER: &str = "master";

/// After more than half of the sentinels have answered, so long the others are waited for.
const FURTHER: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
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
    fn the_masters_are_those_whom_a_node_names() {
        let node = opened("redis://u:p@seed:7000").unwrap();
        let master = |host: Value, port: i64| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let host = |host: &str| Value::BulkString(host.as_bytes().to_vec());
        let range = |first, last, master| range_of(&node, &[Value::Int(first), Value::Int(last), master]);
        let one = ConnectionAddr::Tcp("one".to_owned(), 1);
        assert_eq!(range(0, 9, master(host("one"), 1)), Some((one, (0, 9))));
        let seed = ConnectionAddr::Tcp("seed".to_owned(), 2);
        assert_eq!(range(10, 19, master(host(""), 2)), Some((seed.clone(), (10, 19))));
        assert_eq!(range(10, 19, master(Value::Nil, 2)), Some((seed, (10, 19))));
        assert_eq!(range(0, 99_999, master(host("one"), 1)), None);
        assert_eq!(range_of(&node, &[Value::Int(1)]), None);
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
            ("redis+cluster", "one of the nodes is no host with a port"),
            ("", "URL"),
        ] {
            let error = Place::read(url).map(|place| place.to_string()).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
    }
}

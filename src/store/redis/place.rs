//! Where Redis is: at an address, wherever sentinels say that the master is, or on the masters of a cluster.
//!
//! Sentinels are asked when a connection is made, and with each sign of life again: a master that was cut off from the others may go on
//! answering for long after they have made another one, and nobody who asks it would hear of what is purged there. What they say has a
//! number, the epoch of the configuration; the newest of their answers counts, since one of them may have been cut off as well. A node of a
//! cluster that is cut off from most of the others stops by itself; so any node is asked who has which keys.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::uri::Authority;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, RedisError, RedisResult, Value};
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
    Cluster(Vec<(ConnectionAddr, Vec<(u16, u16)>)>),
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
}

/// What a sentinel says.
struct Answer {
    epoch: u64,
    host: String,
    port: u16,
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
        Search { place: self, links: vec![None; asked], limit }
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
        let (login, hosts, path) = divided(rest);
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
        matches!(self.place, Place::Named(_))
    }

    /// How to speak to a server that was found.
    pub(super) fn server(&self, address: ConnectionAddr) -> ConnectionInfo {
        match &self.place {
            Place::Fixed(info) => info.clone(),
            Place::Named(sentinels) => sentinels.master.clone().set_addr(address),
            Place::Cluster(nodes) => nodes[0].clone().set_addr(address),
        }
    }

    /// Finds it.
    pub(super) async fn found(&mut self) -> RedisResult<Found> {
        let Search { place, links, limit } = self;
        match place {
            Place::Fixed(info) => Ok(Found::One(info.addr().clone())),
            Place::Named(sentinels) => sentinels.master_now(links, *limit).await.map(Found::One),
            Place::Cluster(nodes) => masters(nodes, links, *limit).await.map(Found::Cluster),
        }
    }
}

impl Sentinels {
    /// Where the master is: as the newest of the answers says, of those that come in time.
    async fn master_now(&self, links: &mut [Option<MultiplexedConnection>], limit: Duration) -> RedisResult<ConnectionAddr> {
        let (number, mut deadline) = (links.len(), Instant::now() + limit);
        let asked = self.each.iter().zip(links).map(|(sentinel, link)| ask_for_master(sentinel, link, &self.name, limit));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut answers, mut newest, mut refused) = (0, None::<Answer>, None);
        while let Ok(Some(answer)) = timeout_at(deadline, asked.next()).await {
            match answer {
                Ok(answer) => {
                    answers += 1;
                    if newest.as_ref().is_none_or(|newest| newest.epoch < answer.epoch) {
                        newest = Some(answer);
                    }
                }
                Err(error) => refused = Some(error),
            }
            // More than half of them have made the newest configuration there is: nobody waits long for the others.
            if answers > number / 2 {
                deadline = deadline.min(Instant::now() + FURTHER);
            }
        }
        match newest {
            Some(Answer { host, port, .. }) => Ok(at(&self.master, host, port)),
            None => Err(io::Error::other(format!("no sentinel names a master: {}", why(refused))).into()),
        }
    }
}

/// Asks a sentinel where the master is.
async fn ask_for_master(
    sentinel: &ConnectionInfo,
    link: &mut Option<MultiplexedConnection>,
    name: &str,
    limit: Duration,
) -> RedisResult<Answer> {
    let asked = redis::cmd("SENTINEL").arg("MASTER").arg(name).take();
    let said: HashMap<String, String> = ask(sentinel, link, &asked, limit).await?;
    let number = |name: &str| said.get(name).and_then(|number| number.parse::<u64>().ok());
    let port = number("port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    match (said.get("ip").filter(|host| !host.is_empty()), port) {
        (Some(host), Some(port)) => Ok(Answer { epoch: number("config-epoch").unwrap_or_default(), host: host.clone(), port }),
        _ => Err(io::Error::other("a master without an address").into()),
    }
}

/// The masters of a cluster, as one of these nodes says: another one first each time.
async fn masters(
    nodes: &[ConnectionInfo],
    links: &mut [Option<MultiplexedConnection>],
    limit: Duration,
) -> RedisResult<Vec<(ConnectionAddr, Vec<(u16, u16)>)>> {
    let (first, mut refused) = (fastrand::usize(..nodes.len()), None);
    for turn in (0..nodes.len()).map(|turn| (first + turn) % nodes.len()) {
        let node = &nodes[turn];
        match ask::<Vec<Vec<Value>>>(node, &mut links[turn], redis::cmd("CLUSTER").arg("SLOTS"), limit).await {
            Ok(ranges) => {
                let mut masters: Vec<(ConnectionAddr, Vec<(u16, u16)>)> = Vec::new();
                for (master, slots) in ranges.iter().filter_map(|range| range_of(node, range)) {
                    match masters.iter_mut().find(|(address, _)| *address == master) {
                        Some((_, all)) => all.push(slots),
                        None => masters.push((master, vec![slots])),
                    }
                }
                masters.iter_mut().for_each(|(_, slots)| slots.sort_unstable());
                masters.sort_by_key(|(address, _)| address.to_string());
                return Ok(masters);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(io::Error::other(format!("no node says who belongs to the cluster: {}", why(refused))).into())
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
    what: &Cmd,
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

/// What went wrong last.
fn why(refused: Option<RedisError>) -> String {
    refused.map_or_else(|| "none of them answers".to_owned(), |error| super::describe(&error))
}

/// `user:password@host,host/path`, divided at its signs.
fn divided(rest: &str) -> (String, &str, &str) {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts, path),
        None => (String::new(), authority, path),
    }
}

/// The nodes of a cluster: `user:password@host:port,host:port`.
fn nodes(scheme: &str, rest: &str) -> Result<Vec<ConnectionInfo>, String> {
    let (login, hosts, path) = divided(rest);
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
            ("redis+cluster://u:secret@one/1", "a cluster has no databases, so nothing stands behind the nodes"),
            ("redis+cluster", "one of the nodes is no host with a port"),
            ("", "URL"),
        ] {
            let error = Place::read(url).map(|place| place.to_string()).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
    }
}

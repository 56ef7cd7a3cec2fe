//! Where Redis is found: what sentinels say of the master, and the nodes of a cluster of who has which keys.
//!
//! They are asked when a connection is made, and with each sign of life again: a master that was cut off from the others may go on
//! answering for long after they have made another one, and nobody who asks it would hear of what is purged there. What they say has a
//! number, the epoch of the configuration; the newest of their answers counts, since one of them may have been cut off as well.

use super::certificates;
use super::place::{Place, Sentinels, listed};
use crate::store::RedisOptions;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue, Pipeline, RedisResult, Value};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use std::{fmt, io};
use tokio::time::{Instant, timeout_at};

/// Where it was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    One(ConnectionAddr),
    /// The masters, in the order of their addresses, each with the first and last of its slots.
    Cluster(Masters),
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

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::One(address) => address.fmt(f),
            Found::Cluster(masters) => f.write_str(&listed(masters.iter().map(|(address, _)| address))),
        }
    }
}

impl Search {
    /// Looks for what a place says, and waits for each of those who know it for so long.
    pub(super) fn new(place: Place, limit: Duration) -> Search {
        let asked = match &place {
            Place::Fixed(_) => 0,
            Place::Named(sentinels) => sentinels.each.len(),
            Place::Cluster(nodes) => nodes.len(),
        };
        Search { place, links: vec![None; asked], limit, before: None }
    }

    /// Has new connections use what is in the files of certificates now.
    pub(super) fn renew_certificates(&mut self, options: &RedisOptions) -> RedisResult<()> {
        certificates::renew(&mut self.place, options)
    }

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
    let (mut masters, mut slots) = (BTreeMap::<String, (ConnectionAddr, Vec<(u16, u16)>)>::new(), 0);
    for (master, (first, last)) in ranges.iter().filter_map(|range| range_of(node, range)) {
        slots += usize::from(last.saturating_sub(first)) + 1;
        masters.entry(master.to_string()).or_insert_with(|| (master, Vec::new())).1.push((first, last));
    }
    if slots != SLOTS || masters.len() > MASTERS_MAX {
        return Err(io::Error::other("the cluster has slots without a master").into());
    }
    let mut masters: Masters = masters.into_values().collect();
    masters.iter_mut().for_each(|(_, slots)| slots.sort_unstable());
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
pub(super) fn at(info: &ConnectionInfo, host: String, port: u16) -> ConnectionAddr {
    match info.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls { host, port, insecure, tls_params },
        _ => ConnectionAddr::Tcp(host, port),
    }
}

/// So many slots a cluster has, and so many masters at most.
const SLOTS: usize = 16_384;
const MASTERS_MAX: usize = 1000;

/// After more than half of the sentinels have answered, so long the others are waited for.
const FURTHER: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::super::place::opened;
    use super::*;

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
}

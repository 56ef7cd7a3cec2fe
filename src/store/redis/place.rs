//! Where Redis is: at an address, or wherever sentinels say that the master is.
//!
//! Sentinels are asked when a connection is made, and with each sign of life again: a master that was cut off from the others may go on
//! answering for long after they have made another one, and nobody who asks it would hear of what is purged there. What they say has a
//! number, the epoch of the configuration; the newest of their answers counts, since one of them may have been cut off as well.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::uri::Authority;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisError, RedisResult};
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
    /// The connections to sentinels.
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
        let plain = match scheme {
            "redis+sentinel" | "valkey+sentinel" => Some("redis"),
            "rediss+sentinel" | "valkeys+sentinel" => Some("rediss"),
            _ => None,
        };
        if matches!(plain.unwrap_or(scheme), "rediss" | "valkeys") && !cfg!(feature = "tls") {
            return Err("this build has no TLS (the feature `tls` is off)".to_owned());
        }
        match plain {
            None => opened(url).map(Place::Fixed),
            Some(plain) => Sentinels::read(plain, &url[scheme.len() + "://".len()..]).map(Place::Named),
        }
    }

    /// Finds out where it is, and waits for each of those who know it for so long.
    pub(super) fn search(self, limit: Duration) -> Search {
        let sentinels = if let Place::Named(sentinels) = &self { sentinels.each.len() } else { 0 };
        Search { place: self, links: vec![None; sentinels], limit }
    }
}

impl fmt::Display for Place {
    /// Shows where it is, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Fixed(info) => info.addr().fmt(f),
            Place::Named(Sentinels { each, name, .. }) => {
                let each: Vec<String> = each.iter().map(|sentinel| sentinel.addr().to_string()).collect();
                write!(f, "{name}, which the sentinels at {} know", each.join(", "))
            }
        }
    }
}

impl Sentinels {
    /// Reads `user:password@host:port,host:port/name/database?sentinel_user=…&sentinel_pass=…`.
    fn read(scheme: &str, rest: &str) -> Result<Sentinels, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), authority),
        };
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
        let each = hosts.split(',').map(|host| {
            let port = if host.parse::<Authority>().ok()?.port().is_none() { format!(":{SENTINEL_PORT}") } else { String::new() };
            opened(&format!("{scheme}://{sentinel_login}{host}{port}")).ok()
        });
        Ok(Sentinels {
            each: each.collect::<Option<_>>().ok_or("one of the sentinels is no host with a port")?,
            name: name.to_owned(),
            master: opened(&format!("{scheme}://{login}{MASTER}/{database}"))?,
        })
    }

    /// The master at an address.
    fn master_at(&self, host: String, port: u16) -> ConnectionInfo {
        let address = match self.master.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls { host, port, insecure, tls_params },
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.master.clone().set_addr(address)
    }
}

impl Search {
    /// Whether Redis may be somewhere else tomorrow.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.place, Place::Named(_))
    }

    /// Where Redis is: as the newest answer of the sentinels says, of those that come in time.
    pub(super) async fn server(&mut self) -> RedisResult<ConnectionInfo> {
        let Search { place, links, limit } = self;
        let sentinels = match place {
            Place::Fixed(info) => return Ok(info.clone()),
            Place::Named(sentinels) => sentinels,
        };
        let (number, mut deadline) = (links.len(), Instant::now() + *limit);
        let asked = sentinels.each.iter().zip(links).map(|(sentinel, link)| ask(sentinel, link, &sentinels.name, *limit));
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
            Some(Answer { host, port, .. }) => Ok(sentinels.master_at(host, port)),
            None => {
                let why = refused.map_or_else(|| "none of them answers".to_owned(), |error| super::describe(&error));
                Err(io::Error::other(format!("no sentinel names a master: {why}")).into())
            }
        }
    }
}

/// Asks a sentinel, over the connection to it, or a new one.
async fn ask(
    sentinel: &ConnectionInfo,
    link: &mut Option<MultiplexedConnection>,
    name: &str,
    limit: Duration,
) -> RedisResult<Answer> {
    let mut asking = match link.take() {
        Some(link) => link,
        None => {
            let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
            // As a rule an account need not be permitted to say the library's name.
            let settings = sentinel.redis_settings().clone().set_skip_set_lib_name();
            let client = Client::open(sentinel.clone().set_redis_settings(settings))?;
            client.get_multiplexed_async_connection_with_config(&config).await?
        }
    };
    let said: HashMap<String, String> = redis::cmd("SENTINEL").arg("MASTER").arg(name).query_async(&mut asking).await?;
    *link = Some(asking);
    let number = |name: &str| said.get(name).and_then(|number| number.parse::<u64>().ok());
    let port = number("port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    match (said.get("ip").filter(|host| !host.is_empty()), port) {
        (Some(host), Some(port)) => Ok(Answer { epoch: number("config-epoch").unwrap_or_default(), host: host.clone(), port }),
        _ => Err(io::Error::other("a master without an address").into()),
    }
}

/// What a URL of one server says.
fn opened(url: &str) -> Result<ConnectionInfo, String> {
    let opened = Client::open(url).map_err(|error: RedisError| super::describe(&error))?;
    Ok(opened.get_connection_info().clone())
}

/// Where sentinels are, if nothing else is said.
const SENTINEL_PORT: u16 = 26379;

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
        let master = all.master_at("10.0.0.7".to_owned(), 6380);
        assert_eq!(*master.addr(), ConnectionAddr::Tcp("10.0.0.7".to_owned(), 6380));
        let settings = master.redis_settings();
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
        for info in [&all.each[0], &all.master_at("10.0.0.7".to_owned(), 6380)] {
            assert!(matches!(info.addr(), ConnectionAddr::TcpTls { insecure: false, .. }), "{info:?}");
        }
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
            ("", "URL"),
        ] {
            let error = Place::read(url).map(|place| place.to_string()).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
    }
}

//! How a connection is made, and made ready: what the server can do, how changes are heard of, and what it must be told first.

use super::link::{Link, Nodes};
use super::news::{self, Hearing, Listener};
use super::search::{Found, Search};
use super::supervise::FAREWELL;
use super::{Redis, TOO_SLOW, code, describe, lock, random_id};
use crate::rules::{Scope, watch};
use crate::store::generations::Generation;
use futures_util::future::try_join_all;
use redis::aio::PubSub;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisResult,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A connection that is ready to be used.
pub(super) struct Ready {
    pub(super) link: Link,
    pub(super) heard: Heard,
    /// Where it leads.
    pub(super) found: Found,
    /// That is where sentinels, or the nodes of a cluster, say that the master is.
    pub(super) is_elected: bool,
}

/// How a connection is heard.
pub(super) struct Heard {
    /// Rings when it is closed, also when nobody is using it.
    pub(super) closed: Arc<Notify>,
    pub(super) hearing: Hearing,
    pub(super) channel: Option<PubSub>,
}

/// Makes a connection that answers within the budget, or says why there is none.
pub(super) async fn connect(redis: &Redis, search: &mut Search, listener: &Listener) -> RedisResult<Ready> {
    let options = redis.options();
    search.renew_certificates(options)?;
    let found = search.found().await?;
    // A peer that takes the connection and then says nothing would hold the handshake for ever.
    let limited = async |protocol| {
        let connecting = handshake(redis, search, &found, protocol, listener);
        let connected = tokio::time::timeout(options.connect_timeout, connecting).await;
        connected.map_err(|_| io::Error::other("no answer to the handshake"))?
    };
    let connected = match limited(ProtocolVersion::RESP3).await {
        // It lives, and does not know the third protocol, or does not permit it.
        Err(error) if knows_no_hello(&error) => limited(ProtocolVersion::RESP2).await,
        connected => connected,
    };
    connected.map(|(link, heard)| Ready { link, heard, found, is_elected: search.goes_on() })
}

fn knows_no_hello(error: &redis::RedisError) -> bool {
    match code(error).as_deref() {
        Some("NOPROTO") => true,
        // Of HELLO itself: what else is refused has nothing to do with the protocol, and over the second one less is heard.
        Some("NOPERM") => describe(error).to_ascii_lowercase().contains("'hello'"),
        Some("ERR") => error.detail().is_some_and(|detail| detail.to_ascii_lowercase().contains("unknown command")),
        _ => false,
    }
}

/// Connects, finds out what the server can do, begins to hear of changes, and tells of the purges that it has not heard of.
///
/// One that was elected must be what it was elected for, and be followed: a master that was cut off from all who follow it takes no writes,
/// if it is set up so, and another one may have been elected.
async fn handshake(
    redis: &Redis,
    search: &Search,
    found: &Found,
    protocol: ProtocolVersion,
    listener: &Listener,
) -> RedisResult<(Link, Heard)> {
    let options = redis.options();
    let closed = Arc::new(Notify::new());
    let client = |address: &ConnectionAddr| Client::open(settled(search.server(address.clone()), protocol));
    let config = config(redis, protocol, &closed, listener);
    let (mut link, spokesman) = match found {
        Found::One(address) => {
            let client = client(address)?;
            (Link::One(client.get_multiplexed_async_connection_with_config(&config).await?), Some(client))
        }
        Found::Cluster(masters) => {
            let connecting = masters.iter().map(async |(address, slots)| {
                let connection = client(address)?.get_multiplexed_async_connection_with_config(&config).await?;
                RedisResult::Ok((address.clone(), connection, slots.clone()))
            });
            (Link::Cluster(Arc::new(Nodes::new(try_join_all(connecting).await?)?)), None)
        }
    };
    // A server that is slower than the budget, or does not permit to read, is of no use to any request, so it is not used.
    let mut reading = Pipeline::new();
    let name = redis.names().generation(Scope::All.name());
    reading.cmd("GETRANGE").arg(&name).arg(0).arg(0).ignore().cmd("PTTL").arg(&name).ignore().cmd("MGET").arg(&name).ignore();
    let asked = async {
        reading.query_async::<()>(&mut link).await?;
        call_roll(redis, &mut link).await
    };
    match tokio::time::timeout(options.budget, asked).await {
        Ok(answered) => answered?,
        Err(_) => return Err(io::Error::other(TOO_SLOW).into()),
    };
    let mut gt = redis::cmd("PEXPIRE");
    gt.arg(redis.names().answers("none")).arg(1).arg("GT");
    redis.shared.knows_gt.store(gt.query_async::<u64>(&mut link).await.is_ok(), Ordering::Relaxed);

    let (hearing, channel) = news::begin(redis, &link, spokesman.as_ref(), protocol == ProtocolVersion::RESP3).await?;
    redis.shared.must_tell.store(hearing == Hearing::Channel, Ordering::Relaxed);
    begin_presence(redis);
    let refused = make_watches(redis, &mut link).await;
    if search.goes_on() && refused.is_some_and(|code| DEMOTED.contains(&code.as_str())) {
        return Err(io::Error::other("the master takes no writes").into());
    }
    let server = server(&link).await;
    let before = std::mem::replace(&mut *lock(&redis.shared.server), server.clone());
    if before.is_none() || server.is_none() || before != server {
        // It may be another one, or the same from an earlier time: what it had been told lately, it may not know.
        let everything = redis.names().generation(Scope::All.name());
        let recent = lock(&redis.shared.recent).orders(&everything, Instant::now());
        lock(&redis.shared.backlog).add(&recent, &everything);
    }
    replay(redis, &mut link).await?;
    Ok((link, Heard { closed, hearing, channel }))
}

/// Has each node of a cluster show that it is a master, after it has told all that it had to tell; a single server shows that with any answer.
pub(super) async fn call_roll(redis: &Redis, link: &mut Link) -> RedisResult<()> {
    match link.roll_call(redis.names()) {
        Some(roll_call) => roll_call.query_async(link).await,
        None => Ok(()),
    }
}

/// How a server is spoken to.
fn settled(info: ConnectionInfo, protocol: ProtocolVersion) -> ConnectionInfo {
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5)));
    // A partition without a reset: the kernel gives the connection up, instead of retransmitting into the void.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(Duration::from_secs(2));
    // Without the library's name: an account need not be permitted to say it.
    let settings = info.redis_settings().clone().set_protocol(protocol).set_skip_set_lib_name();
    info.set_tcp_settings(tcp).set_redis_settings(settings)
}

/// How long a connection may take to come, and who is told what is pushed over it, and its end.
fn config(redis: &Redis, protocol: ProtocolVersion, closed: &Arc<Notify>, listener: &Listener) -> AsyncConnectionConfig {
    let options = redis.options();
    let config = AsyncConnectionConfig::new()
        // The budget is kept by the caller; a second limit here would only hide which one struck.
        .set_response_timeout(None)
        .set_connection_timeout(Some(options.connect_timeout))
        .set_pipeline_buffer_size(options.commands_max);
    if protocol != ProtocolVersion::RESP3 {
        return config;
    }
    let (listener, closed) = (listener.clone(), closed.clone());
    config.set_push_sender(move |push: PushInfo| -> Result<(), std::convert::Infallible> {
        news::pushed(&push, &listener);
        if push.kind == PushKind::Disconnection {
            closed.notify_one();
        }
        Ok(())
    })
}

/// Takes a new name among the replicas. Those before it stay on the list until Redis is used: memory may go on until then.
fn begin_presence(redis: &Redis) {
    let mut presence = lock(&redis.shared.presence);
    let before = std::mem::replace(&mut presence.name, random_id());
    if std::mem::take(&mut presence.is_signed) && presence.departed.len() < DEPARTED_MAX {
        presence.departed.push(before);
    }
}

/// Takes the names of earlier connections off the list of replicas: who was away relies on nothing any more. A Redis that does not
/// permit that now is told again with the next connection.
pub(super) async fn end_former_presence(redis: &Redis, link: &mut Link) {
    let departed = lock(&redis.shared.presence).departed.clone();
    if departed.is_empty() {
        return;
    }
    let mut pipeline = Pipeline::new();
    let kept_ms = redis.present_for().as_millis() as u64;
    for name in &departed {
        pipeline.cmd("SET").arg(redis.names().replica(name)).arg(FAREWELL).arg("PX").arg(kept_ms).ignore();
    }
    pipeline.cmd("SREM").arg(redis.names().replicas()).arg(&departed).ignore();
    if pipeline.query_async::<()>(link).await.is_ok() {
        lock(&redis.shared.presence).departed.retain(|name| !departed.contains(name));
    }
}

/// Makes what every fetch watches, so that not each of the first ones does. Gives the code of the error with which that is refused, if it is.
async fn make_watches(redis: &Redis, link: &mut Link) -> Option<String> {
    let mut pipeline = Pipeline::new();
    for name in watch::NAMES.iter() {
        let new = Generation::new().to_octets();
        pipeline
            .cmd("SET")
            .arg(redis.names().generation(*name))
            .arg(&new[..])
            .arg("NX")
            .arg("PX")
            .arg(WATCHES_KEPT.as_millis() as u64);
    }
    // A Redis that does not take them will not take what is fetched either.
    let made: Vec<RedisResult<redis::Value>> = pipeline.ignore_errors().query_async(link).await.ok()?;
    made.iter().find_map(|made| code(made.as_ref().err()?))
}

/// Which server it is, in which of its lives, and whose data it has; `None` if it doesn't tell.
async fn server(link: &Link) -> Option<String> {
    let mut all = String::new();
    for mut connection in link.connections() {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO").arg("server").cmd("INFO").arg("replication");
        let (server, replication): (String, String) = pipeline.query_async(&mut connection).await.ok()?;
        let value = |info: &str, name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        all += &(value(&server, "run_id:")? + &value(&replication, "master_replid:")?);
    }
    Some(all)
}

/// Tells Redis of the purges that it has not heard of.
pub(super) async fn replay(redis: &Redis, link: &mut Link) -> RedisResult<()> {
    loop {
        let (orders, mark) = lock(&redis.shared.backlog).orders();
        if orders.is_empty() {
            return Ok(());
        }
        redis.order(link, &orders, None).await?;
        lock(&redis.shared.backlog).done(mark);
        orders.iter().for_each(|order| redis.note_changed(order.name()));
    }
}

/// More names than a Redis that refuses them for long leaves behind; each ends by itself, too.
const DEPARTED_MAX: usize = 64;

/// Errors of one that was elected, and is no master any more, or not in touch with those who follow it.
pub(super) const DEMOTED: &[&str] = &["READONLY", "NOREPLICAS"];

/// When they end, the next fetch makes them anew.
const WATCHES_KEPT: Duration = Duration::from_secs(24 * 3600);

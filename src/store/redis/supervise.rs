//! The one place that connects to Redis, finds out whether it is well, and says so once a change.

use super::{Redis, TOO_SLOW, Writing, describe, lock};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Connects, and connects again, for as long as the process lives.
///
/// `on_loss` is called when Redis is lost, before anything else happens.
pub(in crate::store) async fn supervise(redis: Redis, on_loss: impl Fn() + Send) {
    let mut pause = PAUSE_MIN;
    let mut said = Said::Nothing;
    loop {
        let ended = match connect(&redis).await {
            Ok(link) => {
                let connected = Instant::now();
                if said != Said::Connected {
                    info!(address = super::display_url(&redis.options().url), "redis_connected");
                    said = Said::Connected;
                }
                let ended = serve(&redis, link).await;
                on_loss();
                // A connection that breaks again and again is given longer and longer pauses, like one that can't be made.
                if connected.elapsed() >= STEADY_AFTER {
                    pause = PAUSE_MIN;
                }
                ended
            }
            Err(error) => {
                redis.shared.stats.redis.errors_connection.inc();
                describe(&error)
            }
        };
        redis.note(false, Some(&ended));
        if said != Said::Lost {
            let fallback = match redis.options().when_down {
                crate::store::WhenDown::PassThrough => "pass-through",
                crate::store::WhenDown::Memory => "memory",
            };
            warn!(error = ended, fallback, "redis_connection_failed");
            said = Said::Lost;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What the log was told last, so that it is told of changes alone.
#[derive(PartialEq)]
enum Said {
    Nothing,
    Connected,
    Lost,
}

/// Makes a connection that answers within the budget, or says why there is none.
async fn connect(redis: &Redis) -> RedisResult<MultiplexedConnection> {
    let options = redis.options();
    let client = Client::open(options.url.as_str())?;
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5)));
    // A partition without a reset: the kernel gives the connection up, instead of retransmitting into the void.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(Duration::from_secs(2));
    let client = Client::open(client.get_connection_info().clone().set_tcp_settings(tcp))?;
    let config = AsyncConnectionConfig::new()
        // The budget is kept by the caller; a second limit here would only hide which one struck.
        .set_response_timeout(None)
        .set_connection_timeout(Some(options.connect_timeout))
        .set_pipeline_buffer_size(options.commands_max);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    // A peer that takes the connection and then says nothing would hold the handshake for ever.
    let connected = tokio::time::timeout(options.connect_timeout, connecting).await;
    let link = connected.map_err(|_| (redis::ErrorKind::Io, "no answer to the handshake"))??;
    // A server that is slower than the budget is of no use to any request, so it is not used.
    match redis.probe::<String>(&link, &redis::cmd("PING")).await {
        Some(pong) => pong.map(|_| link),
        None => Err((redis::ErrorKind::Io, TOO_SLOW).into()),
    }
}

/// Lets requests use the connection until it breaks or answers too slowly; says what happened.
async fn serve(redis: &Redis, link: MultiplexedConnection) -> String {
    let shared = &redis.shared;
    let link = Arc::new(link);
    shared.stats.redis.connects.inc();
    lock(&shared.reads).succeeded();
    *lock(&shared.writes) = Writing::default();
    shared.link.store(Some(link.clone()));
    redis.note(true, None);
    check(redis, &link).await;
    loop {
        tokio::select! {
            () = shared.broken.notified() => {}
            () = tokio::time::sleep(PROBE_EVERY) => check(redis, &link).await,
        }
        if shared.link.load().is_none() {
            return lock(&shared.state).last_error.clone().unwrap_or_default();
        }
    }
}

/// Probes a connection that may be idle, so that the state is known before a request needs it; counts keys by the way.
async fn check(redis: &Redis, link: &Arc<MultiplexedConnection>) {
    match redis.probe::<u64>(link, &redis::cmd("DBSIZE")).await {
        Some(Ok(keys)) => {
            lock(&redis.shared.reads).succeeded();
            redis.shared.keys.store(keys, Ordering::Relaxed);
        }
        // An account may be forbidden to count, and yet be good for everything that matters.
        Some(Err(error)) if error.code() == Some("NOPERM") => lock(&redis.shared.reads).succeeded(),
        Some(Err(error)) => redis.open(link, &describe(&error)),
        None => {
            if lock(&redis.shared.reads).failed(Instant::now()) {
                redis.open(link, TOO_SLOW);
            }
        }
    }
}

/// The first pause after a failed attempt; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause, so that a Redis that is well again is used within two seconds.
const PAUSE_MAX: Duration = Duration::from_millis(800);

/// A connection that held for so long was a good one.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// How often an idle connection is probed. Requests find out sooner; some providers charge for each command.
const PROBE_EVERY: Duration = Duration::from_secs(10);

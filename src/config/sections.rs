//! The sections of the file, all but the routes.

use super::addresses::{leads_back, listen, network, origins, redis_url};
use super::raw::Value;
use super::reader::{Parsed, Section};
use super::routes::ForRoutes;
use super::suggest::nearest;
use super::tls;
use super::values::{boolean, count, distinct, duration, field_name, list, one_of, percent, quote, secret, size, string, word};
use super::{Config, LogFormat};
use crate::semantics::tagging::TagField;
use crate::store::{MemoryOptions, RedisOptions, WhenDown};
use http::HeaderName;
use http::header::{CACHE_CONTROL, EXPIRES};
use std::ops::RangeInclusive;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Reads `[server]`, and says whether it names an address to listen on.
pub(super) fn read_server(section: &mut Section<'_>, config: &mut Config) -> bool {
    let options = &mut config.server;
    let names_listen = section.place_of("listen").is_some();
    section.read("listen", &mut options.listen, listen);
    options.tls = tls::read(section, "server.tls");
    section.read("reuse_port", &mut options.reuse_port, boolean);
    section.read("workers", &mut options.workers, |value| count(1..=1024)(value).map(Some));
    section.read("header_read_timeout", &mut options.header_read_timeout, duration(TIMEOUT));
    section.read("keep_alive_timeout", &mut options.keep_alive_timeout, duration(TIMEOUT));
    section.read("body_idle_timeout", &mut options.body_idle_timeout, duration(TIMEOUT));
    section.read("connections_max", &mut options.connections_max, count(1..=1_000_000));
    section.read("header_fields_max", &mut options.header_fields_max, count(FIELDS));
    section.read("header_size_max", &mut options.header_bytes_max, size(HEAD));
    section.read("http2_streams_max", &mut options.http2_streams_max, count(1..=10_000));
    section.read("drain_wait", &mut options.drain_wait, duration(Duration::ZERO..=HOUR));
    section.read("drain_timeout", &mut options.drain_timeout, duration(Duration::ZERO..=HOUR));
    section.read("trusted_proxies", &mut config.cache.trusted_proxies, list(network));
    names_listen
}

/// Reads `[origin]`. Where nobody has named an address to listen on, whoever starts the process may give it a socket.
pub(super) fn read_origin(section: &mut Section<'_>, names_listen: bool, config: &mut Config) {
    let options = &mut config.origin;
    let place = section.place_of("url").unwrap_or_else(|| section.place().clone());
    section.read("url", &mut options.addresses, origins);
    let back = options.addresses.iter().find(|address| leads_back(address, config.server.listen));
    if let Some(back) = back.filter(|_| names_listen) {
        let message = format!("`{back}` is where sidecache itself listens; every request would come back to it");
        section.problem(&place, "url", message);
    }
    section.read("http2", &mut options.http2, boolean);
    section.read("ca_file", &mut options.ca_file, |value| tls::path(value).map(Some));
    options.client_certificate = tls::read_shown(section);
    section.read("connect_timeout", &mut options.connect_timeout, duration(TIMEOUT));
    section.read("first_byte_timeout", &mut options.first_byte_timeout, duration(TIMEOUT));
    section.read("body_idle_timeout", &mut options.body_idle_timeout, duration(TIMEOUT));
    section.read("tunnel_idle_timeout", &mut options.tunnel_idle_timeout, duration(SHORTEST..=MONTH));
    section.read("requests_max", &mut options.requests_max, count(1..=1_000_000));
    section.read("queue_timeout", &mut options.queue_timeout, duration(Duration::ZERO..=HOUR));
    section.read("queue_max", &mut options.queue_max, count(0..=1_000_000));
    section.read("idle_timeout", &mut options.idle_timeout, duration(TIMEOUT));
    section.read("idle_connections_max", &mut options.idle_connections_max, count(0..=100_000));
    section.read("header_fields_max", &mut options.header_fields_max, count(FIELDS));
    section.read("header_size_max", &mut options.header_bytes_max, size(HEAD));
}

/// Reads `[cache]`, and gives back what the routes need of it.
pub(super) fn read_cache(section: &mut Section<'_>, config: &mut Config) -> ForRoutes {
    let options = &mut config.cache;
    let mut ttl = TTL_DEFAULT;
    let has_secret = section.place_of("secret").is_some();
    section.read("enabled", &mut options.enabled, boolean);
    section.read("ttl", &mut ttl, duration(TTL));
    section.read("body_max", &mut options.body_bytes_max, size(1..=1 << 30));
    section.read("stale_if_unreachable", &mut options.stale_if_unreachable, duration(STALE));
    section.read("cache_control_fields", &mut options.cache_control_fields, distinct(targeted_field));
    section.read("show_key", &mut options.shows_key, boolean);
    section.read("keep_stale", &mut config.store.keep_stale, duration(Duration::ZERO..=YEAR));
    section.read("key_body_max", &mut options.key_body_bytes_max, size(0..=16 << 20));
    section.read("followers_max", &mut options.followers_max, count(0..=1_000_000));
    section.read("remember_unstorable", &mut options.remember_unstorable, duration(Duration::ZERO..=DAY));
    section.read("secret", &mut options.secret, |value| secret(value).map(Some));
    section.read("tag_fields", &mut options.tag_fields, list(one_of(TAG_FIELDS)));
    section.read("strip_tag_fields", &mut options.strip_tag_fields, boolean);
    ForRoutes { ttl, has_secret }
}

pub(super) fn read_memory(section: &mut Section<'_>, config: &mut Config) {
    section.read("max_size", &mut config.store.memory, memory);
}

pub(super) fn read_redis(section: &mut Section<'_>, config: &mut Config) {
    let url = section.take("url", redis_url).flatten();
    let mut options = RedisOptions::new(url.as_deref().unwrap_or_default());
    section.read("ca_file", &mut options.ca_file, |value| tls::path(value).map(Some));
    options.client_certificate = tls::read_shown(section).map(|shown| (shown.certificate, shown.key));
    section.read("prefix", &mut options.prefix, word(64, "-_.:"));
    section.read("budget", &mut options.budget, duration(SHORTEST..=Duration::from_secs(10)));
    section.read("when_down", &mut options.when_down, one_of(WHEN_DOWN));
    section.read("memory_ttl_when_down", &mut options.memory_ttl_when_down, duration(SECOND..=MONTH));
    section.read("connect_timeout", &mut options.connect_timeout, duration(SHORTEST..=MINUTE));
    section.read("write_timeout", &mut options.write_timeout, duration(SHORTEST..=MINUTE));
    section.read("heartbeat", &mut options.heartbeat, duration(HEARTBEAT_SHORTEST..=MINUTE));
    section.read("lease", &mut options.lease, duration(HEARTBEAT_SHORTEST..=MINUTE));
    section.read("commands_max", &mut options.commands_max, count(1..=100_000));
    // Redis itself takes strings of at most 512 MiB.
    section.read("value_max", &mut options.value_bytes_max, size(1 << 10..=512 << 20));
    options.secret.clone_from(&config.cache.secret);
    config.store.redis = url.map(|_| options);
}

pub(super) fn read_log(section: &mut Section<'_>, config: &mut Config) {
    section.read("level", &mut config.log.level, level);
    section.read("format", &mut config.log.format, one_of(LOG_FORMAT));
    section.read("access", &mut config.log.access, boolean);
}

/// A size, or a share of what the container may use.
fn memory(value: &Value) -> Parsed<MemoryOptions> {
    match value.as_str().is_some_and(|written| written.trim_end().ends_with('%')) {
        true => match percent(value)? {
            share @ 1..=90 => Ok(MemoryOptions::share(share)),
            _ => Err(value.fault("a share goes from \"1%\" to \"90%\": the process itself needs some, too")),
        },
        false => Ok(MemoryOptions { bytes_max: size(0..=1 << 40)(value)? }),
    }
}

/// Filter directives. One that is neither a level nor says one is taken for a slip: the filter itself would read `warning` as the name of a
/// module, and let through nothing else.
fn level(value: &Value) -> Parsed<String> {
    let written = string(value)?;
    let directives = written.split(',').map(str::trim).filter(|one| !one.is_empty());
    let is_level =
        |one: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(one)) || matches!(one.as_bytes(), [b'0'..=b'5']);
    let is_place = |one: &str| one.contains(['=', '[']) || one.split("::").next() == Some(env!("CARGO_PKG_NAME"));
    if let Some(slip) = directives.filter(|one| !is_level(one) && !is_place(one)).map(str::to_owned).next() {
        let meant = nearest(&slip, LEVELS).or_else(|| slip.to_ascii_lowercase().starts_with("warn").then_some("warn"));
        let meant = meant.map_or_else(
            || format!("write one of {}; a module stands with its level: \"info,hyper=debug\"", LEVELS.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        return Err(value.fault(format!("{} is no level; {meant}", quote(&slip))));
    }
    match EnvFilter::builder().parse(&written) {
        Ok(_) => Ok(written),
        Err(_) => Err(value.fault(format!(
            "{} is not a filter; write one of {}, or directives such as \"info,sidecache::store=debug\"",
            quote(&written),
            LEVELS.join(", ")
        ))),
    }
}

/// A field that goes before `Cache-Control` and `Expires`.
fn targeted_field(value: &Value) -> Parsed<HeaderName> {
    match field_name(value)? {
        name if name == CACHE_CONTROL || name == EXPIRES => {
            Err(value.fault(format!("`{name}` is what these fields go before; leave it out")))
        }
        name => Ok(name),
    }
}

const TAG_FIELDS: &[(&str, TagField)] =
    &[("cache-groups", TagField::CacheGroups), ("surrogate-key", TagField::SurrogateKey), ("cache-tag", TagField::CacheTag)];
const WHEN_DOWN: &[(&str, WhenDown)] = &[("pass-through", WhenDown::PassThrough), ("memory", WhenDown::Memory)];
const LOG_FORMAT: &[(&str, LogFormat)] = &[("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const SHORTEST: Duration = Duration::from_millis(1);

/// More often would be a load of its own.
const HEARTBEAT_SHORTEST: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Zero would end what it limits before it began; past a day nobody waits.
const TIMEOUT: RangeInclusive<Duration> = SHORTEST..=DAY;

/// HTTP counts freshness in whole seconds (RFC 9111 §1.2.2).
pub(super) const TTL: RangeInclusive<Duration> = SECOND..=YEAR;

/// For how long a stale response may be of use.
pub(super) const STALE: RangeInclusive<Duration> = Duration::ZERO..=YEAR;

/// Short enough that somebody who forgot to think about a route is not surprised the next day.
const TTL_DEFAULT: Duration = Duration::from_secs(5 * 60);

const FIELDS: RangeInclusive<usize> = 8..=10_000;

/// hyper's buffers are never smaller than 8 KiB.
const HEAD: RangeInclusive<u64> = 8 << 10..=16 << 20;

//! The statistics as JSON.

use crate::flow::Proxy;
use crate::origin::Address;
use crate::stats::{Ending, RouteStats, percent};
use crate::store::{Hearing, RedisState};
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

/// The state of the cache. The first six keys are what dashboards of in-application cache modules read.
pub(super) async fn stats(proxy: &Proxy) -> Value {
    let (replicas, in_redis) = (proxy.store().replicas().await, proxy.store().responses_in_redis().await);
    let (stats, tiers) = (proxy.stats(), proxy.store().snapshot());
    let routes = stats.routes();
    let sum = |of: fn(&RouteStats) -> u64| routes.iter().map(|route| of(route)).sum::<u64>();
    let (hits, misses) = (sum(RouteStats::hits), sum(|route| route.misses.get()));
    let (memory_hits, memory_misses) = (sum(|route| route.hits_memory.get()), sum(|route| route.misses_memory.get()));
    let (redis_hits, redis_misses) = (sum(|route| route.hits_redis.get()), sum(|route| route.misses_redis.get()));
    // Redis holds what memory holds and more; where it can't be asked, memory is what there is.
    json!({
        "enabled": proxy.options().enabled,
        "total_keys": in_redis.unwrap_or(0).max(tiers.memory_keys as u64),
        "hits": hits,
        "misses": misses,
        "hit_rate": rounded(percent(hits, misses)),
        "memory_used_mb": mebibytes(tiers.memory_bytes),
        "tiers": {
            "memory": {
                "keys": tiers.memory_keys,
                "hits": memory_hits,
                "misses": memory_misses,
                "hit_rate": rounded(percent(memory_hits, memory_misses)),
                "used_mb": mebibytes(tiers.memory_bytes),
                "max_mb": mebibytes(tiers.memory_bytes_max),
                "largest_response_mb": mebibytes(tiers.memory_response_bytes_max),
                "evictions": stats.memory_evictions.get(),
            },
            "redis": tiers.redis.as_ref().map(|_| json!({
                "keys": in_redis,
                "hits": redis_hits,
                "misses": redis_misses,
                "hit_rate": rounded(percent(redis_hits, redis_misses)),
            })),
        },
        "routes": proxy.counters().all().iter().map(|of_route| route(of_route)).collect::<Vec<_>>(),
        "origin": proxy.origin().addresses().map(origin).collect::<Vec<_>>(),
        "redis": tiers.redis.as_ref().map(|state| redis(state, replicas)),
        "fetches_under_way": proxy.fetches_under_way(),
        "followers": proxy.followers(),
    })
}

/// Sets the gauges that are read from elsewhere than the counters.
pub(super) fn set_gauges(proxy: &Proxy) {
    let (gauges, tiers) = (&proxy.stats().gauges, proxy.store().snapshot());
    gauges.memory_bytes.set(tiers.memory_bytes as i64);
    gauges.memory_bytes_max.set(tiers.memory_bytes_max as i64);
    gauges.memory_beside_bytes.set(tiers.beside_bytes as i64);
    gauges.memory_keys.set(tiers.memory_keys as i64);
    gauges.set_origin_up(proxy.origin().addresses().map(|(address, is_well)| (address.to_string(), is_well)));
    let pending = tiers.redis.as_ref().map_or(0, |redis| redis.purges_pending);
    proxy.stats().redis.purges_pending.set(pending as i64);
}

fn route(route: &RouteStats) -> Value {
    json!({
        "name": route.name,
        "requests": route.requests(),
        "hits": route.hits(),
        "misses": route.misses.get(),
        "hit_rate": rounded(percent(route.hits(), route.misses.get())),
        "hits_memory": route.hits_memory.get(),
        "hits_redis": route.hits_redis.get(),
        "collapsed": route.ended_so(Ending::Collapsed),
        "validated": route.ended_so(Ending::Validated),
        "stale": route.ended_so(Ending::Stale),
        "passed": route.ended_so(Ending::Pass),
        "errors": route.ended_so(Ending::Error),
        "personal": route.personal.get(),
    })
}

fn origin((address, is_well): (&Address, bool)) -> Value {
    json!({ "address": address.to_string(), "status": if is_well { "well" } else { "unwell" } })
}

fn redis(redis: &RedisState, replicas: Option<usize>) -> Value {
    json!({
        "status": match (redis.is_up, redis.writes_paused) {
            (true, false) => "connected",
            (true, true) => "read-only",
            (false, _) => "degraded",
        },
        "since": redis.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        "last_error": redis.last_error,
        "hears_by": redis.hearing.map(Hearing::as_str),
        "replicas": replicas,
        "purges_pending": redis.purges_pending,
    })
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn mebibytes(octets: u64) -> f64 {
    rounded(octets as f64 / f64::from(1 << 20))
}

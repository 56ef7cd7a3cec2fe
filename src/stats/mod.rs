//! What is counted. Handles are made once, so that counting on the path of a hit is one atomic addition.
//!
//! Every name, its labels and its meaning stand in the README; a test compares the two.

mod routes;

pub use routes::{Counters, Ending, RouteStats};

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use routes::ByRoute;
use std::sync::{Arc, Mutex, PoisonError};

/// All counters of a process.
pub struct Stats {
    registry: Registry,
    by_route: ByRoute,
    /// Those of all routes that there have been: a counter that was seen once does not go away.
    routes: Mutex<Vec<Arc<RouteStats>>>,
    /// What became of requests to the origin.
    pub origin: OriginStats,
    /// What became of commands to Redis.
    pub redis: RedisStats,
    /// Purges that this process was asked for.
    pub purges: PurgeStats,
    /// Keys that memory dropped for room.
    pub memory_evictions: IntCounter,
    /// Gauges that are set when somebody looks.
    pub gauges: Gauges,
    /// Connections of clients that are open now.
    pub client_connections: IntGauge,
    /// Connections that ended in their TLS handshake.
    pub tls_failed: IntCounter,
    /// Clients of HTTP/2 that were thrown out, and had to wait for the end of their connection.
    pub http2_detained: IntCounter,
    /// Reloads of the configuration that were taken over.
    pub reloads_done: IntCounter,
    /// Reloads that changed nothing, since the new configuration was wrong.
    pub reloads_refused: IntCounter,
    /// Requests that were answered 400 because they could be read in two ways, or not at all.
    pub bad_requests: IntCounter,
    /// Hits in memory for requests that were known by their octets.
    pub hits_known: IntCounter,
    /// Requests to the admin endpoints, and purges, that were refused: without the right token, host or origin.
    pub admin_refused: IntCounter,
}

/// The counters of the origin.
pub struct OriginStats {
    /// Requests that got a response's head.
    pub answered: IntCounter,
    /// Requests that got none.
    pub failed: IntCounter,
    /// Requests that were sent again because a pooled connection turned out dead.
    pub retried: IntCounter,
    /// Requests that were sent to another address because the first could not be connected to.
    pub rerouted: IntCounter,
    /// Requests that found no free place and no time to wait.
    pub refused: IntCounter,
    /// Requests under way.
    pub in_flight: IntGauge,
}

/// The counters of Redis.
pub struct RedisStats {
    /// Commands to read.
    pub reads: IntCounter,
    /// Commands to write.
    pub writes: IntCounter,
    /// Connections or handshakes that failed, and connections that broke.
    pub errors_connection: IntCounter,
    /// Commands that did not end within their time.
    pub errors_timeout: IntCounter,
    /// Commands that Redis refused.
    pub errors_refused: IntCounter,
    /// Values that were not ours, or damaged.
    pub errors_value: IntCounter,
    /// The same, by the reason.
    pub values_rejected: IntCounterVec,
    /// Commands that were not sent, since too many were under way.
    pub errors_busy: IntCounter,
    /// 1 while Redis is not asked.
    pub breaker_open: IntGauge,
    /// Connections made.
    pub connects: IntCounter,
    /// Purges that Redis has not heard of yet.
    pub purges_pending: IntGauge,
}

/// The counters of purges, by how far they came at once.
pub struct PurgeStats {
    /// In this process, and there is no Redis.
    pub here: IntCounter,
    /// On all replicas.
    pub everywhere: IntCounter,
    /// In this process, since Redis could not be told yet.
    pub here_first: IntCounter,
}

/// Gauges that are set when somebody looks.
pub struct Gauges {
    /// Octets that memory holds.
    pub memory_bytes: IntGauge,
    /// Octets that memory may hold.
    pub memory_bytes_max: IntGauge,
    /// Octets of bodies that are held for clients beside it.
    pub memory_beside_bytes: IntGauge,
    /// Keys that memory holds.
    pub memory_keys: IntGauge,
    /// Percent of the look-ups that hit, a tier and a route.
    hit_rate: GaugeVec,
    /// One for each address of the origin, and the addresses that it has now.
    origin_up: IntGaugeVec,
    origins: Mutex<Vec<String>>,
}

impl Gauges {
    /// Says of each address of the origin whether it is well.
    pub fn set_origin_up(&self, addresses: impl Iterator<Item = (String, bool)>) {
        let (present, are_well): (Vec<String>, Vec<bool>) = addresses.unzip();
        let mut origins = self.origins.lock().expect("no panic while it is held");
        if *origins != present {
            // Another configuration has others, and of those that are gone nothing is to be said.
            self.origin_up.reset();
        }
        for (address, is_well) in present.iter().zip(are_well) {
            self.origin_up.with_label_values(&[address]).set(is_well.into());
        }
        *origins = present;
    }
}

/// Why values in Redis are not used.
const REASONS: [&str; 9] = ["foreign", "version", "protection", "key", "checksum", "forged", "malformed", "other-key", "ended"];

impl Default for Stats {
    fn default() -> Stats {
        Stats::new()
    }
}

impl Stats {
    /// Counters that nothing was counted with yet.
    pub fn new() -> Stats {
        let registry = Registry::new();
        let by_route = ByRoute::new(&registry);

        let origin = counters(&registry, "sidecache_origin_requests_total", "Requests to the origin.", &["result"]);
        let commands = counters(&registry, "sidecache_redis_commands_total", "Commands sent to Redis.", &["kind"]);
        let errors = counters(&registry, "sidecache_redis_errors_total", "What went wrong with Redis.", &["kind"]);
        let rejected = counters(
            &registry,
            "sidecache_redis_values_rejected_total",
            "Values in Redis that were not used, by the reason.",
            &["reason"],
        );
        // An increase from nothing is none to who watches for one.
        REASONS.iter().for_each(|reason| rejected.with_label_values(&[reason]).reset());
        let purges = counters(&registry, "sidecache_purges_total", "Purges that this process was asked for.", &["reach"]);
        let reloads = counters(&registry, "sidecache_reloads_total", "Reloads of the configuration.", &["result"]);
        let memory = IntGaugeVec::new(
            Opts::new(
                "sidecache_memory_bytes",
                "Octets in memory, used and at most, and those of bodies that are held beside it.",
            ),
            &["kind"],
        );
        let memory = registered(&registry, memory.expect("a valid name"));
        let rate = Opts::new("cache_hit_rate", "Percent of a tier's look-ups that hit.");
        let hit_rate = registered(&registry, GaugeVec::new(rate, &["cache_type", "route"]).expect("a valid name"));
        let origin_up =
            Opts::new("sidecache_origin_up", "1 for an address of the origin that is well, 0 for one that is left alone.");
        let origin_up = registered(&registry, IntGaugeVec::new(origin_up, &["address"]).expect("a valid name"));
        Stats {
            by_route,
            routes: Mutex::default(),
            origin: OriginStats {
                answered: origin.with_label_values(&["answered"]),
                failed: origin.with_label_values(&["failed"]),
                retried: origin.with_label_values(&["retried"]),
                rerouted: origin.with_label_values(&["rerouted"]),
                refused: origin.with_label_values(&["refused"]),
                in_flight: gauge(&registry, "sidecache_origin_requests_in_flight", "Requests to the origin under way."),
            },
            redis: RedisStats {
                reads: commands.with_label_values(&["read"]),
                writes: commands.with_label_values(&["write"]),
                errors_connection: errors.with_label_values(&["connection"]),
                errors_timeout: errors.with_label_values(&["timeout"]),
                errors_refused: errors.with_label_values(&["refused"]),
                errors_value: errors.with_label_values(&["value"]),
                values_rejected: rejected,
                errors_busy: errors.with_label_values(&["busy"]),
                breaker_open: gauge(&registry, "sidecache_redis_breaker_open", "1 while Redis is not asked."),
                connects: counter(&registry, "sidecache_redis_connects_total", "Connections to Redis that were made."),
                purges_pending: gauge(&registry, "sidecache_redis_purges_pending", "Purges that Redis has not heard of yet."),
            },
            purges: PurgeStats {
                here: purges.with_label_values(&["here"]),
                everywhere: purges.with_label_values(&["everywhere"]),
                here_first: purges.with_label_values(&["here-first"]),
            },
            memory_evictions: counter(&registry, "sidecache_memory_evictions_total", "Keys that memory dropped for room."),
            gauges: Gauges {
                memory_bytes: memory.with_label_values(&["used"]),
                memory_bytes_max: memory.with_label_values(&["max"]),
                memory_beside_bytes: memory.with_label_values(&["beside"]),
                memory_keys: gauge(&registry, "sidecache_memory_keys", "Keys in memory."),
                hit_rate,
                origin_up,
                origins: Mutex::default(),
            },
            reloads_done: reloads.with_label_values(&["done"]),
            reloads_refused: reloads.with_label_values(&["refused"]),
            client_connections: gauge(&registry, "sidecache_client_connections", "Connections of clients that are open."),
            tls_failed: counter(
                &registry,
                "sidecache_tls_failed_total",
                "Connections of clients that failed in their TLS handshake.",
            ),
            http2_detained: counter(
                &registry,
                "sidecache_http2_detained_total",
                "Connections of HTTP/2 that were ended for what the client did on them, and closed a second later.",
            ),
            hits_known: counter(&registry, "sidecache_hits_known_total", "Hits for requests that were known by their octets."),
            bad_requests: counter(
                &registry,
                "sidecache_bad_requests_total",
                "Requests that sidecache refused by itself: 400, 405, 414, 417, 421 or 431.",
            ),
            admin_refused: counter(
                &registry,
                "sidecache_admin_refused_total",
                "Requests to the admin endpoints that were refused.",
            ),
            registry,
        }
    }

    /// Counters for routes of these names; those that there were before go on.
    pub fn counters<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Counters {
        let mut known = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = |name: &str| match known.iter().find(|route| route.name == name) {
            Some(route) => route.clone(),
            None => {
                let new = Arc::new(self.by_route.of(name));
                known.push(new.clone());
                new
            }
        };
        Counters { routes: names.into_iter().chain([NO_ROUTE]).map(of_name).collect() }
    }

    /// The counters of all routes that there have been since the start.
    pub fn routes(&self) -> Vec<Arc<RouteStats>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        for route in self.routes() {
            let tiers = [("memory", &route.hits_memory, &route.misses_memory), ("redis", &route.hits_redis, &route.misses_redis)];
            // A tier that was never asked has no rate; a zero would look like a failure.
            for (tier, hits, misses) in tiers.into_iter().filter(|(_, hits, misses)| hits.get() + misses.get() > 0) {
                let rate: Gauge = self.gauges.hit_rate.with_label_values(&[tier, &route.name]);
                rate.set(percent(hits.get(), misses.get()));
            }
        }
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

/// Hits as a percentage of hits and misses; 0 before the first.
pub fn percent(hits: u64, misses: u64) -> f64 {
    match hits + misses {
        0 => 0.0,
        all => hits as f64 * 100.0 / all as f64,
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name"))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help).expect("a valid name"))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help).expect("a valid name"))
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each name is registered once");
    collector
}

/// The label of requests that no route matched.
const NO_ROUTE: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_hit_is_seen_in_the_text_of_the_metrics() {
        let stats = Stats::new();
        let counters = stats.counters(["customer"]);
        counters.of(Some(0)).hits_memory.inc_by(3);
        counters.of(Some(0)).misses_memory.inc();
        counters.of(None).ended(Ending::Pass, Duration::from_millis(3));
        let text = stats.render();
        for line in [
            r#"cache_hits_total{cache_type="memory",route="customer"} 3"#,
            r#"cache_misses_total{cache_type="memory",route="customer"} 1"#,
            r#"cache_hit_rate{cache_type="memory",route="customer"} 75"#,
            r#"sidecache_request_duration_seconds_count{outcome="pass",route="none"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert_eq!(counters.of(None).ended_so(Ending::Pass), 1);
    }

    #[test]
    fn the_counters_of_a_route_go_on_under_another_configuration() {
        let stats = Stats::new();
        stats.counters(["a", "b"]).of(Some(1)).misses.inc();
        let counters = stats.counters(["b", "c"]);
        assert_eq!(counters.of(Some(0)).misses.get(), 1);
        let names = |routes: &[Arc<RouteStats>]| routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(counters.all()), ["b", "c", "none"]);
        assert_eq!(names(&stats.routes()), ["a", "b", "none", "c"]);
    }

    #[test]
    fn the_hit_rate_of_nothing_is_zero() {
        assert_eq!(percent(0, 0), 0.0);
        assert_eq!(percent(1, 3), 25.0);
    }
}

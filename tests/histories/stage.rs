//! What histories are played on: an origin, the sidecars before it, and a Redis with a way to it for each of them.

use super::client::{Client, Got};
use super::origin::Origin;
use super::reference::{STALE, STALE_TTL, TTL, TTL_404};
use super::script::{Kind, Purge, Purged};
use crate::world::{PATIENCE, Phase, RedisCluster, RedisServer, Relay, millis, redis_options, secs, sidecar};
use http::StatusCode;
use serde_json::{Value, json};
use sidecache::Sidecar;
use sidecache::clock::Clock;
use sidecache::config::Config;
use sidecache::rules::{Caching, Collapse, Pattern, Route, Share, TagTemplate, Unkeyed};
use sidecache::store::WhenDown;
use std::sync::Arc;
use std::time::Instant;

/// How the sidecars are set up, and what happens on such a stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) kinds: &'static [Kind],
    /// Two replicas with a Redis, or one without.
    pub(crate) has_redis: bool,
    /// It is a cluster.
    pub(crate) is_cluster: bool,
    pub(crate) has_memory: bool,
    pub(crate) collapse: Collapse,
    pub(crate) when_down: WhenDown,
    /// Redis has troubles.
    pub(crate) has_faults: bool,
    /// So many threads everything runs on.
    pub(crate) threads: usize,
}

pub(crate) struct Stage {
    pub(crate) setting: Setting,
    pub(crate) clock: Clock,
    pub(crate) origin: Origin,
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) redis: Option<Arc<RedisServer>>,
}

pub(crate) struct Replica {
    pub(crate) client: Client,
    admin: Client,
    sidecar: Sidecar,
    /// Its way to Redis.
    pub(crate) relay: Option<Relay>,
}

impl Stage {
    /// A new stage, with a Redis or a cluster that may have been used before.
    pub(crate) async fn start(setting: Setting, redis: Option<Arc<RedisServer>>, cluster: Option<&RedisCluster>) -> Stage {
        for node in cluster.iter().flat_map(|cluster| &cluster.nodes) {
            node.run::<()>("FLUSHALL").await;
        }
        if let Some(redis) = &redis {
            if !redis.is_running() {
                redis.restart().await;
            }
            // Who was on an earlier stage does not count as present.
            redis.run::<()>("FLUSHALL").await;
            if setting.has_faults {
                redis.run::<()>("SAVE").await;
            }
        }
        let clock = Clock::movable();
        let origin = Origin::start(&clock).await;
        let mut replicas = Vec::new();
        for _ in 0..if setting.has_redis { 2 } else { 1 } {
            let relay = match &redis {
                Some(redis) if setting.has_faults => Some(Relay::to(redis.address()).await),
                _ => None,
            };
            let url = relay.as_ref().map(Relay::url).or(redis.as_ref().map(|redis| redis.url()));
            let url = url.or(cluster.map(RedisCluster::url));
            let sidecar = sidecar(origin.address.clone(), &clock, |config| setting.configure(config, url.as_deref())).await;
            let admin = Client::of(sidecar.admin_address.expect("it has an admin listener"));
            replicas.push(Arc::new(Replica { client: Client::of(sidecar.address), admin, sidecar, relay }));
        }
        let stage = Stage { setting, clock, origin, replicas, redis };
        stage.is_well().await.expect("at the beginning all is well");
        stage
    }

    /// Sees to it that Redis runs and can be reached, and waits until all replicas use it.
    pub(crate) async fn is_well(&self) -> Result<(), String> {
        if !self.setting.has_redis {
            return Ok(());
        }
        if let Some(redis) = self.redis.as_ref().filter(|redis| !redis.is_running()) {
            redis.restart().await;
        }
        for replica in &self.replicas {
            if let Some(relay) = &replica.relay {
                relay.enter(Phase::Relay);
            }
        }
        in_time(|| self.replicas.iter().all(|replica| replica.uses_redis())).await.map_err(|()| {
            let states = self.replicas.iter().map(|replica| format!("{:?}", replica.sidecar.proxy().store().snapshot().redis));
            format!("Redis is not used: {}", states.collect::<Vec<_>>().join("; "))
        })
    }

    /// Waits until nothing is under way.
    pub(crate) async fn rests(&self) -> Result<(), String> {
        in_time(|| self.is_at_rest()).await.map_err(|()| format!("at the end something is left: {}", self.under_way()))
    }

    /// No request that is known of waits for a fetch, and no fetch is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.replicas.iter().all(|replica| {
            let proxy = replica.sidecar.proxy();
            proxy.fetches_under_way() == 0 && proxy.followers() == 0
        })
    }

    /// Requests that wait for the fetches of others.
    pub(crate) fn followers(&self) -> usize {
        self.replicas.iter().map(|replica| replica.sidecar.proxy().followers()).sum()
    }

    /// Whether nothing is under way but the connections that are kept.
    fn is_at_rest(&self) -> bool {
        let has_no_work = |replica: &Arc<Replica>| replica.sidecar.work_under_way() == replica.client.open();
        self.is_quiet() && self.replicas.iter().all(has_no_work)
    }

    /// What is under way, in words.
    fn under_way(&self) -> String {
        let words = self.replicas.iter().map(|replica| {
            let (proxy, work) = (replica.sidecar.proxy(), replica.sidecar.work_under_way());
            let (fetches, followers, open) = (proxy.fetches_under_way(), proxy.followers(), replica.client.open());
            format!("{fetches} fetches, {followers} followers, {work} pieces of work with {open} connections")
        });
        words.collect::<Vec<_>>().join("; ")
    }
}

impl Replica {
    /// Whether it uses Redis at present, with nothing that Redis was not told of.
    pub(crate) fn uses_redis(&self) -> bool {
        let redis = self.sidecar.proxy().store().snapshot().redis;
        redis.is_none_or(|redis| redis.is_up && redis.purges_pending == 0)
    }

    /// Since how many connections Redis is away, if it is.
    pub(crate) fn is_away_since(&self) -> Option<u64> {
        let proxy = self.sidecar.proxy();
        let is_away = proxy.store().snapshot().redis.is_some_and(|redis| !redis.is_up);
        is_away.then(|| proxy.stats().redis.connects.get())
    }

    /// Waits until it has begun to connect to Redis, or has done so.
    pub(crate) async fn has_begun_to_connect(&self) -> Result<(), String> {
        let Some(relay) = &self.relay else { return Ok(()) };
        let before = relay.taken();
        in_time(|| relay.taken() > before || self.uses_redis()).await.map_err(|()| "it does not try to reach Redis".to_owned())
    }

    /// Purges, and gives status and answer.
    pub(crate) async fn purge(&self, purge: &Purge, path: &str, history: u64, wait_ms: u64) -> Option<(StatusCode, Value)> {
        let mut order = match purge.of {
            Purged::Url(_) => json!({ "url": path }),
            Purged::Tag(url) => json!({ "tags": [format!("h:{history}:{url}")] }),
            Purged::OriginTag => json!({ "tags": [super::origin::ORIGIN_TAG] }),
            Purged::Tags => json!({ "pattern": format!("h:{history}:*") }),
            Purged::Route(_) => json!({ "route": path.split('/').nth(1) }),
            Purged::All => json!({ "all": true }),
        };
        order["soft"] = json!(purge.is_soft);
        if purge.waits {
            order["wait_ms"] = json!(wait_ms);
        }
        let Got { status, body, .. } = self.admin.ask("POST", "/admin/cache/purge", "", &order.to_string()).await?;
        Some((StatusCode::from_u16(status).ok()?, serde_json::from_str(&body).ok()?))
    }
}

/// Waits until `holds`; an error if it never comes true.
async fn in_time(holds: impl Fn() -> bool) -> Result<(), ()> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > PATIENCE {
            return Err(());
        }
        tokio::time::sleep(millis(1)).await;
    }
    Ok(())
}

impl Setting {
    fn configure(&self, config: &mut Config, redis: Option<&str>) {
        config.routes = Kind::ALL.map(|kind| self.route(kind)).into();
        // The clients keep their connections for as long as the stage stands.
        config.server.keep_alive_timeout = secs(3600);
        config.cache.secret = Some("of the histories".to_owned());
        if !self.has_memory {
            config.store.memory.bytes_max = 0;
        }
        config.store.redis = redis.map(|url| {
            let mut options = redis_options(url);
            options.when_down = self.when_down;
            options.lease = secs(1);
            if self.has_faults {
                // Short, so that silence is noticed soon.
                (options.budget, options.write_timeout, options.heartbeat) = (millis(200), millis(200), millis(100));
            }
            options
        });
    }

    fn route(&self, kind: Kind) -> Route {
        let pattern = Pattern::parse(&format!("/{}/{{history}}/{{id}}", kind.name())).unwrap();
        let tags = vec![TagTemplate::parse("h:{history}:{id}", pattern.captures()).unwrap()];
        let mut route = Route { tags, collapse: self.collapse, ..Route::new(kind.name(), pattern, secs(TTL)) };
        // The reference takes the origin at its word: without `Vary`, a language makes no difference. Here it always does.
        route.key_headers = vec![http::header::ACCEPT_LANGUAGE];
        match kind {
            Kind::ByResponse => {}
            Kind::Everyone => route.share = Share::Everyone,
            Kind::PerCredential => {
                route.share = Share::PerCredential(vec![http::header::AUTHORIZATION, http::header::COOKIE]);
            }
            Kind::Standard => {
                (route.caching, route.unkeyed) = (Caching::Standard, Unkeyed::Forward);
                route.key_headers.clear();
            }
            Kind::Tenant => {
                route.key_headers.push("x-tenant".parse().unwrap());
                route.ttl_by_status = vec![(StatusCode::NOT_FOUND, secs(TTL_404))];
            }
            Kind::Stale => {
                route.caching = Caching::Rule { ttl: secs(STALE_TTL), overrides: false };
                (route.stale_while_revalidate, route.stale_if_error) = (secs(STALE.0), secs(STALE.1));
            }
        }
        route
    }
}

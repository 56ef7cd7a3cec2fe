//! What the statistics of two moments say of the time between them, as a picture for people and as lines for scripts.

use serde_json::Value;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// The statistics of a moment.
pub(super) struct Moment {
    pub(super) stats: Value,
    pub(super) at: Instant,
}

/// What happened between two moments.
pub(super) struct Rates<'a> {
    stats: &'a Value,
    all: Rate,
    routes: Vec<(String, Rate)>,
    evictions: f64,
}

/// Requests of a route, a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Rate {
    requests: f64,
    memory: f64,
    redis: f64,
    misses: f64,
    collapsed: f64,
    validated: f64,
    stale: f64,
    passed: f64,
    errors: f64,
}

impl<'a> Rates<'a> {
    pub(super) fn between(before: &Moment, after: &'a Moment) -> Rates<'a> {
        let seconds = after.at.duration_since(before.at).as_secs_f64().max(f64::EPSILON);
        let routes: Vec<(String, Rate)> = list(&after.stats["routes"])
            .map(|route| {
                let earlier = list(&before.stats["routes"]).find(|earlier| earlier["name"] == route["name"]);
                (route["name"].as_str().unwrap_or_default().to_owned(), Rate::of(earlier, route, seconds))
            })
            .collect();
        let mut all = Rate::default();
        routes.iter().for_each(|(_, rate)| all.add(rate));
        let memory = |stats: &Value| stats["tiers"]["memory"].clone();
        let evictions = per_second(Some(&memory(&before.stats)), &memory(&after.stats), "evictions", seconds);
        Rates { stats: &after.stats, all, routes, evictions }
    }

    /// For a terminal.
    pub(super) fn picture(&self, url: &str, interval: Duration) -> String {
        let (stats, all) = (self.stats, &self.all);
        let mut text = format!("sidecache  {url}  each {interval:?}\n\n");
        let total = format!("{} % since the start", stats["hit_rate"]);
        let now = all.hit_rate().map_or("no look-ups".to_owned(), |rate| format!("{rate:.1} %"));
        let _ = writeln!(text, "requests   {}/s   hits {now} ({total})", number(all.requests));
        let _ =
            writeln!(text, "fetches    {} under way   {} requests wait for them", stats["fetches_under_way"], stats["followers"]);
        let memory = &stats["tiers"]["memory"];
        let _ = writeln!(
            text,
            "memory     {} keys   {} of {} MiB   {} evictions/s",
            memory["keys"],
            memory["used_mb"],
            memory["max_mb"],
            number(self.evictions)
        );
        let _ = writeln!(text, "Redis      {}", redis(stats));
        for origin in list(&stats["origin"]) {
            let _ = writeln!(text, "origin     {} {}", word(&origin["address"]), word(&origin["status"]));
        }
        if stats["enabled"] == false {
            let _ = writeln!(text, "\nThe cache is switched off.");
        }
        let width = self.routes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().clamp(5, 40);
        let _ = write!(text, "\n{:width$}", "route");
        for title in
            ["requests/s", "hits %", "memory/s", "Redis/s", "misses/s", "follow/s", "valid/s", "stale/s", "past/s", "errors/s"]
        {
            let _ = write!(text, " {title:>10}");
        }
        text.push('\n');
        // The busiest first; of those that are as busy, in the order of the file.
        let mut routes: Vec<&(String, Rate)> = self.routes.iter().collect();
        routes.sort_by(|(_, one), (_, other)| other.requests.total_cmp(&one.requests));
        for (name, rate) in routes {
            let name: String = name.chars().filter(|sign| !sign.is_control()).take(width).collect();
            let hit_rate = rate.hit_rate().map_or("-".to_owned(), |rate| format!("{rate:.1}"));
            let _ = write!(text, "{name:width$} {:>10} {hit_rate:>10}", number(rate.requests));
            for value in
                [rate.memory, rate.redis, rate.misses, rate.collapsed, rate.validated, rate.stale, rate.passed, rate.errors]
            {
                let _ = write!(text, " {:>10}", number(value));
            }
            text.push('\n');
        }
        text
    }

    /// For scripts: a line for all requests, and one for each route.
    pub(super) fn lines(&self) -> String {
        let mut text = String::new();
        let all = ("all".to_owned(), self.all);
        for (name, rate) in std::iter::once(&all).chain(&self.routes) {
            let name = if name.contains([' ', '"']) { format!("{name:?}") } else { name.clone() };
            let hit_rate = rate.hit_rate().map_or("-".to_owned(), |rate| format!("{rate:.2}"));
            let _ = writeln!(
                text,
                "route={name} requests={:.1} hit_rate={hit_rate} memory={:.1} redis={:.1} misses={:.1} collapsed={:.1} validated={:.1} stale={:.1} passed={:.1} errors={:.1}",
                rate.requests,
                rate.memory,
                rate.redis,
                rate.misses,
                rate.collapsed,
                rate.validated,
                rate.stale,
                rate.passed,
                rate.errors
            );
        }
        text
    }
}

impl Rate {
    fn of(before: Option<&Value>, after: &Value, seconds: f64) -> Rate {
        let of = |key: &str| per_second(before, after, key, seconds);
        Rate {
            requests: of("requests"),
            memory: of("hits_memory"),
            redis: of("hits_redis"),
            misses: of("misses"),
            collapsed: of("collapsed"),
            validated: of("validated"),
            stale: of("stale"),
            passed: of("passed"),
            errors: of("errors"),
        }
    }

    fn add(&mut self, other: &Rate) {
        self.requests += other.requests;
        self.memory += other.memory;
        self.redis += other.redis;
        self.misses += other.misses;
        self.collapsed += other.collapsed;
        self.validated += other.validated;
        self.stale += other.stale;
        self.passed += other.passed;
        self.errors += other.errors;
    }

    /// Percent of the requests that could use the cache; `None` where there were none.
    fn hit_rate(&self) -> Option<f64> {
        let hits = self.memory + self.redis;
        (hits + self.misses > 0.0).then(|| 100.0 * hits / (hits + self.misses))
    }
}

/// By how much a counter grew, a second. One that became smaller has begun anew, with its process.
fn per_second(before: Option<&Value>, after: &Value, key: &str, seconds: f64) -> f64 {
    let (before, after) = (before.and_then(|before| before[key].as_u64()).unwrap_or(0), after[key].as_u64().unwrap_or(0));
    after.checked_sub(before).unwrap_or(after) as f64 / seconds
}

fn redis(stats: &Value) -> String {
    let redis = &stats["redis"];
    if redis.is_null() {
        return "is not used".to_owned();
    }
    let mut text = word(&redis["status"]).to_owned();
    if let Some(keys) = stats["tiers"]["redis"]["keys"].as_u64() {
        let _ = write!(text, "   {keys} keys");
    }
    if let Some(replicas) = redis["replicas"].as_u64() {
        let _ = write!(text, "   {replicas} replicas");
    }
    match redis["purges_pending"].as_u64() {
        None | Some(0) => {}
        Some(pending) => drop(write!(text, "   {pending} purges that it has not heard of")),
    }
    if let (Some(error), true) = (redis["last_error"].as_str(), redis["status"] != "connected") {
        let _ = write!(text, "   {}", error.chars().filter(|sign| !sign.is_control()).collect::<String>());
    }
    text
}

/// With a decimal while that says something.
fn number(number: f64) -> String {
    if number < 99.95 { format!("{number:.1}") } else { format!("{number:.0}") }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn moment(begun: Instant, seconds: u64, [requests, memory, redis, misses, passed]: [u64; 5]) -> Moment {
        let stats = json!({
            "enabled": true, "hit_rate": 75.0, "fetches_under_way": 1, "followers": 2,
            "tiers": {
                "memory": { "keys": 7, "used_mb": 0.5, "max_mb": 256.0, "evictions": 10 * seconds },
                "redis": { "keys": 9 },
            },
            "routes": [
                {
                    "name": "quiet", "requests": 0, "hits_memory": 0, "hits_redis": 0, "misses": 0, "collapsed": 0, "validated": 0,
                    "stale": 0, "passed": 0, "errors": 0,
                },
                {
                    "name": "customer", "requests": requests, "hits_memory": memory, "hits_redis": redis, "misses": misses,
                    "collapsed": 0, "validated": 0, "stale": 0, "passed": passed, "errors": 0,
                },
            ],
            "origin": [{ "address": "http://127.0.0.1:8000", "status": "well" }],
            "redis": { "status": "degraded", "last_error": "connection refused", "replicas": 2, "purges_pending": 1 },
        });
        Moment { stats, at: begun + Duration::from_secs(seconds) }
    }

    #[test]
    fn what_happened_between_two_moments_is_told_a_second() {
        let begun = Instant::now();
        let (before, after) = (moment(begun, 0, [10, 5, 2, 2, 1]), moment(begun, 2, [30, 17, 6, 6, 1]));
        let lines = Rates::between(&before, &after).lines();
        let zeros = "collapsed=0.0 validated=0.0 stale=0.0 passed=0.0 errors=0.0\n";
        let busy = format!("requests=10.0 hit_rate=80.00 memory=6.0 redis=2.0 misses=2.0 {zeros}");
        let quiet = format!("requests=0.0 hit_rate=- memory=0.0 redis=0.0 misses=0.0 {zeros}");
        assert_eq!(lines, format!("route=all {busy}route=quiet {quiet}route=customer {busy}"));
    }

    #[test]
    fn counters_that_began_anew_count_from_there() {
        let begun = Instant::now();
        let (before, after) = (moment(begun, 0, [1000, 500, 200, 200, 100]), moment(begun, 1, [3, 2, 0, 1, 0]));
        let rates = Rates::between(&before, &after);
        assert_eq!((rates.all.requests, rates.all.memory, rates.all.misses), (3.0, 2.0, 1.0));
    }

    #[test]
    fn the_picture_has_the_busiest_route_first() {
        let begun = Instant::now();
        let (before, after) = (moment(begun, 0, [0; 5]), moment(begun, 1, [1200, 900, 0, 300, 0]));
        let picture = Rates::between(&before, &after).picture("http://127.0.0.1:9090", Duration::from_secs(1));
        let expected = "\
sidecache  http://127.0.0.1:9090  each 1s

requests   1200/s   hits 75.0 % (75.0 % since the start)
fetches    1 under way   2 requests wait for them
memory     7 keys   0.5 of 256.0 MiB   10.0 evictions/s
Redis      degraded   9 keys   2 replicas   1 purges that it has not heard of   connection refused
origin     http://127.0.0.1:8000 well

route    requests/s     hits %   memory/s    Redis/s   misses/s   follow/s    valid/s    stale/s     past/s   errors/s
customer       1200       75.0        900        0.0        300        0.0        0.0        0.0        0.0        0.0
quiet           0.0          -        0.0        0.0        0.0        0.0        0.0        0.0        0.0        0.0
";
        assert_eq!(picture, expected);
    }
}

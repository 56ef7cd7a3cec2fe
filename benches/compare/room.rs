//! What memory holds: how many requests a part of the keys answers, and what a million entries take.

use crate::Broken;
use crate::client::Client;
use crate::peers::{Peer, Server, Setup};
use crate::rounds::Bench;
use crate::table::{Goal, Results, Row, Unit};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

/// A million keys, of which those are asked for most that come first, and memory for a tenth of them.
pub(crate) fn ratio(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let trial = Peer::Sidecache(Setup::MEMORY).start(&bench.origin, bench.cores)?;
    bench.runtime.block_on(ask(trial.address, OCTETS, SAMPLE, |number| number))?;
    let (used, keys) =
        bench.runtime.block_on(async { Ok::<_, Broken>((gauge(&trial, USED).await?, gauge(&trial, KEYS).await?)) })?;
    drop(trial);
    let memory_bytes = (used / keys * HELD as f64) as u64;
    let server = Peer::Sidecache(Setup { memory_bytes, ..Setup::MEMORY }).start(&bench.origin, bench.cores)?;
    let zipf = Zipf::new(ALL, 0.99);
    let (warm, measured) = (zipf.choices(REQUESTS, 1), zipf.choices(REQUESTS, 2));
    let (hits, kept) = bench.runtime.block_on(async {
        ask(server.address, OCTETS, REQUESTS, move |number| warm[number as usize]).await?;
        let before = bench.origin.asked().await?;
        ask(server.address, OCTETS, REQUESTS, move |number| measured[number as usize]).await?;
        let fetched = bench.origin.asked().await? - before;
        Ok::<_, Broken>((1.0 - fetched as f64 / REQUESTS as f64, gauge(&server, KEYS).await?))
    })?;
    let work = "hit ratio, zipf 0.99, 1 M keys, memory for 100 k";
    results.rows.push(Row::new(work, Goal::AtLeast(0.82), Unit::Share, vec![hits]));
    results.notes.push(format!(
        "hit ratio: {REQUESTS} requests to warm up, as many measured; {kept:.0} entries in {:.1} MB; to hold always the {HELD} that are asked for most would answer {:.3}",
        memory_bytes as f64 / 1e6,
        zipf.share(HELD)
    ));
    Ok(())
}

/// Fills sidecache with a million entries of a kilobyte, and the others, which are slower to fill, with a quarter of that; and looks on
/// the way at what they take.
pub(crate) fn resident(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    // HAProxy takes all of its cache when it starts.
    let peers = [Peer::Sidecache(Setup { memory_bytes: 8 << 30, ..Setup::MEMORY }), Peer::Varnish, Peer::Nginx];
    for peer in peers.into_iter().filter(|peer| peer.missing().is_none()) {
        let server = peer.start(&bench.origin, bench.cores)?;
        let is_ours = matches!(peer, Peer::Sidecache(_));
        let (all, goal) = if is_ours { (ALL, Goal::AtMost(1.35)) } else { (ALL / 4, Goal::None) };
        let mut points = vec![(0.0, taken(&server)?)];
        let step = all / STEPS;
        for from in (0..STEPS).map(|step_number| step_number * step) {
            bench.runtime.block_on(ask(server.address, OCTETS, step, move |number| from + number))?;
            points.push(((from + step) as f64, taken(&server)?));
        }
        let (hits, looked) = bench.runtime.block_on(kept(&server, all))?;
        if hits * 100 < looked * 99 {
            return Err(format!("{}: of {looked} entries that were looked for, {hits} were there", peer.name()));
        }
        let (empty, full) = (points[0].1, points[points.len() - 1].1);
        let least = all as f64 * (OCTETS as f64 + 300.0);
        let (name, thousands) = (peer.name(), all / 1_000);
        let work = format!("resident memory with {thousands} k entries of 1 KB, over body + 300 octets: {name}");
        // Of so few entries, what the others take when they are empty would be a good part.
        let ratio = if is_ours { full / least } else { (full - empty) / least };
        results.rows.push(Row::new(&work, goal, Unit::Times, vec![ratio]));
        results.memory.push((peer.name().to_owned(), points));
    }
    Ok(())
}

/// Octets in memory: of its processes, and of its files, which lie in memory too.
fn taken(server: &Server) -> Result<f64, Broken> {
    let processes = server.process.resident();
    if server.peer != Peer::Nginx {
        return Ok(processes);
    }
    let output = Command::new("du").args(["-s", "-B1"]).arg(server.directory.path().join("cache")).output();
    let output = output.map_err(|error| format!("du: {error}"))?.stdout;
    let octets = String::from_utf8_lossy(&output).split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
    Ok(processes + octets.ok_or("du says nothing")?)
}

/// Of entries from everywhere, how many are there, and how many were looked for.
async fn kept(server: &Server, all: u64) -> Result<(u64, u64), Broken> {
    let mut client = Client::connect(server.address).await?;
    let (mut hits, looked) = (0, 1_000);
    for number in 0..looked {
        let answer = client.get(&format!("/json/{OCTETS}/{}", number * (all / looked))).await?;
        hits += u64::from(server.peer.is_hit(&answer));
    }
    Ok((hits, looked))
}

/// Asks so many times, on several connections, each time for what `id` says.
async fn ask(
    address: SocketAddr,
    octets: usize,
    requests: u64,
    id: impl Fn(u64) -> u64 + Send + Sync + 'static,
) -> Result<(), Broken> {
    let (next, id) = (Arc::new(AtomicU64::new(0)), Arc::new(id));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, id) = (next.clone(), id.clone());
        clients.spawn(async move {
            let mut client = Client::connect(address).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests {
                    return Ok::<(), Broken>(());
                }
                client.get(&format!("/json/{octets}/{}", id(number))).await?;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(())
}

async fn gauge(server: &Server, series: &str) -> Result<f64, Broken> {
    let mut client = Client::connect(server.admin).await?;
    let answer = client.get("/metrics").await?;
    let text = String::from_utf8_lossy(answer.body);
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.ok_or_else(|| format!("there is no {series}: {:?}", answer.field("content-type")))
}

/// How often each place is asked for: in proportion to the place to the power of minus the skew.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(places: u64, skew: f64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=places).map(|place| {
            sum += (place as f64).powf(-skew);
            sum
        });
        Zipf(sums.collect())
    }

    fn choices(&self, number: u64, seed: u64) -> Vec<u64> {
        let (mut random, all) = (fastrand::Rng::with_seed(seed), self.0.last().copied().unwrap_or_default());
        let mut choose = || {
            let at = random.f64() * all;
            self.0.partition_point(|sum| *sum <= at) as u64
        };
        (0..number).map(|_| choose()).collect()
    }

    /// The part of all requests that is for the first so many places.
    fn share(&self, places: u64) -> f64 {
        self.0[places as usize - 1] / self.0[self.0.len() - 1]
    }
}

const ALL: u64 = 1_000_000;
const HELD: u64 = 100_000;
const REQUESTS: u64 = 1_000_000;

/// Entries from which the weight of one is known.
const SAMPLE: u64 = 20_000;

const OCTETS: usize = 1024;
const STEPS: u64 = 8;
const CLIENTS: usize = 64;

const USED: &str = "sidecache_memory_bytes{kind=\"used\"}";
const KEYS: &str = "sidecache_memory_keys";

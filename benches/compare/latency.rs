//! Latency of hits at a constant rate.

use crate::Broken;
use crate::exchanges::{USUAL, ratios};
use crate::peers::{Peer, Setup};
use crate::proof::prove_hits;
use crate::rounds::{Bench, HOT};
use crate::steady;
use crate::table::{Goal, Results, Row, Unit};
use std::time::Duration;

pub(crate) fn steady(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let servers = bench.start(&[Peer::Sidecache(Setup::MEMORY), Peer::Bare(USUAL), Peer::Nginx, Peer::Haproxy, Peer::Varnish])?;
    let path = format!("/json/{USUAL}/");
    for server in &servers {
        bench.runtime.block_on(prove_hits(server, &path, USUAL, HOT))?;
    }
    let mut all: Vec<(&str, Vec<f64>, Vec<Duration>)> =
        servers.iter().map(|server| (server.peer.name(), Vec::new(), Vec::new())).collect();
    let mut late = Duration::ZERO;
    for round in 0..bench.rounds {
        for turn in 0..servers.len() {
            let place = (round + turn) % servers.len();
            let server = &servers[place];
            let before = bench.runtime.block_on(bench.origin.settled())?;
            let load = steady::load(server.address, &path, USUAL, HOT, bench.seconds);
            let shown = bench.runtime.block_on(load)?;
            late = late.max(shown.late);
            if bench.runtime.block_on(bench.origin.asked())? != before {
                return Err(format!("{} has asked the origin for what it had", server.peer.name()));
            }
            all[place].1.push(steady::percentile(&shown.took, 0.99).as_secs_f64());
            all[place].2.extend(shown.took);
        }
    }
    let p99 = |name: &str| all.iter().find(|(who, ..)| *who == name).map_or(Vec::new(), |(_, p99, _)| p99.clone());
    for peer in ["nginx", "HAProxy", "bare hyper"] {
        let goal = if peer == "bare hyper" { Goal::None } else { Goal::Below(1.0) };
        let work = format!("p99 of hits at 20,000/s, over that of {peer}");
        results.rows.push(Row::new(&work, goal, Unit::Times, ratios(p99("sidecache"), p99(peer))));
    }
    let says = if late > LATE {
        ", so that these figures are the load's own: the machine is too slow for it, or has other work"
    } else {
        ""
    };
    let late = late.as_secs_f64() * 1e3;
    results.notes.push(format!("at 20,000/s: in the worst round the load came {late:.3} ms late to one of 100 requests{says}"));
    for (who, _, mut took) in all {
        took.sort_unstable();
        results.latencies.push((who.to_owned(), took));
    }
    Ok(())
}

/// A load that is later than this is not the one that was meant.
const LATE: Duration = Duration::from_millis(1);

//! Hits, forwards and misses: what each costs in CPU time, beside those who do the same.

use crate::Broken;
use crate::peers::{Peer, Setup};
use crate::rounds::{Bench, Contender, Kind, Sample};
use crate::table::{Goal, Measured, Results, Row, Unit};

/// Hits in memory, of bodies of so many octets.
pub(crate) fn hits(bench: &Bench, octets: usize, results: &mut Results) -> Result<(), Broken> {
    let peers = [Peer::Sidecache(Setup::MEMORY), Peer::Bare(octets), Peer::Nginx, Peer::Haproxy, Peer::Varnish];
    let servers = bench.start(&peers)?;
    let contenders: Vec<_> = servers.iter().map(|server| Contender::new(server, octets, Kind::Hits)).collect();
    let measured = measure(bench, &format!("hit in memory, {}", size(octets)), &contenders, results)?;
    let ratios = ratios(cpu(&measured, "sidecache"), cpu(&measured, "bare hyper"));
    let row = format!("hit in memory, {}, over bare hyper", size(octets));
    results.rows.push(Row::new(&row, Goal::AtMost(1.15), Unit::Times, ratios));
    Ok(())
}

/// Hits in Redis, with nothing in memory.
pub(crate) fn redis(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let servers = bench.start(&[Peer::Sidecache(Setup::REDIS), Peer::Lua])?;
    let contenders: Vec<_> = servers.iter().map(|server| Contender::new(server, USUAL, Kind::Hits)).collect();
    let measured = measure(bench, "hit in Redis, 2 KB", &contenders, results)?;
    let both = |name: &str| -> Vec<f64> { samples(&measured, name).iter().map(|sample| sample.cpu + sample.redis_cpu).collect() };
    let ratios = ratios(both("sidecache"), both("nginx+Lua+Redis"));
    results.rows.push(Row::new(
        "hit in Redis, Redis' CPU included, over nginx+Lua+Redis",
        Goal::AtMost(0.45),
        Unit::Times,
        ratios,
    ));
    Ok(())
}

/// Requests that are forwarded, and whose answers nobody stores.
pub(crate) fn forward(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let servers = bench.start(&[Peer::Sidecache(Setup::MEMORY), Peer::Nginx, Peer::Haproxy, Peer::Varnish])?;
    let contenders: Vec<_> = servers.iter().map(|server| Contender::new(server, USUAL, Kind::Forwards)).collect();
    let measured = measure(bench, "forwarded, not cacheable, 2 KB", &contenders, results)?;
    let ratios = ratios(cpu(&measured, "sidecache"), cpu(&measured, "nginx"));
    results.rows.push(Row::new("forwarded, not cacheable, over nginx proxy_pass", Goal::AtMost(0.8), Unit::Times, ratios));
    Ok(())
}

/// Misses that are stored, in both tiers, and forwards by the same process.
pub(crate) fn miss(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let servers = bench.start(&[Peer::Sidecache(Setup::BOTH), Peer::Nginx, Peer::Haproxy, Peer::Varnish])?;
    let mut contenders: Vec<_> = servers.iter().map(|server| Contender::new(server, USUAL, Kind::Misses)).collect();
    if let Some(sidecache) = servers.first().filter(|server| matches!(server.peer, Peer::Sidecache(_))) {
        contenders.push(Contender::new(sidecache, USUAL, Kind::Forwards).labelled("sidecache, forwarded"));
    }
    let measured = measure(bench, "miss, stored, 2 KB", &contenders, results)?;
    let ratios = ratios(cpu(&measured, "sidecache"), cpu(&measured, "sidecache, forwarded"));
    let row = "miss, stored in memory and Redis (Redis' CPU excluded), over forwarded";
    results.rows.push(Row::new(row, Goal::AtMost(1.3), Unit::Times, ratios));
    Ok(())
}

type All = Vec<(String, Vec<Sample>)>;

fn measure(bench: &Bench, work: &str, contenders: &[Contender<'_>], results: &mut Results) -> Result<All, Broken> {
    let samples = bench.rounds(contenders)?;
    let all: All = contenders.iter().map(|contender| contender.label.clone()).zip(samples).collect();
    let measured =
        all.iter().map(|(who, samples)| Measured { work: work.to_owned(), who: who.clone(), samples: samples.clone() });
    results.measured.extend(measured);
    Ok(all)
}

fn samples<'a>(measured: &'a All, name: &str) -> &'a [Sample] {
    measured.iter().find(|(who, _)| who == name).map_or(&[], |(_, samples)| samples)
}

fn cpu(measured: &All, name: &str) -> Vec<f64> {
    samples(measured, name).iter().map(|sample| sample.cpu).collect()
}

/// One for each round; none where one of both was not measured.
pub(crate) fn ratios(these: Vec<f64>, those: Vec<f64>) -> Vec<f64> {
    these.into_iter().zip(those).map(|(this, that)| this / that).collect()
}

pub(crate) fn size(octets: usize) -> String {
    match octets {
        ..1024 => format!("{octets} octets"),
        more => format!("{} KB", more / 1024),
    }
}

/// 2 KB of JSON, as an application's interface has it.
pub(crate) const USUAL: usize = 2048;

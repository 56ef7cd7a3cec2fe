//! From nothing to the first answer, and what is there then.

use crate::Broken;
use crate::client::Client;
use crate::exchanges::USUAL;
use crate::peers::{Peer, Setup};
use crate::proof::prove_body;
use crate::rounds::Bench;
use crate::table::{Goal, Results, Row, Unit};
use std::time::Duration;

pub(crate) fn start(bench: &Bench, results: &mut Results) -> Result<(), Broken> {
    let sidecache = Peer::Sidecache(Setup { memory_bytes: 256 << 20, ..Setup::MEMORY });
    for peer in [sidecache, Peer::Nginx, Peer::Haproxy, Peer::Varnish].into_iter().filter(|peer| peer.missing().is_none()) {
        let (mut took, mut resident) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let server = peer.launch(&bench.origin, &[bench.cores.serving])?;
            let first = bench.runtime.block_on(async {
                loop {
                    if let Ok(mut client) = Client::connect(server.address).await {
                        prove_body(&mut client, &server, &format!("/json/{USUAL}/"), USUAL, 0).await?;
                        return Ok::<Duration, Broken>(server.process.begun.elapsed());
                    }
                    if server.process.begun.elapsed() > PATIENCE {
                        return Err(format!("{} does not come up", peer.name()));
                    }
                    tokio::task::yield_now().await;
                }
            })?;
            took.push(first.as_secs_f64() * 1e3);
            resident.push(server.process.resident() / 1e6);
        }
        let is_ours = peer == sidecache;
        let (in_time, in_room) = if is_ours { (Goal::Below(50.0), Goal::Below(20.0)) } else { (Goal::None, Goal::None) };
        let name = peer.name();
        results.rows.push(Row::new(&format!("start to first answer: {name}"), in_time, Unit::Milliseconds, took));
        results.rows.push(Row::new(&format!("resident memory then: {name}"), in_room, Unit::Megabytes, resident));
    }
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_sidecache")).map_err(|error| error.to_string())?;
    results.rows.push(Row::new("the program's file: sidecache", Goal::None, Unit::Megabytes, vec![program.len() as f64 / 1e6]));
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(20);

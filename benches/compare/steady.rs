//! A constant rate: requests go out at instants that were fixed before, whatever becomes of those before them, and the time of each
//! counts from its instant. One that has to wait for its connection because an answer is late is late itself.

use crate::Broken;
use crate::client::Client;
use crate::served;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long each request took, sorted; those of the first half second are left out.
pub(crate) async fn load(
    address: SocketAddr,
    path: &str,
    octets: usize,
    ids: u64,
    seconds: u64,
) -> Result<Vec<Duration>, Broken> {
    let targets: Vec<(String, Vec<u8>)> = (0..ids).map(|id| (format!("{path}{id}"), served::body(octets, id))).collect();
    let targets = Arc::new(targets);
    let (mut clients, mut queues) = (JoinSet::new(), Vec::new());
    let start = Instant::now() + LEAD;
    for number in 0..CONNECTIONS {
        let (queue, mut due) = mpsc::unbounded_channel::<Instant>();
        queues.push(queue);
        let (mut client, targets) = (Client::connect(address).await?, targets.clone());
        clients.spawn(async move {
            let (mut took, mut next) = (Vec::new(), number);
            while let Some(due) = due.recv().await {
                let (target, body) = &targets[next % targets.len()];
                let is_right = client.get(target).await?.body == body;
                let latency = due.elapsed();
                if !is_right {
                    return Err(format!("{address} answers {target} with a wrong body"));
                }
                if due >= start + UNCOUNTED {
                    took.push(latency);
                }
                next += CONNECTIONS;
            }
            Ok(took)
        });
    }
    let apart = Duration::from_secs(1) / RATE;
    for number in 0..RATE * seconds as u32 {
        let due = start + apart * number;
        // A timer would be too coarse. What waits on the sockets gets its turn whenever this yields.
        tokio::task::yield_now().await;
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        queues[number as usize % CONNECTIONS].send(due).map_err(|_| format!("{address} has let a connection end"))?;
    }
    drop(queues);
    let mut took = Vec::new();
    while let Some(ended) = clients.join_next().await {
        took.extend(ended.map_err(|error| error.to_string())??);
    }
    took.sort_unstable();
    Ok(took)
}

/// The least time that this share of them did not exceed.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    sorted.get(rank - 1).or(sorted.last()).copied().unwrap_or_default()
}

pub(crate) const RATE: u32 = 20_000;

const CONNECTIONS: usize = 64;

const LEAD: Duration = Duration::from_millis(20);

const UNCOUNTED: Duration = Duration::from_millis(500);

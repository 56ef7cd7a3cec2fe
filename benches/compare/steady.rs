//! A constant rate: requests go out at instants that were fixed before, whatever becomes of those before them, and the time of each
//! counts from its instant. One that has to wait for its connection because an answer is late is late itself.

use crate::Broken;
use crate::client::{Client, request};
use crate::served;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What the load has shown.
pub(crate) struct Shown {
    /// How long each request took, sorted; those of the first half second are left out.
    pub(crate) took: Vec<Duration>,
    /// How much later than it should, at most, the load itself came to 99 of 100 requests.
    pub(crate) late: Duration,
}

/// Asks for the first so many ids, and compares every body.
pub(crate) async fn load(address: SocketAddr, path: &str, octets: usize, ids: u64, seconds: u64) -> Result<Shown, Broken> {
    let target = |id: u64| (request(&format!("{path}{id}")), served::body(octets, id));
    let targets: Vec<(Vec<u8>, Vec<u8>)> = (0..ids).map(target).collect();
    let targets = Arc::new(targets);
    let (mut clients, mut queues) = (JoinSet::new(), Vec::new());
    let start = Instant::now() + LEAD;
    for number in 0..CONNECTIONS {
        let (queue, mut due) = mpsc::unbounded_channel::<Instant>();
        queues.push(queue);
        let (mut client, targets, path) = (Client::connect(address).await?, targets.clone(), path.to_owned());
        clients.spawn(async move {
            let (mut took, mut next) = (Vec::new(), number);
            while let Some(due) = due.recv().await {
                let (request, body) = &targets[next % targets.len()];
                let is_right = client.send(request).await?.body == body;
                let latency = due.elapsed();
                if !is_right {
                    return Err(format!("{address} answers {path} with a wrong body"));
                }
                if due >= start + UNCOUNTED {
                    took.push(latency);
                }
                next += CONNECTIONS;
            }
            Ok(took)
        });
    }
    let (apart, mut late) = (Duration::from_secs(1) / RATE, Vec::new());
    for number in 0..RATE * seconds as u32 {
        let due = start + apart * number;
        // A timer would be too coarse. What waits on the sockets gets its turn whenever this yields.
        tokio::task::yield_now().await;
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        late.push(due.elapsed());
        queues[number as usize % CONNECTIONS].send(due).map_err(|_| format!("{address} has let a connection end"))?;
    }
    drop(queues);
    let mut took = Vec::new();
    while let Some(ended) = clients.join_next().await {
        took.extend(ended.map_err(|error| error.to_string())??);
    }
    took.sort_unstable();
    late.sort_unstable();
    Ok(Shown { took, late: percentile(&late, 0.99) })
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

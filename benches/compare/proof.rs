//! That a server answers what it should, and from its cache.

use crate::Broken;
use crate::client::{Answer, Client};
use crate::peers::Server;
use crate::served;
use std::time::{Duration, Instant};

/// Checks that a server, once it was asked, answers all of these from its cache, and with the right bodies; and fills it by that.
pub(crate) async fn prove_hits(server: &Server, path: &str, octets: usize, ids: u64) -> Result<(), Broken> {
    let mut client = Client::connect(server.address).await?;
    for id in 0..ids {
        prove_body(&mut client, server, path, octets, id).await?;
    }
    for id in 0..ids {
        // What is written to Redis is written after the answer.
        let begun = Instant::now();
        while !server.peer.is_hit(&prove_body(&mut client, server, path, octets, id).await?) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} does not store {path}{id}", server.peer.name()));
            }
        }
    }
    Ok(())
}

/// Checks one body, and gives the answer.
pub(crate) async fn prove_body<'a>(
    client: &'a mut Client,
    server: &Server,
    path: &str,
    octets: usize,
    id: u64,
) -> Result<Answer<'a>, Broken> {
    let answer = client.get(&format!("{path}{id}")).await?;
    if answer.body != served::body(octets, id) {
        return Err(format!("{} answers {path}{id} with a wrong body", server.peer.name()));
    }
    Ok(answer)
}

const PATIENCE: Duration = Duration::from_secs(20);

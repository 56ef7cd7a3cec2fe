//! Rounds: each server is loaded in turn, for a while, and again, so that what the machine does meanwhile strikes all alike.

use crate::Broken;
use crate::client::Client;
use crate::peers::{Origin, Peer, Server};
use crate::process::Cores;
use crate::proof::{prove_body, prove_hits};
use crate::wrk::{self, Asked, CONNECTIONS};
use std::cell::Cell;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What all works are done with.
pub(crate) struct Bench {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) cores: Cores,
    pub(crate) origin: Origin,
    pub(crate) runtime: Runtime,
    pub(crate) directory: TempDir,
    /// The first number that nobody has asked for yet.
    pub(crate) unused: Cell<u64>,
}

/// A server, and what it is asked for.
pub(crate) struct Contender<'a> {
    pub(crate) server: &'a Server,
    pub(crate) label: String,
    pub(crate) octets: usize,
    pub(crate) kind: Kind,
}

/// What its answers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its cache: a hundred things are asked for, again and again.
    Hits,
    /// The origin, and they are stored: nothing is asked for twice.
    Misses,
    /// The origin, and they may not be stored.
    Forwards,
}

/// What a round has shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Microseconds of CPU a request: of the server, and of its Redis.
    pub(crate) cpu: f64,
    pub(crate) redis_cpu: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// The part of one core that the server and its Redis had.
    pub(crate) busy: f64,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(server: &'a Server, octets: usize, kind: Kind) -> Contender<'a> {
        Contender { server, label: server.peer.name().to_owned(), octets, kind }
    }

    pub(crate) fn labelled(self, label: &str) -> Contender<'a> {
        Contender { label: label.to_owned(), ..self }
    }

    fn path(&self) -> String {
        let place = if self.kind == Kind::Forwards { "pass" } else { "json" };
        format!("/{place}/{}/", self.octets)
    }
}

impl Bench {
    /// Starts those that are installed; says of the others what is missing.
    pub(crate) fn start(&self, peers: &[Peer]) -> Result<Vec<Server>, Broken> {
        let installed = peers.iter().filter(|peer| peer.missing().is_none());
        installed.map(|peer| peer.start(&self.origin, self.cores)).collect()
    }

    /// Shows that each does what is to be measured, loads all in turn, shows it again, and gives what was measured: for each
    /// contender, a sample a round.
    pub(crate) fn rounds(&self, contenders: &[Contender<'_>]) -> Result<Vec<Vec<Sample>>, Broken> {
        for contender in contenders {
            self.prove(contender)?;
            self.sample(contender, 1)?;
        }
        let mut samples = vec![Vec::new(); contenders.len()];
        for round in 0..self.rounds {
            for turn in 0..contenders.len() {
                let place = (round + turn) % contenders.len();
                samples[place].push(self.sample(&contenders[place], self.seconds)?);
            }
        }
        contenders.iter().try_for_each(|contender| self.prove(contender))?;
        Ok(samples)
    }

    /// Shows that bodies are right, and come from where they should.
    fn prove(&self, contender: &Contender<'_>) -> Result<(), Broken> {
        let (server, octets, path) = (contender.server, contender.octets, contender.path());
        self.runtime.block_on(async {
            if contender.kind == Kind::Hits {
                return prove_hits(server, &path, octets, HOT).await;
            }
            let mut client = Client::connect(server.address).await?;
            let before = self.origin.settled().await?;
            for _ in 0..HOT {
                prove_body(&mut client, server, &path, octets, self.unused.replace(self.unused.get() + 1)).await?;
            }
            match self.origin.asked().await? - before {
                HOT => Ok(()),
                asked => Err(format!("{} asks the origin {asked} times for {HOT} requests", contender.label)),
            }
        })
    }

    fn sample(&self, contender: &Contender<'_>, seconds: u64) -> Result<Sample, Broken> {
        let (server, path) = (contender.server, contender.path());
        let asked = match contender.kind {
            Kind::Hits => Asked { path, first: 0, count: HOT },
            Kind::Misses | Kind::Forwards => Asked { path, first: self.unused.replace(self.unused.get() + STRIDE), count: 0 },
        };
        let redis = || server.redis.as_ref().map(|redis| redis.cpu()).unwrap_or_default();
        let (before, cpu, redis_cpu) = (self.runtime.block_on(self.origin.settled())?, server.process.cpu(), redis());
        let said = wrk::run(server.address, &asked, seconds, self.directory.path(), self.cores.asking)?;
        // What is done behind the answers, such as writing to Redis, counts as well.
        let fetched = self.runtime.block_on(self.origin.settled())? - before;
        let (cpu, redis_cpu) = (server.process.cpu() - cpu, redis() - redis_cpu);
        // Some are under way when the time is up.
        let is_right = match contender.kind {
            Kind::Hits => fetched == 0,
            Kind::Misses | Kind::Forwards => (said.requests..=said.requests + 2 * CONNECTIONS).contains(&fetched),
        };
        if !is_right || said.octets < said.requests * contender.octets as u64 {
            let (label, requests, octets) = (&contender.label, said.requests, said.octets);
            return Err(format!("{label}: {requests} answers of {octets} octets, {fetched} from the origin"));
        }
        let (requests, time) = (said.requests as f64, said.time.as_secs_f64());
        Ok(Sample {
            rate: requests / time,
            cpu: cpu.as_secs_f64() * 1e6 / requests,
            redis_cpu: redis_cpu.as_secs_f64() * 1e6 / requests,
            p50: said.p50.as_secs_f64() * 1e6,
            p99: said.p99.as_secs_f64() * 1e6,
            busy: (cpu + redis_cpu).as_secs_f64() / time,
        })
    }
}

/// How many things hits are asked for.
pub(crate) const HOT: u64 = 100;

/// More than are asked for in one round.
const STRIDE: u64 = 100_000_000;

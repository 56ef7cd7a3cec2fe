//! What many replicas ask of one Redis and one origin: `cargo bench --bench scale`.
//!
//! It prints the tables of docs/scale.md, from a simulation with a seed, and beside it what the model's formulas say.
//! `-- real` compares both with one to four real sidecars; `-- --picture FILE` draws as well.

mod deployment;
mod model;
mod plot;
mod real;
mod simulation;

#[path = "../../tests/world/mod.rs"]
mod world;

use deployment::{Deployment, Load};
use std::path::Path;

/// What a deployment is where the tables do not vary it: a thousand requests a second for each of ten replicas.
const USUAL: Deployment = Deployment {
    replicas: 10,
    keys: 1e6,
    rate: 10_000.0,
    skew: 0.99,
    ttl: 3_600.0,
    memory_keys: 100_000.0,
    purges: 1.0,
    fetch: 0.05,
    body: 1_000.0,
};

const SEED: u64 = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => tables(),
        ["real"] => against_reality(),
        ["--picture", file] => plot::draw(Path::new(file), &by_replicas()).expect("the picture can be drawn"),
        _ => {
            eprintln!("cargo bench --bench scale [-- real | -- --picture FILE]");
            std::process::exit(2);
        }
    }
}

/// A thousand requests a second for each of so many replicas.
fn by_replicas() -> Vec<(Deployment, Load)> {
    let replicas = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];
    let deployments = replicas.map(|replicas| Deployment { replicas, rate: 1_000.0 * f64::from(replicas), ..USUAL });
    deployments.into_iter().map(|deployment| (deployment, simulation::simulate(&deployment, SEED))).collect()
}

fn tables() {
    println!(
        "A thousand requests a second for each replica, a million keys, 100,000 of them in each memory, an hour, a purge a second\n"
    );
    print_table("replicas", by_replicas().iter().map(|(deployment, load)| (deployment.replicas.to_string(), *deployment, *load)));
    let keys = [1e4, 1e5, 1e6, 1e7, 1e8, 1e9].map(|keys| Deployment { keys, ..USUAL });
    varied("Ten replicas, and so many keys", "keys", &keys, |deployment| format!("{:.0e}", deployment.keys));
    let skews = [0.6, 0.8, 0.99, 1.2].map(|skew| Deployment { skew, ..USUAL });
    varied("By the skew of the popularity", "skew", &skews, |deployment| deployment.skew.to_string());
    let ttls = [10.0, 60.0, 600.0, 3_600.0, 86_400.0].map(|ttl| Deployment { ttl, ..USUAL });
    varied("By the lifetime, in seconds", "ttl", &ttls, |deployment| deployment.ttl.to_string());
    let memories = [0.0, 1e3, 1e4, 1e5, 1e6].map(|memory_keys| Deployment { memory_keys, ..USUAL });
    varied("By what each memory holds", "memory", &memories, |deployment| format!("{:.0e}", deployment.memory_keys));
    let purges = [0.0, 1.0, 10.0, 100.0].map(|purges| Deployment { purges, replicas: 1_000, ..USUAL });
    varied("A thousand replicas, and so many purges a second", "purges", &purges, |deployment| deployment.purges.to_string());
}

fn varied(title: &str, column: &str, deployments: &[Deployment], name: impl Fn(&Deployment) -> String) {
    println!("\n{title}\n");
    let rows = deployments.iter().map(|deployment| (name(deployment), *deployment, simulation::simulate(deployment, SEED)));
    print_table(column, rows);
}

fn print_table(column: &str, rows: impl Iterator<Item = (String, Deployment, Load)>) {
    println!(
        "{column:>10} {:>10} {:>8} {:>10} {:>8} {:>8} {:>10} {:>11} {:>10} {:>10} {:>9} {:>8}",
        "requests/s",
        "hits",
        "origin/s",
        "model",
        "memory",
        "redis/s",
        "commands/s",
        "messages/s",
        "Mbit/s out",
        "busy",
        "stale ms"
    );
    for (name, deployment, load) in rows {
        let model = model::predict(&deployment);
        println!(
            "{name:>10} {:>10.0} {:>7.2}% {:>10.1} {:>8.1} {:>7.2}% {:>10.0} {:>11.0} {:>10.0} {:>10.1} {:>9} {:>8}",
            load.requests,
            100.0 * (1.0 - load.fetches / load.requests),
            load.fetches,
            model.fetches,
            100.0 * (1.0 - load.lookups / load.requests),
            load.lookups,
            load.commands(),
            load.messages(deployment.replicas),
            load.octets_out(&deployment) * 8e-6,
            percent(load.redis_busy(deployment.replicas)),
            late(&deployment, &load),
        );
    }
}

fn percent(part: f64) -> String {
    format!("{:.1}%", 100.0 * part)
}

/// How long the last replica hears of a purge after Redis has carried it out, in milliseconds: what is before it in the queue, and the
/// others who are told first. Where Redis has more to do than it can, there is no end to it.
fn late(deployment: &Deployment, load: &Load) -> String {
    let busy = load.redis_busy(deployment.replicas);
    if busy >= 1.0 {
        return "never".to_owned();
    }
    // An M/D/1 queue: half of what an M/M/1 queue has.
    let queue = busy / (2.0 * (1.0 - busy)) * deployment::COMMAND_SECONDS;
    let others = f64::from(deployment.replicas) * deployment::CHANGES_PER_PURGE * deployment::MESSAGE_SECONDS;
    format!("{:.2}", 1e3 * (queue + others))
}

/// One to four sidecars, asked as the model has it.
fn against_reality() {
    println!(
        "{:>8} {:>7} {:>6} {:>10} {:>32} {:>32} {:>32} {:>32} {:>7}",
        "replicas",
        "purges",
        "memory",
        "requests/s",
        "origin/s: real, simulated, model",
        "looks into Redis/s",
        "commands/s",
        "octets out/s",
        "busy"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for (replicas, purges) in [(1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0), (1, 20.0), (4, 20.0)] {
        let deployment =
            Deployment { replicas, keys: 2_000.0, rate: 2_000.0, ttl: 3.0, memory_keys: 1e6, purges, fetch: 0.02, ..USUAL };
        let real = runtime.block_on(real::run(&deployment, SEED));
        let (simulated, model) = (simulation::simulate(&deployment, SEED), model::predict(&deployment));
        let three = |of: &dyn Fn(&Load) -> f64, counted: f64| format!("{counted:.0}, {:.0}, {:.0}", of(&simulated), of(&model));
        println!(
            "{replicas:>8} {purges:>7} {:>6} {:>10.0} {:>32} {:>32} {:>32} {:>32} {:>7}",
            "all",
            real.load.requests,
            three(&|load| load.fetches, real.load.fetches),
            three(&|load| load.lookups, real.load.lookups),
            three(&Load::commands, real.commands),
            three(&|load| load.octets_out(&deployment), real.octets_out),
            percent(real.busy),
        );
    }
}

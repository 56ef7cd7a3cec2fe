//! The command line: one file for each subcommand, and here what they share.

mod check;
mod demo;
mod explain;
mod health;
mod log;
mod place;
mod remote;
mod serve;
mod top;
mod watch;

use crate::config::Sources;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "sidecache", version, about = ABOUT, after_help = EXAMPLES, after_long_help = LESSON)]
struct Cli {
    /// The configuration file [default: proxy.toml of the working directory, if there is one].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy; this is what happens without a subcommand.
    Serve(Settings),
    /// Read the configuration, and show what it means or all that is wrong with it.
    Check(CheckArgs),
    /// See it work: a small backend, the proxy before it, and a measured load.
    Demo(demo::Args),
    /// Ask a running sidecache whether it is well; for a container's health check.
    Health(HealthArgs),
    /// Purge what a running sidecache, and all replicas with it, have stored: by tag, pattern, URL, route, or all.
    Purge(remote::PurgeArgs),
    /// Show the latest purges: what, when, by whom, and how they ended.
    Purges(remote::PurgesArgs),
    /// Purge by tag, and delete the stored octets at once, from memory and Redis, on all replicas; prints a record of it.
    Erase(remote::EraseArgs),
    /// Show purges by patterns that are looked for in the background.
    Jobs(remote::ShowArgs),
    /// Look at, test for, set or delete what is stored for one URL.
    Entry(remote::EntryArgs),
    /// Explain how a request would be treated, and why it is or is not answered from the cache; nothing is asked of the backend.
    Explain(explain::Args),
    /// Show the statistics of a running sidecache.
    Stats(remote::ShowArgs),
    /// Watch what a running sidecache does: requests a second, hit rates, routes, tiers, Redis.
    Top(top::Args),
}

#[derive(Args)]
struct CheckArgs {
    /// The configuration file, if not that of --config.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct HealthArgs {
    #[command(flatten)]
    probe: health::Args,

    #[command(flatten)]
    settings: Settings,
}

/// What can be set on the command line, beyond the environment and the file.
#[derive(Args, Default)]
struct Settings {
    /// Listen here: `0.0.0.0:8080`, `[::]:8080`, or `:8080` for all addresses.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// Forward to this backend: `http://host:port`, `https://host`, `unix:/path`.
    #[arg(long, value_name = "URL")]
    origin: Option<String>,

    /// Share stored responses in this Redis; `off` for memory only.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,

    /// Serve statistics, metrics, health and purging here; `off` for nowhere.
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,

    /// Keep responses for so long on routes that name no TTL: `5m`, or seconds.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,

    /// Forward everything and store nothing.
    #[arg(long)]
    no_cache: bool,

    /// Set any other key of the file, such as `--set redis.budget=10ms`. May stand several times.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // The Redis client takes the process' provider; that it was installed before matters nothing.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    if let (Some(Command::Demo(_)), true) = (&cli.command, cli.config.is_some() || cli.settings.are_given()) {
        let message = "the demo brings its own configuration; only its own flags, behind `demo`, have a meaning";
        Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit();
    }
    let sources = cli.config.into_iter().fold(Sources::new(), Sources::file);
    let sources = cli.settings.apply(sources.environment(std::env::vars_os()));
    match cli.command {
        None => serve::run(&sources),
        Some(Command::Serve(settings)) => serve::run(&settings.apply(sources)),
        Some(Command::Check(CheckArgs { file, settings })) => {
            let sources = settings.apply(sources);
            check::run(&file.into_iter().fold(sources, Sources::file))
        }
        Some(Command::Demo(args)) => demo::run(args),
        Some(Command::Health(HealthArgs { probe, settings })) => health::run(probe, &settings.apply(sources)),
        Some(Command::Purge(args)) => remote::purge(&args, &sources),
        Some(Command::Erase(args)) => remote::erase(&args, &sources),
        Some(Command::Jobs(args)) => remote::jobs(&args, &sources),
        Some(Command::Purges(args)) => remote::purges(&args, &sources),
        Some(Command::Entry(args)) => remote::entry(args, &sources),
        Some(Command::Explain(args)) => explain::run(&args, &sources),
        Some(Command::Stats(args)) => remote::stats(&args, &sources),
        Some(Command::Top(args)) => top::run(&args, &sources),
    }
}

impl Settings {
    fn are_given(&self) -> bool {
        let Settings { listen, origin, redis_url, admin_listen, ttl, no_cache, set } = self;
        [listen, origin, redis_url, admin_listen, ttl].into_iter().any(Option::is_some) || *no_cache || !set.is_empty()
    }

    /// Adds what was given to the sources, where it beats the file and the environment.
    fn apply(self, sources: Sources) -> Sources {
        let flags = [
            ("--listen", "server.listen", self.listen),
            ("--origin", "origin.url", self.origin),
            ("--redis-url", "redis.url", self.redis_url),
            ("--admin-listen", "admin.listen", self.admin_listen),
            ("--ttl", "cache.ttl", self.ttl),
            ("--no-cache", "cache.enabled", self.no_cache.then(|| "false".to_owned())),
        ];
        let given = flags.into_iter().filter_map(|(flag, key, text)| text.map(|text| (flag, key, text)));
        let sources = given.fold(sources, |sources, (flag, key, text)| sources.flag(flag, key, text));
        self.set.iter().fold(sources, |sources, assignment| sources.set(assignment))
    }
}

const ABOUT: &str = "A caching reverse proxy that runs as a sidecar before an HTTP backend";

const EXAMPLES: &str = "\
Examples:
  sidecache demo                                  see it work, in one command
  sidecache --origin http://127.0.0.1:8000        run before a backend, with proxy.toml
  sidecache check                                 read proxy.toml and say what it means
  sidecache purge --tag customer:42               forget what is stored for a customer, everywhere
  sidecache explain http://api/customer/42        say why it is or is not answered from the cache
  REDIS_URL=redis://cache:6379/0 sidecache        share what is stored between replicas

More, with the environment variables: sidecache --help";

const LESSON: &str = "\
Examples:
  sidecache demo
          See it work: a small backend, the proxy before it, and a measured load.
  sidecache --origin http://127.0.0.1:8000 --listen :8080
          Run before a backend. Which paths are cached, and for how long, says proxy.toml:
              [[route]]
              match = \"/api/customer/{id}\"
              ttl = \"1h\"
  sidecache check
          Read the configuration and say what it means, or all that is wrong with it.
  REDIS_URL=redis://cache:6379/0 sidecache
          Share what is stored between replicas. While Redis is down, requests are forwarded.

Environment (the command line beats it, and it beats the file; an empty variable counts as not set):
  ORIGIN_URL         the backend: http://host:port, https://host, unix:/path
  PORT               the port to listen on, at the address that the file names
  REDIS_URL          the shared Redis: redis://, rediss:// (TLS), unix:, redis+sentinel://,
                     redis+cluster://
  ENABLE_CACHE       false forwards everything and stores nothing
  CACHE_TTL          the TTL of routes that name none: seconds, or a duration such as 5m
  CACHE_SECRET       keys the hash of credentials in cache keys; the same on all replicas
  ADMIN_TOKEN        what a caller must show to purge or set anything, and to see anything on the main port
  RUST_LOG           what is logged: info, or directives such as info,sidecache::store=debug
  SIDECACHE_CONFIG   the configuration file
  SIDECACHE_<SECTION>_<KEY>
                     any other key of the file, such as SIDECACHE_REDIS_BUDGET=10ms;
                     a list with commas: SIDECACHE_SERVER_TRUSTED_PROXIES=10.0.0.0/8,fd00::/8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_and_behind_the_subcommand() {
        let listen = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["sidecache"], arguments].concat()).unwrap();
            let sources = cli.settings.apply(Sources::new().text("t", ""));
            let sources = match cli.command {
                Some(Command::Serve(settings)) => settings.apply(sources),
                Some(Command::Check(args)) => args.settings.apply(sources),
                _ => sources,
            };
            crate::config::load(&sources).unwrap().server.listen.port()
        };
        assert_eq!(listen(&[]), 8080);
        assert_eq!(listen(&["--listen", ":1"]), 1);
        assert_eq!(listen(&["serve", "--listen", ":2"]), 2);
        assert_eq!(listen(&["--listen", ":1", "serve", "--listen", ":2"]), 2);
        assert_eq!(listen(&["check", "--set", "server.listen=:3"]), 3);
        assert_eq!(listen(&["--listen", ":1", "--set", "server.listen=:3"]), 3);
    }
}

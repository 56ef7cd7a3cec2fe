//! Whom sidecache is compared with, each as one process on one core, and how each says that an answer came from its cache.
//!
//! What they are told is in the files of `peers/`, where `@NAMES@` stand for addresses and directories.

use crate::Broken;
use crate::client::{Client, field};
use crate::process::{Cores, Process};
use crate::served;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Somebody who answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Hyper with nothing around it, which answers one body of so many octets.
    Bare(usize),
    Sidecache(Setup),
    Nginx,
    Haproxy,
    Varnish,
    /// Nginx with a script that looks into Redis.
    Lua,
}

/// What a sidecache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// For what it stores in memory; 0 for no such tier.
    pub(crate) memory_bytes: u64,
    pub(crate) has_redis: bool,
    pub(crate) workers: usize,
}

/// One of them, running.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    pub(crate) redis: Option<Process>,
    /// Where sidecache tells what it counts.
    pub(crate) admin: SocketAddr,
    pub(crate) directory: TempDir,
}

/// The origin, and how many requests have reached it.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Setup {
    pub(crate) const MEMORY: Setup = Setup { memory_bytes: 2 << 30, has_redis: false, workers: 1 };
    pub(crate) const REDIS: Setup = Setup { memory_bytes: 0, has_redis: true, workers: 1 };
    pub(crate) const BOTH: Setup = Setup { memory_bytes: 2 << 30, has_redis: true, workers: 1 };
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Bare(_) => "bare hyper",
            Peer::Sidecache(_) => "sidecache",
            Peer::Nginx => "nginx",
            Peer::Haproxy => "HAProxy",
            Peer::Varnish => "Varnish",
            Peer::Lua => "nginx+Lua+Redis",
        }
    }

    /// What of this machine does not have that it needs.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let needed: &[&'static str] = match self {
            Peer::Bare(_) => &[],
            Peer::Sidecache(setup) => {
                if setup.has_redis {
                    &["redis-server"]
                } else {
                    &[]
                }
            }
            Peer::Nginx => &["nginx"],
            Peer::Haproxy => &["haproxy"],
            Peer::Varnish => &["varnishd"],
            Peer::Lua => {
                &["nginx", "redis-server", "/usr/lib/nginx/modules/ngx_http_lua_module.so", "/usr/share/lua/5.1/nginx/redis.lua"]
            }
        };
        needed.iter().copied().find(|name| program(name).is_none())
    }

    /// Starts it before the origin, on the core that serves, and waits until it accepts connections.
    pub(crate) fn start(self, origin: &Origin, cores: Cores) -> Result<Server, Broken> {
        self.start_on(origin, &[cores.serving])
    }

    pub(crate) fn start_on(self, origin: &Origin, cores: &[usize]) -> Result<Server, Broken> {
        let mut server = self.launch(origin, cores)?;
        let asked = Instant::now();
        while TcpStream::connect(server.address).is_err() {
            if server.process.has_ended() || asked.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(server.directory.path().join("log")).unwrap_or_default();
                return Err(format!("{} does not come up: {}", self.name(), log.trim()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Starts it, and does not wait.
    pub(crate) fn launch(self, origin: &Origin, cores: &[usize]) -> Result<Server, Broken> {
        let directory = directory()?;
        let [port, admin_port, redis_port] = [free_port()?, free_port()?, free_port()?];
        let needs_redis = match self {
            Peer::Sidecache(setup) => setup.has_redis,
            peer => peer == Peer::Lua,
        };
        let redis = if needs_redis { Some(start_redis(redis_port, directory.path(), cores)?) } else { None };
        let place = directory.path().to_string_lossy().into_owned();
        let (memory, workers, redis_url) = match self {
            Peer::Sidecache(setup) => {
                let url = if setup.has_redis { format!("redis://127.0.0.1:{redis_port}/0") } else { "off".to_owned() };
                (setup.memory_bytes.to_string(), setup.workers.to_string(), url)
            }
            _ => Default::default(),
        };
        let told = |template: &str| {
            let values = [
                ("@PORT@", port.to_string()),
                ("@ADMIN_PORT@", admin_port.to_string()),
                ("@REDIS_PORT@", redis_port.to_string()),
                ("@DIRECTORY@", place.clone()),
                ("@ORIGIN@", origin.address.to_string()),
                ("@HOST@", origin.address.ip().to_string()),
                ("@ORIGIN_PORT@", origin.address.port().to_string()),
                ("@MEMORY@", memory.clone()),
                ("@WORKERS@", workers.clone()),
                ("@REDIS@", redis_url.clone()),
            ];
            values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let write = |name: &str, template: &str| {
            let file = directory.path().join(name);
            std::fs::write(&file, told(template)).map_err(|error| format!("{}: {error}", file.display()))?;
            Ok::<PathBuf, Broken>(file)
        };
        let mut command;
        match self {
            Peer::Bare(octets) => {
                let (process, address) = start_served("bare", octets, cores)?;
                return Ok(Server { peer: self, address, process, redis: None, admin: address, directory });
            }
            Peer::Sidecache(_) => {
                command = Command::new(env!("CARGO_BIN_EXE_sidecache"));
                command.env_clear().arg("--config").arg(write("proxy.toml", include_str!("peers/sidecache.toml"))?);
            }
            Peer::Nginx => {
                command = Command::new(found("nginx")?);
                command
                    .args(["-e", "stderr", "-p"])
                    .arg(directory.path())
                    .arg("-c")
                    .arg(write("nginx.conf", include_str!("peers/nginx.conf"))?);
            }
            Peer::Lua => {
                command = Command::new(found("nginx")?);
                command
                    .args(["-e", "stderr", "-p"])
                    .arg(directory.path())
                    .arg("-c")
                    .arg(write("nginx.conf", include_str!("peers/lua.conf"))?);
            }
            Peer::Haproxy => {
                command = Command::new(found("haproxy")?);
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", include_str!("peers/haproxy.cfg"))?);
            }
            Peer::Varnish => {
                command = Command::new(found("varnishd")?);
                command.args(["-F", "-j", "none", "-T", "none", "-a", &format!("127.0.0.1:{port}"), "-s", "malloc,8G"]);
                command.args(["-p", "thread_pools=1", "-p", "thread_pool_min=70", "-p", "timeout_idle=3600"]);
                command
                    .arg("-n")
                    .arg(directory.path().join("run"))
                    .arg("-f")
                    .arg(write("default.vcl", include_str!("peers/varnish.vcl"))?);
            }
        }
        let log = std::fs::File::create(directory.path().join("log")).map_err(|error| error.to_string())?;
        let error_log = log.try_clone().map_err(|error| error.to_string())?;
        let process = Process::start(command.stdin(Stdio::null()).stdout(log).stderr(error_log), cores)?;
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Server { peer: self, address: at(port), process, redis, admin: at(admin_port), directory })
    }

    /// Whether an answer says that it came from the cache.
    pub(crate) fn is_hit(self, head: &str) -> bool {
        match self {
            Peer::Bare(_) => true,
            Peer::Sidecache(_) => field(head, "cache-status").is_some_and(|status| status.contains("; hit")),
            Peer::Nginx | Peer::Lua => field(head, "x-cache") == Some("hit"),
            Peer::Haproxy => field(head, "age").is_some(),
            // The numbers of this request, and of the one that fetched it.
            Peer::Varnish => field(head, "x-varnish").is_some_and(|numbers| numbers.split_whitespace().count() == 2),
        }
    }
}

impl Origin {
    pub(crate) fn start(cores: Cores) -> Result<Origin, Broken> {
        let (process, address) = start_served("origin", 0, &[cores.asking])?;
        Ok(Origin { address, _process: process })
    }

    /// The requests that have reached it.
    pub(crate) async fn asked(&self) -> Result<u64, Broken> {
        let mut client = Client::connect(self.address).await?;
        let answer = client.get("/asked").await?;
        std::str::from_utf8(answer.body).ok().and_then(|number| number.parse().ok()).ok_or("the origin cannot count".to_owned())
    }
}

/// Starts this program again, as one who serves.
fn start_served(what: &str, octets: usize, cores: &[usize]) -> Result<(Process, SocketAddr), Broken> {
    let itself = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(itself);
    command.args(["--serve", what, &octets.to_string()]).stdout(Stdio::piped());
    let mut process = Process::start(&mut command, cores)?;
    let output = process.child().stdout.take().ok_or("what it says cannot be read")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
    let address = line.trim().parse().map_err(|_| format!("{what} does not say where it listens: {line:?}"))?;
    Ok((process, address))
}

/// A Redis that writes nothing to disk.
pub(crate) fn start_redis(port: u16, directory: &Path, cores: &[usize]) -> Result<Process, Broken> {
    let mut command = Command::new(found("redis-server")?);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(directory).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::start(&mut command, cores)?;
    let asked = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if process.has_ended() || asked.elapsed() > PATIENCE {
            return Err("redis-server does not come up".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(process)
}

/// In memory, where the system has a place for that: what nginx stores are files.
fn directory() -> Result<TempDir, Broken> {
    let (memory, mut builder) = (Path::new(MEMORY), tempfile::Builder::new());
    let builder = builder.prefix("compare-");
    let made = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.map_err(|error| format!("a directory cannot be made: {error}"))
}

pub(crate) fn free_port() -> Result<u16, Broken> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// Where a program is, or a file whose path is given. What serves is often in directories that are not on everybody's path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn found(name: &str) -> Result<PathBuf, Broken> {
    program(name).ok_or_else(|| format!("{name} is not installed"))
}

/// Checks that a server, once it was asked, answers all of these from its cache, and with the right bodies; and fills it by that.
pub(crate) async fn prove_hits(server: &Server, path: &str, octets: usize, ids: u64) -> Result<(), Broken> {
    let ids = if matches!(server.peer, Peer::Bare(_)) { 1 } else { ids };
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

/// Checks one body, and gives the head.
pub(crate) async fn prove_body(
    client: &mut Client,
    server: &Server,
    path: &str,
    octets: usize,
    id: u64,
) -> Result<String, Broken> {
    let answer = client.get(&format!("{path}{id}")).await?;
    if answer.body != served::body(octets, id) {
        return Err(format!("{} answers {path}{id} with a wrong body", server.peer.name()));
    }
    Ok(answer.head)
}

const MEMORY: &str = "/dev/shm";

const PATIENCE: Duration = Duration::from_secs(20);

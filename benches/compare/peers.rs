//! Whom sidecache is compared with, each as one process on one core, and how each says that an answer came from its cache.
//!
//! What they are told is in the files of `peers/`, where `@NAMES@` stand for addresses and directories.

use crate::Broken;
use crate::client::{Answer, Client};
use crate::process::{Cores, Process};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Somebody who answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Hyper with nothing around it, which answers bodies of so many octets.
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

/// Where one listens, and its Redis.
struct Ports {
    requests: u16,
    admin: u16,
    redis: u16,
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
        if let Peer::Bare(octets) = self {
            let (process, address) = start_served("bare", octets, cores)?;
            return Ok(Server { peer: self, address, process, redis: None, admin: address, directory });
        }
        let ports = Ports { requests: free_port()?, admin: free_port()?, redis: free_port()? };
        let needs_redis = match self {
            Peer::Sidecache(setup) => setup.has_redis,
            peer => peer == Peer::Lua,
        };
        let redis = if needs_redis { Some(start_redis(ports.redis, directory.path(), cores)?) } else { None };
        let mut command = self.command(origin.address, &ports, directory.path())?;
        let log = std::fs::File::create(directory.path().join("log")).map_err(|error| error.to_string())?;
        let error_log = log.try_clone().map_err(|error| error.to_string())?;
        let process = Process::start(command.stdin(Stdio::null()).stdout(log).stderr(error_log), cores)?;
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Server { peer: self, address: at(ports.requests), process, redis, admin: at(ports.admin), directory })
    }

    /// How it is started, with what it is told in a directory.
    fn command(self, origin: SocketAddr, ports: &Ports, directory: &Path) -> Result<Command, Broken> {
        let write = |name: &str, template: &str| {
            let file = directory.join(name);
            let written = std::fs::write(&file, self.told(template, origin, ports, directory));
            written.map_err(|error| format!("{}: {error}", file.display())).map(|()| file)
        };
        let mut command;
        match self {
            Peer::Bare(_) => return Err("bare hyper is this program itself".to_owned()),
            Peer::Sidecache(_) => {
                command = Command::new(env!("CARGO_BIN_EXE_sidecache"));
                command.env_clear().arg("--config").arg(write("proxy.toml", include_str!("peers/sidecache.toml"))?);
            }
            Peer::Nginx | Peer::Lua => {
                let template = if self == Peer::Lua { include_str!("peers/lua.conf") } else { include_str!("peers/nginx.conf") };
                command = Command::new(found("nginx")?);
                command.args(["-e", "stderr", "-p"]).arg(directory).arg("-c").arg(write("nginx.conf", template)?);
            }
            Peer::Haproxy => {
                command = Command::new(found("haproxy")?);
                command.arg("-db").arg("-f").arg(write("haproxy.cfg", include_str!("peers/haproxy.cfg"))?);
            }
            Peer::Varnish => {
                command = Command::new(found("varnishd")?);
                command.args(["-F", "-j", "none", "-T", "none", "-a", &format!("127.0.0.1:{}", ports.requests)]);
                // As many threads as there are connections, so that none is made or ended during a round.
                command.args(["-s", "malloc,8G", "-p", "thread_pools=1", "-p", "thread_pool_min=70", "-p", "timeout_idle=3600"]);
                command.arg("-n").arg(directory.join("run"));
                command.arg("-f").arg(write("default.vcl", include_str!("peers/varnish.vcl"))?);
            }
        }
        Ok(command)
    }

    /// What it is told, with the names replaced.
    fn told(self, template: &str, origin: SocketAddr, ports: &Ports, directory: &Path) -> String {
        let setup = if let Peer::Sidecache(setup) = self { setup } else { Setup::MEMORY };
        let redis = if setup.has_redis { format!("redis://127.0.0.1:{}/0", ports.redis) } else { "off".to_owned() };
        let values = [
            ("@PORT@", ports.requests.to_string()),
            ("@ADMIN_PORT@", ports.admin.to_string()),
            ("@REDIS_PORT@", ports.redis.to_string()),
            ("@DIRECTORY@", directory.to_string_lossy().into_owned()),
            ("@ORIGIN@", origin.to_string()),
            ("@HOST@", origin.ip().to_string()),
            ("@ORIGIN_PORT@", origin.port().to_string()),
            ("@MEMORY@", setup.memory_bytes.to_string()),
            ("@WORKERS@", setup.workers.to_string()),
            ("@REDIS@", redis),
        ];
        values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// Whether an answer says that it came from the cache.
    pub(crate) fn is_hit(self, answer: &Answer<'_>) -> bool {
        match self {
            Peer::Bare(_) => true,
            Peer::Sidecache(_) => answer.field("cache-status").is_some_and(|status| status.contains("; hit")),
            Peer::Nginx | Peer::Lua => answer.field("x-cache") == Some("HIT"),
            Peer::Haproxy => answer.field("age").is_some(),
            // The numbers of this request, and of the one that fetched it.
            Peer::Varnish => answer.field("x-varnish").is_some_and(|numbers| numbers.split_whitespace().count() == 2),
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

    /// Waits until nobody asks any more, as some do yet whose clients have gone, and gives how many requests have reached it.
    pub(crate) async fn settled(&self) -> Result<u64, Broken> {
        let mut asked = self.asked().await?;
        loop {
            tokio::time::sleep(CALM).await;
            match self.asked().await? {
                same if same == asked => return Ok(asked),
                more => asked = more,
            }
        }
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

const MEMORY: &str = "/dev/shm";

const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than a request is under way.
const CALM: Duration = Duration::from_millis(100);

//! A `redis-server` of the test's own.

use super::{eventually, free_port, secs, soon};
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisResult};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use tempfile::TempDir;

/// A running, stopped or killed `redis-server`; its end is that of this value.
pub struct RedisServer {
    pub port: u16,
    arguments: Vec<String>,
    directory: TempDir,
    process: Mutex<Option<Child>>,
}

impl RedisServer {
    /// Starts one on a free port and waits until it answers.
    pub async fn start() -> RedisServer {
        RedisServer::start_with([]).await
    }

    /// Starts one with further arguments.
    pub async fn start_with(arguments: impl IntoIterator<Item = String>) -> RedisServer {
        let arguments: Vec<String> = arguments.into_iter().collect();
        loop {
            let mut server = RedisServer::absent();
            server.arguments = arguments.clone();
            if server.try_start(&[]).await {
                return server;
            }
        }
    }

    /// A port and nothing on it.
    pub fn absent() -> RedisServer {
        let directory = tempfile::tempdir().unwrap();
        RedisServer { port: free_port(), arguments: Vec::new(), directory, process: Mutex::new(None) }
    }

    /// Starts it, again and empty, on the same port.
    pub async fn restart(&self) {
        self.restart_with(&[]).await;
    }

    /// Starts it again with further arguments; with what it has saved, if it has saved anything.
    pub async fn restart_with(&self, more: &[&str]) {
        eventually("redis-server has its port again", async || self.try_start(more).await).await;
    }

    /// Starts it and waits until it answers. `false` says that somebody else has taken the port, which was free a moment ago.
    async fn try_start(&self, more: &[&str]) -> bool {
        self.kill();
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.directory.path())
            .args(&self.arguments)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        // Another test's server may be the one that answers.
        let itself = format!("process_id:{}\r\n", process.id());
        *self.process.lock().unwrap() = Some(process);
        let (mut answers, mut has_ended) = (false, false);
        eventually("redis-server answers", async || {
            has_ended = self.process.lock().unwrap().as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(Some(_))));
            let info = tokio::time::timeout(secs(2), self.ask::<String>(&::redis::cmd("INFO"))).await;
            answers = info.is_ok_and(|info| info.is_ok_and(|info| info.contains(&itself) && info.contains("loading:0")));
            answers || has_ended
        })
        .await;
        answers
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Whether it was started, and not killed since.
    pub fn is_running(&self) -> bool {
        self.process.lock().unwrap().is_some()
    }

    /// Stops it with SIGSTOP: its connections stay, and nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on with SIGCONT.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.lock().unwrap().as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("there is a kill");
        assert!(status.success());
    }

    /// Lets nobody follow it any more: what happens from now on, no replica hears of. Those who are connected stay.
    pub async fn shake_off(&self, replica: &RedisServer) {
        let mut shaking = ::redis::pipe();
        shaking.cmd("CONFIG").arg("SET").arg("requirepass").arg("nobody knows").ignore();
        shaking.cmd("CLIENT").arg("KILL").arg("TYPE").arg("replica").ignore();
        self.pipeline::<()>(&shaking).await;
        eventually("it follows no more", async || {
            replica.run::<String>("INFO replication").await.contains("master_link_status:down")
        })
        .await;
    }

    /// Whether it is a master, as far as it tells: who becomes one ends its connections.
    pub async fn is_master(&self) -> bool {
        let info = self.ask::<String>(::redis::cmd("INFO").arg("replication")).await;
        info.is_ok_and(|info| info.contains("role:master"))
    }

    /// Runs a command, such as `SET k v`.
    pub async fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut cmd = ::redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            cmd.arg(word);
        });
        self.command(&cmd).await
    }

    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> T {
        soon("an answer of Redis", self.ask(command)).await.expect("Redis obeys")
    }

    /// Runs several commands.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> T {
        let answered = soon("answers of Redis", async { pipeline.query_async(&mut self.connect().await?).await });
        answered.await.expect("Redis obeys")
    }

    /// A connection of one's own.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        // The library's own limit is half a second, which Redis on a loaded machine may need for what takes long.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        ::redis::Client::open(self.url())?.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connect().await?).await
    }

    /// The names of all keys.
    pub async fn all_keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.run("KEYS *").await;
        keys.sort();
        keys
    }

    /// The names of stored responses, and of the lists of fields that they vary on.
    pub async fn keys(&self) -> Vec<String> {
        self.all_keys().await.into_iter().filter(|key| key.contains(":2:{")).collect()
    }

    /// Waits until there are so many of them, and names them.
    pub async fn keys_become(&self, number: usize) -> Vec<String> {
        eventually(&format!("there are {number} keys in Redis"), async || self.keys().await.len() == number).await;
        self.keys().await
    }

    /// The names of generations.
    pub async fn generations(&self) -> Vec<String> {
        self.all_keys().await.into_iter().filter(|key| key.contains(":2:g:")).collect()
    }

    /// What lies under a key.
    pub async fn value(&self, key: &str) -> Vec<u8> {
        self.command(::redis::cmd("GET").arg(key)).await
    }

    /// The names of all keys, and all that lies under them, one behind the other.
    pub async fn everything(&self) -> Vec<u8> {
        let mut everything = Vec::new();
        for key in self.all_keys().await {
            let kind: String = self.run(&format!("TYPE {key}")).await;
            let command = match kind.as_str() {
                "list" => format!("LRANGE {key} 0 -1"),
                "set" => format!("SMEMBERS {key}"),
                "hash" => format!("HGETALL {key}"),
                "string" => format!("MGET {key}"),
                // It has ended meanwhile.
                _ => continue,
            };
            let values: Vec<Option<Vec<u8>>> = match self.run::<::redis::Value>(&command).await {
                ::redis::Value::Map(pairs) => {
                    let pairs = pairs.into_iter().flat_map(|(key, value)| [key, value]);
                    pairs.map(|value| ::redis::from_redis_value(value).expect("octets")).collect()
                }
                values => ::redis::from_redis_value(values).expect("a list of octets"),
            };
            everything.extend(key.as_bytes());
            values.into_iter().flatten().for_each(|value| everything.extend(value));
        }
        everything
    }

    /// Puts a value under a key, for a minute.
    pub async fn plant(&self, key: &str, value: &[u8]) {
        self.command::<()>(::redis::cmd("SET").arg(key).arg(value).arg("PX").arg(60_000)).await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

//! A sentinel of the test's own: `redis-server --sentinel`, or something that says what it is told to.

use super::{RedisServer, eventually, free_port, secs};
use ::redis::{FromRedisValue, RedisResult};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A running sentinel of a master that it calls `mymaster`; its end is that of this value.
pub struct Sentinel {
    pub port: u16,
    password: String,
    process: Child,
    _directory: TempDir,
}

/// Something that answers like a sentinel.
pub struct Oracle {
    pub port: u16,
    said: Arc<Mutex<(u64, u16)>>,
    serving: AbortHandle,
}

impl Sentinel {
    /// Starts one on a free port, which asks for this password if it is not empty. So many have to agree that the master is down.
    pub async fn start(master: &RedisServer, quorum: usize, password: &str) -> Sentinel {
        loop {
            let mut sentinel = Sentinel::spawn(master, quorum, password);
            let mut has_ended = false;
            eventually("a sentinel answers", async || {
                // Somebody else may have taken the port.
                has_ended = matches!(sentinel.process.try_wait(), Ok(Some(_)));
                let asked = tokio::time::timeout(secs(2), sentinel.ask::<String>("PING")).await;
                has_ended || asked.is_ok_and(|answer| answer.is_ok())
            })
            .await;
            if !has_ended {
                return sentinel;
            }
        }
    }

    fn spawn(master: &RedisServer, quorum: usize, password: &str) -> Sentinel {
        let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
        let mut lines = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {} {quorum}\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 5000\n",
            master.port
        );
        if !password.is_empty() {
            lines.push_str(&format!("requirepass {password}\n"));
        }
        // It writes into the file what it learns.
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, lines).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("redis-server is installed");
        Sentinel { port, password: password.to_owned(), process, _directory: directory }
    }

    /// Runs a command.
    pub async fn ask<T: FromRedisValue>(&self, command: &str) -> RedisResult<T> {
        let login = if self.password.is_empty() { String::new() } else { format!(":{}@", self.password) };
        let client = ::redis::Client::open(format!("redis://{login}127.0.0.1:{}", self.port))?;
        let mut words = command.split(' ');
        let mut asked = ::redis::cmd(words.next().unwrap());
        for word in words {
            asked.arg(word);
        }
        asked.query_async(&mut client.get_multiplexed_async_connection().await?).await
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Oracle {
    /// One that says, with the number of a configuration, that the master is this one.
    pub async fn saying(epoch: u64, master: &RedisServer) -> Oracle {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, said) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new((epoch, master.port))));
        let to_say = said.clone();
        let serving = tokio::spawn(async move {
            // They end with this one.
            let mut answering = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                answering.spawn(answer(stream, to_say.clone()));
            }
        });
        Oracle { port, said, serving: serving.abort_handle() }
    }

    /// Has it say something else from now on.
    pub fn says(&self, epoch: u64, master: &RedisServer) {
        *self.said.lock().unwrap() = (epoch, master.port);
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers each question for the master.
async fn answer(mut stream: TcpStream, said: Arc<Mutex<(u64, u16)>>) {
    let mut octets = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut octets).await {
        assert_eq!(
            &octets[..read],
            b"*3\r\n$8\r\nSENTINEL\r\n$6\r\nMASTER\r\n$8\r\nmymaster\r\n",
            "it is asked for nothing else"
        );
        let (epoch, port) = *said.lock().unwrap();
        let fields = ["name", "mymaster", "ip", "127.0.0.1", "port", &port.to_string(), "config-epoch", &epoch.to_string()];
        let fields = fields.map(|field| format!("${}\r\n{field}\r\n", field.len()));
        let _ = stream.write_all(format!("*{}\r\n{}", fields.len(), fields.concat()).as_bytes()).await;
    }
}

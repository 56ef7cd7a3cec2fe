//! A cluster of the test's own.

use super::{RedisServer, Relay, eventually, free_port};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Masters that have the slots between them; the end of each is that of this value.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts one of so many masters.
    pub async fn start(masters: usize) -> RedisCluster {
        let mut nodes = Vec::new();
        for _ in 0..masters {
            nodes.push(node().await);
        }
        let cluster = RedisCluster { nodes };
        let slots = 16_384 / masters;
        for (index, node) in cluster.nodes.iter().enumerate() {
            let last = if index + 1 == masters { 16_383 } else { (index + 1) * slots - 1 };
            node.run::<()>(&format!("CLUSTER ADDSLOTSRANGE {} {last}", index * slots)).await;
            node.run::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)).await;
            cluster.meet(node).await;
        }
        cluster.is_whole().await;
        cluster
    }

    /// Adds a replica of a master, and waits until it has all that is there.
    pub async fn add_replica(&mut self, of: usize) {
        let replica = node().await;
        self.meet(&replica).await;
        let master: String = self.nodes[of].run("CLUSTER MYID").await;
        eventually("the replica knows its master", async || replica.run::<String>("CLUSTER NODES").await.contains(&master)).await;
        replica.run::<()>(&format!("CLUSTER REPLICATE {master}")).await;
        eventually("the replica has all", async || {
            replica.run::<String>("INFO replication").await.contains("master_link_status:up")
        })
        .await;
        self.nodes.push(replica);
        self.is_whole().await;
    }

    async fn meet(&self, node: &RedisServer) {
        let first = &self.nodes[0];
        if first.port != node.port {
            node.run::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {}", first.port, bus_port(first).await)).await;
        }
    }

    /// Waits until all nodes know one another, and that all slots have a master.
    async fn is_whole(&self) {
        for node in &self.nodes {
            eventually("the cluster is whole", async || {
                let info: String = node.run("CLUSTER INFO").await;
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{}\r\n", self.nodes.len()))
            })
            .await;
        }
    }

    /// Has all slots of the first node be on their way to the second one: what is not there any more is asked for here.
    pub async fn begin_to_move_slots(&self) {
        let ids: [String; 2] = [self.nodes[0].run("CLUSTER MYID").await, self.nodes[1].run("CLUSTER MYID").await];
        for (node, [how, other]) in self.nodes.iter().zip([["MIGRATING", &ids[1]], ["IMPORTING", &ids[0]]]) {
            let mut moving = ::redis::pipe();
            for slot in 0..16_384 / self.nodes.len() {
                moving.cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(how).arg(other).ignore();
            }
            node.pipeline::<()>(&moving).await;
        }
    }

    /// Gives all slots of the first node to the second one, and lets go of what lies in them.
    pub async fn move_slots(&self) {
        let (from, to) = (&self.nodes[0], &self.nodes[1]);
        let owner: String = to.run("CLUSTER MYID").await;
        let mut moving = ::redis::pipe();
        // As one: nothing is written between the two.
        moving.atomic().cmd("FLUSHALL").ignore();
        for slot in 0..16_384 / self.nodes.len() {
            moving.cmd("CLUSTER").arg("SETSLOT").arg(slot).arg("NODE").arg(&owner).ignore();
        }
        for node in [to, from].into_iter().chain(&self.nodes[2..]) {
            node.pipeline::<()>(&moving).await;
        }
        to.run::<()>("CLUSTER BUMPEPOCH").await;
    }

    /// Where sidecars find it.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// A node that says of each of the first ones that it is where a relay is; and where it is.
    pub async fn behind(&self, relays: &[Relay]) -> (String, AbortHandle) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis+cluster://{}", listener.local_addr().unwrap());
        let ports = self.nodes.iter().zip(relays).map(|(node, relay)| [node.port, relay.address.port()]);
        let ports: Vec<[String; 2]> = ports.map(|ports| ports.map(|port| format!(":{port}\r\n"))).collect();
        let node = self.nodes[0].address();
        let serving = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let ports = ports.clone();
                tokio::spawn(async move {
                    let (mut server, mut octets) = (TcpStream::connect(node).await.unwrap(), [0; 16_384]);
                    while let Ok(read @ 1..) = client.read(&mut octets).await {
                        server.write_all(&octets[..read]).await.unwrap();
                        let read = server.read(&mut octets).await.unwrap();
                        let mut said = String::from_utf8_lossy(&octets[..read]).into_owned();
                        for [node, relay] in &ports {
                            said = said.replace(node, relay);
                        }
                        let _ = client.write_all(said.as_bytes()).await;
                    }
                });
            }
        });
        (url, serving.abort_handle())
    }

    /// The names of stored responses on all nodes that run, and how many nodes have some.
    pub async fn keys(&self) -> (BTreeSet<String>, usize) {
        let (mut keys, mut having) = (BTreeSet::new(), 0);
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let here = node.keys().await;
            having += usize::from(!here.is_empty());
            keys.extend(here);
        }
        (keys, having)
    }
}

async fn node() -> RedisServer {
    let bus = free_port().to_string();
    // A master that has given all of its slots away stays one.
    let stays = ["--cluster-allow-replica-migration", "no"];
    let arguments =
        [&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus][..], &stays].concat();
    RedisServer::start_with(arguments.into_iter().map(str::to_owned)).await
}

async fn bus_port(node: &RedisServer) -> String {
    node.run::<Vec<String>>("CONFIG GET cluster-port").await.remove(1)
}

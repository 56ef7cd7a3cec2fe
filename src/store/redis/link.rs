//! The connection to Redis: to one server, or to the masters of a cluster, which answer as if they were one.
//!
//! What is sent to a cluster is divided by the slots of keys, and each node gets its part at the same time. So of two commands in a pipeline
//! whose keys lie on different nodes, the second one may be carried out first; who cannot bear that waits for the answer to the first one.

use super::names::Names;
use crc::{CRC_16_XMODEM, Crc};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Arg, Cmd, ConnectionAddr, Pipeline, RedisFuture, RedisResult, Value};
use std::io;
use std::sync::Arc;

/// A connection; clones are handles to the same one.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(Arc<Nodes>),
}

/// The masters of a cluster.
pub(super) struct Nodes {
    each: Vec<Node>,
    /// By slot, which of them has it.
    owners: Vec<u16>,
}

/// A master, how it is spoken to, and the first and last of its slots.
pub(super) type Master = (ConnectionAddr, MultiplexedConnection, Vec<(u16, u16)>);

/// One of them.
struct Node {
    address: ConnectionAddr,
    connection: MultiplexedConnection,
    /// Keys with this tag lie there.
    tag: String,
}

/// What becomes of a command: which nodes are sent what of it, and what is made of their answers.
struct Division {
    parts: Vec<(usize, Cmd)>,
    joins: Joins,
}

/// What is made of the answers to the parts of a command.
enum Joins {
    /// There is one answer, or they are all the same.
    Alike,
    /// A list of them.
    List,
    /// Their sum.
    Sum,
    /// What a node has found, and where to go on: in that one, or in the next.
    Found { node: usize },
}

impl Link {
    /// Whether commands of one pipeline may be carried out in another order.
    pub(super) fn is_divided(&self) -> bool {
        matches!(self, Link::Cluster(_))
    }

    /// The connections to single servers.
    pub(super) fn connections(&self) -> Vec<MultiplexedConnection> {
        match self {
            Link::One(connection) => vec![connection.clone()],
            Link::Cluster(nodes) => nodes.each.iter().map(|node| node.connection.clone()).collect(),
        }
    }

    /// What each node of a cluster answers only if it is a master, and in touch with the others: a write to a key of its own, which is not
    /// there. Whatever a node had to tell before, it tells before that. Nothing for a single server, which answers anything so.
    pub(super) fn roll_call(&self, names: &Names) -> Option<Pipeline> {
        let Link::Cluster(nodes) = self else { return None };
        let mut pipeline = Pipeline::with_capacity(nodes.each.len());
        for node in &nodes.each {
            pipeline.cmd("PEXPIRE").arg(names.nothing(&node.tag)).arg(1).ignore();
        }
        Some(pipeline)
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Link::One(connection) => connection.req_packed_command(command),
            Link::Cluster(nodes) => async {
                let mut pipeline = Pipeline::with_capacity(1);
                pipeline.add_command(command.clone());
                let answer = nodes.ask(&pipeline).await?.pop().unwrap_or(Value::Nil);
                answer.extract_error()
            }
            .boxed(),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Link::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Link::Cluster(nodes) => nodes.ask(pipeline).boxed(),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Link::One(connection) => connection.get_db(),
            // A cluster has no other.
            Link::Cluster(_) => 0,
        }
    }
}

impl Nodes {
    /// Those masters. All slots must have one.
    pub(super) fn new(masters: Vec<Master>) -> RedisResult<Nodes> {
        let mut nodes = Nodes { each: Vec::with_capacity(masters.len()), owners: vec![NOBODY; SLOTS] };
        for (address, connection, ranges) in masters {
            let number = nodes.each.len() as u16;
            for (first, last) in ranges {
                let owners = nodes.owners.get_mut(usize::from(first)..=usize::from(last));
                owners.into_iter().flatten().for_each(|owner| *owner = number);
            }
            nodes.each.push(Node { address, connection, tag: String::new() });
        }
        if nodes.owners.contains(&NOBODY) {
            return Err(io::Error::other("the cluster has slots without a master").into());
        }
        let mut untagged = nodes.each.len();
        for tag in (0..TAGS).map(|tag| tag.to_string()) {
            let owner = nodes.owner(tag.as_bytes());
            let node = &mut nodes.each[owner];
            if node.tag.is_empty() {
                node.tag = tag;
                untagged -= 1;
            }
            if untagged == 0 {
                break;
            }
        }
        Ok(nodes)
    }

    fn owner(&self, key: &[u8]) -> usize {
        usize::from(self.owners[slot(key)])
    }

    /// Sends each node its part of the commands, and puts the answers together.
    async fn ask(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let divided: Vec<Division> = pipeline.cmd_iter().map(|command| self.divided(command)).collect();
        // The answers to each command, in the order of its parts.
        let mut answers: Vec<Vec<Value>> = divided.iter().map(|division| vec![Value::Nil; division.parts.len()]).collect();
        let mut joins = Vec::with_capacity(divided.len());
        let mut shares: Vec<(Pipeline, Vec<(usize, usize)>)> = vec![Default::default(); self.each.len()];
        for (place, division) in divided.into_iter().enumerate() {
            for (part, (node, command)) in division.parts.into_iter().enumerate() {
                shares[node].0.add_command(command);
                shares[node].1.push((place, part));
            }
            joins.push(division.joins);
        }
        let is_transaction = pipeline.is_transaction();
        let asked = self.each.iter().zip(shares).filter(|(_, (_, places))| !places.is_empty());
        let asked = asked.map(|(node, (mut share, places))| async move {
            if is_transaction {
                share.atomic();
            }
            let mut answers = ask(node.connection.clone(), &share, places.len()).await?;
            let moving = share.cmd_iter().zip(&mut answers);
            let moving = moving.filter_map(|(command, answer)| Some((self.elsewhere(answer)?, command, answer)));
            let asked_elsewhere = moving.map(async |(node, command, answer)| {
                *answer = ask_elsewhere(node, command).await?;
                RedisResult::Ok(())
            });
            try_join_all(asked_elsewhere).await?;
            RedisResult::Ok(places.into_iter().zip(answers))
        });
        for ((place, part), answer) in try_join_all(asked).await?.into_iter().flatten() {
            answers[place][part] = answer;
        }
        let answers = joins.iter().zip(answers).map(|(joins, answers)| self.joined(joins, answers)).collect();
        Ok(if is_transaction { vec![Value::Array(answers)] } else { answers })
    }

    /// The node that has to be asked instead, for this once: the key's slot is being moved there.
    fn elsewhere(&self, answer: &Value) -> Option<MultiplexedConnection> {
        let Value::ServerError(error) = answer else { return None };
        // `ASK 3999 host:port`; without a host, it is the one that was asked.
        let place = error.details().filter(|_| error.code() == "ASK")?.split(' ').nth(1)?;
        let node = self.each.iter().find(|node| node.address.to_string() == place)?;
        Some(node.connection.clone())
    }

    /// Divides a command among the nodes.
    fn divided(&self, command: &Cmd) -> Division {
        let words: Vec<&[u8]> = command
            .args_iter()
            .filter_map(|argument| match argument {
                Arg::Simple(octets) => Some(octets),
                _ => None,
            })
            .collect();
        let first = words.get(1).copied().unwrap_or_default();
        let each = |name: &str| words[1..].iter().map(|key| (self.owner(key), redis::cmd(name).arg(key).take())).collect();
        match words.first().copied().unwrap_or_default() {
            b"MGET" => Division { parts: each("GET"), joins: Joins::List },
            b"DEL" => Division { parts: each("DEL"), joins: Joins::Sum },
            b"SCAN" => {
                let cursor = std::str::from_utf8(first).ok().and_then(|cursor| cursor.parse::<u64>().ok()).unwrap_or_default();
                let (node, cursor) = ((cursor >> CURSOR_BITS) as usize, cursor & CURSOR_MASK);
                let scan = redis::cmd("SCAN").arg(cursor).arg(words.get(2..).unwrap_or_default()).take();
                // One of a larger cluster, from before, finds nothing.
                let parts = if node < self.each.len() { vec![(node, scan)] } else { Vec::new() };
                Division { parts, joins: Joins::Found { node } }
            }
            _ => Division { parts: vec![(self.owner(first), command.clone())], joins: Joins::Alike },
        }
    }

    /// The answer to a command, of the answers to its parts.
    fn joined(&self, joins: &Joins, mut answers: Vec<Value>) -> Value {
        if matches!(joins, Joins::List) {
            // As `MGET` has it: what is no string is nothing.
            let is_other = |answer: &&mut Value| matches!(answer, Value::ServerError(error) if error.code() == "WRONGTYPE");
            answers.iter_mut().filter(is_other).for_each(|answer| *answer = Value::Nil);
        }
        if let Some(error) = answers.iter().find(|answer| matches!(answer, Value::ServerError(_))) {
            return error.clone();
        }
        match joins {
            Joins::Alike => answers.into_iter().next().unwrap_or(Value::Nil),
            Joins::List => Value::Array(answers),
            Joins::Sum => Value::Int(answers.iter().fold(0, |sum, answer| match answer {
                Value::Int(number) => sum.saturating_add(*number),
                _ => sum,
            })),
            Joins::Found { node } => match answers.as_slice() {
                [Value::Array(found)] => self.found(*node, found),
                _ => Value::Nil,
            },
        }
    }

    /// What was found in a node, and where to go on.
    fn found(&self, node: usize, found: &[Value]) -> Value {
        let [cursor, names] = found else { return Value::Nil };
        let further = match redis::from_redis_value_ref(cursor) {
            Ok(0) if node + 1 < self.each.len() => (node as u64 + 1) << CURSOR_BITS,
            Ok(0) => 0,
            Ok(further @ ..=CURSOR_MASK) => (node as u64) << CURSOR_BITS | further,
            _ => return Value::Nil,
        };
        Value::Array(vec![Value::BulkString(further.to_string().into_bytes()), names.clone()])
    }
}

/// The answers of one node.
async fn ask(mut connection: MultiplexedConnection, share: &Pipeline, number: usize) -> RedisResult<Vec<Value>> {
    if !share.is_transaction() {
        return connection.req_packed_commands(share, 0, number).await;
    }
    // Behind what says that each of them waits comes the answer to all.
    match connection.req_packed_commands(share, number + 1, 1).await?.pop() {
        Some(Value::Array(answers)) => Ok(answers),
        Some(Value::ServerError(error)) => Err(error.into()),
        _ => Err(io::Error::other("a transaction without an answer").into()),
    }
}

/// The answer of a node to which a slot is being moved.
async fn ask_elsewhere(mut node: MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    let mut asking = Pipeline::with_capacity(2);
    asking.cmd("ASKING");
    asking.add_command(command.clone());
    Ok(node.req_packed_commands(&asking, 0, 2).await?.pop().unwrap_or(Value::Nil))
}

/// The slot of a key: of what stands in its first braces, if something does.
fn slot(key: &[u8]) -> usize {
    let hashed = key.iter().position(|octet| *octet == b'{').and_then(|open| {
        let tag = &key[open + 1..];
        tag.iter().position(|octet| *octet == b'}').filter(|length| *length > 0).map(|length| &tag[..length])
    });
    usize::from(CRC.checksum(hashed.unwrap_or(key))) % SLOTS
}

/// What slots are found with.
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// So many slots a cluster has.
const SLOTS: usize = 16_384;

/// The owner of a slot that nobody has.
const NOBODY: u16 = u16::MAX;

/// The cursors of single servers have fewer bits than that; behind them stands which server it is.
const CURSOR_BITS: u32 = 54;
const CURSOR_MASK: u64 = (1 << CURSOR_BITS) - 1;

/// Among so many tags there is one for each slot, as good as certainly. For some nodes it takes some of them.
const TAGS: usize = 16 * SLOTS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_belong_together_have_one_slot() {
        // From the specification, and by `CLUSTER KEYSLOT`.
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), usize::from(CRC.checksum(b"foo{}{bar}")) % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_ne!(slot(b"foo{bar"), slot(b"bar"));
    }
}

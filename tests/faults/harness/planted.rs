//! What lies under the sidecars' keys in Redis and is none of theirs.

use crate::world::RedisServer;
use ::redis::Pipeline;

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    WrongType,
    Corrupt,
    FutureVersion,
    Foreign,
    Huge,
}

/// Makes what takes time to make: the huge value, under a name that nobody asks for.
pub async fn prepare(redis: &RedisServer, huge_bytes: u64) {
    redis.run::<u64>(&format!("SETBIT {HUGE} {} 1", huge_bytes * 8 - 1)).await;
}

/// Plants under keys that there are now, other ones each time; the huge value moves on to another one.
pub async fn plant(redis: &RedisServer, plant: Plant, round: usize, planted: &mut Vec<String>) {
    let keys = some(redis.keys().await, KEYS_MAX);
    let mut pipeline = Pipeline::new();
    match plant {
        Plant::WrongType => {
            // Some generations as well: what depends on the others can still be found.
            let generations = some(redis.generations().await, GENERATIONS_MAX);
            for key in keys.into_iter().chain(generations) {
                pipeline.cmd("DEL").arg(&key).cmd("RPUSH").arg(&key).arg("a list");
                planted.push(key);
            }
        }
        Plant::Huge => {
            let from = planted.last().map_or(HUGE, String::as_str).to_owned();
            let lengths: Vec<u64> = redis.pipeline(Pipeline::new().cmd("STRLEN").arg(&from)).await;
            let next = keys.iter().find(|key| **key != from);
            // Where a sidecar has stored something in its place, it is gone; to make another one would hold Redis up.
            if let (Some(next), Some(HUGE_MIN..)) = (next, lengths.first()) {
                pipeline.cmd("RENAME").arg(from).arg(next);
                planted.push(next.clone());
            }
        }
        Plant::Corrupt | Plant::FutureVersion | Plant::Foreign => {
            let mut reading = Pipeline::new();
            for key in &keys {
                reading.cmd("GET").arg(key);
            }
            let values: Vec<Option<Vec<u8>>> = if keys.is_empty() { Vec::new() } else { redis.pipeline(&reading).await };
            let mut previous: Option<Vec<u8>> = None;
            for (place, (key, value)) in keys.iter().zip(values).enumerate() {
                let Some(value) = value else { continue };
                let changed = match plant {
                    Plant::Corrupt => flipped(&value, round + place),
                    Plant::FutureVersion => of_the_future(&value),
                    // That of another key is whole, and not of this one.
                    _ if place % 2 == 0 => previous.take().unwrap_or_else(|| b"OK".to_vec()),
                    _ => FOREIGN.to_vec(),
                };
                previous = Some(value);
                pipeline.cmd("SET").arg(key).arg(changed).arg("KEEPTTL");
            }
            planted.extend(keys);
        }
    }
    pipeline.ignore_errors();
    if !pipeline.is_empty() {
        redis.pipeline::<::redis::Value>(&pipeline).await;
    }
}

/// Takes away what was planted.
pub async fn clear(redis: &RedisServer, planted: &[String]) {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("UNLINK").arg(HUGE).arg(planted);
    redis.pipeline::<::redis::Value>(&pipeline).await;
}

/// Some of them, chosen at random.
fn some(mut names: Vec<String>, most: usize) -> Vec<String> {
    fastrand::shuffle(&mut names);
    names.truncate(most);
    names
}

fn flipped(value: &[u8], place: usize) -> Vec<u8> {
    let mut value = value.to_vec();
    // Also in the head: what is damaged there must not be believed either.
    let length = value.len().max(1);
    if let Some(octet) = value.get_mut((place * 7919) % length) {
        *octet ^= 0x10;
    }
    value
}

fn of_the_future(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    // The third octet is the version of the format.
    if let Some(version) = value.get_mut(2) {
        *version |= 0x80;
    }
    value
}

/// So many keys at a time, and so many generations: Redis shall have something else to do as well.
const KEYS_MAX: usize = 128;
const GENERATIONS_MAX: usize = 8;

const HUGE: &str = "huge";

/// Nothing that a sidecar stores is as long.
const HUGE_MIN: u64 = 2 << 20;

const FOREIGN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

//! How this process hears of what other replicas do, and of what Redis forgets.
//!
//! Redis is asked to tell of each change to a followed name (`CLIENT TRACKING ON BCAST … NOLOOP`), on the very connection that
//! commands use: so there is one thing that can break, and what Redis says comes in the order in which it happened. Where that
//! is refused, replicas tell one another over a channel, on a connection of its own; what they don't tell (that Redis evicted a
//! key, say) is then found out by reading everything again from time to time.

use super::Redis;
use super::link::Link;
use redis::aio::PubSub;
use redis::{Client, PushInfo, PushKind, RedisResult, Value};
use std::sync::Arc;

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum News<'a> {
    /// What lies under a followed name has changed, or ended.
    Changed(&'a [u8]),
    /// Anything may have changed.
    Anything,
    /// Redis is used from now on.
    Connected,
}

/// How news come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// Redis tells of each change (client tracking).
    Tracking,
    /// Replicas tell one another over a channel.
    Channel,
    /// Neither is permitted: nothing in memory is used without asking Redis.
    Deaf,
}

/// Who is told.
pub(in crate::store) type Listener = Arc<dyn Fn(News<'_>) + Send + Sync>;

impl Hearing {
    /// The name in statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Hearing::Tracking => "tracking",
            Hearing::Channel => "channel",
            Hearing::Deaf => "none",
        }
    }
}

/// Passes on what Redis pushes; for the connection's own task, so it must not wait.
pub(super) fn pushed(push: &PushInfo, listener: &Listener) {
    match (&push.kind, push.data.first()) {
        (PushKind::Invalidate, Some(Value::Array(names))) => {
            for name in names {
                match name {
                    Value::BulkString(name) => listener(News::Changed(name)),
                    _ => listener(News::Anything),
                }
            }
        }
        // FLUSHALL and FLUSHDB come as a null instead of names.
        (PushKind::Invalidate | PushKind::Disconnection, _) => listener(News::Anything),
        _ => {}
    }
}

/// Begins to hear: by tracking if Redis permits it, else over the channel of the `spokesman`, whose connection is then returned. What a
/// cluster tells over a channel may come before it has happened, so there is none.
pub(super) async fn begin(
    redis: &Redis,
    link: &Link,
    spokesman: Option<&Client>,
    is_resp3: bool,
) -> RedisResult<(Hearing, Option<PubSub>)> {
    let followed = redis.names().followed();
    let mut is_tracked = is_resp3;
    for mut connection in link.connections().into_iter().filter(|_| is_resp3) {
        let mut command = redis::cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(followed).arg("NOLOOP");
        match command.query_async::<Value>(&mut connection).await {
            Ok(_) => {}
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => return Err(error),
            Err(_) => is_tracked = false,
        }
    }
    let client = match spokesman {
        _ if is_tracked => return Ok((Hearing::Tracking, None)),
        Some(client) => client,
        None => return Ok((Hearing::Deaf, None)),
    };
    let subscribed = async {
        let mut channel = client.get_async_pubsub().await?;
        channel.subscribe(redis.names().channel()).await?;
        Ok::<_, redis::RedisError>(channel)
    };
    match subscribed.await {
        Ok(channel) => Ok((Hearing::Channel, Some(channel))),
        Err(error) if error.is_io_error() => Err(error),
        Err(_) => Ok((Hearing::Deaf, None)),
    }
}

/// Passes on a message of another replica.
pub(super) fn told(message: &[u8], own_id: &str, listener: &Listener) {
    let mut words = message.split(|octet| *octet == b' ');
    if words.next() == Some(own_id.as_bytes()) {
        return;
    }
    words.for_each(|name| listener(News::Changed(name)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn heard(tell: impl FnOnce(&Listener)) -> Vec<String> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener: Listener = {
            let heard = heard.clone();
            Arc::new(move |news| {
                heard.lock().unwrap().push(match news {
                    News::Changed(name) => String::from_utf8_lossy(name).into_owned(),
                    News::Anything | News::Connected => "*".to_owned(),
                })
            })
        };
        tell(&listener);
        let heard = heard.lock().unwrap();
        heard.clone()
    }

    #[test]
    fn what_redis_pushes_is_passed_on() {
        let push = |kind, data| heard(|listener| pushed(&PushInfo { kind, data }, listener));
        let name = |name: &str| Value::BulkString(name.into());
        assert_eq!(push(PushKind::Invalidate, vec![Value::Array(vec![name("a"), name("b")])]), ["a", "b"]);
        assert_eq!(push(PushKind::Invalidate, vec![Value::Nil]), ["*"]);
        assert_eq!(push(PushKind::Disconnection, vec![]), ["*"]);
        assert!(push(PushKind::Message, vec![name("a")]).is_empty());
    }

    #[test]
    fn what_other_replicas_say_is_passed_on_and_ones_own_word_is_not() {
        assert_eq!(heard(|listener| told(b"other a b", "own", listener)), ["a", "b"]);
        assert!(heard(|listener| told(b"own a b", "own", listener)).is_empty());
        assert!(heard(|listener| told(b"", "own", listener)).is_empty());
    }
}

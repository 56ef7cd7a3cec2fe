//! Bodies that end before their end: whoever reads one can tell, over every version of HTTP, and nothing of it is stored.

use crate::world::{Client, RawConnection, RawOrigin, World, eventually, millis, soon};

/// How the origin leaves a body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Closed,
    Reset,
    /// Nothing comes any more.
    Hung,
    /// What comes is no chunk.
    Nonsense,
}

impl End {
    async fn of(self, mut connection: RawConnection) -> Option<RawConnection> {
        match self {
            End::Closed => return None,
            End::Reset => connection.reset(),
            End::Hung => return Some(connection),
            End::Nonsense => {
                connection.send("xyz\r\n").await;
                return Some(connection);
            }
        }
        None
    }
}

const BEGINNINGS: [(&str, &[End]); 2] = [
    ("Content-Length: 10\r\n\r\none", &[End::Closed, End::Reset, End::Hung]),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n", &[End::Closed, End::Reset, End::Hung, End::Nonsense]),
];

/// Asks with both versions of HTTP, and breaks what both are being sent.
async fn breaks(path: &str, beginning: &str, end: End) {
    let origin = RawOrigin::start().await;
    let world = World::at(&origin.address, |config| config.origin.body_idle_timeout = millis(300)).await;
    let host = world.sidecar.address.to_string();
    let clients = [Client::of(world.sidecar.address), Client::http2(world.sidecar.address)];
    let mut asked = Vec::new();
    let mut connections = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        asked.push(tokio::spawn(client.get(path).streaming()));
        if path == "/a" && number > 0 {
            // The second follows the first.
            eventually("the second follows", async || world.stats().await["followers"] == 1).await;
            continue;
        }
        let mut connection = origin.accept().await;
        assert!(connection.head().await.contains(&host));
        connections.push(connection);
    }
    for connection in &mut connections {
        connection.send(format!("HTTP/1.1 200 OK\r\n{beginning}")).await;
    }
    let mut bodies = Vec::new();
    for asked in asked {
        let mut body = asked.await.unwrap();
        assert_eq!(body.status, 200);
        assert_eq!(body.next().await, "one");
        bodies.push(body);
    }
    let mut left = Vec::new();
    for connection in connections {
        left.push(end.of(connection).await);
    }
    for body in bodies {
        let got = soon("the end of a broken body", body.whole()).await;
        got.is_broken();
        assert_eq!(got.text(), "");
    }
    assert_eq!(world.stats().await["total_keys"], 0, "{path} {beginning:?} {end:?}");

    let again = world.get(path).spawn();
    let mut connection = origin.accept().await;
    connection.head().await;
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole").await;
    again.await.unwrap().is("whole").does_not_say("hit");
}

#[tokio::test]
async fn a_body_past_the_cache_that_breaks_is_seen_to_break() {
    for (beginning, ends) in BEGINNINGS {
        for end in ends {
            breaks("/past/a", beginning, *end).await;
        }
    }
}

#[tokio::test]
async fn a_body_that_was_to_be_stored_and_breaks_is_seen_to_break_by_all_who_wait_for_it() {
    for (beginning, ends) in BEGINNINGS {
        for end in ends {
            breaks("/a", beginning, *end).await;
        }
    }
}

#[tokio::test]
async fn a_body_without_an_end_of_its_own_is_sent_to_its_end_and_a_reset_is_none() {
    for path in ["/a", "/past/a"] {
        for by_reset in [false, true] {
            let origin = RawOrigin::start().await;
            let world = World::at(&origin.address, |_| {}).await;
            let asked = world.get(path).streaming();
            let answering = async {
                let mut connection = origin.accept().await;
                connection.head().await;
                connection.send("HTTP/1.1 200 OK\r\n\r\none").await;
                connection
            };
            let (mut got, connection) = tokio::join!(asked, answering);
            assert_eq!(got.next().await, "one");
            if by_reset {
                connection.reset();
                got.whole().await.is_broken();
            } else {
                drop(connection);
                got.whole().await.is("");
            }
            assert_eq!(world.stats().await["total_keys"], 0);
        }
    }
}

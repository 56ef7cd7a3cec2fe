//! A hundred thousand frames of each kind, beside clients that only want their hits (CVE-2023-44487 and what came before and after it).
//!
//! In the suite it is a few thousand; `SIDECACHE_FLOOD=100000` is the long form. Either prints what it measured.

use super::frames::{
    ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, Framed, HEADERS, NO_ERROR,
    PING, PRIORITY, PROTOCOL_ERROR, RST_STREAM, STREAM_CLOSED, WINDOW_UPDATE, block, field, frame, get, literal, number, post,
    request, settings,
};
use super::program::Program;
use super::world::{Client, Origin, Reply, World, eventually, millis, secs};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A kind of flood.
struct Flood {
    name: &'static str,
    /// What comes before it.
    opening: Vec<u8>,
    /// The frames of one round, for the number of the round.
    round: fn(u32) -> Vec<u8>,
    /// Whether the connection has to end of it, also in the short form.
    ends: bool,
}

/// What a flood did.
#[derive(Default)]
struct Done {
    /// Rounds that were written before the connection ended.
    rounds: u32,
    /// The code of the `GOAWAY`, if it was heard.
    code: Option<u32>,
    has_ended: bool,
}

fn id(round: u32) -> u32 {
    2 * round + 1
}

fn floods() -> Vec<Flood> {
    let flood = |name, opening: Vec<u8>, round: fn(u32) -> Vec<u8>, ends| Flood { name, opening, round, ends };
    let open = || post(1, "/past/slow", &[]);
    let endless = || frame(HEADERS, END_STREAM, 1, &request("GET", "/hit"));
    // A value of 4,000 octets that is remembered, and then named by one octet as often as a frame has room.
    let bomb =
        || frame(HEADERS, END_STREAM | END_HEADERS, 1, &[request("GET", "/hit"), literal(0x40, b"x", &[b'a'; 4000])].concat());
    vec![
        flood(
            "rapid reset (CVE-2023-44487), hits",
            vec![],
            |n| [get(id(n), "/hit"), number(RST_STREAM, id(n), 8)].concat(),
            true,
        ),
        flood("rapid reset, past the cache", vec![], |n| [get(id(n), "/past/slow"), number(RST_STREAM, id(n), 8)].concat(), true),
        flood("SETTINGS (CVE-2019-9515)", vec![], |_| settings(&[]), true),
        flood("SETTINGS that resize (CVE-2019-9515)", vec![], |n| settings(&[(4, n), (1, n)]), true),
        flood("PING (CVE-2019-9512)", vec![], |_| frame(PING, 0, 0, &[0; 8]), true),
        flood("PING, acknowledged", vec![], |_| frame(PING, ACK, 0, &[0; 8]), true),
        flood("empty DATA (CVE-2019-9518)", open(), |_| frame(DATA, 0, 1, b""), true),
        flood("small DATA", open(), |_| frame(DATA, 0, 1, b"x"), false),
        flood("WINDOW_UPDATE, connection", vec![], |_| number(WINDOW_UPDATE, 0, 1), false),
        flood("WINDOW_UPDATE, stream (CVE-2019-9511)", open(), |_| number(WINDOW_UPDATE, 1, 1), false),
        flood("PRIORITY (CVE-2019-9513)", vec![], |n| frame(PRIORITY, 0, id(n), &[0, 0, 0, 0, (n % 256) as u8]), false),
        flood("frames of unknown type", vec![], |_| frame(0xee, 0, 0, b""), false),
        flood("CONTINUATION (CVE-2024-27316)", endless(), |_| frame(CONTINUATION, 0, 1, &field("x-a", "1")), true),
        flood("empty CONTINUATION", endless(), |_| frame(CONTINUATION, 0, 1, b""), true),
        flood("large CONTINUATION", endless(), |_| frame(CONTINUATION, 0, 1, &field("x-a", &"1".repeat(16_000))), true),
        flood(
            "fields without a name (CVE-2019-9516)",
            vec![],
            |n| frame(HEADERS, END_STREAM | END_HEADERS, id(n), &[request("GET", "/hit"), literal(0, b"", b"")].concat()),
            true,
        ),
        flood(
            "HEADERS that are malformed",
            vec![],
            |n| frame(HEADERS, END_STREAM | END_HEADERS, id(n), &block(&[(":method", "GET"), ("connection", "close")])),
            true,
        ),
        flood(
            "resets by what the client does to its stream: windows (CVE-2025-8671)",
            vec![],
            |n| [post(id(n), "/past/slow", &[]), number(WINDOW_UPDATE, id(n), 0x7fff_ffff)].concat(),
            true,
        ),
        flood(
            "resets by what the client does to its stream: lengths (CVE-2025-8671)",
            vec![],
            |n| [post(id(n), "/past/slow", &[("content-length", "1")]), frame(DATA, 0, id(n), b"xx")].concat(),
            true,
        ),
        flood(
            "resets by what the client does to its stream: priorities (CVE-2025-8671)",
            vec![],
            |n| frame(PRIORITY, 0, id(n), &[&id(n).to_be_bytes()[..], &[0]].concat()),
            true,
        ),
        flood(
            "a bomb of field lines (CVE-2016-6581)",
            bomb(),
            |n| frame(HEADERS, END_STREAM | END_HEADERS, id(n + 1), &vec![0xbe; 16_000]),
            true,
        ),
    ]
}

/// Sends rounds until there were enough, or the connection has ended, or it is told that it will; reads all that comes meanwhile.
async fn flood(address: SocketAddr, flood: &Flood, rounds: u32) -> Done {
    let mut framed = Framed::connect(address).await;
    framed.send(&flood.opening).await;
    let (mut reader, mut writer) = framed.into_stream().into_split();
    let reading = tokio::spawn(async move {
        let (mut octets, mut ahead, mut code) = (vec![0; 64 << 10], Vec::new(), None);
        while let Ok(read @ 1..) = reader.read(&mut octets).await {
            ahead.extend_from_slice(&octets[..read]);
            while let Some(frame) = Frame::take(&mut ahead) {
                code = frame.is_goaway().or(code);
            }
            if code.is_some_and(|code| code != NO_ERROR) {
                break;
            }
        }
        code
    });
    let mut done = Done::default();
    while done.rounds < rounds && !reading.is_finished() {
        let some = (rounds - done.rounds).min(100);
        let octets: Vec<u8> = (done.rounds..done.rounds + some).flat_map(flood.round).collect();
        match tokio::time::timeout(Duration::from_secs(20), writer.write_all(&octets)).await {
            Ok(Ok(())) => done.rounds += some,
            Ok(Err(_)) => break,
            Err(_) => panic!("{}: it stands still", flood.name),
        }
    }
    // Who is let go on would be read for ever.
    match tokio::time::timeout(millis(500), reading).await {
        Ok(code) => Done { code: code.unwrap(), has_ended: true, ..done },
        Err(_) => done,
    }
}

/// The times of hits, in the order of their length.
async fn measure(client: Client, until: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !until(times.len()) {
        let begun = Instant::now();
        client.get("/hit").await.is("hit");
        times.push(begun.elapsed());
        tokio::time::sleep(millis(1)).await;
    }
    times.sort();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}

/// Does `work` on a thread of its own, so that nobody waits for it here: what came of it, how long it took, and how long `clients`
/// waited for their hits meanwhile.
async fn beside<T: Send + 'static, const N: usize>(
    clients: [&Client; N],
    work: impl Future<Output = T> + Send + 'static,
) -> (T, Duration, [Vec<Duration>; N]) {
    let working = Arc::new(AtomicBool::new(true));
    let measuring = clients.map(|client| {
        let working = working.clone();
        tokio::spawn(measure(client.clone(), move |asked| asked > 20 && !working.load(Ordering::Relaxed)))
    });
    let begun = Instant::now();
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    let done = tokio::task::spawn_blocking(run).await.unwrap();
    let took = begun.elapsed();
    working.store(false, Ordering::Relaxed);
    let mut times = [const { Vec::new() }; N];
    for (times, measured) in times.iter_mut().zip(measuring) {
        *times = measured.await.unwrap();
    }
    (done, took, times)
}

/// One connection after the other, as whoever is thrown out comes again: rounds, connections, the most memory meanwhile, and the end.
async fn floods_of(program: Arc<Program>, kind: Flood, rounds: u32) -> (u32, u32, usize, Done) {
    let (mut sent, mut connections, mut most, mut last) = (0, 0, 0, Done::default());
    let (begun, least) = (Instant::now(), length(rounds));
    while (sent < rounds && connections < 50 && begun.elapsed() < secs(3)) || begun.elapsed() < least {
        last = flood(program.address, &kind, rounds.saturating_sub(sent).max(rounds / 50)).await;
        sent += last.rounds.max(1);
        connections += 1;
        most = most.max(program.resident());
    }
    (sent, connections, most, last)
}

/// The same work for this machine without a server that does any: what a flood costs others by its own.
async fn pings_to_nobody(rounds: u32) -> u32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut flooding = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut taking, _) = listener.accept().await.unwrap();
    let taken = tokio::spawn(async move { tokio::io::copy(&mut taking, &mut tokio::io::sink()).await });
    let (mut sent, begun) = (0, Instant::now());
    while sent < rounds || begun.elapsed() < length(rounds) {
        // As fast as a server that reads as fast as it can would have it, were it let go on.
        flooding.write_all(&frame(PING, 0, 0, &[0; 8]).repeat(100)).await.unwrap();
        sent += 100;
    }
    drop(flooding);
    taken.await.unwrap().unwrap();
    sent
}

/// How long a flood goes on at least: in the long form so long that its p99 is one.
fn length(rounds: u32) -> Duration {
    if rounds < 100_000 { Duration::ZERO } else { Duration::from_secs(1) }
}

/// What the others pay is printed, rather than checked: on a machine that others use too it is mostly theirs.
#[tokio::test]
async fn floods_end_and_cost_the_others_nothing() {
    let rounds = std::env::var("SIDECACHE_FLOOD").map_or(6000, |rounds| rounds.parse().expect("a number of frames"));
    let origin = Origin::start().await;
    origin.reply("/hit", "hit");
    origin.reply("/past/slow", Reply::new("slow").behind(&super::world::Gate::closed()));
    let program = Arc::new(Program::start(&origin.address, "").await);
    let (http1, http2) = (Client::of(program.address), Client::http2(program.address));
    http1.get("/hit").await.is("hit");
    http2.get("/hit").await.is("hit");
    let (_, took, times) = beside([&http1, &http2], tokio::time::sleep(length(rounds))).await;
    println!("{:<75} {took:.1?}; p99 {:.1?} and {:.1?}", "beside nothing", p99(&times[0]), p99(&times[1]));
    let (sent, took, times) = beside([&http1, &http2], pings_to_nobody(rounds)).await;
    println!(
        "{:<75} {sent:>7} rounds, {took:.1?}; p99 {:.1?} and {:.1?}",
        "beside PINGs to nobody",
        p99(&times[0]),
        p99(&times[1])
    );
    let mut unended = Vec::new();
    for kind in floods() {
        let before = program.resident();
        let (name, ends) = (kind.name, kind.ends);
        let flooding = floods_of(program.clone(), kind, rounds);
        let ((sent, connections, most, last), took, times) = beside([&http1, &http2], flooding).await;
        println!(
            "{:<75} {sent:>7} rounds, {connections:>3} connections, last code {:?}, {took:.1?}; p99 {:.1?} and {:.1?}; +{} KiB",
            name,
            last.code,
            p99(&times[0]),
            p99(&times[1]),
            most.saturating_sub(before) >> 10,
        );
        if ends && !(last.has_ended || connections > 1) {
            unended.push(name);
        }
        if let Some(code) = last.code {
            assert!([ENHANCE_YOUR_CALM, PROTOCOL_ERROR, COMPRESSION_ERROR, STREAM_CLOSED].contains(&code), "{name}: {code}",);
        }
        assert!(most.saturating_sub(before) < 32 << 20, "{name} took {} KiB", most.saturating_sub(before) >> 10);
    }
    assert_eq!(unended, [""; 0]);
}

/// A client that has broken the protocol, when it has heard of that.
async fn thrown_out(world: &World) -> Framed {
    let mut framed = Framed::connect(world.sidecar.address).await;
    framed.send(frame(PING, 0, 0, b"odd")).await;
    framed.until("the reason", |frame| frame.is_goaway().is_some()).await.expect("the reason comes before the end");
    framed
}

/// So that whoever floods, and comes again as soon as it can, can do so once a second.
#[tokio::test]
async fn who_is_thrown_out_waits_for_the_end_and_nobody_else_does() {
    let world = World::start().await;
    world.origin.reply("/hit", "hit");
    world.get("/hit").await.is("hit");
    let mut framed = thrown_out(&world).await;
    let begun = Instant::now();
    for client in [Client::of(world.sidecar.address), Client::http2(world.sidecar.address)] {
        client.get("/hit").await.is("hit").hit("memory");
    }
    assert!(begun.elapsed() < millis(900), "others waited too");
    framed.closed().await;
    assert!(begun.elapsed() > millis(900), "it waited for {:?}", begun.elapsed());
    assert_eq!(world.metric("sidecache_http2_detained_total").await, 1.0);
    // Clients that leave have done nothing.
    drop(Framed::connect(world.sidecar.address).await);
    eventually("it has left", async || world.metric("sidecache_client_connections").await <= 3.0).await;
    assert_eq!(world.metric("sidecache_http2_detained_total").await, 1.0);
}

#[tokio::test]
async fn who_floods_and_comes_again_at_once_is_let_in_by_and_by() {
    let world = World::start().await;
    world.origin.reply("/hit", "hit");
    world.get("/hit").await.is("hit");
    let begun = Instant::now();
    // Clients that are only confused wait for nobody.
    let mut confused = Vec::new();
    for _ in 0..8 {
        confused.push(thrown_out(&world).await);
    }
    assert!(begun.elapsed() < millis(900), "it took {:?}", begun.elapsed());
    let mut floods = Vec::new();
    for _ in 0..3 {
        let mut flood = Framed::connect(world.sidecar.address).await;
        flood.send(frame(PING, 0, 0, &[0; 8]).repeat(3000)).await;
        assert_eq!(flood.end().await, Some(ENHANCE_YOUR_CALM));
        floods.push(flood);
    }
    let begun = Instant::now();
    Client::of(world.sidecar.address).get("/hit").await.is("hit").hit("memory");
    assert!(begun.elapsed() < millis(300), "a client of HTTP/1.1 waited for {:?}", begun.elapsed());
    Client::http2(world.sidecar.address).get("/hit").await.is("hit").hit("memory");
    assert!(begun.elapsed() > millis(300), "another connection of HTTP/2 was let in after {:?}", begun.elapsed());
    assert_eq!(world.metric("sidecache_http2_detained_total").await, 11.0);
}

#[tokio::test]
async fn who_was_thrown_out_makes_room_for_others_at_once() {
    let world = World::with(|config| config.server.connections_max = 1).await;
    world.origin.reply("/hit", "hit");
    let mut framed = thrown_out(&world).await;
    let begun = Instant::now();
    world.get("/hit").await.is("hit");
    framed.closed().await;
    assert!(begun.elapsed() < millis(900), "it took {:?}", begun.elapsed());
}

/// Clients that have much to do on one connection: a great many requests, and a long body of which each piece is announced twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_much_is_no_flood() {
    let world = World::start().await;
    world.origin.reply("/hit", "hit");
    world.origin.reply("/long", Reply::new(vec![b'x'; 8 << 20]));
    let client = Client::http2(world.sidecar.address);
    client.get("/hit").await.is("hit");
    for _ in 0..50 {
        let asked: Vec<_> = (0..100).map(|_| client.get("/hit").spawn()).collect();
        for got in asked {
            got.await.unwrap().is("hit").hit("memory");
        }
    }
    // A piece is no longer than the window, which is as small as clients have it.
    let mut framed = Framed::with_settings(world.sidecar.address, &[(4, 4096)]).await;
    framed.send(get(1, "/long")).await;
    let mut octets = 0;
    while octets < 8 << 20 {
        let piece = framed.until("a piece", |frame| frame.kind == DATA).await.expect("the connection goes on").payload.len();
        octets += piece;
        let piece = u32::try_from(piece).unwrap();
        framed.send([number(WINDOW_UPDATE, 0, piece), number(WINDOW_UPDATE, 1, piece)].concat()).await;
    }
}

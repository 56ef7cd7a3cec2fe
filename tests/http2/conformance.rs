//! What RFC 9113 and RFC 7541 demand of a server, in the order of their sections, as the known suites of conformance ask for it: each
//! case has to hold for an answer from memory, and for one past the cache.

use super::frames::{
    ACK, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, Frame, Framed,
    GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS,
    STREAM_CLOSED, WINDOW_UPDATE, WITH_PRIORITY, block, field, frame, literal, number, request, settings,
};
use super::world::{World, secs};

struct Case {
    name: &'static str,
    steps: Vec<Step>,
    expected: Expected,
}

enum Step {
    Send(Vec<u8>),
    /// Waits for the end of a response.
    Ended,
    /// Waits for the acknowledgement of settings.
    Acknowledged,
    /// Waits for octets of a body.
    Began,
}

/// What has to come; where it is an error, the end of the connection is as good.
#[derive(Debug)]
enum Expected {
    Connection(&'static [u32]),
    Stream(&'static [u32]),
    Closed,
    Pong,
    Response,
    Data(usize),
    /// This and nothing else.
    Goaway(u32),
    Reset(u32),
    Acknowledgement,
}

impl Expected {
    fn is(&self, frame: &Frame) -> bool {
        match self {
            Expected::Connection(codes) => frame.is_goaway().is_some_and(|code| codes.contains(&code)),
            Expected::Stream(codes) => frame.is_goaway().or(frame.is_reset()).is_some_and(|code| codes.contains(&code)),
            Expected::Closed => false,
            Expected::Pong => frame.kind == PING && frame.flags & ACK != 0 && frame.payload == PAYLOAD,
            Expected::Response => frame.kind == HEADERS,
            Expected::Data(length) => frame.kind == DATA && frame.payload.len() == *length,
            Expected::Goaway(code) => frame.is_goaway() == Some(*code),
            Expected::Reset(code) => frame.is_reset() == Some(*code),
            Expected::Acknowledgement => frame.kind == SETTINGS && frame.flags & ACK != 0,
        }
    }

    fn is_end(&self) -> bool {
        matches!(self, Expected::Connection(_) | Expected::Stream(_) | Expected::Closed)
    }
}

/// Plays a case; what came instead, if it does not hold.
async fn play(world: &World, case: &Case) -> Result<(), String> {
    let mut client = Framed::connect(world.sidecar.address).await;
    let mut came = Vec::new();
    let playing = async {
        for step in &case.steps {
            let awaited: fn(&Frame) -> bool = match step {
                Step::Send(octets) => {
                    client.send(octets).await;
                    continue;
                }
                Step::Ended => Frame::ends_stream,
                Step::Acknowledged => |frame| frame.kind == SETTINGS && frame.flags & ACK != 0,
                Step::Began => |frame| frame.kind == DATA,
            };
            if client.until("what a step waits for", awaited).await.is_none() {
                return false;
            }
        }
        while let Some(frame) = client.next().await {
            came.push(format!("{}/{:x} on {}: {} octets", frame.kind, frame.flags, frame.stream, frame.payload.len()));
            if case.expected.is(&frame) {
                return true;
            }
        }
        case.expected.is_end()
    };
    match tokio::time::timeout(secs(2), playing).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{}: {:?} did not come before the end, but {came:?}", case.name, case.expected)),
        Err(_) => Err(format!("{}: {:?} did not come in time, but {came:?}", case.name, case.expected)),
    }
}

async fn check(cases: fn(&str) -> Vec<Case>) {
    let world = World::start().await;
    // A `POST` to what is stored would have it fetched again.
    for path in ["/a", "/past/a", "/past/post"] {
        world.origin.reply(path, "a body of some octets");
        world.get(path).await;
    }
    let mut failed = Vec::new();
    let mut number = 0;
    for path in ["/a", "/past/a"] {
        for case in cases(path) {
            number += 1;
            failed.extend(play(&world, &case).await.err().map(|why| format!("{path}: {why}")));
        }
    }
    println!("{} of {number} cases hold", number - failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    // And the server is as it was.
    world.get("/a").await.is("a body of some octets").hit("memory");
}

fn case(name: &'static str, frames: &[&[u8]], expected: Expected) -> Case {
    Case { name, steps: vec![Step::Send(frames.concat())], expected }
}

fn steps(name: &'static str, steps: Vec<Step>, expected: Expected) -> Case {
    Case { name, steps, expected }
}

fn head(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block)
}

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, PAYLOAD)
}

/// Field lines of 4,000 octets each.
fn long(fields: usize) -> Vec<u8> {
    (0..fields).flat_map(|i| field(&format!("x-long-{i}"), &"a".repeat(4000))).collect()
}

/// A request, before whose parts something is put.
fn padded(padding: u8, block: &[u8], real: usize) -> Vec<u8> {
    [&[padding][..], block, &vec![0; real]].concat()
}

const WHOLE: u8 = END_STREAM | END_HEADERS;
const PAYLOAD: &[u8] = b"sidecach";
const INITIAL_WINDOW_SIZE: u16 = 4;

#[tokio::test]
async fn what_is_right_is_answered() {
    check(|path| {
        let (get, post) = (request("GET", path), request("POST", "/past/post"));
        let body = |flags, octets: &[u8]| frame(DATA, flags, 1, octets);
        let priority =
            |stream: u32, on: u32, weight: u8| frame(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat());
        let with = |representation: &[u8]| head(WHOLE, 1, &[&get, representation].concat());
        let window = |size| settings(&[(INITIAL_WINDOW_SIZE, size)]);
        let trailers = head(WHOLE, 1, &field("x-test", "ok"));
        vec![
            case("PRIORITY on an idle stream", &[&priority(1, 0, 255), &ping()], Expected::Pong),
            case(
                "WINDOW_UPDATE on a half-closed stream",
                &[&window(0), &head(WHOLE, 1, &get), &number(WINDOW_UPDATE, 1, 1)],
                Expected::Data(1),
            ),
            case(
                "PRIORITY on a half-closed stream",
                &[&window(0), &head(WHOLE, 1, &get), &priority(1, 0, 255), &number(WINDOW_UPDATE, 1, 1)],
                Expected::Data(1),
            ),
            case(
                "RST_STREAM on a half-closed stream",
                &[&head(WHOLE, 1, &get), &number(RST_STREAM, 1, 8), &ping()],
                Expected::Pong,
            ),
            steps(
                "PRIORITY on a closed stream",
                vec![Step::Send(head(WHOLE, 1, &get)), Step::Ended, Step::Send([priority(1, 0, 255), ping()].concat())],
                Expected::Pong,
            ),
            case("DATA", &[&head(END_HEADERS, 1, &post), &body(END_STREAM, b"test")], Expected::Response),
            case(
                "DATA twice",
                &[&head(END_HEADERS, 1, &post), &body(0, b"test"), &body(END_STREAM, b"test")],
                Expected::Response,
            ),
            case(
                "DATA with padding",
                &[&head(END_HEADERS, 1, &post), &body(END_STREAM | PADDED, &padded(5, b"test", 5))],
                Expected::Response,
            ),
            case("HEADERS with padding", &[&head(WHOLE | PADDED, 1, &padded(5, &get, 5))], Expected::Response),
            case(
                "HEADERS with priority",
                &[&head(WHOLE | WITH_PRIORITY, 1, &[&[0, 0, 0, 0, 255][..], &get].concat())],
                Expected::Response,
            ),
            case("PRIORITY with weight 1", &[&priority(1, 0, 0), &head(WHOLE, 1, &get)], Expected::Response),
            case("PRIORITY with weight 256", &[&priority(1, 0, 255), &head(WHOLE, 1, &get)], Expected::Response),
            case("PRIORITY on another stream", &[&priority(1, 2, 255), &head(WHOLE, 1, &get)], Expected::Response),
            case("PRIORITY, exclusive", &[&priority(1, 0x8000_0002, 255), &head(WHOLE, 1, &get)], Expected::Response),
            case(
                "PRIORITY on a later stream, and a request on an earlier",
                &[&priority(5, 0, 255), &head(WHOLE, 3, &get)],
                Expected::Response,
            ),
            case("RST_STREAM", &[&head(END_HEADERS, 1, &get), &number(RST_STREAM, 1, 8), &ping()], Expected::Pong),
            case("SETTINGS", &[&settings(&[(3, 100)])], Expected::Acknowledgement),
            case("PING", &[&ping()], Expected::Pong),
            case("GOAWAY", &[&frame(GOAWAY, 0, 0, &[0; 8])], Expected::Closed),
            case("WINDOW_UPDATE on the connection", &[&number(WINDOW_UPDATE, 0, 1), &ping()], Expected::Pong),
            case(
                "WINDOW_UPDATE on a stream",
                &[&window(1), &head(WHOLE, 1, &get), &number(WINDOW_UPDATE, 1, 1)],
                Expected::Data(2),
            ),
            case(
                "CONTINUATION",
                &[&head(END_STREAM, 1, &get), &frame(CONTINUATION, END_HEADERS, 1, &long(1))],
                Expected::Response,
            ),
            case(
                "CONTINUATION twice (6.10)",
                &[
                    &head(END_STREAM, 1, &get),
                    &frame(CONTINUATION, 0, 1, &long(1)),
                    &frame(CONTINUATION, END_HEADERS, 1, &long(1)),
                ],
                Expected::Response,
            ),
            case("GET", &[&head(WHOLE, 1, &get)], Expected::Response),
            case("HEAD", &[&head(WHOLE, 1, &request("HEAD", path))], Expected::Response),
            case("POST", &[&head(END_HEADERS, 1, &post), &body(END_STREAM, b"test")], Expected::Response),
            case(
                "POST with trailers",
                &[&head(END_HEADERS, 1, &[&post[..], &field("trailer", "x-test")].concat()), &body(0, b"test"), &trailers],
                Expected::Response,
            ),
            // RFC 7541.
            case("6.1: an indexed field", &[&with(b"\xba")], Expected::Response),
            case("6.2.1: incremental indexing, indexed name", &[&with(b"\x7a\x06h2spec")], Expected::Response),
            case(
                "6.2.1: incremental indexing, Huffman",
                &[&with(b"\x40\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4")],
                Expected::Response,
            ),
            case("6.2.1: incremental indexing, new name", &[&with(b"\x40\x06x-test\x06h2spec")], Expected::Response),
            case(
                "6.2.1: incremental indexing, new name, Huffman",
                &[&with(b"\x40\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4")],
                Expected::Response,
            ),
            case("6.2.2: without indexing, indexed name", &[&with(b"\x0f\x2b\x06h2spec")], Expected::Response),
            case("6.2.2: without indexing, new name", &[&with(b"\x00\x06x-test\x06h2spec")], Expected::Response),
            case(
                "6.2.2: without indexing, Huffman",
                &[&with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4")],
                Expected::Response,
            ),
            case("6.2.3: never indexed, indexed name", &[&with(b"\x1f\x2b\x06h2spec")], Expected::Response),
            case("6.2.3: never indexed, new name", &[&with(b"\x10\x06x-test\x06h2spec")], Expected::Response),
            case(
                "6.2.3: never indexed, Huffman",
                &[&with(b"\x10\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4")],
                Expected::Response,
            ),
            case("6.3: an update of the table's size", &[&head(WHOLE, 1, &[b"\x20", &get[..]].concat())], Expected::Response),
            case(
                "6.3: two updates of the table's size",
                &[&head(WHOLE, 1, &[b"\x20\x30", &get[..]].concat())],
                Expected::Response,
            ),
            // RFC 9113.
            case("4.1: a frame of unknown type", &[&frame(0x16, 0, 0, &[0; 8]), &ping()], Expected::Pong),
            case("4.1: undefined flags", &[&frame(PING, 0x16, 0, PAYLOAD)], Expected::Pong),
            case("4.1: the reserved bit", &[&frame(PING, 0, 0x8000_0000, PAYLOAD)], Expected::Pong),
            case(
                "4.2: DATA of 2^14 octets",
                &[&head(END_HEADERS, 1, &post), &body(END_STREAM, &[b'x'; 1 << 14])],
                Expected::Response,
            ),
            case("6.5.2: an unknown setting", &[&settings(&[(0xff, 1)]), &ping()], Expected::Pong),
            steps(
                "6.5.3: a setting twice",
                vec![
                    Step::Send(settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)])),
                    Step::Acknowledged,
                    Step::Send(head(WHOLE, 1, &get)),
                ],
                Expected::Data(1),
            ),
            case("6.7: an acknowledgement is not answered", &[&frame(PING, ACK, 0, b"unwanted"), &ping()], Expected::Pong),
            steps(
                "6.9.1: a window of one octet",
                vec![Step::Send(window(1)), Step::Acknowledged, Step::Send(head(WHOLE, 1, &get))],
                Expected::Data(1),
            ),
            steps(
                "6.9.2: a window that grows by a setting",
                vec![
                    Step::Send(window(0)),
                    Step::Acknowledged,
                    Step::Send([head(WHOLE, 1, &get), window(1)].concat()),
                    Step::Acknowledged,
                ],
                Expected::Data(1),
            ),
            steps(
                "6.9.2: a window below zero",
                vec![
                    Step::Send(window(3)),
                    Step::Acknowledged,
                    Step::Send(head(WHOLE, 1, &get)),
                    Step::Began,
                    Step::Send(window(2)),
                    Step::Acknowledged,
                    Step::Send(number(WINDOW_UPDATE, 1, 2)),
                ],
                Expected::Data(1),
            ),
            case("7: GOAWAY with an unknown code", &[&frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff])], Expected::Closed),
            case(
                "7: RST_STREAM with an unknown code",
                &[&head(END_HEADERS, 1, &post), &number(RST_STREAM, 1, 0xff), &ping()],
                Expected::Pong,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn frames_out_of_place_are_errors() {
    const PROTOCOL: Expected = Expected::Connection(&[PROTOCOL_ERROR]);
    const CLOSED: Expected = Expected::Stream(&[STREAM_CLOSED]);
    check(|path| {
        let (get, post) = (request("GET", path), request("POST", "/past/post"));
        let (open, whole) = (head(END_HEADERS, 1, &post), head(WHOLE, 1, &get));
        let data = |stream| frame(DATA, END_STREAM, stream, b"test");
        let reset = |stream| number(RST_STREAM, stream, 8);
        let rest = |stream| frame(CONTINUATION, END_HEADERS, stream, &long(1));
        let ended =
            |name, then: Vec<u8>, expected| steps(name, vec![Step::Send(whole.clone()), Step::Ended, Step::Send(then)], expected);
        let itself = [0, 0, 0, 1, 255];
        let exceeded = (0..=256).flat_map(|i| head(WHOLE, 2 * i + 1, &get)).collect::<Vec<_>>();
        vec![
            case(
                "4.2: DATA that is too large",
                &[&open, &frame(DATA, END_STREAM, 1, &[0; (1 << 14) + 1])],
                Expected::Stream(&[FRAME_SIZE_ERROR]),
            ),
            case(
                "4.2: HEADERS that are too large",
                &[&head(WHOLE, 1, &[&get[..], &long(5)].concat())],
                Expected::Connection(&[FRAME_SIZE_ERROR]),
            ),
            case("4.3: a block that is none", &[&head(WHOLE, 1, b"\x40")], Expected::Connection(&[COMPRESSION_ERROR])),
            case(
                "4.3: PRIORITY amid a block",
                &[&head(END_STREAM, 1, &get), &frame(PRIORITY, 0, 1, &[0; 5]), &rest(1)],
                PROTOCOL,
            ),
            case("4.3: HEADERS amid a block", &[&head(END_STREAM, 1, &get), &head(WHOLE, 3, &get)], PROTOCOL),
            case("5.1: idle, DATA", &[&data(1)], PROTOCOL),
            case("5.1: idle, RST_STREAM", &[&reset(1)], PROTOCOL),
            case("5.1: idle, WINDOW_UPDATE", &[&number(WINDOW_UPDATE, 1, 100)], PROTOCOL),
            case("5.1: idle, CONTINUATION", &[&rest(1)], PROTOCOL),
            case("5.1: half-closed, DATA", &[&whole, &data(1)], CLOSED),
            case("5.1: half-closed, HEADERS", &[&whole, &whole], CLOSED),
            case("5.1: half-closed, CONTINUATION", &[&whole, &rest(1)], Expected::Stream(&[STREAM_CLOSED, PROTOCOL_ERROR])),
            case("5.1: closed by a reset, DATA", &[&open, &reset(1), &data(1)], CLOSED),
            case("5.1: closed by a reset, HEADERS", &[&open, &reset(1), &whole], CLOSED),
            case(
                "5.1: closed by a reset, CONTINUATION",
                &[&open, &reset(1), &rest(1)],
                Expected::Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
            ),
            ended("5.1: closed, DATA", data(1), Expected::Connection(&[STREAM_CLOSED])),
            ended("5.1: closed, HEADERS", whole.clone(), Expected::Connection(&[STREAM_CLOSED])),
            ended("5.1: closed, CONTINUATION", rest(1), Expected::Connection(&[STREAM_CLOSED, PROTOCOL_ERROR])),
            case("5.1.1: a stream of an even number", &[&head(WHOLE, 2, &get)], PROTOCOL),
            case("5.1.1: a stream of a smaller number", &[&head(WHOLE, 5, &get), &head(WHOLE, 3, &get)], PROTOCOL),
            case(
                "5.1.2: more streams than allowed",
                &[&settings(&[(INITIAL_WINDOW_SIZE, 0)]), &exceeded],
                Expected::Stream(&[PROTOCOL_ERROR, REFUSED_STREAM]),
            ),
            case(
                "5.3.1: HEADERS that depend on themselves",
                &[&head(WHOLE | WITH_PRIORITY, 1, &[&itself[..], &get].concat())],
                Expected::Stream(&[PROTOCOL_ERROR]),
            ),
            case(
                "5.3.1: PRIORITY that depends on itself",
                &[&frame(PRIORITY, 0, 1, &itself)],
                Expected::Stream(&[PROTOCOL_ERROR]),
            ),
            case("5.4.1: the connection is closed", &[&frame(PING, 0, 0, b"six oc")], Expected::Closed),
            case("5.5: an unknown frame amid a block", &[&head(END_STREAM, 1, &get), &frame(0x16, 0, 0, &[0; 8])], PROTOCOL),
            case("6.1: DATA on stream 0", &[&data(0)], PROTOCOL),
            case("6.1: DATA on a stream that is not open", &[&head(WHOLE, 1, &post), &data(1)], CLOSED),
            case(
                "6.1: DATA with more padding than payload",
                &[&open, &frame(DATA, END_STREAM | PADDED, 1, b"\x06Test")],
                PROTOCOL,
            ),
            case(
                "6.2: HEADERS without an end, PRIORITY",
                &[&head(END_STREAM, 1, &get), &frame(PRIORITY, 0, 1, &[0; 5])],
                PROTOCOL,
            ),
            case("6.2: HEADERS without an end, another stream", &[&head(END_STREAM, 1, &get), &head(WHOLE, 3, &get)], PROTOCOL),
            case("6.2: HEADERS on stream 0", &[&head(WHOLE, 0, &get)], PROTOCOL),
            case(
                "6.2: HEADERS with more padding than payload",
                &[&head(WHOLE | PADDED, 1, &padded(255, &get[..20], 0))],
                PROTOCOL,
            ),
            case("6.3: PRIORITY on stream 0", &[&frame(PRIORITY, 0, 0, &[0; 5])], PROTOCOL),
            case(
                "6.3: PRIORITY of four octets",
                &[&open, &frame(PRIORITY, 0, 1, &[0; 4])],
                Expected::Stream(&[FRAME_SIZE_ERROR]),
            ),
            case("6.4: RST_STREAM on stream 0", &[&reset(0)], PROTOCOL),
            case("6.4: RST_STREAM on an idle stream", &[&reset(1)], PROTOCOL),
            case(
                "6.4: RST_STREAM of three octets",
                &[&open, &frame(RST_STREAM, 0, 1, &[0; 3])],
                Expected::Connection(&[FRAME_SIZE_ERROR]),
            ),
            case(
                "6.5: an acknowledgement with a payload",
                &[&frame(SETTINGS, ACK, 0, &[0])],
                Expected::Connection(&[FRAME_SIZE_ERROR]),
            ),
            case("6.5: SETTINGS on a stream", &[&frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100])], PROTOCOL),
            case(
                "6.5: SETTINGS of three octets",
                &[&frame(SETTINGS, 0, 0, &[0, 3, 0])],
                Expected::Connection(&[FRAME_SIZE_ERROR]),
            ),
            case("6.5.2: ENABLE_PUSH of 2", &[&settings(&[(2, 2)])], PROTOCOL),
            case(
                "6.5.2: a window of 2^31",
                &[&settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)])],
                Expected::Connection(&[FLOW_CONTROL_ERROR]),
            ),
            case("6.5.2: a frame size below the least", &[&settings(&[(5, (1 << 14) - 1)])], PROTOCOL),
            case("6.5.2: a frame size above the most", &[&settings(&[(5, 1 << 24)])], PROTOCOL),
            case("6.7: PING on a stream", &[&frame(PING, 0, 1, PAYLOAD)], PROTOCOL),
            case("6.7: PING of six octets", &[&frame(PING, 0, 0, b"six oc")], Expected::Connection(&[FRAME_SIZE_ERROR])),
            case("6.8: GOAWAY on a stream", &[&frame(GOAWAY, 0, 1, &[0; 8])], PROTOCOL),
            case("6.9: a window that grows by nothing", &[&number(WINDOW_UPDATE, 0, 0)], PROTOCOL),
            case(
                "6.9: a stream's window that grows by nothing",
                &[&open, &number(WINDOW_UPDATE, 1, 0)],
                Expected::Stream(&[PROTOCOL_ERROR]),
            ),
            case(
                "6.9: WINDOW_UPDATE of three octets",
                &[&frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
                Expected::Connection(&[FRAME_SIZE_ERROR]),
            ),
            case(
                "6.9.1: a window above 2^31-1",
                &[&number(WINDOW_UPDATE, 0, 0x7fff_ffff), &number(WINDOW_UPDATE, 0, 0x7fff_ffff)],
                Expected::Goaway(FLOW_CONTROL_ERROR),
            ),
            case(
                "6.9.1: a stream's window above 2^31-1",
                &[&open, &number(WINDOW_UPDATE, 1, 0x7fff_ffff), &number(WINDOW_UPDATE, 1, 0x7fff_ffff)],
                Expected::Reset(FLOW_CONTROL_ERROR),
            ),
            case("6.10: DATA amid a block", &[&head(0, 1, &post), &frame(CONTINUATION, 0, 1, &long(1)), &data(1)], PROTOCOL),
            case("6.10: CONTINUATION on stream 0", &[&head(END_STREAM, 1, &get), &rest(0)], PROTOCOL),
            case("6.10: CONTINUATION after the end of HEADERS", &[&whole, &rest(1)], PROTOCOL),
            case("6.10: CONTINUATION after the end of one", &[&head(END_STREAM, 1, &get), &rest(1), &rest(1)], PROTOCOL),
            case("6.10: CONTINUATION after DATA", &[&head(0, 1, &post), &data(1), &rest(1)], PROTOCOL),
            case(
                "8.2: PUSH_PROMISE",
                &[&whole, &frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get].concat())],
                PROTOCOL,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn malformed_requests_are_stream_errors() {
    const MALFORMED: Expected = Expected::Stream(&[PROTOCOL_ERROR]);
    check(|path| {
        let (get, post) = (request("GET", path), request("POST", "/past/post"));
        let with = |fields: &[(&str, &str)]| head(WHOLE, 1, &[get.clone(), block(fields)].concat());
        let only = |fields: &[(&str, &str)]| head(WHOLE, 1, &block(fields));
        let (method, scheme, target, authority) = ((":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "h"));
        let open = head(END_HEADERS, 1, &post);
        let announced = head(END_HEADERS, 1, &[post.clone(), field("content-length", "1")].concat());
        let data = |flags| frame(DATA, flags, 1, b"test");
        let method_in_trailers = head(END_HEADERS, 1, &field(":method", "POST"));
        vec![
            case(
                "8.1: HEADERS that do not end the stream",
                &[&open, &data(0), &head(END_HEADERS, 1, &field("x-test", "ok"))],
                MALFORMED,
            ),
            case("8.1.2: an uppercase name", &[&with(&[("X-TEST", "ok")])], MALFORMED),
            case("8.1.2.1: an unknown pseudo-header field", &[&with(&[(":test", "ok")])], MALFORMED),
            case("8.1.2.1: one of responses", &[&with(&[(":status", "200")])], MALFORMED),
            case("8.1.2.1: one in trailers", &[&open, &data(0), &method_in_trailers], MALFORMED),
            case("8.1.2.1: one after a field", &[&only(&[("x-test", "ok"), method, scheme, target, authority])], MALFORMED),
            case("8.1.2.2: Connection", &[&with(&[("connection", "keep-alive")])], MALFORMED),
            case("8.1.2.2: TE other than trailers", &[&with(&[("trailers", "test"), ("te", "trailers, deflate")])], MALFORMED),
            case("8.1.2.3: an empty path", &[&only(&[method, scheme, (":path", ""), authority])], MALFORMED),
            case("8.1.2.3: no method", &[&only(&[scheme, target, authority])], MALFORMED),
            case("8.1.2.3: no scheme", &[&only(&[method, target, authority])], MALFORMED),
            case("8.1.2.3: no path", &[&only(&[method, scheme, authority])], MALFORMED),
            case("8.1.2.3: two methods", &[&with(&[(":method", "GET")])], MALFORMED),
            case("8.1.2.3: two schemes", &[&with(&[(":scheme", "http")])], MALFORMED),
            case("8.1.2.3: two paths", &[&with(&[(":path", path)])], MALFORMED),
            case("8.1.2.6: another length than that of one DATA", &[&announced, &data(END_STREAM)], MALFORMED),
            case("8.1.2.6: another length than that of several DATA", &[&announced, &data(0), &data(END_STREAM)], MALFORMED),
        ]
    })
    .await;
}

/// RFC 7541.
#[tokio::test]
async fn blocks_that_cannot_be_decoded_are_connection_errors() {
    const DECODING: Expected = Expected::Connection(&[COMPRESSION_ERROR]);
    check(|path| {
        let get = request("GET", path);
        let with = |representation: &[u8]| head(WHOLE, 1, &[&get, representation].concat());
        // 4,097, in a prefix of five bits.
        let too_large = b"\x3f\xe2\x1f";
        vec![
            case("2.3.3: an index beyond the tables", &[&with(b"\xc6")], DECODING),
            case("2.3.3: a name beyond the tables", &[&with(&[&b"\x7f\x07"[..], b"\x05index"].concat())], DECODING),
            case("4.2: an update of the size at the end", &[&with(b"\x21")], DECODING),
            case(
                "5.2: Huffman padding of more than seven bits",
                &[&with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f\xff")],
                DECODING,
            ),
            case("5.2: Huffman padding of zeros", &[&with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")], DECODING),
            case(
                "5.2: Huffman with the end of strings",
                &[&with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")],
                DECODING,
            ),
            case("6.1: index 0", &[&with(b"\x80")], DECODING),
            case("6.3: a table larger than allowed", &[&head(WHOLE, 1, &[&too_large[..], &get].concat())], DECODING),
            case("6.2: a string that is longer than the block", &[&with(&literal(0, b"x", b"y")[..3])], DECODING),
        ]
    })
    .await;
}

#[tokio::test]
async fn the_server_speaks_first_of_its_settings_and_ends_what_is_no_http_2() {
    let world = World::start().await;
    let mut client = Framed::silent(world.sidecar.address).await;
    client.send([PREFACE.to_vec(), settings(&[])].concat()).await;
    let first = super::world::soon("the first frame", client.next()).await.unwrap();
    assert!(first.kind == SETTINGS && first.flags & ACK == 0, "{first:?}");
    let mut raw = world.raw().await;
    raw.send("INVALID CONNECTION PREFACE\r\n\r\n").await;
    let came = raw.rest().await;
    assert!(came.starts_with("HTTP/1.1 400 "), "{came}");
}

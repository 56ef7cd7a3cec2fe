//! Random histories, and how a history is made smaller that shows a difference.

use super::history::{Behaviour, Confirms, Framing, History, Ranges, Step, Value};
use super::text::Form::{Asctime, Fixdate, Rfc850};
use Value::{Now, Start, Text};
use fastrand::Rng;
use proptest::prelude::Rng as _;
use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

type Line = (&'static str, Value);

/// Makes histories on one of these routes. They shrink by losing steps, fields, and what is unusual.
#[derive(Debug)]
pub(super) struct Histories {
    pub(super) routes: &'static [usize],
}

impl Strategy for Histories {
    type Tree = Shrinking;
    type Value = History;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Histories> {
        let mut random = Rng::with_seed(runner.rng().next_u64());
        Ok(Shrinking { smallest: history(&mut random, self.routes), tried: None, edit: 0 })
    }
}

/// The smallest history that shows the difference, and the edit of it that is being tried.
pub(super) struct Shrinking {
    smallest: History,
    tried: Option<History>,
    edit: usize,
}

impl ValueTree for Shrinking {
    type Value = History;

    fn current(&self) -> History {
        self.tried.as_ref().unwrap_or(&self.smallest).clone()
    }

    fn simplify(&mut self) -> bool {
        if let Some(smaller) = self.tried.take() {
            // It shows the difference too. What could not be left out before, perhaps can be now.
            (self.smallest, self.edit) = (smaller, 0);
        }
        self.try_next()
    }

    fn complicate(&mut self) -> bool {
        self.tried = None;
        self.edit += 1;
        self.try_next()
    }
}

impl Shrinking {
    fn try_next(&mut self) -> bool {
        let edits = edits(&self.smallest);
        while self.edit < edits.len() {
            if edits[self.edit] != self.smallest {
                self.tried = Some(edits[self.edit].clone());
                return true;
            }
            self.edit += 1;
        }
        false
    }
}

/// All histories that are one edit smaller.
fn edits(history: &History) -> Vec<History> {
    let mut all = Vec::new();
    let mut with = |edit: &dyn Fn(&mut History)| {
        let mut edited = history.clone();
        edit(&mut edited);
        all.push(edited);
    };
    with(&|history| history.steps.truncate(history.steps.len() - 1));
    for at in 0..history.steps.len() {
        with(&|history| _ = history.steps.remove(at));
    }
    for (at, step) in history.steps.iter().enumerate() {
        for field in 0..step.fields.len() {
            with(&|history| _ = history.steps[at].fields.remove(field));
        }
        for field in 0..step.origin.fields.len() {
            with(&|history| _ = history.steps[at].origin.fields.remove(field));
        }
        for field in 0..step.origin.fields.len() {
            let Text(value) = step.origin.fields[field].1 else { continue };
            for shorter in [value.split_once(", ").map(|(one, _)| one), value.split_once(", ").map(|(_, rest)| rest)] {
                shorter.into_iter().for_each(|shorter| with(&|history| history.steps[at].origin.fields[field].1 = Text(shorter)));
            }
        }
        with(&|history| history.steps[at].origin.is_reachable = true);
        with(&|history| history.steps[at].origin.delay_ms = 0);
        with(&|history| history.steps[at].origin.framing = Framing::Length);
        with(&|history| history.steps[at].origin.ranges = Ranges::Never);
        with(&|history| history.steps[at].origin.confirms = Confirms::Never);
        with(&|history| history.steps[at].origin.status = 200);
        with(&|history| history.steps[at].origin.length = 12);
        with(&|history| history.steps[at].wait_ms = 0);
        with(&|history| history.steps[at].wait_ms -= history.steps[at].wait_ms % 1000);
        with(&|history| history.steps[at].method = "GET");
    }
    if history.steps.is_empty() { Vec::new() } else { all }
}

fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

/// Whether something happens that does so in so many of a hundred cases.
fn in_percent(random: &mut Rng, percent: u8) -> bool {
    random.u8(..100) < percent
}

fn history(random: &mut Rng, routes: &[usize]) -> History {
    let route = one(random, routes);
    let steps = random.usize(4..14);
    // An origin mostly does what it usually does, and clients mostly ask plainly: nothing else would lead far.
    let mut usual = behaviour(random);
    let plain_percent = one(random, &[20, 50, 90]);
    // A quarter is about parts, which an origin has that says by which validator they belong together.
    let is_about_parts = in_percent(random, 25);
    if is_about_parts {
        let fields = [("etag", Text("\"a\"")), ("date", Now(0, Fixdate)), ("cache-control", Text("max-age=60"))];
        usual = Behaviour { status: 200, framing: Framing::Length, ranges: Ranges::Honestly, length: 12, ..usual };
        usual.fields.retain(|(name, _)| matches!(*name, "x-secret" | "last-modified"));
        usual.fields.extend(fields);
    }
    // Limits are met exactly where all times are multiples.
    let is_even = in_percent(random, 30);
    let step = |_| {
        let mut step = step(random, &usual, if is_about_parts { 90 } else { plain_percent });
        if is_about_parts && in_percent(random, 60) {
            step.fields.retain(|(name, _)| *name != "range");
            step.fields.push(("range", one(random, RANGES)));
        }
        if is_about_parts && in_percent(random, 40) {
            step.origin.ranges = ranges(random);
        }
        if is_even {
            step.wait_ms = one(random, &[0, 5000, 5000, 10_000, 15_000, 20_000]);
            step.origin.delay_ms = 0;
        }
        step
    };
    History { route, steps: (0..steps).map(step).collect() }
}

fn step(random: &mut Rng, usual: &Behaviour, plain_percent: u8) -> Step {
    let mut fields = Vec::new();
    for (percent, name, values) in REQUEST_FIELDS {
        if in_percent(random, *percent) && !in_percent(random, plain_percent) {
            fields.push((*name, one(random, values)));
        }
    }
    let other = behaviour(random);
    let origin = match random.u8(..10) {
        0..3 => usual.clone(),
        3 => Behaviour { fields: other.fields, ..usual.clone() },
        4 => Behaviour { fields: usual.fields.clone(), ..other },
        5 => Behaviour { ranges: other.ranges, framing: other.framing, confirms: other.confirms, ..usual.clone() },
        6 => Behaviour { is_reachable: false, delay_ms: other.delay_ms, ..usual.clone() },
        _ => other,
    };
    Step {
        wait_ms: one(random, &WAITS_MS),
        method: one(random, &METHODS),
        target: one(random, &["a", "a", "a", "a", "b"]),
        fields,
        origin,
    }
}

fn behaviour(random: &mut Rng) -> Behaviour {
    let mut fields: Vec<Line> = Vec::new();
    for (percent, name, values) in RESPONSE_FIELDS {
        if in_percent(random, *percent) {
            fields.push((*name, one(random, values)));
        }
    }
    // Further lines of the field that most depends on.
    if in_percent(random, 25) {
        fields.push(("cache-control", Text(one(random, &FURTHER_DIRECTIVES))));
    }
    Behaviour {
        is_reachable: !in_percent(random, 4),
        delay_ms: one(random, &[0, 0, 0, 0, 300, 1000, 4200]),
        status: if in_percent(random, 65) { 200 } else { one(random, &STATUSES) },
        fields,
        length: one(random, &[12, 12, 12, 12, 10, 0]),
        framing: one(
            random,
            &[Framing::Length, Framing::Length, Framing::Length, Framing::Length, Framing::Chunks, Framing::Close],
        ),
        confirms: one(random, &[Confirms::Honestly, Confirms::Honestly, Confirms::Always, Confirms::Never]),
        ranges: ranges(random),
    }
}

fn ranges(random: &mut Rng) -> Ranges {
    one(random, &[Ranges::Honestly, Ranges::Honestly, Ranges::Honestly, Ranges::Short, Ranges::Unknown, Ranges::Never])
}

const WAITS_MS: [u64; 24] = [
    0, 0, 0, 250, 700, 1000, 1000, 1500, 3000, 5000, 5000, 9999, 10_000, 10_000, 12_400, 15_000, 20_000, 30_000, 59_500, 60_000,
    400_000, 9_000_000, 90_000_000, 90_000_000,
];

const METHODS: [&str; 15] =
    ["GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"];

const STATUSES: [u16; 15] = [203, 204, 301, 302, 404, 404, 410, 412, 500, 500, 503, 503, 504, 599, 201];

const REQUEST_FIELDS: &[(u8, &str, &[Value])] = &[
    (
        30,
        "cache-control",
        &[
            Text("no-cache"),
            Text("no-store"),
            Text("max-age=0"),
            Text("max-age=5"),
            Text("max-age=40"),
            Text("min-fresh=0"),
            Text("min-fresh=5"),
            Text("min-fresh=50"),
            Text("max-stale"),
            Text("max-stale"),
            Text("max-stale=5"),
            Text("max-stale=10"),
            Text("max-stale=10"),
            Text("max-stale=\"30\""),
            Text("max-stale=30"),
            Text("max-age=5, max-stale=10"),
            Text("max-age=5, max-stale"),
            Text("min-fresh=5, max-stale=100"),
            Text("only-if-cached"),
            Text("only-if-cached, max-stale=100"),
            Text("max-age=30, no-store"),
            Text("No-Cache, no-store"),
            Text("extension=4"),
        ],
    ),
    (4, "pragma", &[Text("no-cache"), Text("other")]),
    (10, "if-none-match", &[Text("\"a\""), Text("W/\"a\", \"b\""), Text("*"), Text("\"c\"")]),
    (8, "if-modified-since", &[Start(-7200), Start(-864_000), Start(0), Text("yesterday")]),
    (5, "range", RANGES),
    (6, "if-range", &[Text("\"a\""), Text("W/\"a\""), Text("\"b\""), Start(-7200)]),
    (12, "authorization", &[Text("Basic eA==")]),
    (10, "cookie", &[Text("user=1"), Text("user=2, x")]),
    (40, "accept-language", &[Text("de"), Text("DE"), Text("en"), Text("de, en"), Text("en,de"), Text("")]),
    (12, "x-flavour", &[Text("red"), Text("red, green"), Text("red,green"), Text("green, red")]),
];

const RANGES: &[Value] = &[
    Text("bytes=0-3"),
    Text("bytes=0-5"),
    Text("bytes=6-"),
    Text("bytes=2-3"),
    Text("bytes=-4"),
    Text("bytes=50-"),
    Text("bytes=4-90"),
    Text("bytes=5-2"),
    Text("lines=0-1"),
];

const RESPONSE_FIELDS: &[(u8, &str, &[Value])] = &[
    (
        65,
        "cache-control",
        &[
            Text("max-age=10"),
            Text("max-age=10"),
            Text("max-age=60"),
            Text("max-age=60"),
            Text("max-age=0"),
            Text("max-age=\"20\""),
            Text("Max-Age=30"),
            Text("max-age=soon"),
            Text("max-age=60, max-age=5"),
            Text("max-age=99999999999"),
            Text("s-maxage=20"),
            Text("s-maxage=20, max-age=5"),
            Text("max-age=60, s-maxage=0"),
            Text("no-cache"),
            Text("max-age=60, no-cache"),
            Text("no-store"),
            Text("private, max-age=60"),
            Text("public"),
            Text("public, max-age=30"),
            Text("max-age=10, must-revalidate"),
            Text("max-age=10, proxy-revalidate"),
            Text("max-age=10, stale-while-revalidate=20"),
            Text("max-age=10, stale-while-revalidate=20"),
            Text("max-age=10, stale-if-error=60"),
            Text("max-age=10, stale-if-error=1000"),
            Text("max-age=0, stale-while-revalidate=30, stale-if-error=100"),
            Text("max-age=60, immutable"),
            Text("no-store, must-understand, max-age=30"),
            Text("must-understand, max-age=30"),
            Text("max-age=60, no-cache=\"x-secret\""),
            Text("max-age=60, private=\"x-secret, set-cookie\""),
            Text("max-age=60, private=\"content-type\""),
            Text("max-age=60, no-cache=\"set-cookie\""),
        ],
    ),
    (
        10,
        "cdn-cache-control",
        &[
            Text("max-age=25"),
            Text("must-revalidate"),
            Text("public"),
            Text("max-age=25;unknown=1, must-revalidate"),
            Text("s-maxage=5, max-age=100"),
            Text("no-store"),
            Text("no-cache"),
            Text("private=\"x-secret\", max-age=15"),
            Text("max-age=15, stale-while-revalidate=15, stale-if-error=100"),
            Text("Max-Age=25"),
            Text("max-age="),
            Text("max-age=25,"),
            Text(""),
        ],
    ),
    (3, "sidecache-cache-control", &[Text("max-age=7"), Text("no-store"), Text("")]),
    (
        20,
        "expires",
        &[
            Now(30, Fixdate),
            Now(90, Rfc850),
            Now(45, Asctime),
            Now(-10, Fixdate),
            Now(0, Fixdate),
            Text("0"),
            Text("-1"),
            Text("tomorrow"),
        ],
    ),
    (
        70,
        "date",
        &[Now(0, Fixdate), Now(0, Fixdate), Now(0, Rfc850), Now(-7, Asctime), Now(-20, Fixdate), Now(15, Fixdate), Text("now")],
    ),
    (12, "age", &[Text("0"), Text("4"), Text("30"), Text("-3"), Text("old")]),
    (
        40,
        "last-modified",
        &[Start(-7200), Start(-7200), Start(-864_000), Start(-8_640_000), Start(-8_640_000), Now(0, Fixdate), Text("yesterday")],
    ),
    (50, "etag", &[Text("\"a\""), Text("\"a\""), Text("\"a\""), Text("W/\"a\""), Text("\"b\""), Text("a")]),
    (
        30,
        "vary",
        &[
            Text("Accept-Language"),
            Text("Accept-Language"),
            Text("accept-language"),
            Text("x-flavour"),
            Text("Accept-Language"),
            Text("Accept-Language"),
            Text("x-flavour"),
            Text("Cookie"),
            Text("x-flavour, Accept-Language"),
            Text("*"),
            Text("accept-language, *"),
            Text("b@d"),
        ],
    ),
    (6, "set-cookie", &[Text("a=b")]),
    (20, "x-secret", &[Text("1"), Text("2")]),
    (6, "location", &[Text("b"), Text("//h/0/a"), Text("http://h/0/b"), Text("http://elsewhere/0/a"), Text("//elsewhere/0/b")]),
    (4, "content-location", &[Text("a"), Text("/0/a")]),
];

const FURTHER_DIRECTIVES: [&str; 12] = [
    "public",
    "must-revalidate",
    "s-maxage=15",
    "stale-while-revalidate=40",
    "stale-if-error=40",
    "proxy-revalidate",
    "max-age=45",
    "no-cache",
    "extension=\"max-age=1, no-store\"",
    "stale-if-error=none",
    "private",
    "must-understand",
];

//! Random histories, and how a history is made smaller that shows something wrong.

use super::script::{Act, Ask, Behaviour, Ending, Etag, Fault, Framing, Held, History, Kind, Purge, Purged, SAYS, Step, URLS};
use super::stage::Setting;
use fastrand::Rng;
use proptest::prelude::Rng as _;
use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// Makes histories for a setting. They shrink by losing steps, many at once first, and then what is unusual about them.
#[derive(Debug)]
pub(crate) struct Histories(pub(crate) Setting);

impl Strategy for Histories {
    type Tree = Shrinking;
    type Value = History;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Histories> {
        Ok(Shrinking { smallest: history(&self.0, runner.rng().next_u64()), tried: None, edit: 0 })
    }
}

/// The smallest history that shows it, and the edit of it that is being tried.
pub(crate) struct Shrinking {
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
            // What could not be left out before, seldom can be now; so it goes on from where it is.
            let is_shorter = smaller.steps.len() < self.smallest.steps.len();
            self.smallest = smaller;
            self.edit = if is_shorter { self.edit.saturating_sub(1) } else { self.edit };
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
    let (mut all, number) = (Vec::new(), history.steps.len());
    let mut with = |edit: &dyn Fn(&mut Vec<Step>)| {
        let mut edited = history.clone();
        edit(&mut edited.steps);
        all.push(edited);
    };
    for size in [16, 8, 4, 2, 1] {
        for from in (0..number).step_by(size).rev().filter(|_| size < number || size == 1) {
            with(&|steps| drop(steps.drain(from..(from + size).min(number))));
        }
    }
    for (at, step) in history.steps.iter().enumerate() {
        match step {
            Step::Do(acts) => {
                for (place, act) in acts.iter().enumerate() {
                    if acts.len() > 1 {
                        with(&|steps| change_acts(&mut steps[at], |acts| _ = acts.remove(place)));
                    }
                    for smaller in smaller_acts(act) {
                        with(&|steps| change_acts(&mut steps[at], |acts| acts[place] = smaller.clone()));
                    }
                }
            }
            Step::Origin { url, behaviour } => {
                for behaviour in smaller_behaviours(behaviour) {
                    with(&|steps| steps[at] = Step::Origin { url: *url, behaviour });
                }
            }
            _ => {}
        }
    }
    all
}

fn change_acts(step: &mut Step, change: impl FnOnce(&mut Vec<Act>)) {
    if let Step::Do(acts) = step {
        change(acts);
    }
}

fn smaller_acts(act: &Act) -> Vec<Act> {
    match *act {
        Act::Purge(purge) => vec![Act::Purge(Purge { is_soft: false, ..purge }), Act::Purge(Purge { waits: false, ..purge })],
        Act::Ask(ask) => [
            Ask { replica: ask.replica, url: ask.url, ..Ask::PLAIN },
            Ask { replica: 0, ..ask },
            Ask { method: "GET", ..ask },
            Ask { authorization: None, ..ask },
            Ask { cookie: None, ..ask },
            Ask { language: None, ..ask },
            Ask { tenant: None, ..ask },
            Ask { cache_control: None, ..ask },
            Ask { is_conditional: false, ..ask },
            Ask { wants_part: false, ..ask },
        ]
        .map(Act::Ask)
        .into(),
    }
}

fn smaller_behaviours(behaviour: &Behaviour) -> [Behaviour; 8] {
    let plain = Behaviour::PLAIN;
    [
        Behaviour { status: plain.status, ..*behaviour },
        Behaviour { says: plain.says, ..*behaviour },
        Behaviour { vary: plain.vary, ..*behaviour },
        Behaviour { etag: plain.etag, ..*behaviour },
        Behaviour { sets_cookie: false, ..*behaviour },
        Behaviour { is_tagged: false, ..*behaviour },
        Behaviour { framing: plain.framing, ..*behaviour },
        Behaviour { ending: plain.ending, ..*behaviour },
    ]
}

/// A history of a setting; the same seed makes the same one.
pub(crate) fn history(setting: &Setting, seed: u64) -> History {
    let random = &mut Rng::with_seed(seed);
    let routes = std::array::from_fn(|_| one(random, setting.kinds));
    // Most histories are about something; nothing else would lead far.
    let mut maker = Maker {
        routes,
        replicas: if setting.has_redis { 2 } else { 1 },
        plain_percent: one(random, &[30, 60, 90]),
        urls: one(random, &[1, 2, URLS]),
        purges: one(random, &[4, 12]),
        holds: one(random, &[1, 6]),
        faults: if setting.has_faults { 6 } else { 0 },
        at_once: if setting.threads > 1 { 30 } else { 8 },
        random,
    };
    let mut steps: Vec<Step> = (0..maker.urls).map(|url| Step::Origin { url, behaviour: maker.behaviour() }).collect();
    while steps.len() < STEPS {
        maker.some_steps(&mut steps);
    }
    steps.truncate(STEPS);
    History { seed, routes, steps }
}

/// So many steps a history has.
const STEPS: usize = 50;

struct Maker<'a> {
    routes: [Kind; URLS],
    replicas: usize,
    /// How many requests of a hundred are plain.
    plain_percent: u8,
    /// So many URLs are asked for.
    urls: usize,
    /// How often something is purged, is held back, or happens to Redis, in a hundred.
    purges: u8,
    holds: u8,
    faults: u8,
    /// How often several things happen at once.
    at_once: u8,
    random: &'a mut Rng,
}

impl Maker<'_> {
    fn some_steps(&mut self, steps: &mut Vec<Step>) {
        let percent = self.random.u8(..100);
        let limits = [self.purges, self.holds, self.faults, 10, 5, 12, self.at_once];
        let mut sums = limits.iter().scan(0, |sum, limit| {
            *sum += limit;
            Some(*sum)
        });
        let url = self.random.usize(..self.urls);
        match sums.position(|sum| percent < sum) {
            Some(0) => steps.push(Step::Do(vec![Act::Purge(self.purge())])),
            Some(1) => self.held(url, steps),
            Some(2) if self.random.bool() => steps.push(Step::Redis(self.fault())),
            Some(2) => self.outage(url, steps),
            Some(3) => steps.push(Step::Origin { url, behaviour: self.behaviour() }),
            Some(4) => steps.push(Step::NewVersion { url }),
            Some(5) => {
                let seconds = [500, 1_000, 3_000, 4_000, 6_000, 11_000, 21_000, 61_000];
                steps.push(Step::Wait { ms: one(self.random, &seconds) });
            }
            Some(6) => {
                let number = self.random.usize(2..5);
                let acts = (0..number).map(|_| match self.random.u8(..100) < self.purges {
                    true => Act::Purge(self.purge()),
                    false => Act::Ask(self.ask(url)),
                });
                steps.push(Step::Do(acts.collect()));
            }
            _ => steps.push(Step::Do(vec![Act::Ask(self.ask(url))])),
        }
    }

    /// A request is under way while things happen, such as purges of what it is about to be given.
    fn held(&mut self, url: usize, steps: &mut Vec<Step>) {
        let first = self.ask(url);
        let ask = |maker: &mut Maker<'_>| {
            let other = maker.ask(url);
            let replica = other.replica;
            Step::Do(vec![Act::Ask(if maker.random.bool() { Ask { replica, ..first } } else { other })])
        };
        steps.push(Step::Hold { url, at: one(self.random, &[Held::BeforeHead, Held::BeforeHead, Held::InBody]) });
        steps.push(Step::Do(vec![Act::Ask(first)]));
        for _ in 0..self.random.usize(..4) {
            self.some_steps_while_held(url, steps);
        }
        if self.random.bool() {
            let of = one(
                self.random,
                &[Purged::Url(url), Purged::Tag(url), Purged::OriginTag, Purged::OriginTag, Purged::Tags, Purged::Route(url)],
            );
            let purge = Purge { of, ..self.purge() };
            steps.push(Step::Do(vec![Act::Purge(purge)]));
        }
        if self.random.bool() {
            steps.push(ask(self));
        }
        steps.push(Step::Hold { url, at: Held::Nowhere });
        steps.extend([ask(self), ask(self)]);
    }

    /// Something is stored, Redis is away, things happen, and it is back.
    fn outage(&mut self, url: usize, steps: &mut Vec<Step>) {
        let replica = self.random.usize(..self.replicas);
        let ask = Ask { language: None, cache_control: None, method: "GET", ..self.ask(url) };
        let ask = |replica| Step::Do(vec![Act::Ask(Ask { replica, ..ask })]);
        let away = [Fault::Refuses(replica), Fault::Refuses(replica), Fault::Swallows(replica), Fault::Dies];
        let back = [Fault::IsWell, Fault::IsWell, Fault::IsTried(replica), Fault::IsTried(replica), Fault::Free(replica)];
        steps.extend((0..self.random.usize(1..=self.replicas)).map(ask));
        steps.push(Step::Redis(one(self.random, &away)));
        for _ in 0..self.random.usize(1..4) {
            match self.random.bool() {
                true => steps.push(Step::Do(vec![Act::Purge(self.purge())])),
                false => self.some_steps_while_held(url, steps),
            }
        }
        steps.push(Step::Redis(one(self.random, &back)));
        if self.random.bool() {
            let purge = Purge { replica: self.random.usize(..self.replicas), of: Purged::Tag(url), ..self.purge() };
            steps.push(Step::Do(vec![Act::Purge(purge)]));
        }
        steps.extend((0..self.replicas).map(ask));
    }

    fn some_steps_while_held(&mut self, url: usize, steps: &mut Vec<Step>) {
        steps.push(match self.random.u8(..12) {
            0 | 1 => Step::Do(vec![Act::Purge(self.purge())]),
            2 => Step::NewVersion { url },
            3 => Step::Wait { ms: one(self.random, &[1_000, 6_000]) },
            4 if self.faults > 0 && self.random.bool() => Step::Redis(self.fault()),
            5 => Step::Origin { url, behaviour: self.behaviour() },
            _ => Step::Do(vec![Act::Ask(self.ask(url))]),
        });
    }

    fn behaviour(&mut self) -> Behaviour {
        let random = &mut *self.random;
        let plain = Behaviour::PLAIN;
        Behaviour {
            status: weighted(random, &[(200, 80), (404, 8), (500, 6), (503, 6)]),
            says: if random.bool() { plain.says } else { one(random, &EACH_SAYS) },
            vary: weighted(
                random,
                &[("", 50), ("accept-language", 25), ("cookie", 10), ("accept-language, cookie", 10), ("*", 5)],
            ),
            etag: one(random, &[Etag::None, Etag::OfVersion, Etag::OfLanguage]),
            sets_cookie: random.u8(..16) == 0,
            is_tagged: random.u8(..3) == 0,
            framing: weighted(random, &[(Framing::Length, 47), (Framing::Chunked, 47), (Framing::UntilClose, 6)]),
            ending: weighted(random, &[(Ending::Whole, 90), (Ending::CutShort, 5), (Ending::NoAnswer, 5)]),
        }
    }

    fn ask(&mut self, url: usize) -> Ask {
        let random = &mut *self.random;
        let mut ask = Ask { replica: random.usize(..self.replicas), url, ..Ask::PLAIN };
        let is_about_users = matches!(self.routes[url], Kind::PerCredential | Kind::ByResponse | Kind::Standard);
        if random.u8(..100) < if is_about_users { 40 } else { 15 } {
            match random.u8(..3) {
                0 => ask.cookie = Some(one(random, &["u=1", "u=2"])),
                _ => ask.authorization = Some(one(random, &["Bearer a", "Bearer b"])),
            }
        }
        if self.routes[url] == Kind::Tenant || random.u8(..40) == 0 {
            ask.tenant = one(random, &[None, Some("x"), Some("y")]);
        }
        if random.u8(..3) == 0 {
            ask.language = Some(one(random, &["de", "en"]));
        }
        if random.u8(..100) >= self.plain_percent {
            match random.u8(..12) {
                0 => ask.method = "HEAD",
                1 => ask.method = one(random, &["POST", "PUT", "DELETE"]),
                2 | 3 => {
                    let values =
                        ["no-cache", "max-age=3", "max-stale=5", "only-if-cached", "no-store", "only-if-cached, max-stale=5"];
                    ask.cache_control = Some(one(random, &values));
                }
                4 | 5 => ask.is_conditional = true,
                6 => ask.wants_part = true,
                _ => {}
            }
        }
        ask
    }

    fn purge(&mut self) -> Purge {
        let random = &mut *self.random;
        let url = random.usize(..self.urls);
        let of = [
            Purged::Url(url),
            Purged::Url(url),
            Purged::Tag(url),
            Purged::Tag(url),
            Purged::OriginTag,
            Purged::OriginTag,
            Purged::Tags,
            Purged::Route(url),
            Purged::All,
        ];
        Purge { replica: random.usize(..self.replicas), of: one(random, &of), is_soft: random.u8(..3) == 0, waits: random.bool() }
    }

    fn fault(&mut self) -> Fault {
        let replica = self.random.usize(..self.replicas);
        let faults = [
            Fault::Refuses(replica),
            Fault::Refuses(replica),
            Fault::Swallows(replica),
            Fault::TalksNonsense(replica),
            Fault::Free(replica),
            Fault::IsTried(replica),
            Fault::Dies,
            Fault::Starts,
            Fault::IsSaved,
            Fault::ForgetsAll,
            Fault::IsCorrupted,
            Fault::IsCorrupted,
            Fault::IsWell,
            Fault::IsWell,
            Fault::IsWell,
        ];
        one(self.random, &faults)
    }
}

/// One of these, each in so many of a hundred cases.
fn weighted<T: Copy>(random: &mut Rng, of: &[(T, u8)]) -> T {
    let mut percent = random.u8(..100);
    for (one, weight) in of {
        match percent.checked_sub(*weight) {
            Some(rest) => percent = rest,
            None => return *one,
        }
    }
    of[0].0
}

fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

/// All of what the origin says.
const EACH_SAYS: [&super::script::Says; SAYS.len()] = {
    let mut each = [&SAYS[0]; SAYS.len()];
    let mut place = 0;
    while place < SAYS.len() {
        each[place] = &SAYS[place];
        place += 1;
    }
    each
};

//! A history, played: each step, what came back, and what the reference says of it.

use super::client::Got;
use super::reference::{Answered, Done, Reference};
use super::script::{Act, Ask, Fault, Held, History, Purge, Purged, Step, URLS};
use super::stage::Stage;
use crate::world::{Phase, millis};
use sidecache::store::WhenDown;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A history that is being played.
struct Play<'a> {
    stage: &'a Stage,
    tally: &'a mut Tally,
    history: u64,
    began: Instant,
    reference: Reference,
    /// The entity-tag that was seen last at each URL.
    etags: [Option<String>; URLS],
    /// Requests that are under way still, each with the number of its step.
    pending: Vec<(usize, JoinHandle<Asked>)>,
    /// Redis has lost all it had.
    has_forgotten: bool,
    /// What has happened, in lines.
    told: Vec<String>,
}

/// How many answers were of which kind, in all histories: a cache that never answers is easily right.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) all: usize,
    pub(crate) of_memory: usize,
    pub(crate) of_redis: usize,
    pub(crate) collapsed: usize,
    pub(crate) confirmed: usize,
    pub(crate) stale: usize,
    /// The replicas have said that they heard of a purge.
    pub(crate) purges_heard: usize,
}

/// A request that came to its end.
struct Asked {
    ask: Ask,
    condition: Option<String>,
    /// The origin held something back when it began.
    was_held: bool,
    /// Redis was away, from its beginning to its end.
    was_alone: bool,
    got: Option<Got>,
    begun: u64,
    ended: u64,
    begun_ms: u64,
    ended_ms: u64,
    quiet: u64,
}

/// Plays a history; an error is the script with what came back, and what is wrong with it.
pub(crate) async fn play(stage: &Stage, history: &History, number: u64, tally: &mut Tally) -> Result<(), String> {
    stage.origin.begin(number, history.routes);
    let mut play = Play {
        stage,
        tally,
        history: number,
        began: Instant::now(),
        reference: Reference::default(),
        etags: Default::default(),
        pending: Vec::new(),
        has_forgotten: false,
        told: vec![told_routes(history)],
    };
    let ended = play.all(history).await;
    // Also of a history that failed, nothing is left over for the next one.
    let rested = play.rest().await;
    ended.and(rested).map_err(|wrong| format!("{}\n  => {wrong}", play.told.join("\n")))
}

fn told_routes(history: &History) -> String {
    let routes: Vec<String> =
        history.routes.iter().enumerate().map(|(url, kind)| format!("url {url}: {}", kind.name())).collect();
    format!("seed {}; {}", history.seed, routes.join(", "))
}

impl Play<'_> {
    async fn all(&mut self, history: &History) -> Result<(), String> {
        for (number, step) in history.steps.iter().enumerate() {
            if self.pending.is_empty() && self.stage.is_quiet() {
                self.stage.origin.note_quiet();
            }
            self.step(number + 1, step).await?;
            self.take_what_has_ended().await?;
        }
        Ok(())
    }

    async fn step(&mut self, number: usize, step: &Step) -> Result<(), String> {
        let origin = self.stage.origin.clone();
        let mut tell = |what: String| self.told.push(format!("{number:>3}. {what}"));
        match step {
            Step::Do(acts) => return self.act(number, acts).await,
            Step::Wait { ms } => {
                self.stage.clock.advance(millis(*ms));
                tell(format!("{} s pass", *ms as f64 / 1000.0));
            }
            Step::Origin { url, behaviour } => {
                origin.books().behave(*url, *behaviour);
                tell(format!("the origin has for url {url}: {behaviour}"));
            }
            Step::NewVersion { url } => {
                origin.books().renew(*url);
                tell(format!("url {url} has a new version"));
            }
            Step::Hold { url, at } => {
                origin.books().hold(*url, *at);
                tell(format!("the answers for url {url} are held: {at:?}"));
            }
            Step::Redis(fault) => {
                tell(format!("Redis: {fault:?}"));
                return self.disturb(*fault).await;
            }
        }
        Ok(())
    }

    /// Does all of these at once, and waits for those that nothing holds back.
    async fn act(&mut self, number: usize, acts: &[Act]) -> Result<(), String> {
        let mut purging = Vec::new();
        let mut asking = Vec::new();
        for act in acts {
            match act {
                Act::Ask(ask) => asking.push(self.ask(*ask)),
                Act::Purge(purge) => purging.push(*purge),
            }
        }
        for purge in purging {
            self.purge(number, &purge).await?;
        }
        for asking in asking {
            self.wait_for(&asking).await;
            match asking.is_finished() || !self.is_anything_held() {
                true => self.take(number, asking).await?,
                false => self.pending.push((number, asking)),
            }
        }
        Ok(())
    }

    fn is_anything_held(&self) -> bool {
        let books = self.stage.origin.books();
        (0..URLS).any(|url| books.is_held(url))
    }

    /// Begins a request.
    fn ask(&self, ask: Ask) -> JoinHandle<Asked> {
        let (origin, replica) = (self.stage.origin.clone(), self.stage.replicas[ask.replica].clone());
        let condition = self.etags[ask.url].clone().filter(|_| ask.is_conditional);
        let (path, was_held) = {
            let books = origin.books();
            (books.path(ask.url), books.is_held(ask.url))
        };
        tokio::spawn(async move {
            let lines = fields(&ask, condition.as_deref());
            let (begun_ms, (quiet, begun)) = (origin.now_ms(), origin.books().begin());
            let away = replica.is_away_since();
            let got = replica.client.ask(ask.method, &path, &lines, "").await;
            let was_alone = away.is_some() && away == replica.is_away_since();
            let (ended, ended_ms) = (origin.moment(), origin.now_ms());
            Asked { ask, condition, was_held, was_alone, got, begun, ended, begun_ms, ended_ms, quiet }
        })
    }

    /// Waits until a request has ended, or is known to wait for something that the origin holds back. Where it waits for something else,
    /// the history goes on after a moment: any order is one that may be.
    async fn wait_for(&self, asking: &JoinHandle<Asked>) {
        for _ in 0..MOMENTS {
            let is_waiting = || self.stage.origin.books().waiting() + self.stage.followers() > self.pending.len();
            if asking.is_finished() || (self.is_anything_held() && is_waiting()) {
                return;
            }
            if !self.is_anything_held() {
                return;
            }
            tokio::time::sleep(millis(1)).await;
        }
    }

    async fn take_what_has_ended(&mut self) -> Result<(), String> {
        while let Some(place) = self.pending.iter().position(|(_, asking)| asking.is_finished()) {
            let (number, asking) = self.pending.remove(place);
            self.take(number, asking).await?;
        }
        Ok(())
    }

    /// Takes what a request came to, and judges it.
    async fn take(&mut self, number: usize, asking: JoinHandle<Asked>) -> Result<(), String> {
        let asked = asking.await.map_err(|error| format!("step {number}: {error}"))?;
        let Asked { ask, condition, got, begun, ended, begun_ms, ended_ms, quiet, .. } = &asked;
        let Some(got) = got else {
            self.told.push(format!("{number:>3}. {ask}\n       no answer"));
            return Err(format!("step {number}: there is no answer"));
        };
        self.told.push(format!("{number:>3}. {ask}\n       {}", told(got)));
        let (begun, ended, begun_ms, ended_ms, quiet) = (*begun, *ended, *begun_ms, *ended_ms, *quiet);
        self.tally.count(got);
        let really_ms = self.began.elapsed().as_millis() as u64;
        let answered = Answered { ask, condition: condition.as_deref(), got, begun, ended, begun_ms, ended_ms, really_ms, quiet };
        let books = self.stage.origin.books();
        self.reference.judge(&answered, &books).map_err(|wrong| format!("step {number}: {wrong}"))?;
        let passes_through = self.stage.setting.when_down == WhenDown::PassThrough;
        if asked.was_alone && passes_through && got.cache_status().starts_with("hit") {
            return Err(format!("step {number}: Redis is away, and it is answered from what is stored"));
        }
        if !asked.was_held && got.took > TAKES_AT_MOST {
            return Err(format!("step {number}: it took {:?}", got.took));
        }
        if let Some(etag) = got.field("etag") {
            self.etags[ask.url] = Some(etag.to_owned());
        }
        let record = got.field("x-id").and_then(|id| books.records.get(id.parse::<usize>().ok()?));
        if let (false, 200..400, Some(record)) = (ask.is_safe(), got.status, record) {
            let mut holds = [None; 2];
            holds[ask.replica] = Some(ended);
            let (of, from) = (Purged::Url(ask.url), record.asked);
            self.reference.purged(Done {
                of,
                is_soft: false,
                from,
                replica: ask.replica,
                holds,
                is_in_redis: false,
                is_unheard: false,
            });
        }
        Ok(())
    }

    async fn purge(&mut self, number: usize, purge: &Purge) -> Result<(), String> {
        let origin = &self.stage.origin;
        let url = match purge.of {
            Purged::Url(url) | Purged::Route(url) => url,
            _ => 0,
        };
        let path = origin.books().path(url);
        let from = origin.moment();
        let wait_ms = if self.stage.setting.has_faults { 300 } else { 10_000 };
        let replica = &self.stage.replicas[purge.replica];
        let Some((status, answer)) = replica.purge(purge, &path, self.history, wait_ms).await else {
            return Err(format!("step {number}: the purge was not answered"));
        };
        let at = origin.moment();
        let reach = answer["reach"].as_str().unwrap_or_default().to_owned();
        self.told.push(format!("{number:>3}. {purge}\n       {status} {reach}, replicas {}", answer["replicas"]));
        if !status.is_success() {
            return Err(format!("step {number}: the purge was refused: {answer}"));
        }
        let mut holds = [None; 2];
        holds[purge.replica] = Some(at);
        let is_in_redis = reach == "everywhere";
        if is_in_redis {
            self.reference.has_told_redis(purge.replica);
        }
        // A Redis that has forgotten everything has forgotten, too, who there is; until the others come again, nobody waits for those that
        // were never seen.
        let are_present = answer["replicas"]["present"] == 2;
        let knows_all = !self.has_forgotten || are_present;
        let mut is_unheard = false;
        if is_in_redis && purge.waits && status == 200 && knows_all {
            holds = [Some(at); 2];
            self.tally.purges_heard += 1;
            is_unheard = !are_present;
            self.reference.all_have_heard(from, at, is_unheard);
        }
        let Purge { of, is_soft, replica, .. } = *purge;
        self.reference.purged(Done { of, is_soft, from, replica, holds, is_in_redis, is_unheard });
        Ok(())
    }

    async fn disturb(&mut self, fault: Fault) -> Result<(), String> {
        let Some(redis) = &self.stage.redis else { return Ok(()) };
        self.has_forgotten |= matches!(fault, Fault::Dies | Fault::Starts | Fault::ForgetsAll);
        let enter = |replica: usize, phase: Phase| {
            if let Some(relay) = &self.stage.replicas[replica].relay {
                relay.enter(phase);
            }
        };
        match fault {
            Fault::Refuses(replica) => enter(replica, Phase::Refuse),
            Fault::Swallows(replica) => enter(replica, Phase::BlackHole),
            Fault::TalksNonsense(replica) => enter(replica, Phase::Garbage),
            Fault::Free(replica) => enter(replica, Phase::Relay),
            Fault::IsTried(replica) => {
                enter(replica, Phase::Relay);
                self.stage.replicas[replica].has_begun_to_connect().await?;
            }
            Fault::Dies => redis.kill(),
            Fault::Starts => redis.restart().await,
            Fault::IsSaved if redis.is_running() => redis.run("SAVE").await,
            Fault::ForgetsAll if redis.is_running() => redis.run("FLUSHALL").await,
            Fault::IsCorrupted if redis.is_running() => {
                for key in redis.keys().await {
                    redis.plant(&key, b"nonsense").await;
                }
            }
            Fault::IsSaved | Fault::ForgetsAll | Fault::IsCorrupted => {}
            Fault::IsWell => return self.stage.is_well().await,
        }
        Ok(())
    }

    /// Lets everything come to its end; then nothing is under way.
    async fn rest(&mut self) -> Result<(), String> {
        for url in 0..URLS {
            self.stage.origin.books().hold(url, Held::Nowhere);
        }
        let mut wrong = Ok(());
        for (number, asking) in std::mem::take(&mut self.pending) {
            wrong = wrong.and(self.take(number, asking).await);
        }
        wrong.and(self.stage.is_well().await).and(self.stage.rests().await)
    }
}

impl Tally {
    fn count(&mut self, got: &Got) {
        let says = |what: &str| usize::from(got.cache_status().contains(what));
        self.all += 1;
        self.of_memory += says("detail=memory");
        self.of_redis += says("detail=redis");
        self.collapsed += says("collapsed");
        self.confirmed += says("fwd-status=304");
        self.stale += says("ttl=-") + says("hit; ttl=0");
    }
}

/// The lines of a request's fields.
fn fields(ask: &Ask, condition: Option<&str>) -> String {
    let fields = [
        ("authorization", ask.authorization),
        ("cookie", ask.cookie),
        ("accept-language", ask.language),
        ("x-tenant", ask.tenant),
        ("cache-control", ask.cache_control),
        ("if-none-match", condition),
        ("range", ask.wants_part.then_some("bytes=0-9")),
    ];
    fields.iter().filter_map(|(name, value)| Some(format!("{name}: {}\r\n", (*value)?))).collect()
}

/// An answer in a line.
fn told(got: &Got) -> String {
    let field = |name: &str| got.field(name).map(|value| format!(", {name}: {value}")).unwrap_or_default();
    let body = got.body.split('.').next().unwrap_or_default();
    let end = if got.is_whole { "" } else { " (broken off)" };
    let fields = ["x-id", "age", "cache-control", "vary", "etag"].map(field).concat();
    format!("{} {:?}{end} [{}]{fields}", got.status, body, got.cache_status())
}

/// So many milliseconds a history waits for a request that waits for something else.
const MOMENTS: usize = 30;

/// No request takes longer because of Redis, on a machine that has other things to do.
const TAKES_AT_MOST: Duration = Duration::from_secs(5);

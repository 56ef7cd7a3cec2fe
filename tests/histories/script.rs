//! What happens in a history, as values that can be printed and made smaller.

use std::fmt::{self, Display, Formatter};

/// Three URLs, the routes that they are on, and what happens to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct History {
    /// What it was made of.
    pub(crate) seed: u64,
    pub(crate) routes: [Kind; URLS],
    pub(crate) steps: Vec<Step>,
}

/// So many URLs a history has.
pub(crate) const URLS: usize = 3;

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `share = "everyone"`.
    Everyone,
    /// The defaults.
    ByResponse,
    /// `share = "per-credential"`.
    PerCredential,
    /// `cache = "standard"`.
    Standard,
    /// A field in the key, and a TTL for 404.
    Tenant,
    /// Stale answers while a new one is fetched, and in the stead of an error.
    Stale,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A request, or several things at once.
    Do(Vec<Act>),
    /// Time passes.
    Wait { ms: u64 },
    /// From now on the origin answers so for a URL.
    Origin { url: usize, behaviour: Behaviour },
    /// The origin has other data for a URL.
    NewVersion { url: usize },
    /// The origin holds its answers for a URL back.
    Hold { url: usize, at: Held },
    /// Something happens to Redis.
    Redis(Fault),
}

/// What somebody outside does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Ask(Ask),
    Purge(Purge),
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ask {
    pub(crate) replica: usize,
    pub(crate) url: usize,
    pub(crate) method: &'static str,
    pub(crate) authorization: Option<&'static str>,
    pub(crate) cookie: Option<&'static str>,
    pub(crate) language: Option<&'static str>,
    pub(crate) tenant: Option<&'static str>,
    pub(crate) cache_control: Option<&'static str>,
    /// With the entity-tag that was seen last at this URL.
    pub(crate) is_conditional: bool,
    /// For the first octets alone.
    pub(crate) wants_part: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Purge {
    pub(crate) replica: usize,
    pub(crate) of: Purged,
    pub(crate) is_soft: bool,
    /// It is answered when all replicas have heard of it.
    pub(crate) waits: bool,
}

/// What a purge names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purged {
    Url(usize),
    /// The tag that the route gives.
    Tag(usize),
    /// The tag that the origin gives.
    OriginTag,
    /// All tags that the routes give.
    Tags,
    /// The route of a URL.
    Route(usize),
    All,
}

/// How the origin answers for a URL.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Behaviour {
    pub(crate) status: u16,
    pub(crate) says: &'static Says,
    pub(crate) vary: &'static str,
    pub(crate) etag: Etag,
    pub(crate) sets_cookie: bool,
    pub(crate) is_tagged: bool,
    pub(crate) framing: Framing,
    pub(crate) ending: Ending,
}

/// A value of `Cache-Control`, and what it means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Says {
    pub(crate) text: &'static str,
    /// Seconds, of `s-maxage` if that is there.
    pub(crate) lifetime: Option<u64>,
    pub(crate) while_revalidating: Option<u64>,
    pub(crate) if_error: Option<u64>,
    /// `no-store` or `private`.
    pub(crate) forbids_storing: bool,
    /// `must-revalidate`, `s-maxage` or `no-cache`.
    pub(crate) forbids_stale: bool,
    /// `public`, `s-maxage` or `must-revalidate`.
    pub(crate) is_for_all: bool,
}

/// Which responses have the same entity-tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Etag {
    None,
    /// Those of one version of the data.
    OfVersion,
    /// The same, in one language.
    OfLanguage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Whole,
    /// The connection ends in the middle of the body.
    CutShort,
    /// The connection ends before there is an answer.
    NoAnswer,
}

/// Where the origin's answers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nowhere,
    BeforeHead,
    InBody,
}

/// What happens to Redis, or to a replica's way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Refuses(usize),
    Swallows(usize),
    TalksNonsense(usize),
    /// The way of a replica is free again.
    Free(usize),
    /// The same, and the replica has begun to connect again.
    IsTried(usize),
    Dies,
    /// It starts, after it has died if need be, as it was when it was saved last: empty, mostly.
    Starts,
    IsSaved,
    ForgetsAll,
    /// Something that is no value of ours lies under each of our keys.
    IsCorrupted,
    /// Not a fault: all is in order, and the replicas have noticed.
    IsWell,
}

const NOTHING: Says = Says {
    text: "",
    lifetime: None,
    while_revalidating: None,
    if_error: None,
    forbids_storing: false,
    forbids_stale: false,
    is_for_all: false,
};

const fn fresh_for(text: &'static str, seconds: u64) -> Says {
    Says { text, lifetime: Some(seconds), ..NOTHING }
}

/// All that the origin says in `Cache-Control`.
pub(crate) static SAYS: [Says; 14] = [
    NOTHING,
    fresh_for("max-age=5", 5),
    fresh_for("max-age=30", 30),
    fresh_for("max-age=0", 0),
    Says { is_for_all: true, ..fresh_for("public, max-age=30", 30) },
    Says { is_for_all: true, ..fresh_for("max-age=10, public", 10) },
    Says { is_for_all: true, forbids_stale: true, ..fresh_for("s-maxage=20", 20) },
    Says { is_for_all: true, forbids_stale: true, ..fresh_for("max-age=10, must-revalidate", 10) },
    Says { forbids_stale: true, ..fresh_for("no-cache", 0) },
    Says { forbids_storing: true, text: "no-store", ..NOTHING },
    Says { forbids_storing: true, ..fresh_for("private, max-age=30", 30) },
    Says { while_revalidating: Some(20), ..fresh_for("max-age=5, stale-while-revalidate=20", 5) },
    Says { if_error: Some(30), ..fresh_for("max-age=5, stale-if-error=30", 5) },
    Says { is_for_all: true, text: "public", ..NOTHING },
];

impl Says {
    /// What a value means; nothing, if it is none that the origin says.
    pub(crate) fn of(text: &str) -> &'static Says {
        SAYS.iter().find(|says| says.text == text).unwrap_or(&SAYS[0])
    }
}

impl Behaviour {
    /// A plain 200.
    pub(crate) const PLAIN: Behaviour = Behaviour {
        status: 200,
        says: &SAYS[0],
        vary: "",
        etag: Etag::None,
        sets_cookie: false,
        is_tagged: false,
        framing: Framing::Length,
        ending: Ending::Whole,
    };
}

impl Ask {
    /// A plain `GET`.
    pub(crate) const PLAIN: Ask = Ask {
        replica: 0,
        url: 0,
        method: "GET",
        authorization: None,
        cookie: None,
        language: None,
        tenant: None,
        cache_control: None,
        is_conditional: false,
        wants_part: false,
    };

    /// Whether the method changes nothing.
    pub(crate) fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }
}

impl Kind {
    pub(crate) const ALL: [Kind; 6] =
        [Kind::Everyone, Kind::ByResponse, Kind::PerCredential, Kind::Standard, Kind::Tenant, Kind::Stale];

    /// The name of the route, and the first segment of its paths.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Everyone => "everyone",
            Kind::ByResponse => "by-response",
            Kind::PerCredential => "per-credential",
            Kind::Standard => "standard",
            Kind::Tenant => "tenant",
            Kind::Stale => "stale",
        }
    }
}

impl Display for Ask {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} url {} on replica {}", self.method, self.url, self.replica)?;
        let fields = [
            ("authorization", self.authorization),
            ("cookie", self.cookie),
            ("accept-language", self.language),
            ("x-tenant", self.tenant),
            ("cache-control", self.cache_control),
            ("if-none-match", self.is_conditional.then_some("(as seen last)")),
            ("range", self.wants_part.then_some("bytes=0-9")),
        ];
        fields.iter().try_for_each(|(name, value)| value.map_or(Ok(()), |value| write!(f, ", {name}: {value}")))
    }
}

impl Display for Purge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (soft, waits) = (if self.is_soft { "soft " } else { "" }, if self.waits { ", waiting for all" } else { "" });
        write!(f, "{soft}purge of {:?} on replica {}{waits}", self.of, self.replica)
    }
}

impl Display for Behaviour {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} cache-control: {:?}", self.status, self.says.text)?;
        if !self.vary.is_empty() {
            write!(f, ", vary: {}", self.vary)?;
        }
        if self.etag != Etag::None {
            write!(f, ", etag {:?}", self.etag)?;
        }
        if self.sets_cookie {
            write!(f, ", set-cookie")?;
        }
        if self.is_tagged {
            write!(f, ", surrogate-key")?;
        }
        write!(f, ", {:?}, {:?}", self.framing, self.ending)
    }
}

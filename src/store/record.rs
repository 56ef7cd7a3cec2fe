//! What a value in Redis says: self-describing and versioned. What protects it is in `seal`.
//!
//! Numbers are big-endian. A text or octet string stands behind its length. The first piece:
//!
//! | octets | what |
//! |---|---|
//! | 1 | the kind: a response, or the names that the key's responses vary on, with the variants that there are |
//! | 8 | when it ends, in ms since 1970, whatever Redis does |
//! | 4 + n | the parts of the cache key |
//! | | for the names: their number (2), then each (2 + n); the variants that are known, the latest first: number (2), each its hash, |
//! | | masked (16), entity-tag (2 + n; empty where the origin is not asked about it), and the coding to be accepted (2 + n) |
//! | | for a response: status (2), when it was requested and received, in ms since 1970 (8, 8), lifetime in ms (8) and its source (1), |
//! | | what may be done when it is stale: flags (1), and for how long in ms: while revalidating, on errors, when unreachable (8 each), |
//! | | the selecting request fields: number (2), each name (2 + n), whether it was there (1), value (4 + n; of a credential a hash, masked), |
//! | | the generations that it depends on: number (2), each the scope's name (16) and the generation (32); |
//! | | the tags: number (2), each (2 + n); the fields: number (2), each name (2 + n) and value (4 + n) |
//!
//! The second piece is the body.
//!
//! A value is untrusted until it was decoded: whoever writes to Redis may have written it. So nothing is allocated by a
//! length that the value's own octets don't cover, and the caller compares the key.

use super::generations::Generation;
use super::held::Held;
use super::response::StoredResponse;
use super::seal::{Mask, Opened, VERSION};
use crate::rules::{CacheKey, ScopeName};
use crate::semantics::candidates::Candidate;
use crate::semantics::freshness::{Lifetime, Source};
use crate::semantics::vary::{Selection, is_secret};
use crate::semantics::{StoredHead, Terms, Times};
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a value says.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// A stored response.
    Response(Box<Recorded>),
    /// The responses of this key vary on these fields; each lies under a name of its own.
    Varies {
        /// The key.
        key: CacheKey,
        /// The selecting fields.
        names: Vec<HeaderName>,
        /// The variants that are known, the one stored last first.
        variants: Vec<Listed>,
    },
}

/// A variant in the list of a key's variants.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    /// The hash that its name is made of.
    pub(super) variant: u128,
    /// What the origin can be asked about it with, if it can.
    pub(super) candidate: Option<Candidate>,
}

/// A stored response as a value says it, with the generations that must still hold.
#[derive(Debug, PartialEq)]
pub(super) struct Recorded {
    pub(super) key: CacheKey,
    pub(super) head: StoredHead,
    pub(super) body: Bytes,
    pub(super) tags: Vec<String>,
    pub(super) generations: Vec<(ScopeName, Generation)>,
    /// By how many milliseconds it was to be fresh for longer than Redis was to keep it: for how long it is kept yet then tells how long it
    /// is fresh, by the clock of Redis.
    pub(super) fresh_beyond_ms: i64,
}

/// Why a value is none of ours, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("the value was not written by sidecache")]
    Foreign,
    #[error("the value is of format version {0}, this is version {VERSION}")]
    Version(u8),
    #[error("the value is protected in another way than this configuration says")]
    Protection,
    #[cfg(feature = "encryption")]
    #[error("the value is sealed with a key that is not known here")]
    Key,
    #[error("the value's checksum does not fit")]
    Checksum,
    #[error("the value was changed, or made without the secret, or for another name")]
    Forged,
    #[error("the value is malformed")]
    Malformed,
    #[error("the value is of another key")]
    OtherKey,
    #[error("the value has ended, by this clock")]
    Ended,
}

impl RecordError {
    /// The word for it in metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            RecordError::Foreign => "foreign",
            RecordError::Version(_) => "version",
            RecordError::Protection => "protection",
            #[cfg(feature = "encryption")]
            RecordError::Key => "key",
            RecordError::Checksum => "checksum",
            RecordError::Forged => "forged",
            RecordError::Malformed => "malformed",
            RecordError::OtherKey => "other-key",
            RecordError::Ended => "ended",
        }
    }
}

/// Encodes what is to be known of a response beside its body: the generations that it depends on, by how much it is fresh for longer than
/// it is kept, and when it ends.
pub(super) fn encode(
    response: &StoredResponse,
    generations: &[(ScopeName, Generation)],
    fresh_beyond_ms: i64,
    ends: SystemTime,
    mask: &Mask,
) -> Vec<u8> {
    let head = &response.head;
    let mut out = Writer::new(KIND_RESPONSE, ends, 1024);
    out.long(response.key.parts());
    out.0.extend(head.status.as_u16().to_be_bytes());
    out.0.extend(millis(head.times().requested).to_be_bytes());
    out.0.extend(millis(head.times().received).to_be_bytes());
    out.0.extend(fresh_beyond_ms.to_be_bytes());
    out.terms(&head.terms);
    out.count(head.selection.iter().count());
    for (name, value) in head.selection.iter() {
        out.short(name.as_str().as_bytes());
        out.0.push(value.is_some().into());
        out.long(value.unwrap_or_default());
        if let Some(value) = value.filter(|_| is_secret(name)) {
            let from = out.0.len() - value.len();
            mask.put_on(&mut out.0[from..]);
        }
    }
    out.count(generations.len());
    for (name, generation) in generations {
        out.0.extend(name.0.to_be_bytes());
        out.0.extend(generation.to_octets());
    }
    out.count(response.tags.len());
    response.tags.iter().for_each(|tag| out.short(tag.as_bytes()));
    let fields = head.fields();
    out.count(fields.len());
    for (name, value) in fields.iter() {
        out.short(name.as_str().as_bytes());
        out.long(value.as_bytes());
    }
    out.0
}

/// Encodes the names that a key's responses vary on, and the variants that are known.
pub(super) fn encode_varies(key: &CacheKey, names: &[HeaderName], variants: &[Listed], ends: SystemTime, mask: &Mask) -> Vec<u8> {
    let mut out = Writer::new(KIND_VARIES, ends, 256 + variants.len() * 64);
    out.long(key.parts());
    out.count(names.len());
    names.iter().for_each(|name| out.short(name.as_str().as_bytes()));
    out.count(variants.len());
    for Listed { variant, candidate } in variants {
        let mut variant = variant.to_be_bytes();
        mask.put_on(&mut variant);
        out.0.extend(variant);
        out.short(candidate.as_ref().map_or(b"", |candidate| candidate.tag.as_bytes()));
        let coding = candidate.as_ref().and_then(|candidate| candidate.coding.as_ref());
        out.short(coding.map_or(b"", HeaderValue::as_bytes));
    }
    out.0
}

/// Decodes a value that was opened at `now`. The parts of a response are slices of it.
pub(super) fn decode((head, body): Opened, now: SystemTime, mask: &Mask) -> Result<Record, RecordError> {
    let mut input = Reader(head);
    let kind = input.octet()?;
    if input.time()? < now {
        return Err(RecordError::Ended);
    }
    let key = CacheKey::from_parts(&input.long()?);
    match kind {
        KIND_VARIES => {
            let names = (0..input.u16()?).map(|_| input.name()).collect::<Result<_, _>>()?;
            let variants = (0..input.u16()?).map(|_| input.listed(mask)).collect::<Result<_, _>>()?;
            Ok(Record::Varies { key, names, variants })
        }
        KIND_RESPONSE => Ok(Record::Response(Box::new(decode_response(key, input, body, mask)?))),
        _ => Err(RecordError::Malformed),
    }
}

/// Decodes what stands behind the kind and the end of a value's first piece, with the body behind it and, if that is a response, encodes it again: kind and all.
/// This is what the fuzz target sees of the format.
#[doc(hidden)]
pub fn reencode(kind: u8, octets: &[u8]) -> Option<Vec<u8>> {
    let (mut value, mask) = (Writer::new(kind, UNIX_EPOCH, octets.len()), Mask::of(None));
    value.0.extend_from_slice(octets);
    let encoded = match decode((value.0.into(), Bytes::new()), UNIX_EPOCH, &mask).ok()? {
        Record::Response(recorded) => {
            let Recorded { key, head, body, tags, generations, fresh_beyond_ms } = *recorded;
            encode(
                &StoredResponse { key, head, body, tags: tags.into(), held: Held::broken() },
                &generations,
                fresh_beyond_ms,
                UNIX_EPOCH,
                &mask,
            )
        }
        Record::Varies { key, names, variants } => encode_varies(&key, &names, &variants, UNIX_EPOCH, &mask),
    };
    Some([&[kind], &encoded[ENDS_UNTIL..]].concat())
}

/// What a response belongs to.
#[derive(Debug, PartialEq)]
pub(super) struct Belonging {
    pub(super) generations: Vec<(ScopeName, Generation)>,
    pub(super) tags: Vec<String>,
}

/// Reads from a value's first piece what it belongs to; `None` if it is no response.
pub(super) fn belonging(head: Bytes) -> Result<Option<Belonging>, RecordError> {
    let mut input = Reader(head);
    if input.octet()? != KIND_RESPONSE {
        return Ok(None);
    }
    input.time()?;
    input.long()?;
    // Status, three times, the terms.
    input.octets(2 + 8 + 8 + 8 + TERMS_BYTES)?;
    for _ in 0..input.u16()? {
        input.short()?;
        input.octet()?;
        input.long()?;
    }
    Ok(Some(Belonging { generations: input.generations()?, tags: input.tags()? }))
}

fn decode_response(key: CacheKey, mut input: Reader, body: Bytes, mask: &Mask) -> Result<Recorded, RecordError> {
    let status = StatusCode::from_u16(input.u16()?).map_err(|_| RecordError::Malformed)?;
    let times = Times { requested: input.time()?, received: input.time()? };
    let fresh_beyond_ms = input.u64()?.cast_signed();
    let terms = input.terms()?;
    let mut selection = Vec::new();
    for _ in 0..input.u16()? {
        let name = input.name()?;
        let is_present = input.octet()? != 0;
        let value = input.long()?;
        let mut value: Box<[u8]> = value.as_ref().into();
        if is_secret(&name) {
            mask.take_off(&mut value);
        }
        selection.push((name, is_present.then_some(value)));
    }
    let generations = input.generations()?;
    let tags = input.tags()?;
    let number = input.u16()?;
    // A field takes at least six octets, so a lying number can't make this large.
    let mut fields = HeaderMap::with_capacity(usize::from(number).min(input.0.len() / 6));
    for _ in 0..number {
        let name = input.name()?;
        let value = HeaderValue::from_maybe_shared(input.long()?).map_err(|_| RecordError::Malformed)?;
        fields.try_append(name, value).map_err(|_| RecordError::Malformed)?;
    }
    let head = StoredHead::new(status, fields, times, terms, Selection::from_parts(selection));
    Ok(Recorded { key, head, body, tags, generations, fresh_beyond_ms })
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u8, ends: SystemTime, capacity: usize) -> Writer {
        let mut out = Vec::with_capacity(capacity);
        out.push(kind);
        out.extend(millis(ends).to_be_bytes());
        Writer(out)
    }

    fn count(&mut self, number: usize) {
        self.0.extend((number as u16).to_be_bytes());
    }

    fn short(&mut self, octets: &[u8]) {
        self.count(octets.len());
        self.0.extend_from_slice(octets);
    }

    fn long(&mut self, octets: &[u8]) {
        self.0.extend((octets.len() as u32).to_be_bytes());
        self.0.extend_from_slice(octets);
    }

    fn terms(&mut self, terms: &Terms) {
        let flags = [(terms.shareable, SHAREABLE), (terms.must_validate, MUST_VALIDATE), (terms.may_be_stale, MAY_BE_STALE)];
        self.duration(terms.lifetime.duration);
        self.0.push(terms.lifetime.source.code());
        self.0.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
        [terms.while_revalidating, terms.if_error, terms.if_unreachable].into_iter().for_each(|duration| self.duration(duration));
    }

    fn duration(&mut self, duration: Duration) {
        self.0.extend((duration.as_millis() as u64).to_be_bytes());
    }
}

struct Reader(Bytes);

impl Reader {
    fn octets(&mut self, number: usize) -> Result<Bytes, RecordError> {
        match number <= self.0.len() {
            true => Ok(self.0.split_to(number)),
            false => Err(RecordError::Malformed),
        }
    }

    fn octet(&mut self) -> Result<u8, RecordError> {
        self.0.try_get_u8().map_err(|_| RecordError::Malformed)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.0.try_get_u16().map_err(|_| RecordError::Malformed)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        self.0.try_get_u64().map_err(|_| RecordError::Malformed)
    }

    fn short(&mut self) -> Result<Bytes, RecordError> {
        let length = self.u16()?;
        self.octets(length.into())
    }

    fn long(&mut self) -> Result<Bytes, RecordError> {
        let length = self.0.try_get_u32().map_err(|_| RecordError::Malformed)?;
        self.octets(length as usize)
    }

    fn terms(&mut self) -> Result<Terms, RecordError> {
        let duration = self.duration()?;
        let source = Source::from_code(self.octet()?).ok_or(RecordError::Malformed)?;
        let flags = self.octet()?;
        Ok(Terms {
            lifetime: Lifetime { duration, source },
            shareable: flags & SHAREABLE != 0,
            must_validate: flags & MUST_VALIDATE != 0,
            may_be_stale: flags & MAY_BE_STALE != 0,
            while_revalidating: self.duration()?,
            if_error: self.duration()?,
            if_unreachable: self.duration()?,
        })
    }

    fn duration(&mut self) -> Result<Duration, RecordError> {
        self.u64().map(Duration::from_millis)
    }

    fn generations(&mut self) -> Result<Vec<(ScopeName, Generation)>, RecordError> {
        let mut generations = Vec::new();
        for _ in 0..self.u16()? {
            let name = ScopeName(self.0.try_get_u128().map_err(|_| RecordError::Malformed)?);
            generations.push((name, Generation::from_octets(&self.octets(32)?).ok_or(RecordError::Malformed)?));
        }
        Ok(generations)
    }

    fn tags(&mut self) -> Result<Vec<String>, RecordError> {
        let mut tags = Vec::new();
        for _ in 0..self.u16()? {
            tags.push(String::from_utf8(self.short()?.into()).map_err(|_| RecordError::Malformed)?);
        }
        Ok(tags)
    }

    fn listed(&mut self, mask: &Mask) -> Result<Listed, RecordError> {
        let mut variant = self.0.try_get_u128().map_err(|_| RecordError::Malformed)?.to_be_bytes();
        mask.take_off(&mut variant);
        let variant = u128::from_be_bytes(variant);
        let [tag, coding] = [self.short()?, self.short()?].map(|octets| (!octets.is_empty()).then_some(octets));
        let value = |octets: Bytes| HeaderValue::from_maybe_shared(octets).map_err(|_| RecordError::Malformed);
        let coding = coding.map(value).transpose()?;
        let candidate = tag.map(value).transpose()?.map(|tag| Candidate { tag, coding });
        Ok(Listed { variant, candidate })
    }

    fn name(&mut self) -> Result<HeaderName, RecordError> {
        HeaderName::from_bytes(&self.short()?).map_err(|_| RecordError::Malformed)
    }

    fn time(&mut self) -> Result<SystemTime, RecordError> {
        let since_1970 = Duration::from_millis(self.u64()?);
        UNIX_EPOCH.checked_add(since_1970).ok_or(RecordError::Malformed)
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What the terms of a response take.
const TERMS_BYTES: usize = 4 * 8 + 2;

const SHAREABLE: u8 = 1;
const MUST_VALIDATE: u8 = 2;
const MAY_BE_STALE: u8 = 4;

const KIND_RESPONSE: u8 = 1;
const KIND_VARIES: u8 = 2;

/// Behind the kind and the end.
const ENDS_UNTIL: usize = 9;

#[cfg(test)]
mod tests {
    use super::super::tests::response;
    use super::*;
    use http::header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE};
    use proptest::prelude::*;

    fn sample() -> StoredResponse {
        let request: HeaderMap = [(http::header::ACCEPT, "a, b".parse().unwrap())].into_iter().collect();
        let mut sample = response("key", "the body", &["accept", "accept-language"], &request);
        sample.head.fields_mut().append("link", "</a>".parse().unwrap());
        sample.head.fields_mut().append("link", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        let terms = std::sync::Arc::make_mut(&mut sample.head.terms);
        terms.shareable = true;
        terms.while_revalidating = Duration::from_secs(7);
        terms.if_unreachable = Duration::from_millis(8);
        sample.tags = ["customer:42".into(), "é".into()].into();
        sample
    }

    fn encoded() -> (Bytes, Vec<(ScopeName, Generation)>) {
        let generations = vec![(ScopeName(1), Generation::new()), (ScopeName(u128::MAX), Generation::new())];
        (encode(&sample(), &generations, -3_600_000, at(1000), &mask()).into(), generations)
    }

    fn mask() -> Mask {
        Mask::of(Some("secret"))
    }

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn decoded(head: impl Into<Bytes>) -> Result<Record, RecordError> {
        decode((head.into(), sample().body), at(1000), &mask())
    }

    #[test]
    fn a_response_survives_the_way_to_redis_and_back() {
        let (value, generations) = encoded();
        let StoredResponse { key, head, body, tags, .. } = sample();
        assert_eq!(
            decoded(value).unwrap(),
            Record::Response(Box::new(Recorded { key, head, body, tags: tags.into(), generations, fresh_beyond_ms: -3_600_000 }))
        );
    }

    #[test]
    fn a_chosen_language_survives_too() {
        let request: HeaderMap = [(ACCEPT_LANGUAGE, "en, de".parse().unwrap())].into_iter().collect();
        let german: HeaderMap = [(CONTENT_LANGUAGE, "de".parse().unwrap())].into_iter().collect();
        let mut sample = sample();
        sample.head.selection = Selection::of_exchange(&[ACCEPT_LANGUAGE], &request, &german);
        let Ok(Record::Response(recorded)) = decoded(encode(&sample, &[], 0, at(1000), &mask())) else {
            panic!("it is a response")
        };
        assert_eq!(recorded.head.selection, sample.head.selection);
        assert_eq!(sample.key.variant(&recorded.head.selection), sample.key.variant(&sample.head.selection));
    }

    #[test]
    fn the_hash_of_a_credential_is_there_for_who_has_the_secret_alone() {
        let request: HeaderMap = [(http::header::COOKIE, "id=1".parse().unwrap())].into_iter().collect();
        let sample = response("key", "the body", &["cookie"], &request);
        let hash = sample.head.selection.iter().next().unwrap().1.unwrap();
        let variant = sample.key.variant(&sample.head.selection).to_be_bytes();
        let written = |secret| {
            let mask = Mask::of(secret);
            let listed = [Listed::of(&sample)];
            let list = encode_varies(&sample.key, &[http::header::COOKIE], &listed, at(1000), &mask);
            let (head, list) = (encode(&sample, &[], 0, at(1000), &mask), Bytes::from(list));
            let Ok(Record::Varies { variants, .. }) = decode((list.clone(), Bytes::new()), at(1000), &mask) else {
                panic!("a list")
            };
            assert_eq!(variants, listed);
            let Ok(Record::Response(read)) = decode((head.clone().into(), Bytes::new()), at(1000), &mask) else {
                panic!("a response")
            };
            assert_eq!(read.head.selection, sample.head.selection);
            let finds = |octets: &[u8], what: &[u8]| octets.windows(what.len()).any(|window| window == what);
            (finds(&head, &hash[..16]), finds(&head, &hash[16..]), finds(&list, &variant))
        };
        assert_eq!(written(None), (true, true, true));
        assert_eq!(written(Some("secret")), (false, false, false));
    }

    #[test]
    fn what_a_response_belongs_to_is_read_without_its_body() {
        let (value, generations) = encoded();
        let expected = Belonging { generations, tags: sample().tags.into() };
        assert_eq!(belonging(value.clone()), Ok(Some(expected)));
        assert!(belonging(value.slice(..100)).is_err());
        let of_names = encode_varies(&CacheKey::from_parts(b"key"), &[], &[], at(1000), &mask());
        assert_eq!(belonging(of_names.into()), Ok(None));
    }

    #[test]
    fn the_names_and_variants_survive_too() {
        let key = CacheKey::from_parts(b"key");
        let names = vec![http::header::ACCEPT, http::header::ORIGIN];
        let candidate = |coding| Candidate { tag: HeaderValue::from_static("W/\"1, 2\""), coding };
        let variants = [
            Listed { variant: u128::MAX, candidate: Some(candidate(Some(HeaderValue::from_static("gzip")))) },
            Listed { variant: 1, candidate: Some(candidate(None)) },
            Listed { variant: 2, candidate: None },
        ];
        for variants in [&variants[..], &[]] {
            let expected = Record::Varies { key: key.clone(), names: names.clone(), variants: variants.to_vec() };
            assert_eq!(decoded(encode_varies(&key, &names, variants, at(1000), &mask())), Ok(expected));
        }
    }

    #[test]
    fn what_has_ended_is_refused_whatever_redis_keeps() {
        let (value, _) = encoded();
        assert_eq!(decode((value.clone(), Bytes::new()), at(1001), &mask()), Err(RecordError::Ended));
        assert!(decode((value, Bytes::new()), at(1000), &mask()).is_ok());
    }

    #[test]
    fn what_is_cut_is_refused() {
        let (whole, _) = encoded();
        for cut in 0..whole.len() {
            assert!(decoded(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_decoder_panic(octets in proptest::collection::vec(any::<u8>(), 0..200), kind in 1u8..3) {
            let mut value = Writer::new(kind, at(1000), 0);
            value.0.extend(&octets);
            let value = Bytes::from(value.0);
            let _ = belonging(value.clone());
            let _ = decoded(value);
            let _ = decoded(octets);
        }
    }
}

//! The fields of a stored response, in as little memory as they need.
//!
//! A `HeaderMap` takes a kibibyte and more for a few lines, and most lines are the same in thousands of responses. So of a response that
//! is kept, the fields lie in one piece of memory: of each line the number of a *word*. That is a line that other responses have as well,
//! or a name alone, behind which the value stands that the response has for itself; of a date, the seconds.
//!
//! A word that was written down once is never forgotten. So who reads it needs no lock, and changes no count of references that other
//! cores change too. And so there are only so many words, and lines only of fields that say of what kind a response is: what may be about
//! somebody stands in the responses alone, and is gone when they are. What has no room here stays a `HeaderMap`.

use super::date;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

/// The fields of a response, as they came or as they are kept.
#[derive(Clone)]
pub(super) enum Fields {
    /// As they came, or with what no words are for.
    Map(Box<HeaderMap>),
    /// How many lines there are, and then each: see [`encode`].
    Words(Bytes),
}

/// What many responses have in common.
struct Word {
    name: HeaderName,
    /// Missing where each response has its own.
    value: Option<HeaderValue>,
}

impl Fields {
    /// The fields themselves.
    pub(super) fn map(&self) -> Cow<'_, HeaderMap> {
        match self {
            Fields::Map(map) => Cow::Borrowed(map),
            Fields::Words(octets) => Cow::Owned(decode(octets)),
        }
    }

    /// The fields, to be changed.
    pub(super) fn map_mut(&mut self) -> &mut HeaderMap {
        if let Fields::Words(octets) = self {
            *self = Fields::Map(Box::new(decode(octets)));
        }
        match self {
            Fields::Map(map) => map,
            Fields::Words(_) => unreachable!("words have just been made a map"),
        }
    }

    /// The same, with nothing in it that keeps other octets. As they came, the values are parts of what was read from a connection, where
    /// the heads of many responses lie side by side, and each of them keeps all of it.
    pub(super) fn compact(self) -> Fields {
        match &self {
            Fields::Map(map) => encode(map).map_or_else(|| Fields::Map(Box::new(in_one_buffer(map))), Fields::Words),
            Fields::Words(_) => self,
        }
    }

    /// About how many octets they take beside themselves.
    pub(super) fn weight(&self) -> usize {
        match self {
            Fields::Map(map) => map.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum(),
            Fields::Words(octets) => octets.len(),
        }
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Fields {
        Fields::Map(Box::new(map))
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.map() == other.map()
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.map().fmt(f)
    }
}

/// Writes down how many lines there are, and of each the number of its word; and where that is a name alone, the length of the value and
/// whether it is sensitive, and the value, or the seconds of the date that it is. `None` if there is no word for a name, or a value is too long for that.
fn encode(map: &HeaderMap) -> Option<Bytes> {
    let mut octets = Vec::with_capacity(2 + 4 * map.len() + map.values().map(HeaderValue::len).sum::<usize>());
    octets.extend(u16::try_from(map.len()).ok()?.to_be_bytes());
    for (name, value) in map {
        let (number, is_line) = known(name, value).or_else(|| learn(name, value))?;
        let seconds = if is_line { None } else { seconds_of(value) };
        octets.extend((number | if seconds.is_some() { DATE } else { 0 }).to_be_bytes());
        if let Some(seconds) = seconds {
            octets.extend(seconds.to_be_bytes());
        } else if !is_line {
            let length = u16::try_from(value.len()).ok().filter(|length| length & SENSITIVE == 0)?;
            octets.extend((length | if value.is_sensitive() { SENSITIVE } else { 0 }).to_be_bytes());
            octets.extend_from_slice(value.as_bytes());
        }
    }
    Some(Bytes::from(octets.into_boxed_slice()))
}

fn decode(octets: &Bytes) -> HeaderMap {
    let number_at = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
    let lines = number_at(0);
    let mut fields = HeaderMap::with_capacity(usize::from(lines) + FURTHER);
    let mut at = 2;
    for _ in 0..lines {
        let (number, is_date) = (number_at(at) & !DATE, number_at(at) & DATE != 0);
        let word = WORDS[usize::from(number)].get().expect("a word was there before its number was written down");
        at += 2;
        let value = match &word.value {
            Some(value) => value.clone(),
            None if is_date => {
                let seconds = u32::from_be_bytes(octets[at..at + SECONDS_BYTES].try_into().expect("these are four"));
                at += SECONDS_BYTES;
                date::format(UNIX_EPOCH + Duration::from_secs(seconds.into()))
            }
            None => {
                let (from, length) = (at + 2, number_at(at));
                at = from + usize::from(length & !SENSITIVE);
                let mut value = HeaderValue::from_maybe_shared(octets.slice(from..at)).expect("it was a field's value before");
                value.set_sensitive(length & SENSITIVE != 0);
                value
            }
        };
        fields.append(word.name.clone(), value);
    }
    fields
}

/// The seconds since 1970 of a date that is written as it would be written again.
fn seconds_of(value: &HeaderValue) -> Option<u32> {
    let time = (value.len() == DATE_BYTES && !value.is_sensitive()).then(|| date::parse(value)).flatten()?;
    let seconds = u32::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    (date::format(time) == *value).then_some(seconds)
}

/// The same fields, with all values in one buffer of their own.
fn in_one_buffer(map: &HeaderMap) -> HeaderMap {
    let octets: Vec<u8> = map.values().flat_map(|value| value.as_bytes()).copied().collect();
    let mut rest = Bytes::from(octets.into_boxed_slice());
    let mut fields = HeaderMap::with_capacity(map.keys_len());
    for (name, value) in map {
        let is_sensitive = value.is_sensitive();
        let mut value = HeaderValue::from_maybe_shared(rest.split_to(value.len())).expect("it is a field's value already");
        value.set_sensitive(is_sensitive);
        fields.append(name, value);
    }
    fields
}

/// The words, by their numbers.
static WORDS: [OnceLock<Word>; WORDS_MAX] = [const { OnceLock::new() }; WORDS_MAX];

/// The number of the next word.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The numbers of the words. To add one is to make another map, which happens as often as there are words.
static NUMBERS: LazyLock<ArcSwap<Numbers>> = LazyLock::new(ArcSwap::default);

/// By the names.
type Numbers = HashMap<&'static str, OfName>;

#[derive(Clone)]
struct OfName {
    name: u16,
    may_have_lines: bool,
    /// By the values.
    lines: HashMap<&'static [u8], u16>,
}

/// The number of the word for a line, and whether that is the whole line; `None` if there is none, but could be one.
fn known(name: &HeaderName, value: &HeaderValue) -> Option<(u16, bool)> {
    let numbers = NUMBERS.load();
    let of_name = numbers.get(name.as_str())?;
    match of_name.lines.get(value.as_bytes()) {
        Some(line) if !value.is_sensitive() => Some((*line, true)),
        _ if of_name.may_learn(value) => None,
        _ => Some((of_name.name, false)),
    }
}

/// Makes words for a line that has none, as far as there is room.
fn learn(name: &HeaderName, value: &HeaderValue) -> Option<(u16, bool)> {
    let numbers = NUMBERS.load_full();
    let of_name = match numbers.get(name.as_str()) {
        Some(of_name) => of_name.clone(),
        None if numbers.len() >= NAMES_MAX || name.as_str().len() > NAME_BYTES_MAX || is_full() => return None,
        None => {
            let name: &'static str = name.as_str().to_owned().leak();
            let number = add(Word { name: HeaderName::from_static(name), value: None })?;
            let of_name = OfName { name: number, may_have_lines: OF_KIND.contains(&name), lines: HashMap::new() };
            change(|numbers| {
                numbers.entry(name).or_insert_with(|| of_name.clone());
            });
            of_name
        }
    };
    if of_name.may_learn(value) {
        let octets: &'static [u8] = value.as_bytes().to_vec().leak();
        let value = HeaderValue::from_maybe_shared(Bytes::from_static(octets)).expect("it is a field's value already");
        let name = WORDS[usize::from(of_name.name)].get().map(|word| word.name.clone()).expect("it has a number");
        let text = name.as_str().to_owned();
        if let Some(number) = add(Word { name, value: Some(value) }) {
            change(|numbers| {
                if let Some(of_name) = numbers.get_mut(text.as_str()) {
                    of_name.lines.entry(octets).or_insert(number);
                }
            });
            return Some((number, true));
        }
    }
    Some((of_name.name, false))
}

impl OfName {
    fn may_learn(&self, value: &HeaderValue) -> bool {
        self.may_have_lines
            && self.lines.len() < LINES_MAX
            && value.len() <= VALUE_BYTES_MAX
            && !value.is_sensitive()
            && !is_full()
    }
}

fn is_full() -> bool {
    NEXT.load(Ordering::Relaxed) >= WORDS_MAX
}

fn add(word: Word) -> Option<u16> {
    let number = NEXT.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |next| (next < WORDS_MAX).then_some(next + 1)).ok()?;
    WORDS[number].set(word).ok()?;
    u16::try_from(number).ok()
}

/// Others may add words at the same time: then there is one more than there need be.
fn change(by: impl Fn(&mut Numbers)) {
    NUMBERS.rcu(|numbers| {
        let mut changed = Numbers::clone(numbers);
        by(&mut changed);
        changed
    });
}

/// With the longest that they can be, the words take less than 300 KB.
const WORDS_MAX: usize = 1024;

/// Of the words so many are names alone. An origin that has more makes them up.
const NAMES_MAX: usize = 256;

const NAME_BYTES_MAX: usize = 64;

/// A name that comes with more values has another for each response, and there is no use in remembering more of them.
const LINES_MAX: usize = 32;

/// The fields whose values say of what kind a response is, and nothing of what it is about.
const OF_KIND: [&str; 19] = [
    "accept-ranges",
    "cache-control",
    "cdn-cache-control",
    "content-encoding",
    "content-language",
    "content-type",
    "cross-origin-embedder-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "referrer-policy",
    "server",
    "strict-transport-security",
    "vary",
    "via",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "x-xss-protection",
];

/// What is longer is seldom said twice.
const VALUE_BYTES_MAX: usize = 128;

/// The highest bit of a length.
const SENSITIVE: u16 = 1 << 15;

/// That of a word's number, behind which the seconds of a date stand.
const DATE: u16 = 1 << 15;
const SECONDS_BYTES: usize = 4;

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the form that is to be generated (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

/// So many fields come beside those that are stored when a response is sent: its age, what the cache has to say, and the like.
const FURTHER: usize = 4;

/// A `HeaderMap`'s own cost a field: its bucket and its share of the index.
const FIELD_OVERHEAD: usize = 112;

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &[u8])]) -> HeaderMap {
        let line = |(name, value): &(&str, &[u8])| (name.parse().unwrap(), HeaderValue::from_bytes(value).unwrap());
        lines.iter().map(line).collect()
    }

    /// Whether these fields are words when they are kept. Either way they are the same, in the same order.
    fn are_words(map: &HeaderMap) -> bool {
        let kept = Fields::from(map.clone()).compact();
        let is_sensitive = |map: &HeaderMap| map.values().map(HeaderValue::is_sensitive).collect::<Vec<_>>();
        assert!(kept.map().iter().eq(map.iter()), "{map:?}");
        assert_eq!(is_sensitive(&kept.map()), is_sensitive(map), "{map:?}");
        assert_eq!(kept.clone().compact(), kept);
        matches!(kept, Fields::Words(_))
    }

    #[test]
    fn fields_are_the_same_when_they_are_kept() {
        let check = |lines: &[(&str, &[u8])]| assert!(are_words(&fields(lines)), "{lines:?}");
        check(&[]);
        check(&[("content-type", b"text/plain")]);
        check(&[("vary", b"accept"), ("etag", b"\"a\""), ("vary", b"origin"), ("x-words-empty", b""), ("vary", b"accept")]);
        check(&[("x-words-latin", b"caf\xe9\tau lait"), ("set-cookie", b"a=b"), ("set-cookie", b"c=d")]);
        check(&[("x-words-long", &[b'x'; 0x7fff])]);
        check(&[(&format!("x-words-{}", "n".repeat(NAME_BYTES_MAX - 8)), b"1")]);
    }

    #[test]
    fn a_date_takes_four_octets_and_is_written_as_it_was() {
        let octets = |value: &str| {
            let kept = Fields::from(fields(&[("last-modified", value.as_bytes())])).compact();
            assert_eq!(kept.map()["last-modified"], value);
            kept.weight() - 4
        };
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Sun, 07 Feb 2106 06:28:15 GMT"] {
            assert_eq!(octets(date), SECONDS_BYTES, "{date}");
        }
        for other in [
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 07 Feb 2106 06:28:16 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "",
        ] {
            assert_eq!(octets(other), 2 + other.len(), "{other}");
        }
    }

    #[test]
    fn what_has_no_room_among_the_words_is_kept_as_it_is() {
        let check = |lines: &[(&str, &[u8])]| assert!(!are_words(&fields(lines)), "{lines:?}");
        check(&[("x-words-long", &[b'x'; 0x8000])]);
        check(&[("etag", b"\"a\""), (&format!("x-words-{}", "n".repeat(NAME_BYTES_MAX)), b"1")]);
    }

    #[test]
    fn a_name_of_many_values_has_few_of_them_as_words() {
        let octets = |value: String| {
            let kept = Fields::from(fields(&[("x-powered-by", value.as_bytes())])).compact();
            assert_eq!(kept.map()["x-powered-by"], value);
            kept.weight()
        };
        let first: Vec<usize> = (0..LINES_MAX).map(|number| octets(format!("{number:032}"))).collect();
        assert_eq!(first, [4; LINES_MAX]);
        assert_eq!(octets("later".into()), 4 + 2 + "later".len());
        assert_eq!(octets(format!("{:032}", 3)), 4, "it is one of the first");
    }

    #[test]
    fn what_may_be_about_somebody_is_no_word() {
        for _ in 0..2 {
            let kept = Fields::from(fields(&[("x-words-user", b"42"), ("etag", b"\"42\"")])).compact();
            assert_eq!(kept.weight(), 2 + 2 * 4 + "42\"42\"".len());
        }
    }

    #[test]
    fn what_is_sensitive_is_no_word_that_others_share() {
        let secret = |value: &[u8]| {
            let mut map = fields(&[("referrer-policy", value)]);
            map.get_mut("referrer-policy").unwrap().set_sensitive(true);
            map
        };
        assert!(are_words(&fields(&[("referrer-policy", b"plain")])));
        assert!(are_words(&secret(b"plain")));
        assert_eq!(Fields::from(secret(b"other")).compact().weight(), 4 + 2 + "other".len());
        assert_eq!(Fields::from(fields(&[("referrer-policy", b"plain")])).compact().weight(), 4);
    }

    #[test]
    fn words_are_made_by_several_threads_at_once() {
        let each = |thread: usize| {
            for number in 0..2 * LINES_MAX {
                let lines =
                    [("permissions-policy", format!("{}", number % (LINES_MAX + 3))), ("x-words-own", format!("{thread}"))];
                let lines: Vec<(&str, &[u8])> = lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
                assert!(are_words(&fields(&lines)));
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|thread| drop(scope.spawn(move || each(thread)))));
    }
}

//! What is wrong with a configuration: all of it, each with its place, in words for the person who wrote it.

use super::place::Place;
use super::suggest::nearest;
use std::fmt;

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// One thing that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `proxy.toml:12:7`, `REDIS_URL (environment)` or `--ttl (command line)`.
    pub at: String,
    /// The key, such as `[redis] budget` or `route[1].ttl ("customer")`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Something is not there; it may only seem so where the file could not be read to its end.
    is_absence: bool,
    /// The line of the file, with its number and what to underline.
    excerpt: Option<Excerpt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    number: usize,
    line: String,
    /// In signs, not octets.
    from: usize,
    length: usize,
}

/// Collects problems while a configuration is read.
#[derive(Default)]
pub(super) struct Report {
    /// The name of the file, and its text.
    pub(super) file: Option<(String, String)>,
    found: Vec<(Option<Place>, Problem)>,
    /// The keys that were asked for, dotted: this is how the list of known keys is made.
    pub(super) keys: Vec<String>,
}

// === impl Report ===

impl Report {
    /// A report on a text.
    pub(super) fn of_text(name: &str, text: &str) -> Report {
        Report { file: Some((name.to_owned(), text.to_owned())), ..Report::default() }
    }

    /// Notes a problem with what was written at a place.
    pub(super) fn problem(&mut self, place: &Place, key: impl Into<String>, message: impl Into<String>) {
        self.note(place, key.into(), message.into(), false);
    }

    /// Notes that what was written at a place needs something that is not there.
    pub(super) fn absence(&mut self, place: &Place, key: impl Into<String>, message: impl Into<String>) {
        self.note(place, key.into(), message.into(), true);
    }

    fn note(&mut self, place: &Place, key: String, message: String, is_absence: bool) {
        let (at, excerpt) = match place {
            Place::File { start, end } => self.locate(*start, *end, key.starts_with(ALL_SECRET)),
            Place::Environment(name) => (format!("{name} (environment)"), None),
            Place::Flag(name) => (format!("{name} (command line)"), None),
        };
        let problem = Problem { at, key, message, is_absence, excerpt };
        self.found.push((Some(place.clone()), problem));
    }

    /// Notes a problem with a file as a whole.
    pub(super) fn file_problem(&mut self, name: &str, message: String) {
        let at = name.to_owned();
        self.found.push((None, Problem { at, key: String::new(), message, is_absence: false, excerpt: None }));
    }

    /// How many problems were noted so far.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Forgets what was noted after the first `syntax` problems, errors of syntax, and may be no more than their echo: what is
    /// left of such a line means nothing, and what seems to be missing may stand in one.
    pub(super) fn forget_echoes(&mut self, syntax: usize) {
        let broken: Vec<usize> = self.found[..syntax].iter().filter_map(|(_, problem)| problem.line()).collect();
        let is_echo = |problem: &Problem| problem.is_absence || problem.line().is_some_and(|line| broken.contains(&line));
        let later = self.found.split_off(syntax);
        self.found.extend(later.into_iter().filter(|(_, problem)| syntax == 0 || !is_echo(problem)));
    }

    /// Everything that was noted, in the order of the places.
    pub(super) fn into_problems(mut self) -> Problems {
        self.found.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.found.dedup();
        Problems(self.found.into_iter().map(|(_, problem)| problem).collect())
    }

    fn locate(&self, start: usize, end: usize, is_secret: bool) -> (String, Option<Excerpt>) {
        let Some((name, text)) = &self.file else {
            return (String::new(), None);
        };
        let start = text.floor_char_boundary(start.min(text.len()));
        let end = text.ceil_char_boundary(end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let number = text[..start].matches('\n').count() + 1;
        let from = text[line_start..start].chars().count();
        let at = format!("{name}:{number}:{}", from + 1);
        let shown = if is_secret { HIDDEN.to_owned() } else { redact_line(line) };
        let end = end.min(line_start + line.len()).max(start);
        // Nothing is underlined where the line that is shown differs from the one that was written.
        let is_verbatim = line_start + line.len() >= end && shown.get(..end - line_start) == line.get(..end - line_start);
        let length = if is_verbatim { text[start..end].chars().count().max(1) } else { 0 };
        let printable = |sign: char| if sign.is_control() { ' ' } else { sign };
        let line = shown.trim_end().chars().map(printable).take(LINE_MAX).collect();
        (at, Some(Excerpt { number, line, from, length: length.min(LINE_MAX.saturating_sub(from)) }))
    }
}

// === impl Problem ===

impl Problem {
    /// The line of the file, if it is a problem with one.
    pub fn line(&self) -> Option<usize> {
        self.excerpt.as_ref().map(|excerpt| excerpt.number)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.at, self.message)?,
            key => write!(f, "{}: {key}: {}", self.at, self.message)?,
        }
        let Some(Excerpt { number, line, from, length }) = &self.excerpt else {
            return Ok(());
        };
        let number = number.to_string();
        let margin = " ".repeat(number.len());
        write!(f, "\n{margin} |\n{number} | {line}")?;
        if *length > 0 {
            write!(f, "\n{margin} | {}{}", " ".repeat(*from), "^".repeat(*length))?;
        }
        Ok(())
    }
}

// === impl Problems ===

impl Problems {
    /// One problem after another.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n\n" };
            write!(f, "{between}{problem}")?;
        }
        Ok(())
    }
}

/// Takes the credentials out of the URLs of a text that will be shown: what stands before an `@`, and behind `pass=`
/// or what begins so.
///
/// Messages are shown on terminals and kept in logs; a password has no business there, however broken the URL around it is.
pub(super) fn redact_urls(text: &str) -> String {
    let mut shown = text.to_owned();
    let scheme = shown.find("//").map(|at| at + 2).or_else(|| shown.find(':').map(|at| at + 1));
    if let Some((from, to)) = scheme.zip(shown.rfind('@'))
        && from < to
    {
        shown.replace_range(from..to, HIDDEN);
    }
    let mut looked_at = 0;
    while let Some(found) = shown[looked_at..].find("pass").map(|at| looked_at + at) {
        // It may be called `password`, too.
        let word = shown[found..].find(|sign: char| !sign.is_ascii_alphanumeric()).map_or(shown.len(), |end| found + end);
        looked_at = word;
        if shown[word..].starts_with('=') {
            let from = word + 1;
            let to = shown[from..].find(['&', '#', '"', '\'']).map_or(shown.len(), |end| from + end);
            shown.replace_range(from..to, HIDDEN);
            looked_at = from + HIDDEN.len();
        }
    }
    shown
}

/// Takes secrets out of a line of the file: what follows `token =`, `secret =` and `keys =` and what is nearly that, the credentials in URLs,
/// and what looks like a key in a list of them, behind its name.
fn redact_line(line: &str) -> String {
    let value_at = line.match_indices('=').find_map(|(at, _)| {
        let before = line[..at].trim_end_matches([' ', '\t', '"', '\'']);
        let word = before.rsplit(|sign: char| !sign.is_alphanumeric() && sign != '_' && sign != '-').next()?;
        nearest(word, SECRET_KEYS).map(|_| line.len() - line[at + 1..].trim_start().len())
    });
    let key_at = line.match_indices(':').map(|(colon, _)| colon + 1).find(|at| {
        let is_of_key = |sign: &char| sign.is_ascii_alphanumeric() || matches!(sign, '+' | '/' | '-' | '_' | '=');
        line[*at..].trim_start().chars().take_while(is_of_key).count() >= KEY_MIN
    });
    match value_at.into_iter().chain(key_at).min() {
        Some(from) => format!("{}{HIDDEN}", redact_urls(&line[..from])),
        None => redact_urls(line),
    }
}

/// What holds a secret, under this name or one that is meant to be it.
const SECRET_KEYS: [&str; 4] = ["token", "tokens", "secret", "keys"];

/// Every line that concerns these keys is kept to oneself as a whole.
const ALL_SECRET: &str = "[redis.encryption]";

/// What is as long as this behind a colon may be a key.
const KEY_MIN: usize = 32;

/// What stands in the place of a secret.
pub(super) const HIDDEN: &str = "…";

/// A longer line is cut.
const LINE_MAX: usize = 160;

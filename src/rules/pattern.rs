//! Path patterns: `/api/mcp/customer/{id}`, `/files/{*rest}`.
//!
//! The router is `matchit`: the most specific pattern wins, and the order in which patterns were written does not matter.
//! `<id>` is read as `{id}`, because several web frameworks write it so.

use std::fmt;

/// A path pattern, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    captures: Vec<String>,
}

/// What is wrong with a pattern, in words for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern does not begin at the root.
    #[error("a pattern begins with `/`")]
    NotAbsolute,
    /// A capture was opened and not closed, or the other way round.
    #[error("unbalanced `{{` or `<` in the segment `{0}`")]
    Unbalanced(String),
    /// A capture has no name, or one with other signs than letters, digits and `_`.
    #[error("`{0}` is not a name for a capture; letters, digits and `_` are")]
    CaptureName(String),
    /// A name is used twice.
    #[error("the capture `{{{0}}}` stands twice")]
    CaptureTwice(String),
    /// A segment holds text beside its capture.
    #[error("the segment `{0}` mixes text and a capture; a capture is a whole segment")]
    MixedSegment(String),
    /// Something follows `{*rest}`.
    #[error("`{{*{0}}}` takes the remainder of the path, so nothing can follow it")]
    AfterRest(String),
    /// It goes on behind the path.
    #[error("a pattern is one of paths, and has no query: [route.query] says which parameters count")]
    Query,
    /// A path like this is never cached, so the pattern would never match.
    #[error("no path in normal form can match it ({0}), and only those are cached")]
    NeverMatches(&'static str),
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(written: &str) -> Result<Pattern, PatternError> {
        let Some(path) = written.strip_prefix('/') else {
            return Err(PatternError::NotAbsolute);
        };
        if path.contains('?') {
            return Err(PatternError::Query);
        }
        let mut captures: Vec<String> = Vec::new();
        let mut text = String::with_capacity(written.len());
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            text.push('/');
            match capture(segment)? {
                None => text.push_str(segment),
                Some(name) => {
                    let plain = name.strip_prefix('*').unwrap_or(name);
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    if plain.is_empty() || !plain.chars().all(is_name) {
                        return Err(PatternError::CaptureName(name.to_owned()));
                    }
                    if captures.iter().any(|earlier| earlier == plain) {
                        return Err(PatternError::CaptureTwice(plain.to_owned()));
                    }
                    if name.starts_with('*') && segments.peek().is_some() {
                        return Err(PatternError::AfterRest(plain.to_owned()));
                    }
                    captures.push(plain.to_owned());
                    text.extend(["{", name, "}"]);
                }
            }
        }
        let example = text.split('/').map(|s| if s.starts_with('{') { "x" } else { s }).collect::<Vec<_>>().join("/");
        if let Err(why) = super::target::check_path(&example) {
            return Err(PatternError::NeverMatches(why));
        }
        Ok(Pattern { text, captures })
    }

    /// The pattern in the router's syntax: with braces, whichever brackets were written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, from left to right.
    pub fn captures(&self) -> &[String] {
        &self.captures
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name inside a segment's brackets, if the segment is a capture.
fn capture(segment: &str) -> Result<Option<&str>, PatternError> {
    let inner = match (segment.chars().next(), segment.chars().last()) {
        (Some('{'), Some('}')) | (Some('<'), Some('>')) => &segment[1..segment.len() - 1],
        _ if segment.contains(['{', '}', '<', '>']) => {
            let opened = segment.matches(['{', '<']).count();
            let closed = segment.matches(['}', '>']).count();
            return Err(match opened == closed {
                true => PatternError::MixedSegment(segment.to_owned()),
                false => PatternError::Unbalanced(segment.to_owned()),
            });
        }
        _ => return Ok(None),
    };
    match inner.contains(['{', '}', '<', '>']) {
        true => Err(PatternError::Unbalanced(segment.to_owned())),
        false => Ok(Some(inner)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str, expected: Result<(&str, &[&str]), PatternError>) {
        let read = Pattern::parse(written);
        let read = read.as_ref().map(|p| (p.as_str(), p.captures().iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(read.map_err(Clone::clone), expected.map(|(text, captures)| (text, captures.to_vec())), "{written}");
    }

    #[test]
    fn patterns_are_read_with_either_bracket() {
        check("/", Ok(("/", &[])));
        check("/api/mcp/customer/{id}", Ok(("/api/mcp/customer/{id}", &["id"])));
        check("/api/mcp/customer/<id>/churn-risk", Ok(("/api/mcp/customer/{id}/churn-risk", &["id"])));
        check("/files/{*rest}", Ok(("/files/{*rest}", &["rest"])));
        check("/a/{x}/{y_2}/", Ok(("/a/{x}/{y_2}/", &["x", "y_2"])));
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_an_error_that_says_why() {
        check("api", Err(PatternError::NotAbsolute));
        check("/a/{id", Err(PatternError::Unbalanced("{id".into())));
        check("/a/{i{d}", Err(PatternError::Unbalanced("{i{d}".into())));
        check("/a/v{id}", Err(PatternError::MixedSegment("v{id}".into())));
        check("/a/{}", Err(PatternError::CaptureName("".into())));
        check("/a/{i-d}", Err(PatternError::CaptureName("i-d".into())));
        check("/{id}/{id}", Err(PatternError::CaptureTwice("id".into())));
        check("/{*rest}/x", Err(PatternError::AfterRest("rest".into())));
        check("/a?b=1", Err(PatternError::Query));
        check("/a//b", Err(PatternError::NeverMatches("an empty segment")));
        check("/a/../b", Err(PatternError::NeverMatches("a dot segment")));
        check("/a/%7eb", Err(PatternError::NeverMatches("an unreserved octet that is percent-encoded")));
    }
}

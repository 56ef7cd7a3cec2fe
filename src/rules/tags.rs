//! Tag templates such as `customer:{id}`: the names under which stored responses can be purged.
//!
//! In braces stands a capture of the path pattern, `{header.x-tenant}` for a request field, or `{query.account}` for a
//! parameter of the query.

use http::HeaderName;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A template of a tag, with places for what the request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTemplate {
    written: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Source),
}

/// What stands in a place of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// What the path pattern captured, percent-decoded.
    Capture(String),
    /// The first value of a request field.
    Field(HeaderName),
    /// The first value of a query parameter, percent-decoded.
    Query(String),
}

/// What is wrong with a tag template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// A brace without its partner.
    #[error("unbalanced brace in the tag `{0}`")]
    Unbalanced(String),
    /// The pattern has no such capture.
    #[error("the pattern has no capture `{{{0}}}`")]
    NoSuchCapture(String),
    /// `{header.…}` with what is no name of a field.
    #[error("`{0}` is not the name of a header field")]
    Field(String),
    /// An empty tag, or one with a sign that has a meaning elsewhere.
    #[error("a tag is one or more visible ASCII signs without blank, comma and `*`")]
    Signs,
    /// A capture as it may be written in a pattern.
    #[error("`{0}` stands for itself in a tag; write `{{{1}}}`")]
    Angles(String, String),
}

impl TagTemplate {
    /// Reads a template whose captures must be among `captures`.
    pub fn parse(written: &str, captures: &[String]) -> Result<TagTemplate, TagError> {
        if written.is_empty() || written.chars().any(|c| !c.is_ascii_graphic() || c == ',' || c == '*') {
            return Err(TagError::Signs);
        }
        if let Some(capture) = captures.iter().find(|capture| written.contains(&format!("<{capture}>"))) {
            return Err(TagError::Angles(format!("<{capture}>"), capture.clone()));
        }
        let mut parts = Vec::new();
        let mut rest = written;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(|| TagError::Unbalanced(written.to_owned()))? + open;
            let (text, name) = (&rest[..open], &rest[open + 1..close]);
            if text.contains('}') || name.contains('{') {
                return Err(TagError::Unbalanced(written.to_owned()));
            }
            let source = match name.split_once('.') {
                _ if captures.iter().any(|capture| capture == name) => Source::Capture(name.to_owned()),
                Some(("header", field)) => match HeaderName::from_bytes(field.as_bytes()) {
                    Ok(field) => Source::Field(field),
                    Err(_) => return Err(TagError::Field(field.to_owned())),
                },
                Some(("query", parameter)) if !parameter.is_empty() => Source::Query(parameter.to_owned()),
                _ => return Err(TagError::NoSuchCapture(name.to_owned())),
            };
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(Part::Place(source));
            rest = &rest[close + 1..];
        }
        if rest.contains('}') {
            return Err(TagError::Unbalanced(written.to_owned()));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(TagTemplate { written: written.to_owned(), parts })
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// What the template takes from the request.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Place(source) => Some(source),
        })
    }

    /// Fills the template in; `None` if a source is not there. Captures and parameters are percent-decoded, so that a tag is
    /// what a person would type.
    pub(super) fn fill<'a>(&self, value: impl Fn(&Source) -> Option<Cow<'a, str>>) -> Option<String> {
        let mut tag = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => tag.push_str(text),
                Part::Place(source @ Source::Field(_)) => tag.push_str(&value(source)?),
                Part::Place(source) => tag.push_str(&percent_decode_str(&value(source)?).decode_utf8_lossy()),
            }
        }
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: Result<&str, TagError>) {
        let captures = ["id".to_owned(), "kind".to_owned()];
        let value = |source: &Source| match source {
            Source::Capture(name) => Some(if name == "id" { "a%C3%A9" } else { "vip" }.into()),
            Source::Field(name) => (name == "x-tenant").then_some("50%25".into()),
            Source::Query(name) => (name == "account").then_some("7%2B".into()),
        };
        let filled = TagTemplate::parse(template, &captures).map(|template| template.fill(value).unwrap_or("left out".into()));
        assert_eq!(filled, expected.map(str::to_owned), "{template}");
    }

    #[test]
    fn templates_are_filled_from_the_request() {
        check("customers", Ok("customers"));
        check("customer:{id}", Ok("customer:aé"));
        check("{kind}:customer:{id}:x", Ok("vip:customer:aé:x"));
        check("", Err(TagError::Signs));
        check("a b", Err(TagError::Signs));
        check("customer:*", Err(TagError::Signs));
        check("customer:<id>", Err(TagError::Angles("<id>".into(), "id".into())));
        check("{id", Err(TagError::Unbalanced("{id".into())));
        check("id}", Err(TagError::Unbalanced("id}".into())));
        check("{header.X-Tenant}:{query.account}", Ok("50%25:7+"));
        check("tenant:{header.x-other}", Ok("left out"));
        check("account:{query.other}", Ok("left out"));
        check("{header.}", Err(TagError::Field("".into())));
        check("{query.}", Err(TagError::NoSuchCapture("query.".into())));
        check("{nope}", Err(TagError::NoSuchCapture("nope".into())));
    }
}

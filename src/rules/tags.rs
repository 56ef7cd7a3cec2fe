//! Tag templates such as `customer:{id}`: the names under which stored responses can be purged.

use percent_encoding::percent_decode_str;

/// A template of a tag, with places for what the path pattern captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTemplate {
    written: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Capture(String),
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
    /// An empty tag, or one with a sign that has a meaning elsewhere.
    #[error("a tag is one or more visible ASCII signs without blank, comma and `*`")]
    Signs,
}

impl TagTemplate {
    /// Reads a template whose captures must be among `captures`.
    pub fn parse(written: &str, captures: &[String]) -> Result<TagTemplate, TagError> {
        if written.is_empty() || written.chars().any(|c| !c.is_ascii_graphic() || c == ',' || c == '*') {
            return Err(TagError::Signs);
        }
        let mut parts = Vec::new();
        let mut rest = written;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(|| TagError::Unbalanced(written.to_owned()))? + open;
            let (text, name) = (&rest[..open], &rest[open + 1..close]);
            if text.contains('}') || name.contains('{') {
                return Err(TagError::Unbalanced(written.to_owned()));
            }
            if !captures.iter().any(|capture| capture == name) {
                return Err(TagError::NoSuchCapture(name.to_owned()));
            }
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(Part::Capture(name.to_owned()));
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

    /// Fills the template in. Captures are percent-decoded, so that a tag is what a person would type.
    pub(super) fn fill<'a>(&self, capture: impl Fn(&str) -> Option<&'a str>) -> String {
        let mut tag = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => tag.push_str(text),
                Part::Capture(name) => {
                    tag.push_str(&percent_decode_str(capture(name).unwrap_or_default()).decode_utf8_lossy());
                }
            }
        }
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: Result<&str, TagError>) {
        let captures = ["id".to_owned(), "kind".to_owned()];
        let filled =
            TagTemplate::parse(template, &captures).map(|t| t.fill(|name| Some(if name == "id" { "a%C3%A9" } else { "vip" })));
        assert_eq!(filled, expected.map(str::to_owned), "{template}");
    }

    #[test]
    fn templates_are_filled_from_the_captures() {
        check("customers", Ok("customers"));
        check("customer:{id}", Ok("customer:aé"));
        check("{kind}:customer:{id}:x", Ok("vip:customer:aé:x"));
        check("", Err(TagError::Signs));
        check("a b", Err(TagError::Signs));
        check("customer:*", Err(TagError::Signs));
        check("{id", Err(TagError::Unbalanced("{id".into())));
        check("id}", Err(TagError::Unbalanced("id}".into())));
        check("{nope}", Err(TagError::NoSuchCapture("nope".into())));
    }
}

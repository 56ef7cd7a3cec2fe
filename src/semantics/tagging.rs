//! The tags that an origin gives to a response: `Cache-Groups` (RFC 9875), `Surrogate-Key` (Edge Architecture), `Cache-Tag`.

use super::list;
use http::HeaderMap;
use http::header::HeaderName;

/// A response field that names tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagField {
    /// `Cache-Groups: "customer:42", "vip"`: a list of strings (RFC 9875 §2).
    CacheGroups,
    /// `Surrogate-Key: customer:42 vip`: with blanks between them.
    SurrogateKey,
    /// `Cache-Tag: customer:42, vip`: with commas between them.
    CacheTag,
}

impl TagField {
    /// All of them.
    pub const ALL: [TagField; 3] = [TagField::CacheGroups, TagField::SurrogateKey, TagField::CacheTag];

    /// The field's name, in lower case.
    pub fn name(self) -> HeaderName {
        HeaderName::from_static(match self {
            TagField::CacheGroups => "cache-groups",
            TagField::SurrogateKey => "surrogate-key",
            TagField::CacheTag => "cache-tag",
        })
    }
}

/// Reads the tags of a response, each once, in their order.
///
/// What cannot be read as a list of tags is left out, and the rest counts: a tag too few would be a response that a purge does
/// not find, a tag too many only one that is purged with others.
pub fn tags(fields: &HeaderMap, of: &[TagField]) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for field in of {
        for line in fields.get_all(field.name()) {
            let text = String::from_utf8_lossy(line.as_bytes());
            match field {
                TagField::SurrogateKey => text.split_ascii_whitespace().for_each(|tag| add(&mut tags, tag)),
                TagField::CacheTag => text.split(',').for_each(|tag| add(&mut tags, tag.trim())),
                TagField::CacheGroups => {
                    for member in list::members(line.as_bytes()) {
                        add(&mut tags, &group(&String::from_utf8_lossy(member)));
                    }
                }
            }
        }
    }
    tags
}

fn add(tags: &mut Vec<String>, tag: &str) {
    if !tag.is_empty() && !tags.iter().any(|known| known == tag) {
        tags.push(tag.to_owned());
    }
}

/// A string of a structured field, without its quotes, escapes and parameters (RFC 9651 §3.3.3).
pub(super) fn group(member: &str) -> String {
    let Some(quoted) = member.trim().strip_prefix('"') else {
        return member.split(';').next().unwrap_or_default().trim().to_owned();
    };
    let (mut group, mut is_escaped) = (String::new(), false);
    for sign in quoted.chars() {
        match sign {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => break,
            sign => {
                group.push(sign);
                is_escaped = false;
            }
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[(&'static str, &str)], expected: &[&str]) {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, value.parse().unwrap());
        }
        assert_eq!(tags(&fields, &TagField::ALL), expected, "{lines:?}");
    }

    #[test]
    fn each_field_has_its_own_way_to_list_tags() {
        check(&[], &[]);
        check(&[("surrogate-key", "customer:42  vip")], &["customer:42", "vip"]);
        check(&[("cache-tag", "customer:42,vip , a b,,")], &["customer:42", "vip", "a b"]);
        check(&[("cache-groups", r#""customer:42", "a, b";q=1, "say \"x\"""#)], &["customer:42", "a, b", r#"say "x""#]);
        check(&[("cache-groups", "token;p, \"open")], &["token", "open"]);
        check(&[("cache-tag", "a"), ("cache-tag", "b"), ("surrogate-key", "b c")], &["b", "c", "a"]);
        check(&[("cache-tag", "")], &[]);
    }

    #[test]
    fn only_the_fields_that_count_are_read() {
        let mut fields = HeaderMap::new();
        fields.insert("cache-tag", "a".parse().unwrap());
        fields.insert("surrogate-key", "b".parse().unwrap());
        assert_eq!(tags(&fields, &[TagField::CacheTag]), ["a"]);
        assert!(tags(&fields, &[]).is_empty());
    }
}

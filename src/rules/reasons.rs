//! Which fields of a request make a rule decide as it does: for those who ask why, not for those who are answered.

use super::admit::{Bypass, Weight};
use super::identity;
use super::route::{CONTENT_FIELDS, Route};
use super::tags::Source;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, UPGRADE};
use http::request::Parts;
use http::{HeaderName, Method};

/// A tag that a route's template makes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The template, as it was written.
    pub template: String,
    /// The tag; `None` if something is not there that stands in it.
    pub tag: Option<String>,
    /// The request fields that stand in it.
    pub fields: Vec<HeaderName>,
}

impl Bypass {
    /// What of the request has brought this about on its route: the names of fields, and of cookies behind `cookie:`. All of them, where
    /// the decision needed one.
    pub fn causes(&self, route: &Route, request: &Parts) -> Vec<String> {
        let of_fields = || {
            let weighs_so = |name: &&HeaderName| match route.weigh(name, &request.method) {
                Weight::Past(why) => why.as_str() == self.as_str(),
                _ => false,
            };
            request.headers.keys().filter(weighs_so).map(|name| name.as_str().to_owned()).collect()
        };
        match self {
            Bypass::UnkeyedField(_) | Bypass::Precondition => of_fields(),
            Bypass::AmbiguousIdentity => {
                let is_there_twice = |name: &&String| identity::cookies(&request.headers, name).nth(1).is_some();
                route.identity_cookies.iter().filter(is_there_twice).map(|name| format!("cookie:{name}")).collect()
            }
            Bypass::TokenEnded => vec![AUTHORIZATION.as_str().to_owned()],
            Bypass::Upgrade => vec![UPGRADE.as_str().to_owned()],
            Bypass::Disabled | Bypass::NoRoute | Bypass::CacheOff | Bypass::Method | Bypass::Path(_) | Bypass::RequestBody => {
                Vec::new()
            }
        }
    }
}

impl Route {
    /// Whether the key of a request has this field, or what of it tells callers apart.
    pub fn has_in_key(&self, name: &HeaderName, method: &Method) -> bool {
        let identifies = *name == COOKIE && !self.identity_cookies.is_empty();
        let claims = *name == AUTHORIZATION && !self.identity_claims.is_empty();
        let is_content = Route::has_content(method) && CONTENT_FIELDS.contains(name);
        *name == HOST || *name == ORIGIN && self.keys_origin() || self.keys(name) || identifies || claims || is_content
    }

    /// The tags that the route's templates make of a request.
    pub fn filled(&self, request: &Parts) -> Vec<Filled> {
        let field = |source: &Source| match source {
            Source::Field(name) => Some(name.clone()),
            Source::Capture(_) | Source::Query(_) => None,
        };
        let filled = self.tags.iter().map(|template| Filled {
            template: template.as_str().to_owned(),
            tag: self.fill(std::slice::from_ref(template), request).pop(),
            fields: template.sources().filter_map(field).collect(),
        });
        filled.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Admission, Content, Forwarding, Pattern, RuleSet, Share};
    use super::*;
    use http::Request;
    use std::time::{Duration, SystemTime};

    #[test]
    fn all_fields_are_named_that_send_a_request_past_the_cache() {
        let check = |line: &str, fields: &[(&str, &str)], expected: &str| {
            let pattern = Pattern::parse("/{id}").unwrap();
            let mut route = Route::new("r", pattern, Duration::from_secs(60));
            route.share = Share::PerCredential(vec![AUTHORIZATION]);
            route.identity_cookies = vec!["session".to_owned()];
            route.methods.push(Method::POST);
            let rules = RuleSet::new(vec![route]).unwrap();
            let (method, target) = line.split_once(' ').unwrap();
            let request = fields
                .iter()
                .fold(Request::builder().method(method).uri(target), |request, (name, value)| request.header(*name, *value));
            let request = request.body(()).unwrap().into_parts().0;
            let forwarding = Forwarding { scheme: "http", host: None };
            let admission = rules.admit(&request, &forwarding, Content::None, SystemTime::UNIX_EPOCH, |_| None);
            let said = match admission {
                Admission::Past { why, .. } => [why.as_str()]
                    .map(str::to_owned)
                    .into_iter()
                    .chain(why.causes(&rules.routes()[0], &request))
                    .collect::<Vec<_>>()
                    .join(" "),
                _ => String::new(),
            };
            assert_eq!(said, expected, "{line} {fields:?}");
        };
        check("GET /a", &[("accept", "a"), ("cookie", "session=1")], "");
        check("GET /a", &[("x-one", "1"), ("accept", "a"), ("x-two", "2")], "unkeyed-field x-one x-two");
        check("GET /a", &[("if-match", "\"1\""), ("if-unmodified-since", "x")], "precondition if-match if-unmodified-since");
        check("POST /a", &[("if-none-match", "\"1\""), ("content-type", "x")], "precondition if-none-match");
        check("GET /a", &[("cookie", "session=1; session=2; other=3")], "ambiguous-identity cookie:session");
        check("GET //", &[], "no-route");
        check("PUT /a", &[("x-one", "1")], "method");
    }
}

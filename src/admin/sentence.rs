//! Why a request would be treated as it would, in one sentence for people.

use crate::flow::{Explained, Keyed, Verdict};
use crate::rules::Bypass;
use crate::semantics::Forward;
use crate::semantics::fields::{self, Kind};
use crate::store::{Lookup, Standing, StoredResponse, Tier};
use http::{HeaderName, Method};
use std::time::SystemTime;

/// The sentence for what was explained.
pub(super) fn of(explained: &Explained<'_>, method: &Method) -> String {
    let now = explained.now;
    match (&explained.verdict, &explained.keyed) {
        (Verdict::Refused(status, why), _) => format!("It is answered {} by the sidecar itself: {why}.", status.as_u16()),
        (Verdict::Past, _) => past(explained, method),
        (Verdict::Hit(tier, stored), _) => {
            let ttl = stored.head.ttl(now);
            format!("{} has a response for it, fresh for {ttl} s more.", place(*tier))
        }
        (Verdict::Stale(tier, stored), keyed) => {
            let why = match keyed.as_ref().and_then(|keyed| keyed.trouble) {
                Some("unreachable") => "the origin gave no answer lately",
                Some(_) => "the origin has failed lately",
                None => "the request says that it takes a stale one",
            };
            format!("{} has a response for it that is stale {}, and {why}.", place(*tier), since(stored, now))
        }
        (Verdict::StaleAndRefresh(tier, stored), _) => {
            let since = match stored.head.is_fresh(now) {
                true => "since a soft purge".to_owned(),
                false => since(stored, now),
            };
            let place = place(*tier);
            format!(
                "{place} has a response for it that is stale {since} and may be used once more, while a new one is fetched in the background."
            )
        }
        (Verdict::Follow(_), _) => {
            "Another request is fetching the same; it waits for that, and is answered with what it brings.".to_owned()
        }
        (Verdict::OnlyIfCached, _) => {
            "It says only-if-cached, and nothing is stored that may answer it: it is answered 504.".to_owned()
        }
        (Verdict::Relay(_, "head"), _) => "Nothing that is stored may answer it as it is, so the HEAD is relayed.".to_owned(),
        (Verdict::Relay(..), _) => {
            "It asks for less than a whole response, and what the origin answers would not be stored: it is relayed as it is."
                .to_owned()
        }
        (Verdict::Validate(_, why), Some(keyed)) => {
            let what = match why {
                Forward::Partial => "the origin is asked for what is missing of it",
                _ => "the origin is asked whether it still holds",
            };
            format!("{}, so {what}{}.", missing(*why, keyed), not_stored(keyed))
        }
        (Verdict::Fetch(why), Some(keyed)) => {
            format!("{}, so the origin is asked for it{}.", missing(*why, keyed), not_stored(keyed))
        }
        (Verdict::Validate(..) | Verdict::Fetch(_), None) => "The origin is asked for it.".to_owned(),
    }
}

/// Why what is stored is not the answer.
fn missing(why: Forward, keyed: &Keyed) -> String {
    let look = &keyed.look;
    let held = [&look.memory, &look.redis];
    let is_purged = held.into_iter().flatten().any(|stands| stands.standing == Standing::Broken);
    let has_validator = match &look.lookup {
        Lookup::Found(_, stored) | Lookup::Softened(_, stored) => stored.head.has_validator(),
        _ => false,
    };
    match why {
        Forward::UriMiss if matches!(look.lookup, Lookup::Unavailable) => {
            "Memory has nothing for it, and Redis cannot be asked".to_owned()
        }
        Forward::UriMiss if is_purged => "What was stored for it has been purged".to_owned(),
        Forward::VaryMiss => {
            let names: Vec<&str> = look.varies.iter().flat_map(|names| names.iter()).map(|name| name.as_str()).collect();
            match names.is_empty() {
                true => "What is stored was for other values of the fields in Vary".to_owned(),
                false => format!("What is stored was for other values of {}", listed(&names)),
            }
        }
        Forward::Stale if has_validator => "What is stored is stale".to_owned(),
        Forward::Stale => "What is stored is stale, and has neither ETag nor Last-Modified to confirm it by".to_owned(),
        Forward::Request if keyed.open_credentials.is_empty() => {
            "The request's own directives do not allow what is stored".to_owned()
        }
        Forward::Request => {
            let names = listed(&keyed.open_credentials);
            format!("It carries {names}, and what is stored does not say that others may be given it")
        }
        Forward::Partial => "What is stored is a part, and more is needed".to_owned(),
        Forward::UriMiss | Forward::Bypass | Forward::Method => "Nothing is stored for it".to_owned(),
    }
}

/// Why what comes would not be stored, as far as that is known before.
fn not_stored(keyed: &Keyed) -> String {
    if keyed.asks_not_to_store {
        return "; the request says that its response is not to be stored".to_owned();
    }
    if !keyed.open_credentials.is_empty() {
        let names = listed(&keyed.open_credentials);
        return format!("; since it carries {names}, the response is stored only if it says that others may be given it");
    }
    match keyed.is_unstorable {
        true => "; the last response for it could not be stored, so nobody waits for this one".to_owned(),
        false => String::new(),
    }
}

fn past(explained: &Explained<'_>, method: &Method) -> String {
    let Some((why, causes)) = &explained.past else { return "It goes past the cache.".to_owned() };
    let name = explained.route.map_or("", |route| route.name.as_str());
    let causes: Vec<&str> = causes.iter().map(String::as_str).collect();
    let (fields, is) = (listed(&causes), if causes.len() == 1 { "is" } else { "are" });
    match why {
        Bypass::Disabled => "The cache is switched off, so everything is forwarded.".to_owned(),
        Bypass::NoRoute => "No route matches its path, so it is forwarded, and its response is not stored.".to_owned(),
        Bypass::CacheOff => format!("The route {name:?} says cache = \"off\"."),
        Bypass::Method => {
            let methods: Vec<&str> = explained.route.iter().flat_map(|route| route.methods.iter()).map(Method::as_str).collect();
            let methods = listed(&methods);
            format!("The route {name:?} answers {methods} from what is stored, and {method} is none of these.")
        }
        Bypass::Path(what) => {
            format!("Its path is not in normal form: there is {what}. Others may read it differently, so it is never cached.")
        }
        Bypass::Upgrade => "Its connection is to speak another protocol than HTTP.".to_owned(),
        Bypass::RequestBody => "It has a body, which is not in the key.".to_owned(),
        Bypass::Precondition => format!("Only the origin can judge its precondition: {fields}."),
        Bypass::UnkeyedField(_) if causes.iter().any(|name| is_credential(name)) => {
            format!(
                "{fields} could change the response, and nothing in the key stands for who asks: see share and identity of the route {name:?}."
            )
        }
        Bypass::UnkeyedField(_) => format!(
            "{fields} could change the response, and {is} not in the key. Name in key_headers what matters to the origin; for what does \
             not, set unkeyed_headers = \"drop\" on the route {name:?}."
        ),
        Bypass::AmbiguousIdentity => format!("{fields} {is} there twice, so it is not said who asks."),
        Bypass::TokenEnded => "The token that says who asks has ended.".to_owned(),
    }
}

fn place(tier: Tier) -> &'static str {
    match tier {
        Tier::Memory => "Memory",
        Tier::Redis => "Redis",
    }
}

fn since(stored: &StoredResponse, now: SystemTime) -> String {
    format!("for {} s", stored.head.staleness(now).as_secs())
}

fn is_credential(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| fields::kind(&name) == Kind::Credential)
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_people_write_them() {
        assert_eq!(listed(&[]), "");
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }
}

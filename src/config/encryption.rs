//! `[redis.encryption]`: the keys that values in Redis are sealed with.

use super::Config;
use super::raw::{Kind, Value};
use super::reader::{Parsed, Section};
use super::values::{list, quote, string};
use crate::store::EncryptionKey;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fs;

/// Reads the section into what `[redis]` says, behind that.
pub(super) fn read(section: &mut Section<'_>, config: &mut Config) {
    let keys = section.take_with_place("keys", |value| unique(value, list(key)(value)?));
    let of_file = section.take_with_place("keys_file", |value| unique(value, keys_of_file(value)?));
    let is_said = |said: &Option<(Vec<EncryptionKey>, _)>| said.as_ref().is_some_and(|(keys, _)| !keys.is_empty());
    if let (true, Some((_, place))) = (is_said(&keys), of_file.as_ref().filter(|(keys, _)| !keys.is_empty())) {
        section.problem(place, "keys_file", "stands beside `keys`; one of them says all keys");
    }
    let Some((keys, place)) = [keys, of_file].into_iter().find(is_said).flatten() else { return };
    if !cfg!(feature = "encryption") {
        section.problem(&place, "keys", "this build has no encryption (the feature `encryption` is off)");
    }
    let Some(redis) = &mut config.store.redis else { return };
    if redis.secret.is_none() {
        // The keys change from time to time, and names must not: replicas with different names would not hear of each other's purges.
        let message = "needs [cache] secret or CACHE_SECRET, the same on all replicas, which keys the names in Redis";
        section.absence(&place, "keys", message);
    }
    redis.encryption = keys;
}

/// Keys in a file, one a line; what begins with `#` is none. `off` stands for no file.
fn keys_of_file(value: &Value) -> Parsed<Vec<EncryptionKey>> {
    let path = string(value)?;
    if path == "off" {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).map_err(|error| value.fault(format!("{} cannot be read: {error}", quote(&path))))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.map(|line| key(&Value { kind: Kind::Text(line.to_owned()), place: value.place.clone() }));
    let keys = keys.collect::<Parsed<Vec<_>>>()?;
    match keys.is_empty() {
        true => Err(value.fault(format!("{} has no key in it", quote(&path)))),
        false => Ok(keys),
    }
}

/// A name, a colon, and 32 octets in Base64. Nothing of it is shown when it is wrong: it may be a key.
fn key(value: &Value) -> Parsed<EncryptionKey> {
    let wrong = |what: &str| value.fault(format!("{what}; write a name, a colon, and what `openssl rand -base64 32` prints"));
    let (name, octets) = value.as_str().and_then(|written| written.split_once(':')).ok_or_else(|| wrong("is no key"))?;
    let is_allowed = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(is_allowed) {
        return Err(wrong("has a name of other signs than letters, digits and `-_.`, or of more than 32"));
    }
    // As both alphabets are seen in the wild, and keys without their padding.
    let octets = octets.trim().replace('-', "+").replace('_', "/");
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let octets = GeneralPurpose::new(&STANDARD, config).decode(octets).map_err(|_| wrong("is not Base64 behind the colon"))?;
    let octets = octets.try_into().map_err(|octets: Vec<u8>| wrong(&format!("has {} octets instead of 32", octets.len())))?;
    Ok(EncryptionKey { name: name.to_owned(), octets })
}

/// Of two keys with one name, it could not be told which one has sealed a value.
fn unique(value: &Value, keys: Vec<EncryptionKey>) -> Parsed<Vec<EncryptionKey>> {
    match keys.iter().enumerate().find(|(at, key)| keys[..*at].iter().any(|before| before.name == key.name)) {
        Some((_, twice)) => Err(value.fault(format!("two keys have the name {}", quote(&twice.name)))),
        None => Ok(keys),
    }
}

/// It stands in each value.
const NAME_MAX: usize = 32;

//! What keeps a value in Redis from being read, forged, moved, cut or kept past its time by whoever else can reach that Redis.
//!
//! A value is two pieces, what is needed to judge it and the body, so that a sweep need not read the bodies:
//!
//! | octets | what |
//! |---|---|
//! | 2 | `SC` |
//! | 1 | the version of the format |
//! | 1 | how it is protected: 0 by a checksum, 1 by a code that only who has the secret can make, 2 sealed |
//! | 4 | the length of the first piece |
//! | sealed | the name of the key (1 + n), salt (32), nonce (12) |
//! | n, then 8, 32 or 16 | the first piece, and its tag |
//! | rest, of which the last 8, 32 or 16 | the second piece, and its tag |
//!
//! Each tag is over the name under which the value lies, all that stands before the pieces, and its piece; the second one is bound to the
//! first. The pieces hold the whole cache key and when the value ends (`record`). So a value under another name, of another key, past its
//! end, with one bit turned, cut or lengthened is none.
//!
//! - **Checksum** (XXH3), where there is no secret: against accidents alone. Whoever writes to Redis can make one.
//! - **HMAC-SHA-256**, where there is a secret: nobody can make or change a value without it; everybody who reads Redis can read it.
//! - **AES-256-GCM**, where there are keys: nobody can read it either. A nonce of 96 random bits would be safe for 2^32 values under one
//!   key only, which a busy cache has written in a few weeks. So each value has a key of its own, which HKDF-Expand (RFC 5869 §2.3)
//!   derives from the configured one, itself uniformly random, and a salt of 256 random bits: no key ever seals more than the two
//!   pieces of one value, and these under two nonces that differ in a bit.
//!
//! Nothing here can keep Redis from giving back an earlier value of the same name before its end, nor from forgetting one.

use super::options::RedisOptions;
use super::record::{self, RecordError};
use super::response::StoredResponse;
use crate::rules::Secret;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};
use aes::{Aes256, Block};
#[cfg(feature = "encryption")]
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::SystemTime;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How the values of one Redis are protected.
pub(super) enum Seal {
    Checksum,
    Code(Box<Hmac<Sha256>>),
    /// The first key seals, all of them open.
    #[cfg(feature = "encryption")]
    Sealed(Vec<(String, Prk)>),
}

/// What a value says, once it is known to be whole and ours: what is needed to judge it, and the body.
pub(super) type Opened = (Bytes, Bytes);

impl Seal {
    /// The best protection that the configuration gives the means for.
    pub(super) fn of(options: &RedisOptions) -> Seal {
        #[cfg(feature = "encryption")]
        if !options.encryption.is_empty() {
            let key = |key: &super::EncryptionKey| (key.name.clone(), Prk::new_less_safe(HKDF_SHA256, &key.octets));
            return Seal::Sealed(options.encryption.iter().map(key).collect());
        }
        #[cfg(not(feature = "encryption"))]
        assert!(options.encryption.is_empty(), "this build cannot seal, and must not do less than it was asked for");
        match &options.secret {
            None => Seal::Checksum,
            Some(secret) => {
                let key = Secret::from_passphrase(secret).derived(VALUES);
                Seal::Code(Box::new(Hmac::new_from_slice(&key).expect("HMAC takes keys of any length")))
            }
        }
    }

    /// What protects lines of text: what replicas ask one another, and the records of purges, which name tags and outlive what was purged. So
    /// these are sealed wherever there is a secret, and the secret makes the key, so that they outlive the keys for values too.
    pub(super) fn of_texts(options: &RedisOptions) -> Seal {
        match &options.secret {
            #[cfg(feature = "encryption")]
            Some(secret) => {
                let key = Secret::from_passphrase(secret).derived(TEXTS);
                Seal::Sealed(vec![(String::new(), Prk::new_less_safe(HKDF_SHA256, &key))])
            }
            _ => Seal::of(options),
        }
    }

    /// Makes the value that is to lie under `name` of its two pieces.
    pub(super) fn close(&self, name: &str, head: &[u8], body: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(BEFORE_MAX + head.len() + body.len() + 2 * self.tag_bytes());
        value.extend(MAGIC);
        value.extend([VERSION, self.code()]);
        value.extend((head.len() as u32).to_be_bytes());
        #[cfg(feature = "encryption")]
        if let Seal::Sealed(keys) = self {
            let (key, _) = keys.first().expect("who has no key does not seal");
            value.push(key.len() as u8);
            value.extend(key.as_bytes());
            let at = value.len();
            value.resize(at + SALT_BYTES + NONCE_BYTES, 0);
            getrandom::fill(&mut value[at..]).expect("the system has a source of random octets");
        }
        let mut tagger = self.tagger(name, &value).expect("its key is one of those that open");
        for piece in [head, body] {
            let from = value.len();
            value.extend_from_slice(piece);
            let tag = tagger.close(&mut value[from..]);
            value.extend_from_slice(&tag[..self.tag_bytes()]);
        }
        value
    }

    /// Opens a value that lay under `name`, in its place: the pieces are slices of it.
    pub(super) fn open(&self, name: &str, mut value: Vec<u8>) -> Result<Opened, RecordError> {
        let (before, head_bytes) = self.before(&value)?;
        let tag_bytes = self.tag_bytes();
        let body_at = before + head_bytes + tag_bytes;
        let body_end = value.len().checked_sub(tag_bytes).filter(|end| *end >= body_at).ok_or(RecordError::Malformed)?;
        let (context, pieces) = value.split_at_mut(before);
        let mut tagger = self.tagger(name, context)?;
        let (head, body) = pieces.split_at_mut(head_bytes + tag_bytes);
        for (piece, length) in [(head, head_bytes), (body, body_end - body_at)] {
            let (piece, tag) = piece.split_at_mut(length);
            tagger.open(piece, tag)?;
        }
        let value = Bytes::from(value);
        Ok((value.slice(before..before + head_bytes), value.slice(body_at..body_end)))
    }

    /// Opens the first piece of a value of which there may be only the beginning. An error says that this is too short, or no value.
    pub(super) fn open_head(&self, name: &str, mut beginning: Vec<u8>) -> Result<Bytes, RecordError> {
        let (before, head_bytes) = self.before(&beginning)?;
        if beginning.len() < before + head_bytes + self.tag_bytes() {
            return Err(RecordError::Malformed);
        }
        let (context, pieces) = beginning.split_at_mut(before);
        let (head, rest) = pieces.split_at_mut(head_bytes);
        self.tagger(name, context)?.open(head, &rest[..self.tag_bytes()])?;
        Ok(Bytes::from(beginning).slice(before..before + head_bytes))
    }

    /// Makes what lies under `name` of a line of text. Without a secret it is the text itself.
    pub(super) fn close_text(&self, name: &str, text: &str) -> Vec<u8> {
        match self {
            Seal::Checksum => text.as_bytes().to_vec(),
            _ => self.close(name, text.as_bytes(), b""),
        }
    }

    /// Opens a line of text that lay under `name`; `None` if it is none of ours.
    pub(super) fn open_text(&self, name: &str, value: Vec<u8>) -> Option<String> {
        let text = match self {
            Seal::Checksum => value,
            _ => self.open(name, value).ok()?.0.into(),
        };
        String::from_utf8(text).ok()
    }

    fn code(&self) -> u8 {
        match self {
            Seal::Checksum => 0,
            Seal::Code(_) => 1,
            #[cfg(feature = "encryption")]
            Seal::Sealed(_) => 2,
        }
    }

    fn tag_bytes(&self) -> usize {
        match self {
            Seal::Checksum => 8,
            Seal::Code(_) => 32,
            #[cfg(feature = "encryption")]
            Seal::Sealed(_) => 16,
        }
    }

    /// Reads what stands before the pieces: how long it is, and how long the first piece.
    fn before(&self, value: &[u8]) -> Result<(usize, usize), RecordError> {
        if value.get(..2) != Some(MAGIC) {
            return Err(RecordError::Foreign);
        }
        let (Some(version), Some(code)) = (value.get(2), value.get(3)) else { return Err(RecordError::Malformed) };
        if *version != VERSION {
            return Err(RecordError::Version(*version));
        }
        if *code != self.code() {
            return Err(RecordError::Protection);
        }
        let head = value.get(4..PLAIN_BYTES).and_then(|head| head.try_into().ok()).ok_or(RecordError::Malformed)?;
        let before = match self {
            Seal::Checksum | Seal::Code(_) => PLAIN_BYTES,
            #[cfg(feature = "encryption")]
            Seal::Sealed(_) => {
                let key_bytes = *value.get(PLAIN_BYTES).ok_or(RecordError::Malformed)?;
                PLAIN_BYTES + 1 + usize::from(key_bytes) + SALT_BYTES + NONCE_BYTES
            }
        };
        if value.len() < before {
            return Err(RecordError::Malformed);
        }
        Ok((before, u32::from_be_bytes(head) as usize))
    }

    /// What makes the tags of a value, given its name and what stands before its pieces.
    fn tagger(&self, name: &str, before: &[u8]) -> Result<Tagger<'_>, RecordError> {
        let context = [&(name.len() as u32).to_be_bytes(), name.as_bytes(), before].concat();
        Ok(match self {
            Seal::Checksum => Tagger::Checksum(xxh3_64_with_seed(&context, 0)),
            Seal::Code(mac) => Tagger::Code(mac, context),
            #[cfg(feature = "encryption")]
            Seal::Sealed(keys) => {
                let (named, random) = before.split_at(before.len() - SALT_BYTES - NONCE_BYTES);
                let (salt, nonce) = random.split_at(SALT_BYTES);
                let named = named.get(PLAIN_BYTES + 1..).unwrap_or_default();
                let (_, key) = keys.iter().find(|(name, _)| name.as_bytes() == named).ok_or(RecordError::Key)?;
                let info = [SEALING.as_bytes(), salt];
                let derived = key.expand(&info, &AES_256_GCM).map_err(|_| RecordError::Malformed)?;
                let nonce = nonce.try_into().map_err(|_| RecordError::Malformed)?;
                Tagger::Sealed { key: Box::new(LessSafeKey::new(UnboundKey::from(derived))), nonce, context }
            }
        })
    }
}

/// What hides hashes within values that can be read: of credentials that a response varies by, and of variants, into which those go. Who
/// reads Redis could compare them with the hashes of guesses. As with names, each 128 bits go through AES-256 as one block.
pub(super) struct Mask(Option<Box<Aes256>>);

impl Mask {
    /// There is one wherever there is a secret.
    pub(super) fn of(secret: Option<&str>) -> Mask {
        let key = |secret| Aes256::new(&Secret::from_passphrase(secret).derived(HASHES).into());
        Mask(secret.map(|secret| Box::new(key(secret))))
    }

    /// Hides a hash, in its place.
    pub(super) fn put_on(&self, hash: &mut [u8]) {
        if let Some(cipher) = &self.0 {
            blocks(hash).for_each(|block| cipher.encrypt_block(block));
        }
    }

    /// Brings a hash back, in its place.
    pub(super) fn take_off(&self, hash: &mut [u8]) {
        if let Some(cipher) = &self.0 {
            blocks(hash).for_each(|block| cipher.decrypt_block(block));
        }
    }
}

fn blocks(hash: &mut [u8]) -> impl Iterator<Item = &mut Block> {
    hash.chunks_exact_mut(16).map(|block| block.try_into().expect("it has 16 octets"))
}

/// What the bench of a hit in Redis needs, apart from Redis: how a response is written there, and read again.
#[doc(hidden)]
pub struct Trial(Seal, Mask);

impl Trial {
    /// Protects values as these options say.
    pub fn new(options: &RedisOptions) -> Trial {
        Trial(Seal::of(options), Mask::of(options.secret.as_deref()))
    }

    /// Makes the value of a response that lies under `name`.
    pub fn write(&self, name: &str, response: &StoredResponse, ends: SystemTime) -> Vec<u8> {
        self.0.close(name, &record::encode(response, &[], 0, ends, &self.1), &response.body)
    }

    /// Reads a value that lay under `name`; `false` if it is refused.
    pub fn read(&self, name: &str, value: Vec<u8>, now: SystemTime) -> bool {
        self.0.open(name, value).and_then(|opened| record::decode(opened, now, &self.1)).is_ok()
    }
}

/// Makes the tags of one value's pieces, one after the other.
enum Tagger<'a> {
    /// The checksum of all that came before is the seed of the next.
    Checksum(u64),
    /// What came before: the context, then the tag of the first piece.
    Code(&'a Hmac<Sha256>, Vec<u8>),
    #[cfg(feature = "encryption")]
    Sealed { key: Box<LessSafeKey>, nonce: [u8; NONCE_BYTES], context: Vec<u8> },
}

impl Tagger<'_> {
    /// Seals a piece in its place, if it is to be sealed, and gives its tag in the first octets.
    fn close(&mut self, piece: &mut [u8]) -> [u8; TAG_MAX] {
        let mut tag = [0; TAG_MAX];
        match self {
            Tagger::Checksum(before) => {
                *before = xxh3_64_with_seed(piece, *before);
                tag[..8].copy_from_slice(&before.to_be_bytes());
            }
            Tagger::Code(mac, before) => {
                tag.copy_from_slice(&code(mac, before, piece).finalize().into_bytes());
                *before = tag.to_vec();
            }
            #[cfg(feature = "encryption")]
            Tagger::Sealed { key, nonce, context } => {
                let made = key.seal_in_place_separate_tag(next(nonce), Aad::from(&context[..]), piece);
                tag[..16].copy_from_slice(made.expect("a piece is shorter than 64 GiB").as_ref());
            }
        }
        tag
    }

    /// Opens a piece in its place, if its tag is the right one.
    fn open(&mut self, piece: &mut [u8], tag: &[u8]) -> Result<(), RecordError> {
        match self {
            Tagger::Checksum(before) => {
                *before = xxh3_64_with_seed(piece, *before);
                if before.to_be_bytes() != tag {
                    return Err(RecordError::Checksum);
                }
            }
            Tagger::Code(mac, before) => {
                // In constant time.
                code(mac, before, piece).verify_slice(tag).map_err(|_| RecordError::Forged)?;
                *before = tag.to_vec();
            }
            #[cfg(feature = "encryption")]
            Tagger::Sealed { key, nonce, context } => {
                let opened = key.open_in_place_separate_tag(next(nonce), Aad::from(&context[..]), tag, piece);
                opened.map_err(|_| RecordError::Forged)?;
            }
        }
        Ok(())
    }
}

/// The code of a piece and of what came before it.
fn code(mac: &Hmac<Sha256>, before: &[u8], piece: &[u8]) -> Hmac<Sha256> {
    let mut mac = mac.clone();
    mac.update(&(before.len() as u32).to_be_bytes());
    mac.update(before);
    mac.update(piece);
    mac
}

/// The nonce of this piece; the next one's differs from it.
#[cfg(feature = "encryption")]
fn next(nonce: &mut [u8; NONCE_BYTES]) -> Nonce {
    let this = *nonce;
    nonce[NONCE_BYTES - 1] ^= 1;
    Nonce::assume_unique_for_key(this)
}

const MAGIC: &[u8] = b"SC";

/// Counts up whenever the format changes, here or in `record`; a value of another version is a miss.
pub(super) const VERSION: u8 = 5;

/// Magic, version, protection, and the length of the first piece.
const PLAIN_BYTES: usize = 8;
#[cfg(feature = "encryption")]
const SALT_BYTES: usize = 32;
#[cfg(feature = "encryption")]
const NONCE_BYTES: usize = 12;
const TAG_MAX: usize = 32;

/// So much stands before the pieces, mostly.
const BEFORE_MAX: usize = 96;

/// What is made of the secret, and of a key, is of no use for anything else.
const VALUES: &str = "sidecache values in Redis, HMAC-SHA-256";
const HASHES: &str = "sidecache hashes in Redis";
#[cfg(feature = "encryption")]
const TEXTS: &str = "sidecache texts in Redis, AES-256-GCM";
#[cfg(feature = "encryption")]
const SEALING: &str = "sidecache value in Redis, AES-256-GCM";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(secret: Option<&str>, keys: &[(&str, u8)]) -> Seal {
        let mut options = RedisOptions::new("redis://h");
        options.secret = secret.map(str::to_owned);
        let key = |(name, octet): &(&str, u8)| crate::store::EncryptionKey { name: (*name).to_owned(), octets: [*octet; 32] };
        options.encryption = keys.iter().map(key).collect();
        Seal::of(&options)
    }

    /// Each way in which a build can protect values.
    fn all() -> Vec<(&'static str, Seal)> {
        let mut all = vec![("checksum", seal(None, &[])), ("code", seal(Some("secret"), &[]))];
        if cfg!(feature = "encryption") {
            all.push(("sealed", seal(Some("secret"), &[("k1", 1)])));
        }
        all
    }

    const HEAD: &[u8] = &[b'h'; 1000];
    const BODY: &[u8] = &[b'b'; 3000];

    #[test]
    fn what_is_closed_under_a_name_opens_under_that_name_alone() {
        for (way, seal) in all() {
            for (head, body) in [(HEAD, BODY), (HEAD, b""), (b"", BODY), (b"", b"")] {
                let value = seal.close("name", head, body);
                let (opened, rest) = seal.open("name", value.clone()).unwrap();
                assert_eq!((&opened[..], &rest[..]), (head, body), "{way}");
                assert_eq!(seal.open_head("name", value.clone()).unwrap(), head, "{way}");
                for other in ["nam", "name2", "eman", ""] {
                    assert!(seal.open(other, value.clone()).is_err(), "{way} {other}");
                    assert!(seal.open_head(other, value.clone()).is_err(), "{way} {other}");
                }
            }
            let value = seal.close("name", HEAD, BODY);
            assert_eq!(seal.open_head("name", value[..1200].to_vec()).unwrap(), HEAD, "{way}");
            assert_eq!(seal.open_head("name", value[..1000].to_vec()), Err(RecordError::Malformed), "{way}");
        }
    }

    #[test]
    fn every_bit_of_4_kb_that_is_turned_and_every_cut_and_addition_is_noticed() {
        for (way, seal) in all() {
            let whole = seal.close("name", HEAD, BODY);
            assert!(whole.len() >= 4000);
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut turned = whole.clone();
                    turned[at] ^= 1 << bit;
                    assert!(seal.open("name", turned).is_err(), "{way}: bit {bit} of octet {at}");
                }
                assert!(seal.open("name", whole[..at].to_vec()).is_err(), "{way}: cut at {at}");
                assert!(seal.open("name", whole[at + 1..].to_vec()).is_err(), "{way}: cut before {at}");
            }
            for more in [&[0; 1][..], &[0; 8], &[0; 16], &[0; 32], &whole] {
                assert!(seal.open("name", [&whole, more].concat()).is_err(), "{way}: {} more", more.len());
            }
        }
    }

    #[test]
    fn pieces_of_two_values_make_no_third() {
        for (way, seal) in all() {
            let (one, other) = (seal.close("name", HEAD, BODY), seal.close("name", &[b'i'; 1000], &[b'c'; 3000]));
            for cut in [4, 8, 8 + 3 + 32, 8 + 3 + 44, 500, one.len() - 3000 - seal.tag_bytes(), one.len() - seal.tag_bytes()] {
                let third = [&one[..cut], &other[cut..]].concat();
                let is_new = third != one && third != other;
                assert_eq!(seal.open("name", third).is_err(), is_new, "{way}: {cut}");
            }
        }
    }

    #[test]
    fn what_is_protected_otherwise_is_refused_with_its_reason() {
        let (plain, code) = (seal(None, &[]), seal(Some("secret"), &[]));
        let check = |seal: &Seal, value: &[u8], expected| assert_eq!(seal.open("n", value.to_vec()), Err(expected));
        for seal in [&plain, &code] {
            check(seal, b"", RecordError::Foreign);
            check(seal, b"{\"json\":true}", RecordError::Foreign);
            check(seal, b"SC", RecordError::Malformed);
            check(seal, b"SC\x04\x01", RecordError::Version(4));
        }
        check(&plain, b"SC\x05\x00", RecordError::Malformed);
        check(&plain, &code.close("n", b"h", b""), RecordError::Protection);
        check(&code, &plain.close("n", b"h", b""), RecordError::Protection);
        check(&code, &seal(Some("another"), &[]).close("n", b"h", b""), RecordError::Forged);
    }

    #[cfg(feature = "encryption")]
    #[test]
    fn keys_can_be_exchanged_one_after_the_other() {
        let with = |keys| seal(Some("secret"), keys);
        let (old, both, new) = (with(&[("k1", 1)]), with(&[("k2", 2), ("k1", 1)]), with(&[("k2", 2)]));
        let by_old = old.close("n", HEAD, BODY);
        assert!(both.open("n", by_old.clone()).is_ok());
        assert_eq!(new.open("n", by_old), Err(RecordError::Key));
        let by_both = both.close("n", HEAD, BODY);
        assert!(new.open("n", by_both.clone()).is_ok());
        assert_eq!(old.open("n", by_both.clone()), Err(RecordError::Key));
        // The name of a key says nothing about it.
        assert_eq!(with(&[("k2", 3)]).open("n", by_both), Err(RecordError::Forged));
    }

    #[cfg(feature = "encryption")]
    #[test]
    fn nothing_can_be_read_and_nothing_is_sealed_twice_in_the_same_way() {
        let (_, seal) = all().pop().unwrap();
        let [one, other] = [0, 1].map(|_| seal.close("name", HEAD, BODY));
        for value in [&one, &other] {
            assert!(!value.windows(8).any(|window| window == &HEAD[..8] || window == &BODY[..8]));
        }
        let from = PLAIN_BYTES + 1 + 2;
        assert_ne!(one[from..from + SALT_BYTES], other[from..from + SALT_BYTES]);
        let apart = one[from..].iter().zip(&other[from..]).filter(|(one, other)| one != other).count();
        assert!(apart > one.len() * 9 / 10, "{apart}");
    }

    #[test]
    fn a_line_of_text_is_itself_where_there_is_no_secret_and_is_read_back_everywhere() {
        let mut options = RedisOptions::new("redis://h");
        let plain = Seal::of_texts(&options);
        options.secret = Some("secret".to_owned());
        for (way, seal) in [("checksum", plain), ("secret", Seal::of_texts(&options))] {
            let is_hidden = way == "secret" && cfg!(feature = "encryption");
            assert_eq!(seal.close_text("list", "customer:42").windows(8).any(|window| window == b"customer"), !is_hidden);
            let value = seal.close_text("list", "customer:42");
            assert_eq!(value == b"customer:42", way == "checksum");
            assert_eq!(seal.open_text("list", value.clone()).as_deref(), Some("customer:42"), "{way}");
            let other = seal.open_text("other", value);
            assert_eq!(other.is_some(), way == "checksum");
            assert_eq!(seal.open_text("list", b"planted".to_vec()).is_some(), way == "checksum");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200), way in 0u8..3) {
            let before = [&b"SC"[..], &[VERSION, way], &octets].concat();
            for (_, seal) in all() {
                for value in [&octets, &before] {
                    let _ = seal.open("n", value.clone());
                    let _ = seal.open_head("n", value.clone());
                }
            }
        }
    }
}

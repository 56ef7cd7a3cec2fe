//! Bearer tokens whose claims say who asks: JWTs (RFC 7519), verified against the keys of a file (a JWKS, RFC 7517).
//!
//! A claim identifies only if the token holds: signed by one of the keys, with that key's algorithm and an asymmetric one; for this
//! issuer and audience; begun, and not ended. Of any other token nothing is believed.

use super::identity;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which tokens hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenOptions {
    /// The keys that sign them, as a JWKS.
    pub jwks_file: Option<PathBuf>,
    /// Who must have issued them.
    pub issuer: Option<String>,
    /// For whom they must be.
    pub audience: Option<String>,
    /// How far the issuer's clock may be ahead of ours. Of the end of a token nothing is given away.
    pub leeway: Duration,
}

/// What verifies tokens. It remembers those that held, so that a hit does not verify a signature.
pub struct Verifier {
    keys: JwkSet,
    options: TokenOptions,
    verified: Cache<[u8; 32], Arc<Verified>>,
    now: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

/// A token that holds, for the time that it says.
pub(super) struct Verified {
    claims: Map<String, Value>,
    begins: f64,
    ends: f64,
}

impl Verifier {
    /// Reads the keys; the error says what is wrong with them.
    pub fn new(
        jwks: &[u8],
        options: TokenOptions,
        now: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Result<Verifier, serde_json::Error> {
        let keys = serde_json::from_slice(jwks)?;
        Ok(Verifier { keys, options, verified: Cache::new(VERIFIED_MAX), now: Box::new(now) })
    }

    /// The bearer token of a request, if it holds.
    pub(super) fn holding(&self, fields: &HeaderMap) -> Option<Arc<Verified>> {
        let mut lines = fields.get_all(AUTHORIZATION).iter();
        let (line, None) = (lines.next()?, lines.next()) else { return None };
        let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        self.verify(token.trim())
    }

    fn verify(&self, token: &str) -> Option<Arc<Verified>> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let verified = match self.verified.get(&digest) {
            Some(verified) => verified,
            None => {
                let verified = Arc::new(self.verify_anew(token)?);
                self.verified.insert(digest, verified.clone());
                verified
            }
        };
        let now = (self.now)().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        let holds = verified.begins <= now + self.options.leeway.as_secs_f64() && now < verified.ends;
        holds.then_some(verified)
    }

    fn verify_anew(&self, token: &str) -> Option<Verified> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = match (&header.kid, self.keys.keys.as_slice()) {
            (Some(kid), _) => self.keys.find(kid)?,
            (None, [only]) => only,
            (None, _) => return None,
        };
        if !may_sign(key, header.alg) {
            return None;
        }
        let mut validation = Validation::new(header.alg);
        // Its times are judged by the clock that requests are judged by, each time anew.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims = ["exp".to_owned()].into();
        match &self.options.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.options.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        let key = DecodingKey::from_jwk(key).ok()?;
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).ok()?.claims;
        let ends = claims.get("exp")?.as_f64()?;
        let begins = match claims.get("nbf") {
            Some(begins) => begins.as_f64()?,
            None => f64::MIN,
        };
        Some(Verified { claims, begins, ends })
    }
}

impl Verified {
    /// Who asks, by these claims: an encoding without ambiguity. `None` if one of them is not there.
    pub(super) fn says(&self, names: &[String]) -> Option<Vec<u8>> {
        let mut values = vec![self.claims.get("iss")];
        for name in names {
            values.push(Some(self.claims.get(name).filter(|value| !value.is_null())?));
        }
        serde_json::to_vec(&values).ok()
    }

    /// When it ends.
    pub(super) fn ends(&self) -> Option<SystemTime> {
        identity::time(self.ends)
    }
}

/// Whether a key may have signed by this algorithm: an asymmetric one, for which the key is.
fn may_sign(key: &Jwk, algorithm: Algorithm) -> bool {
    let is_symmetric = matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
        || matches!(key.algorithm, AlgorithmParameters::OctetKey(_));
    let is_for_signing = key.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let says_the_same = key.common.key_algorithm.is_none_or(|stated| stated.to_string() == format!("{algorithm:?}"));
    !is_symmetric && is_for_signing && says_the_same
}

/// So many tokens are remembered, of less than a kilobyte each as a rule.
const VERIFIED_MAX: usize = 4096;

//! Tokens, and the keys that they are verified with.

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;

/// An issuer of tokens.
pub struct Issuer {
    pub key: EncodingKey,
    pub kid: &'static str,
}

impl Issuer {
    pub fn new(kid: &'static str) -> Issuer {
        let pair = rcgen::KeyPair::generate().unwrap();
        Issuer { key: EncodingKey::from_ec_der(&pair.serialize_der()), kid }
    }

    pub fn jwks(&self) -> String {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.kid.to_owned());
        serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap()
    }

    pub fn token(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::ES256) };
        format!("Bearer {}", encode(&header, claims, &self.key).unwrap())
    }
}

//! Signed claims (JWS, compact form), as service accounts' tokens are made of.
//!
//! One key pair per cluster, made at first start and kept in `pki/sa.key`; its public half is what
//! `/openid/v1/jwks` shows the world. ES256: small and quick to make, which matters as every pod gets a token.

use crate::files;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// The algorithm of all our signatures.
pub(crate) const ALGORITHM: &str = "ES256";
/// What precedes a P-256 point in a SubjectPublicKeyInfo.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The cluster's key for tokens.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key of tokens")]
    Read(#[source] std::io::Error),
    #[error("cannot write the key of tokens")]
    Write(#[source] std::io::Error),
    #[error("the key of tokens is no P-256 key in PKCS #8; move it away to have a new one made")]
    Damaged,
    #[error("cannot make a key of tokens")]
    Make(#[source] rcgen::Error),
}

/// A token that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("the token is not of the form header.claims.signature")]
    Form,
    #[error("the token is signed with another algorithm or key")]
    Signer,
    #[error("the signature does not match")]
    Signature,
    #[error("the claims cannot be read")]
    Claims,
}

impl Key {
    /// The key in a file, made if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, KeyError> {
        let pem = match std::fs::read_to_string(path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = rcgen::KeyPair::generate().map_err(KeyError::Make)?.serialize_pem();
                files::write_private(path, pem.as_bytes()).map_err(KeyError::Write)?;
                pem
            }
            Err(error) => return Err(KeyError::Read(error)),
        };
        Self::from_pem(&pem)
    }

    fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Damaged)?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|_| KeyError::Damaged)?;
        let mut spki = SPKI_HEAD.to_vec();
        spki.extend_from_slice(pair.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(&spki));
        Ok(Key { pair, id, random })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, ring::error::Unspecified> {
        let header = json!({ "alg": ALGORITHM, "kid": self.id });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.pair.sign(&self.random, token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of a token of ours. Says nothing about whether they still hold.
    pub(crate) fn verify<T: DeserializeOwned>(&self, token: &str) -> Result<T, Invalid> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(Invalid::Form)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Invalid::Form);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| Invalid::Form)?;
        let foreign = header.get("kid").is_some_and(|id| *id != *self.id);
        if header["alg"] != ALGORITHM || foreign {
            return Err(Invalid::Signer);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| Invalid::Signature)?;
        serde_json::from_slice(&decode(claims)?).map_err(|_| Invalid::Claims)
    }

    /// The public half, as `/openid/v1/jwks` shows it.
    pub(crate) fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": ALGORITHM,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_signed_holds() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::open(&dir.path().join("sa.key")).unwrap();
        let again = Key::open(&dir.path().join("sa.key")).unwrap();
        let other = Key::open(&dir.path().join("other.key")).unwrap();
        let claims = json!({ "sub": "x" });
        let token = key.sign(&claims).unwrap();
        assert_eq!(again.verify::<Value>(&token), Ok(claims));
        assert_eq!(other.verify::<Value>(&token), Err(Invalid::Signer));
        let parts: Vec<&str> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(json!({ "sub": "y" }).to_string());
        let forged = format!("{}.{forged}.{}", parts[0], parts[2]);
        assert_eq!(key.verify::<Value>(&forged), Err(Invalid::Signature));
        let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none" }).to_string());
        assert_eq!(
            key.verify::<Value>(&format!("{none}.{}.", parts[1])),
            Err(Invalid::Signer)
        );
        assert_eq!(key.verify::<Value>("a.b"), Err(Invalid::Form));
        assert_eq!(key.jwks()["keys"][0]["kid"].as_str().map(str::len), Some(43));
    }
}

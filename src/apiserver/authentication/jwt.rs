//! JSON Web Tokens as Kubernetes signs them: RS256 with RSA keys, ES256 with P-256 keys (RFC 7515, RFC 7518).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a key or a token is no good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file holds no PEM block that is a key.
    #[error("no private or public key found (PEM: RSA PRIVATE KEY, EC PRIVATE KEY, PRIVATE KEY or PUBLIC KEY)")]
    NoKey,
    /// A PEM block is damaged.
    #[error("cannot read a PEM block: {0}")]
    Pem(String),
    /// The key is neither RSA (2048 bits or more) nor P-256.
    #[error("unsupported key: only RSA of at least 2048 bits and ECDSA P-256 can be used ({0})")]
    UnsupportedKey(String),
    /// Signing failed.
    #[error("cannot sign a token")]
    Sign,
    /// The token has not three parts of base64url and JSON.
    #[error("malformed token")]
    Malformed,
    /// No key here made the signature.
    #[error("the token's signature was not made by any known key")]
    Signature,
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Kubernetes' key id: base64url of the SHA-256 of the public key's SubjectPublicKeyInfo.
    pub id: String,
    algorithm: Algorithm,
    /// RSA: `RSAPublicKey` in DER. P-256: the uncompressed point.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
        }
    }
}

/// A key that signs.
#[derive(Debug)]
pub struct SigningKey {
    public: PublicKey,
    pair: Pair,
    random: SystemRandom,
}

#[derive(Debug)]
enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// The first private key in PEM text: PKCS #1, SEC 1 or PKCS #8.
    ///
    /// # Errors
    /// If there is none or it is of another kind.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        for section in sections(pem)? {
            if let Some(key) = Self::from_section(section.0, &section.1)? {
                return Ok(key);
            }
        }
        Err(Error::NoKey)
    }

    fn from_section(kind: SectionKind, der: &[u8]) -> Result<Option<Self>, Error> {
        let unsupported = |error: ring::error::KeyRejected| Error::UnsupportedKey(error.to_string());
        let random = SystemRandom::new();
        let p256 = |pkcs8: &[u8]| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random);
        let pair = match kind {
            SectionKind::RsaPrivateKey => Pair::Rsa(Box::new(RsaKeyPair::from_der(der).map_err(unsupported)?)),
            SectionKind::EcPrivateKey => Pair::P256(Box::new(p256(&pkcs8_of_sec1(der)).map_err(unsupported)?)),
            SectionKind::PrivateKey => match p256(der) {
                Ok(pair) => Pair::P256(Box::new(pair)),
                Err(_) => Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).map_err(unsupported)?)),
            },
            _ => return Ok(None),
        };
        let public = match &pair {
            Pair::Rsa(pair) => PublicKey::new(Algorithm::Rs256, pair.public_key().as_ref().to_vec()),
            Pair::P256(pair) => PublicKey::new(Algorithm::Es256, pair.public_key().as_ref().to_vec()),
        };
        Ok(Some(Self { public, pair, random }))
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The token that says `claims`.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let header = json!({"alg": self.public.algorithm.name(), "kid": self.public.id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", encode(&header), encode(claims));
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature)
                    .map_err(|_| Error::Sign)?;
                signature
            }
            Pair::P256(pair) => pair.sign(&self.random, token.as_bytes()).map_err(|_| Error::Sign)?.as_ref().to_vec(),
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl PublicKey {
    fn new(algorithm: Algorithm, bytes: Vec<u8>) -> Self {
        let mut key = Self { id: String::new(), algorithm, bytes };
        key.id = URL_SAFE_NO_PAD.encode(Sha256::digest(key.subject_public_key_info()));
        key
    }

    /// All keys in PEM text, the public halves of private ones among them.
    ///
    /// # Errors
    /// If there is none or one is of another kind.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, Error> {
        let mut keys = Vec::new();
        for (kind, der) in sections(pem)? {
            if kind == SectionKind::PublicKey {
                keys.push(Self::from_subject_public_key_info(&der)?);
            } else if let Some(key) = SigningKey::from_section(kind, &der)? {
                keys.push(key.public);
            }
        }
        if keys.is_empty() { Err(Error::NoKey) } else { Ok(keys) }
    }

    fn from_subject_public_key_info(der: &[u8]) -> Result<Self, Error> {
        let (_, info) =
            SubjectPublicKeyInfo::from_der(der).map_err(|error| Error::UnsupportedKey(error.to_string()))?;
        let bytes = info.subject_public_key.data.to_vec();
        match info.parsed() {
            Ok(x509_parser::public_key::PublicKey::RSA(_)) => Ok(Self::new(Algorithm::Rs256, bytes)),
            Ok(x509_parser::public_key::PublicKey::EC(_)) if bytes.len() == 65 => {
                Ok(Self::new(Algorithm::Es256, bytes))
            }
            _ => Err(Error::UnsupportedKey(info.algorithm.algorithm.to_id_string())),
        }
    }

    /// A key as providers publish it (RFC 7517), called by its own id; `None` if it is of another kind.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?.trim_end_matches('=')).ok();
        let mut key = match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
            ("RSA", _) => {
                let integer = |bytes: Vec<u8>| {
                    let bytes = strip_zeros(&bytes).to_vec();
                    // A leading one would be a sign.
                    let sign: &[u8] = if bytes.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
                    tlv(INTEGER, &[sign, bytes.as_slice()].concat())
                };
                let bytes = tlv(SEQUENCE, &[integer(part("n")?), integer(part("e")?)].concat());
                Self::new(Algorithm::Rs256, bytes)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (part("x")?, part("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Self::new(Algorithm::Es256, [&[4], x.as_slice(), &y].concat())
            }
            _ => return None,
        };
        key.id = jwk["kid"].as_str().unwrap_or_default().to_owned();
        Some(key)
    }

    fn subject_public_key_info(&self) -> Vec<u8> {
        let algorithm = match self.algorithm {
            Algorithm::Rs256 => tlv(SEQUENCE, &[RSA_ENCRYPTION, &[0x05, 0x00]].concat()),
            Algorithm::Es256 => tlv(SEQUENCE, &[EC_PUBLIC_KEY, PRIME256V1].concat()),
        };
        let bits = tlv(BIT_STRING, &[&[0], self.bytes.as_slice()].concat());
        tlv(SEQUENCE, &[algorithm, bits].concat())
    }

    /// The key as a JSON Web Key (RFC 7517), as `/openid/v1/jwks` shows it.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self.algorithm {
            Algorithm::Rs256 => {
                // What was made a key by ring or x509-parser is an RSAPublicKey.
                let Ok((_, key)) = RSAPublicKey::from_der(&self.bytes) else { return Value::Null };
                json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                    "n": encode(strip_zeros(key.modulus)), "e": encode(strip_zeros(key.exponent))})
            }
            Algorithm::Es256 => json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
                "x": encode(&self.bytes[1..33]), "y": encode(&self.bytes[33..65])}),
        }
    }

    /// `RS256` or `ES256`.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm.name()
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self.algorithm {
            Algorithm::Rs256 => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.bytes).verify(message, signature)
            }
            Algorithm::Es256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.bytes).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

fn strip_zeros(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros..]
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// What a token says, whoever signed it; only to find out whose business it is.
///
/// # Errors
/// [`Error::Malformed`].
pub fn unverified_claims(token: &str) -> Result<Value, Error> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Error::Malformed);
    };
    decode(claims)
}

/// What a token says, if one of `keys` signed it. Times and audiences are the caller's to check.
///
/// # Errors
/// [`Error::Malformed`] or [`Error::Signature`].
pub fn verify(token: &str, keys: &[PublicKey]) -> Result<Value, Error> {
    let (message, signature) = token.rsplit_once('.').ok_or(Error::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(Error::Malformed)?;
    let header: Header = decode(header)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Error::Malformed)?;
    keys.iter()
        // The token says which kind of key made it; the key has the last word, or "alg" could be forged.
        .filter(|key| key.algorithm.name() == header.alg)
        .filter(|key| header.kid.is_empty() || key.id.is_empty() || header.kid == key.id)
        .any(|key| key.verify(message.as_bytes(), &signature))
        .then(|| decode(claims))
        .ok_or(Error::Signature)?
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Error::Malformed)
}

fn sections(pem: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, Error> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Pem(error.to_string()))
}

// The few bytes of DER (X.690) that are needed to name and to wrap keys.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const PRIME256V1: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    match content.len() {
        0..0x80 => out.push(length[length.len() - 1]),
        _ => {
            let length = strip_zeros(&length);
            out.push(0x80 | length.len() as u8);
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
    out
}

/// PKCS #8 around a SEC 1 key of P-256: what `openssl ecparam -genkey` and Go write as `EC PRIVATE KEY`.
fn pkcs8_of_sec1(sec1: &[u8]) -> Vec<u8> {
    let version: &[u8] = &[0x02, 0x01, 0x00];
    let algorithm = tlv(SEQUENCE, &[EC_PUBLIC_KEY, PRIME256V1].concat());
    tlv(SEQUENCE, &[version, &algorithm, &tlv(OCTET_STRING, sec1)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::test_keys;

    #[test]
    fn every_kind_of_key_signs_what_it_verifies() {
        for pem in [test_keys::P256_PKCS8, test_keys::P256_SEC1, test_keys::RSA_PKCS1, test_keys::RSA_PKCS8] {
            let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
            let token = key.sign(&json!({"sub": "x"})).unwrap();
            assert_eq!(verify(&token, std::slice::from_ref(key.public())).unwrap(), json!({"sub": "x"}));
            let other = if pem.contains("RSA") { test_keys::P256_PKCS8 } else { test_keys::RSA_PKCS1 };
            let others = PublicKey::all_from_pem(other.as_bytes()).unwrap();
            if others[0] != *key.public() {
                assert!(matches!(verify(&token, &others), Err(Error::Signature)));
            }
        }
    }

    #[test]
    fn a_published_key_checks_what_its_private_half_signed() {
        for pem in [test_keys::P256_PKCS8, test_keys::RSA_PKCS1] {
            let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
            let published = PublicKey::from_jwk(&key.public().jwk()).unwrap();
            assert_eq!(published, *key.public());
            assert!(verify(&key.sign(&json!({"sub": "x"})).unwrap(), &[published]).is_ok());
        }
        assert_eq!(PublicKey::from_jwk(&json!({"kty": "oct", "k": "AAAA"})), None);
        assert_eq!(PublicKey::from_jwk(&json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"})), None);
    }

    #[test]
    fn a_changed_claim_or_algorithm_is_refused() {
        let key = SigningKey::from_pem(test_keys::P256_PKCS8.as_bytes()).unwrap();
        let keys = [key.public().clone()];
        let token = key.sign(&json!({"sub": "x"})).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"sub":"admin"}"#);
        assert!(matches!(verify(&format!("{}.{forged}.{}", parts[0], parts[2]), &keys), Err(Error::Signature)));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert!(matches!(verify(&format!("{none}.{}.", parts[1]), &keys), Err(Error::Signature)));
        for bad in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d"] {
            assert!(verify(bad, &keys).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_id_is_the_hash_of_the_subject_public_key_info() {
        let private = SigningKey::from_pem(test_keys::RSA_PKCS1.as_bytes()).unwrap();
        let public = PublicKey::all_from_pem(test_keys::RSA_PUBLIC.as_bytes()).unwrap();
        assert_eq!(private.public(), &public[0]);
        assert_eq!(private.public().id, test_keys::RSA_KEY_ID);
        assert_eq!(private.public().jwk()["e"], "AQAB");
    }
}

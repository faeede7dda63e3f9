//! Text encrypted with a password, in k3s's form: a salt, a colon, and in base64 the nonce and the text under AES-256-GCM.
//! The cipher's key is PBKDF2 of the password and the salt, with SHA-1 and 4,096 rounds.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA1};
use ring::rand::{SecureRandom, SystemRandom};

use super::Error;

const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");

fn cipher(password: &str, salt: &str) -> Result<LessSafeKey, Error> {
    let mut key = [0; 32];
    pbkdf2::derive(PBKDF2_HMAC_SHA1, ROUNDS, salt.as_bytes(), password.as_bytes(), &mut key);
    let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(LessSafeKey::new(key))
}

/// Encrypts `text`.
///
/// # Errors
/// [`Error::Random`].
pub(super) fn seal(password: &str, text: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut salt, mut nonce) = ([0; 8], [0; NONCE_LEN]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| Error::Random)?;
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut sealed = text.to_vec();
    cipher(password, &salt)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .map_err(|_| Error::Random)?;
    Ok(format!("{salt}:{}", STANDARD.encode([&nonce[..], &sealed].concat())).into_bytes())
}

/// The text that was [`seal`]ed.
///
/// # Errors
/// [`Error::Damaged`], also for another password.
pub(super) fn open(password: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
    let damaged = |why: &str| Error::Damaged(why.to_owned());
    let value = std::str::from_utf8(value).map_err(|_| damaged("it is no text"))?;
    let (salt, sealed) = value.split_once(':').ok_or_else(|| damaged("it has no salt"))?;
    let sealed = STANDARD.decode(sealed).map_err(|error| Error::Damaged(error.to_string()))?;
    let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(|| damaged("it is too short"))?;
    let mut text = text.to_vec();
    let opened = cipher(password, salt)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut text)
        .map_err(|_| damaged("it was not encrypted with this token"))?;
    Ok(opened.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_sealed_in_this_form_is_opened() {
        // By Python's hashlib.pbkdf2_hmac and the AESGCM of its cryptography.
        let theirs = b"0123456789abcdef:AAECAwQFBgcICQoLhmFvG9dpOcuqqomx4qxt53E5TVU=";
        assert_eq!(open("secret", theirs).unwrap(), b"text");
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_password_only() {
        let sealed = seal("secret", b"text").unwrap();
        assert_eq!(open("secret", &sealed).unwrap(), b"text");
        assert_ne!(seal("secret", b"text").unwrap(), sealed);
        assert!(open("other", &sealed).unwrap_err().to_string().contains("not encrypted with this token"));
        for broken in [&b""[..], b"salt", b"salt:", b"salt:AAAA", b"\xff", &sealed[..sealed.len() - 4]] {
            assert!(matches!(open("secret", broken), Err(Error::Damaged(_))), "{broken:?}");
        }
    }
}

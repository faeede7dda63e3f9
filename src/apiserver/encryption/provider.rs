//! The ways to encrypt a value, each in Kubernetes' form.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyInit as _, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::generic_array::typenum::U12;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{AesGcm, Nonce};
use bytes::Bytes;
use crypto_secretbox::XSalsa20Poly1305;
use ring::rand::{SecureRandom, SystemRandom};

use super::ValueError;

/// What encrypted values begin with, whatever encrypted them.
const ENCRYPTED: &[u8] = b"k8s:enc:";
const BLOCK: usize = 16;
const GCM_NONCE: usize = 12;
const SECRETBOX_NONCE: usize = 24;

/// A way to encrypt, with the key it is done with.
pub(super) enum Provider {
    /// As it is.
    Identity,
    /// Encrypts and decrypts what begins with `prefix`.
    Cipher { prefix: String, key: String, cipher: Cipher },
}

/// A cipher with its key. AES takes keys of 16, 24 or 32 bytes, secretbox of 32.
pub(super) enum Cipher {
    AesCbc(Box<[u8]>),
    AesGcm(Gcm),
    Secretbox(Box<XSalsa20Poly1305>),
}

pub(super) enum Gcm {
    Aes128(Box<AesGcm<Aes128, U12>>),
    Aes192(Box<AesGcm<Aes192, U12>>),
    Aes256(Box<AesGcm<Aes256, U12>>),
}

impl Provider {
    /// What is stored for `value` at `key`.
    pub fn seal(&self, key: &[u8], value: Bytes) -> Bytes {
        match self {
            Self::Identity => value,
            Self::Cipher { prefix, cipher, .. } => {
                let mut sealed = prefix.clone().into_bytes();
                cipher.seal(key, &value, &mut sealed);
                sealed.into()
            }
        }
    }

    /// The value at `key`; `None` if it is another provider's or another key's.
    pub fn open(&self, key: &[u8], stored: &Bytes) -> Option<Result<Bytes, ValueError>> {
        match self {
            Self::Identity => (!stored.starts_with(ENCRYPTED)).then(|| Ok(stored.clone())),
            Self::Cipher { prefix, key: name, cipher } => {
                let sealed = stored.strip_prefix(prefix.as_bytes())?;
                let opened = cipher.open(key, sealed);
                Some(opened.map(Bytes::from).map_err(|detail| ValueError::Undecipherable { key: name.clone(), detail }))
            }
        }
    }
}

impl Cipher {
    fn seal(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        match self {
            // As in Kubernetes' `aescbc`: a random initialization vector, then the blocks, padded (PKCS #7).
            Self::AesCbc(secret) => {
                let vector = random::<BLOCK>();
                out.extend_from_slice(&vector);
                out.extend(match secret.len() {
                    16 => cbc_encrypt::<Aes128>(secret, &vector, value),
                    24 => cbc_encrypt::<Aes192>(secret, &vector, value),
                    _ => cbc_encrypt::<Aes256>(secret, &vector, value),
                });
            }
            // A random nonce, then the ciphertext with its tag; bound to the key it is stored at.
            Self::AesGcm(gcm) => {
                let nonce = random::<GCM_NONCE>();
                out.extend_from_slice(&nonce);
                let payload = Payload { msg: value, aad: key };
                let sealed = match gcm {
                    Gcm::Aes128(gcm) => gcm.encrypt(Nonce::from_slice(&nonce), payload),
                    Gcm::Aes192(gcm) => gcm.encrypt(Nonce::from_slice(&nonce), payload),
                    Gcm::Aes256(gcm) => gcm.encrypt(Nonce::from_slice(&nonce), payload),
                };
                out.extend(sealed.expect("a value shorter than 64 GiB"));
            }
            Self::Secretbox(secretbox) => {
                let nonce = random::<SECRETBOX_NONCE>();
                out.extend_from_slice(&nonce);
                out.extend(secretbox.encrypt(&nonce.into(), value).expect("a value that fits into memory"));
            }
        }
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, &'static str> {
        match self {
            Self::AesCbc(secret) => {
                let (vector, blocks) = sealed.split_at_checked(BLOCK).ok_or("it is too short")?;
                let opened = match secret.len() {
                    16 => cbc_decrypt::<Aes128>(secret, vector, blocks),
                    24 => cbc_decrypt::<Aes192>(secret, vector, blocks),
                    _ => cbc_decrypt::<Aes256>(secret, vector, blocks),
                };
                opened.ok_or("invalid padding on input")
            }
            Self::AesGcm(gcm) => {
                let (nonce, sealed) = sealed.split_at_checked(GCM_NONCE).ok_or("it is too short")?;
                let (nonce, payload) = (Nonce::from_slice(nonce), Payload { msg: sealed, aad: key });
                let opened = match gcm {
                    Gcm::Aes128(gcm) => gcm.decrypt(nonce, payload),
                    Gcm::Aes192(gcm) => gcm.decrypt(nonce, payload),
                    Gcm::Aes256(gcm) => gcm.decrypt(nonce, payload),
                };
                opened.map_err(|_| "message authentication failed")
            }
            Self::Secretbox(secretbox) => {
                let (nonce, sealed) = sealed.split_first_chunk::<SECRETBOX_NONCE>().ok_or("it is too short")?;
                secretbox.decrypt(nonce.into(), sealed).map_err(|_| "message authentication failed")
            }
        }
    }
}

impl Gcm {
    /// `secret` is 16, 24 or 32 bytes.
    pub fn new(secret: &[u8]) -> Option<Self> {
        Some(match secret.len() {
            16 => Self::Aes128(Box::new(AesGcm::new_from_slice(secret).ok()?)),
            24 => Self::Aes192(Box::new(AesGcm::new_from_slice(secret).ok()?)),
            32 => Self::Aes256(Box::new(AesGcm::new_from_slice(secret).ok()?)),
            _ => return None,
        })
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("random numbers of the kernel");
    bytes
}

fn cbc_encrypt<C>(secret: &[u8], vector: &[u8], value: &[u8]) -> Vec<u8>
where
    C: aes::cipher::BlockEncryptMut + aes::cipher::BlockCipher,
    cbc::Encryptor<C>: KeyIvInit,
{
    let encryptor = cbc::Encryptor::<C>::new_from_slices(secret, vector).expect("a key of the cipher's size");
    encryptor.encrypt_padded_vec_mut::<Pkcs7>(value)
}

fn cbc_decrypt<C>(secret: &[u8], vector: &[u8], blocks: &[u8]) -> Option<Vec<u8>>
where
    C: aes::cipher::BlockDecryptMut + aes::cipher::BlockCipher,
    cbc::Decryptor<C>: KeyIvInit,
{
    let decryptor = cbc::Decryptor::<C>::new_from_slices(secret, vector).ok()?;
    decryptor.decrypt_padded_vec_mut::<Pkcs7>(blocks).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes_gcm::aead::KeyInit;

    fn ciphers(size: usize) -> Vec<Cipher> {
        let secret: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
        let mut ciphers = vec![Cipher::AesCbc(secret.clone().into()), Cipher::AesGcm(Gcm::new(&secret).unwrap())];
        if size == 32 {
            ciphers.push(Cipher::Secretbox(Box::new(XSalsa20Poly1305::new_from_slice(&secret).unwrap())));
        }
        ciphers
    }

    #[test]
    fn every_cipher_reads_what_it_wrote_and_never_writes_the_same_twice() {
        for cipher in [16, 24, 32].into_iter().flat_map(ciphers) {
            for value in [&b""[..], b"a", &[7; 16], &[8; 10_000]] {
                let (mut once, mut twice) = (Vec::new(), Vec::new());
                cipher.seal(b"/registry/secrets/n/a", value, &mut once);
                cipher.seal(b"/registry/secrets/n/a", value, &mut twice);
                assert_ne!(once, twice);
                assert_eq!(cipher.open(b"/registry/secrets/n/a", &once).unwrap(), value);
            }
        }
    }

    #[test]
    fn damaged_and_short_values_are_refused() {
        for cipher in ciphers(32) {
            let mut sealed = Vec::new();
            cipher.seal(b"key", b"a value of more than one block", &mut sealed);
            assert!(cipher.open(b"key", &sealed[..sealed.len() - 1]).is_err());
            assert!(cipher.open(b"key", b"").is_err());
            if !matches!(cipher, Cipher::AesCbc(_)) {
                let last = sealed.len() - 1;
                sealed[last] ^= 1;
                assert!(cipher.open(b"key", &sealed).is_err());
            }
        }
    }

    #[test]
    fn gcm_binds_a_value_to_where_it_is_stored() {
        let cipher = Cipher::AesGcm(Gcm::new(&[1; 32]).unwrap());
        let mut sealed = Vec::new();
        cipher.seal(b"/registry/secrets/n/a", b"value", &mut sealed);
        assert!(cipher.open(b"/registry/secrets/n/b", &sealed).is_err());
    }

    /// NIST SP 800-38A, F.2.1: the form on disk is what other implementations of the cipher make.
    #[test]
    fn cbc_is_the_standards() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let sealed = cbc_encrypt::<Aes128>(
            &hex("2b7e151628aed2a6abf7158809cf4f3c"),
            &hex("000102030405060708090a0b0c0d0e0f"),
            &hex("6bc1bee22e409f96e93d7e117393172a"),
        );
        assert_eq!(sealed[..16], hex("7649abac8119b246cee98e9b12e9197d"));
        assert_eq!(sealed.len(), 32);
    }
}

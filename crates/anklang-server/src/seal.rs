//! Sealing: what must not be read or changed by whoever sees it at rest or on its way: secrets of
//! webhooks, page tokens.
//!
//! ChaCha20-Poly1305 under a key of its own for each value: HKDF-SHA256 of our key and 256 random
//! bits, the salt. No key ever seals twice, so that the nonce is always zero and any number of values
//! can be sealed. A sealed value is a version byte, the length and text of the key's id, the salt,
//! and the ciphertext with its tag. What it belongs to, its *context*, is bound to it: moved
//! elsewhere it does not open.
//!
//! The first key seals, all of them open: a new key is put first, and the old one stays as long as
//! values sealed with it do.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

const VERSION: u8 = 1;
/// Bytes of a salt.
const SALT: usize = 32;
/// What the derived keys are for.
const PURPOSE: &[u8] = b"anklang seal 1";
/// The most bytes of a key's id.
pub const MAX_KEY_ID: usize = 32;

/// A key with the id under which sealed values name it.
#[derive(Clone)]
pub struct SealingKey {
    /// 1 to [`MAX_KEY_ID`] of a–z, 0–9 and hyphens.
    pub id: String,
    /// The key.
    pub key: [u8; 32],
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

/// Why something does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is no sealed value, or was changed, or belongs elsewhere.
    #[error("is not what was sealed")]
    Broken,
    /// Its key is not among ours.
    #[error("is sealed with the key {0:?}, which is not among keys.sealing")]
    UnknownKey(String),
    /// There is no key.
    #[error("there is no key to seal with")]
    NoKey,
}

/// The keys of this server.
pub struct Keys(Vec<SealingKey>);

impl Keys {
    /// The first of them seals.
    pub fn new(keys: &[SealingKey]) -> Keys {
        Keys(keys.to_vec())
    }

    /// Seals.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.0.first().ok_or(SealError::NoKey)?;
        let length = u8::try_from(key.id.len()).map_err(|_| SealError::NoKey)?;
        let mut sealed = vec![VERSION, length];
        sealed.extend(key.id.bytes());
        let aad = Aad::from([&sealed[..], context].concat());
        let mut salt = [0; SALT];
        let random = SystemRandom::new().fill(&mut salt);
        random.map_err(|_| SealError::NoKey)?;
        let mut text = plain.to_vec();
        once(&key.key, &salt)?
            .seal_in_place_append_tag(zero(), aad, &mut text)
            .map_err(|_| SealError::Broken)?;
        sealed.extend(salt);
        sealed.extend(text);
        Ok(sealed)
    }

    /// Opens what was sealed in the same context.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let [VERSION, length, rest @ ..] = sealed else {
            return Err(SealError::Broken);
        };
        let (id, rest) = rest
            .split_at_checked(usize::from(*length))
            .ok_or(SealError::Broken)?;
        let (salt, text) = rest.split_at_checked(SALT).ok_or(SealError::Broken)?;
        let key = self
            .0
            .iter()
            .find(|known| known.id.as_bytes() == id)
            .ok_or_else(|| SealError::UnknownKey(String::from_utf8_lossy(id).into_owned()))?;
        let header = &sealed[..2 + id.len()];
        let aad = Aad::from([header, context].concat());
        let mut text = text.to_vec();
        let plain = once(&key.key, salt)?
            .open_in_place(zero(), aad, &mut text)
            .map_err(|_| SealError::Broken)?;
        Ok(plain.to_vec())
    }
}

/// The key of one value.
fn once(key: &[u8; 32], salt: &[u8]) -> Result<LessSafeKey, SealError> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(key);
    let derived = derived
        .expand(&[PURPOSE], &CHACHA20_POLY1305)
        .map_err(|_| SealError::Broken)?;
    Ok(LessSafeKey::new(UnboundKey::from(derived)))
}

/// Each key seals one value.
fn zero() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, byte: u8) -> SealingKey {
        SealingKey {
            id: id.into(),
            key: [byte; 32],
        }
    }

    #[test]
    fn what_is_sealed_opens_where_it_belongs() {
        let keys = Keys::new(&[key("a", 1)]);
        let sealed = keys.seal(b"here", b"secret").expect("a key");
        assert_eq!(keys.open(b"here", &sealed), Ok(b"secret".to_vec()));
        assert_eq!(keys.open(b"there", &sealed), Err(SealError::Broken));
        assert_ne!(keys.seal(b"here", b"secret").expect("a key"), sealed);
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
    }

    #[test]
    fn no_bit_can_be_changed_and_no_byte_be_missing() {
        let keys = Keys::new(&[key("a", 1), key("c", 1)]);
        let sealed = keys.seal(b"here", b"secret").expect("a key");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(b"here", &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(keys.open(b"here", &sealed[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn old_keys_open_what_they_sealed() {
        let sealed = Keys::new(&[key("old", 1)]).seal(b"x", b"1").expect("a key");
        let both = Keys::new(&[key("new", 2), key("old", 1)]);
        assert_eq!(both.open(b"x", &sealed), Ok(b"1".to_vec()));
        let resealed = both.seal(b"x", b"1").expect("a key");
        let new = Keys::new(&[key("new", 2)]);
        assert_eq!(new.open(b"x", &resealed), Ok(b"1".to_vec()));
        assert_eq!(
            new.open(b"x", &sealed),
            Err(SealError::UnknownKey("old".into()))
        );
        assert_eq!(Keys::new(&[]).seal(b"x", b"1"), Err(SealError::NoKey));
    }
}

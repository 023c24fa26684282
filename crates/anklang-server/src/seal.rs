//! Sealing: what must not be read or changed by whoever sees it at rest or on its way.
//!
//! XChaCha20-Poly1305 with a random nonce of 192 bits, so that any number of values can be sealed
//! under one key. A sealed value is a version byte, the length and text of the key's id, the nonce,
//! and the ciphertext with its tag. What it belongs to, its *context*, is bound to it: moved
//! elsewhere it does not open.
//!
//! The first key seals, all of them open: a new key is put first, and the old one stays as long as
//! values sealed with it do.

use chacha20poly1305::aead::{Aead, Generate, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

const VERSION: u8 = 1;
const NONCE: usize = 24;
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
pub struct Keys(Vec<(String, XChaCha20Poly1305)>);

impl Keys {
    /// The first of them seals.
    pub fn new(keys: &[SealingKey]) -> Keys {
        let cipher = |key: &SealingKey| XChaCha20Poly1305::new(&key.key.into());
        Keys(keys.iter().map(|k| (k.id.clone(), cipher(k))).collect())
    }

    /// Seals.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let (id, cipher) = self.0.first().ok_or(SealError::NoKey)?;
        let mut sealed = vec![
            VERSION,
            u8::try_from(id.len()).map_err(|_| SealError::NoKey)?,
        ];
        sealed.extend(id.bytes());
        let nonce = XNonce::generate();
        let aad = [&sealed[..], context.as_bytes()].concat();
        let payload = Payload {
            msg: plain,
            aad: &aad,
        };
        let ciphertext = cipher
            .encrypt(&nonce, payload)
            .map_err(|_| SealError::Broken)?;
        sealed.extend(nonce);
        sealed.extend(ciphertext);
        Ok(sealed)
    }

    /// Opens what was sealed in the same context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let [VERSION, length, rest @ ..] = sealed else {
            return Err(SealError::Broken);
        };
        let (id, rest) = rest
            .split_at_checked(usize::from(*length))
            .ok_or(SealError::Broken)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE).ok_or(SealError::Broken)?;
        let (_, cipher) = self
            .0
            .iter()
            .find(|(known, _)| known.as_bytes() == id)
            .ok_or_else(|| SealError::UnknownKey(String::from_utf8_lossy(id).into_owned()))?;
        let nonce = XNonce::try_from(nonce).map_err(|_| SealError::Broken)?;
        let header = &sealed[..2 + id.len()];
        let payload = Payload {
            msg: ciphertext,
            aad: &[header, context.as_bytes()].concat(),
        };
        cipher
            .decrypt(&nonce, payload)
            .map_err(|_| SealError::Broken)
    }
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
        let sealed = keys.seal("here", b"secret").expect("a key");
        assert_eq!(keys.open("here", &sealed), Ok(b"secret".to_vec()));
        assert_eq!(keys.open("there", &sealed), Err(SealError::Broken));
        assert_ne!(keys.seal("here", b"secret").expect("a key"), sealed);
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
    }

    #[test]
    fn no_bit_can_be_changed_and_no_byte_be_missing() {
        let keys = Keys::new(&[key("a", 1), key("c", 1)]);
        let sealed = keys.seal("here", b"secret").expect("a key");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open("here", &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(keys.open("here", &sealed[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn old_keys_open_what_they_sealed() {
        let sealed = Keys::new(&[key("old", 1)]).seal("x", b"1").expect("a key");
        let both = Keys::new(&[key("new", 2), key("old", 1)]);
        assert_eq!(both.open("x", &sealed), Ok(b"1".to_vec()));
        let resealed = both.seal("x", b"1").expect("a key");
        let new = Keys::new(&[key("new", 2)]);
        assert_eq!(new.open("x", &resealed), Ok(b"1".to_vec()));
        assert_eq!(
            new.open("x", &sealed),
            Err(SealError::UnknownKey("old".into()))
        );
        assert_eq!(Keys::new(&[]).seal("x", b"1"), Err(SealError::NoKey));
    }
}

//! Page tokens: the key of a page's last row, sealed.
//!
//! A token is the id of its key, a nonce and the row's key under XChaCha20-Poly1305; what it was
//! asked with (tenant, call, filter, order …) is associated data. So a caller can neither read,
//! change nor make one, nor use it for another list. Tokens do not expire: rows may have come and
//! gone, but what they name is a place in an order.

use chacha20poly1305::aead::{Aead, Generate, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

/// Bytes of a key.
pub const KEY_LENGTH: usize = 32;
/// Bytes of a key's id.
const ID_LENGTH: usize = 4;
/// Bytes of a nonce: enough of them to be chosen by chance.
const NONCE_LENGTH: usize = 24;

/// What tokens are sealed with. Cheap to clone.
#[derive(Clone)]
pub struct PageKey {
    id: [u8; ID_LENGTH],
    key: [u8; KEY_LENGTH],
}

impl PageKey {
    /// A key; all servers of one database need the same, or each refuses the others' tokens.
    pub fn new(key: [u8; KEY_LENGTH]) -> Self {
        let digest = Sha256::new()
            .chain_update(b"anklang page token")
            .chain_update(key)
            .finalize();
        let mut id = [0; ID_LENGTH];
        id.copy_from_slice(&digest[..ID_LENGTH]);
        PageKey { id, key }
    }

    /// A key of this process alone.
    pub fn random() -> Self {
        Self::new(Key::generate().into())
    }

    /// Seals `content` together with what it is for.
    pub fn seal(&self, content: &[u8], purpose: &[u8]) -> Vec<u8> {
        let nonce = XNonce::generate();
        let payload = Payload {
            msg: content,
            aad: purpose,
        };
        let sealed = self
            .cipher()
            .encrypt(&nonce, payload)
            .expect("only more than 256 GiB are too much");
        [&self.id[..], &nonce[..], &sealed[..]].concat()
    }

    /// Opens what was sealed with this key for the same purpose; `None` for all else.
    pub fn open(&self, token: &[u8], purpose: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = token.split_at_checked(ID_LENGTH)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LENGTH)?;
        if id != self.id {
            return None;
        }
        let payload = Payload {
            msg: sealed,
            aad: purpose,
        };
        let nonce = XNonce::try_from(nonce).ok()?;
        self.cipher().decrypt(&nonce, payload).ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.key.into())
    }
}

/// Shows no key.
impl std::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageKey({})", hex::encode(self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let (ours, other) = (PageKey::new([1; 32]), PageKey::new([2; 32]));
        let token = ours.seal(b"key", b"purpose");
        assert_eq!(ours.open(&token, b"purpose").as_deref(), Some(&b"key"[..]));
        assert_eq!(
            PageKey::new([1; 32]).open(&token, b"purpose"),
            ours.open(&token, b"purpose")
        );
        assert_eq!(ours.open(&token, b"another"), None);
        assert_eq!(other.open(&token, b"purpose"), None);
        assert_ne!(ours.seal(b"key", b"purpose"), token, "a nonce comes once");
        for i in 0..token.len() {
            let mut changed = token.clone();
            changed[i] ^= 1;
            assert_eq!(ours.open(&changed, b"purpose"), None, "byte {i}");
            assert_eq!(ours.open(&token[..i], b"purpose"), None, "{i} bytes");
        }
    }

    #[test]
    fn says_nothing_of_the_key() {
        assert!(!format!("{:?}", PageKey::new([7; 32])).contains("07070707"));
    }
}

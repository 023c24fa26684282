//! Links by which a recipient withdraws consent without logging in (RFC 8058).
//!
//! A token names a message, and so customer, channel and purpose, and is signed with a key of the
//! tenant (HMAC-SHA-256). It does not tell who the recipient is, cannot be made up, and never
//! expires: who finds an old mail must be able to use its link.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::{MessageId, TenantId};

/// Bytes of a token before its signature.
const NAMES: usize = 32;
/// Bytes of the signature: half of the hash, as RFC 2104 allows; 2^128 guesses.
const SIGNATURE: usize = 16;
/// Sets these signatures apart from others that may be made with the same key.
const USE: &[u8] = b"anklang unsubscribe 1\0";

/// The tenant that a token says it is of. Not to be trusted before [`open`].
pub fn tenant(token: &str) -> Option<TenantId> {
    let (names, _) = split(token)?;
    Some(TenantId(Uuid::from_slice(&names[..16]).ok()?))
}

/// The token of a message.
pub fn seal(key: &[u8], tenant: TenantId, message: MessageId) -> String {
    let mut token = [0; NAMES + SIGNATURE];
    token[..16].copy_from_slice(tenant.0.as_bytes());
    token[16..NAMES].copy_from_slice(message.0.as_bytes());
    let signature = signed(key, &token[..NAMES]).finalize().into_bytes();
    token[NAMES..].copy_from_slice(&signature[..SIGNATURE]);
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

/// The message that a token was made for; `None` when it was not made with the key.
pub fn open(key: &[u8], token: &str) -> Option<MessageId> {
    let (names, signature) = split(token)?;
    signed(key, &names).verify_truncated_left(&signature).ok()?;
    Some(MessageId(Uuid::from_slice(&names[16..]).ok()?))
}

fn signed(key: &[u8], names: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(USE);
    mac.update(names);
    mac
}

fn split(token: &str) -> Option<([u8; NAMES], [u8; SIGNATURE])> {
    if token.len() > 2 * (NAMES + SIGNATURE) {
        return None;
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let (names, signature) = bytes.split_at_checked(NAMES)?;
    Some((names.try_into().ok()?, signature.try_into().ok()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_whole_tokens_of_the_key_open(
            key: [u8; 32], other: [u8; 32], message: u128, of: u128, byte in 0..64usize, by in 1..64u8,
        ) {
            let (message, of) = (MessageId(Uuid::from_u128(message)), TenantId(Uuid::from_u128(of)));
            let token = seal(&key, of, message);
            prop_assert_eq!(token.len(), 64);
            prop_assert_eq!(tenant(&token), Some(of));
            prop_assert_eq!(open(&key, &token), Some(message));
            prop_assert!(key == other || open(&other, &token).is_none());
            // Another letter anywhere.
            const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let mut bytes = token.clone().into_bytes();
            let at = LETTERS.iter().position(|l| *l == bytes[byte]).unwrap();
            bytes[byte] = LETTERS[(at + usize::from(by)) % 64];
            prop_assert_eq!(open(&key, &String::from_utf8(bytes).unwrap()), None);
            prop_assert_eq!(open(&key, &token[..63]), None);
            let longer = format!("{token}A");
            prop_assert_eq!(open(&key, &longer), None);
        }
    }
}

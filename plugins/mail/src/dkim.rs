//! Signatures by which receivers know that a mail comes from the sender's domain: DKIM
//! (RFC 6376) with RSA and SHA-256, or Ed25519 (RFC 8463); canonicalisation relaxed/relaxed.
//!
//! Guarantees: what is signed is what goes over the wire; `From` is always signed. Lines that a
//! mail program shows, and those for withdrawing consent, are signed once more than they are there,
//! so that nobody can add another one.
//!
//! Why not a crate: lettre's own signing reads keys of one form only, cannot sign a line once
//! more, and signs with `rsa`, whose timing tells of the key (RUSTSEC-2023-0071); mail-auth wants
//! a DNS resolver of its own to sign with ring. The mathematics are ring's, which the program has
//! for TLS anyhow; here are only the two canonical forms.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{Context, SHA256};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::config::{Problems, Secret};

/// Lines that are signed if no others are configured.
const SIGNED: &[&str] = &[
    "from",
    "to",
    "cc",
    "subject",
    "reply-to",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe",
    "list-unsubscribe-post",
];
/// Of those, lines whose absence is signed as well.
const SEALED: &[&str] = &["from", "to", "cc", "subject", "reply-to"];
/// Longest line of the signature itself, in bytes.
const LINE: usize = 72;

/// A key with which mails are signed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DkimConfig {
    /// Domain that signs. Mails of senders of this domain, or of one below it, are signed.
    #[schemars(length(min = 1, max = 253))]
    domain: String,
    /// Under which name the public key is in the DNS: `<selector>._domainkey.<domain>`.
    #[schemars(
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?$"),
        length(max = 63)
    )]
    selector: String,
    /// Private key as PEM: RSA of at least 2,048 bits, or Ed25519. One of the three ways to give
    /// it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    key: Option<SecretString>,
    /// Environment variable with the key.
    key_env: Option<String>,
    /// File with the key.
    key_file: Option<PathBuf>,
    /// Header lines that are signed where they are there, instead of the usual ones. `From` is
    /// signed in any case.
    headers: Option<Vec<String>>,
}

/// A key that is ready to sign.
pub(crate) struct Signer {
    /// In ASCII, lower case.
    domain: String,
    selector: String,
    key: Key,
    /// Lower case; `from` first.
    headers: Vec<String>,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl DkimConfig {
    /// Reads the key; `index` is the place in the list, for what is wrong.
    pub(crate) async fn resolve(self, index: usize, problems: &mut Problems) -> Option<Signer> {
        let option = format!("dkim.{index}.key");
        let secret = Secret {
            option: &option,
            value: &self.key,
            env: &self.key_env,
            file: &self.key_file,
        };
        if !secret.is_given() {
            problems.add(&option, "is required");
        }
        let key = secret.read(problems).await.and_then(|pem| {
            Key::read(pem.as_bytes())
                .inspect_err(|reason| problems.add(&option, reason))
                .ok()
        });
        let domain = idna::domain_to_ascii(&self.domain);
        if domain.is_err() {
            problems.add(format!("dkim.{index}.domain"), "is no domain");
        }
        let names = match self.headers {
            Some(names) => names.into_iter().map(|n| n.to_ascii_lowercase()).collect(),
            None => SIGNED.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(),
        };
        let mut headers = vec!["from".to_owned()];
        for name in names {
            if !is_name(&name) {
                problems.add(
                    format!("dkim.{index}.headers"),
                    "has what is no name of a line",
                );
            } else if !headers.contains(&name) {
                headers.push(name);
            }
        }
        Some(Signer {
            domain: domain.ok()?,
            selector: self.selector,
            key: key?,
            headers,
        })
    }
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !name.is_empty() && name.bytes().all(plain) && name != "dkim-signature"
}

impl Key {
    fn read(pem: &[u8]) -> Result<Self, &'static str> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "is no private key in PEM")?;
        let rsa = |found: Result<RsaKeyPair, _>| found.map(|key| Self::Rsa(Box::new(key)));
        let key = match &der {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                // OpenSSL writes Ed25519 keys without the public half.
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
                    .map(Self::Ed25519)
                    .or_else(|_| rsa(RsaKeyPair::from_pkcs8(der)))
            }
            _ => return Err("is neither an RSA key nor an Ed25519 key"),
        };
        key.map_err(|_| "is neither an RSA key of at least 2048 bits nor an Ed25519 key")
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// Signs canonical header lines; `None` if the system has no random numbers.
    fn sign(&self, lines: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    lines,
                    &mut signature,
                )
                .ok()?;
                Some(signature)
            }
            // RFC 8463: what is signed is the hash.
            Self::Ed25519(key) => {
                let hash = ring::digest::digest(&SHA256, lines);
                Some(key.sign(hash.as_ref()).as_ref().to_vec())
            }
        }
    }
}

/// The mail with the signatures that its sender's domain has keys for; `None` if it cannot be
/// signed.
pub(crate) fn signed(
    signers: &[Signer],
    domain: &str,
    mail: Vec<u8>,
    now: SystemTime,
) -> Option<Vec<u8>> {
    let mut ours = signers.iter().filter(|s| s.signs_for(domain)).peekable();
    if ours.peek().is_none() {
        return Some(mail);
    }
    let (head, body) = halves(&mail);
    let hash = body_hash(body);
    let lines = header_lines(head);
    let mut whole = Vec::with_capacity(mail.len() + 1024);
    for signer in ours {
        whole.extend(signer.signature(&lines, &hash, now)?);
    }
    whole.extend(mail);
    Some(whole)
}

impl Signer {
    fn signs_for(&self, domain: &str) -> bool {
        let domain = domain.to_ascii_lowercase();
        domain
            .strip_suffix(&self.domain)
            .is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    /// The header line, with its end.
    fn signature(&self, lines: &[Line<'_>], body_hash: &str, now: SystemTime) -> Option<Vec<u8>> {
        let (names, mut canonical) = self.chosen(lines);
        let seconds = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        let unsigned = format!(
            "v=1; a={}; c=relaxed/relaxed; d={};\r\n\ts={}; t={seconds};\r\n\th={};\r\n\tbh={body_hash};\r\n\tb=",
            self.key.algorithm(),
            self.domain,
            self.selector,
            folded(names.iter().map(|name| Cow::Borrowed(&name[..])), ":"),
        );
        let own = Line {
            name: "dkim-signature".to_owned(),
            value: unsigned.as_bytes(),
        };
        canonical.extend(own.canonical());
        let signature = BASE64.encode(self.key.sign(&canonical)?);
        let pieces = signature
            .as_bytes()
            .chunks(LINE - 8)
            .map(String::from_utf8_lossy);
        let signature = folded(pieces, "");
        Some(format!("DKIM-Signature: {unsigned}{signature}\r\n").into_bytes())
    }

    /// The names to list, and the canonical lines that belong to them.
    fn chosen<'a>(&'a self, lines: &[Line<'_>]) -> (Vec<&'a str>, Vec<u8>) {
        let (mut names, mut canonical) = (Vec::new(), Vec::new());
        for name in &self.headers {
            // Of lines with the same name, the last one counts first.
            let found = lines.iter().rev().filter(|line| line.name == *name);
            let before = names.len();
            for line in found {
                names.push(name.as_str());
                canonical.extend(line.canonical());
                canonical.extend(b"\r\n");
            }
            if names.len() > before || SEALED.contains(&name.as_str()) {
                names.push(name);
            }
        }
        (names, canonical)
    }
}

/// Joins pieces to lines that are not longer than [`LINE`], as long as the pieces are not.
fn folded<'a>(pieces: impl Iterator<Item = Cow<'a, str>>, between: &str) -> String {
    let (mut text, mut length) = (String::new(), 0);
    for (index, piece) in pieces.enumerate() {
        if index > 0 {
            text.push_str(between);
            if length + piece.len() > LINE - 8 {
                text.push_str("\r\n\t");
                length = 0;
            }
        }
        text.push_str(&piece);
        length += piece.len() + between.len();
    }
    text
}

/// The header lines, the last one with its end, and the body.
fn halves(mail: &[u8]) -> (&[u8], &[u8]) {
    let end = mail.windows(4).position(|four| four == b"\r\n\r\n");
    match end {
        Some(end) => (&mail[..end + 2], &mail[end + 4..]),
        None => (mail, &[]),
    }
}

/// A header line.
struct Line<'a> {
    /// Lower case.
    name: String,
    /// As it is written, folds included.
    value: &'a [u8],
}

impl Line<'_> {
    /// In the relaxed form (RFC 6376, 3.4.2), without its end.
    fn canonical(&self) -> Vec<u8> {
        let mut canonical = Vec::with_capacity(self.name.len() + 1 + self.value.len());
        canonical.extend(self.name.bytes());
        canonical.push(b':');
        let mut gap = false;
        let start = canonical.len();
        for &byte in self.value {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => gap = true,
                byte => {
                    if gap && canonical.len() > start {
                        canonical.push(b' ');
                    }
                    gap = false;
                    canonical.push(byte);
                }
            }
        }
        canonical
    }
}

fn header_lines(head: &[u8]) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut rest = head;
    while !rest.is_empty() {
        // A line goes on where the next one begins with a space.
        let mut end = 0;
        loop {
            match rest[end..].windows(2).position(|two| two == b"\r\n") {
                Some(at) => end += at + 2,
                None => end = rest.len(),
            }
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (line, after) = rest.split_at(end);
        if let Some(colon) = line.iter().position(|&b| b == b':') {
            let name = String::from_utf8_lossy(&line[..colon]);
            lines.push(Line {
                name: name.trim().to_ascii_lowercase(),
                value: &line[colon + 1..],
            });
        }
        rest = after;
    }
    lines
}

/// The hash of the body in its relaxed form (RFC 6376, 3.4.4), as base64.
fn body_hash(body: &[u8]) -> String {
    let mut hash = Context::new(&SHA256);
    relaxed(body, |bytes| hash.update(bytes));
    BASE64.encode(hash.finish())
}

/// The relaxed form of a body, piece by piece: runs of spaces and tabs are one space, none at the
/// ends of lines, no empty lines at the end.
fn relaxed(body: &[u8], mut piece: impl FnMut(&[u8])) {
    let mut empty_lines = 0;
    let mut rest = body;
    let mut line = Vec::with_capacity(1000);
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\r\n");
        let (text, after) = match end {
            Some(end) => (&rest[..end], &rest[end + 2..]),
            None => (rest, &[][..]),
        };
        rest = after;
        line.clear();
        let mut gap = false;
        for &byte in text {
            if matches!(byte, b' ' | b'\t') {
                gap = true;
                continue;
            }
            if gap {
                line.push(b' ');
            }
            gap = false;
            line.push(byte);
        }
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty_lines) {
            piece(b"\r\n");
        }
        line.extend(b"\r\n");
        piece(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relaxed_body(body: &str) -> String {
        let mut whole = Vec::new();
        relaxed(body.as_bytes(), |bytes| whole.extend_from_slice(bytes));
        String::from_utf8(whole).expect("was UTF-8")
    }

    #[test]
    fn bodies_of_the_standard() {
        // RFC 6376, 3.4.5 and 3.4.4.
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(relaxed_body(""), "");
        assert_eq!(relaxed_body("\r\n\r\n"), "");
        assert_eq!(relaxed_body(" \t\r\n"), "");
        assert_eq!(relaxed_body("a"), "a\r\n");
        assert_eq!(relaxed_body("a\r\n\r\n \r\nb"), "a\r\n\r\n\r\nb\r\n");
        // The hash of nothing, from RFC 6376, 3.4.4.
        assert_eq!(
            body_hash(b"\r\n"),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
    }

    #[test]
    fn lines_of_the_standard() {
        let head = b"A: X\r\nB : Y\t\r\n\tZ  \r\n";
        let canonical: Vec<_> = header_lines(head)
            .iter()
            .map(|line| String::from_utf8(line.canonical()).expect("is ASCII"))
            .collect();
        assert_eq!(canonical, ["a:X", "b:Y Z"]);
    }

    #[test]
    fn keys_sign_for_their_domain_and_those_below() {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("is generated");
        let signer = Signer {
            domain: "example.org".to_owned(),
            selector: "a".to_owned(),
            key: Key::Ed25519(
                Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("was just generated"),
            ),
            headers: vec!["from".to_owned(), "x-note".to_owned(), "date".to_owned()],
        };
        for (domain, signs) in [
            ("example.org", true),
            ("news.EXAMPLE.org", true),
            ("badexample.org", false),
            ("org", false),
            ("example.org.example", false),
        ] {
            assert_eq!(signer.signs_for(domain), signs, "{domain}");
        }
        let lines = header_lines(b"X-Note: 1\r\nFrom: a\r\nX-Note: 2\r\n");
        let (names, canonical) = signer.chosen(&lines);
        assert_eq!(names, ["from", "from", "x-note", "x-note", "x-note"]);
        assert_eq!(canonical, b"from:a\r\nx-note:2\r\nx-note:1\r\n");
        let unsigned = b"From: a\r\n\r\nb".to_vec();
        let same = signed(&[signer], "example.com", unsigned.clone(), UNIX_EPOCH);
        assert_eq!(same, Some(unsigned));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let empty = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for pem in [&b""[..], b"geheim", certificate, empty] {
            assert!(Key::read(pem).is_err());
        }
    }
}

//! Static tokens: for systems that have no issuer to get one from. The server knows their hashes alone, by its
//! settings and by a file that it follows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anklang_domain::Violations;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::Principal;
use crate::config::{TokenConfig, TokensFile};
use crate::grpc::error::ApiError;
use crate::reload::Reload;

/// What all of them begin with, so that people and scanners for lost secrets know them.
const PREFIX: &str = "anklang_";
/// Random bytes of a token.
const BYTES: usize = 32;
/// As many characters in base64.
const CHARACTERS: usize = 43;

/// A new token.
///
/// # Errors
/// When the system has no random numbers.
pub fn generate() -> Result<String, Unspecified> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

/// What the configuration holds of a token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Whether a token is meant to be one of these.
pub fn is_static(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// Whether a token has the form of those that are made here: others would be guessed.
fn is_whole(token: &str) -> bool {
    let random = token.strip_prefix(PREFIX);
    random.is_some_and(|text| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        text.len() == CHARACTERS && text.bytes().all(fits)
    })
}

struct Known {
    principal: Arc<Principal>,
    expires: Option<DateTime<Utc>>,
}

/// By hash: what is compared is never the token, so how long it takes tells nothing.
type ByHash = HashMap<[u8; 32], Known>;

fn known<'a>(tokens: impl Iterator<Item = &'a TokenConfig>) -> Arc<ByHash> {
    let known = tokens.map(|token| {
        let name = format!("tokens/{}", token.id);
        let tenants = token.tenants.clone();
        let units = token.org_units.iter().cloned().collect();
        let principal = Principal::new(name, &token.roles, tenants, None, units);
        let known = Known {
            principal: Arc::new(principal),
            expires: token.expires,
        };
        (token.sha256, known)
    });
    Arc::new(known.collect())
}

/// Those of the settings, and those of a file that may change.
pub struct Tokens {
    settings: Arc<[TokenConfig]>,
    file: Option<TokensFile>,
    known: watch::Sender<Arc<ByHash>>,
}

impl Tokens {
    /// Those of the settings, and those that the file held when they were read.
    pub fn new(settings: &[TokenConfig], file: Option<&TokensFile>) -> Self {
        let of_file = file.into_iter().flat_map(|file| &file.tokens);
        Tokens {
            settings: settings.into(),
            file: file.cloned(),
            known: watch::Sender::new(known(settings.iter().chain(of_file))),
        }
    }

    /// The file to be followed, if there is one.
    pub fn file(&self) -> Option<Following> {
        Some(Following {
            settings: Arc::clone(&self.settings),
            file: self.file.clone()?,
            known: self.known.clone(),
        })
    }

    /// Whose token it is.
    pub fn principal(&self, token: &str, now: DateTime<Utc>) -> Result<Arc<Principal>, ApiError> {
        let refused = |why: &str| Err(ApiError::Unauthenticated(why.to_owned()));
        if !is_whole(token) {
            return refused("the token is malformed: anklang_ and 43 characters were expected");
        }
        match self.known.borrow().get(&digest(token)) {
            None => refused("the token is not known"),
            Some(known) if known.expires.is_some_and(|at| at <= now) => {
                refused("the token has expired")
            }
            Some(known) => Ok(Arc::clone(&known.principal)),
        }
    }
}

/// A file of tokens that is followed: what is in it counts, what is no more in it does not.
pub struct Following {
    settings: Arc<[TokenConfig]>,
    file: TokensFile,
    known: watch::Sender<Arc<ByHash>>,
}

impl Reload for Following {
    const WHAT: &'static str = "The list of tokens";
    const FILES: &'static str = "tokens";

    fn every(&self) -> Duration {
        self.file.reload
    }

    async fn look(&mut self) -> Result<bool, Violations> {
        let (path, settings) = (self.file.path.clone(), Arc::clone(&self.settings));
        let read = tokio::task::spawn_blocking(move || TokensFile::read(&path, &settings));
        let Ok(read) = read.await else {
            return Ok(false);
        };
        let tokens = read?;
        if tokens == self.file.tokens {
            return Ok(false);
        }
        let known = known(self.settings.iter().chain(&tokens));
        self.known.send_replace(known);
        self.file.tokens = tokens;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use anklang_domain::access::Role;
    use chrono::TimeDelta;

    use super::super::Tenants;
    use super::*;

    #[test]
    fn made_tokens_are_whole_and_differ() {
        let (one, other) = (generate().expect("random"), generate().expect("random"));
        assert_ne!(one, other);
        for token in [&one, &other] {
            assert!(is_static(token) && is_whole(token), "{token}");
        }
        assert!(!is_whole(&format!("{one}A")) && !is_whole(PREFIX));
        assert!(!is_whole(&format!("{}ä", one.get(..49).expect("ASCII"))));
    }

    #[test]
    fn a_token_counts_until_it_expires() {
        let now = Utc::now();
        let (token, other) = (generate().expect("random"), generate().expect("random"));
        let config = |expires| TokenConfig {
            id: "crm".into(),
            sha256: digest(&token),
            tenants: Tenants::All,
            roles: vec![Role::Service],
            org_units: Vec::new(),
            expires,
        };
        let ask = |expires, token: &str| {
            let answer = Tokens::new(&[config(expires)], None).principal(token, now);
            answer
                .map(|p| p.name.to_string())
                .map_err(|e| e.to_string())
        };
        assert_eq!(ask(None, &token), Ok("tokens/crm".into()));
        let second = TimeDelta::seconds(1);
        assert_eq!(ask(Some(now + second), &token), Ok("tokens/crm".into()));
        assert_eq!(ask(Some(now), &token), Err("the token has expired".into()));
        assert_eq!(ask(None, &other), Err("the token is not known".into()));
        let cut = token.get(..50).expect("ASCII");
        assert!(ask(None, cut).expect_err("cut").contains("malformed"));
    }
}

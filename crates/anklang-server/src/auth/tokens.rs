//! Static tokens: for systems that have no issuer to get one from. The server knows their hashes alone, by its
//! settings and by a file that it follows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anklang_domain::Violations;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::validity::{Credential, Validity};
use super::{Known, Principal};
use crate::config::{TokenConfig, TokensFile};
use crate::grpc::error::ApiError;
use crate::reload::{self, Reload};

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

struct Token {
    config: TokenConfig,
    principal: Arc<Principal>,
}

/// By hash: what is compared is never the token, so how long it takes tells nothing.
type ByHash = HashMap<[u8; 32], Arc<Token>>;

fn known<'a>(tokens: impl Iterator<Item = &'a TokenConfig>) -> Arc<ByHash> {
    let known = tokens.map(|token| {
        let name = format!("tokens/{}", token.id);
        let tenants = token.tenants.clone();
        let units = token.org_units.iter().cloned().collect();
        let principal = Principal::new(name, &token.roles, tenants, None, units);
        let known = Token {
            config: token.clone(),
            principal: Arc::new(principal),
        };
        (token.sha256, Arc::new(known))
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
    pub fn principal(&self, token: &str, now: DateTime<Utc>) -> Result<Known, ApiError> {
        let refused = |why: &str| Err(ApiError::Unauthenticated(why.to_owned()));
        if !is_whole(token) {
            return refused("the token is malformed: anklang_ and 43 characters were expected");
        }
        let found = self.known.borrow().get(&digest(token)).cloned();
        let Some(token) = found else {
            return refused("the token is not known");
        };
        let expires = token.config.expires;
        if expires.is_some_and(|at| at <= now) {
            return refused("the token has expired");
        }
        let principal = Arc::clone(&token.principal);
        let validity = Validity {
            until: expires.map(SystemTime::from),
            credential: Some(Credential::Token(Listed {
                token,
                known: self.known.clone(),
            })),
        };
        Ok((principal, validity))
    }
}

/// A token as it was when somebody called with it.
pub struct Listed {
    token: Arc<Token>,
    known: watch::Sender<Arc<ByHash>>,
}

impl Listed {
    /// Waits until it is taken out, or may do something else.
    pub async fn changed(self) {
        let before = &self.token.config;
        let is_other = |known: &Arc<ByHash>| {
            let now = known.get(&before.sha256);
            now.is_none_or(|token| token.config != *before)
        };
        // It is never closed: this holds the other end.
        let _ = self.known.subscribe().wait_for(is_other).await;
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
        let reading = move || TokensFile::read(&path, &settings);
        let tokens = reload::read(Self::WHAT, reading).await?;
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
    use futures::FutureExt;

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
                .map(|(p, _)| p.name.to_string())
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

    #[tokio::test]
    async fn whoever_has_called_hears_that_the_token_is_another() {
        let (one, two) = (generate().expect("random"), generate().expect("random"));
        let config = |id: &str, token: &str, role| TokenConfig {
            id: id.into(),
            sha256: digest(token),
            tenants: Tenants::All,
            roles: vec![role],
            org_units: Vec::new(),
            expires: None,
        };
        let tokens = Tokens::new(&[config("one", &one, Role::Service)], None);
        let exchange = |all: &[TokenConfig]| tokens.known.send_replace(known(all.iter()));
        let over = || {
            let (_, validity) = tokens.principal(&one, Utc::now()).expect("it is known");
            validity.over().expect("it can be taken out")
        };
        let mut waiting = over();
        let both = [
            config("one", &one, Role::Service),
            config("two", &two, Role::Service),
        ];
        exchange(&both);
        assert!((&mut waiting).now_or_never().is_none(), "it is as it was");
        exchange(&[config("one", &one, Role::Clerk)]);
        waiting.await;
        let waiting = over();
        exchange(&[config("two", &two, Role::Service)]);
        let why = waiting.await.to_string();
        assert!(why.contains("taken out"), "{why}");
    }
}

//! JWTs (RFC 7519) of issuers that the operator trusts, as OpenID Connect has them: signed with a key that the
//! issuer publishes, meant for this server, and valid now. Their claims say whom they are about, with which
//! roles and for which tenants.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anklang_domain::access::{Role, Units};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation, decode, decode_header};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::jwks::Jwks;
use super::key::Key;
use super::validity::{Credential, Validity};
use super::{Known, Principal, Tenants};
use crate::config::IssuerConfig;
use crate::grpc::error::ApiError;

/// So many tokens are kept that were found good, each with whose it is: some kilobytes.
const KEPT: usize = 4_096;

/// The longest subject of a token, in characters, as OpenID Connect has it.
const LONGEST_SUBJECT: usize = 255;

/// Those that are trusted.
pub struct Issuers {
    all: Vec<Issuer>,
    /// Tokens that are good, by their digests: checking a signature takes longer than most of what is called for.
    good: Cache<[u8; 32], Arc<Good>>,
}

/// Whose a token is. It stays good as long as its issuer has the key that it was checked with, and until it expires.
pub struct Good {
    issuer: Arc<Jwks>,
    key: Arc<Key>,
    principal: Arc<Principal>,
    until: Option<SystemTime>,
}

impl Good {
    fn is_still(&self) -> bool {
        self.until.is_none_or(|until| SystemTime::now() < until) && self.issuer.has(&self.key)
    }

    /// Waits until its issuer has withdrawn the key.
    pub async fn withdrawn(&self) {
        self.issuer.withdrawn(&self.key).await;
    }
}

/// An issuer that is trusted.
struct Issuer {
    config: IssuerConfig,
    keys: Arc<Jwks>,
}

/// What chooses the issuer, before anything is checked.
#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

type Claims = Map<String, Value>;

impl Issuers {
    /// Those of the settings; nothing is fetched yet.
    pub fn new(configs: &[IssuerConfig]) -> anyhow::Result<Self> {
        let all = configs.iter().cloned().map(Issuer::new);
        Ok(Issuers {
            all: all.collect::<Result<_, _>>()?,
            good: Cache::new(KEPT),
        })
    }

    /// The keys of each.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Jwks>> {
        self.all.iter().map(|issuer| &issuer.keys)
    }

    /// Whose token it is, and until when, when it is good in every respect.
    pub async fn principal(&self, token: &str) -> Result<Known, ApiError> {
        let digest = Sha256::digest(token).into();
        let known = self.good.get(&digest).filter(|good| good.is_still());
        let good = match known {
            Some(good) => good,
            None => {
                let good = Arc::new(check(&self.all, token).await?);
                self.good.insert(digest, Arc::clone(&good));
                good
            }
        };
        let principal = Arc::clone(&good.principal);
        let validity = Validity {
            until: good.until,
            credential: Some(Credential::Jwt(good)),
        };
        Ok((principal, validity))
    }
}

async fn check(issuers: &[Issuer], token: &str) -> Result<Good, ApiError> {
    let malformed = |_| refused("the token is malformed, or signed in a way that is not accepted");
    let head = decode_header(token).map_err(malformed)?;
    if head.alg.family() == AlgorithmFamily::Hmac || head.crit.is_some() {
        return Err(refused("the token is signed in a way that is not accepted"));
    }
    let claimed: Claimed = insecure_decode_claims(token)
        .map_err(|_| refused("the token is malformed, or names no issuer"))?;
    let issuer = issuers.iter().find(|i| i.config.issuer == claimed.iss);
    let issuer = issuer.ok_or_else(|| refused("the token's issuer is not trusted"))?;
    let keys = issuer.keys.find(head.kid.as_deref(), head.alg).await?;
    let validation = issuer.validation(head.alg);
    let mut error = refused("the token's key does not sign that way");
    for key in keys {
        match decode::<Claims>(token, &key.key, &validation) {
            Ok(good) => {
                let principal = issuer.principal(subject(&good.claims)?, &good.claims);
                return Ok(Good {
                    issuer: Arc::clone(&issuer.keys),
                    key,
                    principal: Arc::new(principal),
                    until: issuer.until(&good.claims),
                });
            }
            Err(why) => error = refused(reason(why.kind())),
        }
    }
    Err(error)
}

fn refused(why: impl Into<String>) -> ApiError {
    ApiError::Unauthenticated(why.into())
}

fn reason(error: &ErrorKind) -> String {
    let words = match error {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is not meant for this server (aud)",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            return format!("the token's claim {claim} is missing or malformed");
        }
        _ => "the token is malformed",
    };
    words.to_owned()
}

impl Issuer {
    /// One of the settings; nothing is fetched yet.
    fn new(config: IssuerConfig) -> anyhow::Result<Self> {
        let keys = Arc::new(Jwks::new(config.clone())?);
        Ok(Issuer { config, keys })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let config = &self.config;
        let mut validation = Validation::new(algorithm);
        validation.leeway = config.leeway_seconds;
        validation.validate_nbf = true;
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    /// From when on a token with these claims counts no more; never when that is beyond all times.
    fn until(&self, claims: &Claims) -> Option<SystemTime> {
        let expires = claims.get("exp")?.as_f64()?;
        let expires = Duration::try_from_secs_f64(expires).ok()?;
        let leeway = Duration::from_secs(self.config.leeway_seconds);
        UNIX_EPOCH.checked_add(expires)?.checked_add(leeway)
    }

    /// Whom the claims are about. What they name that does not exist here counts for nothing.
    fn principal(&self, subject: &str, claims: &Claims) -> Principal {
        let config = &self.config;
        let roles: BTreeSet<Role> = words(claims, &config.roles_claim)
            .filter_map(|name| match config.role_names.is_empty() {
                true => Role::parse(name).ok(),
                false => config.role_names.get(name).copied(),
            })
            .collect();
        let roles: Vec<Role> = roles.into_iter().collect();
        let tenants = words(claims, &config.tenant_claim);
        let tenants = tenants.filter(|slug| !slug.is_empty() && config.tenants.has(slug));
        let tenants = Tenants::Only(tenants.map(str::to_owned).collect());
        let worker = word(claims, &config.worker_claim).map(str::to_owned);
        let units = words(claims, &config.org_unit_claim);
        let units = units.filter(|code| Units::is_code(code));
        let units = units.map(str::to_owned).collect();
        let name = format!("{}/{subject}", config.id);
        Principal::new(name, &roles, tenants, worker, units)
    }
}

/// Who is who among those of an issuer: without it, or with one that cannot be written down, nobody could be told from
/// others.
fn subject(claims: &Claims) -> Result<&str, ApiError> {
    let given = claims.get("sub").and_then(Value::as_str);
    let usable = given.filter(|subject| {
        (1..=LONGEST_SUBJECT).contains(&subject.chars().count())
            && !subject.chars().any(char::is_control)
    });
    usable.ok_or_else(|| {
        refused(format!(
            "the token's claim sub is missing or malformed: it must be 1 to {LONGEST_SUBJECT} characters, none of \
             them a control character"
        ))
    })
}

/// The claim at a path, whose dots lead into objects. A claim whose own name is the path comes first: names
/// may be URLs.
fn claim<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        let (head, rest) = path.split_once('.')?;
        claim(claims.get(head)?.as_object()?, rest)
    })
}

/// A claim that is a text.
fn word<'a>(claims: &'a Claims, path: &str) -> Option<&'a str> {
    claim(claims, path)?.as_str()
}

/// A claim that is a text or a list of texts.
fn words<'a>(claims: &'a Claims, path: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let found = match claim(claims, path) {
        Some(Value::Array(values)) => &values[..],
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    found.iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use anklang_domain::access::Rights;
    use serde_json::json;

    use super::super::Worker;
    use super::*;

    fn config() -> IssuerConfig {
        IssuerConfig {
            id: "corporate".into(),
            issuer: "https://id.example.com".into(),
            audience: "anklang".into(),
            jwks_url: None,
            authorities: None,
            tenant_claim: "anklang_tenants".into(),
            roles_claim: "anklang_roles".into(),
            worker_claim: "preferred_username".into(),
            org_unit_claim: "anklang_org_units".into(),
            role_names: BTreeMap::new(),
            tenants: Tenants::All,
            leeway_seconds: 60,
            refresh: Duration::from_secs(300),
            allow_http: false,
        }
    }

    fn principal_of(config: IssuerConfig, claims: &Value) -> Principal {
        let issuer = Issuer::new(config).expect("TLS");
        issuer.principal("4711", claims.as_object().expect("claims"))
    }

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = json!({
            "roles": "central",
            "realm_access": {"roles": ["clerk", 7, "auditor"]},
            "https://example.com/roles": ["service"],
            "a.b": "first",
            "a": {"b": "second", "c": {"d": "third"}},
        });
        let claims = claims.as_object().expect("claims");
        let found = |path| words(claims, path).collect::<Vec<_>>();
        assert_eq!(found("roles"), ["central"]);
        assert_eq!(found("realm_access.roles"), ["clerk", "auditor"]);
        assert_eq!(found("https://example.com/roles"), ["service"]);
        assert_eq!(found("a.b"), ["first"]);
        assert_eq!(found("a.c.d"), ["third"]);
        for nothing in ["", ".", "realm_access", "a.c", "a.b.c", "roles.x", "other"] {
            assert!(found(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn claims_make_a_principal() {
        let claims = json!({
            "preferred_username": "anna",
            "anklang_tenants": ["acme", "lindenau"],
            "anklang_roles": ["clerk", "boss", "offline_access"],
        });
        let anna = principal_of(config(), &claims);
        assert_eq!(&*anna.name, "corporate/4711");
        assert_eq!(anna.worker, Worker::Own("anna".into()));
        assert!(anna.tenants.has("acme") && anna.tenants.has("lindenau"));
        assert!(!anna.tenants.has("other"));
        assert_eq!(anna.rights, Rights::of(&[Role::Clerk]));

        let bound = IssuerConfig {
            tenants: Tenants::Only(["acme".into(), "other".into()].into()),
            ..config()
        };
        let bound = principal_of(bound, &claims);
        assert_eq!(bound.tenants.single(), Some("acme"));

        let stranger = principal_of(config(), &json!({}));
        assert_eq!(stranger.rights, Rights::default());
        assert_eq!(stranger.tenants, Tenants::Only(BTreeSet::new()));
    }

    #[test]
    fn a_token_says_who_it_is() {
        let of = |claims: Value| {
            let claims = claims.as_object().expect("claims").clone();
            let found = subject(&claims).map(str::to_owned);
            found.map_err(|error| error.to_string())
        };
        for good in ["4711", "a/b", "?", &"ü".repeat(255)[..]] {
            assert_eq!(of(json!({ "sub": good })).as_deref(), Ok(good));
        }
        let long = "x".repeat(256);
        for wrong in [
            json!(null),
            json!(""),
            json!(4711),
            json!("a\0b"),
            json!("a\n"),
            json!(long),
        ] {
            let refused = of(json!({ "sub": wrong })).expect_err("nobody");
            assert!(refused.contains("claim sub"), "{refused}");
        }
        assert!(of(json!({"user": {"sub": "4711"}})).is_err());
    }

    #[test]
    fn a_token_counts_until_it_expires_and_clocks_may_differ() {
        let issuer = Issuer::new(config()).expect("TLS");
        let until = |exp: Value| {
            let claims = json!({ "exp": exp });
            issuer.until(claims.as_object().expect("claims"))
        };
        let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        assert_eq!(until(json!(1_800_000_000)), at(1_800_000_060));
        assert_eq!(until(json!(1_800_000_000.0)), at(1_800_000_060));
        assert_eq!(until(json!(1e300)), None);
    }

    #[test]
    fn claims_bind_to_org_units() {
        let units = |roles: Value, units: Value| {
            let claims = json!({"anklang_roles": roles, "anklang_org_units": units});
            principal_of(config(), &claims).units
        };
        let only = |codes: &[&str]| {
            let codes = codes.iter().map(|code| (*code).to_owned());
            Units::Only(codes.collect())
        };
        let agency = || json!("agency");
        assert_eq!(units(agency(), json!("kiel")), only(&["kiel"]));
        let several = json!(["kiel", "", "a\0b", 7, "lübeck", "x".repeat(65)]);
        assert_eq!(units(agency(), several), only(&["kiel", "lübeck"]));
        for none in [json!(null), json!([]), json!({"kiel": true})] {
            assert_eq!(
                units(agency(), none),
                only(&[]),
                "nothing, and not everything"
            );
        }
        assert_eq!(units(json!(["agency", "clerk"]), json!("kiel")), Units::All);
        assert_eq!(units(json!("clerk"), json!("kiel")), Units::All);
    }

    #[test]
    fn names_of_roles_are_translated() {
        let config = IssuerConfig {
            roles_claim: "realm_access.roles".into(),
            role_names: BTreeMap::from([("Vertrieb Zentrale".into(), Role::Central)]),
            ..config()
        };
        let rights = |roles: Value| {
            let claims = json!({"realm_access": {"roles": roles}});
            principal_of(config.clone(), &claims).rights
        };
        assert_eq!(rights(json!(["Vertrieb Zentrale"])), Rights::all());
        // Only names that are listed count then.
        assert_eq!(rights(json!(["central"])), Rights::default());
    }
}

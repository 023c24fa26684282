//! Whoever calls, as far as handlers need to know.

use std::collections::BTreeSet;
use std::sync::Arc;

use anklang_domain::access::{Rights, Role, Units};
use anklang_domain::approval::ANYBODY;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Principal {
    /// What it is called when something is refused to it: `tokens/{id}`, `certificates/{id}` (with what follows it
    /// where a SPIFFE ID of the settings ends in `/*`), or the issuer and its subject.
    pub name: Arc<str>,
    /// In whose name it may work.
    pub worker: Worker,
    /// For whom it may act.
    pub tenants: Tenants,
    /// What it may do for each of them.
    pub rights: Rights,
    /// Whose customers it sees and works on.
    pub units: Units,
}

impl Principal {
    /// One with these roles. `worker` is the user that the token or certificate names, if it
    /// does; `units` are the codes of the org units that it names.
    pub(super) fn new(
        name: String,
        roles: &[Role],
        tenants: Tenants,
        worker: Option<String>,
        units: BTreeSet<String>,
    ) -> Self {
        let worker = match worker {
            _ if roles.iter().any(|role| role.names_any_worker()) => Worker::Anybody,
            Some(user) => Worker::Own(user),
            None => Worker::Nobody,
        };
        Principal {
            name: name.into(),
            worker,
            tenants,
            rights: Rights::of(roles),
            units: Units::of(roles, units),
        }
    }

    /// Whoever calls, when nobody is asked who they are.
    pub(super) fn anybody() -> Self {
        Principal {
            name: ANYBODY.into(),
            worker: Worker::Anybody,
            tenants: Tenants::All,
            rights: Rights::all(),
            units: Units::All,
        }
    }

    /// Whoever calls what is open to all.
    pub(super) fn nobody() -> Self {
        let tenants = Tenants::Only(BTreeSet::new());
        Principal::new("nobody".into(), &[], tenants, None, BTreeSet::new())
    }
}

/// In whose name a principal may work: what it may write into fields called `worker`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worker {
    /// In anybody's.
    Anybody,
    /// In its own alone: the id of a user.
    Own(String),
    /// In nobody's: it should work in its own, but its token or certificate names none.
    Nobody,
}

/// Tenants for which a principal may act, by their slugs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Tenants {
    /// Whether that is one of them.
    pub fn has(&self, slug: &str) -> bool {
        match self {
            Tenants::All => true,
            Tenants::Only(slugs) => slugs.contains(slug),
        }
    }

    /// The one, when it is but one.
    pub fn single(&self) -> Option<&str> {
        match self {
            Tenants::Only(slugs) if slugs.len() == 1 => slugs.first().map(String::as_str),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_all_one_or_some() {
        let of = |slugs: &[&str]| Tenants::Only(slugs.iter().map(|s| (*s).to_owned()).collect());
        let (all, one, two) = (Tenants::All, of(&["acme"]), of(&["acme", "lindenau"]));
        assert!(!of(&[]).has("acme"), "none are none");
        assert!(all.has("acme") && one.has("acme") && two.has("lindenau"));
        assert!(!one.has("lindenau") && !two.has("") && !one.has("ACME"));
        assert_eq!(
            (all.single(), one.single(), two.single()),
            (None, Some("acme"), None)
        );
    }

    #[test]
    fn who_may_name_any_worker_is_not_bound() {
        let worker = |roles: &[Role], user: Option<&str>| {
            let (tenants, user) = (Tenants::All, user.map(str::to_owned));
            Principal::new("x".into(), roles, tenants, user, BTreeSet::new()).worker
        };
        let anna = Some("anna");
        assert_eq!(worker(&[Role::Clerk], anna), Worker::Own("anna".into()));
        assert_eq!(
            worker(&[Role::Clerk, Role::Auditor], anna),
            Worker::Own("anna".into())
        );
        assert_eq!(worker(&[Role::Clerk], None), Worker::Nobody);
        assert_eq!(worker(&[Role::Agency], anna), Worker::Own("anna".into()));
        assert_eq!(worker(&[Role::Region], None), Worker::Nobody);
        assert_eq!(worker(&[Role::Clerk, Role::Central], anna), Worker::Anybody);
        assert_eq!(worker(&[Role::Service], None), Worker::Anybody);
    }
}

//! Launches that wait for a second person: who may be it, and which launches need one.

/// What callers are called when nobody is asked who they are.
pub const ANYBODY: &str = "anybody";

/// For so many hours the launches and mailings of one caller count together, unless the policy says otherwise. Less than
/// a day: what is launched daily at about the same time counts by itself, a little earlier or later.
pub const WINDOW_HOURS: i32 = 20;
/// The longest such time.
pub const LONGEST_WINDOW_HOURS: i32 = 8760;

/// Whether a launch with so many members needs an approval, when those with more than `members_over` do. `before` are
/// the members of what counts with it and needed none, of the campaign and of the caller: nobody gets around the limit
/// bit by bit.
pub fn is_needed(members: i64, before: i64, members_over: Option<i64>) -> bool {
    members > 0 && members_over.is_some_and(|limit| members.saturating_add(before) > limit)
}

/// Whether a policy that is to be needs fewer approvals than the one in force, both with their limit and hours: by a
/// higher limit or none, or when launches of one caller count together for less time.
pub fn loosens(was: (Option<i64>, i32), to_be: (Option<i64>, i32)) -> bool {
    was.0
        .is_some_and(|limit| to_be.0.is_none_or(|next| next > limit) || to_be.1 < was.1)
}

/// Whether that is a caller whom one can tell from others.
pub fn is_known(caller: &str) -> bool {
    !["", ANYBODY].contains(&caller)
}

/// Who that caller is where one is to be told from another: workloads that one mapping of certificates knows by what
/// their SPIFFE IDs begin with are one, as whoever may start one may start another.
pub fn person(caller: &str) -> &str {
    let rest = caller.match_indices('/').nth(1);
    rest.filter(|_| caller.starts_with("certificates/"))
        .and_then(|(at, _)| caller.get(..at))
        .unwrap_or(caller)
}

/// Why somebody cannot be the second person of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nobody is asked who they are.
    #[error(
        "callers are not known (auth.mode = \"none\"), so that nobody can be told from who launched it"
    )]
    Unknown,
    /// It was launched when nobody was asked.
    #[error("who launched it is not known: cancel it and launch it again")]
    LauncherUnknown,
    /// It is their own.
    #[error("it is your own launch: somebody else has to decide")]
    Own,
    /// What it sends is theirs.
    #[error("you have changed what it sends: somebody else has to approve it")]
    OwnChange,
}

/// Whether `caller` may decide about what `launched_by` has launched, both as callers are named.
pub fn second_person(caller: &str, launched_by: &str) -> Result<(), Unfit> {
    match (is_known(caller), is_known(launched_by)) {
        (false, _) => Err(Unfit::Unknown),
        (true, false) => Err(Unfit::LauncherUnknown),
        (true, true) if person(caller) == person(launched_by) => Err(Unfit::Own),
        (true, true) => Ok(()),
    }
}

/// Whether `caller` may approve what `launched_by` has launched, and `changed_by` have changed since then or since it
/// was approved last.
pub fn may_approve(caller: &str, launched_by: &str, changed_by: &[String]) -> Result<(), Unfit> {
    second_person(caller, launched_by)?;
    let caller = person(caller);
    match changed_by.iter().any(|changer| person(changer) == caller) {
        true => Err(Unfit::OwnChange),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_over_the_limit_need_an_approval() {
        assert!(!is_needed(1_000_000, 1_000_000, None));
        for before in [0, 501] {
            assert!(!is_needed(0, before, Some(0)), "nobody is contacted");
        }
        assert!(is_needed(1, 0, Some(0)));
        assert!(!is_needed(500, 0, Some(500)));
        assert!(is_needed(501, 0, Some(500)));
        assert!(!is_needed(100, 400, Some(500)));
        assert!(is_needed(101, 400, Some(500)));
    }

    #[test]
    fn a_policy_is_loosened_by_its_limit_or_its_hours() {
        let was = (Some(500), 20);
        for looser in [
            (None, 20),
            (None, 8_760),
            (Some(501), 20),
            (Some(500), 19),
            (Some(0), 1),
        ] {
            assert!(loosens(was, looser), "{looser:?}");
        }
        for not_looser in [was, (Some(499), 20), (Some(500), 21), (Some(0), 8_760)] {
            assert!(!loosens(was, not_looser), "{not_looser:?}");
        }
        for any in [(None, 1), (Some(1_000_000), 1)] {
            assert!(!loosens((None, 20), any), "there was nothing to loosen");
        }
    }

    #[test]
    fn nobody_approves_the_own_launch() {
        let (anna, ben) = ("tokens/anna", "tokens/ben");
        assert_eq!(second_person(ben, anna), Ok(()));
        assert_eq!(second_person(anna, anna), Err(Unfit::Own));
        for nobody in ["", ANYBODY] {
            assert_eq!(second_person(nobody, anna), Err(Unfit::Unknown));
            assert_eq!(second_person(nobody, nobody), Err(Unfit::Unknown));
            assert_eq!(second_person(ben, nobody), Err(Unfit::LauncherUnknown));
        }
    }

    #[test]
    fn workloads_of_one_mapping_do_not_approve_each_other() {
        let (web, job) = ("certificates/crm/sa/web", "certificates/crm/sa/job");
        let (before, other) = ("certificates/crm", "certificates/crm2/sa/web");
        for one in [web, job, before] {
            assert_eq!(person(one), before);
            assert_eq!(second_person(one, web), Err(Unfit::Own), "{one}");
            assert_eq!(
                may_approve(one, other, &[job.to_owned()]),
                Err(Unfit::OwnChange)
            );
            assert_eq!(may_approve(other, one, &[]), Ok(()));
        }
        // What others are called may have slashes as well.
        for (one, another) in [("idp/a/b", "idp/a/c"), ("tokens/a/b", "tokens/a/c")] {
            assert_eq!(second_person(one, another), Ok(()));
        }
    }

    #[test]
    fn nobody_approves_the_own_change() {
        let (anna, ben, cleo) = ("tokens/anna", "tokens/ben", "tokens/cleo");
        let changed_by = [anna.to_owned(), ben.to_owned()];
        assert_eq!(may_approve(cleo, anna, &changed_by), Ok(()));
        assert_eq!(may_approve(ben, anna, &changed_by), Err(Unfit::OwnChange));
        assert_eq!(may_approve(anna, anna, &changed_by), Err(Unfit::Own));
        assert_eq!(may_approve(ben, anna, &[]), Ok(()));
        assert_eq!(may_approve(ANYBODY, anna, &[]), Err(Unfit::Unknown));
    }
}

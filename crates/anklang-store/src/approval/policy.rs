//! The policy: which launches need an approval, and what is counted for it.

use anklang_domain::approval::{WINDOW_HOURS, is_known, loosens, person};
use anklang_domain::{CampaignId, PhaseId, TenantId};
use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::hold::{Held, hold};
use crate::{Conn, Result};

/// Which launches need an approval.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Policy {
    /// Those with more members than this; none when `None`.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub members_over: Option<i64>,
    /// For so long those of one caller count together.
    #[diesel(sql_type = Integer)]
    pub window_hours: i32,
    /// Who has set it, as callers are named.
    #[diesel(sql_type = Text)]
    pub updated_by: String,
    /// When.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub updated_at: Option<DateTime<Utc>>,
    /// Until when at the latest it is stricter than the tenant's, for somebody who has loosened that.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub stricter_until: Option<DateTime<Utc>>,
}

impl Policy {
    /// The one of tenants that have set none.
    fn none() -> Self {
        Policy {
            members_over: None,
            window_hours: WINDOW_HOURS,
            updated_by: String::new(),
            updated_at: None,
            stricter_until: None,
        }
    }
}

/// The tenant's policy; the one that asks for no approvals when none was set.
pub async fn policy(mut conn: &Conn, tenant: TenantId) -> Result<Policy> {
    let found: Option<Policy> = diesel::sql_query(
        "SELECT members_over, window_hours, updated_by, updated_at, NULL::timestamptz AS stricter_until
         FROM approval_policy WHERE tenant_id = $1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .get_result(&mut conn)
    .await
    .optional()?;
    Ok(found.unwrap_or_else(Policy::none))
}

/// The policy as it counts for what `by` launches and mails: the tenant's, and whoever has loosened that stays for its
/// hours under the lowest limit and the longest time that they had then, unless somebody else sets it meanwhile.
pub async fn policy_for(mut conn: &Conn, tenant: TenantId, by: &str) -> Result<Policy> {
    let found: Option<Policy> = diesel::sql_query(
        "SELECT least(p.members_over, f.members_over) AS members_over,
                greatest(p.window_hours, f.window_hours) AS window_hours, p.updated_by, p.updated_at,
                CASE WHEN p.members_over IS NULL OR f.members_over < p.members_over
                          OR f.window_hours > p.window_hours THEN f.until END AS stricter_until
         FROM approval_policy p CROSS JOIN LATERAL (
             SELECT min(o.members_over) AS members_over, max(o.window_hours) AS window_hours,
                    max(o.replaced_at + make_interval(hours => o.window_hours)) AS until
             FROM former_approval_policy o
             WHERE o.tenant_id = $1 AND o.replaced_by = $2
               AND o.replaced_at > now() - make_interval(hours => o.window_hours)) f
         WHERE p.tenant_id = $1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(person(by))
    .get_result(&mut conn)
    .await
    .optional()?;
    Ok(found.unwrap_or_else(Policy::none))
}

/// Keeps the policy that counts for `by` now, for [`policy_for`]. Those that count for nobody any more go: a day later,
/// as transactions that began before may still ask.
async fn keep_former(conn: &mut Conn, tenant: TenantId, by: &str) -> Result<()> {
    let was = policy_for(conn, tenant, by).await?;
    diesel::sql_query(
        "WITH ended AS (
             DELETE FROM former_approval_policy
             WHERE tenant_id = $1 AND replaced_at < now() - make_interval(days => 1, hours => window_hours))
         INSERT INTO former_approval_policy (tenant_id, members_over, window_hours, replaced_by)
         VALUES ($1, $2, $3, $4)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Nullable<BigInt>, _>(was.members_over)
    .bind::<Integer, _>(was.window_hours)
    .bind::<Text, _>(person(by))
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets go of whoever else has loosened the policy: it is `by` who sets it now, so that two people have acted.
async fn release_others(conn: &mut Conn, tenant: TenantId, by: &str) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM former_approval_policy WHERE tenant_id = $1 AND replaced_by <> $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(person(by))
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the tenant's policy for launches whose audience is frozen from now on. One that asks for fewer approvals is for
/// others than `by` at first. For those who have loosened it before, it is what counts.
pub async fn set_policy(
    conn: &mut Conn,
    tenant: TenantId,
    (members_over, window_hours): (Option<i64>, i32),
    by: &str,
) -> Result<()> {
    // In turn: what is kept is what this one replaces.
    hold(conn, tenant, Held::ApprovalPolicy).await?;
    let was = policy(conn, tenant).await?;
    let was = (was.members_over, was.window_hours);
    if is_known(by) {
        if loosens(was, (members_over, window_hours)) {
            keep_former(conn, tenant, by).await?;
        }
        release_others(conn, tenant, by).await?;
    }
    diesel::sql_query(
        "INSERT INTO approval_policy (tenant_id, members_over, updated_by, window_hours)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id) DO UPDATE
             SET members_over = excluded.members_over, window_hours = excluded.window_hours,
                 updated_by = excluded.updated_by, updated_at = now()",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Nullable<BigInt>, _>(members_over)
    .bind::<Text, _>(by)
    .bind::<Integer, _>(window_hours)
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// What counts with a launch or mailing: that of the same campaign, and for the policy's hours that of the same caller.
#[derive(Debug, Clone, Copy)]
pub struct Together<'a> {
    /// Who asks for it, as callers are named. Empty when not known, as of mailings that the version before was asked
    /// for: that is nobody whose others count.
    pub by: &'a str,
    /// Its campaign, if it exists.
    pub campaign: Option<CampaignId>,
    /// The phase or mailing itself.
    pub but: Option<Uuid>,
}

/// In SQL what [`person`] makes of a caller's name.
fn person_of(name: &str) -> String {
    format!(r"regexp_replace({name}, '^(certificates/[^/]+)/.*$', '\1')")
}

/// Members of launches and mailings that needed no approval and count with this one, those of the same caller for so
/// many hours, whatever has become of them.
pub async fn without_approval(
    conn: &mut Conn,
    tenant: TenantId,
    of: Together<'_>,
    window_hours: i32,
) -> Result<i64> {
    let (phases, mailings) = (person_of("p.launched_by"), person_of("x.launched_by"));
    let counted: Count = diesel::sql_query(format!(
        "WITH since AS (SELECT now() - make_interval(hours => $5) AS at)
         SELECT ((SELECT coalesce(sum(a.members), 0)
                  FROM phase p JOIN audience a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
                  WHERE p.tenant_id = $1 AND p.id IS DISTINCT FROM $4
                    AND (p.campaign_id = $3
                         OR $2 <> '' AND {phases} = $2 AND a.frozen_at > since.at)
                    AND p.state <> 'failed' AND a.frozen_at IS NOT NULL
                    AND NOT EXISTS (SELECT FROM launch_approval l
                                    WHERE l.tenant_id = p.tenant_id AND l.phase_id = p.id))
               + (SELECT count(*)
                  FROM winback_mailing x JOIN winback_mailing_member m
                       ON m.tenant_id = x.tenant_id AND m.mailing_id = x.id
                  WHERE x.tenant_id = $1 AND x.id IS DISTINCT FROM $4
                    AND $2 <> '' AND {mailings} = $2 AND x.drawn_at > since.at
                    AND m.is_drawn AND m.refusal IS NULL))::bigint AS n
         FROM since",
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(person(of.by))
    .bind::<Nullable<SqlUuid>, _>(of.campaign.map(|campaign| campaign.0))
    .bind::<Nullable<SqlUuid>, _>(of.but)
    .bind::<Integer, _>(window_hours)
    .get_result(conn)
    .await?;
    Ok(counted.n)
}

/// Lets a tenant's launches and mailings take turns at being counted until the end of the transaction, so that of two
/// at once one counts the other.
pub async fn take_turn(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('launches ' || $1::text, 0))")
        .bind::<SqlUuid, _>(tenant.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// For a phase whose audience was frozen just now the limit of who launched it, if there is one, and, when it is its
/// turn, [`without_approval`].
pub async fn before_it(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
) -> Result<Option<(i64, i64)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        campaign_id: Uuid,
        #[diesel(sql_type = Text)]
        launched_by: String,
    }
    let of: Row = diesel::sql_query(
        "SELECT campaign_id, launched_by FROM phase WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .get_result(conn)
    .await?;
    let policy = policy_for(conn, tenant, &of.launched_by).await?;
    let Some(limit) = policy.members_over else {
        return Ok(None);
    };
    take_turn(conn, tenant).await?;
    // The servers of the version before let the launches of a campaign take turns, and may still serve. It may go with
    // the release after this one.
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('launches ' || $1::text, 0))")
        .bind::<SqlUuid, _>(of.campaign_id)
        .execute(conn)
        .await?;
    let together = Together {
        by: &of.launched_by,
        campaign: Some(CampaignId(of.campaign_id)),
        but: Some(phase.0),
    };
    let before = without_approval(conn, tenant, together, policy.window_hours).await?;
    Ok(Some((limit, before)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use anklang_local::cluster::{Cluster, Options};

    use super::*;
    use crate::Store;

    #[derive(QueryableByName)]
    struct Named {
        #[diesel(sql_type = Text)]
        of: String,
    }

    #[tokio::test]
    async fn the_database_takes_those_for_one_who_are_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options::test(folder.path().join("db"));
        let cluster = Cluster::start(options).await.unwrap();
        let store = Store::new(&cluster.url("postgres"), 1).unwrap();
        let mut tx = store.begin_plain().await.unwrap();
        let conn: &mut Conn = &mut tx;
        for name in [
            "",
            "anybody",
            "tokens/crm/a",
            "idp/certificates/crm/a",
            "certificates/crm",
            "certificates/crm2/web",
            "certificates/crm/sa/web",
        ] {
            let sql = format!("SELECT {} AS of", person_of("$1"));
            let asked = diesel::sql_query(sql).bind::<Text, _>(name);
            let Named { of } = asked.get_result(conn).await.unwrap();
            assert_eq!(of, person(name), "{name}");
        }
    }
}

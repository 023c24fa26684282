//! Campaigns, phases, outbounds and audiences.

mod audience;
mod phase;

use anklang_domain::{CampaignId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Bool, Date, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

pub(crate) use audience::EXCLUSION_REASON;
pub use audience::{CANDIDATES, Candidate, Side, candidates};
pub(crate) use phase::{ASKED, TICKED};
pub use phase::{
    NewAudience, NewOutbound, NewPhase, Outbound, PHASES, Phase, Target, add_phase, list_phases,
    outbounds, phases, rename_phase, target, unknown_contracts,
};

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result};

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Campaign {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// What people call it.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// When it is planned to start.
    #[diesel(sql_type = Nullable<Date>)]
    pub planned_start: Option<NaiveDate>,
    /// active or cancelled.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Whether it is held.
    #[diesel(sql_type = Bool)]
    pub paused: bool,
    /// When it was created.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// Makes a campaign.
pub async fn create(
    conn: &mut Conn,
    tenant: TenantId,
    name: &str,
    planned_start: Option<NaiveDate>,
) -> Result<Campaign> {
    Ok(diesel::sql_query(
        "INSERT INTO campaign (tenant_id, id, name, planned_start) VALUES ($1, $2, $3, $4)
         RETURNING id, name, planned_start, state, paused, created_at",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(CampaignId::new().0)
    .bind::<Text, _>(name)
    .bind::<Nullable<Date>, _>(planned_start)
    .get_result(conn)
    .await?)
}

/// One campaign.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: CampaignId) -> Result<Option<Campaign>> {
    Ok(diesel::sql_query(
        "SELECT id, name, planned_start, state, paused, created_at FROM campaign WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// One campaign, locked: whoever adds phases to it or controls it takes turns.
pub async fn lock(conn: &mut Conn, tenant: TenantId, id: CampaignId) -> Result<Option<Campaign>> {
    Ok(diesel::sql_query(
        "SELECT id, name, planned_start, state, paused, created_at FROM campaign
         WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .get_result(conn)
    .await
    .optional()?)
}

/// Gives a campaign that name and planned start; `None` when there is none. With another name the approvals of what
/// its phases have left to send are void (migration `campaign_names`).
pub async fn update(
    conn: &mut Conn,
    tenant: TenantId,
    id: CampaignId,
    name: &str,
    planned_start: Option<NaiveDate>,
) -> Result<Option<Campaign>> {
    Ok(diesel::sql_query(
        "UPDATE campaign SET name = $3, planned_start = $4 WHERE tenant_id = $1 AND id = $2
         RETURNING id, name, planned_start, state, paused, created_at",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(name)
    .bind::<Nullable<Date>, _>(planned_start)
    .get_result(conn)
    .await
    .optional()?)
}

/// What campaigns are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("display_name", Kind::Text, "name"),
        Field::nullable("planned_start_date", Kind::Date, "planned_start"),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of campaigns, newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Campaign>> {
    let base = Statement::numbered(
        "SELECT id, name, planned_start, state, paused, created_at FROM campaign WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

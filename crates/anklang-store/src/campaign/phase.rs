//! Phases: whom they are for, what they offer, and how that goes out.

use anklang_domain::offer::OpenOffers;
use anklang_domain::phase::Reaction;
use anklang_domain::planning::Calls;
use anklang_domain::schedule::{Slot, Stage};
use anklang_domain::{CampaignId, OperationId, OutboundId, PhaseId, ProductVersionId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, Bool, Date, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::call::Call;
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A phase with its audience's origin and its outbound.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Phase {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Its campaign.
    #[diesel(sql_type = SqlUuid)]
    pub campaign_id: Uuid,
    /// Number within the campaign, from 1.
    #[diesel(sql_type = Integer)]
    pub number: i32,
    /// What people call it.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Number of the target version's product.
    #[diesel(sql_type = Text)]
    pub product_number: String,
    /// Code of the target version.
    #[diesel(sql_type = Text)]
    pub product_version_code: String,
    /// Last day on which its offers can be accepted.
    #[diesel(sql_type = Date)]
    pub offer_valid_until: NaiveDate,
    /// A word of [`anklang_domain::phase::PhaseState`].
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Its launch.
    #[diesel(sql_type = SqlUuid)]
    pub operation_id: Uuid,
    /// The saved selection, if it was one.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub selection_id: Option<Uuid>,
    /// Its version.
    #[diesel(sql_type = Nullable<Integer>)]
    pub selection_version: Option<i32>,
    /// The frozen criteria.
    #[diesel(sql_type = Jsonb)]
    pub criteria: Value,
    /// The reaction to an earlier phase that its audience has shown, as stored.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub reaction: Option<Value>,
    /// Campaign of that earlier phase.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub reaction_campaign_id: Option<Uuid>,
    /// Number of that earlier phase.
    #[diesel(sql_type = Nullable<Integer>)]
    pub reaction_number: Option<i32>,
    /// Held by itself.
    #[diesel(sql_type = Bool)]
    pub paused: bool,
    /// First planned day.
    #[diesel(sql_type = Nullable<Date>)]
    pub start_date: Option<NaiveDate>,
    /// Last planned day.
    #[diesel(sql_type = Nullable<Date>)]
    pub end_date: Option<NaiveDate>,
    /// Number of the first of those that are parallel; its own when it is alone.
    #[diesel(sql_type = Integer)]
    pub parallel_group: i32,
    /// Numbers of the phases that it comes after.
    #[diesel(sql_type = Array<Integer>)]
    pub predecessors: Vec<i32>,
    /// A word of [`anklang_domain::offer::OpenOffers`].
    #[diesel(sql_type = Text)]
    pub open_offers: String,
    /// One offer for each household.
    #[diesel(sql_type = Bool)]
    pub one_per_household: bool,
    /// Without contracts that end within so many days.
    #[diesel(sql_type = Nullable<Integer>)]
    pub ending_within_days: Option<i32>,
    /// Without contracts to which notice was given.
    #[diesel(sql_type = Bool)]
    pub leave_out_terminated: bool,
    /// When it started.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it was completed.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub completed_at: Option<DateTime<Utc>>,
    /// When it was created.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// What a new phase is made of.
#[derive(Debug, Clone)]
pub struct NewPhase<'a> {
    /// Its campaign.
    pub campaign: CampaignId,
    /// What people call it; "Phase N" when empty.
    pub name: &'a str,
    /// The target version.
    pub product_version: ProductVersionId,
    /// Last day on which its offers can be accepted.
    pub offer_valid_until: NaiveDate,
    /// Its launch.
    pub operation: OperationId,
    /// Who is addressed.
    pub audience: NewAudience<'a>,
    /// What happens with contracts that have an open offer.
    pub open_offers: OpenOffers,
    /// One offer for each household.
    pub one_per_household: bool,
    /// Without contracts that end within so many days, from 1.
    pub ending_within_days: Option<i32>,
    /// Without contracts to which notice was given.
    pub leave_out_terminated: bool,
    /// Its place and its dates; the stage says whether it waits.
    pub slot: Slot,
    /// How its offers go out.
    pub outbound: NewOutbound<'a>,
}

/// Who is addressed, before it is frozen.
#[derive(Debug, Clone)]
pub struct NewAudience<'a> {
    /// The saved selection and its version, if it was one; its ticks are kept with the audience.
    pub selection: Option<(Uuid, i32)>,
    /// The criteria, as stored by selections.
    pub criteria: Value,
    /// Numbers of unticked contracts.
    pub deselected: &'a [String],
    /// Only those who have shown this reaction to an earlier phase.
    pub reaction: Option<&'a Reaction>,
}

/// One sending.
#[derive(Debug, Clone)]
pub struct NewOutbound<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The account of the channel; empty with a route.
    pub account: &'a str,
    /// The route by which it goes, if it does.
    pub route: Option<&'a str>,
    /// Key of the message template.
    pub message_template: &'a str,
    /// Key of the document template.
    pub document_template: &'a str,
    /// Purpose for which consent is needed.
    pub purpose: &'a str,
    /// How members are called, and the code of the plan by whose rules; instead of messages.
    pub phone: Option<(&'a Calls, Option<&'a str>)>,
}

/// Adds a phase with its (still empty) audience and its outbound, and notes whose call it is. The
/// campaign is locked by the caller, who got the phase's number by [`crate::phase::slots`].
pub async fn add_phase(conn: &mut Conn, tenant: TenantId, new: NewPhase<'_>) -> Result<Phase> {
    let id = PhaseId::new();
    let (slot, waits) = (&new.slot, new.slot.stage == Stage::Waiting);
    diesel::sql_query(
        "INSERT INTO phase (tenant_id, id, campaign_id, number, name, product_version_id,
             offer_valid_until, operation_id, state, started_at, start_date, end_date,
             parallel_group, predecessors, open_offers, one_per_household, ending_within_days,
             launched_by, leave_out_terminated)
         VALUES ($1, $2, $3, $4, CASE WHEN $5 = '' THEN 'Phase ' || $4 ELSE $5 END, $6, $7, $8,
             CASE WHEN $9 THEN 'planned' ELSE 'launching' END, CASE WHEN NOT $9 THEN now() END,
             $10, $11, nullif($12, $4), $13, $14, $15, $16, $17, $18)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<SqlUuid, _>(new.campaign.0)
    .bind::<Integer, _>(slot.number)
    .bind::<Text, _>(new.name)
    .bind::<SqlUuid, _>(new.product_version.0)
    .bind::<Date, _>(new.offer_valid_until)
    .bind::<SqlUuid, _>(new.operation.0)
    .bind::<Bool, _>(waits)
    .bind::<Nullable<Date>, _>(slot.start)
    .bind::<Nullable<Date>, _>(slot.end)
    .bind::<Integer, _>(slot.group)
    .bind::<Array<Integer>, _>(&slot.predecessors)
    .bind::<Text, _>(new.open_offers.as_str())
    .bind::<Bool, _>(new.one_per_household)
    .bind::<Nullable<Integer>, _>(new.ending_within_days)
    .bind::<Text, _>(Call::current_caller())
    .bind::<Bool, _>(new.leave_out_terminated)
    .execute(conn)
    .await?;
    insert_audience(conn, tenant, id, &new.audience).await?;
    let phone = new
        .outbound
        .phone
        .map(|(calls, _)| serde_json::to_value(calls));
    let phone = phone
        .transpose()
        .map_err(|e| StoreError::Stored(format!("how an outbound calls: {e}")))?;
    diesel::sql_query(
        "INSERT INTO outbound (tenant_id, id, phase_id, number, channel, account, message_template,
                               document_template, purpose, route, phone, contact_plan)
         VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(OutboundId::new().0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(new.outbound.channel)
    .bind::<Text, _>(new.outbound.account)
    .bind::<Text, _>(new.outbound.message_template)
    .bind::<Text, _>(new.outbound.document_template)
    .bind::<Text, _>(new.outbound.purpose)
    .bind::<Nullable<Text>, _>(new.outbound.route)
    .bind::<Nullable<Jsonb>, _>(phone)
    .bind::<Nullable<Text>, _>(new.outbound.phone.and_then(|(_, plan)| plan))
    .execute(conn)
    .await?;
    let mut phases = phases(conn, tenant, new.campaign, Some(id)).await?;
    phases
        .pop()
        .ok_or_else(|| StoreError::Stored("a phase without audience".into()))
}

async fn insert_audience(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    new: &NewAudience<'_>,
) -> Result<()> {
    let insert = format!(
        "{TICKED}
         INSERT INTO audience (tenant_id, phase_id, selection_id, selection_version, criteria,
                               deselected, included, reaction)
         SELECT $1, $2, {ASKED}"
    );
    diesel::sql_query(insert)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(phase.0)
        .bind::<Nullable<SqlUuid>, _>(new.selection.map(|s| s.0))
        .bind::<Nullable<Integer>, _>(new.selection.map(|s| s.1))
        .bind::<Jsonb, _>(&new.criteria)
        .bind::<Array<Text>, _>(new.deselected)
        .bind::<Nullable<Jsonb>, _>(new.reaction_as_stored()?)
        .execute(conn)
        .await?;
    Ok(())
}

/// The ticks of the selection `$3`; for [`ASKED`].
pub(crate) const TICKED: &str = "WITH ticked AS MATERIALIZED (
    SELECT c.number, t.tick FROM selection_tick t
    JOIN contract c ON c.tenant_id = t.tenant_id AND c.id = t.contract_id
    WHERE t.tenant_id = $1 AND t.selection_id = $3)";

/// An audience as it was asked for: selection_id, selection_version, criteria, deselected, included,
/// reaction from `$3` to `$7` and [`TICKED`].
pub(crate) const ASKED: &str = "$3, $4, $5,
    $6 || ARRAY(SELECT number FROM ticked WHERE tick = 'excluded'),
    ARRAY(SELECT number FROM ticked WHERE tick = 'included'), $7";

impl NewAudience<'_> {
    pub(crate) fn reaction_as_stored(&self) -> Result<Option<Value>> {
        let reaction = self.reaction.map(serde_json::to_value).transpose();
        reaction.map_err(|e| StoreError::Stored(format!("a reaction: {e}")))
    }
}

/// What the phases of a campaign are listed by.
pub static PHASES: Listable = Listable {
    fields: &[
        Field::new("display_name", Kind::Text, "name"),
        Field::column(
            "state",
            Kind::Word(
                "PHASE_STATE_",
                &[
                    "planned",
                    "launching",
                    "awaiting_approval",
                    "active",
                    "completed",
                    "failed",
                    "cancelled",
                ],
            ),
        ),
        Field::resource(
            "target_product_version",
            &[
                Part::new("products", "product_number", PartType::Text),
                Part::new("versions", "product_version_code", PartType::Text),
            ],
        ),
        Field::new("offer_valid_until_date", Kind::Date, "offer_valid_until"),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("number", "::integer", false)],
};

/// A page of a campaign's phases, in order if not otherwise wanted.
pub async fn list_phases(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    list: &List,
) -> Result<Page<Phase>> {
    let base = Statement::numbered(
        PHASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<SqlUuid, _>(campaign.0),
        ],
    );
    list.load(conn, base).await
}

const PHASE: &str = "SELECT p.id, p.campaign_id, p.number, p.name, pr.number AS product_number,
            v.code AS product_version_code, p.offer_valid_until, p.state, p.operation_id,
            a.selection_id, a.selection_version, a.criteria, a.reaction,
            r.campaign_id AS reaction_campaign_id, r.number AS reaction_number, p.paused,
            p.start_date, p.end_date, coalesce(p.parallel_group, p.number) AS parallel_group,
            p.predecessors, p.open_offers, p.one_per_household, p.ending_within_days,
            p.leave_out_terminated,
            p.started_at, p.completed_at, p.created_at
     FROM phase p
     JOIN audience a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
     LEFT JOIN phase r ON r.tenant_id = p.tenant_id AND r.id = (a.reaction->>'phase')::uuid
     JOIN product_version v ON v.tenant_id = p.tenant_id AND v.id = p.product_version_id
     JOIN product pr ON pr.tenant_id = v.tenant_id AND pr.id = v.product_id
     WHERE p.tenant_id = $1 AND p.campaign_id = $2";

/// A campaign's phases in order, or one of them.
pub async fn phases(
    mut conn: &Conn,
    tenant: TenantId,
    campaign: CampaignId,
    only: Option<PhaseId>,
) -> Result<Vec<Phase>> {
    Ok(diesel::sql_query(format!(
        "{PHASE} AND ($3 IS NULL OR p.id = $3) ORDER BY p.number"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Nullable<SqlUuid>, _>(only.map(|id| id.0))
    .load(&mut conn)
    .await?)
}

/// A sending of a phase.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Outbound {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Its phase.
    #[diesel(sql_type = SqlUuid)]
    pub phase_id: Uuid,
    /// Number within the phase, from 1.
    #[diesel(sql_type = Integer)]
    pub number: i32,
    /// The channel.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// The account of the channel; empty with a route.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// The route by which it goes, if it does.
    #[diesel(sql_type = Nullable<Text>)]
    pub route: Option<String>,
    /// Key of the message template.
    #[diesel(sql_type = Text)]
    pub message_template: String,
    /// Key of the document template.
    #[diesel(sql_type = Text)]
    pub document_template: String,
    /// Purpose for which consent is needed.
    #[diesel(sql_type = Text)]
    pub purpose: String,
    /// How members are called, as stored: [`crate::planning::calls::read`].
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub phone: Option<Value>,
    /// Code of the plan by whose rules they are.
    #[diesel(sql_type = Nullable<Text>)]
    pub contact_plan: Option<String>,
}

/// A campaign's outbounds, by phase and number.
pub async fn outbounds(
    mut conn: &Conn,
    tenant: TenantId,
    campaign: CampaignId,
) -> Result<Vec<Outbound>> {
    Ok(diesel::sql_query(
        "SELECT o.id, o.phase_id, o.number, o.channel, o.account, o.message_template,
                o.document_template, o.purpose, o.route, o.phone, o.contact_plan
         FROM outbound o JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
         WHERE o.tenant_id = $1 AND p.campaign_id = $2 ORDER BY p.number, o.number",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .load(&mut conn)
    .await?)
}

/// Gives a phase that name, if there is one. With another name the approval of what it has left to send is void
/// (migration `approvals`).
pub async fn rename_phase(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
    number: i32,
    name: &str,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE phase SET name = $4 WHERE tenant_id = $1 AND campaign_id = $2 AND number = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Integer, _>(number)
    .bind::<Text, _>(name)
    .execute(conn)
    .await?;
    Ok(())
}

/// A product version that can be offered.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Target {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// First day on which its prices hold.
    #[diesel(sql_type = Date)]
    pub valid_from: NaiveDate,
    /// Last day on which they hold.
    #[diesel(sql_type = Nullable<Date>)]
    pub valid_to: Option<NaiveDate>,
}

/// The version of a product by number and code.
pub async fn target(
    conn: &mut Conn,
    tenant: TenantId,
    product_number: &str,
    code: &str,
) -> Result<Option<Target>> {
    Ok(diesel::sql_query(
        "SELECT v.id, v.valid_from, v.valid_to FROM product_version v
         JOIN product p ON p.tenant_id = v.tenant_id AND p.id = v.product_id
         WHERE v.tenant_id = $1 AND p.number = $2 AND v.code = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(product_number)
    .bind::<Text, _>(code)
    .get_result(conn)
    .await
    .optional()?)
}

/// Those of the contract numbers that the tenant does not have.
pub async fn unknown_contracts(
    conn: &mut Conn,
    tenant: TenantId,
    numbers: &[String],
) -> Result<Vec<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        number: String,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT DISTINCT n.number FROM unnest($2) n (number) WHERE NOT EXISTS (
             SELECT FROM contract c WHERE c.tenant_id = $1 AND c.number = n.number)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(numbers)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|r| r.number).collect())
}

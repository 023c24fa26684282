//! Campaigns, phases, outbounds and audiences.

use anklang_domain::{CampaignId, OperationId, OutboundId, PhaseId, ProductVersionId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
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
         RETURNING id, name, planned_start, created_at",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(CampaignId::new().0)
    .bind::<Text, _>(name)
    .bind::<Nullable<Date>, _>(planned_start)
    .get_result(conn)
    .await?)
}

/// One campaign.
pub async fn get(conn: &mut Conn, tenant: TenantId, id: CampaignId) -> Result<Option<Campaign>> {
    Ok(diesel::sql_query(
        "SELECT id, name, planned_start, created_at FROM campaign WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
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
pub async fn list(conn: &mut Conn, tenant: TenantId, list: &List) -> Result<Page<Campaign>> {
    let base = Statement::numbered(
        "SELECT id, name, planned_start, created_at FROM campaign WHERE tenant_id = $1",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

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
    /// launching, active, failed or cancelled.
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
    /// The saved selection and its version, if it was one.
    pub selection: Option<(Uuid, i32)>,
    /// The criteria, as stored by selections.
    pub criteria: Value,
    /// Numbers of unticked contracts.
    pub deselected: &'a [String],
    /// How its offers go out.
    pub outbound: NewOutbound<'a>,
}

/// One sending.
#[derive(Debug, Clone)]
pub struct NewOutbound<'a> {
    /// The channel.
    pub channel: &'a str,
    /// The account of the channel.
    pub account: &'a str,
    /// Key of the message template.
    pub message_template: &'a str,
    /// Key of the document template.
    pub document_template: &'a str,
    /// Purpose for which consent is needed.
    pub purpose: &'a str,
}

/// Adds a phase with its (still empty) audience and its outbound.
pub async fn add_phase(conn: &mut Conn, tenant: TenantId, new: NewPhase<'_>) -> Result<Phase> {
    let id = PhaseId::new();
    // Phases of one campaign are numbered in turn.
    diesel::sql_query("SELECT 1 FROM campaign WHERE tenant_id = $1 AND id = $2 FOR UPDATE")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(new.campaign.0)
        .execute(conn)
        .await?;
    diesel::sql_query(
        "INSERT INTO phase (tenant_id, id, campaign_id, number, name, product_version_id,
                            offer_valid_until, operation_id)
         SELECT $1, $2, $3, n, CASE WHEN $4 = '' THEN 'Phase ' || n ELSE $4 END, $5, $6, $7
         FROM (SELECT coalesce(max(number), 0) + 1 AS n FROM phase
               WHERE tenant_id = $1 AND campaign_id = $3) next",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<SqlUuid, _>(new.campaign.0)
    .bind::<Text, _>(new.name)
    .bind::<SqlUuid, _>(new.product_version.0)
    .bind::<Date, _>(new.offer_valid_until)
    .bind::<SqlUuid, _>(new.operation.0)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "INSERT INTO audience (tenant_id, phase_id, selection_id, selection_version, criteria, deselected)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Nullable<SqlUuid>, _>(new.selection.map(|s| s.0))
    .bind::<Nullable<Integer>, _>(new.selection.map(|s| s.1))
    .bind::<Jsonb, _>(new.criteria)
    .bind::<Array<Text>, _>(new.deselected)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "INSERT INTO outbound (tenant_id, id, phase_id, number, channel, account, message_template,
                               document_template, purpose)
         VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(OutboundId::new().0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(new.outbound.channel)
    .bind::<Text, _>(new.outbound.account)
    .bind::<Text, _>(new.outbound.message_template)
    .bind::<Text, _>(new.outbound.document_template)
    .bind::<Text, _>(new.outbound.purpose)
    .execute(conn)
    .await?;
    let mut phases = phases(conn, tenant, new.campaign, Some(id)).await?;
    phases
        .pop()
        .ok_or_else(|| crate::StoreError::Stored("a phase without audience".into()))
}

/// What the phases of a campaign are listed by.
pub static PHASES: Listable = Listable {
    fields: &[
        Field::new("display_name", Kind::Text, "name"),
        Field::column(
            "state",
            Kind::Word(
                "PHASE_STATE_",
                &["launching", "active", "failed", "cancelled"],
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
            a.selection_id, a.selection_version, a.criteria, p.created_at
     FROM phase p
     JOIN audience a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
     JOIN product_version v ON v.tenant_id = p.tenant_id AND v.id = p.product_version_id
     JOIN product pr ON pr.tenant_id = v.tenant_id AND pr.id = v.product_id
     WHERE p.tenant_id = $1 AND p.campaign_id = $2";

/// A campaign's phases in order, or one of them.
pub async fn phases(
    conn: &mut Conn,
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
    .load(conn)
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
    /// The account of the channel.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Key of the message template.
    #[diesel(sql_type = Text)]
    pub message_template: String,
    /// Key of the document template.
    #[diesel(sql_type = Text)]
    pub document_template: String,
    /// Purpose for which consent is needed.
    #[diesel(sql_type = Text)]
    pub purpose: String,
}

/// A campaign's outbounds, by phase and number.
pub async fn outbounds(
    conn: &mut Conn,
    tenant: TenantId,
    campaign: CampaignId,
) -> Result<Vec<Outbound>> {
    Ok(diesel::sql_query(
        "SELECT o.id, o.phase_id, o.number, o.channel, o.account, o.message_template,
                o.document_template, o.purpose
         FROM outbound o JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
         WHERE o.tenant_id = $1 AND p.campaign_id = $2 ORDER BY p.number, o.number",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .load(conn)
    .await?)
}

/// Which candidates of an audience to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// All.
    Both,
    /// Members.
    Members,
    /// Those left out.
    Excluded,
}

/// A candidate of an audience.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Candidate {
    /// Its place, by contract number.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Contract number.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// Why it was left out.
    #[diesel(sql_type = Nullable<Text>)]
    pub exclusion: Option<String>,
    /// Number of its offer, once made.
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
}

/// What the candidates of an audience are listed by.
pub static CANDIDATES: Listable = Listable {
    fields: &[
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "contract",
            &[Part::new("contracts", "contract_number", PartType::Text)],
        ),
        Field::nullable(
            "exclusion_reason",
            Kind::Word(
                "EXCLUSION_REASON_",
                &[
                    "deselected",
                    "contract_ended",
                    "other_division",
                    "already_on_target",
                    "no_quantity",
                    "no_address",
                    "suppressed",
                    "no_consent",
                ],
            ),
            "exclusion",
        ),
        Field::resource(
            "offer",
            &[Part::new("offers", "offer_number", PartType::Text)],
        ),
    ],
    key: &[Sort::key("seq", "::bigint", false)],
};

/// A page of an audience's candidates, by contract number if not otherwise wanted.
pub async fn candidates(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    side: Side,
    exclusion: Option<&'static str>,
    list: &List,
) -> Result<Page<Candidate>> {
    let members = match side {
        Side::Both => None,
        Side::Members => Some(true),
        Side::Excluded => Some(false),
    };
    let base = Statement::numbered(
        "SELECT m.seq, cu.number AS customer_number, co.number AS contract_number, m.exclusion,
                o.number AS offer_number
         FROM audience_member m
         JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
         JOIN contract co ON co.tenant_id = m.tenant_id AND co.id = m.contract_id
         LEFT JOIN offer o ON o.tenant_id = m.tenant_id AND o.phase_id = m.phase_id
                          AND o.member_seq = m.seq
         WHERE m.tenant_id = $1 AND m.phase_id = $2
           AND ($3 IS NULL OR (m.exclusion IS NULL) = $3)
           AND ($4 IS NULL OR m.exclusion = $4)",
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<SqlUuid, _>(phase.0),
            bound::<Nullable<Bool>, _>(members),
            bound::<Nullable<Text>, _>(exclusion),
        ],
    );
    list.load(conn, base).await
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

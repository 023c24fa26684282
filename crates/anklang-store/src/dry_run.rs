//! Dry runs of launches: their audience, decided by the same statement as a real one
//! ([`crate::launch::freeze`]), and what it comes to. A dry run is known by its operation and goes
//! with it.

use std::sync::LazyLock;

use anklang_domain::{OperationId, ProductVersionId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Integer, Jsonb, Nullable, Numeric, Text, Timestamptz,
    Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::campaign::{ASKED, NewAudience, TICKED};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, Store};

/// A dry run that is asked for.
#[derive(Debug, Clone)]
pub struct NewDryRun<'a> {
    /// Its operation.
    pub operation: OperationId,
    /// The day of the launch.
    pub as_of: NaiveDate,
    /// The version that would be offered.
    pub product_version: ProductVersionId,
    /// Who would be addressed.
    pub audience: NewAudience<'a>,
}

/// Writes a dry run down, with its audience yet to be found.
pub async fn create(conn: &mut Conn, tenant: TenantId, new: NewDryRun<'_>) -> Result<()> {
    let audience = &new.audience;
    diesel::sql_query(format!(
        "{TICKED}
         INSERT INTO dry_run (tenant_id, dry_run_id, selection_id, selection_version, criteria,
                              deselected, included, reaction, as_of, product_version_id)
         SELECT $1, $2, {ASKED}, $8, $9"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(new.operation.0)
    .bind::<Nullable<SqlUuid>, _>(audience.selection.map(|s| s.0))
    .bind::<Nullable<Integer>, _>(audience.selection.map(|s| s.1))
    .bind::<Jsonb, _>(&audience.criteria)
    .bind::<Array<Text>, _>(audience.deselected)
    .bind::<Nullable<Jsonb>, _>(audience.reaction_as_stored()?)
    .bind::<Date, _>(new.as_of)
    .bind::<SqlUuid, _>(new.product_version.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Candidates left out for one reason.
#[derive(Debug, Clone, QueryableByName)]
pub struct LeftOut {
    /// The reason's word.
    #[diesel(sql_type = Text)]
    pub exclusion: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub n: i64,
}

/// How many candidates are left out, by reason.
pub async fn left_out(
    conn: &mut Conn,
    tenant: TenantId,
    dry_run: OperationId,
) -> Result<Vec<LeftOut>> {
    Ok(diesel::sql_query(
        "SELECT exclusion, count(*) AS n FROM dry_run_candidate
         WHERE tenant_id = $1 AND dry_run_id = $2 AND exclusion IS NOT NULL
         GROUP BY exclusion ORDER BY exclusion",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(dry_run.0)
    .load(conn)
    .await?)
}

/// What the offers of a dry run would come to.
#[derive(Debug, Clone, QueryableByName)]
pub struct Offers {
    /// Sum of their annual amounts.
    #[diesel(sql_type = Numeric)]
    pub amount: Decimal,
    /// Its currency.
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// Open offers for the members' contracts on the day.
    #[diesel(sql_type = BigInt)]
    pub open: i64,
}

/// The annual amount of the offer for the contract `co` of the version `v`, as
/// [`crate::offer::make`] computes it.
const AMOUNT: &str =
    "round(v.base_price_per_year + v.unit_price_per_kwh * co.annual_quantity_kwh, 2)";

/// What the members' offers would come to, and the open ones that they have.
pub async fn offers(conn: &mut Conn, tenant: TenantId, dry_run: OperationId) -> Result<Offers> {
    Ok(diesel::sql_query(format!(
        "SELECT coalesce(sum({AMOUNT}), 0) AS amount, v.currency, coalesce(sum(open.n), 0)::bigint AS open
         FROM dry_run d
         JOIN product_version v ON v.tenant_id = d.tenant_id AND v.id = d.product_version_id
         LEFT JOIN dry_run_candidate m ON m.tenant_id = d.tenant_id
              AND m.dry_run_id = d.dry_run_id AND m.exclusion IS NULL
         LEFT JOIN LATERAL (SELECT annual_quantity_kwh FROM contract
                            WHERE tenant_id = $1 AND id = m.contract_id OFFSET 0) co ON true
         LEFT JOIN LATERAL (
             SELECT count(*) AS n FROM offer o
             WHERE o.tenant_id = $1 AND o.contract_id = m.contract_id AND o.state = 'open'
               AND o.valid_until >= d.as_of AND NOT EXISTS (
                   SELECT FROM phase op WHERE op.tenant_id = $1 AND op.id = o.phase_id
                     AND op.state IN ('cancelled', 'failed'))) open ON true
         WHERE d.tenant_id = $1 AND d.dry_run_id = $2
         GROUP BY v.currency"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(dry_run.0)
    .get_result(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Messages of a tenant that wait for an account; those of phases that are held do not count.
pub async fn backlog(conn: &mut Conn, tenant: TenantId, account: &str) -> Result<i64> {
    let counted: Count = diesel::sql_query(
        "SELECT count(*) AS n FROM message m
         LEFT JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
         LEFT JOIN campaign c ON c.tenant_id = p.tenant_id AND c.id = p.campaign_id
         WHERE m.tenant_id = $1 AND m.account = $2 AND m.state IN ('queued', 'sending')
           AND p.paused IS NOT TRUE AND c.paused IS NOT TRUE AND p.unapproved IS NOT TRUE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .get_result(conn)
    .await?;
    Ok(counted.n)
}

/// How many messages an account sent for a tenant in its busiest minute of the last 30 days. Reads
/// all of them.
pub async fn busiest_minute(conn: &mut Conn, tenant: TenantId, account: &str) -> Result<i64> {
    let counted: Count = diesel::sql_query(
        "SELECT coalesce(max(n), 0) AS n FROM (
             SELECT count(*) AS n FROM message
             WHERE tenant_id = $1 AND account = $2 AND sent_at > now() - interval '30 days'
             GROUP BY date_trunc('minute', sent_at)) minutes",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .get_result(conn)
    .await?;
    Ok(counted.n)
}

/// A candidate of a dry run.
#[derive(Debug, Clone, QueryableByName)]
pub struct Candidate {
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Contract number.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// Why it would be left out.
    #[diesel(sql_type = Nullable<Text>)]
    pub exclusion: Option<String>,
    /// Where the message would go.
    #[diesel(sql_type = Nullable<Text>)]
    pub address: Option<String>,
    /// The annual amount of its offer; none for those left out.
    #[diesel(sql_type = Nullable<Numeric>)]
    pub amount: Option<Decimal>,
    /// The amount's currency.
    #[diesel(sql_type = Text)]
    pub currency: String,
}

/// What the candidates of a dry run are listed by.
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
        crate::campaign::EXCLUSION_REASON,
        Field::nullable("address", Kind::Text, "address"),
        Field::nullable("annual_amount", Kind::Number, "amount"),
    ],
    key: &[Sort::key("seq", "::bigint", false)],
};

/// Whether there is such a dry run.
pub async fn exists(conn: &mut Conn, tenant: TenantId, dry_run: OperationId) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        found: bool,
    }
    let row: Row = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM dry_run WHERE tenant_id = $1 AND dry_run_id = $2) AS found",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(dry_run.0)
    .get_result(conn)
    .await?;
    Ok(row.found)
}

/// A page of a dry run's candidates, by contract number if not otherwise wanted.
pub async fn candidates(
    conn: &mut Conn,
    tenant: TenantId,
    dry_run: OperationId,
    list: &List,
) -> Result<Page<Candidate>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT m.seq, cu.number AS customer_number, co.number AS contract_number, m.exclusion,
                CASE WHEN m.exclusion IS NULL THEN cp.address END AS address,
                CASE WHEN m.exclusion IS NULL THEN {AMOUNT} END AS amount, v.currency
         FROM dry_run d
         JOIN product_version v ON v.tenant_id = d.tenant_id AND v.id = d.product_version_id
         JOIN dry_run_candidate m ON m.tenant_id = d.tenant_id AND m.dry_run_id = d.dry_run_id
         JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
         JOIN contract co ON co.tenant_id = m.tenant_id AND co.id = m.contract_id
         LEFT JOIN contact_point cp ON cp.tenant_id = m.tenant_id AND cp.id = m.contact_point_id
         WHERE d.tenant_id = $1 AND d.dry_run_id = $2"
        )
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<SqlUuid, _>(dry_run.0),
        ],
    );
    list.load(conn, base).await
}

/// Dry runs of all tenants that were over before a time, at most so many.
pub async fn old(
    store: &Store,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(TenantId, OperationId)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        tenant_id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let mut tx = store.begin_worker().await?;
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT o.tenant_id, o.id FROM dry_run d
         JOIN operation o ON o.tenant_id = d.tenant_id AND o.id = d.dry_run_id
         WHERE o.updated_at < $1 AND o.state IN ('succeeded', 'failed', 'cancelled')
         ORDER BY o.updated_at LIMIT $2",
    )
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows
        .into_iter()
        .map(|r| (TenantId(r.tenant_id), OperationId(r.id)))
        .collect())
}

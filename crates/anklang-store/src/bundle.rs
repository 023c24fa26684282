//! Bundles: the documents of an outbound as print files and an index, made once by an operation.
//!
//! A file's row and the places of its letters are written in one transaction, after the file lies in
//! the document store; what is left to do follows from the rows.

use anklang_domain::{CampaignId, OperationId, PhaseId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    BigInt, Bytea, Date, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result, document};

mod remake;

pub(crate) use remake::{MAKING, mark_for_remake};
pub use remake::{Stale, next_stale, remake};

/// Number of the index among the files of a bundle.
pub const INDEX: i32 = 0;

/// An outbound, and its bundle if there is one.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Outbound {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Its number in the phase.
    #[diesel(sql_type = Integer)]
    pub number: i32,
    /// Its phase.
    #[diesel(sql_type = SqlUuid)]
    pub phase_id: Uuid,
    /// Number of its phase.
    #[diesel(sql_type = Integer)]
    pub phase_number: i32,
    /// State of its phase; `cancelled` if its campaign is.
    #[diesel(sql_type = Text)]
    pub phase_state: String,
    /// Name of its phase.
    #[diesel(sql_type = Text)]
    pub phase_name: String,
    /// Its campaign.
    #[diesel(sql_type = SqlUuid)]
    pub campaign_id: Uuid,
    /// Name of its campaign.
    #[diesel(sql_type = Text)]
    pub campaign_name: String,
    /// Key of the document template; empty when it has no documents.
    #[diesel(sql_type = Text)]
    pub document_template: String,
    /// The last place of its audience.
    #[diesel(sql_type = BigInt)]
    pub candidates: i64,
    /// Day of its offers, if there are any.
    #[diesel(sql_type = Nullable<Date>)]
    pub offer_date: Option<NaiveDate>,
    /// State of the bundle.
    #[diesel(sql_type = Nullable<Text>)]
    pub state: Option<String>,
    /// Operation that makes or made the bundle.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub operation_id: Option<Uuid>,
    /// When the bundle was begun.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub created_at: Option<DateTime<Utc>>,
    /// When the bundle was complete.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub completed_at: Option<DateTime<Utc>>,
}

impl Outbound {
    /// Its phase.
    pub fn phase(&self) -> PhaseId {
        PhaseId(self.phase_id)
    }

    /// Whether its letters may still be printed.
    pub fn is_wanted(&self) -> bool {
        matches!(&self.phase_state[..], "active" | "completed")
    }
}

fn select(rest: &str) -> String {
    format!(
        "SELECT ob.id, ob.number, ob.phase_id, p.number AS phase_number,
                CASE WHEN c.state = 'cancelled' THEN c.state ELSE p.state END AS phase_state,
                p.name AS phase_name, p.campaign_id, c.name AS campaign_name, ob.document_template,
                a.candidates,
                (SELECT o.offer_date FROM offer o WHERE o.tenant_id = $1 AND o.phase_id = p.id
                   AND o.member_seq > 0 ORDER BY o.member_seq LIMIT 1) AS offer_date,
                bu.state, bu.operation_id, bu.created_at, bu.completed_at
         FROM outbound ob
         JOIN phase p ON p.tenant_id = ob.tenant_id AND p.id = ob.phase_id
         JOIN campaign c ON c.tenant_id = p.tenant_id AND c.id = p.campaign_id
         JOIN audience a ON a.tenant_id = p.tenant_id AND a.phase_id = p.id
         LEFT JOIN bundle bu ON bu.tenant_id = ob.tenant_id AND bu.outbound_id = ob.id
         WHERE ob.tenant_id = $1 AND {rest}"
    )
}

/// An outbound by the numbers in its name.
pub async fn find(
    mut conn: &Conn,
    tenant: TenantId,
    campaign: CampaignId,
    phase: i32,
    outbound: i32,
) -> Result<Option<Outbound>> {
    Ok(diesel::sql_query(select(
        "p.campaign_id = $2 AND p.number = $3 AND ob.number = $4",
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(campaign.0)
    .bind::<Integer, _>(phase)
    .bind::<Integer, _>(outbound)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// An outbound by its id.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: Uuid) -> Result<Option<Outbound>> {
    Ok(diesel::sql_query(select("ob.id = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// The first outbound of a phase.
pub async fn of_phase(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
) -> Result<Option<Outbound>> {
    Ok(
        diesel::sql_query(select("ob.phase_id = $2 AND ob.number = 1"))
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(phase.0)
            .get_result(conn)
            .await
            .optional()?,
    )
}

/// Begins a bundle, or takes up one that was cancelled, has failed or was left by its operation. False
/// when there is one that is being made or ready: it stays as it is.
pub async fn begin(
    conn: &mut Conn,
    tenant: TenantId,
    outbound: Uuid,
    operation: OperationId,
) -> Result<bool> {
    let rows = diesel::sql_query(
        "INSERT INTO bundle (tenant_id, outbound_id, operation_id) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, outbound_id) DO UPDATE
             SET operation_id = excluded.operation_id, state = 'making'
             WHERE bundle.state IN ('cancelled', 'failed')
                OR (bundle.state = 'making' AND NOT EXISTS (
                    SELECT FROM operation o WHERE o.tenant_id = $1 AND o.id = bundle.operation_id
                      AND o.state IN ('queued', 'running')))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(outbound)
    .bind::<SqlUuid, _>(operation.0)
    .execute(conn)
    .await?;
    Ok(rows == 1)
}

/// Says where a bundle came to, for the operation that makes it: ready, cancelled or failed.
pub async fn end(
    conn: &mut Conn,
    tenant: TenantId,
    outbound: Uuid,
    operation: Uuid,
    state: &str,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE bundle SET state = $4,
                completed_at = CASE WHEN $4 = 'ready' THEN clock_timestamp() END
         WHERE tenant_id = $1 AND outbound_id = $2 AND operation_id = $3 AND state = 'making'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(outbound)
    .bind::<SqlUuid, _>(operation)
    .bind::<Text, _>(state)
    .execute(conn)
    .await?;
    Ok(())
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct File {
    /// Its number: [`INDEX`], or from 1.
    #[diesel(sql_type = Integer)]
    pub number: i32,
    /// Where it lies in the document store.
    #[diesel(sql_type = Text)]
    pub path: String,
    /// SHA-256 of its bytes.
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// Its size.
    #[diesel(sql_type = BigInt)]
    pub size_bytes: i64,
    /// Letters in it.
    #[diesel(sql_type = BigInt)]
    pub letters: i64,
    /// Its pages.
    #[diesel(sql_type = BigInt)]
    pub pages: i64,
    /// What it conforms to.
    #[diesel(sql_type = Text)]
    pub standard: String,
    /// Place of its last letter in the audience.
    #[diesel(sql_type = BigInt)]
    pub last_seq: i64,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// The files of a bundle by number; the index comes first, if it is there.
pub async fn files(conn: &mut Conn, tenant: TenantId, outbound: Uuid) -> Result<Vec<File>> {
    Ok(diesel::sql_query(
        "SELECT number, path, sha256, size_bytes, letters, pages, standard, last_seq, created_at
         FROM bundle_file WHERE tenant_id = $1 AND outbound_id = $2 ORDER BY number",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(outbound)
    .load(conn)
    .await?)
}

/// Records a file that lies in the store (`created_at` is set here), and the first pages of the
/// letters in it.
pub async fn add_file(
    conn: &mut Conn,
    tenant: TenantId,
    outbound: Uuid,
    file: &File,
    letters: &[(Uuid, i32)],
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO bundle_file (tenant_id, outbound_id, number, path, sha256, size_bytes, letters,
                                  pages, standard, last_seq)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(outbound)
    .bind::<Integer, _>(file.number)
    .bind::<Text, _>(&file.path)
    .bind::<Bytea, _>(&file.sha256)
    .bind::<BigInt, _>(file.size_bytes)
    .bind::<BigInt, _>(file.letters)
    .bind::<BigInt, _>(file.pages)
    .bind::<Text, _>(&file.standard)
    .bind::<BigInt, _>(file.last_seq)
    .execute(conn)
    .await?;
    document::place(conn, tenant, file.number, letters).await
}

//! Documents of an outbound: what a client lists, and what goes into the print files.
//!
//! Perhaps a million: read page by page in the order of the audience, by whole keys (fenced, see
//! [`crate::launch`]), in transactions of [`crate::Store::begin_work`].

use std::sync::LazyLock;

use anklang_domain::{PhaseId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Bytea, Date, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::offer::STATE;
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A document with what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Document {
    /// Place of its offer in the audience.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// Number of its offer.
    #[diesel(sql_type = Text)]
    pub offer_number: String,
    /// Number of the contract.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// Number of the customer.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// State of the offer on the day asked for.
    #[diesel(sql_type = Text)]
    pub offer_state: String,
    /// SHA-256 of its bytes.
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// Its size.
    #[diesel(sql_type = BigInt)]
    pub size_bytes: i64,
    /// Its pages.
    #[diesel(sql_type = Integer)]
    pub pages: i32,
    /// What it conforms to.
    #[diesel(sql_type = Text)]
    pub standard: String,
    /// Code of the contract's brand.
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    /// Key of its template.
    #[diesel(sql_type = Text)]
    pub document_template: String,
    /// Language of its template.
    #[diesel(sql_type = Text)]
    pub template_language: String,
    /// Version of its template.
    #[diesel(sql_type = Integer)]
    pub template_version: i32,
    /// The print file that it is in.
    #[diesel(sql_type = Nullable<Integer>)]
    pub print_file: Option<i32>,
    /// Its first page there.
    #[diesel(sql_type = Nullable<Integer>)]
    pub print_page: Option<i32>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// What documents are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::resource(
            "offer",
            &[Part::new("offers", "offer_number", PartType::Text)],
        ),
        Field::resource(
            "contract",
            &[Part::new("contracts", "contract_number", PartType::Text)],
        ),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::column(
            "offer_state",
            Kind::Word(
                "OFFER_STATE_",
                &[
                    "draft",
                    "open",
                    "accepted",
                    "rejected",
                    "expired",
                    "withdrawn",
                ],
            ),
        ),
        Field::column("size_bytes", Kind::Number),
        Field::column("pages", Kind::Number),
        Field::column("standard", Kind::Text),
        Field::column("template_version", Kind::Number),
        Field::nullable("print_file", Kind::Number, "print_file"),
        Field::nullable("print_page", Kind::Number, "print_page"),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("seq", "::bigint", false)],
};

/// The documents of the phase `$3`; `$1` is the tenant, `$2` the day.
fn select(rest: &str) -> String {
    format!(
        "SELECT o.member_seq AS seq, o.number AS offer_number, co.number AS contract_number,
                cu.number AS customer_number, {STATE} AS offer_state, d.sha256, d.size_bytes,
                d.pages, d.standard, b.code AS brand_code, o.document_template,
                d.template_language, d.template_version, d.print_file, d.print_page, d.created_at
         FROM offer o
         JOIN LATERAL (SELECT * FROM document
             WHERE tenant_id = $1 AND offer_id = o.id AND erased_at IS NULL OFFSET 0) d ON true
         JOIN LATERAL (SELECT number, brand_id FROM contract
             WHERE tenant_id = $1 AND id = o.contract_id OFFSET 0) co ON true
         JOIN LATERAL (SELECT number FROM customer
             WHERE tenant_id = $1 AND id = o.customer_id OFFSET 0) cu ON true
         JOIN brand b ON b.tenant_id = $1 AND b.id = co.brand_id
         JOIN phase p ON p.tenant_id = $1 AND p.id = o.phase_id
         WHERE o.tenant_id = $1 AND o.phase_id = $3 {rest}"
    )
}

/// A page of a phase's documents as on `today`, in the order of the audience if not otherwise
/// wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    phase: PhaseId,
    today: NaiveDate,
    list: &List,
) -> Result<Page<Document>> {
    static BASE: LazyLock<String> = LazyLock::new(|| select(""));
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Date, _>(today),
            bound::<SqlUuid, _>(phase.0),
        ],
    );
    list.load(conn, base).await
}

/// Documents that are in print files, after a place of the audience, in order.
pub async fn printed(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    after: i64,
    limit: i64,
) -> Result<Vec<Document>> {
    let sql =
        select("AND o.member_seq > $4 AND d.print_file IS NOT NULL ORDER BY o.member_seq LIMIT $5");
    Ok(diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Date, _>(NaiveDate::default())
        .bind::<SqlUuid, _>(phase.0)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await?)
}

/// A letter for the printer.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Letter {
    /// Place of its offer in the audience.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// Its offer.
    #[diesel(sql_type = SqlUuid)]
    pub offer_id: Uuid,
    /// SHA-256 of its bytes.
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// What it conforms to.
    #[diesel(sql_type = Text)]
    pub standard: String,
}

/// The letters of a phase's offers that are open or accepted, after a place of the audience, in
/// order: in that of the offers' numbers.
pub async fn letters(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    after: i64,
    limit: i64,
) -> Result<Vec<Letter>> {
    Ok(diesel::sql_query(
        "SELECT o.member_seq AS seq, o.id AS offer_id, d.sha256, d.standard
         FROM offer o
         JOIN LATERAL (SELECT sha256, standard FROM document
             WHERE tenant_id = $1 AND offer_id = o.id AND erased_at IS NULL OFFSET 0) d ON true
         WHERE o.tenant_id = $1 AND o.phase_id = $2 AND o.member_seq > $3
           AND o.state IN ('open', 'accepted')
         ORDER BY o.member_seq LIMIT $4",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<BigInt, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// The letters that are in a print file of a phase, in order.
pub async fn in_print_file(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    number: i32,
) -> Result<Vec<Letter>> {
    Ok(diesel::sql_query(
        "SELECT o.member_seq AS seq, o.id AS offer_id, d.sha256, d.standard
         FROM offer o
         JOIN LATERAL (SELECT sha256, standard, print_file FROM document
             WHERE tenant_id = $1 AND offer_id = o.id AND erased_at IS NULL OFFSET 0) d ON true
         WHERE o.tenant_id = $1 AND o.phase_id = $2 AND d.print_file = $3
         ORDER BY o.member_seq",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(phase.0)
    .bind::<Integer, _>(number)
    .load(conn)
    .await?)
}

/// Notes in which print file letters are, and on which pages they begin.
///
/// # Errors
/// `Stored` when one of them was erased meanwhile: the file must be made again.
pub(crate) async fn place(
    conn: &mut Conn,
    tenant: TenantId,
    print_file: i32,
    letters: &[(Uuid, i32)],
) -> Result<()> {
    let offers: Vec<Uuid> = letters.iter().map(|(offer, _)| *offer).collect();
    // By a statement of its own: an erasure that has them is waited for, and then seen.
    diesel::sql_query(
        "SELECT 1 FROM document WHERE tenant_id = $1 AND offer_id = ANY($2)
         ORDER BY offer_id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&offers)
    .execute(conn)
    .await?;
    let placed = diesel::sql_query(
        "UPDATE document d SET print_file = $2, print_page = placed.page
         FROM unnest($3, $4) AS placed (offer_id, page)
         WHERE d.tenant_id = $1 AND d.offer_id = placed.offer_id AND d.offer_id = ANY($3)
           AND d.erased_at IS NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Integer, _>(print_file)
    .bind::<Array<SqlUuid>, _>(&offers)
    .bind::<Array<Integer>, _>(letters.iter().map(|(_, page)| *page).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    if placed < offers.len() {
        return Err(StoreError::Stored(
            "a letter was erased while it was printed".into(),
        ));
    }
    Ok(())
}

//! Offers and their documents.

mod answer;
mod cockpit;
mod content;
mod drafts;
mod make;
mod numbers;
mod preview;
mod withdraw;

use std::sync::LazyLock;

use anklang_domain::offer::{OfferState, RejectReason};
use anklang_domain::{CampaignId, ContractId, CustomerId, OfferId, ProductVersionId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, BigInt, Bytea, Date, Integer, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

pub use answer::{AnswerResult, GivenAnswer, answer, expire, hold};
pub use cockpit::{OpenFigures, open_figures};
pub(crate) use content::{BRAND_MODEL, CUSTOMER_MODEL};
pub use content::{Content, ContentOf, content};
pub use drafts::{interrupted, postpone_document, withdraw_draft};
pub use make::{Source, Terms, make};
pub use numbers::{NumberRange, number_range, set_number_range};
pub use preview::{PreviewOf, preview};
pub(crate) use withdraw::ANOTHER_ACCEPTED;
pub use withdraw::{open_members, withdraw, withdraw_late};

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::privacy::file;
use crate::selection::{Statement, bound};
use crate::{Conn, Result};

/// An offer with the numbers of what it points to, and its document once made.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Offer {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Number as printed.
    #[diesel(sql_type = Text)]
    pub number: String,
    /// Its customer.
    #[diesel(sql_type = SqlUuid)]
    pub customer_id: Uuid,
    /// Number of its customer.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Number of its contract.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// Number of the offered product.
    #[diesel(sql_type = Text)]
    pub product_number: String,
    /// Code of the offered version.
    #[diesel(sql_type = Text)]
    pub product_version_code: String,
    /// Its campaign, unless it is a single one.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub campaign_id: Option<Uuid>,
    /// Number of its phase.
    #[diesel(sql_type = Nullable<Integer>)]
    pub phase_number: Option<i32>,
    /// Its state on the day asked for: an open one whose validity is over is expired, one of a
    /// cancelled phase withdrawn.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Price per year.
    #[diesel(sql_type = Numeric)]
    pub base_price_per_year: Decimal,
    /// Price per kWh.
    #[diesel(sql_type = Numeric)]
    pub unit_price_per_kwh: Decimal,
    /// kWh.
    #[diesel(sql_type = Numeric)]
    pub annual_quantity_kwh: Decimal,
    /// Cost of a year.
    #[diesel(sql_type = Numeric)]
    pub annual_amount: Decimal,
    /// ISO 4217.
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// Day of the offer.
    #[diesel(sql_type = Date)]
    pub offer_date: NaiveDate,
    /// Last day on which it can be accepted.
    #[diesel(sql_type = Date)]
    pub valid_until: NaiveDate,
    /// When it was answered.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub answered_at: Option<DateTime<Utc>>,
    /// How it was answered.
    #[diesel(sql_type = Text)]
    pub answer_source: String,
    /// Why it was rejected.
    #[diesel(sql_type = Text)]
    pub reject_reason: String,
    /// Why it was rejected, of the closed set; empty when not told.
    #[diesel(sql_type = Text)]
    pub reject_reason_code: String,
    /// When it was withdrawn.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub withdrawn_at: Option<DateTime<Utc>>,
    /// Why it was withdrawn.
    #[diesel(sql_type = Text)]
    pub withdraw_reason: String,
    /// Number of the newer offer because of which it was withdrawn.
    #[diesel(sql_type = Nullable<Text>)]
    pub superseded_by: Option<String>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// SHA-256 of its document.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub sha256: Option<Vec<u8>>,
    /// Size of its document.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub size_bytes: Option<i64>,
    /// Pages of its document.
    #[diesel(sql_type = Nullable<Integer>)]
    pub pages: Option<i32>,
    /// Brand of its contract.
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    /// What its document conforms to.
    #[diesel(sql_type = Nullable<Text>)]
    pub standard: Option<String>,
    /// Key of the template of its document.
    #[diesel(sql_type = Text)]
    pub document_template: String,
    /// Language of that template.
    #[diesel(sql_type = Nullable<Text>)]
    pub template_language: Option<String>,
    /// Version of that template.
    #[diesel(sql_type = Nullable<Integer>)]
    pub template_version: Option<i32>,
}

/// The state on the day `$2`, for the phase `p`: what was not answered when its phase was cancelled
/// or its launch failed is as good as withdrawn.
pub(crate) const STATE: &str =
    "CASE WHEN o.state IN ('draft', 'open') AND p.state IN ('cancelled', 'failed') THEN 'withdrawn'
    WHEN o.state = 'open' AND o.valid_until < $2 THEN 'expired' ELSE o.state END";

/// `$1` is the tenant, `$2` the day.
fn select(rest: &str) -> String {
    format!(
        "SELECT o.id, o.number, o.customer_id, cu.number AS customer_number,
                co.number AS contract_number, pr.number AS product_number,
                v.code AS product_version_code, o.campaign_id, p.number AS phase_number,
                {STATE} AS state, o.base_price_per_year, o.unit_price_per_kwh,
                o.annual_quantity_kwh, o.annual_amount, o.currency, o.offer_date, o.valid_until,
                o.answered_at, o.answer_source, o.reject_reason, o.reject_reason_code, o.withdrawn_at,
                o.withdraw_reason, (SELECT s.number FROM offer s WHERE s.tenant_id = o.tenant_id
                    AND s.id = o.superseded_by) AS superseded_by, o.created_at,
                d.sha256, d.size_bytes, d.pages, d.standard, b.code AS brand_code, o.document_template,
                d.template_language, d.template_version
         FROM offer o
         JOIN customer cu ON cu.tenant_id = o.tenant_id AND cu.id = o.customer_id
         JOIN contract co ON co.tenant_id = o.tenant_id AND co.id = o.contract_id
         JOIN brand b ON b.tenant_id = co.tenant_id AND b.id = co.brand_id
         JOIN product_version v ON v.tenant_id = o.tenant_id AND v.id = o.product_version_id
         JOIN product pr ON pr.tenant_id = v.tenant_id AND pr.id = v.product_id
         LEFT JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
         LEFT JOIN document d ON d.tenant_id = o.tenant_id AND d.offer_id = o.id AND d.erased_at IS NULL
         WHERE o.tenant_id = $1 {rest}"
    )
}

/// The offer with that number, as on `today`.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    number: &str,
    today: NaiveDate,
) -> Result<Option<Offer>> {
    Ok(diesel::sql_query(select("AND o.number = $3"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Date, _>(today)
        .bind::<Text, _>(number)
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// Which offers to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this campaign's.
    pub campaign: Option<CampaignId>,
    /// Only this customer's, by number.
    pub customer_number: Option<String>,
    /// Only in one of these states; all when empty.
    pub states: Vec<OfferState>,
    /// Only of this phase of a campaign.
    pub phase: Option<(CampaignId, i32)>,
    /// Only for this contract, by number.
    pub contract_number: Option<String>,
    /// Only for contracts of this division.
    pub division: Option<String>,
    /// Only in this currency.
    pub currency: Option<String>,
    /// Only those whose last day is not after this one.
    pub valid_until_max: Option<NaiveDate>,
    /// Only rejected ones with one of these reasons, `None` for "not told"; all when empty.
    pub reject_reasons: Vec<Option<RejectReason>>,
}

/// What offers are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("number", Kind::Text),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "contract",
            &[Part::new("contracts", "contract_number", PartType::Text)],
        ),
        Field::resource(
            "product_version",
            &[
                Part::new("products", "product_number", PartType::Text),
                Part::new("versions", "product_version_code", PartType::Text),
            ],
        ),
        Field::resource(
            "campaign",
            &[Part::new("campaigns", "campaign_id", PartType::Uuid)],
        ),
        Field::resource(
            "phase",
            &[
                Part::new("campaigns", "campaign_id", PartType::Uuid),
                Part::new("phases", "phase_number", PartType::Integer),
            ],
        ),
        Field::column(
            "state",
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
        Field::column("annual_quantity_kwh", Kind::Number),
        Field::column("annual_amount", Kind::Number),
        Field::column("offer_date", Kind::Date),
        Field::new("valid_until_date", Kind::Date, "valid_until"),
        Field::nullable("answer_time", Kind::Time, "answered_at"),
        Field::column("answer_source", Kind::Text),
        Field::column("reject_reason", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("number", "::text", false)],
};

/// A page of offers as on `today`, by number if not otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    filter: &Filter,
    today: NaiveDate,
    list: &List,
) -> Result<Page<Offer>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        select(&format!(
            "AND ($3 IS NULL OR o.campaign_id = $3) AND ($4 IS NULL OR cu.number = $4)
             AND (cardinality($5) = 0 OR {STATE} = ANY($5))
             AND ($6 IS NULL OR (o.campaign_id = $6 AND p.number = $7))
             AND ($8 IS NULL OR co.number = $8) AND ($9 IS NULL OR co.division = $9)
             AND ($10 IS NULL OR o.currency = $10) AND ($11 IS NULL OR o.valid_until <= $11)
             AND (cardinality($12) = 0 OR (o.state = 'rejected' AND o.reject_reason_code = ANY($12)))"
        ))
    });
    let states: Vec<&'static str> = filter.states.iter().map(|s| s.as_str()).collect();
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Date, _>(today),
            bound::<Nullable<SqlUuid>, _>(filter.campaign.map(|id| id.0)),
            bound::<Nullable<Text>, _>(filter.customer_number.clone()),
            bound::<Array<Text>, _>(states),
            bound::<Nullable<SqlUuid>, _>(filter.phase.map(|(campaign, _)| campaign.0)),
            bound::<Nullable<Integer>, _>(filter.phase.map(|(_, number)| number)),
            bound::<Nullable<Text>, _>(filter.contract_number.clone()),
            bound::<Nullable<Text>, _>(filter.division.clone()),
            bound::<Nullable<Text>, _>(filter.currency.clone()),
            bound::<Nullable<Date>, _>(filter.valid_until_max),
            bound::<Array<Text>, _>(reject_words(&filter.reject_reasons)),
        ],
    )
    .sql(stored_as(&filter.states));
    list.load_of_customers(conn, tenant, base).await
}

/// `AND …`: the states as which offers that read as one of these may be stored, for the sake of the
/// indexes of those that are open.
fn stored_as(states: &[OfferState]) -> &'static str {
    let all = |of: &[OfferState]| !states.is_empty() && states.iter().all(|s| of.contains(s));
    if all(&[OfferState::Open]) {
        " AND o.state = 'open'"
    } else if all(&[OfferState::Draft]) {
        " AND o.state = 'draft'"
    } else if all(&[OfferState::Draft, OfferState::Open]) {
        " AND o.state IN ('draft', 'open')"
    } else {
        ""
    }
}

/// The words of the ledger for reasons of rejection; the empty one is "not told".
pub(crate) fn reject_words(reasons: &[Option<RejectReason>]) -> Vec<&'static str> {
    reasons
        .iter()
        .map(|r| r.map_or("", RejectReason::as_str))
        .collect()
}

/// A document that lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Its offer.
    pub offer_id: Uuid,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its size.
    pub size_bytes: i64,
    /// Its pages.
    pub pages: i32,
    /// What it conforms to.
    pub standard: &'static str,
    /// Language of its template.
    pub template_language: String,
    /// Version of its template; 0 is the shipped one.
    pub template_version: i32,
}

/// Records documents and opens their offers, both or neither; with those that supersede, the open
/// ones before them are withdrawn. An offer that is no draft any more
/// is left as it is: somebody else was faster, or withdrew it.
pub async fn open_with_documents(
    conn: &mut Conn,
    tenant: TenantId,
    documents: &[NewDocument],
) -> Result<()> {
    let offers: Vec<Uuid> = documents.iter().map(|d| d.offer_id).collect();
    let superseding = withdraw::lock_superseding(conn, tenant, &offers).await?;
    record(conn, tenant, documents, OfferState::Open).await?;
    if superseding {
        withdraw::supersede(conn, tenant, &offers).await?;
    }
    Ok(())
}

/// Records documents of offers that stay drafts for now: [`open_members`] opens them.
pub async fn keep_documents(
    conn: &mut Conn,
    tenant: TenantId,
    documents: &[NewDocument],
) -> Result<()> {
    record(conn, tenant, documents, OfferState::Draft).await
}

/// Records documents of drafts, and what state these come to.
async fn record(
    conn: &mut Conn,
    tenant: TenantId,
    documents: &[NewDocument],
    state: OfferState,
) -> Result<()> {
    let offers: Vec<Uuid> = documents.iter().map(|d| d.offer_id).collect();
    diesel::sql_query(
        "WITH moved AS (
             UPDATE offer SET state = $9, updated_at = now()
             WHERE tenant_id = $1 AND id = ANY($2) AND state = 'draft'
             RETURNING id)
         INSERT INTO document (tenant_id, offer_id, sha256, size_bytes, pages,
                               template_language, template_version, standard)
         SELECT $1, made.* FROM unnest($2, $3, $4, $5, $6, $7, $8) AS made
             (offer_id, sha256, size_bytes, pages, template_language, template_version, standard)
         JOIN moved ON moved.id = made.offer_id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&offers)
    .bind::<Array<Bytea>, _>(documents.iter().map(|d| &d.sha256[..]).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(documents.iter().map(|d| d.size_bytes).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(documents.iter().map(|d| d.pages).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        documents
            .iter()
            .map(|d| &d.template_language[..])
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Integer>, _>(
        documents
            .iter()
            .map(|d| d.template_version)
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Text>, _>(documents.iter().map(|d| d.standard).collect::<Vec<_>>())
    .bind::<Text, _>(state.as_str())
    .execute(conn)
    .await?;
    file::recorded(conn, tenant, &offers).await
}

/// Why a contract cannot get an offer; the same rules as for an audience.
#[derive(Debug, Clone, QueryableByName)]
pub struct Candidate {
    /// The contract.
    #[diesel(sql_type = SqlUuid)]
    pub contract_id: Uuid,
    /// Its customer.
    #[diesel(sql_type = SqlUuid)]
    pub customer_id: Uuid,
    /// The exclusion that holds, of those that do not concern channels.
    #[diesel(sql_type = Nullable<Text>)]
    pub exclusion: Option<String>,
    /// Code of its brand.
    #[diesel(sql_type = Text)]
    pub brand_code: String,
}

impl Candidate {
    /// Its contract.
    pub fn contract(&self) -> ContractId {
        ContractId(self.contract_id)
    }

    /// Its customer.
    pub fn customer(&self) -> CustomerId {
        CustomerId(self.customer_id)
    }
}

/// The exclusions that concern contract and target, for the contract `subject`, the target
/// version's id `$target`, division `target.division` and the day `$today`; the first that holds.
pub(crate) const CONTRACT_EXCLUSIONS: &str = "
    WHEN subject.end_date <= target.today
      OR (subject.notice_date IS NOT NULL AND subject.end_date IS NULL) THEN 'contract_ended'
    WHEN subject.division <> target.division THEN 'other_division'
    WHEN subject.product_version_id = target.id THEN 'already_on_target'
    WHEN subject.annual_quantity_kwh IS NULL THEN 'no_quantity'";

/// Looks whether the contract with that number can be offered the version on `today`; one of a customer who is
/// erased is not there any more.
pub async fn candidate(
    conn: &mut Conn,
    tenant: TenantId,
    contract_number: &str,
    version: ProductVersionId,
    today: NaiveDate,
) -> Result<Option<Candidate>> {
    Ok(diesel::sql_query(format!(
        "SELECT subject.id AS contract_id, subject.customer_id, CASE {CONTRACT_EXCLUSIONS} END AS exclusion,
                b.code AS brand_code
         FROM contract subject
         JOIN brand b ON b.tenant_id = subject.tenant_id AND b.id = subject.brand_id,
              (SELECT v.id, p.division, $4 AS today FROM product_version v
               JOIN product p ON p.tenant_id = v.tenant_id AND p.id = v.product_id
               WHERE v.tenant_id = $1 AND v.id = $3) target
         WHERE subject.tenant_id = $1 AND subject.number = $2 AND subject.erased_at IS NULL"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(contract_number)
    .bind::<SqlUuid, _>(version.0)
    .bind::<Date, _>(today)
    .get_result(conn)
    .await
    .optional()?)
}

/// A contract that may be offered a version.
#[derive(Debug, Clone, QueryableByName)]
pub struct OwnContract {
    /// Its number.
    #[diesel(sql_type = Text)]
    pub number: String,
    /// No exclusion holds.
    #[diesel(sql_type = diesel::sql_types::Bool)]
    pub can_be_offered: bool,
}

/// The contracts of the customer with that number, as [`candidate`] sees them, by number.
pub async fn contracts(
    conn: &mut Conn,
    tenant: TenantId,
    customer_number: &str,
    version: ProductVersionId,
    today: NaiveDate,
) -> Result<Vec<OwnContract>> {
    Ok(diesel::sql_query(format!(
        "SELECT subject.number, (CASE {CONTRACT_EXCLUSIONS} END) IS NULL AS can_be_offered
         FROM contract subject
         JOIN customer c ON c.tenant_id = subject.tenant_id AND c.id = subject.customer_id,
              (SELECT v.id, p.division, $4 AS today FROM product_version v
               JOIN product p ON p.tenant_id = v.tenant_id AND p.id = v.product_id
               WHERE v.tenant_id = $1 AND v.id = $3) target
         WHERE subject.tenant_id = $1 AND c.number = $2 AND subject.erased_at IS NULL
         ORDER BY subject.number"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(customer_number)
    .bind::<SqlUuid, _>(version.0)
    .bind::<Date, _>(today)
    .load(conn)
    .await?)
}

/// The number of an offer by its id.
pub async fn number(conn: &mut Conn, tenant: TenantId, id: OfferId) -> Result<Option<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        number: String,
    }
    let row: Option<Row> =
        diesel::sql_query("SELECT number FROM offer WHERE tenant_id = $1 AND id = $2")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(id.0)
            .get_result(conn)
            .await
            .optional()?;
    Ok(row.map(|r| r.number))
}

//! Voucher codes: pools of brands, each code given out once, ever.
//!
//! Codes are taken under locks that others pass by (`SKIP LOCKED`), or wait for when they would not have
//! enough, in the transaction that queues the mail: a code is given out exactly when its mail is in the ledger. It is never taken back, also when
//! the mail does not arrive.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::master::VoucherRow;
use anklang_domain::name;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Date, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::import::{Load, Reference, Spec, text};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A pool of voucher codes.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Pool {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Code of its brand.
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    /// Its own code.
    #[diesel(sql_type = Text)]
    pub code: String,
    /// What people call it.
    #[diesel(sql_type = Text)]
    pub display_name: String,
    /// What a voucher is worth.
    #[diesel(sql_type = Text)]
    pub value_text: String,
    /// The last day on which codes are given out.
    #[diesel(sql_type = Nullable<Date>)]
    pub valid_until: Option<NaiveDate>,
    /// Codes in all.
    #[diesel(sql_type = BigInt)]
    pub codes: i64,
    /// Codes that nobody has been given.
    #[diesel(sql_type = BigInt)]
    pub free: i64,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Pool {
    /// Its name.
    pub fn resource(&self) -> String {
        resource(&self.brand_code, &self.code)
    }
}

/// The name of a pool of a brand.
pub fn resource(brand: &str, code: &str) -> String {
    name::format(&[("brands", brand), ("voucherPools", code)])
}

const POOL: &str = "SELECT p.id, b.code AS brand_code, p.code, p.display_name, p.value_text,
        p.valid_until, v.codes, v.free, p.created_at, p.updated_at
    FROM voucher_pool p
    JOIN brand b ON b.tenant_id = p.tenant_id AND b.id = p.brand_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS codes, count(*) FILTER (WHERE given_at IS NULL) AS free
        FROM voucher WHERE tenant_id = $1 AND pool_id = p.id) v
    WHERE p.tenant_id = $1";

/// The pool of a brand with that code.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    brand: &str,
    code: &str,
) -> Result<Option<Pool>> {
    Ok(
        diesel::sql_query(format!("{POOL} AND b.code = $2 AND p.code = $3"))
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Text, _>(brand)
            .bind::<Text, _>(code)
            .get_result(&mut conn)
            .await
            .optional()?,
    )
}

/// What pools are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("voucher_pool_id", Kind::Text, "code"),
        Field::column("display_name", Kind::Text),
        Field::column("value_text", Kind::Text),
        Field::nullable("valid_until_date", Kind::Date, "valid_until"),
        Field::new("voucher_count", Kind::Number, "codes"),
        Field::new("left_count", Kind::Number, "free"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[
        Sort::key("brand_code", "::text", false),
        Sort::key("code", "::text", false),
    ],
};

/// A page of pools, of one brand or of all.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    brand: Option<String>,
    list: &List,
) -> Result<Page<Pool>> {
    static BASE: LazyLock<String> =
        LazyLock::new(|| format!("{POOL} AND ($2 IS NULL OR b.code = $2)"));
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(brand),
        ],
    );
    list.load(conn, base).await
}

/// A pool as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPool<'a> {
    /// Code of its brand.
    pub brand_code: &'a str,
    /// Its own code.
    pub code: &'a str,
    /// What people call it.
    pub display_name: &'a str,
    /// What a voucher is worth.
    pub value_text: &'a str,
    /// The last day on which codes are given out.
    pub valid_until: Option<NaiveDate>,
}

/// Makes a pool, or changes it.
///
/// # Errors
/// `Missing` without such a brand.
pub async fn save(conn: &mut Conn, tenant: TenantId, new: &NewPool<'_>) -> Result<Pool> {
    let saved = diesel::sql_query(
        "INSERT INTO voucher_pool AS t (tenant_id, brand_id, code, display_name, value_text,
                                        valid_until)
         SELECT $1, b.id, $3, $4, $5, $6 FROM brand b WHERE b.tenant_id = $1 AND b.code = $2
         ON CONFLICT (tenant_id, brand_id, code) DO UPDATE
         SET display_name = excluded.display_name, value_text = excluded.value_text,
             valid_until = excluded.valid_until,
             updated_at = CASE WHEN (t.display_name, t.value_text, t.valid_until)
                  IS DISTINCT FROM (excluded.display_name, excluded.value_text, excluded.valid_until)
                  THEN now() ELSE t.updated_at END",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(new.brand_code)
    .bind::<Text, _>(new.code)
    .bind::<Text, _>(new.display_name)
    .bind::<Text, _>(new.value_text)
    .bind::<Nullable<Date>, _>(new.valid_until)
    .execute(conn)
    .await?;
    if saved == 0 {
        return Err(StoreError::Missing(format!("brands/{}", new.brand_code)));
    }
    get(conn, tenant, new.brand_code, new.code)
        .await?
        .ok_or_else(|| StoreError::Stored("a pool just saved".into()))
}

impl Load for VoucherRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("voucher")
            .with_id()
            .key(text("code", |r| &r.code))
            .send(text("brand_code", |r| &r.brand_code))
            .send(text("pool", |r| &r.pool))
            .reference(Reference {
                field: "pool",
                join: "LEFT JOIN LATERAL (SELECT p.id FROM voucher_pool p
                    JOIN brand b ON b.tenant_id = p.tenant_id AND b.id = p.brand_id
                    WHERE p.tenant_id = (SELECT $1) AND b.code = s.brand_code AND p.code = s.pool
                    OFFSET 0) p ON true",
                good: "p.id IS NOT NULL",
                reason: "'this brand has no such pool of vouchers'",
            })
            .reference(Reference {
                field: "code",
                join: "LEFT JOIN LATERAL (SELECT pool_id FROM voucher
                    WHERE tenant_id = (SELECT $1) AND code = s.code OFFSET 0) v ON true",
                good: "v.pool_id IS NOT DISTINCT FROM p.id OR v.pool_id IS NULL",
                reason: "'is a code of another pool already'",
            })
            .value_from("pool_id", "p.id", &["brand_code", "pool"])
            // A code that is there stays as it is.
            .guard("false");
        vec![spec]
    }
}

/// Adds codes to a pool; those that the tenant has already are left out. Gives how many are new.
pub async fn add(conn: &mut Conn, tenant: TenantId, pool: Uuid, codes: &[String]) -> Result<usize> {
    Ok(diesel::sql_query(
        "INSERT INTO voucher (tenant_id, pool_id, code)
         SELECT $1, $2, code FROM unnest($3::text[]) WITH ORDINALITY AS c (code, n) ORDER BY n
         ON CONFLICT (tenant_id, code) DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(pool)
    .bind::<Array<Text>, _>(codes)
    .execute(conn)
    .await?)
}

/// A code that is being given out.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Taken {
    /// Its row.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The code.
    #[diesel(sql_type = Text)]
    pub code: String,
}

/// Locks the first codes of a pool that nobody has been given.
const LOCK: &str = "SELECT id, code FROM voucher
    WHERE tenant_id = $1 AND pool_id = $2 AND given_at IS NULL
    ORDER BY id LIMIT $3 FOR UPDATE";

/// As [`LOCK`], past those that others are just taking.
static PASSING: LazyLock<String> = LazyLock::new(|| format!("{LOCK} SKIP LOCKED"));

async fn lock(
    conn: &mut Conn,
    tenant: TenantId,
    pool: Uuid,
    wanted: usize,
    sql: &str,
) -> Result<Vec<Taken>> {
    Ok(diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(pool)
        .bind::<BigInt, _>(i64::try_from(wanted).unwrap_or(i64::MAX))
        .load(conn)
        .await?)
}

/// Locks so many codes, or all that are left. When those that nobody else is taking do not suffice, they
/// are let go again, and all are waited for in their order: others may give theirs back, and who waits for
/// a pool holds nothing of it.
async fn locked(
    conn: &mut Conn,
    tenant: TenantId,
    pool: Uuid,
    wanted: usize,
) -> Result<Vec<Taken>> {
    diesel::sql_query("SAVEPOINT vouchers")
        .execute(conn)
        .await?;
    let mut taken = lock(conn, tenant, pool, wanted, &PASSING).await?;
    if taken.len() < wanted {
        diesel::sql_query("ROLLBACK TO SAVEPOINT vouchers")
            .execute(conn)
            .await?;
        taken = lock(conn, tenant, pool, wanted, LOCK).await?;
    }
    diesel::sql_query("RELEASE SAVEPOINT vouchers")
        .execute(conn)
        .await?;
    Ok(taken)
}

/// Takes codes of a pool for these customers, one for each in their order, as many as there are. They
/// count as given from the end of the transaction on. Who takes of several pools goes by their ids.
pub async fn take(
    conn: &mut Conn,
    tenant: TenantId,
    pool: Uuid,
    customers: &[Uuid],
) -> Result<Vec<Taken>> {
    // Locked by a statement of their own, so that the next one finds its rows as they are.
    let taken = locked(conn, tenant, pool, customers.len()).await?;
    let customers: Vec<Uuid> = customers.iter().copied().take(taken.len()).collect();
    diesel::sql_query(
        "UPDATE voucher v SET given_at = now(), customer_id = t.customer_id
         FROM unnest($2::uuid[], $3::uuid[]) AS t (id, customer_id)
         WHERE v.tenant_id = $1 AND v.id = t.id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(taken.iter().map(|t| t.id).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(customers)
    .execute(conn)
    .await?;
    Ok(taken)
}

/// A voucher code.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Voucher {
    /// The code.
    #[diesel(sql_type = Text)]
    pub code: String,
    /// free or given.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Number of the customer who was given it.
    #[diesel(sql_type = Nullable<Text>)]
    pub customer_number: Option<String>,
    /// When it was given out.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub given_at: Option<DateTime<Utc>>,
    /// When it came here.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// What vouchers are listed by.
pub static VOUCHERS: Listable = Listable {
    fields: &[
        Field::column("code", Kind::Text),
        Field::column("state", Kind::Word("VOUCHER_STATE_", &["free", "given"])),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::nullable("give_time", Kind::Time, "given_at"),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("id", "::uuid", false)],
};

/// A page of the codes of a pool, as they came if not otherwise wanted.
pub async fn vouchers(
    conn: &mut Conn,
    tenant: TenantId,
    pool: Uuid,
    list: &List,
) -> Result<Page<Voucher>> {
    let base = Statement::numbered(
        "SELECT v.id, v.code, CASE WHEN v.given_at IS NULL THEN 'free' ELSE 'given' END AS state,
                cu.number AS customer_number, v.given_at, v.created_at
         FROM voucher v
         LEFT JOIN customer cu ON cu.tenant_id = v.tenant_id AND cu.id = v.customer_id
         WHERE v.tenant_id = $1 AND v.pool_id = $2",
        &[bound::<SqlUuid, _>(tenant.0), bound::<SqlUuid, _>(pool)],
    );
    list.load(conn, base).await
}

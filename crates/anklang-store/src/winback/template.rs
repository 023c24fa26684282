//! Who winback mails of a brand are from, and what is known of a customer for them. The templates are
//! those of [`crate::template`] with keys of their own.

use anklang_domain::TenantId;
use anklang_domain::winback::MailTemplate;
use chrono::NaiveDate;
use diesel::sql_types::{Array, Bool, Date, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// The key of a template among the message templates of a brand.
pub fn key(template: MailTemplate) -> &'static str {
    match template {
        MailTemplate::Standard => "winback_standard",
        MailTemplate::Voucher => "winback_voucher",
    }
}

/// The template of a key; `None` for all that are not winback's.
pub fn of_key(key: &str) -> Option<MailTemplate> {
    match key {
        "winback_standard" => Some(MailTemplate::Standard),
        "winback_voucher" => Some(MailTemplate::Voucher),
        _ => None,
    }
}

/// The word of the ledger.
pub fn word(template: MailTemplate) -> &'static str {
    match template {
        MailTemplate::Standard => "standard",
        MailTemplate::Voucher => "voucher",
    }
}

/// How a brand sends winback mails.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Sender {
    /// Code of its brand.
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    /// The channel account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Purpose of the consent that is needed.
    #[diesel(sql_type = Text)]
    pub purpose: String,
    /// The sender's name; empty: the brand's.
    #[diesel(sql_type = Text)]
    pub sender_name: String,
    /// The sender's address; empty: the brand's.
    #[diesel(sql_type = Text)]
    pub sender_email: String,
    /// Where answers go; empty: as the brand has it.
    #[diesel(sql_type = Text)]
    pub reply_to: String,
    /// Code of the pool of vouchers.
    #[diesel(sql_type = Nullable<Text>)]
    pub pool_code: Option<String>,
    /// Whether the brand has a standard template.
    #[diesel(sql_type = Bool)]
    pub has_standard: bool,
    /// Whether the brand has a voucher template.
    #[diesel(sql_type = Bool)]
    pub has_voucher: bool,
}

/// How a brand sends; `None` when that was not said.
pub async fn sender(mut conn: &Conn, tenant: TenantId, brand: &str) -> Result<Option<Sender>> {
    Ok(diesel::sql_query(
        "SELECT b.code AS brand_code, s.account, s.purpose, s.sender_name, s.sender_email,
                s.reply_to, p.code AS pool_code,
                EXISTS (SELECT FROM template t WHERE t.tenant_id = $1 AND t.brand_id = b.id
                          AND t.key = 'winback_standard') AS has_standard,
                EXISTS (SELECT FROM template t WHERE t.tenant_id = $1 AND t.brand_id = b.id
                          AND t.key = 'winback_voucher') AS has_voucher
         FROM winback_sender s
         JOIN brand b ON b.tenant_id = s.tenant_id AND b.id = s.brand_id
         LEFT JOIN voucher_pool p ON p.tenant_id = s.tenant_id AND p.id = s.voucher_pool_id
         WHERE s.tenant_id = $1 AND b.code = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(brand)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// Sets how a brand sends; its `pool_code` must exist, and its templates are not looked at.
///
/// # Errors
/// `Missing` without such a brand.
pub async fn save_sender(conn: &mut Conn, tenant: TenantId, new: &Sender) -> Result<Sender> {
    let saved = diesel::sql_query(
        "INSERT INTO winback_sender AS t (tenant_id, brand_id, account, purpose, sender_name,
                                          sender_email, reply_to, voucher_pool_id)
         SELECT $1, b.id, $3, $4, $5, $6, $7,
                (SELECT p.id FROM voucher_pool p
                 WHERE p.tenant_id = $1 AND p.brand_id = b.id AND p.code = $8)
         FROM brand b WHERE b.tenant_id = $1 AND b.code = $2
         ON CONFLICT (tenant_id, brand_id) DO UPDATE
         SET account = excluded.account, purpose = excluded.purpose,
             sender_name = excluded.sender_name, sender_email = excluded.sender_email,
             reply_to = excluded.reply_to, voucher_pool_id = excluded.voucher_pool_id,
             updated_at = now()",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(&new.brand_code)
    .bind::<Text, _>(&new.account)
    .bind::<Text, _>(&new.purpose)
    .bind::<Text, _>(&new.sender_name)
    .bind::<Text, _>(&new.sender_email)
    .bind::<Text, _>(&new.reply_to)
    .bind::<Nullable<Text>, _>(new.pool_code.as_deref())
    .execute(conn)
    .await?;
    let missing = || StoreError::Missing(format!("brands/{}", new.brand_code));
    if saved == 0 {
        return Err(missing());
    }
    sender(conn, tenant, &new.brand_code)
        .await?
        .ok_or_else(missing)
}

/// What the variables of a mail are made of, and what picks its template.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Facts {
    /// The message; nil in a preview.
    #[diesel(sql_type = SqlUuid)]
    pub message_id: Uuid,
    /// Brand of the template.
    #[diesel(sql_type = SqlUuid)]
    pub brand_id: Uuid,
    /// Its code.
    #[diesel(sql_type = Text)]
    pub brand_code: String,
    /// The sender's name.
    #[diesel(sql_type = Text)]
    pub sender_name: String,
    /// The sender's address.
    #[diesel(sql_type = Text)]
    pub sender_email: String,
    /// Where answers go.
    #[diesel(sql_type = Text)]
    pub reply_to: String,
    /// Language of the customer.
    #[diesel(sql_type = Text)]
    pub language: String,
    /// First name.
    #[diesel(sql_type = Text)]
    pub first_name: String,
    /// Last name.
    #[diesel(sql_type = Text)]
    pub last_name: String,
    /// Name of the company.
    #[diesel(sql_type = Text)]
    pub company_name: String,
    /// City.
    #[diesel(sql_type = Text)]
    pub city: String,
    /// Code of the country.
    #[diesel(sql_type = Text)]
    pub country: String,
    /// Mail address.
    #[diesel(sql_type = Text)]
    pub email: String,
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub number: String,
    /// Customer group.
    #[diesel(sql_type = Text)]
    pub customer_group: String,
    /// Day of the last order.
    #[diesel(sql_type = Nullable<Date>)]
    pub last_order: Option<NaiveDate>,
    /// The product group with the greatest share of it.
    #[diesel(sql_type = Text)]
    pub last_group: String,
    /// The code of the voucher; empty without one.
    #[diesel(sql_type = Text)]
    pub voucher: String,
}

/// The last order of the customer `cu`, as `o`.
pub(super) const LAST_ORDER: &str = concat!(
    "LEFT JOIN LATERAL (SELECT o.id, o.brand_id, o.ordered_at FROM ",
    newest_order!("cu.id"),
    ") o ON true"
);

/// The brand of a customer's mails by [`LAST_ORDER`]: that of the last order, or the tenant's only one.
pub(super) const BRAND: &str = "coalesce(o.brand_id, (
        SELECT min(b.id::text)::uuid FROM brand b WHERE b.tenant_id = $1 HAVING count(*) = 1))";

/// [`Facts`] over a customer `cu`, [`LAST_ORDER`], a brand `b` and its sender `s`, which may be missing.
/// Of equal groups it is the first by code points, as in the domain's `leading_group`.
const FACTS: &str = "b.id AS brand_id, b.code AS brand_code,
    coalesce(nullif(s.sender_name, ''), nullif(b.sender_name, ''), b.name) AS sender_name,
    coalesce(nullif(s.sender_email, ''), b.sender_email) AS sender_email,
    coalesce(nullif(s.reply_to, ''), b.reply_to) AS reply_to,
    cu.language, cu.first_name, cu.last_name, cu.company_name, cu.city, cu.country, cu.number,
    cu.customer_group, (o.ordered_at AT TIME ZONE t.time_zone)::date AS last_order,
    coalesce((SELECT l.product_group FROM order_line l
              WHERE l.tenant_id = $1 AND l.order_id = o.id AND l.product_group <> ''
              GROUP BY l.product_group HAVING sum(l.quantity * l.unit_price) > 0
              ORDER BY sum(l.quantity * l.unit_price) DESC, l.product_group COLLATE \"C\" LIMIT 1),
             '') AS last_group";

/// What messages of cases are made of, as things stand now.
pub async fn facts(conn: &mut Conn, tenant: TenantId, messages: &[Uuid]) -> Result<Vec<Facts>> {
    Ok(diesel::sql_query(format!(
        "SELECT m.id AS message_id, m.address AS email, coalesce(v.code, '') AS voucher, {FACTS}
         FROM message m
         JOIN winback_mail w ON w.tenant_id = m.tenant_id AND w.message_id = m.id
         JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
         JOIN brand b ON b.tenant_id = m.tenant_id AND b.id = w.brand_id
         JOIN tenant t ON t.id = m.tenant_id
         LEFT JOIN winback_sender s ON s.tenant_id = m.tenant_id AND s.brand_id = w.brand_id
         LEFT JOIN voucher v ON v.tenant_id = m.tenant_id AND v.id = w.voucher_id
         {LAST_ORDER}
         WHERE m.tenant_id = $1 AND m.id = ANY($2)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(messages)
    .fixed()
    .load(conn)
    .await?)
}

/// What a mail to a customer would be made of, by the brand with that code, or that of the last order.
/// `None` when there is no such customer, or no brand is found.
pub async fn preview(
    conn: &mut Conn,
    tenant: TenantId,
    customer: &str,
    brand: Option<&str>,
) -> Result<Option<Facts>> {
    Ok(diesel::sql_query(format!(
        "SELECT '00000000-0000-0000-0000-000000000000'::uuid AS message_id,
                coalesce((SELECT cp.address FROM contact_point cp
                          WHERE cp.tenant_id = $1 AND cp.customer_id = cu.id AND cp.channel = 'mail'
                          ORDER BY cp.position, cp.address LIMIT 1), '') AS email,
                '' AS voucher, {FACTS}
         FROM customer cu
         JOIN tenant t ON t.id = cu.tenant_id
         {LAST_ORDER}
         JOIN brand b ON b.tenant_id = $1
              AND CASE WHEN $3 IS NULL THEN b.id = {BRAND} ELSE b.code = $3 END
         LEFT JOIN winback_sender s ON s.tenant_id = $1 AND s.brand_id = b.id
         WHERE cu.tenant_id = $1 AND cu.number = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(customer)
    .bind::<Nullable<Text>, _>(brand)
    .get_result(conn)
    .await
    .optional()?)
}

//! How a tenant's offers are numbered.

use anklang_domain::{TenantId, Violations};
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::{Conn, Result};

/// Prefix and next number.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct NumberRange {
    /// What stands before the number.
    #[diesel(sql_type = Text)]
    pub prefix: String,
    /// The next number, from 1.
    #[diesel(sql_type = BigInt)]
    pub next_value: i64,
}

/// How the next offer is numbered.
pub async fn number_range(mut conn: &Conn, tenant: TenantId) -> Result<NumberRange> {
    let found = diesel::sql_query(
        "SELECT prefix, next_value FROM number_range WHERE tenant_id = $1 AND kind = 'offer'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .get_result(&mut conn)
    .await
    .optional()?;
    // Without a row there was no offer yet.
    Ok(found.unwrap_or(NumberRange {
        prefix: "A-".into(),
        next_value: 1,
    }))
}

/// Changes how offers are numbered from the next one on.
///
/// # Errors
/// `Invalid` at `offer_number_range.next_number` when it were lower than it is.
pub async fn set_number_range(
    conn: &mut Conn,
    tenant: TenantId,
    range: &NumberRange,
) -> Result<()> {
    let changed = diesel::sql_query(
        "INSERT INTO number_range (tenant_id, kind, prefix, next_value) VALUES ($1, 'offer', $2, $3)
         ON CONFLICT (tenant_id, kind) DO UPDATE
             SET prefix = excluded.prefix, next_value = excluded.next_value
             WHERE number_range.next_value <= excluded.next_value",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(&range.prefix)
    .bind::<BigInt, _>(range.next_value)
    .execute(conn)
    .await?;
    if changed == 0 {
        let mut violations = Violations::new();
        let now = number_range(conn, tenant).await?.next_value;
        violations.add(
            "offer_number_range.next_number",
            format!("must be at least {now}: lower ones are given already"),
        );
        return Err(violations.into());
    }
    Ok(())
}

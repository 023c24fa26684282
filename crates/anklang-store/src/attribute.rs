//! Attributes of customers and contracts. The first value of a key fixes its type.

use std::collections::HashMap;

use anklang_domain::TenantId;
use anklang_domain::master::{AttributeRow, AttributeValue};
use chrono::NaiveDate;
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Date, Nullable, Numeric, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::import::{Load, Reference, Spec, date, decimal, flag, text, text_or_null};
use crate::{Conn, Result, StoreError};

impl Load for AttributeRow {
    fn specs() -> Vec<Spec<Self>> {
        vec![customer_spec().before(DEFINE), contract_spec()]
    }
}

/// Fixes the types of keys that are new, in the order of the rows; those of customers and
/// contracts that do not exist, or are erased, fix nothing.
const DEFINE: &str = "
    INSERT INTO attribute_definition (tenant_id, entity, key, value_type)
    SELECT DISTINCT ON (s.entity, s.key) $1, s.entity, s.key, s.value_type
    FROM {rows}
    WHERE CASE s.entity
        WHEN 'customer' THEN EXISTS (SELECT FROM customer c
            WHERE c.tenant_id = (SELECT $1) AND c.number = s.number AND c.erased_at IS NULL OFFSET 0)
        ELSE EXISTS (SELECT FROM contract c
            WHERE c.tenant_id = (SELECT $1) AND c.number = s.number AND c.erased_at IS NULL OFFSET 0)
    END
    ORDER BY s.entity, s.key, s.row_line
    ON CONFLICT DO NOTHING";

fn customer_spec() -> Spec<AttributeRow> {
    spec("customer_attribute")
        .only("s.entity = 'customer'")
        .reference(Reference {
            field: "number",
            join: "LEFT JOIN LATERAL (SELECT id, erased_at FROM customer
                   WHERE tenant_id = (SELECT $1) AND number = s.number OFFSET 0) o ON true",
            good: "o.id IS NOT NULL AND o.erased_at IS NULL",
            reason: "CASE WHEN o.id IS NULL THEN 'there is no customer with this number'
                     ELSE 'the customer was erased' END",
        })
        .key_from("customer_id", "o.id")
        .reference(TYPE)
}

fn contract_spec() -> Spec<AttributeRow> {
    spec("contract_attribute")
        .only("s.entity = 'contract'")
        .reference(Reference {
            field: "number",
            join: "LEFT JOIN LATERAL (SELECT id, erased_at FROM contract
                   WHERE tenant_id = (SELECT $1) AND number = s.number OFFSET 0) o ON true",
            good: "o.id IS NOT NULL AND o.erased_at IS NULL",
            reason: "CASE WHEN o.id IS NULL THEN 'there is no contract with this number'
                     ELSE 'its customer was erased' END",
        })
        .key_from("contract_id", "o.id")
        .reference(TYPE)
}

const TYPE: Reference = Reference {
    field: "type",
    join: "LEFT JOIN LATERAL (SELECT value_type FROM attribute_definition
                   WHERE tenant_id = (SELECT $1) AND entity = s.entity AND key = s.key OFFSET 0) d ON true",
    good: "o.id IS NULL OR o.erased_at IS NOT NULL OR d.value_type = s.value_type",
    reason: "'is ' || s.value_type || ', but the values of this key are ' || d.value_type",
};

fn spec(table: &'static str) -> Spec<AttributeRow> {
    use AttributeValue::{Date, Flag, Number, Text};
    Spec::new(table)
        .send(text("entity", |r: &AttributeRow| r.entity))
        .send(text("number", |r| &r.number))
        .send(text("value_type", |r| r.value.type_name()))
        .key(text("key", |r| &r.key))
        .value_of(
            text_or_null("text_value", |r| match &r.value {
                Text(text) => Some(text),
                _ => None,
            }),
            &["value"],
        )
        .value_of(
            decimal("number_value", |r| match r.value {
                Number(number) => Some(number),
                _ => None,
            }),
            &["value"],
        )
        .value_of(
            flag("flag_value", |r| match r.value {
                Flag(flag) => Some(flag),
                _ => None,
            }),
            &["value"],
        )
        .value_of(
            date("date_value", |r| match r.value {
                Date(date) => Some(date),
                _ => None,
            }),
            &["value"],
        )
}

/// Whose attributes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Customer,
    Contract,
}

impl Owner {
    /// The table of the values, and its column of the owner.
    fn table(self) -> (&'static str, &'static str) {
        match self {
            Owner::Customer => ("customer_attribute", "customer_id"),
            Owner::Contract => ("contract_attribute", "contract_id"),
        }
    }
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = SqlUuid)]
    owner: Uuid,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Nullable<Text>)]
    text_value: Option<String>,
    #[diesel(sql_type = Nullable<Numeric>)]
    number_value: Option<Decimal>,
    #[diesel(sql_type = Nullable<Bool>)]
    flag_value: Option<bool>,
    #[diesel(sql_type = Nullable<Date>)]
    date_value: Option<NaiveDate>,
}

/// The attributes of these customers or contracts, by key.
pub(crate) async fn of(
    mut conn: &Conn,
    tenant: TenantId,
    owner: Owner,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<(String, AttributeValue)>>> {
    let (table, column) = owner.table();
    let rows: Vec<Stored> = diesel::sql_query(format!(
        "SELECT {column} AS owner, key, text_value, number_value, flag_value, date_value
         FROM {table} WHERE tenant_id = $1 AND {column} = ANY($2) ORDER BY {column}, key"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .load(&mut conn)
    .await?;
    let mut all: HashMap<Uuid, Vec<_>> = HashMap::new();
    for row in rows {
        let value = match row {
            Stored {
                text_value: Some(text),
                ..
            } => AttributeValue::Text(text),
            Stored {
                number_value: Some(n),
                ..
            } => AttributeValue::Number(n.normalize()),
            Stored {
                flag_value: Some(flag),
                ..
            } => AttributeValue::Flag(flag),
            Stored {
                date_value: Some(date),
                ..
            } => AttributeValue::Date(date),
            _ => return Err(StoreError::Stored("an attribute without a value".into())),
        };
        all.entry(row.owner).or_default().push((row.key, value));
    }
    Ok(all)
}

/// Deletes the attributes of a customer or contract whose keys are not among `keep`; true when
/// there were any. The rows are locked in the order in which imports write them.
pub(crate) async fn keep(
    conn: &mut Conn,
    tenant: TenantId,
    owner: Owner,
    id: Uuid,
    keep: &[AttributeRow],
) -> Result<bool> {
    let (table, column) = owner.table();
    let keys: Vec<&str> = keep.iter().map(|r| &*r.key).collect();
    let deleted = diesel::sql_query(format!(
        "WITH held AS MATERIALIZED (
             SELECT key FROM {table} WHERE tenant_id = $1 AND {column} = $2 ORDER BY key FOR UPDATE)
         DELETE FROM {table} WHERE tenant_id = $1 AND {column} = $2
             AND key IN (SELECT key FROM held) AND key <> ALL ($3)"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Array<Text>, _>(keys)
    .execute(conn)
    .await?;
    Ok(deleted > 0)
}

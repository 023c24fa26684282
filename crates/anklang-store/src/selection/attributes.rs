//! The imported attributes that a tenant has: fields beyond the registry.

use std::collections::BTreeMap;

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::registry::{Entity, FieldType};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// Names of attribute fields begin so.
pub const PREFIX: &str = "attributes.";

/// Attribute keys of a tenant with what they hold, by entity.
#[derive(Debug, Clone, Default)]
pub struct Attributes(BTreeMap<(Entity, String), FieldType>);

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    entity: String,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    value_type: String,
}

impl Attributes {
    /// Loads those of a tenant.
    pub async fn load(mut conn: &Conn, tenant: TenantId) -> Result<Self> {
        let rows: Vec<Row> = diesel::sql_query(
            "SELECT entity, key, value_type FROM attribute_definition WHERE tenant_id = $1",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .fixed()
        .load(&mut conn)
        .await?;
        rows.into_iter().map(Row::into_entry).collect()
    }

    /// Keys of an entity with what they hold, by key.
    pub fn of(&self, entity: Entity) -> impl Iterator<Item = (&str, FieldType)> {
        self.0
            .iter()
            .filter(move |((of, _), _)| *of == entity)
            .map(|((_, key), ty)| (key.as_str(), *ty))
    }

    /// What the attribute holds, if the entity has it.
    pub(super) fn get(&self, entity: Entity, key: &str) -> Option<FieldType> {
        self.0.get(&(entity, key.to_owned())).copied()
    }
}

impl FromIterator<(Entity, String, FieldType)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (Entity, String, FieldType)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        Attributes(entries.map(|(of, key, ty)| ((of, key), ty)).collect())
    }
}

impl Row {
    fn into_entry(self) -> Result<(Entity, String, FieldType)> {
        let entity = match &*self.entity {
            "customer" => Entity::Customer,
            "contract" => Entity::Contract,
            other => return Err(StoreError::Stored(format!("attributes of {other}"))),
        };
        let ty = match &*self.value_type {
            "text" => FieldType::Text,
            "number" => FieldType::Number,
            "flag" => FieldType::Flag,
            "date" => FieldType::Date,
            other => return Err(StoreError::Stored(format!("an attribute of type {other}"))),
        };
        Ok((entity, self.key, ty))
    }
}

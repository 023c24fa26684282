//! What prepared criteria find now, page by page, with the ticks of a saved selection.

use std::time::Duration;

use anklang_domain::SelectionId;
use anklang_domain::selection::Subject;
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Nullable, Text, Uuid as SqlUuid};

use super::preview::Limit;
use super::{Prepared, Statement};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::{Conn, Result};

/// A customer or contract that is found, or ticked.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Member {
    /// Number of the customer.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Number of the contract, when contracts are selected.
    #[diesel(sql_type = Nullable<Text>)]
    pub contract_number: Option<String>,
    /// Name of the person or company.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Postcode and city, the site's for a contract.
    #[diesel(sql_type = Text)]
    pub place: String,
    /// included or excluded, if it is ticked.
    #[diesel(sql_type = Nullable<Text>)]
    pub tick: Option<String>,
    /// Not ticked out.
    #[diesel(sql_type = Bool)]
    pub selected: bool,
}

/// What members are listed by.
pub static MEMBERS: Listable = Listable {
    fields: &[
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "contract",
            &[Part::new("contracts", "contract_number", PartType::Text)],
        ),
        Field::new("display_name", Kind::Text, "name"),
        Field::column("place", Kind::Text),
        Field::nullable(
            "tick",
            Kind::Word("TICK_", &["included", "excluded"]),
            "tick",
        ),
        Field::column("selected", Kind::Flag),
    ],
    key: &[Sort::key("number", "::text", false)],
};

/// A page of what is found and of what is ticked in that saved selection, by number if not otherwise wanted.
///
/// Limits the statements of the transaction to `timeout` (milliseconds count) from here on.
///
/// # Errors
/// `Refused` when the database did not finish in that time; the transaction is over then.
pub async fn members(
    conn: &mut Conn,
    prepared: Prepared,
    saved: Option<SelectionId>,
    list: &List,
    timeout: Duration,
) -> Result<Page<Member>> {
    let tenant = prepared.tenant;
    let prepared = match saved {
        Some(id) => prepared.with_all_ticked(conn, id).await?,
        None => prepared,
    };
    let base = Statement::new(match prepared.subject {
        Subject::Customer => OF_CUSTOMERS,
        Subject::Contract => OF_CONTRACTS,
    })
    .sql(
        " LEFT JOIN selection_tick t ON t.tenant_id = subject.tenant_id
              AND t.member_id = subject.id AND t.selection_id = ",
    )
    .bind::<Nullable<SqlUuid>, _>(saved.map(|id| id.0))
    .sql(" WHERE ")
    .criteria(&prepared);
    let limit = Limit::begin(conn, timeout).await?;
    let page = list.load_of_customers(conn, tenant, base).await;
    page.map_err(|error| limit.explain(error))
}

const OF_CUSTOMERS: &str =
    "SELECT subject.number, subject.id AS customer_id, subject.number AS customer_number,
            NULL::text AS contract_number,
            CASE subject.kind WHEN 'company' THEN subject.company_name
                 ELSE trim(subject.first_name || ' ' || subject.last_name) END AS name,
            trim(subject.postal_code || ' ' || subject.city) AS place,
            t.tick, t.tick IS DISTINCT FROM 'excluded' AS selected
     FROM customer subject";

const OF_CONTRACTS: &str =
    "SELECT subject.number, subject.customer_id, c.number AS customer_number,
            subject.number AS contract_number,
            CASE c.kind WHEN 'company' THEN c.company_name
                 ELSE trim(c.first_name || ' ' || c.last_name) END AS name,
            trim(subject.site_postal_code || ' ' || subject.site_city) AS place,
            t.tick, t.tick IS DISTINCT FROM 'excluded' AS selected
     FROM contract subject
     JOIN customer c ON c.tenant_id = subject.tenant_id AND c.id = subject.customer_id";

//! Why one customer is a case or none: the same sums, rule and models as a detection's.

use anklang_domain::winback::{CustomerSums, Finding, LostGroups};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Date, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::CLOSED;
use super::detection::Model;
use super::figures::{self, Figures};
use super::judge::{self, Candidate, Judge, View};
use super::settings::Settings;
use crate::selection::Statement;
use crate::tenant::Tenant;
use crate::{Conn, Result};

/// Why a customer is a case or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What the rule says.
    pub finding: Finding,
    /// Orders, as they were summed; `None` when the customer never bought.
    pub figures: Option<Figures>,
    /// Product groups that are not bought any more.
    pub lost: LostGroups,
    /// What the models say.
    pub view: View,
    /// The state of the customer's case that is not closed.
    pub open_case: Option<String>,
    /// Until when no other case is opened, as one was closed lately; that day included.
    pub rests_until: Option<NaiveDate>,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The customer's number.
    pub number: &'a str,
    /// As of which day.
    pub as_of: NaiveDate,
    /// As of when exclusions hold.
    pub at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Customer {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    customer_group: String,
    #[diesel(sql_type = Nullable<Integer>)]
    excluded: Option<i32>,
}

/// Explains one customer; `None` when there is none of that number.
pub async fn explain(
    conn: &mut Conn,
    tenant: &Tenant,
    settings: &Settings,
    model: &Model,
    question: Question<'_>,
) -> Result<Option<Explanation>> {
    let judge = Judge::new(settings, model, question.as_of)?;
    let exclusions = judge::exclusions(conn, tenant, settings, question.at).await?;
    let customer: Option<Customer> = Statement::new("SELECT subject.id, subject.customer_group, ")
        .append(&judge::excluded(&exclusions))
        .sql(" AS excluded FROM customer subject WHERE subject.tenant_id = ")
        .bind::<SqlUuid, _>(tenant.id.0)
        .sql(" AND subject.number = ")
        .bind::<Text, _>(question.number.to_owned())
        .get_result(conn)
        .await
        .optional()?;
    let Some(customer) = customer else {
        return Ok(None);
    };
    let look = judge.look(tenant);
    let figures = figures::of_one(conn, customer.id, &look).await?;
    let mut lost = judge::lost_groups(conn, &look, &[customer.id]).await?;
    let lost = lost.remove(&customer.id).unwrap_or(LostGroups {
        had: 0,
        lost: Vec::new(),
    });
    let standing = standing(conn, tenant, customer.id, question.as_of, settings).await?;
    let view = figures.as_ref().map(|figures| judge.view(figures));
    let finding = match &figures {
        Some(figures) => judge.finding(&Candidate {
            figures: figures.clone(),
            customer_group: customer.customer_group,
            excluded: customer.excluded,
        }),
        None => judge.finding_of(&CustomerSums {
            group: &customer.customer_group,
            excluded: None,
            ordered: None,
            orders: 0,
            revenue: Decimal::ZERO,
            then: Decimal::ZERO,
            now: Decimal::ZERO,
        }),
    };
    Ok(Some(Explanation {
        finding,
        figures,
        lost,
        view: view.unwrap_or_default(),
        open_case: standing.open_case,
        rests_until: standing.rests_until,
    }))
}

#[derive(QueryableByName)]
struct Standing {
    #[diesel(sql_type = Nullable<Text>)]
    open_case: Option<String>,
    #[diesel(sql_type = Nullable<Date>)]
    rests_until: Option<NaiveDate>,
}

async fn standing(
    conn: &mut Conn,
    tenant: &Tenant,
    customer: Uuid,
    as_of: NaiveDate,
    settings: &Settings,
) -> Result<Standing> {
    Ok(diesel::sql_query(format!(
        "SELECT max(state) FILTER (WHERE state NOT IN {CLOSED}) AS open_case,
                max(closed_on + $4 - 1) FILTER (WHERE closed_on > $3 - $4) AS rests_until
         FROM winback_case WHERE tenant_id = $1 AND customer_id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<Date, _>(as_of)
    .bind::<Integer, _>(i32::try_from(settings.rest_days).unwrap_or(i32::MAX))
    .get_result(conn)
    .await?)
}

//! Customers and contracts that people have ticked: in or out, whatever the criteria say.
//!
//! Kept by id, so that they go with what they are about. Everything is set-based: a hundred
//! thousand numbers are one statement.

use anklang_domain::selection::Subject;
use anklang_domain::{SelectionId, TenantId, Violations};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Prepared, Selection, Statement, bound, resource};
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::{Conn, Result, StoreError};

/// The most ticks of a selection, and the most numbers in a list of them.
pub const MAX_TICKS: usize = 100_000;
/// The most violations about unknown numbers.
const MAX_UNKNOWN: i64 = 40;

/// How many are ticked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct TickCounts {
    /// In.
    #[diesel(sql_type = BigInt)]
    pub included: i64,
    /// Out.
    #[diesel(sql_type = BigInt)]
    pub excluded: i64,
}

/// What ticks shall become: numbers of customers or contracts, as the selection finds.
#[derive(Debug, Clone, Default)]
pub struct TickUpdate {
    /// In.
    pub include: Vec<String>,
    /// Out.
    pub exclude: Vec<String>,
    /// Not ticked any more.
    pub clear: Vec<String>,
    /// Takes away all others.
    pub clear_all: bool,
}

/// A tick.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Tick {
    /// Number of the customer or contract.
    #[diesel(sql_type = Text)]
    pub number: String,
    /// included or excluded.
    #[diesel(sql_type = Text)]
    pub tick: String,
    /// Since when.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// What ticks are listed by.
pub static TICKS: Listable = Listable {
    fields: &[
        Field::column("number", Kind::Text),
        Field::column("tick", Kind::Word("TICK_", &["included", "excluded"])),
        Field::new("create_time", Kind::Time, "created_at"),
    ],
    key: &[Sort::key("number", "::text", false)],
};

/// A page of a selection's ticks, by number if not otherwise wanted.
pub async fn ticks(
    conn: &mut Conn,
    tenant: TenantId,
    selection: SelectionId,
    list: &List,
) -> Result<Page<Tick>> {
    let base = Statement::numbered(
        "SELECT coalesce(k.number, c.number) AS number, t.tick, t.created_at
         FROM selection_tick t
         LEFT JOIN contract k ON k.tenant_id = t.tenant_id AND k.id = t.contract_id
         LEFT JOIN customer c ON c.tenant_id = t.tenant_id AND c.id = t.customer_id
         WHERE t.tenant_id = $1 AND t.selection_id = $2",
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<SqlUuid, _>(selection.0),
        ],
    );
    list.load(conn, base).await
}

/// How many a selection has.
pub async fn tick_counts(
    conn: &mut Conn,
    tenant: TenantId,
    selection: SelectionId,
) -> Result<TickCounts> {
    Ok(diesel::sql_query(
        "SELECT count(*) FILTER (WHERE tick = 'included') AS included,
                count(*) FILTER (WHERE tick = 'excluded') AS excluded
         FROM selection_tick WHERE tenant_id = $1 AND selection_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(selection.0)
    .get_result(conn)
    .await?)
}

/// The tick of one customer or contract: included or excluded.
pub async fn tick_of(
    conn: &mut Conn,
    tenant: TenantId,
    selection: SelectionId,
    member: Uuid,
) -> Result<Option<String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        tick: String,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT tick FROM selection_tick
         WHERE tenant_id = $1 AND selection_id = $2 AND member_id = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(selection.0)
    .bind::<SqlUuid, _>(member)
    .load(conn)
    .await?;
    Ok(rows.into_iter().next().map(|row| row.tick))
}

/// Changes the ticks of a selection. Updates of one selection take turns.
///
/// # Errors
/// `Missing` when the selection is gone. `Invalid` at `include[i]`, `exclude[i]` and `clear[i]`
/// for numbers that the tenant does not have, and when there would be more than [`MAX_TICKS`].
pub async fn update_ticks(
    conn: &mut Conn,
    tenant: TenantId,
    selection: &Selection,
    update: &TickUpdate,
) -> Result<TickCounts> {
    let held = diesel::sql_query(
        "SELECT 1 FROM selection WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(selection.id.0)
    .execute(conn)
    .await?;
    if held == 0 {
        return Err(StoreError::Missing(resource(selection.id.0)));
    }
    check_known(conn, tenant, selection.subject, update).await?;
    let of_contracts = selection.subject == Subject::Contract;
    if update.clear_all || !update.clear.is_empty() {
        let gone = if update.clear_all {
            None
        } else {
            Some(&update.clear)
        };
        diesel::sql_query(match of_contracts {
            true => {
                "DELETE FROM selection_tick t WHERE t.tenant_id = $1 AND t.selection_id = $2
                 AND ($3 IS NULL OR t.contract_id IN (SELECT k.id FROM contract k
                      WHERE k.tenant_id = $1 AND k.number = ANY($3)))"
            }
            false => {
                "DELETE FROM selection_tick t WHERE t.tenant_id = $1 AND t.selection_id = $2
                 AND ($3 IS NULL OR t.customer_id IN (SELECT c.id FROM customer c
                      WHERE c.tenant_id = $1 AND c.number = ANY($3)))"
            }
        })
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(selection.id.0)
        .bind::<Nullable<Array<Text>>, _>(gone)
        .execute(conn)
        .await?;
    }
    for (tick, numbers) in [("included", &update.include), ("excluded", &update.exclude)] {
        if !numbers.is_empty() {
            set(conn, tenant, selection, tick, numbers).await?;
        }
    }
    let counts = tick_counts(conn, tenant, selection.id).await?;
    if counts.included + counts.excluded > MAX_TICKS as i64 {
        let mut violations = Violations::new();
        let reason = format!("the selection would have more than {MAX_TICKS} ticks");
        violations.add("name", reason);
        return Err(violations.into());
    }
    Ok(counts)
}

async fn set(
    conn: &mut Conn,
    tenant: TenantId,
    selection: &Selection,
    tick: &'static str,
    numbers: &[String],
) -> Result<()> {
    // A row that is what it shall be stays as it is.
    let statement = match selection.subject {
        Subject::Contract => {
            "INSERT INTO selection_tick (tenant_id, selection_id, contract_id, tick)
             SELECT $1, $2, k.id, $3 FROM contract k WHERE k.tenant_id = $1 AND k.number = ANY($4)
             ON CONFLICT (tenant_id, selection_id, member_id)
             DO UPDATE SET tick = excluded.tick, created_at = now()
             WHERE selection_tick.tick <> excluded.tick"
        }
        Subject::Customer => {
            "INSERT INTO selection_tick (tenant_id, selection_id, customer_id, tick)
             SELECT $1, $2, c.id, $3 FROM customer c WHERE c.tenant_id = $1 AND c.number = ANY($4)
             ON CONFLICT (tenant_id, selection_id, member_id)
             DO UPDATE SET tick = excluded.tick, created_at = now()
             WHERE selection_tick.tick <> excluded.tick"
        }
    };
    diesel::sql_query(statement)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(selection.id.0)
        .bind::<Text, _>(tick)
        .bind::<Array<Text>, _>(numbers)
        .execute(conn)
        .await?;
    Ok(())
}

async fn check_known(
    conn: &mut Conn,
    tenant: TenantId,
    subject: Subject,
    update: &TickUpdate,
) -> Result<()> {
    let mut violations = Violations::new();
    for (field, numbers) in [
        ("include", &update.include),
        ("exclude", &update.exclude),
        ("clear", &update.clear),
    ] {
        unknown(conn, tenant, subject, numbers, field, &mut violations).await?;
    }
    Ok(violations.finish(())?)
}

/// Adds a violation at `field[i]` for each number that the tenant does not have, at most 40.
pub async fn unknown(
    conn: &mut Conn,
    tenant: TenantId,
    subject: Subject,
    numbers: &[String],
    field: &str,
    violations: &mut Violations,
) -> Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        place: i64,
    }
    if numbers.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row> = diesel::sql_query(match subject {
        Subject::Contract => {
            "SELECT n.place FROM unnest($2) WITH ORDINALITY n (number, place) WHERE NOT EXISTS (
                 SELECT FROM contract k WHERE k.tenant_id = $1 AND k.number = n.number)
             ORDER BY n.place LIMIT $3"
        }
        Subject::Customer => {
            "SELECT n.place FROM unnest($2) WITH ORDINALITY n (number, place) WHERE NOT EXISTS (
                 SELECT FROM customer c WHERE c.tenant_id = $1 AND c.number = n.number)
             ORDER BY n.place LIMIT $3"
        }
    })
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(numbers)
    .bind::<BigInt, _>(MAX_UNKNOWN)
    .load(conn)
    .await?;
    for row in rows {
        violations.add(format!("{field}[{}]", row.place - 1), "does not exist");
    }
    Ok(())
}

/// Copies the ticks of one selection to another.
pub(super) async fn copy(
    conn: &mut Conn,
    tenant: TenantId,
    from: SelectionId,
    to: SelectionId,
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO selection_tick (tenant_id, selection_id, customer_id, contract_id, tick)
         SELECT tenant_id, $3, customer_id, contract_id, tick FROM selection_tick
         WHERE tenant_id = $1 AND selection_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(from.0)
    .bind::<SqlUuid, _>(to.0)
    .execute(conn)
    .await?;
    Ok(())
}

impl Prepared {
    /// The same with the ticks of a saved selection: what is included is found as well, what is
    /// excluded is not.
    pub async fn with_ticks_of(self, conn: &mut Conn, selection: SelectionId) -> Result<Self> {
        let counts = tick_counts(conn, self.tenant, selection).await?;
        let rows = |tick: &'static str| {
            Statement::numbered(
                "SELECT t.member_id FROM selection_tick t
                 WHERE t.tenant_id = $1 AND t.selection_id = $2 AND t.tick = ",
                &[
                    bound::<SqlUuid, _>(self.tenant.0),
                    bound::<SqlUuid, _>(selection.0),
                ],
            )
            .sql(tick)
        };
        // Only what is there: an OR keeps the planner from the best plans.
        let included = (counts.included > 0).then(|| {
            let rows = rows("'included'");
            Statement::new("subject.id IN (").append(&rows).sql(")")
        });
        let excluded = (counts.excluded > 0).then(|| {
            let rows = rows("'excluded' AND t.member_id = subject.id");
            Statement::new("EXISTS (").append(&rows).sql(")")
        });
        Ok(self.ticked(included, excluded))
    }

    /// The same with all that is ticked in a saved selection, in or out.
    pub(super) async fn with_all_ticked(
        self,
        conn: &mut Conn,
        selection: SelectionId,
    ) -> Result<Self> {
        let counts = tick_counts(conn, self.tenant, selection).await?;
        // Only what is there, as above.
        let ticked = (counts.included + counts.excluded > 0).then(|| {
            Statement::numbered(
                "subject.id IN (SELECT t.member_id FROM selection_tick t
                                WHERE t.tenant_id = $1 AND t.selection_id = $2)",
                &[
                    bound::<SqlUuid, _>(self.tenant.0),
                    bound::<SqlUuid, _>(selection.0),
                ],
            )
        });
        Ok(self.ticked(ticked, None))
    }

    /// The same with these numbers in and those out.
    pub fn with_numbers(self, include: Vec<String>, exclude: Vec<String>) -> Self {
        let included = (!include.is_empty()).then(|| {
            Statement::new("subject.number IN (SELECT unnest(")
                .bind::<Array<Text>, _>(include)
                .sql("))")
        });
        let excluded = (!exclude.is_empty()).then(|| {
            Statement::new("EXISTS (SELECT FROM unnest(")
                .bind::<Array<Text>, _>(exclude)
                .sql(") n (number) WHERE n.number = subject.number)")
        });
        self.ticked(included, excluded)
    }

    fn ticked(mut self, included: Option<Statement>, excluded: Option<Statement>) -> Self {
        if let Some(included) = included {
            self.condition = Statement::new("(")
                .append(&self.condition)
                .sql(" OR (subject.tenant_id = ")
                .bind::<SqlUuid, _>(self.tenant.0)
                .sql(" AND subject.erased_at IS NULL AND ")
                .append(&included)
                .sql("))");
        }
        if let Some(excluded) = excluded {
            self.condition = Statement::new("(")
                .append(&self.condition)
                .sql(" AND NOT ")
                .append(&excluded)
                .sql(")");
        }
        self
    }
}

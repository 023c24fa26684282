//! Accounts of tenants: rows here; what servers need to open them in [`watch`], and how they stand in
//! [`standing`].
//!
//! Each change counts the revision up. A sender that has opened another one claims nothing
//! ([`crate::message::claim()`]), so that a change holds on every server from its commit on.

pub mod standing;
pub mod watch;

use anklang_domain::TenantId;
use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Integer, Jsonb, Nullable, Numeric, Text, Timestamptz,
    Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::message::NEVER_HANDED_OVER;
use crate::planning::plan;
use crate::selection::{Statement, bound};
use crate::winback::settings;
use crate::{Conn, Result, StoreError};

/// A tenant has at most so many accounts.
pub const MAX_ACCOUNTS: i64 = 100;

/// What its owner decides about an account.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Settings {
    /// For people.
    #[diesel(sql_type = Text)]
    pub display_name: String,
    /// The plugin's settings without its secrets.
    #[diesel(sql_type = Jsonb)]
    pub config: Value,
    /// The secrets, sealed; none when there are none.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub secrets: Option<Vec<u8>>,
    /// Where in the settings secrets are.
    #[diesel(sql_type = Array<Text>)]
    pub secrets_set: Vec<String>,
    /// Nothing goes through it.
    #[diesel(sql_type = Bool)]
    pub paused: bool,
    /// resend or hold.
    #[diesel(sql_type = Text)]
    pub ambiguous: String,
    /// See [`anklang_domain::rate`]; empty for none.
    #[diesel(sql_type = Text)]
    pub rate: String,
    /// At once; 0 without a rate.
    #[diesel(sql_type = Integer)]
    pub burst: i32,
    /// Messages that are claimed together.
    #[diesel(sql_type = Integer)]
    pub batch: i32,
    /// Calls at the same time.
    #[diesel(sql_type = Integer)]
    pub calls: i32,
    /// See [`anklang_domain::window`]; empty for always.
    #[diesel(sql_type = Text)]
    pub hours: String,
    /// Weekdays; empty for all.
    #[diesel(sql_type = Array<Text>)]
    pub days: Vec<String>,
    /// What a message costs.
    #[diesel(sql_type = Nullable<Numeric>)]
    pub cost: Option<Decimal>,
    /// The currency of that.
    #[diesel(sql_type = Nullable<Text>)]
    pub cost_currency: Option<String>,
}

/// An account of a tenant.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Account {
    /// The tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: uuid::Uuid,
    /// Its id.
    #[diesel(sql_type = Text)]
    pub id: String,
    /// Id of the plugin.
    #[diesel(sql_type = Text)]
    pub plugin: String,
    /// The channel that the plugin serves.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// What its owner decides.
    #[diesel(embed)]
    pub settings: Settings,
    /// Counts its changes.
    #[diesel(sql_type = BigInt)]
    pub revision: i64,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Account {
    /// Its tenant's typed id.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant_id)
    }
}

const COLUMNS: &str = "tenant_id, id, plugin, channel, display_name, config, secrets, secrets_set,
    paused, ambiguous, rate, burst, batch, calls, hours, days, cost, cost_currency, revision,
    created_at, updated_at";

/// A new account.
#[derive(Debug, Clone, Copy)]
pub struct NewAccount<'a> {
    /// Its id.
    pub id: &'a str,
    /// Id of the plugin.
    pub plugin: &'a str,
    /// The channel that the plugin serves.
    pub channel: &'a str,
    /// What its owner decides.
    pub settings: &'a Settings,
}

/// Adds an account; `None` when there is one with that id.
///
/// # Errors
/// `Refused` when the tenant has [`MAX_ACCOUNTS`], or one with that id is being deleted.
pub async fn create(
    conn: &mut Conn,
    tenant: TenantId,
    new: NewAccount<'_>,
) -> Result<Option<Account>> {
    // Two at once could both be the last: the tenant's accounts take turns.
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('account ' || $1::text, 0))")
        .bind::<SqlUuid, _>(tenant.0)
        .execute(conn)
        .await?;
    if get(conn, tenant, new.id).await?.is_some() {
        return Ok(None);
    }
    if count(conn, tenant, "id = $2", new.id).await? > 0 {
        return Err(refused(new.id, "is still being deleted".into()));
    }
    if count(conn, tenant, "$2 IS NOT NULL", new.id).await? >= MAX_ACCOUNTS {
        return Err(StoreError::Refused {
            resource: "channelAccounts".into(),
            reason: format!("a tenant has at most {MAX_ACCOUNTS}"),
        });
    }
    diesel::sql_query(
        "INSERT INTO channel_account (tenant_id, id, plugin, channel, display_name, config, ambiguous,
             batch, calls)
         VALUES ($1, $2, $3, $4, '', '{}', 'hold', 1, 1)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(new.id)
    .bind::<Text, _>(new.plugin)
    .bind::<Text, _>(new.channel)
    .execute(conn)
    .await?;
    update(conn, tenant, new.id, new.settings).await
}

async fn count(conn: &mut Conn, tenant: TenantId, which: &str, id: &str) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let sql =
        format!("SELECT count(*) AS n FROM channel_account WHERE tenant_id = $1 AND ({which})");
    let counted: Count = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(id)
        .get_result(conn)
        .await?;
    Ok(counted.n)
}

/// One account.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: &str) -> Result<Option<Account>> {
    let found = diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM channel_account
         WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .get_result(&mut conn)
    .await
    .optional()?;
    Ok(found)
}

/// Those of these accounts that there are, which are then not deleted before the end of the
/// transaction: something is about to name them.
pub async fn keep(conn: &mut Conn, tenant: TenantId, ids: &[&str]) -> Result<Vec<Account>> {
    Ok(diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM channel_account
         WHERE tenant_id = $1 AND id = ANY($2) AND deleted_at IS NULL ORDER BY id FOR KEY SHARE"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(ids)
    .load(conn)
    .await?)
}

/// An account of the configuration file that a tenant can use, for its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// Its id.
    pub id: String,
    /// Id of the plugin.
    pub plugin: String,
    /// The channel that it serves.
    pub channel: String,
}

/// An account in a list: the row of a tenant's own, the id of one of the configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// The tenant's own.
    pub own: Option<Account>,
}

/// What accounts are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("id", Kind::Text),
        Field::column("display_name", Kind::Text),
        Field::column("channel", Kind::Text),
        Field::column("plugin", Kind::Text),
        Field::column("paused", Kind::Flag),
        Field::column("read_only", Kind::Flag),
        Field::nullable("create_time", Kind::Time, "created_at"),
        Field::nullable("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("id", "::text", false)],
};

/// A page of the tenant's accounts and those of the configuration file, by id if not otherwise wanted.
pub async fn list(
    mut conn: &Conn,
    tenant: TenantId,
    configured: &[Configured],
    list: &List,
) -> Result<Page<Listed>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        id: String,
    }
    let each = |part: &dyn Fn(&Configured) -> &str| -> Vec<String> {
        configured.iter().map(|c| part(c).to_owned()).collect()
    };
    let base = Statement::numbered(
        "SELECT id, display_name, channel, plugin, paused, false AS read_only, created_at, updated_at
         FROM channel_account WHERE tenant_id = $1 AND deleted_at IS NULL
         UNION ALL
         SELECT c.id, c.id, c.channel, c.plugin, false, true, NULL, NULL
         FROM unnest($2::text[], $3::text[], $4::text[]) AS c (id, channel, plugin)
         WHERE NOT EXISTS (SELECT FROM channel_account a WHERE a.tenant_id = $1 AND a.id = c.id)",
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Array<Text>, _>(each(&|c| &c.id)),
            bound::<Array<Text>, _>(each(&|c| &c.channel)),
            bound::<Array<Text>, _>(each(&|c| &c.plugin)),
        ],
    );
    let page: Page<Row> = list.load(conn, base).await?;
    let ids: Vec<&str> = page.rows.iter().map(|row| &row.id[..]).collect();
    let mut own: Vec<Account> = diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM channel_account
         WHERE tenant_id = $1 AND id = ANY($2) AND deleted_at IS NULL"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(ids)
    .load(&mut conn)
    .await?;
    let mut take = |id: &str| {
        let at = own.iter().position(|account| account.id == id)?;
        Some(own.swap_remove(at))
    };
    let rows = page.rows.into_iter().map(|row| Listed {
        own: take(&row.id),
        id: row.id,
    });
    Ok(Page {
        rows: rows.collect(),
        next: page.next,
    })
}

/// Replaces what the owner of an account decides; `None` when there is no such account.
pub async fn update(
    conn: &mut Conn,
    tenant: TenantId,
    id: &str,
    settings: &Settings,
) -> Result<Option<Account>> {
    let s = settings;
    let changed = diesel::sql_query(format!(
        "UPDATE channel_account SET display_name = $3, config = $4, secrets = $5, secrets_set = $6,
                paused = $7, ambiguous = $8, rate = $9, burst = $10, batch = $11, calls = $12,
                hours = $13, days = $14, cost = $15, cost_currency = $16,
                revision = revision + 1, updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .bind::<Text, _>(&s.display_name)
    .bind::<Jsonb, _>(&s.config)
    .bind::<Nullable<Bytea>, _>(&s.secrets)
    .bind::<Array<Text>, _>(&s.secrets_set)
    .bind::<Bool, _>(s.paused)
    .bind::<Text, _>(&s.ambiguous)
    .bind::<Text, _>(&s.rate)
    .bind::<Integer, _>(s.burst)
    .bind::<Integer, _>(s.batch)
    .bind::<Integer, _>(s.calls)
    .bind::<Text, _>(&s.hours)
    .bind::<Array<Text>, _>(&s.days)
    .bind::<Nullable<Numeric>, _>(s.cost)
    .bind::<Nullable<Text>, _>(&s.cost_currency)
    .get_result(conn)
    .await
    .optional()?;
    Ok(changed)
}

#[derive(QueryableByName)]
struct Use {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = BigInt)]
    in_doubt: i64,
    #[diesel(sql_type = BigInt)]
    launches: i64,
    #[diesel(sql_type = Nullable<Text>)]
    route: Option<String>,
    /// A brand whose winback mails go through it.
    #[diesel(sql_type = Nullable<Text>)]
    brand: Option<String>,
    /// A contact plan whose messages go through it.
    #[diesel(sql_type = Nullable<Text>)]
    plan: Option<String>,
    /// Requests for offers go through it.
    #[diesel(sql_type = Bool)]
    settings: bool,
}

/// Deletes an account, which the caller holds, and before it the winback settings. With a replacement, what
/// waits for it moves there by and by ([`watch::replaced`]), and its row stays until then.
///
/// # Errors
/// `Refused` while something uses the account that does not move.
pub async fn delete(
    conn: &mut Conn,
    tenant: TenantId,
    id: &str,
    replacement: Option<&str>,
) -> Result<()> {
    let used: Use = diesel::sql_query(format!(
        "SELECT (SELECT count(*) FROM message m WHERE m.tenant_id = $1 AND m.account = $2
                   AND m.state = 'queued') AS waiting,
                (SELECT count(*) FROM message m WHERE m.tenant_id = $1 AND m.account = $2
                   AND (m.state IN ('sending', 'ambiguous')
                     OR m.state = 'queued' AND NOT {NEVER_HANDED_OVER})) AS in_doubt,
                (SELECT count(*) FROM outbound o
                 JOIN phase p ON p.tenant_id = o.tenant_id AND p.id = o.phase_id
                 WHERE o.tenant_id = $1 AND o.account = $2 AND o.route IS NULL
                   AND p.state IN ('planned', 'launching', 'awaiting_approval')) AS launches,
                (SELECT min(r.id) FROM channel_route r
                 WHERE r.tenant_id = $1 AND $2 = ANY(r.accounts)) AS route,
                (SELECT min(b.code) FROM winback_sender s
                 JOIN brand b ON b.tenant_id = s.tenant_id AND b.id = s.brand_id
                 WHERE s.tenant_id = $1 AND s.account = $2) AS brand,
                (SELECT min(p.code) FROM contact_plan p
                 WHERE p.tenant_id = $1 AND p.follow_up_messages @> {OF_PLAN}) AS plan,
                coalesce((SELECT w.settings->>'offer_mail_account' = $2 FROM winback_settings w
                          WHERE w.tenant_id = $1 ORDER BY w.version DESC LIMIT 1), false) AS settings"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .get_result(conn)
    .await?;
    if let Some(route) = used.route {
        return Err(refused(id, format!("channelRoutes/{route} names it")));
    }
    if used.in_doubt > 0 {
        let reason = format!(
            "{} messages may have been handed over through it: pause it, wait for those being sent, \
             and settle those that are ambiguous",
            used.in_doubt
        );
        return Err(refused(id, reason));
    }
    let named = used.brand.map(|brand| format!("winbackSenders/{brand}"));
    let named = named.or_else(|| used.plan.as_deref().map(plan::resource));
    let named = named.or_else(|| used.settings.then(|| "winbackSettings".to_owned()));
    match (replacement, named) {
        (Some(replacement), _) => replace(conn, tenant, id, replacement).await,
        (None, Some(name)) => {
            let reason = format!("{name} names it; a replacement would take it");
            Err(refused(id, reason))
        }
        (None, None) if used.waiting + used.launches > 0 => {
            let reason = format!(
                "{} messages wait for it and {} launches use it; a replacement would take them",
                used.waiting, used.launches
            );
            Err(refused(id, reason))
        }
        (None, None) => watch::forget(conn, tenant, id).await,
    }
}

/// Messages of contact plans that go through the account `$2`, as `@>` finds them.
const OF_PLAN: &str = "jsonb_build_array(jsonb_build_object('account', $2))";

async fn replace(conn: &mut Conn, tenant: TenantId, id: &str, replacement: &str) -> Result<()> {
    diesel::sql_query(format!(
        "WITH launches AS (
             UPDATE outbound o SET account = $3 FROM phase p
             WHERE o.tenant_id = $1 AND o.account = $2 AND o.route IS NULL
               AND p.tenant_id = $1 AND p.id = o.phase_id
               AND p.state IN ('planned', 'launching', 'awaiting_approval')),
         senders AS (
             UPDATE winback_sender SET account = $3 WHERE tenant_id = $1 AND account = $2),
         plans AS (
             UPDATE contact_plan SET follow_up_messages = (
                 SELECT jsonb_agg(CASE WHEN f->>'account' = $2
                                       THEN f || jsonb_build_object('account', $3) ELSE f END
                                  ORDER BY n)
                 FROM jsonb_array_elements(follow_up_messages) WITH ORDINALITY AS m (f, n))
             WHERE tenant_id = $1 AND follow_up_messages @> {OF_PLAN})
         UPDATE channel_account SET replaced_by = $3, deleted_at = now(), revision = revision + 1
         WHERE tenant_id = $1 AND id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .bind::<Text, _>(replacement)
    .execute(conn)
    .await?;
    let set = settings::get(conn, tenant).await?.settings;
    if set.offer_mail_account == id {
        let moved = settings::Settings {
            offer_mail_account: replacement.to_owned(),
            ..set
        };
        settings::save(conn, tenant, &moved, "").await?;
    }
    // Who was to be replaced by it is by its replacement.
    diesel::sql_query(
        "UPDATE channel_account SET replaced_by = $3 WHERE tenant_id = $1 AND replaced_by = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(id)
    .bind::<Text, _>(replacement)
    .execute(conn)
    .await?;
    Ok(())
}

fn refused(id: &str, reason: String) -> StoreError {
    StoreError::Refused {
        resource: anklang_domain::name::format(&[("channelAccounts", id)]),
        reason,
    }
}

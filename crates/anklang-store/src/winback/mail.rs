//! Queueing mails of cases, one or many, in one transaction: the cases are locked and asked, vouchers
//! taken, messages written, cases moved and events noted. It is the same for one and for many.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::winback::{
    ActError, Acted, Action, Actor, Case, CaseRules, MailTemplate, REMINDER_DAYS, act,
};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Bytea, Date, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::case::{Standing, hold_many};
use super::template::{self, BRAND, LAST_ORDER};
use super::voucher::{self, Taken};
use crate::message::SINGLE;
use crate::selection::{Statement, bound};
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// What is mailed, and by whom.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The template.
    pub template: MailTemplate,
    /// Who does it.
    pub actor: Actor<'a>,
    /// The mailing to which it belongs.
    pub mailing: Option<Uuid>,
    /// The claim under which the case must be.
    pub claim: Option<Uuid>,
}

/// What the rules say, or why not.
type Asked<T> = std::result::Result<T, Refusal>;

/// What became of cases.
pub type Answers = HashMap<Uuid, std::result::Result<Queued, Refusal>>;

/// Why a case is not mailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The rules of cases forbid it.
    Act(ActError),
    /// The last order names no brand, and the tenant has several.
    NoBrand,
    /// The brand has no such template.
    NoTemplate(String),
    /// The brand has no sender.
    NoSender(String),
    /// The account of the sender is gone.
    NoAccount(String),
    /// There is no mail address.
    NoAddress,
    /// All addresses are blocked.
    Suppressed,
    /// There is no consent for the sender's purpose.
    NoConsent(String),
    /// The sender names no pool of vouchers.
    NoPool(String),
    /// The last day of the pool is over.
    PoolOver(String),
    /// The pool has no code left.
    PoolEmpty(String),
}

impl Refusal {
    /// Its word, as results have it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Refusal::Act(ActError::Held(_)) => "held",
            Refusal::Act(ActError::MailedBefore(_)) => "mailed_before",
            Refusal::Act(ActError::NoTemplate(_)) | Refusal::NoTemplate(_) => "no_template",
            Refusal::Act(_) => "closed",
            Refusal::NoBrand => "no_brand",
            Refusal::NoSender(_) | Refusal::NoAccount(_) => "no_sender",
            Refusal::NoAddress => "no_address",
            Refusal::Suppressed => "suppressed",
            Refusal::NoConsent(_) => "no_consent",
            Refusal::NoPool(_) => "no_pool",
            Refusal::PoolOver(_) => "pool_over",
            Refusal::PoolEmpty(_) => "pool_empty",
        }
    }

    /// Whether it may be over soon.
    pub fn is_for_now(&self) -> bool {
        matches!(self, Refusal::Act(ActError::Held(_)))
    }

    /// The resource that is in the way, unless it is the case, and what about it.
    pub fn explain(&self) -> (Option<String>, String) {
        let of =
            |collection: &str, id: &str| Some(anklang_domain::name::format(&[(collection, id)]));
        match self {
            Refusal::Act(error) => (None, error.to_string()),
            Refusal::NoBrand => (
                None,
                "the last order names no brand, and there are several".into(),
            ),
            Refusal::NoTemplate(brand) => {
                (of("brands", brand), "the brand has no such template".into())
            }
            Refusal::NoSender(brand) => (
                of("winbackSenders", brand),
                "the brand has no sender".into(),
            ),
            Refusal::NoAccount(brand) => (
                of("winbackSenders", brand),
                "its channel account is gone".into(),
            ),
            Refusal::NoAddress => (None, "the customer has no mail address".into()),
            Refusal::Suppressed => (None, "the customer's address is blocked".into()),
            Refusal::NoConsent(purpose) => (
                None,
                format!("the customer has not consented to mails for {purpose}"),
            ),
            Refusal::NoPool(brand) => (
                of("winbackSenders", brand),
                "it names no pool of vouchers".into(),
            ),
            Refusal::PoolOver(pool) => (Some(pool.clone()), "its last day is over".into()),
            Refusal::PoolEmpty(pool) => {
                (Some(pool.clone()), "no voucher is left in this pool".into())
            }
        }
    }
}

/// A mail that was queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The message.
    pub message: Uuid,
    /// Code of its brand.
    pub brand_code: String,
    /// The code that goes along.
    pub voucher: Option<String>,
}

/// What a mail of a case depends on besides it.
#[derive(Debug, Clone, QueryableByName)]
struct Reach {
    #[diesel(sql_type = SqlUuid)]
    case_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    brand_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    brand_code: String,
    #[diesel(sql_type = Nullable<Text>)]
    account: Option<String>,
    #[diesel(sql_type = Bool)]
    account_gone: bool,
    #[diesel(sql_type = Text)]
    purpose: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pool_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    pool_code: String,
    #[diesel(sql_type = Nullable<Text>)]
    address: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    address_hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    refusal: Option<String>,
}

impl Reach {
    /// Whether a mail can go there: where to, and through what.
    fn check(&self) -> Result<Asked<Through<'_>>> {
        if let Some(word) = &self.refusal {
            return self.refused(word).map(Err);
        }
        let parts = self.brand_id.zip(self.account.as_deref());
        let parts = parts.zip(self.address.as_deref().zip(self.address_hash.as_deref()));
        let unknown =
            || StoreError::Stored("a mail without a brand, an account or an address".into());
        let ((brand_id, account), (address, address_hash)) = parts.ok_or_else(unknown)?;
        Ok(Ok(Through {
            brand_id,
            account,
            address,
            address_hash,
            pool: self.pool_id,
        }))
    }

    /// The refusal of a word of [`REACH`].
    fn refused(&self, word: &str) -> Result<Refusal> {
        let brand = || self.brand_code.clone();
        Ok(match word {
            "no_brand" => Refusal::NoBrand,
            "no_template" => Refusal::NoTemplate(brand()),
            "no_sender" if self.account_gone => Refusal::NoAccount(brand()),
            "no_sender" => Refusal::NoSender(brand()),
            "no_address" => Refusal::NoAddress,
            "suppressed" => Refusal::Suppressed,
            "no_consent" => Refusal::NoConsent(self.purpose.clone()),
            "no_pool" => Refusal::NoPool(brand()),
            "pool_over" => Refusal::PoolOver(self.pool()),
            _ => return Err(StoreError::Stored(format!("refusal {word}"))),
        })
    }

    fn pool(&self) -> String {
        voucher::resource(&self.brand_code, &self.pool_code)
    }
}

/// What a mail goes through, and where to.
struct Through<'a> {
    brand_id: Uuid,
    account: &'a str,
    address: &'a str,
    address_hash: &'a [u8],
    pool: Option<Uuid>,
}

/// A mail about to be queued.
struct Mail<'a> {
    was: &'a str,
    becomes: Case,
    reach: &'a Reach,
    through: Through<'a>,
    message: Uuid,
    voucher: Option<Taken>,
}

/// Queues mails for cases, each or none; what is refused changes nothing. Cases that do not exist are
/// left out. They are held until the end of the transaction.
///
/// # Errors
/// `Refused` when a case is not under the claim that it must be under.
pub async fn queue(
    conn: &mut Conn,
    tenant: &Tenant,
    order: &Order<'_>,
    cases: &[Uuid],
) -> Result<Answers> {
    keep_accounts(conn, tenant.id).await?;
    let held = hold_many(conn, tenant.id, cases).await?;
    let which = Statement::new("= ANY(")
        .bind::<Array<SqlUuid>, _>(cases.to_vec())
        .sql(")");
    let reach: Vec<Reach> = reach(tenant.id, order.template, &which).load(conn).await?;
    let reach: HashMap<Uuid, Reach> = reach.into_iter().map(|r| (r.case_id, r)).collect();
    let mut all = HashMap::with_capacity(held.len());
    let mut mails = Vec::with_capacity(held.len());
    for standing in &held {
        let Some(reach) = reach.get(&standing.id) else {
            continue;
        };
        match decide(order, standing, reach)? {
            Ok((becomes, through)) => mails.push(Mail {
                was: standing.case.state.as_str(),
                becomes,
                reach,
                through,
                message: Uuid::now_v7(),
                voucher: None,
            }),
            Err(refusal) => drop(all.insert(standing.id, Err(refusal))),
        }
    }
    let mails = give_vouchers(conn, tenant.id, mails, &mut all).await?;
    if !mails.is_empty() {
        write(conn, tenant.id, order, &mails).await?;
    }
    all.extend(mails.into_iter().map(|mail| {
        let queued = Queued {
            message: mail.message,
            brand_code: mail.reach.brand_code.clone(),
            voucher: mail.voucher.map(|taken| taken.code),
        };
        (mail.reach.case_id, Ok(queued))
    }));
    Ok(all)
}

/// Asks the rules.
fn decide<'a>(
    order: &Order<'_>,
    standing: &Standing,
    reach: &'a Reach,
) -> Result<Asked<(Case, Through<'a>)>> {
    // Whether there is a template is asked with the rest, which says of which brand.
    let rules = CaseRules {
        reminder_days: REMINDER_DAYS,
        calendar: None,
        has_standard: true,
        has_voucher: true,
    };
    let action = Action::Mail(order.template);
    let (case, now, today) = (&standing.case, standing.now, standing.today);
    let becomes = match act(case, order.actor, &action, &rules, now, today) {
        Ok(Acted::Becomes(becomes)) => becomes,
        Ok(Acted::AlreadySo) => {
            return Err(StoreError::Stored("a mail that changes nothing".into()));
        }
        Err(error) => return Ok(Err(Refusal::Act(error))),
    };
    if let Some(claim) = order.claim {
        standing.must_be_under(claim)?;
    }
    let through = reach.check()?;
    Ok(through.map(|through| (becomes, through)))
}

/// Keeps the accounts of senders from being deleted until the end of the transaction: messages are about
/// to name them.
async fn keep_accounts(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query(
        "SELECT id FROM channel_account
         WHERE tenant_id = $1 AND deleted_at IS NULL
           AND id IN (SELECT account FROM winback_sender WHERE tenant_id = $1)
         ORDER BY id FOR KEY SHARE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// Brand, sender, address and consent of the customers of the cases `c` of the tenant `$1`, and the word of
/// the refusal for which they cannot be mailed by the template with the key `$2`, or NULL: the first of
/// all that is in the way. The address is the best one that is not blocked; only the template with vouchers
/// has a pool. Behind it comes which cases.
static REACH: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT x.*, CASE
             WHEN x.brand_id IS NULL THEN 'no_brand'
             WHEN NOT x.has_template THEN 'no_template'
             WHEN x.account IS NULL OR x.account_gone THEN 'no_sender'
             WHEN x.address IS NULL THEN 'no_address'
             WHEN x.blocked THEN 'suppressed'
             WHEN NOT x.consented THEN 'no_consent'
             WHEN x.needs_pool AND x.pool_id IS NULL THEN 'no_pool'
             WHEN x.pool_until < x.today THEN 'pool_over' END AS refusal
         FROM (
         SELECT c.id AS case_id, c.customer_id, b.id AS brand_id, coalesce(b.code, '') AS brand_code,
                EXISTS (SELECT FROM template t WHERE t.tenant_id = $1 AND t.brand_id = b.id
                          AND t.key = $2 AND t.language IN
                              (cu.language, split_part(cu.language, '-', 1), 'de')) AS has_template,
                s.account, EXISTS (SELECT FROM channel_account a WHERE a.tenant_id = $1
                          AND a.id = s.account AND a.deleted_at IS NOT NULL) AS account_gone,
                coalesce(s.purpose, '') AS purpose, $2 = 'winback_voucher' AS needs_pool,
                p.id AS pool_id, coalesce(p.code, '') AS pool_code, p.valid_until AS pool_until,
                (clock_timestamp() AT TIME ZONE z.time_zone)::date AS today,
                cp.address, cp.address_hash, coalesce(cp.blocked, false) AS blocked,
                EXISTS (SELECT FROM consent k WHERE k.tenant_id = $1
                          AND k.customer_id = c.customer_id AND k.channel = 'mail'
                          AND k.purpose = s.purpose AND k.state = 'granted') AS consented
         FROM winback_case c
         JOIN tenant z ON z.id = c.tenant_id
         JOIN customer cu ON cu.tenant_id = c.tenant_id AND cu.id = c.customer_id
         {LAST_ORDER}
         LEFT JOIN brand b ON b.tenant_id = c.tenant_id AND b.id = {BRAND}
         LEFT JOIN winback_sender s ON s.tenant_id = c.tenant_id AND s.brand_id = b.id
         LEFT JOIN voucher_pool p ON p.tenant_id = c.tenant_id AND p.id = s.voucher_pool_id
              AND $2 = 'winback_voucher'
         LEFT JOIN LATERAL (
             SELECT x.address, x.address_hash, u.address_hash IS NOT NULL AS blocked
             FROM contact_point x
             LEFT JOIN suppression u ON u.tenant_id = x.tenant_id AND u.channel = x.channel
                  AND u.address_hash = x.address_hash
             WHERE x.tenant_id = $1 AND x.customer_id = c.customer_id AND x.channel = 'mail'
             ORDER BY blocked, x.position, x.address LIMIT 1) cp ON true
         WHERE c.tenant_id = $1 AND c.id "
    )
});

/// [`REACH`] of certain cases, which is `= ANY(…)` or `IN (…)`.
pub(super) fn reach(tenant: TenantId, template: MailTemplate, which: &Statement) -> Statement {
    let binds = [
        bound::<SqlUuid, _>(tenant.0),
        bound::<Text, _>(template::key(template)),
    ];
    Statement::numbered(&REACH, &binds).append(which).sql(") x")
}

/// Gives each mail that needs one its voucher; those for which none is left are refused.
async fn give_vouchers<'a>(
    conn: &mut Conn,
    tenant: TenantId,
    mails: Vec<Mail<'a>>,
    all: &mut Answers,
) -> Result<Vec<Mail<'a>>> {
    let mut pools: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for mail in &mails {
        if let Some(pool) = mail.through.pool {
            pools.entry(pool).or_default().push(mail.reach.customer_id);
        }
    }
    let mut taken = HashMap::new();
    for (pool, customers) in pools {
        let codes = voucher::take(conn, tenant, pool, &customers).await?;
        taken.insert(pool, codes.into_iter());
    }
    let mut given = Vec::with_capacity(mails.len());
    for mut mail in mails {
        if let Some(pool) = mail.through.pool {
            mail.voucher = taken.get_mut(&pool).and_then(Iterator::next);
            if mail.voucher.is_none() {
                let refusal = Refusal::PoolEmpty(mail.reach.pool());
                all.insert(mail.reach.case_id, Err(refusal));
                continue;
            }
        }
        given.push(mail);
    }
    Ok(given)
}

/// Writes messages, what they are made of, and what becomes of the cases.
async fn write(
    conn: &mut Conn,
    tenant: TenantId,
    order: &Order<'_>,
    mails: &[Mail<'_>],
) -> Result<()> {
    write_messages(conn, tenant, order, mails).await?;
    let case_ids = of(mails, |mail| mail.reach.case_id);
    diesel::sql_query(
        "INSERT INTO winback_mail (tenant_id, message_id, case_id, template, brand_id, voucher_id,
                                   mailing_id)
         SELECT $1, m.message_id, m.case_id, $5, m.brand_id, m.voucher_id, $6
         FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $7::uuid[])
              AS m (message_id, case_id, brand_id, voucher_id)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(of(mails, |mail| mail.message))
    .bind::<Array<SqlUuid>, _>(&case_ids)
    .bind::<Array<SqlUuid>, _>(of(mails, |mail| mail.through.brand_id))
    .bind::<Text, _>(template::word(order.template))
    .bind::<Nullable<SqlUuid>, _>(order.mailing)
    .bind::<Array<Nullable<SqlUuid>>, _>(of(mails, |mail| mail.voucher.as_ref().map(|v| v.id)))
    .execute(conn)
    .await?;
    diesel::sql_query(
        "UPDATE winback_case c SET state = b.state, due_on = b.due_on, standard_on = b.standard_on,
                voucher_on = b.voucher_on, contacted_on = b.contacted_on, updated_at = now()
         FROM unnest($2::uuid[], $3::text[], $4::date[], $5::date[], $6::date[], $7::date[])
              AS b (id, state, due_on, standard_on, voucher_on, contacted_on)
         WHERE c.tenant_id = $1 AND c.id = b.id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&case_ids)
    .bind::<Array<Text>, _>(of(mails, |mail| mail.becomes.state.as_str()))
    .bind::<Array<Nullable<Date>>, _>(of(mails, |mail| mail.becomes.due_on))
    .bind::<Array<Nullable<Date>>, _>(of(mails, |mail| mail.becomes.standard_on))
    .bind::<Array<Nullable<Date>>, _>(of(mails, |mail| mail.becomes.voucher_on))
    .bind::<Array<Nullable<Date>>, _>(of(mails, |mail| mail.becomes.contacted_on))
    .execute(conn)
    .await?;
    write_events(conn, tenant, order, mails).await
}

async fn write_messages(
    conn: &mut Conn,
    tenant: TenantId,
    order: &Order<'_>,
    mails: &[Mail<'_>],
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO message (tenant_id, id, phase_id, winback_case_id, customer_id, channel, account,
                              address, address_hash, purpose)
         SELECT $1, m.id, $2, m.case_id, m.customer_id, 'mail', m.account, m.address, m.hash, m.purpose
         FROM unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::bytea[],
                     $9::text[])
              AS m (id, case_id, customer_id, account, address, hash, purpose)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(order.mailing.unwrap_or(SINGLE))
    .bind::<Array<SqlUuid>, _>(of(mails, |mail| mail.message))
    .bind::<Array<SqlUuid>, _>(of(mails, |mail| mail.reach.case_id))
    .bind::<Array<SqlUuid>, _>(of(mails, |mail| mail.reach.customer_id))
    .bind::<Array<Text>, _>(of(mails, |mail| mail.through.account))
    .bind::<Array<Text>, _>(of(mails, |mail| mail.through.address))
    .bind::<Array<Bytea>, _>(of(mails, |mail| mail.through.address_hash))
    .bind::<Array<Text>, _>(of(mails, |mail| &mail.reach.purpose[..]))
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_events(
    conn: &mut Conn,
    tenant: TenantId,
    order: &Order<'_>,
    mails: &[Mail<'_>],
) -> Result<()> {
    let actor = match order.actor {
        Actor::Person(name) => name,
        Actor::Campaign => "",
    };
    diesel::sql_query(
        "INSERT INTO winback_case_event (tenant_id, id, case_id, kind, from_state, to_state, actor,
                                         detail)
         SELECT $1, anklang_uuid7(), e.case_id, 'mailed', e.was, e.becomes, $6,
                jsonb_strip_nulls(jsonb_build_object(
                    'template', $7, 'message', 'messages/' || e.message_id,
                    'mailing', 'winbackMailings/' || $8))
         FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[])
              AS e (case_id, was, becomes, message_id)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(of(mails, |mail| mail.reach.case_id))
    .bind::<Array<Text>, _>(of(mails, |mail| mail.was))
    .bind::<Array<Text>, _>(of(mails, |mail| mail.becomes.state.as_str()))
    .bind::<Array<SqlUuid>, _>(of(mails, |mail| mail.message))
    .bind::<Text, _>(actor)
    .bind::<Text, _>(template::word(order.template))
    .bind::<Nullable<SqlUuid>, _>(order.mailing)
    .execute(conn)
    .await?;
    Ok(())
}

fn of<'a, 'b, T>(mails: &'a [Mail<'b>], get: impl Fn(&'a Mail<'b>) -> T) -> Vec<T> {
    mails.iter().map(get).collect()
}

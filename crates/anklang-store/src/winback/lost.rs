//! Mails of cases that came to nothing: suppressed, failed or bounced. The customer was not contacted by them,
//! so the case is where it was before, and the template may go out again. A voucher stays given out.
//!
//! Found by looking, as messages end in many ways and places; a message that is told to have arrived after
//! all is left as it is.

use std::sync::LazyLock;

use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::CLOSED;
use crate::tenant::Tenant;
use crate::{Conn, Result};

/// How messages end that came to nothing.
const LOST: &str = "('failed', 'bounced', 'suppressed')";

/// Undoes what at most `limit` lost mails have made of their cases; gives how many. Whoever works on one of
/// the cases is waited for.
pub async fn undo(conn: &mut Conn, tenant: &Tenant, limit: i64) -> Result<usize> {
    // A case stays mailed when a mail that went out has made it so, or came after the one that did. A
    // reminder that was mailed away is due at once: its day is not known any more.
    static WRITE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "WITH lost AS MATERIALIZED (
                 SELECT m.id, m.state, w.case_id, w.template
                 FROM message m JOIN winback_mail w ON w.tenant_id = $1 AND w.message_id = m.id
                 WHERE m.tenant_id = $1 AND m.id = ANY($2) AND m.state IN {LOST}
                   AND NOT m.winback_undone),
             marked AS (
                 UPDATE message m SET winback_undone = true
                 FROM lost WHERE m.tenant_id = $1 AND m.id = lost.id RETURNING m.id),
             undone AS (
                 UPDATE winback_mail w SET undone = true
                 FROM lost WHERE w.tenant_id = $1 AND w.message_id = lost.id),
             kept AS MATERIALIZED (
                 SELECT k.id, k.state, k.due_on,
                        CASE WHEN NOT bool_or(l.template = 'standard') THEN k.standard_on END
                            AS standard_on,
                        CASE WHEN NOT bool_or(l.template = 'voucher') THEN k.voucher_on END
                            AS voucher_on
                 FROM winback_case k JOIN lost l ON l.case_id = k.id
                 WHERE k.tenant_id = $1 AND k.state NOT IN {CLOSED}
                 GROUP BY k.tenant_id, k.id),
             before AS MATERIALIZED (
                 SELECT kept.*,
                        CASE WHEN kept.state <> 'mailed' THEN kept.state
                             ELSE coalesce((
                                 SELECT CASE WHEN EXISTS (
                                            SELECT FROM winback_case_event l
                                            JOIN winback_mail w ON w.tenant_id = $1 AND w.message_id
                                                 = substr(l.detail->>'message', 10)::uuid
                                            WHERE l.tenant_id = $1 AND l.case_id = kept.id
                                              AND l.kind = 'mailed' AND NOT w.undone
                                              AND (l.created_at, l.id) >= (e.created_at, e.id)
                                              AND w.message_id NOT IN (SELECT id FROM lost))
                                        THEN 'mailed' ELSE e.from_state END
                                 FROM winback_case_event e
                                 WHERE e.tenant_id = $1 AND e.case_id = kept.id AND e.kind = 'mailed'
                                   AND e.from_state <> 'mailed' AND e.to_state = 'mailed'
                                 ORDER BY e.created_at DESC, e.id DESC LIMIT 1), 'declining') END
                            AS becomes,
                        (SELECT max((e.created_at AT TIME ZONE $3)::date) FROM winback_case_event e
                         WHERE e.tenant_id = $1 AND e.case_id = kept.id
                           AND e.kind = 'offer_requested') AS asked_on
                 FROM kept),
             moved AS (
                 UPDATE winback_case k
                 SET standard_on = b.standard_on, voucher_on = b.voucher_on,
                     contacted_on = greatest(b.standard_on, b.voucher_on, b.asked_on),
                     state = b.becomes,
                     due_on = CASE WHEN b.becomes <> 'reminder' THEN NULL
                                   ELSE coalesce(b.due_on, (now() AT TIME ZONE $3)::date) END,
                     updated_at = now()
                 FROM before b WHERE k.tenant_id = $1 AND k.id = b.id
                 RETURNING k.id, b.state, k.state AS becomes, k.due_on),
             told AS (
                 INSERT INTO winback_case_event (tenant_id, id, case_id, kind, from_state, to_state,
                                                 detail)
                 SELECT $1, anklang_uuid7(), moved.id, 'moved', moved.state, moved.becomes,
                        jsonb_strip_nulls(jsonb_build_object(
                            'message', 'messages/' || lost.id, 'message_state', lost.state,
                            'template', lost.template, 'due_date', moved.due_on))
                 FROM moved JOIN lost ON lost.case_id = moved.id)
             SELECT id FROM marked"
        )
    });
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = SqlUuid)]
        winback_case_id: Uuid,
    }
    let found: Vec<Row> = diesel::sql_query(format!(
        "SELECT id, winback_case_id FROM message
         WHERE tenant_id = $1 AND winback_case_id IS NOT NULL AND notice IS NULL
           AND NOT winback_undone AND state IN {LOST}
         ORDER BY id LIMIT $2"
    ))
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    if found.is_empty() {
        return Ok(0);
    }
    let (ids, cases): (Vec<Uuid>, Vec<Uuid>) = found
        .into_iter()
        .map(|row| (row.id, row.winback_case_id))
        .unzip();
    // By statements of their own: the next one sees what whoever had them did. Cases before messages, as
    // whoever queues mails does.
    let lock = async |conn: &mut Conn, table: &str, ids: &[Uuid]| {
        diesel::sql_query(format!(
            "SELECT id FROM {table} WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE"
        ))
        .bind::<SqlUuid, _>(tenant.id.0)
        .bind::<Array<SqlUuid>, _>(ids)
        .execute(conn)
        .await
    };
    lock(conn, "winback_case", &cases).await?;
    lock(conn, "message", &ids).await?;
    Ok(diesel::sql_query(&*WRITE)
        .bind::<SqlUuid, _>(tenant.id.0)
        .bind::<Array<SqlUuid>, _>(&ids)
        .bind::<Text, _>(tenant.time_zone.name())
        .execute(conn)
        .await?)
}

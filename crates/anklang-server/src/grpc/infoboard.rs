//! A campaign in numbers.

use std::collections::BTreeMap;

use anklang_domain::CampaignId;
use anklang_domain::offer::RejectReason;
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_store::Conn;
use anklang_store::infoboard::{self, Count};
use anklang_store::tenant::Tenant;
use chrono::{DateTime, Utc};

use super::audience::exclusion;
use super::campaigns::phase_resource;
use super::offers::reject_reason_to_wire;
use super::{ApiResult, wire};

/// Counts a campaign as of now.
pub async fn load(
    conn: &mut Conn,
    tenant: &Tenant,
    id: CampaignId,
    now: DateTime<Utc>,
) -> ApiResult<pb::Infoboard> {
    let counts = infoboard::counts(conn, tenant.id, id, tenant.day(now)).await?;
    let days = infoboard::days(conn, tenant.id, id, tenant.time_zone.name()).await?;
    let phases = infoboard::phases(conn, tenant.id, id).await?;
    Ok(pb::Infoboard {
        campaign: format!("campaigns/{id}"),
        total: Some(figures(counts.iter())),
        phases: phases
            .iter()
            .map(|p| pb::PhaseFigures {
                phase: phase_resource(id, p.number),
                figures: Some(figures(counts.iter().filter(|c| c.phase_id == p.id))),
            })
            .collect(),
        days: days
            .into_iter()
            .map(|d| pb::DayFigures {
                date: Some(wire::date(d.day)),
                offers_made: d.made,
                messages_sent: d.sent,
                messages_delivered: d.delivered,
                messages_bounced: d.bounced,
                offers_accepted: d.accepted,
                offers_rejected: d.rejected,
                calls_made: d.called,
                calls_reached: d.spoken,
            })
            .collect(),
        as_of_time: Some(wire::timestamp(now)),
    })
}

fn figures<'a>(counts: impl Iterator<Item = &'a Count>) -> pb::InfoboardFigures {
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for count in counts {
        *sums.entry((&count.what, &count.key)).or_default() += count.n;
    }
    let n = |what: &str, key: &str| sums.get(&(what, key)).copied().unwrap_or(0);
    let all = |what: &str| -> i64 {
        sums.iter()
            .filter(|((w, _), _)| *w == what)
            .map(|(_, n)| n)
            .sum()
    };
    pb::InfoboardFigures {
        offers: Some(pb::OfferFigures {
            made: all("offer"),
            // A draft becomes open within the launch; its customer has no answer to give yet.
            outstanding: n("offer", "open") + n("offer", "draft"),
            accepted: n("offer", "accepted"),
            rejected: n("offer", "rejected"),
            expired: n("offer", "expired"),
            withdrawn: n("offer", "withdrawn"),
        }),
        messages: Some(pb::MessageFigures {
            queued: n("message", "queued"),
            sending: n("message", "sending"),
            sent: n("message", "sent"),
            delivered: n("message", "delivered"),
            failed: n("message", "failed"),
            bounced: n("message", "bounced"),
            suppressed: n("message", "suppressed"),
            ambiguous: n("message", "ambiguous"),
            cancelled: n("message", "cancelled"),
            opened: n("response", "opened"),
            clicked: n("response", "clicked"),
            complained: n("response", "complained"),
            unsubscribed: n("response", "unsubscribed"),
        }),
        contacts: Some(pb::ContactFigures {
            planned: all("contact"),
            open: n("contact", "open"),
            claimed: n("contact", "claimed"),
            waiting: n("contact", "waiting"),
            done: n("contact", "done"),
            given_up: n("contact", "given_up"),
            cancelled: n("contact", "cancelled"),
            reached: n("call", "reached"),
            not_reached: n("call", "not_reached"),
            orders_taken: n("order", ""),
        }),
        audience: Some(pb::AudienceFigures {
            candidates: all("member"),
            members: n("member", ""),
            excluded: sums
                .iter()
                .filter(|((what, key), _)| *what == "member" && !key.is_empty())
                .map(|((_, key), n)| pb::ExclusionFigure {
                    reason: exclusion(key).into(),
                    count: *n,
                })
                .collect(),
        }),
        rejections: sums
            .iter()
            .filter(|((what, _), _)| *what == "rejection")
            .map(|((_, code), n)| pb::RejectionFigure {
                reason: reject_reason_to_wire(RejectReason::parse(code)).into(),
                count: *n,
            })
            .collect(),
    }
}

//! The statement one by one, as CSV. A page is read when the client took the one before, each in a
//! transaction of its own: memory is bounded by a page, however many candidates there are.

use anklang_domain::{CampaignId, TenantId, Violations, name};
use anklang_proto::anklang::reach::v1 as pb;
use anklang_store::Store;
use anklang_store::reach::{self, Line};
use chrono::{DateTime, SecondsFormat, Utc};
use futures::stream::{self, BoxStream};
use tonic::{Request, Status};
use uuid::Uuid;

use super::{ReachApi, campaign_id, must_exist};
use crate::grpc::campaigns::phase_resource;
use crate::grpc::listing::Places;
use crate::grpc::planning::contacts;
use crate::grpc::{ApiError, ApiResult, Whose, caller, parts};

/// Candidates of a response; about 700 KB.
const LINES: i64 = 2_000;

const HEADER: [&str; 16] = [
    "phase",
    "contract",
    "customer",
    "state",
    "reason",
    "offer",
    "message",
    "channel",
    "channel_account",
    "attempts",
    "address_hash",
    "document_sha256",
    "queue_time",
    "send_time",
    "update_time",
    "planned_contact",
];

/// An export under way: what is left of it.
struct Export {
    store: Store,
    tenant: TenantId,
    campaign: CampaignId,
    /// Phase and place of the last line; `None` before the header.
    after: Option<(i32, i64)>,
    /// What seals its cursors.
    places: Places,
}

impl ReachApi {
    /// Exports from the beginning or from a cursor on.
    pub(super) async fn export(
        &self,
        request: Request<pb::ExportReachRequest>,
    ) -> ApiResult<BoxStream<'static, Result<pb::ExportReachResponse, Status>>> {
        let tenant = caller(&self.app.store, &request).await?;
        let mut request = request.into_inner();
        let mut violations = Violations::new();
        let id = campaign_id(&request.campaign, &mut violations);
        let cursor = std::mem::take(&mut request.cursor);
        let places = Places::of(&self.app.keys, &Whose::from(&tenant), &request);
        let after: Option<(i32, i64)> = match &cursor[..] {
            "" => None,
            text => {
                let place = places.read(text).ok_or("is no cursor of this export");
                violations.check("cursor", place)
            }
        };
        violations.finish(())?;
        let campaign = id.unwrap_or(CampaignId(Uuid::nil()));
        let mut tx = self.app.store.begin_read(tenant.id).await?;
        must_exist(&mut tx, &tenant, campaign).await?;
        tx.commit().await?;
        let export = Export {
            store: self.app.store.clone(),
            tenant: tenant.id,
            campaign,
            after,
            places,
        };
        let lines = stream::try_unfold(Some(export), |export| async {
            match export {
                Some(export) => export.next().await.map_err(Status::from),
                None => Ok(None),
            }
        });
        Ok(parts::until_stopped(&self.app, lines))
    }
}

impl Export {
    /// The next part and what is left after it. The first has the header and is never left out.
    async fn next(mut self) -> ApiResult<Option<(pb::ExportReachResponse, Option<Self>)>> {
        let from = self.after.unwrap_or((0, 0));
        let mut tx = self.store.begin_read_work(self.tenant).await?;
        let lines = reach::lines(&mut tx, self.tenant, self.campaign, from, LINES).await?;
        tx.commit().await?;
        let Some((phase, seq)) = lines
            .last()
            .map(|line| (line.phase_number, line.seq))
            .or(self.after.is_none().then_some(from))
        else {
            return Ok(None);
        };
        let mut csv = csv::Writer::from_writer(Vec::new());
        let broken = |e: csv::Error| ApiError::Internal(e.to_string());
        if self.after.is_none() {
            csv.write_record(HEADER).map_err(broken)?;
        }
        for line in &lines {
            csv.write_record(record(self.campaign, line))
                .map_err(broken)?;
        }
        let csv = csv
            .into_inner()
            .map_err(|e| ApiError::Internal(e.to_string()))?;
        let part = pb::ExportReachResponse {
            csv: csv.into(),
            cursor: self.places.token(&(phase, seq)),
        };
        self.after = Some((phase, seq));
        // A page that is not full is the last one.
        let full = i64::try_from(lines.len()).unwrap_or(0) == LINES;
        Ok(Some((part, full.then_some(self))))
    }
}

fn record(campaign: CampaignId, line: &Line) -> [String; 16] {
    let named = |collection: &str, id: &str| name::format(&[(collection, id)]);
    let hash = |hash: &Option<Vec<u8>>| hash.as_ref().map(hex::encode).unwrap_or_default();
    let time = |time: Option<DateTime<Utc>>| {
        time.map(|t| t.to_rfc3339_opts(SecondsFormat::Micros, true))
            .unwrap_or_default()
    };
    [
        phase_resource(campaign, line.phase_number),
        named("contracts", &line.contract_number),
        named("customers", &line.customer_number),
        line.state.clone(),
        line.reason.clone(),
        line.offer_number
            .as_ref()
            .map(|number| named("offers", number))
            .unwrap_or_default(),
        line.message_id
            .map(|id| format!("messages/{id}"))
            .unwrap_or_default(),
        line.channel.clone().unwrap_or_default(),
        line.account
            .as_ref()
            .map(|id| named("channelAccounts", id))
            .unwrap_or_default(),
        line.attempts.map(|n| n.to_string()).unwrap_or_default(),
        hash(&line.address_hash),
        hash(&line.document_sha256),
        time(line.queued_at),
        time(line.sent_at),
        time(line.updated_at),
        line.contact_id.map(contacts::resource).unwrap_or_default(),
    ]
}

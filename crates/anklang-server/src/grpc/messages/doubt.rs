//! The inbox of messages of which nobody knows whether they arrived: settling many, and asking their
//! channels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anklang_domain::{MessageId, Violations, name};
use anklang_proto::anklang::messages::v1 as pb;
use anklang_store::Conn;
use anklang_store::audit::Deed;
use anklang_store::message::{self, Doubt, Resolution};
use anklang_store::tenant::Tenant;
use tonic::Request;
use uuid::Uuid;

use super::super::deed::Asked;
use super::super::{ApiError, ApiResult, Change, caller};
use super::{MAX_NOTE, MessagesApi, to_wire};
use crate::work::lookups::{self, LookupError};

/// The most messages of a call.
const MAX_NAMES: usize = 1_000;
/// How long channels may take to answer, all together.
const LOOKUP_TIME: Duration = Duration::from_secs(60);

/// What a person decides; adds a violation when it is nothing.
pub(super) fn read_resolution(
    resolution: pb::MessageResolution,
    note: &str,
    violations: &mut Violations,
) -> Option<Resolution> {
    if note.chars().count() > MAX_NOTE {
        violations.add("note", format!("must have at most {MAX_NOTE} characters"));
    } else if note.contains('\0') {
        violations.add("note", "must not hold NUL");
    }
    match resolution {
        pb::MessageResolution::Sent => Some(Resolution::Sent),
        pb::MessageResolution::Resend => Some(Resolution::Resend),
        pb::MessageResolution::Cancel => Some(Resolution::Cancel),
        pb::MessageResolution::Unspecified => {
            violations.add("resolution", "must be SENT, RESEND or CANCEL");
            None
        }
    }
}

fn read_names(names: &[String], violations: &mut Violations) -> Vec<MessageId> {
    if names.is_empty() || names.len() > MAX_NAMES {
        violations.add("names", format!("must be 1 to {MAX_NAMES}"));
    }
    let mut seen = BTreeSet::new();
    let mut ids = Vec::new();
    for (i, name) in names.iter().take(MAX_NAMES).enumerate() {
        let field = format!("names[{i}]");
        let Some(id) = violations.check(&field[..], name::parse_uuid(name, "messages")) else {
            continue;
        };
        if !seen.insert(id) {
            violations.add(field, "was named before");
        }
        ids.push(MessageId(id));
    }
    ids
}

/// The messages in the order of their names.
async fn load_all(conn: &Conn, tenant: &Tenant, ids: &[MessageId]) -> ApiResult<Vec<pb::Message>> {
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = message::get_all(conn, tenant.id, &uuids).await?;
    let mut found: HashMap<Uuid, message::Message> = rows.into_iter().map(|m| (m.id, m)).collect();
    ids.iter()
        .map(|id| {
            let row = found.remove(&id.0);
            row.map(to_wire)
                .ok_or_else(|| ApiError::NotFound(format!("messages/{id}")))
        })
        .collect()
}

impl MessagesApi {
    pub(super) async fn resolve_all(
        &self,
        request: Request<pb::BatchResolveMessagesRequest>,
    ) -> ApiResult<pb::BatchResolveMessagesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let ids = read_names(&request.names, &mut violations);
        let resolution = read_resolution(request.resolution(), &request.note, &mut violations);
        violations.finish(())?;
        let resolution = resolution
            .ok_or_else(|| ApiError::Internal("a request without faults or values".into()))?;

        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(before) = change.before(&mut tx).await? {
            return Ok(before);
        }
        message::resolve_all(&mut tx, tenant.id, &ids, resolution, &request.note).await?;
        let messages = load_all(&tx, &tenant, &ids).await?;
        let response = pb::BatchResolveMessagesResponse { messages };
        change.finish(tx, &response).await?;
        self.app.wake.messages.notify_waiters();
        Ok(response)
    }

    pub(super) async fn look_up(
        &self,
        request: Request<pb::LookupMessagesRequest>,
    ) -> ApiResult<pb::LookupMessagesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let ids = read_names(&request.names, &mut violations);
        violations.finish(())?;
        let deed = Asked::of(&request).deed()?;

        let mut tx = self.app.store.begin(tenant.id).await?;
        load_all(&tx, &tenant, &ids).await?;
        let doubts = message::in_doubt(&mut tx, tenant.id, &ids).await?;
        tx.commit().await?;
        let settled = tokio::time::timeout(LOOKUP_TIME, self.ask(&tenant, doubts, &deed)).await;
        let settled = settled.map_err(|_| {
            ApiError::Unavailable("the channels did not answer within a minute".into())
        })??;
        let messages = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| load_all(conn, &tenant, &ids))
            .await?;
        Ok(pb::LookupMessagesResponse {
            messages,
            settled_count: i32::try_from(settled).unwrap_or(i32::MAX),
        })
    }

    /// Asks all channels that can be asked, also those after one that does not answer.
    async fn ask(&self, tenant: &Tenant, doubts: Vec<Doubt>, deed: &Deed) -> ApiResult<usize> {
        let mut of: BTreeMap<String, Vec<Doubt>> = BTreeMap::new();
        for doubt in doubts {
            of.entry(doubt.account.clone()).or_default().push(doubt);
        }
        let (mut settled, mut failed) = (0, None);
        for (id, doubts) in of {
            let Some(account) = self.app.accounts.get(tenant, &id) else {
                continue;
            };
            if !account.looks_up() {
                continue;
            }
            for doubts in doubts.chunks(lookups::at_once(&account)) {
                match lookups::look_up(&self.app, &account, doubts.to_vec(), Some(deed)).await {
                    Ok(some) => settled += some,
                    Err(LookupError::Channel(error)) => {
                        failed = Some(format!("channelAccounts/{id}: {error}"));
                    }
                    Err(LookupError::Store(error)) => return Err(error.into()),
                }
            }
        }
        match failed {
            None => Ok(settled),
            Some(why) => Err(ApiError::Unavailable(why)),
        }
    }
}

//! Campaigns: launch, look, control.

use anklang_domain::selection::{Criteria, Subject};
use anklang_domain::{CampaignId, OperationId, SelectionId, TenantId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::selections::v1 as selections_pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::campaign::{self, Campaign, NewOutbound, NewPhase, Outbound, Phase};
use anklang_store::operation::{self, NewOperation, Operation};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError, selection, template};
use chrono::{Months, NaiveDate, Utc};
use prost::Message;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::form;
use super::infoboard;
use super::listing::Listing;
use super::operations::OperationsApi;
use super::selections::{criteria_to_proto, prepare_ad_hoc, prepare_preset};
use super::{ApiError, ApiResult, Once, caller, reply, request_id, wire};
use crate::accounts::Account;
use crate::content::{FALLBACK_LANGUAGE, OFFER_LETTER, OFFER_MAIL};
use crate::work::App;
use crate::work::launch::{self, Plan};

/// At most so many unticked contracts in a launch.
const MAX_DESELECTED: usize = 10_000;
/// Offers are valid for at most so long.
const LONGEST_VALIDITY: Months = Months::new(24);

/// The service.
pub struct CampaignsApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::campaign_service_server::CampaignService for CampaignsApi {
    async fn launch_campaign(
        &self,
        request: Request<pb::LaunchCampaignRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.launch(request).await)
    }

    async fn get_campaign(
        &self,
        request: Request<pb::GetCampaignRequest>,
    ) -> Result<Response<pb::Campaign>, Status> {
        reply(self.get(request).await)
    }

    async fn list_campaigns(
        &self,
        request: Request<pb::ListCampaignsRequest>,
    ) -> Result<Response<pb::ListCampaignsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn list_phases(
        &self,
        request: Request<pb::ListPhasesRequest>,
    ) -> Result<Response<pb::ListPhasesResponse>, Status> {
        reply(self.phases(request).await)
    }

    async fn list_audience_members(
        &self,
        request: Request<pb::ListAudienceMembersRequest>,
    ) -> Result<Response<pb::ListAudienceMembersResponse>, Status> {
        reply(self.audience(request).await)
    }

    async fn get_infoboard(
        &self,
        request: Request<pb::GetInfoboardRequest>,
    ) -> Result<Response<pb::Infoboard>, Status> {
        reply(self.infoboard(request).await)
    }
}

/// What a launch asks for, as far as its words are right by themselves.
struct Wanted {
    campaign: Option<CampaignTarget>,
    audience: Option<Audience>,
    product: Option<[String; 2]>,
    valid_until: Option<NaiveDate>,
    deselected: Vec<String>,
    account: Option<String>,
    message_template: String,
    document_template: String,
    purpose: String,
}

enum CampaignTarget {
    New {
        name: String,
        planned_start: Option<NaiveDate>,
    },
    Existing(CampaignId),
}

enum Audience {
    AdHoc(selections_pb::AdHocCriteria),
    Saved(SelectionId),
    Preset(selections_pb::PresetUse),
}

/// The same with what it names looked up: nothing is wrong any more.
struct Resolved<'a> {
    campaign: &'a CampaignTarget,
    product_version: Uuid,
    valid_until: NaiveDate,
    criteria: serde_json::Value,
    selection: Option<(Uuid, i32)>,
    account: &'a Account,
}

impl CampaignsApi {
    async fn launch(
        &self,
        request: Request<pb::LaunchCampaignRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let body = request.encode_to_vec();
        let mut violations = Violations::new();
        let id = request_id(&request.request_id, &mut violations);

        let mut tx = self.app.store.begin(tenant.id).await?;
        let once = Once::new(tenant.id, id, "LaunchCampaign", &body);
        if let Some(before) = once.before::<lro::Operation>(&mut tx).await? {
            return Ok(before);
        }
        let today = tenant.day(Utc::now());
        let wanted = read_launch(&request, today, &mut violations);
        let resolved = self
            .resolve(&mut tx, &tenant, &wanted, today, &mut violations)
            .await?;
        violations.finish(())?;
        let resolved = resolved
            .ok_or_else(|| ApiError::Internal("a launch without faults or values".into()))?;
        check_templates(&mut tx, &tenant, &wanted).await?;

        let operation = start(&mut tx, &tenant, &request, &wanted, &resolved, today).await?;
        let operation = OperationsApi {
            app: self.app.clone(),
        }
        .wire(operation)
        .await?;
        once.after(&mut tx, &operation).await?;
        tx.commit().await?;
        self.app.wake.operations.notify_waiters();
        Ok(operation)
    }

    /// Looks up all that a launch names, also when something else is wrong.
    async fn resolve<'a>(
        &'a self,
        conn: &mut Conn,
        tenant: &Tenant,
        wanted: &'a Wanted,
        today: NaiveDate,
        violations: &mut Violations,
    ) -> ApiResult<Option<Resolved<'a>>> {
        if let Some(CampaignTarget::Existing(id)) = wanted.campaign
            && campaign::get(conn, tenant.id, id).await?.is_none()
        {
            violations.add("campaign", "does not exist");
        }
        let audience = match &wanted.audience {
            Some(audience) => resolve_audience(conn, tenant, audience, violations).await?,
            None => None,
        };
        let target = match &wanted.product {
            Some([number, code]) => {
                let found = campaign::target(conn, tenant.id, number, code).await?;
                if found.is_none() {
                    violations.add("target_product_version", "does not exist");
                }
                found
            }
            None => None,
        };
        if target
            .as_ref()
            .and_then(|t| t.valid_to)
            .is_some_and(|to| to < today)
        {
            violations.add("target_product_version", "is not valid any more");
        }
        for number in campaign::unknown_contracts(conn, tenant.id, &wanted.deselected).await? {
            violations.add(
                "deselected_contracts",
                format!("contract {number} does not exist"),
            );
        }
        let account = wanted.account.as_ref().and_then(|id| {
            let found = self.app.accounts.get(tenant, id).map(AsRef::as_ref);
            if found.is_none() {
                violations.add("outbound.channel_account", "does not exist");
            }
            found
        });
        let (
            Some(campaign),
            Some(valid_until),
            Some((criteria, selection)),
            Some(target),
            Some(account),
        ) = (
            &wanted.campaign,
            wanted.valid_until,
            audience,
            target,
            account,
        )
        else {
            return Ok(None);
        };
        Ok(Some(Resolved {
            campaign,
            product_version: target.id,
            valid_until,
            criteria: serde_json::to_value(&criteria)
                .map_err(|e| ApiError::Internal(format!("criteria: {e}")))?,
            selection,
            account,
        }))
    }

    async fn get(&self, request: Request<pb::GetCampaignRequest>) -> ApiResult<pb::Campaign> {
        let tenant = caller(&self.app.store, &request).await?;
        let id = campaign_id("name", &request.into_inner().name)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let found = find(&mut tx, tenant.id, id).await?;
        tx.commit().await?;
        Ok(campaign_to_wire(&found))
    }

    async fn list(
        &self,
        request: Request<pb::ListCampaignsRequest>,
    ) -> ApiResult<pb::ListCampaignsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (key, of) = (&self.app.pages, &campaign::LISTABLE);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let page = campaign::list(&mut tx, tenant.id, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListCampaignsResponse {
            campaigns: page.rows.iter().map(campaign_to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn phases(
        &self,
        request: Request<pb::ListPhasesRequest>,
    ) -> ApiResult<pb::ListPhasesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.check("parent", name::parse_uuid(&request.parent, "campaigns"));
        let (key, of) = (&self.app.pages, &campaign::PHASES);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        let id = CampaignId(form::complete(violations, id)?);
        let mut tx = self.app.store.begin(tenant.id).await?;
        find(&mut tx, tenant.id, id).await?;
        let page = campaign::list_phases(&mut tx, tenant.id, id, &listing.list).await?;
        let outbounds = campaign::outbounds(&mut tx, tenant.id, id).await?;
        tx.commit().await?;
        let phases: ApiResult<Vec<pb::Phase>> = page
            .rows
            .iter()
            .map(|phase| phase_to_wire(phase, &outbounds))
            .collect();
        Ok(pb::ListPhasesResponse {
            phases: phases?,
            next_page_token: listing.token(page.next),
        })
    }

    async fn infoboard(
        &self,
        request: Request<pb::GetInfoboardRequest>,
    ) -> ApiResult<pb::Infoboard> {
        let tenant = caller(&self.app.store, &request).await?;
        let id = campaign_id("name", &request.into_inner().name)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        find(&mut tx, tenant.id, id).await?;
        let board = infoboard::load(&mut tx, &tenant, id, Utc::now()).await?;
        tx.commit().await?;
        Ok(board)
    }
}

fn read_launch(
    request: &pb::LaunchCampaignRequest,
    today: NaiveDate,
    violations: &mut Violations,
) -> Wanted {
    use pb::launch_campaign_request as wire_pb;
    let campaign = match &request.campaign_target {
        None => {
            violations.add("campaign_target", "is required: new_campaign or campaign");
            None
        }
        Some(wire_pb::CampaignTarget::Campaign(name)) => violations
            .check("campaign", name::parse_uuid(name, "campaigns"))
            .map(|id| CampaignTarget::Existing(CampaignId(id))),
        Some(wire_pb::CampaignTarget::NewCampaign(new)) => {
            text_of(
                violations,
                "new_campaign.display_name",
                &new.display_name,
                1,
                200,
            );
            let planned_start = new.planned_start_date.as_ref().and_then(|date| {
                violations.check("new_campaign.planned_start_date", wire::naive_date(date))
            });
            Some(CampaignTarget::New {
                name: new.display_name.trim().to_owned(),
                planned_start,
            })
        }
    };
    text_of(
        violations,
        "phase_display_name",
        &request.phase_display_name,
        0,
        200,
    );
    let audience = match &request.audience {
        None => {
            violations.add("audience", "is required: selection, criteria or preset");
            None
        }
        Some(wire_pb::Audience::Selection(name)) => violations
            .check("selection", name::parse_uuid(name, "selections"))
            .map(|id| Audience::Saved(SelectionId(id))),
        Some(wire_pb::Audience::Criteria(criteria)) => Some(Audience::AdHoc(criteria.clone())),
        Some(wire_pb::Audience::Preset(used)) => Some(Audience::Preset(used.clone())),
    };
    let product = violations.check(
        "target_product_version",
        name::parse(&request.target_product_version, ["products", "versions"]),
    );
    let until = &request.offer_valid_until_date;
    let valid_until = valid_until("offer_valid_until_date", until, today, violations);
    if request.deselected_contracts.len() > MAX_DESELECTED {
        violations.add(
            "deselected_contracts",
            format!("must be at most {MAX_DESELECTED}"),
        );
    }
    let deselected = request
        .deselected_contracts
        .iter()
        .take(MAX_DESELECTED)
        .enumerate()
        .filter_map(|(i, name)| {
            let field = format!("deselected_contracts[{i}]");
            violations
                .check(field, name::parse(name, ["contracts"]))
                .map(|[n]| n)
        })
        .collect();
    let spec = request.outbound.clone().unwrap_or_default();
    let account = violations
        .check(
            "outbound.channel_account",
            name::parse(&spec.channel_account, ["channelAccounts"]),
        )
        .map(|[id]| id);
    let mut word = |field: &str, text: &str, default: &str| {
        let text = if text.is_empty() { default } else { text };
        check_word(violations, field, text);
        text.to_owned()
    };
    let message_template = word(
        "outbound.message_template",
        &spec.message_template,
        OFFER_MAIL,
    );
    let document_template = word(
        "outbound.document_template",
        &spec.document_template,
        OFFER_LETTER,
    );
    let purpose = word("outbound.purpose", &spec.purpose, "marketing");
    Wanted {
        campaign,
        audience,
        product,
        valid_until,
        deselected,
        account,
        message_template,
        document_template,
        purpose,
    }
}

/// Reads the last day of an offer's validity.
pub fn valid_until(
    field: &str,
    date: &Option<anklang_proto::google::r#type::Date>,
    today: NaiveDate,
    violations: &mut Violations,
) -> Option<NaiveDate> {
    let Some(date) = date else {
        violations.add(field, "is required");
        return None;
    };
    let day = violations.check(field, wire::naive_date(date))?;
    let latest = today.checked_add_months(LONGEST_VALIDITY).unwrap_or(today);
    if day < today || day > latest {
        violations.add(field, format!("must be from {today} to {latest}"));
    }
    Some(day)
}

fn text_of(violations: &mut Violations, field: &str, text: &str, min: usize, max: usize) {
    let length = text.trim().chars().count();
    if !(min..=max).contains(&length) {
        violations.add(field, format!("must have {min} to {max} characters"));
    } else if text.chars().any(char::is_control) {
        violations.add(field, "must not have control characters");
    }
}

/// Keys of templates and purposes.
pub fn check_word(violations: &mut Violations, field: &str, text: &str) {
    let fits = (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        violations.add(field, "must be 1 to 64 of a–z, 0–9 and _, first a letter");
    }
}

/// The criteria of a launch's audience and the selection that they are from, when they are right.
async fn resolve_audience(
    conn: &mut Conn,
    tenant: &Tenant,
    audience: &Audience,
    violations: &mut Violations,
) -> ApiResult<Option<(Criteria, Option<(Uuid, i32)>)>> {
    let now = Utc::now();
    let (subject, criteria, saved, field) = match audience {
        Audience::AdHoc(ad_hoc) => {
            match prepare_ad_hoc(conn, tenant, ad_hoc, "criteria", now, violations).await? {
                None => return Ok(None),
                Some(p) => (p.subject(), p.criteria().clone(), None, "criteria.subject"),
            }
        }
        Audience::Preset(used) => {
            match prepare_preset(conn, tenant, used, "preset", now, violations).await? {
                None => return Ok(None),
                Some(p) => (p.subject(), p.criteria().clone(), None, "preset"),
            }
        }
        Audience::Saved(id) => match selection::get(conn, tenant.id, *id).await {
            Err(StoreError::Missing(_)) => {
                violations.add("selection", "does not exist");
                return Ok(None);
            }
            found => {
                let s = found?;
                // Fields of attributes may have changed since it was saved.
                match selection::prepare(conn, tenant, s.subject, &s.criteria, now).await {
                    Err(StoreError::Invalid(found)) => violations.extend_under("selection.", found),
                    other => drop(other?),
                }
                (
                    s.subject,
                    s.criteria,
                    Some((s.id.0, s.version)),
                    "selection",
                )
            }
        },
    };
    if subject != Subject::Contract {
        violations.add(field, "must select contracts");
    }
    Ok(Some((criteria, saved)))
}

/// Every brand needs the templates; those that ship are there for all.
async fn check_templates(conn: &mut Conn, tenant: &Tenant, wanted: &Wanted) -> ApiResult<()> {
    for (key, kind, ships) in [
        (&wanted.message_template, "message", OFFER_MAIL),
        (&wanted.document_template, "document", OFFER_LETTER),
    ] {
        if key == ships {
            continue;
        }
        let without =
            template::brands_without(conn, tenant.id, key, kind, FALLBACK_LANGUAGE).await?;
        if let Some(brand) = without.first() {
            return Err(ApiError::Precondition {
                reason: ErrorReason::Precondition,
                resource: format!("brands/{brand}/templates/{key}"),
                description: format!(
                    "brands without this {kind} template in {FALLBACK_LANGUAGE}: {}",
                    without.join(", ")
                ),
            });
        }
    }
    Ok(())
}

async fn start(
    conn: &mut Conn,
    tenant: &Tenant,
    request: &pb::LaunchCampaignRequest,
    wanted: &Wanted,
    resolved: &Resolved<'_>,
    today: NaiveDate,
) -> ApiResult<Operation> {
    let account = resolved.account;
    let campaign = match resolved.campaign {
        CampaignTarget::New {
            name,
            planned_start,
        } => CampaignId(
            campaign::create(conn, tenant.id, name, *planned_start)
                .await?
                .id,
        ),
        CampaignTarget::Existing(id) => *id,
    };
    let operation_id = OperationId::new();
    let new = NewOperation {
        id: operation_id,
        kind: launch::KIND,
        resource: format!("campaigns/{campaign}"),
        request: serde_json::Value::Null,
    };
    operation::create(conn, tenant.id, new).await?;
    let phase = campaign::add_phase(
        conn,
        tenant.id,
        NewPhase {
            campaign,
            name: request.phase_display_name.trim(),
            product_version: anklang_domain::ProductVersionId(resolved.product_version),
            offer_valid_until: resolved.valid_until,
            operation: operation_id,
            selection: resolved.selection,
            criteria: resolved.criteria.clone(),
            deselected: &wanted.deselected,
            outbound: NewOutbound {
                channel: account.channel(),
                account: &account.id,
                message_template: &wanted.message_template,
                document_template: &wanted.document_template,
                purpose: &wanted.purpose,
            },
        },
    )
    .await?;
    let plan = Plan {
        phase: phase.id,
        product_version: resolved.product_version,
        channel: account.channel().to_owned(),
        purpose: wanted.purpose.clone(),
        document_template: wanted.document_template.clone(),
        today,
        valid_until: resolved.valid_until,
    };
    let resource = phase_resource(campaign, phase.number);
    let plan = serde_json::to_value(plan).map_err(|e| ApiError::Internal(e.to_string()))?;
    Ok(operation::plan(conn, tenant.id, operation_id, &resource, plan).await?)
}

/// The response of a launch that succeeded.
pub async fn launch_response(
    app: &App,
    operation: &Operation,
) -> ApiResult<pb::LaunchCampaignResponse> {
    let tenant = operation.tenant();
    let response = operation.response.clone().unwrap_or_default();
    let number = |key: &str| response[key].as_i64().unwrap_or(0);
    let (campaign, phase_number) =
        phase_name(&operation.resource).map_err(|e| ApiError::Internal(e.to_string()))?;
    let mut tx = app.store.begin(tenant).await?;
    let found = find(&mut tx, tenant, campaign).await?;
    let phases = load_phases(&mut tx, tenant, campaign).await?;
    tx.commit().await?;
    let name = phase_resource(campaign, phase_number);
    Ok(pb::LaunchCampaignResponse {
        campaign: Some(campaign_to_wire(&found)),
        phase: phases.into_iter().find(|p| p.name == name),
        candidates: number("candidates"),
        members: number("members"),
        excluded: number("candidates") - number("members"),
        failed_documents: number("failed_documents"),
    })
}

fn campaign_id(field: &str, name: &str) -> ApiResult<CampaignId> {
    name::parse_uuid(name, "campaigns")
        .map(CampaignId)
        .map_err(|e| ApiError::field(field, e.to_string()))
}

pub(super) fn phase_name(name: &str) -> Result<(CampaignId, i32), &'static str> {
    const FORM: &str = "must have the form campaigns/{uuid}/phases/{number}";
    let [campaign, number] = name::parse(name, ["campaigns", "phases"]).map_err(|_| FORM)?;
    let campaign = Uuid::try_parse(&campaign).map_err(|_| FORM)?;
    Ok((CampaignId(campaign), number.parse().map_err(|_| FORM)?))
}

/// `campaigns/{uuid}/phases/{number}`.
pub fn phase_resource(campaign: CampaignId, number: i32) -> String {
    name::format(&[
        ("campaigns", &campaign.to_string()),
        ("phases", &number.to_string()),
    ])
}

async fn find(conn: &mut Conn, tenant: TenantId, id: CampaignId) -> ApiResult<Campaign> {
    campaign::get(conn, tenant, id)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("campaigns/{id}")))
}

fn campaign_to_wire(c: &Campaign) -> pb::Campaign {
    pb::Campaign {
        name: name::format(&[("campaigns", &c.id.to_string())]),
        display_name: c.name.clone(),
        planned_start_date: c.planned_start.map(wire::date),
        create_time: Some(wire::timestamp(c.created_at)),
    }
}

async fn load_phases(
    conn: &mut Conn,
    tenant: TenantId,
    id: CampaignId,
) -> ApiResult<Vec<pb::Phase>> {
    let phases = campaign::phases(conn, tenant, id, None).await?;
    let outbounds = campaign::outbounds(conn, tenant, id).await?;
    phases
        .iter()
        .map(|p| phase_to_wire(p, &outbounds))
        .collect()
}

fn phase_to_wire(p: &Phase, outbounds: &[Outbound]) -> ApiResult<pb::Phase> {
    let name = phase_resource(CampaignId(p.campaign_id), p.number);
    let criteria = serde_json::from_value(p.criteria.clone())
        .map_err(|e| ApiError::Internal(format!("criteria of {name}: {e}")))?;
    Ok(pb::Phase {
        display_name: p.name.clone(),
        target_product_version: name::format(&[
            ("products", &p.product_number),
            ("versions", &p.product_version_code),
        ]),
        state: match &p.state[..] {
            "launching" => pb::PhaseState::Launching,
            "active" => pb::PhaseState::Active,
            "failed" => pb::PhaseState::Failed,
            "cancelled" => pb::PhaseState::Cancelled,
            _ => pb::PhaseState::Unspecified,
        }
        .into(),
        operation: format!("operations/{}", p.operation_id),
        selection: p
            .selection_id
            .map_or_else(String::new, |id| format!("selections/{id}")),
        selection_version: p.selection_version.unwrap_or(0),
        criteria: Some(selections_pb::AdHocCriteria {
            subject: selections_pb::Subject::Contract.into(),
            criteria: Some(criteria_to_proto(&criteria)),
        }),
        offer_valid_until_date: Some(wire::date(p.offer_valid_until)),
        outbounds: outbounds
            .iter()
            .filter(|o| o.phase_id == p.id)
            .map(|o| pb::Outbound {
                name: format!("{name}/outbounds/{}", o.number),
                channel: o.channel.clone(),
                channel_account: name::format(&[("channelAccounts", &o.account)]),
                message_template: o.message_template.clone(),
                document_template: o.document_template.clone(),
                purpose: o.purpose.clone(),
            })
            .collect(),
        create_time: Some(wire::timestamp(p.created_at)),
        name,
    })
}

//! The ledger of messages, and the contact budget; messages in doubt in `messages/doubt.rs`.

mod doubt;

use anklang_domain::{CampaignId, MessageId, Violations, name};
use anklang_proto::anklang::messages::v1 as pb;
use anklang_store::Conn;
use anklang_store::budget::{self, Budget};
use anklang_store::hold::{Held, hold};
use anklang_store::message::{self, Attempt, Filter, Message};
use anklang_store::planning::work;
use anklang_store::report::{self, Reported};
use anklang_store::tenant::Tenant;
use anklang_store::winback::case;
use tonic::{Request, Response, Status};

use doubt::read_resolution;

use super::campaigns::check_word;
use super::form;
use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::work::App;

/// The longest note of a resolution, in characters.
const MAX_NOTE: usize = 500;
/// The most reports of a message that are shown.
const MAX_REPORTS: i64 = 1_000;
/// The most exempt purposes of a budget.
const MAX_PURPOSES: usize = 100;
/// The one name of a contact budget.
const BUDGET_NAME: &str = "contactBudget";

/// The service.
pub struct MessagesApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::message_service_server::MessageService for MessagesApi {
    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::Message>, Status> {
        reply(self.get(request).await)
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn resolve_message(
        &self,
        request: Request<pb::ResolveMessageRequest>,
    ) -> Result<Response<pb::Message>, Status> {
        reply(self.resolve(request).await)
    }

    async fn batch_resolve_messages(
        &self,
        request: Request<pb::BatchResolveMessagesRequest>,
    ) -> Result<Response<pb::BatchResolveMessagesResponse>, Status> {
        reply(self.resolve_all(request).await)
    }

    async fn lookup_messages(
        &self,
        request: Request<pb::LookupMessagesRequest>,
    ) -> Result<Response<pb::LookupMessagesResponse>, Status> {
        reply(self.look_up(request).await)
    }

    async fn get_contact_budget(
        &self,
        request: Request<pb::GetContactBudgetRequest>,
    ) -> Result<Response<pb::ContactBudget>, Status> {
        reply(self.budget(request).await)
    }

    async fn update_contact_budget(
        &self,
        request: Request<pb::UpdateContactBudgetRequest>,
    ) -> Result<Response<pb::ContactBudget>, Status> {
        reply(self.update_budget(request).await)
    }
}

impl MessagesApi {
    async fn get(&self, request: Request<pb::GetMessageRequest>) -> ApiResult<pb::Message> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let name = request.into_inner().name;
        let id = name::parse_uuid(&name, "messages")
            .map_err(|e| ApiError::field("name", e.to_string()))?;
        let found = store
            .read(tenant.id)
            .ask(|conn| load(conn, tenant, MessageId(id)))
            .await?;
        found.ok_or(ApiError::NotFound(name))
    }

    async fn resolve(&self, request: Request<pb::ResolveMessageRequest>) -> ApiResult<pb::Message> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations
            .check("name", name::parse_uuid(&request.name, "messages"))
            .map(MessageId);
        let resolution = read_resolution(request.resolution(), &request.note, &mut violations);
        violations.finish(())?;
        let (Some(id), Some(resolution)) = (id, resolution) else {
            return Err(ApiError::Internal(
                "a request without faults or values".into(),
            ));
        };

        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(before) = change.before(&mut tx).await? {
            return Ok(before);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Message(id)).await?;
            let current = load(&tx, &tenant, id).await?;
            let current = current.ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
            change.check(&request.name, &current)?;
        }
        message::resolve(&mut tx, tenant.id, id, resolution, &request.note).await?;
        let message = load(&tx, &tenant, id).await?;
        let message = message.ok_or(ApiError::NotFound(request.name))?;
        change.finish(tx, &message).await?;
        self.app.wake.messages.notify_waiters();
        Ok(message)
    }

    async fn budget(
        &self,
        request: Request<pb::GetContactBudgetRequest>,
    ) -> ApiResult<pb::ContactBudget> {
        let tenant = caller(&self.app.store, &request).await?;
        let budget = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| budget::get(conn, tenant.id))
            .await?;
        Ok(budget_to_wire(budget))
    }

    async fn update_budget(
        &self,
        request: Request<pb::UpdateContactBudgetRequest>,
    ) -> ApiResult<pb::ContactBudget> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let Some(mut wanted) = request.contact_budget else {
            return Err(ApiError::field("contact_budget", "is required"));
        };
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::ContactBudget).await?;
            let current = budget_to_wire(budget::get(&tx, tenant.id).await?);
            let called = std::mem::take(&mut wanted.name);
            wanted = change.settle(BUDGET_NAME, Some(current), wanted, false)?;
            wanted.name = called;
        }
        let budget = read_budget(wanted, violations)?;
        budget::set(&mut tx, tenant.id, budget.as_ref()).await?;
        let response = budget_to_wire(budget);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn list(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> ApiResult<pb::ListMessagesResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let filter = read_filter(&request, &mut violations);
        let (key, of) = (&self.app.keys, &message::LISTABLE);
        let listing = Listing::read(key, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| message::list(conn, tenant.id, &filter, &listing.list))
            .await?;
        Ok(pb::ListMessagesResponse {
            messages: page.rows.into_iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

/// A message with its attempts.
async fn load(conn: &Conn, tenant: &Tenant, id: MessageId) -> ApiResult<Option<pb::Message>> {
    let Some(found) = message::get(conn, tenant.id, id).await? else {
        return Ok(None);
    };
    let attempts = message::attempts(conn, tenant.id, id).await?;
    let mut wired = to_wire(found);
    wired.attempts = attempts.into_iter().map(attempt).collect();
    let reports = report::list(conn, tenant.id, id.0, MAX_REPORTS).await?;
    wired.reports = reports.into_iter().map(reported).collect();
    wired.responses = responses(&report::responses(conn, tenant.id, id.0).await?);
    Ok(Some(wired))
}

/// A budget as it is wanted; `None` is no limit.
fn read_budget(wanted: pb::ContactBudget, mut violations: Violations) -> ApiResult<Option<Budget>> {
    let field = |name: &str| format!("contact_budget.{name}");
    if !["", BUDGET_NAME].contains(&&wanted.name[..]) {
        violations.add(field("name"), format!("must be {BUDGET_NAME}"));
    }
    if !(0..=1_000).contains(&wanted.max_contacts) {
        violations.add(field("max_contacts"), "must be between 0 and 1000");
    }
    match wanted.max_contacts {
        0 if wanted.window_days != 0 => {
            violations.add(field("window_days"), "must be 0 without max_contacts");
        }
        0 => {}
        _ if !(1..=366).contains(&wanted.window_days) => {
            violations.add(field("window_days"), "must be between 1 and 366");
        }
        _ => {}
    }
    let purposes = wanted.exempt_purposes;
    if purposes.len() > MAX_PURPOSES {
        violations.add(
            field("exempt_purposes"),
            format!("must be at most {MAX_PURPOSES}"),
        );
    }
    for (i, purpose) in purposes.iter().enumerate().take(MAX_PURPOSES) {
        check_word(
            &mut violations,
            &format!("contact_budget.exempt_purposes[{i}]"),
            purpose,
        );
    }
    violations.finish(())?;
    Ok((wanted.max_contacts > 0).then_some(Budget {
        max_contacts: wanted.max_contacts,
        window_days: wanted.window_days,
        exempt_purposes: purposes,
    }))
}

fn budget_to_wire(budget: Option<Budget>) -> pb::ContactBudget {
    let budget = budget.unwrap_or(Budget {
        max_contacts: 0,
        window_days: 0,
        exempt_purposes: Vec::new(),
    });
    tagged(pb::ContactBudget {
        name: BUDGET_NAME.into(),
        max_contacts: budget.max_contacts,
        window_days: budget.window_days,
        exempt_purposes: budget.exempt_purposes,
        etag: String::new(),
    })
}

fn read_filter(request: &pb::ListMessagesRequest, violations: &mut Violations) -> Filter {
    let mut filter = Filter::default();
    if !request.campaign.is_empty() {
        filter.campaign = violations
            .check("campaign", name::parse_uuid(&request.campaign, "campaigns"))
            .map(CampaignId);
    }
    if !request.customer.is_empty() {
        filter.customer_number = violations
            .check("customer", name::parse(&request.customer, ["customers"]))
            .map(|[number]| number);
    }
    form::at_most(violations, "states", request.states.len(), STATES.len());
    for (i, state) in request.states.iter().take(STATES.len()).enumerate() {
        match pb::MessageState::try_from(*state).ok().and_then(state_word) {
            Some(word) => filter.states.push(word),
            None => violations.add(format!("states[{i}]"), "is no state of a message"),
        }
    }
    filter
}

const STATES: [(pb::MessageState, &str); 9] = [
    (pb::MessageState::Queued, "queued"),
    (pb::MessageState::Sending, "sending"),
    (pb::MessageState::Sent, "sent"),
    (pb::MessageState::Delivered, "delivered"),
    (pb::MessageState::Failed, "failed"),
    (pb::MessageState::Bounced, "bounced"),
    (pb::MessageState::Suppressed, "suppressed"),
    (pb::MessageState::Ambiguous, "ambiguous"),
    (pb::MessageState::Cancelled, "cancelled"),
];

fn state_word(state: pb::MessageState) -> Option<&'static str> {
    STATES
        .iter()
        .find(|(s, _)| *s == state)
        .map(|(_, word)| *word)
}

/// The state that a word of the ledger stands for.
pub fn state(word: &str) -> pb::MessageState {
    STATES
        .iter()
        .find(|(_, w)| *w == word)
        .map_or(pb::MessageState::Unspecified, |(s, _)| *s)
}

fn to_wire(m: Message) -> pb::Message {
    tagged(pb::Message {
        name: name::format(&[("messages", &m.id.to_string())]),
        customer: name::format(&[("customers", &m.customer_number)]),
        offer: m
            .offer_number
            .as_ref()
            .map_or_else(String::new, |number| name::format(&[("offers", number)])),
        outbound: outbound(&m),
        winback_case: m.winback_case_id.map(case::resource).unwrap_or_default(),
        planned_contact: m.planned_contact_id.map(work::resource).unwrap_or_default(),
        notice: m.notice,
        channel: m.channel,
        channel_account: name::format(&[("channelAccounts", &m.account)]),
        address: m.address,
        state: state(&m.state).into(),
        attempt_count: m.attempt,
        detail: m.detail,
        provider_message_id: m.provider_message_id,
        next_attempt_time: Some(wire::timestamp(m.next_attempt_at)),
        create_time: Some(wire::timestamp(m.created_at)),
        send_time: m.sent_at.map(wire::timestamp),
        attempts: Vec::new(),
        reports: Vec::new(),
        responses: None,
        report_time: m.told_at.map(wire::timestamp),
        update_time: Some(wire::timestamp(m.updated_at)),
        lookup_count: m.lookups,
        etag: String::new(),
    })
}

/// Where it is sent from; empty for one of no campaign.
fn outbound(m: &Message) -> String {
    let of = m.campaign_id.zip(m.phase_number).zip(m.outbound_number);
    of.map_or_else(String::new, |((campaign, phase), outbound)| {
        name::format(&[
            ("campaigns", &campaign.to_string()),
            ("phases", &phase.to_string()),
            ("outbounds", &outbound.to_string()),
        ])
    })
}

fn reported(r: Reported) -> pb::MessageReport {
    use pb::MessageReportState::*;
    pb::MessageReport {
        state: match &r.state[..] {
            "delivered" => Delivered,
            "bounced" => Bounced,
            "failed" => Failed,
            "opened" => Opened,
            "clicked" => Clicked,
            "complained" => Complained,
            "unsubscribed" => Unsubscribed,
            _ => Unspecified,
        }
        .into(),
        code: r.code,
        detail: r.detail,
        event_time: Some(wire::timestamp(r.occurred_at)),
        receive_time: Some(wire::timestamp(r.received_at)),
    }
}

/// How the recipient responded; `None` when it did not.
fn responses(all: &[report::Response]) -> Option<pb::MessageResponses> {
    if all.is_empty() {
        return None;
    }
    let of = |state: &str| all.iter().find(|r| r.state == state);
    let count = |state| of(state).map_or(0, |r| r.n);
    let first = |state| of(state).and_then(|r| r.first).map(wire::timestamp);
    let last = |state| of(state).and_then(|r| r.last).map(wire::timestamp);
    Some(pb::MessageResponses {
        open_count: count("opened"),
        first_open_time: first("opened"),
        last_open_time: last("opened"),
        click_count: count("clicked"),
        first_click_time: first("clicked"),
        last_click_time: last("clicked"),
        complaint_time: first("complained"),
        unsubscribe_time: first("unsubscribed"),
    })
}

fn attempt(a: Attempt) -> pb::Attempt {
    use pb::AttemptOutcome::*;
    pb::Attempt {
        attempt: a.attempt,
        start_time: Some(wire::timestamp(a.started_at)),
        end_time: a.ended_at.map(wire::timestamp),
        outcome: match a.outcome.as_deref() {
            Some("accepted") => Accepted,
            Some("permanent") => Permanent,
            Some("transient") => Transient,
            Some("throttled") => Throttled,
            Some("ambiguous") => Ambiguous,
            Some("not_submitted") => NotSubmitted,
            _ => Unspecified,
        }
        .into(),
        detail: a.detail,
        channel_account: name::format(&[("channelAccounts", &a.account)]),
    }
}

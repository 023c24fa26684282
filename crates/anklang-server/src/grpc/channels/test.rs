//! "Send a test to …": one message through an account, outside of any campaign and of the ledger.
//!
//! With a `request_id` it is sent once: that it is being sent is recorded before, as an answer of which
//! nobody knows, and the real answer in its place afterwards. So no transaction waits for the channel.

use std::sync::Arc;
use std::time::Duration;

use anklang_channels::proto::{self, message::Content};
use anklang_domain::channel::{Carries, carries, contact_channel};
use anklang_domain::master::contact;
use anklang_domain::message::Outcome;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_render::DocumentTemplate;
use anklang_render::model::OfferData;
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, brand, channel_account, suppression};
use tonic::Request;
use uuid::Uuid;

use super::{ChannelsApi, account_name};
use crate::accounts::Account;
use crate::accounts::live::State;
use crate::grpc::campaigns::text_of;
use crate::grpc::{ApiError, ApiResult, Change, caller, form};
use crate::work::dispatch::read_outcome;

/// How long to wait for an account that is being opened.
const OPENING: Duration = Duration::from_secs(60);
/// The most characters of a text and of what a channel says.
const MAX_TEXT: usize = 2_000;
const MAX_DETAIL: usize = 500;
const MAX_SUBJECT: usize = 200;
const SUBJECT: &str = "Testnachricht";
/// What is sent where pages are: nothing of the caller's, so that nothing is code.
const PAGE: &str = "= Testnachricht\nDiese Seite prüft, ob der Versand funktioniert.";

/// What is to be sent, and by whom.
struct Test {
    channel: String,
    /// The tenant's own account, as of this revision; else one of the configuration file.
    revision: Option<i64>,
    recipient: String,
    sender: Option<proto::Party>,
    subject: String,
    text: String,
}

impl ChannelsApi {
    pub(super) async fn test(
        &self,
        request: Request<pb::TestChannelAccountRequest>,
    ) -> ApiResult<pb::TestChannelAccountResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse(&request.name, ["channelAccounts"]));
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let Some([id]) = id else {
            return form::complete(violations, None);
        };
        let test = self.read_test(&mut tx, &tenant, &id, &request, violations);
        let test = test.await?;
        let unknown = pb::TestChannelAccountResponse {
            outcome: pb::TestOutcome::Ambiguous.into(),
            detail: "it was being sent when this was asked".into(),
            ..Default::default()
        };
        if !change.finish(tx, &unknown).await? {
            return Ok(pb::TestChannelAccountResponse::default());
        }
        let response = self.send_test(&tenant, &id, test).await;
        let tx = self.app.store.begin(tenant.id).await?;
        change.complete(tx, &response).await?;
        Ok(response)
    }

    async fn read_test(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        id: &str,
        request: &pb::TestChannelAccountRequest,
        mut violations: Violations,
    ) -> ApiResult<Test> {
        let own = channel_account::get(conn, tenant.id, id).await?;
        let revision = own.as_ref().map(|own| own.revision);
        let configured = || {
            let found = self.app.accounts.configured_for(tenant, id)?;
            Some(found.channel().to_owned())
        };
        let channel = own.map(|own| own.channel).or_else(configured);
        let channel = channel.ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
        let contact = contact_channel(&channel);
        let recipient = contact::normalise(contact, &request.recipient, "");
        let recipient = violations.check("recipient", recipient);
        text_of(&mut violations, "subject", &request.subject, 0, MAX_SUBJECT);
        if request.text.chars().count() > MAX_TEXT || request.text.contains('\0') {
            violations.add("text", format!("must have at most {MAX_TEXT} characters"));
        }
        let sender = sender(conn, tenant, &channel, &request.brand, &mut violations).await?;
        let recipient = form::complete(violations, recipient)?;
        if suppression::get(conn, tenant.id, contact, &recipient)
            .await?
            .is_some()
        {
            return Err(precondition(id, "the address is blocked"));
        }
        let text = match &request.text[..] {
            "" => format!("Diese Nachricht prüft, ob der Versand über {id} funktioniert."),
            text => text.to_owned(),
        };
        let subject = match request.subject.trim() {
            "" => SUBJECT.to_owned(),
            subject => subject.to_owned(),
        };
        if sender.is_none() && channel == "mail" {
            return Err(precondition(id, "there is no brand with a sender"));
        }
        Ok(Test {
            channel,
            revision,
            recipient,
            sender,
            subject,
            text,
        })
    }

    /// Sends it now; says how it ended.
    async fn send_test(
        &self,
        tenant: &Tenant,
        id: &str,
        test: Test,
    ) -> pb::TestChannelAccountResponse {
        let account = match test.revision {
            None => self.app.accounts.configured_for(tenant, id),
            Some(revision) => {
                let live = &self.app.accounts.live;
                match live.settled(tenant.id, id, revision, OPENING).await {
                    Some(State::Open(account)) => Some(account),
                    Some(State::Closed { reason, .. }) => {
                        return told(pb::TestOutcome::NotSubmitted, &reason, "");
                    }
                    Some(State::Opening) | None => None,
                }
            }
        };
        let Some(account) = account else {
            return told(pb::TestOutcome::NotSubmitted, "the account is not open", "");
        };
        let response = hand_over(account, test).await;
        tracing::info!(
            account = id,
            tenant = tenant.slug,
            outcome = response.outcome().as_str_name(),
            "a test was sent"
        );
        response
    }
}

fn precondition(id: &str, description: &str) -> ApiError {
    ApiError::Precondition {
        reason: ErrorReason::Precondition,
        resource: account_name(id),
        description: description.into(),
    }
}

/// Who sends: the brand's sender where the channel is mail.
async fn sender(
    conn: &mut Conn,
    tenant: &Tenant,
    channel: &str,
    named: &str,
    violations: &mut Violations,
) -> ApiResult<Option<proto::Party>> {
    let found = match named {
        "" if channel != "mail" => return Ok(None),
        "" => {
            let first = brand::LISTABLE.all(1);
            let page = brand::list(conn, tenant.id, &first).await?;
            page.rows.into_iter().next()
        }
        named => {
            let Some([code]) = violations.check("brand", name::parse(named, ["brands"])) else {
                return Ok(None);
            };
            let found = brand::get(conn, tenant.id, &code).await?;
            if found.is_none() {
                violations.add("brand", "does not exist");
            }
            found
        }
    };
    Ok(found.map(|brand| proto::Party {
        address: brand.sender_email,
        name: match brand.sender_name.is_empty() {
            true => brand.name,
            false => brand.sender_name,
        },
    }))
}

async fn hand_over(account: Arc<Account>, test: Test) -> pb::TestChannelAccountResponse {
    let content = match content(&test).await {
        Ok(content) => content,
        Err(reason) => return told(pb::TestOutcome::NotSubmitted, &reason, ""),
    };
    let message = proto::Message {
        message_id: Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: Some(proto::Party {
            address: test.recipient,
            name: String::new(),
        }),
        sender: test.sender,
        reply_to: String::new(),
        content: Some(content),
    };
    let request = proto::SendRequest {
        messages: vec![message],
        traceparent: String::new(),
    };
    let outcome = match account.instance.send(request).await {
        Ok(mut outcomes) => outcomes.pop().unwrap_or_default(),
        Err(refused) => return told(pb::TestOutcome::NotSubmitted, &refused.to_string(), ""),
    };
    let (outcome, detail) = read_outcome(outcome);
    let (outcome, provider) = match outcome {
        Outcome::Accepted {
            provider_message_id,
        } => (pb::TestOutcome::Accepted, provider_message_id),
        Outcome::Permanent => (pb::TestOutcome::Permanent, String::new()),
        Outcome::Transient => (pb::TestOutcome::Transient, String::new()),
        Outcome::Throttled { .. } => (pb::TestOutcome::Throttled, String::new()),
        Outcome::Ambiguous => (pb::TestOutcome::Ambiguous, String::new()),
        Outcome::NotSubmitted => (pb::TestOutcome::NotSubmitted, String::new()),
    };
    told(outcome, &detail, &provider)
}

async fn content(test: &Test) -> Result<Content, String> {
    Ok(match carries(&test.channel) {
        Carries::Mails => Content::Mail(proto::MailContent {
            subject: test.subject.clone(),
            text: test.text.clone(),
            ..Default::default()
        }),
        Carries::Documents => {
            let pdf = tokio::task::spawn_blocking(page)
                .await
                .map_err(|e| e.to_string())??;
            Content::Document(proto::DocumentContent {
                document: Some(proto::Attachment {
                    filename: "Testnachricht.pdf".into(),
                    media_type: "application/pdf".into(),
                    content: pdf,
                }),
                subject: test.subject.clone(),
            })
        }
        Carries::Texts => Content::Text(proto::TextContent {
            text: test.text.clone(),
        }),
    })
}

fn page() -> Result<Vec<u8>, String> {
    let template = DocumentTemplate::compile(PAGE).map_err(|e| format!("{e:?}"))?;
    let pdf = template.render(&OfferData::sample());
    pdf.map(|pdf| pdf.bytes).map_err(|e| e.to_string())
}

fn told(
    outcome: pb::TestOutcome,
    detail: &str,
    provider_message_id: &str,
) -> pb::TestChannelAccountResponse {
    let printable = |text: &str| {
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        text.take(MAX_DETAIL).collect::<String>()
    };
    pb::TestChannelAccountResponse {
        outcome: outcome.into(),
        detail: printable(detail),
        provider_message_id: printable(provider_message_id),
    }
}

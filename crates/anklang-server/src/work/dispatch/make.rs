//! Makes the content of a batch of messages: data, newest templates, documents, links. Those of winback
//! cases in `winback.rs`, those of planned contacts and notices in `plain.rs`.

mod plain;
mod winback;

use std::collections::HashMap;

use anklang_channels::proto;
use anklang_domain::channel::{Carries, carries};
use anklang_domain::message::Outcome;
use anklang_domain::unsubscribe::seal;
use anklang_domain::{MessageId, TenantId};
use anklang_render::Message;
use anklang_store::message::{self, Batch, BelongsTo, Claimed};
use anklang_store::offer::{self, Content, ContentOf};
use anklang_store::winback::template::{self, Facts};
use anklang_store::{Conn, StoreError, tenant, unsubscribe};
use chrono::Utc;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use uuid::Uuid;

use super::{Over, Ready};
use crate::accounts::Account;
use crate::content::{self, ContentError, Newest};
use crate::work::App;

/// Makes the content of a batch. What has none for good has failed; what has none for now waits.
pub(super) async fn make_content(
    app: &App,
    account: &Account,
    batch: &Batch,
) -> Result<(Vec<Ready>, Vec<Over>), StoreError> {
    let (mut offers, mut of_cases, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for message in &batch.messages {
        match message.belongs_to() {
            BelongsTo::Offer(offer) => offers.push(offer),
            BelongsTo::WinbackCase => of_cases.push(message.id),
            BelongsTo::PlannedContact | BelongsTo::Notice => others.push(message.id),
        }
    }
    let mut tx = app.store.begin_work(batch.tenant).await?;
    let contents = offer::content(&mut tx, batch.tenant, ContentOf::Offers(&offers)).await?;
    let facts = match of_cases.is_empty() {
        true => Vec::new(),
        false => template::facts(&mut tx, batch.tenant, &of_cases).await?,
    };
    let others = match others.is_empty() {
        true => Vec::new(),
        false => message::content(&mut tx, batch.tenant, &others).await?,
    };
    let mut brands: Vec<Uuid> = contents.iter().map(|c| c.brand_id).collect();
    brands.extend(facts.iter().map(|f| f.brand_id));
    brands.extend(others.iter().map(|c| c.brand_id));
    brands.sort_unstable();
    brands.dedup();
    let mut newest: HashMap<String, Newest> = HashMap::new();
    for message in &batch.messages {
        let key = &message.message_template;
        if !newest.contains_key(key) {
            let loaded = Newest::load(&mut tx, batch.tenant, &brands, key).await?;
            newest.insert(key.clone(), loaded);
        }
    }
    let links = Links::load(app, &mut tx, batch.tenant).await?;
    tx.commit().await?;
    let today = match facts.is_empty() {
        true => None,
        false => tenant::by_id(&app.store, batch.tenant)
            .await?
            .map(|t| t.day(Utc::now())),
    };

    let contents: HashMap<Uuid, Content> = contents.into_iter().map(|c| (c.offer_id, c)).collect();
    let facts: HashMap<Uuid, Facts> = facts.into_iter().map(|f| (f.message_id, f)).collect();
    let others: HashMap<Uuid, message::Content> =
        others.into_iter().map(|c| (c.message_id, c)).collect();
    let (contents, facts, others) = (&contents, &facts, &others);
    let mut making: FuturesUnordered<_> = batch
        .messages
        .iter()
        .map(|claimed| {
            let newest = &newest[&claimed.message_template];
            let url = links.url(claimed.id);
            async move {
                let made = match claimed.belongs_to() {
                    BelongsTo::Offer(offer) => {
                        let content = contents.get(&offer);
                        make_one(app, account, claimed, newest, content, url).await
                    }
                    BelongsTo::WinbackCase => {
                        let facts = facts.get(&claimed.id).zip(today);
                        winback::make(app, account, claimed, newest, facts, &url)
                    }
                    BelongsTo::PlannedContact | BelongsTo::Notice => {
                        let content = others.get(&claimed.id);
                        plain::make(app, account, claimed, newest, content, url)
                    }
                };
                (claimed, made)
            }
        })
        .collect();
    let (mut ready, mut unready) = (Vec::new(), Vec::new());
    while let Some((claimed, made)) = making.next().await {
        match made {
            Ok(message) => ready.push(Ready {
                claimed: claimed.clone(),
                message,
            }),
            Err((outcome, detail)) => unready.push(Over {
                claimed: claimed.clone(),
                outcome,
                detail,
            }),
        }
    }
    Ok((ready, unready))
}

async fn make_one(
    app: &App,
    account: &Account,
    claimed: &Claimed,
    newest: &Newest,
    content: Option<&Content>,
    unsubscribe_url: String,
) -> Result<proto::Message, (Outcome, String)> {
    let permanent = |error: &dyn std::fmt::Display| (Outcome::Permanent, error.to_string());
    let content = content.ok_or_else(|| permanent(&"the offer is gone"))?;
    let mut data = content::offer_data(content).map_err(|e| permanent(&e))?;
    data.unsubscribe_url = unsubscribe_url;
    let (template, provider) = app
        .templates
        .message(newest, content.brand_id, &content.language)
        .map_err(unmade)?;
    let carried = carries(account.channel());
    if provider.is_some() && carried != Carries::Mails {
        return Err(no_provider(account));
    }
    data.offer.has_document &= carried != Carries::Texts;
    let rendered = template.render(&data).map_err(|e| permanent(&e))?;
    let document = match &content.sha256 {
        Some(sha256) if carried != Carries::Texts => {
            let pdf = app.documents.get(sha256).await;
            let pdf = pdf.map_err(|e| (Outcome::Transient, e.to_string()))?;
            Some(proto::Attachment {
                filename: format!("Angebot-{}.pdf", data.offer.number),
                media_type: "application/pdf".into(),
                content: pdf.to_vec(),
            })
        }
        _ => None,
    };
    Ok(proto::Message {
        message_id: claimed.id.to_string(),
        attempt: u32::try_from(claimed.attempt).unwrap_or(0),
        recipient: Some(proto::Party {
            address: claimed.address.clone(),
            name: data.customer.display_name.clone(),
        }),
        sender: Some(sender(&content.model, carried)),
        reply_to: reply_to(&content.model, carried),
        content: Some(match carried {
            Carries::Mails => proto::message::Content::Mail(mail(
                rendered,
                document,
                provider,
                unsubscribe_headers(&data.unsubscribe_url),
            )),
            Carries::Documents => proto::message::Content::Document(proto::DocumentContent {
                document: Some(document.ok_or_else(|| permanent(&"the offer has no document"))?),
                subject: rendered.subject,
            }),
            Carries::Texts => proto::message::Content::Text(proto::TextContent {
                text: rendered.text,
            }),
        }),
    })
}

/// Why there is no template.
fn unmade(error: ContentError) -> (Outcome, String) {
    let outcome = match error {
        // A person can mend a template; the message waits for it.
        ContentError::NoTemplate(_) | ContentError::Template(_) => Outcome::Transient,
        ContentError::Data(_) => Outcome::Permanent,
    };
    (outcome, error.to_string())
}

fn no_provider(account: &Account) -> (Outcome, String) {
    let channel = account.channel();
    let reason = format!("the channel {channel} has no providers' templates");
    (Outcome::Permanent, reason)
}

/// A mail: ours, or by the provider's template of this id.
fn mail(
    rendered: Message,
    document: Option<proto::Attachment>,
    provider: Option<&str>,
    headers: Vec<proto::Header>,
) -> proto::MailContent {
    proto::MailContent {
        subject: rendered.subject,
        text: rendered.text,
        html: rendered.html,
        attachments: document.into_iter().collect(),
        headers,
        provider_template: provider.map(|id| proto::ProviderTemplate {
            id: id.to_owned(),
            variables_json: serde_json::json!(rendered.variables).to_string(),
        }),
    }
}

/// A field of the brand of a model.
fn of_brand<'a>(model: &'a Value, field: &str) -> &'a str {
    model["brand"][field].as_str().unwrap_or("")
}

/// The brand; its address is one of mails, on other channels the account has one.
fn sender(model: &Value, carried: Carries) -> proto::Party {
    proto::Party {
        address: match carried {
            Carries::Mails => of_brand(model, "sender_email").to_owned(),
            Carries::Documents | Carries::Texts => String::new(),
        },
        name: match of_brand(model, "sender_name") {
            "" => of_brand(model, "name"),
            name => name,
        }
        .to_owned(),
    }
}

/// Where answers to mails go.
fn reply_to(model: &Value, carried: Carries) -> String {
    match carried {
        Carries::Mails => of_brand(model, "reply_to").to_owned(),
        Carries::Documents | Carries::Texts => String::new(),
    }
}

/// Makes the links by which recipients withdraw consent.
struct Links<'a> {
    base: &'a str,
    tenant: TenantId,
    key: Vec<u8>,
}

impl<'a> Links<'a> {
    async fn load(app: &'a App, conn: &mut Conn, tenant: TenantId) -> Result<Self, StoreError> {
        let base = &app.config.public_url;
        let key = if base.is_empty() {
            None
        } else {
            unsubscribe::key(conn, tenant).await?
        };
        Ok(Links {
            base,
            tenant,
            key: key.unwrap_or_default(),
        })
    }

    /// The link of a message; empty when the server has no public address.
    fn url(&self, message: Uuid) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        let token = seal(&self.key, self.tenant, MessageId(message));
        format!("{}{}{token}", self.base, crate::public::PATH)
    }
}

/// What tells a mail program how to withdraw consent with one click (RFC 2369, RFC 8058).
fn unsubscribe_headers(url: &str) -> Vec<proto::Header> {
    if url.is_empty() {
        return Vec::new();
    }
    let header = |name: &str, value: String| proto::Header {
        name: name.into(),
        value,
    };
    vec![
        header("List-Unsubscribe", format!("<{url}>")),
        header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".into()),
    ]
}

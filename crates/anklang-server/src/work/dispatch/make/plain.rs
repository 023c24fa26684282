//! Messages of planned contacts whose customer was not reached, and notices to people of the tenant: nothing
//! goes along with them.

use anklang_channels::proto;
use anklang_domain::channel::{Carries, carries};
use anklang_domain::message::Outcome;
use anklang_store::message::{BelongsTo, Claimed, Content};

use super::{mail, no_provider, reply_to, sender, unmade, unsubscribe_headers};
use crate::accounts::Account;
use crate::content::{Newest, contact_data, offer_request_data};
use crate::work::App;

/// Makes one. A notice has no link by which consent is withdrawn: there is none to withdraw.
pub(super) fn make(
    app: &App,
    account: &Account,
    claimed: &Claimed,
    newest: &Newest,
    content: Option<&Content>,
    unsubscribe_url: String,
) -> Result<proto::Message, (Outcome, String)> {
    let permanent = |error: &dyn std::fmt::Display| (Outcome::Permanent, error.to_string());
    let content = content.ok_or_else(|| permanent(&"what it belongs to is gone"))?;
    let (template, provider) = app
        .templates
        .message(newest, content.brand_id, &content.language)
        .map_err(unmade)?;
    let carried = carries(account.channel());
    if provider.is_some() && carried != Carries::Mails {
        return Err(no_provider(account));
    }
    let model = content.model.clone();
    let (rendered, name, headers) = match claimed.belongs_to() {
        BelongsTo::Notice => {
            let data = offer_request_data(model).map_err(|e| permanent(&e))?;
            (template.render(&data), String::new(), Vec::new())
        }
        _ => {
            let mut data = contact_data(model).map_err(|e| permanent(&e))?;
            data.unsubscribe_url = unsubscribe_url;
            let headers = unsubscribe_headers(&data.unsubscribe_url);
            let rendered = template.render(&data);
            (rendered, data.customer.display_name, headers)
        }
    };
    let rendered = rendered.map_err(|e| permanent(&e))?;
    Ok(proto::Message {
        message_id: claimed.id.to_string(),
        attempt: u32::try_from(claimed.attempt).unwrap_or(0),
        recipient: Some(proto::Party {
            address: claimed.address.clone(),
            name,
        }),
        sender: Some(sender(&content.model, carried)),
        reply_to: reply_to(&content.model, carried),
        content: Some(match carried {
            Carries::Mails => {
                proto::message::Content::Mail(mail(rendered, None, provider, headers))
            }
            Carries::Documents => return Err(permanent(&"it has no document")),
            Carries::Texts => proto::message::Content::Text(proto::TextContent {
                text: rendered.text.trim().to_owned(),
            }),
        }),
    })
}

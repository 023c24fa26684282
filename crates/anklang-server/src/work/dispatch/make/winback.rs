//! Mails of winback cases: the values of a customer in the brand's template, or sent along with the one
//! that lies with the provider.

use anklang_channels::proto;
use anklang_domain::channel::{Carries, carries};
use anklang_domain::message::Outcome;
use anklang_store::message::Claimed;
use anklang_store::winback::template::Facts;
use chrono::NaiveDate;

use super::{mail, no_provider, unmade, unsubscribe_headers};
use crate::accounts::Account;
use crate::content::Newest;
use crate::winback::{Data, values};
use crate::work::App;

/// Makes one. A provider's template gets the values of all variables that have one, besides what the
/// template says itself.
pub(super) fn make(
    app: &App,
    account: &Account,
    claimed: &Claimed,
    newest: &Newest,
    facts: Option<(&Facts, NaiveDate)>,
    unsubscribe_url: &str,
) -> Result<proto::Message, (Outcome, String)> {
    let permanent = |error: &dyn std::fmt::Display| (Outcome::Permanent, error.to_string());
    let (facts, today) = facts.ok_or_else(|| permanent(&"the case is gone"))?;
    if carries(account.channel()) != Carries::Mails {
        return Err(no_provider(account));
    }
    let (template, provider) = app
        .templates
        .message(newest, facts.brand_id, &facts.language)
        .map_err(unmade)?;
    let values = values(facts, today);
    let mut rendered = template
        .render(&Data::new(&values, unsubscribe_url))
        .map_err(|e| permanent(&e))?;
    for (name, value) in values.for_mailjet() {
        let own = rendered.variables.entry(name.to_owned());
        own.or_insert_with(|| value.to_owned());
    }
    let name = match &facts.company_name[..] {
        "" => [&facts.first_name[..], &facts.last_name].join(" "),
        company => company.to_owned(),
    };
    Ok(proto::Message {
        message_id: claimed.id.to_string(),
        attempt: u32::try_from(claimed.attempt).unwrap_or(0),
        recipient: Some(proto::Party {
            address: claimed.address.clone(),
            name: name.trim().to_owned(),
        }),
        sender: Some(proto::Party {
            address: facts.sender_email.clone(),
            name: facts.sender_name.clone(),
        }),
        reply_to: facts.reply_to.clone(),
        content: Some(proto::message::Content::Mail(mail(
            rendered,
            None,
            provider,
            unsubscribe_headers(unsubscribe_url),
        ))),
    })
}

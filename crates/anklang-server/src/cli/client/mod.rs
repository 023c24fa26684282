//! The commands that call a server for people: campaigns, operations, offers, the work list and the rest of the
//! API, as tables or as JSON (docs/cli.md).

mod args;
pub(super) mod call;
mod columns;
mod commands;
mod render;
mod table;
pub(super) mod text;
mod values;
mod watch;

use std::io::ErrorKind;
use std::process::ExitCode;

use anyhow::Context;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

pub use args::{Asked, AuditList};
use args::{begins_work, is_paged};
use call::Client;
use render::Show;

/// Rows that are asked for at once.
const PAGE: u64 = 500;

/// Runs a command.
pub async fn run(asked: Asked) -> anyhow::Result<ExitCode> {
    let client = Client::connect(&asked.server, asked.tenant.as_deref(), asked.timeout).await?;
    match answer(&client, asked).await {
        // Who reads on has had enough, e.g. `head`.
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

async fn answer(client: &Client, asked: Asked) -> anyhow::Result<ExitCode> {
    let mut show = Show::new(asked.json);
    if asked.method.is_server_streaming() {
        let name = text_of(&asked.request, "name");
        return watch::follow(client, &name, &show, watch::Until::Over).await;
    }
    if let Some(rows) = rows(&asked.method.output()) {
        return list(client, &asked, &rows, &mut show).await;
    }
    let answer = client.call(&asked.method, &asked.request).await?;
    let name = text_of(&answer, "name");
    // What was only checked has no name.
    if begins_work(&asked.method) && asked.wait && !name.is_empty() {
        eprintln!("{}", text::clean(&name));
        return watch::follow(client, &name, &show, watch::Until::Waiting).await;
    }
    show.message(&answer)?;
    Ok(ExitCode::SUCCESS)
}

/// Lists page by page, as many rows as are wanted.
async fn list(
    client: &Client,
    asked: &Asked,
    rows: &FieldDescriptor,
    show: &mut Show,
) -> anyhow::Result<ExitCode> {
    let Kind::Message(of) = rows.kind() else {
        anyhow::bail!("what is listed are no messages");
    };
    let mut request = asked.request.clone();
    let mut left = asked.limit;
    let mut listed = false;
    loop {
        if is_paged(&asked.method) {
            let size = i32::try_from(left.min(PAGE))?;
            request.try_set_field_by_name("page_size", Value::I32(size))?;
        }
        let mut answer = client.call(&asked.method, &request).await?;
        let page = match answer.take_field(rows) {
            Some(Value::List(page)) => page.into_iter().filter_map(message).collect(),
            _ => Vec::new(),
        };
        show.rows(&of, &page)?;
        listed |= !page.is_empty();
        left = left.saturating_sub(u64::try_from(page.len())?);
        let token = text_of(&answer, "next_page_token");
        if token.is_empty() || left == 0 {
            break;
        }
        let set = request.try_set_field_by_name("page_token", Value::String(token));
        set.context("the list has no pages")?;
    }
    if !listed && !asked.json {
        eprintln!("nothing found");
    }
    Ok(ExitCode::SUCCESS)
}

fn message(value: Value) -> Option<DynamicMessage> {
    match value {
        Value::Message(message) => Some(message),
        _ => None,
    }
}

/// A field that is text; empty where there is none.
fn text_of(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    let text = value.and_then(|value| value.as_str().map(str::to_owned));
    text.unwrap_or_default()
}

/// The rows of an answer that has nothing else: a list.
fn rows(answer: &MessageDescriptor) -> Option<FieldDescriptor> {
    let of_page = ["next_page_token", "unreachable"];
    let fields = answer.fields();
    let mut fields = fields.filter(|field| !of_page.contains(&field.name()));
    let rows = fields.next()?;
    let alone = fields.next().is_none() && rows.is_list();
    (alone && rows.kind().as_message().is_some()).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::mask::POOL;

    #[test]
    fn lists_are_known_by_what_they_are() {
        for (name, field) in [
            (
                "anklang.campaigns.v1.ListCampaignsResponse",
                Some("campaigns"),
            ),
            (
                "anklang.channels.v1.ListChannelPluginsResponse",
                Some("channel_plugins"),
            ),
            (
                "google.longrunning.ListOperationsResponse",
                Some("operations"),
            ),
            ("anklang.offers.v1.Cockpit", None),
            ("anklang.winback.v1.AnalyseWinbackResponse", None),
            ("anklang.campaigns.v1.Campaign", None),
            ("google.protobuf.Empty", None),
        ] {
            let answer = POOL.get_message_by_name(name).expect(name);
            let rows = rows(&answer);
            assert_eq!(rows.as_ref().map(FieldDescriptor::name), field, "{name}");
        }
    }
}

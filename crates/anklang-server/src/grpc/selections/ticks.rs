//! Customers and contracts that people tick.

use std::collections::HashMap;

use anklang_domain::selection::Subject;
use anklang_domain::{SelectionId, Violations, name};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::selection::{self, MAX_TICKS, TickUpdate};
use tonic::Request;

use super::{SelectionsApi, held};
use crate::grpc::listing::Listing;
use crate::grpc::{ApiResult, Change, caller, caller_in_units, form, wire};

/// The most violations about names in lists; a status holds no more.
const MAX_TOLD: usize = 40;

impl SelectionsApi {
    pub(super) async fn update_ticks(
        &self,
        request: Request<pb::UpdateSelectionTicksRequest>,
    ) -> ApiResult<pb::SelectionTicks> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse_uuid(&request.name, "selections"));
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(id) = id.filter(|_| change.looks()) {
            change.check(
                &request.name,
                &held(&mut tx, &tenant, SelectionId(id)).await?,
            )?;
        }
        // What the lists must name hangs on what the selection finds.
        let saved = match id {
            Some(id) => Some(selection::get(&tx, tenant.id, SelectionId(id)).await?),
            None => None,
        };
        let subject = saved.as_ref().map_or(Subject::Contract, |s| s.subject);
        let mut read = |field, names| numbers(field, names, subject, &mut violations);
        let update = TickUpdate {
            include: read("include", &request.include),
            exclude: read("exclude", &request.exclude),
            clear: read("clear", &request.clear),
            clear_all: request.clear_all,
        };
        check_disjoint(&request, &mut violations);
        let saved = form::complete(violations, saved)?;
        let counts = selection::update_ticks(&mut tx, tenant.id, &saved, &update).await?;
        let response = pb::SelectionTicks {
            included: counts.included,
            excluded: counts.excluded,
        };
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn list_ticks(
        &self,
        request: Request<pb::ListSelectionTicksRequest>,
    ) -> ApiResult<pb::ListSelectionTicksResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.check("parent", name::parse_uuid(&request.parent, "selections"));
        let of = &selection::TICKS;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        let id = SelectionId(form::complete(violations, id)?);
        let mut tx = store.begin(tenant.id).await?;
        let subject = selection::get(&tx, tenant.id, id).await?.subject;
        let page = selection::ticks(&mut tx, tenant.id, id, &listing.list).await?;
        tx.commit().await?;
        let ticks = page.rows.into_iter().map(|row| pb::SelectionTick {
            member: name::format(&[(collection(subject), &row.number)]),
            tick: tick(&row.tick).into(),
            create_time: Some(wire::timestamp(row.created_at)),
        });
        Ok(pb::ListSelectionTicksResponse {
            selection_ticks: ticks.collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

/// The collection that a selection's members are in.
pub(super) fn collection(subject: Subject) -> &'static str {
    match subject {
        Subject::Customer => "customers",
        Subject::Contract => "contracts",
    }
}

/// The tick that a word of the store stands for.
pub(super) fn tick(word: &str) -> pb::Tick {
    match word {
        "included" => pb::Tick::Included,
        "excluded" => pb::Tick::Excluded,
        _ => pb::Tick::Unspecified,
    }
}

/// Reads a list of names of what a selection finds. At most [`MAX_TICKS`] are looked at, and the
/// first 40 wrong ones told.
pub(super) fn numbers(
    field: &str,
    names: &[String],
    subject: Subject,
    violations: &mut Violations,
) -> Vec<String> {
    form::at_most(violations, field, names.len(), MAX_TICKS);
    let mut read = Vec::with_capacity(names.len().min(MAX_TICKS));
    let mut told = 0;
    for (i, text) in names.iter().take(MAX_TICKS).enumerate() {
        match name::parse(text, [collection(subject)]) {
            Ok([number]) => read.push(number),
            Err(error) if told < MAX_TOLD => {
                told += 1;
                violations.add(format!("{field}[{i}]"), error.to_string());
            }
            Err(_) => {}
        }
    }
    read
}

fn check_disjoint(request: &pb::UpdateSelectionTicksRequest, violations: &mut Violations) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    let mut told = 0;
    for (field, names) in [
        ("include", &request.include),
        ("exclude", &request.exclude),
        ("clear", &request.clear),
    ] {
        for (i, name) in names.iter().enumerate() {
            let first = *seen.entry(name).or_insert(field);
            if first != field && told < MAX_TOLD {
                told += 1;
                violations.add(format!("{field}[{i}]"), format!("is in {first} as well"));
            }
        }
    }
}

//! What previews, lists of members and explanations are about: a saved selection, criteria, or a preset.

use anklang_domain::{SelectionId, Violations, name};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::Conn;
use anklang_store::selection::{self, Prepared};
use anklang_store::tenant::Tenant;
use chrono::Utc;
use tonic::Request;

use super::criteria::{criteria_to_proto, prepare_ad_hoc, subject_to_proto};
use super::preset_use::prepare_preset;
use super::ticks::{collection, tick};
use super::{SelectionsApi, prepare_saved, unexplained};
use crate::grpc::{ApiError, ApiResult, caller_in_units};

/// Where criteria come from.
pub(super) enum Source<'a> {
    Saved(&'a str),
    AdHoc(&'a pb::AdHocCriteria),
    Preset(&'a pb::PresetUse),
}

macro_rules! sources {
    ($($request:ident),+) => {$(
        impl<'a> From<&'a pb::$request::Source> for Source<'a> {
            fn from(source: &'a pb::$request::Source) -> Self {
                use pb::$request::Source::{Criteria, Preset, Selection};
                match source {
                    Selection(name) => Source::Saved(name),
                    Criteria(given) => Source::AdHoc(given),
                    Preset(used) => Source::Preset(used),
                }
            }
        }
    )+};
}

sources!(
    explain_selection_request,
    list_selection_members_request,
    preview_selection_request
);

/// Prepares what is asked about, and says which saved selection it is. `None` exactly when
/// something is wrong.
pub(super) async fn prepared(
    conn: &mut Conn,
    tenant: &Tenant,
    source: Option<Source<'_>>,
    violations: &mut Violations,
) -> ApiResult<Option<(Prepared, Option<SelectionId>)>> {
    let now = Utc::now();
    let prepared = match source {
        None => {
            violations.add("criteria", "one of selection, criteria, preset is required");
            None
        }
        Some(Source::AdHoc(given)) => {
            prepare_ad_hoc(conn, tenant, given, "criteria", now, violations).await?
        }
        Some(Source::Preset(used)) => {
            prepare_preset(conn, tenant, used, "preset", now, violations).await?
        }
        Some(Source::Saved(name)) => {
            let id = violations.check("selection", name::parse_uuid(name, "selections"));
            let Some(id) = id.map(SelectionId) else {
                return Ok(None);
            };
            let saved = selection::get(conn, tenant.id, id).await?;
            return Ok(Some((prepare_saved(conn, tenant, &saved).await?, Some(id))));
        }
    };
    Ok(prepared.map(|prepared| (prepared, None)))
}

impl SelectionsApi {
    pub(super) async fn explain(
        &self,
        request: Request<pb::ExplainSelectionRequest>,
    ) -> ApiResult<pb::ExplainSelectionResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let mut tx = store.begin_read(tenant.id).await?;
        let source = request.source.as_ref().map(Source::from);
        let found = prepared(&mut tx, tenant, source, &mut violations).await?;
        let number = match &found {
            Some((prepared, _)) => {
                let collection = collection(prepared.subject());
                violations.check("member", name::parse(&request.member, [collection]))
            }
            None if request.member.is_empty() => {
                violations.add("member", "is required");
                None
            }
            None => None,
        };
        violations.finish(())?;
        let ((prepared, saved), [number]) = found.zip(number).ok_or_else(unexplained)?;
        let (subject, criteria) = (prepared.subject(), prepared.criteria());
        let now = Utc::now();
        let explained =
            selection::explain(&mut tx, tenant, subject, criteria, &number, now).await?;
        let explained = explained.ok_or(ApiError::NotFound(request.member))?;
        let ticked = match saved {
            Some(id) => selection::tick_of(&mut tx, tenant.id, id, explained.id).await?,
            None => None,
        };
        tx.commit().await?;
        let ticked = ticked.map_or(pb::Tick::Unspecified, |word| tick(&word));
        Ok(pb::ExplainSelectionResponse {
            selected: match ticked {
                pb::Tick::Included => true,
                pb::Tick::Excluded => false,
                pb::Tick::Unspecified => explained.holds(),
            },
            tick: ticked.into(),
            criteria: Some(pb::AdHocCriteria {
                subject: subject_to_proto(subject).into(),
                criteria: Some(criteria_to_proto(criteria)),
            }),
            explanations: explained.nodes.into_iter().map(explanation).collect(),
        })
    }
}

fn explanation(node: selection::Explained) -> pb::CriterionExplanation {
    pb::CriterionExplanation {
        path: node.path,
        holds: node.matching > 0,
        rows: node.rows,
        matching_rows: node.matching,
        related_rows: node.related,
        matching_related_rows: node.matching_related,
    }
}

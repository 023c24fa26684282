//! Presets: criteria that administrators prepare.

use std::sync::Arc;

use anklang_domain::selection::{
    Criteria, MAX_PARAMETERS, MAX_VALUES, Parameter, ParameterType, Subject, Value,
};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::selection::{self, NewPreset, Preset};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, Store};
use tonic::{Request, Response, Status};

use super::listing::Listing;
use super::selections::criteria::{
    check_preset, criteria_to_proto, operator_from_proto, operator_to_proto, subject_from_proto,
    subject_to_proto, value_from_proto, value_to_proto,
};
use super::selections::{check_description, check_display_name};
use super::{ApiError, ApiResult, Change, caller, caller_in_units, form, reply, tagged, wire};
use crate::seal::Keys;

/// The service.
pub struct PresetsApi {
    store: Store,
    keys: Arc<Keys>,
}

impl PresetsApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        PresetsApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::preset_service_server::PresetService for PresetsApi {
    async fn create_preset(
        &self,
        request: Request<pb::CreatePresetRequest>,
    ) -> Result<Response<pb::Preset>, Status> {
        reply(self.create(request).await)
    }

    async fn get_preset(
        &self,
        request: Request<pb::GetPresetRequest>,
    ) -> Result<Response<pb::Preset>, Status> {
        reply(self.get(request).await)
    }

    async fn list_presets(
        &self,
        request: Request<pb::ListPresetsRequest>,
    ) -> Result<Response<pb::ListPresetsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_preset(
        &self,
        request: Request<pb::UpdatePresetRequest>,
    ) -> Result<Response<pb::Preset>, Status> {
        reply(self.update(request).await)
    }

    async fn delete_preset(
        &self,
        request: Request<pb::DeletePresetRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete(request).await)
    }
}

/// A preset as it came, checked.
struct Wanted<'a> {
    name: &'a str,
    description: &'a str,
    subject: Subject,
    criteria: Criteria,
    parameters: Vec<Parameter>,
}

impl Wanted<'_> {
    fn under<'a>(&'a self, code: &'a str) -> NewPreset<'a> {
        NewPreset {
            code,
            name: self.name,
            description: self.description,
            subject: self.subject,
            criteria: &self.criteria,
            parameters: &self.parameters,
        }
    }
}

impl PresetsApi {
    async fn create(&self, request: Request<pb::CreatePresetRequest>) -> ApiResult<pb::Preset> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if !is_code(&request.preset_id) {
            let reason = "must be 1 to 63 of a–z, 0–9 and hyphens, first a letter";
            violations.add("preset_id", reason);
        }
        let wanted = read(&mut tx, &tenant, request.preset.as_ref(), &mut violations).await?;
        let wanted = form::complete(violations, wanted)?;
        let new = wanted.under(&request.preset_id);
        let saved = selection::create_preset(&mut tx, tenant.id, &new).await?;
        let exists = || ApiError::AlreadyExists(name::format(&[("presets", &request.preset_id)]));
        let response = to_wire(&saved.ok_or_else(exists)?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn get(&self, request: Request<pb::GetPresetRequest>) -> ApiResult<pb::Preset> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let [code] = form::ids("name", &request.into_inner().name, ["presets"])?;
        let found = store
            .read(tenant.id)
            .ask(|conn| selection::preset(conn, tenant.id, &code))
            .await?;
        Ok(to_wire(&found))
    }

    async fn list(
        &self,
        request: Request<pb::ListPresetsRequest>,
    ) -> ApiResult<pb::ListPresetsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let of = &selection::PRESETS;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| selection::presets(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListPresetsResponse {
            presets: page.rows.iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn update(&self, request: Request<pb::UpdatePresetRequest>) -> ApiResult<pb::Preset> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut preset = request.preset;
        let code = preset
            .as_ref()
            .and_then(|p| violations.check("preset.name", name::parse(&p.name, ["presets"])));
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let (true, Some([code]), Some(given)) = (change.looks(), &code, &mut preset) {
            let current = held(&mut tx, &tenant, code).await?;
            *given = change.settle(&given.name, Some(current), given.clone(), false)?;
        }
        let wanted = read(&mut tx, &tenant, preset.as_ref(), &mut violations).await?;
        let (wanted, [code]) = form::complete(violations, wanted.zip(code))?;
        let saved = selection::update_preset(&mut tx, tenant.id, &wanted.under(&code)).await?;
        let response = to_wire(&saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn delete(&self, request: Request<pb::DeletePresetRequest>) -> ApiResult<()> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let code = violations.check("name", name::parse(&request.name, ["presets"]));
        let [code] = form::complete(violations, code)?;
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            change.check(&request.name, &held(&mut tx, &tenant, &code).await?)?;
        }
        selection::delete_preset(&mut tx, tenant.id, &code).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

/// A preset that does not change until the end of the transaction.
async fn held(conn: &mut Conn, tenant: &Tenant, code: &str) -> ApiResult<pb::Preset> {
    hold(conn, tenant.id, Held::Preset(code)).await?;
    Ok(to_wire(&selection::preset(conn, tenant.id, code).await?))
}

fn is_code(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Reads and checks a preset; `None` exactly when something is wrong.
async fn read<'a>(
    conn: &mut Conn,
    tenant: &Tenant,
    preset: Option<&'a pb::Preset>,
    violations: &mut Violations,
) -> ApiResult<Option<Wanted<'a>>> {
    let Some(preset) = preset else {
        violations.add("preset", "is required");
        return Ok(None);
    };
    let before = violations.iter().count();
    check_display_name(&preset.display_name, "preset.display_name", violations);
    check_description(&preset.description, "preset.description", violations);
    let subject = subject_from_proto(preset.subject, "preset.subject", violations);
    let parameters = parameters(&preset.parameters, violations);
    let criteria = preset.criteria.as_ref();
    let criteria = check_preset(conn, tenant, subject, criteria, &parameters, violations).await?;
    if violations.iter().count() > before {
        return Ok(None);
    }
    Ok(subject.zip(criteria).map(|(subject, criteria)| Wanted {
        name: &preset.display_name,
        description: &preset.description,
        subject,
        criteria,
        parameters,
    }))
}

fn parameters(given: &[pb::PresetParameter], violations: &mut Violations) -> Vec<Parameter> {
    form::at_most(violations, "preset.parameters", given.len(), MAX_PARAMETERS);
    let given = given.iter().take(MAX_PARAMETERS).enumerate();
    given
        .map(|(i, parameter)| {
            let path = format!("preset.parameters[{i}]");
            let mut values = |list: &str, values: &[pb::Value]| -> Vec<Value> {
                let path = format!("{path}.{list}");
                form::at_most(violations, &path, values.len(), MAX_VALUES);
                let values = values.iter().take(MAX_VALUES).enumerate();
                values
                    .filter_map(|(i, value)| {
                        violations.check(format!("{path}[{i}]"), value_from_proto(value))
                    })
                    .collect()
            };
            let defaults = values("default_values", &parameter.default_values);
            let allowed = values("allowed_values", &parameter.allowed_values);
            let mut operators = Vec::new();
            for (i, operator) in parameter
                .allowed_operators
                .iter()
                .take(MAX_VALUES)
                .enumerate()
            {
                match operator_from_proto(*operator) {
                    Some(operator) => operators.push(operator),
                    None => {
                        violations.add(format!("{path}.allowed_operators[{i}]"), "is no Operator");
                    }
                }
            }
            let ty = parameter_type(parameter.r#type);
            if ty.is_none() {
                violations.add(format!("{path}.type"), "is required: one of FieldType");
            }
            Parameter {
                name: parameter.parameter.clone(),
                display_name: parameter.display_name.clone(),
                description: parameter.description.clone(),
                ty: ty.unwrap_or(ParameterType::Text),
                required: parameter.required,
                multiple: parameter.multiple,
                defaults,
                allowed,
                operators,
            }
        })
        .collect()
}

const TYPES: [(pb::FieldType, ParameterType); 5] = [
    (pb::FieldType::Text, ParameterType::Text),
    (pb::FieldType::Number, ParameterType::Number),
    (pb::FieldType::Flag, ParameterType::Flag),
    (pb::FieldType::Date, ParameterType::Date),
    (pb::FieldType::Time, ParameterType::Time),
];

fn parameter_type(ty: i32) -> Option<ParameterType> {
    let found = TYPES.iter().find(|(theirs, _)| i32::from(*theirs) == ty);
    found.map(|(_, ours)| *ours)
}

fn to_wire(preset: &Preset) -> pb::Preset {
    tagged(pb::Preset {
        name: name::format(&[("presets", &preset.code)]),
        display_name: preset.name.clone(),
        description: preset.description.clone(),
        subject: subject_to_proto(preset.subject).into(),
        criteria: Some(criteria_to_proto(&preset.criteria)),
        parameters: preset.parameters.iter().map(parameter_to_wire).collect(),
        version: preset.version,
        create_time: Some(wire::timestamp(preset.created_at)),
        update_time: Some(wire::timestamp(preset.updated_at)),
        etag: String::new(),
    })
}

fn parameter_to_wire(parameter: &Parameter) -> pb::PresetParameter {
    let ty = TYPES.iter().find(|(_, ours)| *ours == parameter.ty);
    let operators = parameter.operators.iter();
    pb::PresetParameter {
        parameter: parameter.name.clone(),
        display_name: parameter.display_name.clone(),
        description: parameter.description.clone(),
        r#type: ty.map_or(0, |(theirs, _)| (*theirs).into()),
        required: parameter.required,
        multiple: parameter.multiple,
        default_values: parameter.defaults.iter().map(value_to_proto).collect(),
        allowed_values: parameter.allowed.iter().map(value_to_proto).collect(),
        allowed_operators: operators.map(|o| operator_to_proto(*o).into()).collect(),
    }
}

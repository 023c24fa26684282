//! Shows what a template makes, with a tenant's data or made-up data. Nothing is stored.

use anklang_domain::offer::annual_amount;
use anklang_domain::{OfferId, ProductVersionId, Violations, name};
use anklang_proto::anklang::templates::v1 as pb;
use anklang_render::model::{ContactData, OfferData, OfferRequestData};
use anklang_render::{Message, MessageTemplate, RenderError};
use anklang_store::offer::{self, ContentOf, PreviewOf};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, campaign};
use chrono::Utc;
use serde_json::Value;
use tonic::Request;

use super::{Compiled, Name, TemplatesApi, add_errors, compile, find, located, untried};
use crate::content::{self, ContentError, Sees, sees};
use crate::grpc::{ApiError, ApiResult, caller};

/// The most bytes of a document that is shown; clients take 4 MiB in one response unless told
/// otherwise.
const MAX_PDF: usize = 3 * 1024 * 1024;

/// Whose data to show, and under which field it was named.
enum Of {
    Made,
    Offer(String),
    Contract(String),
    Customer(String),
}

/// What a request asks for.
struct Wanted {
    template: Name,
    of: Of,
    version: Option<[String; 2]>,
}

impl TemplatesApi {
    /// Renders content that is given or stored.
    pub(super) async fn preview(
        &self,
        request: Request<pb::PreviewTemplateRequest>,
    ) -> ApiResult<pb::PreviewTemplateResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let wanted = read(&request)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let data = load(&mut tx, &tenant, &wanted, &request).await?;
        let content = match request.content {
            Some(pb::preview_template_request::Content::Message(m)) => {
                pb::template::Content::Message(m)
            }
            Some(pb::preview_template_request::Content::Document(d)) => {
                pb::template::Content::Document(d)
            }
            None => find(&tx, &tenant, &wanted.template)
                .await?
                .and_then(|template| template.content)
                .ok_or(ApiError::NotFound(request.name))?,
        };
        tx.commit().await?;
        let key = wanted.template.key;
        let tried = self
            .app
            .templates
            .try_out(move || show(&key, &content, data));
        tried.await.map_err(|why| untried(why, ""))?
    }
}

fn read(request: &pb::PreviewTemplateRequest) -> ApiResult<Wanted> {
    use pb::preview_template_request::Data;
    let mut violations = Violations::new();
    let template = violations.check("name", Name::parse(&request.name));
    let of_winback = |t: &Name| matches!(sees(&t.key), Sees::WinbackCase(_));
    if template.as_ref().is_some_and(of_winback) {
        violations.add("name", "is winback's: PreviewWinbackMail shows it");
    }
    let mut number = |field: &str, collection, text: &str| {
        let parsed = violations.check(field, name::parse(text, [collection]));
        parsed.map(|[number]| number).unwrap_or_default()
    };
    let of = match &request.data {
        None => Of::Made,
        Some(Data::Offer(text)) => Of::Offer(number("offer", "offers", text)),
        Some(Data::Contract(text)) => Of::Contract(number("contract", "contracts", text)),
        Some(Data::Customer(text)) => Of::Customer(number("customer", "customers", text)),
    };
    let version = match &request.product_version[..] {
        "" => None,
        _ if matches!(of, Of::Offer(_)) => {
            violations.add("product_version", "does not go together with an offer");
            None
        }
        text => violations.check(
            "product_version",
            name::parse(text, ["products", "versions"]),
        ),
    };
    violations.finish(())?;
    Ok(Wanted {
        template: template.ok_or_else(|| ApiError::Internal("no name, no violation".into()))?,
        of,
        version,
    })
}

/// The data to show.
async fn load(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Wanted,
    request: &pb::PreviewTemplateRequest,
) -> ApiResult<OfferData> {
    let wrong = |error: ContentError| ApiError::Internal(error.to_string());
    let today = tenant.day(Utc::now());
    if let Of::Offer(number) = &wanted.of {
        let missing = || ApiError::NotFound(name::format(&[("offers", number)]));
        let found = offer::get(conn, tenant.id, number, today).await?;
        let id = OfferId(found.ok_or_else(missing)?.id);
        let mut contents = offer::content(conn, tenant.id, ContentOf::Offers(&[id.0])).await?;
        let content = contents.pop().ok_or_else(missing)?;
        return content::offer_data(&content).map_err(wrong);
    }
    let version = match &wanted.version {
        None => None,
        Some([product, code]) => Some(
            campaign::target(conn, tenant.id, product, code)
                .await?
                .map(|target| ProductVersionId(target.id))
                .ok_or_else(|| ApiError::NotFound(request.product_version.clone()))?,
        ),
    };
    let brand = &wanted.template.brand;
    let (of, named) = match &wanted.of {
        Of::Contract(number) => (
            PreviewOf::Contract(number),
            name::format(&[("contracts", number)]),
        ),
        Of::Customer(number) => (
            PreviewOf::Customer(number),
            name::format(&[("customers", number)]),
        ),
        _ => (PreviewOf::Nobody, name::format(&[("brands", brand)])),
    };
    let found = match offer::preview(conn, tenant.id, brand, of, version).await? {
        Some(found) => found,
        // Which of the two is missing?
        None => {
            let alone = offer::preview(conn, tenant.id, brand, PreviewOf::Nobody, None).await?;
            return Err(ApiError::NotFound(match alone {
                Some(_) => named,
                None => name::format(&[("brands", brand)]),
            }));
        }
    };
    let mut data = content::data_of(over_sample(found)).map_err(wrong)?;
    data.offer.date = today;
    data.offer.valid_until = today + chrono::TimeDelta::days(30);
    data.offer.annual_amount = annual_amount(
        data.offer.base_price_per_year,
        data.offer.unit_price_per_kwh,
        data.offer.annual_quantity_kwh,
    );
    Ok(data)
}

/// Made-up data in the words of the database, with what was found instead.
fn over_sample(found: Value) -> Value {
    let mut model = serde_json::to_value(OfferData::sample()).unwrap_or_default();
    model["customer"]["salutation"] = "female".into();
    for part in ["customer", "brand"] {
        model[part]["country"] = "DE".into();
    }
    let Value::Object(parts) = found else {
        return model;
    };
    for (part, value) in parts {
        match (&part[..], value) {
            ("offer", Value::Object(fields)) => {
                for (field, value) in fields {
                    model["offer"][field] = value;
                }
            }
            (_, value) => model[part] = value,
        }
    }
    model
}

/// Compiles and renders, in a thread that may block.
fn show(
    key: &str,
    content: &pb::template::Content,
    mut data: OfferData,
) -> ApiResult<pb::PreviewTemplateResponse> {
    let mut violations = Violations::new();
    let compiled = compile(key, content, "", &mut violations);
    violations.finish(())?;
    let shown = match compiled {
        None => return Err(ApiError::Internal("no template, no violation".into())),
        Some(Compiled::Message(template)) => {
            let provider = match content {
                pb::template::Content::Message(m) => m.provider_template.as_ref(),
                pb::template::Content::Document(_) => None,
            };
            rendered(key, &template, data).map(|message| pb::PreviewTemplateResponse {
                message: Some(pb::MessageContent {
                    subject: message.subject,
                    text_body: message.text,
                    html_body: message.html,
                    provider_template: provider.map(|provider| pb::ProviderTemplate {
                        id: provider.id.clone(),
                        variables: message.variables.into_iter().collect(),
                    }),
                }),
                ..Default::default()
            })
        }
        Some(Compiled::Document(template)) => {
            data.unsubscribe_url = String::new();
            data.offer.has_document = true;
            template
                .render(&data)
                .map(|pdf| pb::PreviewTemplateResponse {
                    pages: i32::try_from(pdf.pages).unwrap_or(i32::MAX),
                    standard: pdf.standard.as_str().into(),
                    pdf: pdf.bytes.into(),
                    warnings: template.warnings().iter().map(located).collect(),
                    ..Default::default()
                })
        }
    };
    let shown = shown.map_err(refused)?;
    if shown.pdf.len() > MAX_PDF {
        return Err(ApiError::field(
            "document.typst_source",
            format!(
                "line 1, column 1: the document has {} bytes, a preview at most {MAX_PDF}",
                shown.pdf.len()
            ),
        ));
    }
    Ok(shown)
}

/// A message with the customer and brand of this data, and an example of what else its template sees.
fn rendered(
    key: &str,
    template: &MessageTemplate,
    data: OfferData,
) -> Result<Message, RenderError> {
    match sees(key) {
        Sees::Offer | Sees::WinbackCase(_) => template.render(&data),
        Sees::Contact => {
            let [sample, _] = ContactData::samples();
            template.render(&data.for_contact(sample.contact))
        }
        Sees::OfferRequest => {
            let [sample, _] = OfferRequestData::samples();
            template.render(&OfferRequestData {
                customer: data.customer,
                brand: data.brand,
                ..sample
            })
        }
    }
}

fn refused(error: RenderError) -> ApiError {
    match error {
        RenderError::Template(errors) => {
            let mut violations = Violations::new();
            add_errors(&mut violations, "", &errors);
            violations.into()
        }
        other => ApiError::Internal(other.to_string()),
    }
}

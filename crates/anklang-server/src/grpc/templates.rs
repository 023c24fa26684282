//! Templates of messages and documents, stored and shipped.

mod preview;

use std::collections::BTreeMap;

use anklang_domain::{Violations, name};
use anklang_proto::anklang::templates::v1 as pb;
use anklang_render::{
    DocumentTemplate, MessageSource, MessageTemplate, Part, TemplateError, shipped,
};
use anklang_store::Conn;
use anklang_store::hold::{Held, hold};
use anklang_store::template::{self, NewTemplate, Template};
use anklang_store::tenant::Tenant;
use tonic::{Request, Response, Status};

use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::content::{
    FALLBACK_LANGUAGE, OFFER_LETTER, Sees, Untried, compile_message, sees, shipped_message,
};
use crate::work::App;

/// The most variables of a provider's template.
const MAX_VARIABLES: usize = 200;

/// The service.
pub struct TemplatesApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::template_service_server::TemplateService for TemplatesApi {
    async fn update_template(
        &self,
        request: Request<pb::UpdateTemplateRequest>,
    ) -> Result<Response<pb::Template>, Status> {
        reply(self.update(request).await)
    }

    async fn get_template(
        &self,
        request: Request<pb::GetTemplateRequest>,
    ) -> Result<Response<pb::Template>, Status> {
        reply(self.get(request).await)
    }

    async fn list_templates(
        &self,
        request: Request<pb::ListTemplatesRequest>,
    ) -> Result<Response<pb::ListTemplatesResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn preview_template(
        &self,
        request: Request<pb::PreviewTemplateRequest>,
    ) -> Result<Response<pb::PreviewTemplateResponse>, Status> {
        reply(self.preview(request).await)
    }
}

impl TemplatesApi {
    async fn update(&self, request: Request<pb::UpdateTemplateRequest>) -> ApiResult<pb::Template> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let given = request
            .template
            .ok_or_else(|| ApiError::field("template", "is required"))?;
        let allow_missing = request.allow_missing;
        // Looked at twice: checking takes long, and nothing is held meanwhile.
        let mut template = given.clone();
        if let Some(name) = Name::parse(&given.name).ok().filter(|_| change.looks()) {
            let mut tx = self.app.store.begin(tenant.id).await?;
            if let Some(done) = change.before(&mut tx).await? {
                return Ok(done);
            }
            let current = find(&tx, &tenant, &name).await?;
            tx.commit().await?;
            template = change.settle(&given.name, current, template, allow_missing)?;
        }
        let checked = template.clone();
        // Checking a document renders it.
        let tried = self.app.templates.try_out(move || check(&checked)).await;
        let (name, found) = tried.map_err(|why| untried(why, "template."))?;
        violations.extend_under("", found);
        violations.finish(())?;
        let name = name.ok_or_else(|| ApiError::Internal("a template without name".into()))?;

        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Brand(&name.brand)).await?;
        }
        let there = find(&tx, &tenant, &name).await?;
        if there.is_none() && !allow_missing {
            return Err(ApiError::NotFound(template.name));
        }
        if change
            .settle(&template.name, there, given, allow_missing)?
            .content
            != template.content
        {
            // What was checked is not what would be saved.
            return Err(ApiError::Stale(template.name));
        }
        let mut new = NewTemplate {
            brand_code: &name.brand,
            key: &name.key,
            language: &name.language,
            ..Default::default()
        };
        match template.content.as_ref() {
            Some(pb::template::Content::Message(m)) => {
                new.kind = "message";
                new.subject = &m.subject;
                new.text_body = &m.text_body;
                new.html_body = &m.html_body;
                if let Some(provider) = &m.provider_template {
                    new.provider_template = &provider.id;
                    new.provider_variables = variables(provider);
                }
            }
            Some(pb::template::Content::Document(d)) => {
                new.kind = "document";
                new.typst_source = &d.typst_source;
            }
            None => return Err(ApiError::Internal("a template without content".into())),
        }
        let response = to_wire(template::save(&mut tx, tenant.id, &new).await?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn get(&self, request: Request<pb::GetTemplateRequest>) -> ApiResult<pb::Template> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let wanted = request.into_inner().name;
        let name = Name::parse(&wanted).map_err(|reason| ApiError::field("name", reason))?;
        let found = store
            .read(tenant.id)
            .ask(|conn| find(conn, tenant, &name))
            .await?;
        found.ok_or(ApiError::NotFound(wanted))
    }

    async fn list(
        &self,
        request: Request<pb::ListTemplatesRequest>,
    ) -> ApiResult<pb::ListTemplatesResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let brand = violations
            .check("parent", name::parse(&request.parent, ["brands"]))
            .map(|[brand]| brand);
        let (key, of) = (&self.app.keys, &template::LISTABLE);
        let listing = Listing::read(key, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let brand = brand.filter(|b| b != "-");
        let tx = store.begin(tenant.id).await?;
        if let Some(code) = &brand
            && !template::brand_exists(&tx, tenant.id, code).await?
        {
            return Err(ApiError::NotFound(request.parent));
        }
        let page = template::list(&tx, tenant.id, brand, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListTemplatesResponse {
            templates: page.rows.into_iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

/// The parts of a template's name.
struct Name {
    brand: String,
    key: String,
    language: String,
}

impl Name {
    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "must have the form brands/{brand}/templates/{key}.{language}";
        let [brand, template] =
            name::parse(text, ["brands", "templates"]).map_err(|_| FORM.to_owned())?;
        let (key, language) = template.split_once('.').ok_or(FORM)?;
        let word = |text: &str, others: &[u8]| {
            (1..=64).contains(&text.len())
                && text.as_bytes()[0].is_ascii_alphabetic()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
        };
        if !word(key, b"_") || key != key.to_ascii_lowercase() {
            return Err("the key is 1 to 64 of a–z, 0–9 and _, first a letter".into());
        }
        if !word(language, b"-") || language.len() > 35 {
            return Err("the language is a BCP 47 tag, e.g. de or de-AT".into());
        }
        Ok(Self {
            brand,
            key: key.to_owned(),
            language: language.to_owned(),
        })
    }
}

/// Checks everything about a template; a document is rendered with sample data.
fn check(template: &pb::Template) -> (Option<Name>, Violations) {
    let mut violations = Violations::new();
    let name = violations.check("template.name", Name::parse(&template.name));
    let key = name.as_ref().map_or("", |name| &name.key);
    match &template.content {
        None => violations.add("template.content", "is required: message or document"),
        Some(pb::template::Content::Document(_)) if sees(key) != Sees::Offer => {
            violations.add("template.document", "must be a message by its key");
        }
        Some(content) => {
            compile(key, content, "template.", &mut violations);
        }
    }
    (name, violations)
}

fn variables(provider: &pb::ProviderTemplate) -> BTreeMap<String, String> {
    let variables = provider.variables.iter();
    variables.map(|(n, t)| (n.clone(), t.clone())).collect()
}

/// Content that compiles.
enum Compiled {
    Message(Box<MessageTemplate>),
    Document(DocumentTemplate),
}

/// Checks and compiles content of the template with this key, whose fields begin with `prefix`.
fn compile(
    key: &str,
    content: &pb::template::Content,
    prefix: &str,
    violations: &mut Violations,
) -> Option<Compiled> {
    let before = violations.iter().count();
    let mut limit = |field: &str, text: &str, min: usize, max: usize| {
        let length = text.chars().count();
        if !(min..=max).contains(&length) {
            violations.add(
                format!("{prefix}{field}"),
                format!("must have {min} to {max} characters, has {length}"),
            );
        } else if text.contains('\0') {
            violations.add(format!("{prefix}{field}"), "must not hold NUL");
        }
    };
    let compiled = match content {
        pb::template::Content::Message(m) => {
            let provider = m.provider_template.as_ref();
            let (least, body) = match provider {
                None => (1, [100_000, 500_000]),
                Some(_) => (0, [0, 0]),
            };
            limit("message.subject", &m.subject, least, 1_000);
            limit("message.text_body", &m.text_body, least, body[0]);
            limit("message.html_body", &m.html_body, 0, body[1]);
            let variables = provider.map(variables).unwrap_or_default();
            if let Some(provider) = provider {
                limit("message.provider_template.id", &provider.id, 1, 200);
                for (name, text) in &variables {
                    let short: String = name.chars().take(100).collect();
                    let field = format!("message.provider_template.variables[{short}]");
                    limit(&field, name, 1, 100);
                    limit(&field, text, 0, 10_000);
                }
                if variables.len() > MAX_VARIABLES {
                    let field = format!("{prefix}message.provider_template.variables");
                    violations.add(field, format!("must be at most {MAX_VARIABLES}"));
                }
            }
            let source = MessageSource {
                subject: &m.subject,
                text: &m.text_body,
                html: &m.html_body,
                variables: &variables,
            };
            compile_message(key, &source, provider.is_some())
                .map(|template| Compiled::Message(Box::new(template)))
        }
        pb::template::Content::Document(d) => {
            limit("document.typst_source", &d.typst_source, 1, 500_000);
            if violations.iter().count() > before {
                return None;
            }
            DocumentTemplate::compile(&d.typst_source).map(Compiled::Document)
        }
    };
    match compiled {
        Ok(compiled) => (violations.iter().count() == before).then_some(compiled),
        Err(errors) => {
            add_errors(violations, prefix, &errors);
            None
        }
    }
}

fn add_errors(violations: &mut Violations, prefix: &str, errors: &[TemplateError]) {
    for error in errors {
        let field = match error.part {
            Part::Subject => "message.subject",
            Part::TextBody => "message.text_body",
            Part::HtmlBody => "message.html_body",
            Part::ProviderVariables => "message.provider_template.variables",
            Part::TypstSource => "document.typst_source",
        };
        violations.add(format!("{prefix}{field}"), located(error));
    }
}

fn located(error: &TemplateError) -> String {
    let TemplateError { line, column, .. } = error;
    format!("line {line}, column {column}: {}", error.message)
}

/// The refusal of a template that was not tried out to its end. Messages cannot take long.
fn untried(why: Untried, prefix: &str) -> ApiError {
    let field = format!("{prefix}document.typst_source");
    match why {
        Untried::Busy => ApiError::Unavailable("other templates are being tried out".into()),
        Untried::TooLong => {
            ApiError::field(field, "line 1, column 1: takes longer than 20 seconds")
        }
        Untried::Broken => ApiError::Internal("trying a template out panicked".into()),
    }
}

/// The newest stored version, else the shipped one of a brand that exists.
async fn find(conn: &Conn, tenant: &Tenant, name: &Name) -> ApiResult<Option<pb::Template>> {
    let stored = template::get(conn, tenant.id, &name.brand, &name.key, &name.language).await?;
    if let Some(stored) = stored {
        return Ok(Some(to_wire(stored)));
    }
    if name.language != FALLBACK_LANGUAGE
        || !template::brand_exists(conn, tenant.id, &name.brand).await?
    {
        return Ok(None);
    }
    let content = match &name.key[..] {
        OFFER_LETTER => pb::template::Content::Document(pb::DocumentContent {
            typst_source: shipped::OFFER_LETTER_DE.into(),
        }),
        key => match shipped_message(key) {
            None => return Ok(None),
            Some(message) => pb::template::Content::Message(pb::MessageContent {
                subject: message.subject.into(),
                text_body: message.text.into(),
                html_body: message.html.into(),
                provider_template: None,
            }),
        },
    };
    Ok(Some(tagged(pb::Template {
        name: full_name(&name.brand, &name.key, &name.language),
        content: Some(content),
        version: 0,
        create_time: None,
        etag: String::new(),
    })))
}

/// `brands/{brand}/templates/{key}.{language}`.
pub fn full_name(brand: &str, key: &str, language: &str) -> String {
    name::format(&[
        ("brands", brand),
        ("templates", &format!("{key}.{language}")),
    ])
}

fn to_wire(t: Template) -> pb::Template {
    let content = if t.kind == "message" {
        let variables = t.variables().into_iter().collect();
        let provider = (!t.provider_template.is_empty()).then_some(pb::ProviderTemplate {
            id: t.provider_template,
            variables,
        });
        pb::template::Content::Message(pb::MessageContent {
            subject: t.subject,
            text_body: t.text_body,
            html_body: t.html_body,
            provider_template: provider,
        })
    } else {
        pb::template::Content::Document(pb::DocumentContent {
            typst_source: t.typst_source,
        })
    };
    tagged(pb::Template {
        name: full_name(&t.brand_code, &t.key, &t.language),
        content: Some(content),
        version: t.version,
        create_time: Some(wire::timestamp(t.created_at)),
        etag: String::new(),
    })
}

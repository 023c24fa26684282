//! From an offer's data and the newest template of its brand and language to a PDF or a mail; of messages of
//! planned contacts and notices the same. Of mails of winback the template (`winback`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anklang_domain::TenantId;
use anklang_domain::name;
use anklang_domain::winback::{MailTemplate, link};
use anklang_render::model::{Brand, ContactData, Customer, OfferData, OfferRequestData};
use anklang_render::{DocumentTemplate, MessageSource, MessageTemplate, TemplateError, shipped};
use anklang_store::offer::Content;
use anklang_store::template::{self, Template};
use anklang_store::winback::template::of_key;
use anklang_store::{Conn, StoreError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use uuid::Uuid;

use crate::winback;

/// Language of the shipped templates, and of a brand's own when the customer's has none.
pub const FALLBACK_LANGUAGE: &str = "de";
/// Key of the document template that ships.
pub const OFFER_LETTER: &str = "offer_letter";
/// Key of the message template that ships for mails.
pub const OFFER_MAIL: &str = "offer_mail";
/// Key of the message template that ships for channels of texts.
pub const OFFER_TEXT: &str = "offer_text";

/// Key of the message template that ships for customers who were not reached. Keys that begin with it and an
/// underscore are such templates as well.
pub const CONTACT_MISSED: &str = "contact_missed";
/// Key of the message template that ships for people who are asked for an offer.
pub const OFFER_REQUEST: &str = "winback_offer_request";

/// So many compiled templates are kept; then all are let go and compiled anew on use.
const MAX_COMPILED: usize = 256;

/// Which version of which template, shipped (version 0) or stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplateId {
    tenant: TenantId,
    brand: Uuid,
    key: String,
    /// Its language.
    pub language: String,
    /// Its version; 0 is the shipped one.
    pub version: i32,
}

/// Compiled templates, and turns to use them. Cheap to clone.
#[derive(Clone)]
pub struct Templates {
    documents: Arc<Mutex<HashMap<TemplateId, Arc<DocumentTemplate>>>>,
    messages: Arc<Mutex<HashMap<TemplateId, Arc<MessageTemplate>>>>,
    rendering: Arc<Semaphore>,
    letter_time: Duration,
    runaways: Arc<Mutex<HashSet<TemplateId>>>,
    trying: Arc<Semaphore>,
}

/// Templates that are tried out at the same time. A thread cannot be stopped: one that a template
/// keeps busy keeps its turn, so that templates without end can never take more threads than these.
const TRIED_AT_ONCE: usize = 4;
/// How long trying a template out may take, waiting for a turn included.
const LONGEST_TRIAL: Duration = Duration::from_secs(20);

/// Why a template was not tried out to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untried {
    /// Others kept all turns.
    Busy,
    /// It took too long.
    TooLong,
    /// It panicked.
    Broken,
}

/// Why a letter was not rendered to its end.
#[derive(Debug, thiserror::Error)]
pub enum Unrendered {
    /// It took too long.
    #[error("the letter takes longer than {} s: its template does not come to an end with this offer's data", .0.as_secs())]
    TooLong(Duration),
    /// It was not begun: another one of the same version of its template still takes too long.
    #[error(
        "another letter of this version of the template does not come to an end, so this one was not begun"
    )]
    NotBegun,
    /// It panicked.
    #[error("rendering failed: {0}")]
    Broken(#[from] JoinError),
}

/// Why content cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Neither the brand nor the product has such a template.
    #[error("there is no template {0}")]
    NoTemplate(String),
    /// The template does not compile (any more), or not with this data.
    #[error("template: {0}")]
    Template(String),
    /// The stored data does not read.
    #[error("data of the offer: {0}")]
    Data(#[from] serde_json::Error),
}

/// The newest templates of one key for some brands.
pub struct Newest {
    tenant: TenantId,
    key: String,
    found: HashMap<(Uuid, String), Template>,
}

impl Newest {
    /// Loads them.
    pub async fn load(
        conn: &mut Conn,
        tenant: TenantId,
        brands: &[Uuid],
        key: &str,
    ) -> Result<Self, StoreError> {
        let found = template::newest(conn, tenant, brands, key).await?;
        Ok(Self {
            tenant,
            key: key.to_owned(),
            found: found
                .into_iter()
                .map(|t| ((t.brand_id, t.language.clone()), t))
                .collect(),
        })
    }

    /// The template for a customer's language, else the fallback's, else the shipped one.
    pub fn pick(&self, brand: Uuid, language: &str) -> (TemplateId, Option<&Template>) {
        let base = language.split('-').next().unwrap_or(language);
        let own = [language, base, FALLBACK_LANGUAGE]
            .into_iter()
            .find_map(|language| self.found.get(&(brand, language.to_owned())));
        let id = TemplateId {
            tenant: self.tenant,
            brand,
            key: self.key.clone(),
            language: own
                .map_or(FALLBACK_LANGUAGE, |t| &t.language[..])
                .to_owned(),
            version: own.map_or(0, |t| t.version),
        };
        (id, own)
    }
}

impl Templates {
    /// For so many threads that render, each letter for at most so long.
    pub fn new(render_threads: usize, letter_time: Duration) -> Self {
        Self {
            documents: Arc::default(),
            messages: Arc::default(),
            rendering: Arc::new(Semaphore::new(render_threads)),
            letter_time,
            runaways: Arc::default(),
            trying: Arc::new(Semaphore::new(TRIED_AT_ONCE)),
        }
    }

    /// Renders a letter by this version of a template when it is its turn, in a thread of its own, and waits no
    /// longer than letters may take. The thread of one without end goes on. So that a version takes no more threads
    /// than there are turns, none of its letters is begun as long as it does.
    pub async fn render<T: Send + 'static>(
        &self,
        id: &TemplateId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unrendered> {
        // Never closed.
        let turn = Arc::clone(&self.rendering).acquire_owned().await.ok();
        if self.runaways().contains(id) {
            return Err(Unrendered::NotBegun);
        }
        let (templates, id) = (self.clone(), id.clone());
        // A task of its own, for the turn comes back also when nobody waits for the letter any more, and not before
        // its thread has ended or its time is over.
        let watched = tokio::spawn(async move {
            let mut rendering = tokio::task::spawn_blocking(work);
            let time = templates.letter_time;
            if let Ok(rendered) = tokio::time::timeout(time, &mut rendering).await {
                return rendered.map_err(Unrendered::Broken);
            }
            templates.runs_away(&id);
            // Only now: whose turn is next knows of it.
            drop(turn);
            // It was slow, or the server stood still, when it comes to its end after all.
            tokio::spawn(async move {
                let _ = rendering.await;
                templates.runaways().remove(&id);
            });
            Err(Unrendered::TooLong(time))
        });
        watched.await?
    }

    fn runaways(&self) -> MutexGuard<'_, HashSet<TemplateId>> {
        self.runaways
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Remembers a version of a template that does not come to an end.
    fn runs_away(&self, id: &TemplateId) {
        if self.runaways().insert(id.clone()) {
            tracing::warn!(
                tenant = %id.tenant,
                brand = %id.brand,
                template = %id.key,
                language = %id.language,
                version = id.version,
                seconds = self.letter_time.as_secs(),
                "a letter takes too long: while it does, no more are made by this version of its template"
            );
        }
    }

    /// Does work with a template that nobody knows yet, in a thread of its own and not longer than
    /// twenty seconds.
    pub async fn try_out<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Untried> {
        let end = tokio::time::Instant::now() + LONGEST_TRIAL;
        let turn = Arc::clone(&self.trying).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout_at(end, turn).await else {
            return Err(Untried::Busy);
        };
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        match tokio::time::timeout_at(end, work).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Untried::Broken),
            Err(_) => Err(Untried::TooLong),
        }
    }

    /// The compiled document template for an offer.
    pub fn document(
        &self,
        newest: &Newest,
        content: &Content,
    ) -> Result<Arc<DocumentTemplate>, ContentError> {
        let (id, own) = newest.pick(content.brand_id, &content.language);
        compiled(&self.documents, &id, || {
            let source = match own {
                Some(t) => &t.typst_source[..],
                None if id.key == OFFER_LETTER => shipped::OFFER_LETTER_DE,
                None => return Err(ContentError::NoTemplate(id.key.clone())),
            };
            DocumentTemplate::compile(source).map_err(|e| ContentError::Template(join(&e)))
        })
    }

    /// The compiled message template of a brand for a customer's language, and the provider's id of it
    /// when it lies there.
    pub fn message<'a>(
        &self,
        newest: &'a Newest,
        brand: Uuid,
        language: &str,
    ) -> Result<(Arc<MessageTemplate>, Option<&'a str>), ContentError> {
        let (id, own) = newest.pick(brand, language);
        let compiled = compiled(&self.messages, &id, || {
            let variables = own.map(Template::variables).unwrap_or_default();
            let source = match own {
                Some(t) => MessageSource {
                    subject: &t.subject,
                    text: &t.text_body,
                    html: &t.html_body,
                    variables: &variables,
                },
                None => shipped_message(&id.key)
                    .ok_or_else(|| ContentError::NoTemplate(id.key.clone()))?,
            };
            let at_provider = own.is_some_and(|t| !t.provider_template.is_empty());
            compile_message(&id.key, &source, at_provider)
                .map_err(|e| ContentError::Template(join(&e)))
        })?;
        let provider = own.map(|t| &t.provider_template[..]);
        Ok((compiled, provider.filter(|id| !id.is_empty())))
    }
}

/// What a message template sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// An offer.
    Offer,
    /// The customer of a winback case.
    WinbackCase(MailTemplate),
    /// A planned contact.
    Contact,
    /// A request for an offer.
    OfferRequest,
}

/// What the template with this key sees.
pub fn sees(key: &str) -> Sees {
    let more = |rest: &str| rest.is_empty() || rest.starts_with('_');
    match of_key(key) {
        Some(template) => Sees::WinbackCase(template),
        None if key == OFFER_REQUEST => Sees::OfferRequest,
        None if key.strip_prefix(CONTACT_MISSED).is_some_and(more) => Sees::Contact,
        None => Sees::Offer,
    }
}

/// Compiles and checks a message template: its key says what it sees.
///
/// # Errors
/// All that is wrong with it.
pub fn compile_message(
    key: &str,
    source: &MessageSource<'_>,
    at_provider: bool,
) -> Result<MessageTemplate, Vec<TemplateError>> {
    match sees(key) {
        Sees::WinbackCase(template) => winback::compile(source, template, at_provider),
        Sees::Contact => MessageTemplate::compile_for_contacts(source),
        Sees::OfferRequest => MessageTemplate::compile_for_offer_requests(source),
        Sees::Offer => MessageTemplate::compile(source),
    }
}

/// The message templates that ship.
pub fn shipped_message(key: &str) -> Option<MessageSource<'static>> {
    match key {
        OFFER_MAIL => Some(shipped::OFFER_MAIL_DE),
        OFFER_TEXT => Some(shipped::OFFER_TEXT_DE),
        CONTACT_MISSED => Some(shipped::CONTACT_MISSED_DE),
        OFFER_REQUEST => Some(shipped::OFFER_REQUEST_DE),
        _ => None,
    }
}

fn join(errors: &[anklang_render::TemplateError]) -> String {
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    all.join("; ")
}

fn compiled<T>(
    cache: &Mutex<HashMap<TemplateId, Arc<T>>>,
    id: &TemplateId,
    compile: impl FnOnce() -> Result<T, ContentError>,
) -> Result<Arc<T>, ContentError> {
    let lock = || {
        cache
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    if let Some(found) = lock().get(id) {
        return Ok(Arc::clone(found));
    }
    // Not under the lock: compiling may take a while, and twice is no harm.
    let made = Arc::new(compile()?);
    let mut cache = lock();
    if cache.len() >= MAX_COMPILED {
        cache.clear();
    }
    cache.insert(id.clone(), Arc::clone(&made));
    Ok(made)
}

/// The data that templates see, with what is derived from it.
pub fn offer_data(content: &Content) -> Result<OfferData, ContentError> {
    data_of(content.model.clone())
}

/// The data of a model as [`Content`] has it, with what is derived from it.
pub fn data_of(model: Value) -> Result<OfferData, ContentError> {
    let mut data: OfferData = read(model)?;
    derive(&mut data.customer, &mut data.brand);
    Ok(data)
}

/// The data of a planned contact's model, with what is derived from it.
pub fn contact_data(model: Value) -> Result<ContactData, ContentError> {
    let mut data: ContactData = read(model)?;
    derive(&mut data.customer, &mut data.brand);
    data.contact.responsible = person(&data.contact.responsible);
    Ok(data)
}

/// The data of a notice's model, with what is derived from it.
pub fn offer_request_data(model: Value) -> Result<OfferRequestData, ContentError> {
    let mut data: OfferRequestData = read(model)?;
    derive(&mut data.customer, &mut data.brand);
    data.worker = person(&data.worker);
    // The model has the settings' template of it.
    data.customer_url = link(&data.customer_url, &data.customer.number);
    Ok(data)
}

/// Who a user or a role is, without the collection.
fn person(resource: &str) -> String {
    ["users", "roles"]
        .into_iter()
        .find_map(|collection| name::parse(resource, [collection]).ok())
        .map_or_else(String::new, |[id]| id)
}

/// Reads a model; what is derived from it comes later.
fn read<T: DeserializeOwned>(mut model: Value) -> Result<T, ContentError> {
    for (part, derived) in [
        ("customer", &["display_name", "salutation_line"][..]),
        ("brand", &["return_address_line"][..]),
    ] {
        for key in derived {
            model[part][key] = "".into();
        }
    }
    Ok(serde_json::from_value(model)?)
}

/// Fills in what is derived of a customer and a brand.
fn derive(customer: &mut Customer, brand: &mut Brand) {
    customer.salutation = match &customer.salutation[..] {
        "female" => "Frau",
        "male" => "Herr",
        _ => "",
    }
    .into();
    // A letter names the country only when it leaves the sender's own.
    customer.country = if customer.country == brand.country {
        String::new()
    } else {
        country_name(&customer.country)
    };
    brand.country = country_name(&brand.country);
    customer.display_name = if customer.company_name.is_empty() {
        joined(
            &[&customer.title, &customer.first_name, &customer.last_name],
            " ",
        )
    } else {
        customer.company_name.clone()
    };
    *customer = std::mem::take(customer).with_salutation_line();
    brand.return_address_line = joined(
        &[
            if brand.legal_name.is_empty() {
                &brand.name
            } else {
                &brand.legal_name
            },
            &joined(&[&brand.street, &brand.house_number], " "),
            &joined(&[&brand.postal_code, &brand.city], " "),
        ],
        " · ",
    );
}

/// The English name, which post offices everywhere read, of an ISO 3166-1 alpha-2 code.
fn country_name(code: &str) -> String {
    let country = code.parse::<iso_country::Country>();
    country.map_or_else(|_| code.to_owned(), |country| country.name().to_owned())
}

fn joined(parts: &[&str], separator: &str) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|p| !p.is_empty()).collect();
    parts.join(separator)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn letter(version: i32) -> TemplateId {
        TemplateId {
            tenant: TenantId(Uuid::from_u128(1)),
            brand: Uuid::from_u128(2),
            key: OFFER_LETTER.to_owned(),
            language: FALLBACK_LANGUAGE.to_owned(),
            version,
        }
    }

    /// One thread that renders, for a second.
    fn one_turn() -> Templates {
        Templates::new(1, Duration::from_secs(1))
    }

    #[tokio::test]
    async fn a_letter_without_end_is_given_up_and_its_version_not_begun_again() {
        let templates = one_turn();
        let (end, until_the_end) = mpsc::channel::<()>();
        let endless = move || until_the_end.recv().is_ok();
        let given_up = templates.render(&letter(1), endless).await;
        assert!(matches!(given_up, Err(Unrendered::TooLong(_))));
        // Its thread goes on, and others have the only turn.
        let again = templates.render(&letter(1), || 1).await;
        let words = again.expect_err("it is known").to_string();
        assert!(words.ends_with("was not begun"), "{words}");
        let mended = templates.render(&letter(2), || 2).await;
        assert!(matches!(mended, Ok(2)));
        // It was slow, and not without end.
        drop(end);
        while templates.runaways().contains(&letter(1)) {
            tokio::task::yield_now().await;
        }
        assert!(matches!(templates.render(&letter(1), || 1).await, Ok(1)));
    }

    #[tokio::test]
    async fn a_letter_for_which_nobody_waits_keeps_its_turn_no_longer_than_others() {
        let templates = one_turn();
        let (end, until_the_end) = mpsc::channel::<()>();
        let endless = move || until_the_end.recv().is_ok();
        let version = letter(1);
        let rendering = templates.render(&version, endless);
        let nobody = tokio::time::timeout(Duration::from_millis(10), rendering).await;
        assert!(nobody.is_err());
        let next = templates.render(&letter(2), || 2).await;
        assert!(matches!(next, Ok(2)));
        let again = templates.render(&version, || 1).await;
        assert!(matches!(again, Err(Unrendered::NotBegun)));
        drop(end);
    }

    #[tokio::test]
    async fn a_letter_that_breaks_gives_its_turn_back() {
        let templates = one_turn();
        let broken: Result<(), _> = templates.render(&letter(1), || panic!("broken")).await;
        assert!(matches!(broken, Err(Unrendered::Broken(_))));
        let again = templates.render(&letter(1), || 1).await;
        assert!(matches!(again, Ok(1)));
    }
}

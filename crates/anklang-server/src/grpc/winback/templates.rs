//! Senders of winback mails and previews of their templates; pools of vouchers in `vouchers.rs`.

use anklang_domain::master::contact;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::tenant::Tenant;
use anklang_store::winback::template::{self, Sender};
use anklang_store::winback::voucher;
use anklang_store::{Conn, customer};
use chrono::Utc;
use tonic::{Request, Response, Status};

use super::read_template;
use crate::content::{ContentError, Newest};
use crate::grpc::campaigns::check_word;
use crate::grpc::channels::account_of;
use crate::grpc::{ApiError, ApiResult, Change, caller, form, reply, tagged};
use crate::winback::{Data, PLACEHOLDER, values};
use crate::work::App;

/// The longest name of a sender, in characters.
const MAX_NAME: usize = 200;

/// The service.
pub struct WinbackTemplatesApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::winback_template_service_server::WinbackTemplateService for WinbackTemplatesApi {
    async fn get_winback_sender(
        &self,
        request: Request<pb::GetWinbackSenderRequest>,
    ) -> Result<Response<pb::WinbackSender>, Status> {
        reply(self.get_sender(request).await)
    }

    async fn update_winback_sender(
        &self,
        request: Request<pb::UpdateWinbackSenderRequest>,
    ) -> Result<Response<pb::WinbackSender>, Status> {
        reply(self.update_sender(request).await)
    }

    async fn preview_winback_mail(
        &self,
        request: Request<pb::PreviewWinbackMailRequest>,
    ) -> Result<Response<pb::PreviewWinbackMailResponse>, Status> {
        reply(self.preview(request).await)
    }

    async fn update_voucher_pool(
        &self,
        request: Request<pb::UpdateVoucherPoolRequest>,
    ) -> Result<Response<pb::VoucherPool>, Status> {
        reply(self.update_pool(request).await)
    }

    async fn get_voucher_pool(
        &self,
        request: Request<pb::GetVoucherPoolRequest>,
    ) -> Result<Response<pb::VoucherPool>, Status> {
        reply(self.get_pool(request).await)
    }

    async fn list_voucher_pools(
        &self,
        request: Request<pb::ListVoucherPoolsRequest>,
    ) -> Result<Response<pb::ListVoucherPoolsResponse>, Status> {
        reply(self.list_pools(request).await)
    }

    async fn generate_vouchers(
        &self,
        request: Request<pb::GenerateVouchersRequest>,
    ) -> Result<Response<pb::GenerateVouchersResponse>, Status> {
        reply(self.generate(request).await)
    }

    async fn list_vouchers(
        &self,
        request: Request<pb::ListVouchersRequest>,
    ) -> Result<Response<pb::ListVouchersResponse>, Status> {
        reply(self.list_vouchers(request).await)
    }
}

impl WinbackTemplatesApi {
    async fn get_sender(
        &self,
        request: Request<pb::GetWinbackSenderRequest>,
    ) -> ApiResult<pb::WinbackSender> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let [brand] = form::ids("name", &request.name, ["winbackSenders"])?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| template::sender(conn, tenant.id, &brand))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(request.name))
    }

    async fn update_sender(
        &self,
        request: Request<pb::UpdateWinbackSenderRequest>,
    ) -> ApiResult<pb::WinbackSender> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let given = request
            .winback_sender
            .ok_or_else(|| ApiError::field("winback_sender", "is required"))?;
        let brand = name::parse(&given.name, ["winbackSenders"]);
        let brand = violations.check("winback_sender.name", brand);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let Some([brand]) = brand else {
            return form::complete(violations, None);
        };
        hold(&mut tx, tenant.id, Held::Brand(&brand)).await?;
        let current = template::sender(&tx, tenant.id, &brand).await?;
        let name = given.name.clone();
        let wanted = change.settle(&name, current.map(to_wire), given, request.allow_missing)?;
        let sender = self.read(&mut tx, &tenant, &brand, &wanted, &mut violations);
        let sender = sender.await?;
        let sender = form::complete(violations, sender)?;
        let response = to_wire(template::save_sender(&mut tx, tenant.id, &sender).await?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    /// Reads and checks how a brand shall send; `None` exactly when something is wrong. A tenant's own
    /// account that it names stays until the end of the transaction.
    async fn read(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        brand: &str,
        wanted: &pb::WinbackSender,
        violations: &mut Violations,
    ) -> ApiResult<Option<Sender>> {
        let before = violations.iter().count();
        let field = |name: &str| format!("winback_sender.{name}");
        let at = field("channel_account");
        let account = (&at[..], &wanted.channel_account[..]);
        let account = account_of(&self.app, conn, tenant, "mail", account, violations).await?;
        check_word(violations, &field("purpose"), &wanted.purpose);
        let length = wanted.sender_name.chars().count();
        if length > MAX_NAME || wanted.sender_name.contains(char::is_control) {
            let why = format!("must have at most {MAX_NAME} characters, in one line");
            violations.add(field("sender_name"), why);
        }
        let mut address = |name: &str, given: &str| match given {
            "" => String::new(),
            given => violations
                .check(field(name), contact::mail(given))
                .unwrap_or_default(),
        };
        let sender_email = address("sender_email", &wanted.sender_email);
        let reply_to = address("reply_to", &wanted.reply_to);
        let pool_code = read_pool(conn, tenant, brand, &wanted.voucher_pool, violations).await?;
        if violations.iter().count() > before {
            return Ok(None);
        }
        Ok(account.map(|account| Sender {
            brand_code: brand.to_owned(),
            account,
            purpose: wanted.purpose.clone(),
            sender_name: wanted.sender_name.clone(),
            sender_email,
            reply_to,
            pool_code,
            has_standard: false,
            has_voucher: false,
        }))
    }

    async fn preview(
        &self,
        request: Request<pb::PreviewWinbackMailRequest>,
    ) -> ApiResult<pb::PreviewWinbackMailResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let number = violations.check("customer", name::parse(&request.customer, ["customers"]));
        let wanted = read_template(request.template(), &mut violations);
        let brand = match &request.brand[..] {
            "" => None,
            given => violations.check("brand", name::parse(given, ["brands"])),
        };
        let ([number], wanted) = form::complete(violations, number.zip(wanted))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if customer::get(&tx, tenant.id, &number).await?.is_none() {
            return Err(ApiError::NotFound(request.customer));
        }
        let brand = brand.as_ref().map(|[code]| &code[..]);
        let found = template::preview(&mut tx, tenant.id, &number, brand).await?;
        let mut facts = match (found, brand) {
            (Some(facts), _) => facts,
            (None, Some(_)) => return Err(ApiError::NotFound(request.brand)),
            (None, None) => {
                let why = "the last order names no brand, and there are several";
                return Err(missing(request.customer, why));
            }
        };
        let key = template::key(wanted);
        let newest = Newest::load(&mut tx, tenant.id, &[facts.brand_id], key).await?;
        tx.commit().await?;
        if wanted == anklang_domain::winback::MailTemplate::Voucher {
            facts.voucher = PLACEHOLDER.to_owned();
        }
        let brand = name::format(&[("brands", &facts.brand_code)]);
        let made = self
            .app
            .templates
            .message(&newest, facts.brand_id, &facts.language);
        let (compiled, provider) = made.map_err(|error| match error {
            ContentError::NoTemplate(_) => missing(brand.clone(), "the brand has no such template"),
            other => ApiError::Internal(other.to_string()),
        })?;
        let values = values(&facts, tenant.day(Utc::now()));
        let mail = compiled.render(&Data::new(&values, ""));
        let mail = mail.map_err(|error| missing(brand.clone(), &error.to_string()))?;
        let (id, _) = newest.pick(facts.brand_id, &facts.language);
        let shown = |text: String| match provider {
            None => text,
            Some(_) => String::new(),
        };
        let mut all = mail.variables;
        for (name, value) in values.for_mailjet() {
            all.entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        Ok(pb::PreviewWinbackMailResponse {
            brand,
            template_version: id.version,
            language: id.language,
            subject: mail.subject,
            text_body: shown(mail.text),
            html_body: shown(mail.html),
            provider_template: provider.unwrap_or_default().to_owned(),
            values: all,
        })
    }
}

/// The code of the pool that a sender names.
async fn read_pool(
    conn: &mut Conn,
    tenant: &Tenant,
    brand: &str,
    given: &str,
    violations: &mut Violations,
) -> ApiResult<Option<String>> {
    const FIELD: &str = "winback_sender.voucher_pool";
    if given.is_empty() {
        return Ok(None);
    }
    let parsed = violations.check(FIELD, name::parse(given, ["brands", "voucherPools"]));
    let Some([of, code]) = parsed else {
        return Ok(None);
    };
    if of != brand {
        violations.add(FIELD, "must be a pool of the same brand");
    } else if voucher::get(conn, tenant.id, brand, &code).await?.is_none() {
        violations.add(FIELD, "does not exist");
    } else {
        return Ok(Some(code));
    }
    Ok(None)
}

fn missing(resource: String, description: &str) -> ApiError {
    ApiError::Precondition {
        reason: ErrorReason::Precondition,
        resource,
        description: description.to_owned(),
    }
}

fn to_wire(sender: Sender) -> pb::WinbackSender {
    let templates = [
        (sender.has_standard, pb::WinbackTemplate::Standard),
        (sender.has_voucher, pb::WinbackTemplate::Voucher),
    ];
    let templates = templates.into_iter().filter(|(has, _)| *has);
    tagged(pb::WinbackSender {
        name: name::format(&[("winbackSenders", &sender.brand_code)]),
        channel_account: name::format(&[("channelAccounts", &sender.account)]),
        purpose: sender.purpose,
        sender_name: sender.sender_name,
        sender_email: sender.sender_email,
        reply_to: sender.reply_to,
        voucher_pool: sender
            .pool_code
            .map(|code| voucher::resource(&sender.brand_code, &code))
            .unwrap_or_default(),
        templates: templates.map(|(_, template)| template.into()).collect(),
        etag: String::new(),
    })
}

//! Pools of voucher codes: their rows, and new codes drawn by chance.

use anklang_domain::{Violations, name};
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::template::brand_exists;
use anklang_store::winback::voucher::{self, NewPool, Pool, Voucher};
use ring::rand::{SecureRandom, SystemRandom};
use tonic::Request;

use super::templates::WinbackTemplatesApi;
use crate::grpc::listing::Listing;
use crate::grpc::{ApiError, ApiResult, Change, caller, form, tagged, wire};

const COLLECTIONS: [&str; 2] = ["brands", "voucherPools"];

/// Letters and digits that nobody takes for others.
const ALPHABET: &[u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The most new codes of a call.
const MAX_COUNT: i32 = 100_000;
/// Codes that are added by one statement.
const AT_ONCE: usize = 10_000;
/// So often codes that the tenant has already are drawn anew.
const TRIES: usize = 5;
/// The longest texts, in characters.
const MAX_TEXT: usize = 200;
const MAX_PREFIX: usize = 24;

impl WinbackTemplatesApi {
    pub(super) async fn get_pool(
        &self,
        request: Request<pb::GetVoucherPoolRequest>,
    ) -> ApiResult<pb::VoucherPool> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let [brand, code] = form::ids("name", &request.name, COLLECTIONS)?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| voucher::get(conn, tenant.id, &brand, &code))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(request.name))
    }

    pub(super) async fn list_pools(
        &self,
        request: Request<pb::ListVoucherPoolsRequest>,
    ) -> ApiResult<pb::ListVoucherPoolsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let brand = violations
            .check("parent", name::parse(&request.parent, ["brands"]))
            .map(|[brand]| brand);
        let (keys, of) = (&self.app.keys, &voucher::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let brand = brand.filter(|b| b != "-");
        let tx = self.app.store.begin(tenant.id).await?;
        if let Some(code) = &brand
            && !brand_exists(&tx, tenant.id, code).await?
        {
            return Err(ApiError::NotFound(request.parent));
        }
        let page = voucher::list(&tx, tenant.id, brand, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListVoucherPoolsResponse {
            next_page_token: listing.token(page.next),
            voucher_pools: page.rows.into_iter().map(to_wire).collect(),
        })
    }

    pub(super) async fn update_pool(
        &self,
        request: Request<pb::UpdateVoucherPoolRequest>,
    ) -> ApiResult<pb::VoucherPool> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let given = request
            .voucher_pool
            .ok_or_else(|| ApiError::field("voucher_pool", "is required"))?;
        let key = violations.check("voucher_pool.name", name::parse(&given.name, COLLECTIONS));
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let Some([brand, code]) = key else {
            return form::complete(violations, None);
        };
        hold(&mut tx, tenant.id, Held::Brand(&brand)).await?;
        let current = voucher::get(&tx, tenant.id, &brand, &code).await?;
        let name = given.name.clone();
        let wanted = change.settle(&name, current.map(to_wire), given, request.allow_missing)?;
        if !is_id(&code) {
            let why = "the id must be 1 to 64 of A–Z, a–z, 0–9, _ and -, first a letter or digit";
            violations.add("voucher_pool.name", why);
        }
        for (field, text) in [
            ("voucher_pool.display_name", &wanted.display_name),
            ("voucher_pool.value_text", &wanted.value_text),
        ] {
            if text.chars().count() > MAX_TEXT || text.contains(char::is_control) {
                let why = format!("must have at most {MAX_TEXT} characters, in one line");
                violations.add(field, why);
            }
        }
        let until = wanted.valid_until_date.as_ref().map(wire::naive_date);
        let until = until.transpose();
        let until = violations.check("voucher_pool.valid_until_date", until);
        violations.finish(())?;
        let new = NewPool {
            brand_code: &brand,
            code: &code,
            display_name: &wanted.display_name,
            value_text: &wanted.value_text,
            valid_until: until.flatten(),
        };
        let response = to_wire(voucher::save(&mut tx, tenant.id, &new).await?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn generate(
        &self,
        request: Request<pb::GenerateVouchersRequest>,
    ) -> ApiResult<pb::GenerateVouchersResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let key = violations.check("name", name::parse(&request.name, COLLECTIONS));
        let wanted = read(&request, &mut violations);
        let ([brand, code], (count, length)) = form::complete(violations, key.zip(wanted))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let pool = voucher::get(&tx, tenant.id, &brand, &code).await?;
        let pool = pool.ok_or(ApiError::NotFound(request.name))?;
        let (mut left, mut tries) = (count, 0);
        while left > 0 {
            let codes = draw(left.min(AT_ONCE), length, &request.prefix)?;
            let wanted = codes.len();
            let added = voucher::add(&mut tx, tenant.id, pool.id, &codes).await?;
            left -= added;
            // Only short codes can meet others so often.
            tries = if added == wanted { 0 } else { tries + 1 };
            if tries > TRIES && added * 2 < wanted {
                let why = "most codes of this length are there already; take a greater one";
                return Err(ApiError::field("length", why));
            }
        }
        let pool = voucher::get(&tx, tenant.id, &brand, &code).await?;
        let response = pb::GenerateVouchersResponse {
            voucher_pool: pool.map(to_wire),
        };
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn list_vouchers(
        &self,
        request: Request<pb::ListVouchersRequest>,
    ) -> ApiResult<pb::ListVouchersResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let key = violations.check("parent", name::parse(&request.parent, COLLECTIONS));
        let (keys, of) = (&self.app.keys, &voucher::VOUCHERS);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        let [brand, code] = form::complete(violations, key)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let pool = voucher::get(&tx, tenant.id, &brand, &code).await?;
        let pool = pool.ok_or(ApiError::NotFound(request.parent))?;
        let page = voucher::vouchers(&mut tx, tenant.id, pool.id, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListVouchersResponse {
            next_page_token: listing.token(page.next),
            vouchers: page.rows.into_iter().map(code_to_wire).collect(),
        })
    }
}

/// Whether a text can be the id of a pool.
fn is_id(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&text.len())
        && text.bytes().all(is_word)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// How many codes, and how many characters of each are drawn.
fn read(
    request: &pb::GenerateVouchersRequest,
    violations: &mut Violations,
) -> Option<(usize, usize)> {
    if !(1..=MAX_COUNT).contains(&request.count) {
        violations.add("count", format!("must be 1 to {MAX_COUNT}"));
    }
    let length = match request.length {
        0 => 10,
        length => length,
    };
    if !(8..=32).contains(&length) {
        violations.add("length", "must be 8 to 32");
    }
    let is_plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
    if request.prefix.len() > MAX_PREFIX || !request.prefix.chars().all(is_plain) {
        let why = format!("must have at most {MAX_PREFIX} characters of A–Z, 0–9 and -");
        violations.add("prefix", why);
    }
    usize::try_from(request.count)
        .ok()
        .zip(usize::try_from(length).ok())
}

/// Draws codes.
fn draw(count: usize, length: usize, prefix: &str) -> ApiResult<Vec<String>> {
    let random = SystemRandom::new();
    let mut codes = Vec::with_capacity(count);
    let mut bytes = [0; 64];
    for _ in 0..count {
        let mut code = prefix.to_owned();
        let until = prefix.len() + length;
        while code.len() < until {
            let drawn = random.fill(&mut bytes);
            drawn.map_err(|_| ApiError::Internal("no random numbers".into()))?;
            // Every character is as likely as every other: those beyond the alphabet are drawn anew.
            let places = bytes.iter().map(|byte| usize::from(byte % 32));
            let drawn = places.filter_map(|place| ALPHABET.get(place));
            code.extend(drawn.map(|c| char::from(*c)).take(until - code.len()));
        }
        codes.push(code);
    }
    Ok(codes)
}

fn to_wire(pool: Pool) -> pb::VoucherPool {
    tagged(pb::VoucherPool {
        name: pool.resource(),
        display_name: pool.display_name,
        value_text: pool.value_text,
        valid_until_date: pool.valid_until.map(wire::date),
        voucher_count: pool.codes,
        left_count: pool.free,
        create_time: Some(wire::timestamp(pool.created_at)),
        update_time: Some(wire::timestamp(pool.updated_at)),
        etag: String::new(),
    })
}

fn code_to_wire(voucher: Voucher) -> pb::Voucher {
    let state = match &voucher.state[..] {
        "given" => pb::VoucherState::Given,
        _ => pb::VoucherState::Free,
    };
    pb::Voucher {
        code: voucher.code,
        state: state.into(),
        customer: voucher
            .customer_number
            .map(|number| name::format(&[("customers", &number)]))
            .unwrap_or_default(),
        give_time: voucher.given_at.map(wire::timestamp),
        create_time: Some(wire::timestamp(voucher.created_at)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_drawn_of_what_nobody_mistakes() {
        let codes = draw(2_000, 10, "S-").unwrap();
        let all: BTreeSet<&String> = codes.iter().collect();
        assert_eq!(all.len(), 2_000, "each once");
        let letters: BTreeSet<char> = codes.iter().flat_map(|code| code[2..].chars()).collect();
        let letters: String = letters.into_iter().collect();
        assert_eq!(letters, "23456789ABCDEFGHJKMNPQRSTVWXYZ");
        assert!(
            codes
                .iter()
                .all(|code| code.len() == 12 && code.starts_with("S-"))
        );
    }
}

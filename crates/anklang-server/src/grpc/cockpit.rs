//! What a desk looks at and sets: the open offers in numbers, and how offers are numbered.

use anklang_domain::offer::{MAX_OFFER_NUMBER, is_number_prefix};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::offers::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::offer::{self, NumberRange};
use chrono::{TimeDelta, Utc};
use tonic::Request;

use super::offers::OffersApi;
use super::{ApiError, ApiResult, Change, caller, tagged, wire};

/// Offers expire soon within at most so many days.
const MAX_EXPIRING_DAYS: i32 = 365;

impl OffersApi {
    /// Counts the open offers as of now.
    pub(super) async fn cockpit(
        &self,
        request: Request<pb::GetCockpitRequest>,
    ) -> ApiResult<pb::Cockpit> {
        let tenant = caller(&self.app.store, &request).await?;
        let days = request.into_inner().expiring_within_days;
        if !(0..=MAX_EXPIRING_DAYS).contains(&days) {
            let reason = format!("must be from 0 to {MAX_EXPIRING_DAYS}");
            return Err(ApiError::field("expiring_within_days", reason));
        }
        let now = Utc::now();
        let today = tenant.day(now);
        let until = today + TimeDelta::days(days.into());
        let mut tx = self.app.store.begin_read(tenant.id).await?;
        let rows = offer::open_figures(&mut tx, tenant.id, today, until).await?;
        tx.commit().await?;
        Ok(pb::Cockpit {
            rows: rows
                .into_iter()
                .map(|r| pb::OpenOfferFigures {
                    division: r.division,
                    count: r.count,
                    annual_amount: Some(wire::money(r.amount, &r.currency)),
                    oldest: name::format(&[("offers", &r.oldest)]),
                    oldest_create_time: Some(wire::timestamp(r.oldest_created_at)),
                    expiring_count: r.expiring,
                })
                .collect(),
            expiring_until_date: Some(wire::date(until)),
            as_of_time: Some(wire::timestamp(now)),
        })
    }

    /// How the next offer is numbered.
    pub(super) async fn number_range(
        &self,
        request: Request<pb::GetOfferNumberRangeRequest>,
    ) -> ApiResult<pb::OfferNumberRange> {
        let tenant = caller(&self.app.store, &request).await?;
        let range = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| offer::number_range(conn, tenant.id))
            .await?;
        Ok(range_to_wire(range))
    }

    /// Numbers the next offers in another way.
    pub(super) async fn set_number_range(
        &self,
        request: Request<pb::UpdateOfferNumberRangeRequest>,
    ) -> ApiResult<pb::OfferNumberRange> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut wanted = request
            .offer_number_range
            .ok_or_else(|| ApiError::field("offer_number_range", "is required"))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::OfferNumberRange).await?;
            let current = range_to_wire(offer::number_range(&tx, tenant.id).await?);
            wanted = change.settle("offerNumberRange", Some(current), wanted, false)?;
        }
        if !is_number_prefix(&wanted.prefix) {
            violations.add(
                "offer_number_range.prefix",
                "must be at most 16 of A–Z, 0–9 and ./_-, the last not a digit",
            );
        }
        if !(1..=MAX_OFFER_NUMBER).contains(&wanted.next_number) {
            violations.add(
                "offer_number_range.next_number",
                format!("must be from 1 to {MAX_OFFER_NUMBER}"),
            );
        }
        violations.finish(())?;
        let range = NumberRange {
            prefix: wanted.prefix,
            next_value: wanted.next_number,
        };
        offer::set_number_range(&mut tx, tenant.id, &range).await?;
        let response = range_to_wire(range);
        change.finish(tx, &response).await?;
        Ok(response)
    }
}

fn range_to_wire(range: NumberRange) -> pb::OfferNumberRange {
    tagged(pb::OfferNumberRange {
        prefix: range.prefix,
        next_number: range.next_value,
        etag: String::new(),
    })
}

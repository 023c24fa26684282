//! Looking for customers who drift away, and why one is a case or none.

use anklang_domain::winback::{Finding, NoCase, Periods};
use anklang_domain::{OperationId, Violations, name};
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Date;
use anklang_store::StoreError;
use anklang_store::operation::Operation;
use anklang_store::tenant::Tenant;
use anklang_store::winback::detection::{self, Detection, Fit, Model};
use anklang_store::winback::explain::{self, Explanation, Question};
use anklang_store::winback::judge::{self, View};
use anklang_store::winback::settings::{self, Settings};
use chrono::{NaiveDate, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tonic::Request;

use super::WinbackApi;
use super::settings::NAME;
use crate::grpc::listing::Listing;
use crate::grpc::operations::OperationsApi;
use crate::grpc::planning::contacts::word;
use crate::grpc::{ApiError, ApiResult, Change, caller, form, wire};
use crate::work::App;
use crate::work::winback::{Job, ask};

const COLLECTION: &str = "winbackDetections";

impl WinbackApi {
    pub(super) async fn detect(
        &self,
        request: Request<pb::DetectWinbackRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(before) = change.before(&mut tx).await? {
            return Ok(before);
        }
        let settings = settings::get(&tx, tenant.id).await?.settings;
        let as_of = request.as_of_date.as_ref();
        let (as_of, _) = as_of_date(as_of, &tenant, &settings, &mut violations);
        violations.finish(())?;
        let job = Job::new(as_of, request.trial, &tenant, Utc::now());
        let ready = judge::exclusions(&mut tx, &tenant, &settings, job.at).await;
        ready.map_err(refused)?;
        if change.is_trial() {
            return Ok(lro::Operation::default());
        }
        let operation = ask(&mut tx, tenant.id, OperationId::new(), &job).await?;
        let operation =
            operation.ok_or_else(|| ApiError::Internal("a detection of a fresh id".into()))?;
        let operations = OperationsApi {
            app: self.app.clone(),
        };
        let operation = operations.wire(operation).await?;
        if change.finish(tx, &operation).await? {
            self.app.wake.operations.notify_waiters();
        }
        Ok(operation)
    }

    pub(super) async fn get_detection(
        &self,
        request: Request<pb::GetWinbackDetectionRequest>,
    ) -> ApiResult<pb::WinbackDetection> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.check("name", name::parse_uuid(&request.name, COLLECTION));
        let id = OperationId(form::complete(violations, id)?);
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| detection::get(conn, tenant.id, id))
            .await?;
        Ok(to_wire(&found))
    }

    pub(super) async fn list_detections(
        &self,
        request: Request<pb::ListWinbackDetectionsRequest>,
    ) -> ApiResult<pb::ListWinbackDetectionsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &detection::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| detection::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListWinbackDetectionsResponse {
            winback_detections: page.rows.iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    pub(super) async fn explain(
        &self,
        request: Request<pb::ExplainWinbackRequest>,
    ) -> ApiResult<pb::WinbackExplanation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let number = violations.check("customer", name::parse(&request.customer, ["customers"]));
        // All of it as of one moment.
        let mut tx = self.app.store.begin_snapshot(tenant.id).await?;
        let version = settings::get(&tx, tenant.id).await?;
        let settings = &version.settings;
        let as_of = request.as_of_date.as_ref();
        let (as_of, periods) = as_of_date(as_of, &tenant, settings, &mut violations);
        let (periods, [number]) = form::complete(violations, periods.zip(number))?;
        let newest = detection::newest(&mut tx, tenant.id).await?;
        let model = newest.and_then(|newest| newest.model).unwrap_or_default();
        let question = Question {
            number: &number,
            as_of,
            at: Job::new(as_of, true, &tenant, Utc::now()).at,
        };
        let found = explain::explain(&mut tx, &tenant, settings, &model, question).await;
        tx.commit().await?;
        let found = found.map_err(refused)?;
        let found = found.ok_or_else(|| ApiError::NotFound(request.customer.clone()))?;
        let mut explained = explanation(&found, &periods, settings);
        explained.customer = request.customer;
        explained.as_of_date = Some(wire::date(as_of));
        explained.settings_version = version.version;
        Ok(explained)
    }
}

/// Stored exclusions that do not hold any more are no fault of the request's.
fn refused(error: StoreError) -> ApiError {
    match error {
        StoreError::Invalid(wrong) => ApiError::Store(StoreError::Refused {
            resource: NAME.into(),
            reason: wrong.to_string(),
        }),
        other => other.into(),
    }
}

/// The day that is looked at, and its periods: today unless another is given, and not after it.
fn as_of_date(
    given: Option<&Date>,
    tenant: &Tenant,
    settings: &Settings,
    violations: &mut Violations,
) -> (NaiveDate, Option<Periods>) {
    let today = tenant.day(Utc::now());
    let read = given.map_or(Ok(today), wire::naive_date);
    let Some(day) = violations.check("as_of_date", read) else {
        return (today, None);
    };
    if day > today {
        violations.add("as_of_date", format!("must not be after today, {today}"));
        return (today, None);
    }
    let periods = settings.detection.comparison.periods(day);
    (day, violations.check("as_of_date", periods))
}

/// What a detection that is over found.
pub async fn response(app: &App, operation: &Operation) -> ApiResult<pb::WinbackDetection> {
    let tenant = operation.tenant();
    let found = app
        .store
        .read(tenant)
        .ask(|conn| detection::get(conn, tenant, operation.id()))
        .await?;
    Ok(to_wire(&found))
}

fn to_wire(detection: &Detection) -> pb::WinbackDetection {
    let shown = pb::WinbackDetection {
        name: detection::resource(detection.id.0),
        as_of_date: Some(wire::date(detection.as_of)),
        settings_version: detection.settings_version,
        trial: detection.is_trial,
        model: detection.model.as_ref().map(model),
        create_time: Some(wire::timestamp(detection.created_at)),
        done_time: detection.done_at.map(wire::timestamp),
        ..Default::default()
    };
    if detection.done_at.is_none() {
        return shown;
    }
    let tally = &detection.tally;
    let money = |amount| Some(wire::money(amount, &detection.currency));
    let reasons = tally.reasons.iter().map(|figure| pb::WinbackReasonFigure {
        reason: reason(&figure.reason),
        exclusion: figure.exclusion.clone(),
        count: figure.count,
    });
    let mut reasons: Vec<_> = reasons.collect();
    reasons.sort_by(|a, b| (a.reason, &a.exclusion).cmp(&(b.reason, &b.exclusion)));
    pb::WinbackDetection {
        customers: tally.customers,
        opened_cases: tally.opened,
        refreshed_cases: tally.refreshed,
        unchanged_cases: tally.unchanged,
        resting_customers: tally.rested,
        returned_customers: tally.returned,
        drop: money(tally.dropped),
        at_stake: money(tally.at_stake),
        reasons,
        ..shown
    }
}

fn reason(word_of: &str) -> i32 {
    word::<pb::WinbackReason>("WINBACK_REASON_", word_of)
}

fn model(model: &Model) -> pb::WinbackModel {
    let season = model.season.known().cloned().map(Vec::from);
    let season = season.unwrap_or_default().into_iter();
    pb::WinbackModel {
        customers: model.customers,
        season: season.map(number).collect(),
        no_season: model.season.missing().to_owned(),
        frequency: model.often.known().map(|often| pb::WinbackFrequencyModel {
            r: often.r,
            alpha: often.alpha,
            a: often.a,
            b: often.b,
            fit: Some(fit(&often.fit)),
        }),
        no_frequency: model.often.missing().to_owned(),
        value: model.value.known().map(|value| pb::WinbackValueModel {
            p: value.p,
            q: value.q,
            gamma: value.gamma,
            fit: Some(fit(&value.fit)),
        }),
        no_value: model.value.missing().to_owned(),
        value_left_out: model.left_out,
    }
}

fn fit(fit: &Fit) -> pb::WinbackFit {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    pb::WinbackFit {
        customers: count(fit.customers),
        log_likelihood: fit.log_likelihood,
        iterations: count(fit.iterations),
        gradient_norm: fit.gradient_norm,
        at_bounds: fit.at_bounds.clone(),
    }
}

fn number(value: Decimal) -> f64 {
    value.to_f64().unwrap_or_default()
}

fn explanation(
    found: &Explanation,
    periods: &Periods,
    settings: &Settings,
) -> pb::WinbackExplanation {
    let currency = &settings.currency;
    let money = |amount| Some(wire::money(amount, currency));
    let date = |date| Some(wire::date(date));
    let mut explained = pb::WinbackExplanation {
        then_first_date: date(periods.then.first()),
        then_last_date: date(periods.then.last()),
        now_first_date: date(periods.now.first()),
        now_last_date: date(periods.now.last()),
        product_groups: i32::try_from(found.lost.had).unwrap_or(i32::MAX),
        view: view(&found.view, currency),
        has_open_case: found.open_case.is_some(),
        rests_until_date: found.rests_until.map(wire::date),
        ..Default::default()
    };
    let lost = found
        .lost
        .lost
        .iter()
        .map(|(group, revenue)| pb::WinbackLostGroup {
            product_group: group.clone(),
            revenue_then: money(*revenue),
        });
    explained.lost_groups = lost.collect();
    if let Some(figures) = &found.figures {
        explained.orders = figures.orders;
        explained.revenue = money(figures.revenue);
        explained.first_order_date = date(figures.first_order);
        explained.last_order_date = date(figures.last_order);
        explained.revenue_then = money(figures.revenue_then);
        explained.revenue_now = money(figures.revenue_now);
    }
    match &found.finding {
        Finding::Case(decline) => {
            explained.drifting = true;
            explained.decline = Some(pb::WinbackDecline {
                known_days: i32::try_from(decline.known_days).unwrap_or(i32::MAX),
                season: number(decline.season),
                expected: money(decline.expected),
                actual: money(decline.actual),
                drop: money(decline.drop),
                drop_percent: number(decline.drop_percent),
            });
        }
        Finding::NoCase(reasons) => explained.reasons = reasons.iter().map(no_case).collect(),
    }
    explained
}

fn no_case(why: &NoCase) -> pb::WinbackNoCase {
    pb::WinbackNoCase {
        reason: reason(why.word()),
        message: why.to_string(),
    }
}

fn view(view: &View, currency: &str) -> Option<pb::WinbackView> {
    let money = |amount| wire::money(amount, currency);
    let order_value = view
        .order_value
        .and_then(|value| Decimal::try_from(value).ok());
    Some(pb::WinbackView {
        alive: view.alive?,
        purchases: view.purchases.unwrap_or_default(),
        order_value: order_value.map(|value| money(value.round_dp(2))),
        at_stake: view.at_stake.map(money),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_domain_is_one_of_the_api() {
        for known in NoCase::WORDS {
            assert_ne!(reason(known), 0, "{known}");
        }
    }
}

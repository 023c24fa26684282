//! Figures of cases and of what was done with them.

use anklang_domain::Violations;
use anklang_domain::name;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::tenant::Tenant;
use anklang_store::winback::analysis::{self, Dimension, Figures, MAX_DIMENSIONS, Price, Question};
use anklang_store::winback::settings;
use chrono::NaiveDate;
use pb::WinbackDimension as Wire;
use tonic::Request;

use super::claims::{LONGEST_GROUP, MAX_GROUPS, brands};
use super::{WinbackCasesApi, wire};
use crate::accounts::Accounts;
use crate::grpc::planning::contacts::word;
use crate::grpc::wire::{date, money, rate};
use crate::grpc::work_list::read::{group_by, max_groups, people, range, words};
use crate::grpc::{ApiResult, caller_in_units, form};

impl WinbackCasesApi {
    pub(super) async fn analyse(
        &self,
        request: Request<pb::AnalyseWinbackRequest>,
    ) -> ApiResult<pb::AnalyseWinbackResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let v = &mut violations;
        let days = range(v, request.first_date.as_ref(), request.last_date.as_ref());
        let group_by = group_by(v, &request.group_by, MAX_DIMENSIONS, dimension);
        let workers = people(v, "workers", &request.workers, &["users"]);
        let brands = brands(&request.brands, v);
        let groups = &request.customer_groups;
        let groups = words(v, "customer_groups", groups, MAX_GROUPS, LONGEST_GROUP);
        let limit = max_groups(v, request.max_groups);
        let (first, last) = form::complete(violations, days)?;
        // The planner shall see the values: a day is not a year.
        let mut tx = store.begin_read(tenant.id).await?;
        let currency = settings::get(&tx, tenant.id).await?.settings.currency;
        // Who is bound sees no accounts, and which of these are hidden by others: no costs are known.
        let prices = match tx.is_bound() {
            true => Vec::new(),
            false => prices(&self.app.accounts, tenant, &currency),
        };
        let question = Question {
            first,
            last,
            time_zone: tenant.time_zone.name(),
            group_by: &group_by,
            workers: &workers,
            brands: &brands,
            groups: &groups,
            currency: &currency,
            prices: &prices,
            limit,
        };
        let found = analysis::analyse(&mut tx, tenant.id, &question).await?;
        tx.commit().await?;
        let groups = found.groups.iter();
        Ok(pb::AnalyseWinbackResponse {
            groups: groups.map(|g| group(&group_by, g, &currency)).collect(),
            more: found.more,
            total: Some(figures(&found.total, &currency)),
        })
    }
}

/// What messages cost through the accounts of the configuration file.
fn prices(accounts: &Accounts, tenant: &Tenant, currency: &str) -> Vec<Price> {
    let theirs = accounts
        .configured()
        .filter(|account| account.is_for(tenant));
    let priced = theirs.filter_map(|account| {
        let (cost, _) = account.cost.as_ref().filter(|(_, c)| c == currency)?;
        Some(Price {
            account: account.id.clone(),
            cost: *cost,
        })
    });
    priced.collect()
}

fn dimension(wire: i32) -> Option<Dimension> {
    Some(match Wire::try_from(wire).ok()? {
        Wire::Unspecified => return None,
        Wire::Week => Dimension::Week,
        Wire::Worker => Dimension::Worker,
        Wire::Template => Dimension::Template,
        Wire::Brand => Dimension::Brand,
        Wire::Reason => Dimension::Reason,
    })
}

fn group(group_by: &[Dimension], found: &Figures, currency: &str) -> pb::WinbackGroup {
    let mut group = pb::WinbackGroup {
        figures: Some(figures(found, currency)),
        ..Default::default()
    };
    let filled = group_by.iter().zip(&found.keys);
    for (dimension, key) in filled.filter(|(_, key)| !key.is_empty()) {
        match dimension {
            Dimension::Week => {
                group.week = NaiveDate::parse_from_str(key, "%Y-%m-%d").ok().map(date);
            }
            Dimension::Worker => group.worker.clone_from(key),
            Dimension::Template => {
                group.template = word::<pb::WinbackTemplate>("WINBACK_TEMPLATE_", key);
            }
            Dimension::Brand => group.brand = name::format(&[("brands", key)]),
            Dimension::Reason => group.reason = wire::reason(key),
        }
    }
    group
}

fn figures(f: &Figures, currency: &str) -> pb::WinbackFigures {
    pb::WinbackFigures {
        opened_count: f.opened,
        mail_count: f.mails,
        offer_request_count: f.offer_requests,
        contacted_count: f.contacted,
        recovered_count: f.recovered,
        recovered_share: rate(f.recovered, f.contacted),
        reminder_count: f.reminders,
        no_interest_count: f.no_interest,
        won_back_count: f.won_back,
        won_after_contact_count: f.won_after_contact,
        revenue: Some(money(f.revenue, currency)),
        revenue_after_contact: Some(money(f.revenue_after_contact, currency)),
        other_currency_count: f.other_currency,
        sent_count: f.sent,
        cost: Some(money(f.cost, currency)),
        unknown_cost_count: f.unknown_cost,
        voucher_count: f.vouchers,
    }
}

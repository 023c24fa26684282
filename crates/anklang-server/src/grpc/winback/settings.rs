//! What a tenant sets for winback.

use anklang_domain::winback::{Comparison, DetectionSettings, Exclusion, MOST_EXCLUSIONS};
use anklang_domain::{Violation, Violations, name};
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::r#type::Money;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::calendar;
use anklang_store::tenant::Tenant;
use anklang_store::winback::judge;
use anklang_store::winback::settings::{self, Links, Settings, Version};
use anklang_store::{Conn, StoreError};
use chrono::Utc;
use pb::WinbackComparisonKind as Kind;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tonic::Request;

use super::WinbackApi;
use crate::grpc::channels::account_of;
use crate::grpc::listing::Listing;
use crate::grpc::planning::is_person;
use crate::grpc::{ApiError, ApiResult, Change, caller, tagged, wire};

/// The one name of a tenant's settings.
pub(super) const NAME: &str = "winbackSettings";
const PREFIX: &str = "winback_settings.";

/// Fields of the domain's settings that have another name in the message, as beginnings of paths.
const RENAMED: [(&str, &str); 7] = [
    ("groups", "customer_groups"),
    ("excluded_groups", "excluded_customer_groups"),
    ("currency", "currency_code"),
    ("links.customer", "customer_link"),
    ("links.product", "product_link"),
    ("links.order", "order_link"),
    ("calendar", "workday_calendar"),
];

impl WinbackApi {
    pub(super) async fn get_settings(
        &self,
        request: Request<pb::GetWinbackSettingsRequest>,
    ) -> ApiResult<pb::WinbackSettings> {
        let tenant = caller(&self.app.store, &request).await?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| settings::get(conn, tenant.id))
            .await?;
        Ok(tagged(to_wire(&found)))
    }

    pub(super) async fn update_settings(
        &self,
        request: Request<pb::UpdateWinbackSettingsRequest>,
    ) -> ApiResult<pb::WinbackSettings> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let Some(mut wanted) = request.winback_settings else {
            return Err(ApiError::field("winback_settings", "is required"));
        };
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        // Before the account that they name, as whoever deletes that.
        hold(&mut tx, tenant.id, Held::WinbackSettings).await?;
        if change.looks() {
            let current = tagged(to_wire(&settings::get(&tx, tenant.id).await?));
            let called = std::mem::take(&mut wanted.name);
            wanted = change.settle(NAME, Some(current), wanted, false)?;
            wanted.name = called;
        }
        if !["", NAME].contains(&&wanted.name[..]) {
            violations.add("winback_settings.name", format!("must be {NAME}"));
        }
        let user = user("user", &request.user, &mut violations);
        let account = wanted.offer_mail_account.clone();
        let mut wanted = read(wanted, &mut violations);
        if !account.is_empty() {
            let account = ("winback_settings.offer_mail_account", &account[..]);
            let found = account_of(
                &self.app,
                &mut tx,
                &tenant,
                "mail",
                account,
                &mut violations,
            );
            wanted.offer_mail_account = found.await?.unwrap_or_default();
        }
        check_names(&mut tx, &tenant, &wanted, &mut violations).await?;
        violations.finish(())?;
        let saved = settings::save(&mut tx, tenant.id, &wanted, &user).await?;
        let response = tagged(to_wire(&saved));
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn list_settings(
        &self,
        request: Request<pb::ListWinbackSettingsVersionsRequest>,
    ) -> ApiResult<pb::ListWinbackSettingsVersionsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &settings::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| settings::list(conn, tenant.id, &listing.list))
            .await?;
        let versions = page.rows.iter().map(|row| pb::WinbackSettingsVersion {
            version: row.version,
            winback_settings: Some(to_wire(row)),
            changed_by: row.changed_by.clone(),
            create_time: row.created_at.map(wire::timestamp),
        });
        Ok(pb::ListWinbackSettingsVersionsResponse {
            winback_settings_versions: versions.collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

/// A person's name, as names are written; may be empty.
fn user(field: &str, given: &str, violations: &mut Violations) -> String {
    if given.is_empty() {
        return String::new();
    }
    let read = name::parse(given, ["users"]).ok();
    let known = read.filter(|[id]| is_person(id));
    known.map_or_else(
        || {
            violations.add(
                field,
                "must be users/{user} of 1 to 64 characters, or empty",
            );
            String::new()
        },
        |[id]| name::format(&[("users", &id)]),
    )
}

/// Settings from the wire; all that is wrong is told.
fn read(wanted: pb::WinbackSettings, violations: &mut Violations) -> Settings {
    let at = |field: &str| format!("{PREFIX}{field}");
    let currency = wanted.currency_code;
    let mut money = |field: &str, money: Option<Money>| {
        let read = money.map_or(Ok(Decimal::ZERO), |money| amount(&money, &currency));
        violations.check(at(field), read).unwrap_or_default()
    };
    let least_revenue = money("least_revenue", wanted.least_revenue);
    let least_drop = money("least_drop", wanted.least_drop);
    let percent = Decimal::try_from(wanted.least_drop_percent);
    let percent = percent.map_err(|_| "must be a number above 0 and at most 100");
    let percent = violations.check(at("least_drop_percent"), percent);
    let comparison = comparison(wanted.comparison, violations);
    let mut exclusions = Vec::new();
    // One more than there may be is refused by the settings themselves.
    let given = wanted.exclusions.into_iter().take(MOST_EXCLUSIONS + 1);
    for (i, exclusion) in given.enumerate() {
        let selection = name::parse_uuid(&exclusion.selection, "selections");
        let selection = violations.check(at(&format!("exclusions[{i}].selection")), selection);
        exclusions.push(Exclusion {
            name: exclusion.display_name,
            selection: selection.unwrap_or_default(),
        });
    }
    let mut calendar = None;
    if !wanted.workday_calendar.is_empty() {
        let id = name::parse(&wanted.workday_calendar, ["workdayCalendars"]);
        calendar = violations.check(at("workday_calendar"), id).map(|[id]| id);
    }
    // What is below zero is out of every range.
    let days = |days: i32| u32::try_from(days).unwrap_or(u32::MAX);
    let settings = Settings {
        detection: DetectionSettings {
            groups: wanted.customer_groups,
            excluded_groups: wanted.excluded_customer_groups,
            least_orders: days(wanted.least_orders),
            least_revenue,
            exclusions,
            comparison,
            least_drop_percent: percent.unwrap_or(Decimal::ONE_HUNDRED).normalize(),
            least_drop,
            least_known_days: days(wanted.least_known_days),
        },
        currency,
        reminder_days: days(wanted.reminder_days),
        calendar,
        win_window_days: days(wanted.win_window_days),
        rest_days: days(wanted.rest_days),
        control_percent: wanted.control_percent,
        links: Links {
            customer: wanted.customer_link,
            product: wanted.product_link,
            order: wanted.order_link,
        },
        offer_mail_to: wanted.offer_mail_to.trim().to_owned(),
        // Looked up by the caller.
        offer_mail_account: String::new(),
        nightly: wanted.nightly,
    };
    for Violation { field, reason } in settings.violations().into_vec() {
        violations.add(at(&renamed(&field)), reason);
    }
    settings
}

/// The path in the message of a field of the domain's settings.
fn renamed(field: &str) -> String {
    if let Some(exclusion) = field.strip_suffix(".name") {
        return format!("{exclusion}.display_name");
    }
    let (stem, index) = match field.find('[') {
        Some(place) => field.split_at(place),
        None => (field, ""),
    };
    let known = RENAMED.iter().find(|(own, _)| *own == stem);
    format!("{}{index}", known.map_or(stem, |(_, name)| name))
}

/// An amount in the settings' currency.
fn amount(money: &Money, currency: &str) -> Result<Decimal, String> {
    if !["", currency].contains(&&money.currency_code[..]) {
        return Err(format!(
            "must be in {currency}, the currency of the settings"
        ));
    }
    Ok(wire::amount(money)?.normalize())
}

fn comparison(given: Option<pb::WinbackComparison>, violations: &mut Violations) -> Comparison {
    let at = |field: &str| format!("{PREFIX}comparison{field}");
    // In place of what is missing: one with which everything else can be right.
    let neutral = Comparison::YearBefore { days: 364 };
    let Some(given) = given else {
        violations.add(at(""), "is required");
        return neutral;
    };
    let days = u32::try_from(given.days).unwrap_or(0);
    match given.kind() {
        Kind::Preceding => Comparison::Preceding {
            days,
            season: given.season,
        },
        Kind::YearBefore => {
            if given.season {
                violations.add(
                    at(".season"),
                    "must be false: both periods have the same season",
                );
            }
            Comparison::YearBefore { days }
        }
        Kind::Unspecified => {
            violations.add(at(".kind"), "is required");
            neutral
        }
    }
}

/// Refuses calendars and selections that there are not, or that are none of customers.
async fn check_names(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Settings,
    violations: &mut Violations,
) -> ApiResult<()> {
    if let Some(id) = &wanted.calendar
        && calendar::get(conn, tenant.id, id).await?.is_none()
    {
        let reason = format!("{} does not exist", calendar::resource(id));
        violations.add("winback_settings.workday_calendar", reason);
    }
    match judge::exclusions(conn, tenant, wanted, Utc::now()).await {
        Ok(_) => {}
        Err(StoreError::Invalid(wrong)) => {
            for Violation { field, reason } in wrong.into_vec() {
                let field = format!("{PREFIX}{field}");
                // A name that could not be read is told already.
                if !violations.iter().any(|known| known.field == field) {
                    violations.add(field, reason);
                }
            }
        }
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

/// Settings on the wire, without an etag.
fn to_wire(version: &Version) -> pb::WinbackSettings {
    let settings = &version.settings;
    let detection = &settings.detection;
    let money = |amount| Some(wire::money(amount, &settings.currency));
    let days = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    let exclusions = detection
        .exclusions
        .iter()
        .map(|exclusion| pb::WinbackExclusion {
            display_name: exclusion.name.clone(),
            selection: name::format(&[("selections", &exclusion.selection.to_string())]),
        });
    let kind = match detection.comparison {
        Comparison::Preceding { .. } => Kind::Preceding,
        Comparison::YearBefore { .. } => Kind::YearBefore,
    };
    pb::WinbackSettings {
        name: NAME.into(),
        version: version.version,
        currency_code: settings.currency.clone(),
        customer_groups: detection.groups.clone(),
        excluded_customer_groups: detection.excluded_groups.clone(),
        least_orders: days(detection.least_orders),
        least_revenue: money(detection.least_revenue),
        exclusions: exclusions.collect(),
        comparison: Some(pb::WinbackComparison {
            kind: kind.into(),
            days: days(detection.comparison.days()),
            season: detection.comparison.season(),
        }),
        least_drop_percent: detection.least_drop_percent.to_f64().unwrap_or_default(),
        least_drop: money(detection.least_drop),
        least_known_days: days(detection.least_known_days),
        reminder_days: days(settings.reminder_days),
        workday_calendar: settings
            .calendar
            .as_deref()
            .map_or_else(String::new, calendar::resource),
        win_window_days: days(settings.win_window_days),
        rest_days: days(settings.rest_days),
        control_percent: settings.control_percent,
        customer_link: settings.links.customer.clone(),
        product_link: settings.links.product.clone(),
        order_link: settings.links.order.clone(),
        offer_mail_to: settings.offer_mail_to.clone(),
        offer_mail_account: match &settings.offer_mail_account[..] {
            "" => String::new(),
            id => name::format(&[("channelAccounts", id)]),
        },
        nightly: settings.nightly,
        changed_by: version.changed_by.clone(),
        update_time: version.created_at.map(wire::timestamp),
        etag: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_domain_have_their_path_in_the_message() {
        for (own, path) in [
            ("groups[3]", "customer_groups[3]"),
            ("excluded_groups", "excluded_customer_groups"),
            ("exclusions[1].name", "exclusions[1].display_name"),
            ("links.order", "order_link"),
            ("comparison.days", "comparison.days"),
            ("least_drop", "least_drop"),
        ] {
            assert_eq!(renamed(own), path);
        }
    }

    #[test]
    fn what_is_stored_reads_as_it_was() {
        let version = Version {
            version: 3,
            settings: Settings {
                calendar: Some("firma".into()),
                ..Settings::default()
            },
            changed_by: "users/bea".into(),
            created_at: None,
        };
        let mut violations = Violations::new();
        assert_eq!(read(to_wire(&version), &mut violations), version.settings);
        assert!(violations.is_empty(), "{violations}");
    }
}

//! Routes.

use anklang_domain::route::{self, Entry, FAILOVER_AFTER, LONGEST_FAILOVER_AFTER};
use anklang_domain::{Violations, account, name};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_store::Conn;
use anklang_store::channel_route::{self as store, NewRoute, Route};
use anklang_store::hold::{Held, hold};
use anklang_store::tenant::Tenant;
use chrono::TimeDelta;
use tonic::Request;

use super::settings::MAX_NAME;
use super::{ChannelsApi, ID_FORM, account_name, channel_of};
use crate::grpc::campaigns::text_of;
use crate::grpc::listing::Listing;
use crate::grpc::wire::timestamp;
use crate::grpc::{ApiError, ApiResult, Change, caller, form, tagged};

/// The most characters in the name of a channel.
const MAX_CHANNEL: usize = 50;

/// A route as it came, checked.
struct Wanted {
    display_name: String,
    channel: String,
    entries: Vec<Entry>,
    failover_after: TimeDelta,
}

impl Wanted {
    fn under<'a>(&'a self, id: &'a str) -> NewRoute<'a> {
        NewRoute {
            id,
            display_name: match &self.display_name[..] {
                "" => id,
                name => name,
            },
            channel: &self.channel,
            entries: &self.entries,
            failover_after: self.failover_after,
        }
    }
}

impl ChannelsApi {
    pub(super) async fn create_route(
        &self,
        request: Request<pb::CreateChannelRouteRequest>,
    ) -> ApiResult<pb::ChannelRoute> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = &request.channel_route_id[..];
        if !account::is_id(id) {
            violations.add("channel_route_id", ID_FORM);
        }
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let given = request.channel_route.as_ref();
        let wanted = self.read(&mut tx, &tenant, given, &mut violations).await?;
        let wanted = form::complete(violations, wanted)?;
        let made = store::create(&mut tx, tenant.id, &wanted.under(id)).await?;
        let response = to_wire(&made.ok_or_else(|| ApiError::AlreadyExists(route_name(id)))?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn route(
        &self,
        request: Request<pb::GetChannelRouteRequest>,
    ) -> ApiResult<pb::ChannelRoute> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let [id] = form::ids("name", &name, ["channelRoutes"])?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| store::get(conn, tenant.id, &id))
            .await?;
        found.as_ref().map(to_wire).ok_or(ApiError::NotFound(name))
    }

    pub(super) async fn routes(
        &self,
        request: Request<pb::ListChannelRoutesRequest>,
    ) -> ApiResult<pb::ListChannelRoutesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &store::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| store::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListChannelRoutesResponse {
            channel_routes: page.rows.iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    pub(super) async fn update_route(
        &self,
        request: Request<pb::UpdateChannelRouteRequest>,
    ) -> ApiResult<pb::ChannelRoute> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let given = request.channel_route.unwrap_or_default();
        let id = name::parse(&given.name, ["channelRoutes"]);
        let id = violations.check("channel_route.name", id);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let Some([id]) = id else {
            return form::complete(violations, None);
        };
        let current = held(&mut tx, &tenant, &id).await?;
        let name = route_name(&id);
        let given = change.settle(&name, Some(to_wire(&current)), given, false)?;
        if given.channel != current.channel {
            violations.add("channel_route.channel", "cannot be changed");
        }
        let wanted = self.read(&mut tx, &tenant, Some(&given), &mut violations);
        let wanted = wanted.await?;
        let wanted = form::complete(violations, wanted)?;
        let saved = store::save(&mut tx, tenant.id, &wanted.under(&id)).await?;
        let response = to_wire(&saved);
        if change.finish(tx, &response).await? {
            self.app.wake.accounts.notify_waiters();
        }
        Ok(response)
    }

    pub(super) async fn delete_route(
        &self,
        request: Request<pb::DeleteChannelRouteRequest>,
    ) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse(&request.name, ["channelRoutes"]));
        let [id] = form::complete(violations, id)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let current = held(&mut tx, &tenant, &id).await?;
        change.check(&request.name, &to_wire(&current))?;
        store::delete(&mut tx, tenant.id, &id).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }

    /// Reads and checks a route; `None` exactly when something is wrong. The tenant's accounts that it
    /// names then stay until the end of the transaction.
    async fn read(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        given: Option<&pb::ChannelRoute>,
        violations: &mut Violations,
    ) -> ApiResult<Option<Wanted>> {
        let Some(given) = given else {
            violations.add("channel_route", "is required");
            return Ok(None);
        };
        let before = violations.iter().count();
        let at = |field: &str| format!("channel_route.{field}");
        text_of(
            violations,
            &at("display_name"),
            &given.display_name,
            0,
            MAX_NAME,
        );
        if given.channel.is_empty() {
            violations.add(at("channel"), "is required");
        } else if given.channel.chars().count() > MAX_CHANNEL {
            let reason = format!("must have at most {MAX_CHANNEL} characters");
            violations.add(at("channel"), reason);
        }
        let failover_after = failover_after(given, violations);
        let mut entries = Vec::new();
        for (i, entry) in given.entries.iter().take(route::MAX_ENTRIES).enumerate() {
            let field = format!("channel_route.entries[{i}].channel_account");
            let id = name::parse(&entry.channel_account, ["channelAccounts"]);
            let id = violations.check(&field, id).map(|[id]| id);
            if let Some(id) = &id {
                match channel_of(&self.app, conn, tenant, id).await? {
                    None => violations.add(field, "does not exist"),
                    Some(channel) if channel != given.channel => {
                        violations.add(field, format!("serves {channel}, not the route's channel"));
                    }
                    Some(_) => {}
                }
            }
            let or_one = |n| if n == 0 { 1 } else { n };
            entries.push(Entry {
                // Those that do not read are told, and each as itself.
                account: id.unwrap_or_else(|| format!("/{i}")),
                priority: or_one(entry.priority),
                share: or_one(entry.share),
            });
        }
        let count = given.entries.len();
        form::at_most(violations, &at("entries"), count, route::MAX_ENTRIES);
        route::check(&entries, &at("entries"), violations);
        if violations.iter().count() > before {
            return Ok(None);
        }
        Ok(failover_after.map(|failover_after| Wanted {
            display_name: given.display_name.trim().to_owned(),
            channel: given.channel.clone(),
            entries,
            failover_after,
        }))
    }
}

fn failover_after(given: &pb::ChannelRoute, violations: &mut Violations) -> Option<TimeDelta> {
    let Some(span) = &given.failover_after else {
        return Some(FAILOVER_AFTER);
    };
    let longest = LONGEST_FAILOVER_AFTER.num_seconds();
    if span.nanos != 0 || !(1..=longest).contains(&span.seconds) {
        let reason = format!("must be whole seconds, from 1 to {longest}");
        violations.add("channel_route.failover_after", reason);
        return None;
    }
    Some(TimeDelta::seconds(span.seconds))
}

/// A route that does not change until the end of the transaction.
async fn held(conn: &mut Conn, tenant: &Tenant, id: &str) -> ApiResult<Route> {
    hold(conn, tenant.id, Held::ChannelRoute(id)).await?;
    let found = store::get(conn, tenant.id, id).await?;
    found.ok_or_else(|| ApiError::NotFound(route_name(id)))
}

fn route_name(id: &str) -> String {
    name::format(&[("channelRoutes", id)])
}

fn to_wire(route: &Route) -> pb::ChannelRoute {
    let entries = route.entries().into_iter();
    tagged(pb::ChannelRoute {
        name: route_name(&route.id),
        display_name: route.display_name.clone(),
        channel: route.channel.clone(),
        entries: entries
            .map(|entry| pb::ChannelRouteEntry {
                channel_account: account_name(&entry.account),
                priority: entry.priority,
                share: entry.share,
            })
            .collect(),
        failover_after: Some(prost_types::Duration {
            seconds: route.failover_after().num_seconds(),
            nanos: 0,
        }),
        create_time: Some(timestamp(route.created_at)),
        update_time: Some(timestamp(route.updated_at)),
        etag: String::new(),
    })
}

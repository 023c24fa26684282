//! The six tiles.

use anklang_domain::winback::{CaseState, Tile};
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::winback::case::tiles::{self, Group, Moments};
use anklang_store::winback::settings;
use chrono::{TimeDelta, Utc};
use rust_decimal::Decimal;
use tonic::Request;

use super::WinbackCasesApi;
use super::read::tile_to_wire;
use crate::grpc::wire::{money, timestamp};
use crate::grpc::{ApiResult, caller_in_units};

/// What changes are told of.
const WEEK: TimeDelta = TimeDelta::days(7);

/// The tiles with the states of the cases on them.
const TILES: [(Tile, CaseState); 6] = [
    (Tile::Declining, CaseState::Declining),
    (Tile::ReminderDue, CaseState::Reminder),
    (Tile::OfferRequested, CaseState::OfferRequested),
    (Tile::Mailed, CaseState::Mailed),
    (Tile::NoInterest, CaseState::NoInterest),
    (Tile::WonBack, CaseState::WonBack),
];

impl WinbackCasesApi {
    pub(super) async fn tiles(
        &self,
        request: Request<pb::GetWinbackTilesRequest>,
    ) -> ApiResult<pb::WinbackTiles> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let now = Utc::now();
        let since = now - WEEK;
        let at = Moments {
            today: tenant.day(now),
            since,
            since_day: tenant.day(since),
        };
        let mut tx = store.begin_read(tenant.id).await?;
        let currency = settings::get(&tx, tenant.id).await?.settings.currency;
        let groups = tiles::groups(&mut tx, tenant.id, at, &currency).await?;
        tx.commit().await?;
        let (waiting_count, _) = sums(&groups, "waiting", |group| i64::from(group.is_there));
        Ok(pb::WinbackTiles {
            tiles: (TILES.iter())
                .map(|(tile, state)| figures(*tile, state.as_str(), &groups, &currency))
                .collect(),
            waiting_count,
            as_of_time: Some(timestamp(now)),
            changes_since_time: Some(timestamp(since)),
        })
    }
}

fn figures(tile: Tile, state: &str, groups: &[Group], currency: &str) -> pb::WinbackTileFigures {
    let (count, at_stake) = sums(groups, state, |group| i64::from(group.is_there));
    let (count_change, stake_change) = sums(groups, state, |group| group.change.into());
    pb::WinbackTileFigures {
        tile: tile_to_wire(tile).into(),
        count,
        at_stake: Some(money(at_stake, currency)),
        count_change,
        at_stake_change: Some(money(stake_change, currency)),
    }
}

/// Count and sum of the groups of a tile, each as often as it counts.
fn sums(groups: &[Group], tile: &str, times: impl Fn(&Group) -> i64) -> (i64, Decimal) {
    let of_tile = groups.iter().filter(|group| group.tile == tile);
    of_tile.fold((0, Decimal::ZERO), |(count, sum), group| {
        let times = times(group);
        (
            count + times * group.count,
            sum + Decimal::from(times) * group.at_stake,
        )
    })
}

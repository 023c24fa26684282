//! The six tiles.

use anklang_domain::winback::CaseState;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::winback::case::settings;
use anklang_store::winback::case::tiles::{self, Group, Moments};
use chrono::{TimeDelta, Utc};
use rust_decimal::Decimal;
use tonic::Request;

use super::WinbackCasesApi;
use super::read::tile_to_wire;
use crate::grpc::wire::{money, timestamp};
use crate::grpc::{ApiResult, caller};
use anklang_domain::winback::Tile;

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
        let tenant = caller(&self.app.store, &request).await?;
        let now = Utc::now();
        let since = now - WEEK;
        let at = Moments {
            today: tenant.day(now),
            since,
            since_day: tenant.day(since),
        };
        let mut tx = self.app.store.begin_snapshot(tenant.id).await?;
        let currency = settings::working(&mut tx, tenant.id).await?.currency;
        let groups = tiles::groups(&mut tx, tenant.id, at, &currency).await?;
        tx.commit().await?;
        let waiting = groups.iter().filter(|group| group.tile == "waiting");
        Ok(pb::WinbackTiles {
            tiles: (TILES.iter())
                .map(|(tile, state)| figures(*tile, state.as_str(), &groups, &currency))
                .collect(),
            waiting_count: waiting.map(|group| group.count).sum(),
            as_of_time: Some(timestamp(now)),
            changes_since_time: Some(timestamp(since)),
        })
    }
}

fn figures(tile: Tile, state: &str, groups: &[Group], currency: &str) -> pb::WinbackTileFigures {
    let sums = |lies: &dyn Fn(&Group) -> bool| {
        let on = groups.iter().filter(|group| lies(group));
        on.fold((0, Decimal::ZERO), |(count, sum), group| {
            (count + group.count, sum + group.at_stake)
        })
    };
    let (count, at_stake) = sums(&|group| group.tile == state);
    let (before, stake_before) = sums(&|group| group.before.as_deref() == Some(state));
    pb::WinbackTileFigures {
        tile: tile_to_wire(tile).into(),
        count,
        at_stake: Some(money(at_stake, currency)),
        count_change: count - before,
        at_stake_change: Some(money(at_stake - stake_before, currency)),
    }
}

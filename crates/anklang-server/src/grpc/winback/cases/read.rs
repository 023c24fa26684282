//! What requests about cases have in common.

use anklang_domain::winback::{MOST_NOTE, NoInterestReason, Tile};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::winback::v1 as pb;
use uuid::Uuid;

use crate::grpc::work_list::read;

const TILES: [(pb::WinbackTile, Tile); 6] = [
    (pb::WinbackTile::Declining, Tile::Declining),
    (pb::WinbackTile::ReminderDue, Tile::ReminderDue),
    (pb::WinbackTile::OfferRequested, Tile::OfferRequested),
    (pb::WinbackTile::Mailed, Tile::Mailed),
    (pb::WinbackTile::NoInterest, Tile::NoInterest),
    (pb::WinbackTile::WonBack, Tile::WonBack),
];

/// A tile on the wire.
pub(in crate::grpc::winback) fn tile_to_wire(tile: Tile) -> pb::WinbackTile {
    let found = TILES.iter().find(|(_, t)| *t == tile);
    found.map_or(pb::WinbackTile::Unspecified, |(wire, _)| *wire)
}

/// The tile of a request; none for all.
pub(super) fn tile(violations: &mut Violations, given: i32) -> Option<Tile> {
    let wire = violations.check(
        "tile",
        pb::WinbackTile::try_from(given).map_err(|_| "is no tile"),
    )?;
    let found = TILES.iter().find(|(w, _)| *w == wire);
    found.map(|(_, tile)| *tile)
}

/// The tile of a request that is about open cases; none for all.
pub(in crate::grpc::winback) fn open_tile(violations: &mut Violations, given: i32) -> Option<Tile> {
    let tile = tile(violations, given);
    if matches!(tile, Some(Tile::NoInterest | Tile::WonBack)) {
        violations.add("tile", "has closed cases, with which nothing is to be done");
    }
    tile
}

pub(in crate::grpc::winback) fn case(
    violations: &mut Violations,
    field: &str,
    given: &str,
) -> Option<Uuid> {
    violations.check(field, name::parse_uuid(given, "winbackCases"))
}

pub(super) fn worker(violations: &mut Violations, given: &str) -> Option<String> {
    read::person(violations, "worker", given, &["users"])
}

/// A claim that may be missing. The outer `None` is one that is wrong.
pub(in crate::grpc::winback) fn claim(
    violations: &mut Violations,
    given: &str,
) -> Option<Option<Uuid>> {
    match given {
        "" => Some(None),
        text => read::claim(violations, text).map(Some),
    }
}

/// A text that must be there.
pub(super) fn text(violations: &mut Violations, field: &str, given: &str) {
    if given.trim().is_empty() {
        violations.add(field, "is required");
    }
    read::text(violations, field, given, MOST_NOTE);
}

/// A text that may be empty.
pub(super) fn note(violations: &mut Violations, given: &str) {
    read::text(violations, "note", given, MOST_NOTE);
}

const REASONS: [(pb::NoInterestReason, NoInterestReason); 8] = [
    (pb::NoInterestReason::Price, NoInterestReason::Price),
    (
        pb::NoInterestReason::Competitor,
        NoInterestReason::Competitor,
    ),
    (pb::NoInterestReason::Quality, NoInterestReason::Quality),
    (pb::NoInterestReason::Service, NoInterestReason::Service),
    (pb::NoInterestReason::NoNeed, NoInterestReason::NoNeed),
    (pb::NoInterestReason::Gone, NoInterestReason::Gone),
    (pb::NoInterestReason::NoContact, NoInterestReason::NoContact),
    (pb::NoInterestReason::Other, NoInterestReason::Other),
];

pub(super) fn reason(violations: &mut Violations, given: i32) -> Option<NoInterestReason> {
    let known = pb::NoInterestReason::try_from(given).ok();
    let found = REASONS.iter().find(|(wire, _)| Some(*wire) == known);
    let what = match given {
        0 => "is required",
        _ => "is no reason",
    };
    violations.check("reason", found.map(|(_, reason)| *reason).ok_or(what))
}

//! Audiences: who was found, and who of them was left out.

use anklang_domain::{PhaseId, TenantId};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Uuid as SqlUuid};

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result};

/// Which candidates of an audience to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// All.
    Both,
    /// Members.
    Members,
    /// Those left out.
    Excluded,
}

/// A candidate of an audience.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Candidate {
    /// Its place, by contract number.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Contract number.
    #[diesel(sql_type = Text)]
    pub contract_number: String,
    /// Why it was left out.
    #[diesel(sql_type = Nullable<Text>)]
    pub exclusion: Option<String>,
    /// Number of its offer, once made.
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
}

/// Why a candidate is left out, in lists.
pub(crate) const EXCLUSION_REASON: Field = Field::nullable(
    "exclusion_reason",
    Kind::Word(
        "EXCLUSION_REASON_",
        &[
            "deselected",
            "contract_ended",
            "contract_terminated",
            "contract_ending",
            "other_division",
            "already_on_target",
            "no_quantity",
            "open_offer",
            "no_address",
            "suppressed",
            "no_consent",
            "duplicate_household",
            "frequency_cap",
        ],
    ),
    "exclusion",
);

/// What the candidates of an audience are listed by.
pub static CANDIDATES: Listable = Listable {
    fields: &[
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "contract",
            &[Part::new("contracts", "contract_number", PartType::Text)],
        ),
        EXCLUSION_REASON,
        Field::resource(
            "offer",
            &[Part::new("offers", "offer_number", PartType::Text)],
        ),
    ],
    key: &[Sort::key("seq", "::bigint", false)],
};

/// A page of an audience's candidates, by contract number if not otherwise wanted.
pub async fn candidates(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
    side: Side,
    exclusion: Option<&'static str>,
    list: &List,
) -> Result<Page<Candidate>> {
    let members = match side {
        Side::Both => None,
        Side::Members => Some(true),
        Side::Excluded => Some(false),
    };
    let base = Statement::numbered(
        "SELECT m.seq, cu.number AS customer_number, co.number AS contract_number, m.exclusion,
                o.number AS offer_number
         FROM audience_member m
         JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
         JOIN contract co ON co.tenant_id = m.tenant_id AND co.id = m.contract_id
         LEFT JOIN offer o ON o.tenant_id = m.tenant_id AND o.phase_id = m.phase_id
                          AND o.member_seq = m.seq
         WHERE m.tenant_id = $1 AND m.phase_id = $2
           AND ($3 IS NULL OR (m.exclusion IS NULL) = $3)
           AND ($4 IS NULL OR m.exclusion = $4)",
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<SqlUuid, _>(phase.0),
            bound::<Nullable<Bool>, _>(members),
            bound::<Nullable<Text>, _>(exclusion),
        ],
    );
    list.load(conn, base).await
}

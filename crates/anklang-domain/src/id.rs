//! Typed ids: UUIDs of version 7, so that they sort by the time of their making.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id of version 7.
            #[expect(clippy::new_without_default, reason = "a fresh id is no default value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

typed_ids! {
    /// One company using the service.
    TenantId,
    /// A brand.
    BrandId,
    /// A product.
    ProductId,
    /// A product version.
    ProductVersionId,
    /// A customer.
    CustomerId,
    /// A contract.
    ContractId,
    /// A selection.
    SelectionId,
    /// A campaign.
    CampaignId,
    /// A phase of a campaign, and its audience.
    PhaseId,
    /// An outbound of a phase.
    OutboundId,
    /// An offer.
    OfferId,
    /// A message; also its idempotency key.
    MessageId,
    /// A message that came in.
    InboundMessageId,
    /// A webhook.
    WebhookId,
    /// An event that is handed over; also what receivers tell repetitions by.
    EventId,
    /// A long-running operation.
    OperationId,
}

//! Control groups: customers who are left alone, so that it shows what contacts bring.
//!
//! Who is in it hangs on nothing but the campaign's seed and the customer:
//!
//! ```text
//! the first 8 bytes of SHA-256(seed ‖ customer), as a number from 0 to 2⁶⁴ − 1, below share · 2⁶⁴
//! ```
//!
//! (both as the 16 bytes of their UUIDs). That is as good as drawing lots, and it is the same on every
//! server and after every crash, in whatever order customers come; a customer who joins later is
//! decided without another being decided anew; and a greater share keeps those of a smaller one. A store
//! can draw in SQL: `substr(sha256(uuid_send(seed) || uuid_send(id)), 1, 8) < threshold`.
//!
//! The share is met in the mean, not to the person: of n customers about √(n · share · (1 − share)) more
//! or fewer are in the group.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Greatest share in percent.
pub const MOST_CONTROL_PERCENT: f64 = 50.0;

/// The control group of one campaign.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlGroup {
    seed: Uuid,
    threshold: u64,
}

impl ControlGroup {
    /// A group of so many percent, 0 to [`MOST_CONTROL_PERCENT`]. The seed is drawn once for each
    /// campaign: with the same one it would always be the same customers who are left alone.
    ///
    /// # Errors
    /// What is wrong with the share, for people.
    pub fn new(seed: Uuid, percent: f64) -> Result<ControlGroup, &'static str> {
        if !(0.0..=MOST_CONTROL_PERCENT).contains(&percent) {
            return Err("must be 0 to 50 percent");
        }
        // A half at most, so this is below 2^64.
        let threshold = (percent / 100.0 * 2f64.powi(64)) as u64;
        Ok(ControlGroup { seed, threshold })
    }

    /// Whether a customer is left alone.
    pub fn contains(&self, customer: Uuid) -> bool {
        lot(self.seed, customer) < self.threshold
    }

    /// What the first 8 bytes of the hash must be below, byte by byte.
    pub fn threshold(&self) -> [u8; 8] {
        self.threshold.to_be_bytes()
    }
}

fn lot(seed: Uuid, customer: Uuid) -> u64 {
    let hash = Sha256::new()
        .chain_update(seed.as_bytes())
        .chain_update(customer.as_bytes())
        .finalize();
    let (first, _) = hash
        .split_first_chunk()
        .expect("a SHA-256 has more than 8 bytes");
    u64::from_be_bytes(*first)
}

//! How many tries there are, and which.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::mailing::seeded;

/// One in so many tries of a short series comes out in each way that it may, at least.
const SHARE: usize = 25;

/// A short and always the same series of tries, or others for as long as asked for.
pub struct Series {
    pub rng: ChaCha8Rng,
    few: usize,
    end: Option<Instant>,
}

impl Series {
    pub fn of(few: usize) -> Self {
        let seconds = std::env::var("ANKLANG_TEST_GARBAGE_SECONDS").ok();
        let long = seconds.map(|text| Duration::from_secs(text.parse().unwrap()));
        Series {
            rng: match long {
                Some(_) => seeded(),
                None => ChaCha8Rng::seed_from_u64(1),
            },
            few,
            end: long.map(|long| Instant::now() + long),
        }
    }

    /// Whether there is a try of that number, from zero.
    pub fn has(&self, n: usize) -> bool {
        match self.end {
            Some(end) => Instant::now() < end,
            None => n < self.few,
        }
    }

    /// Checks that some came out in a way: a fair share of the short series, any of others.
    #[track_caller]
    pub fn had(&self, what: &str, came: usize) {
        let least = match self.end {
            Some(_) => 1,
            None => self.few / SHARE,
        };
        assert!(came >= least, "{what}: {came}, not {least}");
    }
}

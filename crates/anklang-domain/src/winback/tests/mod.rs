//! Tests of winback, by theme.

mod cases;
mod cdnow;
mod models;
mod recovery;
mod rules;
mod tenant;
mod variables;

/// Numbers of 0 to 1, always the same.
fn chance(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

//! Winback: customers who drift away.

mod cases;
pub mod desk;
mod export;
mod together;

//! Winback: customers who drift away.

pub mod case;

//! products.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]
#[path = "e2e/imports.rs"]
mod imports;
#[path = "e2e/master_data.rs"]
mod master_data;

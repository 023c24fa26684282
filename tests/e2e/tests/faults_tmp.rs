#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]
#[path = "e2e/mailing.rs"]
mod mailing;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/crash.rs"]
mod crash;

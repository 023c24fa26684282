//! What plugins tell of their work, on its way to whoever takes it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::Telemetry;
use crate::board::Switchboard;

/// Passes telemetry on until the instance is closed. Who takes it knows the account, and writes the
/// log.
pub(crate) async fn forward(
    board: Arc<Switchboard>,
    mut from: mpsc::Receiver<Telemetry>,
    to: mpsc::Sender<Telemetry>,
) {
    while let Some(telemetry) = from.recv().await {
        // Whoever does not take telemetry in time does without.
        if to.try_send(telemetry).is_err() {
            board.dropped_telemetry();
        }
    }
}

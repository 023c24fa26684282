//! Logs of plugins, as events of `tracing`.

use std::sync::Arc;

use anklang_plugin_proto::v1::log_event::Level;
use tokio::sync::mpsc;

use crate::Telemetry;
use crate::board::Switchboard;

/// Passes telemetry on until the instance is closed, and writes logs to `tracing` on the way.
/// A task of its own, because a subscriber may block and a plugin must not wait for it.
pub(crate) async fn forward(
    board: Arc<Switchboard>,
    plugin: String,
    instance: u64,
    mut from: mpsc::Receiver<Telemetry>,
    to: mpsc::Sender<Telemetry>,
) {
    while let Some(telemetry) = from.recv().await {
        if let Telemetry::Log(event) = &telemetry {
            let (message, fields) = (event.message.as_str(), &event.fields);
            match event.level() {
                Level::Debug => tracing::debug!(plugin, instance, ?fields, "{message}"),
                Level::Unspecified | Level::Info => {
                    tracing::info!(plugin, instance, ?fields, "{message}");
                }
                Level::Warn => tracing::warn!(plugin, instance, ?fields, "{message}"),
                Level::Error => tracing::error!(plugin, instance, ?fields, "{message}"),
            }
        }
        // Whoever does not take telemetry in time does without.
        if to.try_send(telemetry).is_err() {
            board.dropped_telemetry();
        }
    }
}

//! Files that are read anew while the server runs: of its port's TLS, of tokens.

use std::future::Future;
use std::time::Duration;

use anklang_domain::Violations;
use tokio_util::sync::CancellationToken;

use crate::telemetry::meters;

/// What goes by files. They count together: when they do not fit, all stays as it was before.
pub trait Reload: Send {
    /// What it is, at the beginning of a line of the log.
    const WHAT: &'static str;

    /// What metrics call its files.
    const FILES: &'static str;

    /// How often to look at them.
    fn every(&self) -> Duration;

    /// Looks at them, and goes on with what is new and fits. Whether there was anything.
    fn look(&mut self) -> impl Future<Output = Result<bool, Violations>> + Send;
}

/// Looks again and again until `stop`. What does not fit the log says once, and a metric as long as it lies there.
pub async fn follow<R: Reload>(mut files: R, stop: CancellationToken) {
    let mut told = None;
    meters::files_refused(R::FILES, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(files.every()) => {}
        }
        let looked = files.look().await;
        meters::files_refused(R::FILES, looked.is_err());
        match looked {
            Ok(news) => {
                if news {
                    tracing::info!("{} goes on with new files", R::WHAT);
                }
                told = None;
            }
            Err(violations) if told.as_ref() == Some(&violations) => {}
            Err(violations) => {
                tracing::error!(
                    %violations,
                    "{} goes on with the files as they were before",
                    R::WHAT
                );
                told = Some(violations);
            }
        }
    }
}

//! Files that are read anew while the server runs: of its port's TLS, of tokens, of the certificate that the database
//! is shown.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use anklang_domain::Violations;
use futures::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::telemetry::meters;

/// A look that takes longer is a fault of the files: what they lie on does not answer.
const LONGEST_LOOK: Duration = Duration::from_secs(30);

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
        let looking = async {
            tokio::time::sleep(files.every()).await;
            look(&mut files, LONGEST_LOOK, &mut told).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = looking => {}
        }
    }
}

/// Looks once, and tells what has come of it.
async fn look<R: Reload>(files: &mut R, patience: Duration, told: &mut Option<Violations>) {
    let mut looking = pin!(AssertUnwindSafe(files.look()).catch_unwind());
    let looked = match timeout(patience, looking.as_mut()).await {
        Ok(looked) => looked,
        Err(_) => {
            tell::<R>(
                Err(fault(R::WHAT, "its files cannot be read in time")),
                told,
            );
            // Another look would hang beside it.
            looking.await
        }
    };
    let looked = looked.unwrap_or_else(|_| Err(fault(R::WHAT, PANICKED)));
    tell::<R>(looked, told);
}

fn tell<R: Reload>(looked: Result<bool, Violations>, told: &mut Option<Violations>) {
    meters::files_refused(R::FILES, looked.is_err());
    match looked {
        Ok(news) => {
            if news {
                tracing::info!("{} goes on with new files", R::WHAT);
            }
            *told = None;
        }
        Err(violations) if told.as_ref() == Some(&violations) => {}
        Err(violations) => {
            tracing::error!(
                %violations,
                "{} goes on with the files as they were before",
                R::WHAT
            );
            *told = Some(violations);
        }
    }
}

/// Reads files where that keeps nobody else waiting.
pub async fn read<T: Send + 'static>(
    what: &'static str,
    reading: impl FnOnce() -> Result<T, Violations> + Send + 'static,
) -> Result<T, Violations> {
    let read = tokio::task::spawn_blocking(reading).await;
    read.unwrap_or_else(|_| Err(fault(what, PANICKED)))
}

const PANICKED: &str = "reading its files panicked; see the log";

fn fault(what: &str, why: &str) -> Violations {
    let mut violations = Violations::new();
    violations.add(what, why);
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a look comes to.
    enum Files {
        Good,
        Panics,
        Hangs,
        Slow,
    }

    impl Reload for Files {
        const WHAT: &'static str = "The list";
        const FILES: &'static str = "list";

        fn every(&self) -> Duration {
            Duration::ZERO
        }

        async fn look(&mut self) -> Result<bool, Violations> {
            match self {
                Files::Good => Ok(false),
                Files::Panics => panic!("as told"),
                Files::Hangs => std::future::pending().await,
                Files::Slow => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(false)
                }
            }
        }
    }

    async fn told(mut files: Files) -> Option<String> {
        let mut told = None;
        let looking = look(&mut files, Duration::from_millis(20), &mut told);
        // One that hangs is given up here; whoever follows waits on.
        let _ = timeout(Duration::from_secs(3), looking).await;
        told.map(|violations| violations.to_string())
    }

    #[tokio::test]
    async fn a_look_that_panics_or_hangs_is_a_fault_until_one_is_good() {
        assert_eq!(told(Files::Good).await, None);
        let panicked = told(Files::Panics).await.expect("a fault");
        assert!(panicked.contains("panicked"), "{panicked}");
        let hung = told(Files::Hangs).await.expect("a fault");
        assert!(hung.contains("in time"), "{hung}");
        assert_eq!(told(Files::Slow).await, None, "it came all the same");
    }

    #[tokio::test]
    async fn reading_that_panics_is_a_fault() {
        let read = read::<()>("The list", || panic!("as told")).await;
        let fault = read.expect_err("a fault").to_string();
        assert!(
            fault.contains("The list: reading its files panicked"),
            "{fault}"
        );
    }
}

//! Files and exports on their way, part by part.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use futures::{FutureExt, Stream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::ApiError;
use crate::work::App;

/// So long parts go on when the server stops, or half as long as calls may: most are over by then, and some cannot go
/// on elsewhere.
const LAST: Duration = Duration::from_secs(5);

/// The parts until the server stops: a while later there comes no further one, and the client is told to go on at
/// another server, as long as there is a connection to say so. What has just come to its end has ended well.
pub fn until_stopped<T: Send + 'static>(
    app: &App,
    parts: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> BoxStream<'static, Result<T, Status>> {
    until(
        &app.stopping,
        LAST.min(app.config.shutdown_grace / 2),
        parts,
    )
}

/// The time runs also while nobody takes a part.
fn until<T: Send + 'static>(
    stopping: &CancellationToken,
    last: Duration,
    parts: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> BoxStream<'static, Result<T, Status>> {
    let stopping = stopping.clone();
    let late = AbortOnDropHandle::new(tokio::spawn(async move {
        stopping.cancelled().await;
        sleep(last).await;
    }));
    let under_way = (parts.boxed(), late);
    let parts = stream::unfold(Some(under_way), |under_way| async move {
        let (mut parts, mut late) = under_way?;
        tokio::select! {
            biased;
            _ = &mut late => match parts.next().now_or_never() {
                Some(None) => None,
                _ => Some((Err(Status::from(stops())), None)),
            },
            part = parts.next() => part.map(|part| (part, Some((parts, late)))),
        }
    });
    parts.boxed()
}

/// What ends an answer in parts, or an import, when the server stops.
pub fn stops() -> ApiError {
    ApiError::Unavailable("the server stops; go on from what it has told last".to_owned())
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    /// What comes of endless parts when the server stops after the first two.
    #[tokio::test(start_paused = true)]
    async fn parts_end_a_while_after_the_server_stops() {
        let stopping = CancellationToken::new();
        let endless = stream::iter(0..).map(Ok);
        let mut parts = until(&stopping, LAST, endless);
        for wanted in 0..2 {
            let part = parts.next().await.expect("a part").expect("no fault");
            assert_eq!(part, wanted);
        }
        stopping.cancel();
        let part = parts.next().await.expect("a part").expect("no fault");
        assert_eq!(part, 2, "most are over soon");
        // Nobody takes one meanwhile.
        sleep(LAST + Duration::from_millis(1)).await;
        let status = parts.next().await.expect("an end").expect_err("it stops");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(parts.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_told_and_what_is_over_is_over() {
        let stopping = CancellationToken::new();
        let mut silent = until(&stopping, LAST, stream::pending::<Result<(), Status>>());
        let mut whole = until(&stopping, LAST, stream::iter([Ok(1)]));
        assert!(silent.next().now_or_never().is_none());
        assert_eq!(whole.next().await.expect("a part").expect("no fault"), 1);
        stopping.cancel();
        let status = silent.next().await.expect("an end").expect_err("it stops");
        assert_eq!(status.code(), Code::Unavailable);
        assert!(whole.next().await.is_none());
    }
}

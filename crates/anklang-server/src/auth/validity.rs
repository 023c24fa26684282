//! How long who calls is known, and answers that end with it: a stream does not outlive its token.

use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use anklang_store::call::Call;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::sleep;

use super::tokens::Listed;
use crate::grpc::error::ApiError;

/// What ends that a caller is known. Nothing does, by default.
#[derive(Default)]
pub struct Validity {
    /// From when on the token counts no more.
    pub until: Option<SystemTime>,
    /// A token that has to stay as it is.
    pub listed: Option<Listed>,
}

/// Comes when a caller is known no more, with the reason.
pub type Over = Pin<Box<dyn Future<Output = ApiError> + Send>>;

impl Validity {
    /// When it is over, if ever.
    pub fn over(self) -> Option<Over> {
        let Validity { until, listed } = self;
        if until.is_none() && listed.is_none() {
            return None;
        }
        let expired = async move {
            match until {
                Some(until) => {
                    // A sleep of nothing takes its time as well.
                    if let Ok(left) = until.duration_since(SystemTime::now()) {
                        sleep(left).await;
                    }
                }
                None => pending().await,
            }
        };
        let revoked = async move {
            match listed {
                Some(listed) => listed.changed().await,
                None => pending().await,
            }
        };
        Some(Box::pin(async move {
            let why = tokio::select! {
                () = expired => "the token has expired",
                () = revoked => "the token is not what it was any more: it was taken out or changed",
            };
            ApiError::Unauthenticated(why.to_owned())
        }))
    }
}

/// A response's body on its way: what a stream does while it is read is work for its call. It ends when its caller
/// is known no more.
pub struct Answer {
    /// What is on its way.
    pub body: Body,
    /// Whose work it is.
    pub call: Call,
    /// When it ends early, of streams alone: what is made already may be taken.
    pub over: Option<Over>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Answer { body, call, over } = &mut *self;
        // First of all: a stream that always has something to tell ends as well.
        if let Some(end) = over
            && let Poll::Ready(error) = end.as_mut().poll(cx)
        {
            *over = None;
            *body = Body::empty();
            return Poll::Ready(Some(Ok(Frame::trailers(error.trailers()))));
        }
        call.sync_scope(|| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    fn call() -> Call {
        Call {
            caller: "tokens/crm".into(),
            method: "/a/B".into(),
            deadline: None,
            fresh: false,
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_token_and_says_why() {
        let until = Some(SystemTime::now() - Duration::from_secs(1));
        let over = Validity {
            until,
            listed: None,
        };
        let answer = Answer {
            body: Body::from("more and more"),
            call: call(),
            over: over.over(),
        };
        let all = answer.collect().await.expect("no fault");
        let status = all.trailers().and_then(|t| t.get("grpc-status")).cloned();
        assert_eq!(status.expect("a status"), "16");
        assert!(all.to_bytes().is_empty());
    }

    #[tokio::test]
    async fn what_does_not_end_goes_on() {
        assert!(Validity::default().over().is_none());
        let until = Some(SystemTime::now() + Duration::from_secs(3_600));
        let mut over = Validity {
            until,
            listed: None,
        }
        .over()
        .expect("it ends");
        assert!((&mut over).now_or_never().is_none());
        let answer = Answer {
            body: Body::from("all of it"),
            call: call(),
            over: Some(over),
        };
        let all = answer.collect().await.expect("no fault").to_bytes();
        assert_eq!(&all[..], b"all of it");
    }
}

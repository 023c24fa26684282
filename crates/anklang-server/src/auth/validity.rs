//! How long who calls is known, and answers that end with it: a stream does not outlive its token, nor the
//! certificate by which its caller is known, nor that these are trusted.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use anklang_store::call::Call;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::jwt::Good;
use super::tokens::Listed;
use crate::grpc::error::ApiError;
use crate::tls::Peer;

/// Why a certificate that is withdrawn counts no more.
pub const DISTRUSTED: &str =
    "the authorities that sign callers' certificates accept the caller's no more";

/// What ends that a caller is known. Nothing does, by default.
#[derive(Default)]
pub struct Validity {
    /// From when on the token, or the certificate, counts no more.
    pub until: Option<SystemTime>,
    /// What the caller is known by.
    pub credential: Option<Credential>,
}

/// What a caller is known by, and what may be withdrawn before its time.
pub enum Credential {
    /// A static token: it has to stay as it is.
    Token(Listed),
    /// A JWT: its issuer has to keep the key that signed it.
    Jwt(Arc<Good>),
    /// A certificate: an authority has to accept it.
    Certificate(Peer),
}

impl Credential {
    /// Waits until it is withdrawn, and says how.
    async fn withdrawn(self) -> &'static str {
        match self {
            Credential::Token(listed) => {
                listed.changed().await;
                "the token is not what it was any more: it was taken out or changed"
            }
            Credential::Jwt(good) => {
                good.withdrawn().await;
                "the token is signed with a key that its issuer does not have any more"
            }
            Credential::Certificate(peer) => {
                peer.withdrawn().await;
                DISTRUSTED
            }
        }
    }
}

/// Comes when a caller is known no more, with the reason.
pub type Over = Pin<Box<dyn Future<Output = ApiError> + Send>>;

impl Validity {
    /// When it is over, if ever.
    pub fn over(self) -> Option<Over> {
        let Validity { until, credential } = self;
        if until.is_none() && credential.is_none() {
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
        let withdrawn = async move {
            match credential {
                Some(credential) => credential.withdrawn().await,
                None => pending().await,
            }
        };
        Some(Box::pin(async move {
            let why = tokio::select! {
                () = expired => "the token or certificate has expired",
                why = withdrawn => why,
            };
            ApiError::Unauthenticated(why.to_owned())
        }))
    }
}

/// A response's body on its way: what a stream does while it is read is work for its call. It ends when its caller
/// is known no more, also when nobody reads it: then it is let go at once, with all that it holds.
pub struct Answer {
    /// What is on its way; nothing once the caller is known no more.
    body: Held,
    call: Call,
    /// When it ends early, of streams alone: what is made already may be taken.
    over: Option<AbortOnDropHandle<ApiError>>,
}

type Held = Arc<Mutex<Option<Body>>>;

fn hold(body: &Held) -> MutexGuard<'_, Option<Body>> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answer {
    /// A body, whose work it is, and what ends it early.
    pub fn new(body: Body, call: Call, over: Option<Over>) -> Self {
        let body = Arc::new(Mutex::new(Some(body)));
        let over = over.map(|over| {
            let body = Arc::clone(&body);
            AbortOnDropHandle::new(tokio::spawn(async move {
                let error = over.await;
                let ended = hold(&body).take();
                drop(ended);
                error
            }))
        });
        Answer { body, call, over }
    }
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
            && let Poll::Ready(ended) = Pin::new(end).poll(cx)
        {
            *over = None;
            *hold(body) = Some(Body::empty());
            let unknown = || ApiError::Unauthenticated("the caller is known no more".to_owned());
            let error = ended.unwrap_or_else(|_| unknown());
            return Poll::Ready(Some(Ok(Frame::trailers(error.trailers()))));
        }
        match &mut *hold(body) {
            Some(body) => call.sync_scope(|| Pin::new(body).poll_frame(cx)),
            // The task that has emptied it is about to say why.
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        hold(&self.body).as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = hold(&self.body);
        body.as_ref().map_or_else(SizeHint::new, Body::size_hint)
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

    async fn until_let_go(body: &Held) {
        while hold(body).is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_is_let_go_with_its_token() {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let over: Over = Box::pin(async move {
            let _ = ended.await;
            ApiError::Unauthenticated("taken out".to_owned())
        });
        // What a stream holds, e.g. its place.
        let place = Arc::new(());
        let held = Arc::clone(&place);
        let endless = futures::stream::repeat_with(move || {
            drop(Arc::clone(&held));
            Ok::<_, std::io::Error>(Bytes::from_static(b"more"))
        });
        let mut answer = Answer::new(Body::from_stream(endless), call(), Some(over));
        let first = answer.frame().await.expect("a frame").expect("no fault");
        assert!(first.is_data());
        assert_eq!(Arc::strong_count(&place), 2);
        end.send(()).expect("it waits");
        until_let_go(&answer.body).await;
        assert_eq!(Arc::strong_count(&place), 1);
        // Whoever reads on is told.
        let last = answer.collect().await.expect("no fault");
        let status = last.trailers().and_then(|t| t.get("grpc-status")).cloned();
        assert_eq!(status.expect("a status"), "16");
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_token_and_says_why() {
        let until = Some(SystemTime::now() - Duration::from_secs(1));
        let over = Validity {
            until,
            credential: None,
        };
        let answer = Answer::new(Body::from("more and more"), call(), over.over());
        until_let_go(&answer.body).await;
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
            credential: None,
        }
        .over()
        .expect("it ends");
        assert!((&mut over).now_or_never().is_none());
        let answer = Answer::new(Body::from("all of it"), call(), Some(over));
        let all = answer.collect().await.expect("no fault").to_bytes();
        assert_eq!(&all[..], b"all of it");
    }
}

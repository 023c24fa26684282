//! Streams on their way.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Length;
use crate::grpc::error::ApiError;

/// The answer of a call. That of a stream keeps the call's place, and ends at its deadline.
pub(super) fn held<P: Unpin + Send + 'static>(
    response: Response,
    length: Length,
    deadline: Option<Instant>,
    place: P,
) -> Response {
    if length != Length::Stream {
        return response;
    }
    response.map(|body| {
        Body::new(Held {
            body,
            until: deadline.map(|until| Box::pin(sleep_until(until))),
            _place: place,
        })
    })
}

/// A stream on its way, which keeps its place. At its deadline a stream ends.
struct Held<P> {
    body: Body,
    until: Option<Pin<Box<Sleep>>>,
    _place: P,
}

impl<P: Unpin> HttpBody for Held<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        // First of all: a stream that always has something to tell ends as well.
        if let Some(until) = &mut this.until
            && until.as_mut().poll(cx).is_ready()
        {
            this.until = None;
            this.body = Body::empty();
            let trailers = ApiError::DeadlineExceeded.trailers();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

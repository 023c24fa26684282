//! Answers on their way.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::Frame;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;

use super::untaken::{BESIDE, Counted, Untaken};
use crate::grpc::error::{self, ApiError};

/// The most that is given to the connection at a time: what it has cannot be taken back. Almost a frame of HTTP/2, and a
/// multiple of 3, so that Base64 for browsers is padded at the end alone.
const PIECE: usize = 16 * 1_023;

/// The answer of a call, counted while it is in memory. At its deadline it is let go with the place that it keeps,
/// also when nobody reads it.
pub(super) fn held<P: Send + 'static>(
    response: Response,
    until: Option<Instant>,
    place: P,
    untaken: &Arc<Untaken>,
) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| {
        let on_its_way = Arc::new(Mutex::new(Some(OnItsWay {
            body,
            rest: Bytes::new(),
            counted: None,
            _place: place,
        })));
        let late = until.map(|until| {
            let on_its_way = Arc::clone(&on_its_way);
            AbortOnDropHandle::new(tokio::spawn(async move {
                sleep_until(until.into()).await;
                let ended = lock(&on_its_way).take();
                drop(ended);
            }))
        });
        Body::new(Held {
            on_its_way,
            late,
            untaken: Arc::clone(untaken),
            _beside: untaken.count(BESIDE),
        })
    })
}

/// A body that is there until its deadline, in pieces.
struct Held<P> {
    on_its_way: Shared<P>,
    /// Comes at the deadline, when nothing is on its way any more.
    late: Option<AbortOnDropHandle<()>>,
    untaken: Arc<Untaken>,
    _beside: Counted,
}

struct OnItsWay<P> {
    body: Body,
    /// What is left of the last that came of it.
    rest: Bytes,
    counted: Option<Counted>,
    _place: P,
}

type Shared<P> = Arc<Mutex<Option<OnItsWay<P>>>>;

fn lock<P>(shared: &Shared<P>) -> MutexGuard<'_, Option<OnItsWay<P>>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P> OnItsWay<P> {
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        untaken: &Arc<Untaken>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => {
                    self.counted = Some(untaken.count(data.len()));
                    self.rest = data;
                }
                Err(mut frame) => {
                    if let Some(trailers) = frame.trailers_mut() {
                        error::complete(trailers);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
        // A copy: a part of the whole would keep all of it.
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        let piece = untaken.counted(&piece);
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            self.counted = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<P: Send + 'static> HttpBody for Held<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        // First of all: a stream that always has something to tell ends as well.
        if let Some(late) = &mut this.late
            && Pin::new(late).poll(cx).is_ready()
        {
            this.late = None;
            let trailers = ApiError::DeadlineExceeded.trailers();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut *lock(&this.on_its_way) {
            Some(on_its_way) => on_its_way.poll_piece(cx, &this.untaken),
            // The task that has emptied it is about to end.
            None if this.late.is_some() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &*lock(&self.on_its_way) {
            Some(on_its_way) => on_its_way.rest.is_empty() && on_its_way.body.is_end_stream(),
            None => self.late.is_none(),
        }
    }
}

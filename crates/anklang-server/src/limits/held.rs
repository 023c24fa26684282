//! Answers on their way.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::untaken::{BESIDE, Counted, Untaken};
use crate::connections::{Answer, Line};
use crate::grpc::error::{self, ApiError};

/// The most that is given to the connection at a time: what it has cannot be taken back. Almost a frame of HTTP/2, and a
/// multiple of 3, so that Base64 for browsers is padded at the end alone.
const PIECE: usize = 16 * 1_023;

/// Where answers go, and how long they may lie there.
pub(super) struct Way<'a> {
    pub(super) untaken: &'a Arc<Untaken>,
    pub(super) line: Line,
    /// When what is left is let go.
    pub(super) until: Option<std::time::Instant>,
    /// How long the connection may keep the rest after that, or after the end.
    pub(super) patience: Duration,
}

/// The answer of a stream, counted while it is in memory. At its deadline it is let go with the place that it keeps,
/// also when nobody reads it.
pub(super) fn held<P: Send + 'static>(response: Response, place: P, way: Way<'_>) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|body| {
        let on_its_way = OnItsWay {
            body: Some(body),
            rest: Bytes::new(),
            trailers: None,
            counted: None,
            buffers: (0, None),
            _place: place,
        };
        on_its_way.by(way)
    })
}

/// The one answer of a call, which is there: all of it is counted, whether it is asked for or not. What it was made in
/// is gone then.
pub(super) async fn whole(response: Response, way: Way<'_>) -> Response {
    if response.body().is_end_stream() {
        return response;
    }
    let (head, body) = response.into_parts();
    let made = match body.collect().await {
        Ok(made) => made,
        Err(error) => return Status::from(ApiError::Internal(error.to_string())).into_http(),
    };
    let mut trailers = made.trailers().cloned();
    trailers.iter_mut().for_each(error::complete);
    // A copy: the buffers that it was compressed in are as large as it was before.
    let rest = Bytes::copy_from_slice(&made.to_bytes());
    let on_its_way = OnItsWay {
        body: None,
        counted: Some(way.untaken.count(rest.len())),
        rest,
        trailers,
        buffers: (0, None),
        _place: (),
    };
    Response::from_parts(head, on_its_way.by(way))
}

/// A body that is there until its deadline, in pieces.
struct Held<P> {
    on_its_way: Shared<P>,
    /// Comes at the deadline, when nothing is on its way any more.
    late: Option<AbortOnDropHandle<()>>,
    untaken: Arc<Untaken>,
    answer: Arc<Answer>,
    patience: Duration,
    _beside: Counted,
}

struct OnItsWay<P> {
    /// What there comes of; `None` when everything is there.
    body: Option<Body>,
    /// What is left of the last that came of it.
    rest: Bytes,
    /// The end, when it is there.
    trailers: Option<HeaderMap>,
    counted: Option<Counted>,
    /// What the body itself keeps for what comes next.
    buffers: (usize, Option<Counted>),
    _place: P,
}

type Shared<P> = Arc<Mutex<Option<OnItsWay<P>>>>;

fn lock<P>(shared: &Shared<P>) -> MutexGuard<'_, Option<OnItsWay<P>>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Send + 'static> OnItsWay<P> {
    fn by(self, way: Way<'_>) -> Body {
        let answer = way.line.answer();
        let until = way.until.map(Instant::from_std);
        if let Some(by) = until.and_then(|until| until.checked_add(way.patience)) {
            answer.must_be_gone(by);
        }
        // Of one piece nothing can be let go that is worth a task.
        let is_small = self.body.is_none() && self.rest.len() <= PIECE;
        let on_its_way = Arc::new(Mutex::new(Some(self)));
        let late = until.filter(|_| !is_small).map(|until| {
            // Whoever drops the answer lets go of everything at once, not when the task has been told.
            let on_its_way = Arc::downgrade(&on_its_way);
            AbortOnDropHandle::new(tokio::spawn(async move {
                sleep_until(until).await;
                if let Some(on_its_way) = on_its_way.upgrade() {
                    let ended = lock(&on_its_way).take();
                    drop(ended);
                }
            }))
        });
        Body::new(Held {
            on_its_way,
            late,
            untaken: Arc::clone(way.untaken),
            answer,
            patience: way.patience,
            _beside: way.untaken.count(BESIDE),
        })
    }
}

impl<P> OnItsWay<P> {
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        untaken: &Arc<Untaken>,
        answer: &Arc<Answer>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let Some(body) = &mut self.body else {
                let trailers = self.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            };
            let frame = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => {
                    let buffers = buffers(&data);
                    if buffers > self.buffers.0 {
                        self.buffers = (buffers, Some(untaken.count(buffers)));
                    }
                    self.counted = Some(untaken.count(data.len()));
                    // A copy: this is a part of a buffer.
                    self.rest = Bytes::copy_from_slice(&data);
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
        let piece = untaken.counted(&piece, answer);
        if self.rest.is_empty() {
            self.rest = Bytes::new();
            self.counted = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_over(&self) -> bool {
        let body = self.body.as_ref();
        self.rest.is_empty() && self.trailers.is_none() && body.is_none_or(Body::is_end_stream)
    }
}

/// The least that a stream keeps which has made these messages: what it encodes into, and as much to compress from.
fn buffers(mut messages: &[u8]) -> usize {
    let mut most = messages.len();
    while let [is_compressed, a, b, c, d, rest @ ..] = messages {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d]));
        let message = length.ok().and_then(|length| rest.split_at_checked(length));
        let Some((message, next)) = message else {
            break;
        };
        // Gzip ends with the size of what was compressed.
        if *is_compressed == 1
            && let Some(size) = message.last_chunk::<4>()
        {
            let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
            most = most.max(size.saturating_mul(2));
        }
        messages = next;
    }
    most
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
            Some(on_its_way) => on_its_way.poll_piece(cx, &this.untaken, &this.answer),
            // The task that has emptied it is about to end.
            None if this.late.is_some() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &*lock(&self.on_its_way) {
            Some(on_its_way) => on_its_way.is_over(),
            None => self.late.is_none(),
        }
    }
}

impl<P> Drop for Held<P> {
    fn drop(&mut self) {
        // What it has given away may still lie in the connection.
        if let Some(by) = Instant::now().checked_add(self.patience) {
            self.answer.must_be_gone(by);
        }
    }
}

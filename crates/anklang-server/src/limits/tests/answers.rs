//! What lies in memory of answers, and for how long.

use bytes::BufMut;
use futures::StreamExt;
use tonic::codec::{
    CompressionEncoding, EncodeBody, EncodeBuf, Encoder, SingleMessageCompressionOverride,
};

use super::*;

/// Messages as they are, and whether it is still there.
struct Plain(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

/// One message of so many bytes that gzip makes small, and then nothing or the end.
fn compressed(bytes: usize, ends: bool, made_by: &Arc<()>) -> Response {
    let message = futures::stream::iter([Ok::<_, Status>(Bytes::from(vec![0; bytes]))]);
    let messages = match ends {
        true => message.boxed(),
        false => message.chain(futures::stream::pending()).boxed(),
    };
    Response::new(Body::new(EncodeBody::new_server(
        Plain(Arc::clone(made_by)),
        messages,
        Some(CompressionEncoding::Gzip),
        SingleMessageCompressionOverride::default(),
        None,
    )))
}

#[tokio::test]
async fn an_answer_comes_in_pieces_that_are_counted_until_they_are_gone() {
    const SIZE: usize = 1 << 20;
    let all = Untaken::new(4 * SIZE, None);
    let untaken = Untaken::new(SIZE, Some(&all));
    let mut body = held(answer(SIZE), (), way(&untaken, None)).into_body();
    assert!(!untaken.is_full(), "it is not there before it is asked for");
    let mut taken = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.expect("no error").into_data() {
            Ok(piece) => taken.push(piece),
            Err(frame) => assert!(frame.is_trailers()),
        }
        assert!(untaken.is_full() && !all.is_full());
    }
    drop(body);
    // They wait in the connection.
    assert!(untaken.is_full());
    assert_eq!(taken.iter().map(Bytes::len).sum::<usize>(), SIZE);
    assert!(taken.iter().all(|piece| piece.len() <= 16 * 1_024));
    let first = taken.swap_remove(0);
    let part = first.slice(..1);
    drop((taken, first));
    assert!(!untaken.is_full());
    drop(part);
    let none = Untaken::new(SIZE, Some(&untaken));
    drop(none.count(SIZE - 1));
    assert!(!none.is_full() && !untaken.is_full() && !all.is_full());
    let _all_of_it = none.count(SIZE);
    assert!(none.is_full() && untaken.is_full() && !all.is_full());
}

#[tokio::test]
async fn what_a_compressed_answer_was_made_in_is_counted_or_gone() {
    const SIZE: usize = 1 << 20;
    let made_by = Arc::default();
    let untaken = Untaken::new(SIZE, None);
    let stream = compressed(SIZE, false, &made_by);
    let mut body = held(stream, (), way(&untaken, None)).into_body();
    let first = body.frame().await.expect("a frame").expect("no error");
    let first = first.into_data().expect("a piece");
    assert!(first.len() < SIZE / 100, "{}", first.len());
    assert!(untaken.is_full(), "the stream keeps its buffers");
    drop((first, body));
    assert!(!untaken.is_full());

    let response = whole(compressed(SIZE, true, &made_by), way(&untaken, None)).await;
    assert_eq!(Arc::strong_count(&made_by), 1, "its buffers are gone");
    assert!(!untaken.is_full());
    let answer = response.into_body().collect().await.expect("no error");
    assert_eq!(answer.trailers().expect("trailers")["grpc-status"], "0");
    assert!((1..SIZE / 100).contains(&answer.to_bytes().len()));
    // It is there before it is asked for.
    let response = whole(self::answer(SIZE), way(&untaken, None)).await;
    assert!(untaken.is_full());
    drop(response);
    assert!(!untaken.is_full());
}

#[tokio::test(start_paused = true)]
async fn what_the_connection_keeps_of_an_answer_ends_it() {
    let untaken = unbounded();
    let soon = || {
        // By the clock that is paused.
        let now = tokio::time::Instant::now().into_std();
        Some(now + Duration::from_secs(10))
    };
    for (bytes, is_late) in [(1, true), (1 << 20, true), (1, false)] {
        let until = if is_late { soon() } else { None };
        let line = Line::default();
        let way = Way {
            line: line.clone(),
            ..way(&untaken, until)
        };
        let mut body = whole(answer(bytes), way).await.into_body();
        let piece = body.frame().await.expect("a frame").expect("no error");
        drop(body);
        let ended = tokio::time::timeout(Duration::from_secs(30), line.overdue()).await;
        ended.expect_err("it has a while");
        let ended = tokio::time::timeout(Duration::from_secs(60), line.overdue()).await;
        ended.expect("it is not taken");
        drop(piece);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_is_let_go_and_till_then_calls_are_refused() {
    let limits = limits(0, 0);
    let (_, untaken) = limits
        .0
        .place(Some("acme".into()), Length::Short, None)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let size = limits.0.untaken_of_each;
    let until = Some(Instant::now() + Duration::from_secs(1));
    let response = whole(answer(size), way(&untaken, until)).await;
    let mut body = response.into_body();
    let first = body.frame().await.expect("a frame").expect("no error");
    assert!(first.is_data());
    let refused = place(&limits, "acme", Length::Short).await;
    assert_eq!(refused.err(), Some(Exhausted::Answers));
    drop(
        place(&limits, "linden", Length::Short)
            .await
            .expect("another"),
    );
    // The connection has its first piece, and asks for no more.
    while untaken.is_full() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(place(&limits, "acme", Length::Short).await.expect("free"));
    let last = body.frame().await.expect("a frame").expect("no error");
    assert_eq!(last.into_trailers().expect("trailers")["grpc-status"], "4");
}

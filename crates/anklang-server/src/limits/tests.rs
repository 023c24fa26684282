//! What of a tenant is taken, and how long calls may last.

use std::pin::Pin;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::middleware::{from_fn, from_fn_with_state};
use http::HeaderMap;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;
use crate::config::Config;

/// As much as anybody wants.
fn unbounded() -> Arc<Untaken> {
    Untaken::new(usize::MAX, None)
}

/// An answer of so many bytes, at once, and the status.
fn answer(bytes: usize) -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("ASCII"));
    let body = http_body_util::Full::new(Bytes::from(vec![7; bytes]));
    let body = body.with_trailers(async move { Some(Ok(trailers)) });
    Response::new(Body::new(body))
}

/// Over a connection of its own, where what is left may lie for a minute.
fn way(untaken: &Arc<Untaken>, until: Option<Instant>) -> Way<'_> {
    Way {
        untaken,
        line: Line::default(),
        until,
        patience: Duration::from_secs(60),
    }
}

/// Nothing is looked up here: names that nobody has are none.
fn limits(requests_per_second: u32, burst: u32) -> Limits {
    let of_each = AtOnce {
        calls: 2,
        streams: 1,
    };
    let defaults = Config::read(None, []).expect("the defaults are complete");
    let config = LimitsConfig {
        requests_per_second,
        burst,
        of_each,
        untaken_of_each: 1 << 20,
        ..defaults.limits
    };
    let store = Store::new("postgres://localhost:1/none", 1).expect("nothing is opened");
    let limits = Limits::new(&config, store);
    let mut tenants = limits.0.tenants.lock().expect("nobody else has it");
    for slug in ["acme", "linden"] {
        let untaken = Untaken::new(config.untaken_of_each, Some(&limits.0.all.untaken));
        tenants.insert(slug.into(), Places::new(of_each, untaken));
    }
    drop(tenants);
    limits
}

async fn place(
    limits: &Limits,
    slug: &str,
    length: Length,
) -> Result<OwnedSemaphorePermit, Exhausted> {
    let slug = (!slug.is_empty()).then(|| slug.into());
    match limits.0.place(slug, length, None).await {
        Ok((place, _)) => Ok(place),
        Err(ApiError::Exhausted(what)) => Err(what),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn each_tenant_has_places_of_its_own_and_who_names_none_those_of_one() {
    let limits = limits(0, 0);
    for slug in ["acme", "linden", ""] {
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(place(&limits, slug, Length::Short).await.expect(slug));
        }
        let more = place(&limits, slug, Length::Short).await;
        assert_eq!(more.err(), Some(Exhausted::Calls), "{slug}");
        // Streams and calls that wait have others.
        let stream = place(&limits, slug, Length::Stream).await.expect(slug);
        let more = place(&limits, slug, Length::Waiting).await;
        assert_eq!(more.err(), Some(Exhausted::Streams), "{slug}");
        drop((held.pop(), stream));
        drop(place(&limits, slug, Length::Short).await.expect("free"));
        drop(place(&limits, slug, Length::Waiting).await.expect("free"));
    }
}

#[tokio::test]
async fn a_tenant_over_its_rate_is_told_when_there_is_one_more() {
    let limits = limits(1, 3);
    for _ in 0..3 {
        drop(place(&limits, "acme", Length::Short).await.expect("burst"));
    }
    let Err(Exhausted::Rate(again)) = place(&limits, "acme", Length::Short).await else {
        panic!("the fourth is too many");
    };
    assert!(again > Duration::ZERO && again <= Duration::from_secs(1));
    drop(
        place(&limits, "linden", Length::Short)
            .await
            .expect("another"),
    );
    drop(place(&limits, "", Length::Stream).await.expect("nobody"));
}

#[test]
fn streams_and_calls_that_wait_are_known() {
    for (path, expected) in [
        ("/anklang.brands.v1.BrandService/ListBrands", Length::Short),
        ("/anklang.imports.v1.ImportService/Import", Length::Stream),
        (
            "/anklang.planning.v1.WorkListService/WatchWorkList",
            Length::Stream,
        ),
        (WAIT_OPERATION, Length::Waiting),
        ("/google.longrunning.Operations/GetOperation", Length::Short),
        ("/grpc.health.v1.Health/Check", Length::Short),
        // A watch of it lasts as long as its client wants.
        ("/grpc.health.v1.Health/Watch", Length::Stream),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Length::Stream,
        ),
        ("/anklang.brands.v1.BrandService/Guess", Length::Short),
    ] {
        assert_eq!(length(path), expected, "{path}");
    }
}

#[test]
fn timeouts_are_digits_and_a_unit() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("ASCII"));
        timeout(&headers)
    };
    assert_eq!(read("5S"), Some(Duration::from_secs(5)));
    assert_eq!(read("1500m"), Some(Duration::from_millis(1_500)));
    assert_eq!(
        read("99999999H"),
        Some(Duration::from_secs(99_999_999 * 3_600))
    );
    for wrong in ["", "S", "5", "5s", "-5S", "123456789S", "5.5S"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
    assert_eq!(timeout(&HeaderMap::new()), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_deadline_and_gives_its_place_back_though_nobody_reads() {
    let of = AtOnce {
        calls: 1,
        streams: 1,
    };
    let places = Places::new(of, unbounded());
    let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
    let stream = Response::new(Body::from_stream(never));
    let until = Some(Instant::now() + Duration::from_millis(200));
    let place = places.take(Length::Stream).expect("it is free");
    let mut body = held(stream, place, way(&places.untaken, until)).into_body();
    assert!(places.take(Length::Stream).is_none());
    // Nobody has asked for anything of it.
    while places.streams.available_permits() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    let frame = frame.expect("an end").expect("no error");
    let trailers = frame.into_trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "4");
    assert!(trailers.contains_key("grpc-status-details-bin"));
    let after = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(after.is_none());
}

#[tokio::test]
async fn a_stream_that_is_let_go_leaves_no_place_behind() {
    let limits = limits(0, 0);
    let let_go: Arc<Mutex<Option<Body>>> = Arc::default();
    let kept = Arc::clone(&let_go);
    // As the one does that ends streams with their tokens: what is outside has nothing to tell any more.
    let between = from_fn(move |request: Request, next: Next| {
        let kept = Arc::clone(&kept);
        async move {
            let body = next.run(request).await.into_body();
            *kept.lock().expect("nobody else has it") = Some(body);
            let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
            Response::new(Body::from_stream(never))
        }
    });
    let router = Router::new()
        .fallback(|| async {
            let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
            Response::new(Body::from_stream(never))
        })
        .layer(from_fn_with_state(limits.clone(), admit))
        .layer(between)
        .layer(from_fn_with_state(limits.clone(), shed));
    let free = || {
        let of = |places: &Places| places.streams.available_permits();
        (of(&limits.0.all), of(&limits.0.nobodys))
    };
    let (all, nobodys) = free();
    // With a deadline and without.
    for timeout in [None, Some("60S")] {
        let mut request = http::Request::post("/anklang.imports.v1.ImportService/Import");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(free(), (all - 1, nobodys - 1), "{timeout:?}");
        drop(let_go.lock().expect("nobody else has it").take());
        assert_eq!(free(), (all, nobodys), "{timeout:?}");
        drop(answer);
    }
}

#[tokio::test]
async fn what_one_tenant_leaves_lying_keeps_no_other_from_calling() {
    let limits = limits(0, 0);
    let (_, untaken) = limits
        .0
        .place(Some("acme".into()), Length::Short, None)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    // Calls that were under way together may give more than all may leave.
    let answers = untaken.count(1 << 40);
    let refused = place(&limits, "acme", Length::Short).await;
    assert_eq!(refused.err(), Some(Exhausted::Answers));
    let other = place(&limits, "linden", Length::Short).await;
    drop(other.expect("another"));
    drop(answers);
    drop(place(&limits, "acme", Length::Short).await.expect("free"));
}

#[tokio::test]
async fn what_grpc_itself_refuses_has_details_as_well() {
    for (code, message, expected) in [
        ("11", "decoded message length too large", "11"),
        ("8", "size limit, of 4194304 bytes, exceeded", "11"),
        ("13", "corrupt deflate stream", "3"),
        // What it cannot send is no fault of the caller's.
        ("13", "Error encoding: a message", "13"),
        ("13", "Error compressing: a message", "13"),
        ("11", "Error, encoded message length too large", "13"),
        ("12", "", "12"),
        ("0", "", "0"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", code.parse().expect("ASCII"));
        headers.insert("grpc-message", message.parse().expect("ASCII"));
        error::complete(&mut headers);
        assert_eq!(headers["grpc-status"], expected, "{message}");
        let details = headers.contains_key("grpc-status-details-bin");
        assert_eq!(details, !message.is_empty(), "{message}");
        // What has details is ours.
        let before = headers.clone();
        error::complete(&mut headers);
        assert_eq!(headers, before);
    }
    let mut ours = ApiError::Internal("a fault".to_owned()).trailers();
    error::complete(&mut ours);
    assert_eq!(ours["grpc-status"], "13");
}

mod answers;

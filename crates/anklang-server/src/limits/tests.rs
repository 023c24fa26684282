//! What of a tenant is taken, and how long calls may last.

use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};

use super::*;
use crate::config::Config;

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
        ..defaults.limits
    };
    let store = Store::new("postgres://localhost:1/none", 1).expect("nothing is opened");
    let limits = Limits::new(&config, store);
    let mut tenants = limits.0.tenants.lock().expect("nobody else has it");
    for slug in ["acme", "linden"] {
        tenants.insert(slug.into(), Places::new(of_each));
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
    match limits.0.place(slug, length).await {
        Ok(place) => Ok(place),
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

#[tokio::test]
async fn a_stream_ends_at_its_deadline_and_gives_its_place_back() {
    let places = Places::new(AtOnce {
        calls: 1,
        streams: 1,
    });
    let stream = || {
        let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        Response::new(Body::from_stream(never))
    };
    let until = tokio::time::Instant::now() + Duration::from_millis(20);
    let place = places.take(Length::Stream).expect("it is free");
    let mut body = held(stream(), Length::Stream, Some(until), place).into_body();
    assert!(places.take(Length::Stream).is_none());
    let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    let frame = frame.expect("an end").expect("no error");
    let trailers = frame.into_trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "4");
    assert!(trailers.contains_key("grpc-status-details-bin"));
    let after = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(after.is_none());
    drop(body);
    assert!(places.take(Length::Stream).is_some());

    // What gives one answer has given its place back before that is read.
    let place = places.take(Length::Short).expect("it is free");
    let answer = held(stream(), Length::Short, None, place);
    assert!(places.take(Length::Short).is_some());
    drop(answer);
}

//! The header `grpc-timeout`: how long the caller gives a call.

use std::time::Duration;

use http::header::HeaderMap;

const NAME: &str = "grpc-timeout";
/// No call lasts as long.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What the headers say: up to eight digits and a unit.
pub(crate) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(NAME)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    let told = match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(told.min(LONGEST))
}

/// Says it in the headers, instead of what they say.
pub(crate) fn write(headers: &mut HeaderMap, left: Duration) {
    let mut request = tonic::Request::new(());
    request.set_timeout(left.min(LONGEST));
    let (metadata, _, ()) = request.into_parts();
    headers.extend(metadata.into_headers());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for duration in [
            Duration::ZERO,
            Duration::from_nanos(7),
            Duration::from_millis(1_500),
            Duration::from_secs(30),
            Duration::from_secs(86_400),
            LONGEST,
        ] {
            let mut headers = HeaderMap::new();
            write(&mut headers, Duration::from_secs(1));
            write(&mut headers, duration);
            assert_eq!(read(&headers), Some(duration), "{headers:?}");
            assert_eq!(headers.len(), 1);
        }
        let mut headers = HeaderMap::new();
        write(&mut headers, Duration::MAX);
        assert_eq!(read(&headers), Some(LONGEST));
    }

    #[test]
    fn what_is_none_is_not_read() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(NAME, text.parse().expect("ASCII"));
            read(&headers)
        };
        assert_eq!(of("5S"), Some(Duration::from_secs(5)));
        assert_eq!(of("2M"), Some(Duration::from_secs(120)));
        assert_eq!(of("99999999H"), Some(LONGEST));
        for wrong in ["", "S", "5", "5s", "-5S", "123456789S", "5.5S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }
}

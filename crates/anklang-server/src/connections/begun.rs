//! When a connection has begun.

use tokio::sync::oneshot;

/// A connection by HTTP/2 begins with this.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Tells when enough was read: of HTTP/2 what it begins with, of HTTP/1.1 the whole first head.
pub(super) fn until_begun(told: oneshot::Sender<()>) -> impl FnMut(&[u8]) + Send + 'static {
    let (mut read, mut is_http2) = (0, true);
    // So many bytes of the line that is being read.
    let mut line = 0;
    let mut told = Some(told);
    move |bytes: &[u8]| {
        if told.is_none() {
            return;
        }
        for byte in bytes {
            is_http2 &= PREFACE.get(read).is_none_or(|expected| expected == byte);
            read += 1;
            let is_head = *byte == b'\n' && line == 0 && read > 2;
            match byte {
                b'\n' => line = 0,
                b'\r' => {}
                _ => line += 1,
            }
            let is_enough = match is_http2 {
                true => read == PREFACE.len(),
                false => is_head,
            };
            if is_enough && let Some(told) = told.take() {
                // Nobody waits for it when the connection ends.
                let _ = told.send(());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_begun_with_its_first_head_or_the_preface() {
        for (first, rest) in [
            ("PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r\n"),
            ("GET /u/x HTTP/1.1\r\nHost: a.example\r\n", "\r\n"),
            ("\r\nGET /u/x HTTP/1.1\r\nHost: a.example\r\n\r", "\n"),
            ("PRI * HTTP/1.1\nHost: a.example\n", "\n"),
        ] {
            for size in [1, 3, 100] {
                let (told, mut begun) = oneshot::channel();
                let mut look = until_begun(told);
                first.as_bytes().chunks(size).for_each(&mut look);
                assert!(begun.try_recv().is_err(), "{first:?}");
                look(rest.as_bytes());
                begun.try_recv().expect("it has begun");
                look(b"more of it");
            }
        }
    }
}

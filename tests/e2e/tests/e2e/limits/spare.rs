//! Connections that are too many.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{list, serving};
use crate::roles::health;
use crate::utility::until;

/// More than are spare.
const OTHERS: usize = 270;

#[tokio::test]
async fn whoever_is_refused_leaves_room_for_who_comes_next() {
    let server = serving("connections = 1").await;
    let client = server.client("linden").await.unwrap();
    until("it has the place", async || list(&client).await.is_ok()).await;
    let mut others = Vec::new();
    for other in 0..OTHERS {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let request = b"GET /nonsense HTTP/1.1\r\nHost: post.sw.example\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut said = [0; 12];
        let told = stream.read_exact(&mut said).await;
        told.unwrap_or_else(|error| panic!("{other}: {error}"));
        assert_eq!(&said, b"HTTP/1.1 503");
        // It would keep the connection.
        others.push(stream);
    }
    assert_eq!(health(server.addr, "live").await, ServingStatus::Serving);
    list(&client).await.unwrap();
}

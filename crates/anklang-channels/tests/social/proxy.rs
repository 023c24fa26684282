//! A cable to a server that can swallow the answers to requests of a method: the server gets the
//! request, and the client sees the connection end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub struct Proxy {
    addr: SocketAddr,
    swallow: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    pub async fn to(server: SocketAddr, method: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let swallow = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&swallow);
        let serving = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let swallow = Arc::clone(&shared);
                sessions.spawn(async move {
                    let far = TcpStream::connect(server).await.unwrap();
                    // An error is a side that is gone.
                    let _ = carry(near, far, method, &swallow).await;
                });
            }
        });
        Self {
            addr,
            swallow,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Swallows the next answers.
    pub fn swallow(&self, answers: usize) {
        self.swallow.store(answers, Ordering::SeqCst);
    }

    /// How many are still to be swallowed.
    pub fn left(&self) -> usize {
        self.swallow.load(Ordering::SeqCst)
    }
}

async fn carry(
    mut near: TcpStream,
    mut far: TcpStream,
    method: &str,
    swallow: &AtomicUsize,
) -> std::io::Result<()> {
    let (mut from_near, mut from_far) = (vec![0; 65_536], vec![0; 65_536]);
    let mut concerned = false;
    loop {
        tokio::select! {
            read = near.read(&mut from_near) => match read? {
                0 => return Ok(()),
                length => {
                    let sent = &from_near[..length];
                    // Else it is the body of the request before.
                    if let Some(head) = sent.iter().take(8).position(|byte| *byte == b' ') {
                        concerned = &sent[..head] == method.as_bytes();
                    }
                    far.write_all(sent).await?;
                }
            },
            read = far.read(&mut from_far) => match read? {
                0 => return Ok(()),
                length => {
                    let one_less = |left: usize| left.checked_sub(1);
                    let order = Ordering::SeqCst;
                    if concerned && swallow.fetch_update(order, order, one_less).is_ok() {
                        return Ok(());
                    }
                    near.write_all(&from_far[..length]).await?;
                }
            },
        }
    }
}

//! What stands before a server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{copy, sink};
use tokio::net::{TcpListener, TcpStream};

/// Stands before a server, at an address that stays when the server's changes.
#[derive(Clone)]
pub struct Between {
    pub addr: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    mute: Arc<AtomicBool>,
}

impl Between {
    /// A mute one keeps the server's answers to itself.
    pub async fn start(server: SocketAddr, mute: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let between = Between {
            addr: listener.local_addr().unwrap(),
            server: Arc::new(Mutex::new(server)),
            mute: Arc::new(AtomicBool::new(mute)),
        };
        let all = between.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(all.clone().pass(client));
            }
        });
        between
    }

    /// Further connections go there, and are answered.
    pub fn goes_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
        self.mute.store(false, Ordering::SeqCst);
    }

    async fn pass(self, client: TcpStream) {
        let server = *self.server.lock().unwrap();
        let mute = self.mute.load(Ordering::SeqCst);
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let down = async {
            match mute {
                true => copy(&mut from_server, &mut sink()).await,
                false => copy(&mut from_server, &mut to_client).await,
            }
        };
        // What ends on one side ends on both.
        tokio::select! {
            _ = copy(&mut from_client, &mut to_server) => {}
            _ = down => {}
        }
    }
}

//! A relay in front of a server: with TLS of its own, or one that can fall silent.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub struct Relay {
    port: u16,
    silent: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Relay {
    /// Relays to a port of this machine.
    pub async fn start(to: u16, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silent, is_silent) = watch::channel(false);
        let tls = Arc::new(tls);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, is_silent) = (Arc::clone(&tls), is_silent.clone());
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
                    match &*tls {
                        Some(tls) => {
                            let mut stream = tls.accept(stream).await?;
                            copy_bidirectional(&mut stream, &mut server).await?;
                        }
                        None => {
                            let (from_client, to_client) = split(stream);
                            let (from_server, to_server) = split(server);
                            tokio::select! {
                                done = pass(from_client, to_server, is_silent.clone()) => done?,
                                done = pass(from_server, to_client, is_silent) => done?,
                            }
                        }
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Self {
            port,
            silent,
            serving,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing gets through, in either direction, or everything again.
    pub fn fall_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if silent.wait_for(|silent| !silent).await.is_err() || count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}

//! Between a server and a peer: a relay of TCP on which the weather changes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Bytes go through.
    Fair,
    /// Each piece comes so much later.
    Slow(Duration),
    /// Nothing comes through until it changes.
    Silent,
    /// Connections are reset, new ones as soon as they are made.
    Reset,
    /// Connections are reset, new ones refused.
    Refuse,
}

/// A relay on loopback. Ends when it is dropped.
pub struct Relay {
    /// Where to connect to.
    pub addr: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts one before a peer.
    pub fn start(peer: SocketAddr) -> Self {
        let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let addr = bound.local_addr().unwrap();
        let (weather, now) = watch::channel(Weather::Fair);
        let task = tokio::spawn(accept(bound, addr, peer, now));
        Relay {
            addr,
            weather,
            task,
        }
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Holds the port without listening: connections are refused, and nobody else is given the port.
fn bind(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(addr).unwrap();
    socket
}

async fn accept(
    bound: TcpSocket,
    addr: SocketAddr,
    peer: SocketAddr,
    mut weather: watch::Receiver<Weather>,
) {
    let mut listener = bound.listen(1_024).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let refuses = *weather.borrow_and_update() == Weather::Refuse;
        if refuses {
            drop(listener);
            let held = bind(addr);
            let over = weather.wait_for(|w| *w != Weather::Refuse).await.is_err();
            if over {
                return;
            }
            listener = held.listen(1_024).unwrap();
            continue;
        }
        tokio::select! {
            changed = weather.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            accepted = listener.accept() => {
                // Who is gone already has nothing to say.
                if let Ok((client, _)) = accepted {
                    connections.spawn(carry(client, peer, weather.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries bytes both ways until a side hangs up or the weather breaks the connection.
async fn carry(mut client: TcpStream, peer: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let relayed = async {
        let mut server = TcpStream::connect(peer).await.ok()?;
        let (mut there, mut back) = ([0; 16 * 1024], [0; 16 * 1024]);
        loop {
            tokio::select! {
                changed = weather.changed() => {
                    changed.ok()?;
                    pass(&mut weather).await?;
                }
                read = client.read(&mut there) => {
                    let some = some(read)?;
                    pass(&mut weather).await?;
                    server.write_all(&there[..some]).await.ok()?;
                }
                read = server.read(&mut back) => {
                    let some = some(read)?;
                    pass(&mut weather).await?;
                    client.write_all(&back[..some]).await.ok()?;
                }
            }
        }
    };
    let _: Option<()> = relayed.await;
    if broken(*weather.borrow()) {
        // RST instead of FIN. A client that is gone needs neither.
        let _ = client.set_zero_linger();
    }
}

fn some(read: std::io::Result<usize>) -> Option<usize> {
    read.ok().filter(|n| *n > 0)
}

fn broken(weather: Weather) -> bool {
    matches!(weather, Weather::Reset | Weather::Refuse)
}

/// Waits as the weather demands; `None` when it breaks connections.
async fn pass(weather: &mut watch::Receiver<Weather>) -> Option<()> {
    let now = *weather.wait_for(|w| *w != Weather::Silent).await.ok()?;
    match now {
        Weather::Slow(pause) => tokio::time::sleep(pause).await,
        now if broken(now) => return None,
        _ => {}
    }
    Some(())
}

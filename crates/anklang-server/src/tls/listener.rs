//! Whoever connects, after the handshake.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Peer, Port, Verifier};
use crate::telemetry::meters;

/// Connections of another listener, each when its handshake is done. Handshakes run in tasks of their own.
pub struct TlsListener<L: Listener> {
    inner: L,
    current: watch::Receiver<Arc<ServerConfig>>,
    /// As it was when this began to listen: who clones it sees what was exchanged since.
    verifier: watch::Receiver<Verifier>,
    /// How long a handshake may take.
    patience: Duration,
    /// So many at the same time. When there are more, the oldest is given up: whoever comes later would else wait
    /// for callers who say nothing.
    at_once: usize,
    handshakes: JoinSet<Option<Connected<L>>>,
    /// Those that are not over, the oldest first.
    running: VecDeque<AbortHandle>,
    /// Whoever waits until the oldest is gone: an open file as well, and the only one more.
    next: Option<(L::Io, L::Addr)>,
}

type Connected<L> = (TlsStream<<L as Listener>::Io>, <L as Listener>::Addr);

impl<L: Listener<Addr: Debug + 'static>> TlsListener<L> {
    pub(super) fn new(
        inner: L,
        current: watch::Receiver<Arc<ServerConfig>>,
        verifier: watch::Receiver<Verifier>,
        patience: Duration,
        at_once: usize,
    ) -> Self {
        TlsListener {
            inner,
            current,
            verifier,
            patience,
            at_once: at_once.max(1),
            handshakes: JoinSet::new(),
            running: VecDeque::new(),
            next: None,
        }
    }

    fn begin(&mut self, io: L::Io, addr: L::Addr) {
        let acceptor = TlsAcceptor::from(self.current.borrow().clone());
        let patience = self.patience;
        let task = self.handshakes.spawn(async move {
            let (outcome, stream) = match timeout(patience, acceptor.accept(io)).await {
                Ok(Ok(stream)) => ("done", Some(stream)),
                Ok(Err(error)) => {
                    tracing::debug!(?addr, %error, "a TLS handshake failed");
                    ("failed", None)
                }
                Err(_) => ("late", None),
            };
            meters::handshake(outcome);
            stream.map(|stream| (stream, addr))
        });
        self.running.push_back(task);
    }
}

impl<L: Listener<Addr: Debug + 'static>> Listener for TlsListener<L> {
    type Io = TlsStream<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if self.running.len() < self.at_once
                && let Some((io, addr)) = self.next.take()
            {
                self.begin(io, addr);
            }
            tokio::select! {
                // Those that are done go on before others begin: so many files are open as there are handshakes.
                biased;
                Some(ended) = self.handshakes.join_next() => {
                    self.running.retain(|task| !task.is_finished());
                    match ended {
                        Ok(Some(connected)) => return connected,
                        Ok(None) => {}
                        Err(error) if error.is_cancelled() => meters::handshake("given up"),
                        Err(error) => tracing::error!(%error, "a TLS handshake"),
                    }
                }
                next = self.inner.accept(), if self.next.is_none() => {
                    if self.running.len() >= self.at_once
                        && let Some(oldest) = self.running.front()
                    {
                        oldest.abort();
                    }
                    self.next = Some(next);
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

impl<L: Listener<Addr: Debug + 'static>> Port for TlsListener<L> {
    fn peer(&self, io: &TlsStream<L::Io>) -> Peer {
        let (_, session) = io.get_ref();
        Peer::of(session.peer_certificates(), &self.verifier)
    }
}

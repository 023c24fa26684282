//! Whoever answers calls, one of each kind, all there at the same time and on the same database. Servers that are
//! compared answer calls and do nothing else: what there is to do in the background is the usual server's.

use std::any::Any;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anklang_testkit::{Client, Options, TestServer};
use anyhow::{Context, Result};
use uuid::Uuid;

use super::hand::{Hand, Way};
use super::traces::Traces;
use super::{bare, tokens};
use crate::Bench;
use crate::data::TENANT;
use crate::report::processor_time;

/// HTTP/2 connections that callers share.
const CHANNELS: usize = 8;

/// All calls are one tenant's, faster than a tenant may call by default.
const NO_RATE: &str = "[server.limits]\nrequests_per_second = 0\n";
/// A tenant's rate is counted, and never reached.
const RATE: &str = "[server.limits]\nrequests_per_second = 1000000\nburst = 1000000\n";

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// The database, by hand.
    Hand(Way),
    /// The bare server.
    Bare,
    /// The server, which asks nobody who calls.
    Server,
    /// The server, and callers show a static token.
    Token,
    /// The server, and callers show a JWT.
    Jwt,
    /// The server with tracing of all calls.
    Traced,
    /// The server with a rate for the tenant.
    Limited,
}

/// One who answers, with ways to it.
pub struct Side {
    pid: Option<u32>,
    ways: Vec<To>,
    /// Ends when this is dropped.
    _running: Box<dyn Any>,
}

/// A way to one who answers.
#[derive(Clone)]
pub enum To {
    /// Over a connection.
    Server(Client),
    /// By hand.
    Hand(Arc<Hand>),
}

impl Side {
    /// A process that listens, while `running` is there.
    pub async fn process(
        pid: u32,
        addr: SocketAddr,
        token: Option<&str>,
        running: impl Any,
    ) -> Result<Side> {
        let mut ways = Vec::new();
        for _ in 0..CHANNELS {
            let client = Client::connect_as(addr, Some(TENANT), token).await?;
            ways.push(To::Server(client));
        }
        Ok(Side {
            pid: Some(pid),
            ways,
            _running: Box::new(running),
        })
    }

    /// A server as it is by default, with all roles, but for the rate.
    pub async fn usual(bench: &Bench) -> Result<Side> {
        let options = Options {
            config: NO_RATE.into(),
            ..Default::default()
        };
        Self::started(bench, options, None, ()).await
    }

    /// A bare server.
    pub async fn bare(bench: &Bench, tenant: Uuid) -> Result<Side> {
        let bare = bare::Process::start(bench, tenant).await?;
        Self::process(bare.pid()?, bare.addr, None, bare).await
    }

    /// A server on the same database with more settings. It stops when it is dropped, and what it `needs` with it.
    async fn server(
        bench: &Bench,
        config: String,
        token: Option<&str>,
        needs: impl Any,
    ) -> Result<Side> {
        let options = Options {
            config,
            roles: vec!["api"],
            no_dispatch: true,
            ..Default::default()
        };
        Self::started(bench, options, token, needs).await
    }

    async fn started(
        bench: &Bench,
        options: Options,
        token: Option<&str>,
        needs: impl Any,
    ) -> Result<Side> {
        let server = TestServer::start_on(bench.server.database.clone(), options).await?;
        let pid = server.pid().context("it runs")?;
        Self::process(pid, server.addr, token, (server, needs)).await
    }

    /// The way that a caller takes.
    pub fn way(&self, caller: usize) -> To {
        self.ways[caller % self.ways.len()].clone()
    }

    /// The id of its process, if it has one of its own.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What processors have spent on its process so far.
    pub fn processor(&self) -> Result<Duration> {
        self.pid.map_or(Ok(Duration::ZERO), processor_time)
    }
}

/// Starts all, with the receiver of the traces.
pub async fn start(bench: &Bench, tenant: Uuid) -> Result<(HashMap<By, Side>, Traces)> {
    let mut sides = HashMap::new();
    for way in Way::ALL {
        let side = Side {
            pid: None,
            ways: vec![To::Hand(Arc::new(Hand::open(bench, tenant, way).await?))],
            _running: Box::new(()),
        };
        sides.insert(By::Hand(way), side);
    }
    sides.insert(By::Bare, Side::bare(bench, tenant).await?);
    let server = Side::server(bench, NO_RATE.into(), None, ()).await?;
    sides.insert(By::Server, server);
    let limited = Side::server(bench, RATE.into(), None, ()).await?;
    sides.insert(By::Limited, limited);

    let known = tokens::fixed()?;
    let config = [NO_RATE, &known.config].concat();
    let asked = Side::server(bench, config, Some(&known.token), ()).await?;
    sides.insert(By::Token, asked);
    let (known, issuer) = tokens::issued().await?;
    let config = [NO_RATE, &known.config].concat();
    let asked = Side::server(bench, config, Some(&known.token), issuer).await?;
    sides.insert(By::Jwt, asked);

    let traces = Traces::start().await?;
    let config = format!("{NO_RATE}[telemetry]\nendpoint = \"{}\"\n", traces.url);
    let traced = Side::server(bench, config, None, ()).await?;
    sides.insert(By::Traced, traced);
    Ok((sides, traces))
}

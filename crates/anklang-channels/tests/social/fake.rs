//! A strict HTTP server: what does not keep the documented contract is refused with 400 and a
//! reason, and fails the test when the fake is dropped.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request, read to its end.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    /// The only header line of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(found, _)| found == name);
        let first = lines.next().map(|(_, value)| value.as_str());
        assert!(lines.next().is_none(), "{name} twice");
        first
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a fake does with a request.
pub enum Answer {
    /// Status, further header lines, body.
    Json(u16, Vec<(&'static str, String)>, Value),
    /// Status, media type, body.
    Text(u16, &'static str, String),
    /// The connection ends without an answer.
    Cut,
    /// No answer ever.
    Hang,
}

impl Answer {
    pub fn json(status: u16, body: Value) -> Result<Self, String> {
        Ok(Answer::Json(status, Vec::new(), body))
    }
}

type Contract = dyn Fn(&Seen) -> Result<Answer, String> + Send + Sync;

struct State {
    contract: Box<Contract>,
    seen: Mutex<Vec<Seen>>,
    broken: Mutex<Vec<String>>,
}

/// A running fake.
pub struct Fake {
    addr: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
        let broken = self.state.broken.lock().unwrap();
        if !std::thread::panicking() {
            assert!(broken.is_empty(), "the contract was broken: {broken:#?}");
        }
    }
}

impl Fake {
    /// Serves a contract: the answer to a request, or why it breaks the contract.
    pub async fn start(
        contract: impl Fn(&Seen) -> Result<Answer, String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            contract: Box::new(contract),
            seen: Mutex::default(),
            broken: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                // An error is a client that is gone.
                sessions.spawn(async move { serve(stream, &state).await.is_ok() });
            }
        });
        Self {
            addr,
            state,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read(&mut stream).await? {
        let answer = (state.contract)(&seen);
        state.seen.lock().unwrap().push(seen.clone());
        let answer = answer.unwrap_or_else(|reason| {
            let what = format!("{} {}: {reason}", seen.method, seen.target);
            state.broken.lock().unwrap().push(what.clone());
            Answer::Text(400, "text/plain", what)
        });
        let (status, media, headers, body) = match answer {
            Answer::Json(status, headers, body) => {
                (status, "application/json", headers, body.to_string())
            }
            Answer::Text(status, media, body) => (status, media, Vec::new(), body),
            Answer::Cut => return Ok(()),
            Answer::Hang => return std::future::pending().await,
        };
        let lines: String = headers
            .iter()
            .map(|(n, v)| format!("{n}: {v}\r\n"))
            .collect();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {media}\r\ncontent-length: {}\r\n{lines}\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
    }
    Ok(())
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Seen {
        method,
        target,
        headers,
        body,
    }))
}

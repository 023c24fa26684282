//! A fax server that speaks the protocol of hfaxd strictly, and breaks off where it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What the server does instead of answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Says this.
    Say(&'static str),
    /// Does what it is asked and closes without an answer.
    Close,
    /// Does what it is asked and falls silent.
    Hang,
    /// Closes without having done anything.
    Die,
}

/// A job that was submitted.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub id: u32,
    pub parameters: HashMap<String, String>,
    pub document: Vec<u8>,
}

impl Job {
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

#[derive(Default)]
struct State {
    fault: Option<(String, Then)>,
    connections: usize,
    logins: usize,
    open: usize,
    most_open: usize,
    last_job: u32,
    submitted: Vec<Job>,
    /// Finished jobs: what their files say.
    done: Vec<(u32, String)>,
    /// What clients did that no client may do.
    faults: Vec<String>,
}

pub struct HfaxdPeer {
    port: u16,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl Drop for HfaxdPeer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl HfaxdPeer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                sessions.spawn(async move {
                    {
                        let mut state = state.lock().unwrap();
                        state.connections += 1;
                        state.open += 1;
                        state.most_open = state.most_open.max(state.open);
                    }
                    let mut session = Session::new(stream, Arc::clone(&state));
                    // An error is a client that is gone, or a fault that was asked for.
                    let _ = session.serve().await;
                    state.lock().unwrap().open -= 1;
                });
            }
        });
        Self {
            port,
            state,
            serving,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on this happens at `step`: "greeting", a command, "data" of an upload, "stored" after
    /// it; for a parameter its command and name.
    pub fn fail_at(&self, step: &str, then: Then) {
        self.state().fault = Some((step.to_owned(), then));
    }

    pub fn work_again(&self) {
        self.state().fault = None;
    }

    pub fn connections(&self) -> usize {
        self.state().connections
    }

    pub fn logins(&self) -> usize {
        self.state().logins
    }

    /// Most connections at the same time.
    pub fn at_once(&self) -> usize {
        self.state().most_open
    }

    pub fn submitted(&self) -> Vec<Job> {
        self.state().submitted.clone()
    }

    /// The job is finished, and its file says this as well.
    pub fn finish(&self, id: u32, says: &str) {
        let mut state = self.state();
        let at = state.submitted.iter().position(|job| job.id == id).unwrap();
        let job = state.submitted.remove(at);
        let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let tag = job.parameter("JOBINFO").to_owned();
        let file = format!("tts:{seconds}\njobtag:{tag}\nowner:fax\n{says}\n");
        state.done.push((id, file));
    }

    /// The server has cleaned up.
    pub fn remove_finished(&self) {
        self.state().done.clear();
    }

    /// What clients did wrong.
    pub fn faults(&self) -> Vec<String> {
        self.state().faults.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

struct Session {
    stream: BufReader<TcpStream>,
    state: Arc<Mutex<State>>,
    logged_in: bool,
    admin: bool,
    data: Option<TcpListener>,
    files: HashMap<String, Vec<u8>>,
    format: String,
    job: Option<Job>,
}

type Done = std::io::Result<()>;

fn ended() -> std::io::Error {
    std::io::ErrorKind::ConnectionAborted.into()
}

impl Session {
    fn new(stream: TcpStream, state: Arc<Mutex<State>>) -> Self {
        Self {
            stream: BufReader::new(stream),
            state,
            logged_in: false,
            admin: false,
            data: None,
            files: HashMap::new(),
            format: String::new(),
            job: None,
        }
    }

    async fn serve(&mut self) -> Done {
        let unknown = "130 Warning, no inverse address mapping for client host name \"x\".";
        self.line(unknown).await?;
        self.answer(
            "greeting",
            "220 peer server (HylaFAX (tm) Version 6.0.7) ready.",
        )
        .await?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if !line.ends_with("\r\n") {
                self.fault(format!("no line: {line:?}"));
            }
            self.command(line.trim_end()).await?;
        }
    }

    async fn command(&mut self, line: &str) -> Done {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let login = matches!(verb, "USER" | "PASS" | "QUIT");
        if !login && !self.logged_in {
            self.fault(format!("{line} without a login"));
            return self.line("530 Please login with USER and PASS.").await;
        }
        match verb {
            "USER" => self.answer("USER", "331 Password required for fax.").await,
            "PASS" => {
                self.state.lock().unwrap().logins += 1;
                let right = rest == "\"ge heim\\\"\"";
                self.logged_in = right;
                let said = if right {
                    "230 User fax logged in."
                } else {
                    "530 Login incorrect."
                };
                self.answer("PASS", said).await
            }
            "ADMIN" => {
                self.admin = rest == "\"chef\"";
                let said = if self.admin {
                    "230 Privileges."
                } else {
                    "530 Password incorrect."
                };
                self.answer("ADMIN", said).await
            }
            "TZONE" | "TYPE" | "MODE" | "FORM" => {
                self.answer(verb, &format!("200 {verb} set to {rest}."))
                    .await
            }
            "JOBFMT" => {
                self.format = unquoted(rest).replace("\\011", "\t");
                self.answer(verb, "200 JOBFMT command successful.").await
            }
            "PASV" => self.passive().await,
            "STOT" => self.store().await,
            "LIST" | "RETR" => self.give(verb, rest).await,
            "JOB" if rest == "default" => {
                self.job = None;
                self.answer("JOB", "200 Current job: (default).").await
            }
            "JNEW" => self.new_job().await,
            "JPARM" => self.parameter(rest).await,
            "JSUBM" => self.submit().await,
            "QUIT" => {
                self.line("221 Goodbye.").await?;
                Err(ended())
            }
            _ => {
                self.fault(format!("unknown: {line}"));
                self.line("500 Command not recognized.").await
            }
        }
    }

    async fn passive(&mut self) -> Done {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let [high, low] = listener.local_addr()?.port().to_be_bytes();
        self.data = Some(listener);
        // Another machine: nobody may call it.
        let said = format!("227 Entering passive mode (192,0,2,1,{high},{low})");
        self.answer("PASV", &said).await
    }

    async fn data(&mut self) -> std::io::Result<TcpStream> {
        let listener = self.data.take().ok_or_else(ended)?;
        Ok(listener.accept().await?.0)
    }

    async fn store(&mut self) -> Done {
        let mut data = self.data().await?;
        let name = format!("/tmp/doc{}.tif", self.files.len() + 1);
        let said = format!("150 FILE: {name} (Opening new data connection).");
        if self.fault_at("STOT").is_some() {
            return self.answer("STOT", &said).await;
        }
        self.line(&said).await?;
        if let Some(then) = self.fault_at("data") {
            drop(data);
            return self.act(then, "").await;
        }
        let mut document = Vec::new();
        data.read_to_end(&mut document).await?;
        self.files.insert(name.clone(), document);
        let said = format!("226 Transfer complete (FILE: {name}).");
        self.answer("stored", &said).await
    }

    async fn give(&mut self, verb: &str, what: &str) -> Done {
        let mut data = self.data().await?;
        let given = match what {
            "sendq" => self.waiting(),
            "doneq" => self.finished(),
            file => {
                let done = self.state.lock().unwrap().done.clone();
                let found = done.iter().find(|(id, _)| format!("/doneq/q{id}") == file);
                let Some((_, says)) = found else {
                    return self
                        .line(&format!("550 {file}: No such file or directory."))
                        .await;
                };
                says.clone()
            }
        };
        if self.fault_at(verb).is_none() {
            self.line(&format!("150 Opening new data connection for \"{what}\"."))
                .await?;
            data.write_all(given.as_bytes()).await?;
        }
        drop(data);
        self.answer(verb, "226 Transfer complete.").await
    }

    fn waiting(&self) -> String {
        let state = self.state.lock().unwrap();
        let line = |job: &Job| self.listed(job.id, "S", "0", job.parameter("JOBINFO"));
        state.submitted.iter().map(line).collect()
    }

    fn finished(&self) -> String {
        let state = self.state.lock().unwrap();
        let line = |(id, says): &(u32, String)| {
            let of = |key: &str| {
                let line = says.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap_or_default().to_owned()
            };
            let letter = if of("state:") == "7" { "D" } else { "F" };
            self.listed(*id, letter, &of("tts:"), &of("jobtag:"))
        };
        // Another client's among them.
        let other = "99\tD\t1\t1\tsomebody\tanklang:x\r\n".to_owned();
        state.done.iter().map(line).chain([other]).collect()
    }

    fn listed(&self, id: u32, letter: &str, seconds: &str, tag: &str) -> String {
        let line = self
            .format
            .replace("%j", &id.to_string())
            .replace("%a", letter)
            .replace("%Z", seconds)
            .replace("%y", "1")
            .replace("%o", "fax")
            .replace("%J", tag);
        format!("{line}\r\n")
    }

    async fn new_job(&mut self) -> Done {
        if self.job.is_some() {
            self.fault("JNEW on top of a job, which it would inherit from".to_owned());
        }
        let id = {
            let mut state = self.state.lock().unwrap();
            state.last_job += 1;
            state.last_job
        };
        self.job = Some(Job {
            id,
            ..Job::default()
        });
        self.answer(
            "JNEW",
            &format!("200 New job created: jobid: {id} groupid: {id}."),
        )
        .await
    }

    async fn parameter(&mut self, rest: &str) -> Done {
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let value = unquoted(value);
        let Some(job) = &mut self.job else {
            self.fault(format!("JPARM {name} without a job"));
            return self.line("504 No job.").await;
        };
        if name == "DOCUMENT" {
            match self.files.get(&value) {
                Some(document) => job.document.clone_from(document),
                None => return self.line("550 No such file or directory.").await,
            }
        }
        if name == "LASTTIME" && !job.parameters.contains_key("SENDTIME") {
            self.fault("LASTTIME counts from SENDTIME".to_owned());
        }
        if let Some(job) = &mut self.job {
            job.parameters.insert(name.to_owned(), value);
        }
        let step = format!("JPARM {name}");
        self.answer(&step, &format!("213 {name} set.")).await
    }

    async fn submit(&mut self) -> Done {
        let fault = self.fault_at("JSUBM");
        if fault != Some(Then::Die) && !matches!(fault, Some(Then::Say(_))) {
            let job = self.job.clone().unwrap_or_default();
            for needed in [
                "DIALSTRING",
                "NOTIFYADDR",
                "FROMUSER",
                "DOCUMENT",
                "JOBINFO",
            ] {
                if job.parameter(needed).is_empty() {
                    self.fault(format!("JSUBM without {needed}"));
                }
            }
            self.state.lock().unwrap().submitted.push(job);
        }
        let id = self.job.as_ref().map_or(0, |job| job.id);
        self.answer("JSUBM", &format!("200 Job {id} submitted."))
            .await
    }

    /// Answers, unless something else is to happen at this step.
    async fn answer(&mut self, step: &str, said: &str) -> Done {
        match self.fault_at(step) {
            Some(then) => self.act(then, said).await,
            None => self.line(said).await,
        }
    }

    async fn act(&mut self, then: Then, _said: &str) -> Done {
        match then {
            Then::Say(said) => self.line(said).await,
            Then::Close | Then::Die => Err(ended()),
            Then::Hang => std::future::pending().await,
        }
    }

    async fn line(&mut self, said: &str) -> Done {
        self.stream
            .write_all(format!("{said}\r\n").as_bytes())
            .await
    }

    fn fault_at(&self, step: &str) -> Option<Then> {
        let state = self.state.lock().unwrap();
        let fault = state.fault.as_ref();
        fault.filter(|(at, _)| at == step).map(|(_, then)| *then)
    }

    fn fault(&self, what: String) {
        self.state.lock().unwrap().faults.push(what);
    }
}

/// A parameter without its quotes.
fn unquoted(text: &str) -> String {
    let Some(inside) = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return text.to_owned();
    };
    inside.replace("\\\"", "\"").replace("\\\\", "\\")
}

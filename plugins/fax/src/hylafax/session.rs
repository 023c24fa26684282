//! One logged-in connection to hfaxd: commands, files to it and from it.
//!
//! The protocol is that of FTP with commands for jobs. Data goes over connections of its own, which
//! we open (PASV, EPSV), always to the machine that we are connected to: whatever address the server
//! names is not called.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::Settings;
use super::reply::{Assembly, LONGEST_LINE, Reply, file, passive_port, quoted};

/// Patience with QUIT, on which nothing depends.
const GOODBYE: Duration = Duration::from_secs(2);
/// Largest listing that is read, in bytes: some 100,000 jobs.
pub(crate) const LARGEST_LISTING: u64 = 16 << 20;

/// Why a step failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server answered with something else than what goes on.
    Refused(Reply),
    /// There was no answer, or none that can be read: the connection is worth nothing.
    Broken(String),
    /// The other side is not what is configured.
    Mismatch(String),
}

impl Fault {
    /// For people.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Refused(reply) => reply.detail(),
            Self::Broken(text) | Self::Mismatch(text) => text.clone(),
        }
    }
}

/// See the module's documentation. Dropping it closes the connection: hfaxd then removes the
/// documents and the job that were not submitted.
pub(crate) struct Session {
    stream: BufReader<TcpStream>,
    peer: SocketAddr,
    patience: Duration,
    /// Jobs that were begun on it.
    pub(crate) jobs: u32,
}

impl Session {
    /// Connects and logs in.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Fault> {
        let server = (settings.host.as_str(), settings.port);
        let stream = within(settings.patience, TcpStream::connect(server)).await?;
        let peer = stream
            .peer_addr()
            .map_err(|e| Fault::Broken(e.to_string()))?;
        // Whether small segments go out at once matters for speed alone.
        let _ = stream.set_nodelay(true);
        let mut session = Self {
            stream: BufReader::new(stream),
            peer,
            patience: settings.patience,
            jobs: 0,
        };
        session.greeting().await?;
        session.login(settings).await?;
        for command in ["TZONE GMT", "TYPE I", "MODE S", "FORM TIFF"] {
            session.done(command).await?;
        }
        Ok(session)
    }

    async fn greeting(&mut self) -> Result<(), Fault> {
        let mut reply = self.reply().await?;
        // 130: it does not know our name.
        while reply.class() == 1 {
            reply = self.reply().await?;
        }
        ok(reply).map(|_| ())
    }

    async fn login(&mut self, settings: &Settings) -> Result<(), Fault> {
        let user = self.command(&format!("USER {}", settings.username)).await?;
        let reply = match (user.code, &settings.password) {
            (331, Some(password)) => {
                let password = password.expose_secret();
                // A hyphen before the password asks for short replies, and is no part of it.
                let hyphen = if password.starts_with('-') { "-" } else { "" };
                let password = quoted(&format!("{hyphen}{password}"));
                self.command(&format!("PASS {password}")).await?
            }
            (331, None) => {
                return Err(Fault::Mismatch("the server asks for a password".to_owned()));
            }
            _ => user,
        };
        ok(reply)?;
        if let Some(password) = &settings.admin_password {
            let password = quoted(password.expose_secret());
            self.done(&format!("ADMIN {password}")).await?;
        }
        Ok(())
    }

    /// Says a command, gives its reply whatever it is.
    pub(crate) async fn command(&mut self, command: &str) -> Result<Reply, Fault> {
        self.say(command).await?;
        self.reply().await
    }

    /// Says a command that has to succeed.
    pub(crate) async fn done(&mut self, command: &str) -> Result<Reply, Fault> {
        ok(self.command(command).await?)
    }

    /// Says a command without waiting for its reply.
    pub(crate) async fn say(&mut self, command: &str) -> Result<(), Fault> {
        debug_assert!(!command.contains(['\r', '\n']), "one command at a time");
        let line = format!("{command}\r\n");
        within(
            self.patience,
            self.stream.get_mut().write_all(line.as_bytes()),
        )
        .await
    }

    /// Reads a reply.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Fault> {
        let patience = self.patience;
        match timeout(patience, self.read_reply()).await {
            Ok(reply) => reply,
            Err(_) => Err(silent(patience)),
        }
    }

    async fn read_reply(&mut self) -> Result<Reply, Fault> {
        let mut assembly = Assembly::default();
        let mut line = Vec::new();
        let most = u64::try_from(LONGEST_LINE).expect("is small");
        loop {
            line.clear();
            let mut bounded = (&mut self.stream).take(most);
            let read = bounded.read_until(b'\n', &mut line).await;
            let read = read.map_err(|e| Fault::Broken(e.to_string()))?;
            if read == 0 || line.last() != Some(&b'\n') {
                return Err(Fault::Broken("the server closed the connection".to_owned()));
            }
            let text = String::from_utf8_lossy(&line);
            match assembly.line(text.trim_end_matches(['\r', '\n'])) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(why) => return Err(Fault::Mismatch(format!("no reply of hfaxd: {why}"))),
            }
        }
    }

    /// Hands over a document, which hfaxd forgets when the connection ends. Gives its name there.
    pub(crate) async fn upload(&mut self, document: &[u8]) -> Result<String, Fault> {
        let patience = self.patience;
        let mut data = self.data().await?;
        let begun = self.command("STOT").await?;
        if begun.class() != 1 {
            return Err(Fault::Refused(begun));
        }
        let written = async {
            data.write_all(document).await?;
            data.shutdown().await
        };
        within(patience, written).await?;
        let stored = ok(self.reply().await?)?;
        file(&begun.text)
            .or_else(|| file(&stored.text))
            .ok_or_else(|| Fault::Mismatch("the server does not name the document".to_owned()))
    }

    /// What a command such as LIST or RETR gives, at most `most` bytes.
    pub(crate) async fn download(&mut self, command: &str, most: u64) -> Result<String, Fault> {
        let patience = self.patience;
        let data = self.data().await?;
        let begun = self.command(command).await?;
        if begun.class() != 1 {
            return Err(Fault::Refused(begun));
        }
        let mut bytes = Vec::new();
        let mut bounded = data.take(most);
        within(patience, bounded.read_to_end(&mut bytes)).await?;
        if bounded.limit() == 0 {
            return Err(Fault::Broken(format!("more than {most} bytes")));
        }
        // Without this the end of the data may be that of the server.
        ok(self.reply().await?)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A connection for data.
    async fn data(&mut self) -> Result<TcpStream, Fault> {
        let command = if self.peer.is_ipv4() { "PASV" } else { "EPSV" };
        let reply = self.done(command).await?;
        let port = passive_port(&reply)
            .ok_or_else(|| Fault::Mismatch("the server names no port for data".to_owned()))?;
        let address = SocketAddr::new(self.peer.ip(), port);
        within(self.patience, TcpStream::connect(address)).await
    }

    /// Takes leave.
    pub(crate) async fn quit(mut self) {
        // The connection is closed whatever the server says.
        let _ = timeout(GOODBYE, self.command("QUIT")).await;
    }
}

/// A reply that goes on.
fn ok(reply: Reply) -> Result<Reply, Fault> {
    if reply.class() == 2 && !reply.is_farewell() {
        Ok(reply)
    } else {
        Err(Fault::Refused(reply))
    }
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Fault> {
    match timeout(patience, work).await {
        Ok(done) => done.map_err(|e| Fault::Broken(e.to_string())),
        Err(_) => Err(silent(patience)),
    }
}

fn silent(patience: Duration) -> Fault {
    Fault::Broken(format!("no answer within {patience:?}"))
}

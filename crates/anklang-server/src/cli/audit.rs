//! `anklang audit`: exports the audit log, and checks its chain on this side of the server.

mod line;
mod part;
mod verify;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anklang_proto::anklang::audit::v1 as pb;
use anyhow::Context;
use pb::audit_service_client::AuditServiceClient;
use tempfile::Builder;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::client::text::{clean_json, clean_lines};
use super::client::{self, AuditList};
use super::import::Broken;
use super::server_args::{Connection, ServerArgs};
use crate::grpc::TENANT_KEY;
use line::Line;
use verify::VerifyArgs;

/// The log could not be read to its end.
const EXIT_FAILED: u8 = 2;
/// So many calls without an entry more, and reading is given up.
const TRIES: u32 = 8;
/// The wait before another call.
const WAIT: Duration = Duration::from_secs(2);

/// List and export the audit log, and check that nothing in it was changed (docs/audit.md).
#[derive(clap::Subcommand)]
pub enum AuditCommand {
    // What it says of itself stands with the other commands that call a server.
    #[command(name = "list")]
    List(AuditList),
    /// Write all sealed entries as JSON, one on each line.
    Export(ExportArgs),
    /// Check the chain of a server's log, or of an exported file, from its beginning.
    ///
    /// Tells how many entries of which tenant there are and the head to be noted, or the first entry that is broken
    /// and why. Exit code: 0 the chain is whole, 1 it is broken, 2 the log could not be read, 3 it has no entries, or
    /// none in the part and no head was given, 4 it is whole and none of the heads that were given could be compared, 64
    /// wrong usage.
    Verify(VerifyArgs),
}

// No doc comments: they would be those of the commands.
#[derive(clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The tenant, by its slug.
    #[arg(long, env = "ANKLANG_TENANT")]
    tenant: String,
    /// Where to, a file that is there when it is whole; otherwise to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    let code = match command {
        AuditCommand::List(AuditList(asked)) => return client::run(asked).await,
        AuditCommand::Export(args) => export(args).await.map(|()| ExitCode::SUCCESS),
        AuditCommand::Verify(args) => verify::verify(args).await,
    };
    Ok(code.unwrap_or_else(|error| {
        eprintln!("anklang: {}", clean_lines(&format!("{error:#}")));
        ExitCode::from(EXIT_FAILED)
    }))
}

async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let Some(path) = &args.out else {
        return write(&args, &mut BufWriter::new(std::io::stdout())).await;
    };
    // A link stays one.
    let path = path.canonicalize().unwrap_or_else(|_| path.clone());
    let at = || path.display().to_string();
    anyhow::ensure!(!path.exists() || path.is_file(), "{} is no file", at());
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Beside it, so that it can be renamed; until then what was there stays.
    let file = Builder::new().prefix(".audit-").tempfile_in(folder);
    let mut file = file.with_context(at)?;
    write(&args, &mut BufWriter::new(&mut file)).await?;
    file.as_file().sync_all().with_context(at)?;
    file.persist(&path).map_err(|e| e.error).with_context(at)?;
    let folder = File::open(folder).and_then(|folder| folder.sync_all());
    folder.with_context(at)
}

/// Writes all sealed entries.
async fn write(args: &ExportArgs, out: &mut impl Write) -> anyhow::Result<()> {
    read_server(&args.server, &args.tenant, 0, &mut |entry| {
        let line = serde_json::to_string(&Line::of(entry)?)?;
        writeln!(out, "{}", clean_json(&line))?;
        Ok(true)
    })
    .await?;
    out.flush()?;
    Ok(())
}

/// Gives the sealed entries of a server behind a number to `each`, while it wants more. When the connection is lost, it
/// goes on where it was.
async fn read_server(
    server: &ServerArgs,
    tenant: &str,
    after: i64,
    each: &mut impl FnMut(pb::AuditEntry) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let connection = server.connect(None).await?;
    let slug: MetadataValue<Ascii> = tenant.parse().context("the tenant is no slug")?;
    let mut cursor = match after {
        ..=0 => String::new(),
        after => after.to_string(),
    };
    let mut tries = 0;
    loop {
        let before = cursor.clone();
        match call(&connection, &slug, &mut cursor, each).await {
            Ok(()) => return Ok(()),
            Err(Broken::Failed(error)) => return Err(error),
            Err(Broken::Lost(error)) => {
                tries = if cursor == before { tries + 1 } else { 1 };
                if tries >= TRIES {
                    return Err(error.context("the connection was lost again and again"));
                }
            }
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// One call, from the cursor on; it moves behind what `each` was given.
async fn call(
    connection: &Connection,
    tenant: &MetadataValue<Ascii>,
    cursor: &mut String,
    each: &mut impl FnMut(pb::AuditEntry) -> anyhow::Result<bool>,
) -> Result<(), Broken> {
    let mut request = Request::new(pb::ExportAuditEntriesRequest {
        cursor: cursor.clone(),
    });
    request.metadata_mut().insert(TENANT_KEY, tenant.clone());
    let mut client = AuditServiceClient::new(connection.clone());
    let parts = client.export_audit_entries(request).await;
    let mut parts = parts.map_err(Broken::of)?.into_inner();
    while let Some(part) = parts.message().await.map_err(Broken::of)? {
        for entry in part.audit_entries {
            if !each(entry)? {
                return Ok(());
            }
        }
        *cursor = part.cursor;
    }
    Ok(())
}

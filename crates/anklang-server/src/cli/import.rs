//! `anklang import`: sends CSV files to a running server and tells what came of them.

use std::io::{IsTerminal, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use anklang_domain::master::Entity;
use anklang_proto::anklang::imports::v1 as pb;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use pb::import_request::Part;
use pb::import_service_client::ImportServiceClient;
use tokio::io::AsyncSeekExt;
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tokio_util::io::ReaderStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::client::text::{clean, clean_lines};
use super::server_args::{Bearer, Connection, ServerArgs};
use super::status::{faults, is_lost};
use crate::grpc::TENANT_KEY;

/// Some rows were refused.
const EXIT_BAD_ROWS: u8 = 1;
/// The import could not run, or not to its end.
const EXIT_FAILED: u8 = 2;
/// Bytes that are sent at once.
const PART: usize = 256 * 1024;
/// Bad rows that are printed; `--errors` has all.
const PRINTED: u64 = 20;

/// Import master data from CSV files through a running server.
///
/// Rows are keyed by your own numbers: importing a file twice changes nothing. Good rows stay,
/// bad rows are told with their line and reason. Exit code: 0 all rows are in, 1 some were
/// refused, 2 the import could not run, 64 wrong usage. When the connection is lost, it goes on where
/// the server says, for some minutes.
#[derive(clap::Args)]
pub struct ImportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The tenant, by its slug.
    #[arg(long, env = "ANKLANG_TENANT")]
    tenant: String,
    /// Check everything, change nothing.
    #[arg(long)]
    validate_only: bool,
    /// What separates the values: , ; | or tab.
    #[arg(long, default_value = ",", value_parser = delimiter)]
    delimiter: String,
    /// Write all bad rows to this file, as CSV.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    /// Import every `ENTITY.csv` of a folder, in the order in which they build on each other.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["entity", "file"])]
    folder: Option<PathBuf>,
    /// What the rows are: brands, products, product_versions, customers, contact_points, consents,
    /// suppressions, contracts, contract_items, orders, order_lines, attributes,
    /// plan_entries, inactive_periods or vouchers.
    #[arg(value_parser = entity, required_unless_present = "folder", requires = "file")]
    entity: Option<Entity>,
    /// The CSV, UTF-8, its first line naming the columns.
    file: Option<PathBuf>,
}

fn delimiter(text: &str) -> Result<String, String> {
    match text {
        "," | ";" | "|" | "\t" => Ok(text.to_owned()),
        "tab" | "\\t" => Ok("\t".to_owned()),
        _ => Err("must be , ; | or tab".to_owned()),
    }
}

fn entity(text: &str) -> Result<Entity, String> {
    Entity::by_name(text).ok_or_else(|| {
        let names: Vec<&str> = Entity::ALL.iter().map(|e| e.name()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// Runs the command.
pub async fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    Ok(match import(args).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_BAD_ROWS),
        Err(error) => {
            eprintln!("anklang: {}", clean_lines(&format!("{error:#}")));
            ExitCode::from(EXIT_FAILED)
        }
    })
}

/// Imports all files; gives the number of rows that were refused.
async fn import(args: ImportArgs) -> anyhow::Result<i64> {
    let files = files(&args)?;
    let mut report = Report::new(args.errors.as_deref())?;
    let server = args.server.connect(None).await?;
    let options = Options {
        delimiter: args.delimiter,
        validate_only: args.validate_only,
    };
    let mut failed = 0;
    for (entity, path) in files {
        let bar = bar(&path, entity);
        let sums = import_file(
            server.clone(),
            &args.tenant,
            entity,
            &path,
            &options,
            |bytes, response| {
                bar.set_position(bytes);
                bar.set_message(format!("{} rows", response.rows));
                bar.suspend(|| report.add(&path, &response.errors))
            },
        )
        .await;
        bar.finish_and_clear();
        let sums = sums.with_context(|| path.display().to_string())?;
        failed += sums.failed;
        println!("{}: {}", path.display(), summary(&sums, args.validate_only));
    }
    report.finish()?;
    Ok(failed)
}

/// The files to import, each after those it builds on.
fn files(args: &ImportArgs) -> anyhow::Result<Vec<(Entity, PathBuf)>> {
    if let (Some(entity), Some(file)) = (args.entity, &args.file) {
        return Ok(vec![(entity, file.clone())]);
    }
    let folder = args.folder.as_deref().unwrap_or(Path::new("."));
    let files: Vec<_> = Entity::ALL
        .into_iter()
        .map(|entity| (entity, folder.join(format!("{}.csv", entity.name()))))
        .filter(|(_, path)| path.is_file())
        .collect();
    anyhow::ensure!(
        !files.is_empty(),
        "{} has no file that is named after an entity, e.g. customers.csv",
        folder.display()
    );
    Ok(files)
}

fn bar(path: &Path, entity: Entity) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    let style = ProgressStyle::with_template("{prefix:18} {wide_bar} {percent:>3}% {msg}, {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes)
        .with_style(style)
        .with_prefix(entity.name())
}

fn summary(sums: &pb::ImportResponse, validate_only: bool) -> String {
    format!(
        "{} rows: {} new, {} changed, {} as before, {} refused{}",
        sums.rows,
        sums.created,
        sums.updated,
        sums.unchanged,
        sums.failed,
        if validate_only { " (checked only)" } else { "" }
    )
}

/// Bad rows: the first ones on standard error, all of them in a file.
struct Report {
    file: Option<csv::Writer<std::fs::File>>,
    count: u64,
}

impl Report {
    fn new(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut file = None;
        if let Some(path) = path {
            let mut writer =
                csv::Writer::from_path(path).with_context(|| path.display().to_string())?;
            writer.write_record(["file", "line", "field", "reason"])?;
            file = Some(writer);
        }
        Ok(Report { file, count: 0 })
    }

    fn add(&mut self, path: &Path, errors: &[pb::RowError]) -> anyhow::Result<()> {
        let path = path.display().to_string();
        for error in errors {
            self.count += 1;
            let field = if error.field.is_empty() {
                "row"
            } else {
                &error.field
            };
            if self.count <= PRINTED {
                let mut stderr = std::io::stderr().lock();
                let (field, reason) = (clean(field), clean(&error.reason));
                writeln!(stderr, "{path}:{}: {field}: {reason}", error.line)?;
            }
            if let Some(file) = &mut self.file {
                file.write_record([&path, &error.line.to_string(), &error.field, &error.reason])?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        if self.count > PRINTED {
            let more = self.count - PRINTED;
            let hint = if self.file.is_some() {
                ""
            } else {
                "; --errors FILE keeps all"
            };
            eprintln!("… and {more} more{hint}");
        }
        Ok(())
    }
}

/// How a file is read and whether it counts.
#[derive(Debug, Clone)]
pub struct Options {
    /// What separates the values.
    pub delimiter: String,
    /// Check everything, change nothing.
    pub validate_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            delimiter: ",".to_owned(),
            validate_only: false,
        }
    }
}

/// Imports a CSV file and gives the sums. After each response `on_progress` gets the number of
/// bytes sent so far and the response, with the sums of the whole file; its error ends the import,
/// what was committed stays.
///
/// When the connection or the server is lost, the import goes on where the last response says, as
/// often as it takes while it moves on, and gives up after twelve calls that did not.
pub async fn import_file(
    server: Connection,
    tenant: &str,
    entity: Entity,
    path: &Path,
    options: &Options,
    mut on_progress: impl FnMut(u64, &pb::ImportResponse) -> anyhow::Result<()>,
) -> anyhow::Result<pb::ImportResponse> {
    let mut far = pb::ImportResponse::default();
    let mut tries = 0;
    loop {
        let header = pb::ImportHeader {
            entity: to_proto(entity).into(),
            delimiter: options.delimiter.clone(),
            validate_only: options.validate_only,
            resume_from: far.checkpoint.clone(),
            ..Default::default()
        };
        let before = far.checkpoint.clone();
        let call = Call {
            server: server.clone(),
            tenant,
            path,
        };
        match call.run(header, &mut far, &mut on_progress).await {
            Ok(()) => return Ok(far),
            Err(Broken::Lost(error)) => {
                tries = if far.checkpoint == before {
                    tries + 1
                } else {
                    1
                };
                if tries >= TRIES {
                    return Err(error.context("the connection was lost again and again"));
                }
            }
            Err(Broken::Failed(error)) => return Err(error),
        }
        tokio::time::sleep(FIRST_WAIT * 2_u32.pow(tries.min(5))).await;
    }
}

/// So many calls without a chunk more, over about two minutes, and the import is given up.
const TRIES: u32 = 12;
/// Half of the first wait before another call; they double up to sixteen seconds.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Why a call ended early.
pub(super) enum Broken {
    /// The server or the way to it is gone, for now.
    Lost(anyhow::Error),
    /// It would come to the same again.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Broken {
    fn from(error: E) -> Self {
        Broken::Failed(error.into())
    }
}

impl Broken {
    /// What a server's refusal means for whoever would call again.
    pub(super) fn of(status: Status) -> Self {
        // More than the server takes at the same time is tried again as well.
        let lost =
            is_lost(&status) || matches!(status.code(), Code::Aborted | Code::ResourceExhausted);
        let error = explain(status);
        if lost {
            Broken::Lost(error)
        } else {
            Broken::Failed(error)
        }
    }
}

/// One call that sends a file, or the rest of it.
struct Call<'a> {
    server: Connection,
    tenant: &'a str,
    path: &'a Path,
}

impl Call<'_> {
    /// Sends the file from where the header says; `far` is how far the import is altogether.
    async fn run(
        self,
        header: pb::ImportHeader,
        far: &mut pb::ImportResponse,
        on_progress: &mut impl FnMut(u64, &pb::ImportResponse) -> anyhow::Result<()>,
    ) -> Result<(), Broken> {
        let mut file = tokio::fs::File::open(self.path).await?;
        let from = header.resume_from.as_ref().map_or(0, |at| at.offset);
        let from = file.seek(SeekFrom::Start(from.unsigned_abs())).await?;
        let sent = Arc::new(AtomicU64::new(from));
        let broken = Arc::new(Mutex::new(None));
        let stopped = Arc::new(Notify::new());
        let parts = ReaderStream::with_capacity(file, PART).map_while({
            let (sent, broken, stopped) = (sent.clone(), broken.clone(), stopped.clone());
            move |piece| match piece {
                Ok(bytes) => {
                    sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    Some(Part::Csv(bytes))
                }
                Err(error) => {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    stopped.notify_one();
                    None
                }
            }
        });
        // The server would take an end for the file's, and half a record for its last one: when reading
        // stops, the call is dropped instead.
        let end = futures::stream::poll_fn({
            let broken = broken.clone();
            move |_| match *broken.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(_) => Poll::Pending,
                None => Poll::Ready(None),
            }
        });
        let parts = parts.chain(end);
        let parts = tokio_stream::once(Part::Header(header)).chain(parts);
        let mut request = Request::new(parts.map(|part| pb::ImportRequest { part: Some(part) }));
        let slug = self.tenant.parse().context("the tenant is no slug")?;
        request.metadata_mut().insert(TENANT_KEY, slug);

        let base = far.clone();
        let call = ImportServiceClient::new(self.server).import(request).await;
        let mut responses = call.map_err(Broken::of)?.into_inner();
        let mut untold = Vec::new();
        loop {
            let response = tokio::select! {
                response = responses.message() => response.map_err(Broken::of)?,
                () = stopped.notified() => None,
            };
            let Some(response) = response else { break };
            let settled = response.checkpoint.is_some();
            let mut now = altogether(&base, response);
            untold.append(&mut now.errors);
            if settled {
                now.errors = std::mem::take(&mut untold);
            }
            on_progress(sent.load(Ordering::Relaxed), &now)?;
            // What another call would send again does not count yet, nor is it told.
            if settled {
                *far = now;
            }
        }
        if let Some(error) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(anyhow::Error::from(error)
                .context("reading it stopped")
                .into());
        }
        if !far.done {
            let reason = "the server ended the import early";
            return Err(Broken::Lost(anyhow::anyhow!(reason)));
        }
        Ok(())
    }
}

/// A response of a call with the sums of the calls before it.
fn altogether(before: &pb::ImportResponse, response: pb::ImportResponse) -> pb::ImportResponse {
    pb::ImportResponse {
        rows: before.rows + response.rows,
        created: before.created + response.created,
        updated: before.updated + response.updated,
        unchanged: before.unchanged + response.unchanged,
        failed: before.failed + response.failed,
        ..response
    }
}

/// As `import_file`, by the name of the entity; `on_rows` gets the number of rows so far.
pub async fn file_for_demo(
    channel: Channel,
    tenant: &str,
    entity: &str,
    path: &Path,
    mut on_rows: impl FnMut(u64),
) -> anyhow::Result<pb::ImportResponse> {
    let entity = Entity::by_name(entity).with_context(|| format!("{entity} is no entity"))?;
    let options = Options::default();
    let progress = |_, response: &pb::ImportResponse| {
        on_rows(response.rows.unsigned_abs());
        Ok(())
    };
    let server = Connection::new(channel, Bearer::none());
    import_file(server, tenant, entity, path, &options, progress).await
}

/// A refusal with all that is wrong.
fn explain(status: Status) -> anyhow::Error {
    let faults = faults(&status);
    let lines: Vec<_> = match &faults[..] {
        [] => vec![clean(status.message())],
        all => all.iter().map(|fault| clean(fault)).collect(),
    };
    anyhow::anyhow!("{}", lines.join("\n  "))
}

fn to_proto(entity: Entity) -> pb::ImportEntity {
    match entity {
        Entity::Brands => pb::ImportEntity::Brands,
        Entity::Products => pb::ImportEntity::Products,
        Entity::ProductVersions => pb::ImportEntity::ProductVersions,
        Entity::Customers => pb::ImportEntity::Customers,
        Entity::ContactPoints => pb::ImportEntity::ContactPoints,
        Entity::Consents => pb::ImportEntity::Consents,
        Entity::Suppressions => pb::ImportEntity::Suppressions,
        Entity::Contracts => pb::ImportEntity::Contracts,
        Entity::ContractItems => pb::ImportEntity::ContractItems,
        Entity::Orders => pb::ImportEntity::Orders,
        Entity::OrderLines => pb::ImportEntity::OrderLines,
        Entity::Attributes => pb::ImportEntity::Attributes,
        Entity::PlanEntries => pb::ImportEntity::PlanEntries,
        Entity::InactivePeriods => pb::ImportEntity::InactivePeriods,
        Entity::Vouchers => pb::ImportEntity::Vouchers,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn what_a_server_says_does_nothing_to_a_terminal() {
        let plain = explain(Status::internal("a\u{1b}[2J\nb"));
        assert_eq!(plain.to_string(), "a\\u{1b}[2J\\nb");
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("a", "is \u{1b}[2J");
        details.add_bad_request_violation("b", "is\nwrong");
        let status = Status::with_error_details(Code::InvalidArgument, "2 fields", details);
        let said = explain(status).to_string();
        assert_eq!(said, "a: is \\u{1b}[2J\n  b: is\\nwrong");
    }
}

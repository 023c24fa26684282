//! Bulk import: a stream of CSV bytes or rows in, a stream of sums and bad rows out; or rows in one request.
//!
//! Two chunks are written at the same time, and meanwhile the next one is received, read and checked.
//! Memory is bounded by a part and three chunks: a chunk is begun to be written when the one before the
//! last is committed and its responses were taken, so that both sides hold up the other through the
//! stream. Responses come in order: what is told includes all rows before, and when a chunk fails, the
//! one after it may be in the database without being told; sent again, it changes nothing. No
//! transaction is open while waiting for the client. A server that stops tells what it is writing, and no more.

mod answers;
mod at_once;
mod csv;
mod read;

use std::collections::VecDeque;
use std::time::Duration;

use anklang_domain::TenantId;
use anklang_domain::master::{
    AttributeRow, BrandRow, ConsentRow, ContactPointRow, ContractItemRow, ContractRow, CustomerRow,
    InactivePeriodRow, OrderLineRow, OrderRow, PlanEntryRow, ProductRow, ProductVersionRow,
    SuppressionRow, VoucherRow,
};
use anklang_proto::anklang::imports::v1 as pb;
use anklang_store::Store;
use anklang_store::audit::Deed;
use anklang_store::call::carried;
use anklang_store::import::{CHUNK, Load, Numbered, Read, Session, Sums};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use pb::import_request::Part;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{ApiError, caller, deed, parts};
use crate::work::App;
use answers::{Answers, End};
use csv::Place;
use read::RowReader;

/// A client that sends nothing for so long gets its rows committed.
const PAUSE: Duration = Duration::from_millis(500);
/// The largest part of CSV in bytes.
const MAX_CSV: usize = 1 << 20;
/// The most rows in a part.
const MAX_ROWS: usize = 10_000;

/// The service.
pub struct ImportsApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::import_service_server::ImportService for ImportsApi {
    type ImportStream = ReceiverStream<Result<pb::ImportResponse, Status>>;

    async fn import(
        &self,
        request: Request<Streaming<pb::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let (answers, responses) = answers::channel();
        let client = Client {
            requests: request.into_inner().boxed(),
            stopping: self.app.stopping.clone(),
            answers,
        };
        tokio::spawn(carried(serve(self.app.store.clone(), tenant.id, client)));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn import_rows(
        &self,
        request: Request<pb::ImportRowsRequest>,
    ) -> Result<Response<pb::ImportResponse>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let (answers, responses) = answers::channel();
        let client = Client {
            requests: at_once::parts(request.into_inner())?,
            // A server that stops lets it end, as all calls that are no streams.
            stopping: CancellationToken::new(),
            answers,
        };
        tokio::spawn(carried(serve(self.app.store.clone(), tenant.id, client)));
        at_once::gathered(responses).await.map(Response::new)
    }
}

/// What comes.
type Requests = BoxStream<'static, Result<pb::ImportRequest, Status>>;

/// The other side of the call.
struct Client {
    requests: Requests,
    stopping: CancellationToken,
    answers: Answers,
}

/// Why an import ended early.
enum Stop {
    /// The client is gone; what was committed stays.
    Gone,
    /// What the client sent does not come through, or it cancelled.
    Broken(Status),
    /// The import was refused or failed.
    Refused(ApiError),
}

impl<E: Into<ApiError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Refused(error.into())
    }
}

impl Client {
    /// The next part; `None` at the end. There is none once the server stops.
    async fn next(&mut self) -> Result<Option<Part>, Stop> {
        let message = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return Err(parts::stops().into()),
            message = self.requests.try_next() => message,
        };
        match message {
            Ok(None) => Ok(None),
            Ok(Some(pb::ImportRequest { part: Some(part) })) => Ok(Some(part)),
            Ok(Some(pb::ImportRequest { part: None })) => {
                Err(ApiError::field("part", "is required: header, csv or rows").into())
            }
            Err(status) => Err(Stop::Broken(status)),
        }
    }
}

async fn serve(store: Store, tenant: TenantId, mut client: Client) {
    let status = match import(store, tenant, &mut client).await {
        Ok(()) | Err(Stop::Gone) => return,
        Err(Stop::Broken(status)) => status,
        Err(Stop::Refused(error)) => error.into(),
    };
    client.answers.end(status).await;
}

async fn import(store: Store, tenant: TenantId, client: &mut Client) -> Result<(), Stop> {
    let header = match client.next().await? {
        Some(Part::Header(header)) => header,
        None => return Err(Stop::Gone),
        Some(_) => return Err(ApiError::field("part", "the first must be the header").into()),
    };
    use pb::ImportEntity::*;
    match header.entity() {
        Unspecified => {
            let reason = "must be one of the known entities";
            Err(ApiError::field("header.entity", reason).into())
        }
        Brands => run::<BrandRow>(store, tenant, header, client).await,
        Products => run::<ProductRow>(store, tenant, header, client).await,
        ProductVersions => run::<ProductVersionRow>(store, tenant, header, client).await,
        Customers => run::<CustomerRow>(store, tenant, header, client).await,
        ContactPoints => run::<ContactPointRow>(store, tenant, header, client).await,
        Consents => run::<ConsentRow>(store, tenant, header, client).await,
        Suppressions => run::<SuppressionRow>(store, tenant, header, client).await,
        Contracts => run::<ContractRow>(store, tenant, header, client).await,
        ContractItems => run::<ContractItemRow>(store, tenant, header, client).await,
        Orders => run::<OrderRow>(store, tenant, header, client).await,
        OrderLines => run::<OrderLineRow>(store, tenant, header, client).await,
        Attributes => run::<AttributeRow>(store, tenant, header, client).await,
        PlanEntries => run::<PlanEntryRow>(store, tenant, header, client).await,
        InactivePeriods => run::<InactivePeriodRow>(store, tenant, header, client).await,
        Vouchers => run::<VoucherRow>(store, tenant, header, client).await,
    }
}

async fn run<R: Load>(
    store: Store,
    tenant: TenantId,
    header: pb::ImportHeader,
    client: &mut Client,
) -> Result<(), Stop> {
    let reader = RowReader::<R>::new(&header)?;
    let mut writer = Writer::new(client.answers.clone(), deed::of_import(&header)?);
    let result = transfer(
        store,
        tenant,
        header.validate_only,
        client,
        reader,
        &mut writer,
    )
    .await;
    // Whoever begins anew after an error must not be overtaken by what is still being written.
    for writing in writer.writing {
        let _ = writing.await;
    }
    result
}

async fn transfer<R: Load>(
    store: Store,
    tenant: TenantId,
    validate_only: bool,
    client: &mut Client,
    mut reader: RowReader<R>,
    writer: &mut Writer<R>,
) -> Result<(), Stop> {
    let mut rows = Vec::new();
    loop {
        let part = tokio::select! {
            part = client.next() => part?,
            // Also an import that fails while its client has nothing to send is told so.
            written = writer.first(), if !writer.is_idle() => {
                written?;
                continue;
            }
            () = sleep(PAUSE), if !rows.is_empty() && writer.is_idle() => {
                writer.write(&reader, &mut rows, 1).await?;
                continue;
            }
        };
        let ended = part.is_none();
        let (back, read) = read_part(reader, part).await?;
        reader = back;
        rows.extend(read);
        if writer.session.is_none() && !reader.columns().is_empty() {
            let columns = reader.columns().iter().cloned();
            let store = store.clone();
            writer.session = Some(Session::new(store, tenant, columns, validate_only));
        }
        let least = if ended { 1 } else { CHUNK };
        writer.write(&reader, &mut rows, least).await?;
        if ended {
            let sums = writer.finish().await?;
            let end = End {
                done: true,
                checkpoint: Some(reader.checkpoint(reader.place())),
            };
            return client.answers.tell(sums, Vec::new(), end).await;
        }
    }
}

/// Writes chunks while others are read, and tells of them in their order.
struct Writer<R> {
    session: Option<Session<R>>,
    /// What is being written and told, in order.
    writing: VecDeque<JoinHandle<Result<(), Stop>>>,
    /// The sums of all that was told; comes when the newest of `writing` was told.
    told: oneshot::Receiver<Sums>,
    answers: Answers,
    /// What the audit log says of each chunk, but for the hash of what was received.
    deed: Deed,
}

impl<R: Load> Writer<R> {
    fn new(answers: Answers, deed: Deed) -> Self {
        let (begun, told) = oneshot::channel();
        // Nothing was told, and nobody can be gone yet.
        let _ = begun.send(Sums::default());
        Writer {
            session: None,
            writing: VecDeque::new(),
            told,
            answers,
            deed,
        }
    }

    fn is_idle(&self) -> bool {
        self.writing.is_empty()
    }

    /// Waits for the first chunk that is being written, if one is. Can be given up and called again.
    async fn first(&mut self) -> Result<(), Stop> {
        if let Some(writing) = self.writing.front_mut() {
            let done = writing.await;
            self.writing.pop_front();
            done.map_err(|e| ApiError::Internal(format!("writing rows: {e}")))??;
        }
        Ok(())
    }

    /// Begins to write chunks while there are `least` rows or more, a few at a time.
    async fn write(
        &mut self,
        reader: &RowReader<R>,
        rows: &mut Vec<Numbered<Read<R>>>,
        least: usize,
    ) -> Result<(), Stop> {
        while rows.len() >= least && !rows.is_empty() {
            while self.writing.len() >= Session::<R>::at_once() {
                self.first().await?;
            }
            let Some(session) = &mut self.session else {
                return Ok(());
            };
            let rest = rows.split_off(rows.len().min(CHUNK));
            let chunk = session.chunk(std::mem::replace(rows, rest));
            let next = rows.first().map_or_else(
                || reader.place(),
                |row| Place {
                    line: row.line,
                    offset: row.offset,
                },
            );
            let end = End {
                done: false,
                checkpoint: Some(reader.checkpoint(next)),
            };
            let (tell_next, told) = oneshot::channel();
            let before = std::mem::replace(&mut self.told, told);
            let (writer, answers) = (session.writer(), self.answers.clone());
            let deed = Deed {
                request_hash: reader.received(),
                ..self.deed.clone()
            };
            self.writing.push_back(tokio::spawn(carried(async move {
                let wanted = || answers.are_taken();
                let written = writer.write(chunk, &deed, &wanted).await;
                let written = written.map_err(ApiError::Store)?.ok_or(Stop::Gone)?;
                // When the chunk before was not written, that is told, and nothing of this one.
                let mut sums = before.await.map_err(|_| Stop::Gone)?;
                sums += written.sums;
                answers.tell(sums, written.faults, end).await?;
                // Nobody listens any more when the call has ended.
                let _ = tell_next.send(sums);
                Ok(())
            })));
        }
        Ok(())
    }

    /// Waits for all chunks and ends the import; the sums of all.
    async fn finish(&mut self) -> Result<Sums, Stop> {
        while !self.is_idle() {
            self.first().await?;
        }
        let sums = (&mut self.told).await.map_err(|_| Stop::Gone)?;
        if let Some(session) = self.session.take() {
            session.finish(sums).await;
        }
        Ok(sums)
    }
}

/// Reads the rows of a part, or those left at the end. Reading takes time: it is done apart from
/// the threads that serve others.
async fn read_part<R: Load>(
    mut reader: RowReader<R>,
    part: Option<Part>,
) -> Result<(RowReader<R>, Vec<Numbered<Read<R>>>), Stop> {
    match &part {
        Some(Part::Header(_)) => {
            return Err(ApiError::field("part", "the header comes once, first").into());
        }
        Some(Part::Csv(bytes)) if bytes.len() > MAX_CSV => {
            return Err(ApiError::field("csv", "must be at most 1 MiB a part").into());
        }
        Some(Part::Rows(rows)) if rows.rows.len() > MAX_ROWS => {
            return Err(ApiError::field("rows", "must be at most 10,000 a part").into());
        }
        _ => {}
    }
    let read = tokio::task::spawn_blocking(move || {
        let rows = match part {
            None | Some(Part::Header(_)) => reader.finish(),
            Some(Part::Csv(bytes)) => reader.csv(&bytes),
            Some(Part::Rows(rows)) => reader.rows(&rows.rows),
        }?;
        Ok::<_, ApiError>((reader, rows))
    });
    let read = read
        .await
        .map_err(|error| ApiError::Internal(format!("reading rows: {error}")))?;
    Ok(read?)
}

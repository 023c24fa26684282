//! Bulk import: a stream of CSV bytes or rows in, a stream of sums and bad rows out.
//!
//! Memory is bounded by a part and a chunk: the next part is read when the rows before are
//! committed, and rows are committed when the responses before were taken, so that both sides hold
//! up the other through the stream. No transaction is open while waiting for the client.

mod csv;
mod read;

use std::time::Duration;

use anklang_domain::TenantId;
use anklang_domain::master::{
    AttributeRow, BrandRow, ConsentRow, ContactPointRow, ContractItemRow, ContractRow, CustomerRow,
    OrderLineRow, OrderRow, ProductRow, ProductVersionRow, SuppressionRow,
};
use anklang_proto::anklang::imports::v1 as pb;
use anklang_store::Store;
use anklang_store::import::{CHUNK, Fault, Load, Numbered, Read, Session, Sums};
use pb::import_request::Part;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{ApiError, caller};
use read::RowReader;

/// A client that sends nothing for so long gets its rows committed.
const PAUSE: Duration = Duration::from_millis(500);
/// The largest part of CSV in bytes.
const MAX_CSV: usize = 1 << 20;
/// The most rows in a part.
const MAX_ROWS: usize = 10_000;
/// The most bad rows in a response, so that it stays far below the limit of a message.
const MAX_ERRORS: usize = 500;
/// Responses that may wait for the client.
const RESPONSES: usize = 4;

/// The service.
pub struct ImportsApi {
    store: Store,
}

impl ImportsApi {
    /// The service on a database.
    pub fn new(store: Store) -> Self {
        ImportsApi { store }
    }
}

#[tonic::async_trait]
impl pb::import_service_server::ImportService for ImportsApi {
    type ImportStream = ReceiverStream<Result<pb::ImportResponse, Status>>;

    async fn import(
        &self,
        request: Request<Streaming<pb::ImportRequest>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let tenant = caller(&self.store, &request).await?;
        let (responses, receiver) = mpsc::channel(RESPONSES);
        let client = Client {
            requests: request.into_inner(),
            responses,
        };
        tokio::spawn(serve(self.store.clone(), tenant.id, client));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The other side of the call.
struct Client {
    requests: Streaming<pb::ImportRequest>,
    responses: mpsc::Sender<Result<pb::ImportResponse, Status>>,
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
    /// The next part; `None` at the end.
    async fn next(&mut self) -> Result<Option<Part>, Stop> {
        match self.requests.message().await {
            Ok(None) => Ok(None),
            Ok(Some(pb::ImportRequest { part: Some(part) })) => Ok(Some(part)),
            Ok(Some(pb::ImportRequest { part: None })) => {
                Err(ApiError::field("part", "is required: header, csv or rows").into())
            }
            Err(status) => Err(Stop::Broken(status)),
        }
    }

    /// Tells how far the import is; waits until the client takes the responses before.
    async fn tell(&self, sums: Sums, faults: Vec<Fault>, done: bool) -> Result<(), Stop> {
        let mut errors = faults.into_iter().map(|fault| pb::RowError {
            line: fault.line,
            field: fault.field,
            reason: fault.reason,
        });
        loop {
            let some: Vec<_> = errors.by_ref().take(MAX_ERRORS).collect();
            let last = errors.len() == 0;
            let response = pb::ImportResponse {
                rows: sums.rows,
                created: sums.created,
                updated: sums.updated,
                unchanged: sums.unchanged,
                failed: sums.failed,
                errors: some,
                done: done && last,
            };
            self.responses
                .send(Ok(response))
                .await
                .map_err(|_| Stop::Gone)?;
            if last {
                return Ok(());
            }
        }
    }
}

async fn serve(store: Store, tenant: TenantId, mut client: Client) {
    let status = match import(store, tenant, &mut client).await {
        Ok(()) | Err(Stop::Gone) => return,
        Err(Stop::Broken(status)) => status,
        Err(Stop::Refused(error)) => error.into(),
    };
    // A client that is gone needs no answer.
    let _ = client.responses.send(Err(status)).await;
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
    }
}

async fn run<R: Load>(
    store: Store,
    tenant: TenantId,
    header: pb::ImportHeader,
    client: &mut Client,
) -> Result<(), Stop> {
    let mut reader = RowReader::<R>::new(&header)?;
    let mut session: Option<Session<R>> = None;
    let mut rows = Vec::new();
    loop {
        let part = if rows.is_empty() {
            client.next().await?
        } else {
            match timeout(PAUSE, client.next()).await {
                Ok(part) => part?,
                Err(_paused) => {
                    commit(&mut session, &mut rows, 1, client).await?;
                    continue;
                }
            }
        };
        let ended = part.is_none();
        let (back, read) = read_part(reader, part).await?;
        reader = back;
        rows.extend(read);
        if session.is_none() && !reader.columns().is_empty() {
            let columns = reader.columns().iter().cloned();
            let store = store.clone();
            session = Some(Session::new(store, tenant, columns, header.validate_only));
        }
        let least = if ended { 1 } else { CHUNK };
        commit(&mut session, &mut rows, least, client).await?;
        if ended {
            let sums = match session {
                Some(session) => session.finish().await,
                None => Sums::default(),
            };
            return client.tell(sums, Vec::new(), true).await;
        }
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

/// Commits the rows in chunks while there are `least` of them or more, and tells the client after
/// each.
async fn commit<R: Load>(
    session: &mut Option<Session<R>>,
    rows: &mut Vec<Numbered<Read<R>>>,
    least: usize,
    client: &Client,
) -> Result<(), Stop> {
    let Some(session) = session else {
        return Ok(());
    };
    while rows.len() >= least {
        let rest = rows.split_off(rows.len().min(CHUNK));
        let chunk = std::mem::replace(rows, rest);
        let faults = session.chunk(chunk).await.map_err(ApiError::Store)?;
        client.tell(session.sums(), faults, false).await?;
    }
    Ok(())
}

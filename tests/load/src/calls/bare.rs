//! What calls are measured against: the same service with the same messages over tonic, where each call is one
//! statement, prepared before, as the owner of the tables, over a pool of tokio-postgres. Nothing is around it: nobody
//! is asked who calls, nothing is checked, limited, counted, traced or written down, no row-level security.

use std::net::SocketAddr;
use std::process::Stdio;

use anklang_proto::anklang::brands::v1 as pb;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use deadpool::managed;
use pb::brand_service_server::{BrandService, BrandServiceServer};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row, Statement};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::Bench;

/// Columns that a call writes.
macro_rules! columns {
    () => {
        "code, name, legal_name, street, house_number, postal_code, city, country, phone, email, website,
         register_line, vat_id, bank_line, sender_name, sender_email, reply_to"
    };
}

/// A brand, by tenant and code.
pub const READ: &str = concat!(
    "SELECT ",
    columns!(),
    ", created_at, updated_at FROM brand WHERE tenant_id = $1 AND code = $2"
);

/// Adds or replaces a brand; its binds are [`values`].
pub const WRITE: &str = concat!(
    "INSERT INTO brand (tenant_id, id, ",
    columns!(),
    ") VALUES ($1, anklang_uuid7(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
     ON CONFLICT (tenant_id, code) DO UPDATE SET
         name = excluded.name, legal_name = excluded.legal_name, street = excluded.street,
         house_number = excluded.house_number, postal_code = excluded.postal_code, city = excluded.city,
         country = excluded.country, phone = excluded.phone, email = excluded.email,
         website = excluded.website, register_line = excluded.register_line, vat_id = excluded.vat_id,
         bank_line = excluded.bank_line, sender_name = excluded.sender_name,
         sender_email = excluded.sender_email, reply_to = excluded.reply_to, updated_at = now()
     RETURNING ",
    columns!(),
    ", created_at, updated_at"
);

/// What [`WRITE`] binds.
pub fn values<'a>(tenant: &'a Uuid, brand: &'a pb::Brand) -> [&'a (dyn ToSql + Sync); 18] {
    [
        tenant,
        &brand.code,
        &brand.display_name,
        &brand.legal_name,
        &brand.street,
        &brand.house_number,
        &brand.postal_code,
        &brand.city,
        &brand.country,
        &brand.phone,
        &brand.email,
        &brand.website,
        &brand.register_line,
        &brand.vat_id,
        &brand.bank_line,
        &brand.sender_name,
        &brand.sender_email,
        &brand.reply_to,
    ]
}

fn brand(row: &Row) -> Result<pb::Brand, tokio_postgres::Error> {
    let text = |column: usize| row.try_get::<_, String>(column);
    let time = |column: usize| {
        let time = row.try_get::<_, DateTime<Utc>>(column)?;
        Ok::<_, tokio_postgres::Error>(prost_types::Timestamp {
            seconds: time.timestamp(),
            nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
        })
    };
    let code = text(0)?;
    Ok(pb::Brand {
        name: format!("brands/{code}"),
        code,
        display_name: text(1)?,
        legal_name: text(2)?,
        street: text(3)?,
        house_number: text(4)?,
        postal_code: text(5)?,
        city: text(6)?,
        country: text(7)?,
        phone: text(8)?,
        email: text(9)?,
        website: text(10)?,
        register_line: text(11)?,
        vat_id: text(12)?,
        bank_line: text(13)?,
        sender_name: text(14)?,
        sender_email: text(15)?,
        reply_to: text(16)?,
        create_time: Some(time(17)?),
        update_time: Some(time(18)?),
        etag: String::new(),
    })
}

/// How the program starts itself as this server.
#[derive(clap::Args)]
pub struct Args {
    /// URL of the database.
    #[arg(long)]
    url: String,
    /// So many connections to it.
    #[arg(long)]
    connections: usize,
    /// Whose brands.
    #[arg(long)]
    tenant: Uuid,
}

/// Serves for as long as nobody ends it, and says where.
pub async fn serve(args: Args) -> Result<()> {
    let pool = managed::Pool::builder(Login(args.url))
        .max_size(args.connections)
        .build()?;
    let service = BrandServiceServer::new(Bare {
        pool,
        tenant: args.tenant,
    });
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("listening on {}", incoming.local_addr()?);
    Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming.with_nodelay(Some(true)))
        .await?;
    Ok(())
}

/// A process that serves so. Killed when it is dropped.
pub struct Process {
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
}

impl Process {
    /// Starts one on the tenant's brands, with as many connections as the server has.
    pub async fn start(bench: &Bench, tenant: Uuid) -> Result<Process> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bare", "--url", &bench.server.database.url])
            .args(["--connections", &bench.connections()?.to_string()])
            .args(["--tenant", &tenant.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("piped")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.context("the bare server did not start")?;
        let addr = line.strip_prefix("listening on ").context("an address")?;
        let addr = addr.parse()?;
        Ok(Process { addr, child })
    }

    /// Its id.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("it runs")
    }
}

/// Opens connections by a URL.
struct Login(String);

/// A connection and what it has prepared.
struct Prepared {
    client: tokio_postgres::Client,
    read: Statement,
    write: Statement,
}

impl managed::Manager for Login {
    type Type = Prepared;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Prepared, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.0, NoTls).await?;
        tokio::spawn(connection);
        Ok(Prepared {
            read: client.prepare(READ).await?,
            write: client.prepare(WRITE).await?,
            client,
        })
    }

    async fn recycle(
        &self,
        prepared: &mut Prepared,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<tokio_postgres::Error> {
        if prepared.client.is_closed() {
            return Err(managed::RecycleError::message("closed"));
        }
        Ok(())
    }
}

struct Bare {
    pool: managed::Pool<Login>,
    tenant: Uuid,
}

impl Bare {
    async fn connection(&self) -> Result<managed::Object<Login>, Status> {
        let taken = self.pool.get().await;
        taken.map_err(|error| Status::unavailable(error.to_string()))
    }
}

fn internal(error: tokio_postgres::Error) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl BrandService for Bare {
    async fn get_brand(
        &self,
        request: Request<pb::GetBrandRequest>,
    ) -> Result<Response<pb::Brand>, Status> {
        let name = request.into_inner().name;
        let code = name.strip_prefix("brands/");
        let code = code.ok_or_else(|| Status::invalid_argument("name"))?;
        let to = self.connection().await?;
        let found = to.client.query_opt(&to.read, &[&self.tenant, &code]).await;
        let row = found
            .map_err(internal)?
            .ok_or_else(|| Status::not_found(&name))?;
        Ok(Response::new(brand(&row).map_err(internal)?))
    }

    async fn list_brands(
        &self,
        _: Request<pb::ListBrandsRequest>,
    ) -> Result<Response<pb::ListBrandsResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn update_brand(
        &self,
        request: Request<pb::UpdateBrandRequest>,
    ) -> Result<Response<pb::Brand>, Status> {
        let given = request.into_inner().brand;
        let given = given.ok_or_else(|| Status::invalid_argument("brand"))?;
        let to = self.connection().await?;
        let values = values(&self.tenant, &given);
        let saved = to.client.query_one(&to.write, &values).await;
        let row = saved.map_err(internal)?;
        Ok(Response::new(brand(&row).map_err(internal)?))
    }
}

//! The statements of the calls by hand on a connection of their own: what a transaction and row-level security add.

use anklang_proto::anklang::brands::v1 as pb;
use anyhow::Result;
use tokio_postgres::Statement;
use uuid::Uuid;

use super::bare::{READ, WRITE, values};
use crate::Bench;

/// What is around a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Nothing: a transaction of its own, as the owner of the tables.
    Alone,
    /// A transaction of three round trips that knows its tenant, as the owner.
    Transaction,
    /// The same as the role that owns nothing, under row-level security.
    Secured,
    /// The same with all that the server sets when it begins a transaction.
    Begun,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [Way::Alone, Way::Transaction, Way::Secured, Way::Begun];

    /// What begins the transaction, in one message.
    fn begin(self, tenant: &Uuid) -> Option<String> {
        let tenant = tenant.to_string();
        let mut settings = vec![("anklang.tenant", &tenant[..])];
        match self {
            Way::Alone => return None,
            Way::Transaction => {}
            Way::Secured => settings.push(("role", "anklang_app")),
            Way::Begun => settings.extend([
                ("role", "anklang_app"),
                ("idle_in_transaction_session_timeout", "10s"),
                ("plan_cache_mode", "auto"),
                ("anklang.traceparent", ""),
                ("statement_timeout", "120000"),
            ]),
        }
        let settings = settings
            .iter()
            .map(|(name, value)| format!("set_config('{name}', '{value}', true)"));
        let settings: Vec<String> = settings.collect();
        Some(format!("BEGIN; SELECT {}", settings.join(", ")))
    }
}

/// A connection that does it in one way.
pub struct Hand {
    client: tokio_postgres::Client,
    read: Statement,
    write: Statement,
    begin: Option<String>,
    tenant: Uuid,
}

impl Hand {
    /// Connects and prepares.
    pub async fn open(bench: &Bench, tenant: Uuid, way: Way) -> Result<Hand> {
        let client = bench.server.database.connect().await?;
        Ok(Hand {
            read: client.prepare(READ).await?,
            write: client.prepare(WRITE).await?,
            begin: way.begin(&tenant),
            client,
            tenant,
        })
    }

    /// Reads the brand of that code.
    pub async fn read(&self, code: &str) -> Result<()> {
        self.begin().await?;
        let (client, tenant) = (&self.client, &self.tenant);
        client.query_one(&self.read, &[tenant, &code]).await?;
        self.end().await
    }

    /// Writes it.
    pub async fn write(&self, brand: &pb::Brand) -> Result<()> {
        self.begin().await?;
        let values = values(&self.tenant, brand);
        self.client.query_one(&self.write, &values).await?;
        self.end().await
    }

    async fn begin(&self) -> Result<()> {
        if let Some(begin) = &self.begin {
            self.client.batch_execute(begin).await?;
        }
        Ok(())
    }

    async fn end(&self) -> Result<()> {
        if self.begin.is_some() {
            self.client.batch_execute("COMMIT").await?;
        }
        Ok(())
    }
}

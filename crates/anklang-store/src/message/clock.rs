//! The database's clock, which all servers share, between two transactions.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::Timestamptz;
use diesel_async::RunQueryDsl;

use crate::sql::Fix;
use crate::{Conn, Result};

/// The database's clock as it was read once. From then on time passes as it does for this process, also when the
/// server's own clock is put forward or back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    at: DateTime<Utc>,
    read: Instant,
}

impl Clock {
    /// Reads it, unless it was read just now.
    pub(super) async fn read(conn: &mut Conn, shown: Option<DateTime<Utc>>) -> Result<Self> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Timestamptz)]
            now: DateTime<Utc>,
        }
        let at = match shown {
            Some(at) => at,
            None => {
                let row: Row = diesel::sql_query("SELECT clock_timestamp() AS now")
                    .fixed()
                    .get_result(conn)
                    .await?;
                row.now
            }
        };
        Ok(Clock {
            at,
            read: Instant::now(),
        })
    }

    /// What it shows by now.
    pub fn now(&self) -> DateTime<Utc> {
        let since = TimeDelta::from_std(self.read.elapsed());
        self.at + since.unwrap_or(TimeDelta::zero())
    }
}

//! What can go wrong in the store.

use std::error::Error as _;

use anklang_domain::Violations;
use tokio_postgres::error::SqlState;

use crate::call::Call;

/// An error of the store. Only `Invalid`, `Missing` and `Refused` are for callers; the rest is
/// logged and shown as an incident.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The input breaks rules that only the database can check.
    #[error("{0}")]
    Invalid(#[from] Violations),
    /// No such resource in the tenant; holds its name, e.g. `customers/4711`.
    #[error("{0} does not exist")]
    Missing(String),
    /// The resource's state does not allow the change.
    #[error("{resource}: {reason}")]
    Refused {
        /// Name of the resource.
        resource: String,
        /// Why.
        reason: String,
    },
    /// The work belongs to somebody else by now: a lease was lost.
    #[error("the lease is lost")]
    LeaseLost,
    /// The deadline of the call has come before its transaction began.
    #[error("the call's deadline has come")]
    Late,
    /// No connection could be had.
    #[error("no database connection: {0}")]
    Pool(String),
    /// The database refused a statement.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// The database refused a statement of a bulk load.
    #[error("{}", said(.0))]
    Bulk(#[from] tokio_postgres::Error),
    /// A stored value does not read as what it should be.
    #[error("stored value: {0}")]
    Stored(String),
}

/// What the database said, or what came between; the error itself says "db error" and the like.
pub(crate) fn said(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => said.message().to_owned(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

impl StoreError {
    /// True when the deadline of the call has ended its statement, or let it begin none.
    pub fn is_late(&self) -> bool {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        let is_ended = match self {
            StoreError::Late => return true,
            // 57014, of which diesel tells no more; the words depend on the database's language.
            StoreError::Query(Error::DatabaseError(Kind::Unknown, _)) => true,
            StoreError::Bulk(error) => error.code() == Some(&SqlState::QUERY_CANCELED),
            _ => false,
        };
        is_ended && Call::time_left().is_some_and(|left| left.is_zero())
    }

    /// True when trying again later may help: no connection, or a conflict with another
    /// transaction.
    pub fn is_transient(&self) -> bool {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        match self {
            StoreError::Pool(_) => true,
            // Diesel names few kinds and hides the SQLSTATE: 57P01, 57P03, 53300 and 40P01 come as
            // Unknown with PostgreSQL's own words.
            StoreError::Query(Error::DatabaseError(Kind::Unknown, info)) => [
                "terminating connection",
                "the database system is",
                "too many clients",
                "deadlock detected",
                "connection closed",
            ]
            .iter()
            .any(|words| info.message().contains(words)),
            // An import brings the order that is being acknowledged; tried again, both are there.
            StoreError::Query(Error::DatabaseError(Kind::UniqueViolation, info)) => {
                matches!(info.table_name(), Some("sales_order" | "order_line"))
            }
            StoreError::Query(Error::DatabaseError(kind, _)) => matches!(
                kind,
                Kind::SerializationFailure | Kind::ClosedConnection | Kind::UnableToSendCommand
            ),
            StoreError::Query(Error::BrokenTransactionManager) => true,
            StoreError::Bulk(e) => e.is_closed() || e.code().is_some_and(is_transient_code),
            _ => false,
        }
    }
}

/// Conflicts with other transactions, and a database that has no connection or is going down.
fn is_transient_code(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .contains(code)
}

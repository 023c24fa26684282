//! What can go wrong in the store.

use std::error::Error as _;

use anklang_domain::Violations;
use diesel::result::DatabaseErrorKind as Kind;
use tokio_postgres::error::SqlState;

use crate::call::Call;
use crate::connections;
use crate::telemetry::without_values;
use crate::words;

/// What PostgreSQL and poolers say when there is no server, it goes down, or it is a standby; and of two
/// transactions in each other's way. Diesel names few kinds of errors and hides the SQLSTATE: 57P01 to 57P03,
/// 53300, 40P01, 55000 and the 08P01 of PgBouncer come as `Unknown` with these words alone. For 57P01 and 40P01 there
/// are the words of other languages in `words.rs`; of the others, those that do not come from a pooler, which speaks
/// English, come when one logs in, and are `Pool`.
const PASSING: [&str; 11] = [
    "terminating connection",
    "the database system is",
    "too many clients",
    "deadlock detected",
    "connection closed",
    "recovery is in progress",
    "server conn crashed",
    "server login has been failing",
    "server_login_retry",
    "query_wait_timeout",
    "no more connections allowed",
];

/// An error of the store. Only `Invalid`, `Missing` and `Refused` are for callers; the rest is
/// logged and shown as an incident, and repeats no values: neither those that PostgreSQL quotes nor its
/// DETAIL, which holds whole rows.
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
    #[error("{}", of_query(.0))]
    Query(diesel::result::Error),
    /// The database refused a statement of a bulk load.
    #[error("{}", said(.0))]
    Bulk(tokio_postgres::Error),
    /// The login may not see which migrations have run.
    #[error(
        "the login may not look at migrations: run `anklang migrate` as their owner, and grant the login the roles \
         anklang_app, anklang_scoped and anklang_worker"
    )]
    MayNotLook,
    /// A stored value does not read as what it should be.
    #[error("stored value: {}", without_values(.0))]
    Stored(String),
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::Error;
        if let Error::DatabaseError(Kind::ReadOnlyTransaction, _) = &error {
            connections::refused_to_write();
        }
        StoreError::Query(error)
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            connections::refused_to_write();
        }
        StoreError::Bulk(error)
    }
}

/// What the database said, or what came between; the error itself says "db error" and the like.
pub(crate) fn said(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => without_values(said.message()),
        (None, Some(cause)) => without_values(&format!("{error}: {cause}")),
        (None, None) => without_values(&error.to_string()),
    }
}

fn of_query(error: &diesel::result::Error) -> String {
    without_values(&error.to_string())
}

impl StoreError {
    /// True when the deadline of the call has ended its statement, or let it begin none.
    pub fn is_late(&self) -> bool {
        use diesel::result::Error;
        let is_ended = match self {
            StoreError::Late => return true,
            // 57014, of which diesel tells no more; the words depend on the database's language.
            StoreError::Query(Error::DatabaseError(Kind::Unknown, _)) => true,
            StoreError::Bulk(error) => error.code() == Some(&SqlState::QUERY_CANCELED),
            _ => false,
        };
        is_ended && Call::time_left().is_some_and(|left| left.is_zero())
    }

    /// True when trying again later may help: no connection, a server that can only be read, or a
    /// conflict with another transaction.
    pub fn is_transient(&self) -> bool {
        use diesel::result::Error;
        match self {
            StoreError::Pool(_) => true,
            StoreError::Query(Error::DatabaseError(Kind::Unknown, info)) => {
                let said = info.message();
                PASSING.iter().any(|words| said.contains(words)) || words::pass(said)
            }
            // An import brings the order that is being acknowledged; tried again, both are there.
            StoreError::Query(Error::DatabaseError(Kind::UniqueViolation, info)) => {
                matches!(info.table_name(), Some("sales_order" | "order_line"))
            }
            StoreError::Query(Error::DatabaseError(kind, _)) => is_transient_kind(kind),
            // Neither went through, so that nobody knows more than that the connection is of no use.
            StoreError::Query(
                Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. },
            ) => true,
            StoreError::Bulk(error) => {
                error.is_closed()
                    || error.code().is_some_and(is_transient_code)
                    || error
                        .source()
                        .is_some_and(|cause| cause.is::<std::io::Error>())
            }
            _ => false,
        }
    }
}

/// Conflicts with other transactions, and connections that are of no use any more.
fn is_transient_kind(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::SerializationFailure
            | Kind::ClosedConnection
            | Kind::UnableToSendCommand
            | Kind::ReadOnlyTransaction
    )
}

/// Conflicts with other transactions, and a database that has no connection, is going down or is a standby.
fn is_transient_code(code: &SqlState) -> bool {
    // Class 08: connections, also what poolers say of theirs.
    code.code().starts_with("08")
        || [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: Kind, message: &str) -> StoreError {
        diesel::result::Error::DatabaseError(kind, Box::new(message.to_owned())).into()
    }

    #[test]
    fn a_failover_passes() {
        for message in [
            "terminating connection due to administrator command",
            "terminating connection due to unexpected postmaster exit",
            "the database system is starting up",
            "server conn crashed?",
            "query_wait_timeout",
            "server login has been failing, try again later (server_login_retry)",
            "cannot acquire lock mode RowExclusiveLock on database objects while recovery is in progress",
        ] {
            assert!(query(Kind::Unknown, message).is_transient(), "{message}");
        }
        let read_only = "cannot execute INSERT in a read-only transaction";
        assert!(query(Kind::ReadOnlyTransaction, read_only).is_transient());
        assert!(query(Kind::UnableToSendCommand, "connection closed").is_transient());
    }

    #[test]
    fn our_own_faults_do_not_pass() {
        assert!(!query(Kind::Unknown, "division by zero").is_transient());
        assert!(!query(Kind::CheckViolation, "offer_state_check").is_transient());
        assert!(!StoreError::Stored("x".into()).is_transient());
    }

    #[test]
    fn errors_do_not_repeat_values() {
        let refused = query(
            Kind::Unknown,
            "invalid input syntax for type date: \"Erika Muster\"",
        );
        assert_eq!(refused.to_string(), "invalid input syntax for type date: …");
        let stored =
            StoreError::Stored("customer: invalid type: string \"Erika\", expected u32".into());
        assert_eq!(
            stored.to_string(),
            "stored value: customer: invalid type: string …"
        );
    }
}

//! What the faults of sqlx and of the server mean to a caller.
//!
//! The other files of the room call it.

use std::error::Error;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::backend::{BackendError, System};

/// What the server says when a wait was too long: for a lock, for another who waits for us, for the statement as a whole.
const TIMED_OUT: [&str; 3] = ["55P03", "40P01", "57014"];

/// Says what a fault means to a caller of `operation`.
pub fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> BackendError {
    move |error| {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.is_some_and(|code| TIMED_OUT.contains(&&*code)) {
            // The caller is told that it was a lock; which of the three it was is for whoever looks closer.
            tracing::debug!("{operation}: {error}");
            BackendError::LockTimeout { operation }
        } else {
            unavailable(operation)(error)
        }
    }
}

/// A fault of the database itself.
pub fn unavailable<E: Into<Box<dyn Error + Send + Sync>>>(
    operation: &'static str,
) -> impl FnOnce(E) -> BackendError {
    move |error| BackendError::unavailable(System::Database, operation, error)
}

/// Whether another writer has won: the request is decided, or its key taken.
pub fn is_conflict(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}

/// Whether the server refused a statement and its connection goes on; after any other fault it does not.
pub fn is_of_the_statement(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Error))
}

//! One connection of the pool in its borrower's hands.
//!
//! `pool` makes them; whoever borrows one gives it back or drops it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Execute, Executor};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{CLOSE_WAIT, Idle, Shared};
use crate::backend::postgres::fault;

/// A connection that is lent.
///
/// Dropped without `give_back` it is closed: whatever was open on it ends there.
#[derive(Debug)]
pub struct Lease {
    connection: Option<PgConnection>,
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    sound: bool,
}

impl Lease {
    pub(super) fn new(
        connection: PgConnection,
        permit: OwnedSemaphorePermit,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            connection: Some(connection),
            permit: Some(permit),
            shared,
            sound: true,
        }
    }

    /// Runs what `query` says and waits for the whole answer.
    pub async fn fetch_all<'q>(
        &mut self,
        query: impl Execute<'q, sqlx::Postgres> + 'q,
    ) -> sqlx::Result<Vec<PgRow>> {
        let Some(connection) = self.connection.as_mut().filter(|_| self.sound) else {
            return Err(sqlx::Error::Protocol("the connection has failed".into()));
        };
        // Until the answer is there: should this future be dropped, nobody knows what is still to come.
        self.sound = false;
        let answer = match timeout(self.shared.answer_wait, connection.fetch_all(query)).await {
            Ok(answer) => answer,
            Err(late) => Err(sqlx::Error::Io(late.into())),
        };
        self.sound = match &answer {
            Ok(_) => true,
            Err(error) => fault::is_of_the_statement(error),
        };
        if !self.sound {
            // Those at rest have most likely met with the same; one that has not costs a new connection.
            self.shared.idle().clear();
        }
        self.shared.down.store(!self.sound, Ordering::Relaxed);
        answer
    }

    /// Gives the connection back, if it can be used again; nothing may be open on it.
    pub fn give_back(mut self) {
        if !self.sound {
            return;
        }
        if let Some(connection) = self.connection.take() {
            self.shared.idle().push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Its place in the pool is free when the connection is closed, not before.
        if let (Some(connection), Some(permit), Ok(runtime)) = (
            self.connection.take(),
            self.permit.take(),
            Handle::try_current(),
        ) {
            runtime.spawn(async move {
                let _ = timeout(CLOSE_WAIT, connection.close()).await;
                drop(permit);
            });
        }
    }
}

//! What operators want to run: the wish for each version, its components, the audit, and what hosts said.
//!
//! `strategy/rollout` follows it on every host and `http/admin` shows it; what a wish means is `desired`'s.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::fault::failed;
use super::{Postgres, rows};
use crate::backend::BackendError;
use crate::desired::{AuditLine, Change, Digest, HostReport, Stored};
use crate::domain::Version;

impl Postgres {
    /// The wish for each version.
    pub async fn strategies(&self) -> Result<Vec<Stored>, BackendError> {
        const OPERATION: &str = "read the strategies";
        let query = sqlx::query("SELECT * FROM strategies ORDER BY version");
        let rows = self.pool.fetch_all(OPERATION, query).await?;
        let stored: sqlx::Result<_> = rows.iter().map(rows::stored).collect();
        stored.map_err(failed(OPERATION))
    }

    /// Replaces a wish, with its component and its line of the audit; none where another change came first.
    pub async fn save_strategy(&self, change: &Change) -> Result<Option<i64>, BackendError> {
        const OPERATION: &str = "save the strategy";
        let wrong = || failed(OPERATION);
        let component = change.component.as_ref();
        let named: Vec<&str> = change
            .desired
            .components()
            .into_iter()
            .map(Digest::as_str)
            .collect();
        // One statement, and so one transaction: each part is done where the wish was replaced, and nowhere else.
        let query = sqlx::query(
            "WITH saved AS ( \
                 INSERT INTO strategies (version, epoch, desired) VALUES ($1, 1, $3) \
                 ON CONFLICT (version) DO UPDATE \
                 SET epoch = strategies.epoch + 1, desired = excluded.desired \
                 WHERE strategies.epoch = $2 \
                 RETURNING epoch), \
             brought AS ( \
                 INSERT INTO components (version, digest, bytes) \
                 SELECT $1, $4, $5 FROM saved WHERE $5::bytea IS NOT NULL \
                 ON CONFLICT DO NOTHING), \
             forgotten AS ( \
                 DELETE FROM components \
                 WHERE version = $1 AND digest <> ALL ($6) AND EXISTS (SELECT FROM saved)), \
             audited AS ( \
                 INSERT INTO strategy_audit (at, version, line) SELECT $7, $1, $8 FROM saved) \
             SELECT epoch FROM saved",
        )
        .bind(change.version.as_str())
        .bind(change.after)
        .bind(rows::document(&change.desired).map_err(wrong())?)
        .bind(component.map(|(digest, _)| digest.as_str()))
        .bind(component.map(|(_, bytes)| bytes.as_slice()))
        .bind(named)
        .bind(change.audit.at.as_millisecond())
        .bind(rows::document(&change.audit).map_err(wrong())?);
        let row = self.pool.fetch_optional(OPERATION, query).await?;
        let epoch = row.map(|row| row.try_get("epoch")).transpose();
        epoch.map_err(wrong())
    }

    /// The bytes of a component; none where no wish names it any more.
    pub async fn component(
        &self,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, BackendError> {
        const OPERATION: &str = "read the component";
        let query = sqlx::query("SELECT bytes FROM components WHERE version = $1 AND digest = $2")
            .bind(version.as_str())
            .bind(digest.as_str());
        let row = self.pool.fetch_optional(OPERATION, query).await?;
        let bytes = row.map(|row| row.try_get("bytes")).transpose();
        bytes.map_err(failed(OPERATION))
    }

    /// Writes a line of the audit about something that changed nothing.
    pub async fn write_audit(&self, line: &AuditLine) -> Result<(), BackendError> {
        const OPERATION: &str = "write the audit";
        let query =
            sqlx::query("INSERT INTO strategy_audit (at, version, line) VALUES ($1, $2, $3)")
                .bind(line.at.as_millisecond())
                .bind(&line.version)
                .bind(rows::document(line).map_err(failed(OPERATION))?);
        self.pool.fetch_all(OPERATION, query).await.map(drop)
    }

    /// The last lines of the audit, of one version or of all, the last first.
    pub async fn audit(
        &self,
        version: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditLine>, BackendError> {
        const OPERATION: &str = "read the audit";
        let query = sqlx::query(
            "SELECT line FROM strategy_audit WHERE version = $1 OR $1::text IS NULL \
             ORDER BY id DESC LIMIT $2",
        )
        .bind(version)
        .bind(i64::from(limit));
        let lines = self.pool.fetch_all(OPERATION, query).await?;
        let lines: sqlx::Result<_> = lines.iter().map(|row| rows::parsed(row, "line")).collect();
        lines.map_err(failed(OPERATION))
    }

    /// Keeps what a host runs, and forgets the hosts that were not heard of since `since`.
    pub async fn report_host(
        &self,
        report: &HostReport,
        since: Timestamp,
    ) -> Result<(), BackendError> {
        const OPERATION: &str = "write the host's report";
        let query = sqlx::query(
            "WITH forgotten AS (DELETE FROM strategy_hosts WHERE seen_at < $4 AND host <> $1) \
             INSERT INTO strategy_hosts (host, seen_at, report) VALUES ($1, $2, $3) \
             ON CONFLICT (host) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report",
        )
        .bind(&report.host)
        .bind(report.seen_at.as_millisecond())
        .bind(rows::document(&report.report).map_err(failed(OPERATION))?)
        .bind(since.as_millisecond());
        self.pool.fetch_all(OPERATION, query).await.map(drop)
    }

    /// What hosts said since `since`.
    pub async fn hosts(&self, since: Timestamp) -> Result<Vec<HostReport>, BackendError> {
        const OPERATION: &str = "read the hosts' reports";
        let query = sqlx::query("SELECT * FROM strategy_hosts WHERE seen_at >= $1 ORDER BY host")
            .bind(since.as_millisecond());
        let rows = self.pool.fetch_all(OPERATION, query).await?;
        let reports: sqlx::Result<_> = rows.iter().map(host_report).collect();
        reports.map_err(failed(OPERATION))
    }
}

fn host_report(row: &PgRow) -> sqlx::Result<HostReport> {
    Ok(HostReport {
        host: row.try_get("host")?,
        seen_at: rows::time(row, "seen_at")?,
        report: rows::parsed(row, "report")?,
    })
}

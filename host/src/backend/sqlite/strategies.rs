//! What operators want to run: the wish for each version, its components, the audit, and what hosts said.
//!
//! `strategy/rollout` follows it and `http/admin` shows it; what a wish means is `desired`'s.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::file::failed;
use super::{Sqlite, rows};
use crate::backend::{BackendError, System};
use crate::desired::{AuditLine, Change, Digest, HostReport, Stored};
use crate::domain::Version;

impl Sqlite {
    /// The wish for each version.
    pub async fn strategies(&self) -> Result<Vec<Stored>, BackendError> {
        let wrong = || failed(System::Database, "read the strategies");
        let rows = sqlx::query("SELECT * FROM strategies ORDER BY version")
            .fetch_all(self.file.readers())
            .await
            .map_err(wrong())?;
        let stored: sqlx::Result<_> = rows.iter().map(rows::stored).collect();
        stored.map_err(wrong())
    }

    /// Replaces a wish, with its component and its line of the audit; none where another change came first.
    pub async fn save_strategy(&self, change: &Change) -> Result<Option<i64>, BackendError> {
        const OPERATION: &str = "save the strategy";
        let wrong = || failed(System::Database, OPERATION);
        let desired = rows::document(&change.desired).map_err(wrong())?;
        let named = rows::batch(&change.desired.components()).map_err(wrong())?;
        let mut writing = self.file.begin(OPERATION).await?;
        let saved: Option<i64> = sqlx::query_scalar(
            "INSERT INTO strategies (version, epoch, desired) VALUES (?1, 1, ?3) \
             ON CONFLICT (version) DO UPDATE SET epoch = epoch + 1, desired = excluded.desired \
             WHERE epoch = ?2 RETURNING epoch",
        )
        .bind(change.version.as_str())
        .bind(change.after)
        .bind(desired)
        .fetch_optional(writing.connection())
        .await
        .map_err(wrong())?;
        let Some(epoch) = saved else {
            writing.rollback().await?;
            return Ok(None);
        };
        if let Some((digest, bytes)) = &change.component {
            sqlx::query(
                "INSERT INTO components (version, digest, bytes) VALUES (?1, ?2, ?3) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(change.version.as_str())
            .bind(digest.as_str())
            .bind(bytes)
            .execute(writing.connection())
            .await
            .map_err(wrong())?;
        }
        sqlx::query(
            "DELETE FROM components \
             WHERE version = ?1 AND digest NOT IN (SELECT value FROM json_each(?2))",
        )
        .bind(change.version.as_str())
        .bind(named)
        .execute(writing.connection())
        .await
        .map_err(wrong())?;
        insert_audit(&change.audit)
            .map_err(wrong())?
            .execute(writing.connection())
            .await
            .map_err(wrong())?;
        writing.commit().await?;
        Ok(Some(epoch))
    }

    /// The bytes of a component; none where no wish names it any more.
    pub async fn component(
        &self,
        version: &Version,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, BackendError> {
        sqlx::query_scalar("SELECT bytes FROM components WHERE version = ?1 AND digest = ?2")
            .bind(version.as_str())
            .bind(digest.as_str())
            .fetch_optional(self.file.readers())
            .await
            .map_err(failed(System::Database, "read the component"))
    }

    /// Writes a line of the audit about something that changed nothing.
    pub async fn write_audit(&self, line: &AuditLine) -> Result<(), BackendError> {
        let wrong = || failed(System::Database, "write the audit");
        insert_audit(line)
            .map_err(wrong())?
            .execute(self.file.writer())
            .await
            .map_err(wrong())?;
        Ok(())
    }

    /// The last lines of the audit, of one version or of all, the last first.
    pub async fn audit(
        &self,
        version: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditLine>, BackendError> {
        let wrong = || failed(System::Database, "read the audit");
        let of_version = if version.is_some() {
            "WHERE version = ?1"
        } else {
            "WHERE ?1 IS NULL"
        };
        let query = AssertSqlSafe(format!(
            "SELECT line FROM strategy_audit {of_version} ORDER BY id DESC LIMIT ?2"
        ));
        let lines = sqlx::query(query)
            .bind(version)
            .bind(limit)
            .fetch_all(self.file.readers())
            .await
            .map_err(wrong())?;
        let lines: sqlx::Result<_> = lines.iter().map(|row| rows::parsed(row, "line")).collect();
        lines.map_err(wrong())
    }

    /// Keeps what a host runs, and forgets the hosts that were not heard of since `since`.
    pub async fn report_host(
        &self,
        report: &HostReport,
        since: Timestamp,
    ) -> Result<(), BackendError> {
        const OPERATION: &str = "write the host's report";
        let wrong = || failed(System::Database, OPERATION);
        let document = rows::document(&report.report).map_err(wrong())?;
        let mut writing = self.file.begin(OPERATION).await?;
        sqlx::query(
            "INSERT INTO strategy_hosts (host, seen_at, report) VALUES (?1, ?2, ?3) \
             ON CONFLICT (host) DO UPDATE SET seen_at = excluded.seen_at, report = excluded.report",
        )
        .bind(&report.host)
        .bind(report.seen_at.as_millisecond())
        .bind(document)
        .execute(writing.connection())
        .await
        .map_err(wrong())?;
        sqlx::query("DELETE FROM strategy_hosts WHERE seen_at < ?1")
            .bind(since.as_millisecond())
            .execute(writing.connection())
            .await
            .map_err(wrong())?;
        writing.commit().await
    }

    /// What hosts said since `since`.
    pub async fn hosts(&self, since: Timestamp) -> Result<Vec<HostReport>, BackendError> {
        let wrong = || failed(System::Database, "read the hosts' reports");
        let rows = sqlx::query("SELECT * FROM strategy_hosts WHERE seen_at >= ?1 ORDER BY host")
            .bind(since.as_millisecond())
            .fetch_all(self.file.readers())
            .await
            .map_err(wrong())?;
        let reports: sqlx::Result<_> = rows.iter().map(host_report).collect();
        reports.map_err(wrong())
    }
}

fn insert_audit(
    line: &AuditLine,
) -> sqlx::Result<sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>> {
    let document = rows::document(line)?;
    Ok(
        sqlx::query("INSERT INTO strategy_audit (at, version, line) VALUES (?1, ?2, ?3)")
            .bind(line.at.as_millisecond())
            .bind(&line.version)
            .bind(document),
    )
}

fn host_report(row: &SqliteRow) -> sqlx::Result<HostReport> {
    Ok(HostReport {
        host: row.try_get("host")?,
        seen_at: rows::time(row, "seen_at")?,
        report: rows::parsed(row, "report")?,
    })
}

//! The log's tables and the statements on them.
//!
//! `Log` reads through it, the appender writes through it.

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Result, Row};

use super::marks::Marks;
use super::{NewRecord, PARTITION, REQUESTS, Record};
use crate::backend::sqlite::file::File;
use crate::domain::{Place, RequestId};

/// Records that one trim deletes at most; more than a batch appends, so that trimming keeps up.
const TRIM_STEP: i64 = 512;

/// A topic remembers its next offset apart from its records, so that none is given twice, whatever is trimmed.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS topics (
        name        TEXT    NOT NULL PRIMARY KEY,
        next_offset INTEGER NOT NULL CHECK (next_offset >= 0),
        committed   INTEGER NOT NULL DEFAULT 0 CHECK (committed BETWEEN 0 AND next_offset)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE IF NOT EXISTS records (
        topic       TEXT    NOT NULL REFERENCES topics (name) DEFERRABLE INITIALLY DEFERRED,
        log_offset  INTEGER NOT NULL,
        key         BLOB    NOT NULL,
        value       BLOB    NOT NULL,
        headers     TEXT    NOT NULL,
        request_id  TEXT,
        appended_at INTEGER NOT NULL,
        PRIMARY KEY (topic, log_offset)
    ) STRICT;

    CREATE INDEX IF NOT EXISTS records_by_request ON records (topic, request_id, log_offset)
    WHERE request_id IS NOT NULL;

    CREATE TRIGGER IF NOT EXISTS records_move_the_end AFTER INSERT ON records
    BEGIN
        INSERT INTO topics (name, next_offset) VALUES (NEW.topic, NEW.log_offset + 1)
        ON CONFLICT (name) DO UPDATE SET next_offset = excluded.next_offset;
    END;
";

/// Makes the tables where there are none, and reads where the requests stand.
pub async fn open(file: &File) -> Result<Marks> {
    sqlx::raw_sql(SCHEMA).execute(file.writer()).await?;
    marks(file).await
}

/// Where the requests stand.
pub async fn marks(file: &File) -> Result<Marks> {
    let row = sqlx::query("SELECT next_offset, committed FROM topics WHERE name = ?1")
        .bind(REQUESTS)
        .fetch_optional(file.readers())
        .await?;
    let Some(row) = row else {
        return Ok(Marks::default());
    };
    Ok(Marks {
        end: unsigned(row.try_get("next_offset")?)?,
        committed: unsigned(row.try_get("committed")?)?,
        promised: 0,
    })
}

/// Appends a record inside an open transaction; its offset.
pub async fn append(
    connection: &mut SqliteConnection,
    topic: &str,
    record: &NewRecord,
    now: Timestamp,
) -> Result<u64> {
    let headers = serde_json::to_string(&record.headers)
        .map_err(|error| sqlx::Error::Encode(error.into()))?;
    let offset = sqlx::query_scalar(
        "INSERT INTO records (topic, log_offset, key, value, headers, request_id, appended_at) \
         VALUES (?1, coalesce((SELECT next_offset FROM topics WHERE name = ?1), 0), ?2, ?3, ?4, ?5, ?6) \
         RETURNING log_offset",
    )
    .bind(topic)
    .bind(&record.key)
    .bind(&record.value)
    .bind(headers)
    .bind(record.request_id.as_ref().map(|id| id.0.as_str()))
    .bind(now.as_millisecond())
    .fetch_one(connection)
    .await?;
    unsigned(offset)
}

/// Moves the group's offset forward inside an open transaction; where it stands afterwards.
pub async fn commit(connection: &mut SqliteConnection, next_offset: u64) -> Result<u64> {
    let committed: Option<i64> = sqlx::query_scalar(
        "UPDATE topics SET committed = max(committed, min(?2, next_offset)) WHERE name = ?1 \
         RETURNING committed",
    )
    .bind(REQUESTS)
    .bind(signed(next_offset))
    .fetch_optional(connection)
    .await?;
    unsigned(committed.unwrap_or(0))
}

/// Deletes the oldest records of a topic below an offset, a bounded number at a time.
pub async fn trim(connection: &mut SqliteConnection, topic: &str, below: u64) -> Result<()> {
    if below == 0 {
        return Ok(());
    }
    sqlx::query(
        "DELETE FROM records WHERE rowid IN \
             (SELECT rowid FROM records WHERE topic = ?1 AND log_offset < ?2 \
              ORDER BY log_offset LIMIT ?3)",
    )
    .bind(topic)
    .bind(signed(below))
    .bind(TRIM_STEP)
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads requests in order.
pub async fn read(file: &File, from_offset: u64, max: u32) -> Result<Vec<Record>> {
    let rows = sqlx::query(
        "SELECT * FROM records WHERE topic = ?1 AND log_offset >= ?2 ORDER BY log_offset LIMIT ?3",
    )
    .bind(REQUESTS)
    .bind(signed(from_offset))
    .bind(max)
    .fetch_all(file.readers())
    .await?;
    rows.iter().map(record).collect()
}

/// Counts the requests from an offset on that were appended before a moment.
pub async fn count(file: &File, from_offset: u64, before: Timestamp) -> Result<u64> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM records WHERE topic = ?1 AND log_offset >= ?2 AND appended_at < ?3",
    )
    .bind(REQUESTS)
    .bind(signed(from_offset))
    .bind(before.as_millisecond())
    .fetch_one(file.readers())
    .await?;
    unsigned(count)
}

/// The newest place of a request.
pub async fn find(file: &File, request: &RequestId) -> Result<Option<Place>> {
    let offset: Option<i64> = sqlx::query_scalar(
        "SELECT max(log_offset) FROM records WHERE topic = ?1 AND request_id = ?2",
    )
    .bind(REQUESTS)
    .bind(request.0.as_str())
    .fetch_one(file.readers())
    .await?;
    offset.map(place).transpose()
}

fn record(row: &SqliteRow) -> Result<Record> {
    let headers: String = row.try_get("headers")?;
    let request_id: Option<&str> = row.try_get("request_id")?;
    Ok(Record {
        place: place(row.try_get("log_offset")?)?,
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        headers: serde_json::from_str(&headers)
            .map_err(|error| sqlx::Error::Decode(error.into()))?,
        request_id: request_id.map(|id| RequestId(id.into())),
        timestamp: Timestamp::from_millisecond(row.try_get("appended_at")?)
            .map_err(|error| sqlx::Error::Decode(error.into()))?,
    })
}

fn place(offset: i64) -> Result<Place> {
    Ok(Place {
        partition: PARTITION,
        offset: unsigned(offset)?,
    })
}

/// An offset for a comparison; one beyond what the file can hold is beyond its end.
fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn unsigned(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|error| sqlx::Error::Decode(error.into()))
}

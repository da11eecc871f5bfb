//! The task that writes: shared commits, faults, callers that go away, what it deletes.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use super::{Outcome, fresh, options, place, record};
use crate::backend::log::appender::{Appender, Write};
use crate::backend::log::marks::Marks;
use crate::backend::log::{FILE_WAIT, Log, READERS, store};
use crate::backend::sqlite::Keeping;
use crate::backend::sqlite::file::File;
use crate::backend::{BackendError, System};

#[tokio::test]
async fn appends_that_wait_together_share_a_commit() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log.db");
    let file = File::open(&path, READERS, FILE_WAIT, Keeping::Durable, System::Kafka).await?;
    let marks = Arc::new(watch::Sender::new(store::open(&file).await?));
    let mut moves = marks.subscribe();
    let (writes, waiting) = mpsc::channel(100);
    let mut answers = Vec::new();
    for number in 0_u64..100 {
        let (answer, answered) = oneshot::channel();
        let record = record(&number.to_string());
        writes.send(Write::Submit { record, answer }).await?;
        answers.push(answered);
    }
    drop(writes);
    let appender = Appender::new(Arc::new(file), Arc::clone(&marks), waiting);
    let run = tokio::spawn(appender.run(CancellationToken::new()));
    // The marks move once for each commit: after the first move all are there.
    moves.changed().await?;
    assert_eq!(moves.borrow_and_update().end, 100);
    for (offset, answered) in (0..).zip(answers) {
        let ticket = answered.await??;
        assert_eq!(
            (ticket.place, ticket.queue_position),
            (place(offset), offset + 1)
        );
        assert_eq!(ticket.total_waiting, 100);
    }
    run.await?;
    assert!(!moves.has_changed()?);
    Ok(())
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nothing_back_and_a_close_drains() -> Outcome {
    let (folder, log) = fresh().await?;
    let mut callers = JoinSet::new();
    for number in 0..50 {
        let log = Arc::clone(&log);
        callers.spawn(async move { log.submit(record(&number.to_string())).await });
    }
    yield_now().await;
    callers.shutdown().await;
    log.close().await;
    let log = Log::open(&options(folder.path())).await?;
    let found = log.read(0, 100).await?;
    assert_eq!(u64::try_from(found.len())?, log.end());
    // All were handed over before the first was dropped.
    assert_eq!(log.end(), 50);
    Ok(())
}

#[tokio::test]
async fn a_file_that_fails_for_a_while_loses_neither_the_task_nor_the_count() -> Outcome {
    let (_folder, log) = fresh().await?;
    log.submit(record("a")).await?;
    // Stands in for a full disk: every insert fails until the trigger is gone.
    let block =
        "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk full'); END";
    sqlx::query(block).execute(log.file.writer()).await?;
    for _ in 0..3 {
        let failed = log.submit(record("b")).await;
        let kafka = System::Kafka;
        assert!(
            matches!(&failed, Err(BackendError::Unavailable { system, .. }) if *system == kafka)
        );
    }
    assert_eq!((log.committed(), log.end()), (0, 1));
    sqlx::query("DROP TRIGGER full")
        .execute(log.file.writer())
        .await?;
    let ticket = log.submit(record("b")).await?;
    assert_eq!((ticket.place, ticket.total_waiting), (place(1), 2));
    assert_eq!(log.marks.borrow().promised, 0);
    Ok(())
}

#[tokio::test]
async fn a_trim_is_bounded_and_takes_the_oldest() -> Outcome {
    let (_folder, log) = fresh().await?;
    let mut connection = log.file.writer().acquire().await?;
    for number in 0..600 {
        store::append(
            &mut connection,
            "events",
            &record(&number.to_string()),
            Timestamp::UNIX_EPOCH,
        )
        .await?;
    }
    let mut left = Vec::new();
    for _ in 0..3 {
        store::trim(&mut connection, "events", 550).await?;
        let (count, first): (i64, i64) =
            sqlx::query_as("SELECT count(*), min(log_offset) FROM records")
                .fetch_one(&mut *connection)
                .await?;
        left.push((count, first));
    }
    assert_eq!(left, [(88, 512), (50, 550), (50, 550)]);
    Ok(())
}

#[test]
fn a_ticket_never_says_less_than_next() {
    let marks = Marks {
        end: 5,
        committed: 5,
        promised: 0,
    };
    let ticket = marks.ticket(3);
    assert_eq!((ticket.queue_position, ticket.total_waiting), (1, 1));
}
#[tokio::test]
async fn a_closing_appender_writes_all_that_was_handed_over() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = File::open(
        &options(folder.path()).path,
        READERS,
        FILE_WAIT,
        Keeping::Durable,
        System::Kafka,
    )
    .await?;
    let marks = Arc::new(watch::Sender::new(store::open(&file).await?));
    let (writes, waiting) = mpsc::channel(600);
    for number in 0..600 {
        let (answer, _) = oneshot::channel();
        let record = record(&number.to_string());
        writes.send(Write::Submit { record, answer }).await?;
    }
    let closing = CancellationToken::new();
    closing.cancel();
    Appender::new(Arc::new(file), Arc::clone(&marks), waiting)
        .run(closing)
        .await;
    assert_eq!(marks.borrow().end, 600);
    assert!(writes.is_closed());
    Ok(())
}

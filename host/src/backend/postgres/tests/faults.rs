//! Servers that refuse, fall silent or hang up; hosts that start at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, Row};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Fixture, Outcome, settling};
use crate::backend::group_commit::GroupCommit;
use crate::backend::postgres::Postgres;
use crate::backend::{BackendError, System};

/// What a proxy does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// Hangs up, and refuses new connections.
    Cut,
    /// Passes nothing on and says nothing.
    Silent,
}

/// Stands between the host and the server of `url`; gives the URL that leads through it.
async fn proxy(url: &str) -> Result<(String, watch::Sender<Line>), Box<dyn std::error::Error>> {
    let server: PgConnectOptions = url.parse()?;
    let server = format!("{}:{}", server.get_host(), server.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let through = url.replace(&server, &listener.local_addr()?.to_string());
    let (line, state) = watch::channel(Line::Open);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut state = state.clone();
            let server = server.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await?;
                while *state.borrow() != Line::Cut {
                    let open = *state.borrow() == Line::Open;
                    tokio::select! {
                        done = copy_bidirectional(&mut client, &mut server), if open => return done.map(drop),
                        changed = state.changed() => if changed.is_err() { break },
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    Ok((through, line))
}

fn is_down<T>(answer: &Result<T, BackendError>) -> bool {
    let system = System::Database;
    matches!(answer, Err(BackendError::Unavailable { system: said, .. }) if *said == system)
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_start_at_once_migrate_once() -> Outcome {
    let fixture = Fixture::new().await?;
    let mut options = fixture.options.clone();
    let schema = format!("{}_too", options.schema.as_deref().unwrap_or_default());
    options.schema = Some(schema.clone());
    let mut hosts = JoinSet::new();
    for _ in 0..6 {
        let options = options.clone();
        hosts.spawn(async move { Postgres::open(&options).await });
    }
    while let Some(host) = hosts.join_next().await {
        host??.ping().await?;
    }
    let mut raw = fixture.raw().await?;
    let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA \"{schema}\" CASCADE"));
    raw.execute(drop).await?;
    Ok(())
}

#[tokio::test]
async fn a_database_that_forgets_commits_is_refused_by_name() -> Outcome {
    let fixture = Fixture::new().await?;
    for (asked, durable) in [("off", false), ("local", false), ("remote_apply", true)] {
        let mut options = fixture.options.clone();
        let separator = if options.url.contains('?') { '&' } else { '?' };
        options.url = format!(
            "{}{separator}options[synchronous_commit]={asked}",
            options.url
        );
        let opened = Postgres::open(&options).await;
        match opened {
            Ok(_) => assert!(durable),
            Err(error) => {
                assert!(!durable);
                let wrong = format!("synchronous_commit is {asked}");
                assert!(error.to_string().contains(&wrong), "{error}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_is_down_at_once_and_its_password_stays_untold() -> Outcome {
    let fixture = Fixture::new().await?;
    let (url, line) = proxy(&fixture.options.url).await?;
    let mut options = fixture.options.clone();
    options.url = url;
    let database = Postgres::open(&options).await?;
    database.ping().await?;
    line.send(Line::Cut)?;
    let since = Instant::now();
    for _ in 0..10 {
        assert!(is_down(&database.ping().await));
    }
    assert!(since.elapsed() < Duration::from_secs(2));
    line.send(Line::Open)?;
    database.ping().await?;

    let mut wrong = fixture.options.clone();
    let server: PgConnectOptions = wrong.url.parse()?;
    let (host, port) = (server.get_host(), server.get_port());
    wrong.url = format!("postgres://nobody:hush-hush@{host}:{port}/postgres");
    let opened = Postgres::open(&wrong).await;
    assert!(is_down(&opened));
    let said = format!("{opened:?} {:?}", fixture.database);
    assert!(!said.contains("hush-hush"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_falls_silent_holds_nobody_for_ever() -> Outcome {
    let fixture = Fixture::new().await?;
    let (url, line) = proxy(&fixture.options.url).await?;
    let mut options = fixture.options.clone();
    options.url = url;
    options.pool_max = 1;
    options.row_lock_wait = Duration::from_millis(200);
    options.statement_timeout = Duration::from_millis(400);
    let database = Arc::new(Postgres::open(&options).await?);
    database.ping().await?;
    line.send(Line::Silent)?;
    let since = Instant::now();
    let first = tokio::spawn({
        let database = Arc::clone(&database);
        async move { database.ping().await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(database.ping().await.is_err());
    assert!(is_down(&first.await?));
    // Now that it is known, those that wait for their turn are told the same.
    assert!(is_down(&database.ping().await));
    assert!(
        since.elapsed() < Duration::from_secs(4),
        "{:?}",
        since.elapsed()
    );
    line.send(Line::Open)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    database.ping().await?;
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_lies_idle_is_ended_by_the_server() -> Outcome {
    let fixture =
        Fixture::with(|options| options.transaction_hold = Duration::from_millis(100)).await?;
    let sale = fixture.sale(1).await?;
    let request = fixture.request("a", &sale, 1, 1);
    let mut idle = fixture.database.begin().await?;
    let placed = idle
        .place_order(&request, &settling(), None, fixture.now)
        .await?;
    assert!(placed.is_ok());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(is_down(&idle.commit().await));
    assert_eq!(fixture.remaining(&sale).await?, 1);
    fixture.buy(&request).await?;
    Ok(())
}

#[tokio::test]
async fn connections_that_were_cut_cost_one_answer_and_no_more() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let (url, line) = proxy(&fixture.options.url).await?;
    let mut options = fixture.options.clone();
    options.url = url;
    let database = Postgres::open(&options).await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut transaction = database.begin().await?;
        transaction.lock_sale(99).await?;
        held.push(transaction);
    }
    for transaction in held {
        transaction.rollback().await?;
    }
    assert_eq!(database.connections(), [("postgres", 0, 4)]);
    line.send(Line::Cut)?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    line.send(Line::Open)?;
    let mut failures = 0;
    for user in 1..=8 {
        let batch = [fixture.request(&format!("r{user}"), &sale, user, 1)];
        let bought = database
            .purchase(&batch, &settling(), false, fixture.now)
            .await;
        failures += i64::from(bought.is_err());
    }
    assert!(failures <= 1, "{failures}");
    assert_eq!(fixture.remaining(&sale).await?, 2 + failures);
    Ok(())
}

/// Ends the session that began to wait for a lock last.
async fn end_the_last_that_waits(fixture: &Fixture) -> Outcome {
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_locks \
         WHERE NOT granted AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'time_sales'::regclass) \
         ORDER BY waitstart DESC LIMIT 1";
    fixture.raw().await?.execute(ended).await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_batch_loses_and_doubles_nobody() -> Outcome {
    let fixture = Fixture::new().await?;
    for lost_to_another in [false, true] {
        let sale = fixture.sale(100).await?;
        let group_commit = GroupCommit::new(fixture.host().await?, Arc::default());
        let group_commit = Arc::new(group_commit);
        let mut held = fixture.database.begin().await?;
        held.lock_sale(sale.id).await?;
        let ask = |user| fixture.request(&format!("{}-{user}", sale.id), &sale, user, 1);
        let ghost = lost_to_another.then(|| {
            // What the server goes on with after its client has lost it, as one more connection that asks for the same and has the row before.
            let (database, now) = (Arc::clone(&fixture.database), fixture.now);
            let batch: Vec<_> = (1..=5).map(ask).collect();
            tokio::spawn(async move { database.purchase(&batch, &settling(), false, now).await })
        });
        if ghost.is_some() {
            waiting_sessions(&fixture, 1).await?;
        }
        let mut callers = JoinSet::new();
        for request in (1..=10).map(ask) {
            let group_commit = Arc::clone(&group_commit);
            callers.spawn(async move {
                let leave = std::future::pending();
                group_commit.purchase(&request, &settling(), leave).await
            });
        }
        waiting_sessions(&fixture, 1 + i64::from(lost_to_another)).await?;
        end_the_last_that_waits(&fixture).await?;
        held.rollback().await?;

        let mut lefts = BTreeSet::new();
        while let Some(answer) = callers.join_next().await {
            match answer?? {
                Some(Ok(order)) => assert!(lefts.insert(order.remaining), "{order:?}"),
                other => return Err(format!("no order but {other:?}").into()),
            }
        }
        assert_eq!(lefts, (90..100).collect());
        assert_eq!(fixture.remaining(&sale).await?, 90);
        if let Some(ghost) = ghost {
            assert!(ghost.await??.iter().all(Result::is_ok));
        }
    }
    Ok(())
}

/// Waits until so many sessions wait for a lock.
pub async fn waiting_sessions(fixture: &Fixture, wanted: i64) -> Outcome {
    let mut raw = fixture.raw().await?;
    let waiting = "SELECT count(DISTINCT pid) FROM pg_locks \
         WHERE NOT granted AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'time_sales'::regclass)";
    let deadline = Instant::now() + Duration::from_secs(20);
    while raw.fetch_one(waiting).await?.try_get::<i64, _>(0)? < wanted {
        assert!(Instant::now() < deadline, "nobody waits for the row");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

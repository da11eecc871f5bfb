//! What a purchase reads: rows by their keys, and never a table as a whole.

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, Executor};

use super::super::connect_options;
use super::super::orders::{self, Terms};
use super::super::transaction::PREPARE;
use super::{Fixture, Outcome, settling};
use crate::domain::{Request, Sale};

/// Sales and orders beside those of the test, which a scan would read.
const OTHERS: i64 = 2_000;
/// Rows that one order may read: its sale some times, and what its keys are looked up in.
const ROWS_MAX: i64 = 20;

/// Rows that this session has read, and scans of whole tables; some of its earlier transactions are in it too.
async fn read(connection: &mut PgConnection) -> sqlx::Result<(i64, i64)> {
    let read = "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint, coalesce(sum(seq_scan), 0)::bigint \
         FROM pg_stat_xact_user_tables WHERE schemaname = current_schema()";
    sqlx::query_as(read).fetch_one(connection).await
}

/// Buys in a transaction that is rolled back, as text with the sale locked before; returns how many rows it read, and scans of whole tables.
async fn read_by_buying(
    raw: &mut PgConnection,
    batch: &[&Request],
    terms: &Terms<'_>,
    as_text: bool,
) -> sqlx::Result<(i64, i64)> {
    let mut transaction = raw.begin().await?;
    let before = read(&mut transaction).await?;
    let bought = match (batch, as_text) {
        ([request], true) => {
            let (sale, place) = (request.sale_id, orders::purchase_as_text(request, terms));
            let text = sqlx::AssertSqlSafe(format!("EXECUTE lock_sale ({sale}); {place}"));
            transaction.fetch_all(sqlx::raw_sql(text)).await?
        }
        ([request], false) => {
            let query = orders::purchase_one(request, terms);
            transaction.fetch_all(query).await?
        }
        _ => {
            let query = orders::purchase_batch(batch, terms);
            transaction.fetch_all(query).await?
        }
    };
    assert_eq!(bought.len(), if as_text { 2 } else { 1 });
    let after = read(&mut transaction).await?;
    transaction.rollback().await?;
    Ok((after.0 - before.0, after.1 - before.1))
}

#[tokio::test]
async fn a_purchase_looks_up_rows_by_their_keys_however_small_the_tables_were() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.limited_sale(OTHERS * 2, Some(5)).await?;
    let other_sale = fixture.sale(10).await?;
    let settling = settling();
    let mut raw = connect_options(&fixture.options)?.connect().await?;
    raw.execute(sqlx::raw_sql(PREPARE)).await?;
    let ask = |id: &str, sale: &Sale| Request {
        key: fixture.keyed(id, sale, 1).key,
        ..fixture.request(id, sale, 1, 1)
    };
    let (one, two) = (ask("one", &sale), ask("two", &other_sale));
    for others in [0, OTHERS] {
        if others > 0 {
            let sales = sqlx::query(
                "INSERT INTO time_sales (product_id, quantity, remaining, discount_price, start_at, end_at, created_at) \
                 SELECT product_id, 1, 1, 1, 0, 1, 0 FROM time_sales, generate_series(1, $2) WHERE id = $1",
            );
            sales.bind(sale.id).bind(others).execute(&mut raw).await?;
            let crowd: Vec<_> = (1..=others)
                .map(|user| fixture.request(&format!("r{user}"), &sale, user + 1, 1))
                .collect();
            let bought = fixture
                .database
                .purchase(&crowd, &settling, false, fixture.now);
            assert!(bought.await?.iter().all(Result::is_ok));
        }
        for refusals_are_final in [false, true] {
            let terms = Terms {
                settling: &settling,
                fence: Some(1),
                refusals_are_final,
                now: fixture.now,
            };
            for (batch, as_text) in [
                (&[&one][..], false),
                (&[&one][..], true),
                (&[&one, &two][..], false),
            ] {
                let (rows, scans) = read_by_buying(&mut raw, batch, &terms, as_text).await?;
                let rows_max = ROWS_MAX * i64::try_from(batch.len())?;
                assert!(
                    scans == 0 && (1..=rows_max).contains(&rows),
                    "{} of {others}: {rows} rows and {scans} scans",
                    batch.len()
                );
            }
        }
    }
    Ok(())
}

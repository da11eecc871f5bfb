//! Attacks on the schema by raw SQL: what no bug of the host may do.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use super::{Fixture, Outcome, settling};
use crate::domain::Sale;

/// Runs a statement and says what the schema answered; none where it obeyed.
async fn attack(connection: &mut PgConnection, statement: &str) -> Option<String> {
    let answer = connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await;
    answer.err().map(|error| error.to_string())
}

async fn assert_refused(connection: &mut PgConnection, attacks: &[(&str, &str)]) {
    for (statement, why) in attacks {
        let answer = attack(connection, statement).await;
        assert!(
            answer.as_deref().is_some_and(|answer| answer.contains(why)),
            "{statement}: expected {why:?}, got {answer:?}"
        );
    }
}

/// A sale of 10 pieces of which user 1 has bought 3, in an order with id 1 and fence 5.
async fn half_sold(fixture: &Fixture) -> Result<Sale, Box<dyn std::error::Error>> {
    let sale = fixture.sale(10).await?;
    let mut transaction = fixture.database.begin().await?;
    let request = fixture.request("r1", &sale, 1, 3);
    let placed = transaction
        .place_order(&request, &settling(), Some(5), fixture.now)
        .await?;
    assert!(placed.is_ok());
    transaction.commit().await?;
    Ok(sale)
}

/// The row of an order at the true price.
fn row(request: &str, sale: i64, quantity: i64, remaining: i64, fence: &str) -> String {
    format!(
        "('{request}', {sale}, 2, {quantity}, 9900, {remaining}, 'v1', 'a', 's', {fence}::bigint, 0)"
    )
}

fn orders(rows: &[String]) -> String {
    format!(
        "INSERT INTO orders (request_id, time_sale_id, user_id, quantity, discount_price, remaining, \
         version, accepting_revision, settling_revision, fence, created_at) VALUES {}",
        rows.join(", ")
    )
}

fn refusal(request: &str) -> String {
    format!(
        "INSERT INTO decisions (request_id, time_sale_id, reason, created_at) \
         VALUES ('{request}', 1, 'SOLD_OUT', 0)"
    )
}

#[tokio::test]
async fn products_and_sales_start_whole_and_sound() -> Outcome {
    let fixture = Fixture::new().await?;
    fixture.sale(10).await?;
    let raw = &mut fixture.raw().await?;
    let product = |name: &str, price: i64| {
        format!(
            "INSERT INTO products (name, price, description, created_at) VALUES ('{name}', {price}, '', 0)"
        )
    };
    let sale = |product: i64, quantity: i64, remaining: i64, price: i64, end: i64, limit: &str| {
        format!(
            "INSERT INTO time_sales (product_id, quantity, remaining, discount_price, start_at, \
             end_at, limit_per_user, created_at) \
             VALUES ({product}, {quantity}, {remaining}, {price}, 10, {end}, {limit}, 0)"
        )
    };
    assert_eq!(attack(raw, &sale(1, 5, 5, 1, 11, "NULL")).await, None);
    assert_refused(
        raw,
        &[
            (&product("  ", 1), "check constraint"),
            (&product("a", 0), "check constraint"),
            (&sale(1, 0, 0, 1, 11, "NULL"), "starts sound"),
            (&sale(1, 5, 5, 0, 11, "NULL"), "starts sound"),
            (&sale(1, 5, 5, 1, 10, "NULL"), "starts sound"),
            (&sale(1, 5, 5, 1, 11, "0"), "starts sound"),
            (&sale(1, 5, 4, 1, 11, "NULL"), "starts with its whole"),
            (&sale(1, 5, 6, 1, 11, "NULL"), "starts with its whole"),
            (&sale(99, 5, 5, 1, 11, "NULL"), "foreign key"),
        ],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn a_sale_changes_only_by_a_new_order() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = half_sold(&fixture).await?;
    let raw = &mut fixture.raw().await?;
    for change in [
        "product_id = 2",
        "quantity = 11",
        "remaining = remaining - 1",
        "remaining = quantity",
        "remaining = remaining",
        "discount_price = 1",
        "start_at = 1",
        "end_at = end_at + 1",
        "limit_per_user = 1",
        "created_at = 1",
        "fence = 6",
        "fence = 0",
    ] {
        let statement = format!("UPDATE time_sales SET {change}");
        assert_refused(raw, &[(&statement, "changes only by a new order")]).await;
    }
    assert_refused(
        raw,
        &[
            ("UPDATE time_sales SET id = 7", "can only be updated to DEFAULT"),
            ("DELETE FROM time_sales", "never deleted"),
            ("DELETE FROM products", "foreign key"),
            ("TRUNCATE time_sales", "never deleted"),
            ("TRUNCATE products CASCADE", "never deleted"),
            (
                "INSERT INTO time_sales OVERRIDING SYSTEM VALUE VALUES (1, 1, 99, 99, 1, 10, 11, NULL, 0, 0) \
                 ON CONFLICT (id) DO UPDATE SET remaining = 99",
                "changes only by a new order",
            ),
        ],
    )
    .await;
    assert_eq!(fixture.remaining(&sale).await?, 7);
    Ok(())
}

#[tokio::test]
async fn orders_are_true_to_their_sale_also_in_a_batch() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = half_sold(&fixture).await?;
    let other = fixture.sale(5).await?;
    let raw = &mut fixture.raw().await?;
    let untrue = "not true to its sale";
    let (id, elsewhere) = (sale.id, other.id);
    let cheap = orders(&[row("a", id, 1, 6, "NULL")]).replace("9900", "1");
    let mixed =
        orders(&[row("a", id, 1, 6, "NULL"), row("b", id, 1, 5, "NULL")]).replacen("9900", "1", 1);
    for (statement, why) in [
        (cheap, untrue),
        (mixed, untrue),
        (orders(&[row("a", id, 1, 7, "NULL")]), untrue),
        (orders(&[row("a", id, 1, 6, "4")]), untrue),
        (orders(&[row("a", 99, 1, 6, "NULL")]), untrue),
        (
            orders(&[row("a", id, 1, 6, "NULL"), row("b", 99, 1, 6, "NULL")]),
            untrue,
        ),
        (
            orders(&[row("a", id, 1, 5, "NULL"), row("b", id, 1, 6, "NULL")]),
            untrue,
        ),
        (orders(&[row("a", id, 8, -1, "NULL")]), "check constraint"),
        (orders(&[row("a", id, 8, 0, "NULL")]), "check constraint"),
        (
            orders(&[row("a", id, 4, 3, "NULL"), row("b", id, 4, 0, "NULL")]),
            "check constraint",
        ),
        (orders(&[row("a", id, -1, 8, "NULL")]), "check constraint"),
        (
            orders(&[row("a", id, 1, 6, "NULL"), row("a", id, 1, 5, "NULL")]),
            "unique constraint",
        ),
        (orders(&[row("r1", id, 1, 6, "NULL")]), "unique constraint"),
    ] {
        assert_refused(raw, &[(&statement, why)]).await;
    }
    assert_eq!(fixture.remaining(&sale).await?, 7);
    // The same told truly passes, and lowers the stock of both sales by itself.
    let truly = orders(&[
        row("a", id, 3, 4, "NULL"),
        row("b", elsewhere, 5, 0, "NULL"),
        row("c", id, 4, 0, "9"),
    ]);
    assert_eq!(attack(raw, &truly).await, None);
    assert_eq!(fixture.remaining(&sale).await?, 0);
    assert_eq!(fixture.remaining(&other).await?, 0);
    assert_eq!(fixture.database.max_fence().await?, 9);
    Ok(())
}

#[tokio::test]
async fn orders_and_decisions_are_append_only_and_exclude_each_other() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = half_sold(&fixture).await?;
    let raw = &mut fixture.raw().await?;
    assert_eq!(attack(raw, &refusal("no")).await, None);
    let refused = orders(&[row("no", sale.id, 1, 6, "NULL")]);
    let whim = refusal("whim").replace("SOLD_OUT", "WHIM");
    assert_refused(
        raw,
        &[
            ("UPDATE orders SET quantity = 1", "an order never changes"),
            ("DELETE FROM orders", "an order is never deleted"),
            ("TRUNCATE orders", "an order is never deleted"),
            (
                "UPDATE decisions SET reason = 'NOT_OPEN' WHERE false",
                "a decision never changes",
            ),
            ("DELETE FROM decisions", "a decision is never deleted"),
            ("TRUNCATE decisions", "a decision is never deleted"),
            (
                "INSERT INTO decisions VALUES ('no', 1, NULL, 'NOT_OPEN', 0) \
                 ON CONFLICT (request_id) DO UPDATE SET reason = 'NOT_OPEN'",
                "a decision never changes",
            ),
            (
                "INSERT INTO decisions VALUES ('x', 1, 1, NULL, 0)",
                "by a new order",
            ),
            (
                "INSERT INTO decisions VALUES ('x', 1, NULL, NULL, 0)",
                "check constraint",
            ),
            (&whim, "check constraint"),
            (&refusal("no"), "unique constraint"),
            (&refusal("r1"), "unique constraint"),
            (&refused, "unique constraint"),
        ],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn a_key_stands_for_its_own_order_for_ever() -> Outcome {
    let fixture = Fixture::new().await?;
    half_sold(&fixture).await?;
    let raw = &mut fixture.raw().await?;
    let key = |request: &str, order: &str| {
        format!(
            "INSERT INTO idempotency_keys (key, request_id, time_sale_id, user_id, quantity, version, \
             revision, accepted_at, order_id) \
             VALUES (sha256('{request}'), '{request}', 1, 1, 1, 'v1', 'a', 0, {order})"
        )
    };
    assert_refused(
        raw,
        &[
            (&key("x", "1"), "not its own"),
            (&key("x", "9"), "not its own"),
            (
                &key("x", "NULL").replace("sha256('x')", "'short'"),
                "check constraint",
            ),
        ],
    )
    .await;
    assert_eq!(attack(raw, &key("r1", "1")).await, None);
    assert_refused(
        raw,
        &[
            (
                "UPDATE idempotency_keys SET order_id = NULL",
                "never changes",
            ),
            (
                "UPDATE idempotency_keys SET log_offset = 1",
                "check constraint",
            ),
        ],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn a_temporary_table_stands_in_for_nothing() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = half_sold(&fixture).await?;
    let raw = &mut fixture.raw().await?;
    for statement in [
        "CREATE TEMPORARY TABLE time_sales AS SELECT * FROM time_sales".to_owned(),
        orders(&[row("a", sale.id, 1, 6, "NULL")]),
    ] {
        assert_eq!(attack(raw, &statement).await, None);
    }
    assert_eq!(fixture.remaining(&sale).await?, 6);
    Ok(())
}

//! Attacks on the schema by raw SQL: what no bug of the host may do.

use sqlx::AssertSqlSafe;

use super::{Fixture, Outcome};
use crate::domain::Sale;

/// Runs a statement and says what the schema answered; none where it obeyed.
async fn attack(fixture: &Fixture, statement: &str) -> Option<String> {
    sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(fixture.database.file.writer())
        .await
        .err()
        .map(|error| error.to_string())
}

async fn assert_refused(fixture: &Fixture, attacks: &[(&str, &str)]) {
    for (statement, why) in attacks {
        let answer = attack(fixture, statement).await;
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
        .place_order(&request, &super::settling(), Some(5), fixture.now)
        .await?;
    assert!(placed.is_ok());
    transaction.commit().await?;
    Ok(sale)
}

fn order(
    request: &str,
    sale: i64,
    quantity: i64,
    price: i64,
    remaining: i64,
    fence: &str,
) -> String {
    format!(
        "INSERT INTO orders (request_id, time_sale_id, user_id, quantity, discount_price, remaining, \
         version, accepting_revision, settling_revision, fence, created_at) \
         VALUES ('{request}', {sale}, 2, {quantity}, {price}, {remaining}, 'v1', 'a', 's', {fence}, 0)"
    )
}

#[tokio::test]
async fn a_product_has_a_name_and_a_price() -> Outcome {
    let fixture = Fixture::new().await?;
    assert_refused(
        &fixture,
        &[
            (
                "INSERT INTO products (name, price, description, created_at) VALUES ('  ', 1, '', 0)",
                "CHECK",
            ),
            (
                "INSERT INTO products (name, price, description, created_at) VALUES ('a', 0, '', 0)",
                "CHECK",
            ),
            (
                "INSERT INTO products (name, price, description, created_at) VALUES ('a', 'b', '', 0)",
                "cannot store TEXT",
            ),
        ],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn a_sale_starts_whole_and_sound() -> Outcome {
    let fixture = Fixture::new().await?;
    fixture.sale(10).await?;
    let sale = |product: i64, quantity: i64, remaining: i64, price: i64, end: i64, limit: &str| {
        format!(
            "INSERT INTO time_sales (product_id, quantity, remaining, discount_price, start_at, \
             end_at, limit_per_user, created_at) \
             VALUES ({product}, {quantity}, {remaining}, {price}, 10, {end}, {limit}, 0)"
        )
    };
    assert_eq!(attack(&fixture, &sale(1, 5, 5, 1, 11, "NULL")).await, None);
    assert_refused(
        &fixture,
        &[
            (&sale(1, 0, 0, 1, 11, "NULL"), "CHECK"),
            (&sale(1, 5, 5, 0, 11, "NULL"), "CHECK"),
            (&sale(1, 5, 5, 1, 10, "NULL"), "CHECK"),
            (&sale(1, 5, 5, 1, 11, "0"), "CHECK"),
            (&sale(1, 5, 4, 1, 11, "NULL"), "starts once"),
            (&sale(1, 5, 6, 1, 11, "NULL"), "starts once"),
            (&sale(99, 5, 5, 1, 11, "NULL"), "FOREIGN KEY"),
        ],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn the_facts_of_a_sale_never_change() -> Outcome {
    let fixture = Fixture::new().await?;
    half_sold(&fixture).await?;
    for fact in [
        "id = 7",
        "quantity = 11",
        "discount_price = 1",
        "start_at = 1",
        "end_at = end_at + 1",
        "limit_per_user = 1",
        "created_at = 1",
    ] {
        let statement = format!("UPDATE time_sales SET {fact}");
        assert_refused(&fixture, &[(&statement, "changes only by a new order")]).await;
    }
    assert_refused(
        &fixture,
        &[
            ("DELETE FROM time_sales", "never deleted"),
            (
                "INSERT OR REPLACE INTO time_sales (id, product_id, quantity, remaining, \
                 discount_price, start_at, end_at, created_at) VALUES (1, 1, 99, 99, 1, 10, 11, 0)",
                "starts once",
            ),
        ],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn stock_and_fence_move_only_with_a_new_order() -> Outcome {
    let fixture = Fixture::new().await?;
    let sold = half_sold(&fixture).await?;
    let other = fixture.sale(10).await?;
    let why = "a sale changes only by a new order";
    assert_refused(
        &fixture,
        &[
            ("UPDATE time_sales SET remaining = remaining - 1", why),
            ("UPDATE time_sales SET remaining = quantity", why),
            ("UPDATE time_sales SET fence = 6", why),
            ("UPDATE time_sales SET fence = 0", why),
            ("UPDATE time_sales SET last_order_id = NULL", why),
            // The order that moved the stock moves it no second time, nor the stock of another sale.
            ("UPDATE time_sales SET remaining = remaining - 3, last_order_id = 1", why),
            (
                "UPDATE time_sales SET remaining = remaining - 3, last_order_id = 1, fence = 5 WHERE id = 2",
                why,
            ),
        ],
    )
    .await;
    assert_eq!(fixture.remaining(&sold).await?, 7);
    assert_eq!(fixture.remaining(&other).await?, 10);
    Ok(())
}

#[tokio::test]
async fn an_order_is_true_to_its_sale() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = half_sold(&fixture).await?;
    let untrue = "not true to its sale";
    assert_refused(
        &fixture,
        &[
            (&order("r2", sale.id, 1, 1, 6, "NULL"), untrue),
            (&order("r2", sale.id, 1, 9_900, 7, "NULL"), untrue),
            (&order("r2", sale.id, 8, 9_900, -1, "NULL"), "CHECK"),
            (&order("r2", sale.id, -1, 9_900, 8, "NULL"), "CHECK"),
            (&order("r2", sale.id, 1, 9_900, 6, "4"), untrue),
            (&order("r2", 99, 1, 9_900, 6, "NULL"), untrue),
        ],
    )
    .await;
    assert_eq!(fixture.remaining(&sale).await?, 7);
    // The same order told truly passes, and lowers the stock by itself.
    assert_eq!(
        attack(&fixture, &order("r2", sale.id, 7, 9_900, 0, "5")).await,
        None
    );
    assert_eq!(fixture.remaining(&sale).await?, 0);
    Ok(())
}

#[tokio::test]
async fn orders_and_refusals_are_append_only() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = half_sold(&fixture).await?;
    let refusal = "INTO refusals (request_id, time_sale_id, reason, created_at) VALUES";
    assert_eq!(
        attack(
            &fixture,
            &format!("INSERT {refusal} ('no', 1, 'SOLD_OUT', 0)")
        )
        .await,
        None
    );
    let again = order("r1", sale.id, 1, 9_900, 6, "NULL");
    assert_refused(
        &fixture,
        &[
            ("UPDATE orders SET quantity = 1", "an order never changes"),
            ("DELETE FROM orders", "an order is never deleted"),
            (&again, "an order is never replaced"),
            (
                &again.replace("INSERT", "INSERT OR REPLACE"),
                "an order is never replaced",
            ),
            (
                "UPDATE refusals SET reason = 'NOT_OPEN'",
                "a refusal never changes",
            ),
            ("DELETE FROM refusals", "a refusal is never deleted"),
            (
                &format!("INSERT OR REPLACE {refusal} ('no', 1, 'NOT_OPEN', 0)"),
                "a refusal is never replaced",
            ),
            (
                &format!("INSERT {refusal} ('other', 1, 'WHIM', 0)"),
                "CHECK",
            ),
        ],
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn a_request_has_an_order_or_a_refusal_and_never_both() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = half_sold(&fixture).await?;
    let refusal = |request: &str| {
        format!(
            "INSERT INTO refusals (request_id, time_sale_id, reason, created_at) \
             VALUES ('{request}', 1, 'SOLD_OUT', 0)"
        )
    };
    assert_eq!(attack(&fixture, &refusal("r2")).await, None);
    assert_refused(
        &fixture,
        &[
            (&refusal("r1"), "the request has its order"),
            (
                &order("r2", sale.id, 1, 9_900, 6, "NULL"),
                "the request is refused",
            ),
        ],
    )
    .await;
    Ok(())
}

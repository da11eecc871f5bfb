//! What the reconciler asks: stock against orders, orders against refusals, and who bought lately.

use jiff::SignedDuration;

use super::{Fixture, Outcome};
use crate::backend::database::Buyers;

#[tokio::test]
async fn stock_that_moved_without_an_order_is_found_and_counted_in_pieces() -> Outcome {
    let fixture = Fixture::new().await?;
    let sound = fixture.sale(10).await?;
    let broken = fixture.sale(10).await?;
    for sale in [&sound, &broken] {
        let request = fixture.request(&format!("of {}", sale.id), sale, 1, 3);
        fixture.buy(&request).await?;
    }
    let asked = [sound.id, broken.id];
    let right = fixture.database.stock_drift(&asked).await?;
    assert_eq!(right, [(sound.id, 0), (broken.id, 0)]);
    let moved = format!(
        "UPDATE time_sales SET remaining = remaining - 2 WHERE id = {}",
        broken.id
    );
    fixture.unguarded(&moved).await?;
    let wrong = fixture.database.stock_drift(&asked).await?;
    assert_eq!(wrong, [(sound.id, 0), (broken.id, 2)]);
    assert_eq!(fixture.database.stock_drift(&[]).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_request_with_an_order_and_another_decision_is_found_among_the_newest() -> Outcome {
    let fixture = Fixture::new().await?;
    assert_eq!(fixture.database.decision_drift(10).await?, 0);
    let sale = fixture.sale(10).await?;
    for request in ["a", "b", "c"] {
        fixture.buy(&fixture.request(request, &sale, 1, 1)).await?;
    }
    assert_eq!(fixture.database.decision_drift(10).await?, 0);
    fixture.contradict("b").await?;
    assert_eq!(fixture.database.decision_drift(10).await?, 1);
    assert_eq!(fixture.database.decision_drift(1).await?, 0);
    Ok(())
}

#[tokio::test]
async fn buyers_are_counted_once_and_those_who_came_back_to_a_sale_once_more() -> Outcome {
    let fixture = Fixture::new().await?;
    let before = fixture.now - SignedDuration::from_millis(1);
    let nobody = fixture.database.buyers(before, 0, 100).await?;
    assert_eq!((nobody.active, nobody.repeat, nobody.first), (0, 0, 1));
    let (first, second) = (fixture.sale(10).await?, fixture.sale(10).await?);
    let mut orders = Vec::new();
    for (request, sale, user) in [
        ("a", &first, 1),
        ("b", &first, 2),
        ("c", &first, 1),
        ("d", &second, 2),
        ("e", &first, 1),
    ] {
        let bought = fixture
            .buy(&fixture.request(request, sale, user, 1))
            .await?;
        orders.push(bought.id);
    }
    let [one, .., last] = orders[..] else {
        return Err("five orders".into());
    };
    let counted = fixture.database.buyers(before, 0, 100).await?;
    let expected = Buyers {
        active: 2,
        repeat: 1,
        first: one,
    };
    assert_eq!(counted, expected);
    let newest = fixture.database.buyers(before, 0, 1).await?;
    assert_eq!((newest.active, newest.repeat, newest.first), (1, 1, last));
    let later = fixture.database.buyers(before, last - 1, 100).await?;
    assert_eq!(later, newest);
    let none = fixture.database.buyers(fixture.now, 0, 100).await?;
    assert_eq!((none.active, none.repeat, none.first), (0, 0, last + 1));
    Ok(())
}

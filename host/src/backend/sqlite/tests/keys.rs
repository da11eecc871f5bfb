//! Idempotency keys: the first reply stays, a claim without a place can be taken over or freed.

use jiff::SignedDuration;

use super::{Fixture, Outcome, is_duplicate, rejected, settling};
use crate::backend::database::{Denial, KeyReply};
use crate::domain::{KeyId, Place, Rejection, Sale, Ticket};

const TICKET: Ticket = Ticket {
    place: Place {
        partition: 0,
        offset: 41,
    },
    queue_position: 7,
    total_waiting: 9,
};

/// What is answered to the key of one byte.
async fn reply(fixture: &Fixture, key: u8) -> Result<Option<KeyReply>, Box<dyn std::error::Error>> {
    let record = fixture.database.find_key(&KeyId([key; 32])).await?;
    Ok(record.map(|record| record.reply))
}

#[tokio::test]
async fn an_order_takes_its_key_in_the_same_commit() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let request = fixture.keyed("a", &sale, 1);
    let mut transaction = fixture.database.begin().await?;
    let placed = transaction
        .place_order(&request, &settling(), None, fixture.now)
        .await?;
    assert_eq!(reply(&fixture, 1).await?, None);
    transaction.commit().await?;
    let order = placed.map_err(|no| format!("{no:?}"))?;
    let record = fixture.database.find_key(&KeyId([1; 32])).await?;
    let record = record.ok_or("the key is free")?;
    assert_eq!(record.reply, KeyReply::Ordered(order));
    assert_eq!(format!("{:?}", record.request), format!("{request:?}"));

    let bought = fixture.buy(&fixture.keyed("b", &sale, 2)).await?;
    assert_eq!(reply(&fixture, 2).await?, Some(KeyReply::Ordered(bought)));
    Ok(())
}

#[tokio::test]
async fn a_rejection_leaves_the_key_free() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(1).await?;
    fixture.buy(&fixture.request("first", &sale, 2, 1)).await?;
    let late = fixture.keyed("late", &sale, 1);
    assert!(fixture.buy(&late).await.is_err());
    assert_eq!(reply(&fixture, 1).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_key_of_another_call_denies_one_request_and_not_its_batch() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    fixture.buy(&fixture.keyed("a", &sale, 1)).await?;
    let batch = [
        fixture.keyed("b", &sale, 1),
        fixture.keyed("c", &sale, 2),
        fixture.keyed("d", &sale, 2),
        fixture.request("e", &sale, 1, 1),
    ];
    let answers = fixture
        .database
        .purchase(&batch, &settling(), false, fixture.now)
        .await?;
    let denials: Vec<_> = answers.into_iter().map(Result::err).collect();
    assert_eq!(
        denials,
        [Some(Denial::Taken), None, Some(Denial::Taken), None]
    );
    Ok(())
}

#[tokio::test]
async fn a_settled_request_keeps_the_reply_that_accepted_it() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let request = fixture.keyed("a", &sale, 1);
    fixture.database.claim_key(&request).await?;
    fixture.database.place_key(&request, &TICKET).await?;
    let settled = fixture
        .database
        .purchase(&[request], &settling(), true, fixture.now)
        .await?;
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    assert_eq!(
        reply(&fixture, 1).await?,
        Some(KeyReply::Accepted(Some(TICKET)))
    );
    Ok(())
}

#[tokio::test]
async fn a_key_is_claimed_once_and_has_the_first_place_that_is_noted() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let database = &fixture.database;
    let request = fixture.keyed("a", &sale, 1);
    database.claim_key(&request).await?;
    assert_eq!(reply(&fixture, 1).await?, Some(KeyReply::Accepted(None)));
    assert!(is_duplicate(&database.claim_key(&request).await));
    assert!(is_duplicate(
        &database.claim_key(&fixture.keyed("b", &sale, 1)).await
    ));
    // One request has one key.
    assert!(is_duplicate(
        &database.claim_key(&fixture.keyed("a", &sale, 2)).await
    ));

    let later = Ticket {
        queue_position: 1,
        ..TICKET
    };
    database.place_key(&request, &TICKET).await?;
    database.place_key(&request, &later).await?;
    assert_eq!(
        reply(&fixture, 1).await?,
        Some(KeyReply::Accepted(Some(TICKET)))
    );
    assert!(is_duplicate(&database.claim_key(&request).await));
    Ok(())
}

#[tokio::test]
async fn a_claim_that_was_released_before_its_place_was_noted_is_made_again() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let database = &fixture.database;
    let request = fixture.keyed("a", &sale, 1);
    database.claim_key(&request).await?;
    database.release_key(&KeyId([1; 32])).await?;
    database.place_key(&request, &TICKET).await?;
    assert_eq!(
        reply(&fixture, 1).await?,
        Some(KeyReply::Accepted(Some(TICKET)))
    );
    // Nor does it take what has become another's.
    let (lost, other) = (fixture.keyed("b", &sale, 2), fixture.keyed("c", &sale, 2));
    database.claim_key(&lost).await?;
    database.release_key(&KeyId([2; 32])).await?;
    database.claim_key(&other).await?;
    database.place_key(&lost, &TICKET).await?;
    assert_eq!(reply(&fixture, 2).await?, Some(KeyReply::Accepted(None)));
    Ok(())
}

#[tokio::test]
async fn a_decided_request_cannot_claim() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let database = &fixture.database;
    fixture.buy(&fixture.request("bought", &sale, 1, 1)).await?;
    let refused = fixture.keyed("refused", &sale, 2);
    let refusal = (refused.id.clone(), sale.id, rejected(Rejection::SoldOut));
    database.refuse(&[refusal], fixture.now).await?;
    assert!(is_duplicate(
        &database.claim_key(&fixture.keyed("bought", &sale, 1)).await
    ));
    assert!(is_duplicate(&database.claim_key(&refused).await));
    database
        .claim_key(&fixture.request("keyless", &sale, 1, 1))
        .await?;
    Ok(())
}

#[tokio::test]
async fn only_a_claim_without_a_place_is_released() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let database = &fixture.database;
    let bought = fixture.buy(&fixture.keyed("bought", &sale, 1)).await?;
    let placed = fixture.keyed("placed", &sale, 2);
    database.claim_key(&placed).await?;
    database.place_key(&placed, &TICKET).await?;
    database
        .claim_key(&fixture.keyed("claimed", &sale, 3))
        .await?;
    for key in 1..=4 {
        database.release_key(&KeyId([key; 32])).await?;
    }
    assert_eq!(reply(&fixture, 1).await?, Some(KeyReply::Ordered(bought)));
    assert_eq!(
        reply(&fixture, 2).await?,
        Some(KeyReply::Accepted(Some(TICKET)))
    );
    assert_eq!(reply(&fixture, 3).await?, None);
    Ok(())
}

#[tokio::test]
async fn keys_are_purged_when_their_sale_ended_long_ago() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let unknown = Sale {
        id: 99,
        ..sale.clone()
    };
    let database = &fixture.database;
    fixture.buy(&fixture.keyed("bought", &sale, 1)).await?;
    database
        .claim_key(&fixture.keyed("nowhere", &unknown, 2))
        .await?;
    let keep = SignedDuration::from_hours(24);
    let moment = SignedDuration::from_millis(1);
    assert_eq!(database.purge_keys(fixture.now + keep, keep).await?, 0);
    assert_eq!(
        database
            .purge_keys(fixture.now + keep + moment, keep)
            .await?,
        1
    );
    assert_eq!(reply(&fixture, 2).await?, None);
    assert_eq!(database.purge_keys(sale.end_at + keep, keep).await?, 0);
    assert_eq!(
        database
            .purge_keys(sale.end_at + keep + moment, keep)
            .await?,
        1
    );
    assert_eq!(reply(&fixture, 1).await?, None);
    Ok(())
}

//! The stages of the probe: who buys what, and what has to come of it.

use jiff::SignedDuration;

use super::{
    Finding,
    finding::{EXPORTS, HOUSE},
    subject::{End, Subject},
};
use crate::{
    backend::BackendError,
    domain::{KeyId, Rejection, Request, RequestId},
};

const SOLD: &[End] = &[End::Sold];
const SOLD_OUT: &[End] = &[End::Refused(Rejection::SoldOut)];
const NOT_OPEN: &[End] = &[End::Refused(Rejection::NotOpen)];
/// A sale that no probe makes.
const MISSING_SALE: i64 = 1 << 40;
/// Pieces for the crowd, and its buyers.
const CROWD_PIECES: i64 = 20;
const CROWD_BUYERS: usize = 36;
/// Pieces for the requests that the live revision accepted, and how many those are.
const INHERITED_PIECES: i64 = 4;
const INHERITED: usize = 6;

/// One buyer buys one piece: what is broken altogether ends here.
pub async fn first_buyer(subject: &mut Subject) -> Result<(), BackendError> {
    let sale = subject.sale(2, None).await?.id;
    let request = subject.request(sale);
    subject.expect("the first request", request, SOLD).await
}

/// The rules of a sale, at their edges.
pub async fn rules(subject: &mut Subject) -> Result<(), BackendError> {
    let sale = subject.sale(10, None).await?;
    let moment = SignedDuration::from_millis(1);
    for (what, accepted_at, expected) in [
        (
            "a request before the window",
            sale.start_at - moment,
            NOT_OPEN,
        ),
        (
            "a request at the window's first moment",
            sale.start_at,
            SOLD,
        ),
        (
            "a request at the window's last moment",
            sale.end_at - moment,
            SOLD,
        ),
        ("a request after the window", sale.end_at, NOT_OPEN),
    ] {
        let request = Request {
            accepted_at,
            ..subject.request(sale.id)
        };
        subject.expect(what, request, expected).await?;
    }

    let request = subject.request(MISSING_SALE);
    let not_found = [End::Refused(Rejection::SaleNotFound)];
    let what = "a request for a sale that there is not";
    subject.expect(what, request, &not_found).await?;

    let sale = subject.sale(3, None).await?.id;
    for (what, quantity, expected) in [
        ("a request for 2 of 3 pieces", 2, SOLD),
        ("a request for 2 pieces where 1 is left", 2, SOLD_OUT),
        ("a request for the last piece", 1, SOLD),
        ("a request where nothing is left", 1, SOLD_OUT),
    ] {
        let request = Request {
            quantity,
            ..subject.request(sale)
        };
        subject.expect(what, request, expected).await?;
    }

    let sale = subject.sale(10, Some(2)).await?.id;
    let first = subject.request(sale);
    let again = subject.request(sale);
    let other = subject.request(sale);
    let limited = [End::Refused(Rejection::LimitExceeded)];
    let user_id = first.user_id;
    let first = Request {
        quantity: 2,
        ..first
    };
    let again = Request { user_id, ..again };
    let what = "a request up to the limit per user";
    subject.expect(what, first, SOLD).await?;
    let what = "a request of the same user beyond the limit";
    subject.expect(what, again, &limited).await?;
    let what = "a request of another user";
    subject.expect(what, other, SOLD).await
}

/// Requests that come twice, one after the other and at once, and a key that is used for something else.
pub async fn asked_again(subject: &mut Subject) -> Result<(), BackendError> {
    let sale = subject.sale(10, None).await?.id;
    let other_sale = subject.sale(10, None).await?.id;
    let key = KeyId(rand::random());
    let request = subject.request_with_key(sale, key);
    subject
        .expect("a request with a key", request.clone(), SOLD)
        .await?;
    let twice = [End::Duplicate, End::Sold];
    let what = "the same request, given again,";
    subject.expect(what, request.clone(), &twice).await?;

    let other = subject.request_with_key(other_sale, key);
    let other = Request {
        user_id: request.user_id,
        ..other
    };
    let what = "another request with the key of the first";
    subject.expect(what, other, &[End::Duplicate]).await?;

    if !subject.is_faulty() {
        let request = subject.request(sale);
        subject.crowd(&[request.clone(), request]).await?;
    }
    let sold = 10 - subject.remaining(sale).await?;
    if !subject.is_faulty() && sold != 2 {
        subject.note(Finding::new(
            "each request is sold once, however often it is given: 2 pieces in all",
            format!("{sold} pieces were sold"),
            HOUSE,
        ));
    }
    Ok(())
}

/// More buyers than pieces, some of them at once.
pub async fn crowd(subject: &mut Subject) -> Result<(), BackendError> {
    let sale = subject.sale(CROWD_PIECES, None).await?.id;
    let requests: Vec<Request> = (0..CROWD_BUYERS).map(|_| subject.request(sale)).collect();
    let ends = subject.crowd(&requests).await?;
    judge_sell_out(subject, &ends, CROWD_PIECES);
    Ok(())
}

/// What the live revision accepted is the candidate's to settle.
pub async fn inherited(subject: &mut Subject, live: &Subject) -> Result<(), BackendError> {
    let sale = subject.sale(INHERITED_PIECES, None).await?.id;
    let requests: Vec<Request> = (0..INHERITED)
        .map(|_| Request {
            revision: live.revision().id.clone(),
            ..subject.request(sale)
        })
        .collect();
    subject.accept_by(live.revision(), &requests).await;
    if subject.waiting() < INHERITED as u64 {
        // It sells at once, and leaves nothing to its successor.
        return Ok(());
    }
    let ids: Vec<RequestId> = requests.into_iter().map(|request| request.id).collect();
    let ends = subject.decided(&ids).await?;
    judge_sell_out(subject, &ends, INHERITED_PIECES);
    Ok(())
}

/// Whether a sale was sold to the last piece, and everybody else was told so.
fn judge_sell_out(subject: &mut Subject, ends: &[End], pieces: i64) {
    if subject.is_faulty() {
        return;
    }
    let sold = ends.iter().filter(|end| **end == End::Sold).count();
    let odd = ends
        .iter()
        .find(|end| !SOLD.contains(end) && !SOLD_OUT.contains(end));
    if i64::try_from(sold) != Ok(pieces) {
        subject.note(Finding::new(
            format!("of {pieces} pieces, {} buyers get {pieces}", ends.len()),
            format!("{sold} were sold"),
            HOUSE,
        ));
    } else if let Some(odd) = odd {
        subject.note(Finding::new(
            "every request that comes too late is refused as SOLD_OUT",
            format!("one {odd}"),
            EXPORTS,
        ));
    }
}

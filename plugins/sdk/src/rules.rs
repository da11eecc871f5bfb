//! The rules that every sale has, as far as a strategy can judge them from the sale alone.
//!
//! They save a strategy the work of a purchase that cannot succeed; they are not what protects the stock.
//! The host checks them again where the order is placed, and the limit per user only there, because it depends on the user's other orders.

use crate::{Rejection, Request, Sale};

/// Says whether the request may buy from the sale as it was read, and hands the sale back if so.
///
/// Checked in this order: the sale exists, its window `[start_at, end_at)` holds the moment at which the request was accepted, enough is left.
pub fn check(sale: Option<Sale>, request: &Request) -> Result<Sale, Rejection> {
    let sale = sale.ok_or(Rejection::SaleNotFound)?;
    if !(sale.start_at..sale.end_at).contains(&request.accepted_at) {
        return Err(Rejection::NotOpen);
    }
    if sale.remaining < u64::from(request.quantity) {
        return Err(Rejection::SoldOut);
    }
    Ok(sale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000;
    const END: u64 = 2_000;

    fn sale(remaining: u64) -> Option<Sale> {
        Some(Sale {
            id: 1,
            product_id: 1,
            quantity: 10,
            remaining,
            discount_price: 100,
            start_at: START,
            end_at: END,
            limit_per_user: None,
        })
    }

    fn request(accepted_at: u64, quantity: u32) -> Request {
        Request {
            handle: 0,
            id: "r".to_owned(),
            sale_id: 1,
            user_id: 7,
            quantity,
            accepted_at,
        }
    }

    #[test]
    fn a_missing_sale_is_not_found() {
        assert!(matches!(
            check(None, &request(START, 1)),
            Err(Rejection::SaleNotFound)
        ));
    }

    #[test]
    fn the_window_holds_its_first_moment_and_not_its_last() {
        for (accepted_at, open) in [
            (START - 1, false),
            (START, true),
            (END - 1, true),
            (END, false),
        ] {
            let judged = check(sale(10), &request(accepted_at, 1));
            assert_eq!(
                judged.is_ok(),
                open,
                "accepted at {accepted_at}: {judged:?}"
            );
            assert!(open || matches!(judged, Err(Rejection::NotOpen)));
        }
    }

    #[test]
    fn the_last_pieces_are_sold_and_not_one_more() {
        assert!(check(sale(3), &request(START, 3)).is_ok());
        assert!(matches!(
            check(sale(3), &request(START, 4)),
            Err(Rejection::SoldOut)
        ));
        assert!(matches!(
            check(sale(0), &request(START, 1)),
            Err(Rejection::SoldOut)
        ));
    }

    #[test]
    fn a_sale_that_is_closed_and_sold_out_is_not_open() {
        assert!(matches!(
            check(sale(0), &request(END, 1)),
            Err(Rejection::NotOpen)
        ));
    }
}

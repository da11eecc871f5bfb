//! Whose orders are summed in this round: every sale in its turn, and a big one as seldom as it is big.
//!
//! `Reconciler` asks it which, and tells it what was found.

use std::collections::BTreeMap;

use crate::domain::{Sale, SaleId};

/// Orders that a round may read; what one sale has beyond is made up for by rounds without any.
const ORDERS_READ: i64 = 50_000;

/// The turns of the sales that are looked at, and what was found at the last turn of each.
#[derive(Debug, Default)]
pub struct Turns {
    /// By how many pieces stock and orders of each sale differ.
    drifts: BTreeMap<SaleId, u64>,
    last: SaleId,
    /// Orders read that the rounds so far did not allow for.
    owed: i64,
}

impl Turns {
    /// The sales whose turn it is; those that are not looked at any more are forgotten.
    pub fn due(&mut self, sales: &[Sale]) -> Vec<SaleId> {
        // An order has one piece at least, so there are no more orders than pieces sold.
        let looked_at: BTreeMap<SaleId, i64> = sales
            .iter()
            .map(|sale| (sale.id, sale.quantity.saturating_sub(sale.remaining)))
            .collect();
        self.drifts.retain(|sale, _| looked_at.contains_key(sale));
        self.owed = self.owed.saturating_sub(ORDERS_READ).max(0);
        let last = self.last;
        let (before, after): (Vec<_>, Vec<_>) =
            looked_at.into_iter().partition(|(sale, _)| *sale <= last);
        let mut due = Vec::new();
        for (sale, sold) in after.into_iter().chain(before) {
            if self.owed >= ORDERS_READ {
                break;
            }
            self.owed = self.owed.saturating_add(sold);
            self.last = sale;
            due.push(sale);
        }
        due
    }

    /// Notes by how many pieces stock and orders of these sales differ.
    pub fn note(&mut self, found: Vec<(SaleId, u64)>) {
        self.drifts.extend(found);
    }

    /// The pieces of all sales that are looked at, as last found.
    pub fn drift(&self) -> u64 {
        self.drifts.values().copied().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{ORDERS_READ, Turns};
    use crate::domain::{Sale, SaleId};

    fn sale(id: SaleId, sold: i64) -> Sale {
        Sale {
            id,
            product_id: 1,
            quantity: 10 * ORDERS_READ,
            remaining: 10 * ORDERS_READ - sold,
            discount_price: 1,
            start_at: Timestamp::UNIX_EPOCH,
            end_at: Timestamp::MAX,
            limit_per_user: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn small_sales_are_due_in_every_round() {
        let mut turns = Turns::default();
        let sales = [sale(3, 10), sale(1, 0), sale(2, 7)];
        assert_eq!(turns.due(&sales), [1, 2, 3]);
        assert_eq!(turns.due(&sales), [1, 2, 3]);
        assert!(turns.due(&[]).is_empty());
    }

    #[test]
    fn a_big_sale_is_due_as_seldom_as_it_is_big_and_every_sale_has_its_turn() {
        let mut turns = Turns::default();
        let sales = [sale(1, 0), sale(2, 3 * ORDERS_READ), sale(3, 5)];
        let rounds: Vec<_> = (0..7).map(|_| turns.due(&sales)).collect();
        let none: Vec<SaleId> = Vec::new();
        assert_eq!(rounds[0], [1, 2]);
        assert_eq!([&rounds[1], &rounds[2]], [&none, &none]);
        assert_eq!(rounds[3], [3, 1, 2]);
        assert_eq!([&rounds[4], &rounds[5]], [&none, &none]);
        assert_eq!(rounds[6], [3, 1, 2]);
    }

    #[test]
    fn what_was_found_lasts_until_the_next_turn_or_until_the_sale_is_gone() {
        let mut turns = Turns::default();
        let (sound, broken) = (sale(1, 1), sale(2, 1));
        turns.due(&[sound.clone(), broken.clone()]);
        turns.note(vec![(1, 0), (2, 4)]);
        assert_eq!(turns.drift(), 4);
        turns.due(&[sound.clone(), broken]);
        turns.note(vec![(2, 3)]);
        assert_eq!(turns.drift(), 3);
        turns.due(&[sound]);
        assert_eq!(turns.drift(), 0);
    }
}

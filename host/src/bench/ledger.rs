//! The ledger's verdict: whether what buyers were told is what the host has.
//!
//! Judged through the public interface alone, so that it holds for any host and any backend.

use std::{collections::HashSet, fmt};

use serde::{Serialize, Serializer};

/// A sale of one measurement, when nothing waits any more.
#[derive(Debug, Default, Clone)]
pub struct SaleBook {
    /// Its id.
    pub id: i64,
    /// Pieces at the start.
    pub quantity: u64,
    /// Pieces left.
    pub remaining: u64,
    /// Pieces that were sold before the clock started.
    pub sold_before: u64,
    /// Orders of one piece that buyers were told of.
    pub orders: u64,
    /// Purchases of which nobody can know whether they became an order.
    pub unknown: u64,
    /// Whether a buyer was told that it is sold out.
    pub told_sold_out: bool,
}

/// What one measurement left behind.
#[derive(Debug, Default, Clone)]
pub struct Books {
    /// Its sales.
    pub sales: Vec<SaleBook>,
    /// The ids of all orders that buyers were told of.
    pub orders: Vec<i64>,
    /// Orders that were read back and are of another sale.
    pub foreign: Vec<i64>,
    /// Tickets without a result.
    pub unsettled: u64,
    /// Tickets that failed for another reason than the stock.
    pub failed_results: u64,
    /// Purchases of the version that the host counts as completed meanwhile; none where it never came to rest.
    pub counted: Option<f64>,
}

/// Whether what buyers were told is what the host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Right,
    /// It is not, and in what.
    Wrong(Vec<String>),
}

impl Verdict {
    /// Whether it is.
    pub const fn is_right(&self) -> bool {
        matches!(self, Self::Right)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::Wrong(faults) => write!(f, "WRONG: {}", faults.join("; ")),
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Holds what buyers were told against what the host has.
pub fn judge(books: &Books) -> Verdict {
    let mut faults = Vec::new();
    for sale in &books.sales {
        let id = sale.id;
        let Some(sold) = sale.quantity.checked_sub(sale.remaining) else {
            faults.push(format!("sale {id} has more left than it began with"));
            continue;
        };
        let told = sale.sold_before + sale.orders;
        if !(told..=told + sale.unknown).contains(&sold) {
            faults.push(format!(
                "sale {id} sold {sold} pieces, and buyers were told of {told}"
            ));
        }
        if sale.told_sold_out && sale.remaining > 0 {
            let left = sale.remaining;
            faults.push(format!(
                "a buyer of sale {id} was told SOLD_OUT, and {left} pieces are left"
            ));
        }
    }
    let distinct: HashSet<i64> = books.orders.iter().copied().collect();
    if distinct.len() != books.orders.len() {
        let twice = books.orders.len() - distinct.len();
        faults.push(format!("{twice} orders were told to two buyers"));
    }
    if !books.foreign.is_empty() {
        faults.push(format!("orders of another sale: {:?}", books.foreign));
    }
    if books.unsettled > 0 {
        faults.push(format!("{} tickets have no result", books.unsettled));
    }
    if books.failed_results > 0 {
        let failed = books.failed_results;
        faults.push(format!("{failed} tickets failed while there was stock"));
    }
    match books.counted {
        None => faults.push("the host did not come to rest".to_owned()),
        Some(counted) => {
            let told = books.orders.len() as f64;
            let unknown = books.sales.iter().map(|sale| sale.unknown).sum::<u64>() as f64;
            if !(told..=told + unknown).contains(&counted) {
                faults.push(format!(
                    "the host counts {counted} completed purchases, and buyers were told of {told}"
                ));
            }
        }
    }
    if faults.is_empty() {
        Verdict::Right
    } else {
        Verdict::Wrong(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::{Books, SaleBook, Verdict, judge};

    /// Two sales of which one is sold out, and three orders.
    fn right() -> Books {
        let sale = |id, quantity, orders| SaleBook {
            id,
            quantity,
            remaining: quantity - orders,
            orders,
            told_sold_out: quantity == orders,
            ..SaleBook::default()
        };
        Books {
            sales: vec![sale(1, 2, 2), sale(2, 10, 1)],
            orders: vec![1, 2, 3],
            counted: Some(3.0),
            ..Books::default()
        }
    }

    #[test]
    fn books_that_agree_are_right() {
        assert_eq!(judge(&right()), Verdict::Right);
    }

    #[test]
    fn a_purchase_of_which_nobody_knows_may_be_an_order_or_none() {
        for (remaining, counted) in [(9, 3.0), (8, 4.0)] {
            let mut books = right();
            books.sales[1].unknown = 1;
            books.sales[1].remaining = remaining;
            books.counted = Some(counted);
            assert_eq!(judge(&books), Verdict::Right);
        }
    }

    /// Puts one fault into the books.
    type Spoil = fn(&mut Books);

    #[test]
    fn every_kind_of_wrong_is_found_and_told() {
        let cases: [(&str, Spoil); 9] = [
            ("sale 2 sold 2 pieces", |books| {
                books.sales[1].remaining = 8;
            }),
            ("sale 1 sold 1 pieces", |books| {
                books.sales[0].remaining = 1;
                books.sales[0].told_sold_out = false;
            }),
            ("more left than it began with", |books| {
                books.sales[1].remaining = 11;
            }),
            ("told SOLD_OUT, and 9 pieces are left", |books| {
                books.sales[1].told_sold_out = true;
            }),
            ("1 orders were told to two buyers", |books| {
                books.orders[2] = 1;
            }),
            ("orders of another sale: [3]", |books| {
                books.foreign.push(3);
            }),
            ("1 tickets have no result", |books| books.unsettled = 1),
            ("did not come to rest", |books| books.counted = None),
            ("the host counts 4 completed purchases", |books| {
                books.counted = Some(4.0);
            }),
        ];
        for (says, spoil) in cases {
            let mut books = right();
            spoil(&mut books);
            let Verdict::Wrong(faults) = judge(&books) else {
                panic!("not found: {says}");
            };
            assert!(
                faults.iter().any(|fault| fault.contains(says)),
                "{faults:?}"
            );
        }
    }
}

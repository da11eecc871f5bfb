//! Whole strategies, right and wrong, for the tests of what a host lets in: which one a component is, is written into its data.
//!
//! One build holds them all: a test copies the component, overwrites the name in [`CHOICE`] and has another strategy.
//! Not for what goes wrong with single buyers (`misdeeds`, `poison`), which is what the component does as it was built.

mod late;
mod right;
mod wrong;

use std::hint;

use timesale_sdk::{Order, Outcome, Refusal, Request};

/// What `purchase` returns.
pub type Answer = Result<Outcome, Refusal>;
/// What `settle` returns, for each request.
pub type Settled = Result<Order, Refusal>;

/// How a strategy sells.
pub type Purchase = fn(&Request) -> Answer;
/// How it settles what it accepted.
pub type Settle = fn(&[Request]) -> Vec<Settled>;

/// The name of the strategy that this component is, after a mark by which tests find it; blanks fill it up.
static CHOICE: [u8; 48] = *b"corpus-strategy:as-the-buyer-says               ";
/// Bytes of the mark.
const MARK: usize = 16;

/// The name of the strategy that this component is.
pub fn choice() -> &'static str {
    // Read as if anyone might have written it, which tests have.
    let name = hint::black_box(&CHOICE).get(MARK..).unwrap_or_default();
    str::from_utf8(name).unwrap_or_default().trim_end()
}

/// The strategy of the corpus that this component is, unless it is what the buyers say.
pub fn chosen() -> Option<(Purchase, Settle)> {
    let name = choice();
    right::find(name)
        .or_else(|| wrong::find(name))
        .or_else(|| late::find(name))
}

//! Refuses everybody: what a call costs by itself.
//!
//! For benchmarks, on sales that are sold out, where the refusal is true and its confirmation free.
//! A purchase of n pieces asks the host n - 1 times first, for a key that is not there.

use timesale_sdk::{Outcome, Refusal, Rejection, Request, Strategy, redis, strategy};

struct NoOp;

impl Strategy for NoOp {
    const OPERATION: &str = "purchaseNothing";

    fn purchase(request: &Request) -> Result<Outcome, Refusal> {
        for _ in 1..request.quantity {
            redis::get("bench:nothing")?;
        }
        Err(Rejection::SoldOut.into())
    }
}

strategy!(NoOp);

//! Takes from a counter in Redis, and refuses where it holds too little: what one wait costs a call.
//!
//! For benchmarks, on sales that are sold out: nobody fills the counter, so that each purchase is one round trip and a refusal that is true.
//! Whoever finds enough buys in one step of the database, which judges for itself.

use timesale_sdk::{Failure, Outcome, Refusal, Rejection, Request, Strategy, db, redis, strategy};

struct TakeIfEnough;

impl Strategy for TakeIfEnough {
    const OPERATION: &str = "purchaseIfTaken";

    fn purchase(request: &Request) -> Result<Outcome, Refusal> {
        let key = format!("bench:left:{}", request.sale_id);
        if redis::take(&key, request.quantity.into())?.is_none() {
            return Err(Rejection::SoldOut.into());
        }
        let answer = db::purchase(&[request.handle])?.into_iter().next();
        let order = answer.ok_or_else(|| Failure::Other("no answer".to_owned()))??;
        Ok(Outcome::Completed(order))
    }
}

strategy!(TakeIfEnough);

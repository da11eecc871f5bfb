//! The shortest strategy there is: the database's own purchase, of one request.
//!
//! The example of the author's guide, and in the tests the proof that the host names no version.
//! Not a version that is sold with: the host may carry many of its purchases in one commit, but it has no policy of its own.

use timesale_sdk::{Failure, Outcome, Refusal, Request, Strategy, db, strategy};

struct OneStep;

impl Strategy for OneStep {
    const OPERATION: &str = "purchaseInOneStep";

    fn purchase(request: &Request) -> Result<Outcome, Refusal> {
        let answers = db::purchase(&[request.handle])?;
        let answer = answers.into_iter().next();
        let order = answer.ok_or_else(|| Failure::Other("no answer".to_owned()))??;
        Ok(Outcome::Completed(order))
    }
}

strategy!(OneStep);

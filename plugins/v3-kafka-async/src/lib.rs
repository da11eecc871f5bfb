//! v3: buyers of a sale queue in the log, and are answered before their turn has come.
//!
//! A purchase judges the sale as it was last committed and submits the request; the answer is its ticket.
//! So nobody queues for a sale that is missing, closed or sold out, and no row is locked while a buyer waits for an answer.
//! Later the host hands over batches of a sale's requests, and one step of the database decides each batch.

use timesale_sdk::{
    Failure, Order, Outcome, Refusal, Request, RequestHandle, Strategy, db, kafka, rules, strategy,
};

struct KafkaAsync;

impl Strategy for KafkaAsync {
    const OPERATION: &str = "purchaseTimeSaleAsync";

    fn purchase(request: &Request) -> Result<Outcome, Refusal> {
        rules::check(db::find_sale(request.sale_id)?, request)?;
        let ticket = kafka::submit(request.handle)?;
        Ok(Outcome::Accepted(ticket))
    }

    fn settle(requests: &[Request]) -> Vec<Result<Order, Refusal>> {
        let refs: Vec<RequestHandle> = requests.iter().map(|request| request.handle).collect();
        match db::purchase(&refs) {
            Ok(answers) => answers
                .into_iter()
                .map(|it| it.map_err(Refusal::from))
                .collect(),
            Err(failure) => refs.iter().map(|_| Err(failed(&failure))).collect(),
        }
    }
}

strategy!(KafkaAsync);

/// The failure of the whole step, as the answer to one of its requests.
fn failed(failure: &Failure) -> Refusal {
    failure.clone().into()
}

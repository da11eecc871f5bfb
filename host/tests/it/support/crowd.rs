//! Many buyers at once, each of whom asks until there is an answer that lasts.

use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::{
    answer::{Answer, Outcome},
    ledger::Ledger,
    shop::Shop,
};

/// How long a buyer waits before asking again; shorter than what Retry-After says, so that the crowd presses on.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A buyer, and what came of it.
#[derive(Debug)]
pub struct Buyer {
    pub version: String,
    pub user: u64,
    pub quantity: u64,
    /// The last answer, followed to its end.
    pub answer: Answer,
    /// When it was in hand, in milliseconds since 1970.
    pub answered_at: i64,
}

/// Five hundred buyers of one sale, spread over these versions: some want two pieces, and at least 150 who want one come after the last of them.
pub async fn rush(shop: &Shop, sale: u64, versions: &[&str]) -> Vec<Buyer> {
    let mut crowd = JoinSet::new();
    for (user, version) in (1..=500).zip(versions.iter().cycle()) {
        let quantity = if user <= 350 && user % 7 == 0 { 2 } else { 1 };
        crowd.spawn(visit(
            shop.clone(),
            (*version).to_owned(),
            sale,
            user,
            quantity,
        ));
    }
    crowd.join_all().await
}

/// Buys, asking again with the same key for as long as the host has no room or no answer yet.
pub async fn visit(shop: Shop, version: String, sale: u64, user: u64, quantity: u64) -> Buyer {
    let answer = loop {
        let purchase = shop.buy(&version, sale, user, quantity).key("rush");
        let answer = purchase.follow().await;
        match &answer.outcome {
            Outcome::Refused(problem) if problem.status == 503 || problem.code == "IN_PROGRESS" => {
                tokio::time::sleep(BACK_OFF).await;
            }
            _ => break answer,
        }
    };
    Buyer {
        version,
        user,
        quantity,
        answer,
        answered_at: Timestamp::now().as_millisecond(),
    }
}

/// Holds every buyer's answer against the ledger: the charged have their order, the refused have none and were refused rightly.
pub fn judge(buyers: &[Buyer], ledger: &Ledger) {
    for buyer in buyers {
        match buyer.answer.refusal() {
            None => {
                let order = ledger.order(buyer.answer.request_id().unwrap());
                let order = order.unwrap_or_else(|| panic!("charged for nothing: {buyer:#?}"));
                assert_eq!(
                    (
                        order.id,
                        order.user_id,
                        order.quantity,
                        order.version.as_str()
                    ),
                    (
                        buyer.answer.order_id(),
                        buyer.user,
                        buyer.quantity,
                        buyer.answer.version.as_deref().unwrap()
                    )
                );
                assert_eq!(ledger.sold_to(buyer.user), buyer.quantity, "{buyer:#?}");
            }
            Some(code) => {
                assert_eq!(code, "SOLD_OUT", "{buyer:#?}");
                assert_eq!(
                    ledger.sold_to(buyer.user),
                    0,
                    "refused and charged: {buyer:#?}"
                );
                // What was sold after the refusal was in hand was there when it was made.
                let later = ledger
                    .orders
                    .iter()
                    .filter(|order| order.created_at > buyer.answered_at);
                let left: u64 = ledger.remaining + later.map(|order| order.quantity).sum::<u64>();
                assert!(
                    left < buyer.quantity,
                    "refused while {left} were left: {buyer:#?}"
                );
            }
        }
    }
}

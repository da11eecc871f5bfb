//! Buyers who keep coming while services and hosts fail, each of whom goes on asking until there is an answer that lasts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, task::JoinSet};

use super::{
    answer::{Answer, Outcome, Standing},
    crowd::Buyer,
    shop::Shop,
    within,
};

/// Buyers at once.
const BUYERS: u64 = 24;
/// How long a buyer waits before asking again.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Buyers of one sale, one after the other in each of some lines, until they are told to stop.
pub struct Load {
    lines: JoinSet<Vec<Buyer>>,
    stop: Arc<AtomicBool>,
    answered: watch::Receiver<u64>,
}

impl Load {
    /// Starts to buy one piece for ever new users, through these versions and these hosts in turn.
    pub fn start(shops: &[Shop], sale: u64, versions: &[&'static str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (counter, answered) = watch::channel(0);
        let (counter, next) = (Arc::new(counter), Arc::new(AtomicU64::new(1)));
        let mut lines = JoinSet::new();
        for line in 0..BUYERS {
            let (shops, versions) = (shops.to_vec(), versions.to_vec());
            let (stop, counter, next) =
                (Arc::clone(&stop), Arc::clone(&counter), Arc::clone(&next));
            lines.spawn(async move {
                let mut buyers = Vec::new();
                let mut turns = versions.iter().cycle().skip(line as usize % versions.len());
                while !stop.load(Ordering::Relaxed) {
                    let user = next.fetch_add(1, Ordering::Relaxed);
                    let version = turns.next().unwrap();
                    buyers.push(insist(&shops, version, sale, user, 1).await);
                    counter.send_modify(|answered| *answered += 1);
                }
                buyers
            });
        }
        Self {
            lines,
            stop,
            answered,
        }
    }

    /// Waits until so many more buyers have their last answer.
    pub async fn answers(&mut self, more: u64) {
        let enough = *self.answered.borrow() + more;
        let answered = self.answered.wait_for(|answered| *answered >= enough);
        within("answers under load", answered).await.unwrap();
    }

    /// How many buyers have their last answer.
    pub fn so_far(&self) -> u64 {
        *self.answered.borrow()
    }

    /// Lets nobody new come, and waits for the last answers of those who came.
    pub async fn end(self) -> Vec<Buyer> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = within("the end of the load", self.lines.join_all()).await;
        ended.into_iter().flatten().collect()
    }
}

/// Buys with one key, going to the next of these hosts whenever one is gone or has no answer that lasts, and follows what was accepted to its end.
pub async fn insist(shops: &[Shop], version: &str, sale: u64, user: u64, quantity: u64) -> Buyer {
    let insisting = async {
        // A key is the user's in every sale, and the same users come to the next.
        let key = format!("load-{sale}");
        // Buyers of one version do not all begin at the same host.
        let mut turns = shops.iter().cycle().skip((user / 4) as usize % shops.len());
        loop {
            let purchase = turns.next().unwrap().buy(version, sale, user, quantity);
            match purchase.key(&key).try_send().await {
                Ok(answer) if lasts(&answer) => break answer,
                _ => tokio::time::sleep(BACK_OFF).await,
            }
        }
    };
    let mut answer = within("an answer that lasts", insisting).await;
    if let Outcome::Accepted(_) = &answer.outcome {
        answer.standing = Some(settled(shops, answer.location.as_deref().unwrap()).await);
    }
    Buyer {
        version: version.to_owned(),
        user,
        quantity,
        answer,
        answered_at: Timestamp::now().as_millisecond(),
    }
}

/// Waits until an accepted request is final, asking the hosts in turn; whoever answers at all must know it.
pub async fn settled(shops: &[Shop], path: &str) -> Standing {
    let asking = async {
        for shop in shops.iter().cycle() {
            match shop.try_get(path).await {
                Ok(reply) if reply.status == 200 => {
                    let standing: Standing = reply.parsed();
                    if standing.status != "PENDING" {
                        return standing;
                    }
                }
                Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
                Err(_) => {}
            }
            tokio::time::sleep(BACK_OFF).await;
        }
        unreachable!("there is no host")
    };
    within("the result", asking).await
}

/// Whether asking again can change nothing: everything but what says itself that the same request may fare better.
fn lasts(answer: &Answer) -> bool {
    match &answer.outcome {
        Outcome::Refused(problem) => {
            let code = problem.code.as_str();
            !(problem.status == 503 || code == "IN_PROGRESS" || code == "DEADLINE")
        }
        Outcome::Completed(_) | Outcome::Accepted(_) => true,
    }
}

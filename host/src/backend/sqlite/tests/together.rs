//! Purchases that wait together: one commit carries them, and each hears its own answer, whatever becomes of the others or of their leader.

use std::collections::BTreeSet;
use std::future::{self, Future};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{self, JoinHandle};

use super::{Fixture, Outcome, rejected, settling};
use crate::backend::BackendError;
use crate::backend::database::Denial;
use crate::backend::group_commit::GroupCommit;
use crate::backend::sold_out::SoldOut;
use crate::domain::{Decision, Order, Rejection, Request, RevisionId, Version};

type Answer = Result<Option<Result<Order, Denial>>, BackendError>;

/// A host whose purchases share commits.
struct Host {
    group_commit: Arc<GroupCommit>,
    sold_out: Arc<SoldOut>,
}

impl Host {
    async fn on(fixture: &Fixture) -> Result<Self, BackendError> {
        let sold_out = Arc::new(SoldOut::default());
        let group_commit = GroupCommit::new(fixture.host().await?, Arc::clone(&sold_out));
        Ok(Self {
            group_commit: Arc::new(group_commit),
            sold_out,
        })
    }

    /// A caller who stays.
    fn buy(&self, request: &Request) -> JoinHandle<Answer> {
        self.buy_unless(request, future::pending())
    }

    /// A caller who goes away when `leave` comes true.
    fn buy_unless(
        &self,
        request: &Request,
        leave: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<Answer> {
        let (group_commit, request) = (Arc::clone(&self.group_commit), request.clone());
        task::spawn(async move { group_commit.purchase(&request, &settling(), leave).await })
    }

    /// Sends a request while the sale is held, so that whoever comes now has to wait.
    async fn send(&self, request: &Request) -> JoinHandle<Answer> {
        let sent = self.buy(request);
        everybody_waits().await;
        sent
    }
}

/// Lets every task run until it waits for something from outside.
async fn everybody_waits() {
    for _ in 0..20 {
        task::yield_now().await;
    }
}

async fn order(caller: JoinHandle<Answer>) -> Result<Order, Box<dyn std::error::Error>> {
    match caller.await?? {
        Some(Ok(order)) => Ok(order),
        other => Err(format!("no order but {other:?}").into()),
    }
}

#[tokio::test]
async fn who_wait_together_are_served_in_one_commit_in_the_order_of_their_arrival() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(100).await?;
    let host = Host::on(&fixture).await?;
    let mut held = fixture.database.begin().await?;
    held.lock_sale(sale.id).await?;
    let ask = |user| fixture.request(&format!("r{user}"), &sale, user, 1);
    let first = host.send(&ask(1)).await;
    let crowd: Vec<_> = (2..=60).map(|user| host.buy(&ask(user))).collect();
    everybody_waits().await;
    held.rollback().await?;

    assert_eq!(order(first).await?.remaining, 99);
    let (mut times, mut ids) = (BTreeSet::new(), Vec::new());
    for (caller, left) in crowd.into_iter().zip((0..99).rev()) {
        let order = order(caller).await?;
        assert_eq!(order.remaining, left);
        times.insert(order.created_at);
        ids.push(order.id);
    }
    assert_eq!(times.len(), 1, "{times:?}");
    assert!(ids.is_sorted(), "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn each_hears_its_own_answer_and_a_no_hinders_nobody() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.limited_sale(4, Some(2)).await?;
    let host = Host::on(&fixture).await?;
    let known = fixture.request("known", &sale, 9, 1);
    let order_before = fixture.buy(&known).await?;
    let mut held = fixture.database.begin().await?;
    held.lock_sale(sale.id).await?;
    let ask = |id: &str, user, quantity| fixture.request(id, &sale, user, quantity);
    let mut late = ask("late", 4, 1);
    late.accepted_at = sale.end_at;
    let sent = host.send(&ask("sent", 1, 1)).await;
    let crowd = [
        host.buy(&ask("over the limit", 1, 2)),
        host.buy(&late),
        host.buy(&fixture.keyed("keyed", &sale, 7)),
        host.buy(&fixture.keyed("same key", &sale, 7)),
        host.buy(&ask("too many", 3, 2)),
        host.buy(&known),
        host.buy(&ask("last", 3, 1)),
        host.buy(&ask("last", 3, 1)),
        host.buy(&ask("none left", 5, 1)),
    ];
    everybody_waits().await;
    held.rollback().await?;

    order(sent).await?;
    let mut answers = Vec::new();
    for caller in crowd {
        let answer = caller.await??.ok_or("it was withdrawn")?;
        answers.push(answer.map(|order| (order.request_id.to_string(), order.remaining)));
    }
    let no = |rejection| Err(Denial::Refused(rejected(rejection)));
    let sold = |id: &str, remaining| Ok((id.to_owned(), remaining));
    assert_eq!(
        answers,
        [
            no(Rejection::LimitExceeded),
            no(Rejection::NotOpen),
            sold("keyed", 1),
            Err(Denial::Taken),
            no(Rejection::SoldOut),
            sold("known", order_before.remaining),
            sold("last", 0),
            sold("last", 0),
            no(Rejection::SoldOut),
        ]
    );
    assert_eq!(fixture.remaining(&sale).await?, 0);
    Ok(())
}

#[tokio::test]
async fn orders_say_which_version_and_revision_sold_them_whoever_waited_beside() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(100).await?;
    let host = Host::on(&fixture).await?;
    let mut held = fixture.database.begin().await?;
    held.lock_sale(sale.id).await?;
    let builds = [("v4", "live"), ("v9", "other"), ("v4", "candidate")];
    let callers: Vec<_> = (1..=30)
        .zip(builds.into_iter().cycle())
        .map(|(user, (version, revision))| {
            let revision = RevisionId(revision.into());
            let request = Request {
                version: Version::parse(version).unwrap_or_else(|| unreachable!("it is one")),
                revision: revision.clone(),
                ..fixture.request(&format!("r{user}"), &sale, user, 1)
            };
            let group_commit = Arc::clone(&host.group_commit);
            task::spawn(async move {
                let leave = future::pending();
                group_commit.purchase(&request, &revision, leave).await
            })
        })
        .collect();
    everybody_waits().await;
    held.rollback().await?;

    let mut lefts = BTreeSet::new();
    for (caller, (version, revision)) in callers.into_iter().zip(builds.into_iter().cycle()) {
        let order = order(caller).await?;
        assert_eq!(order.version.as_str(), version);
        assert_eq!(order.accepting_revision.0, revision);
        assert_eq!(order.settling_revision.0, revision);
        assert_eq!(fixture.database.order(order.id).await?, Some(order.clone()));
        lefts.insert(order.remaining);
    }
    assert_eq!(lefts, (70..100).collect());
    Ok(())
}

#[tokio::test]
async fn who_leaves_while_waiting_is_taken_out_and_who_was_sent_is_answered() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(10).await?;
    let host = Host::on(&fixture).await?;
    let mut held = fixture.database.begin().await?;
    held.lock_sale(sale.id).await?;
    let ask = |id: &str| fixture.request(id, &sale, 1, 1);
    let (goes, gone) = oneshot::channel::<()>();
    let sent = host.buy_unless(&ask("sent"), async { drop(gone.await) });
    everybody_waits().await;
    drop(goes);
    let waiting = host.buy_unless(&ask("waiting"), future::ready(()));
    assert_eq!(waiting.await??, None);
    let stays = host.buy(&ask("stays"));
    everybody_waits().await;
    assert!(!sent.is_finished());
    held.rollback().await?;

    let (sent, stays) = (order(sent).await?, order(stays).await?);
    assert_eq!((sent.remaining, stays.remaining), (9, 8));
    let left = fixture.database.decisions(&[ask("waiting").id]).await?;
    assert_eq!(left, [None]);
    assert_eq!(fixture.remaining(&sale).await?, 8);
    Ok(())
}

#[tokio::test]
async fn the_caller_who_came_first_may_be_dropped_and_the_others_are_served() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(100).await?;
    let host = Host::on(&fixture).await?;
    let mut held = fixture.database.begin().await?;
    held.lock_sale(sale.id).await?;
    let ask = |user| fixture.request(&format!("r{user}"), &sale, user, 1);
    let first = host.send(&ask(1)).await;
    let crowd: Vec<_> = (2..=10).map(|user| host.buy(&ask(user))).collect();
    everybody_waits().await;
    first.abort();
    held.rollback().await?;

    for caller in crowd {
        order(caller).await?;
    }
    // What was sent for it was done all the same, and asking again tells.
    let decided = fixture.database.decisions(&[ask(1).id]).await?;
    let [Some(Decision::Ordered(ordered))] = decided.as_slice() else {
        return Err(format!("{decided:?}").into());
    };
    assert_eq!(&order(host.buy(&ask(1))).await?, ordered);
    assert_eq!(fixture.remaining(&sale).await?, 90);
    Ok(())
}

/// The leader runs where the first caller did: it dies with the runtime of that one.
#[tokio::test]
async fn a_leader_that_is_killed_at_any_moment_loses_and_doubles_nobody() -> Outcome {
    let fixture = Fixture::new().await?;
    for lives in [0, 1, 5, 20] {
        let sale = fixture.sale(100).await?;
        let host = Host::on(&fixture).await?;
        let mut held = fixture.database.begin().await?;
        held.lock_sale(sale.id).await?;
        let ask = |user| fixture.request(&format!("{}-{user}", sale.id), &sale, user, 1);
        let elsewhere = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (joins, joined) = oneshot::channel::<()>();
        let entered = elsewhere.enter();
        let first = host.buy_unless(&ask(1), async {
            // Asked for the first time when the request is in the line.
            drop(joins);
            future::pending().await
        });
        drop(entered);
        drop(joined.await);
        let crowd: Vec<_> = (2..=10).map(|user| host.buy(&ask(user))).collect();
        everybody_waits().await;
        tokio::time::sleep(Duration::from_millis(lives)).await;
        elsewhere.shutdown_background();
        assert!(first.await.is_err_and(|end| end.is_cancelled()));
        held.rollback().await?;

        for caller in crowd {
            order(caller).await?;
        }
        // Whether the first was sent before the end, its buyer learns by asking again, and is sold to once.
        order(host.buy(&ask(1))).await?;
        assert_eq!(fixture.remaining(&sale).await?, 90, "{lives}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_comes_to_a_full_line_is_turned_away_and_the_others_are_served() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(2_000).await?;
    let host = Host::on(&fixture).await?;
    let mut held = fixture.database.begin().await?;
    held.lock_sale(sale.id).await?;
    let ask = |user| fixture.request(&format!("r{user}"), &sale, user, 1);
    let first = host.send(&ask(1)).await;
    let crowd: Vec<_> = (2..=1_025).map(|user| host.buy(&ask(user))).collect();
    everybody_waits().await;
    let turned_away = host.buy(&ask(1_026)).await?;
    assert!(
        matches!(turned_away, Err(BackendError::Full { .. })),
        "{turned_away:?}"
    );
    held.rollback().await?;

    order(first).await?;
    for caller in crowd {
        order(caller).await?;
    }
    assert_eq!(fixture.remaining(&sale).await?, 975);
    order(host.buy(&ask(1_026))).await?;
    Ok(())
}

#[tokio::test]
async fn a_host_remembers_what_it_sold_out_or_found_sold_out_and_nothing_else() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.sale(2).await?;
    let (seller, other) = (Host::on(&fixture).await?, Host::on(&fixture).await?);
    let ask = |id: &str, quantity| fixture.request(id, &sale, 1, quantity);
    let refused = Some(Err(Denial::Refused(rejected(Rejection::SoldOut))));
    let knows = |host: &Host| host.sold_out.get(sale.id).is_some();
    order(seller.buy(&ask("a", 1))).await?;
    // A leader has remembered by the time at which the next in its line is answered.
    for id in ["too many", "still too many"] {
        assert_eq!(other.buy(&ask(id, 2)).await??, refused);
    }
    assert!(!knows(&other));
    order(seller.buy(&ask("b", 1))).await?;
    for host in [&seller, &other] {
        for id in ["none left", "still none"] {
            assert_eq!(host.buy(&ask(id, 1)).await??, refused);
        }
        assert!(knows(host));
    }
    Ok(())
}

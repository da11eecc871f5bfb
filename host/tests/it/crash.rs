//! A host that is killed or asked to stop under load: what it answered holds.

use tokio::task::JoinSet;

use super::support::{
    ASYNCHRONOUS, FAULTY, Host, Setup, VERSIONS,
    answer::Answer,
    crowd::{self, Buyer},
    letters::dead_letters,
};

/// Sends a purchase from each user at once, and does `deed` to the host when `enough` are answered; some are not.
async fn rush_until(
    host: Host,
    sale: u64,
    users: std::ops::Range<u64>,
    versions: &[&str],
    enough: usize,
    deed: impl AsyncFnOnce(Host) -> Setup,
) -> (Setup, Vec<Answer>) {
    let mut crowd = JoinSet::new();
    for (user, version) in users.zip(versions.iter().cycle()) {
        crowd.spawn(host.shop.buy(version, sale, user, 1).key("rush").try_send());
    }
    let mut answers = Vec::new();
    while answers.len() < enough {
        answers.push(crowd.join_next().await.unwrap().unwrap().unwrap());
    }
    let setup = deed(host).await;
    answers.extend(crowd.join_all().await.into_iter().flatten());
    (setup, answers)
}

/// Has everybody ask again with the same key, and holds what they hear against the ledger and against what was answered before.
async fn assert_kept(
    host: &Host,
    sale: u64,
    users: std::ops::Range<u64>,
    versions: &[&str],
    before: &[Answer],
) {
    let mut crowd = JoinSet::new();
    for (user, version) in users.zip(versions.iter().cycle()) {
        crowd.spawn(crowd::visit(
            host.shop.clone(),
            (*version).to_owned(),
            sale,
            user,
            1,
        ));
    }
    let buyers = crowd.join_all().await;
    host.at_rest().await;
    crowd::judge(&buyers, &host.ledger(sale).await);
    for answer in before {
        let Some(request) = answer.request_id() else {
            continue;
        };
        let same = |buyer: &&Buyer| buyer.answer.request_id() == Some(request);
        let repeated = buyers.iter().find(same);
        let repeated = repeated.unwrap_or_else(|| panic!("forgotten: {answer:#?}"));
        assert_eq!(repeated.answer.outcome, answer.outcome);
    }
    assert_eq!(dead_letters(host.setup()).await, []);
}

async fn crashes_under_load(versions: &[&str]) {
    let mut host = Host::start().await;
    let sale = host.shop.sale(300).await;
    let mut answers = Vec::new();
    for (round, enough) in (0..).zip([1, 20, 60, 110]) {
        let users = 1 + 150 * round..151 + 150 * round;
        let (setup, before) = rush_until(host, sale, users, versions, enough, Host::kill).await;
        answers.extend(before);
        host = setup.start().await;
    }
    for answer in &answers {
        if let Some(request) = answer.request_id() {
            host.shop.settled(sale, request).await;
        }
    }
    assert_kept(&host, sale, 1..601, versions, &answers).await;
    assert_eq!(host.ledger(sale).await.remaining, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_before_a_crash_is_settled_after_it() {
    crashes_under_load(&[ASYNCHRONOUS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_any_version_answered_before_a_crash_holds_after_it() {
    crashes_under_load(&VERSIONS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_asked_to_stop_honours_every_reply_that_it_gave() {
    let mut host = Host::start().await;
    let sale = host.shop.sale(1_000).await;
    let mut answers = Vec::new();
    for (round, enough) in (0..).zip([1, 50, 120]) {
        let users = 1 + 200 * round..201 + 200 * round;
        let stop = async |host: Host| {
            let (setup, success) = host.terminate().await;
            assert!(success, "it did not call that a success");
            setup
        };
        let (setup, before) = rush_until(host, sale, users, &VERSIONS, enough, stop).await;
        answers.extend(before);
        host = setup.start().await;
    }
    assert_kept(&host, sale, 1..601, &VERSIONS, &answers).await;
    assert_eq!(host.ledger(sale).await.sold(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_drains_says_so_and_ends_what_is_under_way() {
    let host = Setup::impatient().start().await;
    let sale = host.shop.sale(1).await;
    let spins_after_its_commit = 19;
    let under_way = tokio::spawn(
        host.shop
            .buy(FAULTY, sale, spins_after_its_commit, 1)
            .send(),
    );
    host.in_flight(FAULTY).await;
    host.ask_to_stop();
    host.logged("stopping").await;
    let (status, readiness) = host.manage_json("/actuator/health/readiness").await;
    assert_eq!(
        (status.as_u16(), readiness["status"].as_str()),
        (503, Some("OUT_OF_SERVICE"))
    );
    let (status, _) = host.manage("/actuator/health/liveness").await;
    assert_eq!(status, 200);
    assert!(host.shop.try_get("/api/v1/products").await.is_err());
    assert_eq!(under_way.await.unwrap().brief(), "201");
    let (setup, success) = host.stopped().await;
    assert!(success);
    assert_eq!(setup.start().await.ledger(sale).await.sold(), 1);
}

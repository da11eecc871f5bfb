//! Several hosts on the same PostgreSQL, Redis and Kafka: one shop, whichever of them a buyer meets.

use tokio::task::JoinSet;

use super::{
    idempotency::assert_repeats,
    support::{
        ASYNCHRONOUS, FAULTY, Host, Setup, VERSIONS, crowd, eventually,
        letters::dead_letters,
        load::{Load, insist, settled},
        shop::Shop,
    },
};

/// Two hosts that share all but their data folders.
async fn two_hosts(setup: Setup) -> [Host; 2] {
    let first = setup.start().await;
    [first, setup.beside().start().await]
}

fn shops(hosts: &[Host]) -> Vec<Shop> {
    hosts.iter().map(|host| host.shop.clone()).collect()
}

/// What the hosts counted together.
async fn sum(hosts: &[Host], name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for host in hosts {
        sum += host.at_rest().await.sum(name, labels);
    }
    sum
}

/// Buys through the asynchronous version in ever new sales until each host has settled some of it.
async fn both_settle(hosts: &[Host]) {
    eventually("each host has partitions", async || {
        let sale = hosts[0].shop.sale(1).await;
        hosts[1].shop.buy(ASYNCHRONOUS, sale, 42, 1).follow().await;
        let mut idle = Vec::new();
        for host in hosts {
            let name = "time_sale_settlement_records_per_call_count";
            let calls = host.metrics().await.sum(name, &[("version", ASYNCHRONOUS)]);
            if calls == 0.0 {
                idle.push(host.shop.address().to_owned());
            }
        }
        if idle.is_empty() { Ok(()) } else { Err(idle) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_sell_exactly_the_stock_through_all_versions() {
    let hosts = two_hosts(Setup::new()).await;
    both_settle(&hosts).await;
    let before = sum(
        &hosts,
        "time_sale_purchases_total",
        &[("result", "success")],
    )
    .await;
    let sale = hosts[0].shop.sale(100).await;
    let mut crowd = JoinSet::new();
    for (user, version) in (1..=500).zip(VERSIONS.iter().cycle()) {
        let quantity = if user <= 350 && user % 7 == 0 { 2 } else { 1 };
        let shops = shops(&hosts);
        crowd.spawn(async move { insist(&shops, version, sale, user, quantity).await });
    }
    let buyers = crowd.join_all().await;
    let after = sum(
        &hosts,
        "time_sale_purchases_total",
        &[("result", "success")],
    )
    .await;
    let ledger = hosts[0].ledger(sale).await;
    crowd::judge(&buyers, &ledger);
    assert_eq!((ledger.sold(), ledger.remaining), (100, 0));
    assert_eq!(after - before, ledger.orders.len() as f64);
    assert_eq!(dead_letters(hosts[0].setup()).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_on_one_host_is_replayed_by_the_other() {
    let hosts = two_hosts(Setup::new()).await;
    let sale = hosts[0].shop.sale(100).await;
    for (user, version) in (1..).zip(VERSIONS) {
        let [first_host, second_host] = &hosts;
        let first = first_host.shop.buy(version, sale, user, 2).key("k");
        let first = first.send().await;
        for other in VERSIONS {
            let again = second_host.shop.buy(other, sale, user, 2).key("k");
            assert_repeats(&first, &again.send().await);
        }
        let reused = second_host.shop.buy(version, sale, user, 1).key("k");
        assert_eq!(reused.send().await.brief(), "422 KEY_REUSED", "{version}");
        second_host.at_rest().await;
        assert_eq!(second_host.ledger(sale).await.sold_to(user), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_in_flight_on_two_hosts_with_one_key_have_one_effect() {
    let hosts = two_hosts(Setup::new()).await;
    for version in VERSIONS {
        // The last piece: whoever looks after it is sold sees none left, and hears all the same that it is theirs.
        let sale = hosts[0].shop.sale(1).await;
        let key = sale.to_string();
        let mut crowd = JoinSet::new();
        for shop in shops(&hosts).iter().cycle().take(40) {
            crowd.spawn(shop.buy(version, sale, 42, 1).key(&key).send());
        }
        for answer in crowd.join_all().await {
            let brief = answer.brief();
            assert!(
                ["201", "202", "409 IN_PROGRESS"].contains(&brief.as_str()),
                "{answer:#?}"
            );
        }
        let [truth, same] = [0, 1].map(|host: usize| hosts[host].shop.buy(version, sale, 42, 1));
        let truth = truth.key(&key).follow().await;
        assert_eq!(same.key(&key).follow().await, truth);
        assert!(truth.replayed && truth.refusal().is_none(), "{truth:#?}");
        assert_eq!(hosts[0].ledger(sale).await.sold(), 1, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_host_accepted_is_told_by_the_other_and_settled_by_either() {
    let hosts = two_hosts(Setup::new()).await;
    both_settle(&hosts).await;
    let sale = hosts[0].shop.sale(10).await;
    for version in VERSIONS {
        let answer = hosts[0].shop.buy(version, sale, 42, 1).follow().await;
        let request = answer.request_id().unwrap();
        let told = hosts[1].shop.result(sale, request).await;
        assert_eq!(
            (told.status.as_str(), told.order_id),
            ("SUCCESS", Some(answer.order_id()))
        );
        let order = format!("/api/v1/orders/{}", answer.order_id());
        let [here, there] = [0, 1].map(|host: usize| hosts[host].shop.get(&order));
        assert_eq!(here.await.json(), there.await.json());
    }
}

/// Has a record spin in the settlement of one of the hosts, and hands back which.
async fn block_one(hosts: &[Host], sale: u64) -> usize {
    let spins = 53;
    let blocker = hosts[0].shop.buy(FAULTY, sale, spins, 1).send().await;
    assert_eq!(blocker.brief(), "202");
    eventually("a host is in the middle of a batch", async || {
        for (number, host) in hosts.iter().enumerate() {
            let calls = host.metrics().await;
            let calls = calls.sum("time_sale_calls_in_flight", &[("version", FAULTY)]);
            if calls > 0.0 {
                return Ok(number);
            }
        }
        Err("none")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_in_the_middle_of_a_batch_leaves_its_requests_to_the_other() {
    // The lock that the killed host may hold dies with its lease.
    let setup = Setup::impatient().set("TIMESALE_LOCK_LEASE_MS", 2_000);
    let hosts = two_hosts(setup).await;
    both_settle(&hosts).await;
    let sale = hosts[0].shop.sale(100_000).await;
    let blocked = block_one(&hosts, sale).await;
    // These wait behind it, on the host that is killed next.
    let mut waiting = Vec::new();
    for user in 1_000_000..1_000_020 {
        let shop = &hosts[usize::try_from(user).unwrap() % 2].shop;
        let answer = shop.buy(ASYNCHRONOUS, sale, 100 * user, 1).send().await;
        assert_eq!(answer.brief(), "202");
        waiting.push(answer.location.unwrap());
    }
    let mut load = Load::start(&shops(&hosts), sale, &VERSIONS);
    load.answers(20).await;
    let mut hosts = Vec::from(hosts);
    hosts.remove(blocked).kill().await;
    let [survivor] = &hosts[..] else {
        unreachable!()
    };
    for place in &waiting {
        let end = settled(&shops(&hosts), place).await;
        assert_eq!(end.status, "SUCCESS", "{end:#?}");
    }
    load.answers(100).await;
    let buyers = load.end().await;
    survivor.at_rest().await;
    let ledger = survivor.ledger(sale).await;
    crowd::judge(&buyers, &ledger);
    assert_eq!(ledger.orders.len(), buyers.len() + waiting.len());
}

//! Hosts that share a database run the same revisions, whichever of them was told, and whichever is killed on the way.

use std::{fs, time::Instant};

use reqwest::Method;
use serde_json::json;

use super::support::{
    FAULTY, Host, Setup, VERSIONS, crowd, eventually,
    load::Load,
    operator::{build, revision},
    shop::Shop,
};

/// Waits until both hosts run a revision; says how long that took after the reply.
async fn both_run(hosts: &[Host; 2], version: &str, revision: &str) {
    let began = Instant::now();
    for host in hosts {
        host.runs(version, revision).await;
    }
    println!("{version} {revision} on both after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_follow_each_other_through_swaps_and_roll_backs_and_drop_nothing() {
    let setup = Setup::new().with_operator().with_strategies(&VERSIONS);
    let hosts = [setup.start().await, setup.beside().start().await];
    let shops: Vec<Shop> = hosts.iter().map(|host| host.shop.clone()).collect();
    let sale = shops[0].sale(1_000_000).await;
    let mut load = Load::start(&shops, sale, &VERSIONS);
    load.answers(50).await;
    for number in 1..=20_u32 {
        let version = VERSIONS[number as usize % VERSIONS.len()];
        let component = build(version, number);
        let live = revision(&component);
        let told = &hosts[number as usize % 2];
        told.push_well(version, "", component).await;
        both_run(&hosts, version, &live).await;
    }
    let back = hosts[1].act_well("v1", "rollback").await;
    both_run(&hosts, "v1", back["live"].as_str().unwrap()).await;

    // One is killed in the middle of a swap: the other, and its successor, agree on the old or the new.
    let pushing = tokio::spawn(
        hosts[0]
            .operate(Method::PUT, "/strategies/v1")
            .body(build("v1", 100))
            .send(),
    );
    let [first, second] = hosts;
    for _ in 0..20 {
        first.manage("/actuator/health/liveness").await;
    }
    let first = first.kill().await;
    let _ = pushing.await.unwrap();
    let hosts = [first.start().await, second];
    let wanted = hosts[1].shown("v1").await["live"]["revision"].clone();
    both_run(&hosts, "v1", wanted.as_str().unwrap()).await;
    // Each shows what the other said.
    for host in &hosts {
        let shown = host.shown("v1").await;
        assert!(shown["hosts"].as_array().unwrap().len() >= 2, "{shown}");
    }

    let buyers = load.end().await;
    hosts[1].at_rest().await;
    crowd::judge(&buyers, &hosts[1].ledger(sale).await);
    assert!(buyers.iter().all(|buyer| buyer.answer.refusal().is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_meets_the_same_revision_of_a_canary_on_every_host() {
    let setup = Setup::new().with_operator();
    let hosts = [setup.start().await, setup.beside().start().await];
    let candidate = build("v1", 1);
    hosts[0].push_well("v1", "?share=30", candidate).await;
    eventually("both have the candidate", async || {
        let shown = hosts[1].shown("v1").await;
        let runs = shown["hosts"][0]["runs"]["candidate"].clone();
        if runs.is_null() { Err(runs) } else { Ok(()) }
    })
    .await;
    let sale = hosts[0].shop.sale(1_000).await;
    let mut taken = 0;
    for user in 1..=200 {
        let mut met = Vec::new();
        for host in &hosts {
            let answer = host.shop.buy("v1", sale, user, 1).send().await;
            met.push(answer.revision.unwrap());
        }
        assert_eq!(met[0], met[1], "user {user}");
        taken += u64::from(met[0] == revision(&build("v1", 1)));
    }
    assert!((30..=90).contains(&taken), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_in_one_hosts_folder_hold_on_all_and_a_host_that_cannot_give_them_says_so() {
    let versions = ["v1", FAULTY];
    let setup = Setup::new().with_operator().with_strategies(&versions);
    let write = |section: &str| {
        let file = setup.data().join("strategies/grants.toml");
        fs::write(file, format!("[{FAULTY}]\n{section}\n")).unwrap();
    };
    write("host_calls_max = 1");
    // The other host has no such file.
    let bare = setup.beside().with_strategies(&versions);
    let hosts = [setup.start().await, bare.start().await];
    let sale = hosts[0].shop.sale(100).await;
    let buys_twice = 22;
    let told = async |host: &Host, user: u64| {
        let buyer = host.shop.buy(FAULTY, sale, 100 * user + buys_twice, 1);
        buyer.send().await.brief()
    };
    let one = json!({ "host_calls_max": 1 });
    for (host, user) in hosts.iter().zip(1..) {
        host.runs_under(FAULTY, one.clone()).await;
        assert_eq!(told(host, user).await, "500 STRATEGY_FAILED");
    }
    // Nor does its restart give back what the first host's file withholds.
    let epoch = hosts[0].shown(FAULTY).await["epoch"].clone();
    let [first, second] = hosts;
    second.kill().await;
    let bound = 16 << 20;
    let second = bare.set("TIMESALE_MEMORY_MAX_BYTES", bound).start().await;
    let shown = second.runs_under(FAULTY, one).await;
    assert_eq!(shown["epoch"], epoch);
    write("host_calls_max = 100");
    for (host, user) in [&first, &second].into_iter().zip(3..) {
        host.runs_under(FAULTY, json!({ "host_calls_max": 100 }))
            .await;
        assert_eq!(told(host, user).await, "201");
    }

    write(&format!("memory_max_bytes = {}", 2 * bound));
    first
        .runs_under(FAULTY, json!({ "memory_max_bytes": 2 * bound }))
        .await;
    eventually("the other host says why it does not follow", async || {
        let behind = second.shown(FAULTY).await["hosts"][0]["runs"]["behind"].clone();
        match behind.as_str() {
            Some(why) if why.contains("TIMESALE_MEMORY_MAX_BYTES") => Ok(()),
            _ => Err(behind),
        }
    })
    .await;
    assert_eq!(told(&second, 5).await, "201");
}

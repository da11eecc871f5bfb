//! The native twins of the strategies ask the host for the same, in the same order, and sell the same.
//!
//! Compiled with the feature `twin`, without which there are none.

use super::support::{Host, Setup, staged};

/// The strategies that have a twin.
const ORIGINALS: [&str; 4] = ["v1", "v2", "v3", "v4"];

/// A host that serves the strategies and their twins, and tells of each host function.
async fn host() -> Host {
    let setup = Setup::new().with_strategies(&ORIGINALS);
    for version in ORIGINALS {
        let copy = format!("strategies/native-{version}.wasm");
        std::fs::copy(
            staged().join(format!("{version}.wasm")),
            setup.data().join(copy),
        )
        .unwrap();
    }
    setup
        .set("RUST_LOG", "info,sqlx=warn,timesale::capability=trace")
        .start()
        .await
}

/// What one version has asked the host for since the log had so many lines, in order.
fn asked(host: &Host, version: &str, since: usize) -> Vec<String> {
    let version = format!("version={version} ");
    let lines = host.log();
    let later = lines.iter().skip(since);
    let of_version = later.filter_map(|line| line.split_once(&version));
    of_version
        .filter(|(_, rest)| rest.starts_with("capability="))
        .map(|(_, rest)| rest.to_owned())
        .collect()
}

/// Buys until three pieces are sold out and more buyers are refused, then from a sale that is not there.
async fn story(host: &Host, version: &str) -> (Vec<String>, Vec<String>) {
    // What the version was asked when it was loaded is no part of the story.
    let since = host.log().len();
    let sale = host.shop.sale(3).await;
    let mut heard = Vec::new();
    for (sale, user, quantity) in [
        (sale, 1, 1),
        (sale, 2, 1),
        (sale, 3, 2),
        (sale, 4, 1),
        (sale, 5, 1),
        (sale, 6, 1),
        (sale, 7, 1),
        (u64::from(u32::MAX), 8, 1),
    ] {
        let answer = host.shop.buy(version, sale, user, quantity).follow().await;
        heard.push(match answer.refusal() {
            Some(code) => code.to_owned(),
            None => format!("an order of {}", host.ledger(sale).await.orders.len()),
        });
        host.at_rest().await;
    }
    (heard, asked(host, version, since))
}

#[tokio::test]
async fn a_twin_asks_the_host_for_the_same_as_its_original_and_sells_the_same() {
    let host = host().await;
    for version in ORIGINALS {
        let original = story(&host, version).await;
        let twin = story(&host, &format!("native-{version}")).await;
        assert!(
            original.1.len() >= 8,
            "{version} asked for {:#?}",
            original.1
        );
        assert_eq!(original, twin, "{version}");
    }
}

//! A component of contract 0.1.0 runs for ever: these were built when it was new, and are never built again.

use std::path::Path;

use super::support::{Setup, answer::Outcome};

#[tokio::test]
async fn components_of_contract_0_1_0_still_sell() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/contract-0.1.0");
    let host = Setup::new()
        .set("TIMESALE_STRATEGIES", fixtures.display())
        .start()
        .await;
    let sale = host.shop.sale(3).await;
    for (version, asynchronous) in [("v1", false), ("v2", false), ("v3", true)] {
        let answer = host.shop.buy(version, sale, 42, 1).follow().await;
        assert_eq!(answer.refusal(), None, "{version}");
        assert_eq!(
            matches!(answer.outcome, Outcome::Accepted(_)),
            asynchronous,
            "{version}"
        );
    }
    assert_eq!(host.ledger(sale).await.remaining, 0);
    for version in ["v1", "v2", "v3"] {
        let answer = host.shop.buy(version, sale, 43, 1).send().await;
        assert_eq!(answer.brief(), "409 SOLD_OUT", "{version}");
    }
}

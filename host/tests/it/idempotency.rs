//! One key, one effect: whatever is repeated, in whatever way, gives the first reply.

use super::support::{
    FAULTY, Host, VERSIONS,
    answer::{Answer, Outcome},
};

/// Fails unless a reply is the first one again.
pub fn assert_repeats(first: &Answer, again: &Answer) {
    assert!(again.replayed, "{again:#?}");
    assert!(!first.replayed, "{first:#?}");
    let again = Answer {
        replayed: false,
        ..again.clone()
    };
    assert_eq!(&again, first);
}

#[tokio::test]
async fn a_repeat_gives_the_first_reply_through_any_version_and_after_a_restart() {
    let mut host = Host::start().await;
    let sale = host.shop.sale(100).await;
    let mut firsts = Vec::new();
    for (user, version) in (1..).zip(VERSIONS) {
        let first = host.shop.buy(version, sale, user, 2).key("k").send().await;
        for other in VERSIONS {
            let again = host.shop.buy(other, sale, user, 2).key("k").send().await;
            assert_repeats(&first, &again);
        }
        firsts.push((user, first));
    }
    host = host.kill().await.start().await;
    host.at_rest().await;
    for (user, first) in &firsts {
        for version in VERSIONS {
            let again = host.shop.buy(version, sale, *user, 2).key("k").send().await;
            assert_repeats(first, &again);
        }
        assert_eq!(host.ledger(sale).await.sold_to(*user), 2);
    }
}

#[tokio::test]
async fn a_buyer_who_was_charged_is_never_told_that_the_sale_is_sold_out() {
    let host = Host::start().await;
    for version in VERSIONS {
        let sale = host.shop.sale(1).await;
        let first = host
            .shop
            .buy(version, sale, 42, 1)
            .key(version)
            .send()
            .await;
        host.at_rest().await;
        for other in VERSIONS {
            let late = host.shop.buy(other, sale, 43, 1).key(version).send().await;
            assert_eq!(late.brief(), "409 SOLD_OUT");
            let again = host.shop.buy(other, sale, 42, 1).key(version).send().await;
            assert_repeats(&first, &again);
        }
    }
}

#[tokio::test]
async fn a_key_that_was_used_for_another_sale_or_quantity_is_refused() {
    let host = Host::start().await;
    for version in VERSIONS {
        let (sale, other_sale) = (host.shop.sale(10).await, host.shop.sale(10).await);
        let first = host
            .shop
            .buy(version, sale, 42, 1)
            .key(version)
            .send()
            .await;
        for (sale, quantity) in [(other_sale, 1), (sale, 2)] {
            let reused = host
                .shop
                .buy(version, sale, 42, quantity)
                .key(version)
                .send()
                .await;
            assert_eq!(reused.brief(), "422 KEY_REUSED", "{version}");
        }
        let again = host
            .shop
            .buy(version, sale, 42, 1)
            .key(version)
            .send()
            .await;
        assert_repeats(&first, &again);
        assert_eq!(host.ledger(other_sale).await.sold(), 0);
    }
}

#[tokio::test]
async fn a_key_belongs_to_its_user_and_without_one_every_purchase_counts() {
    let host = Host::start().await;
    for version in VERSIONS {
        let sale = host.shop.sale(10).await;
        for user in [1, 2] {
            let answer = host
                .shop
                .buy(version, sale, user, 1)
                .key(version)
                .follow()
                .await;
            assert!(
                !answer.replayed && answer.refusal().is_none(),
                "{answer:#?}"
            );
        }
        for _ in 0..3 {
            host.shop.buy(version, sale, 3, 1).follow().await.order_id();
        }
        let ledger = host.ledger(sale).await;
        assert_eq!(
            [1, 2, 3].map(|user| ledger.sold_to(user)),
            [1, 1, 3],
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_rejection_and_a_failure_leave_the_key_free() {
    let host = Host::start().await;
    for version in VERSIONS {
        let sale = host.shop.sale(1).await;
        let refused = host
            .shop
            .buy(version, sale, 42, 2)
            .key(version)
            .send()
            .await;
        assert_eq!(refused.brief(), "409 SOLD_OUT", "{version}");
        let sold = host
            .shop
            .buy(version, sale, 42, 1)
            .key(version)
            .follow()
            .await;
        assert!(!sold.replayed && sold.refusal().is_none(), "{sold:#?}");

        // The order that this one had placed is rolled back, and its key with it.
        let sale = host.shop.sale(1).await;
        let failed = host.shop.buy(FAULTY, sale, 16, 1).key(version).send().await;
        assert_eq!(failed.brief(), "500 STRATEGY_FAILED");
        let sold = host
            .shop
            .buy(version, sale, 16, 1)
            .key(version)
            .follow()
            .await;
        assert!(!sold.replayed && sold.refusal().is_none(), "{sold:#?}");
    }
}

#[tokio::test]
async fn a_malformed_key_is_refused() {
    let host = Host::start().await;
    let sale = host.shop.sale(10).await;
    let nowhere = host.shop.buy("nowhere", sale, 42, 1).key(" ").send().await;
    assert_eq!(nowhere.brief(), "404 NOT_FOUND");
    let longest = "k".repeat(255);
    for version in VERSIONS {
        for key in ["", " ", &"k".repeat(256), "ключ", "a\tb"] {
            let answer = host.shop.buy(version, sale, 42, 1).key(key).send().await;
            assert_eq!(answer.brief(), "400 MALFORMED", "{key:?}");
            let Outcome::Refused(problem) = answer.outcome else {
                unreachable!()
            };
            assert!(problem.detail.contains("Idempotency-Key"), "{problem:?}");
        }
        let twice = host
            .shop
            .buy(version, sale, 42, 1)
            .key("a")
            .key("b")
            .send()
            .await;
        assert_eq!(twice.brief(), "400 MALFORMED");
        let fits = host
            .shop
            .buy(version, sale, 42, 1)
            .key(&longest)
            .follow()
            .await;
        assert_eq!(fits.refusal(), None);
    }
    assert_eq!(host.ledger(sale).await.sold(), 1);
}

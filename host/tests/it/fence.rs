//! A holder of a lock who outlives the lease: the fencing token keeps it from writing behind the next holder's back.

use super::support::{
    Setup,
    proxy::{Proxy, address_of, lead},
    within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_stalls_past_its_lease_does_not_write() {
    // Without the bound on the hold nothing but the fence is left to stop it.
    let setup = Setup::new()
        .set("TIMESALE_LOCK_HOLD_MS", 0)
        .set("TIMESALE_LOCK_LEASE_MS", 200);
    let mut environment = setup.world().environment().into_iter();
    let (_, url) = environment
        .find(|(name, _)| *name == "DATABASE_URL")
        .unwrap();
    let proxy = Proxy::before(address_of(&url)).await;
    let through = lead(&url, &proxy.address());
    let stalling = setup.set("DATABASE_URL", through).start().await;
    let next = setup.beside().start().await;
    let sale = next.shop.sale(10).await;

    // Sent once the lock is granted; nothing is written before it.
    proxy.hold_at(&format!("EXECUTE lock_sale ({sale})"));
    let stalled = stalling.shop.buy("v2", sale, 1, 1).key("k").send();
    let stalled = tokio::spawn(stalled);
    proxy.held().await;
    // The lock is free as soon as the lease is over.
    let sold = next.shop.buy("v2", sale, 2, 1).send().await;
    assert_eq!(sold.brief(), "201");
    proxy.release();

    let refused = within("the answer to the stalled", stalled).await.unwrap();
    assert_eq!(refused.brief(), "503 BUSY", "{refused:#?}");
    let labels = [("version", "v2"), ("error", "LockLostException")];
    let lost = stalling.metrics().await;
    let lost = lost.sum("time_sale_operation_failure_total", &labels);
    assert_eq!(lost, 1.0);
    let ledger = next.ledger(sale).await;
    assert_eq!((ledger.sold(), ledger.sold_to(2)), (1, 1));

    // It was told to come again, and does so with the same key.
    let again = stalling.shop.buy("v2", sale, 1, 1).key("k").send().await;
    assert_eq!(again.brief(), "201", "{again:#?}");
    let ledger = next.ledger(sale).await;
    assert_eq!((ledger.sold(), ledger.sold_to(1)), (2, 1));
}

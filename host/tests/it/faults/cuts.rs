//! Services that run on while the host cannot reach them: every connection ends at once, and no new one lasts.

use super::{
    super::support::{
        proxy::{Proxy, address_of, lead},
        services::{
            Service::{Kafka, Postgres, Redis},
            Services,
        },
    },
    outlasts::{FAULTS, Fault, Harm, outlasts},
};

/// Cuts the host off from a service under load, and lets it back.
async fn outlasts_cut(fault: &Fault) {
    let proxy = Proxy::new().await;
    let services = match fault.service {
        // The broker tells its clients where to find it.
        Kafka => Services::start_advertising(proxy.port()).await,
        Postgres | Redis => Services::start().await,
    };
    let mut urls = services.urls();
    let url = match fault.service {
        Postgres => &mut urls.database,
        Redis => &mut urls.redis,
        Kafka => &mut urls.kafka,
    };
    let url = url.as_mut().unwrap();
    proxy.lead_to(address_of(url));
    *url = lead(url, &proxy.address());
    outlasts(fault, urls, Harm::Cut(&proxy)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_cut_off_under_load_loses_nothing() {
    outlasts_cut(&FAULTS[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_cut_off_under_load_loses_nothing() {
    outlasts_cut(&FAULTS[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_under_load_loses_nothing() {
    outlasts_cut(&FAULTS[2]).await;
}

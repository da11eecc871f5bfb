//! What has to hold when a service fails under load, however it fails.

use super::{
    super::support::{
        ASYNCHRONOUS, Host, Setup, VERSIONS, crowd, eventually,
        letters::dead_letters,
        load::Load,
        proxy::Proxy,
        services::{
            Service::{self, Kafka, Postgres, Redis},
            Services,
        },
        world::Urls,
    },
    assert_discreet, passwords,
};

/// A service that fails, and what shows that it does.
pub struct Fault {
    pub service: Service,
    /// Its name among the components of health.
    component: &'static str,
    /// The error that purchases which need it are counted under.
    error: &'static str,
    /// The versions that need it.
    hits: &'static [&'static str],
}

/// Those of each service.
pub const FAULTS: [Fault; 3] = [
    Fault {
        service: Postgres,
        component: "db",
        error: "DatabaseException",
        hits: &VERSIONS,
    },
    Fault {
        service: Redis,
        component: "redis",
        error: "RedisException",
        hits: &["v2"],
    },
    Fault {
        service: Kafka,
        component: "kafka",
        error: "KafkaException",
        hits: &[ASYNCHRONOUS],
    },
];

/// How a service fails.
pub enum Harm<'a> {
    /// It is killed.
    Death(&'a Services),
    /// It is out of reach of the host, and knows nothing of it.
    Cut(&'a Proxy),
}

impl Harm<'_> {
    async fn strike(&self, service: Service) {
        match self {
            Self::Death(services) => services.kill(service).await,
            Self::Cut(proxy) => proxy.cut().await,
        }
    }

    async fn mend(&self, service: Service) {
        match self {
            Self::Death(services) => services.start_again(service).await,
            Self::Cut(proxy) => proxy.restore(),
        }
    }
}

/// Buys through every version while a service is down, and hands back how many pieces were sold.
async fn buy_without(host: &Host, sale: u64, fault: &Fault) -> usize {
    let mut sold = 0;
    for (user, version) in (1_000_000..).zip(VERSIONS) {
        let buy = host.shop.buy(version, sale, user, 1);
        if fault.hits.contains(&version) {
            let answer = buy.send().await;
            assert_eq!(answer.brief(), "503 BACKEND_UNAVAILABLE", "{version}");
            assert_eq!(answer.retry_after.as_deref(), Some("1"));
            let labels = [("version", version), ("error", fault.error)];
            let name = "time_sale_operation_failure_total";
            assert!(host.metrics().await.sum(name, &labels) > 0.0, "{version}");
        } else {
            let answer = buy.follow().await;
            assert_eq!(answer.refusal(), None, "{version} does not need it");
            sold += 1;
        }
    }
    sold
}

/// Fails unless readiness names what is down, and is not ready only where nobody can buy.
async fn assert_named(host: &Host, fault: &Fault) {
    let (status, readiness) = host.manage_json("/actuator/health/readiness").await;
    let expected = if fault.service == Postgres { 503 } else { 200 };
    assert_eq!(status, expected, "{readiness:#}");
    for component in ["db", "redis", "kafka"] {
        let down = component == fault.component;
        let status = if down { "DOWN" } else { "UP" };
        assert_eq!(
            readiness["components"][component]["status"], status,
            "{readiness:#}"
        );
    }
    for version in VERSIONS {
        let strategy = &readiness["components"]["strategies"]["components"][version];
        let down = fault.hits.contains(&version);
        let status = if down { "DOWN" } else { "UP" };
        assert_eq!(strategy["status"], status, "{version}: {strategy:#}");
        assert_eq!(
            strategy.to_string().contains(fault.component),
            down,
            "{strategy:#}"
        );
    }
}

/// Harms a service under load, looks at what goes on without it, and mends it.
pub async fn outlasts(fault: &Fault, urls: Urls, harm: Harm<'_>) {
    let passwords = passwords(&urls);
    let host = Setup::on(urls).start().await;
    let sold_out = host.shop.sale(1).await;
    host.shop.buy("v1", sold_out, 42, 1).send().await.order_id();
    // Has the host read that nothing is left.
    host.shop.buy("v1", sold_out, 43, 1).send().await;
    let sale = host.shop.sale(1_000_000).await;
    let mut load = Load::start(std::slice::from_ref(&host.shop), sale, &VERSIONS);
    load.answers(60).await;

    harm.strike(fault.service).await;
    let mut sold = buy_without(&host, sale, fault).await;
    // All but the one that asks the database and nobody else.
    for version in ["v1", "v2", ASYNCHRONOUS] {
        let answer = host.shop.buy(version, sold_out, 43, 1).send().await;
        assert_eq!(answer.brief(), "409 SOLD_OUT", "{version}");
    }
    assert_named(&host, fault).await;
    harm.mend(fault.service).await;

    load.answers(200).await;
    for (user, version) in (2_000_000..).zip(VERSIONS) {
        let answer = host.shop.buy(version, sale, user, 1).follow().await;
        assert_eq!(answer.refusal(), None, "{version}");
        sold += 1;
    }
    eventually("readiness", async || {
        let (_, readiness) = host.manage_json("/actuator/health/readiness").await;
        let whole = !readiness.to_string().contains("DOWN");
        if whole { Ok(()) } else { Err(readiness) }
    })
    .await;
    let buyers = load.end().await;
    host.at_rest().await;
    let ledger = host.ledger(sale).await;
    crowd::judge(&buyers, &ledger);
    let refused = buyers.iter().find(|buyer| buyer.answer.refusal().is_some());
    assert!(refused.is_none(), "{refused:#?}");
    assert_eq!(ledger.orders.len(), buyers.len() + sold);
    assert_eq!(dead_letters(host.setup()).await, []);

    let (_, health) = host.manage("/actuator/health").await;
    let said = [host.log().join("\n"), health, host.metrics().await.text].join("\n");
    assert_discreet(&said, &passwords);
}

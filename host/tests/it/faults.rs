//! Services that fail under load, each on a set of its own: who does not need them sells on, nothing is lost or sold twice, and all goes on by itself.

use super::{
    startup::assert_refused,
    support::{
        ASYNCHRONOUS, Host, Setup, VERSIONS, crowd, eventually,
        letters::dead_letters,
        load::Load,
        services::{
            Service::{self, Kafka, Postgres, Redis},
            Services,
        },
        world::Urls,
    },
};

/// A service that fails, and what shows that it does.
struct Fault {
    service: Service,
    /// Its name among the components of health.
    component: &'static str,
    /// The error that purchases which need it are counted under.
    error: &'static str,
    /// The versions that need it.
    hits: &'static [&'static str],
}

const FAULTS: [Fault; 3] = [
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

/// Passwords that are in these.
fn passwords(urls: &Urls) -> Vec<String> {
    let urls = [&urls.database, &urls.redis].into_iter().flatten();
    let of = |url: &String| {
        let (before, _) = url.rsplit_once('@').unwrap();
        before.rsplit_once(':').unwrap().1.to_owned()
    };
    urls.map(of).collect()
}

/// Fails if a text holds one of the passwords; does not print it.
fn assert_discreet(text: &str, passwords: &[String]) {
    for password in passwords {
        let line = text.lines().find(|line| line.contains(password));
        let shown = line.map(|line| line.replace(password, "(the password)"));
        assert_eq!(shown, None, "a password is told");
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

/// Kills a service under load, looks at what goes on without it, and starts it again.
async fn outlasts(fault: &Fault) {
    let services = Services::start().await;
    let host = Setup::on(services.urls()).start().await;
    let sold_out = host.shop.sale(1).await;
    host.shop.buy("v1", sold_out, 42, 1).send().await.order_id();
    // Has the host read that nothing is left.
    host.shop.buy("v1", sold_out, 43, 1).send().await;
    let sale = host.shop.sale(1_000_000).await;
    let mut load = Load::start(std::slice::from_ref(&host.shop), sale, &VERSIONS);
    load.answers(60).await;

    services.kill(fault.service).await;
    let mut sold = buy_without(&host, sale, fault).await;
    // All but the one that asks the database and nobody else.
    for version in ["v1", "v2", ASYNCHRONOUS] {
        let answer = host.shop.buy(version, sold_out, 43, 1).send().await;
        assert_eq!(answer.brief(), "409 SOLD_OUT", "{version}");
    }
    assert_named(&host, fault).await;
    services.start_again(fault.service).await;

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
    assert_discreet(&said, &passwords(&services.urls()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_under_load_loses_nothing() {
    outlasts(&FAULTS[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_under_load_loses_nothing() {
    outlasts(&FAULTS[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_under_load_loses_nothing() {
    outlasts(&FAULTS[2]).await;
}

#[tokio::test]
async fn a_redis_that_is_emptied_between_two_purchases_holds_back_no_fence() {
    let services = Services::start_some(&[Redis]).await;
    let host = Setup::on(services.urls()).start().await;
    let sale = host.shop.sale(20).await;
    for user in 1..=5 {
        for version in ["v2", "v1", "v9"] {
            host.shop
                .buy(version, sale, user, 1)
                .send()
                .await
                .order_id();
        }
        services.kill(Redis).await;
        services.start_again(Redis).await;
        eventually("Redis is found again", async || {
            let (_, health) = host.manage_json("/actuator/health").await;
            let redis = &health["components"]["redis"];
            if redis["status"] == "UP" {
                Ok(())
            } else {
                Err(health)
            }
        })
        .await;
    }
    let ledger = host.ledger(sale).await;
    assert_eq!((ledger.sold(), ledger.remaining), (15, 5));
}

#[tokio::test]
async fn a_start_with_a_wrong_address_or_password_says_which_and_tells_no_password() {
    let services = Services::start_some(&[Postgres, Redis]).await;
    let urls = services.urls();
    let (database, redis) = (urls.database.clone().unwrap(), urls.redis.clone().unwrap());
    let passwords = passwords(&urls);
    let setup = Setup::on(urls);
    let nobody = "127.0.0.1:9";
    let elsewhere = |url: &str| format!("{}@{nobody}/timesale", url.rsplit_once('@').unwrap().0);
    let with_password = |url: &str| {
        let (before, after) = url.rsplit_once('@').unwrap();
        let before = before.rsplit_once(':').unwrap().0;
        format!("{before}:a-password-that-is-wrong@{after}")
    };
    for (name, value) in [
        ("DATABASE_URL", elsewhere(&database)),
        ("DATABASE_URL", with_password(&database)),
        ("DATABASE_URL", format!("{database}-nowhere")),
        ("DATABASE_URL", database.replace("postgres:", "mysql:")),
        ("DATABASE_URL", format!("{}:port@", passwords[0])),
        ("REDIS_URL", elsewhere(&redis).replace("/timesale", "")),
        ("REDIS_URL", with_password(&redis)),
        ("REDIS_URL", redis.replace("redis:", "rabbit:")),
        ("REDIS_URL", format!("{}:port@", passwords[1])),
        ("KAFKA_BROKERS", nobody.to_owned()),
        ("KAFKA_BROKERS", "nowhere.invalid:9092".to_owned()),
        ("KAFKA_PROPERTIES", "/nowhere".to_owned()),
    ] {
        let setup = match name {
            "KAFKA_PROPERTIES" => setup.set("KAFKA_BROKERS", nobody),
            _ => setup.clone(),
        };
        let failure = assert_refused(&setup.set(name, value), &[name]).await;
        let said = failure.stderr.join("\n");
        assert_discreet(&said, &passwords);
        assert_discreet(&said, &["a-password-that-is-wrong".to_owned()]);
    }
}

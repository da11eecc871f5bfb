//! Services that fail under load, each on a set of its own: who does not need them sells on, nothing is lost or sold twice, and all goes on by itself.
//!
//! `outlasts` is that promise, `cuts` the services that are there and out of reach; those that die are here.

mod cuts;
mod outlasts;

use self::outlasts::{FAULTS, Fault, Harm, outlasts};
use super::{
    startup::assert_refused,
    support::{
        FAULTY, Host, Setup, VERSIONS, eventually,
        services::{
            Service::{Postgres, Redis},
            Services,
        },
        world::Urls,
    },
};

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

/// Kills a service under load, and starts it again.
async fn outlasts_death(fault: &Fault) {
    let services = Services::start().await;
    outlasts(fault, services.urls(), Harm::Death(&services)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_under_load_loses_nothing() {
    outlasts_death(&FAULTS[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_under_load_loses_nothing() {
    outlasts_death(&FAULTS[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_under_load_loses_nothing() {
    outlasts_death(&FAULTS[2]).await;
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
async fn a_sold_out_sale_is_refused_without_the_database_and_only_once_its_last_order_is_committed()
{
    let services = Services::start_some(&[Postgres]).await;
    let host = Setup::on(services.urls()).start().await;
    let sale = host.shop.sale(1).await;
    let takes_the_last_piece_and_rolls_back = 17;
    let undone = host
        .shop
        .buy(FAULTY, sale, takes_the_last_piece_and_rolls_back, 1);
    assert_eq!(undone.send().await.brief(), "500 STRATEGY_FAILED");
    host.shop.buy("v4", sale, 1, 1).send().await.order_id();
    // The first to be refused has the host read that none is left.
    let refused = async |host: &Host, version: &str| {
        let answer = host.shop.buy(version, sale, 2, 1).send().await;
        assert_eq!(answer.brief(), "409 SOLD_OUT", "{version}");
    };
    refused(&host, "v4").await;

    services.kill(Postgres).await;
    for version in VERSIONS {
        refused(&host, version).await;
        // A key may have been sold to, which only the database knows.
        let keyed = host.shop.buy(version, sale, 2, 1).key("k").send().await;
        assert_eq!(keyed.brief(), "503 BACKEND_UNAVAILABLE", "{version}");
    }
    services.start_again(Postgres).await;
    let host = host.kill().await.start().await;
    for version in VERSIONS {
        refused(&host, version).await;
    }
    assert_eq!(host.ledger(sale).await.sold(), 1);
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

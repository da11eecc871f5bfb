//! A storm: fault after fault on two hosts and all that they share, for as long as it is told to last; nothing is lost and nothing sold twice.
//!
//! `STORM_FAULTS` says how many, `STORM_SEED` has them come again in the same order; `make storm` sets both.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use jiff::Timestamp;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::json;

use super::support::{
    Host, Setup, VERSIONS,
    clock::Clock,
    crowd,
    letters::dead_letters,
    load::Load,
    services::{
        Service::{self, Kafka, Postgres, Redis},
        Services,
    },
    shop::Shop,
};

/// Faults after which the books are checked.
const FAULTS_OF_A_SALE: usize = 25;
/// Buyers after whom they are, so that a check stays short.
const BUYERS_OF_A_SALE: u64 = 4_000;
/// By how many seconds a clock is set, forward or back.
const STEP: i64 = 5;

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Asked to stop, and started again.
    Restarted(Service),
    /// Killed, and started again; Redis with nothing in it.
    Killed(Service),
    /// Killed with -9, and started again at once.
    HostKilled(usize),
    /// Killed with -9, and started again when the other has sold on without it for a while.
    HostGone(usize),
    /// Both killed with -9 at once, and started again.
    HostsKilled,
    /// The wall clock of a host set forward or back; where it was set before, it is set right.
    ClockSet(usize),
}

/// Every fault that there is; a storm goes through them all, in an order of its own, before one comes again.
const ALL: [Fault; 13] = [
    Fault::Restarted(Postgres),
    Fault::Killed(Postgres),
    Fault::Restarted(Redis),
    Fault::Killed(Redis),
    Fault::Restarted(Kafka),
    Fault::Killed(Kafka),
    Fault::HostKilled(0),
    Fault::HostKilled(1),
    Fault::HostGone(0),
    Fault::HostGone(1),
    Fault::HostsKilled,
    Fault::ClockSet(0),
    Fault::ClockSet(1),
];

/// Two hosts, and all that can be harmed.
struct Storm {
    services: Services,
    hosts: Vec<Host>,
    clocks: [Clock; 2],
    random: StdRng,
    /// The faults still to come before all have come once more.
    coming: Vec<Fault>,
}

impl Storm {
    async fn begin(seed: u64) -> Self {
        let services = Services::start().await;
        let first = Setup::on(services.urls());
        let second = first.beside();
        let (mut hosts, mut clocks) = (Vec::new(), Vec::new());
        for setup in [first, second] {
            let (clock, setup) = Clock::of(&setup);
            // Of addresses of its own, so that buyers find it again after a restart.
            let setup = setup
                .set("TIMESALE_LISTEN", free_address())
                .set("TIMESALE_MANAGEMENT_LISTEN", free_address());
            hosts.push(setup.start().await);
            clocks.push(clock);
        }
        Self {
            services,
            hosts,
            clocks: clocks.try_into().unwrap_or_else(|_| unreachable!()),
            random: StdRng::seed_from_u64(seed),
            coming: Vec::new(),
        }
    }

    fn shops(&self) -> Vec<Shop> {
        self.hosts.iter().map(|host| host.shop.clone()).collect()
    }

    /// The next fault, and how many answers come before it.
    fn next(&mut self) -> (Fault, u64) {
        if self.coming.is_empty() {
            self.coming = ALL.to_vec();
            self.coming.shuffle(&mut self.random);
        }
        (self.coming.pop().unwrap(), self.random.random_range(1..80))
    }

    async fn strike(&mut self, fault: Fault, load: &mut Load) {
        match fault {
            Fault::Restarted(service) => self.services.restart(service).await,
            Fault::Killed(service) => {
                self.services.kill(service).await;
                self.services.start_again(service).await;
            }
            Fault::HostKilled(host) => {
                let setup = self.hosts.remove(host).kill().await;
                self.hosts.insert(host, setup.start().await);
            }
            Fault::HostGone(host) => {
                let setup = self.hosts.remove(host).kill().await;
                load.answers(self.random.random_range(1..80)).await;
                self.hosts.insert(host, setup.start().await);
            }
            Fault::HostsKilled => {
                let mut setups = Vec::new();
                for host in self.hosts.drain(..) {
                    setups.push(host.kill().await);
                }
                for setup in setups {
                    self.hosts.push(setup.start().await);
                }
            }
            Fault::ClockSet(host) => {
                let clock = &mut self.clocks[host];
                clock.step(match clock.ahead() {
                    0 if self.random.random() => STEP,
                    0 => -STEP,
                    ahead => -ahead,
                });
            }
        }
    }

    /// Sells one sale through some faults, holds every buyer's answer against the ledger, and hands back the numbers of faults and of answers.
    async fn sell(&mut self, told: usize, most: usize, answers: u64) -> (usize, u64) {
        let sale = self.hosts[0].shop.sale(1_000_000).await;
        let mut load = Load::start(&self.shops(), sale, &VERSIONS);
        let mut faults = 0;
        while faults < most && load.so_far() < BUYERS_OF_A_SALE {
            let (fault, before) = self.next();
            load.answers(before).await;
            faults += 1;
            let so_far = answers + load.so_far();
            eprintln!("fault {}: {fault:?} after {so_far} answers", told + faults);
            self.strike(fault, &mut load).await;
        }
        // Nothing is drawn here: where a sale ends is not in the seed.
        load.answers(40).await;
        let buyers = load.end().await;
        for host in &self.hosts {
            host.at_rest().await;
        }
        let ledger = self.hosts[0].ledger(sale).await;
        crowd::judge(&buyers, &ledger);
        let refused = buyers.iter().find(|buyer| buyer.answer.refusal().is_some());
        assert!(refused.is_none(), "{refused:#?}");
        assert_eq!(ledger.orders.len(), buyers.len(), "nobody else bought");
        assert_eq!(ledger.sold(), ledger.quantity - ledger.remaining);
        assert_eq!(dead_letters(self.hosts[0].setup()).await, []);
        let answers = answers + buyers.len() as u64;
        let told = told + faults;
        eprintln!("the books are right after {told} faults and {answers} answers");
        (told, answers)
    }
}

/// An address that nobody has, with a port below those that outgoing connections are given: nothing but its host takes it while that is down.
fn free_address() -> SocketAddr {
    let mut tries = std::iter::repeat_with(|| rand::random_range(20_000..32_000_u16));
    let free = tries.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    free.unwrap().local_addr().unwrap()
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_faults_loses_nothing_and_sells_nothing_twice() {
    let most: usize = number("STORM_FAULTS")
        .unwrap_or_else(|| panic!("STORM_FAULTS is missing: run `make storm`"));
    let seed = number("STORM_SEED").unwrap_or_else(rand::random::<u32>);
    eprintln!("a storm of {most} faults; to have it again: make storm N={most} SEED={seed}");
    let mut storm = Storm::begin(seed.into()).await;
    let (mut faults, mut answers) = (0, 0);
    while faults < most {
        let of_this_sale = FAULTS_OF_A_SALE.min(most - faults);
        (faults, answers) = storm.sell(faults, of_this_sale, answers).await;
    }
}

/// That a storm sets clocks shows nowhere in its books, so it is shown here.
#[tokio::test]
async fn a_host_whose_clock_is_set_sells_by_that_clock() {
    let (mut clock, setup) = Clock::of(&Setup::new());
    let host = setup.start().await;
    let day = Duration::from_secs(24 * 60 * 60);
    let end = (Timestamp::now() + day).to_string();
    let sale = host.shop.sale_with(100, json!({ "endAt": end })).await;
    let two_days = 2 * 24 * 60 * 60;
    for (user, (step, heard)) in
        (1..).zip([(0, "201"), (two_days, "409 NOT_OPEN"), (-two_days, "201")])
    {
        clock.step(step);
        let answer = host.shop.buy("v1", sale, user, 1).send().await;
        assert_eq!(answer.brief(), heard, "{answer:#?}");
    }
    assert_eq!(host.ledger(sale).await.sold(), 2);
}

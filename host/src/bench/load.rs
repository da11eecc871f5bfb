//! Buyers: many at once, each on a connection of its own, in a closed or an open loop.
//!
//! In the closed loop a buyer who is told to come again does so, after the pause that it is told.
//! In the open loop the n-th purchase is due at a moment that was fixed before the first, and its latency counts from there: a host that falls behind is not spared by buyers who wait for it.
//! Such buyers run at the lowest priority: they ask as much however little of the processors the host gets, and would take from it what it needs to sell.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::{Method, StatusCode};
use anyhow::Context as _;
use rustix::process::setpriority_process;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinSet,
};

use super::{
    Plan,
    client::{Answer, Client},
    host::{Host, Scrape},
    ledger::{Books, SaleBook},
};

/// How many requests the bench itself has under way when it asks for results.
const ASKERS: usize = 16;
/// Orders of a measurement that are read back one by one.
const ORDERS_READ: usize = 100;
/// The lowest priority that a thread can have.
const NICENESS_MAX: i32 = 19;

/// The host under load, with what all measurements share.
pub struct Market<'a> {
    /// The host.
    pub host: &'a Host,
    plan: &'a Plan,
    threads: Threads,
    product: i64,
    /// Buyers so far: each purchase is another user's.
    users: i64,
}

impl<'a> Market<'a> {
    /// Makes the product that all sales sell.
    pub async fn open(host: &'a Host, plan: &'a Plan) -> anyhow::Result<Self> {
        let product = json!({ "name": "bench", "price": 2 });
        let product = Client::new(host.public)
            .create("/api/v1/products", &product)
            .await?;
        Ok(Self {
            host,
            plan,
            threads: Threads::of(plan.rate)?,
            product,
            users: 0,
        })
    }

    /// New sales, with buyers who are connected and wait.
    pub async fn stalls(&mut self, version: &str) -> anyhow::Result<Stalls<'a>> {
        let mut seller = Client::new(self.host.public);
        let stock = match self.plan.sold_out_by {
            Some(_) => 1,
            None => self.plan.stock,
        };
        let sale = json!({
            "productId": self.product, "quantity": stock, "discountPrice": 1,
            "startAt": "2020-01-01T00:00:00Z", "endAt": "2099-01-01T00:00:00Z",
        });
        let mut sales = Vec::new();
        for _ in 0..self.plan.sales {
            let path = format!("/api/{version}/time-sales");
            sales.push(seller.create(&path, &sale).await?);
        }
        if let Some(seller_version) = &self.plan.sold_out_by {
            for sale in &sales {
                self.users += 1;
                let path = purchase_path(seller_version, *sale);
                let answer = seller.send(Method::POST, &path, &body(self.users)).await?;
                anyhow::ensure!(
                    answer.status == StatusCode::CREATED,
                    "{seller_version} cannot sell out: {}",
                    answer.status
                );
            }
        }
        let mut buyers = Vec::new();
        for _ in 0..self.plan.buyers {
            let mut buyer = Client::new(self.host.public);
            let connected = self.threads.handle.spawn(async move {
                buyer.connect().await?;
                anyhow::Ok(buyer)
            });
            buyers.push(connected.await.context("a buyer broke off")??);
        }
        let first_user = self.users + 1;
        self.users += i64::from(self.plan.purchases_max);
        Ok(Stalls {
            plan: self.plan,
            host: self.host,
            threads: self.threads.handle.clone(),
            version: version.to_owned(),
            stock,
            sold_before: u32::from(self.plan.sold_out_by.is_some()),
            paths: sales.iter().map(|it| purchase_path(version, *it)).collect(),
            sales,
            buyers,
            first_user,
        })
    }
}

/// Where buyers run.
struct Threads {
    handle: Handle,
    /// Theirs alone, where they have the lowest priority.
    own: Option<Runtime>,
}

impl Threads {
    /// Those of everything else in the closed loop, and others where buyers come at a rate.
    fn of(rate: Option<NonZeroU32>) -> anyhow::Result<Self> {
        if rate.is_none() {
            let handle = Handle::current();
            return Ok(Self { handle, own: None });
        }
        let own = Builder::new_multi_thread()
            .enable_all()
            .thread_name("buyers")
            .on_thread_start(give_way)
            .build()
            .context("cannot start threads for buyers")?;
        let handle = own.handle().clone();
        Ok(Self {
            handle,
            own: Some(own),
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}

/// Has this thread run when no other wants to; on Linux a priority is a thread's.
fn give_way() {
    if let Err(error) = setpriority_process(None, NICENESS_MAX) {
        tracing::warn!("buyers compete with the host for the processors: {error}");
    }
}

/// The sales of one measurement, and their buyers.
pub struct Stalls<'a> {
    plan: &'a Plan,
    host: &'a Host,
    threads: Handle,
    version: String,
    stock: u32,
    sold_before: u32,
    sales: Vec<i64>,
    paths: Vec<String>,
    buyers: Vec<Client>,
    first_user: i64,
}

impl Stalls<'_> {
    /// Lets the buyers buy for so long.
    pub async fn sell(&mut self, lasts: Duration) -> anyhow::Result<Tally> {
        let begun = Instant::now();
        let crowd = Arc::new(Crowd {
            paths: std::mem::take(&mut self.paths),
            first_user: self.first_user,
            begun,
            ends: begun + lasts,
            rate: self.plan.rate,
            purchases_max: self.plan.purchases_max,
            turns: AtomicU32::new(0),
        });
        let mut buyers = JoinSet::new();
        for buyer in self.buyers.drain(..) {
            buyers.spawn_on(Arc::clone(&crowd).buy(buyer), &self.threads);
        }
        let mut tally = Tally::default();
        while let Some(bought) = buyers.join_next().await {
            tally.add(bought.context("a buyer broke off")?);
        }
        Ok(tally)
    }

    /// What buyers were told, beside what the host has: asked for when nothing waits any more.
    pub async fn books(
        &self,
        tally: &Tally,
        before: &Scrape,
        last: Option<&Scrape>,
    ) -> anyhow::Result<Books> {
        let mut reader = Client::new(self.host.public);
        let mut sales = Vec::new();
        for sale in &self.sales {
            let path = format!("/api/{}/time-sales/{sale}", self.version);
            let found = reader.read_json(&path).await?;
            let remaining = found.get("remainingQuantity").and_then(Value::as_u64);
            sales.push(SaleBook {
                id: *sale,
                quantity: self.stock.into(),
                remaining: remaining.context("a sale without remainingQuantity")?,
                sold_before: self.sold_before.into(),
                ..SaleBook::default()
            });
        }
        let mut books = Books {
            sales,
            counted: last
                .map(|last| last.completed(&self.version) - before.completed(&self.version)),
            ..Books::default()
        };
        for told in &tally.told {
            let Some(sale) = books.sales.get_mut(told.sale) else {
                continue;
            };
            match &told.what {
                What::Order(id) => {
                    sale.orders += 1;
                    books.orders.push(*id);
                }
                What::Ticket(_) => {}
                What::SoldOut => sale.told_sold_out = true,
                What::Unknown => sale.unknown += 1,
            }
        }
        self.ask_for_results(tally, &mut books).await?;
        // The first, the last and some between.
        for id in books
            .orders
            .iter()
            .step_by((books.orders.len() / ORDERS_READ).max(1))
        {
            let order = reader.read_json(&format!("/api/v1/orders/{id}")).await?;
            let sale = order.get("timeSaleId").and_then(Value::as_i64);
            if !sale.is_some_and(|sale| self.sales.contains(&sale)) {
                books.foreign.push(*id);
            }
        }
        Ok(books)
    }

    /// Asks what became of each ticket.
    async fn ask_for_results(&self, tally: &Tally, books: &mut Books) -> anyhow::Result<()> {
        let tickets: Vec<(usize, String)> = tally
            .told
            .iter()
            .filter_map(|told| match &told.what {
                What::Ticket(location) => Some((told.sale, location.clone())),
                _ => None,
            })
            .collect();
        let mut askers = JoinSet::new();
        for share in tickets.chunks(tickets.len().div_ceil(ASKERS).max(1)) {
            let (share, mut asker) = (share.to_vec(), Client::new(self.host.public));
            askers.spawn(async move {
                let mut results = Vec::with_capacity(share.len());
                for (sale, location) in share {
                    results.push((sale, asker.read_json(&location).await?));
                }
                anyhow::Ok(results)
            });
        }
        while let Some(results) = askers.join_next().await {
            for (sale, result) in results.context("an asker broke off")?? {
                let Some(sale) = books.sales.get_mut(sale) else {
                    continue;
                };
                let field = |name| result.get(name).and_then(Value::as_str);
                match (
                    field("status"),
                    result.get("orderId").and_then(Value::as_i64),
                ) {
                    (Some("SUCCESS"), Some(id)) => {
                        sale.orders += 1;
                        books.orders.push(id);
                    }
                    (Some("FAIL"), None) if field("reason") == Some("SOLD_OUT") => {
                        sale.told_sold_out = true;
                    }
                    (Some("FAIL"), None) => books.failed_results += 1,
                    _ => books.unsettled += 1,
                }
            }
        }
        Ok(())
    }
}

fn purchase_path(version: &str, sale: i64) -> String {
    format!("/api/{version}/time-sales/{sale}/purchase")
}

fn body(user: i64) -> Vec<u8> {
    format!(r#"{{"userId":{user},"quantity":1}}"#).into_bytes()
}

/// What the buyers of a measurement share.
struct Crowd {
    paths: Vec<String>,
    first_user: i64,
    begun: Instant,
    ends: Instant,
    rate: Option<NonZeroU32>,
    purchases_max: u32,
    turns: AtomicU32,
}

impl Crowd {
    /// One buyer's purchases, until the time or the purchases are used up.
    async fn buy(self: Arc<Self>, mut client: Client) -> Tally {
        let mut tally = Tally::default();
        loop {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            if turn >= self.purchases_max {
                return tally;
            }
            let due = match self.rate {
                Some(rate) => self.begun + Duration::from_secs(turn.into()) / rate.get(),
                None => Instant::now(),
            };
            if due >= self.ends {
                return tally;
            }
            // Not in the closed loop: a timer rounds up to whole milliseconds, so even one that is due would hold the buyer up.
            if self.rate.is_some() {
                tokio::time::sleep_until(due.into()).await;
            }
            let sale = turn as usize % self.paths.len().max(1);
            let path = self.paths.get(sale).map_or("", String::as_str);
            let user = self.first_user + i64::from(turn);
            let mut asked = due;
            while let Some(pause) =
                buy_once(&mut client, (sale, path, user), asked, &mut tally).await
                && self.rate.is_none()
                && Instant::now() + pause < self.ends
            {
                tokio::time::sleep(pause).await;
                asked = Instant::now();
            }
        }
    }
}

/// Asks for a user's purchase and notes what it was told; says after which pause to come again, where it was told to.
async fn buy_once(
    client: &mut Client,
    (sale, path, user): (usize, &str, i64),
    due: Instant,
    tally: &mut Tally,
) -> Option<Duration> {
    let answer = client.send(Method::POST, path, &body(user)).await;
    let took = due.elapsed();
    match answer {
        Ok(answer) => {
            tally.note(sale, took, &answer);
            let again = answer.status == StatusCode::SERVICE_UNAVAILABLE;
            answer.retry_after.filter(|_| again)
        }
        Err(error) => {
            tracing::debug!("a purchase was not answered: {error}");
            tally.failures += 1;
            if !error.is_unsent() {
                tally.tell(sale, What::Unknown);
            }
            None
        }
    }
}

/// What is looked for in the body of an answer.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    order_id: Option<i64>,
    code: Option<String>,
}

/// What buyers were told.
#[derive(Default)]
pub struct Tally {
    /// How long those waited who were told yes: 201 or 202.
    pub accepted: Vec<Duration>,
    /// How long those waited who were told a business no: 409.
    pub refused: Vec<Duration>,
    /// How long those waited who were told to come again: 503.
    pub turned_away: Vec<Duration>,
    /// Purchases with any other answer, or none.
    pub failures: u64,
    told: Vec<Told>,
}

/// What one buyer was told, as far as the ledger has to bear it out.
struct Told {
    /// The place of the sale.
    sale: usize,
    what: What,
}

enum What {
    /// An order.
    Order(i64),
    /// A ticket; its result is there.
    Ticket(String),
    /// That the sale is sold out.
    SoldOut,
    /// Nothing from which to know whether there is an order.
    Unknown,
}

impl Tally {
    fn note(&mut self, sale: usize, took: Duration, answer: &Answer) {
        let said = || serde_json::from_slice::<Said>(&answer.body).unwrap_or_default();
        match (answer.status, &answer.location) {
            (StatusCode::CREATED, _) => {
                self.accepted.push(took);
                self.tell(sale, said().order_id.map_or(What::Unknown, What::Order));
            }
            (StatusCode::ACCEPTED, Some(location)) => {
                self.accepted.push(took);
                self.tell(sale, What::Ticket(location.clone()));
            }
            (StatusCode::CONFLICT, _) => {
                self.refused.push(took);
                if said().code.as_deref() == Some("SOLD_OUT") {
                    self.tell(sale, What::SoldOut);
                }
            }
            (StatusCode::SERVICE_UNAVAILABLE, _) => self.turned_away.push(took),
            (status, _) => {
                tracing::debug!("a purchase was answered {status}");
                self.failures += 1;
                // A client error has no effect; behind anything else there may be an order.
                if !status.is_client_error() {
                    self.tell(sale, What::Unknown);
                }
            }
        }
    }

    fn tell(&mut self, sale: usize, what: What) {
        self.told.push(Told { sale, what });
    }

    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused.extend(other.refused);
        self.turned_away.extend(other.turned_away);
        self.failures += other.failures;
        self.told.extend(other.told);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use rustix::process::getpriority_process;

    use super::{NICENESS_MAX, Threads};

    async fn niceness(rate: Option<u32>) -> i32 {
        let threads = Threads::of(rate.and_then(NonZeroU32::new)).unwrap();
        let told = threads.handle.spawn(async { getpriority_process(None) });
        told.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn buyers_who_do_not_wait_for_the_host_leave_it_the_processors() {
        let usual = getpriority_process(None).unwrap();
        assert_eq!(niceness(None).await, usual);
        assert_eq!(niceness(Some(1)).await, NICENESS_MAX);
    }
}

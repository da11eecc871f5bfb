//! A revision on scratch backends of its own: buyers buy from it, it settles what it accepted, and what is seen is kept.
//!
//! It does what `Strategy` and `Settlement` do around a call, without metrics, dead letters and retries without end.
//! The stages say what is bought, and what has to come of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use tokio::task::JoinSet;

use super::{
    Figures, Finding, NotProbed, Pace, Report, Scratch,
    finding::{self, Stage},
    judge::{self, Became},
};
use crate::{
    backend::{BackendError, log::Record, record},
    capability::{Hangup, Operation},
    domain::{
        self, Decision, KeyId, NewProduct, NewSale, Refusal, Rejection, Request, RequestId, Sale,
        SaleId, UserId,
    },
    strategy::{
        Means,
        ending::{Verdict, confirm_refusal},
        revision::{Ran, Revision},
    },
    ticket::TicketKeys,
};

/// Purchases that run at once in a crowd.
const AT_ONCE: usize = 8;
/// How often one batch is settled that meets a lock.
const SETTLES_MAX: u32 = 3;
/// Findings that are kept: a strategy that is wrong is wrong all over.
const FINDINGS_MAX: usize = 8;
/// The probe's buyers are those above.
const USERS_ABOVE: UserId = 900_000_000;

/// A revision that is probed.
pub struct Subject {
    /// The part of the probe that runs.
    pub stage: Stage,
    /// What was measured of it.
    pub pace: Option<Pace>,
    revision: Arc<Revision>,
    scratch: Scratch,
    hangup: Hangup,
    keys: TicketKeys,
    users: UserId,
    findings: Vec<Finding>,
    calls: u32,
    host_calls: BTreeMap<String, u32>,
    memory_peak_bytes: usize,
}

/// A purchase, and what it took.
pub struct Bought {
    /// What it became.
    pub became: Became,
    /// How long it took.
    pub took: Duration,
    /// Host functions that it used.
    pub host_calls: u32,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has its order.
    Sold,
    /// It was refused.
    Refused(Rejection),
    /// It, or its key, was decided by another call.
    Duplicate,
    /// There is no end, and a finding that says why.
    None,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sold => f.write_str("is sold"),
            Self::Refused(rejection) => write!(f, "is refused as {}", rejection.code()),
            Self::Duplicate => f.write_str("has no effect of its own"),
            Self::None => f.write_str("has no end"),
        }
    }
}

impl Subject {
    /// Prepares to probe a revision; its calls end when `hangup` is set.
    pub async fn open(
        revision: &Arc<Revision>,
        means: &Means,
        hangup: Hangup,
    ) -> Result<Self, NotProbed> {
        Ok(Self {
            stage: Stage::FirstBuyer,
            pace: None,
            revision: Arc::clone(revision),
            scratch: Scratch::open(&means.engine, &means.limits).await?,
            hangup,
            keys: TicketKeys::fresh(),
            users: USERS_ABOVE,
            findings: Vec::new(),
            calls: 0,
            host_calls: BTreeMap::new(),
            memory_peak_bytes: 0,
        })
    }

    /// Ends the probe, and says what was seen.
    pub async fn close(self) -> Report {
        self.scratch.close().await;
        Report {
            findings: self.findings,
            figures: Figures {
                took_ms: 0,
                calls: self.calls,
                host_calls: self.host_calls,
                memory_peak_bytes: self.memory_peak_bytes,
                candidate: self.pace,
                live: None,
            },
        }
    }

    /// Keeps a finding of the stage that runs.
    pub fn note(&mut self, finding: Finding) {
        let finding = Finding {
            stage: self.stage,
            ..finding
        };
        if self.findings.len() < FINDINGS_MAX && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Whether anything was found.
    pub const fn is_faulty(&self) -> bool {
        !self.findings.is_empty()
    }

    /// The revision.
    pub const fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    /// Opens a sale of so many pieces, with a window from an hour ago to an hour from now.
    pub async fn sale(
        &self,
        quantity: i64,
        limit_per_user: Option<u32>,
    ) -> Result<Sale, BackendError> {
        let database = &self.scratch.means.backends.database;
        let now = domain::now();
        let hour = SignedDuration::from_hours(1);
        let product = NewProduct {
            name: "probe".to_owned(),
            price: 2,
            description: String::new(),
        };
        let product = database.create_product(&product, now).await?;
        let sale = NewSale {
            product_id: product.id,
            quantity,
            discount_price: 1,
            start_at: now - hour,
            end_at: now + hour,
            limit_per_user,
        };
        let sale = database.create_sale(&sale, now).await?;
        sale.ok_or(BackendError::WrongValue {
            wanted: "the product that was just made",
        })
    }

    /// Pieces of a sale that are left.
    pub async fn remaining(&self, sale: SaleId) -> Result<i64, BackendError> {
        let sale = self.scratch.means.backends.database.sale(sale).await?;
        Ok(sale.map_or(0, |sale| sale.remaining))
    }

    /// Requests that are in the log and not settled.
    pub fn waiting(&self) -> u64 {
        let lags = self.scratch.means.backends.kafka.lags();
        lags.iter().map(|(_, lag)| lag).sum()
    }

    /// A request of a buyer who has not bought before: one piece, now.
    pub fn request(&mut self, sale: SaleId) -> Request {
        self.users += 1;
        Request {
            id: self.keys.random(sale),
            key: None,
            sale_id: sale,
            user_id: self.users,
            quantity: 1,
            accepted_at: domain::now(),
            version: self.revision.version.clone(),
            revision: self.revision.id.clone(),
        }
    }

    /// The same with an idempotency key.
    pub fn request_with_key(&mut self, sale: SaleId, key: KeyId) -> Request {
        let request = self.request(sale);
        Request {
            id: self.keys.derived(request.user_id, &key, sale),
            key: Some(key),
            ..request
        }
    }

    /// Has a buyer buy who is alone, and who asks once more where the call was busy.
    pub async fn buy(&mut self, request: Request) -> Bought {
        let first = self.ask(request.clone()).await;
        if first.became != Became::Busy {
            return first;
        }
        let mut second = self.ask(request).await;
        if second.became == Became::Busy {
            self.note(Finding::new(
                "a buyer who is alone is answered within the limits",
                "a deadline, a hold or a lock's wait passed, twice",
                finding::LIMITS,
            ));
            second.became = Became::Failed;
        }
        second
    }

    /// Has a buyer buy, and notes what does not end as it has to.
    pub async fn expect(
        &mut self,
        what: &str,
        request: Request,
        expected: &[End],
    ) -> Result<(), BackendError> {
        if self.is_faulty() {
            return Ok(());
        }
        let id = request.id.clone();
        let bought = self.buy(request).await;
        let end = match self.ends(vec![(id, bought.became)]).await?.first() {
            Some(end) => *end,
            None => End::None,
        };
        if let Some(first) = expected.first()
            && end != End::None
            && !expected.contains(&end)
        {
            self.note(Finding::new(
                format!("{what} {first}"),
                format!("it {end}"),
                finding::HOUSE,
            ));
        }
        Ok(())
    }

    /// Has many buyers buy, some of them at once; those for whom it was busy ask again when the others are gone.
    pub async fn crowd(&mut self, requests: &[Request]) -> Result<Vec<End>, BackendError> {
        let mut became = Vec::with_capacity(requests.len());
        for wave in requests.chunks(AT_ONCE) {
            let mut calls = JoinSet::new();
            for request in wave {
                let call = self.call(Operation::Purchase, vec![request.clone()]);
                let id = request.id.clone();
                calls.spawn(async move { (id, call.await) });
            }
            for (id, (ran, took)) in calls.join_all().await {
                became.push((id, self.judge(ran, took).await.became));
            }
        }
        for (id, became) in &mut became {
            let request = requests.iter().find(|request| request.id == *id);
            if *became == Became::Busy
                && let Some(request) = request
            {
                *became = self.buy(request.clone()).await.became;
            }
        }
        self.ends(became).await
    }

    /// Has the revision settle all that waits, and says how long its calls took.
    pub async fn settle(&mut self) -> Result<Duration, BackendError> {
        let backends = Arc::clone(&self.scratch.means.backends);
        let batch_max = self.scratch.means.limits.settle_batch_max;
        let mut spent = Duration::ZERO;
        let mut hindered = 0;
        while self.waiting() > 0 && !self.is_faulty() {
            let batch = backends.kafka.next_batch(batch_max).await?;
            let open = self.undecided(batch.records()).await?;
            let (took, settled) = self.settle_batch(open).await?;
            spent += took;
            if settled {
                backends.kafka.commit(&batch).await?;
                hindered = 0;
                continue;
            }
            hindered += 1;
            if hindered == SETTLES_MAX {
                self.note(Finding::new(
                    "a batch is settled within the limits",
                    format!("a deadline, a hold or a lock's wait passed, {SETTLES_MAX} times"),
                    finding::LIMITS,
                ));
            }
        }
        Ok(spent)
    }

    /// Has another revision take requests in, and does not judge it.
    pub async fn accept_by(&self, other: &Arc<Revision>, requests: &[Request]) {
        for request in requests {
            let task = other.task(
                Operation::Purchase,
                vec![request.clone()],
                self.hangup.clone(),
            );
            other.call(task, &self.scratch.means, None).await;
        }
    }

    /// What became of requests in the end, those that were accepted among them.
    async fn ends(&mut self, became: Vec<(RequestId, Became)>) -> Result<Vec<End>, BackendError> {
        let accepted: Vec<RequestId> = became
            .iter()
            .filter(|(_, became)| *became == Became::Accepted)
            .map(|(id, _)| id.clone())
            .collect();
        let mut decided = self.decided(&accepted).await?.into_iter();
        let ends = became.into_iter().map(|(_, became)| match became {
            Became::Ordered(_) => End::Sold,
            Became::Refused(rejection) => End::Refused(rejection),
            Became::Duplicate => End::Duplicate,
            Became::Accepted => decided.next().unwrap_or(End::None),
            Became::Busy | Became::Failed => End::None,
        });
        Ok(ends.collect())
    }

    /// Settles, and says what was decided about requests that are in the log.
    pub async fn decided(&mut self, accepted: &[RequestId]) -> Result<Vec<End>, BackendError> {
        if accepted.is_empty() {
            return Ok(Vec::new());
        }
        self.settle().await?;
        let database = &self.scratch.means.backends.database;
        let decisions = database.decisions(accepted).await?;
        let open = decisions.iter().filter(|it| it.is_none()).count();
        if open > 0 {
            self.note(Finding::new(
                "every request that is accepted is decided by `settle`",
                format!("{open} of {} are not", accepted.len()),
                finding::EXPORTS,
            ));
        }
        let end = |decision| match decision {
            Some(Decision::Ordered(_)) => End::Sold,
            Some(Decision::Refused(Refusal::Rejected(rejection))) => End::Refused(rejection),
            Some(Decision::Refused(Refusal::StrategyFailed)) | None => End::None,
        };
        Ok(decisions.into_iter().map(end).collect())
    }

    /// The requests of these records that are not final yet, each once.
    async fn undecided(&self, records: &[Record]) -> Result<Vec<Request>, BackendError> {
        let requests = records.iter().filter_map(|it| record::decode(it).ok());
        let requests: Vec<Request> = requests.collect();
        let ids: Vec<_> = requests.iter().map(|request| request.id.clone()).collect();
        let decided = self.scratch.means.backends.database.decisions(&ids).await?;
        let mut open: Vec<Request> = Vec::with_capacity(requests.len());
        for (request, decision) in requests.into_iter().zip(decided) {
            if decision.is_none() && open.iter().all(|seen| seen.id != request.id) {
                open.push(request);
            }
        }
        Ok(open)
    }

    /// Has the revision settle a batch; false where it met a lock, and the batch is to be settled again.
    async fn settle_batch(
        &mut self,
        requests: Vec<Request>,
    ) -> Result<(Duration, bool), BackendError> {
        if requests.is_empty() {
            return Ok((Duration::ZERO, true));
        }
        let (ran, took) = self.call(Operation::Settle, requests).await;
        self.count(&ran);
        let (verdicts, found) = judge::settle(&ran, self.host_calls_max());
        let disorder = judge::out_of_order(&ran.requests, &ran.effects);
        found
            .into_iter()
            .chain(disorder)
            .for_each(|finding| self.note(finding));
        let refused: Vec<_> = ran
            .requests
            .iter()
            .zip(&verdicts)
            .filter_map(|(request, verdict)| match verdict {
                Verdict::Refuse(refusal) => Some((request.id.clone(), request.sale_id, *refusal)),
                _ => None,
            })
            .collect();
        if !refused.is_empty() {
            let database = &self.scratch.means.backends.database;
            database.refuse(&refused, domain::now()).await?;
        }
        Ok((took, !verdicts.contains(&Verdict::Retry)))
    }

    /// Asks the revision to sell, once.
    async fn ask(&mut self, request: Request) -> Bought {
        let (ran, took) = self.call(Operation::Purchase, vec![request]).await;
        self.judge(ran, took).await
    }

    /// Judges a purchase, by the database where the guest did not ask it.
    async fn judge(&mut self, mut ran: Ran, took: Duration) -> Bought {
        self.count(&ran);
        confirm_refusal(&mut ran, &self.scratch.means.backends).await;
        let (became, found) = judge::purchase(&ran, self.host_calls_max());
        found.into_iter().for_each(|finding| self.note(finding));
        Bought {
            became,
            took,
            host_calls: ran.conduct.host_calls().map(|(_, times)| times).sum(),
        }
    }

    fn call(
        &self,
        operation: Operation,
        requests: Vec<Request>,
    ) -> impl Future<Output = (Ran, Duration)> + Send + 'static {
        let revision = Arc::clone(&self.revision);
        let means = Arc::clone(&self.scratch.means);
        let task = revision.task(operation, requests, self.hangup.clone());
        async move {
            let began = Instant::now();
            let ran = revision.call(task, &means, None).await;
            (ran, began.elapsed())
        }
    }

    fn count(&mut self, ran: &Ran) {
        self.calls += 1;
        self.memory_peak_bytes = self.memory_peak_bytes.max(ran.conduct.memory_bytes);
        for (function, times) in ran.conduct.host_calls() {
            *self.host_calls.entry(finding::name(function)).or_default() += times;
        }
    }

    fn host_calls_max(&self) -> u32 {
        self.revision.grants.limits.host_calls_max
    }
}

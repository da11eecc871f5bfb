//! Buyers of a subject: alone or in a crowd, and how their requests end.

use std::{fmt, time::Duration};

use tokio::task::JoinSet;

use super::Subject;
use crate::{
    backend::BackendError,
    capability::Operation,
    domain::{Rejection, Request, RequestId},
    strategy::{
        ending::confirm_refusal,
        probe::{
            finding::{self, Finding},
            judge::{self, Became},
        },
        revision::Ran,
    },
};

/// Purchases that run at once in a crowd.
const AT_ONCE: usize = 8;

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
}

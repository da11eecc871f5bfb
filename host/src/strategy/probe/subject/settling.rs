//! Settlement of what a subject accepted, or another revision in its stead.

use std::{sync::Arc, time::Duration};

use super::{End, Subject};
use crate::{
    backend::{BackendError, log::Record, record},
    capability::Operation,
    domain::{self, Decision, Refusal, Request, RequestId},
    strategy::{
        ending::Verdict,
        probe::{
            finding::{self, Finding},
            judge,
        },
        revision::Revision,
    },
};

/// How often one batch is settled that meets a lock.
const SETTLES_MAX: u32 = 3;

impl Subject {
    /// Requests that are in the log and not settled.
    pub fn waiting(&self) -> u64 {
        let lags = self.scratch.means.backends.kafka.lags();
        lags.iter().map(|(_, lag)| lag).sum()
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
        let means = &self.scratch.means;
        for request in requests {
            let task = other.task(
                Operation::Purchase,
                vec![request.clone()],
                self.hangup.clone(),
            );
            other.call(task, &means.engine, means.reach(None)).await;
        }
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
        let open = self.scratch.means.backends.database.undecided(&ids).await?;
        let requests = requests.into_iter().zip(open);
        Ok(requests
            .filter(|(_, open)| *open)
            .map(|(it, _)| it)
            .collect())
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
}

//! `db`: the database as strategies see it.
//!
//! A handle stands for a request that the host holds; no fact of an order comes from the guest.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use wasmtime::component::Resource;

use super::{
    bindings::timesale::strategy::{
        db::{Host, HostTransaction},
        types,
    },
    state::{CallEnd, CallState, Observed, Operation},
};
use crate::{
    backend::{
        BackendError,
        database::{self, Denial},
    },
    domain::{self, Decision, Order, Refusal, Rejection, Request, Sale, SaleId},
    telemetry::labels::{ErrorKind, Function, LimitName},
};

/// The guest's handle of a transaction, which begins with its first statement.
pub struct TransactionHandle {
    id: u32,
}

/// The transaction that a call has open.
pub struct OpenTransaction {
    id: u32,
    transaction: database::Transaction,
    /// When its first statement was answered, which may have waited for the row; none before.
    since: Option<Instant>,
    /// The sale that it locked last.
    locked: Option<SaleId>,
    placed: Vec<(u32, Order)>,
    /// Rejections that its own orders may have brought about: they count once those are committed.
    rejected: Vec<(u32, Rejection)>,
    /// The earliest grant among the locks whose tokens fence it.
    fenced_since: Option<Instant>,
}

impl OpenTransaction {
    /// Has it fenced by a lock that was granted at that moment, where it was by one.
    fn fenced_by(&mut self, granted: Option<Instant>) {
        self.fenced_since = [self.fenced_since, granted].into_iter().flatten().min();
    }

    /// Notes that a statement was answered: from the first on it holds what others wait for.
    fn answered(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// How long it has held what its statements took.
    pub fn age(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Undoes all of it; a connection that cannot even do that is thrown away.
    pub async fn roll_back(self) {
        if let Err(error) = self.transaction.rollback().await {
            tracing::warn!(
                "a transaction was not rolled back and its connection is dropped: {error}"
            );
        }
    }
}

impl Host for CallState {
    async fn find_sale(
        &mut self,
        id: types::SaleId,
    ) -> wasmtime::Result<Result<Option<types::Sale>, types::Failure>> {
        // Calls that hold a connection and wait for another would keep all of them from everybody.
        let observed = match self.observe_apart(Function::FindSale)? {
            Ok(observed) => observed,
            Err(failure) => return Ok(Err(failure)),
        };
        let Ok(id) = i64::try_from(id) else {
            return Ok(observed.finish(Ok(None)));
        };
        let sale = observed.backends().find_sale(id).await;
        Ok(observed.finish_sale(id, sale))
    }

    async fn purchase(
        &mut self,
        handles: Vec<types::RequestHandle>,
    ) -> wasmtime::Result<Result<Vec<Result<types::Order, types::Rejection>>, types::Failure>> {
        let mut observed = match self.observe_apart(Function::Purchase)? {
            Ok(observed) => observed,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut requests = Vec::with_capacity(handles.len());
        for (place, handle) in handles.iter().enumerate() {
            match observed.call.request(*handle) {
                Some(request) if !handles.iter().take(place).any(|seen| seen == handle) => {
                    requests.push(request.clone());
                }
                _ => {
                    return Ok(Err(
                        observed.refuse_use("a handle is unknown or named twice")
                    ));
                }
            }
        }
        let Some(decided) = observed.decide(&requests).await else {
            // It was left before anything was done.
            let end = observed.call.interrupted().unwrap_or(CallEnd::Deadline);
            return Err(end.into());
        };
        if let Ok(decided) = &decided {
            for (handle, decision) in handles.iter().zip(decided) {
                observed.note_decision(*handle, decision);
            }
        }
        note_duplicate(observed.call, &handles, decided.as_ref().err());
        Ok(observed
            .finish(decided)
            .map(|decided| decided.into_iter().map(answer).collect()))
    }
}

impl HostTransaction for CallState {
    async fn new(&mut self) -> wasmtime::Result<Resource<TransactionHandle>> {
        self.next_handle += 1;
        let id = self.next_handle;
        Ok(self.table.push(TransactionHandle { id })?)
    }

    async fn lock_sale(
        &mut self,
        handle: Resource<TransactionHandle>,
        id: types::SaleId,
    ) -> wasmtime::Result<Result<Option<types::Sale>, types::Failure>> {
        let handle = self.table.get(&handle)?.id;
        let mut observed = self.observe(Function::LockSale)?;
        let Ok(id) = i64::try_from(id) else {
            return Ok(observed.finish(Ok(None)));
        };
        if let Some(sale) = observed.backends().sold_out.get(id) {
            return Ok(observed.finish_sale(id, Ok(Some(sale))));
        }
        if let Err(error) = observed.begin(handle, id).await {
            return Ok(Err(error.end(observed)));
        }
        let Some(open) = observed.call.transaction.as_mut() else {
            return Ok(Err(observed.refuse_use(NOT_OPEN)));
        };
        let sale = open.transaction.lock_sale(id).await;
        open.answered();
        open.locked = Some(id);
        if !open.placed.is_empty() {
            // What this transaction has written itself is not committed yet.
            let sale = observed.finish(sale);
            return Ok(sale.map(|sale| sale.as_ref().map(types::Sale::from)));
        }
        if let Ok(Some(sale)) = &sale {
            observed.backends().sold_out.note(sale);
        }
        Ok(observed.finish_sale(id, sale))
    }

    async fn place_order(
        &mut self,
        handle: Resource<TransactionHandle>,
        request: types::RequestHandle,
        fence: Option<u64>,
    ) -> wasmtime::Result<Result<types::Order, types::Refusal>> {
        let handle = self.table.get(&handle)?.id;
        let mut observed = self.observe(Function::PlaceOrder)?;
        let (asked, granted) = match observed.asked(request, fence) {
            Ok(asked) => asked,
            Err(rule) => return Ok(Err(failed(observed.refuse_use(rule)))),
        };
        if let Err(error) = observed.begin(handle, asked.sale_id).await {
            return Ok(Err(failed(error.end(observed))));
        }
        let revision = observed.call.task.revision.clone();
        let Some(open) = observed.call.transaction.as_mut() else {
            return Ok(Err(failed(observed.refuse_use(NOT_OPEN))));
        };
        open.fenced_by(granted);
        let placed = open
            .transaction
            .place_order(&asked, &revision, fence, domain::now())
            .await;
        open.answered();
        let alone = open.placed.is_empty();
        match &placed {
            Ok(Ok(order)) => open.placed.push((request, order.clone())),
            Ok(Err(rejection)) if !alone => open.rejected.push((request, *rejection)),
            Ok(Err(rejection)) => observed.call.note_rejection(request, *rejection),
            Err(error) => note_duplicate(observed.call, &[request], Some(error)),
        }
        Ok(observed.finish_placing(placed))
    }

    async fn place_and_commit(
        &mut self,
        handle: Resource<TransactionHandle>,
        request: types::RequestHandle,
        fence: Option<u64>,
    ) -> wasmtime::Result<Result<types::Order, types::Refusal>> {
        let handle = self.table.delete(handle)?.id;
        let mut observed = self.observe(Function::PlaceAndCommit)?;
        let asked = observed.asked(request, fence);
        if let Ok((asked, _)) = &asked
            && let Err(error) = observed.begin(handle, asked.sale_id).await
        {
            return Ok(Err(failed(error.end(observed))));
        }
        // It ends here, whatever was asked.
        let open = observed.call.transaction.take_if(|open| open.id == handle);
        let asked = asked.and_then(|(asked, granted)| match &open {
            None => Err(NOT_OPEN),
            Some(open) if !open.placed.is_empty() => {
                Err("an order was placed before: commit by itself")
            }
            // What is waited for under the lock is waited for before its bound is looked at.
            Some(open) if granted.is_some() && open.locked != Some(asked.sale_id) => {
                Err("under a fence the sale is locked first")
            }
            Some(_) => Ok((asked, granted)),
        });
        let ((asked, granted), mut open) = match (asked, open) {
            (Ok(asked), Some(open)) => (asked, open),
            (asked, open) => {
                if let Some(open) = open {
                    open.roll_back().await;
                }
                let rule = asked.err().unwrap_or(NOT_OPEN);
                return Ok(Err(failed(observed.refuse_use(rule))));
            }
        };
        open.fenced_by(granted);
        let Some(open) = observed.in_time(open).await else {
            let lost = observed.fail(ErrorKind::LockLost, types::Failure::LockLost);
            return Ok(Err(failed(lost)));
        };
        let placed = observed.place_and_commit(open, &asked, fence).await;
        match &placed {
            Ok(Ok(order)) => observed.note_decision(request, &Ok(order.clone())),
            Ok(Err(rejection)) => observed.call.note_rejection(request, *rejection),
            Err(error) => note_duplicate(observed.call, &[request], Some(error)),
        }
        Ok(observed.finish_placing(placed))
    }

    async fn commit(
        &mut self,
        handle: Resource<TransactionHandle>,
    ) -> wasmtime::Result<Result<(), types::Failure>> {
        let handle = self.table.delete(handle)?.id;
        let mut observed = self.observe(Function::Commit)?;
        let Some(open) = observed.call.transaction.take_if(|open| open.id == handle) else {
            // It never began: there is nothing to commit.
            return Ok(observed.finish(Ok(())));
        };
        let Some(open) = observed.in_time(open).await else {
            let lost = observed.fail(ErrorKind::LockLost, types::Failure::LockLost);
            return Ok(Err(lost));
        };
        let committed = observed.commit(open).await;
        Ok(observed.finish(committed))
    }

    async fn drop(&mut self, handle: Resource<TransactionHandle>) -> wasmtime::Result<()> {
        let handle = self.table.delete(handle)?.id;
        if let Some(open) = self.transaction.take_if(|open| open.id == handle) {
            let observed = self.observe(Function::Rollback);
            open.roll_back().await;
            let _ = observed?.finish(Ok(()));
        }
        Ok(())
    }
}

const NOT_OPEN: &str = "the transaction is not open";

/// Why a transaction did not begin.
enum NotBegun {
    OtherIsOpen,
    Backend(BackendError),
}

impl NotBegun {
    fn end(self, observed: Observed<'_>) -> types::Failure {
        match self {
            Self::OtherIsOpen => observed.refuse_use("a call has one transaction at a time"),
            Self::Backend(error) => match observed.finish::<()>(Err(error)) {
                Err(failure) => failure,
                Ok(()) => types::Failure::Other(NOT_OPEN.to_owned()),
            },
        }
    }
}

impl Observed<'_> {
    /// The request that a handle means, and since when the lock is held whose token the fence is; or the rule that the guest broke.
    fn asked(
        &mut self,
        handle: u32,
        fence: Option<u64>,
    ) -> Result<(Request, Option<Instant>), &'static str> {
        let asked = self.call.request(handle).cloned();
        let asked = asked.ok_or("a handle is unknown")?;
        self.attempt(handle);
        let granted = fence.map(|token| self.call.lock_granted(token));
        match granted {
            Some(None) => Err("the fence is no token of a lock that this call holds"),
            Some(granted) => Ok((asked, granted)),
            None => Ok((asked, None)),
        }
    }

    /// The transaction, where it may be committed: none where a lock that fences it was held for too long, and then it is rolled back.
    async fn in_time(&mut self, open: OpenTransaction) -> Option<OpenTransaction> {
        let limits = self.call.limits();
        let (hold, bound) = (open.age(), limits.transaction_hold());
        self.call
            .note_limit(LimitName::TransactionHold, hold, bound);
        if let (Some(granted), Some(bound)) = (open.fenced_since, limits.lock_hold()) {
            let held = granted.elapsed();
            self.call.note_limit(LimitName::LockHold, held, bound);
            if held > bound {
                open.roll_back().await;
                return None;
            }
        }
        Some(open)
    }

    /// Places and commits; where the answer was lost, the request's id tells what became of it.
    async fn place_and_commit(
        &mut self,
        open: OpenTransaction,
        asked: &Request,
        fence: Option<u64>,
    ) -> Result<Result<Order, Rejection>, BackendError> {
        let revision = &self.call.task.revision;
        let placed = open
            .transaction
            .place_and_commit(asked, revision, fence, domain::now())
            .await;
        if let Ok(_) | Err(BackendError::LockLost | BackendError::Duplicate) = &placed {
            return placed;
        }
        let ids = std::slice::from_ref(&asked.id);
        match self.backends().database.decisions(ids).await?.pop() {
            Some(Some(Decision::Ordered(order))) => Ok(Ok(order)),
            _ => placed,
        }
    }

    /// Ends the placing of an order.
    fn finish_placing(
        self,
        placed: Result<Result<Order, Rejection>, BackendError>,
    ) -> Result<types::Order, types::Refusal> {
        match placed {
            Ok(Err(rejection)) => {
                self.reject();
                Err(types::Refusal::Rejected(rejection.into()))
            }
            Ok(Ok(order)) => self.finish(Ok((&order).into())).map_err(failed),
            Err(error) => self.finish(Err(error)).map_err(failed),
        }
    }

    /// Begins the handle's transaction, unless it is open already.
    async fn begin(&mut self, handle: u32, sale: SaleId) -> Result<(), NotBegun> {
        match &self.call.transaction {
            Some(open) if open.id == handle => Ok(()),
            Some(_) => Err(NotBegun::OtherIsOpen),
            None => {
                let transaction = self
                    .backends()
                    .database
                    .begin(sale)
                    .await
                    .map_err(NotBegun::Backend)?;
                self.call.transaction = Some(OpenTransaction {
                    id: handle,
                    transaction,
                    since: None,
                    locked: None,
                    placed: Vec::new(),
                    rejected: Vec::new(),
                    fenced_since: None,
                });
                Ok(())
            }
        }
    }

    /// Has the call's requests decided; none where the call has to end before that.
    async fn decide(
        &mut self,
        requests: &[Request],
    ) -> Option<Result<Vec<Result<Order, Denial>>, BackendError>> {
        let (backends, revision) = (self.backends(), &self.call.task.revision);
        if let (Operation::Purchase, [request]) = (self.call.task.operation, requests) {
            // Moved from function to function it would be kept in each.
            let leave = pin!(self.call.interruption());
            let decided = backends.purchase(request, revision, leave).await;
            return decided.transpose().map(|decided| Ok(vec![decided?]));
        }
        let settles = self.call.task.operation == Operation::Settle;
        let decided = backends
            .database
            .purchase(requests, revision, settles, domain::now());
        // Large, and once for a batch: in a box it is no part of what a call for one request carries.
        Some(Box::pin(decided).await)
    }

    /// Ends a read of a sale, and keeps what it means for the call's requests.
    fn finish_sale(
        self,
        id: SaleId,
        sale: Result<Option<Sale>, BackendError>,
    ) -> Result<Option<types::Sale>, types::Failure> {
        if let Ok(sale) = &sale {
            self.call.note_sale(id, sale.as_ref());
        }
        let sale = self.finish(sale)?;
        Ok(sale.as_ref().map(types::Sale::from))
    }

    /// Commits; where the answer was lost, the request ids tell what became of it.
    async fn commit(&mut self, open: OpenTransaction) -> Result<(), BackendError> {
        let OpenTransaction {
            transaction,
            mut placed,
            rejected,
            ..
        } = open;
        if let Err(error) = transaction.commit().await {
            let ids: Vec<_> = placed
                .iter()
                .map(|(_, order)| order.request_id.clone())
                .collect();
            let decided = self.backends().database.decisions(&ids).await?;
            let orders = decided.into_iter().map(|decision| match decision {
                Some(Decision::Ordered(order)) => Some(order),
                _ => None,
            });
            match orders.collect::<Option<Vec<_>>>() {
                // Another call may have sold to a request since: the order that counts is the one that is there.
                Some(orders) if !orders.is_empty() => {
                    for ((_, placed), order) in placed.iter_mut().zip(orders) {
                        *placed = order;
                    }
                }
                _ => return Err(error),
            }
        }
        for (handle, rejection) in rejected {
            self.call.note_rejection(handle, rejection);
        }
        for (handle, order) in placed {
            self.note_decision(handle, &Ok(order));
        }
        Ok(())
    }

    /// Keeps what was committed for a request.
    fn note_decision(&mut self, handle: u32, decision: &Result<Order, Denial>) {
        let settles = self.call.task.operation == Operation::Settle;
        if let Some(effect) = self.call.effect(handle) {
            match decision {
                Ok(order) => effect.order = Some(order.clone()),
                Err(Denial::Refused(refusal)) if settles => effect.refusal = Some(*refusal),
                Err(Denial::Refused(Refusal::Rejected(rejection))) => {
                    effect.rejection = Some(*rejection);
                }
                Err(Denial::Refused(Refusal::StrategyFailed)) => {}
                Err(Denial::Taken) => effect.duplicate = true,
            }
        }
    }
}

/// Keeps that other calls had decided these requests.
pub(super) fn note_duplicate(call: &mut CallState, handles: &[u32], error: Option<&BackendError>) {
    if let Some(BackendError::Duplicate) = error {
        for handle in handles {
            if let Some(effect) = call.effect(*handle) {
                effect.duplicate = true;
                let repeated = effect.order.is_some() || effect.ticket.is_some();
                call.conduct.repeated |= repeated;
            }
        }
    }
}

const fn failed(failure: types::Failure) -> types::Refusal {
    types::Refusal::Failed(failure)
}

/// What the strategy is told of a decision; one that a strategy once failed at stays a no.
fn answer(decided: Result<Order, Denial>) -> Result<types::Order, types::Rejection> {
    match decided {
        Ok(order) => Ok((&order).into()),
        Err(Denial::Refused(Refusal::Rejected(rejection))) => Err(rejection.into()),
        Err(Denial::Refused(refusal @ Refusal::StrategyFailed)) => {
            Err(types::Rejection::Other(refusal.code().to_owned()))
        }
        Err(Denial::Taken) => Err(types::Rejection::Other("DUPLICATE".to_owned())),
    }
}

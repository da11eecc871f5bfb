//! `kafka`: the log as strategies see it.

use std::time::Instant;

use super::{
    bindings::timesale::strategy::{
        kafka::Host,
        types::{self, Failure},
    },
    state::{CallState, Operation},
};
use crate::{
    domain::Ticket,
    telemetry::labels::{ErrorKind, Function},
};

/// Bytes of an event's key and payload together.
const EVENT_MAX_BYTES: usize = 64 << 10;

impl Host for CallState {
    async fn submit(
        &mut self,
        handle: types::RequestHandle,
    ) -> wasmtime::Result<Result<types::Ticket, Failure>> {
        let mut observed = match self.observe_apart(Function::Submit)? {
            Ok(observed) => observed,
            Err(failure) => return Ok(Err(failure)),
        };
        if observed.call.task.operation != Operation::Purchase {
            return Ok(Err(observed.refuse_use("a call that settles cannot submit")));
        }
        let Some(request) = observed.call.request(handle).cloned() else {
            return Ok(Err(observed.refuse_use("a handle is unknown")));
        };
        observed.attempt(handle);
        if observed
            .call
            .effect(handle)
            .is_some_and(|effect| effect.ticket.is_some())
        {
            return Ok(Err(observed.refuse_use("the request is submitted already")));
        }
        let ticket = observed.backends().accept(&request).await;
        super::db::note_duplicate(observed.call, &[handle], ticket.as_ref().err());
        if let (Ok(ticket), Some(effect)) = (&ticket, observed.call.effect(handle)) {
            effect.ticket = Some(*ticket);
        }
        Ok(observed.finish(ticket.map(|Ticket { place, .. }| place.into())))
    }

    async fn publish(
        &mut self,
        topic: String,
        key: Vec<u8>,
        payload: Vec<u8>,
    ) -> wasmtime::Result<Result<types::Ticket, Failure>> {
        let observed = match self.observe_apart(Function::Publish)? {
            Ok(observed) => observed,
            Err(failure) => return Ok(Err(failure)),
        };
        if !observed.call.grants().allows_topic(&topic) {
            return Ok(Err(observed.refuse_use("the topic is not granted")));
        }
        if key.len().saturating_add(payload.len()) > EVENT_MAX_BYTES {
            let failure = Failure::BudgetSpent("bytes of an event".to_owned());
            return Ok(Err(observed.fail(ErrorKind::Budget, failure)));
        }
        let sent = Instant::now();
        let place = observed
            .backends()
            .kafka
            .publish(&topic, key, payload)
            .await;
        if place.is_ok() {
            observed.backends().queue_metrics.sent(sent.elapsed());
        }
        Ok(observed.finish(place.map(types::Ticket::from)))
    }
}

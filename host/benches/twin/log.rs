//! The twin of `plugins/v3-kafka-async`.

use super::{Stop, check};
use crate::capability::{
    CallState,
    bindings::{
        exports::timesale::strategy::purchasing::Outcome,
        timesale::strategy::{
            db::Host as _,
            kafka::Host as _,
            types::{Order, Refusal, Request, RequestHandle},
        },
    },
};

pub async fn purchase(call: &mut CallState, request: &Request) -> Result<Outcome, Stop> {
    check(call.find_sale(request.sale_id).await??, request)?;
    let ticket = call.submit(request.handle).await??;
    Ok(Outcome::Accepted(ticket))
}

pub async fn settle(
    call: &mut CallState,
    requests: &[Request],
) -> wasmtime::Result<Vec<Result<Order, Refusal>>> {
    let refs: Vec<RequestHandle> = requests.iter().map(|request| request.handle).collect();
    Ok(match call.purchase(refs).await? {
        Ok(answers) => answers
            .into_iter()
            .map(|it| it.map_err(Refusal::Rejected))
            .collect(),
        Err(failure) => requests
            .iter()
            .map(|_| Err(Refusal::Failed(failure.clone())))
            .collect(),
    })
}

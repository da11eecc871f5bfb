//! The twin of `plugins/v4-group-commit`, and the one-step purchase that others share with it.

use super::Stop;
use crate::capability::{
    CallState,
    bindings::{
        exports::timesale::strategy::purchasing::Outcome,
        timesale::strategy::{
            db::Host as _,
            types::{Failure, Request},
        },
    },
};

pub async fn purchase(call: &mut CallState, request: &Request) -> Result<Outcome, Stop> {
    let answers = call.purchase(vec![request.handle]).await??;
    let order = answers.into_iter().next();
    let order = order.ok_or_else(|| Failure::Other("no answer".to_owned()))??;
    Ok(Outcome::Completed(order))
}

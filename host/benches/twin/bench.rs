//! The twins of `plugins/bench`.

use super::{Stop, group};
use crate::capability::{
    CallState,
    bindings::{
        exports::timesale::strategy::purchasing::Outcome,
        timesale::strategy::{
            redis::Host as _,
            types::{Rejection, Request},
        },
    },
};

pub async fn no_op(call: &mut CallState, request: &Request) -> Result<Outcome, Stop> {
    for _ in 1..request.quantity {
        call.get("bench:nothing".to_owned()).await??;
    }
    Err(Rejection::SoldOut.into())
}

pub async fn take_if_enough(call: &mut CallState, request: &Request) -> Result<Outcome, Stop> {
    let key = format!("bench:left:{}", request.sale_id);
    if call.take(key, request.quantity.into()).await??.is_none() {
        return Err(Rejection::SoldOut.into());
    }
    group::purchase(call, request).await
}

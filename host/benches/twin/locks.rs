//! The twin of `plugins/v2-redis-lock`.

use wasmtime::component::Resource;

use super::{Stop, check, row};
use crate::capability::{
    CallState,
    bindings::{
        exports::timesale::strategy::purchasing::Outcome,
        timesale::strategy::{
            db::Host as _,
            redis::{Host as _, HostLock},
            types::{Refusal, Rejection, Request, SaleId},
        },
    },
};

/// How long a hint lives.
const HINT_TTL_MS: u64 = 60_000;

pub async fn purchase(call: &mut CallState, request: &Request) -> Result<Outcome, Stop> {
    let sale_id = request.sale_id;
    let hint = hint(call, sale_id).await?;
    if hint.is_none_or(|left| left < u64::from(request.quantity)) {
        let sale = check(call.find_sale(sale_id).await??, request)?;
        if hint.is_none() {
            keep_hint(call, sale_id, sale.remaining).await?;
        }
    }
    let key = format!("time-sale-lock:{sale_id}");
    let lock = call.acquire(key, 0, 0).await??;
    let token = HostLock::token(call, Resource::new_borrow(lock.rep())).await?;
    let sold = row::order(call, request, Some(token)).await;
    match &sold {
        Ok(order) => lower_hint(call, sale_id, order.remaining).await?,
        Err(Stop::Refused(Refusal::Rejected(Rejection::SoldOut))) => {
            if let Some(sale) = call.find_sale(sale_id).await?? {
                lower_hint(call, sale.id, sale.remaining).await?;
            }
        }
        Err(_) => {}
    }
    HostLock::drop(call, lock).await?;
    Ok(Outcome::Completed(sold?))
}

async fn hint(call: &mut CallState, sale: SaleId) -> Result<Option<u64>, wasmtime::Error> {
    let value = call.get(hint_key(sale)).await?.ok().flatten();
    Ok(value.and_then(|value| str::from_utf8(&value).ok()?.parse().ok()))
}

async fn lower_hint(
    call: &mut CallState,
    sale: SaleId,
    remaining: u64,
) -> Result<(), wasmtime::Error> {
    if hint(call, sale).await?.is_none_or(|left| left > remaining) {
        keep_hint(call, sale, remaining).await?;
    }
    Ok(())
}

async fn keep_hint(
    call: &mut CallState,
    sale: SaleId,
    remaining: u64,
) -> Result<(), wasmtime::Error> {
    let value = remaining.to_string().into_bytes();
    // A cache that cannot be written does not fail the purchase.
    let _ = call.set(hint_key(sale), value, Some(HINT_TTL_MS)).await?;
    Ok(())
}

fn hint_key(sale: SaleId) -> String {
    format!("time-sale:{sale}")
}

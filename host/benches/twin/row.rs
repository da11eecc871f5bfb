//! The twin of `plugins/v1-row-lock`, and the transaction that others share with it.

use wasmtime::component::Resource;

use super::{Stop, check};
use crate::capability::{
    CallState,
    bindings::{
        exports::timesale::strategy::purchasing::Outcome,
        timesale::strategy::{
            db::HostTransaction,
            types::{Order, Request},
        },
    },
};

pub async fn purchase(call: &mut CallState, request: &Request) -> Result<Outcome, Stop> {
    Ok(Outcome::Completed(order(call, request, None).await?))
}

/// Takes the pieces in one transaction, which is dropped where it is not committed.
pub async fn order(
    call: &mut CallState,
    request: &Request,
    fence: Option<u64>,
) -> Result<Order, Stop> {
    let transaction = HostTransaction::new(call).await?;
    let handle = Resource::new_borrow(transaction.rep());
    let locked = async {
        let sale = call.lock_sale(handle, request.sale_id).await??;
        check(sale, request)?;
        Ok(())
    };
    if let Err(stop) = locked.await {
        HostTransaction::drop(call, transaction).await?;
        return Err(stop);
    }
    let placed = call.place_and_commit(transaction, request.handle, fence);
    Ok(placed.await??)
}

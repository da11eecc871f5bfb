//! The host's words as the contract says them.

use jiff::Timestamp;

use super::bindings::timesale::strategy::types;
use crate::domain::{Order, Place, Rejection, Request, Sale};

impl From<Rejection> for types::Rejection {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::SoldOut => Self::SoldOut,
            Rejection::NotOpen => Self::NotOpen,
            Rejection::LimitExceeded => Self::LimitExceeded,
            Rejection::SaleNotFound => Self::SaleNotFound,
            Rejection::Other => Self::Other(rejection.code().to_owned()),
        }
    }
}

impl From<&Order> for types::Order {
    fn from(order: &Order) -> Self {
        Self {
            id: order.id.unsigned_abs(),
            remaining: order.remaining.unsigned_abs(),
        }
    }
}

impl From<&Sale> for types::Sale {
    fn from(sale: &Sale) -> Self {
        Self {
            id: sale.id.unsigned_abs(),
            product_id: sale.product_id.unsigned_abs(),
            quantity: sale.quantity.unsigned_abs(),
            remaining: sale.remaining.unsigned_abs(),
            discount_price: sale.discount_price.unsigned_abs(),
            start_at: milliseconds(sale.start_at),
            end_at: milliseconds(sale.end_at),
            limit_per_user: sale.limit_per_user,
        }
    }
}

impl From<(u32, &Request)> for types::Request {
    fn from((handle, request): (u32, &Request)) -> Self {
        Self {
            handle,
            id: request.id.to_string(),
            sale_id: request.sale_id.unsigned_abs(),
            user_id: request.user_id.unsigned_abs(),
            quantity: request.quantity,
            accepted_at: milliseconds(request.accepted_at),
        }
    }
}

/// Times before 1970 read as its first moment.
fn milliseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

impl From<Place> for types::Ticket {
    fn from(place: Place) -> Self {
        Self {
            partition: place.partition,
            offset: place.offset,
        }
    }
}

//! What a subject is asked to sell: sales, and requests for them.

use jiff::SignedDuration;

use super::Subject;
use crate::{
    backend::BackendError,
    domain::{self, KeyId, NewProduct, NewSale, Request, Sale, SaleId},
};

impl Subject {
    /// Opens a sale of so many pieces, with a window from an hour ago to an hour from now.
    pub async fn sale(
        &self,
        quantity: i64,
        limit_per_user: Option<u32>,
    ) -> Result<Sale, BackendError> {
        let database = &self.scratch.means.backends.database;
        let now = domain::now();
        let hour = SignedDuration::from_hours(1);
        let product = NewProduct {
            name: "probe".to_owned(),
            price: 2,
            description: String::new(),
        };
        let product = database.create_product(&product, now).await?;
        let sale = NewSale {
            product_id: product.id,
            quantity,
            discount_price: 1,
            start_at: now - hour,
            end_at: now + hour,
            limit_per_user,
        };
        let sale = database.create_sale(&sale, now).await?;
        sale.ok_or(BackendError::WrongValue {
            wanted: "the product that was just made",
        })
    }

    /// Pieces of a sale that are left.
    pub async fn remaining(&self, sale: SaleId) -> Result<i64, BackendError> {
        let sale = self.scratch.means.backends.database.sale(sale).await?;
        Ok(sale.map_or(0, |sale| sale.remaining))
    }

    /// A request of a buyer who has not bought before: one piece, now.
    pub fn request(&mut self, sale: SaleId) -> Request {
        self.users += 1;
        let now = domain::now();
        Request {
            id: self.keys.random(sale, now),
            key: None,
            sale_id: sale,
            user_id: self.users,
            quantity: 1,
            accepted_at: now,
            version: self.revision.version.clone(),
            revision: self.revision.id.clone(),
        }
    }

    /// The same with an idempotency key.
    pub fn request_with_key(&mut self, sale: SaleId, key: KeyId) -> Request {
        let request = self.request(sale);
        Request {
            id: self.keys.derived(request.user_id, &key, sale),
            key: Some(key),
            ..request
        }
    }
}

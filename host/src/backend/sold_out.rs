//! The one thing that a host may remember for ever: a 0 that it read committed.
//!
//! Remaining never rises, so a sale that was sold out once is sold out on every host and after every restart.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::domain::{Sale, SaleId};

/// Sales that are remembered; past that the memory starts anew, which costs a read for each.
const SALES_MAX: usize = 10_000;

/// The sales that are known to be sold out.
#[derive(Default)]
pub struct SoldOut(RwLock<HashMap<SaleId, Sale>>);

impl SoldOut {
    /// The sale as it will stay, if it is known to be sold out.
    pub fn get(&self, id: SaleId) -> Option<Sale> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    /// Remembers a sale that was read committed, if it is sold out.
    pub fn note(&self, sale: &Sale) {
        if sale.remaining != 0 {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SALES_MAX {
            known.clear();
        }
        known.insert(sale.id, sale.clone());
    }
}

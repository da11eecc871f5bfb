//! A batch in which each request stands once, however often it came: the log may hold a record twice.

use std::collections::HashMap;

use crate::domain::Request;

/// The requests of a batch, each id once.
pub struct Once<'a> {
    /// In the order in which they first came.
    pub requests: Vec<&'a Request>,
    /// Where among them each request of the batch is.
    places: Vec<usize>,
}

impl<'a> Once<'a> {
    /// Leaves out what came before.
    pub fn of(batch: &'a [Request]) -> Self {
        let mut requests = Vec::with_capacity(batch.len());
        let mut known = HashMap::with_capacity(batch.len());
        let places = batch.iter().map(|request| {
            *known.entry(&request.id).or_insert_with(|| {
                requests.push(request);
                requests.len() - 1
            })
        });
        Self {
            places: places.collect(),
            requests,
        }
    }

    /// An answer for each request of the batch, from one for each that stands once; none where one is missing.
    pub fn spread<T: Clone>(&self, answers: Vec<T>) -> Option<Vec<T>> {
        if answers.len() == self.places.len() {
            return Some(answers);
        }
        let answers = self.places.iter().map(|place| answers.get(*place).cloned());
        answers.collect()
    }
}

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

    /// Those about which nothing is known.
    pub fn open<T>(&self, known: &[Option<T>]) -> Vec<&'a Request> {
        let open = self.requests.iter().zip(known);
        let open = open.filter_map(|(request, known)| known.is_none().then_some(*request));
        open.collect()
    }

    /// An answer for each request of the batch: what is known of it, else the next of the others, which are those to `open`; none where one is missing.
    pub fn spread<T: Clone>(
        &self,
        known: Vec<Option<T>>,
        others: impl IntoIterator<Item = T>,
    ) -> Option<Vec<T>> {
        let mut others = others.into_iter();
        let answers = known
            .into_iter()
            .map(|known| known.or_else(|| others.next()));
        let answers: Vec<T> = answers.collect::<Option<_>>()?;
        if answers.len() == self.places.len() {
            return Some(answers);
        }
        let answers = self.places.iter().map(|place| answers.get(*place).cloned());
        answers.collect()
    }
}

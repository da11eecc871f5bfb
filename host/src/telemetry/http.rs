//! The timers of HTTP requests.

use std::{collections::HashMap, time::Duration};

use arc_swap::ArcSwap;
use metrics::{Histogram, histogram};

use super::catalogue;

/// Times HTTP requests, by what is known of each once it is answered.
///
/// A timer is looked up by the recorder once, for to name a series costs more than to record in it.
#[derive(Default)]
pub struct HttpTimers(ArcSwap<Routes>);

/// The timers of each route, by method and status.
type Routes = HashMap<String, HashMap<(&'static str, u16), Histogram>>;

impl HttpTimers {
    /// Records a request; `uri` is the route's template and `method` a known one.
    pub fn record(&self, method: &'static str, uri: &str, status: u16, took: Duration) {
        let routes = self.0.load();
        let known = routes
            .get(uri)
            .and_then(|route| route.get(&(method, status)));
        match known {
            Some(timer) => timer.record(took),
            None => self.add(method, uri, status).record(took),
        }
    }

    fn add(&self, method: &'static str, uri: &str, status: u16) -> Histogram {
        let timer = timer_of(method, uri, status);
        self.0.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            let route = routes.entry(uri.to_owned()).or_default();
            route.insert((method, status), timer.clone());
            routes
        });
        timer
    }
}

fn timer_of(method: &'static str, uri: &str, status: u16) -> Histogram {
    let outcome = match status {
        0..=199 => "INFORMATIONAL",
        200..=299 => "SUCCESS",
        300..=399 => "REDIRECTION",
        400..=499 => "CLIENT_ERROR",
        _ => "SERVER_ERROR",
    };
    histogram!(
        catalogue::HTTP_REQUESTS.name,
        "method" => method,
        "uri" => uri.to_owned(),
        "status" => status.to_string(),
        "outcome" => outcome
    )
}

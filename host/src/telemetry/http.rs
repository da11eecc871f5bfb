//! The timers of HTTP requests.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use metrics::{Histogram, histogram};

use super::catalogue;

/// Times HTTP requests, by what is known of each once it is answered.
///
/// A timer is looked up by the recorder once, for to name a series costs more than to record in it.
#[derive(Default)]
pub struct HttpTimers {
    routes: RwLock<HashMap<String, Route>>,
}

/// The timers of a route, by method and status.
type Route = HashMap<(&'static str, u16), Histogram>;

impl HttpTimers {
    /// Records a request; `uri` is the route's template and `method` a known one.
    pub fn record(&self, method: &'static str, uri: &str, status: u16, took: Duration) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let timer = routes
            .get(uri)
            .and_then(|route| route.get(&(method, status)));
        if let Some(timer) = timer {
            return timer.record(took);
        }
        drop(routes);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes
            .entry(uri.to_owned())
            .or_default()
            .entry((method, status))
            .or_insert_with(|| timer_of(method, uri, status))
            .record(took);
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

//! Whether the host can serve, and what keeps it from it, in the shape of Spring's Actuator.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json as Reply, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::App;
use crate::backend::{BackendError, System};

/// How long a backend may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/actuator/health", get(health))
        .route("/actuator/health/readiness", get(health))
        .route(
            "/actuator/health/liveness",
            get(async || Reply(json!({ "status": "UP" }))),
        )
}

/// A backend, and whether it answers.
struct Probed {
    system: System,
    implementation: &'static str,
    up: bool,
}

impl Probed {
    const fn component(&self) -> &'static str {
        match self.system {
            System::Database => "db",
            System::Redis => "redis",
            System::Kafka => "kafka",
        }
    }

    fn body(&self) -> Value {
        // Spring's name for it, which dashboards know.
        let key = match self.system {
            System::Database => "database",
            System::Redis | System::Kafka => "implementation",
        };
        json!({ "status": status(self.up), "details": { key: self.implementation } })
    }
}

/// Every component by itself; UP as a whole while the database answers and at least one strategy has all that it needs.
async fn health(State(app): State<App>) -> Response {
    let backends = &app.backends;
    let (database, redis, kafka) = tokio::join!(
        answers(backends.database.ping()),
        answers(backends.redis.ping()),
        answers(backends.kafka.ping()),
    );
    let probed = [
        (System::Database, backends.database.name(), database),
        (System::Redis, backends.redis.name(), redis),
        (System::Kafka, backends.kafka.name(), kafka),
    ]
    .map(|(system, implementation, up)| Probed {
        system,
        implementation,
        up,
    });
    let mut serving = false;
    let strategies: BTreeMap<&str, Value> = app
        .registry
        .all()
        .map(|strategy| {
            let missing: Vec<&str> = probed
                .iter()
                .filter(|probed| !probed.up && strategy.live.needs.contains(&probed.system))
                .map(Probed::component)
                .collect();
            serving |= missing.is_empty();
            let details = json!({
                "revision": strategy.live.id.0,
                "operation": strategy.operation,
                "down": missing,
            });
            let body = json!({ "status": status(missing.is_empty()), "details": details });
            (strategy.version().as_str(), body)
        })
        .collect();
    let ready = database && serving;
    let (code, state) = if app.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "OUT_OF_SERVICE")
    } else if ready {
        (StatusCode::OK, "UP")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "DOWN")
    };
    let mut components: BTreeMap<&str, Value> = probed
        .iter()
        .map(|probed| (probed.component(), probed.body()))
        .collect();
    components.insert(
        "strategies",
        json!({ "status": status(serving), "components": strategies }),
    );
    components.insert("livenessState", json!({ "status": "UP" }));
    components.insert("readinessState", json!({ "status": state }));
    let body = json!({
        "status": state,
        "components": components,
        "groups": ["liveness", "readiness"],
    });
    (code, Reply(body)).into_response()
}

const fn status(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

async fn answers(ping: impl Future<Output = Result<(), BackendError>>) -> bool {
    match tokio::time::timeout(PATIENCE, ping).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!("a backend does not answer: {error}");
            false
        }
        Err(_) => {
            tracing::warn!("a backend does not answer within {PATIENCE:?}");
            false
        }
    }
}

//! Whether the host can serve, and what keeps it from it, in the shape of Spring's Actuator.

use std::collections::BTreeMap;

use axum::{
    Json as Reply, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::App;
use crate::{
    backend::{System, probe::Probed},
    strategy::slots::Selling,
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/actuator/health", get(health))
        .route("/actuator/health/readiness", get(health))
        .route(
            "/actuator/health/liveness",
            get(async || Reply(json!({ "status": "UP" }))),
        )
}

/// Every component by itself; UP as a whole while the database answers and at least one strategy has all that it needs.
async fn health(State(app): State<App>) -> Response {
    let (code, body) = look(&app).await;
    (code, Reply(body)).into_response()
}

/// What is answered to who asks for health, for the status page too.
pub(super) async fn look(app: &App) -> (StatusCode, Value) {
    let probed = app.backends.probe().await;
    let mut serving = false;
    let strategies = app.rollout.registry.all();
    let strategies: BTreeMap<&str, Value> = strategies
        .iter()
        .map(|strategy| (strategy, strategy.slots()))
        .filter(|(_, slots)| slots.selling != Selling::Retired)
        .map(|(strategy, slots)| {
            let missing: Vec<&str> = probed
                .iter()
                .filter(|probed| !probed.up && slots.live.needs.contains(&probed.system))
                .map(|probed| probed.system.label())
                .collect();
            let enabled = slots.selling == Selling::Open;
            serving |= enabled && missing.is_empty();
            let details = json!({
                "revision": slots.live.id.0,
                "enabled": enabled,
                "operation": strategy.operation,
                "down": missing,
            });
            // One that operators switched off is as they want it.
            let state = if enabled {
                status(missing.is_empty())
            } else {
                "OUT_OF_SERVICE"
            };
            let body = json!({ "status": state, "details": details });
            (strategy.version.as_str(), body)
        })
        .collect();
    let database = |probed: &Probed| probed.system == System::Database && probed.up;
    let ready = probed.iter().any(database) && serving;
    let (code, state) = if app.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "OUT_OF_SERVICE")
    } else if ready {
        (StatusCode::OK, "UP")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "DOWN")
    };
    let mut components: BTreeMap<&str, Value> = probed
        .iter()
        .map(|probed| (probed.system.label(), component(probed)))
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
    (code, body)
}

fn component(probed: &Probed) -> Value {
    // Spring's name for it, which dashboards know.
    let key = match probed.system {
        System::Database => "database",
        System::Redis | System::Kafka => "implementation",
    };
    json!({ "status": status(probed.up), "details": { key: probed.implementation } })
}

const fn status(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

//! What became of accepted requests.
//!
//! The database knows what is final, the log what is pending; a request that neither knows can no longer come to anything.

use axum::{Json as Reply, extract::State};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, Path, Query,
    error::{Code, Problem, ProblemBody},
};
use crate::domain::{Decision, Refusal, RequestId};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(result))
}

/// Where a request stands.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ResultStatus {
    /// It waits to be settled.
    Pending,
    /// It has its order.
    Success,
    /// It will never have one.
    Fail,
}

/// What became of a request.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ResultReply {
    request_id: String,
    status: ResultStatus,
    /// 1 is next; null when final.
    queue_position: Option<u64>,
    /// Requests that wait; null when final.
    total_waiting: Option<u64>,
    /// Set on success.
    order_id: Option<i64>,
    /// Set on failure: one of the problem codes.
    reason: Option<&'static str>,
}

impl ResultReply {
    fn is(request: RequestId, status: ResultStatus) -> Self {
        Self {
            request_id: request.0.into(),
            status,
            queue_position: None,
            total_waiting: None,
            order_id: None,
            reason: None,
        }
    }
}

/// What a result's Location says beside the request.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ResultQuery {
    /// The request's place in the log, as its Location gave it; without it, or where it is another, the place is searched for.
    place: Option<String>,
}

/// Tells what became of a request.
#[utoipa::path(get, path = "/api/{v}/time-sales/purchase/result/{timeSaleId}/{requestId}", tag = "purchases",
    params(
        ("v" = String, Path, description = "Any version", example = "v3"),
        ("timeSaleId" = i64, Path),
        ("requestId" = String, Path),
        ResultQuery,
    ),
    responses(
        (status = 200, body = ResultReply),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown or forged", body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn result(
    State(app): State<App>,
    Path((_, sale_id, text)): Path<(String, i64, String)>,
    Query(query): Query<ResultQuery>,
) -> Result<Reply<ResultReply>, Problem> {
    let request = app
        .ticket_keys
        .get()
        .verify(sale_id, &text)
        .ok_or_else(|| Problem::new(Code::NotFound, "there is no such request"))?;
    if let Some(decision) = decision(&app, &request).await? {
        return Ok(Reply(final_result(request, decision)));
    }
    // A place that is not the request's would tell what became of another.
    let place = query
        .place
        .and_then(|it| app.ticket_keys.get().verify_place(&request, &it));
    if let Some((position, total)) = app.backends.standing(&request, place).await? {
        let mut pending = ResultReply::is(request, ResultStatus::Pending);
        pending.queue_position = Some(position);
        pending.total_waiting = Some(total);
        return Ok(Reply(pending));
    }
    // Not waiting any more: it was settled since the first look, or its result can no longer come.
    match decision(&app, &request).await? {
        Some(decision) => Ok(Reply(final_result(request, decision))),
        None => {
            let mut lost = ResultReply::is(request, ResultStatus::Fail);
            lost.reason = Some(Refusal::StrategyFailed.code());
            Ok(Reply(lost))
        }
    }
}

async fn decision(app: &App, request: &RequestId) -> Result<Option<Decision>, Problem> {
    let found = app
        .backends
        .database
        .decisions(std::slice::from_ref(request))
        .await?;
    Ok(found.into_iter().next().flatten())
}

fn final_result(request: RequestId, decision: Decision) -> ResultReply {
    match decision {
        Decision::Ordered(order) => ResultReply {
            order_id: Some(order.id),
            ..ResultReply::is(request, ResultStatus::Success)
        },
        Decision::Refused(refusal) => ResultReply {
            reason: Some(refusal.code()),
            ..ResultReply::is(request, ResultStatus::Fail)
        },
    }
}

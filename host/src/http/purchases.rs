//! Purchases: taken in, handed to a strategy, answered from what was committed.
//!
//! A purchase with an idempotency key is looked up before anything else is asked, so that a buyer who was charged hears so whatever happened since.

use std::convert::Infallible;

use axum::{
    Extension, Json as Reply,
    extract::{self, FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, Arrival, Path,
    body::{self, Json},
    error::{Code, Problem, ProblemBody, overloaded, problem_of},
    no_strategy,
    results::ResultStatus,
};
use crate::{
    backend::database::{KeyRecord, KeyReply},
    capability::Hangup,
    domain::{Order, Request, RevisionId, SaleId, Ticket, Version},
    strategy::{
        Strategy,
        ending::Ending,
        slots::{Chosen, Selling},
    },
    ticket::key_id,
};

/// Where purchases are made.
pub(super) const PATH: &str = "/api/{v}/time-sales/{id}/purchase";

/// Characters of an idempotency key.
const KEY_MAX_CHARS: usize = 255;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const STRATEGY_VERSION: HeaderName = HeaderName::from_static("strategy-version");
const STRATEGY_REVISION: HeaderName = HeaderName::from_static("strategy-revision");

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(purchase))
}

/// A purchase to make.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct PurchaseBody {
    /// The buyer, above 0.
    #[schema(example = 42, minimum = 1)]
    #[serde(deserialize_with = "body::whole")]
    user_id: i64,
    /// Pieces, from 1 to the host's maximum.
    #[schema(example = 1, minimum = 1)]
    #[serde(deserialize_with = "body::whole")]
    quantity: u32,
}

/// An order that was placed while the buyer waited.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct OrderedReply {
    order_id: i64,
    request_id: String,
    time_sale_id: i64,
    user_id: i64,
    product_id: i64,
    quantity: u32,
    /// Price of one piece.
    discount_price: i64,
    purchased_at: Timestamp,
    /// Always null: nobody waits.
    total_waiting: Option<u64>,
}

/// A request that was accepted, to be settled later.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct AcceptedReply {
    request_id: String,
    status: ResultStatus,
    /// 1 is next.
    queue_position: u64,
    /// Requests that wait, this one among them.
    total_waiting: u64,
}

/// Buys.
#[utoipa::path(post, path = PATH, tag = "purchases", request_body = PurchaseBody,
    params(
        ("v" = String, Path, description = "The strategy that sells", example = "v1"),
        ("id" = i64, Path, description = "The sale"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters; the same key of the same user has one effect"),
    ),
    responses(
        (status = 201, description = "The order is committed", body = OrderedReply, headers(
            ("Strategy-Version" = String, description = "The version that sold"),
            ("Strategy-Revision" = String, description = "Its component: the first 12 hexadecimal digits of its SHA-256"),
            ("Idempotency-Replayed" = bool, description = "true where this repeats the first reply to the key"),
        )),
        (status = 202, description = "The request is durable and is settled later: ask at Location", body = AcceptedReply, headers(
            ("Location" = String, description = "Where its result is"),
            ("Retry-After" = u64, description = "Seconds after which to ask"),
            ("Strategy-Version" = String, description = "The version that accepted"),
            ("Strategy-Revision" = String, description = "Its component: the first 12 hexadecimal digits of its SHA-256"),
            ("Idempotency-Replayed" = bool, description = "true where this repeats the first reply to the key"),
        )),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "SOLD_OUT, NOT_OPEN, LIMIT_EXCEEDED, REJECTED or IN_PROGRESS", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "KEY_REUSED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "STRATEGY_FAILED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "BUSY, OVERLOADED or BACKEND_UNAVAILABLE, with a Retry-After that says when to ask again; or DISABLED", body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "DEADLINE", body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn purchase(
    State(app): State<App>,
    Extension(Arrival { at, hangup }): Extension<Arrival>,
    Path((v, sale_id)): Path<(String, i64)>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<PurchaseBody>,
) -> Result<Response, Problem> {
    let strategy = app.strategy(&v)?;
    if sale_id <= 0 {
        return Err(Problem::not_found("time sale", sale_id));
    }
    if body.user_id <= 0 {
        return Err(Problem::malformed("userId: must be above 0"));
    }
    if !(1..=app.limits.max_quantity).contains(&body.quantity) {
        let max = app.limits.max_quantity;
        return Err(Problem::malformed(format!(
            "quantity: must lie between 1 and {max}"
        )));
    }
    let key = key?.map(|key| key_id(body.user_id, &key));
    let chosen = strategy.choose(body.user_id);
    let request = Request {
        id: match &key {
            None => app.ticket_keys.get().random(sale_id, at),
            Some(key) => app.ticket_keys.get().derived(body.user_id, key, sale_id),
        },
        key,
        sale_id,
        user_id: body.user_id,
        quantity: body.quantity,
        accepted_at: at,
        version: strategy.version.clone(),
        revision: chosen.revision.id.clone(),
    };
    let call = Call {
        strategy,
        chosen: &chosen,
        hangup,
    };
    let answered = answer(&app, call, request).await;
    let response = answered.unwrap_or_else(|problem| {
        named(
            &strategy.version,
            &chosen.revision.id,
            problem.into_response(),
        )
    });
    Ok(response)
}

/// The reply to a purchase that is turned away before it is read; none where it has to be read.
///
/// What has a key is read: its buyer may have been charged already.
pub(super) fn turned_away(app: App, request: &extract::Request) -> Option<Response> {
    if request.method() != Method::POST || request.headers().contains_key(IDEMPOTENCY_KEY) {
        return None;
    }
    let strategy = app.strategy(version_asked(request.uri().path())?).ok()?;
    let chosen = strategy.turn_away()?;
    Some(named(
        &strategy.version,
        &chosen.revision.id,
        overloaded().into_response(),
    ))
}

/// The version in a path that is `PATH`'s.
fn version_asked(path: &str) -> Option<&str> {
    let (version, rest) = path.strip_prefix("/api/")?.split_once('/')?;
    let sale = rest
        .strip_prefix("time-sales/")?
        .strip_suffix("/purchase")?;
    let sale: SaleId = sale.parse().ok()?;
    (sale > 0).then_some(version)
}

/// What runs where no earlier reply is repeated.
struct Call<'a> {
    strategy: &'a Strategy,
    chosen: &'a Chosen,
    hangup: Hangup,
}

impl Call<'_> {
    /// Runs the strategy, unless it is switched off.
    async fn run(self, request: Request) -> Result<Ending, Problem> {
        match self.chosen.selling {
            Selling::Open => {}
            Selling::Disabled => {
                return Err(Problem::new(
                    Code::Disabled,
                    "the strategy version is switched off",
                ));
            }
            Selling::Retired => return Err(no_strategy(self.strategy.version.as_str())),
        }
        let Self {
            strategy,
            chosen,
            hangup,
        } = self;
        // On the heap: this is all that is large of a handler's future, which is moved some times before it runs.
        Ok(Box::pin(strategy.purchase(chosen, request, hangup)).await)
    }
}

/// Answers a purchase: with the first reply where its key had one, else with what the strategy makes of it.
async fn answer(app: &App, call: Call<'_>, request: Request) -> Result<Response, Problem> {
    let Some(key) = request.key else {
        return reply(app, &request.clone(), call.run(request).await?);
    };
    let in_progress = || {
        Problem::new(
            Code::InProgress,
            "a purchase with this Idempotency-Key is under way",
        )
    };
    let _guard = app.keys_in_flight.take(key).ok_or_else(in_progress)?;
    // What is sold out by now is sold to nobody after: then one look is enough.
    let was_sold_out = app.backends.sold_out.get(request.sale_id).is_some();
    if let Some(first) = app.backends.database.find_key(&key).await? {
        return replay(app, &request, first).await;
    }
    let ending = call.run(request.clone()).await?;
    // Another host may have sold with this key meanwhile, the last piece perhaps.
    let perhaps_sold = match &ending {
        Ending::Duplicate => true,
        Ending::Rejected(_) => !was_sold_out,
        _ => false,
    };
    if perhaps_sold && let Some(first) = app.backends.database.find_key(&key).await? {
        return replay(app, &request, first).await;
    }
    reply(app, &request, ending)
}

fn reply(app: &App, request: &Request, ending: Ending) -> Result<Response, Problem> {
    match ending {
        Ending::Completed(order) => Ok(ordered(order)),
        Ending::Accepted(ticket) => Ok(accepted(app, request, &ticket)),
        ending => Err(problem_of(&ending)),
    }
}

/// Repeats the first reply to a key.
async fn replay(app: &App, request: &Request, first: KeyRecord) -> Result<Response, Problem> {
    if (first.request.sale_id, first.request.quantity) != (request.sale_id, request.quantity) {
        return Err(Problem::new(
            Code::KeyReused,
            "Idempotency-Key: it was used for another sale or quantity",
        ));
    }
    let mut response = match first.reply {
        KeyReply::Ordered(order) => ordered(order),
        KeyReply::Accepted(Some(ticket)) => accepted(app, &first.request, &ticket),
        // The host stopped between the claim and its record: nobody knows whether the log has the request.
        // A second copy has no effect, so it is handed in again.
        KeyReply::Accepted(None) => {
            let ticket = app.backends.hand_in(&first.request).await?;
            accepted(app, &first.request, &ticket)
        }
    };
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn ordered(order: Order) -> Response {
    let body = OrderedReply {
        order_id: order.id,
        request_id: order.request_id.0.into(),
        time_sale_id: order.sale_id,
        user_id: order.user_id,
        product_id: order.product_id,
        quantity: order.quantity,
        discount_price: order.discount_price,
        purchased_at: order.created_at,
        total_waiting: None,
    };
    let response = (StatusCode::CREATED, Reply(body)).into_response();
    named(&order.version, &order.accepting_revision, response)
}

fn accepted(app: &App, request: &Request, ticket: &Ticket) -> Response {
    let body = AcceptedReply {
        request_id: request.id.to_string(),
        status: ResultStatus::Pending,
        queue_position: ticket.queue_position,
        total_waiting: ticket.total_waiting,
    };
    let location = format!(
        "/api/{}/time-sales/purchase/result/{}/{}?place={}",
        request.version,
        request.sale_id,
        request.id,
        app.ticket_keys.get().place(&request.id, ticket.place)
    );
    let mut response = (StatusCode::ACCEPTED, Reply(body)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    named(&request.version, &request.revision, response)
}

/// Names the version and revision that answered.
fn named(version: &Version, revision: &RevisionId, mut response: Response) -> Response {
    for (name, value) in [
        (STRATEGY_VERSION, version.as_str()),
        (STRATEGY_REVISION, &revision.0),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The key that a buyer gave the request, if any, or what is wrong with it: told in its turn, after what is wrong with the rest.
struct IdempotencyKey(Result<Option<String>, Problem>);

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        let key = idempotency_key(&parts.headers);
        Ok(Self(key.map(|key| key.map(str::to_owned))))
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let wrong = || Problem::malformed("Idempotency-Key: once, 1 to 255 visible ASCII characters");
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    let key = key.to_str().map_err(|_| wrong())?.trim();
    let fits = (1..=KEY_MAX_CHARS).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
        && given.next().is_none();
    if fits { Ok(Some(key)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::{PATH, version_asked};

    #[test]
    fn a_path_that_is_a_purchases_names_its_version() {
        let path = PATH.replace("{v}", "v7").replace("{id}", "42");
        assert_eq!(version_asked(&path), Some("v7"));
        for other in [
            "/api/v7/time-sales/0/purchase",
            "/api/v7/time-sales/-1/purchase",
            "/api/v7/time-sales/x/purchase",
            "/api/v7/time-sales/1/2/purchase",
            "/api/v7/time-sales/42/purchase/",
            "/api/v7/time-sales/42",
            "/api/v7/time-sales/purchase",
            "/api/v7",
            "/v7/time-sales/42/purchase",
            "",
        ] {
            assert_eq!(version_asked(other), None, "{other}");
        }
    }
}

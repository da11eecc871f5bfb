//! The ways in over HTTP: routes, the layer that every request passes, and what handlers share.
//!
//! Two listeners: the public one for buyers and sellers, the management one for health, metrics and operators.
//! Handlers parse into types, ask `strategy` or `backend`, and answer; nothing is decided here.

mod admin;
mod body;
mod error;
mod health;
mod keys;
mod management;
mod products;
mod purchases;
mod results;
mod sales;
mod status;

use std::{
    convert::Infallible,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Instant,
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use tokio_util::task::TaskTracker;
use tower::{Service, service_fn};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use self::error::{Code, Problem};
pub use self::keys::KeysInFlight;
use crate::{
    backend::Backends,
    capability::Hangup,
    config::Limits,
    domain,
    reconciler::Reconciler,
    secret::{Secret, Token},
    strategy::{Means, Strategy, rollout::Rollout, slots::Selling},
    telemetry::Telemetry,
    ticket::TicketKeys,
};

/// Bytes of a request's body.
const BODY_MAX_BYTES: usize = 64 << 10;

/// What every handler shares; it is there until the process ends, so that no request need be counted as its user.
pub type App = &'static Shared;

/// What every handler shares.
pub struct Shared {
    /// The strategies, and what is to run of them.
    pub rollout: Arc<Rollout>,
    /// The engine, for its figures.
    pub means: Arc<Means>,
    /// The backends, for what the host asks by itself.
    pub backends: Arc<Backends>,
    /// What it last found is shown at the scrape.
    pub reconciler: Arc<Reconciler>,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// Signs and verifies request ids.
    pub ticket_keys: Arc<Secret<TicketKeys>>,
    /// What sellers must show, if anything.
    pub seller_token: Option<Arc<Secret<Token>>>,
    /// What operators must show; without one nobody may change strategies.
    pub admin_token: Option<Arc<Secret<Token>>>,
    /// The folder for uploads.
    pub data_dir: PathBuf,
    /// The idempotency keys in use now.
    pub keys_in_flight: KeysInFlight,
    /// The requests under way.
    pub tasks: TaskTracker,
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// Set once the host stops taking requests.
    pub draining: AtomicBool,
}

impl Shared {
    /// The strategy of a version that was not removed.
    fn strategy(&self, version: &str) -> Result<&'static Strategy, Problem> {
        let strategy = self.rollout.registry.get(version);
        strategy
            .filter(|strategy| strategy.selling() != Selling::Retired)
            .ok_or_else(|| no_strategy(version))
    }

    /// Whether the host stops.
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "timesale",
    description = "Buys from flash sales, through the strategy that the path names. Every no is a problem (RFC 9457) with a stable `code`.",
))]
struct Interface;

/// The public interface.
///
/// Purchases for which there is no room are turned away before the router looks at them.
/// In a flood these are nearly all, and what they cost is missing to those who were let in.
pub fn public(
    app: App,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    // Left to the process, like what handlers share: who is turned away is not counted as its user.
    let router: &Router = Box::leak(Box::new(routes(app)));
    service_fn(move |request| async move {
        match purchases::turned_away(app, &request) {
            Some(response) => Ok(turn_away(app, request, response).await),
            None => router.clone().call(request).await,
        }
    })
}

/// Answers a request that nobody will read.
async fn turn_away(app: App, request: Request, response: Response) -> Response {
    let route = Route::Known(purchases::PATH);
    let timed = TimedRequest::begin(&app.telemetry, request.method(), route);
    // What comes next on the connection comes behind the body; where that does not come, the connection ends.
    let body = Limited::new(request.into_body(), BODY_MAX_BYTES).collect();
    let _ = tokio::time::timeout(app.limits.http_timeout(), body).await;
    timed.end(response.status().as_u16());
    response
}

fn routes(app: App) -> Router {
    let (router, interface) = OpenApiRouter::with_openapi(Interface::openapi())
        .merge(products::routes())
        .merge(sales::routes())
        .merge(purchases::routes())
        .merge(results::routes())
        .split_for_parts();
    let pages = SwaggerUi::new("/docs").url("/openapi.json", interface);
    router
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
        .merge(Router::from(pages).layer(middleware::map_response(explained)))
        .fallback(async || no_path())
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "the path does not take this method")
        })
        .layer(middleware::from_fn_with_state(app, in_a_task_of_its_own))
        .with_state(app)
}

fn no_path() -> Problem {
    Problem::new(Code::NotFound, "there is no such path")
}

/// The same, where the pages of documents would say nothing about a page that they lack.
async fn explained(response: Response) -> Response {
    match response.status() {
        StatusCode::NOT_FOUND => no_path().into_response(),
        _ => response,
    }
}

/// The management interface.
pub fn management(app: App) -> Router {
    management::routes(&app).with_state(app)
}

/// Runs the request in a task that a hang-up cannot drop, bounds how long the client waits and what it may send, and times it.
///
/// What is answered before it has to wait for anything needs no task: most refusals of a sold-out sale are.
/// When the client goes away this future is dropped, the guard sets the signal, and the task ends by itself where it is safe.
async fn in_a_task_of_its_own(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    let timed = TimedRequest::begin(&app.telemetry, request.method(), Route::of(&request));
    let hangup = Hangup::default();
    let guard = hangup.guard();
    let at = domain::now();
    request.extensions_mut().insert(Arrival { at, hangup });
    DefaultBodyLimit::max(BODY_MAX_BYTES).apply(&mut request);
    let mut handled = Box::pin(next.run(request));
    let answered = match begin(&mut handled).await {
        Poll::Ready(answered) => Ok(answered),
        Poll::Pending => {
            let task = app.tasks.spawn(handled);
            let answered = tokio::time::timeout(app.limits.http_timeout(), task).await;
            answered.map(|joined| joined.map_err(|error| error.to_string()))
        }
    };
    let response = match answered {
        Ok(Ok(response)) => {
            let _ = guard.disarm();
            response
        }
        Ok(Err(panic)) => {
            tracing::error!("a request was not handled to its end: {panic}");
            Problem::new(Code::Internal, "the host failed").into_response()
        }
        Err(_) => Problem::new(Code::Deadline, "the request took too long").into_response(),
    };
    timed.end(response.status().as_u16());
    response
}

/// Has a request go as far as it comes without waiting; a panic ends it, and nothing else.
async fn begin(
    handled: &mut (impl Future<Output = Response> + Unpin),
) -> Poll<Result<Response, String>> {
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *handled).poll(context)));
        Poll::Ready(match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err("it panicked".to_owned())),
        })
    })
    .await
}

/// What the layer knows of a request that handlers cannot.
#[derive(Clone)]
struct Arrival {
    /// When its head was read.
    at: Timestamp,
    /// Set when the client goes away.
    hangup: Hangup,
}

/// The status under which a request is recorded whose client went away: no client ever sees it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Records a request when it is dropped, answered or not.
struct TimedRequest<'a> {
    telemetry: &'a Telemetry,
    method: &'static str,
    route: Route,
    began: Instant,
    status: u16,
}

impl<'a> TimedRequest<'a> {
    fn begin(telemetry: &'a Telemetry, method: &Method, route: Route) -> Self {
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::HEAD => "HEAD",
            _ => "OTHER",
        };
        Self {
            telemetry,
            method,
            route,
            began: Instant::now(),
            status: CLIENT_CLOSED_REQUEST,
        }
    }

    fn end(mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for TimedRequest<'_> {
    fn drop(&mut self) {
        let uri = match &self.route {
            Route::Found(path) => path.as_str(),
            Route::Known(path) => path,
        };
        let took = self.began.elapsed();
        self.telemetry
            .http
            .record(self.method, uri, self.status, took);
    }
}

/// The template of a request's path, as the router found it or as is known without it.
enum Route {
    Found(MatchedPath),
    Known(&'static str),
}

impl Route {
    fn of(request: &Request) -> Self {
        let found = request.extensions().get().cloned();
        found.map_or(Self::Known("UNKNOWN"), Self::Found)
    }
}

/// The path's parameters, or the problem that says which is wrong.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
struct Path<T>(T);

/// The query, or the problem that says where it is wrong.
#[derive(FromRequestParts)]
#[from_request(via(axum_extra::extract::Query), rejection(Problem))]
struct Query<T>(T);

/// A caller who may write products and sales.
struct Seller;

impl FromRequestParts<App> for Seller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match &app.seller_token {
            Some(token)
                if !bearer(&parts.headers).is_some_and(|shown| token.get().matches(shown)) =>
            {
                Err(Problem::new(
                    Code::Unauthorized,
                    "Authorization: the sellers' bearer token is missing or wrong",
                ))
            }
            _ => Ok(Self),
        }
    }
}

fn no_strategy(version: &str) -> Problem {
    Problem::not_found("strategy version", version.escape_debug())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::{future::pending, task::Poll};

    use axum::{
        http::StatusCode,
        response::{IntoResponse as _, Response},
    };

    use super::begin;

    /// How far a request comes without waiting.
    async fn begun(handler: impl Future<Output = Response>) -> Poll<Result<StatusCode, String>> {
        let begun = begin(&mut Box::pin(handler)).await;
        begun.map(|answered| answered.map(|response| response.status()))
    }

    #[tokio::test]
    async fn a_request_goes_on_by_itself_until_it_has_to_wait() {
        let answered = begun(async { StatusCode::CONFLICT.into_response() }).await;
        assert_eq!(answered, Poll::Ready(Ok(StatusCode::CONFLICT)));
        assert_eq!(begun(pending()).await, Poll::Pending);
    }

    #[tokio::test]
    async fn a_panic_ends_a_request_and_nothing_else() {
        let panicked = begun(async { panic!("as a bug would") }).await;
        assert_eq!(panicked, Poll::Ready(Err("it panicked".to_owned())));
    }
}

//! Operators change what runs: components are pushed, tried, promoted, taken back, switched off and removed.
//!
//! On the management listener, and only with the operators' token, which is asked for before a body is read.
//! What a change means and whether it may be made is `strategy/rollout`'s; here it is only taken in and told of.

use std::time::Duration;

use axum::{
    Json as Reply, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
};

use super::{
    App, Path, Query, bearer,
    error::{Code, Problem},
    no_strategy,
};
use crate::{
    config::grants::as_json,
    desired::{Placed, Stored},
    domain::Version,
    strategy::{
        registry::COMPONENT_MAX_BYTES,
        rollout::{Action, Component, Outcome, Undone},
    },
};

/// How long an upload may take.
const UPLOAD_MAX: Duration = Duration::from_secs(30);
/// Lines of the audit that are shown where nothing else is asked for, and at most.
const AUDIT_SHOWN: (u32, u32) = (100, 1_000);
/// Who asks for a change, as the audit will name them.
const OPERATOR: HeaderName = HeaderName::from_static("operator");
const OPERATOR_MAX_CHARS: usize = 64;

pub(super) fn routes(app: &App) -> Router<App> {
    Router::new()
        .route("/admin/strategies", get(list))
        .route("/admin/strategies/{v}", get(show).put(push).delete(remove))
        .route("/admin/strategies/{v}/{action}", post(act))
        .route("/admin/audit", get(audit))
        .route_layer(middleware::from_fn_with_state(*app, authorized))
}

/// Lets nobody pass without the operators' token, and nobody at all where there is none.
async fn authorized(State(app): State<App>, request: Request, next: Next) -> Response {
    let uploads = request.method() == Method::PUT;
    let mut response = match authorize(&app, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if uploads && !response.status().is_success() {
        // What is left of the body is not read, and so nothing can follow it.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

fn authorize(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = &app.admin_token else {
        return Err(Problem::new(
            Code::NotFound,
            "the admin interface is off: it needs TIMESALE_ADMIN_TOKEN or TIMESALE_ADMIN_TOKEN_FILE",
        ));
    };
    if !bearer(headers).is_some_and(|shown| token.get().matches(shown)) {
        return Err(Problem::new(
            Code::Unauthorized,
            "Authorization: the operators' bearer token is missing or wrong",
        ));
    }
    Ok(())
}

async fn list(State(app): State<App>) -> Result<Reply<Value>, Problem> {
    let wishes = app.rollout.wishes().await?;
    let shown = shown(&app, &wishes).await?;
    Ok(Reply(
        json!({ "host": app.rollout.host, "strategies": shown }),
    ))
}

async fn show(State(app): State<App>, Path(v): Path<String>) -> Result<Reply<Value>, Problem> {
    let mut wishes = app.rollout.wishes().await?;
    wishes.retain(|stored| stored.version.as_str() == v);
    let shown = shown(&app, &wishes).await?;
    let one = shown.into_iter().next();
    one.map(Reply).ok_or_else(|| no_strategy(&v))
}

/// What is wanted of versions, and what each host makes of it.
async fn shown(app: &App, wishes: &[Stored]) -> Result<Vec<Value>, Problem> {
    let here = app.rollout.running();
    let others = app.rollout.other_hosts().await?;
    let slot = |placed: &Placed| {
        json!({
            "revision": placed.digest.revision(),
            "digest": placed.digest,
            "since": placed.since,
            "by": placed.by,
        })
    };
    let shown = wishes.iter().map(|stored| {
        let (version, desired) = (stored.version.as_str(), &stored.desired);
        let mut hosts = vec![json!({
            "host": app.rollout.host,
            "runs": here.get(version),
        })];
        hosts.extend(others.iter().map(|other| {
            json!({
                "host": other.host,
                "seenAt": other.seen_at,
                "runs": other.report.get(version),
            })
        }));
        let candidate = desired.candidate.as_ref();
        let share = candidate.map(|candidate| candidate.share);
        let candidate = candidate.map(|candidate| slot(&candidate.placed));
        json!({
            "version": version,
            "operation": desired.operation,
            "epoch": stored.epoch,
            "enabled": desired.enabled,
            "removed": desired.retired,
            "live": slot(&desired.live),
            "candidate": candidate,
            "share": share,
            "grants": as_json(&desired.grants),
            "kept": desired.kept.iter().map(slot).collect::<Vec<_>>(),
            "hosts": hosts,
        })
    });
    Ok(shown.collect())
}

/// How a component is pushed.
///
/// A share that is left empty, or another word in its place, is no push to everybody.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PushQuery {
    /// The share of the purchases that it gets as a candidate, in percent.
    #[serde(default, deserialize_with = "given")]
    share: Option<u8>,
}

fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    u8::deserialize(from).map(Some)
}

async fn push(
    State(app): State<App>,
    Path(v): Path<String>,
    Query(PushQuery { share }): Query<PushQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Reply<Outcome>, Problem> {
    let version = version_named(&v)?;
    if share.is_some_and(|share| !(1..=99).contains(&share)) {
        return Err(Problem::malformed("share: a percentage from 1 to 99"));
    }
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > COMPONENT_MAX_BYTES) {
        return Err(too_large());
    }
    let by = operator(&headers)?;
    let under_way = app.rollout.upload(&version).await?;
    let bytes = tokio::time::timeout(UPLOAD_MAX, upload(&app, body))
        .await
        .map_err(|_| {
            Problem::new(
                Code::TooSlow,
                format!("the component did not come in {UPLOAD_MAX:?}"),
            )
        })??;
    let turn = app.rollout.turn(&version).await?;
    drop(under_way);
    let component = Component {
        bytes,
        share,
        from_folder: false,
    };
    let rollout = app.rollout.clone();
    in_a_task_of_its_own(&app, async move {
        rollout.push(turn, &version, component, &by).await
    })
    .await
}

async fn remove(
    State(app): State<App>,
    Path(v): Path<String>,
    headers: HeaderMap,
) -> Result<Reply<Outcome>, Problem> {
    change(&app, &v, Action::Remove, &headers).await
}

async fn act(
    State(app): State<App>,
    Path((v, action)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Reply<Outcome>, Problem> {
    let named = [
        Action::Promote,
        Action::Abort,
        Action::Rollback,
        Action::Disable,
        Action::Enable,
    ]
    .into_iter()
    .find(|known| known.name() == action)
    .ok_or_else(|| Problem::not_found("action", action.escape_debug()))?;
    change(&app, &v, named, &headers).await
}

async fn change(
    app: &App,
    v: &str,
    action: Action,
    headers: &HeaderMap,
) -> Result<Reply<Outcome>, Problem> {
    // A name that nobody knows gets no turn, which would be kept.
    let version = Version::parse(v).filter(|version| app.rollout.knows(version));
    let version = version.ok_or_else(|| no_strategy(v))?;
    let by = operator(headers)?;
    let turn = app.rollout.turn(&version).await?;
    let rollout = app.rollout.clone();
    in_a_task_of_its_own(app, async move {
        rollout.act(turn, &version, action, &by).await
    })
    .await
}

/// Makes a change that a hang-up does not stop half-way, and waits until the old revision has drained.
async fn in_a_task_of_its_own(
    app: &App,
    change: impl Future<Output = Result<Outcome, Undone>> + Send + 'static,
) -> Result<Reply<Outcome>, Problem> {
    let wait = app.limits.http_timeout();
    let task = app.tasks.spawn(async move {
        let mut outcome = change.await?;
        outcome.drain(wait).await;
        Ok::<_, Undone>(outcome)
    });
    match task.await {
        Ok(changed) => Ok(Reply(changed?)),
        Err(panic) => {
            tracing::error!("a change's task did not end well: {panic}");
            Err(Problem::new(Code::Internal, "the host failed"))
        }
    }
}

/// Takes a body in by way of the disk, so that slow uploads take no memory; the file has no name, and goes with the process.
async fn upload(app: &App, mut body: Body) -> Result<Vec<u8>, Problem> {
    let failed = |error: std::io::Error| {
        tracing::error!("an upload was not kept: {error}");
        Problem::new(Code::Internal, "the host failed")
    };
    let folder = app.data_dir.clone();
    let file = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        tempfile::tempfile_in(&folder)
    });
    let file = file.await.map_err(std::io::Error::other).map_err(failed)?;
    let mut file = File::from_std(file.map_err(failed)?);
    let mut size = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::malformed(format!("the body: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size = size.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if size > COMPONENT_MAX_BYTES {
            return Err(too_large());
        }
        file.write_all(&data).await.map_err(failed)?;
    }
    file.rewind().await.map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}

fn too_large() -> Problem {
    Problem::new(
        Code::TooLarge,
        format!("a component may have {COMPONENT_MAX_BYTES} bytes"),
    )
}

/// Who asks: what the header says, for the token is the same for all.
fn operator(headers: &HeaderMap) -> Result<String, Problem> {
    let name = headers.get(OPERATOR).map_or(&[][..], HeaderValue::as_bytes);
    let name = str::from_utf8(name).map(str::trim);
    match name {
        Ok("") => Ok("an operator".to_owned()),
        Ok(name) if name.chars().count() <= OPERATOR_MAX_CHARS => Ok(name.to_owned()),
        _ => Err(Problem::malformed(format!(
            "Operator: at most {OPERATOR_MAX_CHARS} characters of UTF-8"
        ))),
    }
}

/// Which lines of the audit.
#[derive(Deserialize)]
struct AuditQuery {
    /// Of this version alone.
    version: Option<String>,
    /// At most so many.
    limit: Option<u32>,
}

async fn audit(
    State(app): State<App>,
    Query(AuditQuery { version, limit }): Query<AuditQuery>,
) -> Result<Reply<Value>, Problem> {
    let (usual, most) = AUDIT_SHOWN;
    let limit = limit.unwrap_or(usual).min(most);
    let version = version.as_deref().map(version_named).transpose()?;
    let version = version.as_ref().map(Version::as_str);
    let lines = app.rollout.audit(version, limit).await?;
    Ok(Reply(json!({ "lines": lines })))
}

fn version_named(name: &str) -> Result<Version, Problem> {
    Version::parse(name).ok_or_else(|| Problem::malformed("the version: [a-z][a-z0-9-]{0,31}"))
}

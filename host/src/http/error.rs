//! The kinds of no that clients meet, as RFC 9457 problems with a stable code.
//!
//! Text from inside the host is logged and never sent.

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use axum_extra::extract::QueryRejection;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    backend::BackendError,
    domain::Rejection,
    strategy::{ending::Ending, revision::Broken, rollout::Undone},
    telemetry::labels::ErrorKind,
};

/// The stable codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// 400: the request is not of the form that the interface describes.
    Malformed,
    /// 401: the token that is asked for is missing or wrong.
    Unauthorized,
    /// 404: there is no such thing.
    NotFound,
    /// 405: the path does not take this method.
    MethodNotAllowed,
    /// 409: fewer pieces are left than were asked for.
    SoldOut,
    /// 409: the request came before or after the sale's window.
    NotOpen,
    /// 409: over the sale's limit per user.
    LimitExceeded,
    /// 409: the strategy has a no of its own.
    Rejected,
    /// 408: the body did not come in time.
    TooSlow,
    /// 409: a purchase with this key, or a change of this version, is under way.
    InProgress,
    /// 409: what is asked for does not follow from what there is.
    Unfit,
    /// 413: the body is too large.
    TooLarge,
    /// 422: the key was used for another sale or quantity.
    KeyReused,
    /// 422: the component was refused.
    Refused,
    /// 500: the strategy broke.
    StrategyFailed,
    /// 500: the host broke.
    Internal,
    /// 503: a lock was not had in time.
    Busy,
    /// 503: there is no room for the request now.
    Overloaded,
    /// 503: a backend is away.
    BackendUnavailable,
    /// 503: operators switched the version off.
    Disabled,
    /// 504: it took too long.
    Deadline,
}

impl Code {
    const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::SoldOut
            | Self::NotOpen
            | Self::LimitExceeded
            | Self::Rejected
            | Self::InProgress
            | Self::Unfit => StatusCode::CONFLICT,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::KeyReused | Self::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::StrategyFailed | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy | Self::Overloaded | Self::BackendUnavailable | Self::Disabled => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Seconds after which the same request may fare better.
    const fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::InProgress | Self::Busy | Self::Overloaded | Self::BackendUnavailable => {
                Some("1")
            }
            _ => None,
        }
    }
}

/// A no, with what is wrong and where.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    more: Option<Value>,
}

/// A problem as it is sent.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ProblemBody {
    /// Names the kind of problem.
    #[schema(example = "urn:timesale:problem:SOLD_OUT")]
    r#type: String,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, and where.
    detail: String,
    /// The stable code.
    code: Code,
    /// Members of its own.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    more: Option<Value>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            more: None,
        }
    }

    /// The same with members of its own, which must be an object.
    pub fn with(self, more: Value) -> Self {
        Self {
            more: Some(more),
            ..self
        }
    }

    /// A field or parameter that is not as it must be.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::Malformed, detail)
    }

    /// A thing that is not there.
    pub fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {id}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let name = serde_json::to_value(self.code).ok();
        let name = name
            .as_ref()
            .and_then(|name| name.as_str())
            .unwrap_or_default();
        let body = ProblemBody {
            r#type: format!("urn:timesale:problem:{name}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code,
            more: self.more,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.code.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            _ => Code::Malformed,
        };
        Self::new(code, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        tracing::warn!("a backend failed: {error}");
        match error {
            BackendError::LockTimeout { .. } | BackendError::LockLost => {
                Self::new(Code::Busy, "a lock was not had in time")
            }
            BackendError::Full { .. } => Self::new(Code::Overloaded, "there is no room for it now"),
            BackendError::Unavailable { .. } => {
                Self::new(Code::BackendUnavailable, "a backend is away")
            }
            BackendError::Duplicate | BackendError::WrongValue { .. } => {
                Self::new(Code::Internal, "the host failed")
            }
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let (code, detail) = match rejection {
            Rejection::SoldOut => (Code::SoldOut, "fewer pieces are left than were asked for"),
            Rejection::NotOpen => (Code::NotOpen, "the sale is not open"),
            Rejection::LimitExceeded => (Code::LimitExceeded, "this is over the limit per user"),
            Rejection::SaleNotFound => (Code::NotFound, "there is no such sale"),
            Rejection::Other => (Code::Rejected, "the strategy refuses this purchase"),
        };
        Self::new(code, detail)
    }
}

impl From<Undone> for Problem {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Backend(error) => error.into(),
            Undone::Unknown(_) => Self::new(Code::NotFound, undone.to_string()),
            Undone::Busy => Self::new(Code::InProgress, undone.to_string()),
            Undone::Unfit(_) | Undone::Full(_) | Undone::Behind(_) => {
                Self::new(Code::Unfit, undone.to_string())
            }
            Undone::NotProven(refused) => Self::new(Code::Refused, refused.finding).with(json!({
                "step": refused.step,
                "probe": refused.probe,
            })),
        }
    }
}

/// The problem of a call that ended without an order or a ticket.
pub fn problem_of(ending: &Ending) -> Problem {
    match ending {
        Ending::Rejected(rejection) => (*rejection).into(),
        Ending::Duplicate => Problem::new(Code::InProgress, "this purchase is under way elsewhere"),
        Ending::Failed(kind) => failed(*kind),
        Ending::Broken(Broken::TimedOut | Broken::Cancelled) => Problem::new(
            Code::Deadline,
            "the purchase took too long; the same Idempotency-Key, if it had one, tells what became of it",
        ),
        Ending::Broken(Broken::Overloaded) => overloaded(),
        Ending::Broken(Broken::Trapped | Broken::OutOfMemory | Broken::HostCalls)
        | Ending::Completed(_)
        | Ending::Accepted(_) => Problem::new(Code::StrategyFailed, "the strategy failed"),
    }
}

fn failed(kind: ErrorKind) -> Problem {
    match kind {
        ErrorKind::LockAcquisition | ErrorKind::LockLost | ErrorKind::RowLock => {
            Problem::new(Code::Busy, "a lock was not had in time")
        }
        ErrorKind::Database | ErrorKind::Redis | ErrorKind::Kafka => {
            Problem::new(Code::BackendUnavailable, "a backend is away")
        }
        ErrorKind::QueueFull | ErrorKind::Overload => overloaded(),
        ErrorKind::Deadline | ErrorKind::Cancelled => {
            Problem::new(Code::Deadline, "the purchase took too long")
        }
        ErrorKind::Trap | ErrorKind::Memory | ErrorKind::Budget | ErrorKind::Strategy => {
            Problem::new(Code::StrategyFailed, "the strategy failed")
        }
    }
}

/// The problem of a purchase for which there is no room.
pub fn overloaded() -> Problem {
    Problem::new(Code::Overloaded, "there is no room for the purchase now")
}

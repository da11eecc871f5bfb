//! What calls became: judged by what was committed or acknowledged first, and by what the guest says only after.

use super::revision::{Answer, Broken, Ran};
use crate::{
    backend::Backends,
    capability::{Effect, bindings::timesale::strategy::types},
    domain::{Decision, Order, Refusal, Rejection, Request, Ticket},
    telemetry::labels::{ErrorKind, Outcome, Reason},
};

/// Writes a line to the log with the request that it is about.
macro_rules! tell {
    ($level:ident, $request:expr, $($text:tt)+) => {{
        let request: Option<&Request> = $request;
        tracing::$level!(
            version = request.map(|request| request.version.as_str()),
            revision = request.map(|request| request.revision.0.as_str()),
            request.id = request.map(|request| request.id.0.as_str()),
            $($text)+
        )
    }};
}

/// What became of a purchase call.
#[derive(Debug)]
pub enum Ending {
    /// The order is committed.
    Completed(Order),
    /// The log has the request.
    Accepted(Ticket),
    /// A business no.
    Rejected(Rejection),
    /// Another call had decided the request or its key.
    Duplicate,
    /// The strategy or a backend failed.
    Failed(ErrorKind),
    /// The guest did not come to an answer.
    Broken(Broken),
}

/// What became of one request of a settle call.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Its final state is committed.
    Final(Decision),
    /// The strategy refused it, which is to be made final.
    Refuse(Refusal),
    /// A backend failed: it is to be tried again.
    Retry,
    /// The strategy failed at it.
    Broken,
}

/// What a purchase became: first what was committed or acknowledged, and only then what the guest says.
pub(super) fn purchase_ending(ran: Ran) -> Ending {
    let effect = ran.effects.into_iter().next().unwrap_or_default();
    if let Some(order) = effect.order {
        return Ending::Completed(order);
    }
    if let Some(ticket) = effect.ticket {
        return Ending::Accepted(ticket);
    }
    if effect.duplicate {
        return Ending::Duplicate;
    }
    match &ran.answer {
        Err(broken) => Ending::Broken(*broken),
        Ok(Answer::Purchased(Err(types::Refusal::Rejected(rejection)))) => {
            match founded(ran.requests.first(), rejection, effect.rejection) {
                Some(rejection) => Ending::Rejected(rejection),
                None => Ending::Failed(ran.failure.unwrap_or(ErrorKind::Strategy)),
            }
        }
        Ok(Answer::Purchased(Err(types::Refusal::Failed(failure)))) => {
            let seen = ran.failure.unwrap_or(ErrorKind::Strategy);
            tell!(
                warn,
                ran.requests.first(),
                "the strategy failed ({}): {}",
                seen.label(),
                excerpt(&format!("{failure:?}"))
            );
            Ending::Failed(seen)
        }
        Ok(_) => {
            tell!(
                error,
                ran.requests.first(),
                "the strategy says that it sold, and there is no order"
            );
            Ending::Failed(ErrorKind::Strategy)
        }
    }
}

/// Asks the database about a refusal for which the guest asked nothing of it: a strategy's own cache refuses nobody.
pub(super) async fn confirm_refusal(ran: &mut Ran, backends: &Backends) {
    let refused = matches!(
        ran.answer,
        Ok(Answer::Purchased(Err(types::Refusal::Rejected(_))))
    );
    let ([request], [effect]) = (&*ran.requests, &mut *ran.effects) else {
        return;
    };
    if !refused || effect.rejection.is_some() {
        return;
    }
    match backends.find_sale(request.sale_id).await {
        Ok(sale) => effect.rejection = request.refused_by(sale.as_ref()),
        Err(error) => {
            tell!(warn, Some(request), "a refusal is not confirmed: {error}");
            ran.failure = Some(ErrorKind::Database);
        }
    }
}

pub(super) fn verdict(
    request: &Request,
    effect: &Effect,
    answer: Option<&Result<types::Order, types::Refusal>>,
    backend_failed: bool,
) -> Verdict {
    if let Some(order) = &effect.order {
        return Verdict::Final(Decision::Ordered(order.clone()));
    }
    if let Some(refusal) = effect.refusal {
        return Verdict::Final(Decision::Refused(refusal));
    }
    match answer {
        Some(Err(types::Refusal::Rejected(rejection))) => {
            match founded(Some(request), rejection, effect.rejection) {
                Some(rejection) => Verdict::Refuse(Refusal::Rejected(rejection)),
                None if backend_failed => Verdict::Retry,
                None => Verdict::Broken,
            }
        }
        _ if backend_failed => Verdict::Retry,
        _ => Verdict::Broken,
    }
}

/// The no that a client is told: the database's own, or one of a kind that only the strategy knows.
///
/// None where the strategy refuses and the database does not.
fn founded(
    request: Option<&Request>,
    said: &types::Rejection,
    found: Option<Rejection>,
) -> Option<Rejection> {
    match (said, found) {
        (types::Rejection::Other(text), _) => {
            tell!(
                info,
                request,
                "the strategy has a no of its own: {}",
                excerpt(text)
            );
            Some(Rejection::Other)
        }
        (_, Some(found)) => Some(found),
        (said, None) => {
            tell!(
                error,
                request,
                "the strategy refuses ({said:?}), and the database does not"
            );
            None
        }
    }
}

/// The beginning of what a guest says, fit for one line of the log.
pub(super) fn excerpt(text: &str) -> String {
    text.chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect()
}

pub(super) const fn reason(rejection: Rejection) -> Reason {
    match rejection {
        Rejection::SoldOut => Reason::SoldOut,
        Rejection::NotOpen => Reason::NotOpen,
        Rejection::LimitExceeded => Reason::LimitExceeded,
        Rejection::SaleNotFound => Reason::NotFound,
        Rejection::Other => Reason::Other,
    }
}

pub(super) const fn labels(ending: &Ending) -> (Outcome, Option<ErrorKind>) {
    match ending {
        Ending::Completed(_) => (Outcome::Completed, None),
        Ending::Accepted(_) => (Outcome::Accepted, None),
        Ending::Rejected(_) | Ending::Duplicate => (Outcome::Rejected, None),
        Ending::Failed(kind) => (Outcome::Failed, Some(*kind)),
        Ending::Broken(broken) => {
            let (outcome, error) = broken.labels();
            (outcome, Some(error))
        }
    }
}

/// Whether a failure is a backend's, which is retried, and not the strategy's.
pub(super) const fn is_backend(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Database
            | ErrorKind::Redis
            | ErrorKind::Kafka
            | ErrorKind::RowLock
            | ErrorKind::QueueFull
    )
}

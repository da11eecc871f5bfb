//! What a probed call became, and where its words and its deeds differ.
//!
//! Deeds count first, as in production (`strategy::ending`); but where production answers the buyer all the same, the probe finds fault.

use super::finding::{EXPORTS, Finding, of_conduct};
use crate::{
    capability::{
        Effect,
        bindings::{exports::timesale::strategy::purchasing::Outcome, timesale::strategy::types},
    },
    domain::{Order, Place, Refusal, Rejection, Request},
    strategy::{
        ending::{Verdict, excerpt, verdict},
        revision::{Answer, Broken, Ran},
    },
    telemetry::labels::ErrorKind,
};

/// What a purchase became.
#[derive(Debug, Clone, PartialEq)]
pub enum Became {
    /// Its order is committed.
    Ordered(Order),
    /// It is in the log.
    Accepted,
    /// It was refused.
    Refused(Rejection),
    /// Another call had decided it, or its key.
    Duplicate,
    /// It failed for want of time or of a lock, as may happen to anyone once.
    Busy,
    /// It failed.
    Failed,
}

/// What a purchase call became, and what is wrong with it.
///
/// Its effect holds the no that the database has, whether the guest asked for it or not.
pub fn purchase(ran: &Ran, host_calls_max: u32) -> (Became, Vec<Finding>) {
    let mut found = of_conduct(&ran.conduct, host_calls_max, ran.answer.is_ok());
    let untouched = Effect::default();
    let effect = ran.effects.first().unwrap_or(&untouched);
    if effect.order.is_some() && effect.ticket.is_some() {
        found.push(Finding::new(
            "a purchase is sold now or accepted for later",
            "it was both: an order was committed and the request submitted",
            EXPORTS,
        ));
    }
    let done = match effect {
        Effect {
            order: Some(order), ..
        } => Some(Became::Ordered(order.clone())),
        Effect {
            ticket: Some(_), ..
        } => Some(Became::Accepted),
        Effect {
            duplicate: true, ..
        } => Some(Became::Duplicate),
        _ => None,
    };
    let said = match &ran.answer {
        Ok(Answer::Purchased(said)) => said,
        Ok(_) => return (done.unwrap_or(Became::Failed), found),
        Err(Broken::TimedOut | Broken::Overloaded) => return (done.unwrap_or(Became::Busy), found),
        Err(broken) => {
            found.push(Finding::broken(*broken));
            return (done.unwrap_or(Became::Failed), found);
        }
    };
    found.extend(contradiction(said, effect));
    let became = done.unwrap_or_else(|| match said {
        Ok(_) => Became::Failed,
        Err(types::Refusal::Rejected(said)) => match no(said, effect.rejection) {
            Ok(rejection) => Became::Refused(rejection),
            Err(finding) => {
                found.push(finding);
                Became::Failed
            }
        },
        Err(types::Refusal::Failed(_)) if ran.failure.is_some_and(is_busy) => Became::Busy,
        Err(types::Refusal::Failed(failure)) => {
            let said = excerpt(&format!("{failure:?}"));
            found.push(Finding::gave_up(ran.failure, &said));
            Became::Failed
        }
    });
    (became, found)
}

/// What is to become of each request of a settle call, and what is wrong with the call.
pub fn settle(ran: &Ran, host_calls_max: u32) -> (Vec<Verdict>, Vec<Finding>) {
    let mut found = of_conduct(&ran.conduct, host_calls_max, ran.answer.is_ok());
    let answers: &[_] = match &ran.answer {
        Ok(Answer::Settled(answers)) => answers,
        Ok(_) | Err(Broken::TimedOut | Broken::Overloaded) => &[],
        Err(broken) => {
            found.push(Finding::broken(*broken));
            &[]
        }
    };
    if ran.answer.is_ok() && answers.len() != ran.requests.len() {
        found.push(Finding::new(
            format!(
                "`settle` answers once for each of {} requests",
                ran.requests.len()
            ),
            format!("it gave {} answers", answers.len()),
            EXPORTS,
        ));
    }
    let busy = match &ran.answer {
        Err(Broken::TimedOut | Broken::Overloaded) => true,
        _ => ran.failure.is_some_and(is_busy),
    };
    let mut verdicts = Vec::with_capacity(ran.requests.len());
    for (place, (request, effect)) in ran.requests.iter().zip(&ran.effects).enumerate() {
        let answer = answers.get(place);
        let verdict = verdict(request, effect, answer, busy);
        found.extend(answer.and_then(|said| settled_otherwise(said, effect)));
        if verdict == Verdict::Broken && found.is_empty() {
            let said = excerpt(&format!("{answer:?}"));
            found.push(Finding::new(
                "`settle` decides each request that its version accepted: an order or a founded no",
                format!(
                    "request {} of {} is undecided: {said}",
                    place + 1,
                    ran.requests.len()
                ),
                EXPORTS,
            ));
        }
        verdicts.push(verdict);
    }
    (verdicts, found)
}

/// The first request that was refused for want of stock though a later one of the same sale got as much: requests of a sale are settled in their order.
pub fn out_of_order(requests: &[Request], effects: &[Effect]) -> Option<Finding> {
    let settled: Vec<_> = requests.iter().zip(effects).collect();
    let (place, _) = settled
        .iter()
        .enumerate()
        .find(|(place, (request, effect))| {
            let overtaken = |(later, effect): &(&Request, &Effect)| {
                effect.order.is_some()
                    && later.sale_id == request.sale_id
                    && later.quantity >= request.quantity
            };
            is_sold_out(effect) && settled.iter().skip(*place).any(overtaken)
        })?;
    Some(Finding::new(
        "requests of a sale are settled in the order in which they were accepted",
        format!(
            "request {} of {} was refused for want of stock that a later one got",
            place + 1,
            settled.len()
        ),
        EXPORTS,
    ))
}

/// Where a purchase's answer is not what was done.
fn contradiction(said: &Result<Outcome, types::Refusal>, effect: &Effect) -> Option<Finding> {
    let finding =
        |expected: &str, happened: String| Some(Finding::new(expected, happened, EXPORTS));
    match (said, &effect.order, &effect.ticket) {
        (Ok(Outcome::Completed(said)), Some(order), _) if said.id == order.id.unsigned_abs() => {
            None
        }
        (Ok(Outcome::Completed(said)), Some(order), _) => finding(
            "`completed` carries the order that was committed",
            format!(
                "it says order {}, and order {} was committed",
                said.id, order.id
            ),
        ),
        (Ok(Outcome::Completed(said)), None, _) => finding(
            "`completed` means a committed order",
            format!("it says order {}, and nothing was committed", said.id),
        ),
        (Ok(Outcome::Accepted(said)), _, Some(ticket)) if is_place(said, ticket.place) => None,
        (Ok(Outcome::Accepted(said)), _, ticket) => finding(
            "`accepted` carries the ticket of a submitted request",
            format!("it says {said:?}, and the log has {ticket:?}"),
        ),
        (Err(said), Some(order), _) => finding(
            "a committed order is answered with `completed`",
            format!("it committed order {} and says {said:?}", order.id),
        ),
        (Err(said), None, Some(_)) => finding(
            "a submitted request is answered with `accepted`",
            format!("it submitted the request and says {said:?}"),
        ),
        (Err(_), None, None) => None,
    }
}

/// Where an answer of `settle` is not what was done for its request.
fn settled_otherwise(
    said: &Result<types::Order, types::Refusal>,
    effect: &Effect,
) -> Option<Finding> {
    let done = effect.order.as_ref().map(|order| order.id.unsigned_abs());
    let happened = match (said, done) {
        (Ok(said), Some(id)) if said.id == id => return None,
        (Ok(said), Some(id)) => {
            format!("it says order {}, and the request has order {id}", said.id)
        }
        (Ok(said), None) => format!("it says order {}, and the request has none", said.id),
        (Err(said), Some(id)) => format!("it says {said:?}, and the request has order {id}"),
        (Err(_), None) => return None,
    };
    Some(Finding::new(
        "`settle` answers for each request in its place with what was committed for it",
        happened,
        EXPORTS,
    ))
}

/// The no that a buyer is told, or what is wrong with it.
fn no(said: &types::Rejection, found: Option<Rejection>) -> Result<Rejection, Finding> {
    let said_as = match said {
        types::Rejection::SoldOut => Rejection::SoldOut,
        types::Rejection::NotOpen => Rejection::NotOpen,
        types::Rejection::LimitExceeded => Rejection::LimitExceeded,
        types::Rejection::SaleNotFound => Rejection::SaleNotFound,
        types::Rejection::Other(_) => Rejection::Other,
    };
    match found {
        Some(found) if found == said_as => Ok(found),
        _ if said_as == Rejection::Other => Ok(Rejection::Other),
        Some(found) => Err(Finding::new(
            format!(
                "a request that the database refuses as {} is refused so",
                found.code()
            ),
            format!("it was refused as {}", said_as.code()),
            EXPORTS,
        )),
        None => Err(Finding::new(
            "a request is refused only where the database refuses it",
            format!(
                "it was refused as {}, and the database sells to it",
                said_as.code()
            ),
            "plugins/README.md, Rules of the house: Redis holds copies",
        )),
    }
}

/// Whether a request of a settle call got no order because too little was left.
fn is_sold_out(effect: &Effect) -> bool {
    let refused = effect.refusal == Some(Refusal::Rejected(Rejection::SoldOut));
    effect.order.is_none() && (refused || effect.rejection == Some(Rejection::SoldOut))
}

fn is_place(said: &types::Ticket, place: Place) -> bool {
    (said.partition, said.offset) == (place.partition, place.offset)
}

/// Whether a failure is one that passes by itself.
const fn is_busy(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::LockAcquisition | ErrorKind::LockLost | ErrorKind::RowLock
    )
}

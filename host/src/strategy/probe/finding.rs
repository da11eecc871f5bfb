//! What the probe finds, in words that teach: what was expected, what happened, where to read on.

use std::fmt;

use serde::Serialize;

use crate::{
    capability::Conduct,
    domain::Rejection,
    strategy::revision::Broken,
    telemetry::labels::{ErrorKind, Function},
};

/// Where authors read about calls and their answers.
pub const EXPORTS: &str = "plugins/README.md, What it exports";
/// Where they read about the house's rules.
pub const HOUSE: &str = "plugins/README.md, Rules of the house";
/// Where they read about what bounds a call.
pub const LIMITS: &str = "plugins/README.md, Limits";
/// Where they read about the probe.
pub const PROBE: &str = "plugins/README.md, The probe";

/// A part of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// One buyer buys one piece.
    FirstBuyer,
    /// Window, stock, limit and an unknown sale, one buyer after the other.
    Rules,
    /// Requests and keys that come twice.
    AskedAgain,
    /// More buyers at once than there are pieces.
    Crowd,
    /// Requests that the live revision accepted.
    Inherited,
    /// The same purchases beside the live revision.
    Pace,
}

impl Stage {
    /// Every stage, in its order.
    pub const ALL: [Self; 6] = [
        Self::FirstBuyer,
        Self::Rules,
        Self::AskedAgain,
        Self::Crowd,
        Self::Inherited,
        Self::Pace,
    ];
}

/// Something that is wrong with a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The part of the probe in which it was seen.
    pub stage: Stage,
    /// What the contract wants.
    pub expected: String,
    /// What the candidate did.
    pub happened: String,
    /// Where to read on.
    pub see: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            happened,
            see,
            ..
        } = self;
        write!(f, "expected: {expected}; happened: {happened}; see {see}")
    }
}

impl Finding {
    /// A finding of the stage that notes it.
    pub fn new(
        expected: impl Into<String>,
        happened: impl Into<String>,
        see: &'static str,
    ) -> Self {
        Self {
            stage: Stage::FirstBuyer,
            expected: expected.into(),
            happened: happened.into(),
            see,
        }
    }

    /// The call did not come to an answer.
    pub fn broken(broken: Broken) -> Self {
        let happened = match broken {
            Broken::Trapped => "it trapped: the log says where",
            Broken::TimedOut => "the call's deadline or its transaction's hold passed",
            Broken::OutOfMemory => "it wanted more memory than a call may have",
            Broken::HostCalls => "it used up the host functions of a call",
            Broken::Overloaded => "the host had no instance free for it",
            Broken::Cancelled => "the probe's time was over, and it was still at work",
        };
        let see = match broken {
            Broken::Trapped => "plugins/README.md, When it panics",
            _ => LIMITS,
        };
        Self::new("a call returns an answer within its limits", happened, see)
    }

    /// A backend failed that serves nobody but the candidate.
    pub fn failing_backend(said: &str) -> Self {
        Self::new(
            "the scratch backends hold what a small sale needs: 64 MiB each",
            format!("one of them failed: {said}"),
            PROBE,
        )
    }

    /// The strategy failed, and nothing had failed under it.
    pub fn gave_up(kind: Option<ErrorKind>, said: &str) -> Self {
        let seen = kind.map_or("no host function failed", ErrorKind::label);
        Self::new(
            "a purchase fails only where its means fail",
            format!("it failed with {said} ({seen})"),
            EXPORTS,
        )
    }

    /// It asked the host for what the host never does.
    pub fn misuse(function: Function, rule: &str) -> Self {
        Self::new(
            "nothing is asked of the host that the contract rules out",
            format!("`{}` was refused: {rule}", name(function)),
            "plugins/README.md, What it may ask",
        )
    }

    /// It knew better than the sale.
    pub fn defiance(function: Function, told: Rejection) -> Self {
        Self::new(
            "a request that its sale refuses is refused without an attempt to sell",
            format!(
                "it was told {} and asked for `{}` all the same",
                told.code(),
                name(function)
            ),
            "plugins/README.md, Rules of the house: check first, with `rules::check`",
        )
    }
}

/// What is wrong with how a call behaved, whatever it answered.
///
/// `answered` says that the guest returned, and so could have given back what it held.
pub fn of_conduct(conduct: &Conduct, host_calls_max: u32, answered: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some((function, rule)) = &conduct.misuse {
        found.push(Finding::misuse(*function, rule));
    }
    if let Some((function, told)) = conduct.defiance {
        found.push(Finding::defiance(function, told));
    }
    if conduct.repeated {
        found.push(Finding::new(
            "a call sells each of its requests once",
            "it placed an order for a request that it had sold or submitted",
            HOUSE,
        ));
    }
    let used: u32 = conduct.host_calls().map(|(_, times)| times).sum();
    if used > host_calls_max / 2 {
        found.push(Finding::new(
            format!("a quiet sale takes at most half of the {host_calls_max} host functions that a call may use"),
            format!("one call used {used}"),
            LIMITS,
        ));
    }
    if answered && conduct.left_transaction {
        found.push(Finding::new(
            "a transaction is committed or dropped before the call returns",
            "the call returned with its transaction open",
            HOUSE,
        ));
    }
    if answered && conduct.left_locks > 0 {
        found.push(Finding::new(
            "a lock is released or dropped before the call returns",
            format!("the call returned with {} held", conduct.left_locks),
            HOUSE,
        ));
    }
    found
}

/// A host function as the metrics name it.
pub fn name(function: Function) -> String {
    let (capability, function) = function.labels();
    format!("{capability}.{function}")
}

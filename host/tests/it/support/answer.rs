//! What the host says: to any request, and to a purchase.

use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

/// An answer, whatever it is.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: header::HeaderMap,
    pub body: String,
}

impl Reply {
    pub async fn read(response: Response) -> Self {
        Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        }
    }

    /// The body, which must have this form.
    pub fn parsed<'a, T: Deserialize<'a>>(&'a self) -> T {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn json(&self) -> Value {
        self.parsed()
    }

    /// The problem, in the form that every problem has.
    pub fn problem(&self) -> Problem {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem: Problem = self.parsed();
        assert_eq!(problem.status, self.status, "{self:?}");
        assert_eq!(
            problem.r#type,
            format!("urn:timesale:problem:{}", problem.code)
        );
        assert_eq!(Some(problem.title.as_str()), self.status.canonical_reason());
        problem
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body of what was done or is there.
    pub fn done<'a, T: Deserialize<'a>>(&'a self) -> T {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.parsed()
    }

    /// The id of what was created.
    pub fn created(&self) -> u64 {
        assert_eq!(self.status, StatusCode::CREATED, "{self:?}");
        self.json()["id"].as_u64().unwrap()
    }
}

/// A problem as RFC 9457 has it, with the stable code.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    r#type: String,
    title: String,
    #[serde(deserialize_with = "status")]
    pub status: StatusCode,
    pub detail: String,
    pub code: String,
}

fn status<'de, D: serde::Deserializer<'de>>(number: D) -> Result<StatusCode, D::Error> {
    StatusCode::from_u16(u16::deserialize(number)?).map_err(serde::de::Error::custom)
}

/// What a purchase was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub outcome: Outcome,
    pub replayed: bool,
    pub version: Option<String>,
    pub revision: Option<String>,
    pub location: Option<String>,
    pub retry_after: Option<String>,
    /// How an accepted request stands, where it was waited for.
    pub standing: Option<Standing>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Completed(Order),
    Accepted(Ticket),
    Refused(Problem),
}

/// A body of 201.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    pub order_id: u64,
    pub request_id: String,
    pub time_sale_id: u64,
    pub user_id: u64,
    pub product_id: u64,
    pub quantity: u64,
    pub discount_price: i64,
    pub purchased_at: String,
    pub total_waiting: Option<u64>,
}

/// A body of 202.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ticket {
    pub request_id: String,
    pub status: String,
    pub queue_position: u64,
    pub total_waiting: u64,
}

/// What became of an accepted request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Standing {
    pub request_id: String,
    pub status: String,
    pub queue_position: Option<u64>,
    pub total_waiting: Option<u64>,
    pub order_id: Option<u64>,
    pub reason: Option<String>,
}

impl Answer {
    pub fn of(reply: &Reply) -> Self {
        let owned = |name| reply.header(name).map(str::to_owned);
        Self {
            outcome: match reply.status {
                StatusCode::CREATED => Outcome::Completed(reply.parsed()),
                StatusCode::ACCEPTED => Outcome::Accepted(reply.parsed()),
                _ => Outcome::Refused(reply.problem()),
            },
            replayed: reply.header("idempotency-replayed") == Some("true"),
            version: owned("strategy-version"),
            revision: owned("strategy-revision"),
            location: owned("location"),
            retry_after: owned("retry-after"),
            standing: None,
        }
    }

    /// The id of the order that it ended in; fails where there is none.
    pub fn order_id(&self) -> u64 {
        match (&self.outcome, &self.standing) {
            (Outcome::Completed(order), _) => order.order_id,
            (
                Outcome::Accepted(_),
                Some(Standing {
                    order_id: Some(id), ..
                }),
            ) => *id,
            _ => panic!("no order: {self:#?}"),
        }
    }

    /// The id of the request, where the answer names it.
    pub fn request_id(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Completed(order) => Some(&order.request_id),
            Outcome::Accepted(ticket) => Some(&ticket.request_id),
            Outcome::Refused(_) => None,
        }
    }

    /// Status and code of an answer: `201`, `202` or, say, `409 SOLD_OUT`.
    pub fn brief(&self) -> String {
        match &self.outcome {
            Outcome::Completed(_) => "201".to_owned(),
            Outcome::Accepted(_) => "202".to_owned(),
            Outcome::Refused(problem) => format!("{} {}", problem.status.as_u16(), problem.code),
        }
    }

    /// Why there is and will be no order: the code of the problem or of the result.
    pub fn refusal(&self) -> Option<&str> {
        match (&self.outcome, &self.standing) {
            (Outcome::Refused(problem), _) => Some(&problem.code),
            (_, Some(standing)) => standing.reason.as_deref(),
            _ => None,
        }
    }
}

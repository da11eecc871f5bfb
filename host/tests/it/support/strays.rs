//! Records that no host wrote: rubbish, records of other times, requests that nobody may have.

use serde_json::json;

use super::{ASYNCHRONOUS, topic::Message};

/// A record that the host did not write, and what it must come to.
pub struct Stray {
    pub what: &'static str,
    pub message: Message,
    /// Why it is among the dead letters.
    pub buried: Option<&'static str>,
    /// The request that it may carry, and what becomes of that.
    pub request: String,
    pub end: Option<&'static str>,
}

/// A request that is as the host would write it, accepted in the year 2020.
struct Template {
    sale: i64,
    number: u64,
}

impl Template {
    fn request(&self) -> String {
        format!("{:064x}", self.number)
    }

    fn message(&self) -> Message {
        let value = json!({
            "timeSaleId": self.sale,
            "userId": 1_000_000 + self.number,
            "quantity": 1,
            "requestId": self.request(),
        });
        let headers = [
            ("schema", "1"),
            ("version", ASYNCHRONOUS),
            ("revision", "0123456789ab"),
            ("acceptedAt", "2020-07-01T00:00:00Z"),
            ("requestId", &self.request()),
        ];
        Message {
            key: Some(self.sale.to_string().into_bytes()),
            value: Some(value.to_string().into_bytes()),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                .into(),
        }
    }
}

impl Message {
    fn with(mut self, header: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.retain(|(name, _)| name != header);
        self.headers
            .push((header.to_owned(), value.as_ref().to_vec()));
        self
    }

    fn without(mut self, header: &str) -> Self {
        self.headers.retain(|(name, _)| name != header);
        self
    }

    fn saying(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.value = Some(value.into());
        self
    }

    fn telling(self, field: &str, fact: impl Into<serde_json::Value>) -> Self {
        let mut value: serde_json::Value =
            serde_json::from_slice(self.value.as_ref().unwrap()).unwrap();
        value[field] = fact.into();
        self.saying(value.to_string())
    }
}

/// Every kind of stray record: `sale` was open when they say that they were accepted, and is over.
pub fn strays(sale: u64) -> Vec<Stray> {
    let over = i64::try_from(sale).unwrap();
    let mut strays = Vec::new();
    let mut stray = |what, sale, change: &dyn Fn(Message) -> Message, buried, end| {
        let number = strays.len() as u64;
        let template = Template { sale, number };
        strays.push(Stray {
            what,
            message: change(template.message()),
            buried,
            request: template.request(),
            end,
        });
    };
    let malformed: [(_, &dyn Fn(Message) -> Message); 17] = [
        ("rubbish", &|it| it.saying(b"\x00\xff\xfe rubbish {")),
        ("nothing at all", &|_| Message::default()),
        ("rubbish alone", &|_| Message::default().saying(*b"\xff")),
        ("no headers", &|it| Message {
            headers: vec![],
            ..it
        }),
        ("no value", &|it| Message { value: None, ..it }),
        ("an empty value", &|it| it.saying(*b"")),
        ("another document", &|it| it.saying(*b"[1, 2]")),
        ("as long as can be", &|it| it.saying(vec![b'7'; 1_040_000])),
        ("a key as long", &|it| {
            Message {
                key: Some(vec![7; 1_040_000]),
                ..it
            }
            .saying(*b"")
        }),
        ("no schema", &|it| it.without("schema")),
        ("no acceptance", &|it| it.without("acceptedAt")),
        ("a strange acceptance", &|it| it.with("acceptedAt", "soon")),
        ("a strange version", &|it| it.with("version", "V 3!")),
        ("a strange revision", &|it| it.with("revision", "\0")),
        ("an id that no store takes", &|it| {
            it.telling("requestId", "a\0b")
        }),
        ("an id without end", &|it| {
            it.telling("requestId", "é".repeat(100_000))
        }),
        ("nobody's", &|it| it.telling("userId", 0)),
    ];
    for (what, change) in malformed {
        stray(what, over, change, Some("malformed"), None);
    }
    for (what, quantity) in [("none wanted", 0), ("fewer wanted", -1)] {
        let change = |it: Message| it.telling("quantity", quantity);
        stray(what, over, &change, Some("malformed"), None);
    }
    let later = |it: Message| it.with("schema", "2");
    stray("a later schema", over, &later, Some("unknown_schema"), None);
    let later = |it: Message| later(it).saying(*b"\x01\x02");
    stray("a later form", over, &later, Some("unknown_schema"), None);
    let gone = |it: Message| it.with("version", "v77");
    let failed = Some("STRATEGY_FAILED");
    stray(
        "a version that is not served",
        over,
        &gone,
        Some("unknown_version"),
        failed,
    );
    let as_it_is = |it: Message| it;
    for (what, sale) in [("a missing sale", i64::MAX), ("no sale", -1)] {
        stray(what, sale, &as_it_is, None, Some("NOT_FOUND"));
    }
    stray("accepted in time", over, &as_it_is, None, Some("SUCCESS"));
    for (what, moment) in [
        ("accepted at the end", "2021-01-01T00:00:00Z"),
        ("accepted before time began", "-009999-01-02T01:59:59Z"),
        ("accepted too early", "2019-12-31T14:59:59.999Z"),
    ] {
        let change = |it: Message| it.with("acceptedAt", moment);
        stray(what, over, &change, None, Some("NOT_OPEN"));
    }
    let last = |it: Message| it.with("acceptedAt", "2020-12-31T23:59:59.999Z");
    stray(
        "accepted at the last moment",
        over,
        &last,
        None,
        Some("SUCCESS"),
    );
    let greedy = |it: Message| it.telling("quantity", u32::MAX).telling("userId", i64::MAX);
    stray("more than there is", over, &greedy, None, Some("SOLD_OUT"));
    strays
}

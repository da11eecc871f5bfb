//! The shape of an accepted purchase in the log: what `Backends::accept` writes and `settlement` reads.
//!
//! The value is JSON of four facts; headers say who took it in, when, and in which shape.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::log::{NewRecord, Record};
use crate::{
    domain::{Request, RequestId, RevisionId, Version},
    telemetry::labels::DeadLetter,
};

/// The shape that this host writes, and the only one that it reads.
const SCHEMA: &str = "1";
/// Characters of an id at most; those of this host are shorter, and no store takes them at any length.
const ID_MAX: usize = 128;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    time_sale_id: i64,
    user_id: i64,
    quantity: u32,
    request_id: String,
}

/// Writes a request down; records of one sale share a key and so keep their order.
pub fn encode(request: &Request) -> Result<NewRecord, serde_json::Error> {
    let value = serde_json::to_vec(&Value {
        time_sale_id: request.sale_id,
        user_id: request.user_id,
        quantity: request.quantity,
        request_id: request.id.to_string(),
    })?;
    let headers = [
        ("schema", SCHEMA.to_owned()),
        ("version", request.version.to_string()),
        ("revision", request.revision.to_string()),
        ("acceptedAt", request.accepted_at.to_string()),
    ];
    Ok(NewRecord {
        key: request.sale_id.to_string().into_bytes(),
        value,
        headers: headers
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text.into_bytes()))
            .collect(),
        request_id: Some(request.id.clone()),
    })
}

/// Reads a request back; what cannot be read names its kind of dead letter.
pub fn decode(record: &Record) -> Result<Request, DeadLetter> {
    let header = |name: &str| {
        let (_, bytes) = record.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(bytes).ok()
    };
    match header("schema") {
        Some(SCHEMA) => {}
        Some(_) => return Err(DeadLetter::UnknownSchema),
        None => return Err(DeadLetter::Malformed),
    }
    let value: Value = serde_json::from_slice(&record.value).map_err(|_| DeadLetter::Malformed)?;
    let read = || {
        Some(Request {
            id: RequestId(storable(&value.request_id)?.into()),
            key: None,
            sale_id: value.time_sale_id,
            user_id: (value.user_id > 0).then_some(value.user_id)?,
            quantity: (value.quantity > 0).then_some(value.quantity)?,
            accepted_at: header("acceptedAt")?.parse::<Timestamp>().ok()?,
            version: Version::parse(header("version")?)?,
            revision: RevisionId(storable(header("revision")?)?.into()),
        })
    };
    read().ok_or(DeadLetter::Malformed)
}

/// An id that every store can keep: one that it refuses would hold up the line for ever.
fn storable(id: &str) -> Option<&str> {
    let plain = id.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && (1..=ID_MAX).contains(&id.len())).then_some(id)
}

//! Records as Kafka carries them.
//!
//! The request's id travels as a header, so that nobody has to understand the value to know whose it is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use super::DEAD_LETTER_PARTITION;
use crate::backend::log::{DEAD_LETTER_OFFSET, DEAD_LETTER_REASON, NewRecord, Record};
use crate::domain::{Place, RequestId};

/// Header of a request: its id.
const REQUEST_ID: &str = "requestId";
/// Bytes of a dead letter's value at most, and of all that is not its value: together less than producers send and brokers take by default.
const HALF_A_LETTER: usize = 450_000;
/// What a header takes beside its name and value, at most.
const HEADER_OVERHEAD: usize = 10;

/// The headers of a record to be sent.
pub fn headers(record: &NewRecord) -> OwnedHeaders {
    let id = record.request_id.as_ref();
    let id = id.map(|id| (REQUEST_ID, id.0.as_bytes()));
    let own = record.headers.iter();
    own.map(|(name, value)| (name.as_str(), value.as_slice()))
        .chain(id)
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
}

/// A record as a dead letter, with the reason.
///
/// What is too long to be sent again is cut: the whole stands at the place that the letter names.
pub fn letter(record: &Record, reason: &str) -> NewRecord {
    let mut letter = NewRecord {
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        request_id: record.request_id.clone(),
    };
    let id = record.request_id.as_ref().map_or(0, |id| id.0.len());
    let length = |(name, value): &(String, Vec<u8>)| name.len() + value.len() + HEADER_OVERHEAD;
    let headers: usize = record.headers.iter().map(length).sum();
    if id + headers + letter.key.len() > HALF_A_LETTER {
        letter.key.clear();
        letter.headers.clear();
        letter.request_id = None;
    }
    letter.value.truncate(HALF_A_LETTER);
    let Place { partition, offset } = record.place;
    for (name, value) in [
        (DEAD_LETTER_REASON, reason.to_owned()),
        (DEAD_LETTER_PARTITION, partition.to_string()),
        (DEAD_LETTER_OFFSET, offset.to_string()),
    ] {
        letter.headers.push((name.to_owned(), value.into_bytes()));
    }
    letter
}

/// The record of a message; none where its place makes no sense.
pub fn record(message: &BorrowedMessage<'_>) -> Option<Record> {
    let mut headers = Vec::new();
    let mut request_id = None;
    for header in message.headers().into_iter().flat_map(readable) {
        let value = header.value.unwrap_or_default();
        match std::str::from_utf8(value) {
            Ok(id) if header.key == REQUEST_ID => request_id = Some(RequestId(id.into())),
            _ => headers.push((header.key.to_owned(), value.to_vec())),
        }
    }
    let timestamp = message.timestamp().to_millis();
    Some(Record {
        place: place(message.partition(), message.offset())?,
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().unwrap_or_default().to_vec(),
        headers,
        request_id,
        timestamp: timestamp
            .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
    })
}

/// The headers that can be read, in their order.
///
/// Anybody may write a name that is not UTF-8, and rdkafka panics at it (0.39.0, `Headers::try_get` of a `BorrowedHeaders`): such a header is left out, name and value, and stays where the record is.
fn readable<H: Headers>(headers: &H) -> impl Iterator<Item = Header<'_, &[u8]>> {
    (0..headers.count()).filter_map(|index| {
        let read = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        read.ok().flatten()
    })
}

/// A place in a topic; none where librdkafka means something else by one of the numbers.
pub fn place(partition: i32, offset: i64) -> Option<Place> {
    Some(Place {
        partition: u32::try_from(partition).ok()?,
        offset: u64::try_from(offset).ok()?,
    })
}

/// A partition's number as librdkafka takes it; one that no topic can have is past the last of all.
pub fn partition(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// An offset as librdkafka takes it.
pub fn offset(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers as rdkafka hands them out, of which the second has a name that is not UTF-8.
    struct Strange;

    impl Headers for Strange {
        fn count(&self) -> usize {
            3
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            const NAMES: [&[u8]; 3] = [b"one", b"caf\xe9", b"three"];
            let name = NAMES.get(index)?;
            Some(Header {
                key: std::str::from_utf8(name).unwrap(),
                value: Some(name),
            })
        }

        fn try_get_as<V>(&self, index: usize) -> Option<Result<Header<'_, &V>, V::Error>>
        where
            V: rdkafka::message::FromBytes + ?Sized,
        {
            let Header { key, value } = self.try_get(index)?;
            let value = value.map(V::from_bytes).transpose();
            Some(value.map(|value| Header { key, value }))
        }
    }

    #[test]
    fn a_header_whose_name_cannot_be_read_is_left_out_and_the_others_are_not() {
        let names: Vec<_> = readable(&Strange).map(|header| header.key).collect();
        assert_eq!(names, ["one", "three"]);
    }
}

//! Records of the log, as they go in and as they come out.
//!
//! `log` takes and gives them; what their bytes mean is known to `backend/record`.

use jiff::Timestamp;

use crate::domain::{Place, RequestId};

/// A request to append.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Records of one key keep their order.
    pub key: Vec<u8>,
    /// The body.
    pub value: Vec<u8>,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The request that `find` finds it by.
    pub request_id: Option<RequestId>,
}

/// A request in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub place: Place,
    /// The key.
    pub key: Vec<u8>,
    /// The body.
    pub value: Vec<u8>,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The request that it carries, where its producer said.
    pub request_id: Option<RequestId>,
    /// When it was appended, to the millisecond.
    pub timestamp: Timestamp,
}

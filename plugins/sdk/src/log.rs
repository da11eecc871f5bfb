//! The strategy's voice in the host's log: one function per level.
//!
//! The host writes version, revision and request id beside each line, so a message need not repeat them.
//! It also bounds the lines of a call and the bytes of a line, and drops what is beyond without an error.

use crate::bindings::timesale::strategy::log::{Level, log};

/// Writes a line for the author.
pub fn debug(message: &str) {
    log(Level::Debug, message);
}

/// Writes a line that is worth its place in production.
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// Writes a line about something odd that was handled.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// Writes a line about something wrong.
pub fn error(message: &str) {
    log(Level::Error, message);
}

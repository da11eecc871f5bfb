//! The host from outside: the real binary, real components, real buyers, and the database as judge.
//!
//! Each module is one promise of the product; `support` starts hosts and buys from them.
//! `faults`, `fence`, `follow`, `hosts`, `records`, `storm` and `truth` need real services, and so are compiled with the feature `services` alone; `twin` needs the feature of its name.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

mod actuator;
mod admin;
mod bench;
mod bounds;
mod canary;
mod compile;
mod contract;
mod corpus;
mod costs;
mod crash;
mod dashboards;
mod embedded;
mod families;
#[cfg(feature = "services")]
mod faults;
#[cfg(feature = "services")]
mod fence;
#[cfg(feature = "services")]
mod follow;
mod grants;
mod hangup;
#[cfg(feature = "services")]
mod hosts;
mod idempotency;
mod interface;
mod isolation;
mod listing;
mod purchase;
mod reconciler;
#[cfg(feature = "services")]
mod records;
mod retries;
mod sellers;
mod series;
mod settlement;
mod startup;
mod status;
#[cfg(feature = "services")]
mod storm;
mod swap;
mod telemetry;
mod tidy;
#[cfg(feature = "services")]
mod truth;
#[cfg(feature = "twin")]
mod twin;
mod validation;

//! timesale: a host for flash-sale strategies written as WebAssembly components.
//!
//! The rooms, from the outside in: `http` and `settlement` are the ways in, `reconciler` looks on, `strategy` runs guests, `capability` is what guests may ask of the host, `backend` is how it is done.
//! `telemetry` and `config` are leaves; `app` puts the rooms together.
//! `bench` is a client beside them, which buys from a host from outside.
//! `ARCHITECTURE.md` has the map and the invariants.

pub mod app;
pub mod backend;
pub mod bench;
pub mod capability;
pub mod config;
pub mod desired;
pub mod domain;
pub mod http;
pub mod parts;
pub mod plugin;
pub mod reconciler;
pub mod secret;
pub mod settlement;
pub mod strategy;
pub mod telemetry;
pub mod ticket;

/// Of every program that is made of this crate.
///
/// A call allocates on one thread what another frees, which cost up to a third of the rate with the C library's own.
/// And it allocates what another has just freed, which is in the cache still: that is what this one hands out first.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "twin")]
#[path = "../benches/twin/mod.rs"]
mod twin;

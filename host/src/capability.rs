//! What strategies may ask of the host: one file per capability, each the host's side of its `wit/<capability>.wit`.
//!
//! Here are bounds, handles and the translation of errors; how a thing is done is `backend`'s.
//! Every function that reaches a backend passes `CallState::observe`, which checks the call's bounds, times the function, and only then hands out the backends.
//! `strategy` builds a `CallState` for each call and nobody else does.

mod conduct;
mod convert;
mod db;
mod hangup;
mod kafka;
mod log;
mod memory;
mod redis;
mod state;

/// The types of the contract have nothing to do by themselves.
impl bindings::timesale::strategy::types::Host for CallState {}

pub use self::{
    conduct::Conduct,
    hangup::Hangup,
    memory::TABLE_ELEMENTS_MAX,
    state::{CallEnd, CallState, Effect, Operation, Reach, Task},
};

/// Types and traits generated from the contract.
#[expect(missing_docs, reason = "the contract documents its items")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "strategy",
        imports: {
            "timesale:strategy/log": trappable,
            default: async | trappable,
        },
        exports: { default: async },
        with: {
            "timesale:strategy/db.transaction": super::db::TransactionHandle,
            "timesale:strategy/redis.lock": super::redis::LockHandle,
        },
    });
}

/// Links every capability; a component that imports less is granted less.
pub fn link(linker: &mut wasmtime::component::Linker<CallState>) -> Result<(), wasmtime::Error> {
    use wasmtime::component::HasSelf;
    bindings::Strategy::add_to_linker::<_, HasSelf<CallState>>(linker, |state| state)
}

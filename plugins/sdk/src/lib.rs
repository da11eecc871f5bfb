//! What a strategy is written with: the contract in Rust, the rules that every sale has, and the macro that makes a component of a type.
//!
//! A strategy implements [`Strategy`] and names itself once to [`strategy!`]; `plugins/README.md` shows one from beginning to end.
//! Not for the host, which has bindings of its own, and not for policy: what differs between strategies stays in the strategies.
//!
//! A component imports the capabilities whose functions it calls, and no others.
//! On other targets than Wasm the crate compiles too, for the sake of tests: there every capability is out of reach, and calling one aborts.

#[doc(hidden)]
pub mod bindings;
pub mod log;
#[cfg(target_arch = "wasm32")]
mod memory;
pub mod rules;
mod strategy;

pub use bindings::exports::timesale::strategy::purchasing::Outcome;
pub use bindings::timesale::strategy::types::{
    Failure, Order, Refusal, Rejection, Request, RequestHandle, Sale, SaleId, Ticket, Timestamp,
};
pub use bindings::timesale::strategy::{db, kafka, redis};
pub use strategy::Strategy;

/// Makes a type that implements [`Strategy`] the strategy of the component; once per crate, by the type's plain name.
///
/// Other targets than Wasm export nothing, so that the crate links there, and only check that the type is a strategy.
#[macro_export]
macro_rules! strategy {
    ($strategy:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::export!($strategy with_types_in $crate::bindings);
        #[cfg(not(target_arch = "wasm32"))]
        const _: &str = <$strategy as $crate::Strategy>::OPERATION;
    };
}

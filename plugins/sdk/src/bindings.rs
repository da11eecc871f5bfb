//! The contract in Rust, generated from `wit/` and from nowhere else.
//!
//! Not for authors: they find the same items under shorter names at the root of the crate.
//! The macro [`crate::strategy!`] refers to this module by its path, which is why it is public.

wit_bindgen::generate!({
    path: "../../wit",
    world: "strategy",
    pub_export_macro: true,
    default_bindings_module: "timesale_sdk::bindings",
});

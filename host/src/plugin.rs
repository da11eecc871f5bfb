//! `timesale plugin`: what authors and operators do with strategies on the command line.
//!
//! Not for what a running host does with them, which is `strategy`'s.
//! Called by `main`, once.

mod check;

use clap::Subcommand;

pub use self::check::{Check, Checked, check};

/// What can be done with a strategy.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Checks a component as a host does before it serves it; needs no host and no data folder.
    Check(Check),
}

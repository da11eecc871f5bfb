//! `timesale plugin`: what authors and operators do with strategies on the command line.
//!
//! What a running host does with them is `strategy`'s: `remote` asks it to.
//! Called by `main`, once.

mod check;
mod remote;

use clap::Subcommand;

pub use self::{
    check::{Check, Checked, check},
    remote::{Remote, RemoteCommand},
};

/// What can be done with a strategy.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Checks a component as a host does before it serves it; needs no host and no data folder.
    Check(Check),
    /// Asks a running host.
    #[command(flatten)]
    Remote(RemoteCommand),
}

//! Makes strategy components of guest crates: the only code that knows how.
//!
//! `bundle --out DIR CRATE_DIR[=VERSION]...` compiles each crate for Wasm, makes a component of it and puts it into the folder as `VERSION.wasm`.
//! Called by the Makefile, by authors through it, and by the build of the image; not part of the host, which takes components as they come.

mod component;
mod guest;
mod memory;
mod toolchain;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::guest::Guest;
use crate::toolchain::Toolchain;

/// Makes strategy components of guest crates.
#[derive(Parser)]
struct Arguments {
    /// The folder that the components go into; made if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// A guest crate's folder; its version is the crate's name up to the first `-` unless one is given.
    #[arg(value_name = "CRATE_DIR[=VERSION]", required = true)]
    guests: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bundle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the components one after the other, and stops at the first that cannot be made.
fn run(arguments: &Arguments) -> Result<()> {
    let guests = arguments
        .guests
        .iter()
        .map(|argument| Guest::find(argument));
    let guests = guests.collect::<Result<Vec<_>>>()?;
    let toolchain = Toolchain::find()?;
    for guest in &guests {
        eprintln!(
            "compiling {} (a minute the first time, then seconds)",
            guest.name
        );
        let module = guest.compile(&toolchain)?;
        let made = component::make(&module, &arguments.out, &guest.version)
            .with_context(|| format!("{} does not become a component", guest.name))?;
        println!("{made}");
    }
    Ok(())
}

//! The binary: reads the command line, does what it says, and turns every fault into one line.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use timesale::{
    app, bench,
    config::{Cli, Command, Config},
    plugin::{self, PluginCommand},
    strategy::compiler::{self, Compile},
};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

/// What a command ends with that is refused; whoever could not even check ends with 2.
const REFUSED: u8 = 1;

/// How long what runs on threads of its own may keep a process from ending that has done its work.
const THREADS_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::read();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("timesale cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli));
    runtime.shutdown_timeout(THREADS_WAIT);
    code
}

async fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Some(Command::Serve(config)) => serve(config).await,
        None => serve(cli.config).await,
        Some(Command::Bench(plan)) => bench(plan).await,
        Some(Command::Plugin(command)) => plugin(command).await,
        Some(Command::Compile(told)) => compile(&told),
    }
}

async fn serve(config: Config) -> ExitCode {
    log_from("info,sqlx=warn");
    match app::serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log, whose filter might swallow the one line that matters.
            eprintln!("timesale stops: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(plan: bench::Plan) -> ExitCode {
    log_from("warn");
    match bench::bench(plan).await {
        Ok(true) => ExitCode::SUCCESS,
        // What is wrong has been printed.
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) => {
            eprintln!("timesale bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "what a command tells is what standard output is for"
)]
async fn plugin(command: PluginCommand) -> ExitCode {
    log_from("error");
    match command {
        PluginCommand::Check(asked) => match plugin::check(&asked).await {
            Ok(checked) => {
                println!("{checked}");
                if checked.is_accepted() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(REFUSED)
                }
            }
            Err(error) => {
                eprintln!("timesale plugin check: {error:#}");
                ExitCode::from(2)
            }
        },
        PluginCommand::Remote(asked) => match asked.ask().await {
            Ok(shown) => {
                println!("{shown}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("timesale plugin: {error:#}");
                ExitCode::from(REFUSED)
            }
        },
    }
}

fn compile(told: &Compile) -> ExitCode {
    match compiler::compile(told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The host that started it says whose this is.
            eprintln!("{error:#}");
            ExitCode::from(REFUSED)
        }
    }
}

/// Writes the log to standard error, where `RUST_LOG` says nothing else from this level on.
fn log_from(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

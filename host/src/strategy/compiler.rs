//! Compiles components in a process of their own: out of the way of requests, within bounds, and ended where it does not end.
//!
//! What it makes comes back through wasmtime's cache on disk, whose keys are the component's bytes and the engine's configuration.
//! A component that was compiled before is there already, so that a restart compiles nothing.
//! Nobody but the host's user may write there: what the cache holds is run as it is.

use std::{
    fs::{DirBuilder, Permissions},
    io::Read as _,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
use tokio::{io::AsyncWriteExt as _, process::Command};
use wasmtime::component::Component;

use super::engine::{self, Refused, one_line};

/// How long a component may be compiled.
const COMPILE_MAX: Duration = Duration::from_secs(60);
/// Bytes that a compiler may have, of which its allocator takes the first half at once.
const MEMORY_MAX_BYTES: u64 = 2 << 30;
/// How far a compiler stands behind whatever else wants a processor: as far as it goes.
const NICENESS: i32 = 19;
/// Characters of what a compiler says about a failure that are told.
const SAID_MAX: usize = 2_000;
/// This program, even where another has taken its place on disk.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Starts a process for each component that is to be compiled.
pub struct Compiler {
    program: PathBuf,
    cache: PathBuf,
}

/// What a compiler's process is told; the component comes on its standard input.
#[derive(Debug, Args)]
pub struct Compile {
    /// Folder of the cache that it compiles into.
    #[arg(long)]
    cache: PathBuf,
    /// Bytes of memory that it may have.
    #[arg(long)]
    memory_max_bytes: u64,
}

impl Compiler {
    /// A compiler whose cache is in this folder, made where it is missing.
    pub fn new(data_dir: &Path) -> anyhow::Result<Self> {
        let cache = data_dir.join("compiled");
        let unfit = || format!("cannot keep compiled components in {}", cache.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&cache)
            .with_context(unfit)?;
        // One that was there before may have been open to others.
        std::fs::set_permissions(&cache, Permissions::from_mode(0o700)).with_context(unfit)?;
        Ok(Self {
            program: PathBuf::from(THIS_PROGRAM),
            cache: std::path::absolute(&cache).with_context(unfit)?,
        })
    }

    /// The folder of the cache.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Has a component compiled into the cache.
    ///
    /// The process ends with the future, so that whoever does not wait leaves none behind.
    pub async fn compile(&self, component: &[u8]) -> Result<(), Refused> {
        let compiling = tokio::time::timeout(COMPILE_MAX, self.run(component));
        let output = compiling
            .await
            .map_err(|_| Refused::Compile(format!("it takes more than {COMPILE_MAX:?}")))?
            .map_err(|error| Refused::Compile(format!("no compiler can be started: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', " ");
        let said: String = said.chars().take(SAID_MAX).collect();
        Err(Refused::Compile(match output.status.signal() {
            None => said,
            Some(signal) => format!(
                "signal {signal} ended the compiler, which may have {} MiB: {said}",
                MEMORY_MAX_BYTES >> 20
            ),
        }))
    }

    async fn run(&self, component: &[u8]) -> std::io::Result<Output> {
        let mut process = Command::new(&self.program)
            .arg("compile")
            .arg("--cache")
            .arg(&self.cache)
            .arg("--memory-max-bytes")
            .arg(MEMORY_MAX_BYTES.to_string())
            // It needs no secret of the host's.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = process.stdin.take() {
            // One that ends before it has read everything says why.
            let _ended = input.write_all(component).await;
        }
        process.wait_with_output().await
    }
}

/// What a compiler's process does.
pub fn compile(told: &Compile) -> anyhow::Result<()> {
    setpriority_process(None, NICENESS).context("cannot stand behind the others")?;
    let bounds = [
        (Resource::Data, told.memory_max_bytes),
        // Where the host is gone and nobody ends it.
        (Resource::Cpu, COMPILE_MAX.as_secs()),
        (Resource::Core, 0),
    ];
    for (resource, most) in bounds {
        let most = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, most).with_context(|| format!("cannot bound {resource:?}"))?;
    }
    let mut component = Vec::new();
    std::io::stdin()
        .read_to_end(&mut component)
        .context("cannot read the component")?;
    let mut config = engine::config(Some(&told.cache))?;
    // Nothing runs here, and a pool would count as memory that the compiler has.
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::OnDemand);
    wasmtime::Engine::new(&config)
        .and_then(|engine| Component::from_binary(&engine, &component))
        .map_err(|error| anyhow::anyhow!(one_line(&error)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use tempfile::TempDir;

    use super::Compiler;

    /// What a host says of a component whose compiler is this program.
    async fn compiled_by(program: PathBuf) -> String {
        let data = TempDir::new().unwrap();
        let compiler = Compiler {
            program,
            ..Compiler::new(data.path()).unwrap()
        };
        let compiled = compiler.compile(b"a component").await;
        compiled.unwrap_err().to_string()
    }

    /// The same, where the program is this script.
    async fn compiled_by_script(script: &str) -> String {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("compiler");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        compiled_by(program).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_compiler_that_does_not_end_is_ended() {
        let said = compiled_by_script("exec sleep 1000").await;
        assert_eq!(said, "it does not compile: it takes more than 60s");
    }

    #[tokio::test]
    async fn what_a_compiler_says_is_told_on() {
        let said = compiled_by_script("echo no such instruction >&2; exit 1").await;
        assert_eq!(said, "it does not compile: no such instruction");
    }

    #[tokio::test]
    async fn a_compiler_that_dies_takes_nothing_with_it() {
        let said = compiled_by_script("echo no memory >&2; kill -9 $$").await;
        assert_eq!(
            said,
            "it does not compile: signal 9 ended the compiler, which may have 2048 MiB: no memory"
        );
    }

    #[tokio::test]
    async fn a_compiler_that_is_not_there_is_told_of() {
        let said = compiled_by(PathBuf::from("/no/such/program")).await;
        assert!(said.contains("no compiler can be started"), "{said}");
    }
}

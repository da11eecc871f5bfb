//! Which Rust toolchain compiles guests on this machine.
//!
//! Guests need the library for `wasm32-unknown-unknown`; everything else is built by the toolchain that runs this program.
//! In this order: the toolchain's own, if it has the target; the same after rustup added it; Debian's web toolchain, which compiles the library from source.
//! Called by `main`, once, before anything is compiled.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// How long rustup may take to add the target: without a network it would try for minutes.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(60);

const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";

/// A toolchain that can compile guests.
#[derive(Debug)]
pub enum Toolchain {
    /// The one that built this program; it has the target's library.
    Own,
    /// Debian's web toolchain, which compiles the library with each guest.
    DebianWeb,
}

impl Toolchain {
    /// Finds a toolchain or installs what is missing; says what it does where that takes long.
    pub fn find() -> Result<Self> {
        if own_has_target() || rustup_adds_target() {
            return Ok(Self::Own);
        }
        if debian_has_packages() || debian_adds_packages() {
            return Ok(Self::DebianWeb);
        }
        bail!(
            "this Rust has no library for {TARGET}: get it with `rustup target add {TARGET}`, or on Debian as root with `apt-get install {}`",
            DEBIAN_PACKAGES.join(" ")
        );
    }

    /// The toolchain's cargo, to compile a guest with.
    ///
    /// Flags meant for native code stay out of it: the guest's settings are the ones that `guest` gives.
    pub fn cargo(&self) -> Command {
        let mut cargo = match self {
            Self::Own => Command::new("cargo"),
            Self::DebianWeb => debian_cargo(),
        };
        cargo.env_remove("RUSTFLAGS");
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo
    }
}

/// Debian's cargo with Debian's compiler, told apart from those of rustup, which come first on the path.
///
/// Building the library from source is an unstable option of cargo, hence the bootstrap variable.
fn debian_cargo() -> Command {
    let mut cargo = Command::new(DEBIAN_CARGO);
    cargo.args(["-Z", "build-std=std,panic_abort"]);
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("RUSTC", DEBIAN_RUSTC);
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
    cargo.env_remove("RUSTC_WRAPPER");
    cargo.env_remove("RUSTUP_TOOLCHAIN");
    cargo.env_remove("LD_LIBRARY_PATH");
    cargo
}

fn own_has_target() -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    output.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(folder.trim()).is_dir()
    })
}

fn rustup_adds_target() -> bool {
    if !succeeds(Command::new("rustup").arg("--version")) {
        return false;
    }
    eprintln!(
        "adding {TARGET} with rustup (seconds; given up after {} s)",
        RUSTUP_PATIENCE.as_secs()
    );
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    rustup.env("RUSTUP_MAX_RETRIES", "0");
    let added = succeeds_within(&mut rustup, RUSTUP_PATIENCE).unwrap_or(false);
    if !added {
        eprintln!("rustup cannot add {TARGET}");
    }
    added && own_has_target()
}

fn debian_has_packages() -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}\n"])
        .args(DEBIAN_PACKAGES)
        .output()
        .is_ok_and(|output| {
            let states = String::from_utf8_lossy(&output.stdout);
            output.status.success() && states.lines().all(|state| state == "installed")
        })
}

/// Installs Debian's web toolchain; false where it is not to be had, as on another system or without the right to install.
fn debian_adds_packages() -> bool {
    if !succeeds(Command::new("apt-get").arg("--version")) || !is_root() {
        return false;
    }
    let packages = DEBIAN_PACKAGES.join(" ");
    eprintln!("installing {packages} with apt-get (a minute or two)");
    let installed = apt_get_install() || (succeeds(apt_get().arg("update")) && apt_get_install());
    if !installed {
        eprintln!("apt-get cannot install {packages}");
    }
    installed
}

fn apt_get_install() -> bool {
    let mut install = apt_get();
    install.args(["install", "--yes", "--no-install-recommends"]);
    succeeds(install.args(DEBIAN_PACKAGES))
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get
        .arg("--quiet=2")
        .env("DEBIAN_FRONTEND", "noninteractive");
    apt_get
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Runs a command without its output, and says whether it could be run and succeeded.
fn succeeds(command: &mut Command) -> bool {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Like [`succeeds`], and stops a command that takes longer than `patience`.
fn succeeds_within(command: &mut Command, patience: Duration) -> io::Result<bool> {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        thread::sleep(Duration::from_millis(100));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

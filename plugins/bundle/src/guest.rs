//! A guest crate, and how it is compiled to a core Wasm module.
//!
//! Not for the choice of a toolchain (`toolchain`) nor for what becomes of the module (`component`).
//! Called by `main`, once per crate.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{CrateType, MetadataCommand};

use crate::toolchain::{TARGET, Toolchain};

/// How guests are compiled, as cargo's `--config`: here and not in a manifest, so that a crate outside this workspace is compiled the same way.
///
/// Every call is a fresh instance, whose memory is prepared whole: so the stack is 16 KiB, which the linker would make 1 MiB.
/// Names are kept, because a trap's backtrace is of no use without them; of debug information, which the library brings along, none is.
const CONFIG: &[&str] = &[
    r#"profile.guest.inherits="release""#,
    r#"profile.guest.lto="fat""#,
    "profile.guest.codegen-units=1",
    "profile.guest.opt-level=3",
    r#"profile.guest.panic="abort""#,
    r#"profile.guest.strip="debuginfo""#,
    "profile.guest.debug=0",
    r#"target.wasm32-unknown-unknown.rustflags=["-Clink-arg=-zstack-size=16384"]"#,
];

/// A guest crate on disk.
pub struct Guest {
    /// The package's name.
    pub name: String,
    /// The version that the component is for: the stem of its file.
    pub version: String,
    manifest: PathBuf,
    target_dir: PathBuf,
    library: String,
}

impl Guest {
    /// Reads the crate that an argument `CRATE_DIR[=VERSION]` names.
    pub fn find(argument: &str) -> Result<Self> {
        let (dir, version) = match argument.rsplit_once('=') {
            Some((dir, version)) => (dir, Some(version)),
            None => (argument, None),
        };
        let manifest = Path::new(dir)
            .join("Cargo.toml")
            .canonicalize()
            .with_context(|| format!("there is no crate in {dir}"))?;
        let metadata = MetadataCommand::new()
            .manifest_path(&manifest)
            .no_deps()
            .exec()
            .with_context(|| format!("cannot read {}", manifest.display()))?;
        let package = metadata
            .packages
            .iter()
            .find(|package| package.manifest_path == manifest)
            .with_context(|| format!("{} is no package", manifest.display()))?;
        let library = package
            .targets
            .iter()
            .find(|target| target.crate_types.contains(&CrateType::CDyLib))
            .with_context(|| {
                format!(
                    "{} is no guest: it has no library with crate-type = [\"cdylib\"]",
                    package.name
                )
            })?;

        let name = package.name.to_string();
        let version = match version {
            Some(version) => version.to_owned(),
            None => name.chars().take_while(|&it| it != '-').collect(),
        };
        ensure!(
            is_version(&version),
            "{version:?} cannot be a version: [a-z][a-z0-9-]{{0,31}}"
        );
        Ok(Self {
            name,
            version,
            target_dir: metadata.target_directory.join("guest").into(),
            library: library.name.replace('-', "_"),
            manifest,
        })
    }

    /// Compiles the crate and says where its module is.
    ///
    /// Guests have a target folder of their own, so that they never wait for a build of the host, nor it for them.
    pub fn compile(&self, toolchain: &Toolchain) -> Result<PathBuf> {
        let mut cargo = toolchain.cargo();
        cargo.args(["build", "--profile", "guest", "--target", TARGET]);
        cargo.arg("--manifest-path").arg(&self.manifest);
        cargo.arg("--target-dir").arg(&self.target_dir);
        for setting in CONFIG {
            cargo.args(["--config", setting]);
        }
        let status = cargo.status().context("cannot run cargo")?;
        ensure!(status.success(), "{} does not compile", self.name);
        let module = format!("{}.wasm", self.library);
        Ok(self.target_dir.join(TARGET).join("guest").join(module))
    }
}

/// The shape that the host asks of a component's name.
fn is_version(name: &str) -> bool {
    let tail = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    name.len() <= 32
        && name.starts_with(|it: char| it.is_ascii_lowercase())
        && name.chars().all(tail)
}

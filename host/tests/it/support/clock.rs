//! The wall clock of a host, which a test may set while the host runs; the machine's own is left alone.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::Setup;

/// How far a host's clock is off.
pub struct Clock {
    file: File,
    seconds: i64,
}

impl Clock {
    /// A clock that is right, and the setup of the host that goes by it.
    pub fn of(setup: &Setup) -> (Self, Setup) {
        let path = setup.data().join("clock");
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        let library = compile(setup.data());
        let mut clock = Self { file, seconds: 0 };
        clock.step(0);
        let setup = setup
            .set("LD_PRELOAD", library.display())
            .set("CLOCK_FILE", path.display());
        (clock, setup)
    }

    /// Sets it forward, or back, by so many seconds.
    pub fn step(&mut self, seconds: i64) {
        self.seconds += seconds;
        let written = self.seconds.to_ne_bytes();
        self.file.write_all_at(&written, 0).unwrap();
    }

    /// How many seconds it is ahead of the machine's.
    pub fn ahead(&self) -> i64 {
        self.seconds
    }
}

/// Makes the library that is preloaded; the C compiler is there, since the host cannot be built without.
fn compile(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/clock.c");
    let library = folder.join("clock.so");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .unwrap_or_else(|error| panic!("cc, a C compiler, is missing: {error}"));
    assert!(output.status.success(), "{output:?}");
    library
}

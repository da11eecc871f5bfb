//! Components are compiled once, in a process of their own, and a restart finds what was compiled.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::SystemTime,
};

use tempfile::TempDir;

use super::support::{Setup, operator::build};

/// What the cache of a folder holds, and since when.
fn compiled(cache: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let mut folders = vec![cache.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if metadata.is_dir() {
                folders.push(path);
            } else if path.extension().is_none() {
                // Notes on what is used how often have one.
                found.insert(path, metadata.modified().unwrap());
            }
        }
    }
    found
}

/// Compiles a component as a host has it done, with so much memory.
fn compile(cache: &Path, component: &[u8], memory_max_bytes: u64) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_timesale"))
        .args(["compile", "--cache"])
        .arg(cache)
        .args(["--memory-max-bytes", &memory_max_bytes.to_string()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has died reads nothing.
    process.stdin.take().unwrap().write_all(component).ok();
    process.wait_with_output().unwrap()
}

#[tokio::test]
async fn a_restart_compiles_nothing_that_was_compiled_before() {
    let setup = Setup::new().with_strategies(&["v1", "v2"]);
    let host = setup.start().await;
    let cache = setup.data().join("compiled");
    let mode = fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "others may write there what is run");
    let before = compiled(&cache);
    assert_eq!(before.len(), 2, "{before:?}");
    let host = host.kill().await.start().await;
    assert_eq!(compiled(&cache), before);
    let sale = host.shop.sale(1).await;
    let answer = host.shop.buy("v2", sale, 1, 1).send().await;
    assert_eq!(answer.brief(), "201");
}

#[tokio::test]
async fn what_is_damaged_in_the_cache_is_compiled_again() {
    let setup = Setup::new().with_strategies(&["v1"]);
    let host = setup.start().await;
    let cache = setup.data().join("compiled");
    let (file, _) = compiled(&cache).pop_first().unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let host = host.kill().await.start().await;
    let sale = host.shop.sale(1).await;
    let answer = host.shop.buy("v1", sale, 1, 1).send().await;
    assert_eq!(answer.brief(), "201");
    assert_eq!(fs::read(&file).unwrap(), whole);
}

#[test]
fn a_compiler_keeps_to_its_memory() {
    let cache = TempDir::new().unwrap();
    let component = build("v1", 0);
    let output = compile(cache.path(), &component, 8 << 20);
    assert!(!output.status.success(), "8 MiB were enough");
    assert_eq!(compiled(cache.path()), BTreeMap::new());
    let output = compile(cache.path(), &component, 2 << 30);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(compiled(cache.path()).len(), 1);
}

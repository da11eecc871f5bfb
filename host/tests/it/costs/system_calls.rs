//! A fresh instance and its call, with host functions that are answered at once, make no system call.
//!
//! Not for a whole purchase: how often a worker sleeps and is woken follows the scheduler.
//! Linux alone can be told to end a process at the first system call of a thread, so the test is started again in a process of its own.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use tempfile::TempDir;
use timesale::telemetry::Telemetry;
use tokio::runtime::Runtime;

use super::scene::Scene;
use crate::support::{eventually, repository};

/// The test, as it is named on the command line.
const NAME: &str = "costs::system_calls::a_fresh_instance_and_its_call_make_no_system_call";
/// Set where the process is the one that may be ended.
const WATCHED: &str = "TIMESALE_TEST_SYSTEM_CALLS";
/// Calls before anything is forbidden: memory, slots and caches are as in a host that sells.
const WARM_UP: u32 = 1_000;
/// Calls that are watched.
const CALLS: u32 = 10_000;
/// What each asks the host, which the embedded stand-in for Redis answers at once.
const HOST_CALLS: u32 = 4;

#[test]
fn a_fresh_instance_and_its_call_make_no_system_call() {
    let components = repository().join("target/strategies-bench");
    if env::var_os(WATCHED).is_some() {
        return call_under_a_filter(&components);
    }
    let folder = TempDir::new().unwrap();
    let watched = Command::new(env::current_exe().unwrap())
        .args([NAME, "--exact"])
        .env(WATCHED, "1")
        .env("TMPDIR", folder.path())
        // The allocator gives back to the system, now and then, what calls have freed some time ago: its own doing, and no call's.
        .env("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1")
        .output()
        .unwrap();
    let (said, erred) = (&watched.stdout, &watched.stderr);
    let [said, erred] = [said, erred].map(|it| String::from_utf8_lossy(it));
    assert!(
        watched.status.success() && said.contains("1 passed"),
        "a call made a system call, or could not be watched: {}\n{said}\n{erred}",
        watched.status
    );
}

/// Makes the calls on a thread to which every system call is forbidden.
fn call_under_a_filter(components: &Path) {
    // With the records of a host.
    Telemetry::install().unwrap();
    let runtime = Runtime::new().unwrap();
    let scene = runtime.block_on(Scene::open(components)).unwrap();
    let nothing = SeccompFilter::new(
        BTreeMap::new(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        env::consts::ARCH.try_into().unwrap(),
    );
    let nothing: BpfProgram = nothing.unwrap().try_into().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&done);
    let calls = thread::spawn(move || {
        (0..WARM_UP).for_each(|_| scene.call(HOST_CALLS));
        seccompiler::apply_filter(&nothing).unwrap();
        (0..CALLS).for_each(|_| scene.call(HOST_CALLS));
        tell.store(true, Ordering::Release);
        // It may not even end; the process does.
        loop {
            std::hint::spin_loop();
        }
    });
    runtime.block_on(eventually("the last call", async || {
        assert!(!calls.is_finished(), "the calls could not be made");
        done.load(Ordering::Acquire).then_some(()).ok_or("not yet")
    }));
}

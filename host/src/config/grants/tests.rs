//! What the text of the file comes to, and how it is told what is wrong with it.

use clap::Parser as _;

use super::{Capability, File, Grants};
use crate::{
    config::{Cli, Limits},
    domain::Version,
};

fn host() -> Limits {
    Cli::parse_from(["timesale"]).config.limits
}

fn read(text: &str) -> Result<Grants, String> {
    let version = Version::parse("v2").unwrap();
    File::parse(text)
        .and_then(|file| Grants::read(file.section(&version), &version, &host()))
        .map_err(|error| error.to_string())
}

#[test]
fn a_version_without_a_section_has_what_it_imports_and_the_hosts_bounds() {
    let grants = read("[v1]\ncapabilities = [\"db\"]\n").unwrap();
    assert!(Capability::ALL.into_iter().all(|it| grants.allows(it)));
    assert!(grants.allows_key("any") && grants.allows_topic("time-sale-events"));
    assert!(!grants.allows_topic("another"));
    assert_eq!(grants.limits.call_deadline_ms, host().call_deadline_ms);
}

#[test]
fn a_section_grants_what_it_names_and_nothing_else() {
    let grants = read(
        "[v2]\ncapabilities = [\"db\", \"redis\"]\nredis_key_prefixes = [\"time-sale\"]\nhost_calls_max = 20\n",
    )
    .unwrap();
    assert!(grants.allows(Capability::Redis) && !grants.allows(Capability::Kafka));
    assert!(grants.allows_key("time-sale-lock:1") && !grants.allows_key("other"));
    assert_eq!(grants.limits.host_calls_max, 20);
    assert_eq!(grants.limits.calls_max, host().calls_max);
}

#[test]
fn a_fault_is_one_line_that_names_file_version_and_key() {
    for (text, says) in [
        ("[v2]\nhost_call_max = 1\n", &["[v2]", "host_call_max"][..]),
        ("[v2]\ncalls_max = \"many\"\n", &["[v2]", "expected u32"]),
        ("[v2]\ncalls_max = 0\n", &["[v2]", "calls_max"]),
        ("[v2]\ncapabilities = [\"wasi\"]\n", &["[v2]", "wasi"]),
        ("[V2]\ncalls_max = 1\n", &["[V2]", "no version"]),
        ("v2 = 3\n", &["[v2]"]),
        ("[v2]\ncalls_max = \n", &["line 2"]),
        (
            "[v2]\ncall_deadline_ms = 2000\n",
            &[
                "[v2]",
                "TIMESALE_LOCK_WAIT_MS (3000)",
                "call_deadline_ms (2000)",
            ],
        ),
        (
            "[v2]\nmemory_max_bytes = 1073741824\n",
            &["[v2]", "memory_max_bytes", "TIMESALE_MEMORY_MAX_BYTES"],
        ),
        (
            "[v2]\ntransaction_hold_ms = 2000\n",
            &[
                "[v2]",
                "transaction_hold_ms",
                "TIMESALE_TRANSACTION_HOLD_MS",
            ],
        ),
        (
            "[v2]\ncapabilities = [\"db\"]\nredis_key_prefixes = [\"a\"]\n",
            &["[v2]", "redis_key_prefixes", "capabilities"],
        ),
        (
            "[v2]\nkafka_topics = [\"time-sale-requests.DLT\"]\n",
            &["[v2]", "kafka_topics", "never granted"],
        ),
        (
            "[v2]\nredis_key_prefixes = [\"\"]\n",
            &["[v2]", "redis_key_prefixes"],
        ),
    ] {
        let fault = read(text).unwrap_err();
        assert!(fault.starts_with("grants.toml: "), "{fault}");
        assert!(!fault.contains('\n'), "{fault}");
        for part in says {
            assert!(fault.contains(part), "no {part:?} in {fault}");
        }
    }
}

#[test]
fn a_section_is_the_same_however_it_is_written() {
    let version = Version::parse("v2").unwrap();
    let section = |text: &str| File::parse(text).unwrap().section(&version).to_owned();
    let one = section(
        "[v2] # by hand\nlock_wait_ms = 1_000\nredis_key_prefixes = [\n  'a', # and\n  'b',\n]\n",
    );
    let other = section("[v1]\n[v2]\nredis_key_prefixes = [\"a\", \"b\"]\n\nlock_wait_ms = 1000\n");
    assert_eq!(one, other);
    assert!(one.starts_with("lock_wait_ms = 1000\n"), "{one}");
    assert_ne!(one, section("[v2]\nlock_wait_ms = 1000\n"));
    // What it gives back is read as it was written.
    let grants = Grants::read(&one, &version, &host()).unwrap();
    assert_eq!((grants.limits.lock_wait_ms, grants.section), (1_000, one));
}

#[test]
fn no_section_and_an_empty_one_are_the_same() {
    let version = Version::parse("v2").unwrap();
    for text in ["", "# nothing\n", "[v1]\ncalls_max = 1\n", "[v2]\n"] {
        assert_eq!(File::parse(text).unwrap().section(&version), "", "{text:?}");
    }
}

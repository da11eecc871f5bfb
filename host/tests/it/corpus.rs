//! What a host lets in: every right strategy of the corpus and no wrong one, each refused at its step and for its fault.

use std::{fs, path::Path};

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::support::{VERSIONS, corpus::component, process::Process, repository, staged, within};

/// Checks that run at once.
const AT_ONCE: usize = 2;
/// Bounds that only a hang meets: a slow machine makes no right strategy wrong.
const PATIENT: &[&str] = &[
    "--transaction-hold-ms=20000",
    "--row-lock-wait-ms=20000",
    "--lock-wait-ms=20000",
    "--lock-hold-ms=15000",
    "--lock-lease-ms=20000",
    "--call-deadline-ms=25000",
    "--http-timeout-ms=60000",
];
/// Bounds that a test can wait for.
const IMPATIENT: &[&str] = &[
    "--transaction-hold-ms=2000",
    "--lock-wait-ms=2000",
    "--call-deadline-ms=3000",
];

/// Every strategy of the corpus that is wrong, the step that has to refuse it, and what has to be said of it.
const WRONG: [(&str, &str, &str); 37] = [
    ("traps-in-describe", "describe", "Trapped"),
    ("no-operation", "describe", "purchase faultily"),
    ("traps", "probe", "it trapped"),
    ("traps-on-every-tenth", "probe", "it trapped"),
    ("spins", "probe", "a deadline, a hold"),
    ("spins-in-a-transaction", "probe", "a deadline, a hold"),
    ("allocates", "probe", "it wanted more memory"),
    ("storms-the-host", "probe", "one call used 60"),
    ("asks-too-often", "probe", "its median was 6"),
    ("floods-the-log", "probe", "KafkaException"),
    ("is-slow", "probe", "in two measurements"),
    ("oversells", "probe", "nothing was committed"),
    ("skips-the-checks", "probe", "all the same"),
    ("ignores-the-window", "probe", "told NOT_OPEN"),
    ("ignores-the-limit", "probe", "nothing was committed"),
    ("claims-an-order", "probe", "nothing was committed"),
    ("claims-a-ticket", "probe", "the log has None"),
    ("denies-its-order", "probe", "it committed order"),
    ("misnames-its-order", "probe", "was committed"),
    ("misnames-its-ticket", "probe", "the log has Some"),
    ("always-refuses", "probe", "the database sells to it"),
    ("keeps-the-last-piece", "probe", "the database sells to it"),
    ("says-not-open", "probe", "it was refused as NOT_OPEN"),
    ("trusts-its-cache", "probe", "the database sells to it"),
    ("orders-twice", "probe", "that it had sold"),
    ("sells-and-submits", "probe", "it was both"),
    ("leaks-its-lock", "probe", "returned with 1 held"),
    ("leaks-a-transaction", "probe", "its transaction open"),
    ("waits-in-a-transaction", "probe", "inside a transaction"),
    ("submits-what-is-refused", "probe", "told NOT_OPEN"),
    ("never-settles", "probe", "is undecided"),
    ("settles-the-first", "probe", "is undecided"),
    ("settles-backwards", "probe", "that a later one got"),
    ("answers-backwards", "probe", "and the request has"),
    ("answers-too-few", "probe", "answers"),
    ("submits-while-settling", "probe", "cannot submit"),
    ("traps-while-settling", "probe", "it trapped"),
];

/// Every strategy of the corpus that is right.
const RIGHT: [&str; 11] = [
    "in-a-transaction",
    "later",
    "chatty",
    "counts",
    "publishes",
    "retries-the-lock",
    "places-blindly",
    "checks-first",
    "changes-its-mind",
    "settles-one-by-one",
    "settles-in-transactions",
];

/// Those that only the shop's own buyers meet as wrong.
const LATE: [&str; 5] = [
    "late-traps",
    "late-slow",
    "late-refuses",
    "late-claims",
    "late-never-settles",
];

/// A component, the bounds that it is checked with, and what it is compared with.
struct Case {
    name: String,
    bytes: Vec<u8>,
    bounds: &'static [&'static str],
    live: Option<&'static str>,
    grants: &'static str,
}

impl Case {
    fn of_corpus(name: &str, bounds: &'static [&'static str], live: Option<&'static str>) -> Self {
        Self {
            name: name.to_owned(),
            bytes: component(name),
            bounds,
            live,
            grants: "",
        }
    }

    fn of_file(name: String, file: &Path) -> Self {
        Self {
            name,
            bytes: fs::read(file).unwrap(),
            bounds: PATIENT,
            live: None,
            grants: "",
        }
    }

    /// Whether the check accepted it, and what the check said; it leaves no file behind.
    async fn check(self) -> (String, bool, String) {
        let folder = TempDir::new().unwrap();
        let (name, scratch) = (self.name, folder.path().join("scratch"));
        fs::create_dir(&scratch).unwrap();
        let file = folder.path().join(format!("{name}.wasm"));
        fs::write(&file, self.bytes).unwrap();
        let mut arguments = vec!["plugin", "check", file.to_str().unwrap()];
        arguments.extend(self.bounds);
        let live = self.live.map(|live| staged().join(format!("{live}.wasm")));
        if let Some(live) = &live {
            arguments.extend(["--live", live.to_str().unwrap()]);
        }
        let grants = folder.path().join("grants.toml");
        fs::write(&grants, self.grants).unwrap();
        arguments.extend(["--grants", grants.to_str().unwrap()]);
        let temporary = ("TMPDIR".to_owned(), scratch.display().to_string());
        let process = Process::launch(&arguments, &[temporary]);
        let accepted = within(&name, process.wait()).await;
        let said = process.stdout.clone().whole().await.join("\n");
        let left: Vec<_> = fs::read_dir(&scratch).unwrap().collect();
        assert!(left.is_empty(), "{name} left {left:?}");
        (name, accepted, said)
    }
}

/// What each check said, by the name of the strategy.
async fn check_all(cases: Vec<Case>) -> Vec<(String, bool, String)> {
    let mut cases = cases.into_iter();
    let mut running = JoinSet::new();
    let mut checked = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(case) = cases.next()
        {
            running.spawn(case.check());
        }
        match running.join_next().await {
            Some(done) => checked.push(done.unwrap()),
            None => return checked,
        }
    }
}

/// The step that refused a component, and the line that says why.
fn refusal(said: &str) -> (&str, &str) {
    let Some((_, refused)) = said.split_once("refused at ") else {
        return ("-", "accepted");
    };
    let (step, findings) = refused.split_once(':').unwrap();
    let told = findings.lines().find(|line| line.contains("happened: "));
    (step, told.unwrap_or(findings).trim())
}

/// Files that are no strategy at all, with the step that has to refuse them.
fn no_strategies() -> Vec<(Case, &'static str)> {
    let whole = component("in-a-transaction");
    let wat = |text| wat::parse_str(text).unwrap();
    let other_world = r#"(component
        (core module $m (func (export "run")))
        (core instance $i (instantiate $m))
        (func (export "run") (canon lift (core func $i "run"))))"#;
    let with_wasi = r#"(component
        (import "wasi:clocks/monotonic-clock@0.2.0"
            (instance (export "now" (func (result u64))))))"#;
    let case = |name: &str, bytes| Case {
        name: name.to_owned(),
        bytes,
        bounds: PATIENT,
        live: None,
        grants: "",
    };
    vec![
        (case("text", b"not Wasm at all".to_vec()), "file"),
        (case("core", wat("(module)")), "file"),
        (case("torn", whole[..whole.len() / 2].to_vec()), "compile"),
        (case("other-world", wat(other_world)), "link"),
        (case("with-wasi", wat(with_wasi)), "link"),
        (case("No-Version", whole), "file"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_strategy_is_refused_at_its_step_and_for_its_fault() {
    let (files, steps): (Vec<_>, Vec<_>) = no_strategies().into_iter().unzip();
    let names: Vec<String> = files.iter().map(|case| case.name.clone()).collect();
    let expected = names
        .iter()
        .map(String::as_str)
        .zip(steps)
        .map(|(name, step)| (name, step, ""))
        .chain(WRONG);
    let beside_a_live_one = ["is-slow", "asks-too-often"];
    let corpus = WRONG.iter().map(|(name, ..)| {
        let live = beside_a_live_one.contains(name).then_some("v1");
        Case::of_corpus(name, IMPATIENT, live)
    });
    let checked = check_all(files.into_iter().chain(corpus).collect()).await;
    let mut wrongly = Vec::new();
    for (name, step, says) in expected {
        let (_, accepted, said) = checked.iter().find(|(it, ..)| it == name).unwrap();
        let (refused_at, finding) = refusal(said);
        println!("{name:24} {refused_at:9} {finding}");
        if *accepted || refused_at != step || !said.contains(says) {
            wrongly.push(format!("{name}: not {step} and {says:?}, but\n{said}"));
        }
    }
    assert!(wrongly.is_empty(), "{}", wrongly.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_strategy_is_accepted_and_so_is_one_that_harms_the_shops_buyers_alone() {
    let fixtures = repository().join("host/tests/fixtures/contract-0.1.0");
    let built = VERSIONS.iter().map(|version| {
        Case::of_file(
            (*version).to_owned(),
            &staged().join(format!("{version}.wasm")),
        )
    });
    let kept = ["v1", "v2", "v3"].iter().map(|version| {
        let name = format!("{version}-of-contract-0-1-0");
        Case::of_file(name, &fixtures.join(format!("{version}.wasm")))
    });
    // Each is compared with a version of its kind, which has to find none of them slow.
    let corpus = RIGHT.iter().chain(&LATE).map(|name| {
        let later = ["later", "settles-one-by-one", "settles-in-transactions"];
        let live = if later.contains(name) { "v3" } else { "v1" };
        Case::of_corpus(name, PATIENT, Some(live))
    });
    let checked = check_all(built.chain(kept).chain(corpus).collect()).await;
    let mut wrongly = Vec::new();
    for (name, accepted, said) in &checked {
        let (step, finding) = refusal(said);
        println!("{name:24} {step:9} {finding}");
        if !accepted {
            wrongly.push(said.clone());
        }
    }
    assert!(wrongly.is_empty(), "{}", wrongly.join("\n\n"));
}

#[tokio::test]
async fn what_inherits_accepted_requests_has_to_settle_them() {
    let case = Case::of_corpus("in-a-transaction", PATIENT, Some("v3"));
    let (_, accepted, said) = case.check().await;
    assert!(!accepted, "{said}");
    assert!(said.contains("Inherited"), "{said}");
}

#[tokio::test]
async fn a_check_holds_a_component_to_the_operators_grants() {
    for (grants, step, says) in [
        (
            "[publishes]\nkafka_topics = [\"shop-events\"]\n",
            "probe",
            "the topic is not granted",
        ),
        (
            "[publishes]\nhost_calls_max = 3\n",
            "probe",
            "used up the host functions",
        ),
        ("[publishes]\ncapabilities = [\"db\"]\n", "link", "`redis`"),
        ("[publishes]\nkafka_topic = []\n", "grants", "kafka_topic"),
    ] {
        let case = Case::of_corpus("publishes", PATIENT, None);
        let (_, accepted, said) = Case { grants, ..case }.check().await;
        assert!(!accepted, "{grants}: {said}");
        assert_eq!(refusal(&said).0, step, "{said}");
        assert!(said.contains(says), "{said}");
    }
}

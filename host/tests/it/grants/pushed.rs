//! A changed `grants.toml` is a push: proven, committed and swapped in while the version sells, or refused at its step.

use std::{cell::Cell, fs, path::PathBuf};

use serde_json::json;

use super::{
    super::support::{
        FAULTY, Host, eventually,
        operator::{build, revision},
        staged,
    },
    HOLDS, granting, in_flight,
};

/// Buys in one step, with one host function.
const BUYS: u64 = 0;
/// Buys in one step, with the answer to a second purchase of the same: with many host functions.
const BUYS_TWICE: u64 = 22;

impl Host {
    /// The file of grants in its folder.
    fn grants_file(&self) -> PathBuf {
        self.setup().data().join("strategies/grants.toml")
    }

    /// Writes the file of grants.
    fn write_grants(&self, text: &str) {
        fs::write(self.grants_file(), text).unwrap();
    }

    /// What a user who picks a misdeed is told.
    async fn told(&self, sale: u64, user: u64, misdeed: u64) -> String {
        let buyer = self.shop.buy(FAULTY, sale, 100 * user + misdeed, 1);
        buyer.send().await.brief()
    }

    /// Swaps and refusals of a version since the host started.
    async fn swaps(&self, version: &str, result: &str) -> f64 {
        let counted = [("version", version), ("result", result)];
        let metrics = self.metrics().await;
        metrics.sum("time_sale_strategy_swaps_total", &counted)
    }
}

#[tokio::test]
async fn changed_grants_take_effect_while_the_version_sells_and_no_purchase_fails() {
    let host = granting(&["v1", FAULTY], "").with_operator().start().await;
    let sale = host.shop.sale(100_000).await;
    assert_eq!(host.told(sale, 1, BUYS_TWICE).await, "201");
    let before = host.shown(FAULTY).await;
    assert_eq!(before["grants"], json!({}));

    let changed = Cell::new(false);
    let buyer = async |line: u64| {
        let mut users = (10 + line..).step_by(4);
        while !changed.get() {
            let user = users.next().unwrap();
            assert_eq!(host.told(sale, user, BUYS).await, "201", "user {user}");
        }
    };
    let change = async {
        host.write_grants(&format!("[{FAULTY}]\nhost_calls_max = 1\n"));
        let granted = json!({ "host_calls_max": 1 });
        let after = host.runs_under(FAULTY, granted.clone()).await;
        changed.set(true);
        (after, granted)
    };
    let (_, _, _, _, (after, granted)) =
        tokio::join!(buyer(0), buyer(1), buyer(2), buyer(3), change);
    assert_eq!(host.told(sale, 2, BUYS_TWICE).await, "500 STRATEGY_FAILED");
    assert_eq!(host.told(sale, 3, BUYS).await, "201");
    // It is the same component, and the other version is as it was.
    assert_eq!(after["live"], before["live"]);
    assert_eq!(host.swaps(FAULTY, "swapped").await, 1.0);
    assert_eq!(host.swaps("v1", "swapped").await, 0.0);
    let line = host.last_audit(FAULTY).await;
    assert_eq!(
        (&line["action"], &line["result"]),
        (&json!("grant"), &json!("done"))
    );
    assert!(
        line["by"].as_str().unwrap().ends_with("grants.toml"),
        "{line}"
    );
    assert_eq!(line["evidence"]["before"], json!({}));
    assert_eq!(line["evidence"]["after"], granted);
    let metrics = host.at_rest().await;
    assert_eq!(metrics.sum("time_sale_strategy_revisions_loaded", &[]), 2.0);
}

#[tokio::test]
async fn keys_that_are_granted_no_longer_are_refused_from_the_next_call_on() {
    let host = granting(
        &["v1", "v2"],
        "[v2]\nredis_key_prefixes = [\"time-sale\"]\n",
    );
    let host = host.with_operator().start().await;
    let sale = host.shop.sale(10).await;
    let buy = async |user: u64| host.shop.buy("v2", sale, user, 1).send().await.brief();
    assert_eq!(buy(1).await, "201");
    host.write_grants("[v2]\nredis_key_prefixes = [\"another\"]\n");
    host.runs_under("v2", json!({ "redis_key_prefixes": ["another"] }))
        .await;
    assert_eq!(buy(2).await, "500 STRATEGY_FAILED");
    // An empty file gives everything back.
    host.write_grants("");
    host.runs_under("v2", json!({})).await;
    assert_eq!(buy(3).await, "201");
}

#[tokio::test]
async fn grants_that_the_running_component_cannot_live_with_are_refused_and_the_old_ones_stay() {
    let setup = granting(&["v1", "v2"], "[v2]\nhost_calls_max = 50\n");
    // v2 has to show that it sells, too.
    let setup = setup.set("TIMESALE_UNPROBED", "v1").with_operator();
    let host = setup.start().await;
    let before = host.shown("v2").await;
    assert_eq!(before["grants"], json!({ "host_calls_max": 50 }));
    let cases = [
        ("capabilities = [\"db\"]", "link", "redis"),
        ("host_calls_max = 1", "probe", "host function"),
        ("calls_max = 0", "link", "[v2]: calls_max"),
        ("call_max = 1", "link", "call_max"),
    ];
    for (refused, (section, step, says)) in (1..).zip(cases) {
        host.write_grants(&format!("[v2]\n{section}\n"));
        let line = eventually("it is refused", async || {
            let line = host.last_audit("v2").await;
            let finding = line["evidence"]["finding"].as_str().unwrap_or_default();
            if line["result"] == "refused" && finding.contains(says) {
                Ok(line)
            } else {
                Err(line)
            }
        })
        .await;
        assert_eq!(line["action"], "grant", "{line}");
        assert_eq!(line["evidence"]["step"], step, "{line}");
        assert_eq!(line["evidence"]["before"], before["grants"], "{line}");
        assert_eq!(host.swaps("v2", "refused").await, f64::from(refused));
        let wanted = ["refused: ", "grants.toml", "v2", step, says];
        eventually("the log says so", async || {
            let is_it = |line: &&String| wanted.iter().all(|text| line.contains(text));
            host.log().iter().find(is_it).map(|_| ()).ok_or(wanted)
        })
        .await;
    }
    // What is no TOML is nobody's section.
    host.write_grants("[v2]\ncalls_max = \n");
    host.logged("refused: grants.toml: line 2").await;
    let after = host.shown("v2").await;
    assert_eq!(after["epoch"], before["epoch"]);
    assert_eq!(after["grants"], before["grants"]);
    let sale = host.shop.sale(1).await;
    assert_eq!(host.shop.buy("v2", sale, 42, 1).send().await.brief(), "201");
    // The next file that it can live with is taken.
    host.write_grants("[v2]\nhost_calls_max = 40\n");
    host.runs_under("v2", json!({ "host_calls_max": 40 })).await;
}

#[tokio::test]
async fn a_restart_with_the_same_file_and_a_file_that_vanishes_change_nothing() {
    let setup = granting(&["v1", "v2"], "[v2]\nhost_calls_max = 50 # enough\n");
    let setup = setup.set("TIMESALE_UNPROBED", "v1").with_operator();
    let host = setup.start().await;
    let granted = json!({ "host_calls_max": 50 });
    let first = host.runs_under("v2", granted.clone()).await;
    let line = host.last_audit("v2").await;
    let host = host.kill().await.start().await;
    let stayed = async |host: &Host| {
        let again = host.runs_under("v2", granted.clone()).await;
        assert_eq!(again["epoch"], first["epoch"]);
        assert_eq!(host.last_audit("v2").await, line);
        assert_eq!(host.swaps("v2", "swapped").await, 0.0);
    };
    stayed(&host).await;
    // That the folder was looked into since is seen by what came after.
    fs::remove_file(host.grants_file()).unwrap();
    fs::write(
        host.setup().data().join("strategies/v1.wasm"),
        build("v1", 1),
    )
    .unwrap();
    host.runs("v1", &revision(&build("v1", 1))).await;
    stayed(&host).await;
    let host = host.kill().await.start().await;
    stayed(&host).await;
    // A host that was down meanwhile takes what was written.
    let setup = host.kill().await;
    fs::write(setup.data().join("strategies/grants.toml"), "").unwrap();
    let host = setup.start().await;
    let given_back = host.runs_under("v2", json!({})).await;
    let epoch = first["epoch"].as_i64().unwrap();
    assert_eq!(given_back["epoch"], epoch + 1);
}

#[tokio::test]
async fn a_component_and_the_grants_beside_it_go_live_as_one_change() {
    let host = granting(&["v1"], "[v1]\nhost_calls_max = 50\n");
    let host = host.with_operator().start().await;
    let before = host.shown("v1").await["epoch"].as_i64().unwrap();
    let component = build("v1", 1);
    fs::write(host.setup().data().join("strategies/v1.wasm"), &component).unwrap();
    host.write_grants("[v1]\nhost_calls_max = 60\n[v10]\nhost_calls_max = 70\n");
    host.runs("v1", &revision(&component)).await;
    let together = host.runs_under("v1", json!({ "host_calls_max": 60 })).await;
    assert_eq!(together["epoch"], before + 1);
    assert_eq!(host.last_audit("v1").await["action"], "push");
    // A component that comes by another way keeps what its version has.
    host.push_well("v1", "", build("v1", 2)).await;
    assert_eq!(host.shown("v1").await["grants"], together["grants"]);
    // One of a version that nobody knows has what is written for it here, which until now was worth a warning.
    let warning = host.logged("[v10]").await;
    assert!(warning.contains("no version that is known"), "{warning}");
    let unknown = fs::read(staged().join("v9.wasm")).unwrap();
    host.push_well("v10", "", unknown).await;
    host.runs_under("v10", json!({ "host_calls_max": 70 }))
        .await;
    let warned = host.log().into_iter().filter(|line| line.contains("[v10]"));
    assert_eq!(warned.count(), 1);
}

#[tokio::test]
async fn a_component_that_was_refused_with_its_grants_is_tried_again_with_others() {
    let host = granting(&["v1"], "[v1]\nhost_calls_max = 50\n");
    let host = host.with_operator().start().await;
    host.write_grants("[v1]\nhost_calls_max = \"few\"\n");
    let component = build("v1", 1);
    fs::write(host.setup().data().join("strategies/v1.wasm"), &component).unwrap();
    host.logged("expected u32").await;
    host.write_grants("[v1]\nhost_calls_max = 40\n");
    host.runs("v1", &revision(&component)).await;
    host.runs_under("v1", json!({ "host_calls_max": 40 })).await;
}

#[tokio::test]
async fn grants_wait_for_the_end_of_a_trial() {
    let host = granting(&["v1"], "").with_operator().start().await;
    let candidate = build("v1", 1);
    host.push_well("v1", "?share=30", candidate.clone()).await;
    host.write_grants("[v1]\nhost_calls_max = 40\n[v77]\n");
    // The file was read.
    host.logged("[v77]").await;
    assert_eq!(host.shown("v1").await["grants"], json!({}));
    host.act_well("v1", "promote").await;
    let shown = host.runs_under("v1", json!({ "host_calls_max": 40 })).await;
    assert_eq!(shown["live"]["revision"], revision(&candidate).as_str());
    // What was live before has them as well when it comes back.
    host.act_well("v1", "rollback").await;
    host.runs_under("v1", json!({ "host_calls_max": 40 })).await;
    host.runs("v1", &revision(&build("v1", 0))).await;
}

#[tokio::test]
async fn the_bound_on_calls_is_raised_and_lowered_while_calls_run() {
    let calls_max = |max: u32| format!("[{FAULTY}]\ncalls_max = {max}\n");
    let setup = granting(&["v1", FAULTY], &calls_max(1)).with_operator();
    let host = setup.set("TIMESALE_PERMIT_WAIT_MS", 50).start().await;
    let sale = host.shop.sale(100).await;
    let hold = |user: u64| tokio::spawn(host.shop.buy(FAULTY, sale, 100 * user + HOLDS, 10).send());
    let is_full = async |user: u64| {
        assert_eq!(host.told(sale, user, BUYS).await, "503 OVERLOADED");
    };

    let first = hold(1);
    in_flight(&host, 1.0).await;
    is_full(2).await;
    host.write_grants(&calls_max(3));
    host.runs_under(FAULTY, json!({ "calls_max": 3 })).await;
    assert_eq!(first.await.unwrap().brief(), "201");

    // They stand in line for the lock of the sale, so that the last runs for nine seconds.
    let three = [3, 4, 5].map(hold);
    in_flight(&host, 3.0).await;
    is_full(6).await;
    host.write_grants(&calls_max(1));
    host.runs_under(FAULTY, json!({ "calls_max": 1 })).await;
    for running in three {
        assert_eq!(running.await.unwrap().brief(), "201");
    }
    host.at_rest().await;
    let last = hold(7);
    in_flight(&host, 1.0).await;
    is_full(8).await;
    assert_eq!(last.await.unwrap().brief(), "201");
    assert_eq!(host.told(sale, 9, BUYS).await, "201");
}

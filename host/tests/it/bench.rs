//! `timesale bench`: it measures a host that runs or one of its own, and prints a speed only beside a ledger that is right.

use serde_json::Value;

use super::support::{Host, Setup, VERSIONS, process::Process, within};

/// How a bench ended, and what it printed.
struct Bench {
    success: bool,
    stdout: String,
    stderr: Vec<String>,
}

/// Runs a bench, as short as it can be beside what is said otherwise.
async fn bench(arguments: &[&str], environment: &[(String, String)]) -> Bench {
    let short = ["bench", "--seconds", "1", "--warmup-seconds", "0"];
    let process = Process::launch(&[&short[..], arguments].concat(), environment);
    let (stdout, stderr) = (process.stdout.clone(), process.stderr.clone());
    Bench {
        success: within("the end of the bench", process.wait()).await,
        stdout: stdout.whole().await.join("\n"),
        stderr: stderr.whole().await,
    }
}

impl Bench {
    fn json(&self) -> Value {
        assert!(self.success, "{}\n{:#?}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// The flags that lead to a host.
fn target(host: &Host) -> [String; 4] {
    let url = format!("http://{}", host.shop.address());
    let management = format!("http://{}", host.management_address());
    [
        "--url".to_owned(),
        url,
        "--management-url".to_owned(),
        management,
    ]
}

/// Runs a bench of a host that runs.
async fn bench_of(host: &Host, arguments: &[&str]) -> Bench {
    let target = target(host);
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    bench(&[&target[..], arguments].concat(), &[]).await
}

#[tokio::test]
async fn every_version_is_measured_and_its_ledger_is_right() {
    let host = Setup::new().with_strategies(&VERSIONS).start().await;
    let arguments = ["--buyers", "4", "--sales", "3", "--rounds", "2", "--json"];
    let report = bench_of(&host, &arguments).await.json();
    let rows = report["rows"].as_array().unwrap();
    let versions: Vec<_> = rows
        .iter()
        .filter_map(|row| row["version"].as_str())
        .collect();
    assert_eq!(versions, VERSIONS);
    for row in rows {
        assert_eq!(row["runs"].as_array().unwrap().len(), 2, "{row:#}");
        for run in row["runs"].as_array().unwrap() {
            assert_eq!(run["verdict"], "right", "{row:#}");
        }
        for figure in [
            "acceptedPerSecond",
            "completedPerSecond",
            "p50Ms",
            "p999Ms",
            "cpuMicrosPerAnswer",
        ] {
            assert!(row["median"][figure].as_f64().unwrap() > 0.0, "{row:#}");
        }
        for none in ["refused", "turnedAway", "failed"] {
            assert_eq!(row["median"][none], 0.0, "{row:#}");
        }
    }
}

#[tokio::test]
async fn a_sale_that_runs_out_is_sold_to_the_last_piece_and_refusals_are_counted() {
    let host = Setup::new().with_strategies(&VERSIONS).start().await;
    let arguments = [
        "--buyers",
        "4",
        "--stock",
        "10",
        "--rounds",
        "1",
        "--purchases-max",
        "200",
        "--json",
    ];
    let report = bench_of(&host, &arguments).await.json();
    for row in report["rows"].as_array().unwrap() {
        let figures = &row["median"];
        assert!(figures["refused"].as_f64().unwrap() > 0.0, "{row:#}");
        assert!(figures["refusedP99Ms"].as_f64().unwrap() > 0.0, "{row:#}");
        assert_eq!(row["runs"][0]["verdict"], "right");
    }
}

#[tokio::test]
async fn an_open_loop_offers_what_was_asked_for() {
    let host = Setup::new().with_strategies(&["v9"]).start().await;
    let arguments = ["--buyers", "4", "--rate", "40", "--rounds", "1", "--json"];
    let report = bench_of(&host, &arguments).await.json();
    // A second of it, however long each took.
    let labels = [("version", "v9"), ("result", "success")];
    let sold = host
        .at_rest()
        .await
        .sum("time_sale_purchases_total", &labels);
    assert_eq!(sold, 40.0, "{report:#}");
}

#[tokio::test]
async fn a_wrong_ledger_is_told_of_and_prints_no_speed() {
    let host = Setup::new().with_strategies(&["v1", "v9"]).start().await;
    // Somebody else buys through the version: the host counts more than the bench bought.
    let sale = host.shop.sale(1_000_000).await;
    let others = async {
        loop {
            host.shop.buy("v9", sale, 42, 1).send().await.order_id();
        }
    };
    let bench = tokio::select! {
        bench = bench_of(&host, &["--versions", "v9", "--buyers", "2", "--rounds", "1"]) => bench,
        () = others => unreachable!(),
    };
    assert!(!bench.success);
    let row = bench
        .stdout
        .lines()
        .find(|line| line.starts_with("v9 "))
        .unwrap();
    assert!(row.contains("WRONG: the host counts "), "{row}");
}

#[tokio::test]
async fn a_host_that_it_starts_itself_is_measured_and_gone_afterwards() {
    let setup = Setup::new().with_strategies(&["v9"]);
    let folder = setup.data().display().to_string();
    let environment = [
        (
            "TIMESALE_STRATEGIES".to_owned(),
            format!("{folder}/strategies"),
        ),
        ("TMPDIR".to_owned(), folder.clone()),
    ];
    let bench = bench(&["--buyers", "2", "--rounds", "1"], &environment).await;
    assert!(bench.success, "{:#?}", bench.stderr);
    let row = bench.stdout.lines().find(|line| line.starts_with("v9 "));
    assert!(row.unwrap().ends_with("  right"), "{}", bench.stdout);
    let left: Vec<_> = std::fs::read_dir(setup.data()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn another_machine_and_a_version_that_is_not_there_are_refused() {
    let host = Setup::new().with_strategies(&["v9"]).start().await;
    for (arguments, says) in [
        (
            [
                "--url",
                "http://192.0.2.1:1",
                "--management-url",
                "http://127.0.0.1:1",
            ],
            "loads loopback alone",
        ),
        (
            [
                "--url",
                "https://127.0.0.1:1",
                "--management-url",
                "http://127.0.0.1:1",
            ],
            "http://host:port",
        ),
    ] {
        let refused = bench(&arguments, &[]).await;
        assert!(!refused.success);
        assert!(
            refused.stderr.iter().any(|line| line.contains(says)),
            "{:#?}",
            refused.stderr
        );
    }
    let refused = bench_of(&host, &["--versions", "v9,v77"]).await;
    assert!(!refused.success && refused.stdout.is_empty());
    let says = "the host does not serve v77; it serves v9";
    assert!(
        refused.stderr.iter().any(|line| line.contains(says)),
        "{:#?}",
        refused.stderr
    );
}

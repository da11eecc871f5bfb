//! What a purchase costs, in what repeats on any machine: host functions, SQL statements and commands to Redis, in a table that is checked in.
//!
//! A change that makes a purchase ask for more fails here, and prints the table as it would be.
//! What the guest's part costs is `fuel`'s, and that a call by itself makes no system call is `system_calls`'.
//! Not in it is what does not repeat: the system calls of a whole purchase, because they follow the scheduler; the statements of the asynchronous version, because where its settlement begins, its purchase has not always ended.

mod fuel;
#[cfg(target_os = "linux")]
#[path = "../../benches/scene/mod.rs"]
mod scene;
#[cfg(target_os = "linux")]
mod system_calls;

use std::{fmt::Write as _, fs};

use super::support::{
    ASYNCHRONOUS, FAULTY, Host, Setup, VERSIONS, commands::Commands, eventually, repository,
};

/// The buyer whose call aborts at once, and so leaves a line in the log behind all that came before.
const ABORTS: u64 = 1;
/// What that line says.
const ABORTED: &str = "the guest did not return";
/// What sqlx's line about a statement says.
const STATEMENT: &str = "sqlx::query:";
/// The host function of a settle call.
const SETTLES: &str = "db.purchase";
/// How often a purchase is watched: what the host does by itself meanwhile counts in none or few of them.
const WATCHED: u64 = 5;

#[tokio::test]
async fn a_purchase_asks_for_as_much_as_the_table_says() {
    let setup = Setup::new().set(
        "RUST_LOG",
        "info,timesale::capability=trace,sqlx::query=debug",
    );
    let name = if setup.world().is_real() {
        "real"
    } else {
        "embedded"
    };
    let mut commands = setup.world().commands();
    let host = setup.start().await;
    let mut table = String::new();
    for version in VERSIONS {
        let open = host.shop.sale(1_000).await;
        let sold_out = host.shop.sale(1).await;
        host.shop.buy(version, sold_out, 99, 1).follow().await;
        for (case, sale) in [("an order", open), ("a refusal", sold_out)] {
            // The first asks for what later ones find.
            host.shop.buy(version, sale, 99, 1).follow().await;
            host.at_rest().await;
            let mut seen = Vec::new();
            for user in 1..=WATCHED {
                seen.push(watch(&host, &mut commands, version, sale, user).await);
            }
            let functions = seen[0].functions.join(" ");
            let least = |count: fn(&Cost) -> usize| seen.iter().min_by_key(|it| count(it)).unwrap();
            let statements = match version {
                ASYNCHRONOUS => "–".to_owned(),
                _ => least(|it| it.statements).statements.to_string(),
            };
            let asked = match &least(|it| it.commands.len()).commands[..] {
                [] if commands.is_none() => "–".to_owned(),
                [] => "none".to_owned(),
                names => names.join(" "),
            };
            writeln!(
                table,
                "{version} | {case} | {functions} | {statements} | {asked}"
            )
            .unwrap();
        }
    }
    let file = repository().join(format!("host/tests/it/costs/{name}.txt"));
    let checked_in = fs::read_to_string(&file).unwrap_or_default();
    let (head, rows) = checked_in.split_once("\n\n").unwrap_or_default();
    assert!(
        rows == table,
        "{} would be:\n{head}\n\n{table}",
        file.display()
    );
}

/// What one purchase asked for.
struct Cost {
    functions: Vec<String>,
    statements: usize,
    commands: Vec<String>,
}

async fn watch(
    host: &Host,
    commands: &mut Option<Commands>,
    version: &str,
    sale: u64,
    user: u64,
) -> Cost {
    let before = host.log().len();
    since(commands).await;
    let settles = host.shop.buy(version, sale, user, 1).send().await.brief() == "202";
    if settles {
        // It is settled by one step of the database.
        eventually("the settle call", async || {
            let log = host.log();
            let settled = log[before..]
                .iter()
                .any(|line| line.contains("function=\"purchase\""));
            settled.then_some(()).ok_or(log)
        })
        .await;
    }
    host.shop.buy(FAULTY, sale, ABORTS, 1).send().await;
    let lines = eventually("the end of the purchase in the log", async || {
        let log = host.log();
        let end = log[before..].iter().position(|line| line.contains(ABORTED));
        end.map(|end| log[before..before + end].to_vec()).ok_or(log)
    })
    .await;
    let own = format!("version={version} capability=\"");
    let functions = lines.iter().filter_map(|line| {
        let (_, function) = line.split_once(&own)?;
        let (capability, rest) = function.split_once('"')?;
        let function = rest.split('"').nth(1)?;
        Some(format!("{capability}.{function}"))
    });
    let mut functions: Vec<String> = functions.collect();
    // Settlement may be done before the purchase hears that the log has its request.
    functions.sort_by_key(|function| settles && function == SETTLES);
    Cost {
        functions,
        statements: lines.iter().filter(|line| line.contains(STATEMENT)).count(),
        commands: since(commands).await,
    }
}

/// What Redis was asked since this was last asked; nothing where it is embedded.
async fn since(commands: &mut Option<Commands>) -> Vec<String> {
    match commands {
        Some(commands) => commands.since().await,
        None => Vec::new(),
    }
}

//! What the guest's part of a purchase costs in wasmtime's fuel, in a table that is checked in: instructions, and the bytes of data that are copied into a fresh memory.
//!
//! Not for the host's part, and not on the host's engine, which counts no fuel, because each call would pay for that.
//! Fuel repeats exactly for one component, but another compiler makes another component of the same source.
//! So the table names its compiler: what comes from that one must cost what the table says, and what comes from another at most a quarter more.

use std::{collections::BTreeSet, fmt::Write as _, fs, sync::Arc};

use clap::Parser as _;
use timesale::{
    capability::{
        self, CallState, Hangup, Operation, Task,
        bindings::{StrategyPre, timesale::strategy::types},
    },
    config::{Cli, Limits, grants::Grants},
    domain::{NewProduct, NewSale, Request, RequestId, RevisionId, SaleId, Version, now},
    strategy::{engine, probe::Scratch},
};
use wasmparser::{KnownCustom, Payload};
use wasmtime::{
    Engine, Store,
    component::{Component, Linker},
};

use crate::support::{ASYNCHRONOUS, PATIENCE, repository, staged};

/// The strategies of this repository; v9 is one of them under another name.
const ORIGINALS: [&str; 4] = ["v1", "v2", "v3", "v4"];
/// The buyer whose purchases come first, and leave what later ones find.
const FIRST: i64 = 99;
/// How often a purchase is made: each costs the same.
const REPEATED: i64 = 3;

#[tokio::test]
async fn a_guest_uses_as_much_fuel_as_the_table_says() {
    let scene = Scene::open().await;
    let (mut rows, mut compilers) = (String::new(), BTreeSet::new());
    for version in ORIGINALS {
        let bytes = fs::read(staged().join(format!("{version}.wasm"))).unwrap();
        compilers.insert(compiler(&bytes));
        let guest = scene.guest(version, &bytes);
        let (open, sold_out) = (scene.sale(1_000).await, scene.sale(1).await);
        for sale in [open, sold_out] {
            let first = guest.call(Operation::Purchase, sale, FIRST).await;
            assert!(first.agreed, "{version}");
        }
        if version == ASYNCHRONOUS {
            let settled = guest.call(Operation::Settle, sold_out, FIRST).await;
            assert!(settled.agreed, "{version}");
        }
        let mut cases = vec![
            ("an order", Operation::Purchase, open),
            ("a refusal", Operation::Purchase, sold_out),
        ];
        if version == ASYNCHRONOUS {
            cases.push(("a settlement of one", Operation::Settle, open));
        }
        for (case, operation, sale) in cases {
            let mut seen = BTreeSet::new();
            for user in 1..=REPEATED {
                let called = guest.call(operation, sale, user).await;
                assert_eq!(called.agreed, sale == open, "{version}: {case}");
                seen.insert(called.fuel);
            }
            assert_eq!(seen.len(), 1, "{version}: {case} does not repeat: {seen:?}");
            let fuel = seen.first().unwrap();
            writeln!(rows, "{version} | {case} | {fuel}").unwrap();
        }
    }
    let compilers: Vec<_> = compilers.into_iter().collect();
    let compiler = format!("Compiled by {}.", compilers.join(" and "));
    let file = repository().join("host/tests/it/costs/fuel.txt");
    let checked_in = fs::read_to_string(&file).unwrap_or_default();
    let (head, held) = checked_in.split_once("\n\n").unwrap_or_default();
    let (head, their_compiler) = head.rsplit_once('\n').unwrap_or_default();
    let holds = match compiler == their_compiler {
        true => rows == held,
        false => is_near(&rows, held),
    };
    assert!(
        holds,
        "{} would be:\n{head}\n{compiler}\n\n{rows}",
        file.display()
    );
}

/// Whether the same rows cost at most a quarter more.
fn is_near(rows: &str, held: &str) -> bool {
    let parse = |row: &str| {
        let (name, fuel) = row.rsplit_once(" | ").unwrap();
        (name.to_owned(), fuel.parse::<u64>().unwrap())
    };
    let (rows, held): (Vec<_>, Vec<_>) = (
        rows.lines().map(parse).collect(),
        held.lines().map(parse).collect(),
    );
    let mut pairs = rows.iter().zip(&held);
    rows.len() == held.len() && pairs.all(|(it, held)| it.0 == held.0 && it.1 * 4 <= held.1 * 5)
}

/// The compiler that a component says it comes from.
fn compiler(component: &[u8]) -> String {
    let sections = wasmparser::Parser::new(0).parse_all(component);
    let producers = sections.filter_map(|payload| match payload.unwrap() {
        Payload::CustomSection(section) => match section.as_known() {
            KnownCustom::Producers(fields) => Some(fields),
            _ => None,
        },
        _ => None,
    });
    let values = producers.flatten().flat_map(|field| field.unwrap().values);
    let mut values = values.map(Result::unwrap);
    let rustc = values.find(|value| value.name == "rustc").unwrap();
    format!("rustc {}", rustc.version)
}

/// An engine that counts, and embedded backends.
struct Scene {
    engine: Engine,
    linker: Linker<CallState>,
    limits: Arc<Limits>,
    scratch: Scratch,
}

impl Scene {
    async fn open() -> Self {
        let mut limits = Cli::try_parse_from(["timesale"]).unwrap().config.limits;
        // A slow machine decides nothing.
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap();
        (limits.call_deadline_ms, limits.transaction_hold_ms) = (patience, patience);
        (limits.lock_hold_ms, limits.lock_lease_ms) = (patience, patience);
        let limits = Arc::new(limits);
        let mut config = engine::config(None).unwrap();
        let engine = Engine::new(config.consume_fuel(true)).unwrap();
        let mut linker = Linker::new(&engine);
        capability::link(&mut linker).unwrap();
        let host = Arc::new(engine::Engine::new(&limits, None).unwrap());
        let scratch = Scratch::open(&host, &limits).await.unwrap();
        Self {
            engine,
            linker,
            limits,
            scratch,
        }
    }

    /// Plans a sale that is open now.
    async fn sale(&self, quantity: i64) -> SaleId {
        let database = &self.scratch.means.backends.database;
        let product = NewProduct {
            name: "Keyboard".to_owned(),
            price: 100_000,
            description: "Clicks.".to_owned(),
        };
        let product = database.create_product(&product, now()).await.unwrap();
        let sale = NewSale {
            product_id: product.id,
            quantity,
            discount_price: 50_000,
            start_at: "2020-01-01T00:00:00Z".parse().unwrap(),
            end_at: "2099-01-01T00:00:00Z".parse().unwrap(),
            limit_per_user: None,
        };
        let sale = database.create_sale(&sale, now()).await.unwrap();
        sale.unwrap().id
    }

    fn guest(&self, version: &str, bytes: &[u8]) -> Guest<'_> {
        let component = Component::from_binary(&self.engine, bytes).unwrap();
        let pre = self.linker.instantiate_pre(&component).unwrap();
        Guest {
            scene: self,
            version: Version::parse(version).unwrap(),
            pre: StrategyPre::new(pre).unwrap(),
        }
    }
}

/// A version that can be called.
struct Guest<'a> {
    scene: &'a Scene,
    version: Version,
    pre: StrategyPre<CallState>,
}

/// What came of a call.
struct Called {
    fuel: u64,
    agreed: bool,
}

impl Guest<'_> {
    /// One call in a fresh instance, for one piece.
    async fn call(&self, operation: Operation, sale_id: SaleId, user_id: i64) -> Called {
        let revision = RevisionId("0".repeat(12).into());
        let request = Request {
            // Of a buyer's purchase in one sale, and as long as those of a host.
            id: RequestId(format!("{:064x}", sale_id * 1_000 + user_id).into()),
            key: None,
            sale_id,
            user_id,
            quantity: 1,
            accepted_at: now(),
            version: self.version.clone(),
            revision: revision.clone(),
        };
        let asked = types::Request::from((0, &request));
        let task = Task {
            operation,
            version: self.version.clone(),
            revision,
            requests: vec![request],
            hangup: Hangup::default(),
        };
        let Scene {
            engine,
            limits,
            scratch,
            ..
        } = self.scene;
        let grants = Arc::new(Grants::without_a_section(limits));
        let reach = scratch.means.reach(None);
        let mut store = Store::new(engine, CallState::new(task, reach, grants));
        store.set_fuel(u64::MAX).unwrap();
        // Nothing moves this engine's clock.
        store.set_epoch_deadline(1);
        let instance = self.pre.instantiate_async(&mut store).await.unwrap();
        let exports = instance.timesale_strategy_purchasing();
        let agreed = match operation {
            Operation::Settle => {
                let settled = exports.call_settle(&mut store, &[asked]).await.unwrap();
                matches!(settled[..], [Ok(_)])
            }
            _ => exports
                .call_purchase(&mut store, &asked)
                .await
                .unwrap()
                .is_ok(),
        };
        let fuel = u64::MAX - store.get_fuel().unwrap();
        store.data_mut().release().await;
        Called { fuel, agreed }
    }
}

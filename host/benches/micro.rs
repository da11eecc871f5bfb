//! What the parts of a purchase cost by themselves: `cargo bench -p timesale --bench micro`, after `make bench-plugins`.
//!
//! Not for throughput, which is `timesale bench`, nor for what is promised, which is `make bench`.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that meets what it does not expect has failed"
)]

mod scene;

use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use divan::{Bencher, black_box};
use serde_json::Value;
use timesale::{
    capability::{CallState, bindings::timesale::strategy::types},
    strategy::{
        Strategy,
        engine::Engine,
        slots::{Selling, Slots},
    },
    telemetry::{
        Telemetry,
        labels::{Function, HostOutcome, Outcome},
        recorders::{Export, StrategyMetrics},
    },
};
use wasmtime::Store;

use self::scene::{Scene, at_once};

/// The host functions that a call asks.
const HOST_CALLS: [u32; 3] = [0, 1, 4];

/// Where `make bench-plugins` puts the components.
const COMPONENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/strategies-bench");

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    Telemetry::install().unwrap();
    // The backends' tasks run on it for as long as the process does.
    let runtime = Box::leak(Box::new(tokio::runtime::Runtime::new().unwrap()));
    runtime
        .block_on(Scene::open(Path::new(COMPONENTS)))
        .unwrap()
});

fn main() {
    LazyLock::force(&SCENE);
    divan::main();
}

/// Instantiate and call, as each purchase does.
#[divan::bench(args = HOST_CALLS, threads = [1, 2])]
fn fresh_instance(bencher: Bencher<'_, '_>, host_calls: u32) {
    bencher.bench(|| SCENE.call(host_calls));
}

/// The same call in an instance that is kept: what the host does not do, for the sake of isolation.
#[divan::bench(args = HOST_CALLS, threads = [1, 2])]
fn reused_instance(bencher: Bencher<'_, '_>, host_calls: u32) {
    let engine = Arc::new(Engine::new(&SCENE.means.limits, None).unwrap());
    let bytes = std::fs::read(Path::new(COMPONENTS).join("noop.wasm")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let compiled = runtime.block_on(engine.compile(bytes)).unwrap();
    bencher
        .with_inputs(|| {
            let state = CallState::new(
                SCENE.task(host_calls),
                Arc::clone(SCENE.reach.own()),
                Arc::clone(SCENE.revision.grants()),
            );
            let mut store = Store::new(engine.wasm(), state);
            store.set_epoch_deadline(u64::MAX / 2);
            let instance =
                at_once(compiled.linked.own().pre.instantiate_async(&mut store)).unwrap();
            (store, instance)
        })
        .bench_refs(|(store, instance)| {
            let requests: Vec<types::Request> = (0..)
                .zip(&store.data().task.requests)
                .map(types::Request::from)
                .collect();
            let exports = instance.timesale_strategy_purchasing();
            let request = requests.first().unwrap();
            let called = at_once(exports.call_purchase(store, request));
            black_box(called.unwrap().is_err())
        });
}

/// What runs of a version, and nothing on trial.
fn slots() -> Slots {
    Slots {
        live: Arc::clone(&SCENE.revision),
        trial: None,
        selling: Selling::Open,
    }
}

/// What a swap is to the calls that begin after it: new slots in the place of the old.
#[divan::bench(threads = [1, 2])]
fn swap(bencher: Bencher<'_, '_>) {
    let strategy = Strategy::new(slots(), Arc::clone(&SCENE.means));
    bencher.bench(|| black_box(strategy.swap(slots())));
}

/// What each call pays so that it can be swapped: the look at the slots.
#[divan::bench(threads = [1, 2])]
fn choice_of_a_revision(bencher: Bencher<'_, '_>) {
    let strategy = Strategy::new(slots(), Arc::clone(&SCENE.means));
    bencher.bench(|| black_box(strategy.choose(42)));
}

fn recorders() -> &'static StrategyMetrics {
    SCENE.reach.own().metrics.as_ref().unwrap()
}

/// The record of one host function, of which a purchase makes some four.
#[divan::bench(threads = [1, 2])]
fn record_of_a_host_function() {
    let took = black_box(Duration::from_micros(100));
    recorders().host_call(Function::Get, HostOutcome::Ok, took);
}

/// The record of a call.
#[divan::bench(threads = [1, 2])]
fn record_of_a_call() {
    let took = black_box(Duration::from_micros(100));
    recorders().call_ended(Export::Purchase, Outcome::Completed, None, took);
}

/// A purchase's body, as it comes in.
#[divan::bench]
fn json_in() -> Value {
    serde_json::from_slice(black_box(br#"{"userId":42,"quantity":1}"#)).unwrap()
}

/// An order's body, as it goes out.
#[divan::bench]
fn json_out(bencher: Bencher<'_, '_>) {
    let order = serde_json::json!({
        "orderId": 1, "requestId": "00".repeat(32), "timeSaleId": 1, "userId": 42, "productId": 1,
        "quantity": 1, "discountPrice": 50_000, "purchasedAt": "2026-01-01T00:00:00Z", "totalWaiting": null,
    });
    bencher.bench(|| serde_json::to_vec(black_box(&order)).unwrap());
}

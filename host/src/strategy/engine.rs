//! The one wasmtime engine: its settings, its clock, and how bytes become something that can be instantiated.
//!
//! The settings follow measurements: a pool whose slots stay resident makes a fresh instance cheap, and epochs let a spinning guest yield.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
};
use wasmtime::{
    Cache, CacheConfig, Config, Engine as WasmEngine, Func, InstanceAllocationStrategy,
    PoolingAllocationConfig, Store,
    component::{Component, ComponentExportIndex, Linker},
};

use super::{compiler::Compiler, pipeline::Step};
use crate::{
    backend::System,
    capability::{self, CallState, TABLE_ELEMENTS_MAX, bindings::StrategyPre},
    config::{
        CONTRACT_VERSION, Limits,
        grants::{self, Capability},
    },
    desired::Digest,
    parts::{self, Parts},
};

/// How often guests are made to yield.
const EPOCH: Duration = Duration::from_millis(10);
/// Instances that may live at once, over all versions, and memories of theirs.
///
/// No more memories than instances: a memory stays resident once it was used, and of those that are free threads take others than the last crowd's.
const INSTANCES_MAX: u32 = 1024;
/// Those of them that no purchase takes: for settling, describing and probing.
const INSTANCES_KEPT: u32 = 64;
/// Memories of one component: enough for guests of scripting languages.
const MEMORIES_MAX: u32 = 4;
/// Core instances and tables of one component, of which the pool has so many for each instance.
const CORE_INSTANCES_MAX: u32 = 32;
const TABLES_MAX: u32 = 32;
/// Bytes of a memory that stay resident in its slot between calls: twice what other toolchains begin with, and five times what the SDK does, for what is beyond costs each call a system call.
const MEMORY_RESIDENT_BYTES: usize = 128 << 10;
/// Bytes of a table that stay resident in its slot between calls.
const TABLE_RESIDENT_BYTES: usize = 8 << 10;
/// How long workers wait for each other before they first use the pool.
const SPREAD_WAIT: Duration = Duration::from_millis(100);
/// What every import of a strategy begins with.
const CONTRACT: &str = "timesale:strategy/";

/// The engine, with every capability linked.
pub struct Engine {
    wasm: WasmEngine,
    linker: Linker<CallState>,
    compiler: Option<Compiler>,
    room: Semaphore,
}

/// A component that can be instantiated.
pub struct Linked {
    /// What instances are made of.
    pub pre: StrategyPre<CallState>,
    /// Its export `purchase`.
    pub purchase: ComponentExportIndex,
}

/// A component that was compiled and linked.
pub struct Compiled {
    /// Names the component.
    pub digest: Digest,
    /// The component, linked: each part has its own, since every instance counts itself a user of the code.
    pub linked: Parts<Linked>,
    /// What an instance of it takes of the pool, counted in memories.
    pub room: u32,
    /// The interfaces that it imports, all of the contract.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// How long it took to compile.
    pub compiling: Duration,
    /// How long it took to link.
    pub linking: Duration,
}

impl Compiled {
    /// The backends that it cannot do without.
    pub fn needs(&self) -> Vec<System> {
        // Every strategy needs the database: what it sells is final there.
        let needs = [
            (System::Database, true),
            (System::Redis, self.wants(Capability::Redis)),
            (System::Kafka, self.wants(Capability::Kafka)),
        ];
        needs
            .into_iter()
            .filter_map(|(system, needed)| needed.then_some(system))
            .collect()
    }

    /// Whether it imports a capability.
    pub fn wants(&self, capability: Capability) -> bool {
        let interface = format!("{CONTRACT}{}@", capability.name());
        self.imports.iter().any(|name| name.starts_with(&interface))
    }
}

/// Why a file is no strategy.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not Wasm, or damaged.
    #[error("it is not a WebAssembly component: {0}")]
    NotWasm(String),
    /// A core module.
    #[error("it is a core module, not a component: build it with `make plugin P=<dir>`")]
    CoreModule,
    /// It wants what no strategy is given.
    #[error(
        "it imports `{0}`, and a strategy is given nothing but {CONTRACT}* (no WASI, no clock, no network)"
    )]
    ForeignImport(String),
    /// It wants a capability that the operator keeps from it.
    #[error("it imports `{0}`, and the operator's {file} does not grant it", file = grants::FILE_NAME)]
    NotGranted(&'static str),
    /// A component of another world.
    #[error("it is not a component of world timesale:strategy/strategy@{CONTRACT_VERSION}: {0}")]
    OtherWorld(String),
    /// It cannot be compiled within the engine's bounds.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// `describe` did not answer.
    #[error("its `describe` does not answer: {0}")]
    Describe(String),
    /// `describe` answered with a name that is no label.
    #[error("its operation `{0}` is not of the form [a-z][A-Za-z]{{2,40}}")]
    Operation(String),
}

impl Refused {
    /// The step that refused it.
    pub const fn step(&self) -> Step {
        match self {
            Self::NotWasm(_) | Self::CoreModule | Self::Compile(_) => Step::Compile,
            Self::ForeignImport(_) | Self::OtherWorld(_) | Self::NotGranted(_) => Step::Link,
            Self::Describe(_) | Self::Operation(_) => Step::Describe,
        }
    }
}

impl Engine {
    /// Builds the engine and starts its clock, which ends with it; without a compiler it compiles by itself.
    pub fn new(limits: &Limits, compiler: Option<Compiler>) -> anyhow::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES_MAX)
            .total_core_instances(INSTANCES_MAX * CORE_INSTANCES_MAX)
            .total_memories(INSTANCES_MAX)
            .total_tables(INSTANCES_MAX * TABLES_MAX)
            .total_stacks(INSTANCES_MAX)
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .max_memories_per_component(MEMORIES_MAX)
            .max_tables_per_component(TABLES_MAX)
            .max_memory_size(limits.memory_max_bytes)
            .table_elements(TABLE_ELEMENTS_MAX)
            .linear_memory_keep_resident(MEMORY_RESIDENT_BYTES)
            .table_keep_resident(TABLE_RESIDENT_BYTES);
        let mut config = config(compiler.as_ref().map(Compiler::cache))?;
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let wasm = WasmEngine::new(&config)
            .map_err(|error| anyhow::anyhow!(one_line(&error)))
            .context("cannot build the Wasm engine")?;
        let mut linker = Linker::new(&wasm);
        capability::link(&mut linker)
            .map_err(|error| anyhow::anyhow!(one_line(&error)))
            .context("cannot link the capabilities")?;
        let clock = wasm.weak();
        thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || {
                while let Some(engine) = clock.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    thread::sleep(EPOCH);
                }
            })
            .context("cannot start the epoch clock")?;
        Ok(Self {
            wasm,
            linker,
            compiler,
            room: Semaphore::new((INSTANCES_MAX - INSTANCES_KEPT) as usize),
        })
    }

    /// Has the runtime's workers use the pool, and what else is kept in parts, for the first time, one right after the other.
    ///
    /// wasmtime parts its pool by threads, in the order in which they first use it, as `parts` does.
    /// Where other threads come in between, two workers may be of one part: they wait for each other's locks, and take memories that the other has just cleared.
    /// Workers that are kept from it for long go without; nothing but speed hangs on it.
    pub async fn spread(&self) -> anyhow::Result<()> {
        let workers = Handle::current().metrics().num_workers();
        let here = Arc::new((Mutex::new(0), Condvar::new()));
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let (mut store, here) = (Store::new(&self.wasm, ()), Arc::clone(&here));
            tasks.spawn(async move {
                {
                    let (count, all) = &*here;
                    let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
                    *count += 1;
                    all.notify_all();
                    // A task that waits here holds its worker, so each worker gets one.
                    drop(all.wait_timeout_while(count, SPREAD_WAIT, |count| *count < workers));
                }
                parts::join();
                // To run on a stack of the pool is to use it.
                let nothing = Func::wrap(&mut store, || {});
                nothing.call_async(&mut store, &[], &mut []).await
            });
        }
        while let Some(used) = tasks.join_next().await {
            used?.map_err(|error| anyhow::anyhow!(one_line(&error)))?;
        }
        Ok(())
    }

    /// Room for the instance of one purchase, whatever its version; none where purchases have all that they may.
    pub fn room(&self, instance: u32) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire_many(instance).ok()
    }

    /// Compiles and links a component, in another process or on a thread that serves nobody.
    pub async fn compile(self: &Arc<Self>, bytes: Vec<u8>) -> Result<Compiled, Refused> {
        if wasmparser::Parser::is_core_wasm(&bytes) {
            return Err(Refused::CoreModule);
        }
        if !wasmparser::Parser::is_component(&bytes) {
            return Err(Refused::NotWasm(
                "the file does not begin as one".to_owned(),
            ));
        }
        let began = Instant::now();
        if let Some(compiler) = &self.compiler {
            compiler.compile(&bytes).await?;
        }
        let engine = Arc::clone(self);
        let linked = tokio::task::spawn_blocking(move || engine.link(&bytes, began));
        linked
            .await
            .map_err(|error| Refused::Compile(error.to_string()))?
    }

    fn link(&self, bytes: &[u8], began: Instant) -> Result<Compiled, Refused> {
        let component = self.component(bytes)?;
        let compiling = began.elapsed();
        Step::Compile.done();
        let interface = component.component_type();
        let imports: Vec<String> = interface
            .imports(&self.wasm)
            .map(|(name, _)| name.to_owned())
            .collect();
        let exports = interface.exports(&self.wasm);
        let exports = exports.map(|(name, _)| name.to_owned()).collect();
        if let Some(name) = imports.iter().find(|name| !name.starts_with(CONTRACT)) {
            return Err(Refused::ForeignImport(name.clone()));
        }
        let memories = component
            .resources_required()
            .map_or(MEMORIES_MAX, |resources| resources.num_memories);
        let mut first = Some(component);
        let linked = Parts::try_new(|| match first.take() {
            Some(component) => self.linked(&component),
            None => self.linked(&self.component(bytes)?),
        })?;
        let linking = began.elapsed().saturating_sub(compiling);
        Step::Link.done();
        Ok(Compiled {
            room: memories.max(1),
            digest: Digest::of(bytes),
            linked,
            compiling,
            linking,
            imports,
            exports,
        })
    }

    fn component(&self, bytes: &[u8]) -> Result<Component, Refused> {
        Component::from_binary(&self.wasm, bytes)
            .map_err(|error| Refused::Compile(one_line(&error)))
    }

    fn linked(&self, component: &Component) -> Result<Linked, Refused> {
        let pre = self
            .linker
            .instantiate_pre(component)
            .and_then(StrategyPre::new)
            .map_err(|error| Refused::OtherWorld(one_line(&error)))?;
        // Names that go with this version of the contract are found too.
        let purchasing = format!("{CONTRACT}purchasing@{CONTRACT_VERSION}");
        let purchase = component
            .get_export_index(None, &purchasing)
            .and_then(|purchasing| component.get_export_index(Some(&purchasing), "purchase"))
            .ok_or_else(|| {
                Refused::OtherWorld(format!("it exports no {purchasing} with a `purchase`"))
            })?;
        Ok(Linked { pre, purchase })
    }

    /// wasmtime's own engine, for stores and for the figures of its pool.
    pub const fn wasm(&self) -> &WasmEngine {
        &self.wasm
    }
}

/// What decides how components are compiled, the same wherever they are: by it, too, the cache knows them.
pub fn config(cache: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_component_model(true)
        // No part of the standard yet, and of wasmtime's second tier: finished and fuzzed (its stability-wasm-proposals.md).
        .wasm_custom_page_sizes(true);
    if let Some(folder) = cache {
        let mut cache = CacheConfig::new();
        cache.with_directory(folder);
        let cache = Cache::new(cache)
            .map_err(|error| anyhow::anyhow!(one_line(&error)))
            .context("cannot keep compiled components")?;
        config.cache(Some(cache));
    }
    Ok(config)
}

/// An error and its causes on one line.
pub fn one_line(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ").replace('\n', " ")
}

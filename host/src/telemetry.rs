//! What operators see: the metric catalogue, typed recorders, and the text that Prometheus scrapes.
//!
//! A leaf: it knows the words of `domain` and `config`, and no room that does anything.
//! `app` installs it, `strategy`, `capability` and `settlement` record, `http::management` renders.

pub mod catalogue;
pub mod exposition;
mod http;
pub mod labels;
mod parts;
mod peak;
pub mod queue;
pub mod recorders;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Context as _;
use cpu_time::ProcessTime;
use metrics::gauge;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustix::process::Resource;

use self::{
    catalogue::{CATALOGUE, Kind},
    exposition::Exposition,
    http::HttpTimers,
    parts::{Parted, Recorder},
};
use crate::config::{CONTRACT_VERSION, VERSION};

/// The value of the label `application` on every series.
pub const APPLICATION: &str = "time-sale-service";

/// The installed recorder.
pub struct Telemetry {
    /// Times HTTP requests.
    pub http: HttpTimers,
    handle: PrometheusHandle,
    parted: Arc<Parted>,
    process: metrics_process::Collector,
    cpu: Mutex<(Instant, ProcessTime)>,
}

impl Telemetry {
    /// Installs the process's recorder; a second call in one process fails.
    pub fn install() -> anyhow::Result<Self> {
        let builder = PrometheusBuilder::new().add_global_label("application", APPLICATION);
        let exporter = builder.build_recorder();
        let telemetry = Self {
            http: HttpTimers::default(),
            handle: exporter.handle(),
            parted: Arc::default(),
            process: metrics_process::Collector::default(),
            cpu: Mutex::new((Instant::now(), ProcessTime::now())),
        };
        let recorder = Recorder {
            exporter,
            parted: Arc::clone(&telemetry.parted),
        };
        #[cfg(feature = "twin")]
        let recorder = crate::twin::recording::switched(recorder)?;
        metrics::set_global_recorder(recorder).context("cannot install the metrics recorder")?;
        telemetry.process.describe();
        for metric in CATALOGUE {
            // What is kept in parts brings its help along.
            if let Kind::Gauge = metric.kind {
                metrics::describe_gauge!(metric.name, metric.help);
            }
        }
        gauge!(
            catalogue::BUILD_INFO.name,
            "version" => env!("CARGO_PKG_VERSION"),
            "contract" => CONTRACT_VERSION,
            "commit" => env!("TIMESALE_COMMIT")
        )
        .set(1.0);
        tracing::debug!(build = VERSION, "metrics installed");
        Ok(telemetry)
    }

    /// Shows which share of all cores the process used since the last look.
    fn measure_cpu(&self) {
        let mut last = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall, cpu) = *last;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        #[expect(clippy::cast_precision_loss, reason = "a machine has few cores")]
        let capacity = wall.elapsed().as_secs_f64() * cores as f64;
        if capacity > 0.0 {
            gauge!(catalogue::PROCESS_CPU.name).set(cpu.elapsed().as_secs_f64() / capacity);
            *last = (Instant::now(), ProcessTime::now());
        }
    }

    /// Everything recorded, in Prometheus's text format, families of present state apart.
    pub fn render(&self) -> String {
        self.process.collect();
        if rustix::process::getrlimit(Resource::As).current.is_none() {
            // The collector has 0 for no limit; client libraries of Prometheus have the largest there could be.
            #[expect(
                clippy::cast_precision_loss,
                reason = "as large as it can be is enough"
            )]
            gauge!("process_virtual_memory_max_bytes").set(u64::MAX as f64);
        }
        self.measure_cpu();
        runtime_gauges();
        self.recorded()
    }

    /// The same without a look at the process and the runtime.
    pub fn recorded(&self) -> String {
        let mut page = Exposition::default();
        self.parted.show(&mut page);
        self.handle.render() + &page.finish()
    }
}

fn runtime_gauges() {
    let runtime = tokio::runtime::Handle::current().metrics();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of tasks and threads are small"
    )]
    for (metric, value) in [
        (&catalogue::TOKIO_WORKERS, runtime.num_workers() as f64),
        (&catalogue::TOKIO_TASKS, runtime.num_alive_tasks() as f64),
        (&catalogue::TOKIO_QUEUE, runtime.global_queue_depth() as f64),
    ] {
        gauge!(metric.name).set(value);
    }
}

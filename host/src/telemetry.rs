//! What operators see: the metric catalogue, typed recorders, and the text that Prometheus scrapes.
//!
//! A leaf: it knows the words of `domain` and `config`, and no room that does anything.
//! `app` installs it, `strategy`, `capability` and `settlement` record, `http::management` renders.

pub mod catalogue;
pub mod exposition;
mod http;
pub mod labels;
mod peak;
pub mod queue;
pub mod recorders;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cpu_time::ProcessTime;
use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use self::{
    catalogue::{CATALOGUE, Kind},
    http::HttpTimers,
};
use crate::config::{CONTRACT_VERSION, VERSION};

/// The value of the label `application` on every series.
pub const APPLICATION: &str = "time-sale-service";

/// How often samples are folded into their histograms, at the latest.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The installed recorder.
pub struct Telemetry {
    /// Times HTTP requests.
    pub http: HttpTimers,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    cpu: Mutex<(Instant, ProcessTime)>,
}

impl Telemetry {
    /// Installs the process's recorder; a second call in one process fails.
    pub fn install() -> anyhow::Result<Self> {
        let mut builder = PrometheusBuilder::new().add_global_label("application", APPLICATION);
        for metric in CATALOGUE {
            if let Kind::Histogram(buckets) = metric.kind {
                builder = builder
                    .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
            }
        }
        #[cfg(feature = "twin")]
        if std::env::var_os("TIMESALE_TWIN_RECORDS").is_some_and(|what| what == "nothing") {
            // The other side of the benchmark that says what recording costs.
            return Ok(Self::around(builder.build_recorder().handle()));
        }
        let handle = builder
            .install_recorder()
            .context("cannot install the metrics recorder")?;
        for metric in CATALOGUE {
            match metric.kind {
                Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
                Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
                Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
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
        Ok(Self::around(handle))
    }

    fn around(handle: PrometheusHandle) -> Self {
        let process = metrics_process::Collector::default();
        process.describe();
        Self {
            http: HttpTimers::default(),
            handle,
            process,
            cpu: Mutex::new((Instant::now(), ProcessTime::now())),
        }
    }

    /// Folds recorded samples into their histograms.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
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
        self.measure_cpu();
        runtime_gauges();
        self.recorded()
    }

    /// The same without a look at the process and the runtime.
    pub fn recorded(&self) -> String {
        self.handle.render()
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

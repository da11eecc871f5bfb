//! Puts the rooms together, serves until a signal, and takes them apart in order.
//!
//! Whatever can be wrong with configuration, folders and ports fails here, before a listener answers.

pub mod backends;

use std::{
    convert::Infallible,
    fs::File,
    future::Future,
    path::Path,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use axum::{ServiceExt as _, extract::Request, response::Response};
use jiff::SignedDuration;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use crate::{
    config::Config,
    domain,
    http::{self, App, KeysInFlight, Shared},
    reconciler::Reconciler,
    secret,
    settlement::Settlement,
    strategy::{
        Means,
        compiler::Compiler,
        engine::Engine,
        registry::Registry,
        rollout::{Rollout, RolloutOptions},
        slots::Selling,
    },
    telemetry::Telemetry,
};

/// How often idempotency keys that outlived their sale are deleted.
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often the peaks that head-room is shown by begin anew.
const PEAKS_EVERY: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    config.validate()?;
    let limits = Arc::new(config.limits.clone());
    let telemetry = Arc::new(Telemetry::install()?);
    let embedded = config.database_url.is_none() || config.kafka_brokers.is_none();
    let _lock = embedded
        .then(|| take_data_dir(&config.data_dir))
        .transpose()?;
    let compiler = Compiler::new(&config.data_dir)?;
    let engine = Arc::new(Engine::new(&limits, Some(compiler))?);
    // Before anything else has the workers do something.
    engine.spread().await?;
    let backends = Arc::new(backends::open(&config).await?);
    let ticket_keys = backends::ticket_keys(&config, &backends.database).await?;
    let seller_token = secret::token(
        "TIMESALE_SELLER_TOKEN",
        config.seller_token.as_ref(),
        config.seller_token_file.as_deref(),
    )?;
    let admin_token = secret::token(
        "TIMESALE_ADMIN_TOKEN",
        config.admin_token.as_ref(),
        config.admin_token_file.as_deref(),
    )?;
    let means = Arc::new(Means {
        engine,
        backends: Arc::clone(&backends),
        limits: Arc::clone(&limits),
    });
    let rollout = Arc::new(Rollout::new(
        Arc::clone(&means),
        host_name(),
        RolloutOptions {
            folder: config.strategies.clone(),
            watch: Duration::from_millis(limits.swap_watch_ms),
            unprobed: config.unprobed.clone(),
        },
    ));
    rollout.begin().await?;
    let public = bind("TIMESALE_LISTEN", config.listen).await?;
    let management = bind("TIMESALE_MANAGEMENT_LISTEN", config.management_listen).await?;

    let reconciler = Arc::new(Reconciler::new(Arc::clone(&backends)));
    let app: App = Box::leak(Box::new(Shared {
        reconciler: Arc::clone(&reconciler),
        rollout: Arc::clone(&rollout),
        means,
        backends: Arc::clone(&backends),
        limits: Arc::clone(&limits),
        ticket_keys: Arc::clone(&ticket_keys),
        seller_token: seller_token.clone(),
        admin_token: admin_token.clone(),
        data_dir: config.data_dir.clone(),
        keys_in_flight: KeysInFlight::default(),
        tasks: TaskTracker::new(),
        telemetry: Arc::clone(&telemetry),
        draining: AtomicBool::new(false),
    }));
    greet(&public, &management, &rollout.registry)?;

    let stop = CancellationToken::new();
    let background = TaskTracker::new();
    background.spawn(Arc::clone(&ticket_keys).follow(stop.clone()));
    for token in [seller_token, admin_token].into_iter().flatten() {
        background.spawn(token.follow(stop.clone()));
    }
    background.spawn(Arc::clone(&rollout).run(stop.clone()));
    background.spawn(every(PEAKS_EVERY, stop.clone(), async || {
        rotate_peaks(app);
    }));
    background.spawn(every(PURGE_EVERY, stop.clone(), async || {
        purge_keys(app).await
    }));
    let settlement = Settlement {
        backends: Arc::clone(&backends),
        limits: Arc::clone(&limits),
        rollout: Arc::clone(&rollout),
    };
    let settlement = tokio::spawn(settlement.run(stop.clone()));
    background.spawn(reconciler.run(stop.clone()));
    background.close();

    let observed = CancellationToken::new();
    let management = tokio::spawn(serve_until(
        management,
        http::management(app),
        observed.clone(),
    ));
    serve_public(public, app, drain_signal()?).await?;
    stop.cancel();
    let drain = Duration::from_millis(limits.drain_ms);
    let closed = async {
        settlement.await?;
        // First, so that its partitions are another host's at once: what follows may have to wait for a component to be compiled.
        backends.kafka.close().await;
        background.wait().await;
        observed.cancel();
        management.await??;
        backends.database.close().await;
        anyhow::Ok(())
    };
    match tokio::time::timeout(drain, closed).await {
        Ok(closed) => closed?,
        Err(_) => tracing::warn!("settlement and backends did not end in {drain:?}"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Serves buyers until the signal, then lets what is under way end, within the bound on draining.
async fn serve_public(
    listener: TcpListener,
    app: App,
    signal: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let drain = Duration::from_millis(app.limits.drain_ms);
    let asked = CancellationToken::new();
    let server = tokio::spawn(serve_until(listener, http::public(app), asked.clone()));
    signal.await;
    app.draining.store(true, Ordering::Relaxed);
    asked.cancel();
    app.tasks.close();
    tracing::info!("stopping: no new requests, those under way end");
    let drained = async {
        server.await??;
        app.tasks.wait().await;
        anyhow::Ok(())
    };
    match tokio::time::timeout(drain, drained).await {
        Ok(served) => served,
        Err(_) => {
            tracing::warn!(
                requests = app.tasks.len(),
                "not everything ended in {drain:?}"
            );
            Ok(())
        }
    }
}

async fn serve_until(
    listener: TcpListener,
    service: impl Service<Request, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, service.into_make_service())
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

fn drain_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Makes the data folder and takes it for this process: the embedded backends serve one host at a time.
fn take_data_dir(folder: &Path) -> anyhow::Result<File> {
    let shown = folder.display();
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the data folder {shown}"))?;
    let lock = File::create(folder.join("lock"))
        .with_context(|| format!("cannot write to the data folder {shown}"))?;
    lock.try_lock().with_context(|| {
        format!("the data folder {shown} belongs to another timesale that runs")
    })?;
    Ok(lock)
}

/// What other hosts and operators know this host by.
fn host_name() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let machine = machine.as_deref().map_or("host", str::trim);
    format!("{machine}:{}", std::process::id())
}

async fn bind(name: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {name} {address}"))
}

/// Calls `work` each time that `period` has passed, until `stop`.
async fn every(period: Duration, stop: CancellationToken, mut work: impl AsyncFnMut()) {
    while stop
        .run_until_cancelled(tokio::time::sleep(period))
        .await
        .is_some()
    {
        work().await;
    }
}

fn rotate_peaks(app: &Shared) {
    for strategy in app.rollout.registry.all() {
        strategy.metrics.rotate_peaks();
    }
    app.backends.queue_metrics.rotate_peaks();
}

async fn purge_keys(app: &Shared) {
    let keep = SignedDuration::from_hours(i64::from(app.limits.key_retention_hours));
    match app.backends.database.purge_keys(domain::now(), keep).await {
        Ok(0) => {}
        Ok(keys) => tracing::info!(keys, "deleted idempotency keys that outlived their sales"),
        Err(error) => tracing::warn!("idempotency keys were not purged: {error}"),
    }
}

/// Says where it listens, what it loaded, and what to try.
#[expect(
    clippy::print_stdout,
    reason = "the greeting is what standard output is for"
)]
fn greet(
    public: &TcpListener,
    management: &TcpListener,
    registry: &Registry,
) -> anyhow::Result<()> {
    let base = format!("http://{}", public.local_addr()?);
    println!("timesale serves {base} (interface: {base}/docs/)");
    println!(
        "timesale is watched at http://{}/actuator/health and /actuator/prometheus",
        management.local_addr()?
    );
    let mut strategies = registry.all();
    strategies.retain(|strategy| strategy.selling() != Selling::Retired);
    for strategy in &strategies {
        println!(
            "  {}  {}  revision {}",
            strategy.version,
            strategy.operation,
            strategy.slots().live.id
        );
    }
    let Some(last) = strategies.last() else {
        println!("  no strategy is loaded: nothing can be bought");
        return Ok(());
    };
    let version = &last.version;
    println!(
        r#"try:
  curl -s {base}/api/v1/products -H 'content-type: application/json' -d '{{"name":"Keyboard","price":100000}}' && curl -s {base}/api/{version}/time-sales -H 'content-type: application/json' -d '{{"productId":1,"quantity":100,"discountPrice":50000,"startAt":"2020-01-01T00:00:00Z","endAt":"2099-01-01T00:00:00Z"}}'
  curl -s {base}/api/{version}/time-sales/1/purchase -H 'content-type: application/json' -d '{{"userId":42,"quantity":1}}' | tee purchase.json
  curl -s {base}/api/{version}/time-sales/purchase/result/1/$(sed 's/.*"requestId":"\([^"]*\)".*/\1/' purchase.json)"#
    );
    Ok(())
}

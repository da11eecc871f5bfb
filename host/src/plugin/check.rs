//! `timesale plugin check`: takes a component through the steps that a host takes it through, and tells what each one saw.
//!
//! It runs the engine, the link and the probe of the host itself, so that what passes here passes there, with the same bounds and grants.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    config::{
        CONTRACT_VERSION, Limits,
        grants::{Capability, File, Grants},
    },
    domain::Version,
    strategy::{
        Means,
        engine::{Engine, Refused},
        probe::{Finding, Pace, Report, Scratch, probe},
        registry::{NO_VERSION, read_component, version_of},
        revision::Revision,
    },
};

/// Where authors read how a component is made.
const BUILD: &str = "plugins/README.md, Build it";
/// Where they read what a component may import and must export.
const WORLD: &str = "wit/world.wit";

/// What to check, and against what.
#[derive(Debug, Args)]
pub struct Check {
    /// The component, `<version>.wasm`.
    pub file: PathBuf,
    /// The component that is live, to compare it with.
    #[arg(long, value_name = "FILE")]
    pub live: Option<PathBuf>,
    /// The operator's grants, a `grants.toml`; without one it has what it imports, within the bounds.
    #[arg(long, value_name = "FILE")]
    pub grants: Option<PathBuf>,
    /// The bounds that it is to stay within: those of the host that is to serve it.
    #[command(flatten)]
    pub limits: Limits,
}

/// What the steps saw, one line each, and the step that refused the component, if any did.
#[derive(Debug, Default)]
pub struct Checked {
    lines: Vec<(&'static str, String)>,
    refused: Option<(&'static str, Vec<String>)>,
}

impl Checked {
    /// Whether a host would serve it.
    pub const fn is_accepted(&self) -> bool {
        self.refused.is_none()
    }

    fn tell(&mut self, what: &'static str, text: impl Into<String>) {
        self.lines.push((what, text.into()));
    }

    fn refuse(mut self, step: &'static str, findings: Vec<String>) -> Self {
        self.refused = Some((step, findings));
        self
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, text) in &self.lines {
            writeln!(f, "{what:<10} {text}")?;
        }
        match &self.refused {
            None => write!(f, "accepted: a host with these bounds serves it"),
            Some((step, findings)) => {
                write!(f, "refused at {step}:")?;
                findings
                    .iter()
                    .try_for_each(|finding| write!(f, "\n  {finding}"))
            }
        }
    }
}

/// Checks a component; fails only where the check itself cannot be made.
pub async fn check(check: &Check) -> anyhow::Result<Checked> {
    check.limits.validate()?;
    let limits = Arc::new(check.limits.clone());
    let engine = Arc::new(Engine::new(&limits, None)?);
    // Components describe themselves beside backends that they may not use.
    let scratch = Scratch::open(&engine, &limits).await?;
    let checked = steps(check, &scratch.means).await;
    scratch.close().await;
    checked
}

async fn steps(check: &Check, means: &Means) -> anyhow::Result<Checked> {
    let live = match &check.live {
        Some(file) => {
            let name = file.display();
            let loaded = load(file, "", &mut Checked::default(), means).await;
            let live = loaded.map_err(|(step, finding)| {
                anyhow::anyhow!("{name}, to compare with, is refused at {step}: {finding}")
            })?;
            Some(live)
        }
        None => None,
    };
    // One that is not there is not refused.
    tokio::fs::metadata(&check.file)
        .await
        .with_context(|| format!("cannot read {}", check.file.display()))?;
    let mut checked = Checked::default();
    let granted = match &check.grants {
        Some(file) => tokio::fs::read_to_string(file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))?,
        None => String::new(),
    };
    let candidate = match load(&check.file, &granted, &mut checked, means).await {
        Ok(revision) => revision,
        Err((step, finding)) => return Ok(checked.refuse(step, vec![finding])),
    };
    let report = probe(&candidate, live.as_ref(), means).await?;
    tell_figures(&report, &mut checked);
    if report.passed() {
        return Ok(checked);
    }
    let findings = report.findings.iter().zip(1..).map(explain).collect();
    Ok(checked.refuse("probe", findings))
}

/// Takes a component from its file to a revision; an error is the step and what it found.
async fn load(
    file: &Path,
    granted: &str,
    checked: &mut Checked,
    means: &Means,
) -> Result<Arc<Revision>, (&'static str, String)> {
    checked.tell("file", file.display().to_string());
    let (version, bytes) = read(file)
        .await
        .map_err(|error| ("file", format!("{error:#}; see {BUILD}")))?;
    checked.tell("size", format!("{} KiB", bytes.len().div_ceil(1024)));
    let grants = File::parse(granted)
        .and_then(|file| Grants::read(file.section(&version), &version, &means.limits))
        .map_err(|error| ("grants", format!("{error}; see README.md, Grants")))?;
    let began = Instant::now();
    let loaded = Revision::load(version, bytes, grants, means).await;
    let revision = loaded.map_err(|refused| {
        let (step, see) = step(&refused);
        (step, format!("{refused}; see {see}"))
    })?;
    checked.tell(
        "revision",
        format!("{} of version {}", revision.id, revision.version),
    );
    checked.tell("loaded", format!("in {:?}", began.elapsed()));
    checked.tell("imports", revision.imports.join(", "));
    checked.tell("exports", revision.exports.join(", "));
    checked.tell("contract", contracts(&revision));
    checked.tell("needs", capabilities(&revision));
    checked.tell("operation", revision.operation.clone());
    Ok(Arc::new(revision))
}

async fn read(file: &Path) -> anyhow::Result<(Version, Vec<u8>)> {
    let version = version_of(file).context(NO_VERSION)?;
    Ok((version, read_component(file).await?))
}

/// The step that refuses so, and where to read on.
const fn step(refused: &Refused) -> (&'static str, &'static str) {
    match refused {
        Refused::NotWasm(_) | Refused::CoreModule => ("file", BUILD),
        Refused::Compile(_) => ("compile", BUILD),
        Refused::ForeignImport(_) | Refused::OtherWorld(_) => ("link", WORLD),
        Refused::NotGranted(_) => ("link", "README.md, Grants"),
        Refused::Describe(_) | Refused::Operation(_) => {
            ("describe", "plugins/README.md, What it exports")
        }
    }
}

/// The versions of the contract that it was built for, as its imports and exports name them.
fn contracts(revision: &Revision) -> String {
    let names = revision.imports.iter().chain(&revision.exports);
    let mut versions: Vec<&str> = names
        .filter_map(|name| name.rsplit_once('@').map(|(_, version)| version))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    format!(
        "built for {}; this host runs {CONTRACT_VERSION}",
        versions.join(", ")
    )
}

/// The capabilities that it has to be granted.
fn capabilities(revision: &Revision) -> String {
    let names = Capability::ALL.map(Capability::name).into_iter();
    let imported = |name: &&str| {
        let interface = format!("/{name}@");
        revision.imports.iter().any(|it| it.contains(&interface))
    };
    let imported: Vec<_> = names.filter(imported).collect();
    match &*imported {
        [] => "no capability but log, which every strategy has".to_owned(),
        imported => format!("{}; log is granted to all", imported.join(", ")),
    }
}

fn tell_figures(report: &Report, checked: &mut Checked) {
    let figures = &report.figures;
    checked.tell(
        "probe",
        format!(
            "{} calls in {} ms, memory of a call {} KiB at most",
            figures.calls,
            figures.took_ms,
            figures.memory_peak_bytes.div_ceil(1024)
        ),
    );
    for (who, pace) in [("pace", &figures.candidate), ("live", &figures.live)] {
        if let Some(pace) = pace {
            checked.tell(who, tell_pace(pace));
        }
    }
    let used = figures.host_calls.iter();
    let used: Vec<_> = used
        .map(|(name, times)| format!("{name} {times}"))
        .collect();
    checked.tell("host", used.join(", "));
}

fn tell_pace(pace: &Pace) -> String {
    let purchase = format!(
        "a purchase takes {} µs and {} host functions",
        pace.purchase_us, pace.purchase_host_calls
    );
    match pace.settle_us {
        Some(settle) => format!("{purchase}, a settle of two {settle} µs"),
        None => purchase,
    }
}

/// A finding and its number, in lines that a reader can follow.
fn explain((finding, number): (&Finding, usize)) -> String {
    let Finding {
        stage,
        expected,
        happened,
        see,
    } = finding;
    format!("{number}. {stage:?}: expected: {expected}\n     happened: {happened}\n     see {see}")
}

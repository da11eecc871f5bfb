//! The table of targets, as text and as the raw data in `benches/data`.

use std::{fmt, path::Path};

use anyhow::Context as _;
use serde::Serialize;
use timesale::bench::Report;

/// One row.
#[derive(Serialize)]
pub struct Measured {
    measure: &'static str,
    target: &'static str,
    ours: String,
    /// None where the row has nothing to do with a ledger.
    ledger_is_right: Option<bool>,
    /// What it is made of.
    reports: Vec<Report>,
}

impl Measured {
    /// A row of load.
    pub fn of_load(
        measure: &'static str,
        target: &'static str,
        ours: impl FnOnce(&[Report]) -> Option<String>,
        reports: Vec<Report>,
    ) -> Self {
        let right = reports.iter().all(Report::is_right);
        // A row whose ledger is wrong has no figures, and so says nothing of speed.
        let ours = ours(&reports).unwrap_or_else(|| "none".to_owned());
        Self {
            measure,
            target,
            ours,
            ledger_is_right: Some(right),
            reports,
        }
    }

    /// A row without load.
    pub const fn apart(measure: &'static str, target: &'static str, ours: String) -> Self {
        Self {
            measure,
            target,
            ours,
            ledger_is_right: None,
            reports: Vec::new(),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = match self.ledger_is_right {
            Some(true) => "right",
            Some(false) => "WRONG",
            None => "–",
        };
        let Self {
            measure,
            target,
            ours,
            ..
        } = self;
        write!(f, "| {measure} | {target} | {ours} | {ledger} |")?;
        for fault in self.reports.iter().flat_map(Report::faults) {
            write!(f, "\n{fault}")?;
        }
        Ok(())
    }
}

/// Every row.
#[derive(Default, Serialize)]
pub struct Table {
    rows: Vec<Measured>,
}

impl Table {
    /// Prints a row as soon as it is measured, and keeps it.
    #[expect(
        clippy::print_stdout,
        reason = "the table is what standard output is for"
    )]
    pub fn add(&mut self, row: Measured) {
        if self.rows.is_empty() {
            println!("| measure | target | ours | ledger |\n|---|---|---|---|");
        }
        println!("{row}");
        self.rows.push(row);
    }

    /// Writes the raw data, and says whether every ledger was right.
    pub fn finish(self, file: &Path) -> anyhow::Result<bool> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&self)?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(!self
            .rows
            .iter()
            .any(|row| row.ledger_is_right == Some(false)))
    }
}

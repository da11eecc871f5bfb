//! A scrape of the host's metrics, to be asked.

use std::collections::BTreeMap;

use timesale::telemetry::exposition;

/// What a scrape said.
pub struct Metrics {
    pub text: String,
    pub series: Vec<Series>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Series {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.label(name) == *value)
    }
}

impl Metrics {
    pub fn parse(text: String) -> Self {
        let series = exposition::samples(&text)
            .map(|sample| Series {
                name: sample.name.to_owned(),
                labels: sample
                    .labels
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
                value: sample.value,
            })
            .collect();
        Self { text, series }
    }

    /// The series of this name that have these labels.
    pub fn of<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Series> {
        let named = self.series.iter().filter(move |series| series.name == name);
        named.filter(move |series| series.has(labels))
    }

    /// The sum of the series of this name that have these labels; fails where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        assert!(
            self.of(name, labels).next().is_some(),
            "no series {name}{labels:?}"
        );
        self.of(name, labels).map(|series| series.value).sum()
    }

    /// Whatever shows that the host is not at rest.
    pub fn busy(&self) -> Vec<Series> {
        const ZERO_AT_REST: [&str; 4] = [
            "time_sale_calls_in_flight",
            "time_sale_wasm_instances",
            "time_sale_queue_length",
            "kafka_consumer_group_lag",
        ];
        let used = |series: &Series| {
            series.name == "time_sale_db_connections" && series.label("state") == "used"
        };
        let at_rest =
            |series: &Series| ZERO_AT_REST.contains(&series.name.as_str()) || used(series);
        let watched = self.series.iter().filter(|series| at_rest(series));
        let busy = watched.filter(|series| series.value != 0.0).cloned();
        // A queue whose length is not known is not known to be empty.
        let unknown = self.of("time_sale_queue_length", &[]).next().is_none();
        let unknown = unknown.then(|| Series {
            name: "time_sale_queue_length is not known".to_owned(),
            labels: BTreeMap::new(),
            value: f64::NAN,
        });
        busy.chain(unknown).collect()
    }
}

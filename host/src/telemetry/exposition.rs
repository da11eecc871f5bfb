//! Families that are rendered from present state at each scrape.
//!
//! A recorder cannot forget a series: what comes and goes with sales, revisions and partitions is written here instead.

use std::fmt::Write as _;

use super::{
    APPLICATION,
    catalogue::{Kind, Metric},
};

/// The labels of one series, besides those that all have.
pub type Labels = Vec<(&'static str, String)>;

/// The values of one series of a histogram.
pub struct Distribution<'a> {
    /// How many lie within a bound.
    pub within: Box<dyn Fn(f64) -> f64 + 'a>,
    /// How many there are.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
}

/// Writes families in Prometheus's text format.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Adds a gauge or counter with a value for each set of labels; a family without a value is left out.
    pub fn family<'a>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (Labels, f64)> + 'a,
    ) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "untyped",
        };
        let mut head = format!(
            "# HELP {name} {help}\n# TYPE {name} {kind}\n",
            name = metric.name,
            help = metric.help
        );
        for (labels, value) in samples {
            self.text.push_str(&std::mem::take(&mut head));
            self.sample(metric.name, &labels, value);
        }
    }

    /// Adds a histogram: for each set of labels how many values lie within a bound, how many there are, and their sum.
    pub fn histogram<'a>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (Labels, Distribution<'a>)>,
    ) {
        let Kind::Histogram(bounds) = metric.kind else {
            return;
        };
        let mut head = format!(
            "# HELP {name} {help}\n# TYPE {name} histogram\n",
            name = metric.name,
            help = metric.help
        );
        for (labels, values) in samples {
            self.text.push_str(&std::mem::take(&mut head));
            let bucket = format!("{}_bucket", metric.name);
            let bounds = bounds
                .iter()
                .map(|bound| (bound.to_string(), (values.within)(*bound)));
            for (bound, count) in bounds.chain([("+Inf".to_owned(), values.count)]) {
                let mut labels = labels.clone();
                labels.push(("le", bound));
                self.sample(&bucket, &labels, count);
            }
            self.sample(&format!("{}_sum", metric.name), &labels, values.sum);
            self.sample(&format!("{}_count", metric.name), &labels, values.count);
        }
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.text
    }

    fn sample(&mut self, name: &str, labels: &[(&'static str, String)], value: f64) {
        // Writing into a string cannot fail.
        let _ = write!(self.text, "{name}{{application=\"{APPLICATION}\"");
        for (label, text) in labels {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, ",{label}=\"{text}\"");
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

/// One line of the text format.
pub struct Sample<'a> {
    /// The name of the series.
    pub name: &'a str,
    /// Its labels.
    pub labels: Vec<(&'a str, String)>,
    /// Its value.
    pub value: f64,
}

/// Reads the samples of a page that this process rendered.
pub fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, mut rest)) = series.split_once('{') else {
        return Some(Sample {
            name: series,
            labels: Vec::new(),
            value,
        });
    };
    let mut labels = Vec::new();
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => match characters.next()?.1 {
                    'n' => text.push('\n'),
                    escaped => text.push(escaped),
                },
                (_, character) => text.push(character),
            }
        };
        labels.push((label, text));
        rest = quoted.get(end + 1..)?.trim_start_matches(',');
    }
    Some(Sample {
        name,
        labels,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::{Exposition, samples};
    use crate::telemetry::catalogue::{QUEUE_LENGTH, STRATEGY_INFO};

    #[test]
    fn labels_are_escaped_and_empty_families_left_out() {
        let mut page = Exposition::default();
        page.family(&QUEUE_LENGTH, []);
        page.family(
            &STRATEGY_INFO,
            [(vec![("version", "a\"\\\n".to_owned())], 1.0)],
        );
        let text = page.finish();
        assert!(!text.contains("time_sale_queue_length"), "{text}");
        assert!(
            text.ends_with("time_sale_strategy_info{application=\"time-sale-service\",version=\"a\\\"\\\\\\n\"} 1\n"),
            "{text}"
        );
    }
    #[test]
    fn what_is_rendered_is_read_back() {
        let mut page = Exposition::default();
        let labels = vec![
            ("version", "a\"\\\n{},=".to_owned()),
            ("slot", "live".to_owned()),
        ];
        page.family(&STRATEGY_INFO, [(labels.clone(), 0.5)]);
        let text = page.finish();
        let read: Vec<_> = samples(&text).collect();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].name, "time_sale_strategy_info");
        assert_eq!(read[0].labels[1..], labels);
        assert_eq!(read[0].value, 0.5);
    }
}

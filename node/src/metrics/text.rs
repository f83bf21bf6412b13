//! Numbers read when somebody asks, in the Prometheus text format (version 0.0.4).

use std::fmt::Write;

use super::names::{Definition, Kind};

/// One metric with its values.
pub struct Family {
    definition: Definition,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Family {
    /// A metric without values, which is not shown.
    pub fn new(definition: Definition) -> Self {
        Self { definition, samples: Vec::new() }
    }

    /// A metric with one value and no labels.
    pub fn plain(definition: Definition, value: f64) -> Self {
        Self::new(definition).with([], value)
    }

    /// Adds a value. Each set of labels occurs once.
    #[must_use]
    pub fn with<const N: usize>(mut self, labels: [(&'static str, &str); N], value: f64) -> Self {
        self.push(labels, value);
        self
    }

    /// Adds a value. Each set of labels occurs once.
    pub fn push<const N: usize>(&mut self, labels: [(&'static str, &str); N], value: f64) {
        self.samples.push((labels.map(|(name, of)| (name, of.to_owned())).to_vec(), value));
    }

    /// Appends the text.
    pub fn render(&self, text: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        let Definition { name, kind, help } = self.definition;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in &self.samples {
            let labels: Vec<String> = labels.iter().map(|(name, of)| format!("{name}=\"{}\"", escape(of))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

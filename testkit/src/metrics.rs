//! Prometheus' text as a table.

use std::collections::BTreeMap;

/// Values by name and labels, as `name{label="value"}`, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Of the text of a scrape. What is no sample is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// A value, if it is there; `name{label="value"}` with its label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// A value that must be there.
    ///
    /// # Panics
    /// It is not.
    #[must_use]
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        self.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// All values of a metric, whatever their labels.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        let is_one = |found: &str| {
            found.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.0.iter().filter(|(found, _)| is_one(found)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_label_and_summed_by_name() {
        let text = "# HELP a_total Of it.\n# TYPE a_total counter\na_total{kind=\"x\"} 2\n\
                    a_total{kind=\"y\"} 3.5\na_total_more 7\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.get("a_total{kind=\"x\"}"), Some(2.0));
        assert_eq!((metrics.sum("a_total"), metrics.sum("a_total_more")), (5.5, 7.0));
        assert_eq!((metrics.get("a_total"), metrics.sum("b")), (None, 0.0));
    }
}

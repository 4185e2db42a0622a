//! What a run has to say, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value};

use super::{
    check::Verdict,
    observer::Observer,
    process::{self, Usage},
};

/// Longest time that a histogram tells apart, in nanoseconds: ten minutes.
const TIME_NS_MAX: u64 = 600_000_000_000;

/// Significant decimal digits of a recorded time.
const TIME_DIGITS: u8 = 3;

/// A histogram of times in nanoseconds; longer ones than [`TIME_NS_MAX`] count as that.
///
/// # Errors
/// Never with these bounds; the library checks them at run time.
pub(super) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, TIME_NS_MAX, TIME_DIGITS)?)
}

/// Rows in the order in which they were added.
#[derive(Debug)]
pub(super) struct Report {
    scenario: &'static str,
    rows: Vec<(String, Value, &'static str)>,
}

impl Report {
    pub(super) fn new(scenario: &'static str) -> Self {
        Self { scenario, rows: Vec::new() }
    }

    /// A count or a name.
    pub(super) fn put(&mut self, key: &str, value: impl Into<Value>, unit: &'static str) {
        self.rows.push((key.to_owned(), value.into(), unit));
    }

    /// A measure, cut to three decimals.
    pub(super) fn measure(&mut self, key: &str, value: f64, unit: &'static str) {
        self.put(key, (value * 1_000.0).round() / 1_000.0, unit);
    }

    /// Percentiles of times, as microseconds.
    pub(super) fn times(&mut self, key: &str, times: &Histogram<u64>) {
        self.quantiles(key, times, &[("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)]);
    }

    /// More percentiles of times, as microseconds.
    pub(super) fn fine_times(&mut self, key: &str, times: &Histogram<u64>) {
        let quantiles =
            [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999), ("max", 1.0)];
        self.quantiles(key, times, &quantiles);
    }

    fn quantiles(&mut self, key: &str, times: &Histogram<u64>, quantiles: &[(&str, f64)]) {
        for (name, quantile) in quantiles {
            let micros = times.value_at_quantile(*quantile) as f64 / 1e3;
            self.measure(&format!("{key}_{name}_us"), micros, "us");
        }
    }

    /// The most memory of the broker at any look.
    pub(super) fn memory(&mut self, observer: &Observer) {
        if let Some(bytes) = observer.resident_bytes_max() {
            self.measure("broker_rss_max_mb", bytes as f64 / 1e6, "MB");
        }
    }

    /// What broker and generator used for `messages` messages, and the broker's memory now.
    pub(super) fn usage(&mut self, prefix: &str, used: &Used, messages: u64) {
        let each = |total: f64| total / messages.max(1) as f64;
        if let Some((pid, broker)) = used.broker {
            self.measure(&format!("{prefix}broker_cpu_us_per_message"), each(broker.cpu_s * 1e6), "us");
            self.measure(
                &format!("{prefix}broker_disk_bytes_per_message"),
                each(broker.disk_bytes as f64),
                "bytes",
            );
            if let Ok(bytes) = process::resident_bytes_of_tree(pid) {
                self.measure(&format!("{prefix}broker_rss_mb"), bytes as f64 / 1e6, "MB");
            }
        }
        self.measure(
            &format!("{prefix}generator_cpu_us_per_message"),
            each(used.generator.cpu_s * 1e6),
            "us",
        );
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        self.put("lost", verdict.lost, "messages");
        self.put("duplicates", verdict.duplicates, "messages");
        self.put("out_of_order", verdict.out_of_order, "messages");
        if verdict.foreign > 0 {
            self.put("left_over_from_before", verdict.foreign, "messages");
        }
    }

    /// One JSON object on one line, or a table.
    pub(super) fn render(&self, json: bool) -> String {
        if json {
            let mut object = Map::new();
            object.insert("scenario".to_owned(), self.scenario.into());
            object.extend(self.rows.iter().map(|(key, value, _)| (key.clone(), value.clone())));
            return Value::Object(object).to_string();
        }
        let width = self.rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.scenario);
        for (key, value, unit) in &self.rows {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {:width$}  {value:>14} {unit}", key.replace('_', " "));
        }
        text
    }
}

/// What the processes used in a measured time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    broker: Option<(u32, Usage)>,
    generator: Usage,
}

impl Used {
    /// What was used up to now, since the processes began.
    ///
    /// # Errors
    /// When the broker's process cannot be seen.
    pub(super) fn so_far(broker_pid: Option<u32>) -> Result<Self> {
        let broker = broker_pid.map(|pid| Usage::of_tree(pid).map(|usage| (pid, usage))).transpose()?;
        // Without /proc the generator's own time is 0; a broker asked for is an error above.
        Ok(Self { broker, generator: Usage::of_this_process().unwrap_or_default() })
    }

    /// Processor time of the broker, in seconds, if its process is known.
    pub(super) fn broker_cpu_s(&self) -> Option<f64> {
        self.broker.map(|(_, usage)| usage.cpu_s)
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        let broker = self.broker.zip(earlier.broker).map(|((pid, now), (_, then))| (pid, now.since(&then)));
        Self { broker, generator: self.generator.since(&earlier.generator) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table_or_one_json_object() {
        let mut report = Report::new("pipe");
        report.put("queues", 2, "");
        report.measure("messages_per_s", 1234.56789, "1/s");
        assert_eq!(report.render(true), r#"{"messages_per_s":1234.568,"queues":2,"scenario":"pipe"}"#);
        let table = report.render(false);
        assert!(table.contains("messages per s") && table.contains("1234.568 1/s"));
    }

    #[test]
    fn times_are_told_in_microseconds() {
        let mut times = histogram().unwrap();
        times.saturating_record(2_000_000);
        let mut report = Report::new("x");
        report.times("accepted", &times);
        let json: Value = serde_json::from_str(&report.render(true)).unwrap();
        let p50 = json["accepted_p50_us"].as_f64().unwrap();
        assert!((1_995.0..=2_005.0).contains(&p50));
    }
}

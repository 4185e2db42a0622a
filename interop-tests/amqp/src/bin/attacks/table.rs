//! What came of it, for people.

use lockstep_interop_amqp::Failed;

use crate::{latency_bound_micros, memory_bound_bytes, quiet::Latency};

/// One attack's figures.
pub(crate) struct Row {
    pub(crate) attack: &'static str,
    pub(crate) rest: Latency,
    pub(crate) under_attack: Latency,
    pub(crate) after: Latency,
    /// Idle connections and links.
    pub(crate) idle: (usize, usize),
    pub(crate) before_kib: u64,
    pub(crate) ready_kib: u64,
    pub(crate) most_kib: u64,
}

impl Row {
    fn is_quiet(&self) -> bool {
        self.under_attack.count > 0 && self.under_attack.p99_micros <= latency_bound_micros(&self.rest)
    }

    fn is_small(&self) -> bool {
        self.most_kib << 10 <= memory_bound_bytes(self.idle) && self.idle_bytes().is_none_or(|(_, ok)| ok)
    }

    /// What one idle link, or else one idle connection costs, in bytes, and whether it may.
    fn idle_bytes(&self) -> Option<(u64, bool)> {
        let (count, bound) = match self.idle {
            (0, 0) => return None,
            (connections, 0) => (connections, crate::IDLE_CONNECTION_BYTES),
            (_, links) => (links, crate::IDLE_LINK_BYTES),
        };
        let each = (self.ready_kib.saturating_sub(self.before_kib) << 10) / count as u64;
        Some((each, each <= bound))
    }
}

/// Prints rows as they come.
pub(crate) struct Table {
    markdown: bool,
    held: bool,
}

const COLUMNS: [&str; 9] =
    ["attack", "rest p50", "rest p99", "p50", "p99", "bound", "worst", "broker at most", "an idle one costs"];

impl Table {
    pub(crate) fn new(markdown: bool) -> Self {
        let table = Self { markdown, held: true };
        table.line(&COLUMNS.map(str::to_owned));
        if markdown {
            println!("|{}", "---|".repeat(COLUMNS.len()));
        }
        table
    }

    pub(crate) fn push(&mut self, row: Row) {
        let millis = |micros: u64| format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10);
        let verdict = |ok: bool| if ok { "" } else { " (!)" };
        let idle = row.idle_bytes();
        self.line(&[
            row.attack.to_owned(),
            millis(row.rest.p50_micros),
            millis(row.rest.p99_micros),
            millis(row.under_attack.p50_micros),
            millis(row.under_attack.p99_micros) + verdict(row.is_quiet()),
            millis(latency_bound_micros(&row.rest)),
            millis(row.under_attack.most_micros),
            format!("{} MiB{}", row.most_kib >> 10, verdict(row.is_small())),
            idle.map_or(String::new(), |(bytes, ok)| format!("{bytes} bytes{}", verdict(ok))),
        ]);
        if row.after.count == 0 {
            self.failed(row.attack, &Failed::new("the quiet client was not served afterwards"));
        }
        self.held &= row.is_quiet() && row.is_small();
    }

    pub(crate) fn failed(&mut self, attack: &str, failed: &Failed) {
        println!("{attack}: {failed}");
        self.held = false;
    }

    fn line(&self, cells: &[String; COLUMNS.len()]) {
        if self.markdown {
            println!("| {} |", cells.join(" | "));
            return;
        }
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:<18}")).collect();
        println!("{}", cells.concat().trim_end());
    }

    /// Whether every bound held.
    pub(crate) fn finish(self) -> bool {
        self.held
    }
}

//! The baseline file, and what differs from it.

use std::{collections::BTreeMap, fmt::Write as _, process::Command};

use anyhow::Context as _;
use toml::Table;

use super::output;

/// Growth in percent that passes without a word.
const TOLERANCE_PERCENT: u64 = 5;
/// Fewer instructions than this more or less are never worth a word.
const TOLERANCE_INSTRUCTIONS: u64 = 8;

const HEADING: &str = "\
# Instructions of one round of each case of benches/instructions, counted by Valgrind. CI compares.
# Written by `cargo xtask instructions --accept`.
";

/// What a count depends on besides our source. Counts made elsewhere cannot be compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Environment {
    /// Compiler, its target, C library and Valgrind, each by its own words.
    pub(crate) made_with: BTreeMap<String, String>,
}

impl Environment {
    /// This machine's.
    ///
    /// # Errors
    /// A tool that is asked for its version is missing.
    pub(crate) fn here() -> anyhow::Result<Self> {
        let asked = [
            ("rustc", output(Command::new("rustc").arg("--version"))?),
            ("processor", std::env::consts::ARCH.to_owned()),
            ("libc", output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?),
            ("valgrind", output(Command::new("valgrind").arg("--version"))?),
        ];
        Ok(Self { made_with: asked.map(|(name, version)| (name.to_owned(), version)).into_iter().collect() })
    }
}

/// Counts, and where they were made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Baseline {
    pub(crate) environment: Environment,
    /// By name of the case.
    pub(crate) instructions: BTreeMap<String, u64>,
}

/// What a comparison says.
#[derive(Default)]
pub(crate) struct Report {
    /// For the reader, whatever comes of it.
    pub(crate) lines: Vec<String>,
    /// What must not stay so.
    pub(crate) failures: Vec<String>,
}

impl Baseline {
    /// # Errors
    /// The text is no baseline.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Table = text.parse().context("the baseline is no TOML")?;
        let table = |name: &str| file.get(name).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let made_with = table("made_with")
            .into_iter()
            .map(|(name, value)| Ok((name, value.as_str().context("made_with holds texts")?.to_owned())))
            .collect::<anyhow::Result<_>>()?;
        let instructions = table("instructions")
            .into_iter()
            .map(|(name, value)| {
                let count = value.as_integer().and_then(|count| u64::try_from(count).ok());
                Ok((name, count.context("instructions holds counts")?))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { environment: Environment { made_with }, instructions })
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{HEADING}\n[made_with]\n");
        // Writing to a string never fails.
        for (name, version) in &self.environment.made_with {
            let _ = writeln!(text, "{name} = \"{version}\"");
        }
        text.push_str("\n[instructions]\n");
        for (name, count) in &self.instructions {
            let _ = writeln!(text, "\"{name}\" = {count}");
        }
        text
    }

    /// Fails what grew beyond the tolerance, and cases that only one side has. Where the tools
    /// are others, counts are shown and fail nothing.
    pub(crate) fn compare(&self, here: &Environment, counts: &BTreeMap<String, u64>) -> Report {
        let mut report = Report::default();
        let same_tools = self.environment == *here;
        if !same_tools {
            report.lines.push(format!(
                "note: instruction counts are not judged: the baseline is of {}, here is {}",
                versions(&self.environment),
                versions(here)
            ));
        }
        for (name, &new) in counts {
            let Some(&old) = self.instructions.get(name) else {
                report.failures.push(format!("\"{name}\" is not in the baseline; it takes {new}"));
                continue;
            };
            let allowed = (old * TOLERANCE_PERCENT / 100).max(TOLERANCE_INSTRUCTIONS);
            let change = (new as f64 / old.max(1) as f64 - 1.0) * 100.0;
            report.lines.push(format!("{name:<36} {old:>9} -> {new:>9}  {change:+.1} %"));
            if same_tools && new > old + allowed {
                report.failures.push(format!(
                    "\"{name}\" takes {new} instructions and took {old} ({change:+.1} %, allowed +{TOLERANCE_PERCENT} %)"
                ));
            } else if same_tools && new + allowed < old {
                report.lines.push(format!(
                    "note: \"{name}\" takes {new} instructions and took {old}; to keep that: cargo xtask \
                     instructions --accept"
                ));
            }
        }
        for name in self.instructions.keys().filter(|name| !counts.contains_key(*name)) {
            report.failures.push(format!("\"{name}\" is in the baseline and there is no such case"));
        }
        report
    }
}

fn versions(environment: &Environment) -> String {
    environment.made_with.values().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(rustc: &str) -> Environment {
        Environment { made_with: [("rustc".to_owned(), rustc.to_owned())].into() }
    }

    fn counts(scan: u64, decode: u64) -> BTreeMap<String, u64> {
        [("scan message".to_owned(), scan), ("decode transfer".to_owned(), decode)].into()
    }

    fn baseline() -> Baseline {
        Baseline { environment: environment("rustc 1"), instructions: counts(1_000, 500) }
    }

    #[test]
    fn a_baseline_reads_as_it_was_written() {
        assert_eq!(Baseline::parse(&baseline().to_text()).expect("a baseline"), baseline());
    }

    #[test]
    fn a_count_that_grew_too_much_fails_with_its_name_and_both_counts() {
        let report = baseline().compare(&environment("rustc 1"), &counts(1_050, 526));
        let [failure] = &report.failures[..] else { panic!("{:?}", report.failures) };
        assert!(failure.contains("\"decode transfer\" takes 526 instructions and took 500"), "{failure}");
    }

    #[test]
    fn a_count_that_shrank_is_worth_a_note() {
        let report = baseline().compare(&environment("rustc 1"), &counts(900, 500));
        assert!(report.failures.is_empty());
        assert!(report.lines.iter().any(|line| line.starts_with("note: \"scan message\" takes 900")));
    }

    #[test]
    fn counts_of_another_compiler_are_shown_and_not_judged() {
        let report = baseline().compare(&environment("rustc 2"), &counts(5_000, 500));
        assert!(report.failures.is_empty());
        assert!(report.lines[0].starts_with("note: instruction counts are not judged"));
        assert_eq!(report.lines.len(), 3);
    }

    #[test]
    fn cases_that_one_side_lacks_fail() {
        let mut counts = counts(1_000, 500);
        counts.remove("scan message");
        counts.insert("encode flow".to_owned(), 7);
        let report = baseline().compare(&environment("rustc 2"), &counts);
        assert_eq!(report.failures.len(), 2, "{:?}", report.failures);
    }
}

//! docs/conformance.md: every rule has a test or a remark, and every test that is named exists.

use std::{collections::BTreeSet, path::Path};

use super::{Checkout, Finding};

/// The document.
const DOCUMENT: &str = "docs/conformance.md";
/// Where its tests are.
const TESTS: [&str; 2] = ["crates/amqp/src", "interop-tests/amqp/tests"];
/// Cells of a row: section, rule, tests of the engine, tests of the broker, remark.
const CELLS: usize = 5;
/// How a remark begins that stands for a test.
const REASONS: [&str; 3] = ["Deviation", "Not used", "Peer's duty"];

pub(super) fn check(checkout: &Checkout) -> anyhow::Result<Vec<Finding>> {
    let Some(document) = checkout.text(Path::new(DOCUMENT))? else { return Ok(Vec::new()) };
    let mut functions = BTreeSet::new();
    for file in &checkout.files {
        let is_test = TESTS.iter().any(|folder| file.starts_with(folder));
        if is_test && file.extension().is_some_and(|end| end == "rs") {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let text = checkout.text(file)?.unwrap_or_default();
            functions.extend(function_names(&text).map(|name| format!("{stem}::{name}")));
        }
    }
    Ok(judge(&document, &functions))
}

fn judge(document: &str, functions: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in document.lines().enumerate() {
        let at = number + 1;
        for test in tests(line).filter(|test| !functions.contains(*test)) {
            findings.push(format!("{DOCUMENT}:{at}: there is no test {test}"));
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // A row begins and ends with a bar, and its first cell with a section's number.
        let &["", section, _, engine, broker, remark, ""] = cells.as_slice() else {
            if line.starts_with("| ") && cells.len() != CELLS + 2 {
                findings.push(format!("{DOCUMENT}:{at}: a row has {CELLS} cells"));
            }
            continue;
        };
        let is_rule = section.starts_with(|c: char| c.is_ascii_digit());
        let is_shown = tests(engine).chain(tests(broker)).next().is_some();
        if is_rule && !is_shown && !REASONS.iter().any(|reason| remark.starts_with(reason)) {
            findings.push(format!("{DOCUMENT}:{at}: {section}: no test, and no remark that says why"));
        }
    }
    findings
}

/// `file::function` between backquotes.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains("::"))
}

/// Names behind `fn`.
fn function_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.trim_start().split_once("fn ")?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(row: &str) -> usize {
        let text = "pub(crate) fn a_test(s: &Scenario) -> Outcome {\n    fn other() {}\n";
        let functions = function_names(text).map(|name| format!("file::{name}")).collect();
        judge(row, &functions).len()
    }

    #[test]
    fn a_rule_has_a_test_that_exists_or_a_reason() {
        assert_eq!(findings("| 2.1 | Rule | `file::a_test`, `file::other` | | |"), 0);
        assert_eq!(findings("| 2.1 | Rule | | | Deviation: why |"), 0);
        assert_eq!(findings("| Section | Rule | Engine | Broker | Remark |"), 0);
        assert_eq!(findings("| 2.1 | Rule | | | Some words |"), 1);
        assert_eq!(findings("| 2.1 | Rule | `file::no_test` | | |"), 1);
        assert_eq!(findings("| 2.1 | Rule | `other::a_test` | | See `file::a_test` |"), 1);
        assert_eq!(findings("| 2.1 | Rule | `file::a_test` |"), 1);
    }
}

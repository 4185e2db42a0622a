//! Which crate may import which (docs/architecture.md): only downward, and never `broker` with
//! `amqp`. A new arrow is a change of the design and begins in this table.

use anyhow::Context as _;
use toml::{Table, Value};

use super::{Checkout, Finding};

/// A crate, what it may import of ours, and what of others it must not.
struct Rule {
    name: &'static str,
    may: &'static [&'static str],
    must_not: &'static [&'static str],
}

const ASYNC: &[&str] = &["tokio", "tokio-util", "hyper", "futures-util"];

const RULES: &[Rule] = &[
    Rule { name: "amqp", may: &[], must_not: ASYNC },
    Rule { name: "model", may: &[], must_not: ASYNC },
    Rule { name: "protocol", may: &["amqp", "model"], must_not: ASYNC },
    Rule { name: "store", may: &["model"], must_not: ASYNC },
    Rule { name: "broker", may: &["model", "store"], must_not: &["hyper"] },
    Rule { name: "admin", may: &["model", "broker"], must_not: &[] },
    Rule { name: "server", may: &["amqp", "model", "protocol", "store", "broker", "admin"], must_not: &[] },
    Rule { name: "cli", may: &["server", "amqp", "protocol", "model"], must_not: &["rocksdb"] },
    Rule { name: "testkit", may: &["amqp", "model", "protocol", "store", "broker"], must_not: &[] },
    Rule { name: "xtask", may: &[], must_not: &[] },
];

pub(super) fn check(checkout: &Checkout) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in &checkout.files {
        if !(file.starts_with("crates") && file.ends_with("Cargo.toml") && file.components().count() == 3) {
            continue;
        }
        let folder =
            file.parent().and_then(|folder| folder.file_name()).unwrap_or_default().to_string_lossy();
        let Some(rule) = RULES.iter().find(|rule| rule.name == folder) else {
            findings.push(format!("{}: no rule for this crate in tidy's table of arrows", file.display()));
            continue;
        };
        let text = checkout.text(file)?.unwrap_or_default();
        let manifest: Table = text.parse().with_context(|| format!("cannot parse {}", file.display()))?;
        for name in dependencies(&manifest) {
            findings.extend(judge(rule, name).map(|text| format!("{}: {text}", file.display())));
        }
    }
    Ok(findings)
}

/// Names in `[dependencies]`. Tests may look further.
fn dependencies(manifest: &Table) -> impl Iterator<Item = &String> {
    manifest.get("dependencies").and_then(Value::as_table).into_iter().flat_map(|table| table.keys())
}

fn judge(rule: &Rule, dependency: &str) -> Option<String> {
    if rule.must_not.contains(&dependency) {
        return Some(format!("{} must never import {dependency}", rule.name));
    }
    let ours = dependency.strip_prefix("lockstep-")?;
    (!rule.may.contains(&ours)).then(|| {
        format!("{} must not import {ours}; what both need belongs into a crate below both", rule.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_the_table_does_not_have_is_found() {
        let broker = RULES.iter().find(|rule| rule.name == "broker").unwrap();
        assert!(judge(broker, "lockstep-amqp").is_some());
        assert!(judge(broker, "hyper").is_some());
        assert!(judge(broker, "lockstep-store").is_none());
        assert!(judge(broker, "bytes").is_none());
    }
}

//! Reads the tables of a configuration file: unknown keys are refused with a suggestion, values
//! of a wrong kind with what to write instead. Problems are collected, so that one start shows
//! all of them.

use std::{path::Path, sync::Arc};

use super::{
    keys::{Key, Table},
    tree::{Entry, Node, Origin, Value},
};

/// A problem of a configuration: where, what, and what to write instead.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Where it is.
    pub origin: Origin,
    /// What is wrong and what would be right.
    pub text: String,
}

/// Problems and warnings found so far in one file.
#[derive(Debug)]
pub(super) struct Report {
    file: Arc<Path>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.into(), problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn origin(&self, line: u32) -> Origin {
        Origin { file: self.file.clone(), line }
    }

    pub(super) fn problem(&mut self, line: u32, text: impl Into<String>) {
        let origin = self.origin(line);
        self.problems.push(Problem { origin, text: text.into() });
    }

    pub(super) fn warning(&mut self, line: u32, text: impl Into<String>) {
        let origin = self.origin(line);
        self.warnings.push(Problem { origin, text: text.into() });
    }
}

/// A value with the place it was read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// One table that is being read.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    entries: &'a [Entry],
    table: &'static Table,
    /// The line the table starts in.
    pub(super) line: u32,
}

impl<'a> Section<'a> {
    /// Takes `node` as `table`; `None`, with a problem reported, if it is no table.
    pub(super) fn open(node: &'a Node, table: &'static Table, report: &mut Report) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            report
                .problem(node.line, format!("{} must be a table, not {}", table.title(), node.value.kind()));
            return None;
        };
        for entry in entries {
            let known = table.keys.iter().any(|key| key.name == entry.key);
            // "$schema" and its like speak to editors, not to us.
            let for_editors = table.format.is_json() && entry.key.starts_with('$');
            if !known && !for_editors {
                report.problem(entry.line, unknown_key(&entry.key, table));
            }
        }
        Some(Self { entries, table, line: node.line })
    }

    /// How messages name the table.
    pub(super) fn title(&self) -> String {
        self.table.title()
    }

    fn entry(&self, name: &'static str) -> Option<&'a Entry> {
        debug_assert!(self.table.keys.iter().any(|key| key.name == name), "{name} is not described");
        self.entries.iter().find(|entry| entry.key == name)
    }

    fn key(&self, name: &'static str) -> Option<&'static Key> {
        self.table.keys.iter().find(|key| key.name == name)
    }

    /// The line of a key, or of the table where the key is absent.
    pub(super) fn line_of(&self, name: &'static str) -> u32 {
        self.entry(name).map_or(self.line, |entry| entry.line)
    }

    /// A value of one kind; null counts as absent.
    fn read<T>(
        &self,
        name: &'static str,
        report: &mut Report,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<Located<T>> {
        let entry = self.entry(name)?;
        if matches!(entry.node.value, Value::Null) {
            return None;
        }
        if let Some(value) = take(&entry.node.value) {
            return Some(Located { value, origin: report.origin(entry.line) });
        }
        let wanted = self.key(name).map_or("another kind of value", |key| key.kind);
        report.problem(entry.line, format!("{name} must be {wanted}, not {}", describe(&entry.node.value)));
        None
    }

    pub(super) fn text(&self, name: &'static str, report: &mut Report) -> Option<Located<String>> {
        self.read(name, report, |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    pub(super) fn bool(&self, name: &'static str, report: &mut Report) -> Option<Located<bool>> {
        self.read(name, report, |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub(super) fn count(&self, name: &'static str, report: &mut Report) -> Option<Located<u64>> {
        self.read(name, report, |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A duration in seconds, whole or decimal.
    pub(super) fn seconds(
        &self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<Located<std::time::Duration>> {
        self.read(name, report, |value| match value {
            Value::Integer(number) => u64::try_from(*number).ok().map(std::time::Duration::from_secs),
            Value::Decimal(number) => std::time::Duration::try_from_secs_f64(*number).ok(),
            _ => None,
        })
    }

    /// A list of texts; each with its own line.
    pub(super) fn texts(&self, name: &'static str, report: &mut Report) -> Vec<Located<String>> {
        let items = self.nodes(name, report);
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            if let Value::Text(text) = &item.value {
                texts.push(Located { value: text.clone(), origin: report.origin(item.line) });
            } else {
                report.problem(
                    item.line,
                    format!("{name} must hold texts in quotes, not {}", item.value.kind()),
                );
            }
        }
        texts
    }

    /// A list of tables.
    pub(super) fn nodes(&self, name: &'static str, report: &mut Report) -> &'a [Node] {
        match self.entry(name).map(|entry| (&entry.node.value, entry.line)) {
            Some((Value::List(items), _)) => items,
            None | Some((Value::Null, _)) => &[],
            Some((other, line)) => {
                let wanted = self.key(name).map_or("a list", |key| key.kind);
                let hint = match (other, self.table.format.is_json()) {
                    (Value::Table(_), false) => {
                        format!("; write its header with two brackets, [[{}]]", self.table.child(name))
                    }
                    _ => String::new(),
                };
                report.problem(line, format!("{name} must be {wanted}, not {}{hint}", other.kind()));
                &[]
            }
        }
    }

    /// A table inside this one.
    pub(super) fn node(&self, name: &'static str) -> Option<&'a Node> {
        self.entry(name).map(|entry| &entry.node).filter(|node| !matches!(node.value, Value::Null))
    }
}

/// A value as a message shows it: numbers literally, texts only by kind (they may be keys).
fn describe(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => other.kind().to_owned(),
    }
}

fn unknown_key(key: &str, table: &Table) -> String {
    match suggestion(key, table.keys.iter().map(|key| key.name)) {
        Some(name) => {
            format!("unknown key \"{key}\" in {}; did you mean \"{name}\"?", table.title())
        }
        None => {
            let names: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
            format!("unknown key \"{key}\" in {}; it may hold {}", table.title(), names.join(", "))
        }
    }
}

/// Likeness from which a name is suggested (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.85;

/// The name that a misspelled one most likely means. Letter case and underscores do not count,
/// so that camelCase is led to `snake_case`.
pub(super) fn suggestion<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let wrong = plain(wrong);
    names
        .map(|name| (strsim::jaro_winkler(&wrong, &plain(name)), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

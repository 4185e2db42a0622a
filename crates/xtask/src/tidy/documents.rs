//! Every document can be reached from README.md or docs/README.md, every link between files leads
//! somewhere, and code that is cut from a file is what the file has.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use super::{Checkout, Finding};
use crate::snippets;

/// Where readers start.
const STARTS: [&str; 2] = ["README.md", "docs/README.md"];

pub(super) fn check(checkout: &Checkout) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut to_read: Vec<PathBuf> = STARTS.iter().map(PathBuf::from).collect();
    while let Some(file) = to_read.pop() {
        if !reached.insert(file.clone()) {
            continue;
        }
        if !checkout.files.contains(&file) {
            findings.push(format!("{} is missing", file.display()));
            continue;
        }
        let text = checkout.text(&file)?.unwrap_or_default();
        findings.extend(stale_snippets(checkout, &file, &text));
        for (line, target) in links(&text) {
            let target = resolve(&file, &target);
            let exists = checkout.files.contains(&target)
                || checkout.files.iter().any(|file| file.starts_with(&target));
            if !exists {
                findings.push(format!(
                    "{}:{line}: the link to {} leads nowhere",
                    file.display(),
                    target.display()
                ));
            } else if target.extension().is_some_and(|end| end == "md") {
                to_read.push(target);
            } else {
                // A folder of pages, such as the decisions.
                let pages = checkout.files.iter().filter(|file| {
                    file.parent() == Some(&target) && file.extension().is_some_and(|end| end == "md")
                });
                to_read.extend(pages.cloned());
            }
        }
    }
    for file in &checkout.files {
        let is_document = file.starts_with("docs") && file.extension().is_some_and(|end| end == "md");
        if is_document && !reached.contains(file) {
            findings.push(format!("{}: nothing links to it; add it to docs/README.md", file.display()));
        }
    }
    Ok(findings)
}

/// Code in a document that is not what its file has.
fn stale_snippets(checkout: &Checkout, file: &Path, text: &str) -> Option<Finding> {
    let read = |file: &str| checkout.text(Path::new(file)).ok().flatten();
    match snippets::fill(text, &read) {
        Ok(current) if current == text => None,
        Ok(_) => Some(format!("{}: a snippet is out of date: run `cargo xtask docs`", file.display())),
        Err((line, problem)) => Some(format!("{}:{line}: {problem}", file.display())),
    }
}

/// Relative targets of `[text](target)`, without their anchors, outside of code blocks.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let Some((target, _)) = line[at + 2..].split_once(')') else { continue };
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push((number + 1, target.to_owned()));
            }
        }
    }
    links
}

fn resolve(file: &Path, target: &str) -> PathBuf {
    let mut path = file.parent().map(PathBuf::from).unwrap_or_default();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_resolved() {
        let text = "[a](../x.md#part) [b](https://example.com)\n```\n[c](d.md)\n```\n[e](f/g.md)";
        assert_eq!(links(text), [(1, "../x.md".to_owned()), (5, "f/g.md".to_owned())]);
        assert_eq!(resolve(Path::new("docs/a/b.md"), "../c.md"), Path::new("docs/c.md"));
    }
}

//! Texts that must not stand in the repository: waiting in tests, paths of one machine, notes to
//! oneself; and files that have no place at the top.

use super::{Checkout, Finding};

/// Banned in every file, as two halves so that this one does not hold them; and what to do.
const BANNED: &[(&str, &str, &str)] = &[
    ("/wo", "rk/", "no path of a machine"),
    ("/ro", "ot/", "no path of a machine"),
    ("TO", "DO", "write an issue, or do it"),
    ("FIX", "ME", "write an issue, or do it"),
    ("crates.io/", "api", "no registry's address"),
];

/// What may stand at the top of the repository.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".dockerignore",
    ".gitattributes",
    ".github",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "benches",
    "certs",
    "clippy.toml",
    "crates",
    "deny.toml",
    "docker-compose.yml",
    "docs",
    "fuzz",
    "interop-tests",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

pub(super) fn check(checkout: &Checkout) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in &checkout.files {
        let top = file.components().next().map(|part| part.as_os_str().to_string_lossy());
        if !top.is_some_and(|top| TOP.contains(&top.as_ref())) {
            findings.push(format!("{}: has no place at the top of the repository", file.display()));
        }
        let Some(text) = checkout.text(file)? else { continue };
        for (number, line) in text.lines().enumerate() {
            for (first, second, advice) in BANNED {
                if holds(line, first, second) {
                    let at = number + 1;
                    findings.push(format!("{}:{at}: \"{first}{second}\": {advice}", file.display()));
                }
            }
        }
    }
    // In two halves for the same reason.
    let sleep = concat!("sle", "ep(");
    for source in &checkout.sources {
        for (number, line) in source.text.lines().enumerate() {
            if line.contains(sleep) && source.is_test_line(number + 1) {
                findings.push(format!(
                    "{}:{}: a test must not wait; turn a manual clock, or wait for the event itself",
                    source.path.display(),
                    number + 1
                ));
            }
        }
    }
    Ok(findings)
}

/// Whether a line holds a banned text as a word of its own.
fn holds(line: &str, first: &str, second: &str) -> bool {
    line.match_indices(first).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let rest = &line[at + first.len()..];
        let after = rest.get(second.len()..).and_then(|rest| rest.chars().next());
        let is_path = second.ends_with('/');
        let ends = is_path || !after.is_some_and(|c| c.is_alphanumeric() || c == '_');
        rest.starts_with(second) && starts && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_texts_are_found_as_words() {
        assert!(holds(concat!("see /wo", "rk/x"), "/wo", "rk/"));
        assert!(holds(concat!("// TO", "DO: later"), "TO", "DO"));
        assert!(!holds("AUTODOC", "TO", "DO"));
        assert!(!holds("target/network/", "/wo", "rk/"));
    }
}

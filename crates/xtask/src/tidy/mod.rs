//! Checks that no compiler makes. Each says what is wrong, where, and what to do instead.

mod arrows;
mod conformance;
mod documents;
mod names;
mod sizes;
mod source;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::bounds;

pub(crate) use source::Source;

/// What the checks look at.
pub(crate) struct Checkout {
    root: PathBuf,
    /// Every file that belongs to the repository, relative to its root, sorted.
    files: Vec<PathBuf>,
    /// The Rust files of the crates, parsed.
    sources: Vec<Source>,
}

/// Something to be put right.
pub(crate) type Finding = String;

/// Runs all checks and prints what they find.
///
/// # Errors
/// When a check found something, or a file cannot be read.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let checkout = Checkout::read(root)?;
    let mut findings = Vec::new();
    findings.extend(sizes::check(&checkout)?);
    findings.extend(names::check(&checkout));
    findings.extend(arrows::check(&checkout)?);
    findings.extend(words::check(&checkout)?);
    findings.extend(documents::check(&checkout)?);
    findings.extend(conformance::check(&checkout)?);
    findings.extend(check_bounds(&checkout)?);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    println!("tidy: {} files, nothing to complain about", checkout.files.len());
    Ok(())
}

/// The document with the table of bounds, as it is and as it should be.
fn bounds_document(checkout: &Checkout) -> anyhow::Result<(String, String)> {
    let document = checkout.text(bounds::DOCUMENT.as_ref())?.unwrap_or_default();
    let current = bounds::current(&document, &checkout.sources)?;
    Ok((document, current))
}

fn check_bounds(checkout: &Checkout) -> anyhow::Result<Option<Finding>> {
    let (document, current) = bounds_document(checkout)?;
    let stale =
        || format!("{}: the table of bounds is out of date: run `cargo xtask docs`", bounds::DOCUMENT);
    Ok((document != current).then(stale))
}

/// Makes the table of bounds anew.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn write_bounds(root: &Path) -> anyhow::Result<()> {
    let (_, current) = bounds_document(&Checkout::read(root)?)?;
    std::fs::write(root.join(bounds::DOCUMENT), current).context("cannot write the table of bounds")
}

impl Checkout {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let listed = std::process::Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("cannot run git")?;
        if !listed.status.success() {
            bail!("git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
        }
        let listed = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
        let mut files: Vec<PathBuf> = listed
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            // Listed and deleted is not yet committed.
            .filter(|file| root.join(file).is_file())
            .collect();
        files.sort();
        files.dedup();
        let is_source =
            |file: &&PathBuf| file.starts_with("crates") && file.extension().is_some_and(|end| end == "rs");
        let sources = files
            .iter()
            .filter(is_source)
            .map(|file| Source::read(root, file))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { root: root.to_owned(), files, sources })
    }

    /// The text of a file; `None` if it is no text.
    fn text(&self, file: &Path) -> anyhow::Result<Option<String>> {
        let bytes =
            std::fs::read(self.root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }
}

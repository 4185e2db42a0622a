//! Repository chores, run by `cargo xtask <chore>`:
//!
//! * `tidy` checks what compilers do not: sizes, names, arrows between crates, documents;
//! * `docs` writes the generated documents anew;
//! * `instructions` counts those of the hot path's pieces and compares with the baseline;
//! * `ci` runs every stage of CI in order and prints how long each took.

mod bounds;
mod ci;
mod instructions;
mod snippets;
mod tidy;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["tidy"] => tidy::run(&root()),
        ["docs"] => docs(),
        ["instructions"] => instructions::run(&root(), false).map(drop),
        ["instructions", "--accept"] => instructions::run(&root(), true).map(drop),
        ["ci"] => ci::run(&root(), &[]),
        ["ci", stages @ ..] => ci::run(&root(), stages),
        _ => Err(anyhow::anyhow!("usage: cargo xtask tidy | docs | instructions [--accept] | ci [STAGE]...")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The checkout that `cargo xtask` runs in. Asked for at run time: checkouts may share a target
/// directory, and with it this program.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}

/// Documents are made by tests that otherwise compare them: the crate that knows the facts
/// writes them down. The table of bounds is made from the sources.
fn docs() -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--package", "lockstep-server", "--lib", "generated_document"])
        .env("LOCKSTEP_UPDATE_DOCS", "1")
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the documents were not written");
    }
    snippets::update(&root())?;
    tidy::write_bounds(&root())
}

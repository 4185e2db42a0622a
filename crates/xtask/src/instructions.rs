//! Compares the instructions of small pieces of the hot path with those of the baseline:
//! `cargo xtask instructions`. Valgrind counts them, so that a busy machine counts the same.

mod baseline;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, bail};

use baseline::{Baseline, Environment};

/// Package, program and profile.
const PACKAGE: &str = "lockstep-instructions";
const PROFILE: &str = "instructions";
/// The counts that are held against those of today, and how they come about.
const BASELINE: &str = "benches/instructions/baseline.toml";
/// Rounds of the shorter and of the longer run; the difference is what is counted.
const ROUNDS: (u64, u64) = (20, 120);
/// Programs that run at a time.
const THREADS: usize = 2;
/// glibc picks string functions by processor; these are on every one that Valgrind knows.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";

/// Counts, and compares or, with `accept`, makes the counts the baseline. Returns what is worth a
/// note.
///
/// # Errors
/// A case takes more than the baseline allows, cases differ from the baseline's, or something
/// cannot be run.
pub(crate) fn run(root: &Path, accept: bool) -> anyhow::Result<Vec<String>> {
    let program = build(root)?;
    let environment = Environment::here()?;
    let names = output(Command::new(&program).arg("list"))?;
    let counts = count_all(&program, &names.lines().map(str::to_owned).collect::<Vec<_>>())?;
    let path = root.join(BASELINE);
    if accept {
        let baseline = Baseline { environment, instructions: counts };
        std::fs::write(&path, baseline.to_text()).with_context(|| format!("cannot write {BASELINE}"))?;
        println!("instructions: {} cases are the new baseline", baseline.instructions.len());
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {BASELINE}"))?;
    let report = Baseline::parse(&text)?.compare(&environment, &counts);
    report.lines.iter().for_each(|line| println!("{line}"));
    if !report.failures.is_empty() {
        report.failures.iter().for_each(|line| println!("{line}"));
        bail!("{} cases; if they are meant so: cargo xtask instructions --accept", report.failures.len());
    }
    Ok(report.lines.into_iter().filter(|line| line.starts_with("note: ")).collect())
}

/// Builds the program; where it is.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--profile", PROFILE, "--package", PACKAGE])
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("{PACKAGE} does not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join(PROFILE).join(PACKAGE))
}

fn count_all(program: &Path, names: &[String]) -> anyhow::Result<BTreeMap<String, u64>> {
    let count_some = |from: usize| -> anyhow::Result<Vec<(String, u64)>> {
        names
            .iter()
            .skip(from)
            .step_by(THREADS)
            .map(|name| Ok((name.clone(), count(program, name)?)))
            .collect()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|from| scope.spawn(move || count_some(from))).collect();
        let mut counts = BTreeMap::new();
        for thread in threads {
            let some = thread.join().map_err(|_| anyhow::anyhow!("a thread that counts has panicked"))?;
            counts.extend(some?);
        }
        Ok(counts)
    })
}

/// Instructions of one round.
fn count(program: &Path, name: &str) -> anyhow::Result<u64> {
    let (few, many) = (total(program, name, ROUNDS.0)?, total(program, name, ROUNDS.1)?);
    Ok(many.saturating_sub(few) / (ROUNDS.1 - ROUNDS.0))
}

/// Instructions of the whole program.
fn total(program: &Path, name: &str, rounds: u64) -> anyhow::Result<u64> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["run", name, &rounds.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES);
    let result = command.output().context("cannot run valgrind; .ci/setup.sh test installs it")?;
    let said = String::from_utf8_lossy(&result.stderr);
    if !result.status.success() {
        bail!("\"{name}\" ended with {}:\n{said}", result.status);
    }
    collected(&said).with_context(|| format!("valgrind counted nothing:\n{said}"))
}

/// What Callgrind says at its end: `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().rev().find(|line| line.contains("Collected"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

/// The standard output of a command that succeeds.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let result = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !result.status.success() {
        bail!("{command:?} ended with {}", result.status);
    }
    Ok(String::from_utf8_lossy(&result.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_read_from_what_callgrind_says() {
        let said =
            "==12== \n==12== Events    : Ir\n==12== Collected : 7247606\n==12== \n==12== I   refs: 1\n";
        assert_eq!(collected(said), Some(7_247_606));
        assert_eq!(collected("==12== no such tool"), None);
    }
}

//! The stages of CI, in order: `cargo xtask ci`. The first stage that fails is the last.

use std::{
    io::{BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{instructions, tidy};

/// What a stage does.
enum Work {
    /// A command line, with variables set for it.
    Command(&'static [&'static str], &'static [(&'static str, &'static str)]),
    /// [`tidy::run`].
    Tidy,
    /// [`instructions::run`].
    Instructions,
}

struct Stage {
    name: &'static str,
    work: Work,
}

/// `cargo` means the cargo that runs us. Everything is built by one profile, so that tests and
/// interop share what is compiled.
const STAGES: &[Stage] = &[
    Stage { name: "fmt", work: Work::Command(&["cargo", "fmt", "--all", "--check"], &[]) },
    Stage { name: "tidy", work: Work::Tidy },
    Stage {
        name: "clippy",
        work: Work::Command(
            &[
                "cargo",
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
            &[],
        ),
    },
    Stage {
        name: "doc",
        work: Work::Command(
            &["cargo", "doc", "--locked", "--workspace", "--no-deps", "--document-private-items", "--quiet"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        ),
    },
    Stage { name: "test", work: Work::Command(&["cargo", "test", "--locked", "--workspace"], &[]) },
    Stage { name: "instructions", work: Work::Instructions },
    Stage { name: "deny", work: Work::Command(&[".ci/deny.sh"], &[]) },
    Stage { name: "fuzz", work: Work::Command(&["fuzz/run.sh", "smoke"], &[]) },
    Stage {
        name: "binary",
        work: Work::Command(&["cargo", "build", "--locked", "--package", "lockstep-cli"], &[]),
    },
    Stage { name: "interop", work: Work::Command(&["interop-tests/run.sh"], &[]) },
];

/// Runs all stages, or the named ones.
///
/// # Errors
/// The stage that failed.
pub(crate) fn run(root: &Path, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        if !STAGES.iter().any(|stage| stage.name == *name) {
            let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
            bail!("no stage \"{name}\"; there are {}", known.join(", "));
        }
    }
    let chosen = STAGES.iter().filter(|stage| names.is_empty() || names.contains(&stage.name));
    let mut summary = Vec::new();
    let mut failed = None;
    for stage in chosen {
        println!("\n=== {}", stage.name);
        let start = stopwatch();
        let result = match &stage.work {
            Work::Tidy => tidy::run(root).map(|()| Vec::new()),
            Work::Instructions => instructions::run(root, false),
            Work::Command(words, variables) => command(root, words, variables),
        };
        let seconds = start().as_secs();
        match result {
            Ok(results) => {
                println!("=== {}: {seconds} s", stage.name);
                summary.push(format!("{:<12} {seconds:>5} s  ok", stage.name));
                summary.extend(results.into_iter().map(|line| format!("               {line}")));
            }
            Err(error) => {
                println!("=== {}: failed after {seconds} s: {error:#}", stage.name);
                summary.push(format!("{:<12} {seconds:>5} s  FAILED", stage.name));
                failed = Some(stage.name);
                break;
            }
        }
    }
    println!("\n=== summary");
    for line in summary {
        println!("{line}");
    }
    match failed {
        Some(name) => bail!("stage {name} failed"),
        None => Ok(()),
    }
}

/// Time since the call.
#[expect(clippy::disallowed_methods, reason = "how long a stage takes is no time of the broker")]
fn stopwatch() -> impl Fn() -> Duration {
    let start = std::time::Instant::now();
    move || start.elapsed()
}

/// Runs a command, passes its output on line by line, and returns the summaries that test
/// runners print.
fn command(root: &Path, words: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let program = match *program {
        "cargo" => cargo.into(),
        script => root.join(script),
    };
    let mut child = Command::new(&program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let stdout = child.stdout.take().context("no output to read")?;
    let reading = thread::spawn(move || pass_on(BufReader::new(stdout)));
    let status = child.wait()?;
    let results = reading.join().unwrap_or_default();
    if !status.success() {
        for line in &results {
            println!("{line}");
        }
        bail!("{} ended with {status}", words.join(" "));
    }
    Ok(summarize(&results))
}

fn pass_on(output: impl std::io::BufRead) -> Vec<String> {
    let mut results = Vec::new();
    let mut stdout = std::io::stdout();
    for line in output.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // Nobody reads any more: what counts is the status.
        let _ = writeln!(stdout, "{line}");
        if is_result(&line) {
            results.push(line.trim().to_owned());
        }
    }
    results
}

/// Whether a test runner sums up: cargo test, pytest, node's test runner, our interop script.
fn is_result(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("test result: ")
        || line.starts_with("== interop ")
        || line.starts_with("ℹ tests ")
        || line.starts_with("ℹ pass ")
        || line.starts_with("ℹ fail ")
        || line.starts_with("note: ")
        || (line.contains(" passed") && line.contains(" in ") && line.ends_with('s')
            || line.contains(" passed in "))
}

/// Adds cargo's many results up into one line; keeps the rest.
fn summarize(results: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut runs, mut passed, mut failed, mut ignored) = (0_u64, 0, 0, 0);
    for line in results {
        let Some(rest) = line.strip_prefix("test result: ") else {
            lines.push(line.clone());
            continue;
        };
        runs += 1;
        let count = |word: &str| {
            let (before, _) = rest.split_once(word)?;
            before.rsplit([' ', '.']).find(|text| !text.is_empty())?.parse::<u64>().ok()
        };
        passed += count(" passed").unwrap_or(0);
        failed += count(" failed").unwrap_or(0);
        ignored += count(" ignored").unwrap_or(0);
    }
    if runs > 0 {
        lines.push(format!(
            "cargo test: {passed} passed; {failed} failed; {ignored} ignored, in {runs} test programs"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_test_programs_are_added_up() {
        let results = [
            "test result: ok. 34 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.09s",
            "test result: ok. 6 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "17 passed in 3.21s",
        ]
        .map(str::to_owned);
        assert!(results.iter().all(|line| is_result(line)));
        assert_eq!(
            summarize(&results),
            ["17 passed in 3.21s", "cargo test: 40 passed; 0 failed; 1 ignored, in 2 test programs"]
        );
    }
}

//! Scenarios with fe2o3-amqp against the real broker. They share one broker, and many run at the same time, since
//! most of them wait. Names, meanings and queues: `../../../scenarios.md`.

mod message_sessions;
mod queues;
mod snippets;

use std::{
    fs::OpenOptions,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use lockstep_interop_amqp::{Broker, Home};

/// Scenarios at a time; they wait more than they work.
const THREADS: usize = 8;
const SCENARIO_DEADLINE: Duration = Duration::from_secs(90);

type Body = fn(Arc<Broker>) -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// Scenarios by name.
type Scenarios = &'static [(&'static str, Body)];

/// Makes the list of a module's scenarios; a scenario is a function of its name.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: $crate::Scenarios =
            &[$((stringify!($name), |broker| Box::pin(async move { $name(&broker, stringify!($name)).await }))),*];
    };
}
use scenarios;

fn main() -> ExitCode {
    if std::env::var_os("LOCKSTEP_INTEROP_HOME").is_none() {
        println!("No directory in LOCKSTEP_INTEROP_HOME: no scenario runs. Use interop-tests/run.sh fe2o3.");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    let broker = Arc::new(Broker::start(&Arc::new(Home::find()?))?);
    let all = [queues::SCENARIOS, message_sessions::SCENARIOS].into_iter().flatten();
    let trials = all.map(|&(name, body)| {
        let broker = broker.clone();
        Trial::test(name, move || run_one(&broker, name, body).map_err(|error| format!("{error:?}").into()))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let status = broker.stop()?;
    ensure!(status.success(), "the broker ended with {status} after SIGTERM\n{}", broker.log_tail());
    Ok(!conclusion.has_failed())
}

fn run_one(broker: &Arc<Broker>, name: &str, body: Body) -> Result<()> {
    let result = catch_unwind(AssertUnwindSafe(|| -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::time::timeout(SCENARIO_DEADLINE, body(broker.clone())).await.context("not over in time")?
        })?;
        ensure!(broker.exit_status().is_none(), "the broker ended during the scenario");
        Ok(())
    }));
    // What a panic says is printed by its hook.
    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("panicked")));
    write_verdict(name, result.is_ok())?;
    result.with_context(|| format!("--- broker ---\n{}", broker.log_tail()))
}

fn write_verdict(scenario: &str, passed: bool) -> Result<()> {
    let Some(directory) = std::env::var_os("LOCKSTEP_INTEROP_RESULTS") else { return Ok(()) };
    let path = std::path::Path::new(&directory).join("fe2o3.jsonl");
    let verdict = if passed { "pass" } else { "fail" };
    let line =
        format!("{{\"client\": \"fe2o3\", \"scenario\": \"{scenario}\", \"verdict\": \"{verdict}\"}}\n");
    // One write of a short line: scenarios append at the same time.
    Ok(OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())?)
}

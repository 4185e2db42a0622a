//! The .NET SDK by conversation: what it sends, in its order, and its casts on every answer. The
//! SDK itself does not run here. Recordings of its predecessor: `../../../dotnet`; names, meanings
//! and queues: `../../../scenarios.md`.

mod casts;
mod connecting;
mod later_versions;
mod message_sessions;
mod processor;
mod receiving;
mod sdk;
mod sending;
#[path = "../scenarios/suite.rs"]
#[expect(dead_code, reason = "the other test program uses all of it")]
mod suite;
#[path = "../scenarios/tls_tunnel.rs"]
#[expect(dead_code, reason = "the other test program uses all of it")]
mod tls_tunnel;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};

use crate::suite::Suite;

/// Scenarios at a time; they wait more than they work.
const THREADS: usize = 16;

fn main() -> ExitCode {
    if std::env::var_os("LOCKSTEP_BIN").is_none() {
        println!("No broker in LOCKSTEP_BIN: no scenario runs. Use interop-tests/run.sh amqp.");
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    let suite = Arc::new(Suite::default());
    let scenarios = [
        connecting::SCENARIOS,
        sending::SCENARIOS,
        receiving::SCENARIOS,
        message_sessions::SCENARIOS,
        processor::SCENARIOS,
        later_versions::SCENARIOS,
    ];
    let trials = scenarios.into_iter().flatten().map(|&(name, body)| {
        let suite = suite.clone();
        Trial::test(name, move || suite.run(name, body).map_err(Into::into))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let ended = suite.finish();
    if let Err(failed) = &ended {
        eprintln!("{failed}");
    }
    if ended.is_err() || conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

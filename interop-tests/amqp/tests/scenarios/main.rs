//! Scenarios in raw frames against the real broker. They share one broker, and all run at the
//! same time, since most of them wait; those that kill a broker or measure it have one of their
//! own. Names, meanings and queues: `../../../scenarios.md`.

mod accepting;
mod access;
mod bad_input;
mod bounds;
mod certificates;
mod connections;
mod cycles;
mod durability;
mod generic_clients;
mod hostile;
mod large_messages;
mod later_features;
mod locks;
mod management;
mod order;
mod queues;
mod sending;
mod state;
mod suite;
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
        accepting::SCENARIOS,
        cycles::SCENARIOS,
        order::SCENARIOS,
        locks::SCENARIOS,
        state::SCENARIOS,
        sending::SCENARIOS,
        queues::SCENARIOS,
        management::SCENARIOS,
        large_messages::SCENARIOS,
        later_features::SCENARIOS,
        access::SCENARIOS,
        certificates::SCENARIOS,
        bad_input::SCENARIOS,
        bounds::SCENARIOS,
        hostile::SCENARIOS,
        connections::SCENARIOS,
        durability::SCENARIOS,
        generic_clients::SCENARIOS,
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

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

use std::process::ExitCode;

/// Scenarios at a time; they wait more than they work.
const THREADS: usize = 16;

fn main() -> ExitCode {
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
    suite::run_all(scenarios, Some(THREADS))
}

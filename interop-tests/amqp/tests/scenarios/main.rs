//! Scenarios in raw frames against the real broker. They share one broker, and all run at the
//! same time, since most of them wait; those that kill a broker or measure it have one of their
//! own. Names, meanings and queues: `../../../scenarios.md`.

mod accepting;
mod access;
mod bad_input;
mod batch_delete;
mod bounds;
mod certificates;
mod connections;
mod cycles;
mod deferral;
mod duplicates;
mod durability;
mod entities;
mod fates;
mod generic_clients;
mod hostile;
mod large_messages;
mod later_features;
mod locks;
mod management;
mod numbered;
mod order;
mod queues;
mod scheduling;
mod sending;
mod settlement;
mod state;
mod suite;
mod time_to_live;
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
        deferral::SCENARIOS,
        scheduling::SCENARIOS,
        time_to_live::SCENARIOS,
        batch_delete::SCENARIOS,
        duplicates::SCENARIOS,
        settlement::SCENARIOS,
        entities::SCENARIOS,
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

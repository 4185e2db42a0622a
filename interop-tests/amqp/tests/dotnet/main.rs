//! The .NET SDK by conversation: what it sends, in its order, and its casts on every answer. The
//! SDK itself does not run here. Recordings of its predecessor: `../../../dotnet`; names, meanings
//! and queues: `../../../scenarios.md`.

mod casts;
mod connecting;
mod later_versions;
mod message_sessions;
mod numbered;
mod processor;
mod receiving;
mod recorded;
mod sdk;
mod sending;
#[path = "../scenarios/suite.rs"]
#[expect(dead_code, reason = "the other test program uses all of it")]
mod suite;
#[path = "../scenarios/tls_tunnel.rs"]
#[expect(dead_code, reason = "the other test program uses all of it")]
mod tls_tunnel;

use std::process::ExitCode;

/// Scenarios at a time; they wait more than they work.
const THREADS: usize = 16;

fn main() -> ExitCode {
    let scenarios = [
        connecting::SCENARIOS,
        sending::SCENARIOS,
        receiving::SCENARIOS,
        message_sessions::SCENARIOS,
        processor::SCENARIOS,
        numbered::SCENARIOS,
        later_versions::SCENARIOS,
    ];
    suite::run_all(scenarios, Some(THREADS))
}

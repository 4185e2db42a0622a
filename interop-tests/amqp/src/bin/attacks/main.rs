//! Attacks the broker in `LOCKSTEP_BIN`, and measures what a quiet client and the broker's memory
//! feel of it: `make attacks`. The broker and each attacker are processes of their own.
//!
//! ```text
//! attacks [--time SECONDS] [--markdown] [NAME]...
//! ```
//! Ends with an error when a bound is passed.
#![forbid(unsafe_code)]

mod attacker;
mod quiet;
mod table;

use std::{process::ExitCode, sync::Arc, time::Duration};

use lockstep_interop_amqp::{
    Broker, Failed, Home, Outcome,
    attacks::{ATTACKS, Attack},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::{
    attacker::Attacker,
    quiet::{Latency, Quiet},
    table::{Row, Table},
};

/// How long each attack lasts, and the rest before it.
const ATTACK_TIME: Duration = Duration::from_secs(6);
const REST_TIME: Duration = Duration::from_secs(2);
/// Descriptors that each of the processes gets.
const DESCRIPTORS: u64 = 20_000;
/// What an idle connection and an idle link may cost, in bytes.
const IDLE_CONNECTION_BYTES: u64 = 30 << 10;
const IDLE_LINK_BYTES: u64 = 2 << 10;
/// The broker's budget, in bytes: the default of `limits.memory_bytes_max`.
const BUDGET_BYTES: u64 = 1 << 30;
/// The quiet client's p99 may always be this.
const QUIET_MICROS: u64 = 5_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [attacker::ROLE, name, address] => attacker::run(name, address).map(|()| true),
        arguments => attack_all(arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failed) => {
            eprintln!("attacks: {failed}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the attacks of these names, or all; whether every bound held.
fn attack_all(arguments: &[&str]) -> Outcome<bool> {
    let (mut time, mut markdown, mut names) = (ATTACK_TIME, false, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument {
            "--time" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                time = Duration::from_secs(seconds.ok_or_else(|| Failed::new("--time takes seconds"))?);
            }
            "--markdown" => markdown = true,
            name if ATTACKS.iter().any(|attack| attack.name == name) => names.push(name),
            other => return Err(Failed::new(format!("no attack is named {other}"))),
        }
    }
    raise_descriptors()?;
    let mut table = Table::new(markdown);
    for attack in ATTACKS.iter().filter(|attack| names.is_empty() || names.contains(&attack.name)) {
        match attack_once(attack, time) {
            Ok(row) => table.push(row),
            Err(failed) => table.failed(attack.name, &failed),
        }
    }
    Ok(table.finish())
}

/// Children have what this process has.
fn raise_descriptors() -> Outcome {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum })
        .map_err(|error| Failed::new(format!("cannot raise the number of descriptors: {error}")))
}

fn attack_once(attack: &Attack, time: Duration) -> Outcome<Row> {
    // A broker of its own for each, so that its memory is this attack's.
    let home = Arc::new(Home::find()?);
    let broker = Broker::start(&home)?;
    let mut quiet = Quiet::connect(&broker)?;
    let rest = quiet.measure(REST_TIME, || Ok(false))?;
    let before_kib = broker.resident_kib()?;

    let mut attacker = Attacker::start(attack.name, &home, broker.address())?;
    attacker.wait_until_ready()?;
    let ready_kib = broker.resident_kib()?;
    let mut most_kib = broker.peak_kib()?;
    let under_attack = quiet.measure(time, || attacker.has_ended())?;
    most_kib = most_kib.max(broker.peak_kib()?);
    attacker.stop()?;
    let after = quiet.measure(REST_TIME / 4, || Ok(false))?;
    if let Some(status) = broker.exit_status() {
        return Err(Failed::new(format!("the broker ended with {status}\n{}", broker.log_tail())));
    }
    quiet.close()?;
    let idle = (attack.idle)(attack.large);
    Ok(Row { attack: attack.name, rest, under_attack, after, idle, before_kib, ready_kib, most_kib })
}

/// What the broker may hold with so many idle connections and links.
fn memory_bound_bytes((connections, links): (usize, usize)) -> u64 {
    BUDGET_BYTES + connections as u64 * IDLE_CONNECTION_BYTES + links as u64 * IDLE_LINK_BYTES
}

/// What the quiet client's p99 may be.
fn latency_bound_micros(rest: &Latency) -> u64 {
    (2 * rest.p99_micros).max(QUIET_MICROS)
}

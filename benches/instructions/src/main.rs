//! Small pieces of the hot path, one at a time, for `cargo xtask instructions`, which counts the
//! instructions of each under Valgrind. Nothing here is random and nothing looks at a clock, so
//! the same program counts the same twice.
//!
//! `list` prints the names of the cases, `run NAME ROUNDS` does a case's work so many times. What
//! is prepared before the first round costs the same for any number of rounds: the difference of
//! two runs is the work alone.

mod codec;
mod core;
mod messages;

use anyhow::{Context as _, bail};

/// One piece of work.
struct Case {
    /// What it is, for the table and the baseline.
    name: &'static str,
    /// Makes ready what each round works on.
    prepare: fn() -> Work,
}

/// One round.
type Work = Box<dyn FnMut()>;

/// A name that is not among the cases stands in the baseline no longer; add new ones at the end
/// of their group.
const CASES: &[Case] = &[
    Case { name: "decode transfer", prepare: codec::decode_transfer },
    Case { name: "decode disposition", prepare: codec::decode_disposition },
    Case { name: "decode flow", prepare: codec::decode_flow },
    Case { name: "encode transfer", prepare: codec::encode_transfer },
    Case { name: "encode disposition", prepare: codec::encode_disposition },
    Case { name: "encode flow", prepare: codec::encode_flow },
    Case { name: "scan message", prepare: messages::scan_message },
    Case { name: "map incoming message", prepare: messages::map_incoming },
    Case { name: "map incoming message without id", prepare: messages::map_incoming_without_id },
    Case { name: "map outgoing message", prepare: messages::map_outgoing },
    Case { name: "core, plain queue, 100 messages", prepare: core::plain_queue },
    Case { name: "core, 10 message sessions of 10", prepare: core::message_sessions },
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["list"] => {
            for case in CASES {
                println!("{}", case.name);
            }
        }
        ["run", name, rounds] => {
            let rounds: u32 = rounds.parse().context("the number of rounds")?;
            let case = CASES
                .iter()
                .find(|case| case.name == *name)
                .with_context(|| format!("no case \"{name}\""))?;
            let mut round = (case.prepare)();
            for _ in 0..rounds {
                round();
            }
        }
        _ => bail!("usage: lockstep-instructions list | run NAME ROUNDS"),
    }
    Ok(())
}

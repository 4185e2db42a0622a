//! The binary `lockstep`: runs the broker, and measures it.
//!
//! What is absent: the broker itself. `serve` hands a configuration to `lockstep_server`;
//! everything else speaks to a broker as a client.

mod args;
mod bench;
mod output;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let result = match cli.command {
        args::Command::Serve(args) => serve::run(&args),
        args::Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockstep: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `lockstep bench`: a load generator for any AMQP 1.0 broker, over our own engine in the client
//! role, one task for each connection, bounded in count and time.
//!
//! Every run checks what it measures: bodies carry who sent them and which one they are, so that
//! a lost, doubled or overtaken message ends the run with an error, not with a figure.

mod address;
mod args;
mod check;
mod client;
mod clock;
mod connections;
mod endpoint;
mod links;
mod message_sessions;
mod observer;
mod pacer;
mod pipe;
mod process;
mod progress;
mod receiver;
mod report;
mod sender;
mod stamp;
mod start;
#[cfg(test)]
mod tests;
mod transport;

use std::{future::Future, path::Path};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::args::BenchArgs;
use self::{
    args::{ConnectionsArgs, LatencyArgs, MessageSessionArgs, PipeArgs, Scenario, TargetArgs},
    clock::Stopwatch,
    connections::ConnectionsPlan,
    endpoint::Endpoint,
    message_sessions::MessageSessionPlan,
    observer::Observer,
    pipe::{Measured, PipePlan},
    report::Report,
    transport::NetDial,
};

/// Runs one scenario and prints its report on standard output.
///
/// # Errors
/// When the broker cannot be reached or refuses something, the run takes too long, or messages
/// were lost, doubled or overtaken; the report is printed first where there is one.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match &args.scenario {
        Scenario::Pipe(args) => pipe("pipe", args, Measured::Together),
        Scenario::Send(args) => pipe("send", args, Measured::Sending),
        Scenario::Drain(args) => pipe("drain", args, Measured::Receiving),
        Scenario::Latency(args) => latency(args),
        Scenario::MessageSessions(args) => message_sessions(args),
        Scenario::Connections(args) => connections(args),
        Scenario::Start(args) => {
            print(&start::run(args)?, args.json);
            Ok(())
        }
    }
}

fn pipe(scenario: &'static str, args: &PipeArgs, measured: Measured) -> Result<()> {
    let endpoint = Endpoint::from_args(&args.target)?;
    let plan = PipePlan::of_pipe(args, &endpoint, measured)?;
    let observer = Observer::of(&args.target);
    let outcome =
        on_broker(&args.target, &endpoint, async |dial| pipe::run(&dial, &endpoint, &plan, &observer).await)?;
    print(&pipe::report(scenario, &plan, &outcome, &observer), args.target.json);
    outcome.verdict.ensure_clean()
}

fn latency(args: &LatencyArgs) -> Result<()> {
    let endpoint = Endpoint::from_args(&args.target)?;
    let syncs = args.data_dir.as_deref().map(measure_fdatasync).transpose()?;
    for plan in PipePlan::of_latency(args, &endpoint)? {
        let observer = Observer::of(&args.target);
        let outcome = on_broker(&args.target, &endpoint, async |dial| {
            pipe::run(&dial, &endpoint, &plan, &observer).await
        })?;
        let mut report = pipe::report("latency", &plan, &outcome, &observer);
        if let Some(syncs) = &syncs {
            report.times("fdatasync_4k", syncs);
        }
        print(&report, args.target.json);
        outcome.verdict.ensure_clean()?;
    }
    Ok(())
}

fn measure_fdatasync(directory: &Path) -> Result<hdrhistogram::Histogram<u64>> {
    process::measure_fdatasync(directory, Stopwatch::start())
}

fn message_sessions(args: &MessageSessionArgs) -> Result<()> {
    let endpoint = Endpoint::from_args(&args.target)?;
    let plan = MessageSessionPlan::of(args, &endpoint)?;
    let observer = Observer::of(&args.target);
    let outcome = on_broker(&args.target, &endpoint, async |dial| {
        message_sessions::run(&dial, &endpoint, &plan, &observer).await
    })?;
    print(&message_sessions::report(&plan, &outcome, &observer), args.target.json);
    Ok(())
}

fn connections(args: &ConnectionsArgs) -> Result<()> {
    let endpoint = Endpoint::from_args(&args.target)?;
    let plan = ConnectionsPlan::of(args, &endpoint);
    connections::raise_descriptor_limit(&plan)?;
    let observer = Observer::of(&args.target);
    let outcome = on_broker(&args.target, &endpoint, async |dial| {
        connections::run(&dial, &endpoint, &plan, &observer).await
    })?;
    print(&connections::report(&plan, &outcome), args.target.json);
    Ok(())
}

/// Runs a scenario against the broker that the arguments name, within their time.
fn on_broker<T, F: Future<Output = Result<T>>>(
    target: &TargetArgs,
    endpoint: &Endpoint,
    scenario: impl FnOnce(NetDial) -> F,
) -> Result<T> {
    let dial = NetDial::new(&endpoint.address, target)?;
    let mut builder = if target.threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(target.threads.into());
        builder
    };
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        match tokio::time::timeout(target.time_out(), scenario(dial)).await {
            Ok(result) => result,
            Err(_) => bail!("the run was not over after {} s (--time-out)", target.time_out),
        }
    })
}

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
fn print(report: &Report, json: bool) {
    println!("{}", report.render(json).trim_end());
}

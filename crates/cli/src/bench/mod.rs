//! `lockstep bench`: a load generator over our own AMQP engine in the client role, one task for
//! each connection, bounded in count and time.
//!
//! Every run checks what it measures: bodies carry who sent them and which one they are, so that
//! a lost, doubled or overtaken message ends the run with an error, not with a figure.

mod args;
mod check;
mod client;
mod clock;
mod endpoint;
mod links;
mod message_sessions;
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

use std::{future::Future, path::Path};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::args::BenchArgs;
use self::{
    args::{LatencyArgs, MessageSessionArgs, PipeArgs, Scenario, TargetArgs},
    client::TcpDial,
    clock::Stopwatch,
    endpoint::Endpoint,
    message_sessions::MessageSessionPlan,
    pipe::PipePlan,
    report::Report,
};

/// Runs one scenario and prints its report on standard output.
///
/// # Errors
/// When the broker cannot be reached or refuses something, the run takes too long, or messages
/// were lost, doubled or overtaken; the report is printed first where there is one.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match &args.scenario {
        Scenario::Pipe(args) => pipe(args),
        Scenario::MessageSessions(args) => message_sessions(args),
        Scenario::Latency(args) => latency(args),
        Scenario::Start(args) => {
            print(&start::run(args)?, args.json);
            Ok(())
        }
    }
}

fn pipe(args: &PipeArgs) -> Result<()> {
    let plan = PipePlan::of_pipe(args)?;
    let outcome = on_broker(&args.target, async |dial: TcpDial, endpoint: Endpoint| {
        pipe::run(&dial, &endpoint, &plan, args.target.broker_pid).await
    })?;
    print(&pipe::report("pipe", &plan, &outcome), args.target.json);
    judge(&outcome.verdict)
}

fn latency(args: &LatencyArgs) -> Result<()> {
    let plan = PipePlan::of_latency(args)?;
    let syncs = args.data_dir.as_deref().map(measure_fdatasync).transpose()?;
    let outcome = on_broker(&args.target, async |dial: TcpDial, endpoint: Endpoint| {
        pipe::run(&dial, &endpoint, &plan, args.target.broker_pid).await
    })?;
    let mut report = pipe::report("latency", &plan, &outcome);
    if let Some(syncs) = &syncs {
        report.times("fdatasync_4k", syncs);
    }
    print(&report, args.target.json);
    judge(&outcome.verdict)
}

fn measure_fdatasync(directory: &Path) -> Result<hdrhistogram::Histogram<u64>> {
    process::measure_fdatasync(directory, Stopwatch::start())
}

fn message_sessions(args: &MessageSessionArgs) -> Result<()> {
    let plan = MessageSessionPlan::of(args)?;
    let outcome = on_broker(&args.target, async |dial: TcpDial, endpoint: Endpoint| {
        message_sessions::run(&dial, &endpoint, &plan, args.target.broker_pid).await
    })?;
    print(&message_sessions::report(&plan, &outcome), args.target.json);
    Ok(())
}

/// Runs a scenario against the broker that the arguments name, within their time.
fn on_broker<T, F: Future<Output = Result<T>>>(
    target: &TargetArgs,
    scenario: impl FnOnce(TcpDial, Endpoint) -> F,
) -> Result<T> {
    let endpoint = Endpoint::from_args(target)?;
    let dial = TcpDial { address: endpoint.address.clone() };
    let mut builder = if target.threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(target.threads.into());
        builder
    };
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        match tokio::time::timeout(target.time_out(), scenario(dial, endpoint)).await {
            Ok(result) => result,
            Err(_) => bail!("the run was not over after {} s (--time-out)", target.time_out),
        }
    })
}

fn judge(verdict: &check::Verdict) -> Result<()> {
    if verdict.is_clean() {
        return Ok(());
    }
    let check::Verdict { lost, duplicates, out_of_order, .. } = verdict;
    bail!("{lost} messages lost, {duplicates} duplicated, {out_of_order} out of order")
}

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
fn print(report: &Report, json: bool) {
    println!("{}", report.render(json).trim_end());
}

//! `lockstep serve`: from options to a running broker, until a signal ends it.

use std::time::Duration;

use anyhow::Context as _;
use lockstep_server::{RunningServer, config, start, telemetry};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{args::ServeArgs, output};

/// Runs until SIGTERM or SIGINT, or until a durable write fails.
///
/// # Errors
/// Whatever keeps the broker from starting, and a failed write.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = config::load(&args.load_options())?;
    telemetry::start(config.log_format)?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("lockstep-io")
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        // Before the start, so that a signal during a long recovery ends it, too.
        let mut stop = StopSignals::new()?;
        let shown = config.clone();
        let mut server = tokio::select! {
            started = start(config, args.start_options()) => started?,
            name = stop.next() => {
                tracing::info!("{name}: stopped before the start was done");
                return Ok(());
            }
        };
        for warning in server.warnings() {
            tracing::warn!("{warning}");
        }
        print!("{}", output::welcome(&shown, server.addresses(), server.ca_file(), output::may_show_keys()));
        until_ended(&mut server, &mut stop).await;
        tokio::select! {
            ended = server.shut_down() => match ended {
                Ok(()) => tracing::info!("ended"),
                Err(reason) => {
                    tracing::error!(%reason, "a durable write failed: ended");
                    std::process::exit(FAILED_WRITE_STATUS);
                }
            },
            name = stop.next_after(ECHO_MAX) => anyhow::bail!("{name} again: ended at once"),
        }
        Ok(())
    })
}

/// Waits for a signal. A failed write ends the process at once: what is on the disk is the truth
/// at the next start, and nothing more may be said to clients.
async fn until_ended(server: &mut RunningServer, stop: &mut StopSignals) {
    tracing::info!(addresses = ?server.addresses(), "ready");
    tokio::select! {
        name = stop.next() => tracing::info!("{name}: shutting down"),
        reason = server.failed() => {
            tracing::error!(%reason, "a durable write failed: ending");
            std::process::exit(FAILED_WRITE_STATUS);
        }
    }
}

/// For so long a second signal is taken for an echo of the first: programs such as timeout(1) tell
/// their child, and then everybody in its process group.
const ECHO_MAX: Duration = Duration::from_secs(1);
/// Exit status after a failed write.
const FAILED_WRITE_STATUS: i32 = 70;

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// The name of the next one that comes so much later.
    async fn next_after(&mut self, time: Duration) -> &'static str {
        let echoes = async { while !self.next().await.is_empty() {} };
        let _over = tokio::time::timeout(time, echoes).await;
        self.next().await
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Each connection and each file of the store takes a descriptor: takes all that the system
/// allows.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let (current, maximum) = (limit.current, limit.maximum);
    limit.current = maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(?current, ?maximum, "file descriptors"),
        Err(error) => {
            tracing::warn!(?current, ?maximum, %error, "cannot raise the limit of file descriptors")
        }
    }
}

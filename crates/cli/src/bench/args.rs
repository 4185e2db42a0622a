//! Command line of `lockstep bench`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

/// Measures a broker with durable messages. Every run checks order, loss and duplicates.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) scenario: Scenario,
}

#[derive(Debug, Subcommand)]
pub(super) enum Scenario {
    /// Send, receive and complete on queues without message sessions, as fast as it goes
    Pipe(PipeArgs),
    /// Message sessions: accept the next, drain it in order, close it
    #[command(name = "sessions")]
    MessageSessions(MessageSessionArgs),
    /// Latency at a fixed rate, beside the time of one fdatasync
    Latency(LatencyArgs),
    /// Time from the start of `lockstep serve` in an empty directory to its first good /health
    Start(StartArgs),
}

/// How the client authenticates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum AuthMethod {
    /// SASL PLAIN with policy name and key
    Plain,
    /// SASL ANONYMOUS, then a SAS token on `$cbs`
    Cbs,
}

/// Which receiver-settle-mode completes messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum SettleMode {
    /// The receiver settles at once; nothing confirms it
    First,
    /// The broker confirms each completion when it is durable
    Second,
}

/// What every scenario over the network needs.
#[derive(Clone, Debug, Args)]
pub(super) struct TargetArgs {
    /// Host and port of a plain AMQP listener
    #[arg(long, default_value = "127.0.0.1:5672")]
    pub(super) address: String,
    /// Name of a policy with the rights Send and Listen
    #[arg(long, default_value = "RootManageSharedAccessKey")]
    pub(super) policy: String,
    /// Key of the policy
    #[arg(long, env = "LOCKSTEP_BENCH_KEY", hide_env_values = true)]
    pub(super) key: Option<String>,
    /// Instead of address, policy and key
    #[arg(long, env = "LOCKSTEP_BENCH_CONNECTION_STRING", hide_env_values = true, conflicts_with = "key")]
    pub(super) connection_string: Option<String>,
    /// How to authenticate
    #[arg(long, value_enum, default_value = "plain")]
    pub(super) auth: AuthMethod,
    /// Host name that open names, to mean a namespace; the address's host if left out
    #[arg(long)]
    pub(super) hostname: Option<String>,
    /// Process whose processor time and memory are reported
    #[arg(long)]
    pub(super) broker_pid: Option<u32>,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) threads: u16,
    /// Seconds after which a run is given up, however far it is
    #[arg(long, default_value_t = 300)]
    pub(super) time_out: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

impl TargetArgs {
    pub(super) fn time_out(&self) -> Duration {
        Duration::from_secs(self.time_out)
    }
}

/// Which queues, connections and messages.
#[derive(Clone, Debug, Args)]
pub(super) struct LoadArgs {
    /// Queue, may be repeated; without any, `<queue-prefix>-0` up to `--queues`
    #[arg(long)]
    pub(super) queue: Vec<String>,
    /// Number of queues
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) queues: u16,
    /// What the queues' names begin with
    #[arg(long, default_value = "bench")]
    pub(super) queue_prefix: String,
    /// Sending and receiving connections, each; stands for `--senders` and `--receivers`
    #[arg(long, conflicts_with_all = ["senders", "receivers"])]
    pub(super) connections: Option<u16>,
    /// Connections that send
    #[arg(long)]
    pub(super) senders: Option<u16>,
    /// Connections that receive
    #[arg(long)]
    pub(super) receivers: Option<u16>,
    /// Bytes of a message's body
    #[arg(long, default_value_t = 1024)]
    pub(super) size: usize,
    /// Who settles first
    #[arg(long, value_enum, default_value = "second")]
    pub(super) settle: SettleMode,
}

impl LoadArgs {
    /// Names of the queues.
    pub(super) fn queue_names(&self) -> Vec<String> {
        if self.queue.is_empty() {
            return (0..self.queues).map(|index| format!("{}-{index}", self.queue_prefix)).collect();
        }
        self.queue.clone()
    }

    /// Number of sending and receiving connections.
    pub(super) fn connection_counts(&self, default: u16) -> (u16, u16) {
        let default = self.connections.unwrap_or(default);
        (self.senders.unwrap_or(default), self.receivers.unwrap_or(default))
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct PipeArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Messages that a sender has under way without an outcome
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(super) in_flight: u32,
    /// Credit that a receiver keeps
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(super) credit: u32,
    /// Messages sent and not completed at which the senders pause
    #[arg(long, default_value_t = 20_000)]
    pub(super) backlog: u64,
    /// Messages in all; the time limits the run too
    #[arg(long)]
    pub(super) count: Option<u64>,
    /// Seconds of sending
    #[arg(long, default_value_t = 10)]
    pub(super) duration: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct LatencyArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Messages a second, by the clock and not by the broker's answers
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rate: u32,
    /// Seconds of sending
    #[arg(long, default_value_t = 10)]
    pub(super) duration: u64,
    /// Credit that a receiver keeps
    #[arg(long, default_value_t = 1_000)]
    pub(super) credit: u32,
    /// Directory of the file system whose fdatasync is measured for scale
    #[arg(long)]
    pub(super) data_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct MessageSessionArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Message sessions of each round
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) sessions: u32,
    /// Messages of each message session in a round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) messages: u32,
    /// Rounds over the same message sessions
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) rounds: u32,
    /// Message sessions that a sender interleaves
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) interleave: u32,
    /// Message sessions that each receiving connection holds at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) concurrent: u32,
    /// Messages that a sender has under way without an outcome
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(super) in_flight: u32,
    /// Messages sent and not completed at which the senders pause
    #[arg(long, default_value_t = 20_000)]
    pub(super) backlog: u64,
    /// Send everything before the first accept, so that both halves are measured alone
    #[arg(long)]
    pub(super) prefill: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct StartArgs {
    /// The broker's program; this one if left out
    #[arg(long)]
    pub(super) bin: Option<PathBuf>,
    /// Its configuration; a namespace with one queue if left out
    #[arg(long)]
    pub(super) config: Option<PathBuf>,
    /// Empty directory to start in, on the file system to be measured; a fresh one under the
    /// system's temporary directory if left out
    #[arg(long)]
    pub(super) data_dir: Option<PathBuf>,
    /// Seconds that the broker is left idle before its memory is read
    #[arg(long, default_value_t = 3)]
    pub(super) idle: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

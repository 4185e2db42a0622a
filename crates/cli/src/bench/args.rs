//! Command line of `lockstep bench`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Subcommand, ValueEnum};

/// Measures any AMQP 1.0 broker. Every run checks order, loss and duplicates, and fails if one shows.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) scenario: Scenario,
}

#[derive(Debug, Subcommand)]
pub(super) enum Scenario {
    /// Send, receive and complete together, as fast as it goes
    Pipe(PipeArgs),
    /// Send as fast as it goes; received and checked afterwards, which is not measured
    Send(PipeArgs),
    /// Receive and complete as fast as it goes what was sent before, which is not measured
    Drain(PipeArgs),
    /// Latency at fixed rates, from the time at which a message was due
    Latency(LatencyArgs),
    /// Message sessions of Service Bus: accept the next, drain it in order, close it
    #[command(name = "sessions")]
    MessageSessions(MessageSessionArgs),
    /// Open idle connections and links; what each costs the broker
    Connections(ConnectionsArgs),
    /// Time from the start of `lockstep serve` in an empty directory to its first good /health
    Start(StartArgs),
}

/// The SASL layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum SaslChoice {
    /// No SASL layer at all
    None,
    /// ANONYMOUS
    Anonymous,
    /// PLAIN with user and password
    Plain,
    /// EXTERNAL: the client's certificate
    External,
    /// MSSBCBS, the name of ANONYMOUS at Service Bus
    Mssbcbs,
}

/// On or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

/// The generator's end of idle links.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum LinkRole {
    /// Links that send nothing
    Sender,
    /// Links that give no credit
    Receiver,
}

/// Which receiver-settle-mode completes messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum SettleMode {
    /// The receiver settles at once; nothing confirms it
    First,
    /// The broker confirms each completion when it is durable
    Second,
}

impl SettleMode {
    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

/// What every scenario over the network needs.
#[derive(Clone, Debug, Args)]
pub(super) struct TargetArgs {
    /// Broker: `amqp://user:password@host:port/queue`, or host and port. `amqps://` means TLS. User,
    /// password and queue may be left out, and are percent-encoded where they hold other characters
    #[arg(long, default_value = "127.0.0.1:5672")]
    pub(super) address: String,
    /// Instead of --address: a connection string of Service Bus
    #[arg(long, env = "LOCKSTEP_BENCH_CONNECTION_STRING", hide_env_values = true, conflicts_with = "key")]
    pub(super) connection_string: Option<String>,
    /// User of SASL PLAIN, or policy of a token, unless the address names it
    #[arg(long, alias = "user", default_value = "RootManageSharedAccessKey")]
    pub(super) policy: String,
    /// Password of the user, or key of the policy, unless the address has it
    #[arg(long, alias = "password", env = "LOCKSTEP_BENCH_KEY", hide_env_values = true)]
    pub(super) key: Option<String>,
    /// SASL mechanism; if left out, `plain` where there is a password and no --cbs, else `anonymous`
    #[arg(long, value_enum)]
    pub(super) sasl: Option<SaslChoice>,
    /// Whether a token signed with the key is put on `$cbs` for each queue
    #[arg(long, value_enum, default_value = "off")]
    pub(super) cbs: Switch,
    /// PEM file of the authorities that the broker's certificate may come from; the system's if left out
    #[arg(long)]
    pub(super) tls_ca: Option<PathBuf>,
    /// PEM file of the client's own certificate, which `external` needs
    #[arg(long, requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Host name that open names (a namespace, or `vhost:name`); the address's host if left out
    #[arg(long)]
    pub(super) hostname: Option<String>,
    /// Process whose processor time and memory are reported, together with its descendants
    #[arg(long, alias = "broker-pid")]
    pub(super) pid: Option<u32>,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) threads: u16,
    /// Seconds after which a run is given up, however far it is
    #[arg(long, default_value_t = 300)]
    pub(super) time_out: u64,
    /// No progress on standard error
    #[arg(long)]
    pub(super) quiet: bool,
    /// One JSON object on a line instead of a table
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
    /// Queue (any node address of the broker), may be repeated; without any, that of --address, or
    /// else `<queue-prefix>-0` up to --queues
    #[arg(long)]
    pub(super) queue: Vec<String>,
    /// Number of queues
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) queues: u16,
    /// What the queues' names begin with
    #[arg(long, default_value = "bench")]
    pub(super) queue_prefix: String,
    /// Sending and receiving connections, each; stands for --senders and --receivers
    #[arg(long, conflicts_with_all = ["senders", "receivers"])]
    pub(super) connections: Option<u16>,
    /// Connections that send
    #[arg(long)]
    pub(super) senders: Option<u16>,
    /// Connections that receive
    #[arg(long)]
    pub(super) receivers: Option<u16>,
    /// Bytes of a message's body, at least 36
    #[arg(long, default_value_t = 1024, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(36..=100 << 20))]
    pub(super) size: usize,
    /// What the header of each message says about durability
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub(super) durable: bool,
    /// Who settles first; not every broker offers `second`
    #[arg(long, value_enum, default_value = "second")]
    pub(super) settle: SettleMode,
}

impl LoadArgs {
    /// Names of the queues, given what the broker's address names.
    pub(super) fn queue_names(&self, of_address: Option<&str>) -> Vec<String> {
        match (&self.queue[..], of_address) {
            ([], Some(queue)) => vec![queue.to_owned()],
            ([], None) => (0..self.queues).map(|index| format!("{}-{index}", self.queue_prefix)).collect(),
            (queues, _) => queues.to_vec(),
        }
    }

    /// Number of sending and receiving connections.
    pub(super) fn connection_counts(&self, default: u16) -> (u16, u16) {
        let default = self.connections.unwrap_or(default);
        (self.senders.unwrap_or(default), self.receivers.unwrap_or(default))
    }
}

/// What `pipe`, `send` and `drain` have in common.
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
    /// Messages sent and not completed at which the senders of `pipe` pause
    #[arg(long, default_value_t = 20_000)]
    pub(super) backlog: u64,
    /// Messages in all; the time limits the run too
    #[arg(long)]
    pub(super) count: Option<u64>,
    /// Seconds of sending
    #[arg(long, default_value_t = 10)]
    pub(super) duration: u64,
    /// Seconds of the same load before, checked and not measured
    #[arg(long, default_value_t = 0)]
    pub(super) warm_up: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct LatencyArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Messages a second, by the clock and not by the broker's answers; several are run one after
    /// the other, with a report each
    #[arg(long, value_delimiter = ',', default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rate: Vec<u32>,
    /// Seconds of sending, for each rate
    #[arg(long, default_value_t = 10)]
    pub(super) duration: u64,
    /// Credit that a receiver keeps
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(super) credit: u32,
    /// Seconds of the first rate before, checked and not measured
    #[arg(long, default_value_t = 0)]
    pub(super) warm_up: u64,
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
    /// Rounds before, checked and not measured
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(super) warm_up_rounds: u32,
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
pub(super) struct ConnectionsArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Connections
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(super) count: u32,
    /// Links of each connection, all on one AMQP session
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=5_000))]
    pub(super) links: u32,
    /// Which end the generator takes of the links
    #[arg(long, value_enum, default_value = "receiver")]
    pub(super) role: LinkRole,
    /// Queue of the links; that of --address, or else `bench-0`
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// Connections that are opened (or given their links) at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) parallel: u32,
    /// Seconds that everything is left idle before the broker's memory is read; all has to stay open
    #[arg(long, default_value_t = 5)]
    pub(super) hold: u64,
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

//! A configuration that is complete and valid: what the rest of the server is given.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use lockstep_broker::runtime::MEMORY_BYTES_DEFAULT;
use lockstep_model::{EntityName, QueueDescription, Right};

use super::{secret::Secret, tree::Origin};
use crate::client_certificate::CertificateName;

/// Everything the server needs to start.
#[derive(Clone, Debug)]
pub struct ResolvedConfig {
    /// The namespaces; never empty. A connection that names none means the first.
    pub namespaces: Vec<NamespaceConfig>,
    /// What the operator should know, each once, with file and line.
    pub warnings: Vec<String>,
    /// Where everything durable is.
    pub data_dir: PathBuf,
    /// Whether `data_dir` is the default, because nobody named one.
    pub data_dir_is_default: bool,
    /// Addresses to listen on; never empty.
    pub listen: Vec<ListenConfig>,
    /// The server's certificate; none means no TLS.
    pub tls: Option<TlsConfig>,
    /// Authorities of client certificates; without any, none are asked for.
    pub client_ca_file: Option<PathBuf>,
    /// What becomes of a message-session lock whose connection breaks (semantics D-3).
    pub message_session_on_connection_loss: OnConnectionLoss,
    /// Bounds of the process.
    pub limits: LimitsConfig,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// Whether this is `--dev`: well-known credentials, self-made certificate.
    pub dev: bool,
}

/// One namespace.
#[derive(Clone, Debug)]
pub struct NamespaceConfig {
    /// Its name, as first spelled.
    pub name: String,
    /// Host names by which clients mean it, in lower case, besides its name and `localhost`.
    pub host_names: Vec<String>,
    /// Its shared access policies and those of its entities.
    pub policies: Vec<PolicyConfig>,
    /// What clients may do that authenticate by certificate.
    pub client_certificates: Vec<ClientCertificateConfig>,
    /// Its queues.
    pub queues: Vec<QueueConfig>,
    /// Topics that a file asks for and a later version brings.
    pub topics_left_out: Vec<String>,
}

/// A queue and where it was configured.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Its properties, within their bounds.
    pub description: QueueDescription,
    /// Where it is named.
    pub origin: Origin,
    /// Where its `requires_session` stands, or the queue where that is left out: the place to
    /// show when a stored queue differs.
    pub requires_session_origin: Origin,
}

/// A shared access policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyConfig {
    /// `SharedAccessKeyName`.
    pub name: String,
    /// A key that is valid for it.
    pub primary_key: Secret,
    /// Another key that is valid for it.
    pub secondary_key: Option<Secret>,
    /// What it allows, sorted; where there is `Manage` there are the other two.
    pub rights: Vec<Right>,
    /// The entity it is for; none for the whole namespace.
    pub scope: Option<EntityName>,
}

/// The rights of a client that authenticates by its certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificateConfig {
    /// Which certificate.
    pub name: CertificateName,
    /// What it allows, as for a policy.
    pub rights: Vec<Right>,
    /// The entity it is for; none for the whole namespace.
    pub scope: Option<EntityName>,
}

/// An address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenConfig {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether a failure to bind is no failure to start: the IPv6 twin of a default.
    pub optional: bool,
}

/// Where the certificate comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsConfig {
    /// PEM files.
    Files {
        /// The chain, the server's own certificate first.
        certificate_file: PathBuf,
        /// Its private key.
        key_file: PathBuf,
    },
    /// Made by the broker itself, in the data directory; only with `--dev`.
    SelfMade,
}

/// What becomes of a message-session lock whose connection breaks without a close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnConnectionLoss {
    /// It is held until it expires.
    Hold,
    /// It is released at once.
    Release,
}

/// Form of the log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// Open connections.
    pub connections_count_max: usize,
    /// Silence of a peer after which its connection is given up.
    pub idle_timeout: Duration,
    /// How long a peer may leave unread what is sent to it.
    pub unread_timeout: Duration,
    /// After how long without use a link is detached; `None` is never.
    pub link_idle_timeout: Option<Duration>,
    /// After how long without links a connection is closed; `None` is never.
    pub connection_without_links_timeout: Option<Duration>,
    /// Memory that clients may make the process hold, in bytes.
    pub memory_bytes_max: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections_count_max: 10_000,
            idle_timeout: Duration::from_secs(240),
            unread_timeout: Duration::from_secs(60),
            link_idle_timeout: None,
            connection_without_links_timeout: None,
            memory_bytes_max: MEMORY_BYTES_DEFAULT,
        }
    }
}

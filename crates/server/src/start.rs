//! From a configuration to a running server, and back.

use std::{net::SocketAddr, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use lockstep_admin::AdminError;
use lockstep_amqp as amqp;
use lockstep_broker::{
    core::CoreConfig,
    runtime::{
        BODY_CACHE_BYTES_DEFAULT, Broker, BrokerConfig, BrokerError, MemoryBudget, NamespaceDefinition,
    },
};
use lockstep_model::Clock;
use lockstep_protocol::names::sasl;
use lockstep_store::{RocksOptions, RocksStore, Store};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    administration::{self, Head},
    config::{NamespaceConfig, OnConnectionLoss, ResolvedConfig, TlsConfig},
    connection::{Connection, idleness::IdleRules},
    connection_driver::{self, Driving},
    context::{NamespaceContext, ServerContext},
    dev_certificate, disk,
    health::HealthCheck,
    http::Health,
    listener::{Accepted, Listener, Services},
    system_clock::SystemClock,
    tls,
    turns::Turns,
};

/// How long connections may take to say good-bye at a shutdown.
const GOODBYE_WAIT: Duration = Duration::from_secs(5);

/// Part of the memory budget that recent messages may take.
const BODY_CACHE_SHARE: u64 = 8;

/// What a start is told besides the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Go on although acknowledged writes are missing.
    pub accept_loss: bool,
}

/// A server that accepts connections.
#[derive(Debug)]
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    ca_file: Option<PathBuf>,
    warnings: Vec<String>,
    broker: Arc<Broker>,
    failure: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningServer {
    /// The addresses it listens on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The certificate of the self-made authority, for clients to trust.
    #[must_use]
    pub fn ca_file(&self) -> Option<&std::path::Path> {
        self.ca_file.as_deref()
    }

    /// What the operator should know about the start.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Resolves when a durable write failed, with the reason. The process must then end.
    pub async fn failed(&mut self) -> String {
        match self.failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the commit pipeline ended".to_owned(),
        }
    }

    /// Detaches links, closes connections, makes what was accepted durable, and ends. No
    /// delivery count is raised.
    ///
    /// # Errors
    /// When a durable write failed meanwhile, with the reason.
    pub async fn shut_down(self) -> Result<(), String> {
        self.stop.cancel();
        for task in self.tasks {
            if tokio::time::timeout(GOODBYE_WAIT, task).await.is_err() {
                tracing::warn!("some connections did not end in time");
            }
        }
        let ended = tokio::task::spawn_blocking(move || Broker::shut_down(&self.broker)).await;
        if let Err(error) = ended {
            tracing::error!(%error, "the broker did not end cleanly");
        }
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }
}

/// What listeners hand connections to.
struct ServerServices {
    context: Arc<ServerContext>,
    health: HealthCheck,
    driving: Driving,
}

impl Services for ServerServices {
    async fn amqp(&self, accepted: Accepted) {
        let now = self.context.clock.now();
        let config = match accepted.certificate {
            Some(_) => &self.context.engine_config_external,
            None => &self.context.engine_config,
        };
        let engine = amqp::Connection::server(Arc::clone(config), amqp::Time(now.mono.micros()));
        tracing::debug!(peer = %accepted.peer, transport = ?accepted.transport, "connection accepted");
        let connection =
            Connection::new(engine, Arc::clone(&self.context), (accepted.sni, accepted.certificate), now);
        let driving = self.driving.clone();
        connection_driver::drive(accepted.stream, connection, driving, accepted.newcomer).await;
        tracing::debug!(peer = %accepted.peer, "connection ended");
    }

    async fn health(&self) -> Health {
        self.health.check().await
    }

    async fn administer(
        &self,
        head: Head,
        body: impl Future<Output = Result<Bytes, AdminError>> + Send,
    ) -> lockstep_admin::Reply {
        administration::answer(&self.context, &head, body).await
    }
}

/// Opens the store, starts the broker and listens. Called within a Tokio runtime.
///
/// # Errors
/// Whatever keeps it from starting, in words for the operator.
pub async fn start(config: ResolvedConfig, options: StartOptions) -> anyhow::Result<RunningServer> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    let (acceptor, ca_file) = certificate(&config, &*clock)?;
    // Before the store is opened: an address in use is the commoner mistake and the cheaper look.
    let listener = Listener::bind(&config.listen)?;
    let addresses: Vec<SocketAddr> = listener.addresses().collect();

    let store_options = RocksOptions { accept_loss: options.accept_loss, ..RocksOptions::default() };
    let data_dir = config.data_dir.clone();
    let store = tokio::task::spawn_blocking(move || RocksStore::open(&data_dir, &store_options)).await??;
    let rocks = Arc::new(store);
    let store: Arc<dyn Store> = Arc::clone(&rocks) as _;
    let memory = Arc::new(MemoryBudget::new(config.limits.memory_bytes_max));
    let broker_config = BrokerConfig {
        body_cache_bytes: body_cache_bytes(config.limits.memory_bytes_max),
        memory: Arc::clone(&memory),
        core: CoreConfig {
            release_message_sessions_on_connection_loss: config.message_session_on_connection_loss
                == OnConnectionLoss::Release,
        },
    };
    let definitions = definitions(&config);
    let broker = {
        let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
        let started =
            tokio::task::spawn_blocking(move || Broker::start(store, clock, &broker_config, &definitions));
        Arc::new(started.await?.map_err(|error| with_origin(error, &config.namespaces))?)
    };
    let mut warnings = config.warnings.clone();
    warnings.extend_from_slice(broker.warnings());

    let context = Arc::new(context(&config, &broker, Arc::clone(&clock), memory)?);
    let stop = CancellationToken::new();
    let health = HealthCheck::new(Arc::clone(&broker), Arc::clone(&clock));
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let turns = Arc::new(Turns::of_threads(threads, broker.courtesy()));
    let driving = Driving { clock, shutdown: stop.clone(), turns };
    let services = Arc::new(ServerServices { context, health, driving });
    let serving = listener.serve(acceptor, config.limits.connections_count_max, services, stop.clone());
    let watching = disk::watch(rocks, Arc::clone(&broker), stop.clone());
    let tasks = vec![tokio::spawn(serving), tokio::spawn(watching)];
    let failure = broker.failure();
    Ok(RunningServer { addresses, ca_file, warnings, broker, failure, stop, tasks })
}

fn certificate(
    config: &ResolvedConfig,
    clock: &dyn Clock,
) -> anyhow::Result<(Option<tokio_rustls::TlsAcceptor>, Option<PathBuf>)> {
    let client_ca_file = config.client_ca_file.as_deref();
    Ok(match &config.tls {
        None => (None, None),
        Some(TlsConfig::Files { certificate_file, key_file }) => {
            (Some(tls::acceptor(certificate_file, key_file, client_ca_file)?), None)
        }
        Some(TlsConfig::SelfMade) => {
            let hosts: Vec<String> =
                config.namespaces.iter().flat_map(|namespace| namespace.host_names.clone()).collect();
            let made = dev_certificate::ensure(&config.data_dir, &hosts, clock.now().utc)?;
            let acceptor = tls::acceptor(&made.certificate_file, &made.key_file, client_ca_file)?;
            (Some(acceptor), Some(made.ca_file))
        }
    })
}

fn definitions(config: &ResolvedConfig) -> Vec<NamespaceDefinition> {
    let definition = |namespace: &NamespaceConfig| NamespaceDefinition {
        name: namespace.name.clone(),
        queues: namespace.queues.iter().map(|queue| queue.description.clone()).collect(),
    };
    config.namespaces.iter().map(definition).collect()
}

/// Says where in the configuration a definition stands that cannot be.
fn with_origin(error: BrokerError, namespaces: &[NamespaceConfig]) -> anyhow::Error {
    let origin = match &error {
        BrokerError::Definition { namespace, queue, .. } => namespaces
            .iter()
            .filter(|config| config.name == *namespace)
            .flat_map(|config| &config.queues)
            .find(|config| config.description.name.as_str() == queue)
            .map(|config| config.requires_session_origin.clone()),
        _ => None,
    };
    match origin {
        Some(origin) => anyhow::anyhow!(
            "{origin}: {error}. Give the queue its old value, or another name; its messages are kept"
        ),
        None => error.into(),
    }
}

/// The recent messages' part of the memory budget.
fn body_cache_bytes(memory_bytes_max: u64) -> usize {
    let share = usize::try_from(memory_bytes_max / BODY_CACHE_SHARE).unwrap_or(usize::MAX);
    share.min(BODY_CACHE_BYTES_DEFAULT)
}

fn context(
    config: &ResolvedConfig,
    broker: &Broker,
    clock: Arc<dyn Clock>,
    memory: Arc<MemoryBudget>,
) -> anyhow::Result<ServerContext> {
    let namespaces = config.namespaces.iter().map(|namespace| {
        let client = broker
            .namespace(&namespace.name)
            .with_context(|| format!("namespace '{}' was not started", namespace.name))?;
        Ok(NamespaceContext { config: namespace.clone(), client })
    });
    let idle_time_out_ms = u32::try_from(config.limits.idle_timeout.as_millis()).unwrap_or(u32::MAX);
    let engine_config = amqp::Config {
        idle_time_out_ms: (idle_time_out_ms > 0).then_some(idle_time_out_ms),
        sasl: amqp::SaslPolicy {
            mechanisms: sasl::OFFERED.map(amqp::types::Symbol::new).to_vec(),
            required: false,
        },
        ..amqp::Config::default()
    };
    let mut external = engine_config.clone();
    external.sasl.mechanisms.push(sasl::EXTERNAL.into());
    Ok(ServerContext {
        namespaces: namespaces.collect::<anyhow::Result<_>>()?,
        started_at: clock.now().utc,
        clock,
        engine_config: Arc::new(engine_config),
        engine_config_external: Arc::new(external),
        unstored_bytes: Arc::default(),
        memory,
        unread_timeout: config.limits.unread_timeout,
        idle_rules: IdleRules {
            link: config.limits.link_idle_timeout,
            connection: config.limits.connection_without_links_timeout,
        },
    })
}

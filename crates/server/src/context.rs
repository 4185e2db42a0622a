//! What all connections of the server share.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use lockstep_amqp as amqp;
use lockstep_broker::runtime::{BrokerClient, MemoryBudget};
use lockstep_model::Clock;

use crate::{
    config::{NamespaceConfig, PolicyConfig},
    connection::idleness::IdleRules,
};

/// A namespace as connections see it.
#[derive(Debug)]
pub(crate) struct NamespaceContext {
    pub(crate) config: NamespaceConfig,
    pub(crate) client: BrokerClient,
}

impl NamespaceContext {
    /// Whether `host` (perhaps with a port) means this namespace.
    fn answers_to(&self, host: &str) -> bool {
        let host = without_port(host);
        host.eq_ignore_ascii_case(&self.config.name)
            || self.config.host_names.iter().any(|name| name.eq_ignore_ascii_case(host))
            || host.split_once('.').is_some_and(|(first, _)| first.eq_ignore_ascii_case(&self.config.name))
    }

    /// The policies of that name: one of the namespace, and those of entities.
    pub(crate) fn policies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a PolicyConfig> {
        self.config.policies.iter().filter(move |policy| policy.name == name)
    }
}

/// See the module's documentation.
pub(crate) struct ServerContext {
    /// In the order of the configuration; the first one is meant by unknown hosts. Never empty.
    pub(crate) namespaces: Vec<NamespaceContext>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine_config: Arc<amqp::Config>,
    /// The same for connections with a verified client certificate: with SASL EXTERNAL.
    pub(crate) engine_config_external: Arc<amqp::Config>,
    /// Bytes of large messages that arrived and are not durable yet.
    pub(crate) unstored_bytes: Arc<AtomicUsize>,
    /// What the process holds for its clients.
    pub(crate) memory: Arc<MemoryBudget>,
    /// How long a client may leave unread what is sent to it.
    pub(crate) unread_timeout: Duration,
    /// What is given up when nobody uses it.
    pub(crate) idle_rules: IdleRules,
}

impl std::fmt::Debug for ServerContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerContext").field("namespaces", &self.namespaces.len()).finish_non_exhaustive()
    }
}

impl ServerContext {
    /// Whether a token made for `host` (no port) is made for this namespace: by one of its names,
    /// by the name under which the client itself addresses the broker, or by a local address.
    pub(crate) fn is_own_host(
        &self,
        namespace: &NamespaceContext,
        host: &str,
        said: [Option<&str>; 3],
    ) -> bool {
        namespace.answers_to(host)
            || said.into_iter().flatten().any(|said| without_port(said).eq_ignore_ascii_case(host))
            || host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The namespace that the first known of these hosts means; the first one if none is known.
    pub(crate) fn namespace_of(&self, hosts: [Option<&str>; 3]) -> usize {
        hosts
            .into_iter()
            .flatten()
            .find_map(|host| self.namespaces.iter().position(|namespace| namespace.answers_to(host)))
            .unwrap_or(0)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

//! What a connection advertises and what it bounds.

use bytes::Bytes;

use crate::types::{Fields, Symbol};

/// How an engine presents itself and what it allows. Shared by all connections of a listener.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Name of this container, in open.
    pub container_id: Box<str>,
    /// Largest frame that this end takes, in bytes; advertised. At least 512.
    pub max_frame_size: u32,
    /// Highest channel number that the peer may use; advertised.
    pub channel_max: u16,
    /// Highest handle that the peer may use; advertised.
    pub handle_max: u32,
    /// Milliseconds of silence of the peer after which the connection is closed; advertised.
    /// `None` never.
    pub idle_time_out_ms: Option<u32>,
    /// Transfers that this end takes on an AMQP session; advertised and renewed at half.
    pub incoming_window: u32,
    /// Whether transfers beyond `incoming_window` end the AMQP session. Some clients count
    /// transfers in their own way, so a broker leaves this off.
    pub strict_windows: bool,
    /// Server role: the SASL layer.
    pub sasl: SaslPolicy,
    /// Client role: the host that open and sasl-init name.
    pub hostname: Option<Box<str>>,
    /// Client role: properties of open. (The server gives them to `open`.)
    pub properties: Option<Fields>,
    /// Where this end's transfer-ids, delivery-ids and delivery-counts start. All of them wrap.
    pub first_serial: u32,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            container_id: "lockstep".into(),
            max_frame_size: 262_144,
            channel_max: 4_999,
            handle_max: 262_143,
            idle_time_out_ms: Some(240_000),
            incoming_window: 65_535,
            strict_windows: false,
            sasl: SaslPolicy::default(),
            hostname: None,
            properties: None,
            first_serial: 0,
            limits: Limits::default(),
        }
    }
}

/// Server role: which SASL mechanisms are offered.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SaslPolicy {
    /// In order of preference. None at all: there is no SASL layer.
    pub mechanisms: Vec<Symbol>,
    /// Whether a connection without a SASL layer is turned away.
    pub required: bool,
}

/// Client role: how to authenticate.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientSasl {
    /// The mechanism; the connection fails if the server does not offer it.
    pub mechanism: Symbol,
    /// Its first data.
    pub initial_response: Option<Bytes>,
}

/// Bounds of one connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// AMQP sessions at a time.
    pub amqp_sessions_max: u32,
    /// Links of one AMQP session at a time.
    pub links_per_amqp_session_max: u32,
    /// Attaches of the whole connection that wait for their answer.
    pub pending_attaches_max: u32,
    /// Unsettled deliveries of a link, in either direction.
    pub unsettled_per_link_max: u32,
    /// Bytes of partial deliveries, and of deliveries whose attach is not answered yet.
    pub reassembly_bytes_max: usize,
    /// Bytes that wait to be sent over which `sendable` says 0.
    pub outbox_bytes_high: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            amqp_sessions_max: 5_000,
            links_per_amqp_session_max: 5_000,
            pending_attaches_max: 5_000,
            unsettled_per_link_max: 65_536,
            reassembly_bytes_max: 128 << 20,
            outbox_bytes_high: 1 << 20,
        }
    }
}

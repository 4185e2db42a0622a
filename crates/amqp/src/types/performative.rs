//! Performatives, termini and delivery states (parts 2, 3, 4 and 5). Fields have the
//! specification's names; an absent optional field is `None`, an absent field with a default has
//! its default.

use bytes::Bytes;

use super::value::{Error, Fields, Symbol, Value};

/// An AMQP frame's performative.
#[derive(Clone, PartialEq, Debug)]
pub enum Performative {
    /// 0x10
    Open(Box<Open>),
    /// 0x11
    Begin(Box<Begin>),
    /// 0x12
    Attach(Box<Attach>),
    /// 0x13
    Flow(Flow),
    /// 0x14
    Transfer(Transfer),
    /// 0x15
    Disposition(Disposition),
    /// 0x16
    Detach(Detach),
    /// 0x17
    End(End),
    /// 0x18
    Close(Close),
}

/// A SASL frame.
#[derive(Clone, PartialEq, Debug)]
pub enum SaslFrame {
    /// 0x40
    Mechanisms(SaslMechanisms),
    /// 0x41
    Init(SaslInit),
    /// 0x42
    Challenge(Bytes),
    /// 0x43
    Response(Bytes),
    /// 0x44
    Outcome(SaslOutcome),
}

/// sasl-mechanisms
#[derive(Clone, PartialEq, Debug)]
pub struct SaslMechanisms {
    /// In order of the server's preference; always encoded as an array.
    pub sasl_server_mechanisms: Vec<Symbol>,
}

/// sasl-init
#[derive(Clone, PartialEq, Debug)]
pub struct SaslInit {
    /// Chosen mechanism.
    pub mechanism: Symbol,
    /// Its first data.
    pub initial_response: Option<Bytes>,
    /// Host that the client means.
    pub hostname: Option<Box<str>>,
}

/// sasl-outcome
#[derive(Clone, PartialEq, Debug)]
pub struct SaslOutcome {
    /// 0 ok, 1 authentication failed, 2 system error, 3 permanent, 4 transient.
    pub code: u8,
    /// Further data.
    pub additional_data: Option<Bytes>,
}

/// open
#[derive(Clone, PartialEq, Debug)]
pub struct Open {
    /// Who the sender is.
    pub container_id: Box<str>,
    /// Host that the sender means.
    pub hostname: Option<Box<str>>,
    /// Largest frame the sender can take, in bytes. Default 4294967295.
    pub max_frame_size: u32,
    /// Highest channel number usable. Default 65535.
    pub channel_max: u16,
    /// Milliseconds without a frame after which the sender gives up; `None` (or 0) never.
    pub idle_time_out: Option<u32>,
    /// Languages for texts.
    pub outgoing_locales: Vec<Symbol>,
    /// Languages for texts.
    pub incoming_locales: Vec<Symbol>,
    /// Extensions.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions.
    pub desired_capabilities: Vec<Symbol>,
    /// Connection properties.
    pub properties: Option<Fields>,
}

/// begin
#[derive(Clone, PartialEq, Debug)]
pub struct Begin {
    /// The peer's channel that this answers.
    pub remote_channel: Option<u16>,
    /// transfer-id of the first transfer to come.
    pub next_outgoing_id: u32,
    /// Transfers the sender can take.
    pub incoming_window: u32,
    /// Transfers the sender may have under way.
    pub outgoing_window: u32,
    /// Highest handle usable. Default 4294967295.
    pub handle_max: u32,
    /// Extensions.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions.
    pub desired_capabilities: Vec<Symbol>,
    /// Properties.
    pub properties: Option<Fields>,
}

/// Which end of a link a peer is (encoded as boolean: receiver is true).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// false
    Sender,
    /// true
    Receiver,
}

/// snd-settle-mode
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SenderSettleMode {
    /// 0
    Unsettled,
    /// 1
    Settled,
    /// 2, the default
    #[default]
    Mixed,
}

/// rcv-settle-mode
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReceiverSettleMode {
    /// 0, the default: settles spontaneously
    #[default]
    First,
    /// 1: waits for the sender to settle
    Second,
}

/// attach
#[derive(Clone, PartialEq, Debug)]
pub struct Attach {
    /// The link's name.
    pub name: Box<str>,
    /// The sender's number for it.
    pub handle: u32,
    /// The sender's end.
    pub role: Role,
    /// `None` if it was absent.
    pub snd_settle_mode: Option<SenderSettleMode>,
    /// `None` if it was absent.
    pub rcv_settle_mode: Option<ReceiverSettleMode>,
    /// Where messages come from.
    pub source: Option<Source>,
    /// Where messages go.
    pub target: Option<TargetTerminus>,
    /// The unsettled map as it came (links are not resumed); encoded as null.
    pub unsettled: Option<Value>,
    /// Whether that map is partial.
    pub incomplete_unsettled: bool,
    /// delivery-count at the start; senders must give it.
    pub initial_delivery_count: Option<u32>,
    /// Largest message in bytes; `None` or 0 is no limit.
    pub max_message_size: Option<u64>,
    /// Extensions.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions.
    pub desired_capabilities: Vec<Symbol>,
    /// Link properties.
    pub properties: Option<Fields>,
}

/// terminus-durability
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TerminusDurability {
    /// 0
    #[default]
    None,
    /// 1
    Configuration,
    /// 2
    UnsettledState,
}

/// terminus-expiry-policy
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TerminusExpiryPolicy {
    /// link-detach
    LinkDetach,
    /// session-end, the default
    #[default]
    SessionEnd,
    /// connection-close
    ConnectionClose,
    /// never
    Never,
}

/// source
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Source {
    /// Usually a string; kept as it came.
    pub address: Option<Value>,
    /// Durability.
    pub durable: TerminusDurability,
    /// When it expires.
    pub expiry_policy: TerminusExpiryPolicy,
    /// Seconds.
    pub timeout: u32,
    /// Whether the peer is to make a node.
    pub dynamic: bool,
    /// Properties of a dynamic node.
    pub dynamic_node_properties: Option<Fields>,
    /// `move` or `copy`.
    pub distribution_mode: Option<Symbol>,
    /// Filters by name; values as they came (bare or described). `Some` of nothing is an empty
    /// map on the wire.
    pub filter: Option<Fields>,
    /// Outcome for unsettled deliveries at the end.
    pub default_outcome: Option<Outcome>,
    /// Outcomes that can be used.
    pub outcomes: Vec<Symbol>,
    /// Extensions.
    pub capabilities: Vec<Symbol>,
}

/// target
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Target {
    /// Usually a string; kept as it came.
    pub address: Option<Value>,
    /// Durability.
    pub durable: TerminusDurability,
    /// When it expires.
    pub expiry_policy: TerminusExpiryPolicy,
    /// Seconds.
    pub timeout: u32,
    /// Whether the peer is to make a node.
    pub dynamic: bool,
    /// Properties of a dynamic node.
    pub dynamic_node_properties: Option<Fields>,
    /// Extensions.
    pub capabilities: Vec<Symbol>,
}

/// What stands in attach's target field.
#[derive(Clone, PartialEq, Debug)]
pub enum TargetTerminus {
    /// 0x29
    Target(Target),
    /// 0x30: a transaction coordinator, with its capabilities
    Coordinator(Vec<Symbol>),
}

/// flow. Fields of the link half are `None` together, in a flow for the session alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// `None` before the peer's begin was seen.
    pub next_incoming_id: Option<u32>,
    /// Transfers the sender can take.
    pub incoming_window: u32,
    /// transfer-id of the next transfer.
    pub next_outgoing_id: u32,
    /// Transfers the sender may have under way.
    pub outgoing_window: u32,
    /// The link.
    pub handle: Option<u32>,
    /// Link endpoint's delivery-count.
    pub delivery_count: Option<u32>,
    /// Credit.
    pub link_credit: Option<u32>,
    /// Messages waiting at the sender.
    pub available: Option<u32>,
    /// Use up the credit.
    pub drain: bool,
    /// Answer with a flow.
    pub echo: bool,
}

/// transfer; the payload stands behind it in the frame
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Transfer {
    /// The link.
    pub handle: u32,
    /// Present on the first frame of a delivery.
    pub delivery_id: Option<u32>,
    /// Present on the first frame of a delivery; at most 32 bytes.
    pub delivery_tag: Option<Bytes>,
    /// Present on the first frame of a delivery.
    pub message_format: Option<u32>,
    /// Whether the sender forgets it.
    pub settled: Option<bool>,
    /// Whether further frames of this delivery follow.
    pub more: bool,
    /// Settlement mode asked for this delivery.
    pub rcv_settle_mode: Option<ReceiverSettleMode>,
    /// State at the sender (a transaction, for one).
    pub state: Option<DeliveryState>,
    /// Whether it resumes a delivery.
    pub resume: bool,
    /// Whether the whole delivery is dropped.
    pub aborted: bool,
    /// A hint that answers may wait.
    pub batchable: bool,
}

/// disposition
#[derive(Clone, PartialEq, Debug)]
pub struct Disposition {
    /// The sender's end of the links.
    pub role: Role,
    /// First delivery-id.
    pub first: u32,
    /// Last delivery-id; `None` is `first`.
    pub last: Option<u32>,
    /// Whether the sender forgets them.
    pub settled: bool,
    /// Their state.
    pub state: Option<DeliveryState>,
    /// A hint that answers may wait.
    pub batchable: bool,
}

/// detach
#[derive(Clone, PartialEq, Debug)]
pub struct Detach {
    /// The link.
    pub handle: u32,
    /// Whether it ends for good.
    pub closed: bool,
    /// Why.
    pub error: Option<Error>,
}

/// end
#[derive(Clone, PartialEq, Debug, Default)]
pub struct End {
    /// Why.
    pub error: Option<Error>,
}

/// close
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Close {
    /// Why.
    pub error: Option<Error>,
}

/// modified
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Modified {
    /// Count it as a failed delivery; `None` if absent.
    pub delivery_failed: Option<bool>,
    /// Do not send it here again; `None` if absent.
    pub undeliverable_here: Option<bool>,
    /// Annotations to merge; values with their types.
    pub message_annotations: Option<Fields>,
}

/// A terminal delivery state.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// 0x24
    Accepted,
    /// 0x25
    Rejected(Option<Error>),
    /// 0x26
    Released,
    /// 0x27
    Modified(Modified),
}

/// A delivery state.
#[derive(Clone, PartialEq, Debug)]
pub enum DeliveryState {
    /// 0x23
    Received {
        /// Section.
        section_number: u32,
        /// Offset in it.
        section_offset: u64,
    },
    /// A terminal state.
    Outcome(Outcome),
    /// 0x33
    Declared(Declared),
    /// 0x34
    Transactional(TransactionalState),
    /// Any other descriptor, as it came.
    Other(Value),
}

/// declared
#[derive(Clone, PartialEq, Debug)]
pub struct Declared {
    /// Names the transaction.
    pub txn_id: Bytes,
}

/// transactional-state
#[derive(Clone, PartialEq, Debug)]
pub struct TransactionalState {
    /// Names the transaction.
    pub txn_id: Bytes,
    /// Provisional outcome.
    pub outcome: Option<Outcome>,
}

/// declare (a message body to a coordinator)
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Declare {
    /// A global transaction.
    pub global_id: Option<Value>,
}

/// discharge (a message body to a coordinator)
#[derive(Clone, PartialEq, Debug)]
pub struct Discharge {
    /// Names the transaction.
    pub txn_id: Bytes,
    /// Whether to roll back.
    pub fail: bool,
}

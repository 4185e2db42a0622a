//! Open, begin, attach, detach, end, close and SASL, through the serde types of
//! fe2o3-amqp-types. Nothing else in the crate names that library or `serde_amqp`.
//!
//! The guard runs first, since the library recurses without a limit. What the library refuses
//! although the specification or a known client wants it, and what its types cannot hold exactly,
//! is decoded by hand instead (docs/decisions/0002-cold-frames.md lists the cases).

use bytes::Bytes;
use fe2o3_amqp_types::{definitions, messaging, performatives, sasl};
use serde_amqp::{descriptor::Descriptor, from_slice, primitives};

use super::{Cursor, composite, guard::check_value, hot::role, read_descriptor, value::decode_value_at};
use crate::{
    Violation,
    types::{
        Attach, Begin, Close, Described, Detach, End, Error, Fields, Modified, Open, Outcome, Performative,
        ReceiverSettleMode, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, SenderSettleMode, Source,
        Symbol, Target, TargetTerminus, TerminusDurability, TerminusExpiryPolicy, Value,
    },
};

/// The performative at `body`, and where it ends.
pub(super) fn decode_performative(
    frame: &Bytes,
    body: usize,
    code: u64,
) -> Result<(Performative, usize), Violation> {
    if !matches!(code, 0x10..=0x12 | 0x16..=0x18) {
        return Err(Violation::UnknownPerformative);
    }
    let end = check_value(frame, body)?;
    let encoded = frame.get(body..end).ok_or(Violation::Decode)?;
    if let Some(performative) = typed_performative(code, encoded) {
        return Ok((performative, end));
    }
    let (value, _) = decode_value_at(frame, body)?;
    Ok((composite::performative(code, value)?, end))
}

/// The SASL frame whose body starts at `body`.
pub(super) fn decode_sasl(frame: &Bytes, body: usize, code: u64) -> Result<SaslFrame, Violation> {
    let end = check_value(frame, body)?;
    // Nothing may follow the one value (5.3.1).
    if end != frame.len() {
        return Err(Violation::Decode);
    }
    let encoded = frame.get(body..end).ok_or(Violation::Decode)?;
    if let Some(sasl) = typed_sasl(code, encoded) {
        return Ok(sasl);
    }
    let (value, _) = decode_value_at(frame, body)?;
    composite::sasl(code, value)
}

/// Through the library; `None` where it refuses or cannot hold what is there.
pub(super) fn typed_performative(code: u64, encoded: &[u8]) -> Option<Performative> {
    Some(match code {
        0x10 => Performative::Open(Box::new(open(from_slice(encoded).ok()?)?)),
        0x11 => Performative::Begin(Box::new(begin(from_slice(encoded).ok()?)?)),
        0x12 => Performative::Attach(Box::new(attach(from_slice(encoded).ok()?, encoded)?)),
        0x16 => {
            let detach: performatives::Detach = from_slice(encoded).ok()?;
            Performative::Detach(Detach {
                handle: detach.handle.0,
                closed: detach.closed,
                error: optional(detach.error, error)?,
            })
        }
        0x17 => {
            let end: performatives::End = from_slice(encoded).ok()?;
            Performative::End(End { error: optional(end.error, error)? })
        }
        0x18 => {
            let close: performatives::Close = from_slice(encoded).ok()?;
            Performative::Close(Close { error: optional(close.error, error)? })
        }
        _ => return None,
    })
}

/// Through the library; `None` where it refuses or cannot hold what is there.
pub(super) fn typed_sasl(code: u64, encoded: &[u8]) -> Option<SaslFrame> {
    Some(match code {
        0x40 => {
            let mechanisms: sasl::SaslMechanisms = from_slice(encoded).ok()?;
            SaslFrame::Mechanisms(SaslMechanisms {
                sasl_server_mechanisms: symbols(Some(mechanisms.sasl_server_mechanisms)),
            })
        }
        0x41 => {
            let init: sasl::SaslInit = from_slice(encoded).ok()?;
            SaslFrame::Init(SaslInit {
                mechanism: symbol(&init.mechanism),
                initial_response: init.initial_response.map(|response| response.into_vec().into()),
                hostname: init.hostname.map(Into::into),
            })
        }
        0x42 => {
            let challenge: sasl::SaslChallenge = from_slice(encoded).ok()?;
            SaslFrame::Challenge(challenge.challenge.into_vec().into())
        }
        0x43 => {
            let response: sasl::SaslResponse = from_slice(encoded).ok()?;
            SaslFrame::Response(response.response.into_vec().into())
        }
        0x44 => {
            let outcome: sasl::SaslOutcome = from_slice(encoded).ok()?;
            SaslFrame::Outcome(SaslOutcome {
                code: outcome.code as u8,
                additional_data: outcome.additional_data.map(|data| data.into_vec().into()),
            })
        }
        _ => return None,
    })
}

fn open(open: performatives::Open) -> Option<Open> {
    Some(Open {
        container_id: open.container_id.into(),
        hostname: open.hostname.map(Into::into),
        max_frame_size: open.max_frame_size.0,
        channel_max: open.channel_max.0,
        idle_time_out: open.idle_time_out,
        outgoing_locales: symbols(open.outgoing_locales),
        incoming_locales: symbols(open.incoming_locales),
        offered_capabilities: symbols(open.offered_capabilities),
        desired_capabilities: symbols(open.desired_capabilities),
        properties: optional(open.properties, fields)?,
    })
}

fn begin(begin: performatives::Begin) -> Option<Begin> {
    Some(Begin {
        remote_channel: begin.remote_channel,
        next_outgoing_id: begin.next_outgoing_id,
        incoming_window: begin.incoming_window,
        outgoing_window: begin.outgoing_window,
        handle_max: begin.handle_max.0,
        offered_capabilities: symbols(begin.offered_capabilities),
        desired_capabilities: symbols(begin.desired_capabilities),
        properties: optional(begin.properties, fields)?,
    })
}

fn attach(attach: performatives::Attach, encoded: &[u8]) -> Option<Attach> {
    // The library reads the unsettled map into its own delivery states; as it came it is only
    // had by hand.
    if attach.unsettled.is_some() {
        return None;
    }
    let (snd_settle_mode_present, rcv_settle_mode_present) = settle_modes_present(encoded).ok()?;
    let target = |target: Box<messaging::TargetArchetype>| match *target {
        messaging::TargetArchetype::Target(plain) => target_terminus(plain),
    };
    Some(Attach {
        name: attach.name.into(),
        handle: attach.handle.0,
        role: role(attach.role == definitions::Role::Receiver),
        snd_settle_mode: snd_settle_mode_present.then(|| sender_settle_mode(&attach.snd_settle_mode)),
        rcv_settle_mode: rcv_settle_mode_present.then(|| receiver_settle_mode(&attach.rcv_settle_mode)),
        source: optional(attach.source, |terminus| source(*terminus))?,
        target: optional(attach.target, target)?,
        unsettled: None,
        incomplete_unsettled: attach.incomplete_unsettled,
        initial_delivery_count: attach.initial_delivery_count,
        max_message_size: attach.max_message_size,
        offered_capabilities: symbols(attach.offered_capabilities),
        desired_capabilities: symbols(attach.desired_capabilities),
        properties: optional(attach.properties, fields)?,
    })
}

/// The library turns absent settle modes into their defaults; whether they were there is looked
/// up in the fields 3 and 4.
fn settle_modes_present(encoded: &[u8]) -> Result<(bool, bool), Violation> {
    let mut cursor = Cursor::new(encoded, 0);
    read_descriptor(&mut cursor)?;
    let mut list = cursor.list()?;
    for _ in 0..3 {
        list.field(|cursor| cursor.skip())?;
    }
    Ok((list.raw()?.is_some(), list.raw()?.is_some()))
}

fn sender_settle_mode(mode: &definitions::SenderSettleMode) -> SenderSettleMode {
    match mode {
        definitions::SenderSettleMode::Unsettled => SenderSettleMode::Unsettled,
        definitions::SenderSettleMode::Settled => SenderSettleMode::Settled,
        definitions::SenderSettleMode::Mixed => SenderSettleMode::Mixed,
    }
}

fn receiver_settle_mode(mode: &definitions::ReceiverSettleMode) -> ReceiverSettleMode {
    match mode {
        definitions::ReceiverSettleMode::First => ReceiverSettleMode::First,
        definitions::ReceiverSettleMode::Second => ReceiverSettleMode::Second,
    }
}

fn source(source: messaging::Source) -> Option<Source> {
    Some(Source {
        address: source.address.map(|address| Value::String(address.into())),
        durable: durability(&source.durable),
        expiry_policy: expiry_policy(&source.expiry_policy),
        timeout: source.timeout,
        dynamic: source.dynamic,
        dynamic_node_properties: optional(source.dynamic_node_properties, fields)?,
        distribution_mode: source.distribution_mode.map(|mode| {
            Symbol::new(match mode {
                messaging::DistributionMode::Move => "move",
                messaging::DistributionMode::Copy => "copy",
            })
        }),
        filter: optional(source.filter, fields)?,
        default_outcome: optional(source.default_outcome, outcome)?,
        outcomes: symbols(source.outcomes),
        capabilities: symbols(source.capabilities),
    })
}

fn target_terminus(target: messaging::Target) -> Option<TargetTerminus> {
    Some(TargetTerminus::Target(Target {
        address: target.address.map(|address| Value::String(address.into())),
        durable: durability(&target.durable),
        expiry_policy: expiry_policy(&target.expiry_policy),
        timeout: target.timeout,
        dynamic: target.dynamic,
        dynamic_node_properties: optional(target.dynamic_node_properties, fields)?,
        capabilities: symbols(target.capabilities),
    }))
}

fn durability(durability: &messaging::TerminusDurability) -> TerminusDurability {
    match durability {
        messaging::TerminusDurability::None => TerminusDurability::None,
        messaging::TerminusDurability::Configuration => TerminusDurability::Configuration,
        messaging::TerminusDurability::UnsettledState => TerminusDurability::UnsettledState,
    }
}

fn expiry_policy(policy: &messaging::TerminusExpiryPolicy) -> TerminusExpiryPolicy {
    match policy {
        messaging::TerminusExpiryPolicy::LinkDetach => TerminusExpiryPolicy::LinkDetach,
        messaging::TerminusExpiryPolicy::SessionEnd => TerminusExpiryPolicy::SessionEnd,
        messaging::TerminusExpiryPolicy::ConnectionClose => TerminusExpiryPolicy::ConnectionClose,
        messaging::TerminusExpiryPolicy::Never => TerminusExpiryPolicy::Never,
    }
}

fn outcome(outcome: messaging::Outcome) -> Option<Outcome> {
    Some(match outcome {
        messaging::Outcome::Accepted(_) => Outcome::Accepted,
        messaging::Outcome::Rejected(rejected) => Outcome::Rejected(optional(rejected.error, error)?),
        messaging::Outcome::Released(_) => Outcome::Released,
        messaging::Outcome::Modified(modified) => Outcome::Modified(Modified {
            delivery_failed: modified.delivery_failed,
            undeliverable_here: modified.undeliverable_here,
            message_annotations: optional(modified.message_annotations, fields)?,
        }),
    })
}

fn error(error: definitions::Error) -> Option<Error> {
    let condition = match &error.condition {
        definitions::ErrorCondition::AmqpError(condition) => condition.into(),
        definitions::ErrorCondition::ConnectionError(condition) => condition.into(),
        definitions::ErrorCondition::SessionError(condition) => condition.into(),
        definitions::ErrorCondition::LinkError(condition) => condition.into(),
        definitions::ErrorCondition::Custom(condition) => condition.clone(),
    };
    Some(Error {
        condition: symbol(&condition),
        description: error.description.map(Into::into),
        info: optional(error.info, |info| fields(*info))?,
    })
}

/// Converts what is there; the outer `None` says that it cannot be converted.
fn optional<T, U>(value: Option<T>, convert: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    match value {
        None => Some(None),
        Some(value) => convert(value).map(Some),
    }
}

fn symbol(symbol: &primitives::Symbol) -> Symbol {
    Symbol::new(symbol.as_str())
}

fn symbols(symbols: Option<primitives::Array<primitives::Symbol>>) -> Vec<Symbol> {
    symbols.iter().flat_map(|symbols| symbols.0.iter()).map(symbol).collect()
}

fn fields(fields: definitions::Fields) -> Option<Fields> {
    let entries = fields.into_iter().map(|(key, entry)| Some((symbol(&key), value(entry)?)));
    entries.collect::<Option<_>>().map(Fields)
}

/// A value with its type; `None` for arrays, whose constructor the library does not keep. The
/// recursion is as deep as the guard allows.
fn value(value: serde_amqp::Value) -> Option<Value> {
    use serde_amqp::Value as Library;
    Some(match value {
        Library::Null => Value::Null,
        Library::Bool(flag) => Value::Bool(flag),
        Library::Ubyte(n) => Value::Ubyte(n),
        Library::Ushort(n) => Value::Ushort(n),
        Library::Uint(n) => Value::Uint(n),
        Library::Ulong(n) => Value::Ulong(n),
        Library::Byte(n) => Value::Byte(n),
        Library::Short(n) => Value::Short(n),
        Library::Int(n) => Value::Int(n),
        Library::Long(n) => Value::Long(n),
        Library::Float(n) => Value::Float(n.0.to_bits()),
        Library::Double(n) => Value::Double(n.0.to_bits()),
        Library::Decimal32(bits) => Value::Decimal32(bits.into_inner()),
        Library::Decimal64(bits) => Value::Decimal64(bits.into_inner()),
        Library::Decimal128(bits) => Value::Decimal128(bits.into_inner()),
        Library::Char(c) => Value::Char(c),
        Library::Timestamp(timestamp) => Value::Timestamp(timestamp.into_inner()),
        Library::Uuid(uuid) => Value::Uuid(uuid.into_inner()),
        Library::Binary(bytes) => Value::Binary(bytes.into_vec().into()),
        Library::String(text) => Value::String(text.into()),
        Library::Symbol(name) => Value::Symbol(symbol(&name)),
        Library::List(elements) => Value::List(elements.into_iter().map(self::value).collect::<Option<_>>()?),
        Library::Map(entries) => {
            let entries =
                entries.into_iter().map(|(key, entry)| Some((self::value(key)?, self::value(entry)?)));
            Value::Map(entries.collect::<Option<_>>()?)
        }
        Library::Array(_) => return None,
        Library::Described(described) => Value::Described(Box::new(Described {
            descriptor: match described.descriptor {
                Descriptor::Name(name) => Value::Symbol(symbol(&name)),
                Descriptor::Code(code) => Value::Ulong(code),
            },
            value: self::value(described.value)?,
        })),
    })
}

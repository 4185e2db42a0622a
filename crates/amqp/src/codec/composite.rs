//! Performatives, termini and delivery states out of values that were decoded by hand. More
//! lenient than a serde decoder: texts may be strings or symbols, lists may be shorter or padded,
//! descriptors may have any form.

use super::{
    descriptor::descriptor_code,
    hot::{receiver_settle_mode, role},
    value::each_key_once,
};
use crate::{
    Violation,
    types::{
        Attach, Begin, Close, Declared, DeliveryState, Described, Detach, End, Error, Fields, Modified, Open,
        Outcome, Performative, SaslFrame, SaslInit, SaslMechanisms, SaslOutcome, SenderSettleMode, Source,
        Symbol, Target, TargetTerminus, TerminusDurability, TerminusExpiryPolicy, TransactionalState, Value,
    },
};
use bytes::Bytes;

type Result<T> = std::result::Result<T, Violation>;

const INVALID: Violation = Violation::InvalidField;

/// A cold performative; `code` is its descriptor's.
pub(super) fn performative(code: u64, value: Value) -> Result<Performative> {
    let mut fields = List::behind_descriptor(value)?;
    let fields = &mut fields;
    Ok(match code {
        0x10 => Performative::Open(Box::new(open(fields)?)),
        0x11 => Performative::Begin(Box::new(begin(fields)?)),
        0x12 => Performative::Attach(Box::new(attach(fields)?)),
        0x16 => Performative::Detach(Detach {
            handle: fields.uint()?.ok_or(INVALID)?,
            closed: fields.boolean()?.unwrap_or(false),
            error: fields.error()?,
        }),
        0x17 => Performative::End(End { error: fields.error()? }),
        0x18 => Performative::Close(Close { error: fields.error()? }),
        _ => return Err(Violation::UnknownPerformative),
    })
}

/// A SASL frame's body; `code` is its descriptor's.
pub(super) fn sasl(code: u64, value: Value) -> Result<SaslFrame> {
    let mut fields = List::behind_descriptor(value)?;
    Ok(match code {
        0x40 => SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms: fields.symbols()? }),
        0x41 => SaslFrame::Init(SaslInit {
            mechanism: fields.symbol()?.ok_or(INVALID)?,
            initial_response: fields.binary()?,
            hostname: fields.text()?,
        }),
        0x42 => SaslFrame::Challenge(fields.binary()?.ok_or(INVALID)?),
        0x43 => SaslFrame::Response(fields.binary()?.ok_or(INVALID)?),
        0x44 => SaslFrame::Outcome(SaslOutcome {
            code: fields.ubyte()?.ok_or(INVALID)?,
            additional_data: fields.binary()?,
        }),
        _ => return Err(Violation::UnknownPerformative),
    })
}

fn open(fields: &mut List) -> Result<Open> {
    Ok(Open {
        container_id: fields.text()?.ok_or(INVALID)?,
        hostname: fields.text()?,
        max_frame_size: fields.uint()?.unwrap_or(u32::MAX),
        channel_max: fields.ushort()?.unwrap_or(u16::MAX),
        idle_time_out: fields.uint()?,
        outgoing_locales: fields.symbols()?,
        incoming_locales: fields.symbols()?,
        offered_capabilities: fields.symbols()?,
        desired_capabilities: fields.symbols()?,
        properties: fields.fields()?,
    })
}

fn begin(fields: &mut List) -> Result<Begin> {
    Ok(Begin {
        remote_channel: fields.ushort()?,
        next_outgoing_id: fields.uint()?.ok_or(INVALID)?,
        incoming_window: fields.uint()?.ok_or(INVALID)?,
        outgoing_window: fields.uint()?.ok_or(INVALID)?,
        handle_max: fields.uint()?.unwrap_or(u32::MAX),
        offered_capabilities: fields.symbols()?,
        desired_capabilities: fields.symbols()?,
        properties: fields.fields()?,
    })
}

fn attach(fields: &mut List) -> Result<Attach> {
    Ok(Attach {
        name: fields.text()?.ok_or(INVALID)?,
        handle: fields.uint()?.ok_or(INVALID)?,
        role: role(fields.boolean()?.ok_or(INVALID)?),
        snd_settle_mode: fields.ubyte()?.map(sender_settle_mode).transpose()?,
        rcv_settle_mode: fields.ubyte()?.map(receiver_settle_mode).transpose()?,
        source: fields.described()?.map(source).transpose()?,
        target: fields.described()?.map(target_terminus).transpose()?,
        unsettled: fields.optional(),
        incomplete_unsettled: fields.boolean()?.unwrap_or(false),
        initial_delivery_count: fields.uint()?,
        max_message_size: fields.ulong()?,
        offered_capabilities: fields.symbols()?,
        desired_capabilities: fields.symbols()?,
        properties: fields.fields()?,
    })
}

fn sender_settle_mode(mode: u8) -> Result<SenderSettleMode> {
    match mode {
        0 => Ok(SenderSettleMode::Unsettled),
        1 => Ok(SenderSettleMode::Settled),
        2 => Ok(SenderSettleMode::Mixed),
        _ => Err(INVALID),
    }
}

fn source(described: Described) -> Result<Source> {
    if descriptor_code(&described.descriptor) != Some(0x28) {
        return Err(INVALID);
    }
    let mut fields = List::of(described.value)?;
    Ok(Source {
        address: fields.optional(),
        durable: durability(fields.uint()?)?,
        expiry_policy: expiry_policy(fields.symbol()?.as_ref())?,
        timeout: fields.uint()?.unwrap_or(0),
        dynamic: fields.boolean()?.unwrap_or(false),
        dynamic_node_properties: fields.fields()?,
        distribution_mode: fields.symbol()?,
        filter: fields.fields()?,
        default_outcome: fields.optional().map(outcome).transpose()?,
        outcomes: fields.symbols()?,
        capabilities: fields.symbols()?,
    })
}

fn target_terminus(described: Described) -> Result<TargetTerminus> {
    let mut fields = List::of(described.value)?;
    Ok(match descriptor_code(&described.descriptor) {
        Some(0x29) => TargetTerminus::Target(Target {
            address: fields.optional(),
            durable: durability(fields.uint()?)?,
            expiry_policy: expiry_policy(fields.symbol()?.as_ref())?,
            timeout: fields.uint()?.unwrap_or(0),
            dynamic: fields.boolean()?.unwrap_or(false),
            dynamic_node_properties: fields.fields()?,
            capabilities: fields.symbols()?,
        }),
        Some(0x30) => TargetTerminus::Coordinator(fields.symbols()?),
        _ => return Err(INVALID),
    })
}

fn durability(code: Option<u32>) -> Result<TerminusDurability> {
    match code {
        None | Some(0) => Ok(TerminusDurability::None),
        Some(1) => Ok(TerminusDurability::Configuration),
        Some(2) => Ok(TerminusDurability::UnsettledState),
        Some(_) => Err(INVALID),
    }
}

fn expiry_policy(policy: Option<&Symbol>) -> Result<TerminusExpiryPolicy> {
    match policy.map(Symbol::as_str) {
        None | Some("session-end") => Ok(TerminusExpiryPolicy::SessionEnd),
        Some("link-detach") => Ok(TerminusExpiryPolicy::LinkDetach),
        Some("connection-close") => Ok(TerminusExpiryPolicy::ConnectionClose),
        Some("never") => Ok(TerminusExpiryPolicy::Never),
        Some(_) => Err(INVALID),
    }
}

/// A delivery state; an unknown descriptor makes it `Other`.
pub(super) fn delivery_state(value: Value) -> Result<DeliveryState> {
    let Value::Described(described) = &value else {
        return Err(INVALID);
    };
    match descriptor_code(&described.descriptor) {
        Some(0x23) => {
            let mut fields = List::behind_descriptor(value)?;
            Ok(DeliveryState::Received {
                section_number: fields.uint()?.ok_or(INVALID)?,
                section_offset: fields.ulong()?.ok_or(INVALID)?,
            })
        }
        Some(0x24..=0x27) => outcome(value).map(DeliveryState::Outcome),
        Some(0x33) => {
            let txn_id = List::behind_descriptor(value)?.binary()?.ok_or(INVALID)?;
            Ok(DeliveryState::Declared(Declared { txn_id }))
        }
        Some(0x34) => {
            let mut fields = List::behind_descriptor(value)?;
            Ok(DeliveryState::Transactional(TransactionalState {
                txn_id: fields.binary()?.ok_or(INVALID)?,
                outcome: fields.optional().map(outcome).transpose()?,
            }))
        }
        _ => Ok(DeliveryState::Other(value)),
    }
}

fn outcome(value: Value) -> Result<Outcome> {
    let Value::Described(described) = value else {
        return Err(INVALID);
    };
    let mut fields = List::of(described.value)?;
    Ok(match descriptor_code(&described.descriptor) {
        Some(0x24) => Outcome::Accepted,
        Some(0x25) => Outcome::Rejected(fields.error()?),
        Some(0x26) => Outcome::Released,
        Some(0x27) => Outcome::Modified(Modified {
            delivery_failed: fields.boolean()?,
            undeliverable_here: fields.boolean()?,
            message_annotations: fields.fields()?,
        }),
        _ => return Err(INVALID),
    })
}

fn error(described: Described) -> Result<Error> {
    if descriptor_code(&described.descriptor) != Some(0x1d) {
        return Err(INVALID);
    }
    let mut fields = List::of(described.value)?;
    Ok(Error {
        condition: fields.symbol()?.ok_or(INVALID)?,
        description: fields.text()?,
        info: fields.fields()?,
    })
}

/// A symbol, or a string that stands in for one.
fn to_symbol(value: Value) -> Result<Symbol> {
    match value {
        Value::Symbol(symbol) => Ok(symbol),
        Value::String(text) => Ok(Symbol::new(&text)),
        _ => Err(INVALID),
    }
}

/// A list's fields in order; behind the last one there are only nulls.
struct List(std::vec::IntoIter<Value>);

impl List {
    fn of(value: Value) -> Result<Self> {
        match value {
            Value::List(fields) => Ok(Self(fields.into_iter())),
            _ => Err(INVALID),
        }
    }

    /// The list behind a descriptor that was looked at already.
    fn behind_descriptor(value: Value) -> Result<Self> {
        match value {
            Value::Described(described) => Self::of(described.value),
            _ => Err(INVALID),
        }
    }

    /// The next field; `None` for null.
    fn optional(&mut self) -> Option<Value> {
        self.0.next().filter(|value| *value != Value::Null)
    }

    fn uint(&mut self) -> Result<Option<u32>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Uint(n)) => Ok(Some(n)),
            Some(_) => Err(INVALID),
        }
    }

    fn ulong(&mut self) -> Result<Option<u64>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Ulong(n)) => Ok(Some(n)),
            Some(_) => Err(INVALID),
        }
    }

    fn ushort(&mut self) -> Result<Option<u16>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Ushort(n)) => Ok(Some(n)),
            Some(_) => Err(INVALID),
        }
    }

    fn ubyte(&mut self) -> Result<Option<u8>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Ubyte(n)) => Ok(Some(n)),
            Some(_) => Err(INVALID),
        }
    }

    fn boolean(&mut self) -> Result<Option<bool>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(INVALID),
        }
    }

    fn binary(&mut self) -> Result<Option<Bytes>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Binary(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(INVALID),
        }
    }

    fn symbol(&mut self) -> Result<Option<Symbol>> {
        self.optional().map(to_symbol).transpose()
    }

    fn text(&mut self) -> Result<Option<Box<str>>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Symbol(symbol)) => Ok(Some(symbol.as_str().into())),
            Some(_) => Err(INVALID),
        }
    }

    /// A `multiple` field: one symbol, an array or null; a list is taken too.
    fn symbols(&mut self) -> Result<Vec<Symbol>> {
        match self.optional() {
            None => Ok(Vec::new()),
            Some(Value::Array(array)) => array.elements.into_iter().map(to_symbol).collect(),
            Some(Value::List(elements)) => elements.into_iter().map(to_symbol).collect(),
            Some(value) => to_symbol(value).map(|symbol| vec![symbol]),
        }
    }

    fn fields(&mut self) -> Result<Option<Fields>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Map(entries)) => entries
                .into_iter()
                .map(|(key, value)| Ok((to_symbol(key)?, value)))
                .collect::<Result<_>>()
                .map(|entries| Some(Fields(each_key_once(entries)))),
            Some(_) => Err(INVALID),
        }
    }

    fn described(&mut self) -> Result<Option<Described>> {
        match self.optional() {
            None => Ok(None),
            Some(Value::Described(described)) => Ok(Some(*described)),
            Some(_) => Err(INVALID),
        }
    }

    fn error(&mut self) -> Result<Option<Error>> {
        self.described()?.map(error).transpose()
    }
}

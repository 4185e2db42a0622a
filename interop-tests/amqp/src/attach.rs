//! Attaches as clients send them. Fields that a scenario is about are changed by it.

use lockstep_amqp::types::{
    Attach, Described, Fields, ReceiverSettleMode, Role, SenderSettleMode, Source, Target, TargetTerminus,
    Value,
};

/// Key of the filter that accepts a message session.
pub const MESSAGE_SESSION_FILTER: &str = "com.microsoft:session-filter";
/// Descriptor of a described filter.
const FILTER_DESCRIPTOR: u64 = 0x13_7000_000c;

fn attach(name: &str, role: Role) -> Attach {
    Attach {
        name: name.into(),
        handle: 0,
        role,
        snd_settle_mode: None,
        rcv_settle_mode: None,
        source: Some(Source::default()),
        target: Some(TargetTerminus::Target(Target::default())),
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: None,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

/// A sender of unsettled messages.
#[must_use]
pub fn sender(name: &str, address: &str) -> Attach {
    let target = Target { address: Some(Value::string(address)), ..Target::default() };
    Attach { target: Some(TargetTerminus::Target(target)), ..attach(name, Role::Sender) }
}

/// A receiver in peek-lock mode that waits for the confirmation of its settlements.
#[must_use]
pub fn receiver(name: &str, address: &str) -> Attach {
    Attach {
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        source: Some(Source { address: Some(Value::string(address)), ..Source::default() }),
        ..attach(name, Role::Receiver)
    }
}

/// A receiver whose messages are gone when sent.
#[must_use]
pub fn receive_and_delete(name: &str, address: &str) -> Attach {
    Attach {
        snd_settle_mode: Some(SenderSettleMode::Settled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        ..receiver(name, address)
    }
}

/// With a filter at the source.
#[must_use]
pub fn with_filter(mut attach: Attach, key: &str, value: Value) -> Attach {
    let source = attach.source.get_or_insert_default();
    source.filter.get_or_insert_default().insert(key, value);
    attach
}

/// Accepts one message session.
#[must_use]
pub fn with_message_session(attach: Attach, id: &str) -> Attach {
    with_filter(attach, MESSAGE_SESSION_FILTER, Value::string(id))
}

/// Accepts the next message session, and waits for it.
#[must_use]
pub fn with_next_message_session(attach: Attach, wait_millis: u32) -> Attach {
    let attach = with_filter(attach, MESSAGE_SESSION_FILTER, Value::Null);
    with_property(attach, "com.microsoft:timeout", Value::Uint(wait_millis))
}

/// A filter's value as Go sends it.
#[must_use]
pub fn described_filter(value: Value) -> Value {
    Value::Described(Box::new(Described { descriptor: Value::Ulong(FILTER_DESCRIPTOR), value }))
}

/// With a link property.
#[must_use]
pub fn with_property(mut attach: Attach, key: &str, value: Value) -> Attach {
    attach.properties.get_or_insert_with(Fields::default).insert(key, value);
    attach
}

/// The option of a `$management` request that names the link it is about.
#[must_use]
pub fn associated_link(name: &str) -> (Box<str>, Value) {
    ("associated-link-name".into(), Value::string(name))
}

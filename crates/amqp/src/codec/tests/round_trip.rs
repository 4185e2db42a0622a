//! Whatever is encoded decodes to the same.

use super::*;
use crate::{
    codec::encode_sasl,
    types::{
        Array, Attach, Begin, Close, Declared, DeliveryState, Described, Detach, Disposition, End, Error,
        Fields, Flow, Modified, Open, Outcome, ReceiverSettleMode, Role, SaslFrame, SaslInit, SaslMechanisms,
        SaslOutcome, SenderSettleMode, Source, Symbol, Target, TargetTerminus, TerminusDurability,
        TerminusExpiryPolicy, TransactionalState, Transfer, Value,
    },
};

fn symbols(names: &[&str]) -> Vec<Symbol> {
    names.iter().map(|name| Symbol::new(name)).collect()
}

fn fields() -> Fields {
    let described = Described { descriptor: Value::symbol("x:y"), value: Value::Long(-1) };
    Fields(vec![
        (Symbol::new("a"), Value::string("text")),
        (Symbol::new("null"), Value::Null),
        (Symbol::new("list"), Value::List(vec![Value::Uint(1), Value::Timestamp(5)])),
        (Symbol::new("map"), Value::Map(vec![(Value::Uint(1), Value::Bool(true))])),
        (Symbol::new("described"), Value::Described(Box::new(described))),
    ])
}

fn error() -> Error {
    Error {
        condition: Symbol::new("amqp:not-found"),
        description: Some("no such node".into()),
        info: Some(fields()),
    }
}

fn outcomes() -> Vec<Outcome> {
    let annotations = Some(fields());
    vec![
        Outcome::Accepted,
        Outcome::Released,
        Outcome::Rejected(None),
        Outcome::Rejected(Some(error())),
        Outcome::Rejected(Some(Error { condition: Symbol::new("own:thing"), description: None, info: None })),
        Outcome::Modified(Modified::default()),
        Outcome::Modified(Modified {
            delivery_failed: Some(true),
            undeliverable_here: Some(false),
            message_annotations: annotations,
        }),
    ]
}

fn states() -> Vec<DeliveryState> {
    let txn_id = Bytes::from_static(b"txn");
    let other = Described { descriptor: Value::Ulong(0x99), value: Value::List(vec![Value::Null]) };
    let mut states = vec![
        DeliveryState::Received { section_number: 3, section_offset: u64::MAX },
        DeliveryState::Declared(Declared { txn_id: txn_id.clone() }),
        DeliveryState::Transactional(TransactionalState { txn_id: txn_id.clone(), outcome: None }),
        DeliveryState::Other(Value::Described(Box::new(other))),
    ];
    for outcome in outcomes() {
        states.push(DeliveryState::Outcome(outcome.clone()));
        states.push(DeliveryState::Transactional(TransactionalState {
            txn_id: txn_id.clone(),
            outcome: Some(outcome),
        }));
    }
    states
}

fn attaches() -> Vec<Attach> {
    let source = Source {
        address: Some(Value::string("queue")),
        durable: TerminusDurability::UnsettledState,
        expiry_policy: TerminusExpiryPolicy::Never,
        timeout: 70_000,
        dynamic: true,
        dynamic_node_properties: Some(fields()),
        distribution_mode: Some(Symbol::new("copy")),
        filter: Some(fields()),
        default_outcome: Some(Outcome::Modified(Modified::default())),
        outcomes: symbols(&["amqp:accepted:list", "amqp:released:list"]),
        capabilities: symbols(&["queue"]),
    };
    let target = Target {
        address: Some(Value::string("target")),
        durable: TerminusDurability::Configuration,
        expiry_policy: TerminusExpiryPolicy::ConnectionClose,
        timeout: 1,
        dynamic: false,
        dynamic_node_properties: None,
        capabilities: symbols(&["topic"]),
    };
    let full = Attach {
        name: "link".into(),
        handle: 300,
        role: Role::Receiver,
        snd_settle_mode: Some(SenderSettleMode::Mixed),
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        source: Some(source),
        target: Some(TargetTerminus::Target(target)),
        unsettled: None,
        incomplete_unsettled: true,
        initial_delivery_count: Some(u32::MAX),
        max_message_size: Some(262_144),
        offered_capabilities: symbols(&["SHARED-SUBS", "other"]),
        desired_capabilities: symbols(&["x"]),
        properties: Some(fields()),
    };
    let refused = Attach { source: None, target: None, properties: None, ..full.clone() };
    let array = Array { constructor: 0x98, elements: vec![Value::Uuid([7; 16])] };
    let odd_source = Source {
        address: Some(Value::Binary(Bytes::from_static(b"no string"))),
        distribution_mode: Some(Symbol::new("own")),
        filter: Some(Fields(vec![(Symbol::new("array"), Value::Array(Box::new(array)))])),
        default_outcome: Some(Outcome::Accepted),
        ..Source::default()
    };
    let odd = Attach {
        snd_settle_mode: None,
        rcv_settle_mode: None,
        source: Some(odd_source),
        target: Some(TargetTerminus::Coordinator(symbols(&["amqp:local-transactions", "own"]))),
        ..full.clone()
    };
    let empty_filter = Source { filter: Some(Fields::default()), ..Source::default() };
    let plain = Attach {
        source: Some(empty_filter),
        target: Some(TargetTerminus::Target(Target::default())),
        ..refused.clone()
    };
    vec![full, refused, odd, plain]
}

/// At least one performative of each kind with every field set, and one with few.
pub(super) fn performatives() -> Vec<Performative> {
    let open = Open {
        container_id: "me".into(),
        hostname: Some("host".into()),
        max_frame_size: 65_536,
        channel_max: 255,
        idle_time_out: Some(60_000),
        outgoing_locales: symbols(&["en-US"]),
        incoming_locales: symbols(&["en-US", "de"]),
        offered_capabilities: symbols(&["a"]),
        desired_capabilities: symbols(&["b"]),
        properties: Some(fields()),
    };
    let begin = Begin {
        remote_channel: Some(7),
        next_outgoing_id: u32::MAX,
        incoming_window: 5_000,
        outgoing_window: 0,
        handle_max: 262_143,
        offered_capabilities: symbols(&["a"]),
        desired_capabilities: vec![],
        properties: Some(fields()),
    };
    let flow = Flow {
        next_incoming_id: Some(1),
        incoming_window: 2,
        next_outgoing_id: 3,
        outgoing_window: 4,
        handle: Some(0),
        delivery_count: Some(u32::MAX),
        link_credit: Some(1_000),
        available: Some(0),
        drain: true,
        echo: true,
    };
    let mut all = vec![
        Performative::Open(Box::new(open.clone())),
        Performative::Open(Box::new(Open { properties: None, hostname: None, idle_time_out: None, ..open })),
        Performative::Begin(Box::new(begin.clone())),
        Performative::Begin(Box::new(Begin { remote_channel: None, properties: None, ..begin })),
        Performative::Flow(flow),
        Performative::Flow(Flow::default()),
        Performative::Transfer(Transfer::default()),
        Performative::Detach(Detach { handle: 1, closed: true, error: Some(error()) }),
        Performative::Detach(Detach { handle: 256, closed: false, error: None }),
        Performative::End(End { error: Some(error()) }),
        Performative::End(End::default()),
        Performative::Close(Close { error: Some(error()) }),
        Performative::Close(Close::default()),
    ];
    all.extend(attaches().into_iter().map(|attach| Performative::Attach(Box::new(attach))));
    for state in states() {
        all.push(Performative::Disposition(Disposition {
            role: Role::Receiver,
            first: 5,
            last: Some(u32::MAX),
            settled: true,
            state: Some(state.clone()),
            batchable: true,
        }));
        all.push(Performative::Transfer(Transfer {
            handle: 70_000,
            delivery_id: Some(u32::MAX),
            delivery_tag: Some(Bytes::from_static(&[9; 32])),
            message_format: Some(0x8001_3700),
            settled: Some(true),
            more: true,
            rcv_settle_mode: Some(ReceiverSettleMode::First),
            state: Some(state),
            resume: true,
            aborted: true,
            batchable: true,
        }));
    }
    all
}

#[test]
fn every_performative_decodes_to_what_was_encoded() {
    for (channel, performative) in (0..).zip(performatives()) {
        let mut out = BytesMut::new();
        encode_frame(&mut out, channel, &performative);
        let decoded = decode_frame(out.freeze(), FrameKind::Amqp);
        assert_eq!(decoded, Ok(Frame::Amqp { channel, performative, payload: Bytes::new() }));
    }
}

#[test]
fn every_sasl_frame_decodes_to_what_was_encoded() {
    let data = Bytes::from_static(b"\0user\0key");
    let frames = [
        SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms: symbols(&["MSSBCBS", "PLAIN"]) }),
        SaslFrame::Mechanisms(SaslMechanisms { sasl_server_mechanisms: symbols(&["PLAIN"]) }),
        SaslFrame::Init(SaslInit {
            mechanism: Symbol::new("PLAIN"),
            initial_response: Some(data.clone()),
            hostname: Some("host".into()),
        }),
        SaslFrame::Init(SaslInit { mechanism: Symbol::new("X"), initial_response: None, hostname: None }),
        SaslFrame::Challenge(data.clone()),
        SaslFrame::Response(Bytes::new()),
        SaslFrame::Outcome(SaslOutcome { code: 1, additional_data: Some(data) }),
        SaslFrame::Outcome(SaslOutcome { code: 9, additional_data: None }),
    ];
    for frame in frames {
        let mut out = BytesMut::new();
        encode_sasl(&mut out, &frame);
        assert_eq!(decode_frame(out.freeze(), FrameKind::Sasl), Ok(Frame::Sasl(frame)));
    }
}

#[test]
fn transfer_without_state_stays_within_its_stated_overhead() {
    let largest = Transfer {
        handle: u32::MAX,
        delivery_id: Some(u32::MAX),
        delivery_tag: Some(Bytes::from_static(&[9; 32])),
        message_format: Some(u32::MAX),
        settled: Some(true),
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        ..Transfer::default()
    };
    let mut out = BytesMut::new();
    encode_frame(&mut out, u16::MAX, &Performative::Transfer(largest));
    assert!(out.len() <= crate::codec::TRANSFER_OVERHEAD_BYTES, "{}", out.len());
}

/// 1.6.23, by either decoder: a name that the typed one refuses (a symbol as the hostname) leaves
/// the frame to the one by hand.
#[test]
fn of_a_key_that_stands_twice_in_a_map_the_last_value_counts() {
    let fields = |names: &[(&str, u32)]| {
        let entries = names.iter().map(|(name, value)| (Symbol::new(name), Value::Uint(*value)));
        Fields(entries.collect())
    };
    let Some(Performative::Open(mut open)) = performatives().into_iter().next() else { panic!("an open") };
    open.properties = Some(fields(&[("a", 1), ("b", 2), ("a", 3)]));
    let mut encoded = BytesMut::new();
    encode_frame(&mut encoded, 0, &Performative::Open(open));
    let end = encoded.len();
    let body = encoded.freeze();
    let expected = fields(&[("a", 3), ("b", 2)]);
    let properties = |decoded| match decoded {
        Ok(Frame::Amqp { performative: Performative::Open(open), .. }) => open.properties.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(properties(decode_frame(body.clone(), FrameKind::Amqp)), Some(expected.clone()));
    let (value, _) = super::super::value::decode_value_at(&body.slice(..end), 8).expect("a value");
    let Ok(Performative::Open(open)) = super::super::composite::performative(0x10, value) else {
        panic!("decodes")
    };
    assert_eq!(open.properties, Some(expected));
}

use lockstep_model::EntityName;

use super::*;

fn attach(role: Role) -> Attach {
    Attach {
        name: "link".into(),
        handle: 0,
        role,
        snd_settle_mode: None,
        rcv_settle_mode: None,
        source: None,
        target: None,
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: None,
        max_message_size: None,
        offered_capabilities: vec![],
        desired_capabilities: vec![],
        properties: None,
    }
}

fn sender(address: Value) -> Attach {
    let target = Target { address: Some(address), ..Target::default() };
    Attach { target: Some(TargetTerminus::Target(target)), ..attach(Role::Sender) }
}

fn receiver(address: &str, filters: &[(&str, Value)]) -> Attach {
    let filter = Some(Fields(filters.iter().map(|(key, value)| (Symbol::new(key), value.clone())).collect()));
    let source = Source { address: Some(Value::string(address)), filter, ..Source::default() };
    Attach { source: Some(source), ..attach(Role::Receiver) }
}

fn with_property(attach: Attach, key: &str, value: Value) -> Attach {
    let mut properties = attach.properties.clone().unwrap_or_default();
    properties.insert(key, value);
    Attach { properties: Some(properties), ..attach }
}

fn described(descriptor: Value, value: Value) -> Value {
    Value::Described(Box::new(Described { descriptor, value }))
}

fn queue(name: &str) -> EntityAddress {
    EntityAddress {
        entity: EntityName::new(name).expect("a name"),
        sub_queue: SubQueue::Main,
        node: NodeKind::Messages,
    }
}

fn kind(attach: &Attach) -> Result<ReceiveKind, Refusal> {
    attach_intent(attach).map(|intent| match intent {
        AttachIntent::Receive { kind, .. } => kind,
        other => panic!("a receiver, not {other:?}"),
    })
}

fn id(text: &str) -> MessageSessionId {
    MessageSessionId::new(text).expect("short")
}

const FILTER: &str = "com.microsoft:session-filter";

#[test]
fn every_client_spelling_of_a_senders_address_is_a_send() {
    for spelled in ["q", "/q", "amqps://ns/q", "sb://ns:5671/q/"] {
        assert_eq!(
            attach_intent(&sender(Value::string(spelled))),
            Ok(AttachIntent::Send { address: queue("q") }),
            "{spelled}"
        );
    }
}

#[test]
fn token_and_management_nodes_are_told_apart_by_address_and_role() {
    let management = EntityAddress { node: NodeKind::Management, ..queue("q") };
    assert_eq!(attach_intent(&sender(Value::string("$cbs"))), Ok(AttachIntent::CbsRequests));
    assert_eq!(attach_intent(&sender(Value::string("amqps://ns/$cbs"))), Ok(AttachIntent::CbsRequests));
    assert_eq!(
        attach_intent(&sender(Value::string("q/$management"))),
        Ok(AttachIntent::ManagementRequests { address: management.clone() })
    );
    let mut responses = receiver("q/$management", &[]);
    responses.target =
        Some(TargetTerminus::Target(Target { address: Some(Value::string("reply")), ..Target::default() }));
    assert_eq!(
        attach_intent(&responses),
        Ok(AttachIntent::ManagementResponses { address: management, reply_to: Some("reply".into()) })
    );
}

#[test]
fn a_response_link_without_target_address_has_no_reply_to() {
    let absent = receiver("$cbs", &[]);
    let empty = Attach { target: Some(TargetTerminus::Target(Target::default())), ..absent.clone() };
    for attach in [absent, empty] {
        assert_eq!(attach_intent(&attach), Ok(AttachIntent::CbsResponses { reply_to: None }));
    }
}

#[test]
fn a_plain_receiver_has_no_message_session_filter() {
    let attach = Attach {
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        ..receiver("q/$deadletterqueue", &[("no-local", Value::List(vec![]))])
    };
    assert_eq!(
        attach_intent(&attach),
        Ok(AttachIntent::Receive {
            address: EntityAddress { sub_queue: SubQueue::DeadLetter, ..queue("q") },
            mode: ReceiveMode::PeekLock,
            kind: ReceiveKind::Plain,
            filter_echo: None,
        })
    );
}

#[test]
fn sender_settle_mode_settled_means_receive_and_delete() {
    for (mode, expected) in [
        (None, ReceiveMode::PeekLock),
        (Some(SenderSettleMode::Mixed), ReceiveMode::PeekLock),
        (Some(SenderSettleMode::Settled), ReceiveMode::ReceiveAndDelete),
    ] {
        let attach = Attach { snd_settle_mode: mode, ..receiver("q", &[]) };
        let Ok(AttachIntent::Receive { mode, .. }) = attach_intent(&attach) else { panic!("a receiver") };
        assert_eq!(mode, expected);
    }
}

#[test]
fn every_form_of_the_filter_names_a_message_session() {
    for (key, value) in [
        (FILTER, Value::string("a")),
        (FILTER, Value::symbol("a")),
        (FILTER, described(Value::Ulong(0x13_7000_000C), Value::string("a"))),
        (FILTER, described(Value::symbol(FILTER), Value::string("a"))),
        ("my-name", described(Value::symbol(FILTER), Value::string("a"))),
        ("my-name", described(Value::Ulong(0x13_7000_000C), Value::symbol("a"))),
    ] {
        let attach = receiver("q", &[(key, value.clone())]);
        assert_eq!(kind(&attach), Ok(ReceiveKind::MessageSession(id("a"))), "{value:?}");
    }
}

#[test]
fn the_empty_string_names_a_message_session() {
    let attach = receiver("q", &[(FILTER, Value::string(""))]);
    assert_eq!(kind(&attach), Ok(ReceiveKind::MessageSession(id(""))));
}

#[test]
fn a_null_in_the_filter_asks_for_the_next_message_session_with_the_clients_wait() {
    for value in [Value::Null, described(Value::Ulong(0x13_7000_000C), Value::Null)] {
        let attach = receiver("q", &[(FILTER, value)]);
        assert_eq!(kind(&attach), Ok(ReceiveKind::NextMessageSession { wait: None }));
        for (millis, seconds) in [(70_000, 70), (4_294_967_295_u32, 600)] {
            let attach = with_property(attach.clone(), "com.microsoft:timeout", Value::Uint(millis));
            let wait = Some(Duration::from_secs(seconds));
            assert_eq!(kind(&attach), Ok(ReceiveKind::NextMessageSession { wait }));
        }
    }
}

#[test]
fn the_session_filter_is_echoed_in_the_form_it_came_in() {
    let descriptor = Value::Ulong(0x13_7000_000C);
    for (sent, answered) in [
        (Value::Null, Value::string("s")),
        (Value::string("s"), Value::string("s")),
        (described(descriptor.clone(), Value::Null), described(descriptor.clone(), Value::string("s"))),
        (described(descriptor.clone(), Value::string("s")), described(descriptor, Value::string("s"))),
    ] {
        let Ok(AttachIntent::Receive { filter_echo: Some(echo), .. }) =
            attach_intent(&receiver("q", &[(FILTER, sent.clone())]))
        else {
            panic!("a filter");
        };
        assert_eq!(echo.granted(&id("s")), (Symbol::new(FILTER), answered), "{sent:?}");
    }
}

#[test]
fn a_browse_link_names_its_message_session() {
    let browsing = |filters: &[(&str, Value)]| {
        kind(&with_property(receiver("q", filters), "com.microsoft:peek-mode", Value::Bool(true)))
    };
    assert_eq!(browsing(&[(FILTER, Value::string("s"))]), Ok(ReceiveKind::Browse(id("s"))));
    assert!(matches!(browsing(&[(FILTER, Value::Null)]), Err(Refusal::InvalidArgument(_))));
    assert!(matches!(browsing(&[]), Err(Refusal::InvalidArgument(_))));
    let attach = receiver("q", &[(FILTER, Value::string("s"))]);
    assert_eq!(
        kind(&with_property(attach, "com.microsoft:peek-mode", Value::Bool(false))),
        Ok(ReceiveKind::MessageSession(id("s")))
    );
}

#[test]
fn message_session_ids_of_other_types_or_too_long_are_refused() {
    let filtered = |value| kind(&receiver("q", &[(FILTER, value)]));
    for value in [Value::Int(1), Value::Binary(b"s".as_slice().into()), Value::List(vec![])] {
        assert!(matches!(filtered(value), Err(Refusal::InvalidArgument(_))));
    }
    assert_eq!(
        filtered(Value::string(&"ü".repeat(129))),
        Err(Refusal::IdTooLong { field: "SessionId", chars: 129 })
    );
    assert!(filtered(Value::string(&"ü".repeat(128))).is_ok());
}

#[test]
fn filters_that_would_change_what_is_received_are_refused_by_name() {
    let refusal = |key: &str, value| kind(&receiver("q", &[(key, value)])).expect_err("refused");
    let selectors = Refusal::NotSupported(Feature::Selectors);
    assert_eq!(refusal("jms-selector", Value::string("a = 1")), selectors);
    assert_eq!(refusal("x", described(Value::Ulong(77_567_109_365_764), Value::string("a = 1"))), selectors);
    assert_eq!(
        refusal("x", described(Value::symbol("apache.org:selector-filter:string"), Value::string("a"))),
        selectors
    );
    assert_eq!(refusal("com.microsoft:sql-filter:list", Value::string("a = 1")), selectors);
    let list = Value::List(vec![Value::string("s"), Value::Uuid([0; 16])]);
    let non_exclusive = Refusal::NotSupported(Feature::NonExclusiveMessageSessions);
    assert_eq!(refusal("com.microsoft:non-exclusive-session-filter:list", list.clone()), non_exclusive);
    assert_eq!(refusal("x", described(Value::Ulong(83_483_426_830), list)), non_exclusive);
}

const SELECTOR_CODE: Value = Value::Ulong(0x0000_468c_0000_0004);

#[test]
fn selectors_by_group_id_accept_message_sessions_under_every_key_and_descriptor() {
    let symbol = Value::symbol("apache.org:selector-filter:string");
    for (text, expected) in [
        ("JMSXGroupID = 'it''s'", ReceiveKind::MessageSession(id("it's"))),
        ("JMSXGroupID is not null", ReceiveKind::NextMessageSession { wait: None }),
    ] {
        let text = Value::string(text);
        for (key, value) in [
            ("jms-selector", described(SELECTOR_CODE, text.clone())),
            ("jms-selector", text.clone()),
            ("apache.org:selector-filter:string", described(symbol.clone(), text.clone())),
            ("apache.org:selector-filter:string", text.clone()),
            ("x", described(SELECTOR_CODE, text.clone())),
            ("x", described(symbol.clone(), text.clone())),
        ] {
            assert_eq!(
                kind(&receiver("q", &[(key, value.clone())])),
                Ok(expected.clone()),
                "{key} {value:?}"
            );
        }
    }
}

#[test]
fn a_selector_is_echoed_as_it_came_and_for_the_next_one_with_the_id_granted() {
    for (sent, granted_id, answered) in [
        ("JMSXGroupID='a'", "a", "JMSXGroupID='a'"),
        ("JMSXGroupID IS NOT NULL", "it's", "JMSXGroupID = 'it''s'"),
    ] {
        let sent = described(SELECTOR_CODE, Value::string(sent));
        let Ok(AttachIntent::Receive { filter_echo: Some(echo), .. }) =
            attach_intent(&receiver("q", &[("jms-selector", sent)]))
        else {
            panic!("a filter");
        };
        assert!(echo.is_selector());
        let answered = described(SELECTOR_CODE, Value::string(answered));
        assert_eq!(echo.granted(&id(granted_id)), (Symbol::new("jms-selector"), answered));
    }
}

#[test]
fn two_filters_that_mean_a_message_session_are_one_too_many() {
    let selector = ("jms-selector", Value::string("JMSXGroupID = 'a'"));
    let other = ("apache.org:selector-filter:string", Value::string("JMSXGroupID IS NOT NULL"));
    for filters in [
        [(FILTER, Value::string("a")), selector.clone()],
        [selector.clone(), (FILTER, Value::Null)],
        [selector, other],
    ] {
        assert!(matches!(kind(&receiver("q", &filters)), Err(Refusal::InvalidField(_))), "{filters:?}");
    }
}

#[test]
fn a_selector_is_a_string_that_names_an_id_of_allowed_length() {
    let selected = |value| kind(&receiver("q", &[("jms-selector", value)]));
    assert!(matches!(selected(Value::Int(1)), Err(Refusal::InvalidArgument(_))));
    let long = Value::string(&format!("JMSXGroupID = '{}'", "a".repeat(129)));
    assert_eq!(selected(long), Err(Refusal::IdTooLong { field: "SessionId", chars: 129 }));
    assert_eq!(selected(Value::string("")), Err(Refusal::NotSupported(Feature::Selectors)));
}

#[test]
fn other_filters_have_no_effect() {
    let attach = receiver(
        "q",
        &[("apache.org:legacy-amqp-topic-binding:string", Value::string("x")), ("jms-selector", Value::Null)],
    );
    assert_eq!(kind(&attach), Ok(ReceiveKind::Plain));
}

#[test]
fn what_a_later_version_brings_is_refused_by_name() {
    let coordinator = Attach { target: Some(TargetTerminus::Coordinator(vec![])), ..attach(Role::Sender) };
    assert_eq!(attach_intent(&coordinator), Err(Refusal::NotSupported(Feature::Transactions)));
    let dynamic = Target { dynamic: true, ..Target::default() };
    let dynamic = Attach { target: Some(TargetTerminus::Target(dynamic)), ..attach(Role::Sender) };
    assert_eq!(attach_intent(&dynamic), Err(Refusal::NotSupported(Feature::DynamicNodes)));
    let dynamic =
        Attach { source: Some(Source { dynamic: true, ..Source::default() }), ..attach(Role::Receiver) };
    assert_eq!(attach_intent(&dynamic), Err(Refusal::NotSupported(Feature::DynamicNodes)));
    let via = with_property(
        sender(Value::string("q")),
        "com.microsoft:transfer-destination-address",
        Value::string("other"),
    );
    assert_eq!(attach_intent(&via), Err(Refusal::NotSupported(Feature::SendVia)));
}

#[test]
fn missing_addresses_are_refused_with_a_text() {
    for attach in [
        attach(Role::Sender),
        attach(Role::Receiver),
        sender(Value::Null),
        sender(Value::string("amqps://ns/")),
        sender(Value::Int(1)),
        receiver("$management", &[]),
    ] {
        assert!(matches!(attach_intent(&attach), Err(Refusal::InvalidArgument(_))), "{attach:?}");
    }
}

#[test]
fn sub_queues_cannot_be_sent_to_and_impossible_names_are_not_found() {
    for address in ["q/$DeadLetterQueue", "q/$Transfer/$DeadLetterQueue"] {
        assert_eq!(attach_intent(&sender(Value::string(address))), Err(Refusal::SendToSubQueue));
    }
    assert_eq!(attach_intent(&sender(Value::string("no such?queue"))), Err(Refusal::EntityNotFound));
}

#[test]
fn whoever_asks_for_a_topic_is_given_no_queue() {
    let topics = Err(Refusal::EntityOfFeature(lockstep_model::Feature::Topics));
    let mut subscriber = receiver("orders", &[]);
    let source = subscriber.source.as_mut().expect("a source");
    source.capabilities = vec![Symbol::new("topic")];
    assert_eq!(attach_intent(&subscriber), topics);
    // A durable one, as JMS has it.
    subscriber.source.as_mut().expect("a source").distribution_mode = Some(Symbol::new("copy"));
    assert_eq!(attach_intent(&subscriber), topics);
    let mut publisher = sender(Value::string("orders"));
    let Some(TargetTerminus::Target(target)) = &mut publisher.target else { panic!("a target") };
    target.capabilities = vec![Symbol::new("topic")];
    assert_eq!(attach_intent(&publisher), topics);
    let Some(TargetTerminus::Target(target)) = &mut publisher.target else { panic!("a target") };
    target.capabilities = vec![Symbol::new("queue")];
    assert!(attach_intent(&publisher).is_ok());
}

#[test]
fn copying_receivers_are_refused_rather_than_given_locks() {
    let mut attach = receiver("q", &[]);
    attach.source.as_mut().expect("a source").distribution_mode = Some(Symbol::new("copy"));
    assert!(matches!(attach_intent(&attach), Err(Refusal::InvalidArgument(_))));
}

#[test]
fn names_that_clients_give_are_found() {
    let attach = with_property(receiver("/q", &[]), "com.microsoft:receiver-name", Value::string("worker-1"));
    assert_eq!(receiver_name(&attach), Some("worker-1"));
    assert_eq!(spelled_address(&attach), "/q");
    assert_eq!(spelled_address(&sender(Value::string("amqps://ns/q"))), "amqps://ns/q");
    assert_eq!(spelled_address(&sender(Value::Null)), "");
}

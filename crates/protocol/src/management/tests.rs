use bytes::Bytes;
use lockstep_amqp::{
    message::{
        Properties, decode_body_value, decode_map_section, decode_properties, encode_value_message, scan,
    },
    types::{Array, Map, Value},
};
use lockstep_model::{PropertyOverlay, PropertyValue, limits};

use super::*;
use crate::conditions::RefusalContext;

fn strings(entries: &[(&str, Value)]) -> Map {
    entries.iter().map(|(key, value)| (Value::string(key), value.clone())).collect()
}

fn message(operation: &str, body: &Value) -> Bytes {
    let properties = Properties {
        message_id: Some(Value::Ulong(1)),
        reply_to: Some(Value::string("reply")),
        ..Properties::default()
    };
    encode_value_message(Some(&properties), &[("operation".into(), Value::string(operation))], body)
}

fn operation(operation: &str, arguments: &[(&str, Value)]) -> Result<ManagementOperation, ManagementError> {
    parse(&message(&format!("com.microsoft:{operation}"), &Value::Map(strings(arguments))))
        .map(|request| request.operation)
}

fn refused(name: &str, arguments: &[(&str, Value)]) -> (Refusal, String) {
    let error = operation(name, arguments).expect_err("refused");
    (error.refusal, error.text.into())
}

fn uuids(count: usize) -> Value {
    let elements = (0..count).map(|n| Value::Uuid((n as u128).to_be_bytes())).collect();
    Value::Array(Box::new(Array { constructor: 0x98, elements }))
}

fn token(n: u128) -> LockToken {
    LockToken::from_uuid_bytes(n.to_be_bytes())
}

fn session(id: &str) -> MessageSessionId {
    MessageSessionId::new(id).expect("short")
}

mod requests {
    use super::*;

    #[test]
    fn recorded_requests_of_dotnet_are_understood() {
        let recorded = |bytes: &'static [u8]| parse(&Bytes::from_static(bytes)).expect("good");

        let request = recorded(include_bytes!("dotnet_renew_lock.bin"));
        assert_eq!(request.message_id, Some(Value::string("request1")));
        assert_eq!(request.reply_to.as_deref(), Some("98af08f9ddad42ba82ca36bb1e25f14e"));
        assert_eq!(request.server_timeout, Some(Duration::from_secs(60)));
        assert!(request.associated_link_name.is_some_and(|name| name.starts_with("76c08a0f")));
        let ManagementOperation::RenewLocks { tokens } = request.operation else { panic!("a renewal") };
        assert_eq!(tokens, [token(0x90e12bbb_bebf_40a4_ac27_877a1840d785)]);

        let request = recorded(include_bytes!("dotnet_renew_session_lock.bin"));
        assert_eq!(
            request.operation,
            ManagementOperation::RenewMessageSessionLock {
                session: session("1c23bf23-c806-4e3d-9640-67e46fb1a2ce")
            }
        );

        let id = "5e273f33-c494-4dc4-a213-be1e0766c762";
        let request = recorded(include_bytes!("dotnet_get_session_state.bin"));
        assert_eq!(request.operation, ManagementOperation::GetMessageSessionState { session: session(id) });
        let request = recorded(include_bytes!("dotnet_set_session_state.bin"));
        assert_eq!(
            request.operation,
            ManagementOperation::SetMessageSessionState {
                session: session(id),
                state: Some(Bytes::from_static(b"Received Message From Session!"))
            }
        );

        let request = recorded(include_bytes!("dotnet_peek_message.bin"));
        assert_eq!(
            request.operation,
            ManagementOperation::Peek { from: SequenceNumber(1), count: 1, session: None, omit_body: false }
        );
    }

    #[test]
    fn options_are_found_under_every_clients_key() {
        for (key, timeout) in [
            ("com.microsoft:server-timeout", Value::Uint(5_000)),
            ("com.microsoft:server-timeout", Value::Long(5_000)),
            ("server-timeout", Value::Ulong(5_000)),
        ] {
            let options = [
                ("operation".into(), Value::string("com.microsoft:peek-message")),
                (key.into(), timeout),
                ("associated-link-name".into(), Value::string("link")),
            ];
            let body = strings(&[("from-sequence-number", Value::Long(1)), ("message-count", Value::Int(1))]);
            let request = parse(&encode_value_message(None, &options, &Value::Map(body))).expect("good");
            assert_eq!(request.server_timeout, Some(Duration::from_secs(5)));
            assert_eq!(request.associated_link_name.as_deref(), Some("link"));
            assert_eq!((request.message_id, request.reply_to), (None, None));
        }
    }

    #[test]
    fn message_ids_keep_their_type() {
        for id in [Value::Ulong(5), Value::Uuid([1; 16]), Value::string("x"), Value::Binary(Bytes::new())] {
            let properties = Properties { message_id: Some(id.clone()), ..Properties::default() };
            let options = [("operation".into(), Value::string("com.microsoft:x"))];
            let message = encode_value_message(Some(&properties), &options, &Value::Null);
            assert_eq!(parse(&message).expect("good").message_id, Some(id));
        }
    }

    #[test]
    fn lock_tokens_come_as_array_or_list() {
        for tokens in [uuids(2), Value::List(vec![Value::Uuid([0; 16]), Value::Uuid(1_u128.to_be_bytes())])] {
            assert_eq!(
                operation("renew-lock", &[("lock-tokens", tokens)]),
                Ok(ManagementOperation::RenewLocks { tokens: vec![token(0), token(1)] })
            );
        }
    }

    #[test]
    fn a_state_of_no_bytes_is_none_and_null_is_but_missing_is_an_error() {
        let set = |state: &[(&str, Value)]| {
            operation("set-session-state", &[&[("session-id", Value::string(""))], state].concat())
        };
        let bytes = Bytes::from_static(b"x");
        for (value, state) in [
            (Value::Null, None),
            (Value::Binary(Bytes::new()), None),
            (Value::Binary(bytes.clone()), Some(bytes)),
        ] {
            assert_eq!(
                set(&[("session-state", value)]),
                Ok(ManagementOperation::SetMessageSessionState { session: session(""), state })
            );
        }
        assert!(set(&[]).is_err());
        assert!(set(&[("session-state", Value::string("text"))]).is_err());
    }

    #[test]
    fn the_sentinel_time_lists_all_and_a_millisecond_before_it_is_a_time() {
        for (millis, state_updated_after) in [
            (253_402_300_800_000, None),
            (i64::MAX, None),
            (253_402_300_799_999, Some(253_402_300_799_999)),
            (0, Some(0)),
        ] {
            let listing = operation(
                "get-message-sessions",
                &[
                    ("last-updated-time", Value::Timestamp(millis)),
                    ("skip", Value::Int(100)),
                    ("top", Value::Long(100)),
                    ("last-session-id", Value::Null),
                ],
            );
            let state_updated_after = state_updated_after.map(Timestamp::from_unix_millis);
            assert_eq!(
                listing,
                Ok(ManagementOperation::ListMessageSessions { state_updated_after, skip: 100, top: 100 })
            );
        }
    }

    #[test]
    fn a_peek_takes_integers_of_any_width_and_an_optional_session() {
        for from in [Value::Long(0), Value::Ulong(0), Value::Int(-1)] {
            assert_eq!(
                operation(
                    "peek-message",
                    &[
                        ("from-sequence-number", from),
                        ("message-count", Value::Ubyte(10)),
                        ("omit-message-body", Value::Bool(true)),
                        ("session-id", Value::Null),
                    ]
                ),
                Ok(ManagementOperation::Peek {
                    from: SequenceNumber(0),
                    count: 10,
                    session: None,
                    omit_body: true
                })
            );
        }
        assert_eq!(
            operation(
                "peek-message",
                &[
                    ("from-sequence-number", Value::Long(1 << 48)),
                    ("message-count", Value::Int(1)),
                    ("session-id", Value::string("")),
                ]
            ),
            Ok(ManagementOperation::Peek {
                from: SequenceNumber(1 << 48),
                count: 1,
                session: Some(session("")),
                omit_body: false
            })
        );
    }

    #[test]
    fn every_disposition_is_understood() {
        let settle = |status: &str, more: &[(&str, Value)]| {
            let fixed = [("disposition-status", Value::string(status)), ("lock-tokens", uuids(1))];
            operation("update-disposition", &[&fixed, more].concat())
        };
        let expected = |settlement| {
            Ok(ManagementOperation::Settle { tokens: vec![token(0)], settlement, session: None })
        };
        assert_eq!(settle("completed", &[]), expected(Settlement::Complete));
        assert_eq!(settle("abandoned", &[]), expected(Settlement::Abandon(PropertyOverlay::new())));
        let delay = vec![(Value::string("x-opt-redeliver-after"), Value::Int(5_000))];
        assert_eq!(
            settle("abandoned", &[("properties-to-modify", Value::Map(delay))]),
            expected(Settlement::AbandonFor(PropertyOverlay::new(), std::time::Duration::from_secs(5)))
        );
        assert_eq!(
            settle("suspended", &[("deadletter-reason", Value::Null)]),
            expected(Settlement::DeadLetter(PropertyOverlay::new()))
        );
        for status in ["defered", "deferred"] {
            assert_eq!(settle(status, &[]), expected(Settlement::Defer(PropertyOverlay::new())));
        }
        assert!(settle("renewed", &[]).expect_err("refused").text.contains("'renewed'"));
        let with_session = settle("completed", &[("session-id", Value::string("s"))]).expect("good");
        assert_eq!(with_session.message_session(), Some(&session("s")));
    }

    #[test]
    fn a_dead_letter_carries_reason_description_and_properties() {
        let ManagementOperation::Settle { settlement: Settlement::DeadLetter(overlay), .. } = operation(
            "update-disposition",
            &[
                ("disposition-status", Value::string("suspended")),
                ("lock-tokens", uuids(1)),
                ("deadletter-reason", Value::string("why")),
                ("deadletter-description", Value::string("because")),
                ("properties-to-modify", Value::Map(strings(&[("mine", Value::Null)]))),
            ],
        )
        .expect("good") else {
            panic!("a dead-letter");
        };
        let text = |text: &str| {
            let mut encoded = vec![0xa1, text.len() as u8];
            encoded.extend_from_slice(text.as_bytes());
            PropertyValue::Encoded(encoded.into())
        };
        assert_eq!(overlay.get("DeadLetterReason"), Some(&text("why")));
        assert_eq!(overlay.get("DeadLetterErrorDescription"), Some(&text("because")));
        assert_eq!(overlay.get("mine"), Some(&PropertyValue::Encoded(Bytes::from_static(&[0x40]))));
    }

    #[test]
    fn messages_are_scheduled_from_a_list_of_maps() {
        let message = |bytes: &'static [u8]| {
            Value::Map(strings(&[
                ("message-id", Value::string("m")),
                ("message", Value::Binary(Bytes::from_static(bytes))),
            ]))
        };
        let list = Value::List(vec![message(b"a"), message(b"b")]);
        let expected = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        assert_eq!(
            operation("schedule-message", &[("messages", list)]),
            Ok(ManagementOperation::Schedule { messages: expected })
        );
        for wrong in [Value::List(vec![]), Value::List(vec![Value::Null]), Value::Binary(Bytes::new())] {
            assert!(operation("schedule-message", &[("messages", wrong)]).is_err());
        }
    }

    #[test]
    fn sequence_numbers_come_as_an_array_or_a_list_of_integers() {
        let numbers = Value::List(vec![Value::Long(3), Value::Int(1), Value::Long(-4)]);
        let sequence_numbers = vec![SequenceNumber(3), SequenceNumber(1), SequenceNumber(0)];
        assert_eq!(
            operation("cancel-scheduled-message", &[("sequence-numbers", numbers.clone())]),
            Ok(ManagementOperation::CancelScheduled { sequence_numbers: sequence_numbers.clone() })
        );
        for (mode, expected) in [
            (Value::Uint(0), ReceiveMode::ReceiveAndDelete),
            (Value::Ubyte(1), ReceiveMode::PeekLock),
            (Value::Null, ReceiveMode::PeekLock),
        ] {
            let arguments = [
                ("sequence-numbers", numbers.clone()),
                ("receiver-settle-mode", mode),
                ("session-id", Value::string("s")),
            ];
            assert_eq!(
                operation("receive-by-sequence-number", &arguments),
                Ok(ManagementOperation::ReceiveBySequenceNumbers {
                    sequence_numbers: sequence_numbers.clone(),
                    mode: expected,
                    session: Some(session("s")),
                })
            );
        }
        let wrong = [("sequence-numbers", numbers), ("receiver-settle-mode", Value::Uint(2))];
        assert!(operation("receive-by-sequence-number", &wrong).is_err());
        assert!(operation("cancel-scheduled-message", &[("sequence-numbers", Value::Long(1))]).is_err());
    }

    #[test]
    fn a_batch_deletion_has_a_count_and_perhaps_a_time() {
        let count = ("message-count", Value::Int(4_000));
        let time = ("enqueued-time-utc", Value::Timestamp(9));
        assert_eq!(
            operation("batch-delete-messages", &[count.clone(), time]),
            Ok(ManagementOperation::DeleteMessages {
                count: 4_000,
                enqueued_until: Timestamp::from_unix_millis(9),
                session: None,
            })
        );
        assert!(operation("batch-delete-messages", &[count, ("enqueued-time-utc", Value::Long(9))]).is_err());
        assert!(operation("batch-delete-messages", &[]).is_err());
    }

    #[test]
    fn operations_of_later_versions_are_known_by_name() {
        for (name, feature) in [
            ("add-rule", Feature::Topics),
            ("remove-rule", Feature::Topics),
            ("enumerate-rules", Feature::Topics),
        ] {
            assert_eq!(operation(name, &[]), Ok(ManagementOperation::NotYet(feature)));
        }
    }

    #[test]
    fn an_unknown_operation_is_unknown_whatever_its_body() {
        let unknown = ManagementOperation::Unknown("READ".into());
        for body in [Value::Null, Value::Map(vec![]), Value::string("x")] {
            assert_eq!(parse(&message("READ", &body)).expect("good").operation, unknown);
        }
    }

    #[test]
    fn missing_and_wrong_arguments_are_named() {
        type Case<'a> = (&'a str, &'a [(&'a str, Value)], &'a str);
        let too_many = uuids(limits::LOCK_TOKENS_PER_REQUEST_MAX + 1);
        let listing = ("last-updated-time", Value::Timestamp(0));
        let cases: &[Case<'_>] = &[
            ("renew-lock", &[], "no 'lock-tokens'"),
            ("renew-lock", &[("lock-tokens", Value::Null)], "no 'lock-tokens'"),
            ("renew-lock", &[("lock-tokens", uuids(0))], "at least one"),
            ("renew-lock", &[("lock-tokens", too_many)], "at most 10000"),
            ("renew-lock", &[("lock-tokens", Value::string("x"))], "'lock-tokens'"),
            ("renew-lock", &[("lock-tokens", Value::List(vec![Value::Int(1)]))], "array of uuids"),
            ("renew-session-lock", &[], "no 'session-id'"),
            ("get-session-state", &[("session-id", Value::Int(1))], "'session-id'"),
            ("set-session-state", &[("session-id", Value::string("s"))], "no 'session-state'"),
            ("get-message-sessions", &[], "no 'last-updated-time'"),
            ("get-message-sessions", &[("last-updated-time", Value::Long(1))], "a timestamp"),
            ("get-message-sessions", &[listing.clone(), ("skip", Value::Int(0))], "no 'top'"),
            ("get-message-sessions", &[listing, ("skip", Value::Int(-1))], "'skip' may not be negative"),
            ("peek-message", &[("message-count", Value::Int(1))], "no 'from-sequence-number'"),
            ("peek-message", &[("from-sequence-number", Value::Long(1))], "no 'message-count'"),
            (
                "peek-message",
                &[("from-sequence-number", Value::Long(1)), ("message-count", Value::Int(0))],
                "at least 1",
            ),
            ("update-disposition", &[("lock-tokens", uuids(1))], "no 'disposition-status'"),
            ("update-disposition", &[("disposition-status", Value::string("completed"))], "no 'lock-tokens'"),
            (
                "update-disposition",
                &[
                    ("disposition-status", Value::string("abandoned")),
                    ("lock-tokens", uuids(1)),
                    ("properties-to-modify", Value::Map(strings(&[("l", Value::List(vec![]))]))),
                ],
                "simple types",
            ),
        ];
        for (name, arguments, mentions) in cases {
            let (refusal, text) = refused(name, arguments);
            assert!(matches!(refusal, Refusal::InvalidArgument(_)), "{name}: {refusal:?}");
            assert!(text.contains(mentions), "{name}: {text}");
        }
    }

    #[test]
    fn session_ids_over_128_characters_are_too_long() {
        let long = Value::string(&"ü".repeat(129));
        let (refusal, _) = refused("get-session-state", &[("session-id", long)]);
        assert_eq!(refusal, Refusal::IdTooLong { field: "SessionId", chars: 129 });
    }

    #[test]
    fn unreadable_requests_are_answered_as_far_as_they_can_be_read() {
        let error =
            parse(&message("com.microsoft:renew-lock", &Value::string("no map"))).expect_err("refused");
        assert_eq!(error.message_id, Some(Value::Ulong(1)));
        assert_eq!(error.reply_to.as_deref(), Some("reply"));
        assert!(error.text.contains("map"), "{}", error.text);
        for bytes in [&b"nonsense"[..], &[0x00, 0x53, 0x73, 0xc0, 9]] {
            let error = parse(&Bytes::copy_from_slice(bytes)).expect_err("refused");
            assert!(matches!(error.refusal, Refusal::InvalidArgument(_)));
        }
        let no_operation = encode_value_message(None, &[], &Value::Map(vec![]));
        assert!(parse(&no_operation).expect_err("refused").text.contains("'operation'"));
    }
}

mod responses {
    use super::*;

    struct Decoded {
        correlation_id: Option<Value>,
        options: Map,
        body: Value,
    }

    fn decoded(response: &Response<'_>) -> Decoded {
        let message = encode_response(Some(&Value::Ulong(7)), response);
        let sections = scan(&message).expect("a message");
        let properties = &message[sections.properties.clone().expect("properties")];
        let options = &message[sections.application_properties.clone().expect("options")];
        Decoded {
            correlation_id: decode_properties(properties).expect("properties").correlation_id,
            options: decode_map_section(options).expect("a map"),
            body: decode_body_value(&message, &sections).expect("a body").expect("an amqp-value"),
        }
    }

    fn ok_body(response: &Response<'_>) -> Map {
        let Decoded { correlation_id, options, body } = decoded(response);
        assert_eq!(correlation_id, Some(Value::Ulong(7)));
        assert_eq!(
            options,
            strings(&[("statusCode", Value::Int(200)), ("statusDescription", Value::string("OK"))])
        );
        let Value::Map(body) = body else { panic!("a map") };
        body
    }

    fn array(constructor: u8, elements: Vec<Value>) -> Value {
        Value::Array(Box::new(Array { constructor, elements }))
    }

    #[test]
    fn renewals_answer_an_array_of_timestamps_or_one() {
        let times = [Timestamp::from_unix_millis(5), Timestamp::from_unix_millis(6)];
        assert_eq!(
            ok_body(&Response::LocksRenewed(&times)),
            strings(&[("expirations", array(0x83, vec![Value::Timestamp(5), Value::Timestamp(6)]))])
        );
        assert_eq!(
            ok_body(&Response::MessageSessionLockRenewed(times[0])),
            strings(&[("expiration", Value::Timestamp(5))])
        );
    }

    #[test]
    fn a_state_is_binary_or_null_under_a_key_that_is_always_there() {
        let empty = Bytes::new();
        for (state, value) in [(None, Value::Null), (Some(&empty), Value::Binary(Bytes::new()))] {
            assert_eq!(ok_body(&Response::MessageSessionState(state)), strings(&[("session-state", value)]));
        }
    }

    #[test]
    fn message_sessions_are_an_array_of_strings_under_the_odd_key() {
        let long = "ü".repeat(128);
        for (ids, constructor) in [(vec!["", "a"], 0xa1), (vec!["a", long.as_str()], 0xb1)] {
            let sessions: Vec<_> = ids.iter().map(|id| session(id)).collect();
            let elements = ids.iter().map(|id| Value::string(id)).collect();
            assert_eq!(
                ok_body(&Response::MessageSessions { skip: 100, ids: &sessions }),
                strings(&[("skip", Value::Int(100)), ("sessions-ids", array(constructor, elements))])
            );
        }
    }

    #[test]
    fn peeked_messages_are_a_list_of_maps() {
        let messages = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let entry = |text: &'static [u8]| {
            Value::Map(strings(&[("message", Value::Binary(Bytes::from_static(text)))]))
        };
        assert_eq!(
            ok_body(&Response::Peeked(&messages)),
            strings(&[("messages", Value::List(vec![entry(b"one"), entry(b"two")]))])
        );
    }

    #[test]
    fn what_is_done_answers_an_empty_map() {
        assert_eq!(ok_body(&Response::Done), vec![]);
    }

    #[test]
    fn nothing_found_is_204_with_a_condition() {
        for (response, condition) in [
            (Response::Peeked(&[]), "com.microsoft:message-not-found"),
            (Response::MessageSessions { skip: 0, ids: &[] }, "com.microsoft:session-not-found"),
        ] {
            let Decoded { options, body, .. } = decoded(&response);
            assert_eq!(options[0], (Value::string("statusCode"), Value::Int(204)));
            assert_eq!(options[2], (Value::string("errorCondition"), Value::symbol(condition)));
            assert_eq!(body, Value::Map(vec![]));
        }
    }

    #[test]
    fn refusals_have_status_condition_and_a_text_that_clients_match() {
        let context = RefusalContext::new("ns", "q", "id", Timestamp::default());
        for (refusal, status, condition, begins) in [
            (
                Refusal::MessageLockLost,
                410,
                "com.microsoft:message-lock-lost",
                "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue",
            ),
            (
                Refusal::MessageSessionLockLost,
                410,
                "com.microsoft:session-lock-lost",
                "The session lock has expired on the MessageSession. Accept a new MessageSession.",
            ),
            (Refusal::UnknownOperation, 501, "amqp:not-implemented", "The operation is not known."),
        ] {
            let Decoded { options, .. } = decoded(&Response::refused(&refusal, &context));
            assert_eq!(options[0], (Value::string("statusCode"), Value::Int(status)));
            let text = options[1].1.as_text().expect("a text");
            assert!(text.starts_with(begins), "{text}");
            assert_eq!(options[2], (Value::string("errorCondition"), Value::symbol(condition)));
        }
    }

    #[test]
    fn what_is_not_understood_is_400_and_says_what_to_change() {
        let context = RefusalContext::new("ns", "q", "id", Timestamp::default());
        let error = operation("renew-lock", &[]).expect_err("refused");
        let Decoded { options, .. } = decoded(&Response::not_understood(&error, &context));
        assert_eq!(options[0], (Value::string("statusCode"), Value::Int(400)));
        let text = options[1].1.as_text().expect("a text");
        assert!(text.starts_with("The body of the request has no 'lock-tokens'. TrackingId:id"), "{text}");
        assert_eq!(
            options[2],
            (Value::string("errorCondition"), Value::symbol("com.microsoft:argument-error"))
        );
    }
}

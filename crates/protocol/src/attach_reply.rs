//! Answers to attaches that are granted (wire.md 3.2, 6.2).

use lockstep_amqp::{
    AttachReply,
    types::{Attach, Fields, Source, Target, TargetTerminus, Value},
};
use lockstep_model::{MessageSessionId, Timestamp, limits};

use crate::{attach_intent::MessageSessionFilterEcho, names::link_property};

/// What is granted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Grant<'a> {
    /// Sending messages to an entity.
    Sender {
        /// The entity's limit. Advertised exactly, since clients size their batches by it
        /// (semantics G-20).
        max_message_size_bytes: u64,
    },
    /// Receiving messages, or browsing.
    Receiver {
        /// As the attach intent gave it.
        filter_echo: Option<&'a MessageSessionFilterEcho>,
        /// The message session held or browsed, and for holders until when.
        message_session: Option<(&'a MessageSessionId, Option<Timestamp>)>,
    },
    /// Sending requests to `$cbs` or `$management`.
    Requests {
        /// Largest request taken, in bytes.
        max_message_size_bytes: u64,
    },
    /// Receiving responses of `$cbs` or `$management`.
    Responses,
}

/// The answer to an attach that is granted. Settle modes and termini are those of the client:
/// clients compare them with what they asked for, Python the address letter by letter. Only the
/// filters that have an effect are answered. Both termini are present whatever the client sent,
/// and receivers get a property map even when it is empty.
#[must_use]
pub fn accept_reply(attach: &Attach, grant: Grant<'_>) -> AttachReply {
    let mut reply = AttachReply {
        snd_settle_mode: attach.snd_settle_mode,
        rcv_settle_mode: attach.rcv_settle_mode,
        source: Some(Source { filter: None, ..attach.source.clone().unwrap_or_default() }),
        target: Some(attach.target.clone().unwrap_or_else(|| TargetTerminus::Target(Target::default()))),
        ..AttachReply::default()
    };
    match grant {
        Grant::Sender { max_message_size_bytes } => {
            reply.max_message_size = Some(max_message_size_bytes);
            let batch_bytes = max_message_size_bytes.min(limits::BATCH_SIZE_BYTES_MAX);
            let mut properties = Fields::default();
            properties.insert(
                link_property::MAX_MESSAGE_BATCH_SIZE,
                Value::Long(i64::try_from(batch_bytes).unwrap_or(i64::MAX)),
            );
            reply.properties = Some(properties);
        }
        Grant::Receiver { filter_echo, message_session } => {
            let mut properties = Fields::default();
            if let Some((_, Some(locked_until))) = message_session {
                properties.insert(link_property::LOCKED_UNTIL_UTC, Value::Long(locked_until.dotnet_ticks()));
            }
            reply.properties = Some(properties);
            let asked = attach.source.as_ref().is_some_and(|source| source.filter.is_some());
            if let (true, Some(source)) = (asked, &mut reply.source) {
                let granted = filter_echo.zip(message_session).map(|(echo, (id, _))| echo.granted(id));
                source.filter = Some(Fields(granted.into_iter().collect()));
            }
        }
        Grant::Requests { max_message_size_bytes } => {
            reply.max_message_size = Some(max_message_size_bytes);
            // Of threads of Python's SDK that renew locks. The response tells what came of a request.
            reply.takes_repeated_ids = true;
        }
        Grant::Responses => {}
    }
    reply
}

#[cfg(test)]
mod tests {
    use lockstep_amqp::types::{ReceiverSettleMode, Role, SenderSettleMode, Symbol};

    use super::*;
    use crate::attach_intent::FilterLanguage;

    fn attach(role: Role, source: Option<Source>, target: Option<Target>) -> Attach {
        Attach {
            name: "link".into(),
            handle: 0,
            role,
            snd_settle_mode: Some(SenderSettleMode::Unsettled),
            rcv_settle_mode: Some(ReceiverSettleMode::Second),
            source,
            target: target.map(TargetTerminus::Target),
            unsettled: None,
            incomplete_unsettled: false,
            initial_delivery_count: None,
            max_message_size: Some(0),
            offered_capabilities: vec![],
            desired_capabilities: vec![],
            properties: None,
        }
    }

    fn source(address: &str, filter: Option<Fields>) -> Source {
        Source { address: Some(Value::string(address)), filter, ..Source::default() }
    }

    #[test]
    fn senders_learn_the_size_limits_of_the_entity() {
        for (limit, batch) in [(262_144, 262_144), (100 << 20, 1 << 20)] {
            let attach = attach(Role::Sender, None, Some(Target::default()));
            let reply = accept_reply(&attach, Grant::Sender { max_message_size_bytes: limit });
            assert_eq!(reply.max_message_size, Some(limit));
            assert_eq!(
                reply.properties.expect("properties").get("com.microsoft:max-message-batch-size"),
                Some(&Value::Long(batch))
            );
        }
    }

    #[test]
    fn both_termini_are_present_and_settle_modes_are_echoed() {
        let sender = attach(Role::Sender, None, Some(Target::default()));
        let receiver = attach(Role::Receiver, Some(source("q", None)), None);
        for (attach, grant) in [
            (sender, Grant::Sender { max_message_size_bytes: 1 }),
            (receiver, Grant::Receiver { filter_echo: None, message_session: None }),
        ] {
            let reply = accept_reply(&attach, grant);
            assert!(reply.source.is_some() && reply.target.is_some());
            assert_eq!(reply.snd_settle_mode, Some(SenderSettleMode::Unsettled));
            assert_eq!(reply.rcv_settle_mode, Some(ReceiverSettleMode::Second));
        }
    }

    #[test]
    fn a_message_session_is_answered_with_its_id_and_the_ticks_of_its_lock() {
        let key = Symbol::new("com.microsoft:session-filter");
        let filter = Fields(vec![(key.clone(), Value::Null), (Symbol::new("no-local"), Value::List(vec![]))]);
        let attach = attach(Role::Receiver, Some(source("amqps://ns/Q%201", Some(filter))), None);
        let echo =
            MessageSessionFilterEcho { key: key.clone(), descriptor: None, language: FilterLanguage::Id };
        let id = MessageSessionId::new("s").expect("short");
        let reply = accept_reply(
            &attach,
            Grant::Receiver {
                filter_echo: Some(&echo),
                message_session: Some((&id, Some(Timestamp::from_unix_millis(1_893_456_000_000)))),
            },
        );
        let source = reply.source.expect("a source");
        assert_eq!(source.address, Some(Value::string("amqps://ns/Q%201")));
        assert_eq!(source.filter, Some(Fields(vec![(key, Value::string("s"))])));
        assert_eq!(
            reply.properties.expect("properties").get("com.microsoft:locked-until-utc"),
            Some(&Value::Long(640_290_528_000_000_000))
        );
    }

    #[test]
    fn a_plain_receiver_gets_empty_maps_and_no_filter_it_did_not_send() {
        for (sent, answered) in [(None, None), (Some(Fields::default()), Some(Fields::default()))] {
            let attach = attach(Role::Receiver, Some(source("q", sent)), None);
            let reply = accept_reply(&attach, Grant::Receiver { filter_echo: None, message_session: None });
            assert_eq!(reply.source.expect("a source").filter, answered);
            assert_eq!(reply.properties, Some(Fields::default()));
            assert_eq!(reply.max_message_size, None);
        }
    }

    #[test]
    fn request_links_state_the_largest_request() {
        let attach = attach(Role::Sender, None, Some(Target::default()));
        let reply = accept_reply(&attach, Grant::Requests { max_message_size_bytes: 65_536 });
        assert_eq!(reply.max_message_size, Some(65_536));
    }
}

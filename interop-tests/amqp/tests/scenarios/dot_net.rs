//! The conversation of the .NET client, frame by frame, with all that the letter of AMQP would
//! not have: no host in SASL, sender attaches without initial-delivery-count, receivers without a
//! target, addresses with a slash, one empty tag for all settled requests, a delivery-id that
//! does not follow from begin.

use bytes::Bytes;
use lockstep_amqp::{
    message::{Properties, encode_value_message},
    types::{
        Attach, DeliveryState, Detach, Disposition, End, Outcome as Terminal, Performative,
        ReceiverSettleMode, Role, SenderSettleMode, Target, TargetTerminus, Transfer, Value,
    },
};
use lockstep_interop_amqp::{
    HOST, MESSAGE_SESSION_FILTER, Message, Outcome, RawConnection, receiver, sender, text_message,
    utc_millis, with_filter, with_next_message_session, with_property,
};

use crate::suite::{Scenario, scenarios};

scenarios![the_dot_net_conversation_works];

const TIMEOUT: &str = "com.microsoft:timeout";

/// A settled transfer, as all requests are: with the empty tag.
fn request(handle: u32, id: u32) -> Transfer {
    Transfer {
        handle,
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::new()),
        message_format: Some(0),
        settled: Some(true),
        ..Transfer::default()
    }
}

/// Attaches a pair of request links with handles 0 and 1; waits for credit.
fn pair(raw: &mut RawConnection, channel: u16, node: &str, reply_to: &str) -> Outcome {
    let requests =
        with_property(sender(&format!("duplex:{node}:sender"), node), TIMEOUT, Value::Uint(59_812));
    let requests =
        Attach { snd_settle_mode: Some(SenderSettleMode::Settled), initial_delivery_count: None, ..requests };
    raw.attach(channel, 0, requests)?;
    let target = Target { address: Some(Value::string(reply_to)), ..Target::default() };
    let responses =
        with_property(receiver(&format!("duplex:{node}:receiver"), node), TIMEOUT, Value::Uint(59_812));
    let responses = Attach {
        snd_settle_mode: Some(SenderSettleMode::Settled),
        rcv_settle_mode: None,
        target: Some(TargetTerminus::Target(target)),
        ..responses
    };
    raw.attach(channel, 1, responses)?;
    let mut answers = 0;
    let mut credit = false;
    while answers < 2 || !credit {
        raw.expect("attaches and credit", |_, performative, _| match performative {
            Performative::Attach(attach) => {
                assert!(attach.source.is_some() && attach.target.is_some(), "{attach:?}");
                assert_eq!(attach.snd_settle_mode, Some(SenderSettleMode::Settled));
                answers += 1;
                Some(())
            }
            Performative::Flow(flow) if flow.link_credit.is_some_and(|credit| credit > 0) => {
                credit = true;
                Some(())
            }
            _ => None,
        })?;
    }
    raw.credit(channel, 1, 0, 50, false)
}

/// Sends a request and reads the response with its correlation-id.
fn ask(
    raw: &mut RawConnection,
    channel: u16,
    id: u32,
    reply_to: &str,
    options: &[(Box<str>, Value)],
    body: &Value,
) -> Outcome<Message> {
    let message_id = Value::string(&format!("request{}", id + 1));
    let properties = Properties {
        message_id: Some(message_id.clone()),
        reply_to: Some(Value::string(reply_to)),
        ..Properties::default()
    };
    raw.transfer(channel, &request(0, id), &encode_value_message(Some(&properties), options, body))?;
    let payload = raw.expect("a response", |_, performative, payload| match performative {
        Performative::Transfer(transfer) => {
            assert_eq!(transfer.settled, Some(true), "the response link asked for settled ones");
            Some(payload.clone())
        }
        _ => None,
    })?;
    let response = Message::parse(&payload)?;
    assert_eq!(response.properties.correlation_id, Some(message_id));
    Ok(response)
}

fn put_token(raw: &mut RawConnection, s: &Scenario, id: u32) -> Outcome {
    let audience = format!("amqps://{HOST}/{}", s.queue());
    let token = s.broker().home().token("root", &audience, utc_millis() / 1_000 + 600);
    let options = [
        ("operation".into(), Value::string("put-token")),
        ("type".into(), Value::string("servicebus.windows.net:sastoken")),
        ("name".into(), Value::string(&audience)),
        ("expiration".into(), Value::Timestamp(utc_millis() + 600_000)),
    ];
    let response = ask(raw, 0, id, "cbs-reply", &options, &Value::string(&token))?;
    assert_eq!(response.property("status-code"), Some(&Value::Int(202)));
    Ok(())
}

fn the_dot_net_conversation_works(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut raw = s.broker().connect_raw()?;
    assert_eq!(raw.sasl("MSSBCBS", None, None)?, 0);
    raw.open(None)?;
    raw.begin(0)?;
    pair(&mut raw, 0, "$cbs", "cbs-reply")?;
    // Twice, with one tag.
    put_token(&mut raw, s, 0)?;
    put_token(&mut raw, s, 1)?;
    send_three(&mut raw, queue)?;
    receive_three(&mut raw, queue)?;

    // Renewal over an own pair, naming the link.
    raw.begin(3)?;
    let node = format!("{queue}/$management");
    pair(&mut raw, 3, &node, "mgmt-reply")?;
    let options = [
        ("operation".into(), Value::string("com.microsoft:renew-session-lock")),
        ("com.microsoft:server-timeout".into(), Value::Uint(59_000)),
        ("associated-link-name".into(), Value::string("accept;1:2:source(address:/q),filter:[x]")),
    ];
    let body = Value::Map(vec![(Value::string("session-id"), Value::string("s"))]);
    let response = ask(&mut raw, 3, 0, "mgmt-reply", &options, &body)?;
    assert_eq!(response.property("statusCode"), Some(&Value::Int(200)), "{response:?}");

    // Detach, end and close, all at once.
    raw.frame(2, Performative::Detach(Detach { handle: 0, closed: true, error: None }))?;
    raw.frame(2, Performative::End(End::default()))?;
    raw.frame(0, Performative::Close(lockstep_amqp::types::Close::default()))?;
    assert_eq!(raw.expect_end()?, None);

    let mut client = s.connect()?;
    let link = client.accept(queue, "s", 10)?;
    assert_eq!(client.receive(link)?.text(), "3");
    client.nothing_comes(std::time::Duration::from_millis(200))?;
    client.close()
}

/// On channel 1: a link whose deliveries begin with id 0, though begin said 1.
fn send_three(raw: &mut RawConnection, queue: &str) -> Outcome {
    raw.begin(1)?;
    let attach = Attach { initial_delivery_count: Some(0), ..sender("MessageSender1", &format!("/{queue}")) };
    raw.attach(1, 0, attach)?;
    raw.expect("credit", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.handle.is_some()).then_some(())
    })?;
    for id in 0..3_u32 {
        let transfer = Transfer {
            settled: None,
            delivery_tag: Some(Bytes::copy_from_slice(&id.to_le_bytes())),
            batchable: true,
            ..request(0, id)
        };
        raw.transfer(1, &transfer, &text_message(format!("{}", id + 1), Some("s")))?;
    }
    let mut accepted = 0;
    while accepted < 3 {
        raw.expect("accepted", |_, performative, _| match performative {
            Performative::Disposition(disposition) => {
                assert!(disposition.settled && disposition.role == Role::Receiver);
                assert_eq!(disposition.state, Some(DeliveryState::Outcome(Terminal::Accepted)));
                accepted += disposition.last.unwrap_or(disposition.first) - disposition.first + 1;
                Some(())
            }
            _ => None,
        })?;
    }
    Ok(())
}

/// On channel 2: accept next without a target, receive by credit and drain, complete a range.
fn receive_three(raw: &mut RawConnection, queue: &str) -> Outcome {
    raw.begin(2)?;
    let name = "accept;1:2:source(address:/q),filter:[x]";
    let attach = with_next_message_session(receiver(name, &format!("/{queue}")), 59_800);
    let attach = Attach {
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        target: None,
        ..with_filter(attach, "unknown:filter", Value::Null)
    };
    raw.attach(2, 0, attach)?;
    raw.expect("the accepted message session", |_, performative, _| match performative {
        Performative::Attach(attach) => {
            let source = attach.source.as_ref();
            let filter = source.and_then(|source| source.filter.as_ref()?.get(MESSAGE_SESSION_FILTER));
            assert_eq!(filter, Some(&Value::string("s")), "{attach:?}");
            assert_eq!(source.and_then(|s| s.address.clone()), Some(Value::string(&format!("/{queue}"))));
            assert!(attach.target.is_some() && attach.initial_delivery_count.is_some(), "{attach:?}");
            Some(())
        }
        _ => None,
    })?;
    let mut ids = Vec::new();
    // Two by credit, then drain finds the third and says that there are no more.
    raw.credit(2, 0, 0, 2, false)?;
    while ids.len() < 2 {
        ids.push(next_delivery(raw)?);
    }
    raw.credit(2, 0, 2, 5, true)?;
    ids.push(next_delivery(raw)?);
    raw.expect("the answer to drain", |_, performative, _| match performative {
        Performative::Flow(flow) if flow.handle.is_some() => {
            assert_eq!((flow.link_credit, flow.drain, flow.echo), (Some(0), true, false), "{flow:?}");
            assert_eq!(flow.delivery_count, Some(7));
            Some(())
        }
        _ => None,
    })?;
    // An empty drain is answered too.
    raw.credit(2, 0, 7, 0, true)?;
    raw.expect("the answer to an empty drain", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.drain).then_some(())
    })?;
    raw.frame(
        2,
        Performative::Disposition(Disposition {
            role: Role::Receiver,
            first: ids[0],
            last: Some(ids[1]),
            settled: false,
            state: Some(DeliveryState::Outcome(Terminal::Accepted)),
            batchable: true,
        }),
    )?;
    let mut confirmed = 0;
    while confirmed < 2 {
        raw.expect("the confirmation", |_, performative, _| match performative {
            Performative::Disposition(disposition) => {
                assert!(disposition.settled && disposition.role == Role::Sender, "{disposition:?}");
                assert_eq!(disposition.state, Some(DeliveryState::Outcome(Terminal::Accepted)));
                confirmed += disposition.last.unwrap_or(disposition.first) - disposition.first + 1;
                Some(())
            }
            _ => None,
        })?;
    }
    Ok(())
}

/// The id of the next delivery, whose first frame has all that clients read.
fn next_delivery(raw: &mut RawConnection) -> Outcome<u32> {
    raw.expect("a delivery", |_, performative, _| match performative {
        Performative::Transfer(transfer) => {
            assert_eq!(transfer.delivery_tag.as_ref().map(Bytes::len), Some(16));
            assert_eq!(transfer.message_format, Some(0));
            assert_eq!(transfer.settled, Some(false));
            transfer.delivery_id
        }
        _ => None,
    })
}

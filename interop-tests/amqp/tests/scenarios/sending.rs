//! Sends that are refused, and the link afterwards.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_amqp::{
    message::BATCH_MESSAGE_FORMAT,
    types::{DeliveryState, Outcome as Terminal, Transfer},
};
use lockstep_interop_amqp::{ANSWER, Client, Failed, Outcome, Outgoing, sender, text_message};

use crate::suite::{Scenario, scenarios};

scenarios![
    a_refused_pre_settled_send_detaches_the_link,
    an_oversize_message_is_rejected_or_detaches_the_link,
    a_batch_is_stored_whole_or_not_at_all,
    a_message_that_cannot_be_read_is_rejected,
    a_message_in_many_frames_arrives_whole_and_an_aborted_one_never,
];

/// The limit of a queue that sets none, in bytes.
const MESSAGE_BYTES_MAX: usize = 262_144;

/// The condition of a rejected outcome, with its text.
pub(crate) fn rejected(state: &DeliveryState) -> Outcome<(String, String)> {
    match state {
        DeliveryState::Outcome(Terminal::Rejected(Some(error))) => Ok((
            error.condition.as_str().to_owned(),
            error.description.as_deref().unwrap_or_default().to_owned(),
        )),
        other => Err(Failed::new(format!("{other:?} instead of rejected with an error"))),
    }
}

/// Exactly these messages are in the queue, in this order.
fn expect_contents(client: &mut Client, queue: &str, texts: &[&str]) -> Outcome {
    let link = client.receiver(queue, 100)?;
    for &text in texts {
        let delivery = client.receive(link)?;
        assert_eq!(delivery.text(), text);
        client.complete(&delivery)?;
    }
    client.nothing_comes(Duration::from_millis(300))?;
    client.detach(link)
}

fn a_refused_pre_settled_send_detaches_the_link(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    client.start_send(link, 0, true, text_message("good", Some("s")))?;
    client.start_send(link, 0, true, text_message("bad", None))?;
    let (condition, text) = client.expect_forced_detach(link, ANSWER)?;
    assert_eq!(condition, "amqp:not-allowed");
    assert!(text.starts_with("The SessionId was not set on a message"), "{text}");

    // The good one is there, the connection goes on.
    let link = client.sender(queue)?;
    client.send(link, text_message("next", Some("s")))?;
    let link = client.accept(queue, "s", 2)?;
    let texts: Vec<_> = client.receive_many(link, 2)?.iter().map(|d| d.text().to_owned()).collect();
    assert_eq!(texts, ["good", "next"]);
    client.close()
}

fn of_size(bytes: usize) -> Bytes {
    let overhead =
        Outgoing { body: Bytes::from(vec![0; 1_000]), ..Outgoing::default() }.encode().len() - 1_000;
    Outgoing { body: Bytes::from(vec![b'x'; bytes - overhead]), ..Outgoing::default() }.encode()
}

fn an_oversize_message_is_rejected_or_detaches_the_link(s: &Scenario) -> Outcome {
    const TOO_LARGE: &str = "amqp:link:message-size-exceeded";
    let queue = s.queue();
    let mut client = s.connect()?;
    let (link, answer) = client.attach(sender("large", queue))?;
    assert_eq!(answer.max_message_size, Some(MESSAGE_BYTES_MAX as u64));

    // The largest one passes; one byte more is complete when it is seen, so the link stays.
    let largest = of_size(MESSAGE_BYTES_MAX);
    assert_eq!(largest.len(), MESSAGE_BYTES_MAX);
    client.send(link, largest)?;
    let refused = client.try_send(link, of_size(MESSAGE_BYTES_MAX + 1))?;
    assert_eq!(rejected(&refused)?.0, TOO_LARGE);
    client.send(link, text_message("small", None))?;

    // One that goes on growing is rejected, and its link ends.
    let sent = client.start_send(link, 0, false, of_size(8 * MESSAGE_BYTES_MAX))?;
    let outcome = client.outcome(sent)?;
    assert_eq!(rejected(&outcome)?.0, TOO_LARGE);
    assert_eq!(client.expect_forced_detach(link, ANSWER)?.0, TOO_LARGE);

    // A pre-settled one has no outcome.
    for size in [MESSAGE_BYTES_MAX + 1, 4 * MESSAGE_BYTES_MAX] {
        let link = client.sender(queue)?;
        client.start_send(link, 0, true, of_size(size))?;
        assert_eq!(client.expect_forced_detach(link, ANSWER)?.0, TOO_LARGE, "{size} bytes");
    }
    let link = client.sender(queue)?;
    client.send(link, text_message("last", None))?;
    let receiver = client.receiver(queue, 10)?;
    let sizes: Vec<_> = client.receive_many(receiver, 3)?.iter().map(|d| d.message.body.len()).collect();
    assert_eq!(sizes[1..], [5, 4]);
    assert!(sizes[0] > MESSAGE_BYTES_MAX - 100);
    client.nothing_comes(Duration::from_millis(200))?;
    client.close()
}

fn a_batch_is_stored_whole_or_not_at_all(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    let good = |text: &str| text_message(text, None);
    let accepted = DeliveryState::Outcome(Terminal::Accepted);
    assert_eq!(client.try_send_batch(link, &[good("1"), good("2"), good("3")])?, accepted);
    assert_eq!(client.try_send_batch(link, &[good("4")])?, accepted);

    let mut out_of_order = BytesMut::new();
    out_of_order.put_slice(&[0x00, 0x53, 0x75, 0xa0, 1, b'x', 0x00, 0x53, 0x70, 0x45]);
    let long_id = text_message("long id", Some(&"i".repeat(129)));
    for bad in [out_of_order.freeze(), long_id, Bytes::from_static(b"no message")] {
        let refused = client.try_send_batch(link, &[good("lost"), bad, good("lost too")])?;
        rejected(&refused)?;
    }
    // No member, a member that is too much, and a body that is no batch.
    let half = of_size(MESSAGE_BYTES_MAX / 2);
    let refused = client.try_send_batch(link, &[half.clone(), half])?;
    assert_eq!(rejected(&refused)?.0, "amqp:link:message-size-exceeded");
    for nothing in [Bytes::new(), Bytes::from_static(&[0x00, 0x53, 0x77, 0x40])] {
        let delivery = client.start_send(link, BATCH_MESSAGE_FORMAT, false, nothing)?;
        let refused = client.outcome(delivery)?;
        rejected(&refused)?;
    }
    assert_eq!(client.try_send_batch(link, &[good("5")])?, accepted);
    expect_contents(&mut client, queue, &["1", "2", "3", "4", "5"])?;

    // Thousands of tiny ones: what the broker adds to each does not count.
    let tiny: Vec<_> = (0..4_400).map(|_| good(&"tiny".repeat(8))).collect();
    assert_eq!(client.try_send_batch(link, &tiny)?, accepted);
    let receiver = client.receiver(queue, 4_400)?;
    let numbers = client
        .receive_many(receiver, 4_400)?
        .iter()
        .map(|delivery| delivery.message.sequence_number())
        .collect::<Outcome<Vec<_>>>()?;
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    client.close()
}

fn a_message_that_cannot_be_read_is_rejected(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let link = client.sender(queue)?;
    let nested = {
        let mut value = vec![0x45];
        for _ in 0..3_000 {
            let size = u32::try_from(value.len() + 4).unwrap_or(u32::MAX);
            let mut outer = vec![0xd0];
            outer.extend_from_slice(&size.to_be_bytes());
            outer.extend_from_slice(&1_u32.to_be_bytes());
            outer.extend_from_slice(&value);
            value = outer;
        }
        [&[0x00, 0x53, 0x77][..], &value[..]].concat()
    };
    let bad: [(&str, Vec<u8>); 8] = [
        ("no section", b"hello".to_vec()),
        ("a cut-off value", vec![0x00, 0x53, 0x75, 0xa0, 9, b'x']),
        ("sections out of order", vec![0x00, 0x53, 0x75, 0xa0, 1, b'x', 0x00, 0x53, 0x73, 0x45]),
        ("a section twice", vec![0x00, 0x53, 0x73, 0x45, 0x00, 0x53, 0x73, 0x45]),
        ("an unknown section", vec![0x00, 0x53, 0x60, 0x45]),
        ("two kinds of body", vec![0x00, 0x53, 0x75, 0xa0, 1, b'x', 0x00, 0x53, 0x77, 0x40]),
        // properties with an int as group-id, its eleventh field
        ("a group-id that is no string", {
            let mut section = vec![0x00, 0x53, 0x73, 0xc0, 13, 11];
            section.extend_from_slice(&[0x40; 10]);
            section.extend_from_slice(&[0x54, 1]);
            section
        }),
        ("deep nesting", nested),
    ];
    for (what, bytes) in bad {
        let state =
            client.try_send(link, Bytes::from(bytes)).map_err(|e| Failed::new(format!("{what}: {e}")))?;
        if what == "deep nesting" && state == DeliveryState::Outcome(Terminal::Accepted) {
            // A body is not looked into; it has to come back as it went.
            let receiver = client.receiver(queue, 1)?;
            let delivery = client.receive(receiver);
            assert!(delivery.is_err(), "this end cannot read it");
            client.detach(receiver)?;
            continue;
        }
        let (condition, text) = rejected(&state).map_err(|e| Failed::new(format!("{what}: {e}")))?;
        assert!(
            ["amqp:decode-error", "amqp:invalid-field", "com.microsoft:argument-error"]
                .contains(&condition.as_str()),
            "{what}: {condition}"
        );
        assert!(!text.is_empty(), "{what}");
    }
    client.send(link, text_message("good", None))?;
    client.close()
}

fn a_message_in_many_frames_arrives_whole_and_an_aborted_one_never(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    raw.attach(0, 0, lockstep_amqp::types::Attach { initial_delivery_count: Some(0), ..sender("s", queue) })?;
    raw.expect("credit", |_, performative, _| {
        matches!(performative, lockstep_amqp::types::Performative::Flow(flow) if flow.handle.is_some())
            .then_some(())
    })?;
    let first = |id: u32, more| Transfer {
        delivery_id: Some(id),
        delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        message_format: Some(0),
        more,
        ..Transfer::default()
    };
    let next = |more, aborted| Transfer { more, aborted, ..Transfer::default() };

    // Begun, continued, and dropped; then one in frames of ten bytes.
    let message = text_message("x".repeat(1_000), None);
    raw.transfer(0, &first(0, true), &message[..10])?;
    raw.transfer(0, &next(true, false), &message[10..20])?;
    raw.transfer(0, &next(false, true), &[])?;
    raw.transfer(0, &first(1, true), &message[..10])?;
    let rest: Vec<&[u8]> = message[10..].chunks(10).collect();
    for (number, part) in rest.iter().enumerate() {
        raw.transfer(0, &next(number + 1 < rest.len(), false), part)?;
    }
    let state = raw.expect("the outcome", |_, performative, _| match performative {
        lockstep_amqp::types::Performative::Disposition(disposition) => {
            Some((disposition.first, disposition.last, disposition.settled, disposition.state.clone()))
        }
        _ => None,
    })?;
    assert_eq!(state, (1, Some(1), true, Some(DeliveryState::Outcome(Terminal::Accepted))));
    let mut client = s.connect()?;
    expect_contents(&mut client, queue, &[&"x".repeat(1_000)])
}

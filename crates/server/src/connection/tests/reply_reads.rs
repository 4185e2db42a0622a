//! Replies whose messages are in the store only.

use lockstep_amqp::{
    OutgoingDelivery,
    message::{Properties, encode_value_message},
};

use super::*;

const MESSAGE_BYTES: usize = 900 * 1024;
const PEEKS: u32 = 10;

fn transfer(rest: Bytes) -> OutgoingDelivery {
    OutgoingDelivery {
        tag: Bytes::from_static(b"tag"),
        message_format: 0,
        settled: false,
        prefix: Bytes::new(),
        rest,
    }
}

fn peek() -> Bytes {
    let properties = Properties { reply_to: Some(Value::string("answers")), ..Properties::default() };
    let operation = [("operation".into(), Value::string("com.microsoft:peek-message"))];
    let body = Value::Map(vec![
        (Value::string("from-sequence-number"), Value::Long(1)),
        (Value::string("message-count"), Value::Int(1)),
    ]);
    encode_value_message(Some(&properties), &operation, &body)
}

#[test]
fn many_peeks_of_cold_messages_hold_a_few_of_them_at_a_time() {
    // Nothing is kept in memory.
    let world =
        World::with(&BrokerConfig { body_cache_bytes: 0, ..BrokerConfig::default() }, IdleRules::default());
    let mut peer = world.connect("PLAIN", ROOT);
    let link = peer.attach(attach(Role::Sender, "orders")).expect("granted");
    peer.until("credit", |event| matches!(event, Event::Credit { .. }).then_some(()));
    let properties = Properties { group_id: Some("s".into()), ..Properties::default() };
    let body = Value::Binary(vec![7; MESSAGE_BYTES].into());
    let message = encode_value_message(Some(&properties), &[], &body);
    peer.client.send(link, transfer(message)).expect("credit");
    peer.until("an outcome", |event| matches!(event, Event::Disposed { .. }).then_some(()));
    // When the core has answered again it has let go of what was durable before.
    peer.attach(Attach { name: "another".into(), ..accept("another") }).expect("granted");

    let mut answers = attach(Role::Receiver, "orders/$management");
    answers.name = "answers".into();
    answers.target =
        Some(TargetTerminus::Target(Target { address: Some(Value::string("answers")), ..Target::default() }));
    let from = peer.attach(answers).expect("granted");
    peer.client.set_credit(from, PEEKS);
    let to = Attach { name: "asks".into(), ..attach(Role::Sender, "orders/$management") };
    let to = peer.attach(to).expect("granted");
    peer.until("credit", |event| matches!(event, Event::Credit { link, .. } if *link == to).then_some(()));
    for _ in 0..PEEKS {
        peer.client.send(to, transfer(peek())).expect("credit");
    }
    let (mut answered, mut most, mut waited) = (0, 0, false);
    for _ in 0..TURNS_MAX {
        peer.carry();
        most = most.max(peer.server.reply_reads.held_bytes());
        waited |= peer.server.replies_waiting() > 0;
        while let Some(event) = peer.events.pop_front() {
            if let Event::Delivery { payload, .. } = event {
                assert!(payload.len() > MESSAGE_BYTES);
                answered += 1;
            }
        }
        if answered == PEEKS {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(answered, PEEKS);
    assert!(waited && most > MESSAGE_BYTES && most <= 2 * 1024 * 1024, "{most}");
    assert_eq!((peer.server.reply_reads.held_bytes(), peer.server.replies_waiting()), (0, 0));
}

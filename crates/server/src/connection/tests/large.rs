//! Messages that travel in parts.

use lockstep_amqp::{
    DeliveryRef, OutgoingDelivery,
    types::{DeliveryState, Outcome},
};

use super::*;

const MIB: usize = 1024 * 1024;

/// A message of the message session "s" with one data section, whose bytes tell their place.
fn large(body_bytes: usize) -> Bytes {
    let mut message = vec![0x00, 0x53, 0x73, 0xc0, 14, 11];
    message.extend([0x40; 10]);
    message.extend([0xa1, 1, b's', 0x00, 0x53, 0x75, 0xb0]);
    message.extend((body_bytes as u32).to_be_bytes());
    message.extend((0..body_bytes).map(|at| (at / 5) as u8));
    message.into()
}

fn body(message: &Bytes, body_bytes: usize) -> Bytes {
    message.slice(message.len() - body_bytes..)
}

impl Peer<'_> {
    fn credit(&mut self, link: LinkId) {
        self.until("credit", |event| match event {
            Event::Credit { link: on, credit: 1.., .. } if *on == link => Some(()),
            _ => None,
        });
    }

    fn deliver(&mut self, link: LinkId, message: Bytes) -> DeliveryRef {
        let delivery = OutgoingDelivery {
            tag: Bytes::from_static(b"tag"),
            message_format: 0,
            settled: false,
            prefix: Bytes::new(),
            rest: message,
        };
        self.client.send(link, delivery).expect("credit")
    }

    fn outcome(&mut self, of: DeliveryRef) -> DeliveryState {
        self.until("an outcome", |event| match event {
            Event::Disposed { deliveries, state: Some(state), .. } if deliveries.contains(&of) => {
                Some(state.clone())
            }
            _ => None,
        })
    }

    fn message(&mut self) -> (DeliveryRef, Bytes) {
        self.until("a message", |event| match event {
            Event::Delivery { delivery, payload, .. } => Some((*delivery, payload.clone())),
            _ => None,
        })
    }
}

#[test]
fn a_large_message_is_taken_and_given_in_parts() {
    let world = World::new();
    let mut sender = world.connect("PLAIN", ROOT);
    let link = sender.attach(attach(Role::Sender, "orders")).expect("granted");
    sender.credit(link);
    // A row that is full, one byte less, and rows that are not.
    for size in [3 * MIB - 48, 3 * MIB - 47, 2 * MIB + MIB / 3] {
        let sent = sender.deliver(link, large(size));
        assert_eq!(sender.outcome(sent), DeliveryState::Outcome(Outcome::Accepted));
    }
    assert_eq!(world.context.unstored_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);

    let mut receiver = world.connect("PLAIN", ROOT);
    let link = receiver.attach(accept("s")).expect("granted");
    receiver.client.set_credit(link, 3);
    for size in [3 * MIB - 48, 3 * MIB - 47, 2 * MIB + MIB / 3] {
        let (delivery, payload) = receiver.message();
        assert!(body(&payload, size) == body(&large(size), size), "{size}");
        receiver.client.settle(&[delivery], &DeliveryState::Outcome(Outcome::Accepted), false);
        assert_eq!(receiver.outcome(delivery), DeliveryState::Outcome(Outcome::Accepted));
    }
}

#[test]
fn a_large_message_is_refused_for_its_first_part_and_its_link_goes_on() {
    let world = World::new();
    let mut sender = world.connect("PLAIN", ROOT);
    let link = sender.attach(attach(Role::Sender, "orders")).expect("granted");
    sender.credit(link);
    // Without a session id: the sections before the body are left out.
    let refused = sender.deliver(link, large(3 * MIB).slice(19..));
    let DeliveryState::Outcome(Outcome::Rejected(Some(error))) = sender.outcome(refused) else {
        panic!("taken")
    };
    assert_eq!(error.condition.as_str(), "amqp:not-allowed");
    let sent = sender.deliver(link, large(2 * MIB));
    assert_eq!(sender.outcome(sent), DeliveryState::Outcome(Outcome::Accepted));
}

#[test]
fn a_large_message_is_cut_off_with_its_link_and_given_again() {
    let world = World::new();
    let mut sender = world.connect("PLAIN", ROOT);
    let link = sender.attach(attach(Role::Sender, "orders")).expect("granted");
    sender.credit(link);
    let sent = sender.deliver(link, large(8 * MIB));
    sender.outcome(sent);

    let mut receiver = world.connect("PLAIN", ROOT);
    let link = receiver.attach(accept("s")).expect("granted");
    receiver.client.set_credit(link, 1);
    // The first frames are there, the rest is not read yet.
    let begun = |binding: &LinkBinding| matches!(binding, LinkBinding::Receiver(r) if r.stream.is_some());
    while !receiver.server.links.values().any(begun) {
        receiver.carry();
    }
    receiver.carry();
    receiver.client.detach(link, None);
    receiver.until("the detach", |event| matches!(event, Event::Detached { .. }).then_some(()));
    let link = receiver.attach(Attach { name: "again".into(), ..accept("s") }).expect("granted");
    receiver.client.set_credit(link, 1);
    let (_, payload) = receiver.message();
    assert!(body(&payload, 8 * MIB) == body(&large(8 * MIB), 8 * MIB));
}

//! Messages that travel in parts.

use lockstep_amqp::{
    DeliveryRef, OutgoingDelivery,
    types::{DeliveryState, Outcome, SenderSettleMode},
};
use lockstep_protocol::message_mapping;

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

    /// Lets the server begin to send a large message on each of these AMQP sessions, and takes no
    /// more of them than their windows let through.
    fn begin_and_hold(&mut self, sessions: &[AmqpSessionId]) {
        let sent = self.client.transmit().to_vec();
        self.client.transmitted(sent.len());
        self.server.engine.receive_buffer().extend_from_slice(&sent);
        self.server.process(self.world.clock.now());
        for &session in sessions {
            // The server hears of it later.
            self.client.hold_incoming_window(session, true);
        }
        for _ in 0..TURNS_MAX {
            let mut items = Vec::new();
            if let Some(broker) = self.server.broker() {
                broker.try_receive(&mut items);
            }
            self.server.received(&mut items, self.world.clock.now());
            self.server.settle_turn();
            let sent = self.server.engine.transmit().to_vec();
            self.server.engine.transmitted(sent.len());
            self.client.receive_buffer().extend_from_slice(&sent);
            self.client.process(self.world.now());
            let begun = self.server.links.values().filter(|binding| match binding {
                LinkBinding::Receiver(receiver) => {
                    receiver.stream.as_ref().is_some_and(|stream| stream.delivery().is_some())
                }
                _ => false,
            });
            if begun.count() == sessions.len() {
                return;
            }
            std::thread::yield_now();
        }
        panic!("waiting for large messages to begin");
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

/// A receiver of the message session "s" that lets the broker settle what it sends.
fn receive_and_delete(name: &str) -> Attach {
    Attach { name: name.into(), snd_settle_mode: Some(SenderSettleMode::Settled), ..accept("s") }
}

impl Peer<'_> {
    fn store(&mut self, message: Bytes) {
        let link = self.attach(attach(Role::Sender, "orders")).expect("granted");
        self.credit(link);
        let sent = self.deliver(link, message);
        assert_eq!(self.outcome(sent), DeliveryState::Outcome(Outcome::Accepted));
    }

    /// Lets a large message begin, of which most is not read yet; the link of the broker's side.
    fn begin_large(&mut self, attach: Attach) -> LinkId {
        let link = self.attach(attach).expect("granted");
        self.client.set_credit(link, 1);
        for _ in 0..TURNS_MAX {
            self.carry();
            let begun = self.server.links.iter().find(|(_, binding)| {
                matches!(binding, LinkBinding::Receiver(r)
                    if r.stream.as_ref().is_some_and(|stream| stream.delivery().is_some()))
            });
            if let Some((&link, _)) = begun {
                return link;
            }
            std::thread::yield_now();
        }
        panic!("nothing began");
    }

    fn takes_whole(&mut self, body_bytes: usize) {
        let link = self.attach(receive_and_delete("another")).expect("granted");
        self.client.set_credit(link, 1);
        let (_, payload) = self.message();
        assert!(body(&payload, body_bytes) == body(&large(body_bytes), body_bytes));
    }
}

#[test]
fn a_large_message_that_the_broker_cuts_off_is_not_deleted() {
    let world = World::new();
    let mut receiver = world.connect("PLAIN", ROOT);
    receiver.store(large(8 * MIB));
    let link = receiver.begin_large(receive_and_delete("one"));
    receiver.server.end_receiver(link, &Refusal::Unreadable);
    receiver.until("the detach", |event| matches!(event, Event::Detached { .. }).then_some(()));
    receiver.takes_whole(8 * MIB);
}

#[test]
fn a_large_message_that_a_stop_cuts_off_is_not_deleted() {
    let world = World::new();
    let mut receiver = world.connect("PLAIN", ROOT);
    receiver.store(large(8 * MIB));
    receiver.begin_large(receive_and_delete("one"));
    receiver.server.shut_down();
    world.connect("PLAIN", ROOT).takes_whole(8 * MIB);
}

/// A message of so many bytes of the message session "s", without a message-id, with annotations of
/// more than a row.
fn with_much_before_the_body(bytes: usize) -> Bytes {
    let properties = large(0).slice(..19);
    let body = [0x00, 0x53, 0x75, 0xa0, 1, 7];
    let value = bytes - properties.len() - body.len() - 20;
    // Properties have a limit of their own; delivery-annotations have none.
    let mut message = vec![0x00, 0x53, 0x71, 0xd1];
    message.extend((value as u32 + 12).to_be_bytes());
    message.extend([0, 0, 0, 2, 0xa3, 1, b'k', 0xb1]);
    message.extend((value as u32).to_be_bytes());
    message.resize(message.len() + value, b'v');
    message.extend(properties);
    message.extend(body);
    assert_eq!(message.len(), bytes);
    message.into()
}

#[test]
fn whatever_is_taken_at_the_border_of_large_messages_can_be_given() {
    const LARGE: usize = lockstep_model::limits::LARGE_MESSAGE_SIZE_BYTES;
    let world = World::new();
    let mut sender = world.connect("PLAIN", ROOT);
    let link = sender.attach(attach(Role::Sender, "orders")).expect("granted");
    sender.credit(link);
    let mut receiver = world.connect("PLAIN", ROOT);
    let from = receiver.attach(receive_and_delete("one")).expect("granted");
    receiver.client.set_credit(from, 100);
    let mut taken = Vec::new();
    for less in [0, 1, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 62, 63, 64, 65] {
        let sent = sender.deliver(link, with_much_before_the_body(LARGE - less));
        if sender.outcome(sent) == DeliveryState::Outcome(Outcome::Accepted) {
            let (_, payload) = receiver.message();
            assert_eq!(payload[payload.len() - 6..], [0x00, 0x53, 0x75, 0xa0, 1, 7], "{less}");
            taken.push(less);
        }
    }
    assert_eq!(taken, [64, 65]);
}

/// As versions before that border was drawn have stored it.
#[test]
fn a_large_message_without_its_whole_head_in_the_first_row_is_given() {
    const LARGE: usize = lockstep_model::limits::LARGE_MESSAGE_SIZE_BYTES;
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    let link = peer.attach(attach(Role::Sender, "orders")).expect("granted");
    peer.credit(link);
    let entity = peer.server.links.values().find_map(|binding| match binding {
        LinkBinding::Sender(sender) => Some(sender.entity.id),
        _ => None,
    });
    let encoded = with_much_before_the_body(LARGE + 1);
    let context = message_mapping::IncomingContext {
        duplicates: message_mapping::DuplicateDetection::Off,
        now: lockstep_model::Timestamp::from_unix_millis(0),
    };
    let messages = message_mapping::incoming(encoded, 0, context, &mut || [1; 16]).expect("a message");
    let (entity, connection) = (entity.expect("a sender"), peer.server.broker_id());
    let enqueue = lockstep_broker::core::Enqueue { entity, messages, connection, request: None };
    peer.server.commands.push_back(Command::Enqueue(enqueue));
    peer.server.settle_turn();
    let from = peer.attach(receive_and_delete("one")).expect("granted");
    peer.client.set_credit(from, 1);
    let (_, payload) = peer.message();
    assert_eq!(payload[payload.len() - 6..], [0x00, 0x53, 0x75, 0xa0, 1, 7]);
}

#[test]
fn links_that_went_while_they_waited_for_their_turn_hold_up_nobody() {
    let world = World::new();
    let mut peer = world.connect("PLAIN", ROOT);
    let links: Vec<LinkId> = ["a", "b", "c", "d", "e"]
        .map(|id| {
            let mut message = large(4 * MIB).to_vec();
            message[18] = id.as_bytes()[0];
            let sender = peer.attach(Attach { name: id.into(), ..attach(Role::Sender, "orders") });
            let sender = sender.expect("granted");
            peer.credit(sender);
            let sent = peer.deliver(sender, message.into());
            peer.outcome(sent);
            peer.attach(Attach { name: id.into(), ..accept(id) }).expect("granted")
        })
        .into();
    links.iter().for_each(|&link| {
        peer.client.set_credit(link, 1);
    });
    for _ in 0..TURNS_MAX {
        if peer.server.streams_waiting() == 3 {
            break;
        }
        peer.carry();
        std::thread::yield_now();
    }
    // Those that wait are the last of the links that came.
    for &link in &links[2..4] {
        peer.client.detach(link, None);
    }
    let mut got = [peer.message().0.link, peer.message().0.link, peer.message().0.link];
    got.sort_unstable();
    assert_eq!(got, [links[0], links[1], links[4]]);
    assert_eq!(peer.server.streams_waiting(), 0);
}

#[test]
fn large_messages_whose_windows_are_shut_leave_their_places_and_go_on_later() {
    let world = World::new();
    let mut sender = world.connect("PLAIN", ROOT);
    let ids = ["a", "b", "c"];
    let messages = ids.map(|id| {
        let mut message = large(4 * MIB).to_vec();
        message[18] = id.as_bytes()[0];
        let message = Bytes::from(message);
        let to = sender.attach(Attach { name: id.into(), ..attach(Role::Sender, "orders") });
        let to = to.expect("granted");
        sender.credit(to);
        let sent = sender.deliver(to, message.clone());
        assert_eq!(sender.outcome(sent), DeliveryState::Outcome(Outcome::Accepted));
        message
    });
    // Windows of a few frames: the messages cannot be in the engine as a whole.
    let config = amqp::Config { incoming_window: 4, ..amqp::Config::default() };
    let mut peer = world.connect_with("PLAIN", ROOT, config);
    let links = ids.map(|id| {
        let session = peer.begin();
        let link = peer.client.attach(session, Attach { name: id.into(), ..accept(id) }).expect("begun");
        peer.until("attach", |event| matches!(event, Event::AttachAnswered { .. }).then_some(()));
        (session, link)
    });
    for (_, link) in &links[..2] {
        peer.client.set_credit(*link, 1);
    }
    peer.begin_and_hold(&[links[0].0, links[1].0]);
    peer.client.set_credit(links[2].1, 1);
    let (third, payload) = peer.message();
    assert_eq!(third.link, links[2].1);
    assert!(body(&payload, 4 * MIB) == body(&messages[2], 4 * MIB));
    for (session, link) in &links[..2] {
        peer.client.hold_incoming_window(*session, false);
        let (got, payload) = peer.message();
        assert_eq!(got.link, *link);
        assert!(body(&payload, 4 * MIB) == body(&messages[0], 4 * MIB));
    }
    assert_eq!(peer.server.streams_waiting(), 0);
}

#[test]
fn the_sender_of_a_large_message_is_told_why_a_row_of_it_was_refused() {
    let world = World::new();
    let mut sender = world.connect("PLAIN", ROOT);
    let link = sender.attach(attach(Role::Sender, "orders")).expect("granted");
    sender.credit(link);
    let sent = sender.deliver(link, large(2 * MIB + 100));
    let mut replies = Vec::new();
    while replies.len() < 3 {
        let bytes = sender.client.transmit().to_vec();
        sender.client.transmitted(bytes.len());
        sender.server.engine.receive_buffer().extend_from_slice(&bytes);
        sender.server.process(world.clock.now());
        sender.server.drain_all_events();
        // The broker sees none of them.
        sender.server.command_bytes = 0;
        for command in std::mem::take(&mut sender.server.commands) {
            let max_bytes = 1;
            let too_large = Refusal::TooLarge { limit: lockstep_model::SizeLimit::Message, max_bytes };
            replies.push(match command {
                Command::StorePart { request, part: 0, .. } => (request, too_large),
                Command::StorePart { request, .. } => (request, Refusal::ServerBusy),
                Command::EnqueueParts(end) => (end.request, Refusal::ServerBusy),
                other => panic!("{other:?}"),
            });
        }
    }
    for (request, refusal) in replies {
        sender.server.effect(Effect::Reply { request, reply: Reply::Refused(refusal) });
    }
    let DeliveryState::Outcome(Outcome::Rejected(Some(error))) = sender.outcome(sent) else {
        panic!("taken")
    };
    assert_eq!(error.condition.as_str(), "amqp:link:message-size-exceeded");
}

//! Random damage to a recorded conversation: never a panic, never silence about the end.

use super::support::*;
use crate::{
    Event,
    types::{Flow, Performative, Role, Transfer},
};

/// A small generator (xorshift), so that every run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn conversation() -> Vec<u8> {
    let mut script = Script::default()
        .header(AMQP)
        .open()
        .begin(0)
        .begin(1)
        .attach(0, attach(Role::Sender, "s", 0))
        .attach(0, attach(Role::Receiver, "r", 1))
        .attach(1, attach(Role::Receiver, "r2", 0))
        .flow(0, link_flow(1, 0, 10))
        .flow(0, Flow { echo: true, drain: true, ..link_flow(1, 0, 10) });
    for id in 0..4 {
        script = script.transfer(0, Transfer { more: true, ..transfer(0, id) }, b"hello ").transfer(
            0,
            Transfer { handle: 0, ..Transfer::default() },
            b"world",
        );
    }
    script
        .frame(0, disposition(Role::Receiver, 0, 3, false))
        .frame(0, disposition(Role::Sender, 0, 3, true))
        .frame(0, detach(0))
        .attach(0, attach(Role::Sender, "s", 0))
        .frame(0, detach(1))
        .frame(1, end())
        .begin(1)
        .frame(0, close())
        .0
        .to_vec()
}

/// Answers every event in some way.
fn answer(server: &mut Server, random: &mut Random) -> bool {
    let mut closed = false;
    for event in server.events() {
        assert!(!closed, "nothing follows Closed: {event:?}");
        match event {
            Event::Opened(_) => server.engine.open(None),
            Event::Attach { link, .. } => match random.below(4) {
                0 => server.engine.refuse(link, crate::types::Error::new("amqp:not-found", "no")),
                1 => {}
                _ => {
                    server.engine.accept(link, reply());
                    server.engine.set_credit_auto(link, 10);
                }
            },
            Event::Credit { link, credit, drain } => {
                for _ in 0..credit.min(5) {
                    let _ = server.engine.send(link, message(&[0; 3_000]));
                }
                if drain {
                    server.engine.drained(link);
                }
            }
            Event::Delivery { delivery, .. } => server.engine.settle(&[delivery], &accepted(), true),
            Event::Disposed { deliveries, .. } => server.engine.settle(&deliveries, &accepted(), true),
            Event::Detached { link, answered: false, .. } => server.engine.detach(link, None),
            Event::Closed(_) => closed = true,
            _ => {}
        }
    }
    closed
}

fn run(bytes: &[u8], random: &mut Random) {
    let mut server = Server::new(config());
    let mut rest = bytes;
    let mut closed = false;
    while !rest.is_empty() && !closed {
        let count = (random.below(200) + 1).min(rest.len());
        let (piece, after) = rest.split_at(count);
        rest = after;
        server.receive_bytes(piece);
        // Commands bring new events (open lets go what came ahead), so once more.
        for _ in 0..3 {
            closed |= answer(&mut server, random);
        }
        server.written();
    }
    server.engine.transport_closed(server.now);
    closed |= answer(&mut server, random);
    assert!(closed, "the end is always reported");
    assert!(server.written().len() < 1 << 20);
    assert_eq!(server.engine.reassembly_bytes, 0);
    assert_eq!(server.engine.queued_bytes, 0);
}

#[test]
fn the_conversation_itself_ends_in_order() {
    let mut random = Random(7);
    run(&conversation(), &mut random);
}

#[test]
fn damaged_bytes_never_panic() {
    let original = conversation();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..=random.below(6) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => {
                    bytes.truncate(at.max(1));
                }
                _ => bytes.insert(at, random.next() as u8),
            }
        }
        run(&bytes, &mut random);
    }
}

#[test]
fn frames_in_any_order_never_panic() {
    let frames: Vec<Performative> = vec![
        Performative::Begin(Box::new(begin())),
        Performative::Attach(Box::new(attach(Role::Sender, "a", 0))),
        Performative::Attach(Box::new(attach(Role::Receiver, "a", 1))),
        Performative::Attach(Box::new(attach(Role::Receiver, "b", 0))),
        Performative::Flow(link_flow(0, 0, 3)),
        Performative::Flow(Flow { incoming_window: 1, drain: true, echo: true, ..link_flow(1, u32::MAX, 3) }),
        Performative::Flow(Flow { handle: None, next_incoming_id: None, ..link_flow(0, 0, 0) }),
        Performative::Transfer(transfer(0, 0)),
        Performative::Transfer(transfer(1, u32::MAX)),
        Performative::Transfer(Transfer { more: true, ..transfer(0, 1) }),
        Performative::Transfer(Transfer { aborted: true, ..transfer(0, 1) }),
        Performative::Transfer(Transfer { settled: Some(true), ..transfer(0, 2) }),
        disposition(Role::Receiver, 0, u32::MAX - 1, true),
        disposition(Role::Receiver, u32::MAX, 5, false),
        disposition(Role::Sender, 0, 100, true),
        detach(0),
        detach(1),
        end(),
    ];
    let mut random = Random(42);
    for _ in 0..5_000 {
        let mut script = Script::default().header(AMQP).open().begin(0).begin(1);
        for _ in 0..random.below(40) {
            let frame = frames[random.below(frames.len())].clone();
            script = script.frame(random.below(2) as u16, frame);
        }
        run(&script.0, &mut random);
    }
}

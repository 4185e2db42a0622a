//! A conversation cut, repeated and multiplied: what holds at every byte of it.

use super::support::*;
use crate::{
    CloseReason, Event, LinkId, SaslCode,
    types::{Flow, Performative, Role, Transfer},
};

/// From the first header to two links. SASL is left out, since it waits for the driver.
fn beginning() -> Script {
    Script::default()
        .header(AMQP)
        .open()
        .begin(0)
        .attach(0, attach(Role::Sender, "s", 0))
        .attach(0, attach(Role::Receiver, "r", 1))
}

/// And on to close.
fn conversation() -> Vec<u8> {
    beginning()
        .flow(0, link_flow(1, 0, 2))
        .transfer(0, Transfer { more: true, ..transfer(0, 0) }, b"hello ")
        .transfer(0, Transfer { handle: 0, ..Transfer::default() }, b"world")
        .frame(0, end())
        .frame(0, close())
        .0
        .to_vec()
}

/// Answers what has to be answered; gives the events.
fn serve(server: &mut Server) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let events = server.events();
        if events.is_empty() {
            return all;
        }
        for event in &events {
            match event {
                Event::SaslInit { .. } => server.engine.sasl_outcome(SaslCode::Ok),
                Event::Opened(_) => server.engine.open(None),
                Event::Attach { link, .. } => server.engine.accept(*link, reply()),
                Event::Detached { link, answered: false, .. } => server.engine.detach(*link, None),
                _ => {}
            }
        }
        all.extend(events);
    }
}

#[test]
fn cut_in_two_at_every_byte_it_means_the_same() {
    let bytes = conversation();
    // The driver answers the attaches before the rest is there; what comes ahead of that is
    // another subject.
    let attached = beginning().0.len();
    let run = |cut: usize| {
        let mut server = Server::new(config());
        let mut events = Vec::new();
        let (first, second) = (cut.min(attached), cut.max(attached));
        for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
            server.receive_bytes(part);
            events.extend(serve(&mut server));
        }
        (events, names(&server.performatives()))
    };
    let expected = run(attached);
    assert!(expected.0.iter().any(|event| matches!(event, Event::Delivery { .. })));
    assert!(matches!(expected.0.last(), Some(Event::Closed(CloseReason::Remote(None)))));
    for cut in 1..bytes.len() {
        assert_eq!(run(cut), expected, "cut at {cut}");
    }
}

#[test]
fn a_transport_that_ends_at_any_byte_is_reported_once() {
    let bytes = conversation();
    for at in 0..bytes.len() {
        let mut server = Server::new(config());
        server.receive_bytes(&bytes[..at]);
        let mut events = serve(&mut server);
        server.engine.transport_closed(server.now);
        events.extend(serve(&mut server));
        server.engine.transport_closed(server.now);
        events.extend(serve(&mut server));
        let ends = events.iter().filter(|event| matches!(event, Event::Closed(_))).count();
        assert_eq!(ends, 1, "cut at {at}");
        assert!(matches!(events.last(), Some(Event::Closed(CloseReason::Lost))), "cut at {at}: {events:?}");
        assert_eq!(server.engine.next_timeout(), None, "cut at {at}");
        assert_eq!((server.engine.reassembly_bytes, server.engine.queued_bytes), (0, 0), "cut at {at}");
    }
}

/// A transport that ends on its own is an end without a word; every other end has one.
#[test]
fn garbage_in_place_of_any_frame_is_answered_with_close() {
    let frames = conversation();
    let mut starts = vec![8];
    while let Some(size) = frames.get(starts[starts.len() - 1]..).and_then(<[u8]>::first_chunk::<4>) {
        let next = starts[starts.len() - 1] + u32::from_be_bytes(*size) as usize;
        starts.push(next);
    }
    starts.pop();
    assert_eq!(starts.len(), 9);
    for garbage in
        [&[0; 8][..], &[0xff; 16], b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x0c\x02\0\0\0\0\x53\x7f\x45"]
    {
        for &start in &starts {
            let mut server = Server::new(config());
            server.receive_bytes(&frames[..start]);
            serve(&mut server);
            server.receive_bytes(garbage);
            let events = serve(&mut server);
            let closed = matches!(events.last(), Some(Event::Closed(CloseReason::Local(Some(_)))));
            assert!(closed, "{garbage:?} at {start}: {events:?}");
            let performatives = server.performatives();
            assert_eq!(names(&performatives).last(), Some(&"close"), "{garbage:?} at {start}");
            assert!(last_condition(&performatives).is_some(), "{garbage:?} at {start}");
        }
    }
}

#[test]
fn what_follows_close_and_a_failure_is_not_looked_at() {
    let mut server = Server::begun(config());
    server.receive(Script::default().frame(0, close()));
    assert_eq!(server.events().len(), 1);
    let answer = names(&server.performatives());
    server.receive_bytes(&conversation());
    server.receive_bytes(&[0; 64]);
    assert_eq!((answer, server.events()), (vec!["close"], Vec::new()));
    assert!(server.written().is_empty());
    assert!(server.engine.receive_buffer().is_empty());
}

#[test]
fn flows_and_ranges_over_everything_cost_no_memory_and_little_output() {
    const FRAMES: u32 = 2_000;
    let (mut server, _) = Server::linked(config(), Role::Receiver);
    let mut script = Script::default();
    for id in 0..FRAMES {
        let flow = Flow {
            next_incoming_id: Some(u32::MAX - id),
            incoming_window: u32::MAX,
            next_outgoing_id: id.wrapping_mul(0x9e37_79b9),
            ..link_flow(0, id.wrapping_mul(0x9e37_79b9), u32::MAX)
        };
        script = script
            .flow(0, flow)
            .frame(0, disposition(Role::Receiver, 0, u32::MAX - 1, true))
            .frame(0, disposition(Role::Sender, u32::MAX, u32::MAX - 2, false));
    }
    server.receive(script);
    let events = server.events();
    assert!(events.iter().all(|event| matches!(event, Event::Credit { .. })), "{:?}", events.last());
    assert!(events.len() <= FRAMES as usize);
    assert!(server.written().is_empty(), "nothing asked for an answer");
}

#[test]
fn attaches_and_detaches_without_end_leave_nothing() {
    let mut server = Server::begun(config());
    for round in 0..2_000_u32 {
        let role = if round % 2 == 0 { Role::Sender } else { Role::Receiver };
        let name = format!("link {round}");
        server.receive(Script::default().attach(0, attach(role, &name, 0)).frame(0, detach(0)));
        let events = server.events();
        let cancelled = |link: &LinkId| events.contains(&Event::AttachCancelled(*link));
        assert!(
            matches!(&events[..], [Event::Attach { link, .. }, _] if cancelled(link)),
            "round {round}: {events:?}"
        );
        assert_eq!(names(&server.performatives()), ["attach", "detach"], "round {round}");
    }
    let session = server.engine.amqp_session_of(LinkId(0));
    assert_eq!(session, None, "the first link is long gone");
    // The handle is as good as new.
    let link = server.attach(attach(Role::Sender, "last", 0));
    server.engine.accept(link, reply());
    assert!(matches!(&server.performatives()[..], [Performative::Attach(attach)] if attach.handle == 0));
}

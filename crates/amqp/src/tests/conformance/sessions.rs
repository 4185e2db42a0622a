//! AMQP sessions: begin, end, channels, windows (2.5, 2.7.2, 2.7.8).

use crate::{
    Event, codec,
    tests::support::*,
    types::{Begin, Flow, Performative, Role},
};

fn session_flow(next_outgoing_id: u32) -> Flow {
    Flow {
        next_incoming_id: Some(0),
        incoming_window: 5_000,
        next_outgoing_id,
        outgoing_window: 5_000,
        echo: true,
        ..Flow::default()
    }
}

fn flow_of(server: &mut Server) -> Flow {
    let performatives = server.performatives();
    let [Performative::Flow(flow)] = &performatives[..] else { panic!("{performatives:?}") };
    *flow
}

/// 2.5.1, 2.7.2 remote-channel
#[test]
fn begin_names_the_remote_channel_in_answers_only() {
    let mut server = Server::begun(config());
    server.receive(Script::default().begin(17));
    server.engine.begin().unwrap();
    let remote: Vec<_> = server
        .performatives()
        .iter()
        .filter_map(|performative| match performative {
            Performative::Begin(begin) => Some(begin.remote_channel),
            _ => None,
        })
        .collect();
    assert_eq!(remote, [Some(17), None]);
}

/// 2.5.4, 2.5.5: in DISCARDING only end is looked at, even where something else is wrong.
#[test]
fn after_end_everything_but_end_is_discarded() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    // A handle that no link has ends the AMQP session.
    server.receive(Script::default().transfer(0, transfer(4, 0), b"x"));
    assert_eq!(last_condition(&server.performatives()).as_deref(), Some("amqp:session:unattached-handle"));
    server.events();
    let script = Script::default()
        .transfer(0, transfer(0, 1), b"x")
        .transfer(0, transfer(8, 2), b"x")
        .flow(0, link_flow(8, 0, 1))
        .frame(0, disposition(Role::Receiver, 0, 9, true))
        .frame(0, detach(8))
        .attach(0, attach(Role::Sender, "beyond", u32::MAX))
        .attach(0, attach(Role::Sender, "more", 1));
    server.receive(script);
    assert!(server.performatives().is_empty());
    assert!(server.events().is_empty());
    server.receive(Script::default().frame(0, end()).begin(0));
    assert_eq!(names(&server.performatives()), ["begin"]);
}

/// 2.5.3
#[test]
fn ends_that_cross_free_the_channel() {
    let mut server = Server::begun(config());
    let session = server.engine.begin().unwrap();
    let answer = Begin { remote_channel: Some(1), ..begin() };
    server.receive(Script::default().frame(1, Performative::Begin(Box::new(answer))));
    server.engine.end(session, None);
    server.receive(Script::default().frame(1, end()));
    let events = server.events();
    assert!(
        matches!(&events[..], [Event::AmqpSessionBegun(_), Event::AmqpSessionEnded { .. }]),
        "{events:?}"
    );
    assert_eq!(names(&server.performatives()), ["begin", "end"]);
    server.receive(Script::default().begin(1));
    assert_eq!(names(&server.performatives()), ["begin"]);
}

/// 2.5.6: next-incoming-id counts transfers and follows what the peer's flow says.
#[test]
fn the_next_incoming_id_counts_transfers_and_follows_the_peers_flow() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let script = Script::default().transfer(0, transfer(0, 0), b"a").transfer(0, transfer(0, 1), b"b");
    server.receive(script.flow(0, session_flow(3)));
    assert_eq!(flow_of(&mut server).next_incoming_id, Some(3));
    server.receive(Script::default().flow(0, session_flow(1_000)));
    assert_eq!(flow_of(&mut server).next_incoming_id, Some(1_000));
    server.receive(Script::default().transfer(0, transfer(0, 2), b"c").flow(0, session_flow(1_001)));
    assert_eq!(flow_of(&mut server).next_incoming_id, Some(1_001));
}

/// 2.5.6: every transfer frame, not every delivery, moves next-outgoing-id.
#[test]
fn the_next_outgoing_id_counts_transfer_frames() {
    let mut server = Server::begun(config());
    let link = server.attach(attach(Role::Receiver, "r", 0));
    server.engine.accept(link, reply());
    server.receive(Script::default().flow(0, Flow { echo: true, ..link_flow(0, 0, 10) }));
    let before = server.performatives().iter().rev().find_map(|performative| match performative {
        Performative::Flow(flow) => Some(flow.next_outgoing_id),
        _ => None,
    });
    // The peer takes 64 KiB in a frame.
    server.engine.send(link, message(&[1; 100_000])).unwrap();
    let frames = server.frames();
    let transfers = frames
        .iter()
        .filter(|frame| matches!(frame, codec::Frame::Amqp { performative: Performative::Transfer(_), .. }))
        .count();
    assert!(transfers > 1);
    server.receive(Script::default().flow(0, session_flow(1)));
    let after = flow_of(&mut server).next_outgoing_id;
    assert_eq!(before.map(|before| after.wrapping_sub(before)), Some(transfers as u32));
}

/// 2.7.2 handle-max
#[test]
fn no_handle_beyond_the_peers_handle_max_is_used() {
    let mut server = Server::begun(config());
    let narrow = Begin { handle_max: 0, ..begin() };
    server.receive(Script::default().frame(1, Performative::Begin(Box::new(narrow))));
    let attaches = Script::default()
        .attach(1, attach(Role::Sender, "first", 0))
        .attach(1, attach(Role::Sender, "second", 1));
    server.receive(attaches);
    let links: Vec<_> = server
        .events()
        .iter()
        .filter_map(|event| if let Event::Attach { link, .. } = event { Some(*link) } else { None })
        .collect();
    for link in links {
        server.engine.accept(link, reply());
    }
    let performatives = server.performatives();
    assert_eq!(names(&performatives), ["begin", "attach", "end"]);
    assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:resource-limit-exceeded"));
}

//! Links: names, handles, attach, detach, errors (2.6.1 to 2.6.6, 2.7.3, 2.7.7).

use crate::{
    Event,
    tests::support::*,
    types::{Attach, Detach, Performative, Role, Transfer, Value},
};

fn answer(server: &mut Server) -> Attach {
    let performatives = server.performatives();
    match &performatives[..] {
        [Performative::Attach(attach), ..] => (**attach).clone(),
        _ => panic!("{performatives:?}"),
    }
}

/// 2.6.3, 2.7.3 unsettled and incomplete-unsettled: links are not resumed, they begin anew. That
/// no unsettled map comes back says so.
#[test]
fn unsettled_maps_are_answered_by_none() {
    for role in [Role::Sender, Role::Receiver] {
        let mut server = Server::begun(config());
        let unsettled = Value::Map(vec![(Value::Binary(b"tag".as_slice().into()), Value::Null)]);
        let resuming =
            Attach { unsettled: Some(unsettled), incomplete_unsettled: true, ..attach(role, "l", 0) };
        let link = server.attach(resuming);
        server.engine.accept(link, reply());
        let answer = answer(&mut server);
        assert_eq!((answer.unsettled, answer.incomplete_unsettled), (None, false));
    }
}

/// 2.7.3 initial-delivery-count
#[test]
fn a_sender_names_its_initial_delivery_count_and_a_receiver_none() {
    for (peer, expected) in [(Role::Receiver, Some(0)), (Role::Sender, None)] {
        let mut server = Server::begun(config());
        let link = server.attach(attach(peer, "l", 0));
        server.engine.accept(link, reply());
        assert_eq!(answer(&mut server).initial_delivery_count, expected);
    }
    let mut pair = Pair::opened(config(), config());
    let session = pair.client.begin().unwrap();
    let without = Attach { initial_delivery_count: None, ..attach(Role::Sender, "s", 0) };
    pair.client.attach(session, without).unwrap();
    pair.drive();
    let events = pair.server_events();
    let seen = events.iter().find_map(|event| match event {
        Event::Attach { attach, .. } => Some(attach.initial_delivery_count),
        _ => None,
    });
    assert_eq!(seen, Some(Some(0)));
}

/// 2.7.3 initial-delivery-count: of a receiver it means nothing.
#[test]
fn a_receivers_initial_delivery_count_is_not_looked_at() {
    let mut server = Server::begun(config());
    let link = server.attach(Attach { initial_delivery_count: Some(99), ..attach(Role::Receiver, "r", 0) });
    server.engine.accept(link, reply());
    assert_eq!(answer(&mut server).initial_delivery_count, Some(0));
    server.receive(Script::default().flow(0, link_flow(0, 0, 1)));
    assert_eq!(server.engine.sendable(link), 1);
}

/// 2.6.6: who only detaches is not told that the link is closed, which it would have to confirm by
/// attaching and closing. Links are not kept for a later attach all the same (2.6.4).
#[test]
fn a_detach_is_answered_by_one_that_closes_if_it_does() {
    for closed in [false, true] {
        let (mut server, link) = Server::linked(config(), Role::Sender);
        let detach = Performative::Detach(Detach { handle: 0, closed, error: None });
        server.receive(Script::default().frame(0, detach));
        server.engine.detach(link, None);
        let performatives = server.performatives();
        assert!(
            matches!(&performatives[..], [Performative::Detach(answer)]
                if answer.closed == closed && answer.error.is_none()),
            "{performatives:?}"
        );
        // The name is free, the next link begins anew.
        server.events();
        let link = server.attach(attach(Role::Sender, "link", 0));
        server.engine.accept(link, reply());
        assert_eq!(names(&server.performatives()), ["attach"]);
    }
}

/// 2.6.5: the errant link's frames that were under way end nothing else.
#[test]
fn what_comes_for_a_link_that_ended_with_an_error_is_discarded_until_its_detach() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let first = Transfer { more: true, ..transfer(0, 0) };
    server.receive(Script::default().transfer(0, first, b"x").transfer(0, transfer(0, 1), b"y"));
    let performatives = server.performatives();
    assert!(matches!(
        &performatives[..],
        [Performative::Detach(Detach { closed: true, error: Some(_), .. })]
    ));
    server.events();
    let late = Script::default()
        .transfer(0, transfer(0, 2), b"z")
        .flow(0, link_flow(0, 1, 1))
        .frame(0, disposition(Role::Sender, 0, 2, true))
        .frame(0, detach(0))
        .attach(0, attach(Role::Sender, "next", 0));
    server.receive(late);
    let events = server.events();
    assert!(matches!(&events[..], [Event::Attach { .. }]), "{events:?}");
    assert!(server.performatives().is_empty());
}

/// 2.6.2, 2.7.3 handle: a handle names one link, and the same number another link the other way.
#[test]
fn handles_of_the_two_ends_are_apart() {
    let mut server = Server::begun(config());
    let far = server.attach(attach(Role::Sender, "far", 40));
    let near = server.attach(attach(Role::Sender, "near", 0));
    server.engine.accept(far, reply());
    server.engine.accept(near, reply());
    let handles: Vec<_> = server
        .performatives()
        .iter()
        .filter_map(|performative| match performative {
            Performative::Attach(attach) => Some((attach.name.to_string(), attach.handle)),
            _ => None,
        })
        .collect();
    assert_eq!(handles, [("far".to_owned(), 0), ("near".to_owned(), 1)]);
    server.receive(Script::default().transfer(0, transfer(40, 0), b"x").transfer(0, transfer(0, 1), b"y"));
    let links: Vec<_> = deliveries(&server.events()).iter().map(|(delivery, _)| delivery.link).collect();
    assert_eq!(links, [far, near]);
}

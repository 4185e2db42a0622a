//! Transfers and dispositions (2.6.12 to 2.6.14, 2.7.5, 2.7.6).

use bytes::Bytes;

use crate::{
    Event,
    tests::support::*,
    types::{Attach, ReceiverSettleMode, Role, Transfer},
};

fn first() -> Transfer {
    Transfer { more: true, ..transfer(0, 0) }
}

/// 2.7.5 delivery-id, delivery-tag and message-format: later frames leave them out or repeat them.
#[test]
fn a_frame_that_contradicts_the_first_of_its_delivery_detaches_the_link() {
    let same = transfer(0, 0);
    let bare = Transfer { handle: 0, ..Transfer::default() };
    for next in [same.clone(), bare.clone()] {
        let (mut server, _) = Server::linked(config(), Role::Sender);
        server.receive(Script::default().transfer(0, first(), b"a").transfer(0, next, b"b"));
        assert_eq!(deliveries(&server.events())[0].1[..], *b"ab");
    }
    let others = [
        Transfer { delivery_id: Some(1), ..bare.clone() },
        Transfer { delivery_tag: Some(Bytes::from_static(b"other")), ..bare.clone() },
        Transfer { message_format: Some(7), ..bare },
    ];
    for next in others {
        let (mut server, _) = Server::linked(config(), Role::Sender);
        server.receive(Script::default().transfer(0, first(), b"a").transfer(0, next.clone(), b"b"));
        let performatives = server.performatives();
        assert_eq!(names(&performatives), ["detach"], "{next:?}");
        assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:invalid-field"));
    }
}

/// 2.7.5 settled: what is not said is no.
#[test]
fn a_delivery_that_does_not_say_so_is_not_settled() {
    for (flags, expected) in [([None, None], false), ([Some(true), None], true), ([None, Some(true)], true)] {
        let (mut server, _) = Server::linked(config(), Role::Sender);
        let begun = Transfer { settled: flags[0], ..first() };
        let ended = Transfer { handle: 0, settled: flags[1], ..Transfer::default() };
        server.receive(Script::default().transfer(0, begun, b"a").transfer(0, ended, b"b"));
        let events = server.events();
        let [Event::Delivery { settled, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(*settled, expected, "{flags:?}");
    }
}

/// 2.7.5 aborted: also when the aborting frame says that more comes, or is the only one.
#[test]
fn nothing_of_an_aborted_delivery_is_kept() {
    for more in [false, true] {
        let (mut server, _) = Server::linked(config(), Role::Sender);
        let abort = Transfer { handle: 0, more, aborted: true, ..Transfer::default() };
        let only = Transfer { aborted: true, more, ..transfer(0, 1) };
        let script = Script::default()
            .transfer(0, first(), b"dropped")
            .transfer(0, abort, b"dropped too")
            .transfer(0, only, b"never")
            .transfer(0, transfer(0, 2), b"kept");
        server.receive(script);
        let kept: Vec<_> = deliveries(&server.events()).into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(kept, [Bytes::from_static(b"kept")]);
    }
}

/// 2.7.5 delivery-tag: an unsettled delivery has one; of a settled one nobody speaks again.
#[test]
fn an_unsettled_delivery_without_a_tag_detaches_the_link() {
    for (settled, aborted) in [(None, false), (Some(false), false), (Some(true), false), (None, true)] {
        let (mut server, _) = Server::linked(config(), Role::Sender);
        let untagged = Transfer { delivery_tag: None, settled, aborted, ..transfer(0, 0) };
        server.receive(Script::default().transfer(0, untagged, b"x"));
        let performatives = server.performatives();
        if settled == Some(true) || aborted {
            assert!(!names(&performatives).contains(&"detach"), "{performatives:?}");
            assert_eq!(deliveries(&server.events()).len(), usize::from(!aborted));
        } else {
            assert_eq!(names(&performatives), ["detach"]);
            assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:invalid-field"));
            assert!(deliveries(&server.events()).is_empty());
        }
    }
}

/// 2.7.5 message-format: left out on a first frame it is 0. A tag may have no bytes.
#[test]
fn a_delivery_with_an_empty_tag_and_without_a_format_is_taken() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let bare = Transfer { delivery_tag: Some(Bytes::new()), message_format: None, ..transfer(0, 0) };
    server.receive(Script::default().transfer(0, bare, b"x"));
    let events = server.events();
    assert!(
        matches!(&events[..], [Event::Delivery { tag, message_format: 0, .. }] if tag.is_empty()),
        "{events:?}"
    );
}

/// 2.7.5 rcv-settle-mode: second only where the link has it, whether its attach is answered or
/// not. Otherwise it changes nothing: whether a disposition is settled says what its sender waits
/// for.
#[test]
fn a_transfer_asks_for_rcv_settle_mode_second_on_a_link_of_that_mode_only() {
    use ReceiverSettleMode::{First, Second};
    for (of_link, of_transfer, taken) in [
        (None, First, true),
        (None, Second, false),
        (Some(First), Second, false),
        (Some(Second), First, true),
        (Some(Second), Second, true),
    ] {
        for answered in [true, false] {
            let mut server = Server::begun(config());
            let marked = Transfer { rcv_settle_mode: Some(of_transfer), ..transfer(0, 0) };
            let link = server.attach(Attach { rcv_settle_mode: of_link, ..attach(Role::Sender, "link", 0) });
            if answered {
                server.engine.accept(link, reply());
                server.performatives();
            }
            server.receive(Script::default().transfer(0, marked, b"x"));
            if !answered {
                server.engine.accept(link, reply());
            }
            let what = (of_link, of_transfer, answered);
            let performatives = server.performatives();
            assert_eq!(!names(&performatives).contains(&"detach"), taken, "{what:?}");
            assert_eq!(deliveries(&server.events()).len(), usize::from(taken), "{what:?}");
            if !taken {
                assert_eq!(last_condition(&performatives).as_deref(), Some("amqp:invalid-field"));
            }
        }
    }
}

/// 2.6.13, 2.7.5 resume: this end keeps no deliveries of earlier links, so each is a new one.
#[test]
fn a_resumed_delivery_is_one_like_any_other() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let resumed = Transfer { resume: true, ..transfer(0, 0) };
    server.receive(Script::default().transfer(0, resumed, b"again"));
    assert_eq!(deliveries(&server.events())[0].1[..], *b"again");
}

/// 2.7.6: a disposition concerns deliveries in the direction of its role only.
#[test]
fn a_disposition_touches_deliveries_of_its_direction_only() {
    let (mut server, _) = Server::linked(config(), Role::Sender);
    let outgoing = server.attach(attach(Role::Receiver, "out", 1));
    server.engine.accept(outgoing, reply());
    server.receive(Script::default().flow(0, link_flow(1, 0, 5)).transfer(0, transfer(0, 0), b"in"));
    let sent = server.engine.send(outgoing, message(b"out")).unwrap();
    assert_eq!(sent.id, 0);
    server.events();
    server.receive(Script::default().frame(0, disposition(Role::Sender, 0, 0, true)));
    let events = server.events();
    assert!(
        matches!(&events[..], [Event::Disposed { deliveries, .. }] if deliveries[0].link != outgoing),
        "{events:?}"
    );
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 0, true)));
    let events = server.events();
    assert!(
        matches!(&events[..], [Event::Disposed { deliveries, .. }] if deliveries[..] == [sent]),
        "{events:?}"
    );
}

/// 2.7.6: an unsettled delivery stays one after the link that brought it has sent a state for it.
#[test]
fn a_later_disposition_replaces_an_earlier_state() {
    let (mut server, link) = Server::linked(config(), Role::Receiver);
    server.receive(Script::default().flow(0, link_flow(0, 0, 5)));
    let sent = server.engine.send(link, message(b"x")).unwrap();
    server.events();
    for settled in [false, false, true] {
        server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 0, settled)));
        let events = server.events();
        assert!(
            matches!(&events[..], [Event::Disposed { deliveries, settled: s, .. }]
                if deliveries[..] == [sent] && *s == settled),
            "{events:?}"
        );
    }
    server.receive(Script::default().frame(0, disposition(Role::Receiver, 0, 0, true)));
    assert!(server.events().is_empty());
}

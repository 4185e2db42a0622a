//! Links: names, handles, attach, detach, errors (2.6.1 to 2.6.6, 2.7.3, 2.7.7).

use bytes::Bytes;
use lockstep_amqp::types::{
    Attach, Detach, Performative, ReceiverSettleMode, Role, SenderSettleMode, Transfer, Value,
};
use lockstep_interop_amqp::{Outcome, receiver, sender, text_message};

use crate::suite::Scenario;
use crate::{
    attached, begun, checks, complete, first_frame, next_detach, next_end, receiving, send, sending,
    until_echo,
};

checks![conformance_links:
    an_attach_is_answered_with_its_name_and_the_other_role,
    a_refused_attach_has_no_termini_and_is_detached_at_once,
    a_sender_states_its_initial_delivery_count_and_a_receiver_none,
    settle_modes_are_answered_as_they_came,
    unsettled_maps_are_answered_by_none,
    a_handle_in_use_ends_the_amqp_session,
    a_detach_is_answered_by_one_that_closes_if_it_does,
    a_handle_is_free_after_both_detaches,
    what_comes_for_an_errant_link_is_discarded,
];

pub(crate) fn detach(closed: bool) -> Performative {
    Performative::Detach(Detach { handle: 0, closed, error: None })
}

/// 2.6.1, 2.6.3
fn an_attach_is_answered_with_its_name_and_the_other_role(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let name = "a;b:(c,d) ü";
    let answer = attached(&mut raw, 3, receiver(name, s.queue()))?;
    assert_eq!((&*answer.name, answer.role), (name, Role::Sender));
    let answer = attached(&mut raw, 4, sender(name, s.queue()))?;
    assert_eq!((&*answer.name, answer.role), (name, Role::Receiver));
    Ok(())
}

/// 2.6.3: the answer of a link that is not there, and its detach.
fn a_refused_attach_has_no_termini_and_is_detached_at_once(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    for attach in [receiver("r", "no-such-queue"), sender("s", "no-such-queue")] {
        let answer = attached(&mut raw, 0, attach)?;
        assert!(answer.source.is_none() && answer.target.is_none());
        let error = raw.expect("detach", |_, performative, _| match performative {
            Performative::Detach(Detach { handle, closed: true, error }) if *handle == answer.handle => {
                error.clone()
            }
            _ => None,
        })?;
        assert_eq!(error.condition.as_str(), "amqp:not-found");
        raw.frame(0, detach(true))?;
    }
    Ok(())
}

/// 2.7.3 initial-delivery-count
fn a_sender_states_its_initial_delivery_count_and_a_receiver_none(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    assert!(attached(&mut raw, 0, receiver("r", s.queue()))?.initial_delivery_count.is_some());
    let sender = Attach { initial_delivery_count: Some(41), ..sender("s", s.queue()) };
    assert_eq!(attached(&mut raw, 1, sender)?.initial_delivery_count, None);
    Ok(())
}

/// 2.7.3 snd-settle-mode, rcv-settle-mode
fn settle_modes_are_answered_as_they_came(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let mut handle = 0;
    for snd in [SenderSettleMode::Unsettled, SenderSettleMode::Settled, SenderSettleMode::Mixed] {
        for rcv in [ReceiverSettleMode::First, ReceiverSettleMode::Second] {
            let name = format!("r{handle}");
            let attach = Attach {
                snd_settle_mode: Some(snd),
                rcv_settle_mode: Some(rcv),
                ..receiver(&name, s.queue())
            };
            let answer = attached(&mut raw, handle, attach)?;
            assert_eq!((answer.snd_settle_mode, answer.rcv_settle_mode), (Some(snd), Some(rcv)));
            handle += 1;
        }
    }
    Ok(())
}

/// 2.6.3, 2.7.3 unsettled, incomplete-unsettled: links begin anew.
fn unsettled_maps_are_answered_by_none(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    let unsettled = Value::Map(vec![(Value::Binary(Bytes::from_static(b"tag")), Value::Null)]);
    for (handle, attach) in [receiver("r", s.queue()), sender("s", s.queue())].into_iter().enumerate() {
        let attach = Attach { unsettled: Some(unsettled.clone()), incomplete_unsettled: true, ..attach };
        let answer = attached(&mut raw, u32::try_from(handle).unwrap_or(0), attach)?;
        assert_eq!((answer.unsettled, answer.incomplete_unsettled), (None, false));
    }
    Ok(())
}

/// 2.7.3 handle
fn a_handle_in_use_ends_the_amqp_session(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    attached(&mut raw, 0, receiver("one", s.queue()))?;
    raw.attach(0, 0, receiver("two", s.queue()))?;
    assert_eq!(next_end(&mut raw)?, "amqp:session:handle-in-use");
    Ok(())
}

/// 2.6.6; the link is not kept all the same (2.6.4)
fn a_detach_is_answered_by_one_that_closes_if_it_does(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    for closed in [false, true] {
        let theirs = attached(&mut raw, 0, receiver("r", s.queue()))?.handle;
        raw.frame(0, detach(closed))?;
        raw.expect("detach", |_, performative, _| {
            matches!(performative, Performative::Detach(Detach { handle, closed: answer, error: None })
                if (*handle, *answer) == (theirs, closed))
            .then_some(())
        })?;
    }
    Ok(())
}

/// 2.6.2
fn a_handle_is_free_after_both_detaches(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    for round in 0..20 {
        let attach =
            if round % 2 == 0 { receiver("r", s.queue()) } else { sender(&format!("s{round}"), s.queue()) };
        assert_eq!(attached(&mut raw, 0, attach)?.handle, 0);
        raw.frame(0, detach(true))?;
        assert_eq!(next_detach(&mut raw)?, "");
    }
    Ok(())
}

/// 2.6.5: only the link ends; what was under way is discarded, its messages are not stored.
fn what_comes_for_an_errant_link_is_discarded(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    // A delivery within another one.
    raw.transfer(0, &Transfer { more: true, ..first_frame(0, 0) }, b"x")?;
    raw.transfer(0, &first_frame(0, 1), &text_message("inner", None))?;
    assert_eq!(next_detach(&mut raw)?, "amqp:invalid-field");
    raw.transfer(0, &first_frame(0, 2), &text_message("late", None))?;
    raw.frame(0, detach(true))?;
    let before = until_echo(&mut raw)?;
    assert!(before.is_empty(), "{before:?}");
    sending(&mut raw, 0, "s", s.queue())?;
    send(&mut raw, 0, 3, &text_message("good", None))?;
    receiving(&mut raw, 1, "r", s.queue(), 5)?;
    let (transfer, payload) = crate::next_transfer(&mut raw)?;
    assert!(payload.ends_with(b"good"));
    complete(&mut raw, transfer.delivery_id.unwrap_or(0), transfer.delivery_id.unwrap_or(0))
}

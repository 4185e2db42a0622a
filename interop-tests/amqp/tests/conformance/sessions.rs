//! AMQP sessions (2.5, 2.7.2, 2.7.8).

use lockstep_amqp::types::{End, Flow, Performative};
use lockstep_interop_amqp::{ANSWER, Outcome, receiver, text_message};

use crate::suite::Scenario;
use crate::{
    begun, checks, close_condition, complete, first_frame, next_end, next_flow, next_transfer, receiving,
    send, sending, until_echo,
};

checks![conformance_amqp_sessions:
    begin_is_answered_with_its_channel_and_channels_come_back,
    after_an_error_everything_but_end_is_discarded,
    a_handle_beyond_handle_max_ends_the_connection,
    the_flow_of_an_amqp_session_has_its_half_only,
    transfer_ids_count_frames,
    no_transfer_goes_beyond_the_clients_window,
];

/// The broker's handle-max.
const HANDLE_MAX: u32 = 262_143;

/// 2.5.1, 2.5.2, 2.7.2 remote-channel
fn begin_is_answered_with_its_channel_and_channels_come_back(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    for _ in 0..3 {
        // The helper takes no answer but one that names the channel.
        let theirs = raw.begin(40)?;
        raw.frame(40, Performative::End(End::default()))?;
        raw.expect("end", |channel, performative, _| {
            (channel == theirs && matches!(performative, Performative::End(End { error: None })))
                .then_some(())
        })?;
    }
    Ok(())
}

/// 2.5.4, 2.5.5
fn after_an_error_everything_but_end_is_discarded(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    raw.begin(1)?;
    raw.transfer(1, &first_frame(5, 0), b"x")?;
    assert_eq!(next_end(&mut raw)?, "amqp:session:unattached-handle");
    raw.attach(1, 0, receiver("late", s.queue()))?;
    raw.attach(1, HANDLE_MAX + 1, receiver("beyond", s.queue()))?;
    raw.transfer(1, &first_frame(6, 1), b"x")?;
    raw.frame(1, Performative::End(End::default()))?;
    // What follows is the answer to this begin and nothing else.
    raw.begin(1)?;
    let before = until_echo(&mut raw)?;
    assert!(before.is_empty(), "{before:?}");
    Ok(())
}

/// 2.7.2 handle-max
fn a_handle_beyond_handle_max_ends_the_connection(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    raw.attach(0, HANDLE_MAX, receiver("last", s.queue()))?;
    raw.expect("attach", |_, performative, _| matches!(performative, Performative::Attach(_)).then_some(()))?;
    raw.attach(0, HANDLE_MAX + 1, receiver("beyond", s.queue()))?;
    assert_eq!(close_condition(&mut raw)?, "amqp:connection:framing-error");
    Ok(())
}

fn echo() -> Flow {
    Flow {
        incoming_window: 1_000,
        next_outgoing_id: 1,
        outgoing_window: 1_000,
        echo: true,
        ..Flow::default()
    }
}

/// 2.7.4
fn the_flow_of_an_amqp_session_has_its_half_only(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    raw.frame(0, Performative::Flow(echo()))?;
    let flow = next_flow(&mut raw)?;
    assert_eq!(
        (flow.handle, flow.delivery_count, flow.link_credit, flow.available),
        (None, None, None, None)
    );
    assert!(!flow.drain && !flow.echo);
    assert_eq!(flow.next_incoming_id, Some(1));
    assert!(flow.incoming_window > 0);
    Ok(())
}

/// 2.5.6: both ways, and the client's own word counts.
fn transfer_ids_count_frames(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    send(&mut raw, 0, 0, &text_message("m", None))?;
    raw.frame(0, Performative::Flow(Flow { next_incoming_id: Some(0), next_outgoing_id: 2, ..echo() }))?;
    let before = next_flow(&mut raw)?;
    assert_eq!(before.next_incoming_id, Some(2));
    receiving(&mut raw, 1, "r", s.queue(), 1)?;
    next_transfer(&mut raw)?;
    raw.frame(0, Performative::Flow(Flow { next_outgoing_id: 77, ..echo() }))?;
    let after = next_flow(&mut raw)?;
    assert_eq!(after.next_outgoing_id.wrapping_sub(before.next_outgoing_id), 1);
    assert_eq!(after.next_incoming_id, Some(77));
    complete(&mut raw, 0, 0)
}

/// 2.5.6
fn no_transfer_goes_beyond_the_clients_window(s: &Scenario) -> Outcome {
    let mut raw = begun(s)?;
    sending(&mut raw, 0, "s", s.queue())?;
    for id in 0..3 {
        send(&mut raw, 0, id, &text_message("m", None))?;
    }
    raw.frame(0, Performative::Flow(Flow { next_incoming_id: Some(0), incoming_window: 1, ..echo() }))?;
    let first_id = next_flow(&mut raw)?.next_outgoing_id;
    crate::attached(&mut raw, 1, receiver("r", s.queue()))?;
    let link = |next_incoming_id, window| {
        Performative::Flow(Flow {
            next_incoming_id: Some(next_incoming_id),
            incoming_window: window,
            handle: Some(1),
            delivery_count: Some(0),
            link_credit: Some(3),
            ..echo()
        })
    };
    raw.frame(0, link(first_id, 1))?;
    next_transfer(&mut raw)?;
    // Nothing but answers to echo comes until the window opens.
    raw.frame(0, link(first_id, 1))?;
    raw.frame(0, link(first_id, 1))?;
    for _ in 0..2 {
        let came = raw.next_frame(ANSWER)?;
        assert!(
            matches!(
                &came,
                Some(lockstep_amqp::codec::Frame::Amqp { performative: Performative::Flow(_), .. })
            ),
            "{came:?}"
        );
    }
    raw.frame(0, link(first_id.wrapping_add(1), 2))?;
    next_transfer(&mut raw)?;
    next_transfer(&mut raw)?;
    complete(&mut raw, 0, 2)
}

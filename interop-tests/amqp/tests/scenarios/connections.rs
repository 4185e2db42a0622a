//! Connections, AMQP sessions and links as such.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::{
    codec::Frame,
    types::{Attach, Detach, Error, Flow, Performative, Transfer},
};
use lockstep_interop_amqp::{
    ANSWER, Deadline, Failed, Login, Outcome, Outgoing, receiver, text_message, with_message_session,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    a_close_with_an_error_frees_the_message_session_at_once,
    a_violation_is_no_close_and_leaves_the_message_session_locked,
    a_detach_is_answered_after_the_outcomes_of_its_sends,
    a_link_name_in_use_is_taken_from_the_old_link,
    a_silent_client_gets_heartbeats_and_an_echo_its_answer,
    small_frames_and_small_windows_are_respected,
    many_amqp_sessions_and_links_come_and_go_on_one_connection,
];

fn a_close_with_an_error_frees_the_message_session_at_once(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", Some("s")))?;
    let mut leaving = s.connect()?;
    let link = leaving.accept(queue, "s", 1)?;
    assert_eq!(leaving.receive(link)?.count(), 0);
    leaving.close_with(Some(Error::new("amqp:connection:forced", "idle")))?;
    let link = client.accept(queue, "s", 1)?;
    assert_eq!(client.receive(link)?.count(), 0);
    client.close()
}

fn a_violation_is_no_close_and_leaves_the_message_session_locked(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    raw.attach(0, 0, with_message_session(receiver("holder", queue), "s"))?;
    raw.expect("attach", |_, performative, _| {
        matches!(performative, Performative::Attach(attach) if attach.source.is_some()).then_some(())
    })?;
    // A frame that says it is shorter than its own header.
    raw.write(&[0, 0, 0, 4])?;
    let error = raw.expect_end()?;
    assert_eq!(
        error.map(|error| error.condition.to_string()).as_deref(),
        Some("amqp:connection:framing-error")
    );
    let mut client = s.connect()?;
    let (condition, _) = client.refused(with_message_session(receiver("next", queue), "s"))?;
    assert_eq!(condition, "com.microsoft:session-cannot-be-locked");
    client.close()
}

fn a_detach_is_answered_after_the_outcomes_of_its_sends(s: &Scenario) -> Outcome {
    const SENDS: u32 = 50;
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    let attach = lockstep_interop_amqp::sender("sender", s.queue());
    raw.attach(0, 0, Attach { initial_delivery_count: Some(0), ..attach })?;
    raw.expect("credit", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.handle.is_some()).then_some(())
    })?;
    for id in 0..SENDS {
        let transfer = Transfer {
            handle: 0,
            delivery_id: Some(id),
            delivery_tag: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
            message_format: Some(0),
            ..Transfer::default()
        };
        raw.transfer(0, &transfer, &text_message("m", None))?;
    }
    raw.frame(0, Performative::Detach(Detach { handle: 0, closed: true, error: None }))?;
    let mut accepted = 0;
    raw.expect("the answer to the detach", |_, performative, _| match performative {
        Performative::Disposition(disposition) => {
            accepted += disposition.last.unwrap_or(disposition.first) - disposition.first + 1;
            None
        }
        Performative::Detach(_) => Some(()),
        _ => None,
    })?;
    assert_eq!(accepted, SENDS);
    Ok(())
}

fn a_link_name_in_use_is_taken_from_the_old_link(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", Some("s")))?;
    let attach = || with_message_session(receiver("name", queue), "s");
    let is_granted = |performative: &Performative| {
        let Performative::Attach(attach) = performative else { return None };
        Some(attach.source.is_some())
    };
    let mut raw = s.broker().connect_raw()?;
    raw.handshake(s.broker().home())?;
    raw.attach(0, 0, attach())?;
    assert!(raw.expect("attach", |_, performative, _| is_granted(performative))?);
    // A link of the other direction may have the name too.
    let other = lockstep_interop_amqp::sender("name", queue);
    raw.attach(0, 1, Attach { initial_delivery_count: Some(0), ..other })?;
    raw.expect("attach", |_, performative, _| is_granted(performative))?;

    raw.attach(0, 2, attach())?;
    let condition = raw.expect("detach of the old link", |_, performative, _| match performative {
        Performative::Detach(detach) => detach.error.as_ref().map(|error| error.condition.to_string()),
        _ => None,
    })?;
    assert_eq!(condition, "amqp:link:stolen");
    assert!(raw.expect("the new link", |_, performative, _| is_granted(performative))?, "refused");
    raw.credit(0, 2, 0, 1, false)?;
    raw.expect("the message", |_, performative, _| {
        matches!(performative, Performative::Transfer(_)).then_some(())
    })
}

fn a_silent_client_gets_heartbeats_and_an_echo_its_answer(s: &Scenario) -> Outcome {
    const IDLE: Duration = Duration::from_millis(1_000);
    let mut raw = s.broker().connect_raw()?;
    raw.handshake_with(s.broker().home(), Some(1_000))?;
    let deadline = Deadline::after(4 * IDLE);
    let mut heartbeats = 0;
    while deadline.left().is_some() {
        match raw.next_frame(IDLE)? {
            Some(Frame::Heartbeat) => heartbeats += 1,
            other => return Err(Failed::new(format!("{other:?} instead of a heartbeat"))),
        }
    }
    assert!(heartbeats >= 4, "{heartbeats} in {:?}", deadline.passed());

    let flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: 100,
        next_outgoing_id: 1,
        echo: true,
        ..Flow::default()
    };
    raw.frame(0, Performative::Flow(flow))?;
    raw.expect("the AMQP session's flow", |_, performative, _| {
        matches!(performative, Performative::Flow(flow) if flow.handle.is_none() && !flow.echo).then_some(())
    })?;
    raw.attach(0, 0, receiver("r", s.queue()))?;
    raw.expect("attach", |_, performative, _| matches!(performative, Performative::Attach(_)).then_some(()))?;
    let link = Flow { handle: Some(0), delivery_count: Some(0), link_credit: Some(7), ..flow };
    raw.frame(0, Performative::Flow(link))?;
    let credit = raw.expect("the link's flow", |_, performative, _| match performative {
        Performative::Flow(flow) if flow.handle.is_some() => Some((flow.link_credit, flow.delivery_count)),
        _ => None,
    })?;
    assert_eq!(credit, (Some(7), Some(0)));
    Ok(())
}

fn small_frames_and_small_windows_are_respected(s: &Scenario) -> Outcome {
    const BODY_BYTES: usize = 200_000;
    let queue = s.queue();
    let mut sending = s.connect()?;
    let sender = sending.sender(queue)?;
    let body: Vec<u8> = (0..BODY_BYTES).map(|at| (at % 251) as u8).collect();
    let message = Outgoing { body: Bytes::from(body.clone()), ..Outgoing::default() }.encode();
    let small = Outgoing::text("small").encode();
    sending.send_all(sender, [message.clone(), small.clone(), message, small])?;
    let key = s.broker().home().key("root");
    // The engine ends the connection if a frame is longer or a window overrun.
    for (max_frame_size, window) in [(512, 4), (4_096, 65_535), (65_536, 1)] {
        let mut client = s.broker().connect_as(Login::plain("root", key).bounds(max_frame_size, window))?;
        let link = client.receiver(queue, 10)?;
        let got = client.receive_many(link, 4)?;
        assert!(got[0].message.body == body && got[2].message.body == body, "{max_frame_size} {window}");
        assert_eq!((got[1].text(), got[3].text()), ("small", "small"));
        // No credit, or they would come right back.
        client.drain(link, 0)?;
        let all: Vec<_> = got.iter().collect();
        let released = lockstep_amqp::types::Outcome::Released;
        client.settle_later(&all, &lockstep_amqp::types::DeliveryState::Outcome(released), false);
        for delivery in all {
            client.outcome(delivery.reference)?;
        }
        client.close()?;
    }
    Ok(())
}

fn many_amqp_sessions_and_links_come_and_go_on_one_connection(s: &Scenario) -> Outcome {
    const ROUNDS: u32 = 300;
    const AT_A_TIME: u32 = 50;
    let queue = s.queue();
    let mut client = s.connect()?;
    for round in 0..ROUNDS {
        let session = client.begin()?;
        let link = client.start_attach_on(session, receiver("same", queue))?;
        assert!(client.attach_answer(link, ANSWER)?.is_ok(), "round {round}");
        client.credit(link, 10)?;
        if round % 2 == 0 {
            client.detach(link)?;
        }
        client.end(session)?;
    }
    // Many at a time, and none of them keeps credit when it is gone.
    let sessions = (0..AT_A_TIME).map(|_| client.begin()).collect::<Outcome<Vec<_>>>()?;
    for (number, &session) in sessions.iter().enumerate() {
        for link in 0..4 {
            let link = client.start_attach_on(session, receiver(&format!("{number}-{link}"), queue))?;
            assert!(client.attach_answer(link, ANSWER)?.is_ok());
            client.credit(link, 10)?;
        }
    }
    for session in sessions {
        client.end(session)?;
    }
    client.begin()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", None))?;
    let link = client.receiver(queue, 1)?;
    assert_eq!(client.receive(link)?.count(), 0);
    client.close()
}

//! State of message sessions.

use std::time::Duration;

use bytes::Bytes;
use lockstep_amqp::types::{Map, Value};
use lockstep_interop_amqp::{
    ANSWER, Outcome, Response, associated_link, receiver, text_message, with_message_session, with_property,
};

use crate::{
    locks::message_session,
    suite::{Scenario, scenarios},
};

scenarios![
    state_write_from_a_connection_without_the_lock_fails,
    browsing_reads_state_while_another_holds_the_message_session,
];

fn new_state(id: &str, state: &'static [u8]) -> Map {
    let mut body = message_session(id);
    body.push((Value::string("session-state"), Value::Binary(Bytes::from_static(state))));
    body
}

fn expect_state(response: Response, state: Option<&'static [u8]>) -> Outcome {
    let response = response.ok()?;
    let expected = state.map_or(Value::Null, |state| Value::Binary(Bytes::from_static(state)));
    assert_eq!(response.entry("session-state"), Some(&expected), "{response:?}");
    Ok(())
}

fn state_write_from_a_connection_without_the_lock_fails(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut holder = s.connect()?;
    let link = holder.accept(queue, "s", 1)?;
    let name = holder.link_name(link)?;
    expect_state(holder.manage(queue, "get-session-state", message_session("s"))?, None)?;
    holder.manage(queue, "set-session-state", new_state("s", b"mine"))?.ok()?;

    let mut other = s.connect()?;
    let held = other.accept(queue, "t", 1)?;
    let held = other.link_name(held)?;
    for options in [Vec::new(), vec![associated_link(&name)], vec![associated_link(&held)]] {
        let response =
            other.manage_with(queue, "set-session-state", new_state("s", b"theirs"), options.clone())?;
        assert_eq!(response.verdict(), (410, "com.microsoft:session-lock-lost"), "{response:?}");
        let response = other.manage_with(queue, "get-session-state", message_session("s"), options)?;
        assert_eq!(response.verdict(), (410, "com.microsoft:session-lock-lost"), "{response:?}");
    }
    let state =
        holder.manage_with(queue, "get-session-state", message_session("s"), vec![associated_link(&name)])?;
    expect_state(state, Some(b"mine"))?;

    // Without the lock the former holder is a stranger, too.
    holder.detach(link)?;
    let response = holder.manage(queue, "set-session-state", new_state("s", b"late"))?;
    assert_eq!(response.verdict(), (410, "com.microsoft:session-lock-lost"), "{response:?}");
    other.accept(queue, "s", 1)?;
    expect_state(other.manage(queue, "get-session-state", message_session("s"))?, Some(b"mine"))?;
    other.close()
}

fn browsing_reads_state_while_another_holds_the_message_session(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut holder = s.connect()?;
    let sender = holder.sender(queue)?;
    holder.send_all(sender, ["1", "2"].map(|text| text_message(text, Some("s"))))?;
    let held = holder.accept(queue, "s", 1)?;
    holder.manage(queue, "set-session-state", new_state("s", b"mine"))?.ok()?;
    let delivery = holder.receive(held)?;

    let mut browser = s.connect()?;
    let browse = |name: &str| {
        let attach = with_message_session(receiver(name, queue), "s");
        with_property(attach, "com.microsoft:peek-mode", Value::Bool(true))
    };
    let (link, _) = browser.attach(browse("b"))?;
    browser.credit(link, 10)?;
    browser.nothing_comes(Duration::from_millis(500))?;
    let name = browser.link_name(link)?;
    for options in [Vec::new(), vec![associated_link(&name)]] {
        let state = browser.manage_with(queue, "get-session-state", message_session("s"), options.clone())?;
        expect_state(state, Some(b"mine"))?;
        for (operation, body) in
            [("set-session-state", new_state("s", b"theirs")), ("renew-session-lock", message_session("s"))]
        {
            let response = browser.manage_with(queue, operation, body, options.clone())?;
            assert_eq!(response.verdict(), (410, "com.microsoft:session-lock-lost"), "{response:?}");
        }
    }
    // Another one's state stays out of sight.
    let response = browser.manage(queue, "get-session-state", message_session("t"))?;
    assert_eq!(response.verdict(), (410, "com.microsoft:session-lock-lost"), "{response:?}");
    let mut peek = message_session("s");
    peek.push((Value::string("from-sequence-number"), Value::Long(1)));
    peek.push((Value::string("message-count"), Value::Int(10)));
    let response = browser.manage(queue, "peek-message", peek)?.ok()?;
    assert!(matches!(response.entry("messages"), Some(Value::List(list)) if list.len() == 2), "{response:?}");

    // The holder notices nothing of it, nor of the browser's end.
    browser.detach(link)?;
    holder.complete(&delivery)?;
    holder.credit(held, 1)?;
    assert_eq!(holder.receive_within(held, ANSWER)?.text(), "2");
    holder.close()
}

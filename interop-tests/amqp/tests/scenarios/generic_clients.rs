//! What clients of any AMQP 1.0 library can ask for instead of Service Bus's own ways.

use std::time::Duration;

use lockstep_amqp::types::{Attach, Described, Value};
use lockstep_interop_amqp::{
    ANSWER, MESSAGE_SESSION_FILTER, Outcome, receiver, text_message, wait_until, with_filter,
    with_message_session, with_property,
};

use crate::suite::{Scenario, scenarios};

scenarios![
    generic_session_by_jms_selector,
    generic_session_next_by_jms_selector,
    selectors_that_pick_messages_are_refused,
    generic_session_auto_renewed_while_the_link_is_open,
    message_locks_are_renewed_while_their_link_is_open,
];

/// The key under which JMS clients send a selector.
const JMS_SELECTOR: &str = "jms-selector";
/// The name of a selector's type, which others use as the key as well.
const SELECTOR_TYPE: &str = "apache.org:selector-filter:string";
/// Longer than a broker needs to serve an accept that can be served.
const A_WHILE: Duration = Duration::from_millis(300);
/// More than one lock duration of the queues that renew, and a lock that was renewed once.
const OVER_ONE_LOCK: Duration = Duration::from_secs(7);

fn described(descriptor: Value, text: &str) -> Value {
    Value::Described(Box::new(Described { descriptor, value: Value::string(text) }))
}

/// A selector as qpid-jms sends it.
fn selector(text: &str) -> Value {
    described(Value::Ulong(0x0000_468c_0000_0004), text)
}

fn selecting(name: &str, queue: &str, text: &str) -> Attach {
    with_filter(receiver(name, queue), JMS_SELECTOR, selector(text))
}

/// The filters of an answered attach.
fn filters(attach: &Attach) -> Vec<(String, Value)> {
    let filters = attach.source.as_ref().and_then(|source| source.filter.as_ref());
    filters.map_or_else(Vec::new, |filters| {
        filters.0.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())).collect()
    })
}

fn is_lock_answered(attach: &Attach) -> bool {
    let properties = attach.properties.as_ref();
    matches!(
        properties.and_then(|properties| properties.get("com.microsoft:locked-until-utc")),
        Some(Value::Long(_))
    )
}

fn generic_session_by_jms_selector(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    for id in ["a", "it's", "b"] {
        client.send(sender, text_message(format!("of {id}"), Some(id)))?;
    }
    let symbol = || Value::symbol(SELECTOR_TYPE);
    for (name, key, value, id) in [
        ("as-jms", JMS_SELECTOR, selector("JMSXGroupID = 'a'"), "a"),
        ("as-symbol", SELECTOR_TYPE, described(symbol(), "\tJMSXGroupID='it''s' "), "it's"),
        ("bare", JMS_SELECTOR, Value::string("JMSXGroupID = 'b'"), "b"),
    ] {
        let wanted = with_filter(receiver(name, queue), key, value.clone());
        let (link, attach) = client.attach(wanted)?;
        assert_eq!(filters(&attach), [(key.to_owned(), value)], "{name}");
        assert!(is_lock_answered(&attach), "{name}");
        // It is the lock itself: nobody else gets the message session, by either filter.
        let (condition, text) = client.refused(selecting(
            "other",
            queue,
            &format!("JMSXGroupID = '{}'", id.replace('\'', "''")),
        ))?;
        assert_eq!(condition, "com.microsoft:session-cannot-be-locked", "{text}");
        let by_id = with_filter(receiver("other", queue), MESSAGE_SESSION_FILTER, Value::string(id));
        assert_eq!(client.refused(by_id)?.0, "com.microsoft:session-cannot-be-locked");
        client.credit(link, 10)?;
        let delivery = client.receive(link)?;
        assert_eq!(delivery.text(), format!("of {id}"));
        client.complete(&delivery)?;
        client.nothing_comes(A_WHILE)?;
        assert!(client.arrived(link)?.is_empty(), "messages of another message session came");
        client.detach(link)?;
    }
    client.close()
}

fn generic_session_next_by_jms_selector(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    // Filters without an effect are left out of the answer.
    let next = |name: &str| {
        let attach = selecting(name, queue, "JMSXGroupID Is Not Null");
        with_filter(attach, "no-local", Value::List(Vec::new()))
    };
    let pending = client.start_attach(next("first"))?;
    client.nothing_comes(A_WHILE)?;
    assert!(!client.is_answered(pending), "answered without a message session");
    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", Some("it's")))?;
    let attach = match client.attach_answer(pending, ANSWER)? {
        Ok(attach) => attach,
        Err(error) => panic!("refused: {error:?}"),
    };
    // The answer says which one it is.
    assert_eq!(filters(&attach), [(JMS_SELECTOR.to_owned(), selector("JMSXGroupID = 'it''s'"))]);
    assert!(is_lock_answered(&attach));
    client.credit(pending, 1)?;
    let delivery = client.receive(pending)?;
    assert_eq!(delivery.text(), "m");
    client.complete(&delivery)?;
    let timed = with_property(next("second"), "com.microsoft:timeout", Value::Uint(200));
    assert_eq!(client.refused(timed)?.0, "com.microsoft:timeout");
    client.close()
}

fn selectors_that_pick_messages_are_refused(s: &Scenario) -> Outcome {
    let plain = s.queue();
    let of_sessions = "generic_session_by_jms_selector";
    let mut client = s.connect()?;
    for (queue, text) in [
        (of_sessions, "JMSXGroupID = 'a' AND colour = 'red'"),
        (of_sessions, "jmsxgroupid = 'a'"),
        (of_sessions, "JMSXGroupID IS NULL"),
        (of_sessions, "JMSXGroupID LIKE 'a%'"),
        (of_sessions, ""),
        (plain, "colour = 'red'"),
        (plain, "JMSXGroupID = 'a'"),
        (plain, "JMSXGroupID IS NOT NULL"),
        // A dead-letter queue has plain receivers only.
        ("generic_session_by_jms_selector/$DeadLetterQueue", "JMSXGroupID = 'a'"),
    ] {
        let (condition, told) = client.refused(selecting("r", queue, text))?;
        assert_eq!(condition, "amqp:not-implemented", "{text}: {told}");
        for possible in ["JMSXGroupID = 'id'", "JMSXGroupID IS NOT NULL"] {
            assert!(told.contains(possible), "{told}");
        }
    }
    let both = selecting("r", of_sessions, "JMSXGroupID = 'a'");
    let both = with_filter(both, MESSAGE_SESSION_FILTER, Value::string("a"));
    assert_eq!(client.refused(both)?.0, "amqp:invalid-field");
    let number = with_filter(receiver("r", of_sessions), JMS_SELECTOR, Value::Int(1));
    assert_eq!(client.refused(number)?.0, "com.microsoft:argument-error");
    let long = format!("JMSXGroupID = '{}'", "x".repeat(129));
    assert_eq!(client.refused(selecting("r", of_sessions, &long))?.0, "com.microsoft:argument-error");
    client.close()
}

fn generic_session_auto_renewed_while_the_link_is_open(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    client.send(sender, text_message("m", Some("s")))?;
    let mut holder = s.connect()?;
    let (link, _) = holder.attach(with_message_session(receiver("holder", queue), "s"))?;
    holder.credit(link, 1)?;
    let delivery = holder.receive(link)?;
    holder.nothing_comes(OVER_ONE_LOCK)?;
    let other = || with_message_session(receiver("other", queue), "s");
    assert_eq!(client.refused(other())?.0, "com.microsoft:session-cannot-be-locked");
    holder.complete(&delivery)?;
    // Messages show the end of the renewed lock.
    client.send(sender, text_message("n", Some("s")))?;
    holder.credit(link, 1)?;
    let delivery = holder.receive(link)?;
    assert_eq!((delivery.text(), delivery.count()), ("n", 0));
    // With the connection the renewals end: the lock runs out, and the delivery counts.
    drop(holder);
    let freed = wait_until("the end of the lock", ANSWER, || match client.start_attach(other()) {
        Err(failed) => Some(Err(failed)),
        Ok(link) => match client.attach_answer(link, ANSWER) {
            Ok(Ok(_)) => Some(Ok(link)),
            Ok(Err(_)) => None,
            Err(failed) => Some(Err(failed)),
        },
    })??;
    client.credit(freed, 1)?;
    let delivery = client.receive(freed)?;
    assert_eq!((delivery.text(), delivery.count()), ("n", 1));
    client.complete(&delivery)?;
    client.close()
}

fn message_locks_are_renewed_while_their_link_is_open(s: &Scenario) -> Outcome {
    let queue = s.queue();
    let mut client = s.connect()?;
    let sender = client.sender(queue)?;
    for text in ["kept", "left"] {
        client.send(sender, text_message(text, None))?;
    }
    let link = client.receiver(queue, 2)?;
    let kept = client.receive(link)?;
    let left = client.receive(link)?;
    let other = client.receiver(queue, 2)?;
    client.nothing_comes(OVER_ONE_LOCK)?;
    assert!(client.arrived(other)?.is_empty(), "a lock ran out");
    client.complete(&kept)?;
    client.detach(link)?;
    // Without its link the lock runs out.
    let again = client.receive(other)?;
    assert_eq!((again.text(), again.count()), (left.text(), 1));
    client.complete(&again)?;
    client.close()
}

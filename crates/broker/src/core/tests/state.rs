//! State of message sessions, and listing.

use lockstep_model::SizeLimit;

use super::*;

fn held() -> (Broker, EntityId) {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept(queue, 1, "s");
    (broker, queue)
}

fn stored(broker: &Broker, queue: EntityId, session: &str) -> Option<Bytes> {
    let record = broker.store.read_message_session(queue, &id(session)).expect("memory");
    record.map(|record| record.state)
}

/// Semantics, G-68.
#[test]
fn state_is_absent_until_set_and_the_last_write_wins() {
    let (mut broker, queue) = held();
    assert_eq!(broker.state(queue, 1, "s"), Reply::MessageSessionState(StateValue::Absent));
    broker.set_state(queue, 1, "s", Some(b"one"));
    assert_eq!(broker.set_state(queue, 1, "s", Some(b"two\0")), Reply::Done);
    assert_eq!(broker.state(queue, 1, "s"), Reply::MessageSessionState(StateValue::Stored));
    assert_eq!(stored(&broker, queue, "s").as_deref(), Some(&b"two\0"[..]));
}

/// Rule 3: read your writes, also those on their way to disk.
#[test]
fn an_uncommitted_state_is_served_from_memory() {
    let (mut broker, queue) = held();
    broker.hold_commits();
    let request = broker.request();
    let (session, holder) = (id("s"), claim(1));
    let state = Some(Bytes::from_static(b"new"));
    let set =
        Command::SetMessageSessionState { entity: queue, session: session.clone(), state, holder, request };
    assert_eq!(broker.run(set), [], "A-92: not confirmed before it is durable");
    let request = broker.request();
    broker.run(Command::GetMessageSessionState { entity: queue, session, holder, request });
    let seen = broker.commit();
    let replies: Vec<_> = seen.into_iter().map(|routed| routed.effect).collect();
    let expected = [
        Effect::Reply { request: RequestId(request.0 - 1), reply: Reply::Done },
        Effect::Reply {
            request,
            reply: Reply::MessageSessionState(StateValue::Inline(Bytes::from_static(b"new"))),
        },
    ];
    assert_eq!(replies, expected);
}

/// Semantics A-90, D-22.
#[test]
fn null_removes_the_state_and_no_bytes_are_a_value() {
    let (mut broker, queue) = held();
    broker.set_state(queue, 1, "s", Some(b""));
    assert_eq!(broker.state(queue, 1, "s"), Reply::MessageSessionState(StateValue::Stored));
    assert_eq!(broker.set_state(queue, 1, "s", None), Reply::Done);
    assert_eq!(broker.state(queue, 1, "s"), Reply::MessageSessionState(StateValue::Absent));
    assert_eq!(stored(&broker, queue, "s"), None);
}

/// Semantics.
#[test]
fn state_survives_release_expiry_and_restart() {
    let (mut broker, queue) = held();
    broker.set_state(queue, 1, "s", Some(b"kept"));
    broker.detach(1);
    broker.accept(queue, 2, "s");
    assert_eq!(broker.state(queue, 2, "s"), Reply::MessageSessionState(StateValue::Stored));
    broker.pass(LOCK);
    let mut broker = broker.crash();
    broker.accept(queue, 3, "s");
    assert_eq!(broker.state(queue, 3, "s"), Reply::MessageSessionState(StateValue::Stored));
    assert_eq!(stored(&broker, queue, "s").as_deref(), Some(&b"kept"[..]));
}

/// Semantics A-95.
#[test]
fn state_does_not_leak_into_other_sessions() {
    let (mut broker, queue) = held();
    broker.accept(queue, 2, "S");
    broker.set_state(queue, 1, "s", Some(b"mine"));
    assert_eq!(broker.state(queue, 2, "S"), Reply::MessageSessionState(StateValue::Absent));
}

/// Semantics A-96.
#[test]
fn an_oversize_state_is_refused_and_the_old_one_kept() {
    let (mut broker, queue) = held();
    broker.set_state(queue, 1, "s", Some(&[1; 1024]));
    let too_large = Refusal::TooLarge { limit: SizeLimit::MessageSessionState, max_bytes: 1024 };
    assert_eq!(broker.set_state(queue, 1, "s", Some(&[2; 1025])), Reply::Refused(too_large));
    assert_eq!(stored(&broker, queue, "s").as_deref(), Some(&[1; 1024][..]));
}

/// Semantics.
#[test]
fn state_needs_the_lock() {
    let (mut broker, queue) = held();
    broker.accept(queue, 2, "other");
    let lost = Reply::Refused(Refusal::MessageSessionLockLost);
    assert_eq!(broker.state(queue, 2, "s"), lost);
    assert_eq!(broker.set_state(queue, 2, "s", Some(b"x")), lost);
    assert_eq!(broker.set_state(queue, 3, "s", Some(b"x")), lost);
}

/// Semantics A-100.
#[test]
fn a_browse_link_reads_the_state_of_a_held_session_and_nothing_else() {
    let (mut broker, queue) = held();
    broker.set_state(queue, 1, "s", Some(b"x"));
    broker.send(queue, Some("s"));
    let browse = ReceiveIntent::BrowseMessageSession(id("s"));
    let seen = broker.attach(queue, 2, browse, ReceiveMode::PeekLock);
    let grant = AttachGrant { link: link(2), message_session: Some((id("s"), None)) };
    assert_eq!(seen[0].effect, Effect::Attached(grant));
    assert_eq!(broker.credit(2, 10), []);
    assert_eq!(broker.state(queue, 2, "s"), Reply::MessageSessionState(StateValue::Stored));
    let lost = Reply::Refused(Refusal::MessageSessionLockLost);
    assert_eq!(broker.set_state(queue, 2, "s", None), lost);
    assert_eq!(broker.renew_session(queue, 2, "s"), lost);
    assert_eq!(broker.state(queue, 2, "other"), lost);
    broker.detach(2);
    assert_eq!(broker.state(queue, 2, "s"), lost);
}

/// Semantics.
#[test]
fn the_listing_shows_sessions_with_messages_or_state() {
    let (mut broker, queue) = held();
    for session in ["b", "a", "dead"] {
        broker.send(queue, Some(session));
    }
    broker.set_state(queue, 1, "s", Some(b"x"));
    broker.accept(queue, 2, "reserved");
    broker.accept(queue, 3, "dead");
    let token = tokens(&broker.credit(3, 1))[0];
    assert_eq!(broker.list(queue, None, 0, 10), ["a", "b", "dead", "s"]);
    broker.settle(3, token, Settlement::DeadLetter(PropertyOverlay::new()));
    assert_eq!(broker.list(queue, None, 0, 10), ["a", "b", "s"]);
    broker.set_state(queue, 1, "s", None);
    assert_eq!(broker.list(queue, None, 0, 10), ["a", "b"]);
}

/// Semantics A-113, G-69.
#[test]
fn with_a_cutoff_the_listing_shows_sessions_whose_state_was_set_after_it() {
    let (mut broker, queue) = held();
    broker.send(queue, Some("messages"));
    broker.set_state(queue, 1, "s", Some(b"x"));
    let then = broker.now.utc;
    assert_eq!(broker.list(queue, Some(then), 0, 10), [""; 0], "strictly after");
    broker.advance(Duration::from_secs(1));
    broker.accept(queue, 2, "t");
    broker.set_state(queue, 2, "t", Some(b"y"));
    assert_eq!(broker.list(queue, Some(then), 0, 10), ["t"]);
    broker.set_state(queue, 1, "s", Some(b"z"));
    assert_eq!(broker.list(queue, Some(then), 0, 10), ["s", "t"]);
    assert_eq!(broker.list(queue, Some(then), 1, 10), ["t"]);
}

/// Semantics A-115.
#[test]
fn a_hundred_and_ten_sessions_are_found_in_pages_of_a_hundred() {
    let (mut broker, queue) = Broker::with_session_queue();
    for number in 0..110 {
        broker.send(queue, Some(&format!("s{number:03}")));
    }
    let mut all = broker.list(queue, None, 0, 100);
    assert_eq!(all.len(), 100);
    all.extend(broker.list(queue, None, 100, 100));
    let expected: Vec<_> = (0..110).map(|number| format!("s{number:03}")).collect();
    assert_eq!(all, expected);
    assert_eq!(broker.list(queue, None, 110, 100), [""; 0]);
}

const TIME_TO_LIVE: Duration = Duration::from_secs(600);
const A_MOMENT: Duration = Duration::from_millis(1);

/// A queue whose states live for [`TIME_TO_LIVE`], with the state of "s" set and its lock released.
fn aging() -> (Broker, EntityId) {
    let mut broker = Broker::new(CoreConfig::default());
    let queue = broker
        .define_as(QueueDescription {
            message_session_state_time_to_live: Some(TIME_TO_LIVE),
            ..Broker::description("q", true)
        })
        .unwrap();
    broker.accept(queue, 1, "s");
    broker.set_state(queue, 1, "s", Some(b"kept"));
    broker.detach(1);
    (broker, queue)
}

fn is_listed(broker: &mut Broker, queue: EntityId) -> bool {
    broker.list(queue, None, 0, 10) == ["s"]
}

/// F-1.
#[test]
fn a_state_that_nobody_uses_goes_after_its_time_for_good() {
    let (mut broker, queue) = aging();
    broker.pass(TIME_TO_LIVE - A_MOMENT);
    assert!(is_listed(&mut broker, queue) && stored(&broker, queue, "s").is_some());
    broker.pass(A_MOMENT);
    assert!(!is_listed(&mut broker, queue));
    assert_eq!(stored(&broker, queue, "s"), None);
    assert_eq!(broker.namespace.counts(queue).size_bytes, 0);
    assert_eq!(broker.namespace.next_due(), None);
    broker.accept(queue, 2, "s");
    assert_eq!(broker.state(queue, 2, "s"), Reply::MessageSessionState(StateValue::Absent));
}

/// F-1: never while locked or while messages exist; sliding from the last set and the last message.
#[test]
fn a_state_in_use_stays_and_its_time_begins_anew() {
    let (mut broker, queue) = aging();
    broker.pass(TIME_TO_LIVE / 2);
    broker.send(queue, Some("s"));
    broker.pass(TIME_TO_LIVE);
    assert!(is_listed(&mut broker, queue), "a message is there");
    broker.accept(queue, 2, "s");
    let token = tokens(&broker.credit(2, 1))[0];
    broker.complete(2, token);
    for _ in 0..20 {
        broker.pass(LOCK / 2);
        assert!(matches!(broker.renew_session(queue, 2, "s"), Reply::Renewed(_)));
    }
    assert!(is_listed(&mut broker, queue), "it is held");
    broker.set_state(queue, 2, "s", Some(b"newer"));
    broker.detach(2);
    broker.pass(TIME_TO_LIVE - A_MOMENT);
    assert!(is_listed(&mut broker, queue), "it was set since");
    broker.pass(TIME_TO_LIVE);
    assert!(!is_listed(&mut broker, queue));
}

/// F-1, B-48: a setting that is gone at the next start stops nothing else.
#[test]
fn states_stay_when_their_time_to_live_is_taken_back_at_a_start() {
    let (broker, _) = aging();
    let mut broker = broker.crash();
    let queue = broker.define_as(Broker::description("q", true)).unwrap();
    let scheduled_at = Some(broker.now.utc.plus(TIME_TO_LIVE * 2));
    broker.send_all(queue, vec![IncomingMessage { scheduled_at, ..message(Some("t"), "x") }]);
    broker.pass(TIME_TO_LIVE * 2);
    assert!(broker.list(queue, None, 0, 10) == ["s", "t"]);
    assert_eq!(broker.namespace.counts(queue).active, 1);
    assert_eq!(broker.namespace.next_due(), None);
}

/// F-1: a start of the broker is a use; so is a change of the time to live.
#[test]
fn the_time_of_a_state_is_counted_from_a_restart_and_can_be_changed() {
    let (mut broker, queue) = aging();
    broker.pass(TIME_TO_LIVE - A_MOMENT);
    let mut broker = broker.crash();
    broker.pass(TIME_TO_LIVE - A_MOMENT);
    assert!(is_listed(&mut broker, queue));
    broker.redefine(QueueDescription {
        message_session_state_time_to_live: None,
        ..Broker::description("q", true)
    });
    broker.pass(TIME_TO_LIVE * 10);
    assert!(is_listed(&mut broker, queue));
    let week = Duration::from_secs(7 * 24 * 3600);
    broker.redefine(QueueDescription {
        message_session_state_time_to_live: Some(week),
        ..Broker::description("q", true)
    });
    broker.pass(week);
    assert!(!is_listed(&mut broker, queue));
}

//! Receive-and-delete in message sessions: at most once, and in order (semantics, C-1,
//! G-11, G-32).

use lockstep_model::EntityStatus;

use super::*;

/// A receive-and-delete holder of "s" that was given the first `count` of five messages.
fn holder(count: u64) -> (Broker, EntityId, Vec<LockToken>) {
    let (mut broker, queue) = Broker::with_session_queue();
    for _ in 0..5 {
        broker.send(queue, Some("s"));
    }
    let intent = ReceiveIntent::AcceptMessageSession(id("s"));
    broker.attach(queue, 1, intent, ReceiveMode::ReceiveAndDelete);
    let tokens = tokens(&broker.credit(1, count));
    assert_eq!(tokens.len() as u64, count);
    (broker, queue, tokens)
}

#[test]
fn what_was_taken_back_goes_out_before_what_was_never_out() {
    let (mut broker, queue, _) = holder(3);
    broker.hold_commits();
    broker.detach(1);
    // The rows of the first three are on their way to the disk.
    broker.accept(queue, 2, "s");
    assert_eq!(delivered(&broker.credit(2, 9)), []);
    let seen = broker.commit();
    assert_eq!(delivered(&seen), (1..=5).map(|number| (2, number, 0)).collect::<Vec<_>>());
}

#[test]
fn what_a_holder_had_sent_before_it_lost_its_lock_is_not_sent_again() {
    let (mut broker, queue, tokens) = holder(3);
    assert_eq!(detached(&broker.pass(LOCK)), [(1, Some(Refusal::MessageSessionLockLost))]);
    broker.accept(queue, 2, "s");
    assert_eq!(delivered(&broker.credit(2, 9)), [], "nobody knows yet what was sent");
    // Two were on the wire, the third was not.
    assert_eq!(delivered(&broker.run(Command::Sent { link: link(1), tokens: tokens[..2].to_vec() })), []);
    let seen = broker.run(Command::Return { link: link(1), tokens: tokens[2..].to_vec() });
    assert_eq!(delivered(&seen), [(2, 3, 0), (2, 4, 0), (2, 5, 0)]);
    assert_eq!(broker.namespace.counts(queue).active, 3);
}

#[test]
fn a_connection_that_goes_without_a_word_had_sent_nothing() {
    let (mut broker, queue, _) = holder(2);
    broker.pass(LOCK);
    broker.accept(queue, 2, "s");
    broker.credit(2, 9);
    let seen = broker.break_connection(1);
    assert_eq!(delivered(&seen), (1..=5).map(|number| (2, number, 0)).collect::<Vec<_>>());
}

/// A-70, B-97.
#[test]
fn disabling_a_queue_takes_the_lock_and_leaves_open_what_was_sent() {
    let (mut broker, queue, tokens) = holder(2);
    let mut description = Broker::description("q", true);
    description.status = EntityStatus::ReceiveDisabled;
    let seen = broker.redefine(description.clone());
    assert_eq!(detached(&seen), [(1, Some(Refusal::MessageSessionLockLost))]);
    broker.run(Command::Sent { link: link(1), tokens: tokens[..1].to_vec() });
    broker.run(Command::Return { link: link(1), tokens: tokens[1..].to_vec() });
    description.status = EntityStatus::Active;
    broker.redefine(description);
    assert_eq!(broker.contents(queue), [(2, 0), (3, 0), (4, 0), (5, 0)]);
    broker.accept(queue, 2, "s");
    assert_eq!(delivered(&broker.credit(2, 1)), [(2, 2, 0)]);
}

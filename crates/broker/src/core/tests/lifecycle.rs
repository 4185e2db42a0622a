//! Entities at run time: status, quota, partitions, deletion, idleness (semantics B-8, B-96 to
//! B-98, B-102 to B-104, A-139, D-11, D-20, D-42, F-9).

use lockstep_model::EntityStatus;

use super::*;

fn detached(seen: &[Routed]) -> Vec<(u64, Option<Refusal>)> {
    seen.iter()
        .filter_map(|routed| match &routed.effect {
            Effect::Detached { link, cause } => Some((link.0, cause.clone())),
            _ => None,
        })
        .collect()
}

fn with_status(status: EntityStatus) -> QueueDescription {
    let mut description = Broker::description("q", false);
    description.status = status;
    description
}

/// B-97.
#[test]
fn a_disabled_entity_takes_and_gives_nothing_and_keeps_its_messages() {
    let (mut broker, queue) = Broker::with_queue();
    broker.send(queue, None);
    broker.receiver(queue, 1, 0);
    let seen = broker.redefine(with_status(EntityStatus::Disabled));
    assert_eq!(detached(&seen), [(1, Some(Refusal::EntityDisabled))]);
    let disabled = Reply::Refused(Refusal::EntityDisabled);
    assert_eq!(broker.send_all(queue, vec![message(None, "x")]), disabled);
    let seen = broker.attach(queue, 2, ReceiveIntent::Plain, ReceiveMode::PeekLock);
    assert_eq!(refused(&seen), [(2, Refusal::EntityDisabled)]);
    let seen = broker.redefine(with_status(EntityStatus::SendDisabled));
    assert_eq!(reply(&seen), Reply::Defined(queue));
    assert_eq!(broker.send_all(queue, vec![message(None, "x")]), disabled);
    assert_eq!(delivered(&broker.receiver(queue, 3, 1)), [(3, 1, 0)]);
    broker.redefine(with_status(EntityStatus::ReceiveDisabled));
    assert_eq!(broker.send_all(queue, vec![message(None, "x")]), enqueued(2));
}

/// D-42.
#[test]
fn other_changes_leave_links_and_holds_alone() {
    let (mut broker, queue) = Broker::with_session_queue();
    broker.accept(queue, 1, "a");
    let mut description = Broker::description("q", true);
    description.lock_duration = LOCK * 2;
    assert_eq!(detached(&broker.redefine(description)), []);
    broker.send(queue, Some("a"));
    assert_eq!(delivered(&broker.credit(1, 1)), [(1, 1, 0)]);
    let until = broker.now.utc.plus(LOCK * 2);
    assert_eq!(broker.renew_session(queue, 1, "a"), Reply::Renewed(vec![until]));
}

#[test]
fn what_cannot_be_changed_is_refused_by_name() {
    let (mut broker, _) = Broker::with_queue();
    let mut description = Broker::description("q", true);
    let seen = broker.redefine(description.clone());
    assert_eq!(reply(&seen), Reply::Refused(Refusal::ImmutableProperty("requires_session")));
    description.requires_session = false;
    description.requires_duplicate_detection = true;
    let seen = broker.redefine(description);
    assert_eq!(reply(&seen), Reply::Refused(Refusal::ImmutableProperty("requires_duplicate_detection")));
    let seen = broker.redefine(Broker::description("other", false));
    assert_eq!(reply(&seen), Reply::Refused(Refusal::EntityNotFound));
}

/// B-8.
#[test]
fn a_full_entity_takes_no_more_and_gives_room_back() {
    let mut broker = Broker::new(CoreConfig::default());
    let mut description = Broker::description("q", true);
    description.max_size_bytes = 1024 * 1024;
    description.max_message_size_bytes = 600 * 1024;
    let queue = broker.define_as(description).expect("valid");
    let half = || vec![message(Some("a"), &"x".repeat(500 * 1024))];
    assert_eq!(broker.send_all(queue, half()), enqueued(1));
    assert_eq!(broker.send_all(queue, half()), enqueued(2));
    broker.accept(queue, 1, "a");
    let state = vec![7; 100 * 1024];
    let full = Reply::Refused(Refusal::QuotaExceeded);
    assert_eq!(broker.set_state(queue, 1, "a", Some(&state)), full, "states count");
    assert_eq!(broker.set_state(queue, 1, "a", Some(&state[..20 * 1024])), Reply::Done);
    assert_eq!(broker.send_all(queue, half()), enqueued(3), "it begins below the limit");
    assert_eq!(broker.send_all(queue, half()), full);
    let mut after = broker.crash();
    assert_eq!(after.send_all(queue, half()), full, "sizes survive a restart");
    let tokens = tokens(&broker.credit(1, 3));
    broker.settle(1, tokens[0], Settlement::DeadLetter(PropertyOverlay::new()));
    assert_eq!(broker.send_all(queue, half()), full, "dead letters count");
    broker.complete(1, tokens[1]);
    broker.complete(1, tokens[2]);
    assert_eq!(broker.send_all(queue, half()), enqueued(4));
    assert_eq!(broker.namespace.counts(queue).size_bytes, (1000 + 20) * 1024);
}

/// A-139, D-20, B-104.
#[test]
fn a_partitioned_entity_keeps_the_rules_about_keys() {
    let mut broker = Broker::new(CoreConfig::default());
    let mut description = Broker::description("q", true);
    description.enable_partitioning = true;
    let queue = broker.define_as(description).expect("valid");
    let keyed = |session: &str, key: Option<&str>| IncomingMessage {
        partition_key: key.map(Into::into),
        ..message(Some(session), "x")
    };
    let mismatch = |reply: &Reply| matches!(reply, Reply::Refused(Refusal::PartitionKeyMismatch(_)));
    assert!(mismatch(&broker.send_all(queue, vec![keyed("a", None), keyed("b", None)])));
    assert!(mismatch(&broker.send_all(queue, vec![keyed("a", Some("k"))])));
    assert_eq!(broker.send_all(queue, vec![keyed("a", Some("a")), keyed("a", None)]), enqueued(1));
    let (mut broker, plain) = Broker::with_session_queue();
    assert_eq!(broker.send_all(plain, vec![keyed("a", Some("k")), keyed("b", None)]), enqueued(1));
}

/// F-9.
#[test]
fn a_holder_that_closes_without_settling_is_counted_where_asked() {
    let mut broker = Broker::new(CoreConfig::default());
    let mut description = Broker::description("q", true);
    description.count_unsettled_on_message_session_close = true;
    let queue = broker.define_as(description).expect("valid");
    broker.send(queue, Some("a"));
    for number in 1..=3 {
        broker.accept(queue, number, "a");
        broker.credit(number, 1);
        broker.detach(number);
    }
    assert_eq!(broker.contents(dead_letter(queue)), [(1, 3)]);
}

fn delete(broker: &mut Broker, entity: EntityId) -> Vec<Routed> {
    let (request, connection) = (broker.request(), connection(97));
    broker.run(Command::DeleteQueue { entity, connection, request })
}

#[test]
fn a_deleted_queue_is_gone_with_everything_in_it() {
    let (mut broker, queue) = Broker::with_session_queue();
    for session in ["a", "b"] {
        broker.send(queue, Some(session));
    }
    broker.accept(queue, 1, "a");
    broker.credit(1, 1);
    broker.set_state(queue, 1, "a", Some(b"x"));
    broker.accept(queue, 2, "b");
    broker.break_connection(2);
    broker.accept_next(queue, 3);
    let seen = delete(&mut broker, queue);
    //
    assert_eq!(detached(&seen), [(1, Some(Refusal::MessageSessionLockLost))]);
    assert_eq!(refused(&seen), [(3, Refusal::EntityNotFound)]);
    assert_eq!(reply(&seen), Reply::Done);
    assert_eq!((broker.namespace.links.len(), broker.namespace.locks.len()), (0, (0, 0)));
    assert_eq!((broker.namespace.next_deadline(), broker.namespace.next_due()), (None, None));
    assert_eq!(reply(&delete(&mut broker, queue)), Reply::Refused(Refusal::EntityNotFound));
    let again = broker.define("q", false);
    assert_ne!(again, queue, "numbers are never given again");
    assert_eq!(broker.contents(again), []);
    let mut after = broker.crash();
    assert_eq!(after.namespace.entities().map(|(id, _)| id).collect::<Vec<_>>(), [again]);
    assert_eq!(after.contents(again), []);
}

/// docs/architecture.md, rule 12.
#[test]
fn the_bytes_of_a_deleted_queue_go_in_bounded_steps() {
    let (mut broker, queue) = Broker::with_queue();
    for _ in 0..3 {
        broker.send_all(queue, vec![message(None, "x"); 1_000]);
    }
    broker.hold_commits();
    delete(&mut broker, queue);
    assert!(broker.namespace.next_deadline().is_some());
    while broker.namespace.next_deadline().is_some() {
        broker.tick();
    }
    broker.commit();
    let nothing = |_, _| false;
    assert_eq!(broker.store.remove_orphan_bodies(&nothing).expect("memory"), 0);
}

/// B-98, D-11.
#[test]
fn an_idle_queue_is_deleted_and_a_used_one_is_not() {
    let mut broker = Broker::new(CoreConfig::default());
    let idle = Duration::from_secs(300);
    let mut description = Broker::description("q", false);
    description.auto_delete_on_idle = Some(idle);
    let queue = broker.define_as(description).expect("valid");
    let is_there = |broker: &Broker| broker.namespace.entities().count() == 1;
    broker.pass(idle / 2);
    broker.peek(queue, 0, 1, None);
    broker.pass(idle / 2);
    assert!(is_there(&broker), "a peek is use");
    broker.receiver(queue, 1, 0);
    broker.pass(idle * 3);
    assert!(is_there(&broker), "a receiver is use");
    broker.detach(1);
    let scheduled_at = Some(broker.now.utc.plus(idle * 2));
    broker.send_all(queue, vec![IncomingMessage { scheduled_at, ..message(None, "x") }]);
    broker.pass(idle * 2);
    assert!(is_there(&broker), "a scheduled message is use");
    let mut after = broker.crash();
    after.pass(idle - Duration::from_secs(1));
    assert!(is_there(&after), "a start is use");
    after.pass(idle * 2);
    assert!(!is_there(&after) && !is_there(&after.crash()));
}

fn with_idle(idle: Duration) -> (Broker, EntityId) {
    let mut broker = Broker::new(CoreConfig::default());
    let description = QueueDescription { auto_delete_on_idle: Some(idle), ..Broker::description("q", false) };
    let queue = broker.define_as(description).expect("valid");
    (broker, queue)
}

/// Uses a queue of this idle time until just before the second look.
type Use = fn(&mut Broker, EntityId, Duration);

/// B-98: the time is counted from the end of each use, whenever it was last looked at.
#[test]
fn the_end_of_a_use_is_a_use() {
    let (idle, second) = (Duration::from_secs(300), Duration::from_secs(1));
    let is_there = |broker: &Broker| broker.namespace.entities().count() == 1;
    let ends: [(&str, Use); 4] = [
        ("a scheduled message became active", |broker, queue, idle| {
            let scheduled_at = Some(broker.now.utc.plus(idle * 2 - Duration::from_secs(1)));
            broker.send_all(queue, vec![IncomingMessage { scheduled_at, ..message(None, "x") }]);
            broker.pass(idle);
            broker.pass(idle - Duration::from_secs(1));
        }),
        ("a receiver was detached", |broker, queue, idle| {
            broker.receiver(queue, 1, 0);
            broker.pass(idle);
            broker.pass(idle - Duration::from_secs(1));
            broker.detach(1);
        }),
        ("a connection broke", |broker, queue, idle| {
            broker.receiver(queue, 1, 0);
            broker.pass(idle);
            broker.pass(idle - Duration::from_secs(1));
            broker.break_connection(1);
        }),
        ("a lock without a link was kept and settled", |broker, queue, idle| {
            broker.send(queue, None);
            let token = tokens(&broker.receiver(queue, 1, 1))[0];
            broker.detach(1);
            for _ in 0..2 * idle.as_secs() / 30 - 1 {
                broker.pass(Duration::from_secs(30));
                assert!(matches!(broker.renew(queue, 2, &[token]), Reply::Renewed(_)));
            }
            broker.pass(Duration::from_secs(29));
            broker.manage(queue, 2, &[token], Settlement::Complete);
        }),
    ];
    for (what, end) in ends {
        let (mut broker, queue) = with_idle(idle);
        end(&mut broker, queue, idle);
        broker.pass(idle - second);
        assert!(is_there(&broker), "{what}");
        broker.pass(second * 2);
        assert!(!is_there(&broker), "{what}");
    }
}

/// A-53, C-9: what is left of a lost hold is not counted against messages of other queues.
#[test]
fn a_queue_deleted_while_a_lost_hold_is_counted_leaves_other_locks_alone() {
    let (mut broker, queue) = Broker::with_session_queue();
    let other = broker.define("other", false);
    for _ in 0..700 {
        broker.send(queue, Some("s"));
        broker.send(other, None);
    }
    broker.accept(queue, 1, "s");
    broker.credit(1, 700);
    while broker.namespace.next_deadline() == Some(MonoTime::default()) {
        broker.tick();
    }
    broker.hold_commits();
    broker.advance(LOCK);
    broker.tick();
    assert!(!broker.namespace.returning.is_empty(), "counted in bounded steps");
    delete(&mut broker, queue);
    broker.receiver(other, 2, 700);
    for _ in 0..10 {
        broker.tick();
    }
    broker.commit();
    assert_eq!(broker.namespace.counts(other).locked, 700);
    let messages = &broker.namespace.queues[&other].messages;
    assert!(messages.iter_from(SequenceNumber(0)).all(|(_, entry)| entry.delivery_count == 0));
}

fn described(broker: &mut Broker, name: &str) -> Reply {
    let (request, connection) = (broker.request(), connection(97));
    let name = EntityName::new(name).expect("valid");
    reply(&broker.run(Command::DescribeQueue { name, connection, request }))
}

fn snapshot(broker: &mut Broker, name: &str) -> EntitySnapshot {
    match described(broker, name) {
        Reply::Described(snapshot) => *snapshot,
        other => panic!("{other:?}"),
    }
}

fn create(broker: &mut Broker, name: &str) -> Reply {
    let (request, connection) = (broker.request(), connection(97));
    let description = Box::new(Broker::description(name, false));
    reply(&broker.run(Command::DefineQueue { description, existence: Existence::New, connection, request }))
}

/// G-80, G-82.
#[test]
fn a_queue_is_created_once_and_again_after_its_deletion() {
    let mut broker = Broker::new(CoreConfig::default());
    let Reply::Defined(first) = create(&mut broker, "Orders/EU") else { panic!("not created") };
    assert_eq!(create(&mut broker, "orders/eu"), Reply::Refused(Refusal::EntityAlreadyExists));
    broker.send(first, None);
    assert_eq!(reply(&delete(&mut broker, first)), Reply::Done);
    assert_eq!(described(&mut broker, "Orders/EU"), Reply::Refused(Refusal::EntityNotFound));
    let Reply::Defined(second) = create(&mut broker, "orders/eu") else { panic!("not created") };
    assert_ne!(first, second);
    assert_eq!(snapshot(&mut broker, "ORDERS/EU").counts.active, 0);
    assert_eq!(broker.send_all(second, vec![message(None, "x")]), enqueued(1));
}

/// G-78, G-87.
#[test]
fn a_queue_is_described_with_its_dates_and_counts() {
    let mut broker = Broker::new(CoreConfig::default());
    create(&mut broker, "Q");
    let created = broker.now.utc;
    broker.advance(Duration::from_secs(1));
    let before = snapshot(&mut broker, "q");
    assert_eq!((before.description.name.as_str(), before.counts.accessed_at), ("Q", None));
    assert_eq!((before.description.created_at, before.description.updated_at), (created, created));
    let mut description = Broker::description("q", false);
    description.user_metadata = Some("new".into());
    broker.redefine(description.clone());
    let updated = broker.now.utc;
    broker.advance(Duration::from_secs(1));
    // The same once more changes nothing.
    broker.redefine(description);
    broker.send(before.id, None);
    let after = snapshot(&mut broker, "q");
    assert_eq!((after.description.created_at, after.description.updated_at), (created, updated));
    assert_eq!((after.description.name.as_str(), after.counts.active), ("Q", 1));
    assert_eq!(after.counts.accessed_at, Some(broker.now.utc));
    assert!(after.counts.size_bytes > 0);
    let restarted = snapshot(&mut broker.crash(), "q");
    assert_eq!(restarted.description, after.description);
    assert_eq!(restarted.counts.accessed_at, None);
}

/// G-83.
#[test]
fn queues_are_listed_by_name_in_pages() {
    let mut broker = Broker::new(CoreConfig::default());
    for name in ["b", "C", "a/x", "A"] {
        create(&mut broker, name);
    }
    let list = |broker: &mut Broker, skip, top| {
        let (request, connection) = (broker.request(), connection(97));
        match reply(&broker.run(Command::ListQueues { skip, top, connection, request })) {
            Reply::Listed(page) => {
                page.iter().map(|queue| queue.description.name.to_string()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&mut broker, 0, 100), ["A", "a/x", "b", "C"]);
    assert_eq!(list(&mut broker, 1, 2), ["a/x", "b"]);
    assert_eq!(list(&mut broker, 4, 2), [""; 0]);
    assert_eq!(list(&mut broker, u32::MAX, u32::MAX), [""; 0]);
}

//! What every [`Store`] promises, as tests that run against each of them.

mod histories;

use std::fmt::Debug;
#[cfg(feature = "rocksdb")]
use std::{fs, path::Path};

use bytes::Bytes;
use lockstep_model::{
    BodyId, CommitNumber, DuplicateKey, EntityDescription, EntityId, EntityName, MessageSessionId,
    MessageState, NamespaceId, PropertyOverlay, QueueDescription, SequenceNumber, Timestamp,
};

use histories::random_histories_end_in_the_state_of_their_last_commit;

use crate::{
    Batch, CounterRecord, DuplicateRecord, FaultStore, Faults, LoadVisitor, MemoryStore,
    MessageOverlayRecord, MessageRecord, MessageSessionRecord, NamespaceRecord, Store, StoreError,
};

/// A store under test.
pub(crate) trait Backend: Sized {
    /// A new, empty store.
    fn create() -> Self;
    /// It.
    fn store(&self) -> &dyn Store;
    /// The store after a crash: what was not synced may be gone.
    fn crash(self) -> Self;
    /// The store after it was closed and opened again.
    fn reopen(self) -> Self;
}

struct Memory(MemoryStore);

impl Backend for Memory {
    fn create() -> Self {
        Self(MemoryStore::new())
    }
    fn store(&self) -> &dyn Store {
        &self.0
    }
    fn crash(self) -> Self {
        Self(self.0.crash())
    }
    fn reopen(self) -> Self {
        Self(self.0.crash_keeping(usize::MAX))
    }
}

struct Faulty(FaultStore<MemoryStore>);

impl Backend for Faulty {
    fn create() -> Self {
        Self(FaultStore::new(MemoryStore::new(), Faults::default()))
    }
    fn store(&self) -> &dyn Store {
        &self.0
    }
    fn crash(self) -> Self {
        Self(FaultStore::new(self.0.inner().crash(), Faults::default()))
    }
    fn reopen(self) -> Self {
        Self(FaultStore::new(self.0.into_inner().crash_keeping(usize::MAX), Faults::default()))
    }
}

#[cfg(feature = "rocksdb")]
struct Rocks {
    store: Option<crate::RocksStore>,
    dir: tempfile::TempDir,
}

#[cfg(feature = "rocksdb")]
impl Rocks {
    fn open(dir: tempfile::TempDir) -> Self {
        let store = crate::RocksStore::open(dir.path(), &crate::RocksOptions::default()).expect("opens");
        Self { store: Some(store), dir }
    }
}

#[cfg(feature = "rocksdb")]
impl Backend for Rocks {
    fn create() -> Self {
        Self::open(tempfile::tempdir().expect("temporary directory"))
    }
    fn store(&self) -> &dyn Store {
        self.store.as_ref().expect("open")
    }
    /// The files as they are now, in another directory: the buffers of this process are not in them.
    fn crash(self) -> Self {
        let copy = tempfile::tempdir().expect("temporary directory");
        copy_directory(self.dir.path(), copy.path());
        Self::open(copy)
    }
    fn reopen(mut self) -> Self {
        self.store = None;
        Self::open(self.dir)
    }
}

/// Copies files and folders, as far as they are still there when their turn comes.
#[cfg(feature = "rocksdb")]
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("has a name"));
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            match fs::copy(&path, &target) {
                Ok(_) => {}
                // The engine removes files that it no longer needs whenever it likes.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

/// Makes a module of tests: the contract, run against one backend.
macro_rules! contract {
    ($module:ident, $backend:ident) => {
        contract!(@tests $module, $backend,
            every_kind_of_row_is_loaded_in_order,
            later_operations_of_a_batch_win,
            deleted_rows_are_gone_and_deleting_nothing_is_no_error,
            remembered_ids_are_forgotten_by_intervals,
            the_rows_of_one_store_are_deleted_together,
            a_write_is_seen_before_it_is_synced,
            a_crash_leaves_what_was_synced_and_at_most_a_prefix_of_the_rest,
            a_closed_store_comes_back_whole,
            large_bodies_come_back_byte_for_byte,
            bodies_are_answered_in_the_order_asked_with_gaps,
            message_sessions_take_odd_ids_and_large_states,
            a_body_written_in_parts_reads_as_one_written_whole,
            a_body_without_its_last_part_can_be_removed,
            bodies_that_no_message_names_are_removed,
            random_histories_end_in_the_state_of_their_last_commit,
        );
    };
    (@tests $module:ident, $backend:ident, $($test:ident,)*) => {
        mod $module {
            $(#[test] fn $test() { super::$test::<super::$backend>(); })*
        }
    };
}

contract!(memory, Memory);
contract!(faulty, Faulty);
#[cfg(feature = "rocksdb")]
contract!(rocks, Rocks);

const NAMESPACE: NamespaceId = NamespaceId(1);

fn queue(number: u32) -> EntityId {
    EntityId::new(NAMESPACE, number)
}

fn session(id: &str) -> MessageSessionId {
    MessageSessionId::new(id).expect("at most 128 characters")
}

fn message(body: u64, message_session: Option<&str>) -> MessageRecord {
    MessageRecord {
        expires_at: None,
        was_scheduled: false,
        state: MessageState::Active,
        enqueued_at: Timestamp::from_unix_millis(1_000),
        body: BodyId(body),
        size_bytes: 4,
        message_session: message_session.map(session),
    }
}

fn duplicate(interval: u32, key: u8) -> DuplicateRecord {
    DuplicateRecord { interval, key: DuplicateKey([key; 16]), accepted_at: Timestamp::from_unix_millis(7) }
}

fn state(bytes: &[u8]) -> MessageSessionRecord {
    MessageSessionRecord { updated_at: Timestamp::from_unix_millis(7), state: Bytes::copy_from_slice(bytes) }
}

/// Writes one batch under the next commit number of the test.
fn write(store: &dyn Store, commit: u64, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    store.write(CommitNumber(commit), &batch).expect("written");
}

/// Every visited row as a line of text.
#[derive(Default)]
struct Rows(Vec<String>);

impl Rows {
    fn push(&mut self, kind: &str, parts: &dyn Debug) {
        self.0.push(format!("{kind} {parts:?}"));
    }
}

impl LoadVisitor for Rows {
    fn namespace(&mut self, id: NamespaceId, record: NamespaceRecord) {
        self.push("namespace", &(id.0, record.name, record.last_entity_number));
    }
    fn entity(&mut self, id: EntityId, EntityDescription::Queue(queue): EntityDescription) {
        self.push("entity", &(id.number(), queue.name.as_str(), queue.requires_session));
    }
    fn counter(&mut self, id: EntityId, record: CounterRecord) {
        self.push("counter", &(id.number(), record.last_sequence_number.0));
    }
    fn message_session(&mut self, id: EntityId, session: MessageSessionId, record: MessageSessionRecord) {
        self.push("state", &(id.number(), session.as_str(), record.state.len()));
    }
    fn message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageRecord) {
        self.push("message", &(id.number(), sequence_number.0, record.body.0));
    }
    fn overlay(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageOverlayRecord) {
        self.push("overlay", &(id.number(), sequence_number.0, record.delivery_count));
    }
    fn duplicate(&mut self, id: EntityId, record: DuplicateRecord) {
        self.push("duplicate", &(id.number(), record.interval, record.key.0[0]));
    }
}

fn rows(store: &dyn Store) -> Vec<String> {
    let mut rows = Rows::default();
    store.load(&mut rows).expect("loads");
    rows.0
}

fn every_kind_of_row_is_loaded_in_order<B: Backend>() {
    let backend = B::create();
    write(backend.store(), 1, |batch| {
        let mut description = QueueDescription::new(EntityName::new("Orders").expect("valid"));
        description.requires_session = true;
        batch.put_overlay(
            queue(2),
            SequenceNumber(1),
            &MessageOverlayRecord { delivery_count: 3, properties: PropertyOverlay::new() },
        );
        batch.put_message(queue(2), SequenceNumber(256), &message(2, Some("s")));
        batch.put_message(queue(2), SequenceNumber(1), &message(1, None));
        batch.put_message(queue(1), SequenceNumber(9), &message(3, None));
        batch.put_message_session(queue(2), &session("b"), &state(b"12"));
        batch.put_message_session(queue(2), &session("a"), &state(b""));
        batch.put_counter(queue(2), CounterRecord { last_sequence_number: SequenceNumber(256) });
        batch.put_entity(queue(2), &EntityDescription::Queue(description));
        batch.put_namespace(NAMESPACE, &NamespaceRecord { name: "sbtest".into(), last_entity_number: 2 });
        batch.put_body(NAMESPACE, BodyId(1), Bytes::from_static(b"body"));
        batch.put_duplicate(queue(2), &duplicate(7, 1));
    });
    assert_eq!(
        rows(backend.store()),
        [
            r#"namespace (1, "sbtest", 2)"#,
            r#"entity (2, "Orders", true)"#,
            "counter (2, 256)",
            r#"state (2, "a", 0)"#,
            r#"state (2, "b", 2)"#,
            "message (1, 9, 3)",
            "message (2, 1, 1)",
            "message (2, 256, 2)",
            "overlay (2, 1, 3)",
            "duplicate (2, 7, 1)",
        ]
    );
}

fn later_operations_of_a_batch_win<B: Backend>() {
    let backend = B::create();
    write(backend.store(), 1, |batch| {
        batch.put_message(queue(1), SequenceNumber(1), &message(1, None));
        batch.delete_message(queue(1), SequenceNumber(1));
        batch.delete_message(queue(1), SequenceNumber(2));
        batch.put_message(queue(1), SequenceNumber(2), &message(2, None));
        batch.put_message(queue(1), SequenceNumber(2), &message(3, None));
    });
    assert_eq!(rows(backend.store()), ["message (1, 2, 3)"]);
}

fn deleted_rows_are_gone_and_deleting_nothing_is_no_error<B: Backend>() {
    let backend = B::create();
    write(backend.store(), 1, |batch| {
        batch.put_message(queue(1), SequenceNumber(1), &message(1, Some("s")));
        batch.put_overlay(queue(1), SequenceNumber(1), &MessageOverlayRecord::default());
        batch.put_body(NAMESPACE, BodyId(1), Bytes::from_static(b"body"));
        batch.put_message_session(queue(1), &session("s"), &state(b"x"));
    });
    for commit in 2..4 {
        write(backend.store(), commit, |batch| {
            batch.delete_message(queue(1), SequenceNumber(1));
            batch.delete_overlay(queue(1), SequenceNumber(1));
            batch.delete_body(NAMESPACE, BodyId(1), 4);
            batch.delete_message_session(queue(1), &session("s"));
        });
    }
    assert!(rows(backend.store()).is_empty());
    assert_eq!(backend.store().read_bodies(NAMESPACE, &[BodyId(1)]).expect("readable"), [None]);
    assert_eq!(backend.store().read_message_session(queue(1), &session("s")).expect("readable"), None);
}

fn remembered_ids_are_forgotten_by_intervals<B: Backend>() {
    let backend = B::create();
    write(backend.store(), 1, |batch| {
        for interval in [1, 2, 3, 300] {
            batch.put_duplicate(queue(1), &duplicate(interval, 5));
            batch.put_duplicate(queue(2), &duplicate(interval, 6));
        }
    });
    write(backend.store(), 2, |batch| {
        batch.delete_duplicates_before(queue(1), 3);
        // Operations count in their order: this one comes after the range was deleted.
        batch.put_duplicate(queue(1), &duplicate(2, 9));
    });
    let left = |entity: u32| {
        let rows = rows(backend.store());
        rows.into_iter().filter(|row| row.starts_with(&format!("duplicate ({entity}"))).collect::<Vec<_>>()
    };
    assert_eq!(left(1), ["duplicate (1, 2, 9)", "duplicate (1, 3, 5)", "duplicate (1, 300, 5)"]);
    assert_eq!(left(2).len(), 4);
}

fn the_rows_of_one_store_are_deleted_together<B: Backend>() {
    let backend = B::create();
    let fill = |batch: &mut Batch, id: EntityId| {
        batch.put_message(id, SequenceNumber(1), &message(1, Some("s")));
        batch.put_message(id, SequenceNumber(u64::MAX), &message(1, Some("s")));
        batch.put_overlay(id, SequenceNumber(1), &MessageOverlayRecord::default());
        batch.put_message_session(id, &session("s"), &state(b"x"));
        batch.put_duplicate(id, &duplicate(u32::MAX, 0xff));
    };
    write(backend.store(), 1, |batch| {
        for number in 1..=3 {
            fill(batch, queue(number));
        }
        batch.put_entity(
            queue(2),
            &EntityDescription::Queue(QueueDescription::new(EntityName::new("Orders").expect("valid"))),
        );
        batch.put_counter(queue(2), CounterRecord::default());
    });
    write(backend.store(), 2, |batch| {
        batch.delete_rows_of(queue(2));
        batch.delete_entity(queue(2));
        batch.delete_counter(queue(2));
    });
    let left = rows(backend.store());
    assert_eq!(left.len(), 10, "{left:?}");
    assert!(left.iter().all(|row| !row.contains("(2, ")), "{left:?}");
}

fn a_write_is_seen_before_it_is_synced<B: Backend>() {
    let backend = B::create();
    write(backend.store(), 1, |batch| {
        batch.put_body(NAMESPACE, BodyId(1), Bytes::from_static(b"body"));
        batch.put_message_session(queue(1), &session("s"), &state(b"x"));
    });
    let body = backend.store().read_bodies(NAMESPACE, &[BodyId(1)]).expect("readable");
    assert_eq!(body, [Some(Bytes::from_static(b"body"))]);
    let found = backend.store().read_message_session(queue(1), &session("s")).expect("readable");
    assert_eq!(found, Some(state(b"x")));
    assert_eq!(backend.store().recovered_commit(), CommitNumber(0));
}

fn a_crash_leaves_what_was_synced_and_at_most_a_prefix_of_the_rest<B: Backend>() {
    let backend = B::create();
    for commit in 1..=10 {
        write(backend.store(), commit, |batch| {
            batch.put_message(queue(1), SequenceNumber(commit), &message(commit, None));
        });
        if commit == 6 {
            backend.store().sync(CommitNumber(6)).expect("synced");
        }
    }
    let backend = backend.crash();
    let recovered = backend.store().recovered_commit().0;
    assert!((6..=10).contains(&recovered), "{recovered}");
    let expected: Vec<_> = (1..=recovered).map(|n| format!("message (1, {n}, {n})")).collect();
    assert_eq!(rows(backend.store()), expected);
}

fn a_closed_store_comes_back_whole<B: Backend>() {
    let backend = B::create();
    write(backend.store(), 1, |batch| batch.put_message(queue(1), SequenceNumber(1), &message(1, Some(""))));
    backend.store().sync(CommitNumber(1)).expect("synced");
    write(backend.store(), 2, |batch| batch.put_message(queue(1), SequenceNumber(2), &message(2, None)));
    let backend = backend.reopen();
    assert_eq!(backend.store().recovered_commit(), CommitNumber(2));
    assert_eq!(rows(backend.store()), ["message (1, 1, 1)", "message (1, 2, 2)"]);
    let backend = backend.reopen();
    assert_eq!(backend.store().recovered_commit(), CommitNumber(2));
}

fn large_bodies_come_back_byte_for_byte<B: Backend>() {
    const MIB: usize = 1024 * 1024;
    let body = |size: usize| Bytes::from((0..size).map(|at| (at / 7) as u8).collect::<Vec<_>>());
    let sizes = [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 5 * MIB + 12];
    let backend = B::create();
    write(backend.store(), 1, |batch| {
        for size in sizes {
            batch.put_body(NAMESPACE, BodyId(size as u64), body(size));
        }
    });
    backend.store().sync(CommitNumber(1)).expect("synced");
    let backend = backend.crash();
    let ids = sizes.map(|size| BodyId(size as u64));
    let found = backend.store().read_bodies(NAMESPACE, &ids).expect("readable");
    for (found, size) in found.into_iter().zip(sizes) {
        assert!(found == Some(body(size)), "{size} bytes");
    }
    write(backend.store(), 2, |batch| {
        for size in sizes {
            batch.delete_body(NAMESPACE, BodyId(size as u64), size as u32);
        }
    });
    let left = backend.store().remove_orphan_bodies(&|_, _| false).expect("removed");
    assert_eq!(left, 0, "deleting a body deletes all its rows");
}

fn bodies_are_answered_in_the_order_asked_with_gaps<B: Backend>() {
    let backend = B::create();
    write(backend.store(), 1, |batch| {
        batch.put_body(NAMESPACE, BodyId(1), Bytes::from_static(b"one"));
        batch.put_body(NAMESPACE, BodyId(2), Bytes::from_static(b"two"));
        batch.put_body(NamespaceId(2), BodyId(3), Bytes::from_static(b"of another namespace"));
    });
    let ids = [2, 9, 1, 3, 2].map(BodyId);
    let found = backend.store().read_bodies(NAMESPACE, &ids).expect("readable");
    let text = |text: &'static [u8]| Some(Bytes::from_static(text));
    assert_eq!(found, [text(b"two"), None, text(b"one"), None, text(b"two")]);
    assert!(backend.store().read_bodies(NAMESPACE, &[]).expect("readable").is_empty());
}

fn message_sessions_take_odd_ids_and_large_states<B: Backend>() {
    let long = "€".repeat(128);
    let ids = ["", "a", "a\0", "a\0\u{1}b", "ab", "ümläut", "\u{10ffff}", &long];
    let backend = B::create();
    let content = |at: usize| vec![at as u8; at * 100_000];
    write(backend.store(), 1, |batch| {
        for (at, id) in ids.iter().enumerate() {
            batch.put_message_session(queue(1), &session(id), &state(b"replaced"));
            batch.put_message_session(queue(1), &session(id), &state(&content(at)));
        }
        batch.put_message_session(queue(2), &session("a"), &state(b"of another queue"));
        batch.delete_message_session(queue(1), &session("ab"));
    });
    backend.store().sync(CommitNumber(1)).expect("synced");
    let backend = backend.crash();
    for (at, id) in ids.iter().enumerate() {
        let found = backend.store().read_message_session(queue(1), &session(id)).expect("readable");
        let expected = (*id != "ab").then(|| state(&content(at)));
        assert!(found == expected, "session id {id:?}");
    }
}

/// A large message: its rows come in commits of their own, the message's row with the last one.
fn a_body_written_in_parts_reads_as_one_written_whole<B: Backend>() {
    const PART: usize = lockstep_model::limits::BODY_PART_SIZE_BYTES;
    let part = |number: u16, size: usize| Bytes::from(vec![number as u8 + 1; size]);
    let backend = B::create();
    write(backend.store(), 1, |batch| batch.put_body_part(NAMESPACE, BodyId(1), 0, part(0, PART)));
    write(backend.store(), 2, |batch| batch.put_body_part(NAMESPACE, BodyId(1), 1, part(1, PART)));
    write(backend.store(), 3, |batch| {
        batch.put_body_part(NAMESPACE, BodyId(1), 2, part(2, 5));
        batch.put_message(queue(1), SequenceNumber(1), &message(1, None));
    });
    backend.store().sync(CommitNumber(3)).expect("synced");
    let backend = backend.crash();
    let read = |number| backend.store().read_body_part(NAMESPACE, BodyId(1), number).expect("readable");
    let parts: Vec<Option<Bytes>> = (0..4).map(read).collect();
    assert!(parts == [Some(part(0, PART)), Some(part(1, PART)), Some(part(2, 5)), None]);
    let whole = backend.store().read_bodies(NAMESPACE, &[BodyId(1)]).expect("readable");
    assert!(whole == [Some(Bytes::from([part(0, PART), part(1, PART), part(2, 5)].concat()))]);
    write(backend.store(), 4, |batch| batch.delete_body(NAMESPACE, BodyId(1), (2 * PART + 5) as u32));
    let backend = backend.reopen();
    for number in 0..4 {
        assert_eq!(backend.store().read_body_part(NAMESPACE, BodyId(1), number).expect("readable"), None);
    }
}

/// Its sender gave up, or the process was killed before the last part came.
fn a_body_without_its_last_part_can_be_removed<B: Backend>() {
    const PART: usize = lockstep_model::limits::BODY_PART_SIZE_BYTES;
    let backend = B::create();
    for body in [1, 2] {
        write(backend.store(), 2 * body - 1, |batch| {
            batch.put_body_part(NAMESPACE, BodyId(body), 0, Bytes::from(vec![1; PART]));
        });
        write(backend.store(), 2 * body, |batch| {
            batch.put_body_part(NAMESPACE, BodyId(body), 1, Bytes::from(vec![2; PART]));
        });
    }
    write(backend.store(), 5, |batch| batch.delete_body_parts(NAMESPACE, BodyId(1), 2));
    let there = |backend: &B, body| {
        [0, 1].map(|part| {
            backend.store().read_body_part(NAMESPACE, BodyId(body), part).expect("readable").is_some()
        })
    };
    assert_eq!((there(&backend, 1), there(&backend, 2)), ([false; 2], [true; 2]));
    let backend = backend.reopen();
    assert_eq!(backend.store().remove_orphan_bodies(&|_, _| false).expect("removed"), 1);
    assert_eq!(there(&backend, 2), [false; 2]);
}

fn bodies_that_no_message_names_are_removed<B: Backend>() {
    let backend = B::create();
    let large = 2 * 1024 * 1024 + 5;
    write(backend.store(), 1, |batch| {
        for body in 1..=3_000 {
            batch.put_body(NAMESPACE, BodyId(body), Bytes::from_static(b"x"));
        }
        batch.put_body(NAMESPACE, BodyId(10_000), Bytes::from(vec![1; large]));
        batch.put_body(NAMESPACE, BodyId(10_001), Bytes::from(vec![2; large]));
        batch.put_body(NamespaceId(2), BodyId(1), Bytes::from_static(b"y"));
    });
    let live = |namespace: NamespaceId, body: BodyId| namespace == NAMESPACE && body.0.is_multiple_of(2);
    assert_eq!(backend.store().remove_orphan_bodies(&live).expect("removed"), 1_500 + 1 + 1);
    assert_eq!(backend.store().remove_orphan_bodies(&live).expect("removed"), 0);
    let ids = [1, 2, 3_000, 10_000, 10_001].map(BodyId);
    let found = backend.store().read_bodies(NAMESPACE, &ids).expect("readable");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true, true, false]);
    assert_eq!(backend.store().read_bodies(NamespaceId(2), &[BodyId(1)]).expect("readable"), [None]);
}

#[test]
fn after_a_failed_write_nothing_is_written_any_more() {
    let store = FaultStore::new(MemoryStore::new(), Faults { write: Some(3), ..Faults::default() });
    for commit in 1..=2 {
        write(&store, commit, |batch| {
            batch.put_message(queue(1), SequenceNumber(commit), &message(1, None));
        });
        store.sync(CommitNumber(commit)).expect("synced");
    }
    let mut batch = Batch::new();
    batch.put_message(queue(1), SequenceNumber(3), &message(1, None));
    assert!(matches!(store.write(CommitNumber(3), &batch), Err(StoreError::Io(_))));
    assert!(matches!(store.write(CommitNumber(4), &batch), Err(StoreError::Latched)));
    assert!(matches!(store.sync(CommitNumber(4)), Err(StoreError::Latched)));
    assert!(matches!(store.remove_orphan_bodies(&|_, _| true), Err(StoreError::Latched)));
    let after = store.inner().crash();
    assert_eq!(after.recovered_commit(), CommitNumber(2));
    assert_eq!(rows(&after), ["message (1, 1, 1)", "message (1, 2, 1)"]);
}

#[test]
fn a_failed_sync_makes_nothing_durable_and_is_never_tried_again() {
    let store = FaultStore::new(MemoryStore::new(), Faults { sync: Some(2), ..Faults::default() });
    for commit in 1..=2 {
        write(&store, commit, |batch| {
            batch.put_message(queue(1), SequenceNumber(commit), &message(1, None));
        });
        let synced = store.sync(CommitNumber(commit));
        assert_eq!(synced.is_ok(), commit == 1);
    }
    assert!(matches!(store.sync(CommitNumber(2)), Err(StoreError::Latched)));
    assert_eq!(rows(&store.inner().crash()), ["message (1, 1, 1)"]);
}

#[test]
fn a_failed_read_does_not_stop_the_store() {
    let store = FaultStore::new(MemoryStore::new(), Faults { read: Some(1), ..Faults::default() });
    assert!(matches!(store.read_bodies(NAMESPACE, &[]), Err(StoreError::Io(_))));
    write(&store, 1, |batch| batch.put_body(NAMESPACE, BodyId(1), Bytes::new()));
    assert_eq!(store.read_bodies(NAMESPACE, &[BodyId(1)]).expect("read"), [Some(Bytes::new())]);
}

#[test]
fn a_crash_may_keep_any_number_of_unsynced_batches() {
    let store = MemoryStore::new();
    for commit in 1..=4 {
        write(&store, commit, |batch| {
            batch.put_message(queue(1), SequenceNumber(commit), &message(1, None));
        });
    }
    let kept: Vec<_> = (0..=4).map(|n| store.crash_keeping(n).recovered_commit().0).collect();
    assert_eq!(kept, [0, 1, 2, 3, 4]);
    assert_eq!(store.unsynced_batches(), 4);
}

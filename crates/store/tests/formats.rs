//! Data directories of every format that this version reads (fixtures/README.md).
#![cfg(feature = "rocksdb")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use lockstep_model::{
    BodyId, CommitNumber, EntityDescription, EntityId, EntityName, MessageSessionId, MessageState,
    NamespaceId, PropertyOverlay, PropertyValue, QueueDescription, SequenceNumber, SubQueue, Timestamp,
};
use lockstep_store::{
    Batch, CounterRecord, DuplicateRecord, LoadVisitor, MessageOverlayRecord, MessageRecord,
    MessageSessionRecord, NamespaceRecord, RocksOptions, RocksStore, Store,
};

const NAMESPACE: NamespaceId = NamespaceId(1);
const ORDERS: EntityId = EntityId::new(NAMESPACE, 1);
const EVENTS: EntityId = EntityId::new(NAMESPACE, 2);
/// Large enough for a blob file.
const LARGE_BODY_SIZE_BYTES: usize = 20_000;

/// Every row as the value it decodes to, in words.
#[derive(Default)]
struct Rows(Vec<String>);

impl LoadVisitor for Rows {
    fn namespace(&mut self, id: NamespaceId, record: NamespaceRecord) {
        self.0.push(format!("{id:?} {record:?}"));
    }
    fn entity(&mut self, id: EntityId, EntityDescription::Queue(queue): EntityDescription) {
        self.0.push(format!(
            "{id:?} {} {} {:?} {} {}",
            queue.name,
            queue.requires_session,
            queue.lock_duration,
            queue.max_delivery_count,
            queue.max_message_size_bytes
        ));
    }
    fn counter(&mut self, id: EntityId, record: CounterRecord) {
        self.0.push(format!("{id:?} {:?}", record.last_sequence_number));
    }
    fn message_session(&mut self, id: EntityId, session: MessageSessionId, record: MessageSessionRecord) {
        self.0.push(format!("{id:?} {session:?} {} {:?}", record.updated_at.unix_millis(), record.state));
    }
    fn message(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageRecord) {
        self.0.push(format!(
            "{id:?} {sequence_number:?} {:?} {} {:?} {} {:?}",
            record.state,
            record.enqueued_at.unix_millis(),
            record.body,
            record.size_bytes,
            record.message_session.as_ref().map(MessageSessionId::as_str)
        ));
    }
    fn overlay(&mut self, id: EntityId, sequence_number: SequenceNumber, record: MessageOverlayRecord) {
        let properties: Vec<_> = record.properties.iter().collect();
        self.0.push(format!("{id:?} {sequence_number:?} {} {properties:?}", record.delivery_count));
    }
    fn duplicate(&mut self, id: EntityId, record: DuplicateRecord) {
        self.0.push(format!("{id:?} {record:?}"));
    }
}

const FORMAT_1_ROWS: [&str; 17] = [
    r#"NamespaceId(1) NamespaceRecord { name: "sbtest", last_entity_number: 2 }"#,
    "EntityId(1/1/Main) Orders/EU true 61.5s 10 262144",
    "EntityId(1/2/Main) events false 60s 3 104857600",
    "EntityId(1/1/Main) SequenceNumber(5)",
    "EntityId(1/1/DeadLetter) SequenceNumber(1)",
    "EntityId(1/2/Main) SequenceNumber(1)",
    r#"EntityId(1/1/Main) MessageSessionId("") 1700000000100 b"state of the empty id""#,
    r#"EntityId(1/1/Main) MessageSessionId("a\0ü") 1700000000101 b"""#,
    r#"EntityId(1/1/Main) SequenceNumber(1) Active 1700000000001 BodyId(1) 6 Some("")"#,
    r#"EntityId(1/1/Main) SequenceNumber(2) Deferred 1700000000002 BodyId(2) 6 Some("a\0ü")"#,
    r#"EntityId(1/1/Main) SequenceNumber(4) Scheduled 1700000000004 BodyId(4) 20000 Some("s")"#,
    r#"EntityId(1/1/Main) SequenceNumber(5) Active 1700000000005 BodyId(5) 6 Some("s")"#,
    r#"EntityId(1/1/DeadLetter) SequenceNumber(1) Active 1700000000006 BodyId(3) 6 Some("s")"#,
    "EntityId(1/2/Main) SequenceNumber(1) Active 1700000000007 BodyId(6) 0 None",
    "EntityId(1/1/Main) SequenceNumber(2) 2 []",
    r#"EntityId(1/1/DeadLetter) SequenceNumber(1) 10 [("DeadLetterReason", Text("MaxDeliveryCountExceeded")), ("x", Encoded(b"T\x07"))]"#,
    r#"EntityId(1/2/Main) SequenceNumber(1) 1 []"#,
];

#[test]
fn a_data_directory_of_format_1_is_read_row_by_row() {
    let dir = tempfile::tempdir().expect("temporary directory");
    copy_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1"), dir.path());
    let store = RocksStore::open(dir.path(), &RocksOptions::default()).expect("opens");
    assert_eq!(store.recovered_commit(), CommitNumber(12));
    check_format_1(&store);
    drop(store);
    // And once more, after this version closed it.
    check_format_1(&RocksStore::open(dir.path(), &RocksOptions::default()).expect("opens"));
}

fn check_format_1(store: &RocksStore) {
    let mut rows = Rows::default();
    store.load(&mut rows).expect("loads");
    assert_eq!(rows.0, FORMAT_1_ROWS);
    let bodies = store.read_bodies(NAMESPACE, &[1, 2, 3, 4, 5, 6, 7].map(BodyId)).expect("readable");
    let small = Some(Bytes::from_static(b"body 1"));
    let sizes: Vec<_> = bodies.iter().map(|body| body.as_ref().map(Bytes::len)).collect();
    assert_eq!(bodies[0], small);
    assert_eq!(sizes, [Some(6), Some(6), Some(6), Some(LARGE_BODY_SIZE_BYTES), Some(6), Some(0), None]);
    let session = MessageSessionId::new("").expect("an id");
    let state = store.read_message_session(ORDERS, &session).expect("readable").expect("there");
    assert_eq!(state.state, Bytes::from_static(b"state of the empty id"));
}

fn message(
    state: MessageState,
    number: u64,
    body: u64,
    size_bytes: u32,
    session: Option<&str>,
) -> MessageRecord {
    MessageRecord {
        expires_at: None,
        was_scheduled: false,
        state,
        enqueued_at: Timestamp::from_unix_millis(1_700_000_000_000 + number as i64),
        body: BodyId(body),
        size_bytes,
        message_session: session.map(|id| MessageSessionId::new(id).expect("short")),
    }
}

fn define(batch: &mut Batch) {
    batch.put_namespace(NAMESPACE, &NamespaceRecord { name: "sbtest".into(), last_entity_number: 2 });
    let mut orders = QueueDescription::new(EntityName::new("Orders/EU").expect("valid"));
    orders.requires_session = true;
    orders.lock_duration = Duration::from_millis(61_500);
    batch.put_entity(ORDERS, &EntityDescription::Queue(orders));
    let mut events = QueueDescription::new(EntityName::new("events").expect("valid"));
    events.max_delivery_count = 3;
    events.max_message_size_bytes = 100 * 1024 * 1024;
    batch.put_entity(EVENTS, &EntityDescription::Queue(events));
}

fn send(batch: &mut Batch, id: EntityId, number: u64, record: &MessageRecord) {
    let body = match record.size_bytes {
        0 => Bytes::new(),
        6 => Bytes::from(format!("body {}", record.body)),
        size => Bytes::from(vec![b'x'; size as usize]),
    };
    batch.put_message(id, SequenceNumber(number), record);
    batch.put_body(NAMESPACE, record.body, body);
    batch.put_counter(id, CounterRecord { last_sequence_number: SequenceNumber(number) });
}

/// Six steps, one commit each; they go to table files.
fn first_half(step: u64, batch: &mut Batch) {
    use MessageState::{Active, Deferred, Scheduled};
    match step {
        1 => define(batch),
        2 => send(batch, ORDERS, 1, &message(Active, 1, 1, 6, Some(""))),
        3 => send(batch, ORDERS, 2, &message(Deferred, 2, 2, 6, Some("a\0ü"))),
        4 => send(batch, ORDERS, 3, &message(Active, 3, 3, 6, Some("s"))),
        5 => send(batch, ORDERS, 4, &message(Scheduled, 4, 4, LARGE_BODY_SIZE_BYTES as u32, Some("s"))),
        _ => put_state(batch, "", 100, b"replaced later"),
    }
}

/// Six more, which stay in the log: among them a move to the dead-letter queue.
fn second_half(step: u64, batch: &mut Batch) {
    let overlay = |delivery_count, properties| MessageOverlayRecord { delivery_count, properties };
    match step {
        7 => send(batch, ORDERS, 5, &message(MessageState::Active, 5, 5, 6, Some("s"))),
        8 => {
            let mut properties = PropertyOverlay::new();
            properties.set("DeadLetterReason", PropertyValue::Text("MaxDeliveryCountExceeded".into()));
            properties.set("x", PropertyValue::Encoded(Bytes::from_static(&[0x54, 7])));
            let dead_letter = ORDERS.with_sub_queue(SubQueue::DeadLetter);
            batch.delete_message(ORDERS, SequenceNumber(3));
            let record = message(MessageState::Active, 6, 3, 6, Some("s"));
            batch.put_message(dead_letter, SequenceNumber(1), &record);
            batch.put_overlay(dead_letter, SequenceNumber(1), &overlay(10, properties));
            batch.put_counter(dead_letter, CounterRecord { last_sequence_number: SequenceNumber(1) });
        }
        9 => batch.put_overlay(ORDERS, SequenceNumber(2), &overlay(2, PropertyOverlay::new())),
        10 => send(batch, EVENTS, 1, &message(MessageState::Active, 7, 6, 0, None)),
        11 => batch.put_overlay(EVENTS, SequenceNumber(1), &overlay(1, PropertyOverlay::new())),
        _ => {
            put_state(batch, "", 100, b"state of the empty id");
            put_state(batch, "a\0ü", 101, b"");
        }
    }
}

fn put_state(batch: &mut Batch, id: &str, millis: i64, state: &'static [u8]) {
    let record = MessageSessionRecord {
        updated_at: Timestamp::from_unix_millis(1_700_000_000_000 + millis),
        state: Bytes::from_static(state),
    };
    batch.put_message_session(ORDERS, &MessageSessionId::new(id).expect("short"), &record);
}

#[test]
#[ignore = "writes a fixture; run by hand when the format changes"]
fn write_a_data_directory() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let steps = |from: u64, to: u64, fill: fn(u64, &mut Batch)| {
        let store = RocksStore::open(dir.path(), &RocksOptions::default()).expect("opens");
        for step in from..=to {
            let mut batch = Batch::new();
            fill(step, &mut batch);
            store.write(CommitNumber(step), &batch).expect("written");
            store.sync(CommitNumber(step)).expect("synced");
        }
        store
    };
    drop(steps(1, 6, first_half));
    let store = steps(7, 12, second_half);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("format-fixture");
    copy_directory(dir.path(), &target);
    drop(store);
}

/// Copies what belongs into a fixture.
fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("a directory") {
        let path: PathBuf = entry.expect("readable").path();
        let name = path.file_name().expect("has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            copy_directory(&path, &to.join(name));
        } else if !(name.starts_with("LO")
            || name.starts_with("OPTIONS")
            || name == "lockstep.lock"
            || name == "ballast")
        {
            fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

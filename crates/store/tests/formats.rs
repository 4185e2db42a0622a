//! Data directories of every format that this version reads (fixtures/README.md).
#![cfg(feature = "rocksdb")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use lockstep_model::{
    AuthorizationRule, BodyId, CommitNumber, DuplicateKey, EntityDescription, EntityId, EntityName,
    EntityStatus, MessageSessionExpiration, MessageSessionId, MessageState, NamespaceId, PropertyOverlay,
    PropertyValue, QueueDescription, Right, SequenceNumber, SubQueue, Timestamp,
};
use lockstep_store::{
    Batch, CounterRecord, DuplicateRecord, LoadVisitor, MessageOverlayRecord, MessageRecord,
    MessageSessionRecord, NamespaceRecord, RocksOptions, RocksStore, Store,
};

const NAMESPACE: NamespaceId = NamespaceId(1);
const ORDERS: EntityId = EntityId::new(NAMESPACE, 1);
const EVENTS: EntityId = EntityId::new(NAMESPACE, 2);
/// Since format 2: a queue that differs from the defaults in everything.
const EVERYTHING: EntityId = EntityId::new(NAMESPACE, 3);
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
        if id == EVERYTHING {
            self.0.push(format!("{id:?} as it was defined: {}", queue == everything()));
            return;
        }
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
        if let (Some(expires_at), Some(row)) = (record.expires_at, self.0.last_mut()) {
            row.push_str(&format!(" expires {} {}", expires_at.unix_millis(), record.was_scheduled));
        }
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

/// What format 2 has besides, by the row that it stands behind.
const FORMAT_2_ROWS: [(&str, &str); 5] = [
    (FORMAT_1_ROWS[2], "EntityId(1/3/Main) as it was defined: true"),
    (FORMAT_1_ROWS[5], "EntityId(1/3/Main) SequenceNumber(1)"),
    (
        FORMAT_1_ROWS[13],
        r#"EntityId(1/3/Main) SequenceNumber(1) Active 1700000000013 BodyId(7) 6 Some("t") expires 1700000001513 true"#,
    ),
    (
        FORMAT_1_ROWS[16],
        "EntityId(1/3/Main) DuplicateRecord { interval: 1700000000, key: DuplicateKey([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]), accepted_at: Timestamp(1700000000013) }",
    ),
    (
        "",
        "EntityId(1/3/Main) DuplicateRecord { interval: 1700000001, key: DuplicateKey([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), accepted_at: Timestamp(1700000001999) }",
    ),
];

#[test]
fn a_data_directory_of_format_1_is_read_row_by_row() {
    check("format-1", CommitNumber(12), &FORMAT_1_ROWS);
}

#[test]
fn a_data_directory_of_format_2_is_read_row_by_row() {
    let mut rows = Vec::new();
    for row in FORMAT_1_ROWS {
        // The namespace has given out one number more.
        rows.push(row.replace("last_entity_number: 2", "last_entity_number: 3"));
        let more = FORMAT_2_ROWS.iter().filter(|(before, _)| *before == row);
        rows.extend(more.map(|(_, row)| (*row).to_owned()));
    }
    rows.push(FORMAT_2_ROWS[4].1.to_owned());
    check("format-2", CommitNumber(14), &rows);
}

fn check<T: AsRef<str>>(fixture: &str, commit: CommitNumber, rows: &[T]) {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    let dir = tempfile::tempdir().expect("temporary directory");
    copy_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture), dir.path());
    let store = RocksStore::open(dir.path(), &RocksOptions::default()).expect("opens");
    assert_eq!(store.recovered_commit(), commit);
    check_rows(&store, &rows);
    drop(store);
    // And once more, after this version closed it.
    check_rows(&RocksStore::open(dir.path(), &RocksOptions::default()).expect("opens"), &rows);
}

fn check_rows(store: &RocksStore, expected: &[&str]) {
    let mut rows = Rows::default();
    store.load(&mut rows).expect("loads");
    assert_eq!(rows.0, expected);
    let bodies = store.read_bodies(NAMESPACE, &[1, 2, 3, 4, 5, 6, 99].map(BodyId)).expect("readable");
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

/// What came with format 2, in the log, too.
fn third_part(step: u64, batch: &mut Batch) {
    if step == 13 {
        batch.put_namespace(NAMESPACE, &NamespaceRecord { name: "sbtest".into(), last_entity_number: 3 });
        batch.put_entity(EVERYTHING, &EntityDescription::Queue(everything()));
        return;
    }
    let record = MessageRecord {
        expires_at: Some(Timestamp::from_unix_millis(1_700_000_001_513)),
        was_scheduled: true,
        ..message(MessageState::Active, 13, 7, 6, Some("t"))
    };
    send(batch, EVERYTHING, 1, &record);
    for (interval, key, millis) in [(0, 1, 13), (1, 0, 1_999)] {
        let record = DuplicateRecord {
            interval: 1_700_000_000 + interval,
            key: DuplicateKey([key; 16]),
            accepted_at: Timestamp::from_unix_millis(1_700_000_000_000 + millis),
        };
        batch.put_duplicate(EVERYTHING, &record);
    }
}

fn everything() -> QueueDescription {
    QueueDescription {
        name: EntityName::new("everything").expect("valid"),
        requires_session: true,
        lock_duration: Duration::from_millis(61_500),
        max_delivery_count: 3,
        max_message_size_bytes: 1 << 20,
        status: EntityStatus::ReceiveDisabled,
        max_size_bytes: 1 << 40,
        default_message_time_to_live: Some(Duration::from_millis(1_500)),
        dead_lettering_on_message_expiration: true,
        message_session_expiration: MessageSessionExpiration::Message,
        requires_duplicate_detection: true,
        duplicate_detection_history_time_window: Duration::from_secs(20),
        auto_delete_on_idle: Some(Duration::from_secs(300)),
        enable_partitioning: true,
        message_session_state_time_to_live: Some(Duration::from_secs(9)),
        redelivery_delay: Duration::from_secs(4),
        redelivery_delay_max: Duration::from_millis(60_500),
        count_unsettled_on_message_session_close: true,
        auto_renew_while_link_open: true,
        user_metadata: Some("ü".into()),
        enable_batched_operations: false,
        enable_express: true,
        support_ordering: Some(false),
        authorization_rules: vec![AuthorizationRule {
            key_name: "listen".into(),
            primary_key: "first".into(),
            secondary_key: "second".into(),
            rights: vec![Right::Listen, Right::Send],
            created_at: Some(Timestamp::from_unix_millis(1_700_000_000_000)),
            modified_at: Some(Timestamp::from_unix_millis(1_700_000_000_001)),
        }],
        made_at_run_time: true,
        created_at: Timestamp::from_unix_millis(1_700_000_000_002),
        updated_at: Timestamp::from_unix_millis(1_700_000_000_003),
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
    let store = steps(7, 14, |step, batch| match step {
        ..=12 => second_half(step, batch),
        _ => third_part(step, batch),
    });
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

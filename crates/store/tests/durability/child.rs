//! The process that writes until it is killed, and the state that its commits lead to.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use bytes::Bytes;
use lockstep_model::{
    BodyId, CommitNumber, EntityDescription, EntityId, MessageSessionId, MessageState, NamespaceId,
    SequenceNumber, Timestamp,
};
use lockstep_store::{
    Batch, CounterRecord, DuplicateRecord, LoadVisitor, MessageOverlayRecord, MessageRecord,
    MessageSessionRecord, NamespaceRecord, RocksOptions, RocksStore, Store, StoreError,
};

use crate::disk::Notes;

const NAMESPACE: NamespaceId = NamespaceId(1);
const QUEUE: EntityId = EntityId::new(NAMESPACE, 1);
/// Each commit sends one message and settles the one sent this many commits before.
const BACKLOG: u64 = 10;
/// Commits that may be written and not yet acknowledged.
const COMMITS_IN_FLIGHT: usize = 8;

const VARIABLE_DIRECTORY: &str = "LOCKSTEP_TEST_DIRECTORY";
const VARIABLE_WORKLOAD: &str = "LOCKSTEP_TEST_WORKLOAD";

/// What the child writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// Bodies of some bytes to some KiB.
    Small,
    /// Bodies of more than one row.
    Large,
    /// As `Small`, acknowledged without a sync: a negative control. The product has no such mode;
    /// the child leaves the call out.
    SmallWithoutSync,
}

/// What the disk does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// The n-th sync of a log fails.
    FailSync(u32),
    /// Syncs of logs after the n-th do nothing.
    LieAfter(u32),
}

impl Workload {
    const ALL: [Self; 3] = [Self::Small, Self::Large, Self::SmallWithoutSync];

    /// The body of the message of a commit.
    fn body(self, commit: u64) -> Bytes {
        let size = match self {
            Self::Small | Self::SmallWithoutSync => commit * 37 % 3_000,
            Self::Large => 1_000_000 + commit * 9_973 % 100_000,
        };
        Bytes::from(vec![commit as u8; size as usize])
    }

    fn session(commit: u64) -> MessageSessionId {
        MessageSessionId::new(&format!("session {}", commit % 3)).expect("short")
    }

    fn batch(self, commit: u64) -> Batch {
        let mut batch = Batch::new();
        let body = self.body(commit);
        let record = MessageRecord {
            expires_at: None,
            was_scheduled: false,
            state: MessageState::Active,
            enqueued_at: Timestamp::from_unix_millis(commit as i64),
            body: BodyId(commit),
            size_bytes: body.len() as u32,
            message_session: Some(Self::session(commit)),
        };
        batch.put_message(QUEUE, SequenceNumber(commit), &record);
        batch.put_body(NAMESPACE, BodyId(commit), body);
        batch.put_counter(QUEUE, CounterRecord { last_sequence_number: SequenceNumber(commit) });
        let state = MessageSessionRecord {
            updated_at: record.enqueued_at,
            state: Bytes::copy_from_slice(&commit.to_be_bytes()),
        };
        batch.put_message_session(QUEUE, &Self::session(commit), &state);
        if commit > BACKLOG {
            let settled = commit - BACKLOG;
            batch.delete_message(QUEUE, SequenceNumber(settled));
            batch.delete_body(NAMESPACE, BodyId(settled), self.body(settled).len() as u32);
        }
        batch
    }
}

/// Not a test of its own: the child of the tests in this file, started with its variables set.
#[test]
#[ignore = "run by the other tests as a child process"]
fn writer_process() {
    let (Ok(directory), Ok(workload)) = (env::var(VARIABLE_DIRECTORY), env::var(VARIABLE_WORKLOAD)) else {
        return;
    };
    let workload =
        *Workload::ALL.iter().find(|known| format!("{known:?}") == workload).expect("a known workload");
    let store = RocksStore::open(Path::new(&directory), &RocksOptions::default()).expect("opens");
    say(&format!("recovered {}", store.recovered_commit().0));
    match write_for_ever(&store, workload) {
        StoreError::Io(_) => say("sync failed"),
        other => panic!("{other}"),
    }
    let batch = workload.batch(1);
    if matches!(store.write(CommitNumber(u64::MAX), &batch), Err(StoreError::Latched)) {
        say("write latched");
    }
    if matches!(store.sync(CommitNumber(u64::MAX)), Err(StoreError::Latched)) {
        say("sync latched");
    }
    say("end");
}

/// One thread writes, another syncs and acknowledges, as the broker does. Returns the error that
/// ended it.
fn write_for_ever(store: &RocksStore, workload: Workload) -> StoreError {
    let (written, to_sync) = mpsc::sync_channel::<u64>(COMMITS_IN_FLIGHT);
    std::thread::scope(|scope| {
        let syncing = scope.spawn(move || {
            while let Ok(mut commit) = to_sync.recv() {
                commit = to_sync.try_iter().last().unwrap_or(commit);
                if workload != Workload::SmallWithoutSync
                    && let Err(error) = store.sync(CommitNumber(commit))
                {
                    return Some(error);
                }
                say(&format!("acknowledged {commit}"));
            }
            None
        });
        let mut failed = None;
        for commit in store.recovered_commit().0 + 1.. {
            if let Err(error) = store.write(CommitNumber(commit), &workload.batch(commit)) {
                failed = Some(error);
                break;
            }
            if written.send(commit).is_err() {
                break;
            }
        }
        drop(written);
        let synced = syncing.join().expect("the syncing thread does not panic");
        synced.or(failed).expect("it ends by an error only")
    })
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The mark tells our lines from those of the test harness.
    writeln!(out, "> {line}").and_then(|()| out.flush()).expect("the parent reads");
}

/// What is known about a child that has ended.
pub(crate) struct Ended {
    /// The commit it found at its start.
    pub(crate) recovered: u64,
    /// The last commit it acknowledged.
    pub(crate) acknowledged: u64,
    /// What else it said.
    pub(crate) last_words: Vec<String>,
    /// What was synced.
    pub(crate) notes: Notes,
}

/// Runs the child until it has acknowledged so many times, then kills it.
pub(crate) fn run_until(path: &Path, workload: Workload, fault: Fault, acknowledgements: u64) -> Ended {
    run(path, workload, fault, |count, _| count >= acknowledgements)
}

/// Runs the child until it has acknowledged so many commits, then kills it.
pub(crate) fn run_until_commit(path: &Path, workload: Workload, fault: Fault, commit: u64) -> Ended {
    run(path, workload, fault, |_, acknowledged| acknowledged >= commit)
}

/// Runs the child until it ends by itself.
pub(crate) fn run_to_end(path: &Path, workload: Workload, fault: Fault) -> Ended {
    run(path, workload, fault, |_, _| false)
}

/// `enough` is asked with the number of acknowledgements and the last commit acknowledged.
fn run(path: &Path, workload: Workload, fault: Fault, enough: impl Fn(u64, u64) -> bool) -> Ended {
    let notes = Notes::new(path);
    let mut child = start(path, workload, fault, &notes);
    let out = child.stdout.take().expect("piped");
    let mut ended = Ended { recovered: 0, acknowledged: 0, last_words: Vec::new(), notes };
    let mut count = 0;
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        // The harness may have written in front of our mark on the same line.
        let Some((_, line)) = line.split_once("> ") else { continue };
        match line.split_once(' ') {
            Some(("recovered", commit)) => ended.recovered = commit.parse().expect("a number"),
            Some(("acknowledged", commit)) => {
                count += 1;
                ended.acknowledged = commit.parse().expect("a number");
            }
            None => break,
            Some(_) => ended.last_words.push(line.to_owned()),
        }
        if enough(count, ended.acknowledged) {
            // SIGKILL: the child can do nothing more.
            child.kill().expect("killed");
            break;
        }
    }
    child.wait().expect("ended");
    ended
}

fn start(path: &Path, workload: Workload, fault: Fault, notes: &Notes) -> Child {
    let mut command = Command::new(env::current_exe().expect("this test's program"));
    command
        .args(["--exact", "child::writer_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(VARIABLE_DIRECTORY, path)
        .env(VARIABLE_WORKLOAD, format!("{workload:?}"))
        .env("LD_PRELOAD", crate::disk::shim())
        .env("LOCKSTEP_SHIM_DIRECTORY", path)
        .env("LOCKSTEP_SHIM_NOTES", notes.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    match fault {
        Fault::None => {}
        Fault::FailSync(at) => drop(command.env("LOCKSTEP_SHIM_FAIL_SYNC", at.to_string())),
        Fault::LieAfter(at) => drop(command.env("LOCKSTEP_SHIM_LIE_AFTER", at.to_string())),
    }
    command.spawn().expect("the child starts")
}

/// Checks that the store holds exactly what the first `commits` commits lead to.
pub(crate) fn check_state(store: &RocksStore, workload: Workload, commits: u64) {
    let mut found = Found::default();
    store.load(&mut found).expect("loads");
    let expected: Vec<u64> = (commits.saturating_sub(BACKLOG - 1).max(1)..=commits).collect();
    assert_eq!(found.messages, expected, "messages after commit {commits}");
    assert_eq!(found.counter, commits, "the counter after commit {commits}");
    assert_eq!(found.states, commits.min(3), "session states after commit {commits}");
    let ids: Vec<_> = expected.iter().map(|commit| BodyId(*commit)).collect();
    let bodies = store.read_bodies(NAMESPACE, &ids).expect("readable");
    for (commit, body) in expected.iter().zip(bodies) {
        assert!(body == Some(workload.body(*commit)), "the body of commit {commit}");
    }
    for commit in commits.saturating_sub(2).max(1)..=commits {
        let state = store.read_message_session(QUEUE, &Workload::session(commit)).expect("readable");
        assert_eq!(state.map(|record| record.state), Some(Bytes::copy_from_slice(&commit.to_be_bytes())));
    }
    let orphans = store.remove_orphan_bodies(&|_, body| expected.contains(&body.0)).expect("removed");
    assert_eq!(orphans, 0, "a settled message leaves no body");
}

#[derive(Default)]
struct Found {
    messages: Vec<u64>,
    counter: u64,
    states: u64,
}

impl LoadVisitor for Found {
    fn namespace(&mut self, _: NamespaceId, _: NamespaceRecord) {}
    fn entity(&mut self, _: EntityId, _: EntityDescription) {}
    fn counter(&mut self, _: EntityId, record: CounterRecord) {
        self.counter = record.last_sequence_number.0;
    }
    fn message_session(&mut self, _: EntityId, _: MessageSessionId, _: MessageSessionRecord) {
        self.states += 1;
    }
    fn message(&mut self, _: EntityId, sequence_number: SequenceNumber, _: MessageRecord) {
        self.messages.push(sequence_number.0);
    }
    fn overlay(&mut self, _: EntityId, _: SequenceNumber, _: MessageOverlayRecord) {}
    fn duplicate(&mut self, _: EntityId, _: DuplicateRecord) {}
}

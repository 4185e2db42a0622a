//! Killing the broker at any moment, and keeping books of what it had said until then.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lockstep_amqp::types::{DeliveryState, Outcome as Terminal, Value};
use lockstep_interop_amqp::{
    Broker, Client, Failed, Outcome, receive_and_delete, text_message, utc_millis, wait_for_time_to_pass,
};

use crate::{
    fates::{Fates, Trade},
    locks::message_session,
    suite::{Scenario, scenarios},
};

scenarios![a_broker_killed_at_any_moment_keeps_its_word];

/// How often the broker is killed, unless [`KILLS_VARIABLE`] says otherwise.
const KILLS: usize = 20;
/// Names another number of kills.
const KILLS_VARIABLE: &str = "LOCKSTEP_KILLS";
/// Sends under way at a time.
const WINDOW: usize = 8;
/// Messages that a lane may be behind, so that every one of them is drained and filled in turn.
const BACKLOG_MAX: usize = 400;
const CREDIT: u32 = 5;
/// Completions between two changes of state.
const STATE_EVERY: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    MessageSession(&'static str),
    PeekLock,
    ReceiveAndDelete,
}

/// One producer, one consumer, and what the broker has promised them.
struct Lane {
    kind: Kind,
    queue: String,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    next: usize,
    /// Accepted by the broker.
    accepted: BTreeSet<usize>,
    /// Sent, but the broker was killed before it answered.
    perhaps: BTreeSet<usize>,
    /// Completed and confirmed, or received and deleted.
    gone: BTreeSet<usize>,
    /// Completed, but the broker was killed before it confirmed it.
    perhaps_gone: BTreeSet<usize>,
    /// What the state may be: the last one confirmed, and those that were under way since.
    states: Vec<Option<usize>>,
    /// Promises that were broken.
    broken: Vec<String>,
}

impl Lane {
    fn new(kind: Kind, queue: String) -> Self {
        Self { kind, queue, books: Mutex::new(Books { states: vec![None], ..Books::default() }) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn message_session(&self) -> Option<&'static str> {
        match self.kind {
            Kind::MessageSession(id) => Some(id),
            _ => None,
        }
    }

    /// Sends until the broker is gone.
    fn produce(&self, broker: &Broker, killed: &AtomicBool) -> Outcome {
        let mut client = broker.connect()?;
        let link = client.sender(&self.queue)?;
        let mut sent = VecDeque::new();
        while !killed.load(Ordering::Acquire) {
            let behind = {
                let books = self.books();
                books.accepted.len().saturating_sub(books.gone.len())
            };
            if behind > BACKLOG_MAX && sent.is_empty() {
                wait_for_time_to_pass(Duration::from_millis(5));
                continue;
            }
            while behind <= BACKLOG_MAX && sent.len() < WINDOW {
                let number = self.books().next;
                let message = text_message(format!("{number}"), self.message_session());
                let delivery = client.start_send(link, 0, false, message)?;
                let mut books = self.books();
                books.next += 1;
                books.perhaps.insert(number);
                sent.push_back((number, delivery));
            }
            if let Some((number, delivery)) = sent.pop_front() {
                match client.outcome(delivery)? {
                    DeliveryState::Outcome(Terminal::Accepted) => {
                        let mut books = self.books();
                        books.perhaps.remove(&number);
                        books.accepted.insert(number);
                    }
                    other => return Err(Failed::new(format!("a send was answered by {other:?}"))),
                }
            }
        }
        Ok(())
    }

    fn open(&self, client: &mut Client, credit: u32) -> Outcome<lockstep_amqp::LinkId> {
        let link = match self.kind {
            Kind::MessageSession(id) => return client.accept(&self.queue, id, credit),
            Kind::PeekLock => return client.receiver(&self.queue, credit),
            Kind::ReceiveAndDelete => client.attach(receive_and_delete("r", &self.queue))?.0,
        };
        client.credit(link, credit)?;
        Ok(link)
    }

    /// Receives and settles until the broker is gone.
    fn consume(&self, broker: &Broker, killed: &AtomicBool) -> Outcome {
        let mut client = broker.connect()?;
        let link = self.open(&mut client, CREDIT)?;
        let mut last = None;
        for handled in 1.. {
            if handled % CREDIT as usize == 0 {
                client.credit(link, CREDIT)?;
            }
            let delivery = loop {
                match client.receive_within(link, Duration::from_millis(500)) {
                    Ok(delivery) => break delivery,
                    Err(failed) if client.is_closed() || killed.load(Ordering::Acquire) => {
                        return Err(failed);
                    }
                    // The producer is behind.
                    Err(_) => client.credit(link, CREDIT)?,
                }
            };
            let number: usize = delivery.text().parse().map_err(|_| Failed::new("a foreign message"))?;
            {
                let mut books = self.books();
                if last.is_some_and(|last| last >= number) {
                    books.broken.push(format!("{number} came after {last:?}"));
                }
                if books.gone.contains(&number) {
                    books.broken.push(format!("{number} came again although it was gone"));
                }
                last = Some(number);
                if self.kind == Kind::ReceiveAndDelete {
                    books.gone.insert(number);
                    continue;
                }
                books.perhaps_gone.insert(number);
            }
            client.complete(&delivery)?;
            {
                let mut books = self.books();
                books.perhaps_gone.remove(&number);
                books.gone.insert(number);
            }
            if let Kind::MessageSession(id) = self.kind
                && handled % STATE_EVERY == 0
            {
                self.change_state(&mut client, id, number)?;
            }
        }
        Ok(())
    }

    fn change_state(&self, client: &mut Client, id: &str, state: usize) -> Outcome {
        self.books().states.push(Some(state));
        let mut body = message_session(id);
        body.push((Value::string("session-state"), Value::Binary(Bytes::from(format!("{state}")))));
        client.manage(&self.queue, "set-session-state", body)?.ok()?;
        self.books().states = vec![Some(state)];
        Ok(())
    }

    /// What is there in the end, against the books.
    fn audit(&self, broker: &Broker, kills: usize) -> Outcome {
        let mut client = broker.connect()?;
        let link = self.open(&mut client, 0)?;
        let mut left = Vec::new();
        let mut numbers_in_queue = Vec::new();
        client.credit(link, 60_000)?;
        // Until nothing more comes; whether a drain ends in time is another scenario's business.
        while let Ok(delivery) = client.receive_within(link, Duration::from_millis(1_000)) {
            numbers_in_queue.push(delivery.message.sequence_number()?);
            left.push(delivery.text().parse::<usize>().map_err(|_| Failed::new("a foreign message"))?);
        }
        let mut books = self.books();
        let mut broken = std::mem::take(&mut books.broken);
        if !left.is_sorted_by(|a, b| a < b) || !numbers_in_queue.is_sorted_by(|a, b| a < b) {
            broken.push(format!("not in order: {left:?}, {numbers_in_queue:?}"));
        }
        let left: BTreeSet<usize> = left.into_iter().collect();
        let missing: Vec<_> = books
            .accepted
            .iter()
            .filter(|n| !left.contains(n) && !books.gone.contains(n) && !books.perhaps_gone.contains(n))
            .collect();
        // What was on the wire to a receive-and-delete receiver when the broker died is lost, as it
        // may be.
        let lost_max = if self.kind == Kind::ReceiveAndDelete { kills * 2 * CREDIT as usize } else { 0 };
        if missing.len() > lost_max {
            broken.push(format!("accepted, but lost: {missing:?}; there are {left:?}"));
        }
        let again: Vec<_> = left.intersection(&books.gone).collect();
        if !again.is_empty() {
            broken.push(format!("gone, but there: {again:?}"));
        }
        let unknown: Vec<_> =
            left.iter().filter(|n| !books.accepted.contains(n) && !books.perhaps.contains(n)).collect();
        if !unknown.is_empty() {
            broken.push(format!("never sent, but there: {unknown:?}"));
        }
        if let Kind::MessageSession(id) = self.kind {
            let response = client.manage(&self.queue, "get-session-state", message_session(id))?.ok()?;
            let state = match response.entry("session-state") {
                Some(Value::Binary(state)) => {
                    std::str::from_utf8(state).ok().and_then(|text| text.parse().ok())
                }
                _ => None,
            };
            if !books.states.contains(&state) {
                broken.push(format!("the state is {state:?}, it may be one of {:?}", books.states));
            }
        }
        if books.accepted.len() < 20 || books.gone.is_empty() {
            broken.push(format!("next to nothing happened: {} accepted", books.accepted.len()));
        }
        if broken.is_empty() {
            return Ok(());
        }
        Err(Failed::new(format!("{:?}: {}", self.kind, broken.join("; "))))
    }
}

/// Milliseconds until the next kill; any will do, and another one each run.
fn until_the_kill(seed: &mut u64) -> Duration {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    Duration::from_millis(200 + *seed % 1_000)
}

fn a_broker_killed_at_any_moment_keeps_its_word(s: &Scenario) -> Outcome {
    let broker = s.own_broker()?;
    let queue = s.queue();
    let mut lanes: Vec<Lane> =
        ["a", "b", "c"].map(|id| Lane::new(Kind::MessageSession(id), queue.to_owned())).into();
    lanes.push(Lane::new(Kind::PeekLock, format!("{queue}.peek_lock")));
    lanes.push(Lane::new(Kind::ReceiveAndDelete, format!("{queue}.receive_and_delete")));
    let fates: Vec<Fates> =
        [(Trade::Settling, "settling"), (Trade::Scheduling, "scheduling"), (Trade::Repeating, "repeating")]
            .map(|(trade, name)| Fates::new(trade, format!("{queue}.{name}")))
            .into();
    let kills = match std::env::var(KILLS_VARIABLE) {
        Ok(text) => text.parse().map_err(|_| Failed::new(format!("{KILLS_VARIABLE} is no number")))?,
        Err(_) => KILLS,
    };
    let mut seed = utc_millis().unsigned_abs() | 1;
    let first_seed = seed;
    for round in 0..kills {
        let killed = AtomicBool::new(false);
        let too_early: Vec<Failed> = std::thread::scope(|scope| {
            let (broker, killed) = (&broker, &killed);
            let watched = move |work: Outcome| work.err().filter(|_| !killed.load(Ordering::Acquire));
            let mut workers = Vec::new();
            for lane in &lanes {
                workers.push(scope.spawn(move || watched(lane.produce(broker, killed))));
                workers.push(scope.spawn(move || watched(lane.consume(broker, killed))));
            }
            for fates in &fates {
                workers.push(scope.spawn(move || watched(fates.work(broker, killed))));
            }
            wait_for_time_to_pass(until_the_kill(&mut seed));
            killed.store(true, Ordering::Release);
            broker.kill();
            workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).collect()
        });
        if let Some(failed) = too_early.first() {
            return Err(Failed::new(format!("round {round}: {failed}\n{}", broker.log_tail())));
        }
        broker.restart()?;
    }
    let lanes = lanes.iter().map(|lane| lane.audit(&broker, kills));
    let fates = fates.iter().map(|fates| fates.audit(&broker));
    let failed: Vec<_> =
        lanes.chain(fates).filter_map(Result::err).map(|failed| failed.to_string()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failed::new(format!("seed {first_seed}: {}", failed.join("\n"))))
}

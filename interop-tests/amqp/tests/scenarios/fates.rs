//! Where each message of a queue may be, kept while the broker is killed again and again: what was
//! confirmed holds, what was under way came whole or not at all.
//!
//! Of each message the books have the set of places where it may be. An operation that is under way
//! adds the place to which it moves the message; its confirmation leaves that one alone.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lockstep_amqp::{
    LinkId,
    types::{Array, DeliveryState, Map, Modified, Outcome as Terminal, Value},
};
use lockstep_interop_amqp::{
    Broker, Client, Delivery, Failed, Message, Outcome, Outgoing, utc_millis, wait_until,
};

use crate::locks::update_disposition;

/// Messages sent, and received, in one turn.
const TURN: usize = 4;
/// How long a turn waits for a message.
const WAIT: Duration = Duration::from_millis(300);
/// The longest time for which a message is scheduled, in milliseconds.
const SCHEDULED_MAX_MILLIS: i64 = 2_000;
/// By how much a message may be late once the broker is there.
const LATE: Duration = Duration::from_secs(10);
/// Messages of one peek.
const PAGE: i32 = 200;
/// Messages that may wait in a queue before more are sent.
const LEFT_MAX: usize = 200;

/// Where a message can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Not stored, or gone for good.
    Nowhere,
    /// In the queue, or scheduled for it.
    Queue,
    Deferred,
    DeadLettered,
}

/// What is done with the messages of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trade {
    /// Every way of settling, deferral and what comes after it.
    Settling,
    /// Scheduled, some cancelled; completed when they come.
    Scheduling,
    /// Sent again and again under the same message-ids, completed once.
    Repeating,
}

#[derive(Clone, Debug)]
struct Fate {
    may_be: Vec<Place>,
    /// Its number, or the numbers before and after it became due.
    numbers: Vec<i64>,
    due: i64,
}

#[derive(Default)]
struct Books {
    fates: Vec<Fate>,
    /// Operations confirmed, by name.
    confirmed: BTreeMap<&'static str, usize>,
    broken: Vec<String>,
}

/// One queue, whoever works on it, and its books.
pub(crate) struct Fates {
    trade: Trade,
    queue: String,
    books: Mutex<Books>,
}

impl Books {
    /// An operation begins that may move a message.
    fn begin(&mut self, message: usize, to: Place) {
        let may_be = &mut self.fates[message].may_be;
        if !may_be.contains(&to) {
            may_be.push(to);
        }
    }

    /// The operation was confirmed.
    fn confirm(&mut self, message: usize, to: Place, what: &'static str) {
        self.fates[message].may_be = vec![to];
        *self.confirmed.entry(what).or_default() += 1;
    }

    /// A message was seen in a place, under a number.
    fn seen(&mut self, message: usize, place: Place, number: i64) {
        let Some(fate) = self.fates.get_mut(message) else {
            self.broken.push(format!("{message} was never sent"));
            return;
        };
        if !fate.may_be.contains(&place) {
            self.broken.push(format!("{message} is at {place:?}, it may be {:?}", fate.may_be));
        }
        fate.may_be = vec![place];
        if !fate.numbers.contains(&number) {
            fate.numbers.push(number);
        }
        // A scheduled message has a number of its own until it is due.
        let numbers_max = if fate.due > 0 { 2 } else { 1 };
        if fate.numbers.len() > numbers_max {
            self.broken.push(format!("{message} was stored under {:?}", fate.numbers));
        }
    }
}

fn number_of(text: &str) -> Outcome<usize> {
    text.parse().map_err(|_| Failed::new("a foreign message"))
}

fn longs(numbers: &[i64]) -> Map {
    let elements = numbers.iter().copied().map(Value::Long).collect();
    vec![(Value::string("sequence-numbers"), Value::Array(Box::new(Array { constructor: 0x81, elements })))]
}

impl Fates {
    pub(crate) fn new(trade: Trade, queue: String) -> Self {
        Self { trade, queue, books: Mutex::new(Books::default()) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until the broker is gone.
    pub(crate) fn work(&self, broker: &Broker, killed: &AtomicBool) -> Outcome {
        let mut client = broker.connect()?;
        let sender = client.sender(&self.queue)?;
        let receiver = client.receiver(&self.queue, 0)?;
        while !killed.load(Ordering::Acquire) {
            let left = self.books().fates.iter().filter(|fate| fate.may_be.contains(&Place::Queue)).count();
            match self.trade {
                _ if left > LEFT_MAX => {}
                Trade::Scheduling => self.schedule(&mut client)?,
                Trade::Settling => self.send(&mut client, sender, TURN)?,
                Trade::Repeating => self.repeat(&mut client, sender)?,
            }
            client.credit(receiver, TURN as u32)?;
            for _ in 0..TURN {
                // Fewer may be there.
                match client.receive_within(receiver, WAIT) {
                    Ok(delivery) => self.settle(&mut client, &delivery)?,
                    Err(failed) if client.is_closed() => return Err(failed),
                    Err(_) => break,
                }
            }
            if self.trade == Trade::Settling {
                self.take_up_deferred(&mut client)?;
            }
        }
        Ok(())
    }

    fn new_message(&self, due: i64) -> usize {
        let mut books = self.books();
        books.fates.push(Fate { may_be: vec![Place::Nowhere], numbers: Vec::new(), due });
        books.fates.len() - 1
    }

    fn encode(message: usize, due: Option<i64>) -> Bytes {
        let mut outgoing = Outgoing::text(format!("{message}"));
        outgoing.properties.message_id = Some(Value::string(&format!("id-{message}")));
        if let Some(due) = due {
            outgoing.annotations =
                vec![(Value::symbol("x-opt-scheduled-enqueue-time"), Value::Timestamp(due))];
        }
        outgoing.encode()
    }

    fn send(&self, client: &mut Client, link: LinkId, count: usize) -> Outcome {
        let mut sent = Vec::new();
        for _ in 0..count {
            let message = self.new_message(0);
            self.books().begin(message, Place::Queue);
            sent.push((message, client.start_send(link, 0, false, Self::encode(message, None))?));
        }
        for (message, delivery) in sent {
            expect(&client.outcome(delivery)?, &Terminal::Accepted)?;
            self.books().confirm(message, Place::Queue, "send");
        }
        Ok(())
    }

    /// Sends new messages, and once more what was sent before, confirmed or not: each is accepted,
    /// and none is stored twice.
    fn repeat(&self, client: &mut Client, link: LinkId) -> Outcome {
        let known = self.books().fates.len();
        self.send(client, link, TURN)?;
        for message in known.saturating_sub(2 * TURN)..known {
            let before = self.books().fates[message].may_be.clone();
            let never_stored = before.contains(&Place::Nowhere) && before.contains(&Place::Queue);
            let delivery = client.start_send(link, 0, false, Self::encode(message, None))?;
            expect(&client.outcome(delivery)?, &Terminal::Accepted)?;
            let mut books = self.books();
            *books.confirmed.entry("repeat").or_default() += 1;
            // It was sent and not answered, and nobody has completed it since: now it is there.
            if never_stored && books.fates[message].numbers.is_empty() {
                books.confirm(message, Place::Queue, "send");
            }
        }
        Ok(())
    }

    fn schedule(&self, client: &mut Client) -> Outcome {
        let mut scheduled = Vec::new();
        for turn in 0..TURN as i64 {
            let spread = (self.books().fates.len() as i64 * 277) % SCHEDULED_MAX_MILLIS;
            let due = utc_millis() + 200 + spread + turn;
            let message = self.new_message(due);
            self.books().begin(message, Place::Queue);
            scheduled.push((message, due));
        }
        let entry = |&(message, due): &(usize, i64)| {
            let encoded = Value::Binary(Self::encode(message, Some(due)));
            Value::Map(vec![(Value::string("message"), encoded)])
        };
        let body = vec![(Value::string("messages"), Value::List(scheduled.iter().map(entry).collect()))];
        let response = client.manage(&self.queue, "schedule-message", body)?.ok()?;
        let Some(Value::Array(numbers)) = response.entry("sequence-numbers") else {
            return Err(Failed::new(format!("no numbers in {response:?}")));
        };
        let numbers: Vec<i64> = numbers.elements.iter().filter_map(Value::as_i64).collect();
        for (&(message, _), &number) in scheduled.iter().zip(&numbers) {
            let mut books = self.books();
            books.fates[message].numbers.push(number);
            books.confirm(message, Place::Queue, "schedule");
        }
        // The last of them is the one that is due last; it is taken back.
        let (Some(&(message, _)), Some(&number)) = (scheduled.last(), numbers.last()) else {
            return Err(Failed::new("no number of a scheduled message"));
        };
        self.books().begin(message, Place::Nowhere);
        let response = client.manage(&self.queue, "cancel-scheduled-message", longs(&[number]))?;
        if response.status == 200 {
            self.books().confirm(message, Place::Nowhere, "cancel");
        } else {
            // It had become due before the request came.
            self.books().fates[message].may_be = vec![Place::Queue];
        }
        Ok(())
    }

    fn settle(&self, client: &mut Client, delivery: &Delivery) -> Outcome {
        let message = number_of(delivery.text())?;
        let number = delivery.message.sequence_number()?;
        let due = {
            let mut books = self.books();
            books.seen(message, Place::Queue, number);
            books.fates[message].due
        };
        if due > utc_millis() {
            self.books().broken.push(format!("{message} came {} ms early", due - utc_millis()));
        }
        let deferred = Modified { undeliverable_here: Some(true), ..Modified::default() };
        let failed = Modified { delivery_failed: Some(true), ..Modified::default() };
        let (outcome, to, what) = match message % 4 {
            1 if self.trade == Trade::Settling => (Terminal::Modified(deferred), Place::Deferred, "defer"),
            2 if self.trade == Trade::Settling => {
                (Terminal::Rejected(None), Place::DeadLettered, "dead-letter")
            }
            3 if self.trade == Trade::Settling && delivery.count() < 1 => {
                (Terminal::Modified(failed), Place::Queue, "abandon")
            }
            _ => (Terminal::Accepted, Place::Nowhere, "complete"),
        };
        self.books().begin(message, to);
        expect(&client.try_settle(delivery, outcome.clone())?, &outcome)?;
        self.books().confirm(message, to, what);
        Ok(())
    }

    /// Asks for a deferred message by its number, and completes or dead-letters it.
    fn take_up_deferred(&self, client: &mut Client) -> Outcome {
        let found = {
            let books = self.books();
            let mut deferred = books.fates.iter().enumerate().filter(|(_, f)| f.may_be == [Place::Deferred]);
            // Some stay, for the end.
            deferred.find(|(message, _)| message % 8 == 1).map(|(message, fate)| (message, fate.numbers[0]))
        };
        let Some((message, number)) = found else { return Ok(()) };
        let token = self.receive_deferred(client, message, number)?;
        let (status, to) = match message % 16 {
            1 => ("completed", Place::Nowhere),
            _ => ("suspended", Place::DeadLettered),
        };
        self.books().begin(message, to);
        update_disposition(client, &self.queue, status, token, &[])?.ok()?;
        self.books().confirm(message, to, "settle deferred");
        Ok(())
    }

    /// Its lock token.
    fn receive_deferred(&self, client: &mut Client, message: usize, number: i64) -> Outcome<Value> {
        let mut body = longs(&[number]);
        body.push((Value::string("receiver-settle-mode"), Value::Uint(1)));
        let response = client.manage(&self.queue, "receive-by-sequence-number", body)?.ok()?;
        let (received, token) = match response.entry("messages") {
            Some(Value::List(messages)) => match &messages[..] {
                [Value::Map(entry)] => (of(entry, "message"), of(entry, "lock-token")),
                _ => (None, None),
            },
            _ => (None, None),
        };
        let (Some(Value::Binary(received)), Some(token)) = (received, token) else {
            return Err(Failed::new(format!("deferred message {message}: {response:?}")));
        };
        if Message::parse(received)?.text() != message.to_string() {
            return Err(Failed::new(format!("deferred message {message} is another one: {response:?}")));
        }
        Ok(token.clone())
    }

    /// What is there in the end, against the books.
    pub(crate) fn audit(&self, broker: &Broker) -> Outcome {
        let mut client = broker.connect()?;
        let mut books = std::mem::take(&mut *self.books());
        let last = books.fates.iter().map(|fate| fate.due).max().unwrap_or(0);
        let wait = Duration::from_millis((last - utc_millis()).max(0).unsigned_abs()) + LATE;
        // Scheduled messages come at their time, also those that became due while nobody was there.
        let queue = wait_until("scheduled messages", wait, || {
            let there = peek_all(&mut client, &self.queue);
            let is_waiting = |all: &Vec<Seen>| all.iter().any(|seen| seen.state == 2);
            (!there.as_ref().is_ok_and(is_waiting)).then_some(there)
        })??;
        let dead = peek_all(&mut client, &format!("{}/$DeadLetterQueue", self.queue))?;
        let mut found = vec![Vec::new(); books.fates.len()];
        for (all, is_dead) in [(&queue, false), (&dead, true)] {
            for seen in all {
                let place = match (is_dead, seen.state) {
                    (true, _) => Place::DeadLettered,
                    (false, 1) => Place::Deferred,
                    (false, _) => Place::Queue,
                };
                books.seen(seen.message, place, seen.number);
                if let Some(places) = found.get_mut(seen.message) {
                    places.push((place, seen.number));
                }
            }
        }
        for (message, places) in found.iter().enumerate() {
            let may_be = &books.fates[message].may_be;
            match places[..] {
                [] if !may_be.contains(&Place::Nowhere) => {
                    books.broken.push(format!("{message} is lost, it may be {may_be:?}"));
                }
                [(Place::Deferred, number)] => {
                    self.receive_deferred(&mut client, message, number)?;
                }
                [] | [_] => {}
                _ => books.broken.push(format!("{message} is there twice: {places:?}")),
            }
        }
        let wanted: &[&str] = match self.trade {
            Trade::Settling => &["send", "defer", "dead-letter", "abandon", "complete", "settle deferred"],
            Trade::Scheduling => &["schedule", "cancel", "complete"],
            Trade::Repeating => &["send", "repeat", "complete"],
        };
        for what in wanted {
            if books.confirmed.get(what).is_none_or(|&times| times < 3) {
                books.broken.push(format!("next to nothing happened: {:?}", books.confirmed));
            }
        }
        if books.broken.is_empty() {
            return Ok(());
        }
        Err(Failed::new(format!("{:?}: {}", self.trade, books.broken.join("; "))))
    }
}

/// A message in a peek.
struct Seen {
    message: usize,
    number: i64,
    state: i32,
}

fn of<'a>(entry: &'a Map, key: &str) -> Option<&'a Value> {
    entry.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
}

/// Everything in a queue, by peek.
fn peek_all(client: &mut Client, queue: &str) -> Outcome<Vec<Seen>> {
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let asked = vec![
            (Value::string("from-sequence-number"), Value::Long(from)),
            (Value::string("message-count"), Value::Int(PAGE)),
        ];
        let response = client.manage(queue, "peek-message", asked)?;
        if response.status == 204 {
            return Ok(all);
        }
        let response = response.ok()?;
        let Some(Value::List(messages)) = response.entry("messages") else {
            return Err(Failed::new(format!("a peek was answered by {response:?}")));
        };
        for entry in messages {
            let Value::Map(entry) = entry else { return Err(Failed::new("a peek without maps")) };
            let Some(Value::Binary(encoded)) = of(entry, "message") else {
                return Err(Failed::new("a peek without messages"));
            };
            let message = Message::parse(encoded)?;
            let number = message.sequence_number()?;
            let state = match message.annotation("x-opt-message-state") {
                Some(Value::Int(state)) => *state,
                _ => 0,
            };
            all.push(Seen { message: number_of(message.text())?, number, state });
            from = number + 1;
        }
    }
}

fn expect(state: &DeliveryState, outcome: &Terminal) -> Outcome {
    match (state, outcome) {
        (DeliveryState::Outcome(Terminal::Accepted), Terminal::Accepted)
        | (DeliveryState::Outcome(Terminal::Rejected(_)), Terminal::Rejected(_))
        | (DeliveryState::Outcome(Terminal::Modified(_)), Terminal::Modified(_)) => Ok(()),
        _ => Err(Failed::new(format!("{outcome:?} was answered by {state:?}"))),
    }
}

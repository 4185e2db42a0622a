//! A broker that is as simple as it can be: one flat list of messages, each with the place where it
//! is; linear searches; everything derived anew. It says exactly what each command must bring
//! about, and what a store must hold after it.
//!
//! This file has the state, the commands and what the store keeps; [`messages`] what happens to
//! messages, [`links`] to receivers, [`serving`] who gets what, and what time brings.

mod links;
mod messages;
mod serving;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::DuplicateKey;

use super::super::*;

/// A message as a receiver or a browser sees it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shown {
    pub(super) number: u64,
    pub(super) count: u32,
    pub(super) state: MessageState,
    pub(super) enqueued_at: Timestamp,
    pub(super) time_to_live: Option<Duration>,
    pub(super) size_bytes: u32,
    pub(super) properties: PropertyOverlay,
    /// Until when it is locked; `None` for what is not.
    pub(super) until: Option<Timestamp>,
}

/// What a link or connection is told, without random numbers.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Told {
    Granted(Option<(MessageSessionId, Option<Timestamp>)>),
    Refused(Refusal),
    Delivered(Shown),
    Drained,
    Detached(Option<Refusal>),
    Reply(RequestId, Said),
}

/// [`Reply`] without bodies and lock tokens.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Said {
    Peeked(Vec<Shown>),
    Deferred(Vec<Shown>),
    Other(Reply),
}

/// Whom an effect concerns; order matters only within one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Whom {
    Link(u64),
    Connection(u64),
}

/// What leaves the broker because of one command.
#[derive(Default, PartialEq, Debug)]
pub(super) struct Expected {
    pub(super) immediate: BTreeMap<Whom, Vec<Told>>,
    pub(super) fenced: BTreeMap<Whom, Vec<Told>>,
}

impl Expected {
    /// In what this, which was seen, differs from what was expected.
    pub(super) fn difference(&self, expected: &Self) -> String {
        let flat = |all: &Self| -> Vec<(bool, Whom, Told)> {
            let told = |immediate, by_whom: &BTreeMap<Whom, Vec<Told>>| {
                let each = |(&whom, told): (&Whom, &Vec<Told>)| {
                    told.iter().map(move |told| (immediate, whom, told.clone())).collect::<Vec<_>>()
                };
                by_whom.iter().flat_map(each).collect::<Vec<_>>()
            };
            [told(true, &all.immediate), told(false, &all.fenced)].concat()
        };
        let (seen, expected) = (flat(self), flat(expected));
        if let (
            [(_, _, Told::Reply(_, Said::Peeked(seen)))],
            [(_, _, Told::Reply(_, Said::Peeked(expected)))],
        ) = (&seen[..], &expected[..])
        {
            let one_sided = |these: &[Shown], those: &[Shown]| -> Vec<Shown> {
                these.iter().filter(|shown| !those.contains(shown)).cloned().collect()
            };
            let (more, less) = (one_sided(seen, expected), one_sided(expected, seen));
            return format!("shows {more:?}\nand should show {less:?}");
        }
        let one_sided = |these: &[(bool, Whom, Told)], those: &[(bool, Whom, Told)]| -> Vec<_> {
            these.iter().filter(|told| !those.contains(told)).cloned().collect()
        };
        let (more, less) = (one_sided(&seen, &expected), one_sided(&expected, &seen));
        if more.is_empty() && less.is_empty() {
            return format!("brings, in this order, {seen:?}\nand should bring {expected:?}");
        }
        format!("brings {more:?}\nand should bring {less:?}")
    }
}

/// Where a message is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Place {
    /// Sent, or activated, in a batch that is not durable.
    New(CommitNumber),
    /// Can be handed out.
    Ready,
    /// Moved, or taken back, in a batch that is not durable.
    Awaiting(CommitNumber),
    Locked,
    /// Out on a receive-and-delete link.
    Reserved,
    Deferred,
    Scheduled,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) entity: EntityId,
    pub(super) number: u64,
    pub(super) session: Option<MessageSessionId>,
    pub(super) body: Bytes,
    enqueued_at: Timestamp,
    time_to_live: Option<Duration>,
    count: u32,
    properties: PropertyOverlay,
    is_deferred: bool,
    was_scheduled: bool,
    pub(super) place: Place,
}

/// A message session that is held, was held, or has state.
#[derive(Clone, Default, Debug)]
struct Held {
    holder: Option<u64>,
    last_release: u64,
    state: Option<(Bytes, Timestamp, CommitNumber)>,
    /// Messages up to this number expired together.
    expired_through: u64,
}

#[derive(Clone, Debug)]
struct Entity {
    description: QueueDescription,
    requires_session: bool,
    last: u64,
    sessions: BTreeMap<MessageSessionId, Held>,
    /// Message-ids and when they came.
    duplicates: Vec<(DuplicateKey, Timestamp)>,
    /// Plain receivers with credit.
    line: Vec<u64>,
    /// Accepts that wait for a message session.
    pending: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain,
    Pending { deadline: MonoTime, drain: bool },
    Holder { session: MessageSessionId, deadline: MonoTime, until: Timestamp, lost: bool },
    Browser(MessageSessionId),
}

#[derive(Clone, Debug)]
struct Receiver {
    connection: u64,
    entity: EntityId,
    mode: ReceiveMode,
    identity: LinkIdentity,
    delivered: u64,
    limit: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
struct Locked {
    /// `None` until [`Reference::learn`].
    token: Option<LockToken>,
    entity: EntityId,
    number: u64,
    link: u64,
    /// `None` while it belongs to a message session or is a reservation.
    ends: Option<(MonoTime, Timestamp)>,
    reserved: bool,
}

/// How much there is, as [`EntityCounts`] says it.
#[derive(Default, PartialEq, Debug)]
pub(super) struct Counts {
    pub(super) active: u64,
    pub(super) deferred: u64,
    pub(super) scheduled: u64,
    pub(super) dead_letter: u64,
    pub(super) locked: u64,
    pub(super) size_bytes: u64,
    pub(super) message_sessions: u64,
    pub(super) held: u64,
    pub(super) pending: u64,
}

#[derive(Default)]
pub(super) struct Reference {
    config: CoreConfig,
    entities: BTreeMap<EntityId, Entity>,
    messages: Vec<Message>,
    links: BTreeMap<u64, Receiver>,
    locks: Vec<Locked>,
    releases: u64,
    durable: CommitNumber,
    ended_links: BTreeSet<u64>,
    ended_tokens: BTreeSet<LockToken>,
    drains: Vec<u64>,
    /// Links that the broker ended, and their connections, which are to say what was sent.
    left: BTreeMap<u64, u64>,
    now: Now,
    commit: CommitNumber,
    told: Expected,
}

impl Reference {
    pub(super) fn new(config: CoreConfig) -> Self {
        Self { config, ..Self::default() }
    }

    pub(super) fn define(&mut self, entity: EntityId, description: &QueueDescription) {
        for id in [entity, dead_letter(entity)] {
            let requires_session = description.requires_session && id == entity;
            let known = self.entities.entry(id).or_insert_with(|| Entity {
                description: description.clone(),
                requires_session,
                last: 0,
                sessions: BTreeMap::new(),
                duplicates: Vec::new(),
                line: Vec::new(),
                pending: Vec::new(),
            });
            known.description = description.clone();
        }
    }

    pub(super) fn description(&self, entity: EntityId) -> &QueueDescription {
        &self.entities[&entity].description
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The message sessions that are held, and by which connection.
    pub(super) fn held(&self) -> Vec<(EntityId, MessageSessionId, ConnectionId)> {
        let hold = |link: &Receiver| match &link.kind {
            Kind::Holder { session, .. } => {
                Some((link.entity, session.clone(), ConnectionId(link.connection)))
            }
            _ => None,
        };
        self.links.values().filter_map(hold).collect()
    }

    /// What one command brings about: what it asks, then whoever can be served because of it, then
    /// what is due.
    pub(super) fn apply(&mut self, now: Now, commit: CommitNumber, command: &Command) -> Expected {
        (self.now, self.commit) = (now, commit);
        self.execute(command.clone());
        self.serve();
        self.pass_deadlines();
        self.pass_wall_clock();
        self.serve();
        let messages = &self.messages;
        for (&entity, known) in &mut self.entities {
            known.sessions.retain(|id, held| {
                let has_messages =
                    || messages.iter().any(|m| m.entity == entity && m.session.as_ref() == Some(id));
                held.holder.is_some() || held.state.is_some() || has_messages()
            });
        }
        std::mem::take(&mut self.told)
    }

    /// Learns the token of a delivery that was predicted.
    pub(super) fn learn(&mut self, link: u64, number: u64, token: LockToken) {
        let predicted =
            self.locks.iter_mut().find(|l| l.link == link && l.number == number && l.token.is_none());
        if let Some(lock) = predicted {
            lock.token = Some(token);
        }
    }

    /// What a store holds when the last batch is durable: no link, no lock, no receiver.
    pub(super) fn image(&self) -> Self {
        let mut image = Self::new(self.config);
        for message in self.messages.iter().filter(|message| message.place != Place::Reserved) {
            let place = match message.place {
                Place::Scheduled => Place::Scheduled,
                _ if message.is_deferred => Place::Deferred,
                _ => Place::Ready,
            };
            image.messages.push(Message { place, ..message.clone() });
        }
        for (&id, entity) in &self.entities {
            let mut kept =
                Entity { sessions: BTreeMap::new(), line: Vec::new(), pending: Vec::new(), ..entity.clone() };
            for (session, held) in &entity.sessions {
                if let Some((bytes, at, _)) = &held.state {
                    let state = Some((bytes.clone(), *at, CommitNumber(0)));
                    kept.sessions.insert(session.clone(), Held { state, ..Held::default() });
                }
            }
            image.entities.insert(id, kept);
        }
        image
    }

    /// A message has at most one row, as many locks as its place says, and a message session one
    /// holder that knows of it.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut rows = BTreeSet::new();
        for message in &self.messages {
            let (entity, number) = (message.entity, message.number);
            if !rows.insert((entity, number)) {
                return Err(format!("{number} of {entity:?} is there twice"));
            }
            let locks = self.locks.iter().filter(|l| l.entity == entity && l.number == number).count();
            let is_out = matches!(message.place, Place::Locked | Place::Reserved);
            if locks != usize::from(is_out) {
                return Err(format!("{number} of {entity:?} is {:?} and has {locks} locks", message.place));
            }
        }
        for (entity, known) in &self.entities {
            for (session, held) in &known.sessions {
                let knows = |link: &u64| match self.links.get(link).map(|link| (&link.kind, link.entity)) {
                    Some((Kind::Holder { session: own, .. }, of)) => own == session && of == *entity,
                    _ => false,
                };
                if !held.holder.as_ref().is_none_or(knows) {
                    return Err(format!("{session} of {entity:?} has a holder that is none"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn counts(&self, entity: EntityId) -> Counts {
        let mut counts = Counts::default();
        let mut listed: Vec<&MessageSessionId> = Vec::new();
        for message in &self.messages {
            let is_there = u64::from(!matches!(message.place, Place::Reserved | Place::Scheduled));
            if message.entity == dead_letter(entity) {
                counts.dead_letter += is_there;
            }
            if message.entity != entity {
                continue;
            }
            counts.active += is_there;
            counts.deferred += u64::from(message.is_deferred);
            counts.scheduled += u64::from(message.place == Place::Scheduled);
            counts.locked += u64::from(message.place == Place::Locked);
            listed.extend(message.session.as_ref().filter(|_| message.place != Place::Scheduled));
        }
        let known = &self.entities[&entity];
        listed.extend(known.sessions.iter().filter(|(_, held)| held.state.is_some()).map(|(id, _)| id));
        listed.sort_unstable();
        listed.dedup();
        counts.message_sessions = listed.len() as u64;
        counts.size_bytes = self.size_bytes(entity);
        counts.held = known.sessions.values().filter(|held| held.holder.is_some()).count() as u64;
        counts.pending = known.pending.len() as u64;
        counts
    }

    /// Locks and deadlines that there are.
    pub(super) fn locks_and_deadlines(&self) -> (usize, usize) {
        let timed = self.locks.iter().filter(|lock| lock.ends.is_some()).count();
        let is_timed = |link: &&Receiver| matches!(link.kind, Kind::Pending { .. } | Kind::Holder { .. });
        (self.locks.len(), timed + self.links.values().filter(is_timed).count())
    }

    /// Bytes of an entity's messages, of those in its dead-letter queue, and of its states.
    fn size_bytes(&self, entity: EntityId) -> u64 {
        let main = entity.with_sub_queue(SubQueue::Main);
        let of_it = self.messages.iter().filter(|m| m.entity.with_sub_queue(SubQueue::Main) == main);
        let states = self.entities[&main].sessions.values().filter_map(|held| held.state.as_ref());
        of_it.map(|m| m.body.len() as u64).sum::<u64>()
            + states.map(|(bytes, ..)| bytes.len() as u64).sum::<u64>()
    }

    fn session_ids(&self, entity: EntityId) -> BTreeSet<MessageSessionId> {
        let of_messages =
            self.messages.iter().filter(|m| m.entity == entity).filter_map(|m| m.session.clone());
        of_messages.chain(self.entities[&entity].sessions.keys().cloned()).collect()
    }

    /// Whether a message session exists for clients.
    fn is_listed(&self, entity: EntityId, id: &MessageSessionId) -> bool {
        let has_message = self
            .messages
            .iter()
            .any(|m| m.entity == entity && m.session.as_ref() == Some(id) && m.place != Place::Scheduled);
        has_message || self.entities[&entity].sessions.get(id).is_some_and(|held| held.state.is_some())
    }

    /// The state that the store serves.
    pub(super) fn stored_state(&self, entity: EntityId, id: &MessageSessionId) -> Option<&Bytes> {
        self.entities[&entity].sessions.get(id)?.state.as_ref().map(|(bytes, ..)| bytes)
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Attach(attach) => self.attach(&attach),
            Command::Credit { link, limit, drain } => self.credit(link.0, limit, drain),
            Command::Detach { link, departure } => {
                let known = self.links.contains_key(&link.0) && !self.is_lost(link.0);
                self.depart(link.0, departure);
                if known && departure == Departure::Clean {
                    self.tell(false, Whom::Link(link.0), Told::Detached(None));
                }
            }
            Command::ConnectionGone { connection, departure } => {
                let of_it = |(&id, link): (&u64, &Receiver)| (link.connection == connection.0).then_some(id);
                for id in self.links.iter().filter_map(of_it).collect::<Vec<_>>() {
                    self.depart(id, departure);
                }
                let left = self.left.iter().filter(|(_, of)| **of == connection.0);
                for link in left.map(|(link, _)| *link).collect::<Vec<_>>() {
                    self.left.remove(&link);
                    self.put_back_reserved(link);
                }
            }
            Command::Return { link, tokens } => {
                for token in tokens {
                    if let Some(lock) = self.take_lock(|l| l.token == Some(token) && l.link == link.0) {
                        self.put_back(&lock, false);
                    }
                }
            }
            Command::Sent { link, tokens } => {
                for token in tokens {
                    let wanted = |l: &Locked| l.token == Some(token) && l.link == link.0 && l.reserved;
                    if let Some(lock) = self.take_lock(wanted) {
                        self.remove(lock.entity, lock.number);
                    }
                }
            }
            Command::Committed(commit) => self.committed(commit),
            Command::Tick | Command::BodiesRead { .. } => {}
            Command::Enqueue(Enqueue { request: None, .. }) | Command::Settle { request: None, .. } => {
                self.answer(command);
            }
            asked => {
                let (connection, request, said) = self.answer(asked);
                self.reply(connection, request, said);
            }
        }
    }

    /// Commands that are answered.
    fn answer(&mut self, command: Command) -> (ConnectionId, Option<RequestId>, Said) {
        match command {
            Command::Enqueue(enqueue) => {
                let reply = self.enqueue(&enqueue);
                (enqueue.connection, enqueue.request, Said::Other(reply))
            }
            Command::Settle { via, tokens, settlement, connection, request } => {
                let reply = self.settle(via, &tokens, &settlement, connection.0);
                (connection, request, Said::Other(reply))
            }
            Command::RenewMessageLocks { entity, tokens, connection, request } => {
                (connection, Some(request), Said::Other(self.renew(entity, &tokens, connection.0)))
            }
            Command::RenewMessageSessionLock { entity, session, holder, request } => {
                let reply = self.renew_session(entity, &session, holder);
                (holder.connection, Some(request), Said::Other(reply))
            }
            Command::GetMessageSessionState { entity, session, holder, request } => {
                let reply = self.get_state(entity, &session, holder);
                (holder.connection, Some(request), Said::Other(reply))
            }
            Command::SetMessageSessionState { entity, session, state, holder, request } => {
                let reply = self.set_state(entity, &session, state, holder);
                (holder.connection, Some(request), Said::Other(reply))
            }
            Command::ListMessageSessions { entity, state_updated_after, skip, top, connection, request } => {
                let reply = self.list(entity, state_updated_after, skip, top);
                (connection, Some(request), Said::Other(reply))
            }
            Command::Peek { entity, from, count, session, connection, request } => {
                (connection, Some(request), self.peek(entity, from, count, session.as_ref()))
            }
            Command::ReceiveBySequenceNumbers(asked) => {
                (asked.holder.connection, Some(asked.request), self.receive_deferred(&asked))
            }
            Command::CancelScheduled { entity, sequence_numbers, connection, request } => {
                let reply = self.cancel(entity, &sequence_numbers);
                (connection, Some(request), Said::Other(reply))
            }
            Command::DeleteMessages { entity, count, enqueued_until, session, connection, request } => {
                let reply = self.delete(entity, count, enqueued_until, session.as_ref());
                (connection, Some(request), Said::Other(reply))
            }
            Command::DefineQueue { description, connection, request, .. } => {
                (connection, Some(request), Said::Other(self.redefine(&description)))
            }
            other => panic!("not asked by the test: {other:?}"),
        }
    }

    fn entity(&mut self, entity: EntityId) -> &mut Entity {
        self.entities.get_mut(&entity).expect("defined")
    }

    fn link(&mut self, id: u64) -> &mut Receiver {
        self.links.get_mut(&id).expect("known")
    }

    fn message(&mut self, entity: EntityId, number: u64) -> &mut Message {
        let found = self.messages.iter_mut().find(|m| m.entity == entity && m.number == number);
        found.expect("is there")
    }

    fn tell(&mut self, immediate: bool, whom: Whom, told: Told) {
        let all = if immediate { &mut self.told.immediate } else { &mut self.told.fenced };
        all.entry(whom).or_default().push(told);
    }

    fn reply(&mut self, connection: ConnectionId, request: Option<RequestId>, said: Said) {
        if let Some(request) = request {
            self.tell(false, Whom::Connection(connection.0), Told::Reply(request, said));
        }
    }

    fn take_lock(&mut self, wanted: impl Fn(&Locked) -> bool) -> Option<Locked> {
        let at = self.locks.iter().position(wanted)?;
        Some(self.locks.remove(at))
    }
}

//! The core over a memory store, and beside it the reference: each command goes to both, and what
//! they say is compared. The first difference ends the run.

use lockstep_model::{DuplicateKey, EntityStatus, MessageSessionExpiration};

use super::{
    super::*,
    reference::{Counts, Expected, Reference, Said, Shown, Told, Whom},
};

/// Time moves on the wall clock by this much at a time, in milliseconds, and times to live are an
/// odd number of its halves: see [`Reference::pass_wall_clock`].
const WALL_CLOCK_STEP_MILLIS: u64 = 2_000;

/// A linear congruential generator: all that is needed is that it can be replayed.
pub(super) struct Random(u64);

impl Random {
    /// Neighbouring seeds begin differently.
    const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(super) fn choose<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize].clone()) }
    }
}

/// What was written since the last sync.
#[derive(Default)]
struct Unsynced {
    /// Whether a crash may keep a part of it: what the store holds then must be noted each time,
    /// which takes longer than all the rest.
    is_noted: bool,
    /// The batches, and what the store holds if it is the last that survives.
    batches: Vec<(CommitNumber, Reference)>,
}

/// Of so many times between two syncs one is noted.
const NOTED_ONE_IN: u64 = 4;

/// A delivery that was made: its link and connection, the entity, the token.
#[derive(Clone, Copy)]
pub(super) struct Handed {
    pub(super) link: u64,
    pub(super) entity: EntityId,
    pub(super) token: LockToken,
}

/// How often things happened.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Happened {
    pub(super) deliveries: u64,
    pub(super) deferred: u64,
    pub(super) duplicates: u64,
    pub(super) activated: u64,
    pub(super) crashes: u64,
}

impl Happened {
    pub(super) const fn add(&mut self, other: Self) {
        self.deliveries += other.deliveries;
        self.deferred += other.deferred;
        self.duplicates += other.duplicates;
        self.activated += other.activated;
        self.crashes += other.crashes;
    }
}

pub(super) struct World {
    pub(super) random: Random,
    config: CoreConfig,
    namespace: Namespace,
    pub(super) reference: Reference,
    store: MemoryStore,
    /// What the reference says the disk holds.
    synced_image: Reference,
    unsynced: Unsynced,
    pub(super) now: Now,
    commit: CommitNumber,
    /// What the namespace was told to be durable.
    pub(super) told: CommitNumber,
    pub(super) synced: CommitNumber,
    ids: Tokens,
    /// Each main queue and, behind it, its dead-letter queue.
    pub(super) entities: Vec<EntityId>,
    /// Links and their connections.
    pub(super) links: Vec<(u64, u64)>,
    pub(super) handed: Vec<Handed>,
    pub(super) next_link: u64,
    pub(super) next_request: u64,
    pub(super) next_body: u64,
    pub(super) happened: Happened,
    /// Whether each command is printed.
    pub(super) is_told: bool,
}

/// The queues of the test: between them they have every property that changes what is done.
fn descriptions() -> [QueueDescription; 4] {
    let mut plain = Broker::description("plain", false);
    plain.dead_lettering_on_message_expiration = true;
    let mut sessions = Broker::description("sessions", true);
    sessions.dead_lettering_on_message_expiration = true;
    let mut bounded = Broker::description("bounded", false);
    bounded.requires_duplicate_detection = true;
    bounded.duplicate_detection_history_time_window = Duration::from_secs(20);
    bounded.default_message_time_to_live = Some(Duration::from_secs(301));
    bounded.max_message_size_bytes = 512 * 1024;
    bounded.max_size_bytes = 1024 * 1024;
    let mut counting = Broker::description("counting", true);
    counting.requires_duplicate_detection = true;
    counting.duplicate_detection_history_time_window = Duration::from_secs(60);
    counting.message_session_expiration = MessageSessionExpiration::Message;
    counting.count_unsettled_on_message_session_close = true;
    counting.max_message_size_bytes = 512 * 1024;
    counting.max_size_bytes = 1024 * 1024;
    [plain, sessions, bounded, counting]
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let config = CoreConfig { release_message_sessions_on_connection_loss: seed.is_multiple_of(4) };
        let mut broker = Broker::new(config);
        let mut reference = Reference::new(config);
        let mut entities = Vec::new();
        for description in descriptions() {
            let entity = broker.define_as(description.clone()).expect("valid");
            reference.define(entity, &description);
            entities.extend([entity, dead_letter(entity)]);
        }
        let synced = CommitNumber(broker.commit.0 - 1);
        Self {
            random: Random::new(seed),
            config,
            namespace: broker.namespace,
            synced_image: reference.image(),
            unsynced: Unsynced::default(),
            reference,
            store: broker.store,
            now: broker.now,
            commit: broker.commit,
            told: synced,
            synced,
            ids: Tokens::default(),
            entities,
            links: Vec::new(),
            handed: Vec::new(),
            next_link: 0,
            next_request: 0,
            next_body: 0,
            happened: Happened::default(),
            is_told: false,
        }
    }

    /// Lets time pass, perhaps; then the disk does something, perhaps; then a command.
    pub(super) fn step(&mut self) -> Result<(), String> {
        if self.random.one_in(4) {
            let millis =
                self.random.choose(&[1, 1, 1, 100, 100, 1000, 1000, 20_000, 59_999, 60_000]).unwrap_or(1);
            let steps = self.random.choose(&[0, 0, 0, 0, 1, 1, 5, 10, 30]).unwrap_or(0);
            self.now.mono = self.now.mono.plus(Duration::from_millis(millis));
            self.now.utc = self.now.utc.plus(Duration::from_millis(steps * WALL_CLOCK_STEP_MILLIS));
        }
        match self.random.below(240) {
            0 => return self.crash(),
            1..=60 => self.sync(),
            _ => {}
        }
        let command = self.command();
        self.apply(command)
    }

    fn sync(&mut self) {
        self.store.sync(CommitNumber(self.commit.0 - 1)).expect("memory");
        self.synced = CommitNumber(self.commit.0 - 1);
        self.synced_image = self.reference.image();
        self.unsynced.batches.clear();
        self.unsynced.is_noted = self.random.one_in(NOTED_ONE_IN);
    }

    fn apply(&mut self, command: Command) -> Result<(), String> {
        if self.is_told {
            println!("{:?} {:?}: {command:?}", self.now, self.commit);
        }
        if let Command::ConnectionGone { connection, .. } = command {
            self.links.retain(|&(_, other)| other != connection.0);
        }
        let expected = self.reference.apply(self.now, self.commit, &command);
        let entity = match &command {
            Command::ReceiveBySequenceNumbers(asked) => asked.entity,
            _ => self.entities[0],
        };
        let mut out = Output::default();
        self.namespace.apply(self.now, self.commit, command.clone(), &mut self.ids, &mut out);
        self.namespace.seal(&mut out);
        let wrote = !out.batch.is_empty();
        let commit = self.commit;
        if wrote {
            self.store.write(commit, &out.batch).expect("memory");
            self.commit = commit.next();
        }
        let seen = Expected { immediate: by_whom(&out.immediate), fenced: by_whom(&out.fenced) };
        if seen != expected {
            return Err(format!("{command:?}\n{}", seen.difference(&expected)));
        }
        for routed in out.immediate.iter().chain(&out.fenced) {
            self.learn(&routed.effect, entity);
        }
        if wrote && self.unsynced.is_noted {
            self.unsynced.batches.push((commit, self.reference.image()));
        }
        self.check_state(&command, &out)?;
        self.check().map_err(|problem| format!("{command:?}\nleaves: {problem}"))
    }

    /// Tells the reference the tokens that it could not foresee.
    fn learn(&mut self, effect: &Effect, entity: EntityId) {
        let made: &[Delivery] = match effect {
            Effect::Deliver(delivery) => {
                self.happened.deliveries += 1;
                self.happened.activated += u64::from(delivery.state == MessageState::Scheduled);
                std::slice::from_ref(delivery)
            }
            Effect::Reply { reply: Reply::Deferred(deliveries), .. } => {
                self.happened.deferred += deliveries.len() as u64;
                deliveries
            }
            Effect::Reply { reply: Reply::Enqueued { duplicates, .. }, .. } => {
                self.happened.duplicates += duplicates.len() as u64;
                &[]
            }
            _ => &[],
        };
        for delivery in made {
            let link = delivery.link.0;
            self.reference.learn(link, delivery.sequence_number.0, delivery.token);
            self.handed.push(Handed { link, entity, token: delivery.token });
        }
        let forgotten = self.handed.len().saturating_sub(64);
        self.handed.drain(..forgotten);
    }

    /// What the core keeps beside what it says.
    fn check(&self) -> Result<(), String> {
        self.reference.check()?;
        for &entity in self.entities.iter().step_by(2) {
            let counts = self.namespace.counts(entity);
            let actual = Counts {
                active: counts.active,
                deferred: counts.deferred,
                scheduled: counts.scheduled,
                dead_letter: counts.dead_letter,
                locked: counts.locked,
                size_bytes: counts.size_bytes,
                message_sessions: counts.message_sessions,
                held: counts.message_sessions_locked,
                pending: counts.pending_accepts,
            };
            let expected = self.reference.counts(entity);
            if actual != expected {
                return Err(format!("{entity:?} counts {actual:?}, not {expected:?}"));
            }
        }
        let kept = (self.namespace.locks.len().0, self.namespace.deadlines.len());
        let expected = self.reference.locks_and_deadlines();
        if kept != expected {
            return Err(format!("{kept:?} locks and deadlines are kept, not {expected:?}"));
        }
        let is_over = self.namespace.next_deadline().is_some_and(|due| due <= self.now.mono)
            || self.namespace.next_due().is_some_and(|due| due <= self.now.utc);
        if is_over { Err("work that is due was left over".into()) } else { Ok(()) }
    }

    /// A state that the store is to serve is there.
    fn check_state(&self, asked: &Command, out: &Output) -> Result<(), String> {
        let Command::GetMessageSessionState { entity, session, .. } = asked else { return Ok(()) };
        let stored = Reply::MessageSessionState(StateValue::Stored);
        if !out.fenced.iter().any(|r| matches!(&r.effect, Effect::Reply { reply, .. } if *reply == stored)) {
            return Ok(());
        }
        self.check_stored_state(*entity, session)
    }

    fn check_stored_state(&self, entity: EntityId, session: &MessageSessionId) -> Result<(), String> {
        let row = self.store.read_message_session(entity, session).expect("memory");
        let (actual, expected) =
            (row.map(|row| row.state), self.reference.stored_state(entity, session).cloned());
        if actual == expected { Ok(()) } else { Err(format!("the state of {session} is {actual:?}")) }
    }

    /// The process dies: what was synced is there, perhaps some of what was written after it, and
    /// nothing else.
    fn crash(&mut self) -> Result<(), String> {
        let kept = self.random.below(self.unsynced.batches.len() as u64 + 1) as usize;
        if self.is_told {
            println!(
                "crash, {kept} of {} batches that were not synced survive",
                self.commit.0 - 1 - self.synced.0
            );
        }
        self.happened.crashes += 1;
        let store = self.store.crash_keeping(kept);
        if let Some(last) = kept.checked_sub(1) {
            (self.synced, self.synced_image) = self.unsynced.batches.swap_remove(last);
        }
        self.unsynced = Unsynced::default();
        let mut loading = Loading { namespace: Namespace::new(NamespaceId(1), "ns".into(), self.config) };
        store.load(&mut loading).expect("memory");
        loading.namespace.finish_restore(self.now.utc);
        let live = |_, body| loading.namespace.is_live_body(body);
        store.remove_orphan_bodies(&live).expect("memory");
        store.sync(self.synced).expect("memory");
        self.namespace = loading.namespace;
        self.store = store;
        self.reference = self.synced_image.image();
        (self.commit, self.told) = (self.synced.next(), self.synced);
        self.links.clear();
        self.handed.clear();
        self.check_rows().map_err(|problem| format!("a crash leaves: {problem}"))
    }

    /// Every message is there, can be read and is the one that was sent; every state is the one
    /// that was set.
    fn check_rows(&mut self) -> Result<(), String> {
        for entity in self.entities.clone() {
            let peek = self.peek(entity, SequenceNumber(0), 1000, None);
            self.apply(peek.clone())?;
            let mut out = Output::default();
            self.namespace.apply(self.now, self.commit, peek, &mut self.ids, &mut out);
            let Reply::Peeked(messages) = reply(&out.fenced) else { panic!("a peek") };
            for message in messages {
                let number = message.sequence_number.0;
                let mut sent = self.reference.messages().iter();
                let sent = sent.find(|m| m.entity == entity && m.number == number).map(|m| m.body.clone());
                if body_of(&self.store, message.body.id) != sent {
                    return Err(format!("message {number} of {entity:?} has lost its bytes"));
                }
            }
            for number in 0..SESSIONS {
                self.check_stored_state(entity, &session_id(number))?;
            }
        }
        Ok(())
    }
}

/// Message sessions that are used.
pub(super) const SESSIONS: u64 = 4;

pub(super) fn session_id(number: u64) -> MessageSessionId {
    id(["", "a", "b", "c"][number as usize])
}

pub(super) fn duplicate_key(number: u64) -> DuplicateKey {
    DuplicateKey([number as u8; 16])
}

pub(super) const STATUSES: [EntityStatus; 6] = [
    EntityStatus::Active,
    EntityStatus::Active,
    EntityStatus::Active,
    EntityStatus::SendDisabled,
    EntityStatus::ReceiveDisabled,
    EntityStatus::Disabled,
];

fn shown(delivery: &Delivery) -> Shown {
    Shown {
        number: delivery.sequence_number.0,
        count: delivery.delivery_count,
        state: delivery.state,
        enqueued_at: delivery.enqueued_at,
        time_to_live: delivery.time_to_live,
        size_bytes: delivery.body.size_bytes,
        properties: delivery.properties.as_deref().cloned().unwrap_or_default(),
        until: delivery.locked_until,
    }
}

fn seen(message: &PeekedMessage) -> Shown {
    Shown {
        number: message.sequence_number.0,
        count: message.delivery_count,
        state: message.state,
        enqueued_at: message.enqueued_at,
        time_to_live: message.time_to_live,
        size_bytes: message.body.size_bytes,
        properties: message.properties.as_deref().cloned().unwrap_or_default(),
        until: None,
    }
}

/// Sorts what was seen by whom it concerns.
fn by_whom(effects: &[Routed]) -> std::collections::BTreeMap<Whom, Vec<Told>> {
    let mut all = std::collections::BTreeMap::<_, Vec<Told>>::new();
    for Routed { connection, effect } in effects {
        let (whom, told) = match effect.clone() {
            Effect::Attached(grant) => (Whom::Link(grant.link.0), Told::Granted(grant.message_session)),
            Effect::AttachRefused { link, refusal } => (Whom::Link(link.0), Told::Refused(refusal)),
            Effect::Deliver(delivery) => (Whom::Link(delivery.link.0), Told::Delivered(shown(&delivery))),
            Effect::Drained { link } => (Whom::Link(link.0), Told::Drained),
            Effect::Detached { link, cause } => (Whom::Link(link.0), Told::Detached(cause)),
            Effect::EntityChanged(..) => unreachable!("the core knows no watchers"),
            Effect::Reply { request, reply } => {
                let said = match reply {
                    Reply::Peeked(messages) => Said::Peeked(messages.iter().map(seen).collect()),
                    Reply::Deferred(messages) => Said::Deferred(messages.iter().map(shown).collect()),
                    other => Said::Other(other),
                };
                (Whom::Connection(connection.0), Told::Reply(request, said))
            }
        };
        all.entry(whom).or_default().push(told);
    }
    all
}

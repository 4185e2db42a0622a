//! Random commands, time jumps, delayed commits and crashes, against the naive
//! [`reference`](super::reference). A failure prints its seed; `LOCKSTEP_MODEL_SEED=<seed>` runs
//! that one alone.

use lockstep_model::PropertyValue;

use super::{
    reference::{Expected, Reference, Said, Told, Whom, mark_of},
    *,
};

const SEEDS: u64 = 60;
const STEPS: u64 = 2_000;

/// A linear congruential generator: all that is needed is that it can be replayed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn choose<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize].clone()) }
    }
}

struct World {
    random: Random,
    namespace: Namespace,
    reference: Reference,
    store: MemoryStore,
    /// What the reference says the disk holds.
    image: Reference,
    now: Now,
    commit: CommitNumber,
    /// What the namespace was told to be durable.
    told: CommitNumber,
    synced: CommitNumber,
    ids: Tokens,
    entities: Vec<EntityId>,
    links: Vec<(u64, u64)>,
    tokens: Vec<(u64, LockToken)>,
    next_link: u64,
    next_request: u64,
    deliveries: u64,
    context: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut broker = Broker::new(CoreConfig::default());
        let mut reference = Reference::default();
        let mut entities = Vec::new();
        for (name, requires_session) in [("plain", false), ("sessions", true)] {
            let entity = broker.define(name, requires_session);
            reference.define(entity, requires_session);
            entities.extend([entity, dead_letter(entity)]);
        }
        let synced = CommitNumber(broker.commit.0 - 1);
        Self {
            random: Random(seed),
            namespace: broker.namespace,
            image: reference.image(),
            reference,
            store: broker.store,
            now: broker.now,
            commit: broker.commit,
            told: synced,
            synced,
            ids: Tokens::default(),
            entities,
            links: Vec::new(),
            tokens: Vec::new(),
            next_link: 0,
            next_request: 0,
            deliveries: 0,
            context: String::new(),
        }
    }

    fn step(&mut self) {
        if self.random.one_in(4) {
            let millis = self.random.choose(&[1, 100, 1000, 20_000, 59_999, 60_000]).expect("some");
            self.advance(Duration::from_millis(millis));
        }
        match self.random.below(40) {
            0 => return self.crash(),
            1..=8 => {
                self.store.sync(CommitNumber(self.commit.0 - 1)).expect("memory");
                self.synced = CommitNumber(self.commit.0 - 1);
                self.image = self.reference.image();
            }
            _ => {}
        }
        let command = self.command();
        self.apply(command);
    }

    fn advance(&mut self, duration: Duration) {
        self.now = Now { mono: self.now.mono.plus(duration), utc: self.now.utc.plus(duration) };
    }

    fn apply(&mut self, command: Command) {
        self.context = format!("{} at {:?}: {command:?}", self.context, self.now.mono);
        if let Command::ConnectionGone { connection, .. } = command {
            self.links.retain(|&(_, other)| other != connection.0);
        }
        let expected = self.reference.apply(self.now, self.commit, &command);
        let mut out = Output::default();
        self.namespace.apply(self.now, self.commit, command, &mut self.ids, &mut out);
        self.namespace.seal(&mut out);
        if !out.batch.is_empty() {
            self.store.write(self.commit, &out.batch).expect("memory");
            self.commit = self.commit.next();
        }
        let seen = Expected { immediate: by_whom(&out.immediate), fenced: by_whom(&out.fenced) };
        assert_eq!(seen, expected, "{}", self.context);
        let all = out.immediate.iter().chain(&out.fenced);
        for delivery in deliveries(&all.cloned().collect::<Vec<_>>()) {
            self.reference.learn(delivery.link.0, delivery.sequence_number.0, delivery.token);
            self.tokens.push((delivery.link.0, delivery.token));
            self.deliveries += 1;
        }
        self.check();
    }

    fn check(&self) {
        self.reference.check();
        for main in self.entities.iter().step_by(2) {
            let counts = self.namespace.counts(*main);
            let (active, locked, held) = self.reference.counts(*main);
            let (dead, ..) = self.reference.counts(dead_letter(*main));
            let actual = (counts.active, counts.locked, counts.message_sessions_locked, counts.dead_letter);
            let expected = (active as u64, locked as u64, held as u64, dead as u64);
            assert_eq!(actual, expected, "{}", self.context);
        }
        let due = self.namespace.next_deadline();
        assert!(due.is_none_or(|due| due > self.now.mono), "left over: {}", self.context);
    }

    /// The process dies: what was synced is there, all else is gone.
    fn crash(&mut self) {
        self.context.push_str(" (crash)");
        let store = self.store.crash();
        let mut loading =
            Loading { namespace: Namespace::new(NamespaceId(1), "ns".into(), CoreConfig::default()) };
        store.load(&mut loading).expect("memory");
        loading.namespace.finish_restore(self.now.utc);
        let live = |_, body| loading.namespace.is_live_body(body);
        store.remove_orphan_bodies(&live).expect("memory");
        self.namespace = loading.namespace;
        self.store = store;
        self.reference = self.image.image();
        (self.commit, self.told) = (self.synced.next(), self.synced);
        self.links.clear();
        for entity in self.entities.clone() {
            let peek = self.peek(entity, SequenceNumber(0), 1000, None);
            self.apply(peek);
        }
        self.check_bodies();
    }

    /// Every message can be read.
    fn check_bodies(&mut self) {
        for entity in self.entities.clone() {
            let peek = self.peek(entity, SequenceNumber(0), 1000, None);
            let mut out = Output::default();
            self.namespace.apply(self.now, self.commit, peek, &mut self.ids, &mut out);
            let Reply::Peeked(messages) = reply(&out.fenced) else { panic!("a peek") };
            for message in messages {
                assert!(body_of(&self.store, message.body.id).is_some(), "{}", self.context);
            }
        }
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    fn connection(&mut self) -> ConnectionId {
        ConnectionId(self.random.below(4))
    }

    fn session(&mut self) -> MessageSessionId {
        let number = self.random.below(4);
        id(["", "a", "b", "c"][number as usize])
    }

    fn entity(&mut self) -> EntityId {
        self.random.choose(&self.entities).expect("some")
    }

    fn peek(
        &mut self,
        entity: EntityId,
        from: SequenceNumber,
        count: u32,
        session: Option<MessageSessionId>,
    ) -> Command {
        let (connection, request) = (self.connection(), self.request());
        Command::Peek { entity, from, count, session, connection, request }
    }

    fn command(&mut self) -> Command {
        match self.random.below(100) {
            0..=17 => self.enqueue(),
            18..=29 => self.attach(),
            30..=44 => self.credit(),
            45..=66 => self.settle(),
            67..=69 => {
                let link = self.random.choose(&self.links).map_or(0, |(link, _)| link);
                self.links.retain(|&(other, _)| other != link);
                let departure = self.departure();
                Command::Detach { link: OutgoingLinkId(link), departure }
            }
            70 => {
                let (connection, departure) = (self.connection(), self.departure());
                Command::ConnectionGone { connection, departure }
            }
            71..=75 => {
                let (link, tokens) = self.some_tokens();
                if self.random.one_in(2) {
                    Command::Sent { link, tokens }
                } else {
                    Command::Return { link, tokens }
                }
            }
            76..=87 => {
                let gap = self.synced.0 - self.told.0;
                self.told.0 += if gap == 0 { 0 } else { 1 + self.random.below(gap) };
                Command::Committed(self.told)
            }
            88..=89 => Command::Tick,
            _ => self.ask(),
        }
    }

    fn departure(&mut self) -> Departure {
        if self.random.one_in(2) { Departure::Clean } else { Departure::Lost }
    }

    fn enqueue(&mut self) -> Command {
        let entity = if self.random.one_in(3) { self.entities[0] } else { self.entities[2] };
        let count = 1 + self.random.below(3);
        let one = |world: &mut Self| {
            let session = if world.random.one_in(20) { None } else { Some(world.session()) };
            IncomingMessage {
                encoded: Bytes::from_static(b"body"),
                generated_bytes: 0,
                message_session: session,
                ..IncomingMessage::default()
            }
        };
        let messages = (0..count).map(|_| one(self)).collect();
        let (connection, request) = (self.connection(), Some(self.request()));
        Command::Enqueue(Enqueue { entity, messages, connection, request })
    }

    fn attach(&mut self) -> Command {
        self.next_link += 1;
        let connection = self.connection();
        self.links.push((self.next_link, connection.0));
        let entity = if self.random.one_in(4) { self.entity() } else { self.entities[2] };
        let fits = if entity == self.entities[2] { self.random.below(20) } else { 19 };
        let intent = match fits {
            0..=8 => ReceiveIntent::AcceptMessageSession(self.session()),
            9..=16 => {
                let wait = Duration::from_millis(self.random.below(100_000));
                ReceiveIntent::AcceptNextMessageSession { wait }
            }
            17 | 18 => ReceiveIntent::BrowseMessageSession(self.session()),
            _ => ReceiveIntent::Plain,
        };
        let delete = self.random.one_in(4);
        let mode = if delete { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
        let name = |number: u64| ["w", "x", "y", "z"][number as usize].into();
        let receiver_name = if self.random.one_in(2) { Some(name(self.random.below(4))) } else { None };
        let link_name = name(self.random.below(4));
        let identity = LinkIdentity { receiver_name, container_id: "container".into(), link_name };
        let link = OutgoingLinkId(self.next_link);
        Command::Attach(Attach { link, connection, entity, mode, intent, identity })
    }

    fn credit(&mut self) -> Command {
        let at = self.random.below(6).min(self.links.len() as u64) as usize;
        let recent = &self.links[self.links.len() - at..];
        let link = self.random.choose(recent).map_or(1, |(link, _)| link);
        let (limit, drain) = (self.random.below(8), self.random.one_in(4));
        Command::Credit { link: OutgoingLinkId(link), limit, drain }
    }

    /// A link and tokens, mostly of its own and mostly alive.
    fn some_tokens(&mut self) -> (OutgoingLinkId, Vec<LockToken>) {
        let recent = self.tokens[self.tokens.len().saturating_sub(12)..].to_vec();
        let Some((link, token)) = self.random.choose(&recent) else {
            return (OutgoingLinkId(1), vec![LockToken::from_uuid_bytes([7; 16])]);
        };
        let mut tokens = vec![token];
        while self.random.one_in(3) {
            tokens.extend(self.random.choose(&recent).map(|(_, token)| token));
        }
        let link = if self.random.one_in(10) { self.random.below(self.next_link + 1) } else { link };
        (OutgoingLinkId(link), tokens)
    }

    fn settle(&mut self) -> Command {
        let (link, tokens) = self.some_tokens();
        let mut overlay = PropertyOverlay::new();
        if self.random.one_in(2) {
            let text = format!("{}", self.next_request);
            overlay.set("mark", PropertyValue::Text(text.into()));
        }
        let settlement = match self.random.below(8) {
            0..=2 => Settlement::Complete,
            3..=5 => Settlement::Abandon(overlay),
            6 => Settlement::DeadLetter(overlay),
            _ => Settlement::Release,
        };
        let by_management = self.random.one_in(4);
        let via = if by_management { SettleVia::Management(self.entity()) } else { SettleVia::Link(link) };
        let own = self.links.iter().find(|(other, _)| *other == link.0).map(|&(_, own)| ConnectionId(own));
        let connection = own.filter(|_| !self.random.one_in(10)).unwrap_or(self.connection());
        let request = if self.random.one_in(5) { None } else { Some(self.request()) };
        Command::Settle { via, tokens: tokens.into(), settlement, connection, request }
    }

    fn ask(&mut self) -> Command {
        let request = self.request();
        let connection = self.connection();
        let (session, entity) = (self.session(), self.entities[2]);
        let link = self.random.one_in(3).then_some(OutgoingLinkId(self.random.below(self.next_link + 1)));
        let holder = HolderClaim { connection, link };
        match self.random.below(8) {
            0 => {
                let (entity, (_, tokens)) = (self.entity(), self.some_tokens());
                Command::RenewMessageLocks { entity, tokens, connection, request }
            }
            1 | 2 => Command::RenewMessageSessionLock { entity, session, holder, request },
            3 => Command::GetMessageSessionState { entity, session, holder, request },
            4 => {
                let state = (!self.random.one_in(3)).then_some(Bytes::from_static(b"state"));
                Command::SetMessageSessionState { entity, session, state, holder, request }
            }
            5 => {
                let state_updated_after = self.random.one_in(2).then_some(self.now.utc);
                let (skip, top) = (self.random.below(3) as u32, self.random.below(5) as u32);
                let entity = self.entity();
                Command::ListMessageSessions { entity, state_updated_after, skip, top, connection, request }
            }
            _ => {
                let (from, count) = (SequenceNumber(self.random.below(50)), self.random.below(20) as u32);
                let (entity, one) = (self.entity(), self.random.one_in(2).then_some(session));
                self.peek(entity, from, count, one)
            }
        }
    }
}

/// Sorts what was seen by whom it concerns.
fn by_whom(seen: &[Routed]) -> std::collections::BTreeMap<Whom, Vec<Told>> {
    let mut all = std::collections::BTreeMap::<_, Vec<Told>>::new();
    for Routed { connection, effect } in seen {
        let (whom, told) = match effect.clone() {
            Effect::Attached(grant) => (Whom::Link(grant.link.0), Told::Granted(grant.message_session)),
            Effect::AttachRefused { link, refusal } => (Whom::Link(link.0), Told::Refused(refusal)),
            Effect::Deliver(delivery) => {
                let overlay = delivery.properties.as_deref();
                let told = Told::Delivered {
                    number: delivery.sequence_number.0,
                    count: delivery.delivery_count,
                    until: delivery.locked_until,
                    mark: mark_of(overlay),
                    dead: overlay.is_some_and(|overlay| overlay.get("DeadLetterReason").is_some()),
                };
                (Whom::Link(delivery.link.0), told)
            }
            Effect::Drained { link } => (Whom::Link(link.0), Told::Drained),
            Effect::Detached { link, cause } => (Whom::Link(link.0), Told::Detached(cause)),
            Effect::Reply { request, reply: Reply::Peeked(messages) } => {
                let page = messages.into_iter().map(|message| {
                    let mark = mark_of(message.properties.as_deref());
                    (message.sequence_number.0, message.delivery_count, mark)
                });
                (Whom::Connection(connection.0), Told::Reply(request, Said::Peeked(page.collect())))
            }
            Effect::Reply { request, reply } => {
                (Whom::Connection(connection.0), Told::Reply(request, Said::Other(reply)))
            }
        };
        all.entry(whom).or_default().push(told);
    }
    all
}

#[test]
fn the_core_agrees_with_a_naive_model_through_crashes() {
    let only = std::env::var("LOCKSTEP_MODEL_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = only.map_or(1..=SEEDS, |seed| seed..=seed);
    let mut deliveries = 0;
    for seed in seeds {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.context = format!("seed {seed}, step {step}");
            world.step();
        }
        deliveries += world.deliveries;
    }
    assert!(deliveries > STEPS, "the test did something: {deliveries}");
}

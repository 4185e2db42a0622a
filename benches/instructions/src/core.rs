//! Turns of the core as the owner thread makes them: a burst of sends, their commit, the
//! deliveries that come of it, a burst of completions, their commit. No store: what is written is
//! thrown away.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use lockstep_broker::core::{
    Attach, Command, CoreConfig, Departure, Effect, Enqueue, IdSource, LinkIdentity, Namespace, Output,
    ReceiveIntent, SettleVia,
};
use lockstep_model::{
    CommitNumber, ConnectionId, EntityId, EntityName, IncomingMessage, LockToken, MessageSessionId, MonoTime,
    NamespaceId, Now, OutgoingLinkId, QueueDescription, ReceiveMode, RequestId, Settlement, Timestamp,
};

use crate::{Work, messages};

/// Messages of a round.
const MESSAGES: u64 = 100;
/// Message sessions that they are spread over.
const MESSAGE_SESSIONS: u64 = 10;
const SENDER: ConnectionId = ConnectionId(1);
const RECEIVER: ConnectionId = ConnectionId(2);

/// Counts tokens up.
#[derive(Default)]
struct Tokens(u64);

impl IdSource for Tokens {
    fn lock_token(&mut self) -> LockToken {
        self.0 += 1;
        // Spread over all bits, as random ones are.
        let high = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        LockToken::from_uuid_bytes(((u128::from(high) << 64) | u128::from(self.0)).to_be_bytes())
    }
}

struct Owner {
    namespace: Namespace,
    queue: EntityId,
    tokens: Tokens,
    output: Output,
    commit: CommitNumber,
    now: Now,
    last_request: u64,
    last_link: u64,
    delivered: Vec<(OutgoingLinkId, LockToken)>,
}

impl Owner {
    fn new(requires_session: bool) -> Self {
        let mut namespace = Namespace::new(NamespaceId(1), "bench".into(), CoreConfig::default());
        let name = EntityName::new("queue").expect("a name of a queue");
        let mut description = QueueDescription::new(name);
        description.requires_session = requires_session;
        let mut output = Output::default();
        let queue = namespace
            .define_queue(description, Timestamp::default(), &mut output)
            .expect("a description within bounds");
        Self {
            namespace,
            queue,
            tokens: Tokens::default(),
            output: Output::default(),
            commit: CommitNumber(1),
            now: Now {
                mono: MonoTime::from_micros(1_000_000),
                utc: Timestamp::from_unix_millis(1_700_000_000_000),
            },
            last_request: 0,
            last_link: 0,
            delivered: Vec::new(),
        }
    }

    fn apply(&mut self, command: Command) {
        self.namespace.apply(self.now, self.commit, command, &mut self.tokens, &mut self.output);
    }

    /// Ends a turn and tells the core that it is durable. What comes of that belongs to the next
    /// turn.
    fn commit(&mut self) {
        self.namespace.seal(&mut self.output);
        let output = std::mem::take(&mut self.output);
        for routed in output.immediate.into_iter().chain(black_box(output.fenced)) {
            if let Effect::Deliver(delivery) = routed.effect {
                self.delivered.push((delivery.link, delivery.token));
            }
        }
        black_box(output.batch);
        let durable = self.commit;
        self.commit = durable.next();
        self.now.mono = self.now.mono.plus(Duration::from_millis(1));
        self.now.utc = self.now.utc.plus(Duration::from_millis(1));
        self.apply(Command::Committed(durable));
    }

    fn request(&mut self) -> Option<RequestId> {
        self.last_request += 1;
        Some(RequestId(self.last_request))
    }

    fn send(&mut self, encoded: &Bytes, message_session: Option<MessageSessionId>) {
        let message =
            IncomingMessage { encoded: encoded.clone(), message_session, ..IncomingMessage::default() };
        let request = self.request();
        let (entity, messages) = (self.queue, [message].into());
        self.apply(Command::Enqueue(Enqueue { entity, messages, connection: SENDER, request }));
    }

    fn attach(&mut self, intent: ReceiveIntent) -> OutgoingLinkId {
        self.last_link += 1;
        let link = OutgoingLinkId(self.last_link);
        self.apply(Command::Attach(Attach {
            link,
            connection: RECEIVER,
            entity: self.queue,
            mode: ReceiveMode::PeekLock,
            intent,
            identity: LinkIdentity::default(),
        }));
        link
    }

    fn credit(&mut self, link: OutgoingLinkId, limit: u64) {
        self.apply(Command::Credit { link, limit, drain: false });
    }

    /// Completes everything delivered, each message by itself.
    fn complete(&mut self) -> u64 {
        let delivered = std::mem::take(&mut self.delivered);
        for &(link, token) in &delivered {
            let request = self.request();
            self.apply(Command::Settle {
                via: SettleVia::Link(link),
                tokens: [token].into(),
                settlement: Settlement::Complete,
                connection: RECEIVER,
                request,
            });
        }
        delivered.len() as u64
    }
}

/// A round that delivers less than it sent measures something else.
fn expect_all(completed: u64) {
    assert_eq!(completed, MESSAGES, "messages completed in a round");
}

pub(crate) fn plain_queue() -> Work {
    let mut owner = Owner::new(false);
    let encoded = messages::message(true);
    let link = owner.attach(ReceiveIntent::Plain);
    let mut limit = 0;
    Box::new(move || {
        limit += MESSAGES;
        owner.credit(link, limit);
        for _ in 0..MESSAGES {
            owner.send(&encoded, None);
        }
        owner.commit();
        owner.commit();
        expect_all(owner.complete());
        owner.commit();
    })
}

pub(crate) fn message_sessions() -> Work {
    let mut owner = Owner::new(true);
    let encoded = messages::message(true);
    let ids: Vec<MessageSessionId> = (0..MESSAGE_SESSIONS)
        .map(|number| MessageSessionId::new(&format!("customer-{number}")).expect("a short id"))
        .collect();
    Box::new(move || {
        for number in 0..MESSAGES {
            let id = ids[(number % MESSAGE_SESSIONS) as usize].clone();
            owner.send(&encoded, Some(id));
        }
        owner.commit();
        let wait = Duration::from_secs(30);
        let links: Vec<OutgoingLinkId> =
            ids.iter().map(|_| owner.attach(ReceiveIntent::AcceptNextMessageSession { wait })).collect();
        for &link in &links {
            owner.credit(link, MESSAGES);
        }
        owner.commit();
        expect_all(owner.complete());
        owner.commit();
        for link in links {
            owner.apply(Command::Detach { link, departure: Departure::Clean });
        }
    })
}

//! The owner thread: takes bursts, applies commands, hands what they wrote to the commit
//! pipeline, and sleeps until the next deadline. It never reads the store and never waits on a
//! connection.

use std::{collections::VecDeque, sync::Arc, sync::atomic::Ordering, time::Duration};

use lockstep_model::{CommitNumber, ConnectionId, MonoTime, Now, Refusal, RequestId};

use super::{
    Shared, UNCOMMITTED_BYTES_MAX,
    bodies::BodyCache,
    commit::Group,
    inbox::ToConnection,
    mailbox::{Burst, Mail},
    token_source::RandomTokens,
};
use crate::core::{Command, Effect, EnqueueParts, Namespace, Output, Reply, Routed};

/// Bytes after which a turn is handed to the commit pipeline though more mail is there.
const TURN_BYTES_MAX: usize = 1024 * 1024;
/// Operations after which it is, likewise.
const TURN_OPERATIONS_MAX: usize = 4096;
/// Effects after which it is, likewise.
const TURN_EFFECTS_MAX: usize = 4096;

/// How often the thread looks whether everything is released, while it is stopping.
const STOP_POLL: Duration = Duration::from_millis(5);

pub(crate) struct NamespaceThread {
    shared: Arc<Shared>,
    namespaces: Vec<Namespace>,
    /// Namespaces with work in `output`.
    touched: Vec<bool>,
    bodies: BodyCache,
    tokens: RandomTokens,
    output: Output,
    /// The commit that `output` becomes if it writes anything.
    commit: CommitNumber,
    durable: CommitNumber,
    /// Bursts that wait for room, each from its first send on; in order of arrival.
    stalled: VecDeque<Burst>,
    stopping: bool,
}

impl NamespaceThread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        namespaces: Vec<Namespace>,
        durable: CommitNumber,
        body_cache_bytes: usize,
    ) -> Self {
        Self {
            shared,
            touched: vec![false; namespaces.len()],
            namespaces,
            bodies: BodyCache::new(body_cache_bytes),
            tokens: RandomTokens::new(),
            output: Output::default(),
            commit: durable.next(),
            durable,
            stalled: VecDeque::new(),
            stopping: false,
        }
    }

    /// Runs until told to stop and everything accepted is durable, or until the pipeline fails.
    pub(crate) fn run(mut self) {
        let mut mails = Vec::new();
        while !self.shared.pipeline.has_failed() {
            let timeout = self.next_timeout();
            self.shared.mailbox.take(&mut mails, timeout);
            self.hold_deadlines_after(earliest_arrival(&mails));
            for mail in mails.drain(..) {
                self.handle(mail);
            }
            self.hold_deadlines_after(None);
            self.tick();
            self.flush();
            self.bodies.trim(self.durable);
            if self.stopping && self.stalled.is_empty() && self.shared.pipeline.is_idle() {
                break;
            }
        }
        self.shared.pipeline.stop();
        self.shared.reader.stop();
    }

    fn hold_deadlines_after(&mut self, through: Option<MonoTime>) {
        let through = through.unwrap_or(MonoTime::from_micros(u64::MAX));
        for namespace in &mut self.namespaces {
            namespace.hold_deadlines_after(through);
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        let deadline = self.namespaces.iter().filter_map(Namespace::next_deadline).min();
        let timeout = deadline.map(|deadline| self.shared.clock.now().mono.until(deadline));
        if self.stopping {
            // A last group that writes nothing wakes nobody when it is released.
            return Some(timeout.map_or(STOP_POLL, |timeout| timeout.min(STOP_POLL)));
        }
        timeout
    }

    fn handle(&mut self, mail: Mail) {
        match mail {
            Mail::Burst(burst) => self.burst(burst),
            Mail::Committed(commit) => {
                self.durable = self.durable.max(commit);
                let now = self.shared.clock.now();
                for index in 0..self.namespaces.len() {
                    self.apply(index, now, Command::Committed(commit));
                }
                for burst in std::mem::take(&mut self.stalled) {
                    self.burst(burst);
                }
            }
            Mail::Probe(done) => {
                self.flush();
                let commit = self.commit;
                self.commit = commit.next();
                self.shared.pipeline.submit(Group::probe(commit, done));
            }
            Mail::Answer(inbox, item) => {
                self.flush();
                if self.shared.pipeline.is_idle() {
                    inbox.push([item]);
                } else {
                    self.shared.pipeline.submit(Group { answer: Some((inbox, item)), ..Group::default() });
                }
            }
            Mail::Stop => self.stopping = true,
        }
    }

    fn burst(&mut self, mut burst: Burst) {
        if self.stalled.iter().any(|stalled| stalled.connection == burst.connection) {
            self.stalled.push_back(burst);
            return;
        }
        let now = self.shared.clock.now();
        while let Some(command) = burst.commands.pop_front() {
            if grows(&command) {
                if self.must_stall() {
                    burst.commands.push_front(command);
                    self.stalled.push_back(burst);
                    return;
                }
                if self.shared.refuse_growth.load(Ordering::Relaxed) {
                    self.refuse(burst.namespace, now, &command);
                    continue;
                }
            }
            if let Command::ConnectionGone { connection, .. } = command {
                self.apply(burst.namespace, now, command);
                self.return_undelivered(burst.namespace, now, connection);
                continue;
            }
            // A renewal or settlement counts from when it reached this machine.
            let at = if judged_by_arrival(&command) { burst.arrived } else { now };
            self.apply(burst.namespace, at, command);
            if self.output.batch.size_bytes() > TURN_BYTES_MAX
                || self.output.batch.len() > TURN_OPERATIONS_MAX
                || self.output.immediate.len() + self.output.fenced.len() > TURN_EFFECTS_MAX
            {
                self.flush();
            }
        }
        burst.gate.open();
    }

    /// Puts back the deliveries that the connection has not taken out of its inbox.
    fn return_undelivered(&mut self, index: usize, now: Now, connection: ConnectionId) {
        // Those of this turn have to be in the inbox first.
        self.flush();
        let Some(inbox) = self.shared.inboxes.close(connection) else { return };
        let mut items = Vec::new();
        inbox.try_take(&mut items);
        for item in items {
            if let ToConnection::Effect(Effect::Deliver(delivery)) = item {
                let tokens = vec![delivery.token];
                self.apply(index, now, Command::Return { link: delivery.link, tokens });
            }
        }
    }

    fn must_stall(&self) -> bool {
        self.shared.pipeline.uncommitted_bytes() + self.output.batch.size_bytes() as u64
            > UNCOMMITTED_BYTES_MAX
    }

    fn refuse(&mut self, index: usize, now: Now, command: &Command) {
        let (connection, request) = match command {
            Command::Enqueue(enqueue) => (enqueue.connection, enqueue.request),
            Command::StorePart { connection, upload, request, .. }
            | Command::EnqueueParts(EnqueueParts { connection, upload, request, .. }) => {
                let (connection, upload) = (*connection, *upload);
                self.apply(index, now, Command::DropParts { connection, upload });
                (connection, Some(*request))
            }
            Command::SetMessageSessionState { holder, request, .. } => (holder.connection, Some(*request)),
            _ => return,
        };
        if let Some(request) = request {
            self.reply(connection, request, Reply::Refused(Refusal::QuotaExceeded));
        }
    }

    fn reply(&mut self, connection: ConnectionId, request: RequestId, reply: Reply) {
        let effect = Effect::Reply { request, reply };
        self.output.fenced.push(Routed { connection, effect });
    }

    fn apply(&mut self, index: usize, now: Now, command: Command) {
        let Some(namespace) = self.namespaces.get_mut(index) else { return };
        self.touched[index] = true;
        let immediate_before = self.output.immediate.len();
        let fenced_before = self.output.fenced.len();
        namespace.apply(now, self.commit, command, &mut self.tokens, &mut self.output);
        let id = namespace.id();
        for (body, bytes) in self.output.new_bodies.drain(..) {
            self.bodies.insert(self.commit, id, body, bytes);
        }
        let fresh = self.output.immediate[immediate_before..].iter_mut();
        for routed in fresh.chain(self.output.fenced[fenced_before..].iter_mut()) {
            fill_in_bodies(&self.bodies, id, &mut routed.effect);
        }
        for body in self.output.gone_bodies.drain(..) {
            self.bodies.remove(id, body);
        }
    }

    fn tick(&mut self) {
        let now = self.shared.clock.now();
        for index in 0..self.namespaces.len() {
            if self.namespaces[index].next_deadline().is_some_and(|deadline| deadline <= now.mono) {
                self.apply(index, now, Command::Tick);
            }
        }
    }

    /// Hands over what the turn wrote and releases what need not wait.
    fn flush(&mut self) {
        for (namespace, touched) in self.namespaces.iter_mut().zip(&mut self.touched) {
            if std::mem::take(touched) {
                namespace.seal(&mut self.output);
            }
        }
        let Output { batch, mut immediate, mut fenced, .. } = std::mem::take(&mut self.output);
        self.shared.inboxes.route(&mut immediate);
        if !batch.is_empty() {
            let commit = self.commit;
            self.commit = commit.next();
            self.shared.pipeline.submit(Group { commit, batch, fenced, ..Group::default() });
        } else if !fenced.is_empty() {
            if self.shared.pipeline.is_idle() {
                self.shared.inboxes.route(&mut fenced);
            } else {
                self.shared.pipeline.submit(Group { fenced, ..Group::default() });
            }
        }
    }
}

/// When the first of the bursts reached this machine.
fn earliest_arrival(mails: &[Mail]) -> Option<MonoTime> {
    let arrival = |mail: &Mail| match mail {
        Mail::Burst(burst) => Some(burst.arrived.mono),
        _ => None,
    };
    mails.iter().filter_map(arrival).min()
}

/// Whether the command makes the store grow.
fn grows(command: &Command) -> bool {
    matches!(
        command,
        Command::Enqueue(_)
            | Command::StorePart { .. }
            | Command::EnqueueParts(_)
            | Command::SetMessageSessionState { state: Some(_), .. }
    )
}

fn judged_by_arrival(command: &Command) -> bool {
    matches!(
        command,
        Command::RenewMessageLocks { .. } | Command::RenewMessageSessionLock { .. } | Command::Settle { .. }
    )
}

fn fill_in_bodies(bodies: &BodyCache, namespace: lockstep_model::NamespaceId, effect: &mut Effect) {
    match effect {
        Effect::Deliver(delivery) => delivery.body.bytes = bodies.get(namespace, delivery.body.id),
        Effect::Reply { reply: Reply::Peeked(messages), .. } => {
            for message in messages {
                message.body.bytes = bodies.get(namespace, message.body.id);
            }
        }
        _ => {}
    }
}

//! What connections are told, one inbox each; one wake per connection and committed group.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use lockstep_model::{BodyId, ConnectionId, RequestId};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::core::{Effect, Routed};

/// What a connection finds in its inbox.
#[derive(Clone, PartialEq, Debug)]
pub enum ToConnection {
    /// An effect of a command or of time.
    Effect(Effect),
    /// Bytes that [`BrokerConnection::read_body`](super::BrokerConnection::read_body) asked for;
    /// `Err` when the row cannot be read, `Ok(None)` when it is gone.
    Body(BodyId, Result<Option<Bytes>, Unreadable>),
    /// The row of that number that
    /// [`BrokerConnection::read_body_part`](super::BrokerConnection::read_body_part) asked for;
    /// otherwise as `Body`.
    BodyPart(BodyId, u16, Result<Option<Bytes>, Unreadable>),
    /// The state that a [`StateValue::Stored`](crate::core::StateValue::Stored) stood for.
    MessageSessionState(RequestId, Result<Option<Bytes>, Unreadable>),
}

/// The store could not read a row; the reason is in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

/// One connection's inbox. Its size is bounded by the permits and requests of the connection.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    content: Mutex<Vec<ToConnection>>,
    filled: Notify,
}

impl Inbox {
    pub(crate) fn push(&self, items: impl IntoIterator<Item = ToConnection>) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = content.is_empty();
        content.extend(items);
        drop(content);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Waits until something is there and swaps all of it into `items`, which is empty.
    /// Cancel-safe: nothing is taken before it returns.
    pub(crate) async fn take(&self, items: &mut Vec<ToConnection>) {
        loop {
            self.try_take(items);
            if !items.is_empty() {
                return;
            }
            self.filled.notified().await;
        }
    }

    pub(crate) fn try_take(&self, items: &mut Vec<ToConnection>) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *content, items);
    }
}

/// All inboxes of the process.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    by_connection: RwLock<FxHashMap<ConnectionId, Arc<Inbox>>>,
}

impl Inboxes {
    pub(crate) fn open(&self, connection: ConnectionId) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        self.by_connection
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(connection, Arc::clone(&inbox));
        inbox
    }

    /// Takes the inbox away: later effects are dropped. Whoever closes it looks after what is
    /// still in it.
    pub(crate) fn close(&self, connection: ConnectionId) -> Option<Arc<Inbox>> {
        self.by_connection.write().unwrap_or_else(PoisonError::into_inner).remove(&connection)
    }

    pub(crate) fn get(&self, connection: ConnectionId) -> Option<Arc<Inbox>> {
        self.by_connection.read().unwrap_or_else(PoisonError::into_inner).get(&connection).cloned()
    }

    /// Hands effects to their connections, in order for each. Those of connections that are gone
    /// are dropped.
    pub(crate) fn route(&self, effects: &mut Vec<Routed>) {
        if effects.is_empty() {
            return;
        }
        // Runs of effects for one connection are the rule; each run takes one look-up and one wake.
        let mut effects = effects.drain(..).peekable();
        while let Some(Routed { connection, effect }) = effects.next() {
            let run = std::iter::once(effect).chain(std::iter::from_fn(|| {
                effects.next_if(|next| next.connection == connection).map(|next| next.effect)
            }));
            match self.get(connection) {
                Some(inbox) => inbox.push(run.map(ToConnection::Effect)),
                None => run.for_each(drop),
            }
        }
    }
}

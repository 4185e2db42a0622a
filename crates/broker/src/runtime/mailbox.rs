//! The owner thread's mailbox: taken whole, woken only from empty to non-empty.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use lockstep_model::{CommitNumber, ConnectionId, Now};
use tokio::sync::oneshot;

use super::{
    client::Gate,
    inbox::{Inbox, ToConnection},
};
use crate::core::Command;

/// What the owner thread can be sent.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Commands of one connection for one namespace, in frame order.
    Burst(Burst),
    /// Batches up to this one are durable.
    Committed(CommitNumber),
    /// Write something and tell when it is durable.
    Probe(oneshot::Sender<()>),
    /// A reader's answer, to be passed on when every commit that it can have seen is durable.
    Answer(Arc<Inbox>, ToConnection),
    /// Finish what was sent before and end.
    Stop,
}

/// Commands of one connection, in frame order.
#[derive(Debug)]
pub(crate) struct Burst {
    /// Index of the namespace.
    pub(crate) namespace: usize,
    pub(crate) connection: ConnectionId,
    /// In order.
    pub(crate) commands: VecDeque<Command>,
    /// When the driver read the frames that they came in.
    pub(crate) arrived: Now,
    /// Opened when the owner has taken the commands.
    pub(crate) gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct State {
    mails: Vec<Mail>,
    owner_waits: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    filled: Condvar,
}

impl Mailbox {
    pub(crate) fn post(&self, mail: Mail) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.mails.push(mail);
        if std::mem::take(&mut state.owner_waits) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits for mail, at most for `timeout` (`None`: without end), and swaps all of it into
    /// `mails`, which is empty.
    pub(crate) fn take(&self, mails: &mut Vec<Mail>, timeout: Option<Duration>) {
        debug_assert!(mails.is_empty());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.mails.is_empty() && timeout != Some(Duration::ZERO) {
            state.owner_waits = true;
            state = match timeout {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    self.filled.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.owner_waits = false;
        }
        std::mem::swap(&mut state.mails, mails);
    }
}

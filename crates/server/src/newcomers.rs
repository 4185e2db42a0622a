//! Connections that have not shown a credential yet. There may be so many of them; one more turns
//! the oldest away. A client that knows its key is through in milliseconds, so it is never the
//! oldest for long, whatever strangers do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Part of all connections that may be newcomers.
const NEWCOMERS_SHARE: usize = 2;

#[derive(Debug, Default)]
struct Waiting {
    arrived: u64,
    /// In order of arrival.
    by_number: BTreeMap<u64, CancellationToken>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Newcomers {
    count_max: usize,
    waiting: Mutex<Waiting>,
}

impl Newcomers {
    /// Of a listener that serves so many connections in all.
    pub(crate) fn new(connections_count_max: usize) -> Arc<Self> {
        let count_max = (connections_count_max / NEWCOMERS_SHARE).max(1);
        Arc::new(Self { count_max, waiting: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; `stop` ends its wait too.
    pub(crate) fn arrive(self: &Arc<Self>, stop: &CancellationToken) -> Newcomer {
        let turned_away = stop.child_token();
        let mut waiting = self.lock();
        waiting.arrived += 1;
        let number = waiting.arrived;
        waiting.by_number.insert(number, turned_away.clone());
        if waiting.by_number.len() > self.count_max
            && let Some((_, oldest)) = waiting.by_number.pop_first()
        {
            oldest.cancel();
        }
        drop(waiting);
        Newcomer { all: Arc::clone(self), number, turned_away }
    }
}

/// One connection that has not shown a credential; dropped when it has, or ends.
#[derive(Debug)]
pub(crate) struct Newcomer {
    all: Arc<Newcomers>,
    number: u64,
    turned_away: CancellationToken,
}

impl Newcomer {
    /// Cancelled when it has to go.
    pub(crate) fn turned_away(&self) -> &CancellationToken {
        &self.turned_away
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.all.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_turns_the_oldest_away() {
        let (all, stop) = (Newcomers::new(4), CancellationToken::new());
        let first = all.arrive(&stop);
        let second = all.arrive(&stop);
        assert!(!first.turned_away().is_cancelled());
        let third = all.arrive(&stop);
        assert!(first.turned_away().is_cancelled() && !second.turned_away().is_cancelled());
        // Whoever has shown a credential is no newcomer.
        drop(second);
        let fourth = all.arrive(&stop);
        assert!(!third.turned_away().is_cancelled() && !fourth.turned_away().is_cancelled());
    }

    #[test]
    fn a_stop_reaches_all() {
        let (all, stop) = (Newcomers::new(4), CancellationToken::new());
        let one = all.arrive(&stop);
        stop.cancel();
        assert!(one.turned_away().is_cancelled());
    }
}

//! Whose turn it is among the connections that do much.
//!
//! A connection that is idle, or does little, is served as soon as a thread is free. One whose last
//! turn did much stands in line for its next one, and the line gives turns to one less than there
//! are threads at a time (to one, where there is one thread). So however many peers flood the
//! broker, whoever is quiet finds a thread that is free, and the threads behind the connections
//! (owner, commit, readers) find a processor; and those who flood share what is left in equal parts.
//! While somebody is there who does little, each of those turns begins with an offer of the
//! processor to whatever thread waits for one. Meanwhile connections that are not open yet
//! stand in the line too: many may come and go at once, each of which does little.

use std::sync::Arc;

use lockstep_broker::runtime::Courtesy;
use lockstep_model::MonoTime;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The line of one server.
#[derive(Debug)]
pub(crate) struct Turns {
    line: Semaphore,
    courtesy: Arc<Courtesy>,
}

/// One turn, until it is dropped.
pub(crate) type HeavyTurn<'a> = SemaphorePermit<'a>;

impl Turns {
    /// The line of a server whose connections have this many threads.
    pub(crate) fn of_threads(count: usize, courtesy: Arc<Courtesy>) -> Self {
        Self { line: Semaphore::new(count.saturating_sub(1).max(1)), courtesy }
    }

    /// Whether somebody is there who does little.
    pub(crate) fn courtesy(&self) -> &Courtesy {
        &self.courtesy
    }

    /// Waits for a turn, in line; others that are ready meanwhile go before it in any case.
    /// Cancel-safe, but for the place in the line.
    pub(crate) async fn next(&self, now: MonoTime) -> Option<HeavyTurn<'_>> {
        // It is never closed.
        let turn = self.line.acquire().await.ok();
        tokio::task::yield_now().await;
        self.courtesy.give_way(now);
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    /// Logs `name` for each of its turns.
    async fn work(turns: Rc<Turns>, log: Rc<RefCell<Vec<char>>>, name: char) {
        for _ in 0..3 {
            let _turn = turns.next(MonoTime::default()).await;
            log.borrow_mut().push(name);
        }
    }

    #[tokio::test]
    async fn those_that_do_much_take_turns() {
        let (turns, log) = (Rc::new(Turns::of_threads(1, Arc::default())), Rc::default());
        let local = tokio::task::LocalSet::new();
        for name in ['a', 'b', 'c'] {
            local.spawn_local(work(Rc::clone(&turns), Rc::clone(&log), name));
        }
        local.await;
        assert_eq!(log.borrow().iter().collect::<String>(), "abcabcabc");
    }

    #[tokio::test]
    async fn whoever_does_little_waits_for_no_line() {
        let (turns, log) = (Rc::new(Turns::of_threads(1, Arc::default())), Rc::default());
        let local = tokio::task::LocalSet::new();
        for name in ['a', 'b', 'c'] {
            local.spawn_local(work(Rc::clone(&turns), Rc::clone(&log), name));
        }
        let quiet = Rc::clone(&log);
        local.spawn_local(async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                quiet.borrow_mut().push('q');
            }
        });
        local.await;
        // Three turns of its own while each of the others has had at most one.
        let last = log.borrow().iter().rposition(|name| *name == 'q');
        assert!(last.is_some_and(|last| last < 6), "{log:?}");
    }
}

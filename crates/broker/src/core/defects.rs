//! Things that the core could do wrong, each behind a switch that only its own tests can turn on:
//! so that the test against a naive model can show that it would find them.
//!
//! Outside tests [`is_present`] is `false` by its definition, and the wrong way is not compiled.

/// One thing done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Defect {
    /// An abandoned message of a message session comes after those that were not delivered yet.
    AbandonedGoesToTheTail,
    /// A released delivery counts as a failed one.
    ReleaseIsCounted,
    /// A sent message is handed out before its row is durable.
    DeliveredBeforeItsCommit,
    /// A clean detach does not free the message session.
    HoldOutlivesItsLink,
    /// A start forgets the message-ids that were stored.
    DuplicatesForgottenAtStart,
    /// An abandoned deferred message is delivered like any other.
    AbandonedDeferredReturns,
    /// A message lock settles after its time, as long as nobody noticed.
    ExpiredLockSettles,
    /// A start enqueues scheduled messages whose time has not come.
    ScheduledIsActiveAfterStart,
    /// A start loses scheduled messages.
    ScheduledIsLostAtStart,
    /// An expired message lock counts nothing.
    ExpiryIsNotCounted,
    /// A state is read from the store before it is durable there.
    StateIsServedBeforeItsCommit,
    /// A removed state is there again after a start.
    RemovedStateReturns,
    /// A message session that is held can be accepted by a second link.
    TwoHolders,
    /// A message is delivered once more than allowed before it is dead-lettered.
    OneDeliveryTooMany,
    /// The row of a dead-lettered message stays where it was.
    DeadLetteredIsInTwoPlaces,
    /// Batch deletion takes deferred messages.
    BatchDeletionTakesDeferred,
    /// A message is delivered although its time to live is over.
    ExpiredIsDelivered,
    /// A receive-and-delete delivery that was taken back is not written again.
    TakenBackIsNotWritten,
    /// The size of a queue forgets its dead-letter queue.
    DeadLettersTakeNoRoom,
    /// A duplicate is remembered for as long again as the first one.
    DuplicateProlongsTheWindow,
}

#[cfg(test)]
impl Defect {
    pub(super) const ALL: [Self; 20] = [
        Self::AbandonedGoesToTheTail,
        Self::ReleaseIsCounted,
        Self::DeliveredBeforeItsCommit,
        Self::HoldOutlivesItsLink,
        Self::DuplicatesForgottenAtStart,
        Self::AbandonedDeferredReturns,
        Self::ExpiredLockSettles,
        Self::ScheduledIsActiveAfterStart,
        Self::ScheduledIsLostAtStart,
        Self::ExpiryIsNotCounted,
        Self::StateIsServedBeforeItsCommit,
        Self::RemovedStateReturns,
        Self::TwoHolders,
        Self::OneDeliveryTooMany,
        Self::DeadLetteredIsInTwoPlaces,
        Self::BatchDeletionTakesDeferred,
        Self::ExpiredIsDelivered,
        Self::TakenBackIsNotWritten,
        Self::DeadLettersTakeNoRoom,
        Self::DuplicateProlongsTheWindow,
    ];
}

/// Whether the core of this thread has a defect.
#[cfg(not(test))]
#[inline]
pub(super) const fn is_present(_: Defect) -> bool {
    false
}

/// Whether the core of this thread has a defect.
#[cfg(test)]
pub(super) fn is_present(defect: Defect) -> bool {
    PRESENT.get() == Some(defect)
}

#[cfg(test)]
thread_local! {
    static PRESENT: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Gives the core of this thread a defect while `f` runs.
#[cfg(test)]
pub(super) fn with<T>(defect: Option<Defect>, f: impl FnOnce() -> T) -> T {
    PRESENT.set(defect);
    let result = f();
    PRESENT.set(None);
    result
}

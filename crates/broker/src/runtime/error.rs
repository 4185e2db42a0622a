use lockstep_store::StoreError;

/// Why the broker cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A definition changes what cannot be changed.
    #[error("queue '{queue}' of namespace '{namespace}': {problem}")]
    Definition {
        /// The namespace.
        namespace: String,
        /// The queue, as the definition spells it.
        queue: String,
        /// What cannot be.
        problem: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(String),
    /// The broker is stopping.
    #[error("the broker is shutting down")]
    ShuttingDown,
}

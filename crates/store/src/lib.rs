//! Where the broker's writes become durable: the [`Store`] trait, the registry of keys and
//! records, a memory store and the RocksDB store.
//!
//! What is absent: domain decisions (who may, what next), AMQP, and threads of its own besides
//! those of RocksDB. A [`Batch`] is a self-contained list of puts and deletes, so that it can be
//! shipped elsewhere unchanged.
#![warn(missing_docs)]

mod api;
mod batch;
mod codec;
#[cfg(test)]
mod contract;
mod entity_codec;
mod fault;
mod keys;
mod load;
mod memory;
mod records;
#[cfg(feature = "rocksdb")]
mod rocks;

pub use api::{LoadVisitor, Store, StoreError};
pub use batch::{Batch, Operation, Table};
pub use fault::{FaultStore, Faults};
pub use memory::MemoryStore;
pub use records::{
    CounterRecord, DuplicateRecord, MessageOverlayRecord, MessageRecord, MessageSessionRecord,
    NamespaceRecord,
};
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksOptions, RocksStore};

//! What is to be done about the disk once a second: watching its free space
//! (docs/architecture.md, invariant 6), syncing the store's watermark and having old logs removed
//! (docs/storage.md).

use std::{sync::Arc, time::Duration};

use lockstep_broker::runtime::Broker;
use lockstep_store::{RocksStore, Store as _};
use tokio_util::sync::CancellationToken;

/// Free bytes under which sends and state writes are refused.
const FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until `stop` is cancelled.
pub(crate) async fn watch(store: Arc<RocksStore>, broker: Arc<Broker>, stop: CancellationToken) {
    let mut refusing = false;
    while !stop.is_cancelled() {
        let looked = {
            let store = Arc::clone(&store);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = store.sync_watermark() {
                    tracing::error!(%error, "cannot sync the watermark");
                }
                store.remove_old_logs();
                store.free_bytes()
            })
        };
        let free = looked.await.unwrap_or_default();
        let refuse = free.is_some_and(|free| free < FREE_BYTES_MIN);
        if refuse != refusing {
            refusing = refuse;
            broker.set_refuse_growth(refuse);
            if refuse {
                tracing::error!(
                    free_bytes = free,
                    "the disk is nearly full: sends and state writes are refused"
                );
            } else {
                tracing::info!(free_bytes = free, "there is room on the disk again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

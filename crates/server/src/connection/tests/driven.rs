//! Connections as their drivers hold them.

use lockstep_broker::runtime::Courtesy;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::*;

/// Drives a connection to its end.
pub(super) async fn drive<S>(world: &World, stream: S, server: Connection, turns: Arc<Turns>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let clock = Arc::new(world.clock.clone());
    let stop = tokio_util::sync::CancellationToken::new();
    let newcomer = crate::newcomers::Newcomers::new(2).arrive(&stop);
    let driving = crate::connection_driver::Driving { clock, shutdown: stop, turns };
    crate::connection_driver::drive(stream, server, driving, newcomer).await;
}

/// Many may stand there, each with bytes that nobody has looked at.
#[tokio::test]
async fn what_was_read_counts_while_its_connection_stands_in_line() {
    let world = World::new();
    let engine = amqp::Connection::server(Arc::clone(&world.context.engine_config), world.now());
    let server = Connection::new(engine, Arc::clone(&world.context), (None, None), world.clock.now());
    let (courtesy, now) = (Arc::<Courtesy>::default(), world.clock.now().mono);
    courtesy.note_little(now);
    let turns = Arc::new(Turns::of_threads(1, courtesy));
    let _of_another = turns.next(now).await;
    let (stream, mut client) = tokio::io::duplex(64 * 1024);
    client.write_all(&[0; 60_000]).await.unwrap();
    let before = world.context.memory.used_bytes();
    let mut driven = std::pin::pin!(drive(&world, stream, server, Arc::clone(&turns)));
    for _ in 0..100 {
        tokio::select! {
            biased;
            () = &mut driven => panic!("it has ended"),
            () = tokio::task::yield_now() => {}
        }
    }
    let counted = world.context.memory.used_bytes() - before;
    assert!(counted >= 60_000, "{counted}");
}

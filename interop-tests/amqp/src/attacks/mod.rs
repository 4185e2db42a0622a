//! What a peer can do to a broker to hurt others: reading nothing, granting everything, asking
//! for the same thing without end. The scenarios run these small and look at what comes of them;
//! the program `attacks` runs them large and looks at a quiet client and at the broker's memory.

mod floods;
mod peer;
mod readers;
mod storms;

use std::net::SocketAddr;

pub use self::peer::{Flood, discard, small_socket};
use crate::{Home, Outcome};

/// The broker that is attacked.
#[derive(Debug)]
pub struct Ground {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its keys.
    pub home: Home,
    /// A plain queue.
    pub queue: String,
    /// A queue that requires sessions.
    pub message_sessions: String,
}

/// How much of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Connections of the attacker at a time.
    pub connections: usize,
    /// Links (AMQP sessions, tokens) of each.
    pub links: u32,
    /// Messages that are put into the queue first, or sent.
    pub messages: usize,
    /// Size of each, in bytes.
    pub message_bytes: usize,
}

impl Scale {
    const fn new(connections: usize, links: u32, messages: usize, message_bytes: usize) -> Self {
        Self { connections, links, messages, message_bytes }
    }
}

/// How an attack talks to whoever watches it.
pub trait Watcher: Sync {
    /// Everything is in place; from here on it counts.
    fn ready(&self);

    /// Whether it is over.
    fn is_over(&self) -> bool;
}

/// One attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What the peer does.
    pub what: &'static str,
    /// As the scenarios run it.
    pub small: Scale,
    /// As `make attacks` runs it.
    pub large: Scale,
    /// Connections and links that do nothing, and may hold memory for that.
    pub idle: fn(Scale) -> (usize, usize),
    /// Runs until it is over.
    pub run: fn(&Ground, Scale, &dyn Watcher) -> Outcome,
}

fn nothing_idle(_: Scale) -> (usize, usize) {
    (0, 0)
}

fn idle_connections(scale: Scale) -> (usize, usize) {
    (scale.connections, 0)
}

fn idle_links(scale: Scale) -> (usize, usize) {
    (scale.connections, scale.connections * scale.links as usize)
}

macro_rules! attacks {
    ($($name:ident: $run:path, $small:expr, $large:expr, $idle:path, $what:literal;)*) => {
        /// All of them.
        pub const ATTACKS: &[Attack] = &[$(Attack {
            name: stringify!($name),
            what: $what,
            small: $small,
            large: $large,
            idle: $idle,
            run: $run,
        }),*];
    };
}

attacks! {
    slow_readers: readers::slow, Scale::new(2, 1, 200, 65_536), Scale::new(16, 4, 2_500, 65_536),
        nothing_idle, "grant 2^31 credit on several links and never read the socket";
    zero_windows: readers::zero_windows, Scale::new(2, 20, 200, 1_024), Scale::new(8, 500, 20_000, 4_096),
        nothing_idle, "grant 2^31 credit, and open and shut the AMQP session's window without end";
    credit_floods: floods::credit, Scale::new(1, 20, 0, 0), Scale::new(8, 100, 0, 0),
        nothing_idle, "give and take credit as fast as the socket takes it";
    giant_dispositions: floods::dispositions, Scale::new(1, 1, 200, 100), Scale::new(4, 1, 5_000, 100),
        nothing_idle, "dispositions over 2^31 deliveries, of which some thousand are unsettled";
    put_tokens: floods::tokens, Scale::new(1, 500, 0, 0), Scale::new(8, 10_000, 0, 0),
        nothing_idle, "put-token requests without end, and no credit for the responses";
    sends: floods::sends, Scale::new(2, 1, 400, 16_384), Scale::new(16, 1, 40_000, 65_536),
        nothing_idle, "send as fast as credit allows";
    partial_frames: floods::partial_frames, Scale::new(20, 0, 0, 60_000), Scale::new(4_000, 0, 0, 200_000),
        nothing_idle, "begin a frame of 256 KiB, and never end it";
    attaches: storms::attaches, Scale::new(1, 200, 0, 0), Scale::new(4, 1_000, 0, 0),
        nothing_idle, "attach and detach links without end";
    accepts: storms::accepts, Scale::new(1, 500, 0, 0), Scale::new(2, 4_999, 0, 0),
        nothing_idle, "wait for the next message session on every link, and give up, without end";
    amqp_sessions: storms::amqp_sessions, Scale::new(1, 500, 0, 0), Scale::new(4, 4_000, 0, 0),
        nothing_idle, "begin and end AMQP sessions without end";
    connections: storms::connections, Scale::new(4, 0, 0, 0), Scale::new(16, 0, 0, 0),
        nothing_idle, "connect, log in and vanish without end";
    unauthenticated: storms::unauthenticated, Scale::new(50, 0, 0, 0), Scale::new(8_000, 0, 0, 0),
        idle_connections, "connect and say nothing more than the first header";
    links: storms::links, Scale::new(1, 300, 0, 0), Scale::new(2, 4_999, 0, 0),
        idle_links, "4,999 idle links on each connection";
    idle: storms::idle, Scale::new(100, 0, 0, 0), Scale::new(9_990, 0, 0, 0),
        idle_connections, "9,990 idle connections: ten places are left of the default";
}

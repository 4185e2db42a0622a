//! Tests of the engine: two engines joined in memory (`pair`), and hand-made frames against one.

mod attach;
mod conformance;
mod credit;
mod handshake;
mod hostile;
mod hostile_cuts;
mod limits;
mod mutation;
mod pair;
mod parts;
mod recorded;
mod settlement;
mod support;
mod timers;
mod transfers;

//! Rules of the specification that no other test here is about, each with its section. What is
//! covered where: docs/conformance.md.

mod connections;
mod flow_control;
mod links;
mod sasl;
mod sessions;
mod transfers;

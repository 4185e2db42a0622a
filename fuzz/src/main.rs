//! Fuzz targets under libFuzzer, all in one program: the environment variable `FUZZ_TARGET` names
//! the one that runs. `run.sh` beside this directory builds and runs it; docs/testing.md says how.
//!
//! A target is a function of the input's bytes that panics when something is wrong. Each begins
//! with what it promises.
#![no_main]

// Parts of crates/server that its configuration needs; see targets/config.rs.
#[allow(dead_code, unreachable_pub, reason = "a part of another crate")]
#[path = "../../crates/server/src/client_certificate.rs"]
mod client_certificate;
#[allow(dead_code, unreachable_pub, reason = "a part of another crate")]
#[path = "../../crates/server/src/distinguished_name.rs"]
mod distinguished_name;
mod input;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// The target that `FUZZ_TARGET` names.
static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match targets::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            for (name, _) in targets::ALL {
                println!("{name}");
            }
            eprintln!("FUZZ_TARGET is \"{name}\"; the targets are listed above");
            std::process::exit(2);
        }
    }
}

fuzz_target!(init: { TARGET.get_or_init(chosen); }, |data: &[u8]| {
    TARGET.get_or_init(chosen)(data);
});

//! Configuration files.

use std::{cell::OnceCell, path::PathBuf};

// The parser as it is in crates/server, which as a whole would bring RocksDB.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "a part of another crate")]
#[path = "../../../crates/server/src/config/mod.rs"]
mod parser;

use parser::{LoadOptions, load};

/// Largest file tried, in bytes.
const FILE_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// Where the input is put for the parser; in memory where the system has such a place.
    static FILE: OnceCell<PathBuf> = const { OnceCell::new() };
}

fn file() -> PathBuf {
    FILE.with(|file| {
        file.get_or_init(|| {
            let memory = PathBuf::from("/dev/shm");
            let directory = if memory.is_dir() { memory } else { std::env::temp_dir() };
            directory.join(format!("lockstep-fuzz-{}", std::process::id()))
        })
        .clone()
    })
}

/// `lockstep.toml`. Promise: no panic; either a configuration or problems, each with a line of the
/// file.
pub(super) fn toml(data: &[u8]) {
    check(data, |file| LoadOptions {
        config: Some(file),
        dev: data.len() % 2 == 0,
        ..LoadOptions::default()
    });
}

/// The emulator's `Config.json`, with and without its defaults. Promise: as for `toml`.
pub(super) fn emulator(data: &[u8]) {
    check(data, |file| LoadOptions {
        emulator_config: Some(file),
        emulator_defaults: data.len() % 2 == 0,
        dev: true,
        ..LoadOptions::default()
    });
}

fn check(data: &[u8], options: impl FnOnce(PathBuf) -> LoadOptions) {
    // A file that names a device as a key's file gets what it asks for.
    let names_device = data.windows(4).any(|part| part == b"/dev" || part == b"/pro" || part == b"/sys");
    if data.len() > FILE_BYTES_MAX || names_device {
        return;
    }
    let file = file();
    std::fs::write(&file, data).expect("a file for the input");
    let lines = 1 + data.iter().filter(|&&byte| byte == b'\n').count();
    let result = load(&options(file.clone()));
    std::fs::remove_file(&file).expect("the file is there still");
    match result {
        Ok(config) => {
            assert!(!config.namespaces.is_empty());
            for namespace in &config.namespaces {
                assert!(!namespace.name.is_empty());
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(problem.origin.line as usize <= lines, "{problem:?}");
                assert!(!problem.text.is_empty());
            }
            assert!(error.to_string().lines().count() > error.problems.len() || lines == 0);
        }
    }
}

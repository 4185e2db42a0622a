//! What a disk would hold after a loss of power, and other damage.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The preloaded library, compiled once for all tests of this program.
pub(crate) fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/sync_log.c");
        let library =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sync_log-{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-std=gnu11", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("a C compiler named cc is there");
        assert!(compiled.success(), "the shim compiles");
        library
    })
}

/// The shim's notes about one process.
pub(crate) struct Notes(tempfile::NamedTempFile);

/// How a lost power supply leaves what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// None of it.
    ToSynced,
    /// Of each file, a part of a random length, garbled from a random place on.
    Torn { seed: u64 },
}

impl Notes {
    /// Notes for a process that is about to start; what is below `data` now is on the disk.
    pub(crate) fn new(data: &Path) -> Self {
        let mut notes = tempfile::NamedTempFile::new().expect("temporary file");
        for file in files(data) {
            let state = fs::metadata(file).expect("there");
            writeln!(notes, "{} {}", state.ino(), state.len()).expect("written");
        }
        Self(notes)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// By inode: the size at the last sync.
    fn synced_sizes(&self) -> HashMap<u64, u64> {
        let text = fs::read_to_string(self.path()).expect("readable");
        // A killed process may leave half a line at the end; it was not acknowledged either.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let pair = |line: &str| {
            let (inode, size) = line.split_once(' ').expect("two numbers");
            (inode.parse().expect("a number"), size.parse().expect("a number"))
        };
        whole.lines().map(pair).collect()
    }

    /// Cuts every file below `path` back.
    pub(crate) fn cut(&self, path: &Path, cut: Cut) {
        let sizes = self.synced_sizes();
        assert!(!sizes.is_empty(), "the shim noted nothing");
        let mut random = match cut {
            Cut::ToSynced => 1,
            Cut::Torn { seed } => 0x9e37_79b9_7f4a_7c15 ^ seed,
        };
        for file in files(path) {
            let state = fs::metadata(&file).expect("there");
            let synced = sizes.get(&state.ino()).copied().unwrap_or(0).min(state.len());
            let open = OpenOptions::new().write(true).open(&file).expect("writable");
            let (kept, garbled_from) = match cut {
                Cut::ToSynced => (synced, synced),
                Cut::Torn { .. } => {
                    let kept = synced + below(&mut random, state.len() - synced + 1);
                    (kept, synced + below(&mut random, kept - synced + 1))
                }
            };
            open.set_len(kept).expect("cut");
            let garbage: Vec<u8> = (garbled_from..kept).map(|_| below(&mut random, 256) as u8).collect();
            open.write_all_at(&garbage, garbled_from).expect("garbled");
        }
    }
}

/// A small generator (xorshift).
fn below(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % bound
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    // A fixed order, so that a seed means the same cuts.
    found.sort();
    found
}

/// Flips one bit of the largest log, at about this share of its length.
pub(crate) fn flip_bit_in_log(path: &Path, share: f64) {
    /// Records do not cross blocks of this size; a few bytes at a block's end are filling.
    const LOG_BLOCK_SIZE_BYTES: u64 = 32 * 1024;
    let is_live = |file: &PathBuf| {
        file.extension().is_some_and(|end| end == "log")
            && file.parent().is_some_and(|directory| directory.ends_with("rocksdb"))
    };
    let logs = files(path).into_iter().filter(is_live);
    let size = |file: &PathBuf| fs::metadata(file).expect("there").len();
    let log = logs.max_by_key(size).expect("a log");
    let block = (size(&log) as f64 * share) as u64 / LOG_BLOCK_SIZE_BYTES;
    let at = block * LOG_BLOCK_SIZE_BYTES + LOG_BLOCK_SIZE_BYTES / 2;
    assert!(at < size(&log), "the log is too short for this test");
    let file = OpenOptions::new().read(true).write(true).open(&log).expect("writable");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 0b1000], at).expect("written");
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        fs::create_dir_all(target.parent().expect("below a directory")).expect("created");
        fs::copy(&file, &target).expect("copied");
    }
}

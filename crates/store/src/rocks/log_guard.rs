//! Keeps RocksDB from reading a damaged log for ever.
//!
//! RocksDB's log reader goes round in circles, without end and without a word, when it comes upon
//! a record whose type is one of those of recycled logs in a log that is not recycled
//! (facebook/rocksdb issue 13333, open as of 11.8): one flipped bit, or what a loss of power left
//! at a log's end, would make a start hang. This store recycles no logs and writes none of those
//! types, so such a record is damaged for certain. Before the engine opens, its type is set to
//! that of a whole record: the record's checksum, which covers the type, then does not fit, and
//! the reader reports damage as it does for any other. (If it does fit, the type was the damage,
//! and is repaired.)
//!
//! The form of a log: blocks of 32 KiB; in them, one behind the other, records of
//! `checksum: u32, length: u16 little-endian, type: u8, content`; what is left of a block and
//! shorter than a header is filling. The MANIFEST has the same form and the same reader.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::rocks::directory::is_log;

const BLOCK_SIZE_BYTES: usize = 32 * 1024;
/// Blocks read at once.
const BLOCKS_PER_READ: usize = 32;
const HEADER_SIZE_BYTES: usize = 7;
const TYPE_OFFSET: usize = 6;
const TYPE_WHOLE_RECORD: u8 = 1;

/// Whether a record of this type is one of a recycled log.
const fn is_recycled_type(kind: u8) -> bool {
    matches!(kind, 5..=8 | 11 | 131)
}

/// Disarms every log and MANIFEST in the engine's directory. Returns how many records it changed.
pub(crate) fn disarm(engine: &Path) -> io::Result<u64> {
    let mut changed = 0;
    for entry in fs::read_dir(engine)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_log(&path) || name.starts_with("MANIFEST-") {
            changed += disarm_file(&path)?;
        }
    }
    Ok(changed)
}

fn disarm_file(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut blocks = vec![0; BLOCKS_PER_READ * BLOCK_SIZE_BYTES];
    let (mut at, mut changed) = (0, 0);
    loop {
        let read = read_full(&mut file, &mut blocks)?;
        for (index, block) in blocks[..read].chunks(BLOCK_SIZE_BYTES).enumerate() {
            for position in bad_types(block) {
                let offset = at + (index * BLOCK_SIZE_BYTES + position) as u64;
                OpenOptions::new().write(true).open(path)?.write_all_at(&[TYPE_WHOLE_RECORD], offset)?;
                changed += 1;
            }
        }
        at += read as u64;
        if read < blocks.len() {
            return Ok(changed);
        }
    }
}

/// Where in a block the reader would find the type of a record of a recycled log. The walk goes
/// by lengths alone, so that it comes to every place that the reader comes to, and perhaps to some
/// behind a wrong checksum, which the reader leaves out.
fn bad_types(block: &[u8]) -> Vec<usize> {
    let (mut at, mut bad) = (0, Vec::new());
    while let Some(header) = block.get(at..at + HEADER_SIZE_BYTES) {
        if is_recycled_type(header[TYPE_OFFSET]) {
            bad.push(at + TYPE_OFFSET);
        }
        at += HEADER_SIZE_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
    }
    bad
}

/// Fills `to`, or less at the end of the file.
fn read_full(file: &mut File, to: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < to.len() {
        match file.read(&mut to[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with a checksum of zeros.
    fn record(kind: u8, length: u16) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.push(kind);
        bytes.resize(bytes.len() + usize::from(length), 0x77);
        bytes
    }

    fn disarmed(content: &[u8]) -> (u64, Vec<u8>) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("000001.log");
        fs::write(&path, content).expect("written");
        let changed = disarm(dir.path()).expect("readable");
        (changed, fs::read(path).expect("readable"))
    }

    #[test]
    fn a_log_with_ordinary_records_is_left_alone() {
        let mut log = [record(1, 100), record(2, 32_600)].concat();
        log.resize(BLOCK_SIZE_BYTES, 0);
        log.extend(record(4, 9));
        assert_eq!(disarmed(&log), (0, log));
    }

    #[test]
    fn records_of_recycled_logs_become_whole_records() {
        for kind in [5, 8, 11, 131] {
            let mut log = [record(1, 100), record(1, 32_647)].concat();
            assert_eq!(log.len(), BLOCK_SIZE_BYTES - HEADER_SIZE_BYTES);
            log.extend(record(1, 0));
            log.extend(record(kind, 3));
            let mut expected = log.clone();
            expected[BLOCK_SIZE_BYTES + TYPE_OFFSET] = TYPE_WHOLE_RECORD;
            assert_eq!(disarmed(&log), (1, expected));
        }
    }

    #[test]
    fn blocks_behind_the_first_read_are_looked_at() {
        let mut log = vec![0; (BLOCKS_PER_READ + 3) * BLOCK_SIZE_BYTES];
        let at = (BLOCKS_PER_READ + 2) * BLOCK_SIZE_BYTES + TYPE_OFFSET;
        log[at] = 6;
        let (changed, after) = disarmed(&log);
        assert_eq!((changed, after[at]), (1, TYPE_WHOLE_RECORD));
    }

    #[test]
    fn cut_headers_and_empty_files_are_no_trouble() {
        assert_eq!(disarmed(&[]).0, 0);
        assert_eq!(disarmed(&[5; 6]).0, 0);
        assert_eq!(disarmed(&[0, 0, 0, 0, 0xff, 0xff, 1, 2]).0, 0);
    }
}

//! What the system says about a process and a disk.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use super::{clock::Stopwatch, report};

/// Bytes that each measured fdatasync brings to the disk.
const SYNC_APPEND_BYTES: usize = 4 << 10;

/// How many of them are measured.
const SYNC_SAMPLES: u32 = 400;

/// What a process used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// User and system time of all its threads, in seconds.
    pub(super) cpu_s: f64,
    /// Bytes it caused to be written to storage.
    pub(super) disk_bytes: u64,
}

impl Usage {
    /// Of a process by its id, or of this one.
    ///
    /// # Errors
    /// When there is no such process, or the system has no `/proc`.
    pub(super) fn of(pid: Option<u32>) -> Result<Self> {
        let stat = read(pid, "stat")?;
        // The name in parentheses can hold anything; utime and stime are fields 14 and 15, and
        // the first field behind the name is the third.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks =
            |index: usize| fields.split_whitespace().nth(index).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        let ticks = ticks.context("/proc has no processor times")?;
        let per_second = rustix::param::clock_ticks_per_second();
        // Another user's process does not show its input and output.
        let io = read(pid, "io").unwrap_or_default();
        let disk_bytes = field(&io, "write_bytes:").unwrap_or(0);
        Ok(Self { cpu_s: ticks as f64 / per_second as f64, disk_bytes })
    }

    /// What was used since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_s: self.cpu_s - earlier.cpu_s,
            disk_bytes: self.disk_bytes.saturating_sub(earlier.disk_bytes),
        }
    }
}

/// Resident memory of a process now, in bytes.
///
/// # Errors
/// When there is no such process, or the system has no `/proc`.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = read(Some(pid), "status")?;
    Ok(field(&status, "VmRSS:").context("/proc has no VmRSS")? * 1024)
}

fn read(pid: Option<u32>, name: &str) -> Result<String> {
    let path = match pid {
        Some(pid) => format!("/proc/{pid}/{name}"),
        None => format!("/proc/self/{name}"),
    };
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Times of an append of 4 KiB followed by fdatasync, in nanoseconds, in a file of its own.
///
/// # Errors
/// When the directory cannot be written.
pub(super) fn measure_fdatasync(directory: &Path, watch: Stopwatch) -> Result<Histogram<u64>> {
    let path = directory.join(format!("lockstep-bench-fdatasync-{}", std::process::id()));
    let context = || format!("cannot measure fdatasync in {}", directory.display());
    let mut times = report::histogram()?;
    let mut file = fs::File::create(&path).with_context(context)?;
    let block = [0x5a; SYNC_APPEND_BYTES];
    let outcome = (0..SYNC_SAMPLES).try_for_each(|_| {
        let before = watch.nanos();
        file.write_all(&block)?;
        file.sync_data()?;
        times.saturating_record(watch.nanos() - before);
        std::io::Result::Ok(())
    });
    fs::remove_file(&path).with_context(context)?;
    outcome.with_context(context)?;
    Ok(times)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_processor_time() {
        assert!(resident_bytes(std::process::id()).unwrap() > 0);
        assert!(Usage::of(None).unwrap().cpu_s >= 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Usage::of(Some(u32::MAX)).unwrap_err();
        assert!(error.to_string().contains("/proc/4294967295/stat"));
    }
}

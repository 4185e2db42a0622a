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
    /// Of this process.
    ///
    /// # Errors
    /// When the system has no `/proc`.
    pub(super) fn of_this_process() -> Result<Self> {
        Self::of(std::process::id(), &read(std::process::id(), "stat")?)
    }

    /// Of a process and all its descendants: a broker may be started by a script, and have
    /// helpers. Time of those that ended counts once their parent has taken note of it.
    ///
    /// # Errors
    /// When there is no such process, or the system has no `/proc`.
    pub(super) fn of_tree(pid: u32) -> Result<Self> {
        let mut sum = Self::of(pid, &read(pid, "stat")?)?;
        for child in descendants(pid) {
            // It may have ended meanwhile.
            let used = read(child, "stat").and_then(|stat| Self::of(child, &stat)).unwrap_or_default();
            sum.cpu_s += used.cpu_s;
            sum.disk_bytes += used.disk_bytes;
        }
        Ok(sum)
    }

    fn of(pid: u32, stat: &str) -> Result<Self> {
        // utime, stime, cutime and cstime, and the first field behind the name is the third.
        let ticks = |number: usize| stat_field(stat, number)?.parse::<u64>().ok();
        let ticks: Option<u64> = (14..=17).map(ticks).sum();
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

/// A field of `/proc/<pid>/stat` by its number there, which has to be greater than 2: the name,
/// field 2, is in parentheses and can hold anything.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(number.checked_sub(3)?)
}

/// Processes that a process started, those that these started, and so on.
fn descendants(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> =
        pids.filter_map(|pid| Some((pid, stat_field(&read(pid, "stat").ok()?, 4)?.parse().ok()?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// Resident memory of a process and all its descendants now, in bytes. What they share counts for
/// each.
///
/// # Errors
/// When there is no such process, or the system has no `/proc`.
pub(super) fn resident_bytes_of_tree(pid: u32) -> Result<u64> {
    let children = descendants(pid).into_iter().map(|child| resident_bytes(child).unwrap_or(0));
    Ok(resident_bytes(pid)? + children.sum::<u64>())
}

/// Resident memory of a process now, in bytes.
///
/// # Errors
/// When there is no such process, or the system has no `/proc`.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = read(pid, "status")?;
    Ok(field(&status, "VmRSS:").context("/proc has no VmRSS")? * 1024)
}

fn read(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
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
        assert!(Usage::of_this_process().unwrap().cpu_s >= 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Usage::of_tree(u32::MAX).unwrap_err();
        assert!(error.to_string().contains("/proc/4294967295/stat"));
    }

    #[test]
    fn a_tree_holds_children_and_their_memory() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let (own, pid) = (std::process::id(), child.id());
        let (found, alone, tree) =
            (descendants(own), resident_bytes(own).unwrap(), resident_bytes_of_tree(own).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(found.contains(&pid) && !found.contains(&own));
        assert!(alone > 0 && tree > 0);
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 111 222 3 4 20";
        assert_eq!((stat_field(stat, 4), stat_field(stat, 14)), (Some("1"), Some("111")));
    }
}

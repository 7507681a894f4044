//! Time and memory used by this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirEntry;

/// CPU seconds of this process so far, all threads together.
#[expect(unsafe_code, reason = "clock_gettime fills a C struct, which has no safe form in std")]
pub fn cpu_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for writes of one timespec, which stays valid if the call writes nothing.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// For how long each thread of this process has run, and has waited for a core that others had, in nanoseconds.
#[derive(Debug, Clone)]
pub struct CoreUse(BTreeMap<OsString, (u64, u64)>);

impl CoreUse {
    /// So far; none where the system does not count it.
    pub fn so_far() -> Option<Self> {
        let of = |task: std::io::Result<DirEntry>| {
            let task = task.ok()?;
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let mut counts = text.split_whitespace().map_while(|count| count.parse::<u64>().ok());
            Some((task.file_name(), (counts.next()?, counts.next()?)))
        };
        let threads: BTreeMap<_, _> = std::fs::read_dir("/proc/self/task").ok()?.filter_map(of).collect();
        (!threads.is_empty()).then_some(Self(threads))
    }

    /// The largest share of its time that a thread of both moments has waited since the earlier one. One thread that waits
    /// holds up all others of a parallel loop; those that hardly ran hold up nobody.
    pub fn waited_since(&self, earlier: &Self) -> f64 {
        let since = |(thread, (run, waited)): (&OsString, &(u64, u64))| {
            let (run_before, waited_before) = earlier.0.get(thread)?;
            Some((run.saturating_sub(*run_before) as f64, waited.saturating_sub(*waited_before) as f64))
        };
        let threads: Vec<(f64, f64)> = self.0.iter().filter_map(since).collect();
        let busiest = threads.iter().map(|(run, waited)| run + waited).fold(0.0, f64::max);
        let share = |(run, waited): &(f64, f64)| {
            if run + waited > 0.1 * busiest { waited / (run + waited) } else { 0.0 }
        };
        threads.iter().map(share).fold(0.0, f64::max)
    }
}

/// Current resident set if the system reports it, otherwise the peak.
pub fn current_rss_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.map_or_else(peak_rss_bytes, |pages| pages * 4096)
}

/// Peak resident set of this process, in bytes.
pub fn peak_rss_bytes() -> u64 {
    // On Linux, getrusage's maximum includes the parent's memory before exec; this does not.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(kib) = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()) {
        return kib * 1024;
    }
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    of_this_process().ru_maxrss as u64 * unit
}

/// What the system did for this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemWork {
    /// Pages given or mapped without reading a disk, each some 0.25 to 1 µs of the system's time.
    pub page_faults: u64,
    /// CPU seconds in the system's own code.
    pub system_s: f64,
    /// CPU seconds in the program's.
    pub user_s: f64,
}

impl SystemWork {
    /// Of this process so far, all threads together.
    pub fn so_far() -> Self {
        let usage = of_this_process();
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
        Self {
            page_faults: usage.ru_minflt as u64,
            system_s: seconds(usage.ru_stime),
            user_s: seconds(usage.ru_utime),
        }
    }

    /// Since an earlier moment.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            page_faults: self.page_faults - earlier.page_faults,
            system_s: self.system_s - earlier.system_s,
            user_s: self.user_s - earlier.user_s,
        }
    }

    /// The system's share of the CPU time.
    pub fn system_share(self) -> f64 {
        self.system_s / (self.system_s + self.user_s)
    }
}

impl std::ops::AddAssign for SystemWork {
    fn add_assign(&mut self, other: Self) {
        self.page_faults += other.page_faults;
        self.system_s += other.system_s;
        self.user_s += other.user_s;
    }
}

#[expect(unsafe_code, reason = "getrusage fills a C struct, which has no safe form in std")]
fn of_this_process() -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for writes of one rusage. A struct of integers, all-zero bytes are a valid value of it
    // even if the call writes nothing.
    unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn use_of(threads: &[(&str, u64, u64)]) -> CoreUse {
        CoreUse(threads.iter().map(|(name, run, waited)| (OsString::from(name), (*run, *waited))).collect())
    }

    #[test]
    fn a_thread_that_waits_is_seen_whatever_others_do() {
        let before = use_of(&[("1", 100, 50), ("2", 100, 0), ("3", 0, 0)]);
        // 2 waited for a fifth of its time; 3 hardly ran, and 4 is new.
        let after = use_of(&[("1", 1_100, 50), ("2", 900, 200), ("3", 10, 40), ("4", 0, 900)]);
        assert!((after.waited_since(&before) - 0.2).abs() < 1e-12);
        assert_eq!(before.waited_since(&before), 0.0);
        assert_eq!(use_of(&[("5", 1, 9)]).waited_since(&before), 0.0, "no thread of both moments");
    }
}

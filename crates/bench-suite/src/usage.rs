//! What this process has used: time and memory.

/// CPU seconds of this process so far, all threads together.
#[expect(
    unsafe_code,
    reason = "clock_gettime fills a plain C struct; no safe wrapper among the dependencies"
)]
pub fn cpu_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for writes of one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Resident set now, where the system tells; else the largest so far.
pub fn current_rss_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.map_or_else(peak_rss_bytes, |pages| pages * 4096)
}

/// Largest resident set of this process so far, in bytes.
#[expect(unsafe_code, reason = "getrusage fills a plain C struct; no safe wrapper among the dependencies")]
pub fn peak_rss_bytes() -> u64 {
    // Linux counts what the parent held before this program began into getrusage's maximum, but not here.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(kib) = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()) {
        return kib * 1024;
    }
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for writes of one rusage, and all-zero bytes are a valid rusage.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    usage.ru_maxrss as u64 * unit
}

//! The process's own limits.
#![expect(unsafe_code, reason = "setrlimit and prctl have no safe form in std")]

/// Enlarges the pipe to the parent to `bytes`, so that the two wait for each other less often.
pub(crate) fn widen_stdout(bytes: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: F_SETPIPE_SZ takes one integer and touches no memory of ours; it fails on anything but a pipe.
    unsafe {
        libc::fcntl(libc::STDOUT_FILENO, libc::F_SETPIPE_SZ, bytes as libc::c_int);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Caps the address space at `bytes`, so that a decompression bomb fails to allocate instead of filling the machine.
///
/// Linux only: other systems refuse or ignore the limit, and only wall time, frames and pixels are bounded.
pub(crate) fn limit_memory(bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    // SAFETY: setrlimit only reads `limit`, which outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Asks to be killed when the parent dies, so that a hung decoder does not outlive a killed run.
pub(crate) fn die_with_parent() {
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_PDEATHSIG takes one integer and touches no memory of ours.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

/// Leaves no core files behind.
pub(crate) fn no_core_dumps() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: setrlimit only reads `none`, which outlives the call.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
    }
}

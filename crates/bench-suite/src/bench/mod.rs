//! Benchmarks of our own kernels, and our side of the comparison with peers.

mod case;
mod decomposition;
mod gpu;
mod kernels;
mod worker;

pub use decomposition::{DecompositionOptions, decomposition};
pub use gpu::{GpuOptions, gpu};
pub use kernels::{KernelOptions, kernels};
pub use worker::worker;

/// CPU seconds of this process so far, all threads together.
#[expect(
    unsafe_code,
    reason = "clock_gettime fills a plain C struct; no safe wrapper among the dependencies"
)]
fn cpu_s() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for writes of one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

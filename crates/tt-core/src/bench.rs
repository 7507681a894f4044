//! Probes of the machine's limits, against which the kernels are measured.
#![expect(unsafe_code, reason = "vector intrinsics and the process clock")]

use std::hint::black_box;
use std::time::Instant;

use crate::simd::{Choice, Isa};

/// Register-only multiply-adds of one thread, in GFLOP/s (two operations each): the best of several rounds.
pub fn fma_peak_gflops() -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..20 {
        let start = Instant::now();
        let flop = fma_flop(200_000);
        best = best.max(flop as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Runs `rounds` of register-only multiply-adds on this thread, and returns the operations done (two each).
pub fn fma_flop(rounds: u64) -> u64 {
    2 * rounds * CHAINS as u64 * fma_loop(Isa::best(), rounds)
}

/// Independent accumulators of the loop: enough to hide the latency of a multiply-add.
const CHAINS: usize = 12;

/// Runs the loop and returns the lanes of its vectors.
fn fma_loop(isa: Isa, rounds: u64) -> u64 {
    match isa.choice() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set was detected.
        Choice::Avx512 => unsafe { x86::fma_512(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set was detected.
        Choice::Avx2 => unsafe { x86::fma_256(rounds) },
        _ => fma_plain(rounds),
    }
}

/// Whatever the compiler makes of plain arrays.
fn fma_plain(rounds: u64) -> u64 {
    let mut acc = [[0.5_f32; 4]; CHAINS];
    let (x, y) = (black_box([0.999_f32; 4]), black_box([1e-3_f32; 4]));
    for _ in 0..rounds {
        for chain in &mut acc {
            for lane in 0..4 {
                chain[lane] = chain[lane] * x[lane] + y[lane];
            }
        }
    }
    black_box(acc);
    4
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, black_box};
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    #[target_feature(enable = "avx512f")]
    pub(super) fn fma_512(rounds: u64) -> u64 {
        let mut acc = [_mm512_set1_ps(0.5); CHAINS];
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-3)));
        for _ in 0..rounds {
            for chain in &mut acc {
                *chain = _mm512_fmadd_ps(*chain, x, y);
            }
        }
        black_box(acc);
        16
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn fma_256(rounds: u64) -> u64 {
        let mut acc = [_mm256_set1_ps(0.5); CHAINS];
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3)));
        for _ in 0..rounds {
            for chain in &mut acc {
                *chain = _mm256_fmadd_ps(*chain, x, y);
            }
        }
        black_box(acc);
        8
    }
}

/// CPU time of this process, all threads together, in seconds.
///
/// Far steadier than wall time on a shared machine; 0 where the system has no such clock.
pub fn cpu_time_s() -> f64 {
    #[cfg(unix)]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place to write to.
        if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } == 0 {
            return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        }
    }
    0.0
}

/// Bytes read from memory by one thread, in GB/s: the best of several passes over 256 MiB.
pub fn read_bandwidth_gbs() -> f64 {
    const LANES: usize = 16;
    let words = vec![1_u64; 32 << 20];
    let mut best = 0.0_f64;
    for _ in 0..6 {
        let start = Instant::now();
        let mut sums = [0_u64; LANES];
        for chunk in words.chunks_exact(LANES) {
            for (sum, word) in sums.iter_mut().zip(chunk) {
                *sum ^= word;
            }
        }
        black_box(sums);
        best = best.max((words.len() * 8) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TtShape;
    use crate::apply::{Affine, Fused, Rows};

    /// A clock rate in gigahertz that no processor of today exceeds, and multiply-add units of a core.
    const FASTEST: (f64, f64) = (6.5, 2.0);

    #[test]
    fn the_peak_is_one_that_hardware_has_and_no_kernel_passes() {
        let lanes = (fma_flop(1) / 2) as f64 / CHAINS as f64;
        assert!([4.0, 8.0, 16.0].contains(&lanes), "{lanes} lanes");
        let peak = fma_peak_gflops();
        // Two operations a lane: a loop that the compiler took out would be faster than any processor.
        assert!(peak <= 2.0 * lanes * FASTEST.0 * FASTEST.1, "{peak} GFLOP/s");

        let shape = TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 4, 3).unwrap();
        let (x, cores) = (vec![7_u8; 4 * shape.in_features()], vec![0.1; shape.params()]);
        let (fused, mut out) = (Fused::new(&shape, Affine::IDENTITY), vec![0.0; 4 * shape.out_features()]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let mut best = 0.0_f64;
        for _ in 0..20 {
            let start = Instant::now();
            pool.install(|| fused.forward(Rows::U8(&x), &cores, &mut out, None)).unwrap();
            best = best.max(2.0 * 4.0 * shape.macs_per_row() as f64 / start.elapsed().as_secs_f64() / 1e9);
        }
        // A fifth of slack for a machine that is busy with something else.
        assert!(best <= 1.2 * peak, "the kernel's {best} GFLOP/s above the peak, {peak}");
    }

    #[test]
    fn reading_memory_takes_as_long_as_memory_is_slow() {
        let read = read_bandwidth_gbs();
        // At most a word of 64 bytes a cycle from the nearest cache, at least a byte every two nanoseconds.
        assert!((0.5..=64.0 * FASTEST.0).contains(&read), "{read} GB/s");
    }
}

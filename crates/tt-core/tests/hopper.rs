//! The emulation of what compute capability 9.0 adds: bulk copies, and products of four warps.
#![expect(clippy::print_stdout, reason = "a test that cannot run says so")]

use tt_core::cuda::emulation::{Argument, available, emulate};
use tt_core::cuda::{Launch, Source};

const KERNELS: &str = concat!(
    include_str!("../src/cuda/hopper.h"),
    r"
// What a mistake leaves out.
enum { NOTHING, WAIT, FENCE, COMMIT, ALIGNMENT, ARRIVAL, WARP, TOO_EARLY };

// d [64, 48] = a [64, 32] b [48, 32]^T, twice added up, b in core matrices `along` and `across` bytes from each other.
KERNEL(multiply)(const unsigned* a, const unsigned* b, int* d, unsigned along, unsigned across, int mistake) {
    SHARED(unsigned, shared);
    for (unsigned k = threadIdx.x; k < 48 * 8; k += 128) {
        unsigned column = k / 8, word = k % 8;
        shared[column / 8 * (across / 4) + word / 4 * (along / 4) + column % 8 * 4 + word % 4] = b[k];
    }
    __syncthreads();
    unsigned row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    unsigned rows[4];
    for (unsigned k = 0; k < 4; ++k) rows[k] = a[(row + k % 2 * 8) * 8 + t + k / 2 * 4];
    int sums[24];
    unsigned long long right = describe(shared + (mistake == ALIGNMENT), along, across);
    if (mistake != FENCE) products_fence();
    if (mistake != WARP || threadIdx.x >= 32) {
        start_product(sums, rows, right, false);
        start_product(sums, rows, right, true);
    }
    if (mistake != COMMIT) products_commit();
    if (mistake == TOO_EARLY) rows[0] = 0;
    if (mistake != WAIT) products_wait<0>(sums);
    for (unsigned k = 0; k < 24; ++k) d[(row + k / 2 % 2 * 8) * 48 + k / 4 * 8 + 2 * t + k % 2] = sums[k];
    if (mistake == WAIT) products_wait<0>(sums);
}
EMULATED(multiply)

KERNEL(turn)(const unsigned* from, unsigned* to) { to[threadIdx.x] = transpose(from[threadIdx.x]); }
EMULATED(turn)

// Copies 512 bytes through shared memory, twice through the same.
KERNEL(copy)(const unsigned* from, unsigned* to, int mistake) {
    SHARED(unsigned long long, arrivals);
    unsigned* buffer = reinterpret_cast<unsigned*>(arrivals + 2);
    if (threadIdx.x == 0) set_up_arrivals(arrivals);
    __syncthreads();
    for (unsigned turn = 0; turn < 2; ++turn) {
        if (threadIdx.x == 0) {
            expect_bytes(arrivals, mistake == ARRIVAL ? 1024 : 512);
            copy_bulk(buffer, from + turn * 128 + (mistake == ALIGNMENT), 512, arrivals);
        }
        if (mistake != WAIT) while (!have_arrived(arrivals, turn)) spin();
        to[turn * 128 + threadIdx.x] = buffer[127 - threadIdx.x];
        if (mistake == WAIT) while (!have_arrived(arrivals, turn)) spin();
        if (mistake != TOO_EARLY) __syncthreads();
    }
}
EMULATED(copy)
"
);

fn run(launch: Launch, arguments: &mut [Argument]) -> Option<Result<(), String>> {
    if !available() {
        println!("skipped: no C++ compiler for the emulation of CUDA kernels");
        return None;
    }
    Some(emulate(&Source::new("test.cu", KERNELS), &launch, arguments).map_err(|error| error.to_string()))
}

/// Bytes without a pattern.
fn bytes(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|k| ((k * k * 31 + k * 7 + seed) % 251 + k % 6) as u8).collect()
}

const NOTHING: i32 = 0;

fn multiply(a: &mut [u8], b: &mut [u8], strides: [i32; 2], mistake: i32) -> Option<Result<Vec<u32>, String>> {
    let mut d = vec![0; 64 * 48];
    let [along, across] = strides.map(Argument::Int);
    let [a, b] = [a, b].map(Argument::U8);
    let arguments = &mut [a, b, Argument::U32(&mut d), along, across, Argument::Int(mistake)];
    let result = run(Launch::new("multiply", 1, 128, 8192), arguments)?;
    Some(result.map(|()| d))
}

#[test]
fn products_of_four_warps_lie_as_documented() {
    let (mut a, mut b) = (bytes(64 * 32, 3), bytes(48 * 32, 5));
    // The largest and smallest of both.
    a[..32].fill(255);
    b[..32].fill(0x80);
    b[32..64].fill(0x7f);
    for strides in [[768, 128], [128, 256], [1_024, 144]] {
        let Some(result) = multiply(&mut a, &mut b, strides, NOTHING) else { return };
        let found = result.unwrap();
        for (row, a) in a.chunks(32).enumerate() {
            for (column, b) in b.chunks(32).enumerate() {
                let sum: i32 = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(b.cast_signed())).sum();
                assert_eq!(found[row * 48 + column].cast_signed(), 2 * sum, "{strides:?} [{row}, {column}]");
            }
        }
    }
}

#[test]
fn mistakes_of_products_are_named() {
    let (mut a, mut b) = (bytes(64 * 32, 3), bytes(48 * 32, 5));
    for (mistake, message) in [
        (1, "order in which threads run"),
        (2, "without a fence"),
        (3, "ended before its products"),
        (4, "not aligned to 16 bytes"),
        (6, "deadlock"),
        (7, "order in which threads run"),
    ] {
        let Some(result) = multiply(&mut a, &mut b, [768, 128], mistake) else { return };
        let text = result.unwrap_err();
        assert!(text.contains(message), "{mistake}: {text}");
    }
}

#[test]
fn matrices_are_turned() {
    let mut from: Vec<u32> = (0..32).map(|lane| ((2 * lane + 1) << 16) | (2 * lane)).collect();
    let mut to = vec![0; 32];
    let arguments = &mut [Argument::U32(&mut from), Argument::U32(&mut to)];
    let Some(result) = run(Launch::new("turn", 1, 32, 0), arguments) else { return };
    result.unwrap();
    for (lane, both) in to.iter().enumerate() {
        let (row, column) = (lane as u32 / 4, lane as u32 % 4 * 2);
        assert_eq!([both & 0xffff, both >> 16], [column * 8 + row, (column + 1) * 8 + row], "{lane}");
    }
}

#[test]
fn bulk_copies_arrive() {
    let copy = |mistake: i32| {
        let mut from: Vec<u32> = (0..260).collect();
        let mut to = vec![0; 256];
        let arguments = &mut [Argument::U32(&mut from), Argument::U32(&mut to), Argument::Int(mistake)];
        Some((run(Launch::new("copy", 1, 128, 16 + 512), arguments)?, to))
    };
    let Some((result, to)) = copy(NOTHING) else { return };
    result.unwrap();
    assert!(to.iter().enumerate().all(|(k, word)| *word as usize == k / 128 * 128 + 127 - k % 128));
    for (mistake, message) in [
        (1, "order in which threads run"),
        (4, "not aligned to 16 bytes"),
        (5, "deadlock"),
        // Who comes late waits for a phase that has passed.
        (7, "deadlock"),
    ] {
        let text = copy(mistake).unwrap().0.unwrap_err();
        assert!(text.contains(message), "{mistake}: {text}");
    }
}

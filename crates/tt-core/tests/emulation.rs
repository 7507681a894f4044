//! The emulation of CUDA kernels: collectives, tensor-core fragments, barriers among blocks, and what it refuses.
#![expect(clippy::print_stdout, reason = "a test that cannot run says so")]

use tt_core::cuda::emulation::{Argument, available, emulate};
use tt_core::cuda::{Launch, Source, Stall};

const KERNELS: &str = r"
KERNEL(add_up)(const float* numbers, float* sums, int count, float factor) {
    SHARED(float, parts);
    float sum = 0.0f;
    for (unsigned k = threadIdx.x; k < (unsigned)count; k += blockDim.x) sum += factor * numbers[blockIdx.x * count + k];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned k = 1; k < blockDim.x / 32; ++k) sum += parts[k];
        sums[blockIdx.x] = sum;
    }
}
EMULATED(add_up)

KERNEL(multiply)(const float* a, const float* b, float* d) {
    unsigned g = threadIdx.x / 4, t = threadIdx.x % 4 * 2;
    unsigned left[4], right[2];
    for (int k = 0; k < 4; ++k) {
        const float* from = a + (g + k % 2 * 8) * 16 + t + k / 2 * 8;
        left[k] = pack_bf16(from[0], from[1]);
    }
    for (int k = 0; k < 2; ++k) right[k] = pack_bf16(b[(t + k * 8) * 8 + g], b[(t + k * 8 + 1) * 8 + g]);
    float sum[4] = {};
    mma_bf16(sum, left, right);
    for (int k = 0; k < 4; ++k) d[(g + k / 2 * 8) * 8 + t + k % 2] = sum[k];
}
EMULATED(multiply)

KERNEL(round_off)(float* f16, float* bf16) {
    f16[threadIdx.x] = high_f16(pack_f16(0.0f, f16[threadIdx.x]));
    bf16[threadIdx.x] = low_bf16(pack_bf16(bf16[threadIdx.x], 0.0f));
}
EMULATED(round_off)

DEVICE void barrier(unsigned* counter, int passed, unsigned long long* report) {
    __syncthreads();
    if (threadIdx.x == 0) {
        add_release(counter, 1);
        long long start = clock64();
        while (load_acquire(counter) < (passed + 1) * gridDim.x) {
            spin();
            if (clock64() - start > PATIENCE) give_up(report, passed);
        }
    }
    __syncthreads();
}

KERNEL(ring)(unsigned* counter, float* numbers, int rounds, unsigned long long* report) {
    for (int k = 0; k < rounds; ++k) {
        float next = load_fresh(numbers + (blockIdx.x + 1) % gridDim.x);
        barrier(counter, 2 * k, report);
        if (threadIdx.x == 0) numbers[blockIdx.x] = next;
        barrier(counter, 2 * k + 1, report);
    }
}
EMULATED(ring)

KERNEL(copy)(const float* from, float* to) {
    SHARED(float, buffer);
    copy_async16(buffer + 4 * threadIdx.x, from + 4 * threadIdx.x);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    to[threadIdx.x] = buffer[127 - threadIdx.x];
}
EMULATED(copy)

KERNEL(race)(float* to) {
    SHARED(float, buffer);
    buffer[threadIdx.x] = threadIdx.x;
    to[threadIdx.x] = buffer[threadIdx.x ^ 1];
}
EMULATED(race)

KERNEL(outside)(float* to) { to[threadIdx.x + 1] = 0.0f; }
EMULATED(outside)

KERNEL(pairs)(float* to, int first) { reinterpret_cast<float2*>(to + first)[threadIdx.x].y = 2.0f; }
EMULATED(pairs)

// The two blocks of a cluster give each other their numbers, in turns.
KERNEL_OF_CLUSTERS(swap, 32, 2)(float* numbers, int turns, int expected) {
    SHARED(unsigned long long, arrivals);
    float* tile = reinterpret_cast<float*>(arrivals + 2);
    if (threadIdx.x < 2) set_up_arrivals(arrivals + threadIdx.x);
    cluster_barrier();
    float mine = numbers[blockIdx.x * 32 + threadIdx.x];
    for (int turn = 0; turn < turns; ++turn) {
        unsigned next = 1 - blockIdx.x % 2, at = turn % 2;
        send(in_block(tile + at * 32 + threadIdx.x, next), mine, in_block(arrivals + at, next));
        if (threadIdx.x == 0) expect_bytes(arrivals + at, expected);
        while (!have_arrived(arrivals + at, turn / 2)) spin();
        mine = tile[at * 32 + (threadIdx.x + 1) % 32];
        __syncthreads();
    }
    numbers[blockIdx.x * 32 + threadIdx.x] = mine;
    cluster_barrier();
}
EMULATED(swap)

// Reads what was sent without waiting for it.
KERNEL_OF_CLUSTERS(hasty, 32, 2)(float* numbers) {
    SHARED(unsigned long long, arrivals);
    float* tile = reinterpret_cast<float*>(arrivals + 1) + 2;
    tile[threadIdx.x] = 0.0f;
    if (threadIdx.x == 0) set_up_arrivals(arrivals);
    cluster_barrier();
    unsigned other = 1 - blockIdx.x % 2;
    send(in_block(tile + threadIdx.x, other), 1.0f, in_block(arrivals, other));
    cluster_barrier();
    numbers[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x];
    if (threadIdx.x == 0) expect_bytes(arrivals, 128);
    while (!have_arrived(arrivals, 0)) spin();
    cluster_barrier();
}
EMULATED(hasty)

KERNEL(deadlock)(unsigned* word) { while (load_acquire(word) == 0) spin(); }
EMULATED(deadlock)
";

fn run(launch: Launch, arguments: &mut [Argument]) -> Option<Result<(), String>> {
    if !available() {
        println!("skipped: no C++ compiler for the emulation of CUDA kernels");
        return None;
    }
    Some(emulate(&Source::new("test.cu", KERNELS), &launch, arguments).map_err(|error| error.to_string()))
}

#[test]
fn warps_and_shared_memory() {
    let mut numbers: Vec<f32> = (0..300).map(|k| k as f32).collect();
    let mut sums = [0.0; 3];
    let arguments = &mut [
        Argument::F32(&mut numbers),
        Argument::F32(&mut sums),
        Argument::Int(100),
        Argument::Float(2.0),
    ];
    let Some(result) = run(Launch::new("add_up", 3, 96, 12), arguments) else { return };
    result.unwrap();
    assert_eq!(sums, [9_900.0, 29_900.0, 49_900.0]);
}

#[test]
fn tensor_core_fragments_lie_as_documented() {
    let mut a: Vec<f32> = (0..256).map(|k| ((k * 7) % 31) as f32 - 15.0).collect();
    let mut b: Vec<f32> = (0..128).map(|k| ((k * 11) % 23) as f32 - 11.0).collect();
    let mut d = vec![0.0; 128];
    let arguments = &mut [Argument::F32(&mut a), Argument::F32(&mut b), Argument::F32(&mut d)];
    let Some(result) = run(Launch::new("multiply", 1, 32, 0), arguments) else { return };
    result.unwrap();
    for row in 0..16 {
        for column in 0..8 {
            let sum: f32 = (0..16).map(|k| a[row * 16 + k] * b[k * 8 + column]).sum();
            assert_eq!(d[row * 8 + column], sum, "[{row}, {column}]");
        }
    }
}

#[test]
fn half_precision_rounds_to_nearest_even() {
    let two = |power: i32| 2.0_f32.powi(power);
    let cases = [
        (1.0 + two(-11), 1.0),
        (1.0 + 3.0 * two(-11), 1.0 + two(-9)),
        (-1.0 - 1.01 * two(-11), -1.0 - two(-10)),
        (2.0 - two(-12), 2.0),
        (65_519.0, 65_504.0),
        (65_520.0, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
        (two(-24), two(-24)),
        (two(-25), 0.0),
        (3.0 * two(-26), two(-24)),
        (two(-14) - two(-26), two(-14)),
        (1e-30, 0.0),
    ];
    let brain =
        [(1.0 + two(-8), 1.0), (1.0 + 3.0 * two(-8), 1.0 + two(-6)), (3.0 * two(126), 3.0 * two(126))];
    let (mut f16, mut bf16) = ([f32::NAN; 32], [f32::NAN; 32]);
    cases.iter().zip(&mut f16).for_each(|((value, _), to)| *to = *value);
    brain.iter().zip(&mut bf16).for_each(|((value, _), to)| *to = *value);
    let arguments = &mut [Argument::F32(&mut f16), Argument::F32(&mut bf16)];
    let Some(result) = run(Launch::new("round_off", 1, 32, 0), arguments) else { return };
    result.unwrap();
    for ((value, rounded), found) in cases.iter().zip(&f16) {
        assert_eq!(found.to_bits(), rounded.to_bits(), "{value:e}: {found:e} against {rounded:e}");
    }
    for ((value, rounded), found) in brain.iter().zip(&bf16) {
        assert_eq!(found.to_bits(), rounded.to_bits(), "{value:e}: {found:e} against {rounded:e}");
    }
    assert!(f16[cases.len()].is_nan() && bf16[brain.len()].is_nan());
}

#[test]
fn blocks_of_a_cooperative_launch_wait_for_each_other() {
    let mut numbers: Vec<f32> = (0..5).map(|k| k as f32).collect();
    let mut report = [0, 0];
    let ring = |launch, numbers: &mut [f32], report: &mut [u32], counter: u32| {
        let mut counter = [counter];
        let arguments =
            [Argument::U32(&mut counter), Argument::F32(numbers), Argument::Int(3), Argument::U32(report)];
        run(launch, &mut { arguments })
    };
    let together = Launch::new("ring", 5, 64, 0).cooperative();
    let Some(result) = ring(together, &mut numbers, &mut report, 0) else { return };
    result.unwrap();
    assert_eq!((numbers.as_slice(), report), (&[3.0, 4.0, 0.0, 1.0, 2.0][..], [0, 0]));
    // One after another they wait for ever, and say where: as if the other four had come to three barriers.
    let alone = Launch::new("ring", 5, 64, 0);
    let text = ring(alone, &mut numbers, &mut report, 12).unwrap().unwrap_err();
    assert!(text.contains("gave up"), "{text}");
    let word = u64::from(report[1]) << 32 | u64::from(report[0]);
    assert_eq!(Stall::from_word(word), Some(Stall { block: 0, step: 3 }));
    assert_eq!(Stall::from_word(0), None);
}

#[test]
fn blocks_of_a_cluster_reach_each_other() {
    let swap = |turns: i32, expected: i32, launch: Launch| {
        let mut numbers: Vec<f32> = (0..192).map(|k| k as f32).collect();
        let arguments = &mut [Argument::F32(&mut numbers), Argument::Int(turns), Argument::Int(expected)];
        Some((run(launch, arguments)?, numbers))
    };
    let launch = Launch::new("swap", 6, 32, 16 + 256).in_clusters(2);
    let Some((result, numbers)) = swap(5, 128, launch) else { return };
    result.unwrap();
    for (k, number) in numbers.iter().enumerate() {
        let (block, lane) = (k / 32, (k + 5) % 32);
        assert_eq!(*number, ((block ^ 1) * 32 + lane) as f32, "{k}");
    }
    for (expected, launch, message) in [
        (64, launch, "deadlock"),
        (256, launch, "deadlock"),
        (128, Launch { cluster: 1, ..launch }, "no such block"),
        (128, Launch { grid: [5, 1, 1], ..launch }, "clusters do not fill"),
    ] {
        let (result, _) = swap(1, expected, launch).unwrap();
        let text = result.unwrap_err();
        assert!(text.contains(message), "{text}");
    }
    let hasty = Launch::new("hasty", 2, 32, 16 + 128).in_clusters(2);
    let text = run(hasty, &mut [Argument::F32(&mut [0.0; 64])]).unwrap().unwrap_err();
    assert!(text.contains("order in which threads run"), "{text}");
}

#[test]
fn asynchronous_copies_arrive() {
    let mut from: Vec<f32> = (0..128).map(|k| k as f32).collect();
    let mut to = vec![0.0; 32];
    let arguments = &mut [Argument::F32(&mut from), Argument::F32(&mut to)];
    let Some(result) = run(Launch::new("copy", 1, 32, 512), arguments) else { return };
    result.unwrap();
    assert_eq!(to[..3], [127.0, 126.0, 125.0]);
}

#[test]
fn mistakes_are_named() {
    let mut numbers = vec![0.0; 64];
    for (launch, message) in [
        (Launch::new("race", 1, 64, 256), "order in which threads run"),
        (Launch::new("race", 1, 64, 64), "access outside"),
        (Launch::new("outside", 1, 64, 0), "access outside"),
        (Launch::new("absent", 1, 64, 0), "no kernel of this name"),
        (Launch::new("race", 1, 48, 256), "a block needs"),
        (Launch::new("race", 1, 64, 300 << 10), "more shared memory"),
    ] {
        let Some(result) = run(launch, &mut [Argument::F32(&mut numbers)]) else { return };
        let text = result.unwrap_err();
        assert!(text.contains(message), "{launch:?}: {text}");
    }
    let text = run(Launch::new("deadlock", 2, 64, 0), &mut [Argument::U32(&mut [0])]).unwrap().unwrap_err();
    assert!(text.contains("deadlock"), "{text}");
    let pairs = |first| {
        run(Launch::new("pairs", 1, 32, 0), &mut [Argument::F32(&mut [0.0; 66]), Argument::Int(first)])
            .unwrap()
    };
    pairs(2).unwrap();
    let text = pairs(1).unwrap_err();
    assert!(text.contains("not aligned to its size"), "{text}");
    let text = run(Launch::new("race", 1, 64, 256), &mut [Argument::Int(0)]).unwrap().unwrap_err();
    assert!(text.contains("takes a pointer"), "{text}");
}
